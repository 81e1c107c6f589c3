"""The logger: moves what the workers write from their pipes into their segments.

One thread, one epoll. A quiet stream sleeps in epoll. One that comes in a flood of small writes is taken out of it
and looked at once a millisecond: waking for every 100-byte line costs both sides more than the line (125
instead of 220 MB/s), because a pipe wakes its epoll at each single write. Idle, there is the beat once a second and
nothing else: three ``stat`` calls with it see what a lost datagram would have told.

Leaves out: what is on disk and in which order (:mod:`holdfast.logger.rotate`, `stream`), compression (a
process of its own, `compress`), reading back (:mod:`holdfast.records.logs`).
"""

import select
import sys
import time

from holdfast.linux import files, pidfd, talk
from holdfast.linux import system as os
from holdfast.linux.house import House, raise_open_files
from holdfast.linux.revive import AnchorWatch, reap_revived
from holdfast.logger import rotate
from holdfast.logger.stream import IDLE_CLOSE_S, PIPE_BYTES, Stream, drop_oldest
from holdfast.wire import journal, layout
from holdfast.wire import plan as plan_format

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from holdfast.model.plan import LogPolicy

#: Pause between two looks at a stream in full flood; at 500 MB/s half of the pipe fills in it.
ROUND_S = 0.001
#: So many bytes in one look: the next look comes at once.
FLOOD_BYTES = PIPE_BYTES // 4
#: So many wake-ups in a row, each less than two rounds after the one before, make a flood …
FLOOD_WAKES = 4
#: … and so many looks without a byte end it.
QUIET_ROUNDS = 8
#: Before a new life's number counts, what the old one left in the pipe is moved, in so many pieces at most.
_DRAIN_PIECES = 64
#: A directory that changed less than this ago may change again without a new time stamp.
_SETTLED_NS = 100_000_000
_STREAMS = ("out", "err")
_COMPRESS = f"{os.path.dirname(os.path.abspath(__file__))}/compress.py"
#: What a worker without a policy gets (it left the plan while the logger was dead, its pipe is still there).
_MAX_BYTES = 10 << 20


