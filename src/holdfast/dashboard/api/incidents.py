"""What broke: the feed with its filters, one incident with everything that is shown of it, and its files.

Nothing in a bundle is trusted: files are text or bytes to be saved, never a page. Leaves out making bundles.
"""

import heapq
import os
import stat
import tarfile
import time
from typing import cast

import msgspec

from holdfast.cli.tops.logtail import plain
from holdfast.dashboard import charts, planned, telling
from holdfast.dashboard.asking import Plain, Refused
from holdfast.dashboard.now import VERDICTS
from holdfast.dashboard.state import row_of
from holdfast.diagnosis import profile
from holdfast.diagnosis.stacks import as_text
from holdfast.diagnosis.story import story
from holdfast.model.errors import StateError
from holdfast.records import incidents as records
from holdfast.wire import layout
from holdfast.wire.jsonlite import dumps, loads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from holdfast.dashboard.asking import Ask
    from holdfast.dashboard.site import Site

#: Incidents whose timeline is read in search of a verdict.
_VERDICTS_READ = 2000
#: A file is shown up to this size; the bundle has all of it.
_SHOWN_BYTES = 4 << 20
_LOG_LINES = 400
_PROFILE, _SPEEDSCOPE = "profile.txt", "profile.speedscope.json"
_TEXTS = (".txt", ".json", ".jsonl", ".log", ".toml")
_SANDBOX = (
    ("content-security-policy", "sandbox; default-src 'none'"),
    ("x-content-type-options", "nosniff"),
)
_CHUNK = 1 << 16
#: Two times of one incident; they were written by the same process.
_SAME_S = 0.01


class Row(msgspec.Struct, gc=False):
    """A row of the index, as far as it is filtered by."""

    id: str
    worker: str | None = None
    component: str | None = None
    kind: str | None = None
    title: str | None = None
    opened_unix_s: float = 0.0
    start: int | None = None
    verdict: str | None = None


_decode = msgspec.json.Decoder(Row).decode


# -- the feed --------------------------------------------------------------------------------------


def feed(site: "Site", ask: "Ask") -> "dict[str, Any]":
    """Return incidents, newest first, with the cursor of those before."""
    query = ask.query
    limit = ask.how_many("limit", 50, 500)
    verdict = query.get("verdict") or ""
    if verdict and verdict not in VERDICTS:
        raise Refused(
            400, f'there is no verdict "{verdict[:40]}"', f"one of: {', '.join(VERDICTS)}"
        )
    before = _cursor(query.get("before") or "")
    state_dir = site.where.state_dir
    counted = _Counted(_rows(state_dir), query, ask.number("since", 0.0, 0.0, 1e12), before)
    wanted = _VERDICTS_READ if verdict else limit + 1
    found = heapq.nlargest(wanted, counted, key=_order)
    rows = []
    for row in found:
        told = told_row(state_dir, row)
        if not verdict or told["verdict"] == verdict:
            rows.append(told)
        if len(rows) > limit:
            break
    more = len(rows) > limit
    rows = rows[:limit]
    last = rows[-1] if more else None
    return {
        "rows": rows,
        "before": f"{last['opened_unix_s']!r}:{last['id']}" if last else None,
        "total": None if verdict else counted.total,
    }


class _Counted:
    """The rows that fit, counted on their way; those behind the cursor count, but are not given."""

    def __init__(
        self, rows: "Iterator[Row]", query: "Any", since: float, before: "tuple[float, str] | None"
    ) -> None:
        self._rows = rows
        self._worker, self._kind = query.get("worker"), query.get("kind")
        self._text = (query.get("q") or "").lower()
        self._since, self._before = since, before
        self.total = 0

    def __iter__(self) -> "Iterator[Row]":
        for row in self._rows:
            if (self._worker and row.worker != self._worker) or (
                self._kind and row.kind != self._kind
            ):
                continue
            if row.opened_unix_s < self._since or (self._text and not _has(row, self._text)):
                continue
            self.total += 1
            if self._before is None or _order(row) < self._before:
                yield row


def _order(row: Row) -> "tuple[float, str]":
    return (row.opened_unix_s, row.id)


def _has(row: Row, text: str) -> bool:
    parts = (row.title, row.worker, row.component, row.kind, row.id)
    return any(text in part.lower() for part in parts if part)


