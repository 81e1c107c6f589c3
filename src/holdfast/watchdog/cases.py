"""The flags that are up, and what is being done about each: carries out what the ladder decides.

A flag's file is written before the effect that follows from it, so that a watchdog that is killed between any two of
these lines leaves behind what the next one needs to go on.
"""

import errno
import time

from holdfast.core import ladder
from holdfast.linux import files
from holdfast.linux import system as os
from holdfast.watchdog.orders import START_S
from holdfast.wire import layout
from holdfast.wire.jsonlite import dumps, loads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from holdfast.model.plan import WatchPlan
    from holdfast.watchdog.engine import Engine
    from holdfast.watchdog.keeper_line import KeeperLine
    from holdfast.watchdog.orders import Orders
    from holdfast.watchdog.senses import Look
    from holdfast.watchdog.wards import Roll, Ward

NODE = "@node"
#: Flags that a worker raises about itself and takes back itself: shown, never treated.
OWN = ("slow_session", "forward_refused")
#: What kind of incident a flag becomes.
KINDS = {  # a flag that is not here: one of its own name
    "missed_heartbeat": "hang", "failed_probe": "probe", "start_failed": "start",
    "memory_over_limit": "memory", "disk_low": "disk", "crash_loop": "crash_loop", "stopped": "hang",
}  # fmt: skip
#: Memory is about to run out: only what can be had at once.
_MEMORY_EVIDENCE_S = 0.05
#: What a full disk does not take is tried again so often, for so long.
_FULL, _AGAIN_S, _KEPT_S = (errno.ENOSPC, errno.EDQUOT), 5.0, 6 * 3600.0
#: Not (yet) bad enough for a remedy, so nothing waits: a program that works little, or has millions of objects, may be looked at for this much longer.
_PATIENT = ("slow", "loop_lag", "odd_one_out", "memory_leak", "fd_leak")
_PATIENCE_S = 3.0


