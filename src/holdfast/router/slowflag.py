"""How do people learn that a session was cut off because it did not read?

By the flag `slow_session` of the router's worker, beside those of the watchdog and of the same shape, so that `holdfast status` shows
it without knowing of routers. The router raises it and takes it back; nobody treats it, for the cut-off was the remedy
(so its phase is `verify`: does another follow?).
A flag that a killed router left is removed by the next one: who was cut off then is in the log.
"""

import os
import time

from holdfast.linux.files import write_atomic
from holdfast.wire import jsonlite, layout

NAME = "slow_session"


class SlowFlag:
    """The flag of one worker."""

    __slots__ = ("_path", "_since_unix_s", "_worker", "count")

    def __init__(self, run_dir: str, worker: str) -> None:
        self._worker = worker
        self._path = f"{run_dir}/{layout.flag(worker, NAME)}"
        self._since_unix_s = 0.0
        #: Cut-offs since it was raised; 0: it is not.
        self.count = 0
        self._remove_leftovers()

    def tell(self, says: str, value: float, limit: float) -> None:
        """Raise the flag, or let it tell of one more.

        Raises:
            OSError: There is no room for it.
        """
        if not self.count:
            self._since_unix_s = time.time()
        self.count += 1
        more = f" ({self.count} were cut off since the flag was raised)" if self.count > 1 else ""
        content = {
            "worker": self._worker, "flag": NAME, "since_unix_s": self._since_unix_s, "value": value, "limit": limit,
            "says": f"cut off: {says}{more}", "incident": None, "rung": 0, "phase": "verify", "n": 0, "key": "",
        }  # fmt: skip
        write_atomic(self._path, jsonlite.dumps(content).encode())

    def clear(self) -> None:
        """Take it back."""
        self.count = 0
        try:
            os.unlink(self._path)
        except FileNotFoundError:
            pass  # a person took over, and the watchdog has cleared it

    def _remove_leftovers(self) -> None:
        """Remove the flag of the life before, and what a kill in the middle of writing it has left."""
        directory, name = os.path.split(self._path)
        for found in os.listdir(directory):
            if found == name or (found.startswith(f"{name}.") and found.endswith(".tmp")):
                try:
                    os.unlink(f"{directory}/{found}")
                except FileNotFoundError:
                    pass  # the watchdog was quicker
