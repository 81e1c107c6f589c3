"""A core dump, where the kernel wrote one: the stacks in it are kept, the core itself is not.

pystack gives C and Python frames with the variables (0.25 s for a core of 15 MB), py-spy Python frames only (0.03 s). Looked for where
``core_pattern`` of the kernel says: plain files, and the directories of systemd-coredump and apport, which the kernel may hand cores to. It
is read after the death, beside the restart, which never waits for it. Policy: a plain file is deleted once its stacks are
in a bundle on the disk, unless the worker is allowed to keep cores (``limits.core_max`` is set by the person who wants them); what could
not be read, and what another program keeps, is left where it is, and the incident says where that is.
"""

import os
import time

from holdfast.diagnosis import corestacks
from holdfast.diagnosis import stacks as form
from holdfast.diagnosis.words import size
from holdfast.evidence.case import read_text
from holdfast.evidence.collectors import corefile
from holdfast.evidence.collectors.stacks import find_tool, run_tool
from holdfast.linux import procfs
from holdfast.wire import layout
from holdfast.wire.jsonlite import loads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from holdfast.evidence.case import Case

#: Bigger ones are not read (nobody waits that long), nor unpacked without a word of whoever pays for the disk.
_BIGGEST, _UNPACKED = 4 << 30, 1 << 30
_READ_S = 3.0
#: So long after a death systemd-coredump may still be packing the core.
_PACKING_S = 1.0
_STEP_S = 0.02
#: A name without a pid in a file that is not understood: only the time can tell whose it is.
_SAME_DEATH_S = 30.0
_TEXT_BYTES = 65536
NAME = "core.txt"
#: Programs that the kernel may hand cores to, and where they keep them (``core.…PID.TIME[.zst]``).
_KEEPERS = (
    ("systemd-coredump", "/var/lib/systemd/coredump", "coredumpctl info {pid}"),
    ("apport", "/var/lib/apport/coredump", "see /var/log/apport.log"),
)
_UNPACKERS = {".zst": "zstd", ".lz4": "lz4", ".xz": "xz"}


class Found:
    """A core that was found."""

    __slots__ = ("is_kept_by_others", "path", "shown")

    def __init__(self, path: str, shown: str = "", *, is_kept_by_others: bool = False) -> None:
        self.path = path
        self.shown = shown or path  #: where it will be, or is again, when we have done with it
        self.is_kept_by_others = is_kept_by_others


def collect(case: "Case") -> None:
    """Read the core of the life that ended, where there is one."""
    if not _has_dumped(case):
        return
    found = find(case)
    if isinstance(found, str):
        case.miss("core", f"the kernel dumped core: {found}")
        return
    unpacked = ""
    try:
        path = found.path
        if os.path.splitext(path)[1] in _UNPACKERS:
            path = unpacked = _unpack(case, path)
        if path:
            _read(case, path, found)
    except OSError as error:
        case.miss("core", f"{found.shown}: {error.strerror}; it is left where it is")
    finally:
        if unpacked:
            _drop(unpacked)


def put_away(case: "Case", bundle: str) -> None:
    """Delete the core whose stacks are in a bundle on the disk, unless cores are wanted; else put it back where the kernel had it.

    Called when the bundle is in its place, and again for an order that was carried out before: killed in between, nothing is lost
    and nothing stays.

    Raises:
        OSError: It cannot be deleted or renamed.
    """
    if not _has_dumped(case):
        return
    found = find(case, wait=False)
    if isinstance(found, str) or found.is_kept_by_others:
        return
    is_wanted = bool((case.facts.plan.get("limits") or {}).get("core_bytes"))
    if os.path.exists(f"{bundle}/{NAME}") and not is_wanted:
        # Nobody asked for cores: it came from the limits of the shell, and would fill the disk crash by crash.
        os.unlink(found.path)
    elif found.path != found.shown:
        if os.path.exists(found.shown):
            os.unlink(found.path)  # the kernel would have written the next one over it
        else:
            os.rename(found.path, found.shown)


def find(case: "Case", *, wait: bool = True) -> "Found | str":
    """Return the core of this process, or in words where it went.

    Args:
        case: Whose.
        wait: Whether a program that the kernel hands cores to is given time to store it.
    """
    pattern = read_text("/proc/sys/kernel/core_pattern", 256).strip()
    if pattern.startswith(("|", "@")):
        return _kept_by_others(case, pattern, _PACKING_S if wait else 0.0)
    if not pattern:
        return "core_pattern of the kernel is empty: it was written nowhere"
    directory, _, name = _expanded(case, pattern).rpartition("/")
    plain = _plain_path(case)
    names = [f"{name}.{case.pid}", name]
    if "*" in name:
        from fnmatch import fnmatchcase

        try:
            there = os.listdir(directory)
        except OSError as error:
            return f"{directory}: {error.strerror}"
        names = [n for n in there if fnmatchcase(n, name) or fnmatchcase(n, f"{name}.{case.pid}")]
    for path in (f"{directory}/{one}" for one in names):
        if not _is_ours(case, path, is_exact="*" not in name):
            continue
        if not plain:
            return Found(path)
        # The next life may die while this is read, and the kernel would write into the same file.
        aside = f"{plain}.{case.pid}"
        if path == plain:
            os.rename(path, aside)
        return Found(aside, plain)
    return (
        f"it is not in {directory} (core_pattern is {pattern}); a program that changes its directory leaves it elsewhere,"
        " and without the right to write there is none"
    )


