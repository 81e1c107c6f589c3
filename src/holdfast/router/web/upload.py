"""How do files get in, in one piece or in many, and what is there after a crash?

Crossbar.io's upload service (which it has dropped since): forms as resumable.js posts them, `form_fields` says what they are
called, chunks wait in `temp_directory`, progress is published to the topic that the form names. What is on disk is the only
truth, so an upload goes on after a kill of the router: a chunk is there when its rename is done, a file when its
own is, whole and synced. Half-written ones (`.part-…`, each locked by who writes it) are removed at the next start.
"""

import asyncio
import fcntl
import functools
import hashlib
import json
import os
import shutil
import tempfile
import time
from typing import TYPE_CHECKING, Any, NamedTuple, Self
from urllib.parse import parse_qsl
from weakref import WeakValueDictionary

from holdfast.router.web.failures import SiteError, WampFailure
from holdfast.router.web.head import Refused
from holdfast.router.web.multipart import MultipartError, Parser, Part, boundary_of
from holdfast.router.web.threads import on_disk

if TYPE_CHECKING:
    from holdfast.router.web.request import Request
    from holdfast.router.web.site import Site

_DEFAULT_MAX_BYTES = 10 * 1024 * 1024
_FIELD_BYTES = 65536
_FIELDS = 50
_CHUNKS = 100_000
#: What is left of an upload that nobody goes on with: removed at a start after a week; another file of that name may
#: take its place after an hour.
_FORGET_S, _REPLACE_S = 7 * 86400.0, 3600.0
_PART = ".part-"
_FORM_FIELDS = {
    "file_name": "resumableFilename", "mime_type": "resumableType", "total_size": "resumableTotalSize",
    "chunk_number": "resumableChunkNumber", "chunk_size": "resumableChunkSize", "total_chunks": "resumableTotalChunks",
    "content": "file", "on_progress": "on_progress", "session": "session", "chunk_extra": "chunk_extra",
    "finish_extra": "finish_extra",
}  # fmt: skip


class Chunk(NamedTuple):
    """What a form says of the chunk that it brings."""

    name: str
    number: int
    chunks: int
    total_bytes: int
    size: int
    topic: str
    session: int | None
    chunk_extra: Any
    finish_extra: Any


class Stored(NamedTuple):
    """What became of it."""

    is_first: bool
    is_whole: bool
    received: int


