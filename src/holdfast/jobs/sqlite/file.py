"""How is a file of the queue opened, written in whole steps, shared by many processes and kept through forks?

Knows nothing of jobs. One connection a process, behind a lock; writers of several processes take turns by SQLite's own write
lock, tried again after short random pauses (SQLite's own pauses grow to 100 ms, and with many writers the unlucky one waits
for seconds). WAL with synchronous=NORMAL: a commit survives the death of every process, for it lies in the page cache; FULL
also survives a power cut and costs an fsync a commit.
"""

import os
import sqlite3
import threading
import time
import weakref

from holdfast.jobs.sqlite import schema
from holdfast.model.jobs import FencedError, StoreDownError, StoreRefusedError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar, TypeVarTuple, Unpack

    Given = TypeVarTuple("Given")
    Result = TypeVar("Result")

#: So long we try to get the write lock.
PATIENCE_S = 10.0
CHECK_EACH_NS = 2_000_000
#: Pages in the log before they are moved to the file: 32 MB, read back in a tenth of a second after a crash. With SQLite's 1000 a
#: drain waits for a disk eight times as often.
CHECKPOINT_PAGES = 8000
#: WITHOUT ROWID, partial indexes, upsert.
OLDEST_SQLITE = (3, 24, 0)

#: Connections that a fork copied: to close one in the child could end the parent's locks, so they are left as they are.
_left: "list[object]" = []
_files: "weakref.WeakSet[File]" = weakref.WeakSet()


class Step:
    """An open file, and what one transaction gathers while it runs."""

    __slots__ = ("checked_ns", "connection", "execute", "executemany", "failed", "freed", "names", "now_s", "place", "processed", "queues")  # fmt: skip

    def __init__(self, connection: sqlite3.Connection, place: "tuple[int, int]") -> None:
        self.connection = connection
        self.execute = connection.execute
        self.executemany = connection.executemany
        self.place = place  #: device and inode
        self.checked_ns = 0  #: monotonic
        self.queues: dict[str, int] = {}  #: number of each queue that was met; never changes
        self.names: dict[int, str] = {}  #: the other way round
        self.now_s = 0.0  #: unix
        self.processed = self.failed = 0  #: to be added to the statistics
        self.freed: dict[int, int] = {}  #: limits, and how many places in each became free

    def forget(self) -> None:
        """Forget what a transaction that was undone has gathered."""
        self.processed = self.failed = 0
        self.freed.clear()
        # A queue's number may have been given in the very step that was undone.
        self.queues.clear()
        self.names.clear()


