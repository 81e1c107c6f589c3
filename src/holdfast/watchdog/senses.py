"""What is wrong with a worker now? Looks, and says sick, well or unknown for each flag there is.

Everything here is read from outside and without waiting: the pulse file, /proc, the time of a file, what probes and
notifications have left. What the readings mean is decided in :mod:`holdfast.core.detect`.
"""

import time

from holdfast.core.detect import held, level, sickness, starvation
from holdfast.core.ladder import SICK, SUSPECT, UNKNOWN, WELL
from holdfast.linux import cgroup
from holdfast.linux import system as os
from holdfast.watchdog.probes import Probe
from holdfast.watchdog.processors import Processors
from holdfast.watchdog.readiness import read_pulse
from holdfast.watchdog.wards import PROBED
from holdfast.wire import layout, pulse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from holdfast.watchdog.engine import Engine
    from holdfast.watchdog.forks import Forks
    from holdfast.watchdog.wards import Care, Ward

#: A probe may take this share of the timeout, so that two of them fit into twice the timeout.
_PROBE_SHARE = 0.6
#: After a failed probe the next one comes sooner.
_RETRY_SHARE = 0.1
#: From this share of the timeout on a silence is looked into (was it waiting for a processor?).
_SUSPICIOUS = 0.25
#: A silence of which this much was excused is no longer suspicious as soon.
_EXCUSED_S = 0.2
_PROCESSORS = os.cpu_count() or 1
#: How often it is asked whether workers fork that did not until now.
_FORKS_S = 1.0


class Look:
    """What one look says about one flag."""

    __slots__ = ("limit", "others", "pid", "says", "ticks", "value", "verdict")

    def __init__(
        self, verdict: str, value: float = 0.0, limit: float = 0.0, says: str = ""
    ) -> None:
        self.verdict = verdict
        self.value = value
        self.limit = limit
        self.says = says
        self.pid = self.ticks = 0  #: of the process that the worker forked, where it is that
        self.others: tuple[tuple[int, int], ...] = ()  #: pid and ticks of more that are as sick


_UNKNOWN = Look(UNKNOWN)
_WELL = Look(WELL)


