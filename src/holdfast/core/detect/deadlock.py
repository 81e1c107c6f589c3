"""Do threads wait for a lock that nobody gives back?

Pure. What is counted comes from inside (:mod:`holdfast.agent.locks`): threads that stand at the same lock, look after look. A loop
that stands there stops beating and is a freeze; this tells the programs in which something else goes on, or nothing that beats. One
thread or many: where others still work it may be one lock held across a slow call, so it is shown, with all stacks; two that stand while the whole
process rests do not wake up any more.
"""

from holdfast.core.detect.sign import Sign, span

#: So many times the limit, with nothing going on in the whole process, and it is grave.
GRAVE = 6.0
#: Share of a processor below which a process rests.
RESTS = 0.02
#: With so many standing nobody is left to give the lock back.
MUTUAL = 2


def deadlock(
    threads: int, for_s: float, share: float, finished: int, limit_s: float
) -> "Sign | None":
    """Return what is to be said.

    Args:
        threads: How many stand at a lock.
        for_s: For how long the first of them has.
        share: Of a processor that the process used lately.
        finished: Units of work that ended meanwhile.
        limit_s: From how long on.
    """
    if not threads or for_s < limit_s:
        return None
    who = "a thread has" if threads == 1 else f"{threads} threads have"
    says = f"{who} waited for a lock for {span(for_s)}"
    is_grave = threads >= MUTUAL and for_s >= limit_s * GRAVE and share < RESTS and not finished
    return Sign(for_s, limit_s, says, is_grave=is_grave)
