"""Start a process, as cheaply as what is asked of it allows.

``posix_spawn`` costs 0.7 ms whatever the size of the parent; it cannot set limits, another user or a cgroup. For
those there is ``fork``, affordable (2 to 3 ms) because the keeper is small and has one thread. What fails between
fork and exec is said on the worker's own stderr and ends the process with status 126 or 127, as a shell does.
"""

from holdfast.linux import signals as signal
from holdfast.linux import system as os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from holdfast.model.plan import Limits, User

#: Signals that CPython or the keeper ignores; a child must not inherit that (supervised programs that never
#: get SIGPIPE write into closed pipes for ever).
_DEFAULTS = (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
FIRST_LISTEN_FD = 3


class Request:
    """All that is needed to start one process."""

    __slots__ = (
        "argv", "cgroups", "directory", "env", "go", "limits", "listeners", "stderr", "stdout", "umask", "user",
    )  # fmt: skip

    def __init__(
        self,
        argv: "list[str]",
        env: "dict[str, str]",
        directory: str,
        stdout: str = "",
        stderr: str = "",
    ) -> None:
        self.argv = argv
        self.env = env
        self.directory = directory
        self.stdout = stdout  #: path of a pipe; "": the parent's own output
        self.stderr = stderr
        self.user: User | None = None
        self.umask: int | None = None
        self.limits: Limits | None = None
        self.cgroups: list[str] = []  #: cgroup.procs files to enter
        self.listeners: list[tuple[str, int]] = []  #: (name, descriptor) for LISTEN_FDS
        self.go = -1  #: descriptor on which a spare waits

    def is_plain(self) -> bool:
        """Whether ``posix_spawn`` can do it."""
        limits = self.limits
        return not (
            self.user
            or self.umask is not None
            or self.cgroups
            or self.listeners
            or self.go >= 0
            or (
                limits
                and (limits["files"] or limits["processes"] or limits["core_bytes"] is not None)
            )
        )


def spawn(request: Request) -> int:
    """Start a process in a session of its own and return its pid.

    Raises:
        OSError: The program cannot be executed, the directory is not there, no process can be made.
    """
    return _quick(request) if request.is_plain() else _full(request)


def _quick(request: Request) -> int:
    # The child inherits our directory; nothing else here uses it.
    os.chdir(request.directory)
    actions: list[tuple[object, ...]] = [(os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0)]
    if request.stdout:
        # Opened for reading too: the worker's own descriptor keeps the pipe alive, so it never gets SIGPIPE.
        actions.append((os.POSIX_SPAWN_OPEN, 1, request.stdout, os.O_RDWR, 0))
        actions.append((os.POSIX_SPAWN_OPEN, 2, request.stderr, os.O_RDWR, 0))
    else:
        actions.append((os.POSIX_SPAWN_DUP2, 1, 2))
    return os.posix_spawn(
        request.argv[0],
        request.argv,
        request.env,
        file_actions=actions,
        setsid=True,
        setsigmask=(),
        setsigdef=_DEFAULTS,
    )


def _full(request: Request) -> int:
    if request.limits:
        # Loaded before the fork, and not before it is needed: a keeper without such workers does not carry it.
        import resource  # noqa: F401

    pid = os.fork()
    if pid:
        return pid
    # From here to exec we are the child: whatever goes wrong ends it.
    step = "start"
    try:
        os.setsid()
        step = f"output to {request.stdout}"
        null = os.open("/dev/null", os.O_RDONLY)
        os.dup2(null, 0)
        if request.stdout:
            os.dup2(os.open(request.stdout, os.O_RDWR), 1)
            os.dup2(os.open(request.stderr, os.O_RDWR), 2)
        else:
            os.dup2(1, 2)
        for path in request.cgroups:
            step = f"enter {path}"
            descriptor = os.open(path, os.O_WRONLY)
            os.write(descriptor, b"0")
            os.close(descriptor)
        step = "limits"
        _set_limits(request)
        step = "descriptors"
        _place_descriptors(request)
        if request.umask is not None:
            os.umask(request.umask)
        if request.user:
            step = f"become user {request.user['name']}"
            os.setgroups(request.user["groups"])
            os.setgid(request.user["gid"])
            os.setuid(request.user["uid"])
        # After the change of user: the directory may be closed to root on a network file system.
        step = f"directory {request.directory}"
        os.chdir(request.directory)
        for number in _DEFAULTS:
            signal.signal(number, signal.SIG_DFL)
        signal.set_wakeup_fd(-1)
        step = f"execute {request.argv[0]}"
        os.execve(request.argv[0], request.argv, request.env)
    except OSError as error:
        os.write(2, f"holdfast: cannot {step}: {error.strerror}\n".encode())
        os.exit_now(127 if isinstance(error, FileNotFoundError) else 126)
    except BaseException as error:  # noqa: BLE001 -- a forked child must never return into the keeper
        os.write(2, f"holdfast: cannot {step}: {error!r}\n".encode())
        os.exit_now(126)


def _set_limits(request: Request) -> None:
    limits = request.limits
    if not limits:
        return
    import resource

    for value, which in (
        (limits["files"], resource.RLIMIT_NOFILE),
        (limits["processes"], resource.RLIMIT_NPROC),
        (limits["core_bytes"], resource.RLIMIT_CORE),
    ):
        if value is not None and not (which == resource.RLIMIT_NPROC and request.cgroups):
            resource.setrlimit(which, (value, value))


def _place_descriptors(request: Request) -> None:
    wanted = [descriptor for _, descriptor in request.listeners]
    if request.go >= 0:
        wanted.append(request.go)
    # First out of the way of 3, 4, …, then down to where the protocol wants them.
    first_free = FIRST_LISTEN_FD + len(wanted)
    import fcntl

    moved = [fcntl.fcntl(descriptor, fcntl.F_DUPFD, first_free) for descriptor in wanted]
    for index, descriptor in enumerate(moved):
        os.dup2(descriptor, FIRST_LISTEN_FD + index, inheritable=True)
        os.close(descriptor)
    env = dict(request.env)
    if request.listeners:
        env["LISTEN_FDS"] = str(len(request.listeners))
        env["LISTEN_PID"] = str(os.getpid())
        env["LISTEN_FDNAMES"] = ":".join(name for name, _ in request.listeners)
    if request.go >= 0:
        env["HOLDFAST_GO"] = str(FIRST_LISTEN_FD + len(request.listeners))
    request.env = env
