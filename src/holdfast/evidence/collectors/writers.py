"""A disk that fills: who makes it fuller at this moment, and which file grows?

The regular files of that disk which some process has open for writing, measured twice. What is written and closed in between (many small files) is not seen.
Deleted files are: nobody finds these by looking. Cost: one stat for each open file of the machine (3 µs), and a second one for those on this disk.
"""

import os
import stat
import time

from holdfast.diagnosis.words import size
from holdfast.linux import procfs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from holdfast.evidence.case import Case

#: Flags about room on the disk.
_FLAGS = ("disk_filling", "disk_low")
#: Between the two looks: shorter than what a program that fills a disk pauses between two writes, as a rule.
WAIT_S = 0.7
_LISTED = 20


def collect(case: "Case") -> None:
    """Look twice."""
    if str((case.order.get("flag") or {}).get("flag")) not in _FLAGS:
        return
    device = os.stat(case.state_dir).st_dev
    began_s = time.monotonic()
    before = {(pid, path): count for pid, path, count in written(device)}
    time.sleep(WAIT_S)
    passed_s = time.monotonic() - began_s
    rows: list[dict[str, Any]] = []
    for pid, path in before:
        count = _size(path)
        if count >= 0:
            rows.append({"pid": pid, "link": path, "bytes": count, "grown": count - before[pid, path]})  # fmt: skip
    rows.sort(key=lambda row: (row["grown"], row["bytes"]), reverse=True)
    told = [_told(case, row, passed_s) for row in rows[:_LISTED]]
    case.facts.writers = told
    lines = [
        f"{size(row['per_s']):>10} a second  {size(row['bytes']):>10}  {row['path']}  pid {row['pid']} {row['worker'] or row['command']}"
        for row in told
    ]
    case.files["writers.txt"] = ("\n".join(lines) + "\n").encode("utf-8", "replace")


def written(device: int) -> "Iterator[tuple[int, str, int]]":
    """Give (pid, link in /proc, bytes) for each regular file of a disk that is open for writing."""
    for pid in procfs.pids():
        try:
            names = os.listdir(f"/proc/{pid}/fd")
        except OSError:
            continue  # it has ended, or is another user's
        seen = set()
        for name in names:
            path = f"/proc/{pid}/fd/{name}"
            try:
                found = os.stat(path)
                if found.st_dev != device or not stat.S_ISREG(found.st_mode):
                    continue
                if found.st_ino in seen or not _is_for_writing(f"/proc/{pid}/fdinfo/{name}"):
                    continue
            except (OSError, ValueError):
                continue  # closed meanwhile
            seen.add(found.st_ino)
            yield pid, path, found.st_size


def _is_for_writing(path: str) -> bool:
    with open(path, "rb") as file:
        text = file.read(256)
    flags = int(text.partition(b"flags:")[2].split()[0], 8)
    return flags & os.O_ACCMODE != os.O_RDONLY


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return -1


def _told(case: "Case", row: "dict[str, Any]", passed_s: float) -> "dict[str, Any]":
    pid = row["pid"]
    mark = procfs.environ(pid)
    is_ours = os.path.realpath(mark.get("HOLDFAST_RUN", "")) == os.path.realpath(case.run_dir)
    try:
        path = os.readlink(row["link"])
    except OSError:
        path = row["link"]
    return {
        "pid": pid, "worker": mark.get("HOLDFAST_WORKER", "") if is_ours else "", "command": " ".join(procfs.command_line(pid)[:3])[:160],
        "path": path, "bytes": row["bytes"], "per_s": max(0, round(row["grown"] / passed_s)),
    }  # fmt: skip
