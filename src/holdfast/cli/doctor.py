"""`holdfast doctor`: what does this machine allow, and what does that mean for me?

Every line is tried, not guessed from a version: a kernel may be new enough and its container forbid it all the same.
Nothing here needs a node, and nothing is changed. Leaves out what is wrong with a node (`status`, `check`).
"""

import errno
import os
import resource
import shutil
import signal
import subprocess
import sys

from holdfast.cli import output, place, terminal
from holdfast.cli.words import size
from holdfast.linux import pidfd
from holdfast.model.errors import HoldfastError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Callable

_SHM = "/dev/shm"  # noqa: S108 -- looked at, not written to
OK, LIMITED, NO = "ok", "limited", "no"
_STYLES = {OK: "green", LIMITED: "yellow", NO: "red"}
#: What it means when a controller cannot be used.
_WITHOUT_CGROUP = {
    "memory": "A memory limit is held by looking at the worker's memory from time to time, not by the kernel.",
    "cpu": "A cpu limit is not held.",
    "pids": "A limit of processes counts for the user (RLIMIT_NPROC), not for the worker.",
}
#: A tool that answers slower than this does not answer.
_TOOL_S = 15.0


class Finding:
    """One line: what was looked at, how it is, what was seen, what it means."""

    __slots__ = ("means", "seen", "verdict", "what")

    def __init__(self, what: str, verdict: str, seen: str, means: str = "") -> None:
        self.what = what
        self.verdict = verdict
        self.seen = seen
        self.means = means


def add_arguments(parser: "ArgumentParser") -> None:
    """Declare no arguments: the global options are all there is."""
    del parser


def run(args: "Namespace") -> int:
    """Look at the machine; 0 unless something is missing that Holdfast cannot do without."""
    state_dir = _state_dir(args)
    findings = [_guarded(what, look) for what, look in LOOKS]
    findings.append(_guarded("disk of the state directory", lambda: disk(state_dir)))
    if args.json:
        output.document(
            {
                "ok": not _is_hopeless(findings),
                "findings": [
                    {"what": f.what, "verdict": f.verdict, "seen": f.seen, "means": f.means}
                    for f in findings
                ],
            }
        )
    else:
        columns, _ = terminal.size_of()
        print("\n".join(render(findings, columns, terminal.paint_for(args))))
    return 1 if _is_hopeless(findings) else 0


def render(findings: "list[Finding]", width: int, paint: terminal.Paint) -> "list[str]":
    """Return the lines for a person."""
    room = max(len(finding.what) for finding in findings)
    lines = []
    for finding in findings:
        verdict = finding.verdict.ljust(7)
        lines.append(
            terminal.clip(
                f"{paint(verdict, _STYLES[finding.verdict])}  {finding.what.ljust(room)}  {finding.seen}",
                width,
            )
        )
        if finding.means:
            lines += [
                f"         {part}" for part in _folded(finding.means, max(30, min(width, 110) - 9))
            ]
    return lines


def _folded(text: str, room: int) -> "list[str]":
    lines, line = [], ""
    for word in text.split():
        if line and len(line) + 1 + len(word) > room:
            lines.append(line)
            line = word
        else:
            line = f"{line} {word}" if line else word
    return [*lines, line]


def _is_hopeless(findings: "list[Finding]") -> bool:
    return any(
        finding.verdict == NO and finding.what in ("Python", "kernel", "pidfd")
        for finding in findings
    )


def _state_dir(args: "Namespace") -> str:
    try:
        path = place.find(args).state_dir
    except HoldfastError:
        path = os.getcwd()
    while not os.path.isdir(path):
        path = os.path.dirname(path)
    return path


def _guarded(what: str, look: "Callable[[], Finding]") -> Finding:
    try:
        return look()
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        return Finding(what, LIMITED, f"cannot tell: {error}")


# -- what is looked at -----------------------------------------------------------------------------


def python() -> Finding:
    """Which interpreter is it? An older one than 3.11 does not get this far: pip refuses to install."""
    version = ".".join(map(str, sys.version_info[:3]))
    return Finding("Python", OK, f"{version} at {sys.executable}")


def kernel() -> Finding:
    """Is the kernel new enough for process descriptors?"""
    release = os.uname().release
    numbers = tuple(int(part) for part in release.split("-")[0].split(".")[:2])
    if numbers < (5, 3):
        return Finding(
            "kernel", NO, release, "Holdfast needs Linux 5.3 or later (process descriptors)."
        )
    return Finding("kernel", OK, release)


def process_descriptors() -> Finding:
    """May processes be watched by descriptor?"""
    descriptor = pidfd.open_pid(os.getpid())
    if descriptor < 0:
        return Finding(
            "pidfd",
            NO,
            "pidfd_open is refused",
            "A seccomp profile forbids it; the keeper cannot work.",
        )
    os.close(descriptor)
    return Finding("pidfd", OK, "deaths are seen at once, without polling")


