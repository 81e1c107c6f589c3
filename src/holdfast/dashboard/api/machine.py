"""The machine in full: every disk, who uses most, and what changed lately."""

import os
import time

from holdfast.dashboard import planned
from holdfast.linux import procfs
from holdfast.records import incidents as records

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from holdfast.dashboard.asking import Ask
    from holdfast.dashboard.site import Site

#: File systems that are on this machine: another one may hang when it is asked.
_LOCAL = frozenset(
    ("ext2", "ext3", "ext4", "xfs", "btrfs", "zfs", "f2fs", "overlay", "vfat", "bcachefs")
)
_TOP, _BETWEEN_S, _LONGEST = 12, 0.25, 60
#: Incidents that are asked for what had changed before them; what changed longer ago is no news.
_ASKED, _RECENT_S = 20, 7 * 86400.0
#: Written by the package managers of the system with every change.
_PACKAGES = (
    "/var/lib/dpkg/status",
    "/var/lib/rpm/rpmdb.sqlite",
    "/usr/lib/sysimage/rpm/rpmdb.sqlite",
    "/lib/apk/db/installed",
    "/var/lib/pacman/local",
)


def machine(site: "Site", ask: "Ask") -> "dict[str, Any]":
    """Return it."""
    del ask
    state = site.view.state
    now = dict(state.get("machine") or {})
    known = {one["mount"]: one for one in now.get("disk") or ()}
    for disk in disks():
        known.setdefault(disk["mount"], disk)
    names = {one["pid"]: name for name, one in (state.get("workers") or {}).items() if one["pid"]}
    names |= {
        one["pid"]: f"holdfast {one['name']}" for one in state.get("house") or () if one["pid"]
    }
    return {
        **now,
        "disk": sorted(known.values(), key=lambda one: -(one.get("used_share") or 0.0)),
        "flags": [flag for flag in state.get("flags") or () if flag["worker"] == "@node"],
        "top": top(names),
        "changed": changed(site),
        "kernel": os.uname().release,
        "host": os.uname().nodename,
        "booted_unix_s": booted_unix_s(),
    }


def disks() -> "list[dict[str, Any]]":
    """Return the file systems on disks of this machine, each device once."""
    found: dict[int, dict[str, Any]] = {}
    try:
        with open("/proc/mounts", encoding="utf-8", errors="replace") as file:
            lines = file.read().splitlines()
    except OSError:
        return []
    for line in lines:
        parts = line.split(" ")
        if len(parts) < 3 or parts[2] not in _LOCAL:
            continue
        mount = parts[1].replace("\\040", " ")
        try:
            device, info = os.stat(mount).st_dev, os.statvfs(mount)
        except OSError:
            continue  # not for us
        usable = info.f_blocks - info.f_bfree + info.f_bavail
        if usable and device not in found:
            found[device] = {
                "mount": mount, "free_bytes": info.f_bavail * info.f_frsize, "total_bytes": info.f_blocks * info.f_frsize,
                "used_share": round(1 - info.f_bavail / usable, 3), "full_in_s": None,
                "inodes_free_share": round(info.f_favail / info.f_files, 3) if info.f_files else None,
            }  # fmt: skip
    return list(found.values())


def top(names: "dict[int, str]") -> "list[dict[str, Any]]":
    """Return the processes that use most of a processor, and of the memory, right now.

    Args:
        names: pid -> who it is in this node.
    """
    before = {pid: found for pid in procfs.pids() if (found := procfs.reading(pid)) is not None}
    began_s = time.monotonic()
    time.sleep(_BETWEEN_S)  # a share needs two looks
    rows = []
    for pid, was in before.items():
        now = procfs.reading(pid)
        if now is None or not now.rss_bytes:
            continue  # ended, or a thread of the kernel
        share = max(0.0, (now.cpu_ns - was.cpu_ns) / 1e9 / (time.monotonic() - began_s))
        rows.append((share, now.rss_bytes, pid, now.threads))
    chosen = {row[2]: row for row in sorted(rows, reverse=True)[:_TOP]}
    chosen |= {row[2]: row for row in sorted(rows, key=lambda row: -row[1])[:_TOP]}
    return [
        {"pid": pid, "worker": names.get(pid), "command": _command(pid), "cpu_share": round(share, 3), "rss_bytes": rss, "threads": threads}
        for share, rss, pid, threads in sorted(chosen.values(), reverse=True)
    ]  # fmt: skip


def _command(pid: int) -> str:
    """Return the name of a program, not its arguments: there are passwords among those."""
    argv = procfs.command_line(pid)
    if not argv:
        return ""
    name = os.path.basename(argv[0].partition(" ")[0])[:_LONGEST]
    if not name.startswith("python"):
        return name
    words = iter(argv[1:])
    for word in words:
        if word in ("-X", "-W"):
            next(words, "")
        elif word == "-m":
            return f"{name} -m {next(words, '')}"[:_LONGEST]
        elif word == "-c":
            return f"{name} -c …"
        elif not word.startswith("-"):
            # Of __main__.py the directory says more.
            parts = word.rsplit("/", 2)
            script = "/".join(parts[-2:]) if parts[-1] == "__main__.py" else parts[-1]
            return f"{name} {script}"[:_LONGEST]
    return name


def changed(site: "Site") -> "list[dict[str, Any]]":
    """Return what changed lately: the machine as a whole, and what the evidence of incidents found, newest first."""
    now = time.time()
    found = []
    booted = booted_unix_s()
    if booted:
        found.append(_row(booted, f"the machine was booted, with kernel {os.uname().release}"))
    for path in _PACKAGES:
        at = _mtime(path)
        if at:
            found.append(_row(at, "packages of the system were changed"))
    config = str(planned.header(site.where).get("config") or "")
    written = _mtime(f"{site.where.run_dir}/plan.json")
    edited = _mtime(config) if config else 0.0
    if edited and written and edited > written:
        found.append(
            _row(edited, f"{config} was changed, and is not in effect yet (holdfast diff)")
        )
    elif written:
        found.append(_row(written, "a configuration was put into effect"))
    for row in (site.view.state.get("incidents") or ())[:_ASKED]:
        for parent in records.parents(site.where.state_dir):
            record = records.read_record(f"{parent}/{row['id']}")
            more = {"worker": row["worker"], "incident": row["id"]}
            sentences = (record or {}).get("changed") or ()
            found += [{**_row(row["opened_unix_s"], str(says)), **more} for says in sentences]
    recent = [
        row
        for row in found
        if now - row["at_unix_s"] < _RECENT_S or row["says"].startswith("the machine")
    ]
    unique = {row["says"]: row for row in reversed(recent)}
    return sorted(unique.values(), key=lambda row: -float(row["at_unix_s"]))


def booted_unix_s() -> float:
    """Return when the machine was booted."""
    return round(time.time() - time.clock_gettime(time.CLOCK_BOOTTIME))


def _row(at_unix_s: float, says: str) -> "dict[str, Any]":
    return {"at_unix_s": round(at_unix_s), "says": says, "worker": None, "incident": None}


def _mtime(path: str) -> float:
    try:
        return os.stat(path).st_mtime
    except OSError:
        return 0.0
