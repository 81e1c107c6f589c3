"""Was the clock set?

Pure. The wall clock is compared with the time since boot, which goes on while a machine is suspended: waking up is no jump, and a
clock that is steered (NTP slews by half a millisecond a second at most) is none either.
"""

from holdfast.core.detect.sign import Sign, span

#: A jump is shown for so long, for there is nothing that would end it.
SHOWN_S = 30.0


class Clock:
    """The wall clock."""

    __slots__ = ("_by_s", "_offset_s", "_until_s")

    def __init__(self) -> None:
        self._offset_s: float | None = None
        self._by_s = 0.0
        self._until_s = -1.0

    def add(self, boot_s: float, wall_s: float, limit_s: float) -> "Sign | None":
        """Take in one look at both clocks."""
        offset_s = wall_s - boot_s
        if self._offset_s is not None and limit_s > 0 and abs(offset_s - self._offset_s) > limit_s:
            self._by_s, self._until_s = offset_s - self._offset_s, boot_s + SHOWN_S
        self._offset_s = offset_s
        if boot_s >= self._until_s:
            return None
        whither = "forwards" if self._by_s > 0 else "backwards"
        says = f"the clock was set {span(abs(self._by_s))} {whither}"
        return Sign(self._by_s, limit_s, says)
