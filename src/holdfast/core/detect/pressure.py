"""Is the box itself running out of memory?

Pure. Three ways to see it, the earliest first: pages have to be read again from disk all the time (major faults) while less gets
done or little is left, 10 s before the kernel's own pressure figures move; available memory shrinks so fast that it is gone soon;
it is gone. Page cache that is used up is none of these: it counts as available.
"""

from holdfast.core.detect.lasting import Lasting
from holdfast.core.detect.sign import Sign, size, span
from holdfast.core.detect.slope import theil_sen

#: Major faults a second, for so long, with this share of the usual work or this little memory left.
FAULTS_PER_S, FAULTS_S, WORK, TIGHT = 100.0, 3.0, 0.7, 0.15
#: Gone within so long, seen over so many looks, and only when less than this share is left.
LEFT_S, LOOKS, HALF = 30.0, 5, 0.3
#: Swap that is all but used up makes little memory less.
SWAP = 0.1
OFF_S = 10.0
WELL = 1.5
#: The box is in danger: shed what is not needed.
GRAVE = 0.5


class Pressure:
    """Memory of the box."""

    __slots__ = ("_faults", "_lasting", "_points", "_thrash", "_work")

    def __init__(self) -> None:
        self._faults = -1
        self._points: list[tuple[float, float]] = []
        self._thrash = Lasting()
        self._lasting = Lasting()
        self._work = 0.0

    def add(
        self,
        now_s: float,
        available: int,
        total: int,
        *,
        swap_free_share: float,
        faults: int,
        work_per_s: float,
        least: float,
        grower: str = "",
    ) -> "Sign | None":
        """Take in one look.

        Args:
            now_s: Monotonic seconds.
            available: Bytes that can be had without swapping.
            total: Bytes of the box.
            swap_free_share: Free share of the swap; 1.0 where there is none.
            faults: Major faults so far.
            work_per_s: Units of work a second, all workers; 0 where nobody counts.
            least: Available share below which it is told.
            grower: The worker that grew most, and by how much, in words.
        """
        passed_s = now_s - self._points[-1][0] if self._points else 1.0
        rate = max(0, faults - self._faults) / max(0.1, passed_s) if self._faults >= 0 else 0.0
        self._faults = faults
        self._points = [*self._points, (now_s, float(available))][-12:]
        share = available / max(1, total)
        is_less = 0 < work_per_s < WORK * self._work or share < TIGHT
        thrash = self._thrash.add(
            now_s, rate > FAULTS_PER_S and is_less and share < HALF, FAULTS_S, OFF_S
        )
        if not thrash:
            self._work += 0.05 * (work_per_s - self._work)
        per_s = -theil_sen(self._points) if share < HALF and len(self._points) >= LOOKS else 0.0
        left_s = available / per_s if per_s > 0 else 1e9
        bound = least * (2.0 if swap_free_share < SWAP else 1.0)
        is_low = share < bound * (WELL if self._lasting.is_up else 1.0)
        if not self._lasting.add(now_s, is_low or left_s < LEFT_S or thrash, 1.0, OFF_S):
            return None
        says = f"{size(available)} of {size(total)} memory are available"
        if left_s < 10 * LEFT_S:
            says += f", gone in {span(left_s)}"
        if thrash:
            says += f"; {rate:,.0f} pages a second are read again from disk and less work gets done"
        if grower:
            says += f"; {grower}"
        return Sign(share, least, says, is_grave=share < GRAVE * least or left_s < LEFT_S / 3)
