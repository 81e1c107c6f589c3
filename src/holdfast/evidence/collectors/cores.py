"""A core dump, where the kernel wrote one: the stacks in it are kept, the core itself is not.

A core of a process of 1 GB is 1 GB: it is read once (py-spy needs 50 ms for a small one, locals included), then deleted unless the
worker is allowed to keep cores (``limits.core`` is set by the person who wants them). Looked for only where the kernel
writes plain files; a core that a program takes (``|…`` in core_pattern) is that program's.
"""

import os

from holdfast.evidence.case import read_text
from holdfast.evidence.collectors.stacks import find_pyspy, run_tool

TYPE_CHECKING = False
if TYPE_CHECKING:
    from holdfast.evidence.case import Case

#: Bigger ones are not read: nobody waits that long, and they are not deleted either.
_BIGGEST = 4 << 30
_READ_S = 3.0
_TEXT_BYTES = 65536


def collect(case: "Case") -> None:
    """Read the core of the life that ended, where there is one."""
    status = case.order.get("status")
    if case.order.get("live") or status is None or not int(status) & 0x80:
        return  # the kernel says whether it dumped core
    path = find(case)
    if not path:
        pattern = read_text("/proc/sys/kernel/core_pattern", 256).strip()
        case.miss("core", f"the kernel dumped core, but not where it can be found (core_pattern is {pattern})")  # fmt: skip
        return
    count = os.path.getsize(path)
    if count > _BIGGEST:
        case.miss("core", f"{path} has {count >> 20} MiB: too big to be read here, and left where it is")  # fmt: skip
        return
    argv = case.facts.plan.get("argv") or [""]
    tool = find_pyspy(argv[0])
    if tool is None:
        case.miss("core", f"{path} is there; py-spy is not, which could read it")
        return
    text, why = run_tool([tool, "dump", "--core", path, "--locals"], case.deadline.scaled(_READ_S))
    if why:
        case.miss("core", f"{path}: {why}")
        return
    case.files["core.txt"] = text.encode("utf-8", "replace")[:_TEXT_BYTES]
    if not (case.facts.plan.get("limits") or {}).get("core_bytes"):
        # Nobody asked for cores: it came from the limits of the shell, and would fill the disk crash by crash.
        os.unlink(path)


def find(case: "Case") -> str:
    """Return the core file of this process; "" when there is none that can be told to be its own."""
    pattern = read_text("/proc/sys/kernel/core_pattern", 256).strip()
    if not pattern or pattern.startswith("|"):
        return ""
    directory = str(case.facts.plan.get("directory") or "")
    uses_pid = read_text("/proc/sys/kernel/core_uses_pid", 8).strip() == "1"
    has_pid = "%p" in pattern or "%P" in pattern
    name = pattern.replace("%p", str(case.pid)).replace("%P", str(case.pid))
    names = [name] if has_pid else [f"{name}.{case.pid}"] if uses_pid else [name]
    died_s = float(case.facts.exit.get("unix_s") or case.order.get("unix_s") or 0.0)
    for one in names:
        path = one if os.path.isabs(one) else f"{directory}/{one}"
        if "%" in path:
            continue
        try:
            found = os.stat(path)
        except OSError:
            continue
        # Without a pid in its name only the time can tell whose it is.
        if abs(found.st_mtime - died_s) < 30.0:
            return path
    return ""
