"""Does it get no processor, though it wants one?

Pure. What is slow because the box is crowded, or because its control group has used up its share, is not sick, and restarting it helps nobody: so
this is only ever told. Two waits are added: on a run queue (schedstat; the main thread, or all of them on a crowded box), and behind the
quota of a control group (``cpu.stat``), which shows in no run queue.
"""

from holdfast.core.detect.lasting import Lasting
from holdfast.core.detect.sign import Sign, span

#: A quota is told after so long, a crowd (it may be over soon, and all who live there are in it) after so long; over after so long without.
QUOTA_S, CROWD_S, OFF_S = 6.0, 30.0, 5.0
#: Of the wait so much has to be behind a quota to be its fault.
MOST = 0.5
#: How much of the past the shares are smoothed over.
SMOOTH_S = 3.0


class Starved:
    """One worker's waits for a processor."""

    __slots__ = ("_lasting", "behind", "waits")

    def __init__(self) -> None:
        self._lasting = Lasting()
        self.waits = 0.0  #: share of the time that it waited, for whatever reason
        self.behind = 0.0  #: share of the time behind a quota

    def add(
        self,
        now_s: float,
        passed_s: float,
        waited_s: float,
        throttled_s: float,
        limit: float,
        *,
        whose: str,
        blame: str,
    ) -> "Sign | None":
        """Take in one look, about once a second.

        Args:
            now_s: Monotonic seconds.
            passed_s: Since the last look.
            waited_s: Of that, on a run queue.
            throttled_s: Of that, behind a quota.
            limit: Share of the time.
            whose: Whose quota it is.
            blame: Who uses the box most, as a clause; empty when nobody knows.
        """
        weight = min(1.0, passed_s / SMOOTH_S)
        behind = min(1.0, throttled_s / passed_s)
        # A kernel may count the same wait twice: behind the quota, and on the queue.
        waits = min(1.0, max(waited_s / passed_s, behind))
        self.behind += (behind - self.behind) * weight
        self.waits += (waits - self.waits) * weight
        is_quota = self.behind >= MOST * self.waits
        on_s = QUOTA_S if is_quota else CROWD_S
        if not self._lasting.add(now_s, self.waits >= limit, on_s, OFF_S):
            return None
        for_s = self._lasting.for_s(now_s)
        says = f"it wants a processor and waits for one {self.waits:.0%} of the time, for {span(for_s)}"
        if is_quota:
            says += f": the processor limit of {whose} holds it back"
        else:
            says += f": the machine has none to spare{'; ' + blame if blame else ''}"
        return Sign(self.waits, limit, says)
