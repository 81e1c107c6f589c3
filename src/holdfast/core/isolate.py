"""Which component of a worker is the culprit, and how is the worker split to find out?

Delta debugging on a running system (A. Zeller, R. Hildebrandt, "Simplifying and isolating failure-inducing input", IEEE TSE 28, 2002), with
two differences: nobody may make it crash on purpose, so the only tests are the crashes that happen anyway; and what did not crash goes on
serving. So each crash has to be worth as much as possible: a worker of up to eight components is split into
single ones at once (the next crash names the culprit), and where direct evidence accuses one component (its code was on the
crashing stack, or ran when the process died) only that one is taken out, and the next crash proves it or clears it.

Pure, and without memory of its own: what follows is decided from the parts as they run and the deaths on record, so a watchdog that was
killed decides the same again, and deciding twice changes nothing. Left out: changing the plan (:mod:`holdfast.core.parts`),
scores over all workers (:mod:`holdfast.core.suspicion`).
"""

from holdfast.core.parts import family
from holdfast.core.suspicion import Lived, suspects

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

#: So many deaths of the same within the restart window: one alone is most often a one-off.
REPEAT = 2
#: What ``isolate`` means: into so many parts at most in one step.
AT_ONCE, HALVES = 8, 2
#: … or so many within a day; and two within a day where the worker is split already.
_REPEAT_A_DAY, _DAY_S = 3, 86400.0
#: Deaths are counted within at least this: the restart window is about haste, and something that crashes every
#: five minutes is worth finding, too.
_LEAST_WINDOW_S = 600.0
#: After a split, so many times the usual gap between two deaths without one: it was not chance.
_QUIET_GAPS = 10.0
_LEAST_QUIET_S = 60.0
#: A culprit that has lived this long was mended: the worker becomes one again.
REJOIN_S = 86400.0

#: How a note begins that the container left when it ended itself. Others were written by whoever ran last, in any thread.
_LAST_WORDS = ("crash ", "exit ")
#: Deaths that are remembered of one worker; the keeper's journal holds no more for long, either.
_KEPT = 200

#: Ends that say nothing about a component: SIGHUP, SIGINT, SIGQUIT, SIGKILL, SIGUSR1, SIGUSR2, SIGPIPE, SIGTERM
#: come from outside (and the kernel's OOM killer is told apart by whoever calls).
_FROM_OUTSIDE = frozenset({1, 2, 3, 9, 10, 12, 13, 15})
#: Exit status of a container that could not make its pulse: the box is to blame.
_NO_ROOM = 74

# -- what a split has shown so far -------------------------------------------------------------------
SEARCHING = "searching"
CULPRIT = "culprit"  # at least one component died although it was alone
COMMON = "common"  # every one of them died alone: something that they share
APART = "apart"  # together they died, apart they live


class Death:
    """One death that counts, as the keeper's journal has it."""

    __slots__ = ("at_s", "blamed", "components", "is_sure", "n", "seq", "worker")

    def __init__(
        self, worker: str, components: "Sequence[str]", at_s: float, *, blamed: str = "", is_sure: bool = False,
        n: int = 0, seq: int = 0,
    ) -> None:  # fmt: skip
        self.worker = worker
        self.components = frozenset(components)
        self.at_s = at_s  #: monotonic
        self.blamed = blamed if blamed in self.components else ""  #: whom direct evidence accuses
        self.is_sure = is_sure  #: it was its last word; else somebody may still know better
        self.n = n
        self.seq = seq


class Divide:
    """Split this worker into these parts."""

    __slots__ = ("groups", "suspect", "why", "worker")

    def __init__(self, worker: str, groups: "list[list[str]]", suspect: str, why: str) -> None:
        self.worker = worker
        self.groups = groups
        self.suspect = suspect  #: whom direct evidence accuses; "": nobody
        self.why = why


class Finding:
    """What is known about a worker that is split."""

    __slots__ = ("culprits", "kind", "says", "together")

    def __init__(
        self, kind: str, says: str, culprits: "list[tuple[str, int]]", together: "list[str]"
    ) -> None:
        self.kind = kind
        self.says = says
        self.culprits = culprits  #: component and how often it died alone, most first
        self.together = together  #: the smallest set that has died together


