"""One output stream of one worker: from its pipe into its segments.

Bytes go by ``splice``: at every instant each of them is in the pipe or in the file, never in our memory, so a SIGKILL
loses and tears nothing. What is known of a stream here can be found again on disk (offset: the size of the
file; closed segments: their names), so a new logger goes on where the killed one stood.

When the bytes have nowhere to go (disk full, read-only, directory not writable) they stay in the pipe. The
worker notices when the pipe is full (up to 1 MiB): it waits in ``write`` until there is room. **No line is dropped
to keep the disk free, but old segments are**: after FULL_PATIENCE_S of a full disk the oldest closed segment of this
worker goes, and one more each second for as long as it stays full. With none left the worker waits, and
the house log and the watchdog's flag ``disk_low`` say why.
"""

import errno
import fcntl
import time

from holdfast.linux import system as os
from holdfast.logger import rotate
from holdfast.wire import logindex

TYPE_CHECKING = False
if TYPE_CHECKING:
    from holdfast.model.plan import LogPolicy

#: The most that one call moves. Also the size we want for a busy pipe; the kernel's limit for ordinary users.
PIPE_BYTES = 1 << 20
#: At most one index record in this time while bytes keep coming.
STAMP_NS = 5_000_000
#: The worker waits this long for room on a full disk before its oldest closed segment goes.
FULL_PATIENCE_S = 5.0
#: A full disk that is full again within this time gets no new patience.
FULL_AGAIN_S = 60.0
#: Files of a stream that was quiet for so long are closed: a thousand silent workers cost no descriptors.
IDLE_CLOSE_S = 10.0

#: The same trouble of the same stream is told once in this time.
SAY_AGAIN_S = 60.0

_NO_LIMIT = 1 << 62
_FULL = (errno.ENOSPC, errno.EDQUOT)