class Cases:
    """All flags of the node."""

    __slots__ = (
        "_cases", "_engine", "_keeper", "_orders", "_others", "_roll", "_run_dir", "_told", "_verdicts", "_watch", "state_dir",
    )  # fmt: skip

    def __init__(self, engine: "Engine", run_dir: str, keeper: "KeeperLine", roll: "Roll") -> None:
        self._engine = engine
        self._run_dir = run_dir
        self._keeper = keeper
        self._roll = roll
        self._cases: dict[tuple[str, str], ladder.Case] = {}
        self._verdicts: dict[str, list[tuple[str, float | None]]] = {}
        self._told = ("", "")  #: the last verdict: evidence key, word
        #: By worker and flag: more processes that are as sick as the one in hand, pid and ticks.
        self._others: dict[tuple[str, str], tuple[tuple[int, int], ...]] = {}
        self._orders: Orders
        self._watch: WatchPlan
        self.state_dir = ""

    def go_by(self, orders: "Orders", watch: "WatchPlan", state_dir: str) -> None:
        """Set what the cases need beyond the start."""
        self._orders, self._watch, self.state_dir = orders, watch, state_dir

    def __len__(self) -> int:
        return len(self._cases)

    def has(self, worker: str, flag: str) -> bool:
        """Whether this flag is up."""
        return (worker, flag) in self._cases

    def load(self) -> None:
        """Take up the flags that an earlier watchdog left."""
        directory = f"{self._run_dir}/{layout.FLAGS}"
        for name in _flags_in(directory):
            path = f"{directory}/{name}"
            if self._is_workers_own(name):
                continue
            try:
                value = loads(files.read(path).decode())
            except (OSError, ValueError):
                value = None
            case = ladder.from_flag(value, time.monotonic()) if type(value) is dict else None
            known = case is not None and (case.worker == NODE or case.worker in self._roll.by_name)
            if case is None or not known or name != f"{case.worker}.{case.flag}":
                _remove(
                    path
                )  # half a flag, or of a worker that is gone: nobody would ever clear it
                continue
            self._cases[case.worker, case.flag] = case
            if case.phase == ladder.EVIDENCE:
                is_done, incident = self._orders.outcome(case.key)
                if is_done:
                    ladder.captured(case, case.key, incident)
                elif not case.key.startswith("exit-"):
                    self._capture(case, self._settings(case).evidence_s)

    def forget_strangers(self) -> None:
        """Remove the own flags of workers that are gone from the plan; theirs of ours are released."""
        directory = f"{self._run_dir}/{layout.FLAGS}"
        for name in _flags_in(directory):
            if _own_worker(name) and not self._is_workers_own(name):
                _remove(f"{directory}/{name}")

    def _is_workers_own(self, name: str) -> bool:
        return _own_worker(name) in self._roll.by_name

    # -- looks -------------------------------------------------------------------------------------

    def look(self, worker: str, flag: str, look: "Look", n: int) -> None:
        """Go on with a flag after a look at it; a healthy worker without the flag costs one dictionary look-up."""
        case = self._cases.get((worker, flag))
        now_s = time.monotonic()
        if case is None:
            if look.verdict not in (ladder.SICK, ladder.SUSPECT):
                return
            case = self._cases[worker, flag] = ladder.Case(worker, flag, now_s)
            ward = self._roll.by_name.get(worker)
            case.took_s = max(0.0, now_s - ward.started_s) if ward is not None else 0.0
        verdict = self._of_whom(case, look, now_s)
        if verdict in (ladder.SICK, ladder.SUSPECT):
            case.value, case.limit = look.value, look.limit
            if case.phase in (ladder.CLEAR, ladder.RAISED) or not case.says:
                case.says = look.says
        if case.phase == ladder.VERIFY and self._sick_otherwise(case):
            verdict = ladder.SICK  # it has another symptom now: that is no cure
        effects = ladder.step(
            case, self._settings(case), verdict, n=n, now_s=now_s, now_unix_s=time.time(),
            allowed=ladder.may_act(case, self._cases.values()),
        )  # fmt: skip
        self._carry_out(case, effects)

    def _of_whom(self, case: ladder.Case, look: "Look", now_s: float) -> str:
        """Return the verdict on the process that this case is about: the worker's own, or one that it forked."""
        ward = self._roll.by_name.get(case.worker)
        forks = ward.forks if ward is not None else None
        if look.verdict in (ladder.SICK, ladder.SUSPECT):
            if case.phase in (ladder.CLEAR, ladder.RAISED):
                case.pid = look.pid
                if not case.rung:
                    case.is_forks = bool(look.pid)
            if look.pid != case.pid and case.phase in (ladder.EVIDENCE, ladder.REMEDY):
                return ladder.WELL  # the one of which evidence was taken is well, or gone
            if look.pid != case.pid and case.phase == ladder.SHOWN and look.verdict == ladder.SICK:
                case.n = (
                    0  # another one: before anything is done about it there is evidence of its own
                )
            self._others[case.worker, case.flag] = look.others
        if forks is None:
            return look.verdict
        if case.pid:
            forks.in_hand[case.flag] = case.pid
        is_young = now_s - case.at_s < ladder.ACT_S
        if case.phase == ladder.VERIFY and look.pid in forks.ended and is_young:
            return ladder.UNKNOWN  # it was killed, and is not dead yet
        is_ended = case.phase == ladder.VERIFY and not case.rung and case.pid in forks.ended
        if not is_ended or look.verdict not in (ladder.WELL, ladder.UNKNOWN):
            return look.verdict
        follower = forks.has_followed(case.pid)
        if follower is not None:
            forks.forget_ended()
            pid, after_s = follower
            self._tell_of_remedy(case, f"its parent started process {pid} {after_s:.1f} s later")
            return look.verdict
        if is_young:
            return ladder.UNKNOWN
        forks.forget_ended()
        case.says = f"process {case.pid} was ended, and its parent has not started another one"
        return ladder.SICK

    def expect_evidence(self, worker: str, flag: str, key: str) -> None:
        """The evidence for a flag that is about to be raised is being taken already, as that of a death."""
        case = self._cases.setdefault((worker, flag), ladder.Case(worker, flag, time.monotonic()))
        if case.phase == ladder.CLEAR:
            case.given_key = key

    def _sick_otherwise(self, case: ladder.Case) -> bool:
        return any(
            other.worker == case.worker
            and other.phase in (ladder.RAISED, ladder.SHOWN)
            and other.is_grave
            for other in self._cases.values()
            if other is not case and ladder.RUNGS.get(other.flag)
        )

    def of(self, worker: str) -> "list[ladder.Case]":
        """Return the flags of one worker."""
        return [case for case in self._cases.values() if case.worker == worker]

    def workers(self) -> "set[str]":
        """Return the workers that have a flag."""
        return {worker for worker, _ in self._cases}

    # -- what others say ---------------------------------------------------------------------------

    def accepted(self, worker: str, flag: str, unix_s: float) -> None:
        """The keeper took an order for this flag; one from before its evidence belongs to an earlier rung."""
        case = self._cases.get((worker, flag))
        if case is None or case.phase != ladder.REMEDY:
            return
        asked_ms = case.key.rpartition("-")[2]
        if asked_ms.isdigit() and unix_s * 1000 >= int(asked_ms):
            case.accepted = True

    def release(self, worker: str, unix_s: float | None = None) -> None:
        """A person took over at ``unix_s`` (None: now); flags that were raised later stand.

        A new watchdog reads in the journal again what a person did before the flag was raised.
        """
        for flag in OWN:
            path = f"{self._run_dir}/{layout.flag(worker, flag)}"
            if unix_s is None or _changed_before(path, unix_s):
                _remove(path)
        for case in self.of(worker):
            if unix_s is None or case.since_unix_s <= unix_s:
                self._carry_out(case, ladder.release(case, time.monotonic()))

    def evidence_done(self, key: str, incident: "str | None") -> "str | None":
        """An order is complete; return the worker that waits for it, if one does."""
        for verdict, after_s in self._verdicts.pop(key, ()) if incident else ():
            self._append(incident or "", verdict, after_s)
        for case in self._cases.values():
            if case.key == key:
                ladder.captured(case, key, incident)
                if incident and case.phase != ladder.EVIDENCE:
                    self._write(case)
                return case.worker if case.phase == ladder.EVIDENCE else None
        return None

    # -- effects -----------------------------------------------------------------------------------

    def _settings(self, case: ladder.Case) -> ladder.Settings:
        ward = self._roll.by_name.get(case.worker)
        rungs = ladder.RUNGS.get(case.flag, ())
        if case.worker not in self._roll.groups:
            rungs = tuple(rung for rung in rungs if rung != ladder.RESTART_GROUP)
        if case.is_forks and rungs[:1] == (ladder.RESTART,):
            rungs = (ladder.END_FORK, *rungs)
        if not self._watch.get("shed"):
            rungs = tuple(rung for rung in rungs if rung != ladder.SHED)
        budget_s = self._watch["evidence_budget_s"]
        if case.flag == "memory_over_limit" or (case.flag == "memory_leak" and case.is_grave):
            budget_s = min(budget_s, _MEMORY_EVIDENCE_S)
        start_s = ward.spec.ready["timeout_s"] + ward.spec.slow_s if ward is not None else 0.0
        return ladder.Settings(
            rungs,
            evidence_s=budget_s + START_S,
            verify_s=_verify_s(case, ward, self._watch["verify_s"]),
            start_s=start_s,
        )

    def _carry_out(self, case: ladder.Case, effects: "list[object]") -> None:
        for effect in effects:
            if isinstance(effect, ladder.WriteFlag):
                self._write(case)
            elif isinstance(effect, ladder.ClearFlag):
                self._engine.say(f"flag {case.flag} of {case.worker} cleared")
                self._cases.pop((case.worker, case.flag), None)
                self._others.pop((case.worker, case.flag), None)
                _remove(f"{self._run_dir}/{layout.flag(case.worker, case.flag)}")
            elif isinstance(effect, ladder.CaptureEvidence):
                self._capture(case, effect.deadline_s)
            elif isinstance(effect, ladder.OrderRemedy):
                self._order(case, effect)
            elif isinstance(effect, ladder.Verdict):
                self.verdict(effect.key, effect.verdict, effect.after_s)
            else:
                raise TypeError(f"the ladder asks for {effect!r}, which nobody here can do")

    def _write(self, case: ladder.Case) -> None:
        words = f"flag {case.flag} of {case.worker}: {case.phase}, rung {case.rung}: {case.says}"
        self._engine.say(words)
        try:
            data = dumps(case.to_flag()).encode() + b"\n"
            files.write_atomic(f"{self._run_dir}/{layout.flag(case.worker, case.flag)}", data)
        except OSError as error:
            # Without its file a flag is not seen and not survived, but it is still acted upon.
            self._engine.say(
                f"cannot write the flag {case.flag} of {case.worker}: {error.strerror}"
            )

    def _capture(self, case: ladder.Case, deadline_s: float) -> None:
        if case.key.startswith("exit-"):
            is_done, incident = self._orders.outcome(case.key)
            if is_done:  # it was quicker than we were
                ladder.captured(case, case.key, incident)
            return
        ward = self._roll.by_name.get(case.worker)
        live = ward is not None and ward.pid > 0
        forks = ward.forks.living if ward is not None and ward.forks is not None else {}
        whose = forks.get(case.pid, ward)
        is_patient = case.flag in _PATIENT and not case.is_grave
        deadline_s += _PATIENCE_S if is_patient else 0.0
        self._orders.place({
            "key": case.key, "kind": KINDS.get(case.flag, case.flag), "worker": case.worker, "n": case.n,
            "pid": whose.pid if whose is not None else 0, "status": None,
            "lived_s": max(0.0, time.monotonic() - whose.started_s) if whose is not None and live else None,
            "seq": None, "flag": case.to_flag(), "unix_s": time.time(),
            "deadline_s": max(0.0, deadline_s - START_S), "live": live, "patient": is_patient,
        })  # fmt: skip
        self._orders.start_due()

    def _order(self, case: ladder.Case, effect: ladder.OrderRemedy) -> None:
        if effect.remedy == ladder.SHED:
            self._shed(case)
            return
        if effect.remedy == ladder.END_FORK:
            self._end_forks(case, effect.n)
            return
        names = [case.worker]
        if effect.remedy == ladder.RESTART_GROUP:
            names += [n for n in self._roll.groups.get(case.worker, ()) if n != case.worker]
        for name in names:
            reply = self._replied(case, names) if name == case.worker else _ignore
            self._keeper.ask(
                {
                    "do": "restart", "worker": name, "by": "watchdog", "how": "kill", "flag": case.flag,
                    "incident": case.incident, "n": effect.n if name == case.worker else None,
                },
                reply,
            )  # fmt: skip

    def _end_forks(self, case: ladder.Case, n: int) -> None:
        """Have the sick ones ended of what a worker forked; the others serve on."""
        ward = self._roll.by_name.get(case.worker)
        forks = ward.forks if ward is not None else None
        sick = (case.pid, *(pid for pid, _ in self._others.get((case.worker, case.flag), ())))
        ended = [forks.living[pid] for pid in sick if pid in forks.living] if forks else []
        if forks is None or not ended:
            case.accepted = True  # gone by itself
            return

        def reply(answer: "dict[str, Any] | None") -> None:
            if answer is not None and answer.get("ok"):
                case.accepted = True
            elif answer is not None:
                self._engine.say(f"the keeper ends no process of {case.worker}: {answer.get('error')}")  # fmt: skip

        for fork in ended:
            forks.ended[fork.pid] = (time.monotonic(), fork.parent)
            self._keeper.ask(
                {
                    "do": "end", "worker": case.worker, "by": "watchdog", "flag": case.flag, "incident": case.incident,
                    "n": n, "pid": fork.pid, "ticks": fork.ticks,
                },
                reply,
            )  # fmt: skip
        whom = " and ".join(f"process {fork.pid}" for fork in ended)
        says = f"the watchdog had {whom} ended, of {len(forks.living)} that the worker forked"
        self._tell_of_remedy(case, says)

    def _tell_of_remedy(self, case: ladder.Case, says: str) -> None:
        self._engine.say(f"{case.worker}: {says}")
        if case.incident:
            self._note(case.incident, {"what": "remedy", "rung": case.rung, "says": says})

    def _shed(self, case: ladder.Case) -> None:
        """Stop what the plan names as dispensable."""
        names = [
            name
            for name in self._watch.get("shed", ())
            if name in self._roll.by_name and self._roll.by_name[name].up
        ]

        def reply(answer: "dict[str, Any] | None") -> None:
            if answer is not None and answer.get("ok"):
                case.accepted = True

        case.accepted = not names  # all of them are down already
        for name in names:
            self._keeper.ask({"do": "stop", "worker": name, "by": "watchdog"}, reply)
        if case.incident and names:
            says = f"the watchdog had {', '.join(names)} stopped until the machine is well"
            self._note(case.incident, {"what": "remedy", "rung": case.rung, "says": says})

    def take_back(self) -> None:
        """The box is well: start again what was shed."""
        for ward in self._roll.by_name.values():
            if ward.is_shed:
                self._keeper.ask({"do": "start", "worker": ward.name, "by": "watchdog"}, _ignore)

    def _replied(
        self, case: ladder.Case, names: "list[str]"
    ) -> "Callable[[dict[str, Any] | None], None]":
        def reply(answer: "dict[str, Any] | None") -> None:
            if answer is not None and answer.get("ok"):
                case.accepted = True
                if case.incident and not answer.get("note"):
                    whom = "it" if len(names) == 1 else f"it and its group ({', '.join(names[1:])})"
                    says = f"the watchdog had {whom} killed and started again"
                    self._note(case.incident, {"what": "remedy", "rung": case.rung, "says": says})
            elif answer is not None:
                self._engine.say(
                    f"the keeper does not restart {case.worker}: {answer.get('error')}"
                )

        return reply

    def verdict(self, key: str, verdict: str, after_s: float | None = None) -> None:
        """Write into an incident's timeline what became of it; waits for the incident where there is none yet.

        That it came back later, when it was long said to be cured, is for the evidence of that to find (``evidence/relapse.py``).
        """
        if (key, verdict) == self._told:
            return  # of a death that became a flag, both say so
        self._told = (key, verdict)
        is_done, incident = self._orders.outcome(key)
        if incident:
            self._append(incident, verdict, after_s)
        elif not is_done:
            self._verdicts.setdefault(key, []).append((verdict, after_s))

    def _append(self, incident: str, verdict: str, after_s: float | None) -> None:
        after = {} if after_s is None else {"after_s": round(after_s, 3)}
        self._note(incident, {"what": "verdict", "verdict": verdict, **after})

    def _note(self, incident: str, what: "dict[str, Any]") -> None:
        """Add a line to an incident's timeline."""
        name = os.path.basename(incident)
        # A bundle that did not fit on a full disk waits in memory.
        homes = [f"{home}/{layout.INCIDENTS}/{name}" for home in (self.state_dir, self._run_dir)]
        line = dumps({"unix_s": time.time(), **what}).encode() + b"\n"
        until_s = time.monotonic() + _KEPT_S

        def write(before: bytes = b"") -> None:
            home = homes[0] if os.path.isdir(homes[0]) else homes[1]
            files.append(f"{home}/timeline.jsonl", before + line)

        def written(result: object) -> None:
            if not isinstance(result, OSError):
                return
            now_s = time.monotonic()
            # A disk that is full takes nothing, and is emptied some time.
            if result.errno in _FULL and now_s < until_s:
                # A piece of it may be there already: that is a row of its own, which nobody can read.
                self._engine.at(
                    now_s + _AGAIN_S, lambda: self._engine.aside(lambda: write(b"\n"), written)
                )
                return
            self._engine.say(f"cannot write into the timeline of {incident}: {result.strerror}")

        # The incidents are on a disk, and a disk may hang.
        self._engine.aside(write, written)


def _verify_s(case: ladder.Case, ward: "Ward | None", least_s: float) -> float:
    """How long the symptom has to stay away: what took long to show has to stay away for as long, within reason."""
    if case.flag not in ladder.SLOW_TO_SHOW or case.phase != ladder.VERIFY or ward is None:
        return least_s
    return max(least_s, min(case.took_s, ladder.LONGEST_VERIFY_S))


def _ignore(_answer: "dict[str, Any] | None") -> None:
    pass


def _own_worker(name: str) -> str:
    """Return whose own flag a file is, or the beginning of one that is being written; empty: nobody's."""
    for flag in OWN:
        worker, dot_flag, rest = name.partition(f".{flag}")
        if dot_flag and (not rest or rest.endswith(".tmp")):
            return worker
    return ""


def _changed_before(path: str, unix_s: float) -> bool:
    try:
        return os.stat(path).st_mtime <= unix_s
    except OSError:
        return False  # there is none


def _flags_in(directory: str) -> "list[str]":
    try:
        return os.listdir(directory)
    except OSError:
        return []


def _remove(path: str) -> None:
    try:
        os.unlink(path)
    except OSError:
        pass  # it is gone already
