"""Which threads wait for a lock that will not come: one that its own holder waits for, or two threads in each other's?

Pure rules over the stacks of a bundle, for :mod:`holdfast.diagnosis.culprit`. Left out: that they stand at all (:mod:`holdfast.agent.locks`).
"""

from holdfast.diagnosis import owners
from holdfast.diagnosis.lastwords import split_frame
from holdfast.diagnosis.owners import Place
from holdfast.diagnosis.telling import LIKELY, finding, in_words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from holdfast.diagnosis.findings import Facts


def deadlock(facts: "Facts", stacks: "list[dict[str, Any]]") -> "list[dict[str, Any]]":
    """A lock that its own holder waits for; two threads in each other's locks."""
    for stack in stacks:
        mine = owners.places(stack["frames"], facts.owners)
        if not mine or not _takes_lock(facts, stack, mine[0]):
            continue
        first = mine[0]
        again = _again(mine)
        if not again:
            continue
        through = next((p for p in mine[1:again] if _comes_unasked(p)), None)
        how = f" through {through.short()}, which ran in between" if through else ""
        says = (
            f"Deadlock of a thread with itself: {stack['thread']} waits for a lock in {in_words(first, facts)} while it holds that lock"
            f" already: it came there a second time{how} (first at line {mine[again].line}). A lock that is not re-entrant never opens"
            " to its own holder: keep whatever runs inside it from coming back here, or use an RLock."
        )
        return [finding(LIKELY, says, first, ["stacks.txt"])]
    waiting = [s for s in stacks if s.get("doing") == "waits for a lock"]
    held = []
    for stack in waiting:
        mine = owners.places(stack["frames"], facts.owners)
        if mine and _takes_lock(facts, stack, mine[0]):
            held.append((stack, mine))
    if len(held) < 2:
        return []
    places = "; ".join(f"{s['thread']} in {in_words(m[0], facts)}" for s, m in held[:3])
    says = (
        f"Deadlock: {len(held)} threads wait for locks and none of them runs: {places}. Take these locks in one order"
        " everywhere, or with a timeout."
    )
    return [finding(LIKELY, says, held[0][1][0], ["stacks.txt", "process.json"])]


def _again(mine: "list[Place]") -> int:
    """Return where a thread that waits for a lock came by that lock before; 0 when it did not.

    The same function further out, or another method of the same class, when what is between comes unasked: the collector deletes an object
    wherever it likes, also while its pool is locked.
    """
    first = mine[0]
    owner = first.function.rpartition(".")[0]
    unasked = False
    for at in range(1, len(mine)):
        one = mine[at]
        unasked = unasked or _comes_unasked(one)
        is_alike = unasked and owner and one.function.rpartition(".")[0] == owner
        if one.path == first.path and (one.function == first.function or is_alike):
            return at
    return 0


def _comes_unasked(place: "Place") -> bool:
    return place.function.rpartition(".")[2] in ("__del__", "handler", "_handle_signal")


def _takes_lock(facts: "Facts", stack: "dict[str, Any]", place: Place) -> bool:
    if stack.get("doing") not in (None, "waits for a lock", "waits"):
        return False
    innermost = split_frame(stack["frames"][0])
    known = [f for f in facts.sites.get("stuck") or () if type(f) is list and f]
    if any(innermost[:2] == split_frame(str(frames[0]))[:2] for frames in known):
        return True  # the agent knows the instruction
    if innermost[0].endswith("/threading.py") and innermost[2].rpartition(".")[2] in ("acquire", "__enter__", "join"):  # fmt: skip
        return innermost[2].rpartition(".")[2] != "join"
    source = facts.source.get(place.frame, "")
    return ".acquire(" in source or (source.startswith("with ") and "lock" in source.lower())