def death_of(record: "Mapping[str, Any]", *, is_oom: bool = False) -> "Death | None":
    """Return the death that a record of the keeper's journal tells of; None when it says nothing about components.

    Args:
        record: Any record.
        is_oom: Its SIGKILL came from the kernel's OOM killer.
    """
    if record.get("k") != "exit" or record.get("role") != "main" or not record.get("components"):
        return None
    status, is_remedy = record.get("status"), record.get("cause") == "remedy"
    if not is_remedy:
        if record.get("cause") != "died" or type(status) is not int or not status:
            return None
        number = status & 0x7F
        outside = number in _FROM_OUTSIDE and not (number == 9 and is_oom)
        if outside or (not number and status >> 8 == _NO_ROOM):
            return None
    # What ran when memory ran out is chance; what ran when the process crashed or hung is not.
    says_who = not is_oom and not (is_remedy and "memory" in str(record.get("flag")))
    note = str(record.get("note") or "")
    return Death(
        str(record["worker"]), record["components"], float(record["mono_s"]),
        blamed=noted(note) if says_who else "", is_sure=note.startswith(_LAST_WORDS),
        n=int(record.get("n", 0)), seq=int(record.get("seq", 0)),
    )  # fmt: skip


def follow(
    known: "dict[str, list[Death]]", record: "Mapping[str, Any]", *, is_oom: bool = False
) -> "Death | None":
    """Bring what is known of each configured worker up to date with a record; return the death if it is one."""
    worker = record.get("worker")
    if worker is None:
        return None
    whole = family(worker)
    if record["k"] == "order" and record["do"] == "rejoin":
        known[whole] = []  # what was found belongs to the split
    if _is_persons(record):
        # Somebody did something about it, or wants to see: a clean slate, as with the restart limit.
        known[whole] = [d for d in known.get(whole, ()) if worker not in (d.worker, whole)]
    death = death_of(record, is_oom=is_oom)
    if death is not None:
        known[whole] = [*known.get(whole, [])[1 - _KEPT :], death]
    return death


def noted(note: str) -> str:
    """Return the component that a pulse's note names, as in ``crash component=board ValueError: …``; "" for none."""
    for word in note.split(None, 3)[:3]:
        if word.startswith("component="):
            return word[10:]
    return ""


def decide(
    parts: "Mapping[str, Sequence[str]]", deaths: "Sequence[Death]", *, fan: int, window_s: float
) -> "Divide | None":
    """Return the split that the deaths ask for; None when there is nothing to be done.

    Args:
        parts: The worker as it runs: name of each part and its components. In one piece: one part.
        deaths: Of the worker and its parts, oldest first.
        fan: Into so many parts at most; 0: the worker may not be split.
        window_s: Deaths further apart are not the same trouble.
    """
    if not fan:
        return None
    window_s = max(window_s, _LEAST_WINDOW_S)
    alone = dict(_alone(deaths))
    for name, members in parts.items():
        has = frozenset(members)
        if len(has) < 2 or not any(death.components == has for death in deaths):
            continue
        # What a culprit that was found since explains does not count against those that were with it.
        counted = [d for d in deaths if d.components >= has and not d.components & alone.keys()]
        own = [d for d in counted if d.components == has]
        if not own:
            continue
        last = own[-1]
        today = [d for d in counted if last.at_s - _DAY_S < d.at_s <= last.at_s]
        near = [d for d in today if d.at_s > last.at_s - window_s]
        if len(near) < REPEAT and len(today) < (_REPEAT_A_DAY if len(parts) == 1 else REPEAT):
            continue
        near = today
        suspect = _accused(near, has) if _may_accuse(parts, alone) else ""
        return Divide(name, *_groups(members, suspect, deaths, fan, len(near)))
    return None


def find(
    parts: "Mapping[str, Sequence[str]]", deaths: "Sequence[Death]", *, since_s: float, now_s: float
) -> Finding:
    """Return what the split of a worker has shown.

    Args:
        parts: As in :func:`decide`, more than one.
        deaths: As in :func:`decide`.
        since_s: When it was split last (monotonic).
        now_s: Monotonic.
    """
    alone = _alone(deaths)
    joint = [death for death in deaths if len(death.components) > 1]
    sets = sorted((sorted(death.components) for death in joint), key=len)
    together = sets[0] if sets else []
    everybody = {name for members in parts.values() for name in members}
    if alone and len(alone) == len(everybody) and len(alone) > 2:
        says = (
            f"each of the {len(alone)} components dies, even alone: no single one is to blame, but something that "
            "they share (an installed package, the machine, what they all rely on)"
        )
        return Finding(COMMON, says, alone, together)
    if alone:
        who = " and ".join(f'component "{name}" died {_times(count)}' for name, count in alone)
        others = len(everybody) - len(alone)
        says = f"culprit: {who} in a worker of its own"
        says += f"; the other {others} go on without harm" if others else ""
        return Finding(CULPRIT, says, alone, together)
    quiet_s = now_s - max([since_s, *(death.at_s for death in deaths)])
    if len(joint) >= REPEAT and quiet_s >= quiet_enough_s(joint):
        says = (
            f"together {', '.join(together)} died {_times(len(joint))}; apart, none of them has died for {quiet_s:.0f} s: "
            "no single one is to blame, but what two of them do together (or chance). They stay apart"
        )
        return Finding(APART, says, [], together)
    return Finding(SEARCHING, "the next crash tells more", [], together)


