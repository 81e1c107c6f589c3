"""From a checked plan to a running anchor.

``prepare`` makes the run directory ready (or finds the one that a crashed house left with its workers still
alive, and leaves everything in it that the next keeper needs), then ``exec_anchor`` or ``fork_anchor``
starts the house. ``revive_anchor`` is what the other house processes do when the anchor dies.
"""

import sys

from holdfast.linux import files, locks, places, procfs
from holdfast.linux import system as os
from holdfast.model.errors import AlreadyRunning, NodeError, StateError
from holdfast.wire import beats, layout
from holdfast.wire import plan as plan_format

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

    from holdfast.model.plan import Plan

_ROOM = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
_PR_SET_CHILD_SUBREAPER = 36
_revived: "list[int]" = []
#: Memory that is not needed any more goes back to the system at once: reading a large plan or journal
#: must not leave a house process fat for the rest of its life (measured: 25 MB for the four, 22 with this).
_MEMORY = {
    "MALLOC_MMAP_THRESHOLD_": "65536",
    "MALLOC_TRIM_THRESHOLD_": "65536",
    "MALLOC_ARENA_MAX": "1",
}


def command(role: str, run_dir: str, *more: str) -> "list[str]":
    """Return the arguments of a house process."""
    return [sys.executable, "-I", "-S", f"{_ROOM}/{role}/__main__.py", run_dir, *more]


def is_removed(run_dir: str) -> bool:
    """Whether somebody removed the run directory: the plan is written before a house starts, and replaced in one step."""
    return not os.path.exists(f"{run_dir}/{layout.PLAN}")


def environment() -> "dict[str, str]":
    """Return the environment of a house process; the workers' own is in the plan."""
    return {**os.environ, **_MEMORY}


def prepare(plan: "Plan") -> str:
    """Make the state and run directories ready for this plan; return the run directory.

    Raises:
        AlreadyRunning: A node lives there.
        StateError: A directory cannot be trusted or used.
        NodeError: A directory cannot be made, the disk is full, …
    """
    state_dir = plan["state_dir"]
    run_dir = places.run_dir_for(state_dir)
    try:
        os.makedirs(state_dir, exist_ok=True)
        places.make_private(os.path.dirname(run_dir))
        places.make_private(run_dir)
        _refuse_second(state_dir, run_dir)
        boot = procfs.boot_id().encode()
        if files.read(f"{run_dir}/{layout.BOOT}") not in (b"", boot):
            # Left by another boot (a run directory that is not on tmpfs): nothing in it is alive.
            remove_tree(run_dir, keep_root=True)
        for name in (
            layout.FIFOS,
            layout.PULSES,
            layout.SAMPLES,
            layout.FLAGS,
            layout.ORDERS,
            layout.BUS,
            layout.CONTROL,
        ):
            os.makedirs(f"{run_dir}/{name}", mode=0o711, exist_ok=True)
        for name in (layout.LOGS, layout.INCIDENTS, layout.GOOD):
            os.makedirs(f"{state_dir}/{name}", exist_ok=True)
        if not os.path.exists(f"{run_dir}/{layout.BEATS}"):
            files.write_atomic(f"{run_dir}/{layout.BEATS}", bytes(beats.SIZE))
        for stream in ("out", "err"):
            make_pipe(f"{run_dir}/{layout.fifo(layout.HOUSE_LOG, stream)}")
        data = plan_format.encode(plan)
        # The next `up` and `status` without a node read the first one: nobody but us.
        files.write_atomic(f"{state_dir}/plan.json", data, sync=True, mode=0o600)
        files.write_atomic(f"{run_dir}/{layout.PLAN}", data, mode=plan_format.mode(plan))
        _link(os.path.abspath(state_dir), f"{run_dir}/{layout.STATE_LINK}")
        _link(run_dir, f"{state_dir}/{layout.RUN_LINK}")
        files.write_atomic(f"{run_dir}/{layout.BOOT}", boot)
    except OSError as error:
        raise NodeError(
            f"{error.filename or state_dir}: {error.strerror}\n"
            f"  the node keeps its state in {state_dir} and {run_dir}; both have to be writable"
        ) from None
    return run_dir


def _refuse_second(state_dir: str, run_dir: str) -> None:
    pid = locks.holder(f"{run_dir}/{layout.lock('anchor')}") or locks.holder(
        f"{state_dir}/{layout.NODE_LOCK}"
    )
    if pid:
        raise AlreadyRunning(
            f"{state_dir}: a node already runs here (its anchor is process {pid})\n"
            "  look:   holdfast status\n"
            "  change: holdfast apply\n"
            "  a second node needs another [node] state_dir"
        )
    probe = locks.take(f"{state_dir}/{layout.NODE_LOCK}")
    if probe is None:
        raise AlreadyRunning(f"{state_dir}: another node is being started here at this moment")
    os.close(probe)
    locks.forget(f"{state_dir}/{layout.NODE_LOCK}")