class File:
    """One file of the queue; may be used from any thread, and from a child after a fork."""

    def __init__(self, path: str, *, is_power_safe: bool = False) -> None:
        self.path = path
        self.is_power_safe = is_power_safe
        self.lock = threading.Lock()
        self._step: Step | None = None
        _files.add(self)

    def write(
        self,
        work: "Callable[[Step, Unpack[Given]], Result]",
        *arguments: "Unpack[Given]",
    ) -> "Result":
        """Carry out ``work`` in one transaction: all of it or nothing."""
        with self.lock:
            step = self._ready()
            execute = step.execute
            step.now_s = time.time()
            try:
                execute("BEGIN IMMEDIATE")
            except sqlite3.Error as error:
                self._begin_again(step, error)
            try:
                result = work(step, *arguments)
                execute("COMMIT")
            except sqlite3.Error as error:
                self._undo(step)
                raise self._explained(error) from error
            except BaseException:
                self._undo(step)
                raise
            self._check_place(step)
            return result

    def write_one(
        self,
        work: "Callable[[Step, Unpack[Given]], Result]",
        *arguments: "Unpack[Given]",
    ) -> "Result":
        """Carry out ``work`` that is a single statement, and so a transaction by itself (a third cheaper than :meth:`write`)."""
        with self.lock:
            step = self._ready()
            try:
                result = work(step, *arguments)
            except sqlite3.Error as error:
                result = self._work_again(step, error, work, *arguments)
            self._check_place(step)
            return result

    def read(
        self,
        work: "Callable[[Step, Unpack[Given]], Result]",
        *arguments: "Unpack[Given]",
    ) -> "Result":
        """Carry out ``work``, which only looks, on one state of the file."""
        with self.lock:
            step = self._ready()
            step.now_s = time.time()

            def look() -> "Result":
                try:
                    step.execute("BEGIN")
                    result = work(step, *arguments)
                    step.execute("COMMIT")
                except BaseException:
                    self._undo(step)
                    raise
                return result

            try:
                # Readers wait for nobody, but for whoever is just repairing the log of a process that was killed.
                result = self._patiently(look)
            except sqlite3.Error as error:
                raise self._explained(error) from error
            self._check_place(step)
            return result

    def version(self) -> int:
        """Return a number that is another one after any other connection has committed; -1: look yourself."""
        with self.lock:
            step = self._step or self._open()
            try:
                number: int = step.execute("PRAGMA data_version").fetchone()[0]
            except sqlite3.Error as error:
                if _is_busy(error):  # somebody just repairs the log of a process that was killed
                    return -1
                raise self._explained(error) from error
            return number

    def is_in_place(self) -> bool:
        """Say whether others see the same file under this name; if not, it is closed."""
        with self.lock:
            step = self._step
            if step is None:
                return False
            try:
                found = os.stat(self.path)
                if (found.st_dev, found.st_ino) == step.place:
                    return True
            except FileNotFoundError:
                pass
            self._close()
            return False

    def journal_mode(self) -> str:
        """Return how the file is written; it has to be "wal"."""
        with self.lock:
            step = self._step or self._open()
            return str(step.execute("PRAGMA journal_mode").fetchone()[0])

    def close(self) -> None:
        """Close the file; the next call opens it again."""
        with self.lock:
            self._close()

    def _ready(self) -> Step:
        step = self._step
        if step is not None and step.connection.in_transaction:
            # An exception from outside (a signal's, a timeout's) hit a thread between two of our lines: its step is undone, or what
            # comes now would be part of it and end with it.
            self._undo(step)
            step = self._step
        return step or self._open()

    # -- opening -------------------------------------------------------------------------------------------

    def _open(self) -> Step:
        if sqlite3.sqlite_version_info < OLDEST_SQLITE:
            raise StoreRefusedError(
                f"the job store needs SQLite 3.24 or newer; this Python has {sqlite3.sqlite_version}"
            )
        folder = os.path.dirname(self.path)
        if not os.path.isdir(folder):
            raise StoreRefusedError(
                f"{self.path}: there is no directory {folder}\n  Create it, or correct the URL of the job store."
            )
        if os.path.isdir(self.path):
            raise StoreRefusedError(
                f"{self.path}: this is a directory\n  Name a file in it: sqlite://{self.path}/jobs.db"
            )
        connection = None
        try:
            connection = sqlite3.connect(
                self.path, timeout=0, isolation_level=None, check_same_thread=False, cached_statements=200
            )  # fmt: skip
            schema.prepare(connection, self.path, self._patiently)
            # After the schema: the first of them is what makes the file.
            connection.execute(f"PRAGMA synchronous={'FULL' if self.is_power_safe else 'NORMAL'}")
            connection.execute(f"PRAGMA wal_autocheckpoint={CHECKPOINT_PAGES}")
            connection.execute("PRAGMA journal_size_limit=67108864")
            found = os.stat(self.path)
        except sqlite3.Error as error:
            if connection is not None:
                connection.close()
            raise self._explained(error) from error
        except FileNotFoundError:
            if connection is not None:
                connection.close()
            raise StoreDownError(f"{self.path}: was deleted while it was being opened") from None
        except BaseException:
            if connection is not None:
                connection.close()
            raise
        self._step = Step(connection, (found.st_dev, found.st_ino))
        return self._step

    def _patiently(self, work: "Callable[[], Result]") -> "Result":
        """Do ``work`` again and again while the file is busy."""
        until = time.monotonic() + PATIENCE_S
        pause_s = 0.0002
        while True:
            try:
                return work()
            except sqlite3.Error as error:
                if not _is_busy(error) or time.monotonic() > until:
                    raise
            pause_s = _rest(pause_s)

    def _begin_again(self, step: Step, error: sqlite3.Error) -> None:
        """The write lock was not to be had at once (or worse): try until it is."""
        try:
            if not _is_busy(error):
                raise error
            self._patiently(lambda: step.execute("BEGIN IMMEDIATE"))
            step.now_s = time.time()
        except sqlite3.Error as last:
            self._undo(step)
            raise self._explained(last) from last

    def _work_again(
        self,
        step: Step,
        error: sqlite3.Error,
        work: "Callable[[Step, Unpack[Given]], Result]",
        *arguments: "Unpack[Given]",
    ) -> "Result":
        try:
            if not _is_busy(error):
                raise error
            return self._patiently(lambda: work(step, *arguments))
        except sqlite3.Error as last:
            self._undo(step)
            raise self._explained(last) from last

    def _undo(self, step: Step) -> None:
        step.forget()
        try:
            if step.connection.in_transaction:
                step.execute("ROLLBACK")
        except sqlite3.Error:
            # What cannot be rolled back is undone by closing: nothing of it was committed.
            self._close()

    def _close(self) -> None:
        if self._step is not None:
            step, self._step = self._step, None
            step.connection.close()

    def _check_place(self, step: Step) -> None:
        """Make sure that what was written is in the file that others see under this name.

        Afterwards, not before: a file that was deleted in between has taken the jobs with it, and that must not look like success.
        Each 2 ms at most, for a look costs a tenth of a push: whether a job came just after the deletion or just before it, it is gone.
        """
        now_ns = time.monotonic_ns()
        if now_ns < step.checked_ns + CHECK_EACH_NS:
            return
        step.checked_ns = now_ns
        try:
            found = os.stat(self.path)
            if (found.st_dev, found.st_ino) == step.place:
                return
        except FileNotFoundError:
            pass
        self._close()
        raise StoreDownError(
            f"{self.path}: the file was deleted or replaced while it was in use; what was just written may be gone with it"
        )

    # -- words ---------------------------------------------------------------------------------------------

    def _explained(self, error: sqlite3.Error) -> Exception:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        path = self.path
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            return StoreDownError(
                f"{path}: another process has been writing for more than {PATIENCE_S:g} s"
                f"\n  Who: fuser -v {path}"
            )  # fmt: skip
        if code == sqlite3.SQLITE_FULL:
            return DiskFullError(
                f"{path}: the disk is full; nothing was stored\n  Make room, and it goes on by itself."
            )
        if code == sqlite3.SQLITE_READONLY:
            return StoreRefusedError(
                f"{path}: cannot be written\n  Its user needs to write the file and its directory (ls -ld {path} {os.path.dirname(path)})."
            )
        if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            self._close()
            what = "is damaged" if code == sqlite3.SQLITE_CORRUPT else "is no SQLite file"
            return StoreRefusedError(
                f"{path}: {what} ({error})\n  Move it away with its -wal and -shm files; save what can be saved with: sqlite3 {path} .recover"
            )
        if code in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH):
            return StoreRefusedError(
                f"{path}: cannot be opened ({error})\n  Its user needs to read and write the file and its directory {os.path.dirname(path)}."
            )
        if code == sqlite3.SQLITE_IOERR:
            self._close()
            return StoreDownError(f"{path}: the disk reports an error ({error})")
        if code == sqlite3.SQLITE_NOMEM:
            return StoreDownError(f"{path}: out of memory")
        return StoreRefusedError(f"{path}: {error}")


