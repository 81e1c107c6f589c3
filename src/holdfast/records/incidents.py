"""Which incidents are there, and what is in one?

The directories under ``STATE/incidents`` are the truth: each appears by one rename, complete. The index
(``index.jsonl``) is a cache of one row each, so that ten thousand can be listed without opening ten thousand
files. Every reading compares the two: rows of bundles that somebody deleted are left out, bundles without a row
(their writer was killed in between, the index was damaged or removed) are read and their rows added.
A bundle that could not be written to the disk (full) waits in ``RUN/incidents``, in memory, and is read from there.

Left out: making bundles (the evidence process) and telling them (``diagnosis.story``).
"""

import os

from holdfast.linux import files
from holdfast.model.errors import StateError
from holdfast.wire import layout
from holdfast.wire.jsonlite import dumps, loads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

#: The fields of incident.json that a row of the index repeats.
ROW = (
    "id",
    "key",
    "worker",
    "component",
    "kind",
    "title",
    "opened_unix_s",
    "start",
    "pid",
    "status_words",
    "verdict",
    "signature",
    "because",
)
#: Verdicts of remedies that did not last.
IN_VAIN = ("came_back", "did_not_help", "gave_up")
#: What two incidents have in common of which one is the other's return.
SAME = ("worker", "component", "kind", "status_words")
RECORD = "incident.json"
TIMELINE = "timeline.jsonl"


def list_incidents(
    state_dir: str,
    since: "float | None" = None,
    worker: "str | None" = None,
    limit: "int | None" = None,
) -> "list[dict[str, Any]]":
    """Return rows of incidents, newest first, each with its last verdict.

    Args:
        state_dir: The node's state directory.
        since: Only those opened at this Unix time or later.
        worker: Only those of this worker.
        limit: At most so many.
    """
    rows = _rows(state_dir)
    if since is not None:
        rows = [row for row in rows if row["opened_unix_s"] >= since]
    if worker is not None:
        rows = [row for row in rows if row.get("worker") == worker]
    rows.sort(key=lambda row: (row["opened_unix_s"], row["id"]), reverse=True)
    if limit is not None:
        rows = rows[:limit]
    for row in rows:
        verdict = _last_verdict(timeline_of(f"{state_dir}/{layout.INCIDENTS}/{row['id']}"))
        if verdict:
            row["verdict"] = verdict
    return rows


def folded(rows: "list[dict[str, Any]]") -> "list[dict[str, Any]]":
    """Return the rows without those that came back as a later one of the list, or ended in vain as that did; it has ``times`` and ``first_unix_s`` instead. Pure.

    Args:
        rows: As :func:`list_incidents` returns them, newest first.
    """
    found: list[dict[str, Any]] = []
    latest: dict[tuple[object, ...], dict[str, Any]] = {}
    for row in rows:
        key = tuple(row.get(name) for name in SAME)
        again = latest.get(key)
        verdict = row.get("verdict")
        is_same = again is not None and verdict == again.get("verdict") and verdict in IN_VAIN
        if again is None or not (verdict == "came_back" or is_same):
            latest[key] = again = {**row, "times": 0}
            found.append(again)
        again["times"] += 1
        again["first_unix_s"] = row["opened_unix_s"]
    return found


def load(state_dir: str, incident: str) -> "dict[str, Any]":
    """Return ``incident.json`` of one incident, with the last verdict and ``path`` (its directory) filled in.

    A damaged bundle gives what its row in the index knows, with ``damaged`` saying so.

    Args:
        state_dir: The node's state directory.
        incident: Its id, or the beginning of it when that fits only one.

    Raises:
        StateError: There is none, or the beginning fits several.
    """
    path = bundle_path(state_dir, incident)
    record = read_record(path)
    if record is None:
        name = os.path.basename(path)
        row = next((row for row in read_index(state_dir)[0] if row["id"] == name), {})
        record = {**_empty(name), **row, "damaged": f"{path}/{RECORD} cannot be read"}
    record["path"] = path
    verdict = _last_verdict(timeline_of(path))
    if verdict:
        record["verdict"] = verdict
    return record


def timeline(state_dir: str, incident: str) -> "list[dict[str, Any]]":
    """Return what was done about an incident, oldest first.

    Raises:
        StateError: There is no such incident.
    """
    return timeline_of(bundle_path(state_dir, incident))


def consequences(state_dir: str, incident: str) -> list[str]:
    """Return the incidents that followed from this one, the first one first: one cause is one alarm."""
    found = [
        (row["opened_unix_s"], str(row["id"]))
        for row in read_index(state_dir)[0]
        if type(row.get("because")) is dict and row["because"].get("incident") == incident
    ]
    return [identity for _, identity in sorted(found)]


def bundle_path(state_dir: str, incident: str) -> str:
    """Return the directory of an incident, given its id or an unmistakable beginning of it.

    Raises:
        StateError: There is none, or the beginning fits several.
    """
    if "/" not in incident and not incident.startswith("."):
        for parent in parents(state_dir):
            if incident and os.path.isdir(f"{parent}/{incident}"):
                return f"{parent}/{incident}"
    matches = {
        name: f"{parent}/{name}"
        for parent in reversed(parents(state_dir))
        for name in names(parent)
        if incident and name.startswith(incident)
    }
    if len(matches) == 1:
        return next(iter(matches.values()))
    if matches:
        some = ", ".join(sorted(matches)[:5])
        more = ", …" if len(matches) > 5 else ""
        says = f'incident "{incident}" fits {len(matches)} incidents: {some}{more}'
        raise StateError(says)
    says = f'there is no incident "{incident}" in {state_dir}\n  all of them: holdfast incidents'
    raise StateError(says)