class Upload:
    """A directory that files are posted to."""

    def __init__(self, options: dict[str, Any], site: "Site") -> None:
        self._site = site
        told = {**options.get("options", {}), **options}
        self._realm, self._role = str(told.get("realm") or ""), str(told.get("role") or "anonymous")
        if not told.get("directory"):
            raise SiteError("it names no directory")
        self._directory = os.path.realpath(str(told["directory"]))
        temp = told.get("temp_directory") or os.path.join(self._directory, ".uploading")
        self._temp = os.path.realpath(str(temp))
        # `form_fields` is whole where it is given: a field it does not name (on_progress) is not read.
        self._fields: dict[str, str] = dict(told.get("form_fields") or _FORM_FIELDS)
        self._max_bytes = int(told.get("max_file_size") or _DEFAULT_MAX_BYTES)
        types = told.get("file_types")
        self._types = None if not types else [str(t).lower() for t in types]
        mode = told.get("file_permissions")
        try:
            self._mode = int(str(mode), 8) if mode is not None else 0o644
        except ValueError:
            raise SiteError(f"file_permissions {mode!r} has to be octal, as in 0644") from None
        self._staging = self._temp
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        if self._is_usable():
            clean(self._temp, self._staging, time.time())

    async def serve(self, request: "Request") -> None:
        """Answer it."""
        request.allow("GET", "HEAD", "POST")
        if request.method != "POST":
            await self._tell(request)
            return
        if not await on_disk(self._is_usable):
            raise Refused(503, f"The directory for uploads is not there: {self._directory}")
        length = request.length
        if length is not None and length > self._max_bytes + (1 << 20):
            raise self._too_large()
        try:
            boundary = boundary_of((request.head.get(b"content-type") or b"").decode("latin-1"))
        except MultipartError as error:
            raise Refused(415, f"{error}.".capitalize()) from None
        part = await on_disk(functools.partial(_PartFile, self._staging), _PartFile.drop)
        try:
            fields = await self._receive(request, Parser(boundary), part)
            chunk = self._check(fields, part.size)
            stored = await self._store(chunk, part)
        finally:
            await on_disk(part.drop)
        await self._publish(chunk, stored)
        request.respond(200, [("Content-Type", "text/plain; charset=utf-8")])

    def _is_usable(self) -> bool:
        """Whether the directory is there; the one for what is not whole is made below it, or where it is told to be."""
        if not os.path.isdir(self._directory):
            return False
        os.makedirs(self._temp, exist_ok=True)
        # A rename is atomic within one file system only.
        same = os.stat(self._temp).st_dev == os.stat(self._directory).st_dev
        self._staging = self._temp if same else self._directory
        return True

    async def _tell(self, request: "Request") -> None:
        """Whether a chunk is there already: 200, or 404."""
        query = dict(parse_qsl(request.head.query, keep_blank_values=True))
        name = _file_name(query.get(self._fields["file_name"], ""))
        number = _whole(query, self._fields["chunk_number"], 1)
        path = os.path.join(self._temp, _id(name), f"chunk_{number}")
        if await on_disk(functools.partial(os.path.exists, path)):
            request.say(200, "This chunk is here.")
        else:
            request.say(404, "This chunk is not here yet.")

    async def _receive(
        self, request: "Request", parser: Parser, part: "_PartFile"
    ) -> dict[str, str]:
        """The fields; the content goes to the file."""
        form = _Form(parser, self._fields["content"])
        while data := await request.chunk():
            content = form.feed(data)
            if content:
                await on_disk(functools.partial(part.write, content))
                if part.size > self._max_bytes:
                    raise self._too_large()
        if not parser.is_done:
            raise Refused(400, "The form is not complete.")
        if form.filename is None:
            raise Refused(
                400, f"The form has no field {self._fields['content']!r} with the content."
            )
        fields = form.texts()
        fields.setdefault(self._fields["file_name"], form.filename)
        return fields

    def _check(self, fields: dict[str, str], size: int) -> Chunk:
        names = self._fields
        name = _file_name(fields[names["file_name"]])
        chunks = _whole(fields, names.get("total_chunks", ""), 1)
        number = _whole(fields, names.get("chunk_number", ""), 1)
        total = _whole(fields, names.get("total_size", ""), size, least=0)
        session = fields.get(names.get("session", ""), "")
        if total > self._max_bytes:
            raise self._too_large()
        if not 1 <= number <= chunks <= _CHUNKS:
            raise Refused(400, f"There is no chunk {number} of {chunks}.")
        if size > total or (chunks == 1 and size != total):
            raise Refused(400, f"The file is said to have {total} bytes, and the chunk has {size}.")
        extension = os.path.splitext(name)[1].lower()
        if self._types is not None and extension not in self._types:
            raise Refused(
                415,
                f"Files of type {extension or '(none)'} are not taken; these are: {', '.join(self._types)}.",
            )
        if session and not session.isdigit():
            raise Refused(400, "The session is not a number.")
        return Chunk(
            name, number, chunks, total, size, fields.get(names.get("on_progress", ""), ""),
            int(session) if session else None, _json(fields, names.get("chunk_extra", "")),
            _json(fields, names.get("finish_extra", "")),
        )  # fmt: skip

    async def _store(self, chunk: Chunk, part: "_PartFile") -> Stored:
        key = _id(chunk.name)
        lock = self._locks.get(key)
        if lock is None:
            lock = self._locks[key] = asyncio.Lock()
        # Two last chunks at once would both put the file together.
        async with lock:
            return await on_disk(functools.partial(self._place, chunk, part, key))

    def _place(self, chunk: Chunk, part: "_PartFile", key: str) -> Stored:
        """Put a chunk where it belongs, and the file together when it was the last; in a thread."""
        target = os.path.join(self._directory, chunk.name)
        if os.path.isdir(target):
            raise Refused(409, "There is a directory of that name.")
        if chunk.chunks == 1:
            part.finish(target, self._mode)
            return Stored(True, True, chunk.size)
        home = os.path.join(self._temp, key)
        about = {"name": chunk.name, "total_bytes": chunk.total_bytes, "chunks": chunk.chunks}
        is_first = _claim(home, about)
        if self._staging == self._temp:
            part.finish(os.path.join(home, f"chunk_{chunk.number}"), 0o600)
        else:
            # Staged beside the target, which is another file system: copied, and then renamed.
            with _PartFile(home) as copy:
                part.copy_to(copy)
                copy.finish(os.path.join(home, f"chunk_{chunk.number}"), 0o600)
        there = [os.path.join(home, f"chunk_{n}") for n in range(1, chunk.chunks + 1)]
        sizes = [os.path.getsize(path) for path in there if os.path.exists(path)]
        received = sum(sizes)
        if received > chunk.total_bytes:
            shutil.rmtree(home)
            raise Refused(400, "The chunks are more than the file is said to have; begin again.")
        if len(sizes) < chunk.chunks:
            return Stored(is_first, False, received)
        if received != chunk.total_bytes:
            shutil.rmtree(home)
            raise Refused(400, "The chunks are less than the file is said to have; begin again.")
        with _PartFile(self._staging) as whole:
            for path in there:
                with open(path, "rb") as source:
                    shutil.copyfileobj(source, whole.file, 1 << 20)
            whole.finish(target, self._mode)
        shutil.rmtree(home)
        return Stored(is_first, True, received)

    async def _publish(self, chunk: Chunk, stored: Stored) -> None:
        """Tell who follows the upload. That nobody could be told does not undo it."""
        bridge = self._site.bridge
        if not chunk.topic or bridge is None or not self._realm:
            return
        options: dict[str, Any] = {"acknowledge": True}
        if chunk.session is not None:
            options["eligible"] = [chunk.session]
        total = chunk.total_bytes
        event: dict[str, Any] = {
            "id": chunk.name, "chunk": chunk.number, "name": chunk.name, "total": total, "chunk_extra": chunk.chunk_extra,
        }  # fmt: skip
        events = []
        if stored.is_first:
            events.append({**event, "remaining": total, "status": "started", "progress": 0.0})
        if not stored.is_whole:
            done = round(stored.received / total, 3) if total else 1.0
            left = total - stored.received
            events.append({**event, "remaining": left, "status": "progress", "progress": done})
        else:
            last = {"remaining": 0, "status": "finished", "progress": 1.0}
            events.append({**event, **last, "finish_extra": chunk.finish_extra})
        try:
            for told in events:
                await bridge.publish(self._realm, self._role, chunk.topic, [told], {}, options)
        except WampFailure as failure:
            self._site.log.warning(
                "progress not published", topic=chunk.topic, error=failure.uri, role=self._role
            )

    def _too_large(self) -> Refused:
        return Refused(413, f"The file is too large: at most {self._max_bytes} bytes are taken.")


