"""What was loaded in lives that crashed, and in lives that went well?

Feeds :mod:`holdfast.core.suspicion`: one :class:`Lived` for each life that the keeper's journal tells of, with its components and, where
somebody knows, its C extensions and their versions. Of a crash the interpreter's own last words list them (they are in its incident);
of a process that lives, the kernel does (``/proc/PID/maps``). Versions are those of the fingerprint last taken of the worker.
"""

import os

from holdfast.core import isolate
from holdfast.core.suspicion import Lived
from holdfast.linux import files
from holdfast.records import incidents
from holdfast.wire import journal, layout
from holdfast.wire.jsonlite import loads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

#: A life this long without a crash says that what was loaded in it is harmless.
WELL_S = 10.0
#: So many incidents are opened, the newest first: each is a file.
_MOST_OPENED = 300
#: What every container has of its own says nothing.
_OWN = ("holdfast",)


def deaths(run_dir: str) -> "dict[str, list[isolate.Death]]":
    """Return what the watchdog goes by, too: the deaths of each configured worker since somebody last saw to it."""
    known: dict[str, list[isolate.Death]] = {}
    for record in _journal(run_dir):
        isolate.follow(known, record)
    return known


def lives(state_dir: str, run_dir: str, living: "Iterable[dict[str, Any]]") -> "list[Lived]":
    """Return the lives of which it is known what was loaded.

    Args:
        state_dir: The node's state directory.
        run_dir: Its run directory.
        living: The workers that live: ``name``, ``pid``, ``components`` (names), ``lived_s``.
    """
    extensions = _of_incidents(state_dir)
    versions: dict[str, dict[str, str]] = {}

    def loaded(worker: str, components: "Iterable[str]", modules: "Iterable[str]") -> "set[str]":
        known = versions.setdefault(worker, _versions(state_dir, worker))
        named = {f"extension {_with_version(module, known)}" for module in modules}
        return {f"component {name}" for name in components} | named

    found = []
    for record in _journal(run_dir):
        if record.get("k") != "exit" or not record.get("components"):
            continue
        worker = str(record["worker"])
        if isolate.death_of(record) is not None:
            named = extensions.get((worker, int(record["n"])), [])
            found.append(Lived(loaded(worker, record["components"], named), crashed=True))
        elif record.get("lived_s", 0.0) >= WELL_S and record.get("cause") != "remedy":
            found.append(Lived(loaded(worker, record["components"], ()), crashed=False))
    for one in living:
        if one["lived_s"] >= WELL_S:
            modules = extensions_of(int(one["pid"]))
            found.append(Lived(loaded(one["name"], one["components"], modules), crashed=False))
    return found


def extensions_of(pid: int) -> "set[str]":
    """Return the C extensions (dotted names) that a living process has loaded; empty where nobody may look."""
    try:
        lines = files.read(f"/proc/{pid}/maps").decode("utf-8", "replace").splitlines()
    except OSError:
        return set()
    paths = {line.split(None, 5)[5] for line in lines if line.endswith(".so")}
    return {name for name in map(module_of, paths) if name}


def module_of(path: str) -> str:
    """Return the module that a shared object of a Python extension is; "" for the standard library's and others."""
    directory, _, file_name = path.rpartition("/")
    if "/lib-dynload" in directory or not (".cpython-" in file_name or ".abi3." in file_name):
        return ""
    name = file_name.partition(".")[0]
    for marker in ("/site-packages/", "/dist-packages/"):
        if marker in f"{directory}/":
            inside = f"{directory}/".rpartition(marker)[2].strip("/").replace("/", ".")
            return f"{inside}.{name}" if inside else name
    return name


# -- private ----------------------------------------------------------------------------------------


def _journal(run_dir: str) -> "Iterator[dict[str, Any]]":
    try:
        data = files.read(f"{run_dir}/{layout.JOURNAL}")
    except OSError:
        return iter(())
    return journal.each(data)


def _of_incidents(state_dir: str) -> "dict[tuple[str, int], list[str]]":
    """Return the extensions that were loaded in crashed lives, by worker and start number."""
    rows = incidents.list_incidents(state_dir, limit=_MOST_OPENED)
    found = {}
    for row in rows:
        if row.get("start") is None or row.get("kind") not in ("crash", "exit", "crash_loop"):
            continue
        record = incidents.read_record(f"{state_dir}/{layout.INCIDENTS}/{row['id']}") or {}
        named = [m for m in record.get("extensions") or () if m.partition(".")[0] not in _OWN]
        if named:
            found[str(row["worker"]), int(row["start"])] = named
    return found


def _versions(state_dir: str, worker: str) -> "dict[str, str]":
    for name in (f"{worker}.last.json", f"{worker}.json"):
        try:
            value = loads(files.read(os.path.join(state_dir, layout.GOOD, name)).decode())
        except (OSError, ValueError):
            continue
        packages = value.get("packages") if type(value) is dict else None
        if type(packages) is dict:
            return {_plain(name): str(version) for name, version in packages.items()}
    return {}


def _with_version(module: str, versions: "dict[str, str]") -> str:
    version = versions.get(_plain(module.partition(".")[0]))
    return f"{module} ({version})" if version else module


def _plain(name: str) -> str:
    return name.lower().replace("-", "_").replace(".", "_")
