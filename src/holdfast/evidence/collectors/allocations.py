"""What does a recording of allocations say: which stacks hold how many bytes, as a table and as a picture?

Reads what the agent had memray record (:mod:`holdfast.agent.recording`) with the interpreter of the program, since memray is in its
environment; 0.2 s, with C frames 0.6 s, none of it in the program. What tracemalloc saw comes with the census and is brought into the same form.
"""

import os

from holdfast.diagnosis import flame, owners, profile
from holdfast.diagnosis.lastwords import split_frame
from holdfast.evidence.collectors.stacks import run_tool
from holdfast.linux import procfs
from holdfast.wire.jsonlite import loads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_READER = f"{os.path.dirname(os.path.dirname(os.path.abspath(__file__)))}/read_recording.py"
_READ_S = 60.0
#: Directories of the source of CPython.
_SOURCES = ("/Modules/", "/Objects/", "/Python/", "/Include/")
#: Our own code that begins and ends a recording; other code of the agent may be on the stack of the whole program.
_COUNTING = ("/holdfast/agent/growth.py:", "/holdfast/agent/recording.py:")


def read(path: str, pid: int, python: str) -> "tuple[list[dict[str, Any]], str]":
    """Return (sites ``{"bytes", "count", "thread", "frames"}``, the largest first; why there are none), and remove the recording.

    Args:
        path: The recording.
        pid: Of the program: its environment says where its packages are.
        python: Its interpreter.
    """
    there = procfs.environ(pid)
    env: dict[str, str] = {**os.environ, **{name: there[name] for name in ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV") if name in there}}  # fmt: skip
    text, why = run_tool([python, "-P", _READER, path], _READ_S, env)
    try:
        os.unlink(path)
    except OSError:
        pass  # another `heap` of the same worker has taken it
    try:
        rows = loads(text)["rows"] if text else []
    except (ValueError, KeyError):
        return [], "its recording cannot be read"
    # One stack comes once for each allocator that it called (list, bytes, …).
    found: dict[tuple[str, ...], dict[str, Any]] = {}
    for count_bytes, count, thread, frames in rows:
        # Our own thread began and ended the recording, and counted meanwhile.
        if any(part in frame for frame in frames for part in _COUNTING):
            continue
        site = found.setdefault((thread, *frames), {"bytes": 0, "count": 0, "thread": str(thread), "frames": frames})  # fmt: skip
        site["bytes"] += count_bytes
        site["count"] += count
    return sorted(found.values(), key=lambda site: -int(site["bytes"])), why


def as_profile(sites: "list[dict[str, Any]]") -> profile.Profile:
    """Return the sites as collapsed stacks, where bytes take the place of samples."""
    return profile.Profile([
        (str(site.get("thread") or ""), tuple(reversed([str(f) for f in site["frames"]])), int(site["bytes"]))
        for site in sites if site["frames"] and int(site["bytes"]) > 0
    ])  # fmt: skip


def outputs(sites: "list[dict[str, Any]]", title: str) -> "dict[str, Any]":
    """Return them in every form that we offer, by the ending of the file."""
    found = as_profile(sites)
    return {
        ".txt": found.collapsed,
        ".collapsed": found.collapsed,
        ".json": lambda: profile.speedscope(found, title, "bytes"),
        ".svg": lambda: flame.svg(found, title, "bytes", "what was allocated and is still there"),
    }


def by_way(sites: "list[dict[str, Any]]", directory: str) -> "list[tuple[int, int, str]]":
    """Return (bytes, count, the functions that led there), the most bytes first, with what reads alike told once."""
    found: dict[str, list[int]] = {}
    for site in sites:
        frames = telling([str(f) for f in site["frames"]])
        mine = owners.places(frames, {}) or [owners.Place(frames[0], {})]
        entry = found.setdefault(" <- ".join(place.short(directory) for place in mine[:3]), [0, 0])
        entry[0] += int(site["bytes"])
        entry[1] += int(site["count"])
    rows = [(count_bytes, count, way) for way, (count_bytes, count) in found.items()]
    return sorted(rows, key=lambda row: -row[0])


def telling(frames: "list[str]") -> "list[str]":
    """Return the frames that say something to a person: the interpreter's own C code has paths of the place where it was built."""
    return [frame for frame in frames if not _is_built_in(split_frame(frame)[0])] or frames


def _is_built_in(path: str) -> bool:
    if not path.startswith(("/", "<")) or path == "<unknown>":
        return True
    return path.endswith((".c", ".h", ".S")) and any(part in path for part in _SOURCES)
