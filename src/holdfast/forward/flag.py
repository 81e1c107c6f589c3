"""How do people learn that a target refuses for good what is sent to it?

By the flag `forward_refused` of the worker that forwards, of the same shape as those of the watchdog: `holdfast status`, the dashboard and the alerts show it
without knowing of targets. Nobody treats it: what was refused is gone, and what follows needs a person (a token, an address, a limit). Taken back when
the target has taken something again and :data:`CALM_S` passed. The flag that a killed life left is removed by the next one, which raises it again with the next
refusal; the numbers are in ``STATE/forward/TARGET.json``.
"""

import os
import threading
import time

from holdfast.linux.files import write_atomic
from holdfast.wire import jsonlite, layout

NAME = "forward_refused"
#: So long nothing more has to be refused.
CALM_S = 60.0


class RefusalFlag:
    """The flag of one worker, for all of its targets."""

    def __init__(self, run_dir: str, worker: str) -> None:
        self._worker = worker
        self._path = f"{run_dir}/{layout.flag(worker, NAME)}"
        self._lock = threading.Lock()
        self._since_unix_s = 0.0
        self._says: dict[str, str] = {}  #: target -> what is wrong
        self._numbers: dict[str, int] = {}
        self._remove_leftovers()

    def tell(self, target: str, number: int, says: str) -> None:
        """Raise the flag, or let it tell of more.

        Raises:
            OSError: There is no room for it.
        """
        with self._lock:
            if not self._says:
                self._since_unix_s = time.time()
            self._says[target] = says
            self._numbers[target] = self._numbers.get(target, 0) + number
            self._write()

    def clear(self, target: str) -> None:
        """Take it back for one target.

        Raises:
            OSError: It cannot be.
        """
        with self._lock:
            if self._says.pop(target, None) is None:
                return
            self._numbers.pop(target, None)
            if self._says:
                self._write()
                return
            try:
                os.unlink(self._path)
            except FileNotFoundError:
                pass  # a person took over, and the watchdog has cleared it

    def _write(self) -> None:
        parts = [f"{target} refused {self._numbers[target]} for good: {says}" for target, says in self._says.items()]  # fmt: skip
        content = {
            "worker": self._worker, "flag": NAME, "since_unix_s": self._since_unix_s, "value": float(sum(self._numbers.values())),
            "limit": 0.0, "says": "; ".join(parts), "incident": None, "rung": 0, "phase": "shown", "n": 0, "key": "",
        }  # fmt: skip
        write_atomic(self._path, jsonlite.dumps(content).encode())

    def _remove_leftovers(self) -> None:
        directory, name = os.path.split(self._path)
        try:
            there = os.listdir(directory)
        except FileNotFoundError:
            return  # no node, no flags
        for found in there:
            if found == name or (found.startswith(f"{name}.") and found.endswith(".tmp")):
                try:
                    os.unlink(f"{directory}/{found}")
                except FileNotFoundError:
                    pass  # the watchdog was quicker
