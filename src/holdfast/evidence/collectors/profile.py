"""Where does a process spend its time? Samples of its stacks, while the other collectors do their work.

Cost: py-spy at 50 samples a second, non-blocking: the target stands still for less than a tenth of the time (with pauses it
would be three quarters), the sampler takes half a core. It runs beside the rest of the capture, so a profile of one
second makes a bundle of little more than a second. With native frames (a leak in C) the target is paused for each
sample: 20 a second. A program that is not Python is sampled by ``perf``, where there is one.
"""

import os
import time

from holdfast.diagnosis import profile as form
from holdfast.evidence.case import read_text
from holdfast.evidence.collectors.stacks import find_pyspy
from holdfast.linux import procfs
from holdfast.linux import signals as signal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from holdfast.evidence.case import Case

RATE, NATIVE_RATE = 50, 20
#: Seconds by kind of incident; the kinds that are not here get none.
SECONDS = {
    "slow": 1.0, "pegged": 1.0, "loop_lag": 1.0, "odd_one_out": 1.0, "memory_leak": 1.0, "memory": 0.6, "fd_leak": 0.6,
    "task_bomb": 0.4, "log_storm": 0.4, "hang": 0.4, "probe": 0.4, "memory_pressure": 0.6,
}  # fmt: skip
#: Kinds where the native frames are worth the pauses: C code that takes memory and does not give it back.
_NATIVE = frozenset({"memory_leak", "memory"})
#: A tool has to start, attach and write: less than this is no profile.
_LEAST_S = 0.2
_RESERVE_S = 0.45
_WRITING_S = 0.6
_TEXT_BYTES = 65536
#: A program that works little is looked at for longer where no remedy waits: until it has used so much processor time (that is fifteen samples), …
_ENOUGH_S = 15 / RATE
#: … and at most for so long.
PATIENT_S = 3.5
_LOOK_S = 0.05
#: So many looks of the agent are as good as a short profile.
_LOOKS = 6


