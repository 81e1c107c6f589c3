"""How does a bundle come to be in its place: whole, once, under a name of its own?

Built in a temporary directory, then renamed: a directory that has been renamed over by another process refuses (it is
not empty), so the rename itself decides which of two gets a number. Which temporary directories are left over from the
dead is told by the pid and start time in their names.
"""

import os

from holdfast.diagnosis.words import day
from holdfast.evidence.case import readable
from holdfast.linux import files, procfs
from holdfast.records import incidents
from holdfast.wire import layout

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_TEMPORARY = ".tmp-"
#: What a person needs most, for a disk that takes no more.
_SMALLEST = ("stacks.txt", "kernel.txt")
_SMALLEST_LOG_BYTES = 8192


def prefix(worker: str, unix_s: float) -> str:
    """Return what the ids of a worker's incidents of one day (UTC) begin with.

    From the order's time, not from the clock: carried out again after midnight, an order finds its own.
    """
    return f"{day(int(unix_s // 86400))}-{worker}-"


def find_key(parents: list[str], start: str, key: str) -> str | None:
    """Return the id of the incident that this order has already led to."""
    for parent in parents:
        for name in incidents.names(parent):
            if name.startswith(start) and name[len(start) :].isdigit():
                record = incidents.read_record(f"{parent}/{name}")
                if record and record.get("key") == key:
                    return name
    return None


def publish(
    parent: str,
    start: str,
    record: "dict[str, Any]",
    content: "dict[str, bytes]",
    taken: list[str],
    number: int = 0,
) -> str:
    """Put a bundle into a directory and return the id it got.

    Args:
        parent: STATE/incidents or RUN/incidents.
        start: The beginning of the id (:func:`prefix`).
        record: incident.json; its ``id`` is filled in here.
        content: The other files, by name.
        taken: Ids that are in use elsewhere.
        number: The number to try first; 0: the next one.

    Raises:
        OSError: The disk is full, read-only, …; nothing is left behind.
    """
    os.makedirs(parent, exist_ok=True)
    temporary = f"{parent}/{_TEMPORARY}{os.getpid()}-{procfs.start_ticks(os.getpid())}"
    os.mkdir(temporary)
    try:
        for name, data in content.items():
            _write(f"{temporary}/{name}", data)
        number = number or 1 + max(
            (_number(n, start) for n in [*incidents.names(parent), *taken]), default=0
        )
        while True:
            record["id"] = f"{start}{number}"
            _write(f"{temporary}/{incidents.RECORD}", readable(record))
            try:
                os.rename(temporary, f"{parent}/{record['id']}")
            except (FileExistsError, NotADirectoryError):
                number += 1
                continue
            except OSError as error:
                if error.errno == _NOT_EMPTY:
                    number += 1
                    continue
                raise
            return str(record["id"])
    except OSError:
        remove(temporary)
        raise


_NOT_EMPTY = 39  # ENOTEMPTY: the name is taken


def smallest(content: "dict[str, bytes]") -> "dict[str, bytes]":
    """Return what has to be kept even where there is hardly any room."""
    kept = {name: content[name] for name in _SMALLEST if name in content}
    if "log.txt" in content:
        kept["log.txt"] = content["log.txt"][-_SMALLEST_LOG_BYTES:]
    return kept


def sweep(parent: str) -> int:
    """Remove what dead evidence processes left half done; return how many there were."""
    try:
        found = [name for name in os.listdir(parent) if name.startswith(_TEMPORARY)]
    except OSError:
        return 0
    removed = 0
    for name in found:
        pid, _, ticks = name[len(_TEMPORARY) :].partition("-")
        if pid.isdigit() and ticks.isdigit() and procfs.start_ticks(int(pid)) == int(ticks):
            continue  # somebody is working there
        remove(f"{parent}/{name}")
        removed += 1
    return removed


def bring_home(state_parent: str, run_parent: str, state_dir: str) -> list[str]:
    """Move bundles that waited in memory to the disk; return their ids there.

    Raises:
        OSError: The disk is still full.
    """
    moved = []
    for name in sorted(incidents.names(run_parent)):
        source = f"{run_parent}/{name}"
        record = incidents.read_record(source)
        if record is None:
            continue
        start = name[: len(name) - len(name.rpartition("-")[2])]
        identity = find_key([state_parent], start, str(record.get("key")))
        if identity is None:
            content = {
                n: files.read(f"{source}/{n}") for n in os.listdir(source) if n != incidents.RECORD
            }
            taken = [n for n in incidents.names(run_parent) if n != name]
            # Killed after the rename: the key is found there the next time.
            identity = publish(state_parent, start, record, content, taken, _number(name, start))
            add_row(state_dir, record)
        discard(source)
        moved.append(identity)
    return moved


def add_row(state_dir: str, record: "dict[str, Any]") -> None:
    """Append the row of a new incident to the index; without it, readers find the bundle all the same."""
    try:
        files.append(f"{state_dir}/{layout.INCIDENT_INDEX}", incidents.encode_row(record))
    except OSError:
        return


def settle(path: str) -> None:
    """Have a bundle survive a power cut. Called when nobody waits any more."""
    try:
        for name in os.listdir(path):
            _sync(f"{path}/{name}")
        _sync(path)
        _sync(os.path.dirname(path))
    except OSError:
        return  # deleted already, or a file system that cannot


def remove(path: str) -> None:
    """Remove a bundle directory, as far as possible."""
    try:
        for name in os.listdir(path):
            os.unlink(f"{path}/{name}")
        os.rmdir(path)
    except OSError:
        return  # the next sweep tries again


def discard(path: str) -> None:
    """Take a bundle away, at one instant for whoever reads."""
    parent = os.path.dirname(path)
    # The name of a temporary directory that belongs to nobody: killed in between, the next sweep finishes it.
    aside = f"{parent}/{_TEMPORARY}{os.getpid()}-{os.path.basename(path)}"
    try:
        os.rename(path, aside)
    except FileNotFoundError:
        return  # somebody else was quicker
    remove(aside)


def prune(parent: str, keep: int) -> int:
    """Remove the oldest bundles beyond ``keep``; return how many.

    A worker that dies every minute for a month must not fill the disk with the evidence of it.
    """
    names = incidents.names(parent)
    if len(names) <= keep:
        return 0
    aged = sorted((_written_s(f"{parent}/{name}"), name) for name in names)
    for _, name in aged[: len(names) - keep]:
        discard(f"{parent}/{name}")
    return len(names) - keep


def _written_s(path: str) -> float:
    try:
        return os.stat(f"{path}/{incidents.RECORD}").st_mtime
    except OSError:
        return 0.0  # damaged: the first to go


def _number(name: str, start: str) -> int:
    tail = name[len(start) :]
    return int(tail) if name.startswith(start) and tail.isdigit() else 0


def _write(path: str, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(descriptor, view) :]
    finally:
        os.close(descriptor)


def _sync(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
