"""The queue in one SQLite file, for all processes of one machine.

Each method of :class:`holdfast.jobs.store.Store` is one transaction. A push that returned survives `kill -9` of every process at any
instant (WAL, synchronous=NORMAL: what is committed lies in the kernel's page cache); with ``?durable=power`` in the URL also a
power cut (FULL: an fsync a commit, shared by all threads that push at the same time). After a power cut without it the last moments
may be missing from the file, as a whole and in order: it is never damaged.
"""

# ruff: noqa: S608 - the names of tables and columns are our own words, values are bound

import os
import select
import threading
import time
from collections import deque

from holdfast.jobs.sqlite import ending, owners, people, queues, taking, timing
from holdfast.jobs.sqlite.bell import ECHO_S, Bell, hang
from holdfast.jobs.sqlite.file import DiskFullError, File
from holdfast.jobs.sqlite.head import MARK, Head, checked
from holdfast.jobs.sqlite.limits import next_due_s, sweep
from holdfast.model.jobs import StoreDownError, StoreRefusedError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from holdfast.jobs.sqlite.file import Step
    from holdfast.model.jobs import Beat, Counts, Entry, Lease, Settle

#: Between two looks at the file's version where there is reason to look.
LOOK_S = 0.005
#: Between two where there is none: whether the file is still there.
LONG_REST_S = 0.5
TIDY_EACH_S, SWEEP_EACH_S = 60.0, 3.0
WIPE_ROUND = 5000
#: So many pushes of threads become one transaction, at most.
GROUP_MAX = 100
#: File systems on which a WAL file of several machines is damaged sooner or later.
SHARED = ("nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "glusterfs", "fuse.sshfs", "fuse.glusterfs", "gfs2", "lustre", "ocfs2", "virtiofs")  # fmt: skip


class SqliteStore:
    """A file that keeps the queue. May be used from any thread, and from a child after a fork."""

    def __init__(self, path: str, *, is_power_safe: bool = False) -> None:
        self.path = os.path.abspath(path)
        self.url = f"sqlite://{self.path}" + ("?durable=power" if is_power_safe else "")
        self._file = File(self.path, is_power_safe=is_power_safe)
        # What only looks has a connection of its own, or a page of a million jobs would hold up the workers' claims; and so has
        # who waits: a connection does not notice its own commits.
        self._view = File(self.path)
        self._bell = File(self.path)
        self._bells: list[Bell] = []
        self._pushes = _GroupedPushes(self._file) if is_power_safe else None
        self._tidied_s = self._swept_s = time.monotonic()
        self._sweep_after = self._tidy_after = 0

    # -- producers -------------------------------------------------------------------------------------------

    def push(self, jobs: "Sequence[bytes]", at_s: "Sequence[float] | None" = None) -> "list[str]":
        """See the contract, as of every method here."""
        heads = [checked(raw) for raw in jobs]
        try:
            if self._pushes is not None:
                return self._pushes.push(jobs, heads, at_s)
            if (
                len(jobs) == 1
                and at_s is None
                and MARK not in jobs[0]
                and self._file.write_one(
                    queues.append_one,
                    heads[0].queue,
                    queues.stamped(jobs[0], heads[0], time.time()),
                )
            ):
                return [""]
            return self._file.write(queues.push_checked, jobs, heads, at_s)
        except DiskFullError as error:
            raise StoreRefusedError(str(error)) from error

    def open_batch(self, batch: str, callback: bytes) -> None:
        """See the contract."""
        if callback:
            checked(callback)
        self._file.write(_open_batch, batch, callback)

    def close_batch(self, batch: str) -> None:
        """See the contract."""
        self._file.write(_close_batch, batch)

    def batch(self, batch: str) -> "dict[str, int] | None":
        """See the contract."""
        return self._view.read(_batch, batch)

    # -- owners ----------------------------------------------------------------------------------------------

    def register(self, owner: str, lease_s: float) -> None:
        """See the contract."""
        self._file.write(owners.register, owner, lease_s)

    def claim(
        self,
        owner: str,
        queues: "Sequence[str]",
        limit: int,
        first_token: int,
        done: "Sequence[int]" = (),
        settled: "Sequence[Settle]" = (),
    ) -> "tuple[list[Lease], list[int]]":
        """See the contract."""
        return self._file.write(taking.claim, owner, queues, limit, first_token, done, settled)

    def wait(self, queues: "Sequence[str]", timeout_s: float, wakeup: int = -1) -> None:
        """See the contract. Woken by the kernel where it can be; otherwise it looks at the file's version each 5 ms."""
        bell = self._borrow_bell()
        try:
            _Wait(self._bell, bell, queues, timeout_s, wakeup).carry_out()
        finally:
            if bell is not None:
                self._bells.append(bell)

    def _borrow_bell(self) -> "Bell | None":
        """Return a bell of this thread's own, or None. Hanging one takes time and taking it down more, so they are kept."""
        while self._bells:
            bell = self._bells.pop()
            if bell.is_good():
                return bell
            bell.close()
        self._bell.version()  # opens the file, and with it its log
        return hang(f"{self.path}-wal")

    # -- the steward -----------------------------------------------------------------------------------------

    def renew(
        self, beats: "Sequence[Beat]", lease_s: float
    ) -> "tuple[list[str], dict[str, list[str]]]":
        """See the contract."""
        return self._file.write(owners.renew, beats, lease_s)

    def held(self, owner: str) -> "list[Lease]":
        """See the contract."""
        return self._view.read(owners.held, owner)

    def readopt(self, owner: str, leases: "Sequence[Lease]") -> "list[int]":
        """See the contract."""
        return self._file.write(owners.readopt, owner, leases)

    def recover(self, owner: str, settled: "Sequence[Settle]") -> int:
        """See the contract."""
        return self._file.write(owners.recover, owner, settled)

    def expired(self) -> "list[str]":
        """See the contract. An owner whose process is there is never expired."""
        return self._view.read(owners.expired)

    def move_due(self, limit: int) -> "tuple[int, float]":
        """See the contract. Also throws away, once a minute, what is too old to matter."""
        now_s = time.monotonic()
        if now_s - self._swept_s > SWEEP_EACH_S:
            self._swept_s = now_s
            if self._view.read(_somebody_waits):
                self._sweep_after = self._file.write(sweep, self._sweep_after)
        if now_s - self._tidied_s > TIDY_EACH_S:
            self._tidied_s = now_s
            self._tidy_after = self._file.write(timing.tidy, self._tidy_after)
        # Looking does not need the write lock, and mostly nothing is due.
        wait_s = self._view.read(_due_in_s)
        if wait_s > 0:
            return 0, wait_s
        return self._file.write(timing.move_due, limit)

    def fire(self, name: str, slot_s: float, job: bytes) -> bool:
        """See the contract."""
        checked(job)
        return self._file.write(timing.fire, name, slot_s, job)

    # -- jobs that run ---------------------------------------------------------------------------------------

    def note(self, jid: str, fields: "Mapping[str, str]", keep_s: float) -> None:
        """See the contract."""
        self._file.write(_note, jid, fields, keep_s)

    def notes(self, jid: str) -> "dict[str, str]":
        """See the contract."""
        return self._view.read(_notes, jid)

    def cancel(self, jid: str) -> None:
        """See the contract."""
        # First the mark, so that whoever is just taking the job sees it. The search does not need the write lock.
        self._file.write(_cancel, jid)
        found = self._view.read(people.find_resting, jid)
        if found is not None:
            self._file.write(people.remove, [found])

    def cancelled(self, jids: "Sequence[str]") -> "list[str]":
        """See the contract."""
        return self._view.read(_cancelled, jids)

    # -- people ----------------------------------------------------------------------------------------------

    def counts(self) -> "Counts":
        """See the contract."""
        return self._view.read(people.counts)

    def page(self, where: str, offset: int = 0, limit: int = 50) -> "list[Entry]":
        """See the contract."""
        return self._view.read(people.page, where, offset, limit)

    def find(self, jid: str) -> "Entry | None":
        """See the contract."""
        return self._view.read(people.find, jid)

    def remove(self, entries: "Iterable[Entry]") -> int:
        """See the contract."""
        return self._file.write(people.remove, list(entries))

    def move(
        self, entries: "Iterable[Entry]", to: str, raws: "Mapping[bytes, bytes] | None" = None
    ) -> int:
        """See the contract."""
        return self._file.write(people.move, list(entries), to, raws)

    def pause(self, queue: str, is_paused: bool = True) -> None:
        """See the contract."""
        self._file.write(people.pause, queue, is_paused)

    def owners(self) -> "list[dict[str, object]]":
        """See the contract."""
        return self._view.read(people.owners)

    def signal(self, owner: str, name: str) -> None:
        """See the contract."""
        self._file.write(people.signal, owner, name)

    def wipe(self, queue: str) -> int:
        """See the contract. In rounds, so that others get their turn."""
        # Not more than there are now: somebody may be pushing, and a batch whose last jobs these are pushes its callback.
        left = count = self._view.read(people.size, queue)
        while left > 0 and (found := self._file.write(people.wipe, queue, min(left, WIPE_ROUND))):
            left -= found
        return count - left

    def check(self) -> "list[str]":
        """See the contract."""
        wrong = []
        mode = self._file.journal_mode()
        if mode != "wal":
            wrong.append(
                f'{self.path}: its journal mode is "{mode}", not "wal": writers and readers block each other\n  Set it back: sqlite3 {self.path} "PRAGMA journal_mode=wal"'
            )
        kind = _file_system(self.path)
        if kind in SHARED:
            wrong.append(
                f"{self.path}: lies on {kind}; SQLite needs a disk of this machine\n  Move it to one, or use Redis for several machines."
            )
        elif kind in ("tmpfs", "ramfs"):
            wrong.append(
                f"{self.path}: lies in memory ({kind}): a reboot loses all jobs\n  Move it to a disk."
            )
        room = os.statvfs(os.path.dirname(self.path))
        if room.f_bavail * room.f_frsize < 64 << 20:
            wrong.append(
                f"{self.path}: only {room.f_bavail * room.f_frsize >> 20} MB are left on its disk; it needs some to take even the end of a job"
            )
        return wrong

    def close(self) -> None:
        """See the contract."""
        while self._bells:
            self._bells.pop().close()
        for file in (self._bell, self._view, self._file):
            file.close()


class _Wait:
    """One thread that waits for a job."""

    __slots__ = ("_bell", "_both", "_due_s", "_file", "_queues", "_seen", "_until_s", "_word")

    def __init__(
        self,
        file: File,
        bell: "Bell | None",
        queues: "Sequence[str]",
        timeout_s: float,
        wakeup: int,
    ) -> None:
        self._file, self._bell, self._queues = file, bell, queues
        self._until_s = time.monotonic() + timeout_s
        self._seen, self._due_s = -2, float("inf")
        self._word, self._both = select.poll(), select.poll()
        if wakeup >= 0:
            self._word.register(wakeup, select.POLLIN)
            self._both.register(wakeup, select.POLLIN)
        if bell is not None:
            self._both.register(bell.descriptor, select.POLLIN)

    def carry_out(self) -> None:
        bell = self._bell
        while True:
            if bell is not None and bell.rang():
                bell.echo_until_s = time.monotonic() + ECHO_S
            if self._has_job():
                return
            rest_s = LONG_REST_S
            if bell is None or time.monotonic() < bell.echo_until_s:
                # Whoever works on other queues rings, too, thousands of times a second: a pause in between.
                if self._rests(self._word, LOOK_S / 2):
                    return
                rest_s = LOOK_S / 2
            if self._rests(self._both, rest_s) or not self._file.is_in_place():
                return

    def _has_job(self) -> bool:
        version = self._file.version()
        if version != self._seen:
            self._seen = version
            has_job, self._due_s = self._file.read(_look, self._queues)
            return has_job
        return False

    def _rests(self, poll: "select.poll", rest_s: float) -> bool:
        """Sleep for so long at most; True: the waiting is over."""
        left_s = min(self._until_s - time.monotonic(), self._due_s - time.time())
        if left_s <= 0:
            return True
        found = poll.poll(max(1, min(rest_s, left_s) * 1000))
        return any(self._bell is None or descriptor != self._bell.descriptor for descriptor, _ in found)  # fmt: skip


class _GroupedPushes:
    """Pushes of several threads that wait for the same disk become one transaction, and cost one fsync."""

    def __init__(self, file: File) -> None:
        self._file = file
        self._leading = threading.Lock()
        # A deque: to append and to take are one step each, so a push is in here, or in the hands of who carries it out.
        self._waiting: deque[_Push] = deque()
        self._pid = os.getpid()

    def push(self, jobs: "Sequence[bytes]", heads: "Sequence[Head]", at_s: "Sequence[float] | None") -> "list[str]":  # fmt: skip
        if (
            self._pid != os.getpid()
        ):  # a fork copied what threads of the parent were about to push: theirs, not ours
            self._leading, self._waiting, self._pid = threading.Lock(), deque(), os.getpid()
        mine = _Push(jobs, heads, at_s)
        self._waiting.append(mine)
        with self._leading:
            while not mine.is_over:
                # Whoever comes first carries out what has gathered behind the one before.
                group: list[_Push] = []
                while self._waiting and len(group) < GROUP_MAX:
                    group.append(self._waiting.popleft())
                _carry_out(self._file, group)
        if mine.error is not None:
            raise mine.error
        return mine.taken


class _Push:
    __slots__ = ("at_s", "error", "heads", "is_over", "jobs", "taken")

    def __init__(self, jobs: "Sequence[bytes]", heads: "Sequence[Head]", at_s: "Sequence[float] | None") -> None:  # fmt: skip
        self.jobs, self.heads, self.at_s = jobs, heads, at_s
        self.is_over = False
        self.taken: list[str] = []
        self.error: Exception | None = None


def _carry_out(file: File, group: "list[_Push]") -> None:
    try:
        taken = file.write(_push_group, group)
    except Exception as error:  # noqa: BLE001 - it is raised by each of those who wait for it
        for one in group:
            one.error, one.is_over = error, True
        return
    except BaseException:
        for one in group:
            one.error = StoreDownError("the thread that wrote for several others was interrupted; nothing was stored")  # fmt: skip
            one.is_over = True
        raise
    for one, holders in zip(group, taken, strict=True):
        one.taken, one.is_over = holders, True


def _push_group(step: "Step", group: "list[_Push]") -> "list[list[str]]":
    return [queues.push_checked(step, one.jobs, one.heads, one.at_s) for one in group]


# -- the smaller steps --------------------------------------------------------------------------------------------


def _open_batch(step: "Step", batch: str, callback: bytes) -> None:
    step.execute("INSERT OR IGNORE INTO batch (name, callback, made_s) VALUES (?, ?, ?)", (batch, callback, step.now_s))  # fmt: skip


def _close_batch(step: "Step", batch: str) -> None:
    step.execute("UPDATE batch SET is_open = 0 WHERE name = ?", (batch,))
    ending.end_batch(step, batch)


def _batch(step: "Step", batch: str) -> "dict[str, int] | None":
    row = step.execute("SELECT total, done, failed, is_open, ended_s FROM batch WHERE name = ?", (batch,)).fetchone()  # fmt: skip
    if row is None or (row[4] is not None and row[4] < step.now_s - timing.BATCH_S):
        return None
    return dict(zip(("total", "done", "failed", "open"), row[:4], strict=True))


def _look(step: "Step", names: "Sequence[str]") -> "tuple[bool, float]":
    """Say whether one of the queues has a job, and when (unix) a limit opens."""
    paused = {no for (no,) in step.execute("SELECT no FROM queue WHERE is_paused = 1")}
    for name in names:
        no = queues.known(step, name)
        if no and no not in paused:
            found = step.execute("SELECT 1 FROM ready WHERE id >= ? AND id < ? LIMIT 1", queues.bounds(no)).fetchone()  # fmt: skip
            if found:
                return True, 0.0
    return False, next_due_s(step)


def _due_in_s(step: "Step") -> float:
    next_s = next_due_s(step)
    for table in ("schedule", "retry"):
        row = step.execute(f"SELECT min(at_s) FROM {table}").fetchone()
        if row[0] is not None:
            next_s = min(next_s, row[0])
    return next_s - step.now_s


def _somebody_waits(step: "Step") -> bool:
    return step.execute("SELECT 1 FROM waiting LIMIT 1").fetchone() is not None


def _note(step: "Step", jid: str, fields: "Mapping[str, str]", keep_s: float) -> None:
    until_s = step.now_s + keep_s
    for name, value in fields.items():
        ending.note(step, jid, name, value, until_s)


def _notes(step: "Step", jid: str) -> "dict[str, str]":
    return dict(step.execute("SELECT name, value FROM note WHERE jid = ? AND until_s > ?", (jid, step.now_s)).fetchall())  # fmt: skip


def _cancel(step: "Step", jid: str) -> None:
    step.execute("REPLACE INTO cancelled (jid, at_s) VALUES (?, ?)", (jid, step.now_s))


def _cancelled(step: "Step", jids: "Sequence[str]") -> "list[str]":
    execute, oldest_s = step.execute, step.now_s - timing.CANCELLED_S
    return [jid for jid in jids if execute("SELECT 1 FROM cancelled WHERE jid = ? AND at_s > ?", (jid, oldest_s)).fetchone()]  # fmt: skip


def _file_system(path: str) -> str:
    """Return the kind of the file system on which a file lies."""
    best, kind = "", ""
    path = os.path.realpath(path)
    try:
        with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
            for line in file:
                fields, _, rest = line.partition(" - ")
                mount = fields.split()[4]
                if len(mount) >= len(best) and (path + "/").startswith(mount.rstrip("/") + "/"):
                    best, kind = mount, rest.split()[0]
    except OSError:
        return ""
    return kind
