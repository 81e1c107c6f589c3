"""Which deaths get an incident of their own, when one worker dies over and over?

Pure. The first death of a quiet time is written up at once; what follows within ``QUIET_S`` is folded together and
written up once, as the latest death with the number of those before it. No death is left out of the count,
and a crash loop of fifty a second does not become fifty evidence processes a second.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

QUIET_S = 2.0


class Storm:
    """The deaths of one worker that wait to be written up."""

    __slots__ = ("folded", "pending", "until_s")

    def __init__(
        self, until_s: float = 0.0, pending: "dict[str, Any] | None" = None, folded: int = 0
    ) -> None:
        self.until_s = until_s  #: before this (monotonic), deaths are folded
        self.pending = pending  #: the latest folded death
        self.folded = folded  #: deaths folded, the pending one included

    def death(self, record: "dict[str, Any]", now_s: float) -> "tuple[dict[str, Any], int] | None":
        """Take one death; return (the death to write up, others counted with it), or None for later."""
        self.pending = record
        self.folded += 1
        return self.due(now_s)

    def due(self, now_s: float) -> "tuple[dict[str, Any], int] | None":
        """Return what is to be written up now; None when nothing is."""
        if self.pending is None or now_s < self.until_s:
            return None
        found = (self.pending, self.folded - 1)
        self.pending, self.folded, self.until_s = None, 0, now_s + QUIET_S
        return found