def _rows(state_dir: str) -> "Iterator[Row]":
    """Give the rows of the index whose bundle is there, each once, in no order."""
    on_disk, in_memory = records.parents(state_dir)
    there = set(records.names(on_disk))
    path = f"{state_dir}/{layout.INCIDENT_INDEX}"
    if there and not os.path.exists(path):
        records.list_incidents(state_dir, limit=1)  # writes it anew
    try:
        with open(path, "rb") as file:
            for line in file:
                try:
                    row = _decode(line)
                except (msgspec.DecodeError, UnicodeDecodeError):
                    continue  # torn: its bundle is there, and the next mending finds it
                if row.id in there:
                    there.discard(row.id)
                    yield row
    except OSError:
        pass  # there never was an incident
    for name in records.names(in_memory):  # bundles of a full disk
        record = records.read_record(f"{in_memory}/{name}")
        if record is not None:
            yield msgspec.convert({**record, "id": name}, Row)


def told_row(state_dir: str, row: Row) -> "dict[str, Any]":
    """Return a row as the feed shows it, with its last verdict."""
    verdict = row.verdict or ""
    for parent in records.parents(state_dir):
        steps = records.timeline_of(f"{parent}/{row.id}")
        verdict = next(
            (str(one["verdict"]) for one in reversed(steps) if one.get("verdict")), verdict
        )
    return {**row_of(msgspec.structs.asdict(row), verdict), "start": row.start}


def _cursor(text: str) -> "tuple[float, str] | None":
    if not text:
        return None
    at, _, name = text.partition(":")
    try:
        return float(at), name
    except ValueError:
        raise Refused(400, "before: this is no cursor of this list") from None


# -- one incident ----------------------------------------------------------------------------------


def incident(site: "Site", ask: "Ask") -> "dict[str, Any]":
    """Return what is shown of an incident."""
    state_dir = site.where.state_dir
    record = records.load(state_dir, ask.part("id"))
    name, path = str(record["id"]), str(record["path"])
    timeline = records.timeline_of(path)
    files = files_of(path)
    names = {one["name"] for one in files}
    worker = str(record.get("worker") or "")
    has_profile = _PROFILE in names
    return {
        "record": record,
        "answers": telling.answers(record, timeline),
        "timeline": telling.steps(record, timeline),
        "finding": telling.finding(record),
        "changed": record.get("changed") or [],
        "began": _began(state_dir, record),
        "stacks": _text(path, "stacks.txt") or _stacks(record),
        "story": story(record, timeline, _offset_s()),
        "files": files,
        "chart": _chart(path, record),
        "profile": {"speedscope": f"/api/incidents/{name}/files/{_SPEEDSCOPE}", "text": f"/api/incidents/{name}/files/{_PROFILE}"} if has_profile else None,
        "log": [plain(line) for line in _text(path, "log.txt").splitlines()[-_LOG_LINES:]],
        "alert": _alert(site, name),
        "worker_exists": _is_planned(site, worker),
    }  # fmt: skip


def _began(state_dir: str, record: "dict[str, Any]") -> "dict[str, Any] | None":
    """Return the first incident of the same signature, and what had changed before it; None where this is the first, or that one is gone.

    What fails again and again is compared with a start that has failed as well: what changed is told by the first.
    """
    cause = record.get("cause")
    seen = cause.get("seen_before") if isinstance(cause, dict) else None
    first = seen.get("first_unix_s") if isinstance(seen, dict) else None
    if not isinstance(first, int | float):
        return None
    for row in _rows(state_dir):
        if row.worker == record.get("worker") and abs(row.opened_unix_s - first) < _SAME_S:
            try:
                found = records.load(state_dir, row.id)
            except StateError:
                return None  # removed just now
            return {"id": row.id, "opened_unix_s": row.opened_unix_s, "changed": found.get("changed") or []}  # fmt: skip
    return None


def text(site: "Site", ask: "Ask") -> Plain:
    """Return the story, for curl and chat."""
    record = records.load(site.where.state_dir, ask.part("id"))
    told = story(record, records.timeline_of(str(record["path"])), _offset_s())
    return Plain(told.encode("utf-8", "replace"))


def _offset_s() -> int:
    return time.localtime().tm_gmtoff


def _stacks(record: "dict[str, Any]") -> str:
    found = [one for one in record.get("stacks") or () if isinstance(one, dict)]
    return as_text(found) if found else ""


