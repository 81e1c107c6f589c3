"""What the kernel says about a process, read cheaply.

A kept descriptor of ``/proc/PID/stat`` costs 3 µs a reading, opening it anew 24 µs. A descriptor kept
over the death of the process fails with ESRCH for ever: it can never show another process of the same pid.
"""

from holdfast.linux import system as os

_TICK_NS = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")
PROCESSORS = os.cpu_count() or 1


class Reading:
    """One look at a process."""

    __slots__ = (
        "cpu_ns", "exit_status", "major_faults", "ppid", "rss_bytes", "session", "start_ticks", "state", "threads",
    )  # fmt: skip

    def __init__(self, text: bytes) -> None:
        # The name in parentheses may itself hold spaces and parentheses.
        fields = text[text.rindex(b")") + 2 :].split()
        self.state = fields[0].decode()
        self.ppid = int(fields[1])
        self.session = int(fields[3])
        self.major_faults = int(fields[9])
        self.cpu_ns = (int(fields[11]) + int(fields[12])) * _TICK_NS
        self.threads = int(fields[17])
        self.start_ticks = int(fields[19])
        self.rss_bytes = int(fields[21]) * _PAGE
        #: Of a zombie: its wait status, there for whoever may trace it, long before anybody reaps it.
        self.exit_status = int(fields[49]) if self.state == "Z" and len(fields) > 49 else None


def recalled(state: str, rss_bytes: int, cpu_ns: int, threads: int, major_faults: int) -> Reading:
    """Return a reading made of what was put on record of an earlier one."""
    found = Reading.__new__(Reading)
    found.state, found.rss_bytes, found.cpu_ns = state, rss_bytes, cpu_ns
    found.threads, found.major_faults = threads, major_faults
    found.ppid = found.session = found.start_ticks = 0
    found.exit_status = None
    return found


class Proc:
    """A process whose ``stat`` is kept open."""

    __slots__ = ("_sched", "_stat", "pid", "seen")

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.seen = (
            0  #: what was said at the last :meth:`is_still`, as a hash; 0: it was never asked
        )
        self._stat = _open(f"/proc/{pid}/stat")
        self._sched = -1

    def read(self) -> "Reading | None":
        """Return a reading, or None when the process is gone."""
        if self._stat < 0:
            return None
        try:
            return Reading(os.pread(self._stat, 1024, 0))
        except (OSError, ValueError):
            return None

    def is_still(self) -> bool:
        """Whether the kernel says of it what it said when this was asked before: not one tick of processor time, not one page more.

        A third of the price of a reading; not for one that is gone.
        """
        if self._stat < 0:
            return False
        try:
            # Thirty bits, an int of the smallest size: one change in a thousand million is seen a look later.
            seen = hash(os.pread(self._stat, 1024, 0)) & 0x3FFFFFFF
        except OSError:
            return False
        before, self.seen = self.seen, seen
        return seen == before

    def wait_ns(self) -> int:
        """Return how long the main thread has waited on a run queue so far; 0 when not known."""
        if self._sched < 0:
            self._sched = _open(f"/proc/{self.pid}/schedstat")
            if self._sched < 0:
                return 0
        try:
            return int(os.pread(self._sched, 128, 0).split()[1])
        except (OSError, ValueError, IndexError):
            return 0

    def close(self) -> None:
        """Give the descriptors back."""
        for descriptor in (self._stat, self._sched):
            if descriptor >= 0:
                os.close(descriptor)
        self._stat = self._sched = -1


def _open(path: str) -> int:
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return -1


class Text:
    """A file of ``/proc`` that is read again and again: kept open, a reading costs an eighth."""

    __slots__ = ("_descriptor", "_limit")

    def __init__(self, path: str, limit: int) -> None:
        self._descriptor = _open(path)
        self._limit = limit

    def read(self) -> bytes:
        """Return its first bytes as they are now; nothing when it cannot be read."""
        try:
            return os.pread(self._descriptor, self._limit, 0)
        except OSError:
            return b""


def _slurp(path: str, limit: int = 1 << 20) -> bytes:
    descriptor = _open(path)
    if descriptor < 0:
        return b""
    try:
        parts = []
        while limit > 0 and (part := os.read(descriptor, min(limit, 65536))):
            parts.append(part)
            limit -= len(part)
        return b"".join(parts)
    except OSError:
        return b""
    finally:
        os.close(descriptor)


def reading(pid: int) -> "Reading | None":
    """Return one look at a process, or None when there is none of that pid."""
    descriptor = _open(f"/proc/{pid}/stat")
    if descriptor < 0:
        return None
    try:
        # One read: the kernel makes the whole text anew for each, even for the one that finds the end.
        return Reading(os.read(descriptor, 1024))
    except (OSError, ValueError, IndexError):
        return None
    finally:
        os.close(descriptor)


def start_ticks(pid: int) -> int:
    """Return when a process started, in clock ticks since boot; 0 when it is gone or a zombie.

    Together with the pid this names a process for the whole boot.
    """
    found = reading(pid)
    return found.start_ticks if found and found.state not in "ZX" else 0


def environ(pid: int) -> "dict[str, str]":
    """Return the environment a process was started with; empty when it cannot be read."""
    pairs = {}
    for item in _slurp(f"/proc/{pid}/environ").split(b"\0"):
        name, sign, value = item.partition(b"=")
        if sign:
            pairs[name.decode("utf-8", "surrogateescape")] = value.decode(
                "utf-8", "surrogateescape"
            )
    return pairs


def command_line(pid: int) -> "list[str]":
    """Return the arguments of a process; empty for a zombie or a kernel thread."""
    return [a.decode("utf-8", "replace") for a in _slurp(f"/proc/{pid}/cmdline").split(b"\0")[:-1]]


def pids() -> "list[int]":
    """Return all process ids that are visible here."""
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def children_of(parent: int) -> "list[int]":
    """Return the direct children of a process (one walk over /proc: about 20 µs a process)."""
    return [pid for pid in pids() if (found := reading(pid)) and found.ppid == parent]


def marked(name: str, value: str) -> "list[tuple[int, dict[str, str]]]":
    """Return the other processes whose environment has this mark, each with its environment."""
    found = ((pid, environ(pid)) for pid in pids() if pid != os.getpid())
    return [(pid, env) for pid, env in found if env.get(name) == value]


def boot_id() -> str:
    """Return what names this boot of the machine."""
    return _slurp("/proc/sys/kernel/random/boot_id").decode().strip()


def name_self(name: str) -> None:
    """Set the name that ``ps -e`` and ``top`` show for this process (15 bytes)."""
    descriptor = os.open("/proc/self/comm", os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, name.encode()[:15])
    finally:
        os.close(descriptor)