def make_pipe(path: str) -> None:
    """Make a named pipe unless it is there already."""
    try:
        os.mkfifo(path, 0o600)
    except FileExistsError:
        if os.lstat(path).st_mode & 0o170000 != 0o010000:
            raise StateError(
                f"{path}: this has to be a pipe\n  remove it and start again"
            ) from None


def _link(target: str, path: str) -> None:
    temporary = f"{path}.{os.getpid()}.tmp"
    if os.path.lexists(temporary):
        os.unlink(temporary)
    os.symlink(target, temporary)
    if os.path.isdir(path) and not os.path.islink(path):
        raise StateError(
            f"{path}: this has to be a link to the run directory, but it is a directory\n  move it away"
        )
    os.rename(temporary, path)


def remove_tree(path: str, *, keep_root: bool = False) -> None:
    """Remove a directory and all below it, as far as possible."""
    try:
        names = os.listdir(path)
    except OSError:
        return  # not there, or not ours: what cannot be removed now is overwritten by the next start
    for name in names:
        below = f"{path}/{name}"
        if os.path.isdir(below) and not os.path.islink(below):
            remove_tree(below)
        else:
            _quietly(os.unlink, below)
    if not keep_root:
        _quietly(os.rmdir, path)


def _quietly(remove: object, path: str) -> None:
    try:
        remove(path)  # type: ignore[operator]
    except OSError:
        pass  # what cannot be removed now is overwritten by the next start


def become_subreaper() -> None:
    """Orphans of our descendants become our children (PR_SET_CHILD_SUBREAPER; survives exec).

    Raises:
        OSError: The kernel refuses.
    """
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")


def _compile_house() -> None:
    """See to it that the house's bytecode is on disk, after an installation that did not write it.

    Left to themselves, four processes would compile the same files at once, 2 s on two processors, and keep for ever the
    6 MB that the compiler took. Where it cannot be written they have to.
    """
    cache = f"{_ROOM}/watchdog/__pycache__"
    if os.path.exists(f"{cache}/watch.{sys.implementation.cache_tag}.pyc"):
        return
    if not os.access(cache if os.path.exists(cache) else os.path.dirname(cache), os.W_OK):
        return
    load = "import sys, importlib; sys.path.insert(0, sys.argv[1]); [importlib.import_module(m) for m in sys.argv[2:]]"
    head = [sys.executable, "-I", "-S", "-c", load, os.path.dirname(_ROOM)]
    pids = []
    # The watchdog is as much as the others together.
    for rooms in (["watchdog.watch"], ["keeper.loop", "logger.loop", "anchor.loop"]):
        argv = [*head, *(f"holdfast.{room}" for room in rooms)]
        pids.append(os.posix_spawn(argv[0], argv, environment()))
    for pid in pids:
        os.waitpid(pid, 0)


def exec_anchor(run_dir: str) -> "NoReturn":
    """Become the anchor: the node runs in the foreground."""
    _compile_house()
    become_subreaper()
    argv = command("anchor", run_dir, "--subreaper")
    os.execve(argv[0], argv, environment())


def fork_anchor(run_dir: str) -> int:
    """Start the anchor in a session of its own, from a command line that has a single thread; return its pid.

    The child becomes what an anchor is before it is one. Spawned by :func:`spawn_anchor` it has to start itself a second
    time for that, which is 30 ms of a node's start.
    """
    pid = os.fork()
    if pid:
        return pid
    try:
        os.setsid()
        null = os.open("/dev/null", os.O_RDONLY)
        os.dup2(null, 0)
        exec_anchor(run_dir)
    finally:
        os.exit_now(1)  # it could not; a second command line must not go on here


def spawn_anchor(run_dir: str) -> int:
    """Start the anchor in a session of its own and return its pid."""
    argv = command("anchor", run_dir)
    null = [(os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0)]
    return os.posix_spawn(argv[0], argv, environment(), file_actions=null, setsid=True)


def revive_anchor(run_dir: str) -> int:
    """Start a new anchor after the old one died; return the pid of its process.

    Every house process that sees the death does this; the lock decides, the losers end with status 75.
    """
    pid = spawn_anchor(run_dir)
    _revived.append(pid)
    return pid


def is_revived(pid: int) -> bool:
    """Whether this is an anchor that we started, and whose end we have not seen."""
    return pid in _revived


def reap_revived() -> None:
    """Take the exit status of anchors that lost the race, so that they do not stay zombies."""
    for pid in _revived[:]:
        try:
            gone, _ = os.waitpid(pid, os.WNOHANG)
        except ChildProcessError:
            gone = pid
        if gone:
            _revived.remove(pid)