class _Form:
    """The fields of a form, and what of its content has just come."""

    def __init__(self, parser: Parser, content: str) -> None:
        self._parser = parser
        self._content = content
        self._current: str | None = None
        self._fields: dict[str, bytes] = {}
        #: None until the content began.
        self.filename: str | None = None

    def feed(self, data: bytes) -> bytes:
        """Octets of the content."""
        try:
            events = self._parser.feed(data)
        except MultipartError as error:
            raise Refused(400, f"The form is malformed: {error}.") from None
        content = []
        for event in events:
            if isinstance(event, Part):
                self._begin(event)
            elif self._current == self._content:
                content.append(event)
            elif self._current is not None:
                self._fields[self._current] += event
                if len(self._fields[self._current]) > _FIELD_BYTES:
                    raise Refused(413, f"The field {self._current!r} is too long.")
        return b"".join(content)

    def _begin(self, part: Part) -> None:
        self._current = part.name
        if part.name == self._content:
            if self.filename is not None:
                raise Refused(400, "A form brings one file (or chunk); this one has more.")
            self.filename = part.filename or ""
        else:
            self._fields[part.name] = b""
            if len(self._fields) > _FIELDS:
                raise Refused(413, "The form has too many fields.")

    def texts(self) -> dict[str, str]:
        """The fields."""
        try:
            return {name: value.decode() for name, value in self._fields.items()}
        except UnicodeDecodeError:
            raise Refused(400, "A field of the form is not UTF-8.") from None