class Senses:
    """The watchdog's eyes."""

    __slots__ = (
        "_engine", "_forks_s", "_run_dir", "_runnable", "_suspects", "_watched", "node", "processors",
    )  # fmt: skip

    def __init__(self, engine: "Engine", run_dir: str, node: str) -> None:
        self.processors = Processors()
        self._engine = engine
        self._run_dir = run_dir
        self.node = node  #: hash of the run directory: the name of our cgroups
        self._runnable = 1.0
        self._suspects = 0
        self._watched = 0
        self._forks_s = 0.0

    # -- all of them -------------------------------------------------------------------------------

    def gather(self, wards: "list[Ward]", now_s: float) -> None:
        """Take in new signs of life of all watched workers, and excuse those that could not give any."""
        self._watched = self._suspects = 0
        suspects = []
        forked = self._forked(wards, now_s)
        for ward in [*wards, *forked] if forked else wards:
            care = ward.care
            if care is None:
                continue
            if ward.spec.beat["kind"] == "none":
                if ward.spec.has_pulse:
                    care.beat = read_pulse(self._run_dir, ward, care)
                continue
            self._watched += 1
            self._take_sign(ward, care, now_s)
            suspicious_s = _SUSPICIOUS * ward.spec.beat["timeout_s"]
            silent_s = care.silence.lasting_s(now_s)
            if ward.spec.beat["kind"] == "pulse":
                suspicious_s = min(suspicious_s, _freeze_s(ward) / 2)
                silent_s = max(silent_s, care.thread.lasting_s(now_s))
            if silent_s > suspicious_s:
                suspects.append((ward, care))
            else:
                # The main thread alone, through a kept descriptor: this is done at every look.
                care.turns, care.turns_at_s = _main_turn(ward), now_s
        self._suspects = len(suspects)
        self._weigh_box()
        for ward, care in suspects:
            self._excuse(ward, care, now_s)
        if forked:
            for ward in wards:
                if ward.forks is not None:
                    ward.forks.merge(ward)

    def _forked(self, wards: "list[Ward]", now_s: float) -> "list[Ward]":
        """Return what the workers forked and what has a pulse of its own; for who does not fork this is a failed look now and then."""
        found: list[Ward] = []
        asks = now_s >= self._forks_s
        if asks:
            self._forks_s = now_s + _FORKS_S
        for ward in wards:
            if not ward.spec.has_forks:
                continue
            if ward.forks is None:
                if not asks or not os.path.exists(f"{self._run_dir}/{layout.forks(ward.name)}"):
                    continue
                from holdfast.watchdog.forks import Forks

                ward.forks = Forks(self._run_dir, ward)
            found += ward.forks.look(ward)
        return found

    def lost(self, wards: "list[Ward]", for_s: float) -> None:
        """We did not run for a while: nobody's silence of that time counts."""
        for ward in wards:
            if ward.care is not None:
                for silence in (ward.care.silence, ward.care.thread, ward.care.call):
                    silence.excuse(for_s)
                if not ward.is_ready:
                    ward.started_s += for_s
            if ward.forks is not None:
                self.lost(list(ward.forks.living.values()), for_s)

    def _weigh_box(self) -> None:
        if not self._suspects:
            return
        try:
            with open("/proc/loadavg", "rb") as file:
                runnable = float(file.read().split()[3].split(b"/")[0])
        except (OSError, ValueError, IndexError):
            return
        self._runnable += 0.2 * (runnable - self._runnable)

    def _excuse(self, ward: "Ward", care: "Care", now_s: float) -> None:
        signed_s = min(care.silence.last_s, care.thread.last_s)
        before, between_s = care.turns, now_s - max(care.turns_at_s, signed_s)
        care.turns, care.turns_at_s = turns(ward.pid), now_s
        # Any thread: one that holds the GIL and gets no processor holds up the one that beats.
        waited = [
            starvation.waited_s(before[tid], after, between_s)
            for tid, after in care.turns.items()
            if tid in before
        ]
        excused_s = max(waited, default=0.0)
        homes = {turn.processor for turn in care.turns.values()}
        if homes & self.processors.mute(now_s):
            excused_s = max(excused_s, between_s)
        self.processors.ask(homes, now_s)
        if starvation.box_starved(self._suspects, self._watched, self._runnable, _PROCESSORS):
            timeout_s = ward.spec.beat["timeout_s"]
            # Not for ever: a box may be busy for hours, and a hang in it is still one.
            if care.silence.excused_s < 3 * timeout_s:
                excused_s = max(excused_s, between_s / 2)
        for silence in (care.silence, care.thread, care.call):
            silence.excuse(excused_s)

    # -- signs of life -----------------------------------------------------------------------------

    def _take_sign(self, ward: "Ward", care: "Care", now_s: float) -> None:
        kind = ward.spec.beat["kind"]
        if kind == "pulse":
            beat = care.beat = read_pulse(self._run_dir, ward, care)
            if beat is None:
                return
            care.silence.sign(beat.loop_beat_ns / 1e9)
            care.thread.sign(beat.thread_beat_ns / 1e9)
            if beat.oldest_call_ns != care.call_ns:
                care.call_ns = beat.oldest_call_ns
                care.call.last_s, care.call.excused_s = beat.oldest_call_ns / 1e9, 0.0
            if beat.stopping and not care.stopping_s:
                care.stopping_s = now_s
        elif kind == "file":
            try:
                touched_ns = os.stat(ward.spec.beat["target"]).st_mtime_ns
            except OSError:
                return
            # That it changed counts, not what it says: the wall clock may be set.
            if touched_ns != care.file_ns:
                care.file_ns = touched_ns
                care.silence.sign(now_s)
        elif (
            kind in PROBED
            and now_s >= care.next_beat_s
            and care.beat_probe is None
            and _is_due(ward, now_s)
        ):
            self._probe(ward, care)

    def _probe(self, ward: "Ward", care: "Care") -> None:
        beat, spec = ward.spec.beat, ward.spec
        deadline_s = beat["timeout_s"] * _PROBE_SHARE

        def answer(ok: bool, why: str) -> None:
            care.beat_probe = None
            now_s = time.monotonic()
            pause_s = (
                beat["period_s"] if ok else min(beat["period_s"], beat["timeout_s"] * _RETRY_SHARE)
            )
            care.next_beat_s = now_s + pause_s
            care.streak.add(ok, why)
            if ok:
                care.silence.sign(now_s)

        care.beat_probe = Probe(self._engine, deadline_s, answer)
        care.beat_probe.ask(beat["kind"], beat["target"], beat["argv"], spec.directory, spec.env)

    # -- what it means -----------------------------------------------------------------------------

    def looks(self, ward: "Ward", now_s: float) -> "list[tuple[str, Look]]":
        """Return a look for each flag that this worker can have."""
        found = []
        spec = ward.spec
        if spec.ready["kind"] != "none":
            found.append(("start_failed", self.start(ward, now_s)))
        if spec.beat["kind"] in PROBED:
            found.append(("failed_probe", self.probe(ward, now_s)))
        elif spec.beat["kind"] != "none" and ward.forks is None:
            found.append(("missed_heartbeat", self.heartbeat(ward, now_s)))
        if spec.beat["kind"] != "none" and ward.forks is not None:
            found.append(("missed_heartbeat", self._family(ward, ward.forks, now_s)))
        if spec.memory_bytes:
            found.append(("memory_over_limit", self.memory(ward)))
        return found

    def start(self, ward: "Ward", now_s: float) -> Look:
        """Whether the worker got ready in time."""
        if ward.is_ready:
            return _WELL
        if ward.care is None or ward.care.stopping_s:
            return _UNKNOWN
        timeout_s = ward.spec.ready["timeout_s"]
        lived_s = now_s - ward.started_s
        if lived_s <= timeout_s or ward.care.told_s:
            return _UNKNOWN
        return Look(
            SICK, lived_s, timeout_s,
            f"not ready {lived_s:.1f} s after its start (ready.{ward.spec.ready['kind']}, timeout {timeout_s:g} s)",
        )  # fmt: skip

    def heartbeat(self, ward: "Ward", now_s: float) -> Look:
        """Whether the heart still beats, and what the sickness is if not."""
        care, timeout_s = ward.care, ward.spec.beat["timeout_s"]
        if care is None or not _is_due(ward, now_s) or _is_wrapped(ward, care):
            return _UNKNOWN
        if care.trigger:
            return Look(SICK, 0.0, timeout_s, "the worker itself asked for it (WATCHDOG=trigger)")
        silent_s = care.silence.lasting_s(now_s)
        kind = ward.spec.beat["kind"]
        process = ward.process()
        if kind != "pulse":
            if silent_s <= timeout_s:
                return _WELL if care.silence.last_s > ward.started_s else _UNKNOWN
            reading = process.read() if process is not None else None
            stopped = (
                " (it is stopped, state T)" if reading is not None and reading.state in "Tt" else ""
            )
            return Look(
                SICK, silent_s, timeout_s, f"no heartbeat ({kind}) for {silent_s:.1f} s{stopped}"
            )
        thread_s = care.thread.lasting_s(now_s)
        call_s = care.call.lasting_s(now_s) if care.call_ns else 0.0
        heard = care.silence
        if care.beat is not None and care.beat.loop_beat_ns == 0 and _is_agents(ward):
            # A program without an event loop: the plain thread is all there is.
            silent_s, heard = thread_s, care.thread
        early_s = _freeze_s(ward)
        if care.silence.excused_s > _EXCUSED_S:
            early_s = max(early_s, timeout_s / 2)  # a busy box: not so quick with suspicions
        if max(silent_s, thread_s) <= early_s and call_s <= timeout_s:
            if heard.excused_s > 0.0 and now_s - heard.last_s > _freeze_s(ward):
                # Excused is not alive: what was flagged stays flagged until there is a sign of life.
                return _UNKNOWN
            # Care counts silence from the start of the life: a beat that never came is no health.
            return _held(ward, care, early_s, now_s) if care.pulse >= 0 else _UNKNOWN
        reading = process.read() if process is not None else None
        if reading is None:
            return _UNKNOWN  # it is gone, or going: a death, not a hang
        begun = care.pulse >= 0 and (care.silence.last_s > ward.started_s or thread_s > early_s)
        if not begun:
            # The loop has not begun to beat (imports, an application that starts slowly), or never will: a guest
            # with the agent may not be Python at all.
            patience_s = ward.spec.ready["timeout_s"] + timeout_s
            if _is_agents(ward) or now_s - ward.started_s <= patience_s:
                return _UNKNOWN
            says = f"the worker has not begun its pulse for {silent_s:.1f} s"
            return Look(SICK, silent_s, timeout_s, says)
        return _hang(reading.state, silent_s, thread_s, call_s, early_s, timeout_s)

    def _family(self, ward: "Ward", forks: "Forks", now_s: float) -> Look:
        """Whether the worker's own heart beats, and those of what it forked."""
        # With a probe for a heartbeat that is all that is asked of the worker itself; the pulses of its forks tell what a probe cannot.
        own = _WELL if ward.spec.beat["kind"] in PROBED else self.heartbeat(ward, now_s)
        found = [(fork, self.heartbeat(fork, now_s)) for fork in forks.living.values()]
        return forks.worst("missed_heartbeat", own, found, ward)

    def probe(self, ward: "Ward", now_s: float) -> Look:
        """Whether the last probes were answered."""
        care, timeout_s = ward.care, ward.spec.beat["timeout_s"]
        if care is None or not _is_due(ward, now_s):
            return _UNKNOWN
        silent_s = care.silence.lasting_s(now_s)
        if care.streak.is_broken() and silent_s >= timeout_s:
            why = f"{care.streak.failures} probes in a row failed, none answered for {silent_s:.1f} s: {care.streak.why}"
            return Look(SICK, silent_s, timeout_s, why)
        return (
            _WELL if not care.streak.failures and care.silence.last_s > ward.started_s else _UNKNOWN
        )

    def memory(self, ward: "Ward") -> Look:
        """Whether the worker holds more memory than it may; only where no cgroup keeps it from that."""
        care, limit = ward.care, ward.spec.memory_bytes
        if care is None or not limit:
            return _UNKNOWN
        if care.polled is None:
            # Decided once for each life: looking through the mounts is not cheap.
            care.polled = cgroup.memory_usage(self.node, ward.name) is None
        process = ward.process()
        reading = process.read() if care.polled and process is not None else None
        if reading is None:
            return _UNKNOWN if care.polled else _WELL
        if ward.forks is not None:
            reading = ward.forks.reading(reading)
        care.is_over = level.memory_is_over(reading.rss_bytes, limit, was_over=care.is_over)
        if not care.is_over:
            return _WELL
        says = f"holds {reading.rss_bytes / 2**20:.0f} MiB of memory, its limit is {limit / 2**20:.0f} MiB"
        return Look(SICK, float(reading.rss_bytes), float(limit), says)

    def loop(self, ward: "Ward", now_s: float) -> Look:
        """Whether the worker is in a crash loop, by what the keeper decided about its last death."""
        if not ward.looping:
            return _WELL
        lived_s = now_s - ward.started_s if ward.pid else 0.0
        if lived_s >= max(1.0, ward.spec.healthy_s):
            ward.looping = ""
            return _WELL
        if ward.looping == "down":
            return Look(SICK, 0.0, 0.0, "it died too often and is left down (restart.limit)")
        return Look(
            SICK,
            0.0,
            0.0,
            "it dies again and again; it is restarted only slowly now (restart.limit)",
        )