class Logger:
    """The state of the logger; all of it is found again after a kill."""

    def __init__(self, run_dir: str) -> None:
        self.run_dir = run_dir
        self.house = House(run_dir, "logger")
        self.socket = talk.listen_datagram(run_dir, "logger")
        self.epoll = select.epoll()
        self.epoll.register(self.socket.fileno(), select.EPOLLIN)
        self.streams: dict[int, Stream] = {}  # by the descriptor of the pipe
        self.by_name: dict[tuple[str, str], Stream] = {}
        self.leaving: dict[int, float] = {}  # pipe whose name is gone -> when that was seen
        self.flooded: dict[int, Stream] = {}
        self.stuck: dict[int, Stream] = {}  # cannot be written; not in epoll
        self.open: dict[int, Stream] = {}  # with open files
        self.unseen: list[Stream] = []  # not yet looked at on disk
        self.to_compress: dict[str, Stream] = {}  # path -> whose it is
        self.compressor = -1  # pidfd
        self.compressor_pid = 0
        self.policies: dict[str, LogPolicy] = {}
        self.state_dir = ""
        self.starts: dict[str, int] = {}
        self.plan_seen = self.pipes_seen = (0, 0)
        self.journal_seen = (0, 0)  # inode, size up to which it was read
        self.anchor = AnchorWatch(run_dir)
        self.pipe_trouble: int | None = None  # errno that was said
        self.next_round_s = 0.0
        self._look_at_plan()
        self._look_at_journal()
        self._look_at_pipes()

    # -- the loop ----------------------------------------------------------------------------------

    def run(self) -> None:
        """Run until killed."""
        tick_s = time.monotonic() + 1.0
        while True:
            now_s = time.monotonic()
            if now_s >= tick_s:
                self._tick(now_s)
                tick_s = now_s + self.house.beat()
            if self.anchor.descriptor < 0:
                self._tend_anchor(now_s)
            until_s = min(tick_s, now_s + self.anchor.wait_s())
            if self.flooded:
                until_s = min(until_s, self.next_round_s)
            timeout_s = 0.0 if self.unseen else max(0.0, until_s - time.monotonic())
            events = self.epoll.poll(timeout_s)
            numbers = [descriptor for descriptor, _ in events]
            if self.socket.fileno() in numbers:
                # First of all: a new life's number has to count before its first bytes are moved.
                self._take_messages()
            for descriptor in numbers:
                stream = self.streams.get(descriptor)
                if stream is not None:
                    self._wake(stream)
                elif descriptor == self.anchor.descriptor:
                    self._anchor_died()
                elif descriptor == self.compressor:
                    self._compressed()
            if self.flooded and time.monotonic() >= self.next_round_s:
                self._round()
            if self.unseen and not events:
                self._survey(self.unseen.pop())

    def _tick(self, now_s: float) -> None:
        """Once a second: what has to be seen even when nobody tells, and what has to be tried again."""
        reap_revived()
        self._look_at_plan()
        self._look_at_journal()
        self._look_at_pipes()
        for descriptor, stream in list(self.stuck.items()):
            self._try_again(descriptor, stream, now_s)
        unix_s = time.time()
        for descriptor, stream in list(self.open.items()):
            if stream.file < 0:
                del self.open[descriptor]
            elif stream.is_replaced() or (
                now_s - stream.moved_s > IDLE_CLOSE_S and descriptor not in self.flooded
            ):
                stream.close()
        for stream in list(self.streams.values()):
            if stream.born_s and not stream.trouble and stream.is_old(unix_s):
                self._close_old(stream, now_s)
        for descriptor, since_s in list(self.leaving.items()):
            stream = self.streams[descriptor]
            if now_s - max(since_s, stream.moved_s) > IDLE_CLOSE_S and descriptor not in self.stuck:
                self._forget(descriptor)

    # -- moving ------------------------------------------------------------------------------------

    def _wake(self, stream: Stream) -> None:
        """Move what is there; a stream that wakes us all the time is taken out of epoll."""
        if stream.fifo in self.flooded or stream.fifo in self.stuck:
            return  # of this very turn
        before_s, moved = stream.moved_s, self._move(stream)
        now_s = stream.moved_s = time.monotonic()
        if moved >= FLOOD_BYTES or now_s - before_s < 2 * ROUND_S:
            stream.rounds += 1
        else:
            stream.rounds = 0
        if moved and (moved >= FLOOD_BYTES or stream.rounds >= FLOOD_WAKES):
            stream.rounds = 0
            self.epoll.unregister(stream.fifo)
            if not self.flooded:
                self.next_round_s = now_s + ROUND_S
            self.flooded[stream.fifo] = stream

    def _round(self) -> None:
        """Look at every stream in flood."""
        most = 0
        for descriptor, stream in list(self.flooded.items()):
            moved = self._move(stream)
            most = max(most, moved)
            if moved:
                stream.rounds = 0
                continue
            stream.rounds += 1
            if stream.rounds >= QUIET_ROUNDS and descriptor in self.flooded:
                del self.flooded[descriptor]
                stream.rounds = 0
                stream.moved_s = time.monotonic()
                self.epoll.register(descriptor, select.EPOLLIN)
        self.next_round_s = time.monotonic() + (0.0 if most >= FLOOD_BYTES else ROUND_S)

    def _move(self, stream: Stream) -> int:
        try:
            moved = stream.move()
        except OSError as error:
            self._fail(stream, error, time.monotonic())
            return 0
        if stream.file >= 0:
            self.open[stream.fifo] = stream
        if stream.plain:
            self._want_compressed(stream)
        return moved

    # -- trouble -----------------------------------------------------------------------------------

    def _fail(self, stream: Stream, error: OSError, now_s: float) -> None:
        """Leave the bytes in the pipe and try again at each tick."""
        if stream.fail(error, now_s):
            self.house.say(
                f"cannot write the log of {stream.worker} ({stream.name}) in {stream.directory}: "
                f"{error.strerror or error}; its output waits in the pipe"
            )
        if stream.fifo in self.stuck:
            return
        if self.flooded.pop(stream.fifo, None) is None:
            self.epoll.unregister(stream.fifo)
        self.stuck[stream.fifo] = stream
        stream.rounds = 0

    def _try_again(self, descriptor: int, stream: Stream, now_s: float) -> None:
        if stream.is_out_of_patience(now_s):
            try:
                dropped = drop_oldest(self._siblings(stream), now_s)
            except OSError:
                dropped = ""  # the move below fails again and says why
            if dropped:
                self.house.say(f"the disk is full: removed {dropped} to make room for newer output")
        try:
            stream.move()
        except OSError as error:
            self._fail(stream, error, now_s)
            return
        was_said = stream.recovered()
        del self.stuck[descriptor]
        self.open[descriptor] = stream
        self.epoll.register(descriptor, select.EPOLLIN)
        if was_said:
            self.house.say(f"the log of {stream.worker} ({stream.name}) is written again")

    def _siblings(self, stream: Stream) -> "list[Stream]":
        both = [self.by_name.get((stream.worker, name)) for name in _STREAMS]
        return [s for s in both if s is not None and s.directory == stream.directory]

    # -- segments ----------------------------------------------------------------------------------

    def _survey(self, stream: Stream) -> None:
        if stream.is_known or stream.fifo not in self.streams:
            return
        try:
            stream.survey()
        except OSError:
            return  # tried again, and said, when there is something to write
        self._want_compressed(stream)

    def _close_old(self, stream: Stream, now_s: float) -> None:
        if stream.fifo in self.stuck:
            return
        try:
            stream.close_old()
        except OSError as error:
            self._fail(stream, error, now_s)
            return
        if stream.file >= 0:
            self.open[stream.fifo] = stream
        self._want_compressed(stream)

    def _want_compressed(self, stream: Stream) -> None:
        if not stream.policy["compress"]:
            return
        for unix_ms in stream.plain:
            self.to_compress[rotate.closed(stream.directory, stream.name, unix_ms)] = stream
        stream.plain.clear()
        self._compress_next()

    def _compress_next(self) -> None:
        """Start a compressor, if none runs and there is something to do."""
        while self.compressor < 0 and self.to_compress:
            path = next(iter(self.to_compress))
            del self.to_compress[path]
            if not os.path.exists(path):
                continue  # dropped meanwhile
            try:
                pid = os.posix_spawn(
                    sys.executable, [sys.executable, "-I", "-S", _COMPRESS, path], {}
                )
            except OSError as error:
                self.house.say(f"cannot start a process to compress {path}: {error.strerror}")
                return  # it stays as it is: the next start of the logger looks again
            self.compressor_pid = pid
            self.compressor = os.pidfd_open(pid)
            self.epoll.register(self.compressor, select.EPOLLIN)

    def _compressed(self) -> None:
        self.epoll.unregister(self.compressor)
        pidfd.close(self.compressor)
        self.compressor = -1
        try:
            os.waitpid(self.compressor_pid, 0)
        except ChildProcessError:
            pass  # whether it has worked is seen on disk
        self._compress_next()

    # -- what there is -----------------------------------------------------------------------------

    def _take_messages(self) -> None:
        while (received := talk.receive(self.socket)) is not None:
            what, descriptors = received
            for descriptor in descriptors:
                os.close(descriptor)
            action = what.get("do")
            if action == "fifos":
                self.pipes_seen = (0, 0)
                self._look_at_pipes()
            elif action == "plan":
                self.plan_seen = (0, 0)
                self._look_at_plan()
            elif action == "start":
                self._new_life(what.get("worker"), what.get("n"))

    def _new_life(self, worker: object, start: object) -> None:
        """What is in the pipes now is the old life's; what comes next is the new one's."""
        if type(worker) is not str or type(start) is not int:
            return
        self.starts[worker] = start
        for name in _STREAMS:
            stream = self.by_name.get((worker, name))
            if stream is None or stream.start == start:
                continue
            for _ in range(_DRAIN_PIECES if stream.start else 0):
                if stream.fifo in self.stuck or not self._move(stream):
                    break
            stream.new_life(start)

    def _look_at_plan(self) -> None:
        path = f"{self.run_dir}/{layout.PLAN}"
        seen = _identity(path)
        if seen == self.plan_seen or seen == (0, 0):
            return
        self.plan_seen = seen
        try:
            # Only what is ours: the rest of the plan may be of whatever shape the others like.
            plan, workers = plan_format.split(files.read(path))
            # Each line's keys are strings of its own; a thousand workers need them once.
            keys: dict[str, str] = {}
            policies = {
                w["name"]: {keys.setdefault(k, k): v for k, v in w["log"].items()}
                for w in workers
                if w["log"] is not None
            }
            policies[layout.HOUSE_LOG] = plan["house_log"]
            self.state_dir = plan["state_dir"]
        except (OSError, KeyError, TypeError, ValueError) as error:
            self.house.say(f"the plan cannot be read, logs are kept as before: {error!r}")
            return
        self.policies.update(policies)
        for stream in self.streams.values():
            policy = self.policies.get(stream.worker)
            if policy is not None and policy != stream.policy:
                try:
                    stream.adopt(policy)
                except OSError as error:
                    self._fail(stream, error, time.monotonic())
                if not stream.is_known:
                    self.unseen.append(stream)
        self.pipes_seen = (0, 0)  # a pipe that had no policy may have one now
        self._look_at_pipes()

    def _look_at_pipes(self) -> None:
        """Find pipes that are new, and those whose name is gone."""
        directory = f"{self.run_dir}/{layout.FIFOS}"
        seen = _identity(directory)
        if seen == self.pipes_seen or not self.policies:
            return
        # A pipe made within the same tick of the kernel's clock does not change the time again: look once more.
        is_settled = time.time_ns() - seen[1] > _SETTLED_NS
        self.pipes_seen = seen if is_settled else (0, 0)
        try:
            names = os.listdir(directory)
        except OSError:
            names = []
        found = set()
        for file_name in names:
            worker, _, name = file_name.rpartition(".")
            if worker and name in _STREAMS:
                found.add((worker, name))
                self._meet(f"{directory}/{file_name}", worker, name)
        for key in self.by_name.keys() - found:
            self._leave(key)

    def _meet(self, path: str, worker: str, name: str) -> None:
        known = self.by_name.get((worker, name))
        try:
            inode = os.stat(path).st_ino
            if known is not None:
                if known.fifo_inode == inode:
                    return
                self._leave((worker, name))
            fifo = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError as error:
            if not isinstance(error, FileNotFoundError):
                self.pipes_seen = (0, 0)  # out of descriptors, say: look again at the next tick
                if self.pipe_trouble != error.errno:
                    self.house.say(f"cannot open {path}: {error.strerror}; tried again each second")
                self.pipe_trouble = error.errno
            return
        stream = Stream(worker, name, fifo, inode, self._policy(worker))
        stream.start = self.starts.get(worker, 0)
        self.streams[fifo] = stream
        self.by_name[worker, name] = stream
        self.unseen.append(stream)
        self.epoll.register(fifo, select.EPOLLIN)

    def _policy(self, worker: str) -> "LogPolicy":
        policy = self.policies.get(worker)
        if policy is None:
            directory = f"{self.state_dir}/{layout.LOGS}/{worker}"
            policy = {
                "max_bytes": _MAX_BYTES,
                "max_age_s": 0.0,
                "keep": 5,
                "compress": False,
                "directory": directory,
            }
        return policy

    def _leave(self, key: "tuple[str, str]") -> None:
        """The name is gone. A grandchild may still write: we go on until the pipe has been quiet for a while."""
        stream = self.by_name.pop(key)
        self.leaving[stream.fifo] = time.monotonic()

    def _forget(self, descriptor: int) -> None:
        stream = self.streams.pop(descriptor)
        del self.leaving[descriptor]
        self.open.pop(descriptor, None)
        if self.flooded.pop(descriptor, None) is None:
            self.epoll.unregister(descriptor)
        stream.close()
        os.close(descriptor)

    def _look_at_journal(self) -> None:
        """Learn the numbers of lives that nobody told us: we were dead, or the socket's queue was full."""
        path = f"{self.run_dir}/{layout.JOURNAL}"
        try:
            found = os.stat(path)
        except OSError:
            return
        inode, at = self.journal_seen
        if inode != found.st_ino or found.st_size < at:
            at = 0
        if (found.st_ino, found.st_size) == self.journal_seen:
            return
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                data = os.pread(descriptor, found.st_size - at, at)
            finally:
                os.close(descriptor)
        except OSError:
            return
        self.journal_seen = (found.st_ino, at + journal.whole(data))
        for worker, start in _starts(journal.each(data)).items():
            if start > self.starts.get(worker, 0):
                self._new_life(worker, start)

    # -- the anchor --------------------------------------------------------------------------------

    def _tend_anchor(self, now_s: float) -> None:
        try:
            is_new = self.anchor.tend(now_s)
        except OSError as error:
            self.house.say(f"cannot start the anchor: {error.strerror}")
            return
        if self.anchor.is_homeless:
            os.exit_now(0)
        if is_new:
            self.epoll.register(self.anchor.descriptor, select.EPOLLIN)

    def _anchor_died(self) -> None:
        self.epoll.unregister(self.anchor.descriptor)
        try:
            self.anchor.died(time.monotonic())
        except OSError as error:
            self.house.say(f"cannot start the anchor: {error.strerror}")


def _identity(path: str) -> "tuple[int, int]":
    try:
        found = os.stat(path)
    except OSError:
        return (0, 0)
    return (found.st_ino, found.st_mtime_ns)


def _starts(records: "Iterable[dict[str, Any]]") -> "dict[str, int]":
    """Return the number of the newest life of each worker that these journal records tell of."""
    found: dict[str, int] = {}
    for record in records:
        worker, start = record.get("worker"), record.get("n")
        # A spare writes into the same pipes, but its number counts only when it is promoted.
        serves = record.get("k") == "go" or record.get("role", "main") == "main"
        if serves and type(worker) is str and type(start) is int:
            found[worker] = max(start, found.get(worker, 0))
    return found


def main(argv: "list[str]") -> int:
    """Be the logger of the node in ``argv[1]``."""
    os.chdir("/")
    os.umask(0o027)
    raise_open_files()
    Logger(argv[1]).run()
    return 0
