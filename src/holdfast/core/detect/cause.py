"""Whose fault is it, when one worker dies because another did?

Pure. A worker that needs another (``after``, ``requires``) and dies shortly after it is a consequence, not a cause: its
death is attached to the incident of the one it needs, so that one cause is one alarm.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

#: A death follows from another when it comes this soon after it.
FOLLOWS_S = 10.0


def root(
    worker: str,
    needs: "Callable[[str], Iterable[str]]",
    died_s: "dict[str, float]",
    now_s: float,
) -> str:
    """Return the worker at the root of a death: the farthest needed one that died lately; empty for none.

    Args:
        worker: Who died now.
        needs: What a worker needs to run.
        died_s: When each worker died last (or was flagged as sick).
        now_s: Monotonic seconds.
    """
    seen = {worker}
    found = ""
    open_names = list(needs(worker))
    while open_names:
        name = open_names.pop(0)
        if name in seen:
            continue
        seen.add(name)
        at_s = died_s.get(name)
        if at_s is not None and 0.0 <= now_s - at_s <= FOLLOWS_S:
            found = name
            open_names += needs(name)
    return found
