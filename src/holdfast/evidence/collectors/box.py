"""The machine itself: memory, pressure, load, and who uses most of it.

Cost: one read of a few files of /proc and two of each process (0.1 ms each); nothing is asked of anybody.
"""

import os
import time

from holdfast.diagnosis.words import size
from holdfast.evidence.case import read_text
from holdfast.linux import procfs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from holdfast.evidence.case import Case

_MEMINFO = ("MemTotal", "MemAvailable", "MemFree", "Cached", "SwapTotal", "SwapFree", "Dirty", "Shmem", "Slab")  # fmt: skip
_VMSTAT = ("pgmajfault", "pswpin", "pswpout", "oom_kill", "workingset_refault_file")
_PROCESSES = 15


def collect(case: "Case") -> None:
    """Read what the kernel says of the machine."""
    facts: dict[str, Any] = {
        "loadavg": read_text("/proc/loadavg", 128).split(),
        "uptime_s": float((read_text("/proc/uptime", 64).split() or ["0"])[0]),
        "clock": {"unix_s": round(time.time(), 3), "mono_s": round(time.monotonic(), 3)},
        "memory": pairs("/proc/meminfo", _MEMINFO),
        "vmstat": pairs("/proc/vmstat", _VMSTAT),
        "pressure": pressure(),
        "processes": processes(),
    }
    case.facts.box = facts
    case.keep_json("box.json", facts)
    lines = [
        f"{size(row['rss_bytes']):>10}  pid {row['pid']:<8} {row['command']}"
        for row in facts["processes"]
    ]
    case.files["box.txt"] = ("\n".join(lines) + "\n").encode("utf-8", "replace")


def pairs(path: str, names: "tuple[str, ...]") -> "dict[str, int]":
    """Return fields of a file of names and numbers; sizes in kB become bytes."""
    found = {}
    for line in read_text(path).splitlines():
        name, _, rest = line.replace(":", " ").partition(" ")
        words = rest.split()
        if name in names and words and words[0].isdigit():
            found[name] = int(words[0]) * (1024 if words[1:] == ["kB"] else 1)
    return found


def pressure() -> "dict[str, list[str]]":
    """Return the pressure stall information of the machine; empty where the kernel has none."""
    found = {}
    for name in ("cpu", "memory", "io"):
        text = read_text(f"/proc/pressure/{name}", 512).splitlines()
        if text:
            found[name] = text
    return found


def processes() -> "list[dict[str, Any]]":
    """Return the processes that hold most memory."""
    page = os.sysconf("SC_PAGE_SIZE")
    rows = []
    for pid in procfs.pids():
        words = read_text(f"/proc/{pid}/statm", 128).split()
        if len(words) > 1:
            rows.append((int(words[1]) * page, pid))
    rows.sort(reverse=True)
    return [
        {"rss_bytes": rss, "pid": pid, "command": " ".join(procfs.command_line(pid)[:3])[:160]}
        for rss, pid in rows[:_PROCESSES]
    ]
