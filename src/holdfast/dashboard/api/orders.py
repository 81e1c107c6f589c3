"""What a person orders by a button: restart, start, stop, profile, stacks, isolate, join. Is it done, and what was seen?

Each order is the command of the same name (``holdfast restart …``) in a process of its own: it waits, looks and says what it saw, as in a terminal, and what it costs is
not in this process. Written down before and after (audit). Profiles are kept in ``STATE/dashboard/orders``, the newest few.
"""

import os
import signal
import subprocess
import sys
import time
from threading import Lock

import holdfast
from holdfast.dashboard import planned
from holdfast.dashboard.access.keeping import directory
from holdfast.dashboard.asking import Accepted, Plain, Refused
from holdfast.linux import files
from holdfast.wire.jsonlite import loads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from holdfast.dashboard.asking import Ask
    from holdfast.dashboard.site import Site

VERBS = ("restart", "start", "stop", "profile", "stacks", "isolate", "join")
UNDER_WAY, DONE, FAILED = "under way", "done", "failed"
#: At a time; kept in mind; profiles kept on the disk.
_MOST, _KEPT, _PROFILES = 4, 100, 20
#: A profile may take so long; an order that is not over after its time and this much more is given up.
_LONGEST_S, _SLACK_S = 120.0, 900.0
_TEXT = 256 << 10
#: What tells the keeper whose process this is: a command of ours must not be taken for a life of the dashboard.
_OURS = (
    "HOLDFAST_NODE", "HOLDFAST_RUN", "HOLDFAST_WORKER", "HOLDFAST_START", "HOLDFAST_ROLE", "HOLDFAST_PULSE", "HOLDFAST_GO", "HOLDFAST_COMPONENTS",
    "NOTIFY_SOCKET", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES",
)  # fmt: skip