def exit_statuses() -> Finding:
    """Does the kernel tell how a process ended after somebody else reaped it?"""
    what = "exit statuses after the anchor's death"
    child = os.fork()
    if not child:
        os._exit(7)
    descriptor = pidfd.open_pid(child)
    os.waitpid(child, 0)
    try:
        status = pidfd.exit_status(descriptor) if descriptor >= 0 else None
    finally:
        if descriptor >= 0:
            os.close(descriptor)
    if status is not None and os.waitstatus_to_exitcode(status) == 7:
        return Finding(what, OK, "PIDFD_GET_INFO answers")
    return Finding(
        what, LIMITED, "no PIDFD_GET_INFO (Linux 6.15)",
        "Exit statuses are kept by the anchor. They are lost only for a worker that dies in the moments after "
        "keeper and anchor were both killed.",
    )  # fmt: skip


def cgroups() -> Finding:
    """May limits be set on each worker?"""
    from holdfast.linux import cgroup

    found = cgroup.capabilities()
    usable = [f"{controller} ({version})" for controller, version in found.items() if version]
    missing = [controller for controller, version in found.items() if not version]
    if not missing:
        return Finding("cgroups", OK, ", ".join(usable))
    means = [_WITHOUT_CGROUP[controller] for controller in missing if controller in _WITHOUT_CGROUP]
    return Finding(
        "cgroups",
        LIMITED,
        f"usable: {', '.join(usable) or 'none'}; not: {', '.join(missing)}",
        f"{' '.join(means)} As a service: Delegate=yes in the unit.",
    )


def ptrace() -> Finding:
    """Can the stacks of a hanging Python worker be read from outside?"""
    what = "stacks from outside"
    tool = _tool("py-spy")
    scope = _read("/proc/sys/kernel/yama/ptrace_scope") or "absent"
    if not tool:
        return Finding(
            what, LIMITED, f"py-spy is not installed (yama scope {scope})",
            "Stacks of a hanging worker are asked for by a signal (faulthandler), which works unless the interpreter "
            "itself is stopped. Install the extra: pip install 'holdfast[evidence]'",
        )  # fmt: skip
    code = "import sys,time; sys.stdout.write('x'); sys.stdout.flush(); time.sleep(60)"
    child = subprocess.Popen([sys.executable, "-I", "-S", "-c", code], stdout=subprocess.PIPE)
    try:
        if child.stdout is not None:
            child.stdout.read(1)
        done = subprocess.run(
            [tool, "dump", "--pid", str(child.pid)],
            capture_output=True,
            timeout=_TOOL_S,
            check=False,
            text=True,
        )
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait()
        if child.stdout is not None:
            child.stdout.close()
    if done.returncode == 0:
        return Finding(what, OK, f"py-spy works (yama scope {scope})")
    return Finding(
        what, LIMITED, f"py-spy is refused (yama scope {scope})",
        "Stacks of a hanging worker come from faulthandler instead. In a container: --cap-add SYS_PTRACE; on a host: "
        "sysctl kernel.yama.ptrace_scope=0, or run the node as root.",
    )  # fmt: skip


def user_namespaces() -> Finding:
    """May an ordinary user make a user namespace?"""
    what = "user namespaces"
    limit = _read("/proc/sys/user/max_user_namespaces")
    child = os.fork()
    if not child:
        os._exit(_try_user_namespace())
    _, status = os.waitpid(child, 0)
    if os.waitstatus_to_exitcode(status) == 0:
        return Finding(what, OK, "can be made")
    reason = errno.errorcode.get(os.waitstatus_to_exitcode(status), "refused")
    return Finding(
        what, LIMITED, f"{reason} (max_user_namespaces {limit or 'unknown'})",
        "Nothing in this version needs them; sandboxed workers will.",
    )  # fmt: skip


def _try_user_namespace() -> int:
    import ctypes

    clone_newuser = 0x10000000
    libc = ctypes.CDLL(None, use_errno=True)
    return 0 if libc.unshare(clone_newuser) == 0 else ctypes.get_errno() & 0xFF


def kernel_log() -> Finding:
    """May the kernel's own record of an out-of-memory kill be read?"""
    what = "kernel log"
    try:
        os.close(os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC))
    except OSError as error:
        return Finding(
            what, LIMITED, f"/dev/kmsg: {error.strerror}",
            "An out-of-memory kill is told by the counter of the worker's cgroup, without the kernel's own record. "
            "For that: run as root, or sysctl kernel.dmesg_restrict=0.",
        )  # fmt: skip
    return Finding(what, OK, "/dev/kmsg is readable")


