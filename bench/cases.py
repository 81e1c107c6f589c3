"""Real bugs of real packages, as guests of a real node: is each detected, how soon, and is the culprit named?

    python bench/cases.py CASES_DIR [NAME …] [--expect FILE] [--for 30] [--verdict] [--json]

CASES_DIR holds one directory a case, with ``run.py`` (makes it fail) and ``requirements.txt`` (the versions that have the bug; it may be
missing). Each gets a virtual environment of its own, which is kept in ``~/.cache/holdfast-cases`` for the next time.

What is expected stands in ``expect.json`` in the case's directory, or in FILE, an object by name of the case::

    {"ujson_leak": {"package": "ujson", "function": "dumps", "args": ["60"], "memory": "300MB"}}

``package`` and ``function`` are looked for in the first finding of the first incident that is about the failure (in its fields or its
text); all keys may be missing. A clean exit of the program is no detection.
"""

import argparse
import hashlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path

from own_node import SOURCE, OwnNode

from holdfast.records import incidents
from holdfast.wire import journal, layout

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "holdfast-cases"
_STEP_S = 0.02


def environment(case: Path) -> str:
    """Return the interpreter of the case's own environment; made the first time."""
    wanted = case / "requirements.txt"
    text = wanted.read_bytes() if wanted.exists() else b""
    home = CACHE / f"{case.name}-{hashlib.sha256(text + sys.version.encode()).hexdigest()[:10]}"
    python = home / "bin" / "python"
    if not (home / "done").exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(home)], check=True)
        if text.strip():
            subprocess.run(
                [str(python), "-m", "pip", "install", "-q", "-r", str(wanted)], check=True
            )
        (home / "done").touch()
    return str(python)


def configuration(case: Path, python: str, expected: "dict[str, Any]", *, agent: bool) -> str:
    argv = [python, str(case.resolve() / "run.py"), *expected.get("args", ())]
    lines = ["[node]", 'name = "cases"', 'state_dir = "state"', 'verify = "3s"', "[worker.case]"]
    lines += [f"command = {json.dumps(argv)}"]
    if agent:
        lines += ["agent = true"]
    if expected.get("memory"):
        lines += [f'memory_max = "{expected["memory"]}"']
    return "\n".join(lines) + "\n"


def measure(case: Path, expected: "dict[str, Any]", args: argparse.Namespace) -> "dict[str, Any]":
    python = environment(case)
    row: dict[str, Any] = {"case": case.name, "detected": False}
    with OwnNode(configuration(case, python, expected, agent=not args.no_agent)) as node:
        began_s = _first_start(node)
        until_s = time.monotonic() + args.seconds
        found: dict[str, Any] | None = None
        while found is None and time.monotonic() < until_s:
            time.sleep(_STEP_S)
            found = _first(node.state)
        if found is None:
            return row
        row.update(
            detected=True, kind=found["kind"], seconds=round(_opened_s(found) - began_s, 2),
            title=found["title"], took_s=found["evidence"]["took_s"], missed=[m["what"] for m in found["evidence"]["missed"]],
        )  # fmt: skip
        findings = found.get("findings") or []
        row["findings"] = findings
        row["finding"] = findings[0]["says"] if findings else None
        row["named"] = _is_named(findings[:1], expected)
        row["named_later"] = _is_named(findings, expected)
        if args.verdict:
            row["verdict"] = _verdict(node.state, str(found["id"]), until_s)
    return row


def _first_start(node: OwnNode) -> float:
    """Return when the first life began."""
    data = Path(node.scene.run_dir, layout.JOURNAL).read_bytes()
    for record in journal.each(data):
        if record.get("k") == "start":
            return float(record["unix_s"])
    return time.time()


def _opened_s(found: "dict[str, Any]") -> float:
    flag = (found.get("cause") or {}).get("flag") or {}
    return float(flag.get("since_unix_s") or found["opened_unix_s"])


def _first(state: str) -> "dict[str, Any] | None":
    """Return the first incident that is about a failure: the first by time, and no clean exit."""
    rows = incidents.list_incidents(state)
    for row in reversed(rows):
        if row["kind"] == "exit" and "status 0" in str(row.get("status_words")):
            continue
        found = incidents.load(state, row["id"])
        if not found.get("damaged"):
            return found
    return None


def _is_named(findings: "list[dict[str, Any]]", expected: "dict[str, Any]") -> "bool | None":
    wanted = [str(expected[key]).lower() for key in ("package", "function") if expected.get(key)]
    if not wanted:
        return None
    for finding in findings:
        text = " ".join(
            str(finding.get(key)) for key in ("package", "function", "where", "says")
        ).lower()
        if all(word in text for word in wanted):
            return True
    return False


def _verdict(state: str, identity: str, until_s: float) -> str:
    while True:
        verdict = str(incidents.load(state, identity).get("verdict"))
        if verdict != "open" or time.monotonic() > until_s:
            return verdict
        time.sleep(0.1)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("directory", type=Path)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--expect", type=Path)
    parser.add_argument("--for", dest="seconds", type=float, default=30.0)
    parser.add_argument(
        "--verdict", action="store_true", help="wait until it is known whether the remedy helped"
    )
    parser.add_argument("--no-agent", action="store_true")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    wanted = json.loads(args.expect.read_text()) if args.expect else {}
    rows = []
    for case in sorted(p for p in args.directory.iterdir() if (p / "run.py").exists()):
        if args.names and case.name not in args.names:
            continue
        beside = case / "expect.json"
        expected = json.loads(beside.read_text()) if beside.exists() else wanted.get(case.name, {})
        rows.append(measure(case, expected, args))
        if not args.json:
            _show(rows[-1])
    if args.json:
        print(json.dumps(rows, indent=1))
        return
    detected = sum(row["detected"] for row in rows)
    judged = [row for row in rows if row.get("named") is not None]
    print(
        f"\n{detected} of {len(rows)} detected; culprit named in the first finding: {sum(bool(r['named']) for r in judged)} of {len(judged)}"
    )


def _show(row: "dict[str, Any]") -> None:
    if not row["detected"]:
        print(f"{row['case']:<24} NOT DETECTED", flush=True)
        return
    named = {True: "named", False: "NOT NAMED", None: "-"}[row["named"]]
    if row["named"] is False and row["named_later"]:
        named = "named later"
    verdict = f"  {row['verdict']}" if "verdict" in row else ""
    print(
        f"{row['case']:<24} {row['kind']:<12} {row['seconds']:6.2f} s  bundle {row['took_s']:.2f} s  {named}{verdict}"
    )
    for finding in row["findings"] or [{"confidence": "-", "says": f"(no finding) {row['title']}"}]:
        print(f"    {finding['confidence']}: {finding['says']}")
    print(end="", flush=True)


if __name__ == "__main__":
    if SOURCE not in sys.path:
        sys.path.insert(0, SOURCE)
    main()