def _has_dumped(case: "Case") -> bool:
    """Tell whether the kernel says that it dumped core."""
    status = case.order.get("status")
    return not case.order.get("live") and type(status) is int and bool(status & 0x80)


def _expanded(case: "Case", pattern: str) -> str:
    """Return the path that the kernel makes of its pattern, with ``*`` for what we do not know."""
    made, at = "", 0
    known = {"%": "%", "p": str(case.pid), "P": str(case.pid), "h": os.uname().nodename}
    while at < len(pattern):
        if pattern[at] == "%" and at + 1 < len(pattern):
            at += 1
            made += known.get(pattern[at], "*")
        else:
            made += pattern[at]
        at += 1
    if _appends_pid() and not any(mark in pattern for mark in ("%p", "%P")):
        made += f".{case.pid}"
    if not os.path.isabs(made):
        made = f"{case.facts.plan.get('directory') or '.'}/{made}"
    return made


def _appends_pid() -> bool:
    return read_text("/proc/sys/kernel/core_uses_pid", 8).strip() == "1"


def _plain_path(case: "Case") -> str:
    """Return the path that all lives of this worker have in common; "" when the name tells them apart."""
    pattern = read_text("/proc/sys/kernel/core_pattern", 256).strip()
    told = _appends_pid() or any(mark in pattern for mark in ("%p", "%P", "%i", "%I", "%t"))
    path = _expanded(case, pattern)
    return "" if told or "*" in path or pattern.startswith(("|", "@")) else path


def _is_ours(case: "Case", path: str, *, is_exact: bool) -> bool:
    try:
        inside = corefile.read(path)
        written_s = os.stat(path).st_mtime
    except OSError:
        return False
    if inside is not None and inside.pid:
        return inside.pid == case.pid
    if str(case.pid) in os.path.basename(path):
        return True
    return is_exact and abs(written_s - _died_s(case)) < _SAME_DEATH_S


def _kept_by_others(case: "Case", pattern: str, patience_s: float) -> "Found | str":
    program = pattern.lstrip("|@ ").partition(" ")[0]
    for name, directory, hint in _KEEPERS:
        if name not in program:
            continue
        hint = hint.format(pid=case.pid)
        until_s = time.monotonic() + case.deadline.scaled(patience_s)
        while True:
            path = _stored(case, directory)
            if path:
                if os.access(path, os.R_OK):
                    return Found(path, is_kept_by_others=True)
                return f"{name} keeps it in {path}, which this user may not read ({hint})"
            if time.monotonic() >= until_s:
                return f"the kernel hands it to {name}, and {directory} has none of pid {case.pid} ({hint})"
            time.sleep(_STEP_S)
    return f"the kernel hands it to {program} (core_pattern), which keeps it where it likes"


def _stored(case: "Case", directory: str) -> str:
    """Return the core of this death in such a directory; "" when there is none."""
    # Pids are used again: after a boot, which both programs write into the name (one without dashes), and within one.
    boot, mark = procfs.boot_id(), f".{case.pid}."
    try:
        found = [
            (os.stat(f"{directory}/{name}").st_mtime, f"{directory}/{name}") for name in os.listdir(directory)
            if name.startswith("core.") and mark in name and (boot in name or boot.replace("-", "") in name)
        ]  # fmt: skip
    except OSError:
        return ""  # not readable, or one was deleted just now: looked for again
    newest_s, path = max(found, default=(0.0, ""))
    return path if newest_s > _died_s(case) - _SAME_DEATH_S else ""


def _died_s(case: "Case") -> float:
    return float(case.facts.exit.get("unix_s") or case.order.get("unix_s") or 0.0)