def _is_wrapped(ward: "Ward", care: "Care") -> bool:
    """Whether the pulse is not that of the worker's own process: of a shell, say, that starts a Python program now and then."""
    is_guests = ward.spec.beat["target"] == "agent"
    return is_guests and (care.beat is None or care.beat.pid != ward.pid)


def _hang(
    state: str, loop_s: float, thread_s: float, call_s: float, early_s: float, timeout_s: float
) -> Look:
    """What two beats, a state and a call say: a reason to act, to look, or nothing."""
    found = sickness.classify(state, loop_s, thread_s, call_s, timeout_s)
    if found is not None:
        return Look(SICK, found[1], timeout_s, f"{found[0]}: {sickness.sentence(*found)}")
    # A call may take its time; only the beats are due ten times a second.
    found = sickness.classify(state, loop_s, thread_s, 0.0, early_s)
    if found is None:
        return _WELL
    return Look(SUSPECT, found[1], early_s, f"{found[0]}: {sickness.sentence(*found)}")


def _held(ward: "Ward", care: "Care", early_s: float, now_s: float) -> Look:
    """Whether one request holds a process, or a thread, that serves one at a time."""
    beat = care.beat
    if beat is None or not beat.held_ns:
        return _WELL
    for_s, (ended, longest_s, mean_s) = now_s - beat.held_ns / 1e9, ward.past()
    is_whole = beat.is_held == pulse.WHOLE
    found = held.held(
        for_s, longest_s, mean_s, ended,
        freeze_s=early_s * held.JOBS if beat.is_held == pulse.JOB else early_s, timeout_s=ward.spec.beat["timeout_s"], is_whole=is_whole,
    )  # fmt: skip
    if found is None:
        return _WELL
    says = held.sentence(for_s, longest_s, is_whole=is_whole)
    return Look(SICK if found[0] else SUSPECT, for_s, found[1], f"request stuck: {says}")


