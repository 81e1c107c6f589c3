"""Can a worker that was started serve yet?

Asked quickly at first, then ever more rarely; the keeper is told once it is so, and told again until its journal says that
it has heard. What follows when a worker does not get ready in time is the ladder's business.
"""

import sys
import time

from holdfast.core.detect import pace
from holdfast.linux import system as os
from holdfast.watchdog import logline
from holdfast.watchdog.probes import Probe
from holdfast.wire import layout, pulse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from holdfast.watchdog.engine import Engine
    from holdfast.watchdog.keeper_line import KeeperLine
    from holdfast.watchdog.wards import Care, Ward

#: A probe of a starting worker may take this long; the next one comes soon.
_PROBE_S = 1.0
#: The keeper is told again when its journal has not said "ready" after this long.
_TELL_AGAIN_S = 1.0
#: File times have the granularity of the kernel's tick.
_FILE_SLACK_S = 0.02
#: Beyond its time a worker is still asked, but not often.
_OVERDUE_S = 1.0
_TICKS_S = 1.0 / os.sysconf("SC_CLK_TCK")


class Readiness:
    """Asks every worker that is not ready."""

    __slots__ = ("_engine", "_keeper", "_run_dir")

    def __init__(self, engine: "Engine", run_dir: str, keeper: "KeeperLine") -> None:
        self._engine = engine
        self._run_dir = run_dir
        self._keeper = keeper

    def begin(self, ward: "Ward") -> None:
        """A life began: ask it until it is ready."""
        if ward.care is not None and not ward.is_ready and ward.spec.ready["kind"] != "none":
            self._later(ward, ward.care)

    def _later(self, ward: "Ward", care: "Care") -> None:
        now_s = time.monotonic()
        care.pause_s = pace.next_try_s(care.pause_s)
        if now_s - ward.started_s > ward.spec.ready["timeout_s"]:
            care.pause_s = _OVERDUE_S
        self._engine.at(now_s + care.pause_s, lambda: self._try(ward, care))

    def _try(self, ward: "Ward", care: "Care") -> None:
        if ward.care is not care or ward.is_ready:
            return  # another life, or done
        if care.told_s:
            if time.monotonic() - care.told_s > _TELL_AGAIN_S:
                self.tell(ward, care)
            self._later(ward, care)
            return
        check = ward.spec.ready
        kind = check["kind"]
        if kind in ("tcp", "unix", "http", "exec") or (
            kind == "log" and not logline.is_plain(check["target"])
        ):
            if care.ready_probe is None:
                self._probe(ward, care, kind)
            return
        if self._is_so(ward, care, kind):
            self.tell(ward, care)
        self._later(ward, care)

    def _is_so(self, ward: "Ward", care: "Care", kind: str) -> bool:
        target = ward.spec.ready["target"]
        if kind == "notify":
            return care.notified
        if kind == "file":
            return is_newer(target, ward.ticks)
        if kind == "pulse":
            beat = read_pulse(self._run_dir, ward, care)
            return beat is not None and beat.ready == 1
        if kind == "log" and not care.log_seen:
            # The log is on a disk, and a disk may hang: the other thread looks.
            directory, n, at, words = ward.spec.log_directory, ward.n, care.log_at, target.encode()

            def seen(result: object) -> None:
                care.log_seen = care.log_seen or result is True

            self._engine.aside(lambda: logline.find(directory, n, words, at), seen)
        return care.log_seen

    def _probe(self, ward: "Ward", care: "Care", kind: str) -> None:
        check, spec = ward.spec.ready, ward.spec

        def answer(ok: bool, _why: str) -> None:
            care.ready_probe = None
            if ward.care is care:
                if ok:
                    self.tell(ward, care)
                self._later(ward, care)

        deadline_s, argv, directory, env = _PROBE_S, check["argv"], spec.directory, spec.env
        if kind == "log":
            kind, directory, env = "exec", "", {}
            deadline_s = max(_PROBE_S, ward.started_s + check["timeout_s"] - time.monotonic())
            argv = [
                sys.executable,
                "-I",
                "-S",
                logline.__file__,
                spec.log_directory,
                str(ward.n),
                check["target"],
            ]
        elif kind == "exec":
            deadline_s = max(_PROBE_S, min(check["timeout_s"], 30.0))
        care.ready_probe = Probe(self._engine, deadline_s, answer)
        care.ready_probe.ask(kind, check["target"], argv, directory, env)

    def tell(self, ward: "Ward", care: "Care") -> None:
        """Tell the keeper that this life is ready."""
        care.told_s = time.monotonic()
        self._keeper.ask({"do": "ready", "worker": ward.name, "n": ward.n}, lambda _: None)


def is_newer(path: str, ticks: int) -> bool:
    """Whether a file was made or touched since a process started (``ticks`` from /proc/PID/stat)."""
    try:
        found = os.stat(path)
    except OSError:
        return False
    born_s = time.time() - (time.clock_gettime(time.CLOCK_BOOTTIME) - ticks * _TICKS_S)
    return max(found.st_mtime, found.st_ctime) >= born_s - _FILE_SLACK_S


def read_pulse(run_dir: str, ward: "Ward", care: "Care") -> "pulse.Pulse | None":
    """Return the pulse of this very life; None while there is none."""
    if care.pulse >= 0:
        beat = _pulse_at(care.pulse)
        if beat is not None and beat.start == ward.n:
            return beat
        os.close(care.pulse)
        care.pulse = -1
    if ward.is_fork:
        return None  # whoever finds it opens its file
    for role in (
        "main",
        "spare",
    ):  # a spare that was promoted may go on writing into its first file
        try:
            descriptor = os.open(
                f"{run_dir}/{layout.pulse(ward.name, role)}", os.O_RDONLY | os.O_CLOEXEC
            )
        except OSError:
            continue
        beat = _pulse_at(descriptor)
        if beat is not None and beat.start == ward.n:
            care.pulse = descriptor
            return beat
        os.close(descriptor)
    return None


def _pulse_at(descriptor: int) -> "pulse.Pulse | None":
    try:
        return pulse.decode(os.pread(descriptor, pulse.HEAD, 0))
    except OSError:
        return None