def _unpack(case: "Case", path: str) -> str:
    """Unpack a core into a directory that is swept if we are killed; return where, or "" after saying why not."""
    import subprocess

    ending = os.path.splitext(path)[1]
    limit = int((case.facts.plan.get("limits") or {}).get("core_bytes") or _UNPACKED)
    parent = f"{case.state_dir}/{layout.INCIDENTS}"
    os.makedirs(parent, exist_ok=True)
    # The form that bundle.sweep() knows; ours alone, since the bundle is made after this.
    aside = f"{parent}/.tmp-{os.getpid()}-{procfs.start_ticks(os.getpid())}"
    os.mkdir(aside)
    try:
        process = subprocess.Popen([_UNPACKERS[ending], "-dcq", path], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)  # fmt: skip
    except OSError:
        os.rmdir(aside)
        case.miss("core", f"{path}: {_UNPACKERS[ending]} is not installed, which could unpack it")
        return ""
    made = f"{aside}/core"
    count = 0
    try:
        assert process.stdout is not None  # noqa: S101 -- for the types: it is a pipe
        with open(made, "wb", buffering=0) as file:
            while count <= limit and (part := process.stdout.read(1 << 20)):
                count += file.write(part)
        if count <= limit and process.wait() == 0:
            return made
    except BaseException:
        _drop(made)  # the disk is full, or the time is over
        raise
    finally:
        process.kill()
        process.communicate()
    _drop(made)
    case.miss(
        "core",
        f"{path}: unpacked it has more than {size(limit)}; core_max of the worker says how much is taken"
        if count > limit
        else f"{path}: {_UNPACKERS[ending]} cannot unpack it",
    )
    return ""


def _drop(path: str) -> None:
    os.unlink(path)
    os.rmdir(os.path.dirname(path))


def _read(case: "Case", path: str, found: Found) -> None:
    """Have the tools read a core, and keep what they say."""
    inside = corefile.read(path)
    count = os.path.getsize(path)
    if count > _BIGGEST:
        case.miss("core", f"{found.shown} has {size(count)}: too big to be read here, and left where it is")  # fmt: skip
        return
    if inside is not None and inside.is_cut():
        case.miss(
            "core", f"{found.shown} was cut off at {size(count)} of {size(inside.bytes_whole)}: no tool reads it; a larger core_max keeps it whole"
        )  # fmt: skip
        return
    argv = case.facts.plan.get("argv") or [""]
    tid = inside.tid if inside is not None else 0
    why = []
    for name, ask in (("pystack", _by_pystack), ("py-spy", _by_pyspy)):
        tool = find_tool(name, argv[0])
        if tool is None:
            why.append(f"{name} is not installed (pip install {name})")
            continue
        stacks, said = ask(case, tool, path, tid)
        if stacks:
            if name == "py-spy":
                case.miss("native frames of the core", "; ".join([*why, "py-spy reads only the Python frames of a core"]))  # fmt: skip
            _keep(case, stacks)
            return
        why.append(f"{name}: {said}")
    case.miss("core", f"{found.shown} is left where it is: {'; '.join(why)}")


def _by_pystack(case: "Case", tool: str, path: str, tid: int) -> "tuple[list[dict[str, Any]], str]":
    text, why = run_tool(
        [tool, "core", path, "--native-all", "--locals", "--no-color"], case.deadline.scaled(_READ_S)
    )  # fmt: skip
    stacks = corestacks.parse(text, case.pid, tid)
    return stacks, why or "it found no threads"


def _by_pyspy(case: "Case", tool: str, path: str, tid: int) -> "tuple[list[dict[str, Any]], str]":
    text, why = run_tool([tool, "dump", "--core", path, "--locals", "--json", "--full-filenames"], case.deadline.scaled(_READ_S))  # fmt: skip
    try:
        threads = [one for one in loads(text) if type(one) is dict] if text else []
    except ValueError:
        return [], "its answer is not JSON"
    for thread in threads:
        thread["pid"] = case.pid  # it says 0 of a core, and a main thread is told by it
    stacks = form.from_pyspy(threads)
    held = {t.get("os_thread_id"): [_values(frame) for frame in t.get("frames") or ()] for t in threads}  # fmt: skip
    for stack in stacks:
        if tid:
            stack["current"] = stack["tid"] == tid
        stack["native"], stack["locals"] = list(stack["frames"]), held[stack["tid"]]
    stacks.sort(key=lambda stack: not stack["current"])
    return stacks, why or "it found no threads"


def _values(frame: "dict[str, Any]") -> "list[str]":
    return [form.local_as_text(str(one.get("name")), str(one.get("repr"))) for one in frame.get("locals") or ()]  # fmt: skip


def _keep(case: "Case", stacks: "list[dict[str, Any]]") -> None:
    """Put the stacks into the bundle, and where the interpreter left no last words, in their place."""
    case.files[NAME] = corestacks.as_text(stacks).encode("utf-8", "replace")[:_TEXT_BYTES]
    crashed = next((stack for stack in stacks if stack["current"]), None)
    if crashed is not None:
        case.facts.core = crashed["native"]
    report = case.facts.report
    if report is None or not report.stacks:
        case.facts.live_stacks = [
            {"thread": s["thread"], "tid": s["tid"], "frames": s["frames"], "current": s["current"]} for s in stacks if s["frames"]
        ]  # fmt: skip