def quiet_enough_s(joint: "Sequence[Death]") -> float:
    """Return how long nobody has to die after a split until that means something."""
    gaps = [joint[at + 1].at_s - joint[at].at_s for at in range(len(joint) - 1)]
    return max(_LEAST_QUIET_S, _QUIET_GAPS * max(gaps, default=0.0))


def is_mended(
    deaths: "Sequence[Death]", *, since_s: float, now_s: float, rejoin_s: float = REJOIN_S
) -> bool:
    """Whether a culprit was found and has lived well for so long that somebody must have mended it.

    Components that only die together are left apart: joined they would die again.
    """
    latest_s = max([since_s, *(death.at_s for death in deaths)])
    return bool(_alone(deaths)) and now_s - latest_s >= rejoin_s


# -- private ----------------------------------------------------------------------------------------


def _is_persons(record: "Mapping[str, Any]") -> bool:
    """Whether a person has started or restarted a worker."""
    if record["k"] == "want":
        return bool(record.get("up")) and record.get("by") not in ("plan", "watchdog")
    return record["k"] == "order" and record["do"] == "restart" and record.get("by") == "user"


def _alone(deaths: "Sequence[Death]") -> "list[tuple[str, int]]":
    """Return the components that died alone, and how often; most often first."""
    tally: dict[str, int] = {}
    for death in deaths:
        if len(death.components) == 1:
            (name,) = death.components
            tally[name] = tally.get(name, 0) + 1
    return sorted(tally.items(), key=lambda pair: (-pair[1], pair[0]))


def _may_accuse(parts: "Mapping[str, Sequence[str]]", alone: "Mapping[str, int]") -> bool:
    """Whether accusations are worth a crash: not after one was taken out and it was not the culprit.

    Broken memory is often found by somebody else than whoever broke it.
    """
    return all(members[0] in alone for members in parts.values() if len(members) == 1)


def _accused(deaths: "Sequence[Death]", members: "frozenset[str]") -> str:
    """Return whom most of the deaths accuse; the later one where that is open. What is sure outweighs any hint."""
    tally: dict[str, int] = {}
    sure = [death for death in deaths if death.is_sure and death.blamed]
    for death in sure or deaths:
        if death.blamed in members:
            tally[death.blamed] = tally.pop(death.blamed, 0) + 1
    most = max(tally.values(), default=0)
    return next((name for name in reversed(tally) if tally[name] == most), "")


def _groups(
    members: "Sequence[str]", suspect: str, deaths: "Sequence[Death]", fan: int, count: int
) -> "tuple[list[list[str]], str, str]":
    many = f"it died {_times(count)} in a short while"
    if suspect:
        rest = [name for name in members if name != suspect]
        why = f'{many}, and the evidence points to component "{suspect}": that one runs alone now'
        return [rest, [suspect]], suspect, why
    # The suspicious ones together: the sooner a crash is theirs, the sooner the others are left in peace.
    score = {one.name: one.score for one in suspects(Lived(d.components, crashed=True) for d in deaths)}  # fmt: skip
    ordered = sorted(members, key=lambda name: (-score.get(name, 0.0), members.index(name)))
    number = min(max(fan, HALVES), len(ordered))
    size, more = divmod(len(ordered), number)
    groups, at = [], 0
    for index in range(number):
        end = at + size + (index < more)
        groups.append(ordered[at:end])
        at = end
    how = "each component runs alone now" if size == 1 and not more else f"it runs in {number} parts now"  # fmt: skip
    return groups, "", f"{many}, and nothing tells which component it was: {how}"


def _times(count: int) -> str:
    return "once" if count == 1 else "twice" if count == 2 else f"{count} times"
