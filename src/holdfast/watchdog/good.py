"""How things were when all was well: the baseline of "what changed?".

A life that has been ready for a minute is good; its interpreter, packages, configuration and files are put on record
then, by an evidence process like any other. At most one in a second, and none while there is trouble.
"""

import time
from _collections import deque  # type: ignore[import-not-found]  # collections costs 1 MiB

TYPE_CHECKING = False
if TYPE_CHECKING:
    from holdfast.watchdog.orders import Orders
    from holdfast.watchdog.wards import Roll, Ward

#: A life that was ready for so long counts as good.
GOOD_S = 60.0


class Good:
    """The lives that wait for their minute."""

    __slots__ = ("_orders", "_roll", "_waiting")

    def __init__(self, roll: "Roll", orders: "Orders") -> None:
        self._roll = roll
        self._orders = orders
        self._waiting: deque[tuple[float, str, int]] = deque()  # due, worker, life; in order

    def begins(self, ward: "Ward") -> None:
        """A life begins."""
        if ward.spec.is_python:
            self._waiting.append((time.monotonic() + GOOD_S, ward.name, ward.n))

    def tick(self, now_s: float) -> None:
        """Order what is due, unless evidence of something worse is being taken."""
        while self._waiting and self._waiting[0][0] <= now_s and not self._orders.is_busy():
            _, name, n = self._waiting.popleft()
            ward = self._roll.by_name.get(name)
            if ward is None or ward.n != n or not ward.pid:
                continue
            if not ward.is_ready:
                self._waiting.append((now_s + GOOD_S, name, n))
                continue
            self._orders.place({
                "key": f"good-{name}-{n}", "kind": "good", "worker": name, "n": n, "pid": ward.pid, "status": None,
                "lived_s": None, "seq": None, "flag": None, "unix_s": time.time(), "deadline_s": 20.0, "live": False,
            })  # fmt: skip
            self._orders.start_due()
            return