def rebuild_index(state_dir: str) -> int:
    """Write the index anew from the bundles and return how many there are.

    Raises:
        OSError: It cannot be written.
    """
    parent = f"{state_dir}/{layout.INCIDENTS}"
    rows = [_row_of(parent, name) for name in sorted(names(parent))]
    # A row that somebody appends meanwhile is lost with the old file: the next reading finds its bundle without a
    # row and adds it again.
    files.write_atomic(f"{state_dir}/{layout.INCIDENT_INDEX}", b"".join(map(encode_row, rows)))
    return len(rows)


# -- what the evidence process uses, too ------------------------------------------------------------


def parents(state_dir: str) -> list[str]:
    """Return the directories that bundles are in: on disk, and in memory while the disk was full."""
    return [f"{state_dir}/{layout.INCIDENTS}", f"{state_dir}/{layout.RUN_LINK}/{layout.INCIDENTS}"]


def names(parent: str) -> list[str]:
    """Return the ids of the bundles in a directory, in no order."""
    try:
        found = os.listdir(parent)
    except (FileNotFoundError, NotADirectoryError):
        return []
    # An id begins with a year. Temporary directories and the index do not.
    return [name for name in found if name[:1].isdigit()]


def read_record(path: str) -> "dict[str, Any] | None":
    """Return the record of a bundle, or None when it is damaged or not there."""
    try:
        record = loads(files.read(f"{path}/{RECORD}").decode())
    except (ValueError, OSError):
        return None
    if type(record) is not dict or "id" not in record:
        return None
    record["opened_unix_s"] = _number(record.get("opened_unix_s"))
    return record


def read_index(state_dir: str) -> "tuple[list[dict[str, Any]], bool]":
    """Return the rows of the index as they stand there, and whether it is undamaged."""
    try:
        data = files.read(f"{state_dir}/{layout.INCIDENT_INDEX}")
    except OSError:
        return [], False
    lines = data.split(b"\n")
    whole = not lines.pop()  # what follows the last newline
    try:
        # One call for all of them: a quarter of the time of a call each.
        found = loads("[" + ",".join(line.decode() for line in lines) + "]") if lines else []
    except ValueError:
        found, whole = [row for row in map(_decode_row, lines) if row], False
    rows = [row for row in found if type(row) is dict and type(row.get("id")) is str]
    for row in rows:
        row["opened_unix_s"] = _number(row.get("opened_unix_s"))
    return rows, whole and len(rows) == len(found)


def encode_row(record: "dict[str, Any]") -> bytes:
    """Return the line that the index holds for an incident."""
    return dumps(_row(record)).encode() + b"\n"


def timeline_of(path: str) -> "list[dict[str, Any]]":
    """Return the timeline in a bundle directory; rows that are torn are left out."""
    try:
        lines = files.read(f"{path}/{TIMELINE}").split(b"\n")
    except OSError:
        return []
    return [row for row in map(_decode_row, lines) if row]


# -- private ----------------------------------------------------------------------------------------


def _rows(state_dir: str) -> "list[dict[str, Any]]":
    """Return a row for each bundle, and mend the index where it is behind or damaged."""
    parent, in_memory = parents(state_dir)
    there = set(names(parent))
    indexed, whole = read_index(state_dir)
    rows = {row["id"]: row for row in indexed if row["id"] in there}
    missing = sorted(there - rows.keys())
    for name in missing:
        rows[name] = _row_of(parent, name)
    _mend(state_dir, rows.values(), [rows[name] for name in missing], whole=whole)
    for name in names(in_memory):
        rows.setdefault(name, _row_of(in_memory, name))
    return list(rows.values())


def _mend(
    state_dir: str,
    rows: "Iterable[dict[str, Any]]",
    missing: "list[dict[str, Any]]",
    *,
    whole: bool,
) -> None:
    path = f"{state_dir}/{layout.INCIDENT_INDEX}"
    try:
        if not whole:
            files.write_atomic(path, b"".join(map(encode_row, rows)))
        elif missing:
            files.append(path, b"".join(map(encode_row, missing)))
    except OSError:
        return  # somebody who may only read, or a full disk: the answer is right all the same


def _row_of(parent: str, name: str) -> "dict[str, Any]":
    record = read_record(f"{parent}/{name}")
    if record is None:
        return _empty(name)
    return {**_row(record), "id": name}


def _row(record: "dict[str, Any]") -> "dict[str, Any]":
    row = {key: record.get(key) for key in ROW}
    cause = record.get("cause")
    if type(cause) is dict:
        row["signature"] = cause.get("signature")
    return row


def _empty(name: str) -> "dict[str, Any]":
    """Return a row for a bundle that cannot be read: its name still tells the day and the worker."""
    row: dict[str, Any] = dict.fromkeys(ROW)
    worker = name[11:].rpartition("-")[0]
    row.update(
        id=name,
        worker=worker,
        opened_unix_s=_midnight(name),
        title=f'worker "{worker}": this bundle is damaged',
    )
    return row


def _midnight(name: str) -> float:
    import calendar  # only for damaged bundles

    try:
        year, month, day = (int(part) for part in name[:10].split("-"))
        return float(calendar.timegm((year, month, day, 0, 0, 0)))
    except ValueError:
        return 0.0


def _last_verdict(rows: "list[dict[str, Any]]") -> "str | None":
    return next((str(row["verdict"]) for row in reversed(rows) if row.get("verdict")), None)


def _decode_row(line: bytes) -> "dict[str, Any] | None":
    try:
        row = loads(line.decode())
    except ValueError:
        return None
    return row if type(row) is dict else None


def _number(value: object) -> float:
    return float(value) if isinstance(value, (int, float)) else 0.0
