"""Where is every thread of a process that still runs, or stands still?

Three sources, the gentlest first. py-spy reads memory from outside: it needs nothing of the process, so it works
with a held GIL and with a stopped process (only with ``--nonblocking``: pausing what is stopped already fails). Where
there is no py-spy or no permission: SIGUSR1, on which containers have faulthandler registered (the text arrives in
their log; it interrupts a system call), and the container's control socket (a thread of its own answers, which
needs the GIL). Nothing here ends the process: that is the remedy's business.
"""

import os
import sys
import time

from holdfast.diagnosis import lastwords
from holdfast.diagnosis import stacks as form
from holdfast.evidence.case import read_text
from holdfast.evidence.collectors import output
from holdfast.linux import procfs, talk
from holdfast.linux import signals as signal
from holdfast.model.plan import HOSTED
from holdfast.wire import layout
from holdfast.wire.jsonlite import loads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from holdfast.evidence.case import Case

#: What the sources wrote besides the stacks of incident.json: native frames, asyncio tasks, faulthandler's text.
RAW = "stacks-raw.txt"
#: py-spy takes 10 to 60 ms; thousands of threads make it 2 to 10 s, which no remedy waits for.
_PYSPY_S = 1.0
_SOCKET_S = 0.3
_SIGNAL_S = 0.5
_STEP_S = 0.01
#: Where a thread stands still or turns in circles, what its variables hold tells why.
_LOCALS = frozenset({"hang", "probe", "start", "deadlock", "pegged", "slow", "stalled", "loop_lag"})
#: With less than this left, a second look would cost the rest of the bundle.
_SPARE_S = 0.5
#: With more threads than this nobody looks at each of them from outside.
CROWD = 800


def collect(case: "Case") -> None:
    """Take the stacks of all threads, from the first source that gives any."""
    if not case.alive():
        case.miss("stacks", f"pid {case.pid} is gone")
        return
    state, threads = _state(case.pid)
    texts: list[str] = []
    if threads > CROWD:
        case.miss(
            "py-spy", f"{threads} threads: it takes seconds for a thousand, and fails above 4,096"
        )
        stacks = grouped(case.facts.sites)
    else:
        stacks = _pyspy(case, state)
    if stacks:
        # py-spy's stacks are written with what the kernel says of each thread, which is collected later.
        if _wants_native(case, state):
            texts.append(_native(case))
    else:
        stacks = _from_inside(case, state, texts)
    if stacks:
        case.facts.live_stacks = stacks
    else:
        case.miss("stacks", "no source gave any (see above)")
    if texts:
        case.files[RAW] = "\n".join(text for text in texts if text).encode("utf-8", "replace")


def find_pyspy(interpreter: str = "") -> str | None:
    """Return the path of py-spy: beside our interpreter, beside the worker's, or on PATH."""
    return find_tool("py-spy", interpreter)


def find_tool(name: str, interpreter: str = "") -> str | None:
    """Return the path of a tool: beside our interpreter, beside the worker's, or on PATH."""
    beside = [os.path.dirname(path) for path in (sys.executable, interpreter) if path]
    for directory in [*beside, *os.environ.get("PATH", "").split(":")]:
        path = os.path.join(directory, name)
        if directory and os.access(path, os.X_OK):
            return path
    return None


def _state(pid: int) -> tuple[str, int]:
    found = procfs.reading(pid)
    return (found.state, found.threads) if found else ("?", 0)


def grouped(sites: "dict[str, Any]") -> "list[dict[str, Any]]":
    """Return the stacks that the agent has grouped: 5,000 threads in the same place are one stack."""
    rows = sites.get("running") or ()
    return [
        {"thread": f"{row[0]} threads alike", "frames": [str(f) for f in row[1]], "current": False, "alike": int(row[0])}
        for row in rows if type(row) is list and len(row) > 1
    ]  # fmt: skip


def _pyspy(case: "Case", state: str) -> "list[dict[str, Any]]":
    """Ask py-spy: without pausing the process first, with a pause when that gave nothing."""
    argv = case.facts.plan.get("argv") or [""]
    tool = find_pyspy(argv[0])
    if tool is None:
        case.miss("py-spy", "not installed beside Python or on PATH (pip install py-spy)")
        return []
    base = [tool, "dump", "--pid", str(case.pid), "--json", "--full-filenames"]
    with_locals = str(case.order.get("kind")) in _LOCALS
    if with_locals:
        base.append("--locals")
    why = ""
    best: list[dict[str, Any]] = []
    for extra in (["--nonblocking"],) if state in "Tt" else (["--nonblocking"], []):
        out, why = run_tool([*base, *extra], case.deadline.scaled(_PYSPY_S))
        try:
            threads = loads(out) if out else []
        except ValueError:
            why = "its answer is not JSON"
            continue
        stacks = form.from_pyspy([t for t in threads if type(t) is dict])
        held = form.locals_as_text(threads) if with_locals and stacks else ""
        if held:
            case.files["locals.txt"] = held.encode("utf-8", "replace")
        if stacks and all(stack["frames"] for stack in stacks):
            return stacks
        # Read while it ran on: a thread without frames is one that moved.
        if any(stack["frames"] for stack in stacks):
            best = stacks
        why = why or "it gave no frames"
    if not best:
        case.miss("py-spy", why)
    return best