def _chart(path: str, record: "dict[str, Any]") -> "dict[str, Any]":
    found = charts.of_bundle(_json(path, "samples.json"))
    opened = float(record.get("opened_unix_s") or 0.0)
    mark = {"at_unix_s": opened, "says": str(record.get("title") or ""), "incident": record["id"]}
    return {**found, "starts": [], "marks": [mark]}


def _alert(site: "Site", name: str) -> "dict[str, Any] | None":
    alerts = site.view.state.get("alerts") or ()
    return next((alert for alert in alerts if name in alert["incidents"]), None)


def _is_planned(site: "Site", worker: str) -> bool:
    try:
        planned.entry(site.where, worker)
    except Refused:
        return False
    return True


def _text(path: str, name: str) -> str:
    try:
        with open(f"{path}/{name}", "rb") as file:
            return file.read(_SHOWN_BYTES).decode("utf-8", "replace")
    except OSError:
        return ""


def _json(path: str, name: str) -> "Any":
    try:
        return loads(_text(path, name) or "null")
    except ValueError:
        return None


# -- its files -------------------------------------------------------------------------------------


def files_of(path: str) -> "list[dict[str, Any]]":
    """Return the files of a bundle."""
    found = []
    with os.scandir(path) as entries:
        for entry in entries:
            if entry.is_file(follow_symlinks=False) and not entry.name.endswith(".tmp"):
                kind = "text" if entry.name.endswith(_TEXTS) else "binary"
                found.append({"name": entry.name, "bytes": entry.stat().st_size, "kind": kind})
    return sorted(found, key=lambda one: str(one["name"]))


def file(site: "Site", ask: "Ask") -> Plain:
    """Return one file of a bundle, as text or to be saved."""
    path = records.bundle_path(site.where.state_dir, ask.part("id"))
    name = ask.part("file")
    names = [one["name"] for one in files_of(path)]
    if name == _SPEEDSCOPE and name not in names and _PROFILE in names:
        found = profile.parse(_text(path, _PROFILE))
        made = profile.speedscope(found, os.path.basename(path))
        return Plain(dumps(made).encode("utf-8", "replace"), "application/json", _SANDBOX)
    if name not in names:
        raise Refused(404, f'there is no file "{name[:80]}" in this incident')
    is_text = name.endswith(_TEXTS)
    headers = _SANDBOX if is_text else (*_SANDBOX, ("content-disposition", "attachment"))
    kind = "text/plain; charset=utf-8" if is_text else "application/octet-stream"
    return Plain(_chunks(f"{path}/{name}"), kind, headers)


def _chunks(path: str) -> "Iterator[bytes]":
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        while part := os.read(descriptor, _CHUNK):
            yield part
    finally:
        os.close(descriptor)


def bundle(site: "Site", ask: "Ask") -> Plain:
    """Return all files in one, to be saved or sent on."""
    path = records.bundle_path(site.where.state_dir, ask.part("id"))
    name = os.path.basename(path)
    headers = (("content-disposition", f'attachment; filename="{_safe(name)}.tar.gz"'),)
    return Plain(_packed(path, name), "application/gzip", headers)


def _safe(name: str) -> str:
    return "".join(c if c.isascii() and (c.isalnum() or c in "-_.+@") else "_" for c in name)


class _Pieces:
    """Takes what tarfile writes, and gives it in pieces."""

    def __init__(self) -> None:
        self.parts: list[bytes] = []

    def write(self, data: bytes) -> int:
        """Take it."""
        self.parts.append(bytes(data))
        return len(data)

    def taken(self) -> bytes:
        """Return what has come since the last time."""
        data = b"".join(self.parts)
        self.parts.clear()
        return data


def _packed(path: str, name: str) -> "Iterator[bytes]":
    pieces = _Pieces()
    with tarfile.open(name="bundle", mode="w|gz", fileobj=cast("Any", pieces)) as archive:
        for one in files_of(path):
            try:
                descriptor = os.open(
                    f"{path}/{one['name']}", os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW
                )
            except OSError:
                continue  # removed meanwhile
            with os.fdopen(descriptor, "rb") as opened:
                info = os.fstat(descriptor)
                if not stat.S_ISREG(info.st_mode):
                    continue
                member = tarfile.TarInfo(f"{name}/{one['name']}")
                member.size, member.mtime, member.mode = info.st_size, int(info.st_mtime), 0o600
                # Of a timeline that grows meanwhile only what was there at the beginning.
                archive.addfile(member, opened)
            yield pieces.taken()
    yield pieces.taken()