class _PartFile:
    """A file that is being written: locked, so that a start elsewhere does not take it for a dead one's."""

    def __init__(self, directory: str) -> None:
        descriptor, self.path = tempfile.mkstemp(prefix=_PART, dir=directory)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        self.file = os.fdopen(descriptor, "w+b")
        self.size = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.drop()

    def write(self, data: bytes) -> None:
        self.file.write(data)
        self.size += len(data)

    def copy_to(self, other: "_PartFile") -> None:
        self.file.seek(0)
        shutil.copyfileobj(self.file, other.file, 1 << 20)

    def finish(self, target: str, mode: int) -> None:
        """Give it its name: from one instant to the next the whole file is there, also after a power cut."""
        self.file.flush()
        os.fchmod(self.file.fileno(), mode)
        os.fsync(self.file.fileno())
        os.rename(self.path, target)
        self.path = ""
        directory = os.open(os.path.dirname(target), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)

    def drop(self) -> None:
        """Forget it, unless it has its name."""
        path, self.path = self.path, ""
        if path:
            os.unlink(path)
        self.file.close()


def clean(temp: str, staging: str, now_s: float) -> None:
    """Remove what a killed router left half-written, and uploads that nobody has gone on with for a week."""
    for directory in {temp, staging}:
        for entry in list(os.scandir(directory)):
            if entry.name.startswith(_PART) and entry.is_file(follow_symlinks=False):
                _remove_if_dead(entry.path)
    for entry in list(os.scandir(temp)):
        if not entry.is_dir(follow_symlinks=False) or not _is_id(entry.name):
            continue
        for part in list(os.scandir(entry.path)):
            if part.name.startswith(_PART):
                _remove_if_dead(part.path)
        if now_s - entry.stat().st_mtime > _FORGET_S:
            shutil.rmtree(entry.path)


def _remove_if_dead(path: str) -> None:
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.unlink(path)
    except (BlockingIOError, FileNotFoundError):
        pass  # somebody alive is writing it, or has just given it its name
    finally:
        os.close(descriptor)


def _claim(home: str, about: dict[str, Any]) -> bool:
    """Have the directory of an upload; True when it is new.

    Raises:
        Refused: 409, it is that of another file with the same name.
    """
    note = os.path.join(home, "about.json")
    try:
        with open(note, "rb") as file:
            if json.load(file) == about:
                return False
        if time.time() - os.stat(home).st_mtime < _REPLACE_S:
            raise Refused(409, "Another file of that name is being uploaded.")
        shutil.rmtree(home)
    except FileNotFoundError:
        pass  # a new one, or one that was killed before it had its note
    os.makedirs(home, exist_ok=True)
    with _PartFile(home) as part:
        part.write(json.dumps(about).encode())
        part.finish(note, 0o600)
    return True


def _file_name(name: str) -> str:
    """A name that is safe as one.

    Raises:
        Refused: It is not.
    """
    is_plain = bool(name) and not name.startswith(".") and not set("/\\\0") & set(name)
    if not is_plain or not name.isprintable() or len(name.encode("utf-8", "replace")) > 200:
        raise Refused(400, "The name of the file is missing, hidden, too long, or has a slash.")
    return name


def _id(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()[:32]


def _is_id(name: str) -> bool:
    return len(name) == 32 and set(name) <= set("0123456789abcdef")


def _whole(fields: dict[str, str], name: str, default: int, least: int = 1) -> int:
    text = fields.get(name, "")
    if not text:
        return default
    if not (text.isascii() and text.isdigit() and len(text) < 16 and int(text) >= least):
        raise Refused(400, f"The field {name!r} is not a number from {least}.")
    return int(text)


def _json(fields: dict[str, str], name: str) -> Any:
    text = fields.get(name, "")
    try:
        return json.loads(text) if text else {}
    except (ValueError, RecursionError):
        raise Refused(400, f"The field {name!r} is not JSON.") from None