def memory_files() -> Finding:
    """Is there room for the run directory?"""
    what = _SHM
    try:
        found = os.statvfs(_SHM)
    except OSError as error:
        return Finding(
            what,
            NO,
            str(error.strerror),
            "Set HOLDFAST_RUNTIME_DIR to a directory in memory (tmpfs).",
        )
    free = found.f_bavail * found.f_frsize
    seen = f"{size(free)} free of {size(found.f_blocks * found.f_frsize)}"
    # A pulse is 64 K, a ring of samples 76 K, for each worker; the kernel takes pages only as they are written.
    if free < 16 << 20:
        return Finding(
            what, LIMITED, seen,
            "Each worker needs about 150 K there. Make it larger (docker: --shm-size) or set HOLDFAST_RUNTIME_DIR.",
        )  # fmt: skip
    return Finding(what, OK, f"{seen}: room for {free // 150_000} workers")


def open_files() -> Finding:
    """How many workers can one house hold?"""
    what = "open files"
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard == resource.RLIM_INFINITY:
        return Finding(what, OK, f"{soft}, can be raised without limit")
    # Logger and anchor hold two pipes of each worker, the logger two files besides.
    workers = (hard - 64) // 4
    if workers < 250:
        return Finding(
            what, LIMITED, f"at most {hard}",
            f"Enough for about {workers} workers. More: LimitNOFILE= in the unit, or ulimit -Hn.",
        )  # fmt: skip
    return Finding(what, OK, f"{soft}, up to {hard}: about {workers} workers")


def locked_memory() -> Finding:
    """May the watchdog keep itself in memory while the box swaps?"""
    what = "locked memory"
    soft, _ = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    if os.geteuid() == 0 or soft == resource.RLIM_INFINITY:
        return Finding(what, OK, "unlimited")
    if soft >= 64 << 20:
        return Finding(what, OK, size(soft))
    return Finding(
        what, LIMITED, size(soft),
        "The house cannot be kept in memory: on a box that swaps heavily its answers come late. LimitMEMLOCK=64M.",
    )  # fmt: skip


def tools() -> Finding:
    """Which tools are there for deeper evidence?"""
    what = "tools for evidence"
    names = ("py-spy", "perf", "gdb")
    there = [name for name in names if _tool(name)]
    missing = [name for name in names if name not in there]
    if not missing:
        return Finding(what, OK, ", ".join(there))
    return Finding(
        what, LIMITED, f"there: {', '.join(there) or 'none'}; not there: {', '.join(missing)}",
        "Only what is there is used; stacks of native code need gdb or perf.",
    )  # fmt: skip


def first_process() -> Finding:
    """Who starts the node again when the machine boots?"""
    what = "PID 1"
    name = _read("/proc/1/comm")
    if name == "systemd":
        return Finding(
            what, OK, "systemd: it can start the node at boot and watch the anchor (Type=notify)"
        )
    if os.getpid() == 1:
        return Finding(what, OK, "this process: zombies are reaped by the anchor")
    return Finding(
        what, LIMITED, name or "unknown",
        "There is no systemd to start the node at boot; whatever starts this machine or container has to run "
        "`holdfast up`.",
    )  # fmt: skip


def container() -> Finding:
    """Is this a container?"""
    what = "container"
    kind = ""
    if os.path.exists("/.dockerenv"):
        kind = "docker"
    elif os.path.exists("/run/.containerenv"):
        kind = "podman"
    elif "KUBERNETES_SERVICE_HOST" in os.environ:
        kind = "kubernetes"
    else:
        kind = _read("/run/systemd/container") or os.environ.get("container", "")  # noqa: SIM112 -- its name
    if not kind:
        return Finding(what, OK, "none seen")
    return Finding(what, OK, kind, "The limits of the container count for all workers together.")


def disk(state_dir: str) -> Finding:
    """Is there room for logs and incidents?"""
    what = "disk of the state directory"
    found = os.statvfs(state_dir)
    free, whole = found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize
    seen = f"{size(free)} free of {size(whole)} at {state_dir}"
    if not os.access(state_dir, os.W_OK):
        return Finding(
            what,
            NO,
            f"{state_dir} is not writable",
            "Set [node] state_dir to a directory of yours.",
        )
    if whole and free / whole < 0.05:
        return Finding(what, LIMITED, seen, "Nearly full: logs and incidents may not be kept.")
    return Finding(what, OK, seen)


#: What is looked at, in the order in which it is told.
LOOKS: "tuple[tuple[str, Callable[[], Finding]], ...]" = (
    ("Python", python),
    ("kernel", kernel),
    ("pidfd", process_descriptors),
    ("exit statuses after the anchor's death", exit_statuses),
    ("cgroups", cgroups),
    ("stacks from outside", ptrace),
    ("user namespaces", user_namespaces),
    ("kernel log", kernel_log),
    (_SHM, memory_files),
    ("open files", open_files),
    ("locked memory", locked_memory),
    ("tools for evidence", tools),
    ("PID 1", first_process),
    ("container", container),
)


def _tool(name: str) -> str:
    """Return the path of a tool: beside our own interpreter (a virtual environment), or on PATH; "" when missing."""
    beside = os.path.join(os.path.dirname(sys.executable), name)
    return beside if os.access(beside, os.X_OK) else shutil.which(name) or ""


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read().strip()
    except OSError:
        return ""