def _is_agents(ward: "Ward") -> bool:
    """Whether the pulse is that of the agent in a guest."""
    return ward.spec.beat["target"] == "agent"


def _freeze_s(ward: "Ward") -> float:
    """From which silence on a pulse is written up; what is done about it has the heartbeat's own timeout."""
    timeout_s = ward.spec.beat["timeout_s"]
    return min(timeout_s, ward.spec.detect["freeze"] or timeout_s)


def _is_due(ward: "Ward", now_s: float) -> bool:
    """Whether a heartbeat can be expected: the worker was ready, or had the time to get ready."""
    care = ward.care
    if care is None or not ward.pid:
        return False
    if care.stopping_s:
        return now_s - care.stopping_s > ward.spec.stop_s + ward.spec.beat["timeout_s"]
    return ward.is_ready or now_s - ward.started_s > ward.spec.ready["timeout_s"]


def _main_turn(ward: "Ward") -> "dict[int, starvation.Turn]":
    process = ward.process()
    if process is None:
        return {}
    # Whether it is runnable and what it ran is not asked: it gave a sign of life just now.
    return {ward.pid: starvation.Turn(0, process.wait_ns(), is_runnable=False)}


def turns(pid: int) -> "dict[int, starvation.Turn]":
    """Return the turns of each thread of a process; read of suspects only (20 µs a thread)."""
    found = {}
    try:
        for name in os.listdir(f"/proc/{pid}/task")[:64]:
            with open(f"/proc/{pid}/task/{name}/schedstat", "rb") as file:
                ran_ns, waited_ns = file.read().split()[:2]
            with open(f"/proc/{pid}/task/{name}/stat", "rb") as file:
                fields = file.read().rpartition(b") ")[2].split()
            found[int(name)] = starvation.Turn(
                int(ran_ns),
                int(waited_ns),
                is_runnable=fields[0] == b"R",
                processor=int(fields[36]),
            )
    except (OSError, ValueError, IndexError):
        pass  # it is gone, or the kernel keeps no schedstat: then nothing can be excused by it
    return found
