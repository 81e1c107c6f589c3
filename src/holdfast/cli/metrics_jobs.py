"""How full are the queues of a node, read so that a store that hangs holds nobody up?

A Redis that is away makes its caller wait for seconds. So one thread asks, and whoever wants the figures takes what it found within a
moment; a store that has not answered by then counts as away, and is not asked again before it has. Nothing is written: a file that is
not there yet is not made. Left out: what the figures mean (:mod:`holdfast.records.metrics`).
"""

import os
import threading

from holdfast.model.jobs import StoreDownError, StoreRefusedError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from holdfast.jobs.store import Store
    from holdfast.model.jobs import Counts
    from holdfast.records.metrics import Queue

#: How long the figures of a store are waited for.
WAIT_S = 0.25


class _Asked:
    """One store, and a thread that asks it when it is told to."""

    def __init__(self, url: str, prefix: str) -> None:
        # Only here: it imports the configuration language, and most nodes have no queue.
        from holdfast.config.jobs_definitions import without_password

        self.shown = without_password(url) + (f" {prefix}" if prefix else "")
        self._url, self._prefix = url, prefix
        self._store: Store | None = None
        self._counts: Counts | None = None
        self._wanted, self._done = threading.Event(), threading.Event()
        self._done.set()
        self._is_dropped = False
        self._thread: threading.Thread | None = None

    def begin(self) -> None:
        """Ask, unless the answer to the last question is still to come."""
        if self._thread is None or not self._thread.is_alive():
            # The first time, or a mistake of ours has ended it: its traceback is in the log, the figures were "not up".
            self._thread = threading.Thread(target=self._serve, name="job store", daemon=True)
            self._thread.start()
        if self._done.is_set():
            self._done.clear()
            self._wanted.set()

    def end(self) -> "Counts | None":
        """Return the answer; None when there is none in time."""
        return self._counts if self._done.wait(WAIT_S) else None

    def drop(self) -> None:
        """Ask no more: the plan names it no more."""
        self._is_dropped = True
        self._wanted.set()

    def _serve(self) -> None:
        while True:
            self._wanted.wait()
            self._wanted.clear()
            if self._is_dropped:
                break
            self._counts = None
            try:
                self._counts = self._ask()
            except (StoreDownError, StoreRefusedError):
                pass  # told as "not up"; why is for `holdfast jobs` to say
            finally:
                self._done.set()
        if self._store is not None:
            self._store.close()

    def _ask(self) -> "Counts | None":
        if self._store is None:
            # Only now: it imports sqlite3.
            from holdfast.jobs.opening import open_store

            self._store = open_store(self._url, self._prefix)
        path = getattr(self._store, "path", "")
        if path and not os.path.exists(path):
            return None
        return self._store.counts()


class Jobs:
    """The job stores of a node's plan."""

    def __init__(self) -> None:
        self._stores: dict[tuple[str, str], _Asked] = {}

    def begin(self, entries: "Iterable[dict[str, Any]]") -> None:
        """Begin to ask the stores that a plan's workers name."""
        named: dict[tuple[str, str], None] = {}
        for entry in entries:
            settings = entry.get("jobs")
            if settings:
                named[settings["store"], settings["prefix"]] = None
        for key in self._stores.keys() - named.keys():
            self._stores.pop(key).drop()
        for key in named:
            if key not in self._stores:
                self._stores[key] = _Asked(*key)
            self._stores[key].begin()

    def end(self) -> "list[Queue]":
        """Return what they answered."""
        return [{"store": asked.shown, "counts": asked.end()} for asked in self._stores.values()]