def run_tool(
    argv: list[str], timeout_s: float, env: "dict[str, str] | None" = None
) -> tuple[str, str]:
    """Run a tool and return (its output, why it failed)."""
    import subprocess

    try:
        done = subprocess.run(
            argv, capture_output=True, timeout=max(0.05, timeout_s), check=False, env=env
        )
    except subprocess.TimeoutExpired:
        return "", f"took longer than {timeout_s:.2g} s"
    except OSError as error:
        return "", str(error)
    if done.returncode:
        said = [
            line.strip()
            for line in done.stderr.decode("utf-8", "replace").splitlines()
            if line.strip()
        ]
        return "", " ".join(said[:4])[:300] or f"exited with status {done.returncode}"
    return done.stdout.decode("utf-8", "replace"), ""


def _wants_native(case: "Case", state: str) -> bool:
    if state in "Tt" or case.deadline.left_s() < _SPARE_S:
        return False
    # When something in C holds the GIL, the Python frames end where it gets interesting.
    return bool(case.order.get("native")) or state == "D" or _is_frozen(case)


def _is_frozen(case: "Case") -> bool:
    from holdfast.diagnosis.findings import STALE_BEAT_S

    return float(case.facts.pulse.get("thread_beat_age_s") or 0.0) > STALE_BEAT_S


def _native(case: "Case") -> str:
    tool = find_pyspy((case.facts.plan.get("argv") or [""])[0])
    if tool is None:
        return ""
    out, why = run_tool(
        [tool, "dump", "--pid", str(case.pid), "--native", "--json", "--full-filenames"],
        case.deadline.scaled(_SPARE_S),
    )
    if why:
        case.miss("native stacks", why)
        return ""
    try:
        threads = loads(out)
    except ValueError:
        case.miss("native stacks", "py-spy's answer is not JSON")
        return ""
    found = form.from_pyspy([t for t in threads if type(t) is dict])
    by_tid = {stack["tid"]: stack["frames"] for stack in found}
    for stack in case.facts.live_stacks:
        if stack.get("tid") in by_tid:
            stack["native"] = by_tid[stack["tid"]]
    return "# py-spy --native\n" + form.as_text(found)


def _from_inside(case: "Case", state: str, texts: list[str]) -> "list[dict[str, Any]]":
    """Have the process tell its stacks itself."""
    if state in "Tt":
        case.miss("SIGUSR1", "the process is stopped: it handles no signal")
        return []
    if case.facts.plan.get("kind") not in HOSTED:
        case.miss(
            "SIGUSR1", "only containers have faulthandler registered; a signal could end a guest"
        )
        return []
    sent_s = time.time()
    asked = _signalled(case)
    socket = f"{case.run_dir}/{layout.CONTROL}/{case.worker}.sock"
    answer = talk.ask(socket, {"do": "stacks"}, case.deadline.scaled(_SOCKET_S))
    stacks = answered(answer or {}, texts)
    if not answer:
        case.miss("control socket", "the container did not answer in time")
    if asked:
        lines = _dumped(case, sent_s)
        report = lastwords.fatal_report(lines)
        if report and report.stacks:
            texts.append("# faulthandler, on SIGUSR1\n" + "\n".join(lines) + "\n")
            stacks = stacks or report.stacks
        else:
            case.miss("SIGUSR1", "no dump arrived in the log in time")
    return stacks


def _signalled(case: "Case") -> bool:
    """Send SIGUSR1, but only to a process that handles it: the default is to die."""
    for line in read_text(f"/proc/{case.pid}/status").splitlines():
        if line.startswith("SigCgt:") and int(line.split()[1], 16) >> (signal.SIGUSR1 - 1) & 1:
            os.kill(case.pid, signal.SIGUSR1)
            return True
    case.miss(
        "SIGUSR1",
        "the process does not handle it: it is still starting, or it took the handler away",
    )
    return False


def _dumped(case: "Case", sent_s: float) -> list[str]:
    """Wait until the dump has arrived in the log and return its lines."""
    if not case.facts.plan.get("log"):
        return []
    until_s = time.monotonic() + case.deadline.scaled(_SIGNAL_S)
    before: list[str] = []
    while True:
        fresh = [
            line
            for line in output.tail(case)
            if line.stream == "err" and line.unix_s >= sent_s - 0.05
        ]
        texts = [line.text for line in fresh]
        # Complete when two looks agree: faulthandler writes in many small pieces.
        if texts and texts == before and lastwords.fatal_report(texts):
            return texts
        if time.monotonic() >= until_s:
            return texts
        before = texts
        time.sleep(_STEP_S)


def answered(answer: "dict[str, Any]", texts: list[str]) -> "list[dict[str, Any]]":
    """Read the container's answer: stacks as in incident.json, or faulthandler's text."""
    given = answer.get("stacks")
    if type(given) is str:
        texts.append("# control socket\n" + given)
        report = lastwords.fatal_report(given.splitlines())
        return report.stacks if report else []
    stacks: list[dict[str, Any]] = [
        {"thread": str(s.get("thread", "?")), "frames": [str(f) for f in s["frames"]], "current": bool(s.get("current"))}
        for s in given if type(s) is dict and type(s.get("frames")) is list
    ] if type(given) is list else []  # fmt: skip
    if stacks:
        texts.append("# control socket\n" + form.as_text(stacks))
    return stacks
