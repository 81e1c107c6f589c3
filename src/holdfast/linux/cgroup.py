"""Control groups: what this machine allows, and a group of its own for each worker that has limits.

Version 1 and 2, whichever hierarchy has the controller and is writable; a mixed machine (v1 controllers, an empty v2
tree) is common. Where nothing is writable the watchdog polls the worker's memory instead, and says so.
"""

from holdfast.linux import files
from holdfast.linux import system as os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from holdfast.model.plan import Limits

_CONTROLLERS = ("memory", "pids", "cpu")
_PERIOD_US = 100_000


class Tree:
    """Where our groups live for one controller."""

    __slots__ = ("controller", "path", "version")

    def __init__(self, controller: str, version: int, path: str) -> None:
        self.controller = controller
        self.version = version
        self.path = path  #: directory below which groups can be made


def _mounts() -> "list[tuple[str, str, list[str]]]":
    found = []
    for line in files.read("/proc/self/mountinfo").decode("utf-8", "replace").splitlines():
        before, _, after = line.partition(" - ")
        kind, _, options = after.split(" ", 2)
        if kind in ("cgroup", "cgroup2"):
            found.append((kind, before.split(" ")[4], options.rsplit(" ", 1)[-1].split(",")))
    return found


def _own_path(controller: str) -> str:
    """Path of our own group inside the hierarchy of a controller ("" for v2)."""
    for line in files.read("/proc/self/cgroup").decode().splitlines():
        _, names, path = line.split(":", 2)
        if controller in names.split(","):
            return path.rstrip("/")
    return ""


def trees() -> "list[Tree]":
    """Return one tree for each controller that can be used here."""
    found = []
    for kind, mount, options in _mounts():
        if kind == "cgroup":
            found += [_tree(c, 1, mount, _own_path(c)) for c in _CONTROLLERS if c in options]
        else:
            base = mount + _own_path("")
            available = files.read(f"{base}/cgroup.subtree_control").decode().split()
            found += [Tree(c, 2, base) for c in _CONTROLLERS if c in available]
    return [tree for tree in found if os.access(tree.path, os.W_OK)]


def _tree(controller: str, version: int, mount: str, own: str) -> Tree:
    path = mount + own
    # Inside a container the path in /proc/self/cgroup may lie outside what is mounted here.
    return Tree(controller, version, path if os.path.isdir(path) else mount)


def capabilities() -> "dict[str, str]":
    """Return for each controller what can be done: "v1", "v2" or "" (not usable)."""
    usable = {tree.controller: f"v{tree.version}" for tree in trees()}
    return {controller: usable.get(controller, "") for controller in _CONTROLLERS}


def _group(tree: Tree, node: str, worker: str) -> str:
    return f"{tree.path}/holdfast-{node}/{worker}"


class Groups:
    """The groups of one node's workers."""

    __slots__ = ("node", "trees")

    def __init__(self, node: str) -> None:
        self.node = node
        self.trees = trees()

    def enforces(self, controller: str) -> bool:
        """Whether the kernel will hold workers to this limit."""
        return any(tree.controller == controller for tree in self.trees)

    def prepare(self, worker: str, limits: "Limits") -> "list[str]":
        """Make the worker's groups with their limits; return the files to enter them by.

        Raises:
            OSError: The kernel refuses a limit.
        """
        entries = []
        for tree in self.trees:
            settings = _settings(tree, limits)
            if not settings:
                continue
            path = _group(tree, self.node, worker)
            if not os.path.isdir(path):
                os.makedirs(path, exist_ok=True)
            for name, value in settings:
                _write(f"{path}/{name}", value)
            entry = f"{path}/cgroup.procs"
            if entry not in entries:
                entries.append(entry)
        return entries

    def members(self, worker: str) -> "set[int]":
        """Return the processes that are in the worker's groups."""
        found: set[int] = set()
        for tree in self.trees:
            text = files.read(f"{_group(tree, self.node, worker)}/cgroup.procs")
            found.update(int(pid) for pid in text.split())
        return found

    def kill(self, worker: str) -> int:
        """Kill all that is in the worker's groups; return how many processes there were."""
        members = self.members(worker)
        for tree in self.trees:
            path = f"{_group(tree, self.node, worker)}/cgroup.kill"
            if members and tree.version == 2 and os.path.exists(path):
                _write(path, "1")
        for pid in members:
            try:
                os.kill(pid, 9)
            except ProcessLookupError:
                pass
        return len(members)

    def remove(self, worker: str) -> None:
        """Remove the worker's groups if nothing is in them any more."""
        for tree in self.trees:
            for path in (
                _group(tree, self.node, worker),
                os.path.dirname(_group(tree, self.node, worker)),
            ):
                try:
                    os.rmdir(path)
                except OSError:
                    pass  # not there, or still in use by another worker


def oom_kills(node: str, worker: str) -> "int | None":
    """Return how often the kernel shot something in the worker's group; None when it has none."""
    for tree in trees():
        if tree.controller != "memory":
            continue
        name = "memory.oom_control" if tree.version == 1 else "memory.events"
        for line in files.read(f"{_group(tree, node, worker)}/{name}").decode().splitlines():
            key, _, value = line.partition(" ")
            if key == "oom_kill":
                return int(value)
    return None


def memory_usage(node: str, worker: str) -> "int | None":
    """Return the bytes charged to the worker's group; None when it has none."""
    for tree in trees():
        if tree.controller == "memory":
            name = "memory.usage_in_bytes" if tree.version == 1 else "memory.current"
            text = files.read(f"{_group(tree, node, worker)}/{name}")
            if text:
                return int(text)
    return None


def quotas(node: str) -> "tuple[list[str], str]":
    """Return the directories whose ``cpu.stat`` tells how long a quota kept the whole node from running, and what those of its workers begin with."""
    usable = [tree for tree in trees() if tree.controller == "cpu"]
    if usable:
        return [tree.path for tree in usable], _group(usable[0], node, "")
    found = []
    # Nothing can be made below it, but what it says can be read.
    for kind, mount, options in _mounts():
        if kind == "cgroup2" or "cpu" in options:
            base = mount + _own_path("" if kind == "cgroup2" else "cpu")
            found.append(base if os.path.isdir(base) else mount)
    return found, ""


def throttled_s(stat: bytes) -> float:
    """Return the seconds that a group has been held back so far, by the text of its ``cpu.stat``; 0 where it is not counted."""
    for line in stat.splitlines():
        key, _, value = line.partition(b" ")
        if key == b"throttled_usec":
            return int(value) / 1e6
        if key == b"throttled_time":
            return int(value) / 1e9
    return 0.0


def _settings(tree: Tree, limits: "Limits") -> "list[tuple[str, str]]":
    memory, cpu, processes = limits["memory_bytes"], limits["cpu_share"], limits["processes"]
    if tree.controller == "memory" and memory:
        if tree.version == 1:
            return [("memory.limit_in_bytes", str(memory))]
        return [("memory.max", str(memory)), ("memory.swap.max", "0")]
    if tree.controller == "pids" and processes:
        return [("pids.max", str(processes))]
    if tree.controller == "cpu" and cpu:
        quota = str(int(cpu * _PERIOD_US))
        if tree.version == 1:
            return [("cpu.cfs_period_us", str(_PERIOD_US)), ("cpu.cfs_quota_us", quota)]
        return [("cpu.max", f"{quota} {_PERIOD_US}")]
    return []


def _write(path: str, value: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, value.encode())
    except OSError:
        if not path.endswith(
            "memory.swap.max"
        ):  # kernels without swap accounting have no such file
            raise
    finally:
        os.close(descriptor)