class Stream:
    """The state of one stream; everything but ``start`` and the patience is found again after a kill."""

    __slots__ = (
        "born_s",
        "bytes_moved",
        "closed",
        "directory",
        "fifo",
        "fifo_inode",
        "file",
        "full_s",
        "index",
        "index_size",
        "inode",
        "is_big",
        "is_known",
        "moved_s",
        "name",
        "offset",
        "plain",
        "policy",
        "rounds",
        "said",
        "said_s",
        "searched",
        "stamped_ns",
        "stamped_start",
        "start",
        "trouble",
        "trouble_s",
        "worker",
    )  # fmt: skip

    def __init__(
        self, worker: str, name: str, fifo: int, fifo_inode: int, policy: "LogPolicy"
    ) -> None:
        self.worker = worker
        self.name = name  #: out or err
        self.fifo = fifo
        self.fifo_inode = fifo_inode
        self.policy = policy
        self.directory = policy["directory"]
        self.start = 0  #: number of the life that writes; 0: not known
        self.file = -1
        self.index = -1
        self.inode = 0
        self.offset = 0
        self.index_size = 0
        self.searched = 0  #: no line end between here and the offset at which we looked last
        self.stamped_ns = 0
        self.stamped_start = 0
        self.born_s = 0.0  #: wall clock of the live segment's first byte; 0: empty
        self.closed: list[int] = []
        self.plain: list[int] = []  #: closed and not yet compressed
        self.is_known = False  #: what is on disk was looked at
        self.is_big = False  #: the pipe was made larger
        self.moved_s = 0.0  #: monotonic
        self.bytes_moved = 0
        self.rounds = 0  #: for the loop: turns in a row with, or without, something to move
        self.trouble = 0  #: errno of what keeps us from writing; 0: none
        self.trouble_s = 0.0  #: since when, monotonic
        self.said = 0  #: errno that was last told to people, and when
        self.said_s = 0.0
        self.full_s = -FULL_AGAIN_S  #: when a segment was last dropped for room

    # -- moving ------------------------------------------------------------------------------------

    def move(self) -> int:
        """Move what is in the pipe, one piece of it at most; return how many bytes, 0 when it is empty.

        Raises:
            OSError: It cannot be written; the bytes are still in the pipe.
        """
        if self.file < 0:
            self.open()
        limit = self.policy["max_bytes"] or _NO_LIMIT
        if self.offset >= limit:
            self._close_full()
        # Not beyond the limit: what does not fit goes into the next segment. In a line that is
        # longer than a segment, a little at a time, so that its end is found soon.
        room = limit - self.offset if self.offset < limit else 65536
        count = min(PIPE_BYTES, room)
        try:
            moved = os.splice(
                self.fifo, self.file, count, offset_dst=self.offset, flags=os.SPLICE_F_NONBLOCK
            )
        except BlockingIOError:
            return 0
        if not moved:
            return 0
        if not self.is_big and moved >= 32768:
            self._enlarge()
        at = self.offset
        self.offset += moved
        self.bytes_moved += moved
        now_ns = time.time_ns()
        if (
            now_ns - self.stamped_ns >= STAMP_NS
            or now_ns < self.stamped_ns
            or self.start != self.stamped_start
        ):
            self._stamp(at, now_ns)
        if self.offset >= limit:
            self._close_full()
        return moved

    def new_life(self, start: int) -> None:
        """From here on the bytes are those of another life of the worker."""
        self.start = start

    def _stamp(self, at: int, now_ns: int) -> None:
        """Write down when the bytes from ``at`` came."""
        self.moved_s = time.monotonic()
        if not self.born_s:
            self.born_s = now_ns / 1e9
        try:
            written = os.pwrite(
                self.index, logindex.encode(at, now_ns, self.start), self.index_size
            )
        except OSError:
            written = 0  # disk full: these bytes are dated like those before them
        if written == logindex.SIZE:
            self.index_size += logindex.SIZE
            self.stamped_ns, self.stamped_start = now_ns, self.start
        found = os.fstat(self.file)
        if not found.st_nlink:
            self.close()  # somebody removed it: the next bytes begin a new one
        elif found.st_size < self.offset:
            # Somebody emptied it. Writing on at our offset would leave a hole of zeros.
            os.ftruncate(self.index, 0)
            self.offset, self.index_size, self.searched, self.stamped_ns = found.st_size, 0, 0, 0

    def _enlarge(self) -> None:
        # Only pipes that are used: the kernel counts them against a limit for each user (pipe-user-pages-soft).
        self.is_big = True
        try:
            fcntl.fcntl(self.fifo, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        except OSError:
            pass  # over that limit: a small pipe only makes a busy worker wait more often

    # -- segments ----------------------------------------------------------------------------------

    def survey(self) -> None:
        """Look at what is on disk, and finish what a killed predecessor left half done.

        Raises:
            OSError: The directory cannot be read or written.
        """
        try:
            self.closed, self.plain = rotate.recover(self.directory, self.name)
        except FileNotFoundError:
            self.closed, self.plain = [], []
        self.born_s = 0.0
        path = rotate.live(self.directory, self.name)
        try:
            found = os.stat(path)
        except FileNotFoundError:
            pass
        else:
            if found.st_size:
                self.born_s = _first_stamp_s(logindex.beside(path)) or found.st_mtime
        self.is_known = True
        self._keep_only()

    def open(self) -> None:
        """Open the live segment and its index, at their ends.

        Raises:
            OSError: It cannot be made or written.
        """
        os.makedirs(self.directory, mode=0o755, exist_ok=True)
        self.survey()
        path = rotate.live(self.directory, self.name)
        # Not O_APPEND: splice refuses it. Nobody else writes here, so our offset is the end.
        self.file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, rotate.MODE)
        try:
            found = os.fstat(self.file)
            self.index = os.open(
                logindex.beside(path), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, rotate.MODE
            )
            size = os.fstat(self.index).st_size
            # A record that was cut short by a full disk would put all behind it out of step.
            self.index_size = size - size % logindex.SIZE
            if found.st_size == 0 and size:
                os.ftruncate(self.index, 0)  # it belongs to something that is gone
                self.index_size = 0
        except OSError:
            self.close()
            raise
        self.inode, self.offset = found.st_ino, found.st_size
        self.searched = 0
        self.stamped_ns = 0
        self.moved_s = time.monotonic()

    def close(self) -> None:
        """Close the files; what is in the pipe stays there, the next bytes open them again."""
        for descriptor in (self.file, self.index):
            if descriptor >= 0:
                os.close(descriptor)
        self.file = self.index = -1

    def is_replaced(self) -> bool:
        """Whether the open live segment is not the file of that name any more (moved or removed by somebody)."""
        try:
            return os.stat(rotate.live(self.directory, self.name)).st_ino != self.inode
        except OSError:
            return True

    def adopt(self, policy: "LogPolicy") -> None:
        """Go by another policy from now on."""
        if policy["directory"] != self.directory:
            self.close()
            self.directory = policy["directory"]
            self.is_known = False
        self.policy = policy
        if self.is_known:
            self._keep_only()

    def is_old(self, unix_s: float) -> bool:
        """Whether the live segment is to be closed for its age."""
        age_s = self.policy["max_age_s"]
        return bool(age_s and self.born_s and unix_s - self.born_s >= age_s)

    def close_old(self) -> None:
        """Close the live segment for its age, if there is a whole line in it.

        Raises:
            OSError: It cannot be done now.
        """
        if self.file < 0:
            self.open()
        at = rotate.find_cut(self.file, self.offset, 0)
        if at:
            self._close_at(at)

    def _close_full(self) -> None:
        at = rotate.find_cut(self.file, self.offset, self.searched)
        if not at:
            self.searched = self.offset
            if self.offset < (self.policy["max_bytes"] or _NO_LIMIT) * rotate.LONG_LINE:
                return
            at = self.offset
        self._close_at(at)

    def _close_at(self, at: int) -> None:
        unix_ms = max(time.time_ns() // 1_000_000, self.closed[-1] + 1 if self.closed else 1)
        size = self.offset
        # Closed first: whatever goes wrong from here on, recover() decides before anything is written again.
        self.close()
        rotate.close_segment(self.directory, self.name, size, at, unix_ms)
        self.open()

    def _keep_only(self) -> None:
        keep = max(0, self.policy["keep"])
        while len(self.closed) > keep:
            unix_ms = self.closed[0]
            rotate.drop(self.directory, self.name, unix_ms)
            self.closed.pop(0)
            if unix_ms in self.plain:
                self.plain.remove(unix_ms)

    # -- trouble -----------------------------------------------------------------------------------

    def fail(self, error: OSError, now_s: float) -> bool:
        """Note that we cannot write; True when people have to be told."""
        self.close()
        number = error.errno or errno.EIO
        if not self.trouble:
            self.trouble_s = now_s
        self.trouble = number
        if self.said == number and now_s - self.said_s < SAY_AGAIN_S:
            return False
        self.said, self.said_s = number, now_s
        return True

    def recovered(self) -> bool:
        """Note that we can write again; True when people were told that we could not."""
        was_told = self.said_s >= self.trouble_s
        self.trouble = 0
        return was_told

    def is_out_of_patience(self, now_s: float) -> bool:
        """Whether a closed segment of this worker has to go, to make room."""
        if self.trouble not in _FULL:
            return False
        return now_s - self.trouble_s >= FULL_PATIENCE_S or now_s - self.full_s < FULL_AGAIN_S


def drop_oldest(streams: "list[Stream]", now_s: float) -> str:
    """Remove the oldest closed segment among the streams of one worker; return its path, "" when there is none."""
    having = [s for s in streams if s.closed]
    if not having:
        return ""
    stream = min(having, key=lambda s: s.closed[0])
    unix_ms = stream.closed.pop(0)
    if unix_ms in stream.plain:
        stream.plain.remove(unix_ms)
    rotate.drop(stream.directory, stream.name, unix_ms)
    for each in streams:
        each.full_s = now_s
    return rotate.closed(stream.directory, stream.name, unix_ms)


def _first_stamp_s(path: str) -> float:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return 0.0
    try:
        records = logindex.decode(os.pread(descriptor, logindex.SIZE, 0))
    except OSError:
        return 0.0
    finally:
        os.close(descriptor)
    return records[0][1] / 1e9 if records else 0.0