class Orders:
    """The orders of this life of the process."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._known: dict[str, dict[str, Any]] = {}

    def begin(self, order: "dict[str, Any]") -> None:
        """Take an order on.

        Raises:
            Refused: The same is under way for this worker, or too many are.
        """
        with self._lock:
            busy = [one for one in self._known.values() if one["state"] == UNDER_WAY]
            for one in busy:
                if one["worker"] == order["worker"] and one["do"] == order["do"]:
                    raise Refused(409, f"{order['do']} {order['worker']} is under way already")
            if len(busy) >= _MOST:
                raise Refused(429, f"{len(busy)} orders are under way", "wait for one of them")
            self._known[order["order"]] = order
            while len(self._known) > _KEPT:
                del self._known[next(iter(self._known))]

    def end(
        self, name: str, state: str, says: str, result: "dict[str, Any] | None"
    ) -> "dict[str, Any]":
        """Note what became of one, and return it."""
        with self._lock:
            order = self._known.get(name, {"order": name})
            made = {
                **order,
                "state": state,
                "says": says,
                "result": result,
                "ended_unix_s": round(time.time(), 2),
            }
            self._known[name] = made
            return made

    def get(self, name: str) -> "dict[str, Any] | None":
        """Return one."""
        with self._lock:
            return self._known.get(name)


def give(site: "Site", ask: "Ask") -> Accepted:
    """Take an order on, and have it carried out."""
    verb, worker, component = ask.text("do"), ask.text("worker"), ask.text("component")
    if verb not in VERBS:
        raise Refused(400, f'there is no order "{verb}"', f"one of: {', '.join(VERBS)}")
    for_s = ask.body.get("for_s", 5.0)
    if (
        isinstance(for_s, bool)
        or not isinstance(for_s, int | float)
        or not 0.5 <= for_s <= _LONGEST_S
    ):
        raise Refused(400, f"for_s has to be a number of seconds, from 0.5 to {_LONGEST_S:g}")
    entry = planned.entry(site.where, worker)
    names = [one["name"] for one in entry.get("components") or ()]
    if component and component not in names:
        raise Refused(404, f'there is no component "{component[:80]}" in worker "{worker}"')
    if verb == "isolate" and not component:
        raise Refused(400, "isolate: which component?")
    target = f"{worker}/{component}" if component else worker
    entry_id = site.audit.note(ask.who, verb, target)
    order = {
        "order": entry_id, "do": verb, "worker": worker, "component": component or None, "state": UNDER_WAY,
        "says": f"{verb} {target} …", "result": None, "by": ask.who.name if ask.who else None, "began_unix_s": round(time.time(), 2),
    }  # fmt: skip
    try:
        site.orders.begin(order)
    except Refused as refused:
        site.audit.done(entry_id, f"refused: {refused}")
        raise
    site.carry_out(_carry_out, site, order, target, float(for_s))
    return Accepted({"order": entry_id})


def look(site: "Site", ask: "Ask") -> "dict[str, Any]":
    """Return how an order goes."""
    name = ask.part("id")
    found = site.orders.get(name) or _of_another_life(site.audit.find(name))
    if found is None:
        raise Refused(
            404,
            "there is no such order",
            "the dashboard was started anew since; the audit knows: holdfast dashboard audit",
        )
    return found


def _of_another_life(entry: "dict[str, Any] | None") -> "dict[str, Any] | None":
    """Return an order that an earlier life of this process took on, as far as the audit knows; None where that is no order."""
    if entry is None or entry["what"] not in VERBS:
        return None
    worker, _, component = str(entry["target"]).partition("/")
    state, _, says = str(entry["result"] or "").partition(": ")
    if entry["result"] is None:
        state, says = UNDER_WAY, f"{entry['what']} {entry['target']} …"
    return {
        "order": entry["entry"], "do": entry["what"], "worker": worker, "component": component or None,
        "state": state if state in (UNDER_WAY, DONE) else FAILED, "says": says or state, "result": None, "by": entry.get("who"),
        "began_unix_s": entry.get("at_unix_s"),
    }  # fmt: skip


def result(site: "Site", ask: "Ask") -> Plain:
    """Return the profile that an order took, for speedscope."""
    name = ask.part("id")
    data = files.read(_path(site, name)) if name.isalnum() else b""
    if not data:
        raise Refused(404, "there is no such profile", f"the newest {_PROFILES} are kept")
    return Plain(
        data, "application/json", (("content-security-policy", "sandbox; default-src 'none'"),)
    )


# -- carrying out ----------------------------------------------------------------------------------


def _carry_out(site: "Site", order: "dict[str, Any]", target: str, for_s: float) -> None:
    name, verb = order["order"], order["do"]
    site.busy(+1)
    site.tell("order", order)
    path = _path(site, name)
    state, says, found = FAILED, "it could not be started", None
    try:
        done, text, trouble = run(words(verb, target, for_s, path, site), for_s + _SLACK_S)
        state = DONE if done else FAILED
        says, found = told(verb, text, trouble, done)
        if verb == "profile" and done:
            found = {**(found or {}), "url": f"/api/orders/{name}/profile.speedscope.json"}
            _tidy(os.path.dirname(path))
    except OSError as error:
        says = f"it could not be started: {error.strerror}"
    finally:
        made = site.orders.end(name, state, says, found)
        site.audit.done(name, f"{state}: {says}")
        site.busy(-1)
        site.tell("order", made)


def words(verb: str, target: str, for_s: float, path: str, site: "Site") -> "list[str]":
    """Return the command line of an order, without the program."""
    where = ["--state", site.where.state_dir, "--no-color"]
    if verb == "profile":
        return [
            "profile",
            target.partition("/")[0],
            "--for",
            f"{for_s:g}s",
            "-o",
            path,
            "--json",
            *where,
        ]
    if verb == "stacks":
        return ["stacks", target.partition("/")[0], *where]
    if verb == "join":
        return ["isolate", target.partition("/")[0], "--undo", *where]
    return [verb, target, *where]


def run(command: "list[str]", timeout_s: float) -> "tuple[bool, str, str]":
    """Run a command of ours; return whether it succeeded, what it said, and what it complained about.

    Raises:
        OSError: It cannot be started.
    """
    environ = {key: value for key, value in os.environ.items() if key not in _OURS}
    home = os.path.dirname(os.path.dirname(os.path.abspath(holdfast.__file__)))
    environ["PYTHONPATH"] = os.pathsep.join(filter(None, (home, environ.get("PYTHONPATH"))))
    environ["COLUMNS"] = "160"
    with subprocess.Popen(
        [sys.executable, "-m", "holdfast", *command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env=environ, cwd="/",
    ) as process:  # fmt: skip
        try:
            output, trouble = process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            process.send_signal(
                signal.SIGINT
            )  # as Ctrl-C would: it takes along what it has started
            try:
                process.communicate(timeout=10.0)
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate()
            return False, "", f"given up after {timeout_s:g} s"
        return process.returncode == 0, _text(output), _text(trouble)


def _text(data: bytes) -> str:
    return data[:_TEXT].decode("utf-8", "replace")


def told(verb: str, text: str, trouble: str, is_done: bool) -> "tuple[str, dict[str, Any] | None]":
    """Return a sentence about what a command printed, and the rest of it where somebody wants to read that."""
    if not is_done:
        # The progress of what takes a while ends with a sign of its own.
        lines = [
            line
            for line in trouble.splitlines()
            if line.strip() and not line.rstrip().endswith("…")
        ]
        lines = lines or text.splitlines() or ["it failed, and said nothing"]
        return lines[0].strip(), {"text": "\n".join(lines)} if len(lines) > 1 else None
    lines = [line for line in text.splitlines() if line.strip()]
    if verb == "profile":
        return _of_profile(text)
    if verb == "stacks":
        return "stacks taken", {"text": text}
    return (lines[-1] if lines else "done"), None


def _of_profile(text: str) -> "tuple[str, dict[str, Any]]":
    try:
        found = loads(text)
        hot = found["hot"]
        says = f"{found['samples']} samples in {found['seconds']:g} s"
        if hot:
            says += f"; {hot['share']:.0%} of the time: {hot['where']}"
        rows = [
            f"{row['own']:5.0%}  {row['total']:5.0%}  {row['function']}"
            for row in found["functions"]
        ]
    except (ValueError, KeyError, TypeError):
        return "profile taken", {"text": text}
    return says, {
        "text": "\n".join(["  own  total  function", *rows]),
        "functions": found["functions"],
    }


def _path(site: "Site", name: str) -> str:
    return f"{directory(site.where.state_dir, 'orders')}/{name}.json"


def _tidy(path: str) -> None:
    """Keep the newest profiles only."""
    with os.scandir(path) as entries:
        found = sorted(entries, key=lambda entry: entry.stat().st_mtime, reverse=True)
    for entry in found[_PROFILES:]:
        os.unlink(entry.path)