class DiskFullError(StoreDownError, StoreRefusedError):
    """No room. For a worker it is worth waiting for, so it is a `StoreDownError`; for a program that enqueues it is a refusal: nothing was stored."""


def _is_busy(error: sqlite3.Error) -> bool:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in (5, 6)  # SQLITE_BUSY, SQLITE_LOCKED


def _rest(pause_s: float) -> float:
    """Sleep around ``pause_s``, and return how long to sleep the next time."""
    # Random, or two processes that met once meet again and again; from the clock, because `random` costs a worker 1 MB.
    chance = (time.monotonic_ns() * 2654435761 >> 7 & 1023) / 1023
    time.sleep(pause_s * (0.5 + chance))
    return min(pause_s * 1.5, 0.002)


# -- forks ------------------------------------------------------------------------------------------------------
# SQLite's own mutexes must not be held by a thread that the child does not have, so a fork waits until nobody is inside.

_forking: "list[File]" = []


def _before_fork() -> None:
    for file in list(_files):
        file.lock.acquire()
        _forking.append(file)


def _after_fork_in_parent() -> None:
    while _forking:
        _forking.pop().lock.release()


def _after_fork_in_child() -> None:
    for file in _forking:
        _left.append(file._step)  # noqa: SLF001
        file._step = None  # noqa: SLF001
        file.lock = threading.Lock()
    _forking.clear()


os.register_at_fork(
    before=_before_fork,
    after_in_parent=_after_fork_in_parent,
    after_in_child=_after_fork_in_child,
)

__all__ = ["DiskFullError", "FencedError", "File", "Step"]