class Running:
    """A profiler at work."""

    __slots__ = ("began_s", "native", "path", "pid", "process", "seconds", "spent_s", "tool")

    def __init__(self, tool: str, argv: "list[str]", path: str, pid: int, seconds: float, *, native: bool) -> None:  # fmt: skip
        self.tool = tool
        self.pid = pid
        self.spent_s = _spent_s(pid)
        self.path = path
        self.seconds = seconds
        self.native = native
        import subprocess  # 10 ms, and most captures take no profile

        self.began_s = time.monotonic()
        self.process = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )

    def wait_for_work(self, until_s: float) -> None:
        """Go on for longer than was meant, until the program was seen at work often enough; at most until then (monotonic seconds)."""
        while (now_s := time.monotonic()) < until_s and self.process.poll() is None:
            self.seconds = max(self.seconds, now_s - self.began_s)
            if (
                now_s - self.began_s >= self.seconds
                and _spent_s(self.pid) - self.spent_s >= _ENOUGH_S
            ):
                return
            time.sleep(_LOOK_S)

    def finish(self, patience_s: float = _WRITING_S) -> "tuple[form.Profile | None, str]":
        """Wait until its time is over and return (the profile, why there is none). A program that only waited gives one without rows.

        Args:
            patience_s: How long it may take to write what it has.
        """
        import subprocess

        left_s = self.began_s + self.seconds - time.monotonic()
        try:
            self.process.wait(max(0.0, left_s))
        except subprocess.TimeoutExpired:
            self.process.send_signal(signal.SIGINT)  # both tools then write what they have
        try:
            _, said = self.process.communicate(timeout=patience_s)
        except subprocess.TimeoutExpired:
            self.abandon()
            return None, "it did not write its samples in time"
        took_s = time.monotonic() - self.began_s
        text = self._text()
        _unlink(self.path)
        if text == "" and (self.process.returncode == 0 or self.tool == "perf"):
            # It has looked, and never saw it at work.
            return form.Profile([], min(took_s, self.seconds)), ""
        if not text:
            words = " ".join(said.decode("utf-8", "replace").split())[-300:]
            return None, words or f"exited with status {self.process.returncode}"
        found = form.from_perf(text) if self.tool == "perf" else form.parse(text)
        found.seconds = min(took_s, self.seconds)
        return found, ""

    def _text(self) -> "str | None":
        """Return what the tool saw; None where it left nothing that can be read."""
        if self.tool != "perf":
            return read_text(self.path, 8 << 20)
        import subprocess

        try:
            done = subprocess.run(
                ["perf", "script", "-i", self.path, "-F", "comm,tid,ip,sym,dso"],
                capture_output=True, timeout=5.0, check=False,
            )  # fmt: skip
        except (OSError, subprocess.TimeoutExpired):
            return None
        return None if done.returncode else done.stdout.decode("utf-8", "replace")

    def abandon(self) -> None:
        """End it without a result."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()
        _unlink(self.path)


def start(
    pid: int,
    seconds: float,
    directory: str,
    *,
    interpreter: str = "",
    is_python: bool = True,
    native: bool = False,
    idle: bool = False,
    below: bool = False,
    rate: int = RATE,
    most_s: float = 0.0,
) -> "Running | str":
    """Begin to sample a process; a string says why that cannot be.

    Args:
        pid: Whom.
        seconds: For how long.
        directory: Where a temporary file may be (in memory: the disk may be full).
        interpreter: The worker's Python; py-spy may be installed beside it.
        is_python: Whether py-spy can read it.
        native: With the frames of C code; each sample then pauses the process.
        idle: With the threads that wait (py-spy only).
        below: With the processes that it started (py-spy only).
        rate: Samples a second.
        most_s: Longer than ``seconds``, if it is to be asked to go on.
    """  # fmt: skip
    longest_s = int(max(seconds, most_s)) + 2
    path = f"{directory}/.profile-{os.getpid()}-{pid}"
    # Both tools end by themselves a little later: should we be killed, no sampler is left behind for ever.
    if is_python:
        tool = find_pyspy(interpreter)
        if tool is None:
            return "py-spy is not installed beside Python or on PATH (pip install py-spy)"
        extra = ["--native"] if native else ["--nonblocking"]
        extra += ["--idle"] if idle else []
        extra += ["--subprocesses"] if below else []
        argv = [
            tool, "record", "--pid", str(pid), "--rate", str(NATIVE_RATE if native else rate), "--format", "raw",
            "--threads", "--full-filenames", "--output", path, "--duration", str(longest_s), *extra,
        ]  # fmt: skip
    else:
        if not _on_path("perf"):
            return "perf is not installed, and this is not a Python program"
        argv = ["perf", "record", "-g", "-F", str(rate), "-p", str(pid), "-o", path, "--", "sleep", str(longest_s)]  # fmt: skip
    try:
        return Running(os.path.basename(argv[0]), argv, path, pid, seconds, native=native)
    except OSError as error:
        return f"{argv[0]}: {error.strerror}"


def wanted_s(case: "Case") -> float:
    """Return how long to sample for this order: what it says, else what its kind is worth, within its budget."""
    order = case.order
    asked = order.get("profile_s")
    kind = str((order.get("flag") or {}).get("flag") or order.get("kind") or "")
    kind = {"missed_heartbeat": "hang", "memory_over_limit": "memory", "failed_probe": "probe"}.get(kind, kind)  # fmt: skip
    seconds = float(asked) if asked is not None else SECONDS.get(kind, 0.0)
    if kind in ("hang", "probe") and asked is None and not _computes(case):
        return 0.0  # it stands still: its stack is all there is to know
    return min(seconds, case.deadline.left_s() - _RESERVE_S)


def _patient_s(case: "Case") -> float:
    """Return for how long it may be sampled if it works little; only where the order says that nothing waits for this."""
    return PATIENT_S if case.order.get("patient") else 0.0


def _spent_s(pid: int) -> float:
    found = procfs.reading(pid)
    return found.cpu_ns / 1e9 if found is not None else 0.0


def _computes(case: "Case") -> bool:
    found = procfs.reading(case.pid)
    if found is None or found.state in "TtD":
        return False
    return found.state == "R" or any(stack.get("active") for stack in case.facts.live_stacks)


def seen_by_agent(case: "Case") -> None:
    """Take the looks that the agent took at a blocked loop, ten a second: as good as a profile, and of the dead as well."""
    rows = [r for r in case.facts.sites.get("blocked") or () if type(r) is list and len(r) > 1]
    looks = sum(int(row[0]) for row in rows)
    if looks < _LOOKS or (case.order.get("live") and str(case.order.get("kind")) != "hang"):
        return
    case.facts.profile = form.Profile(
        [
            ("serving thread", tuple(reversed([str(f) for f in row[1]])), int(row[0]))
            for row in rows
        ],
        looks / 10,
    )
    case.files["profile.txt"] = case.facts.profile.collapsed().encode("utf-8", "replace")


def begin(case: "Case") -> None:
    """Start the profiler where the order is worth one; :func:`collect` takes what it found."""
    if not case.alive():
        return
    if case.facts.profile is not None:
        return
    seconds = wanted_s(case)
    if seconds < _LEAST_S:
        return
    from holdfast.evidence.collectors.environment import interpreter_of

    program = interpreter_of(case)
    # Where the agent tells who allocates, the pauses of native samples would only slow down what it looks at.
    blind = case.asked is None and str(case.order.get("kind")) in _NATIVE
    native = bool(case.order.get("native")) or blind
    running = start(
        case.pid, seconds, case.run_dir, interpreter=program, is_python=bool(program), native=native,
        most_s=_patient_s(case),
    )  # fmt: skip
    if isinstance(running, str):
        case.miss("profile", running)
    else:
        case.profiler = running


def collect(case: "Case") -> None:
    """Wait for the profiler and keep its samples."""
    running = case.profiler
    if running is None:
        return
    case.profiler = None
    try:
        until_s = min(
            running.began_s + _patient_s(case),
            time.monotonic() + case.deadline.left_s() - _RESERVE_S,
        )
        running.wait_for_work(until_s)
        found, why = running.finish()
    except BaseException:
        running.abandon()  # out of time: no sampler is left behind
        raise
    if found is None:
        case.miss("profile", why)
        return
    if not found.rows:
        case.miss(
            "profile", f"it did nothing for {found.seconds:.1f} s: every sample found it waiting"
        )
        return
    case.facts.profile = found
    case.files["profile.txt"] = found.collapsed().encode("utf-8", "replace")[:_TEXT_BYTES]
    from holdfast.evidence.collectors import healthy

    before = healthy.read(case.state_dir, case.worker)
    if before is not None:
        case.facts.healthy = before
        rows = form.grown(found, before)
        text = "".join(f"{r['then']:5.0%} -> {r['now']:4.0%}  {r['function']}\n" for r in rows)
        if text:
            case.files["profile-diff.txt"] = text.encode("utf-8", "replace")


def outputs(found: "form.Profile", name: str) -> "dict[str, Any]":
    """Return a profile in every form that we offer, by the ending of the file."""
    from holdfast.diagnosis import flame

    return {
        ".txt": found.collapsed,
        ".collapsed": found.collapsed,
        ".json": lambda: form.speedscope(found, name),
        ".svg": lambda: flame.svg(found, name),
    }


def _on_path(name: str) -> bool:
    return any(os.access(f"{d}/{name}", os.X_OK) for d in os.environ.get("PATH", "").split(":") if d)  # fmt: skip


def _unlink(path: str) -> None:
    for name in (path, f"{path}.old"):
        try:
            os.unlink(name)
        except FileNotFoundError:
            continue
