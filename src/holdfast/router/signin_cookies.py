"""Which sign-in does a cookie stand for? A store that survives the death of the router.

An append-only file of JSON lines, each with a checksum (law 9): a sign-in is in the page cache, one `write`, before the client
hears WELCOME, so a SIGKILL at any instant loses none; a torn last line is skipped and closed by the next writer. The file
holds a hash of each cookie, not the cookie: who reads it cannot sign in. Several routers may use one file: each reads
what the others have appended when it meets a cookie that it does not know. A cookie that was issued, but never used for
a sign-in, is not stored; it is told from one made up by its own authentication code. Left out: who may sign in by a
cookie at all (:mod:`holdfast.core.wamp.handshake`), and power cuts, which may cost the last sign-ins, never the last
sign-out.
"""

import fcntl
import hashlib
import hmac
import json
import os
import time
from base64 import urlsafe_b64encode
from contextlib import contextmanager, suppress
from zlib import crc32

from holdfast.core.wamp.handshake import Remembered
from holdfast.core.wamp.session import Identity

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

#: 24 characters of Base64 are 144 bits: what Crossbar.io has by default, and the fewest that we take.
_FEWEST_CHARACTERS = 24
_MAC_CHARACTERS = 16
#: The file is written anew when this many of its lines say nothing any more, and they are half of it.
_STALE_LINES = 1000
#: The lock is held for microseconds (never during an fsync), however long it takes on a busy machine until its holder
#: gets to run. A holder that is stopped must not stop us: after this long we go on without, and do not wait again so soon.
_LOCK_WAIT_S, _LOCK_PATIENCE_S = 2.0, 60.0


class CookieStore:
    """The sign-ins that cookies stand for, in one file (or in memory alone, without one)."""

    def __init__(self, path: str | None, chance: "Callable[[int], bytes]" = os.urandom) -> None:
        """Read the store, or begin one.

        Raises:
            OSError: It cannot be read or written.
        """
        self._path = path
        #: Hash of the cookie -> the record as it is in the file (parsed when it is asked for).
        self._records: dict[str, bytes] = {}
        self._key = b""
        self._inode = 0
        self._offset = 0
        self._lines = 0
        self._patient_from_s = 0.0
        if path is None:
            self._key = chance(32)
            return
        os.makedirs(os.path.dirname(path) or ".", mode=0o700, exist_ok=True)
        with self._lock():
            self._catch_up()
            if not self._key:
                self._key = chance(32)
                os.close(self._append(None))

    def issue(self, length: int, chance: "Callable[[int], bytes]" = os.urandom) -> str:
        """Make up a new cookie: `length` random characters, and the authentication code that makes it ours."""
        length = max(length, _FEWEST_CHARACTERS)
        value = urlsafe_b64encode(chance(length)).decode()[:length]
        return value + self._code(value)

    def is_ours(self, cookie: str) -> bool:
        """Tell whether this store has issued that cookie, signed in or not."""
        value, code = cookie[:-_MAC_CHARACTERS], cookie[-_MAC_CHARACTERS:]
        if len(value) < _FEWEST_CHARACTERS or not cookie.isascii():
            return False
        return hmac.compare_digest(code, self._code(value))

    def find(self, cookie: str, now_unix_s: float) -> Remembered | None:
        """Return the sign-in that a cookie stands for; None when there is none, or no longer."""
        if self._path is not None:
            self._catch_up()
        raw = self._records.get(_hash(cookie))
        if raw is None:
            return None
        record = json.loads(raw)
        if record["until"] <= now_unix_s:
            return None
        identity = Identity(
            record["authid"], record["authrole"], record["authmethod"], record["authprovider"], record["extra"]
        )  # fmt: skip
        return Remembered(record["realm"], identity, record["asked"])

    def keep(self, cookie: str, remembered: Remembered, until_unix_s: float) -> None:
        """Let a cookie stand for a sign-in.

        Raises:
            OSError: It could not be written (disk full); then it is known until the router ends.
        """
        identity = remembered.identity
        record = {
            "id": _hash(cookie), "until": until_unix_s, "realm": remembered.realm, "asked": remembered.asked,
            "authid": identity.authid, "authrole": identity.authrole, "authmethod": identity.authmethod,
            "authprovider": identity.authprovider, "extra": identity.authextra,
        }  # fmt: skip
        self._write(record, is_durable=False)

    def forget(self, cookie: str) -> bool:
        """End the sign-in of a cookie; tell whether there was one.

        Raises:
            OSError: It could not be written.
        """
        if self._path is not None:
            self._catch_up()
        is_known = _hash(cookie) in self._records
        if is_known:
            self._write({"id": _hash(cookie), "gone": True}, is_durable=True)
        return is_known

    def forget_authid(self, authid: str) -> int:
        """End all remembered sign-ins of one user; return how many there were.

        Raises:
            OSError: They could not be written.
        """
        if self._path is not None:
            self._catch_up()
        theirs = [key for key, raw in self._records.items() if json.loads(raw)["authid"] == authid]
        for key in theirs:
            self._write({"id": key, "gone": True}, is_durable=True)
        return len(theirs)

    def tidy(self) -> None:
        """Write the file anew where most of it says nothing any more; called after a change.

        Raises:
            OSError: It could not be written; the file is as it was.
        """
        if self._path is not None and self._lines > 2 * len(self._records) + _STALE_LINES:
            self._rewrite()

    # -- the file -----------------------------------------------------------------------------------

    def _write(self, record: "dict[str, Any]", *, is_durable: bool) -> None:
        if self._path is None:
            self._take(record, _text(record))
            return
        try:
            with self._lock():
                self._catch_up()
                descriptor = self._append(record)
            try:
                if is_durable:
                    os.fsync(descriptor)
            finally:
                os.close(descriptor)
        except OSError:
            self._take(record, _text(record))
            raise

    def _append(self, record: "dict[str, Any] | None") -> int:
        """Add a line; return the open file. What is in memory comes from the file alone, so that both say the same."""
        path = self._path
        assert path is not None  # noqa: S101 -- for the type checker
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            size = os.fstat(descriptor).st_size
            line = b"" if record is None else _line(record)
            if not size or record is None:
                # Also where a person has deleted the file: the next router has to know our cookies.
                line = _line({"key": self._key.hex()}) + line
            if size and os.pread(descriptor, 1, size - 1) != b"\n":
                line = b"\n" + line
            written = os.write(descriptor, line)
            if written != len(line):
                raise OSError(28, f"only {written} of {len(line)} bytes fitted", path)
            self._catch_up()
        except OSError:
            os.close(descriptor)
            raise
        return descriptor

    def _catch_up(self) -> None:
        """Read what was appended since the last time, by us or by another router."""
        path = self._path
        assert path is not None  # noqa: S101 -- for the type checker
        try:
            found = os.stat(path)
        except FileNotFoundError:
            # Deleted by a person: everybody signs in again.
            self._records.clear()
            self._inode = self._offset = self._lines = 0
            return
        if found.st_ino == self._inode and found.st_size == self._offset:
            return
        if found.st_ino != self._inode or found.st_size < self._offset:
            self._records.clear()
            self._offset = self._lines = 0
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            self._inode = os.fstat(descriptor).st_ino
            parts = []
            at = self._offset
            while part := os.pread(descriptor, 1 << 20, at):
                parts.append(part)
                at += len(part)
        finally:
            os.close(descriptor)
        data = b"".join(parts)
        # What follows the last newline may be half a line that somebody is writing now.
        whole = data[: data.rfind(b"\n") + 1]
        self._offset += len(whole)
        for line in whole.splitlines():
            self._lines += 1
            record = _parsed(line)
            if record is not None:
                self._take(record, line[9:])

    def _take(self, record: "dict[str, Any]", text: bytes) -> None:
        if "key" in record:
            # The last one counts: two routers that began the file together agree on it.
            self._key = bytes.fromhex(record["key"])
        elif record.get("gone"):
            self._records.pop(record["id"], None)
        else:
            self._records[record["id"]] = text

    def _rewrite(self) -> None:
        """Write the file anew, without what has ended.

        Most of it, and the wait for the disk, come before the lock; under it only what others have appended meanwhile.
        """
        path = self._path
        assert path is not None  # noqa: S101 -- for the type checker
        now_unix_s = time.time()
        _remove_leftovers(path)
        inode, begun_at = self._inode, self._offset
        live = [text for text in self._records.values() if json.loads(text)["until"] > now_unix_s]
        lines = [_line({"key": self._key.hex()})]
        lines += [b"%08x %s\n" % (crc32(text), text) for text in live]
        new = f"{path}.{os.getpid()}.new"
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            _write_all(descriptor, b"".join(lines))
            os.fsync(descriptor)
            with self._lock() as is_locked:
                found = os.stat(path)
                if not is_locked or found.st_ino != inode:
                    # Somebody else has done it, or is stopped in the middle of it.
                    os.unlink(new)
                    return
                with open(path, "rb") as file:
                    file.seek(begun_at)
                    _write_all(descriptor, file.read())
                os.rename(new, path)
        except OSError:
            with suppress(FileNotFoundError):
                os.unlink(new)
            raise
        finally:
            os.close(descriptor)
        self._catch_up()

    @contextmanager
    def _lock(self) -> "Iterator[bool]":
        """Keep others from renaming the file under our hands; false when somebody sits on the lock.

        Appends are single writes and need no lock; only a rename that overtakes one could lose it.
        """
        descriptor = os.open(f"{self._path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            now_s = time.monotonic()
            is_locked = _locked(descriptor, _LOCK_WAIT_S if now_s >= self._patient_from_s else 0.0)
            if not is_locked and now_s >= self._patient_from_s:
                self._patient_from_s = now_s + _LOCK_PATIENCE_S
            yield is_locked
        finally:
            os.close(descriptor)

    def _code(self, value: str) -> str:
        raw = hmac.digest(self._key, value.encode("utf-8", "surrogatepass"), "sha256")
        return urlsafe_b64encode(raw).decode()[:_MAC_CHARACTERS]


def cookie_of(header: str | None, name: str, store: CookieStore) -> str | None:
    """Find our cookie in a Cookie header; one that we did not issue does not count, and another may follow."""
    for part in (header or "").split(";"):
        key, _, value = part.strip().partition("=")
        if key == name and store.is_ours(value.strip('"')):
            return value.strip('"')
    return None


def set_cookie(name: str, value: str, max_age_s: int, *, is_tls: bool) -> str:
    """Return the value of a Set-Cookie header (RFC 6265)."""
    secure = "; Secure" if is_tls else ""
    return f"{name}={value}; Max-Age={max_age_s}; Path=/; HttpOnly; SameSite=Lax{secure}"


def _locked(descriptor: int, wait_s: float) -> bool:
    deadline_s = time.monotonic() + wait_s
    while True:
        try:
            # flock, not a POSIX lock: two stores in one process (tests, two transports) exclude each other, too.
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline_s:
                return False
            time.sleep(0.001)
        else:
            return True


def _remove_leftovers(path: str) -> None:
    """Remove the new files of processes that were killed before they could rename them."""
    directory, name = os.path.split(path)
    for found in os.listdir(directory or "."):
        pid = found.removeprefix(f"{name}.").removesuffix(".new")
        if found == f"{name}.{pid}.new" and pid.isdecimal() and not os.path.exists(f"/proc/{pid}"):
            with suppress(FileNotFoundError):
                os.unlink(os.path.join(directory, found))


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _hash(cookie: str) -> str:
    return hashlib.sha256(cookie.encode("utf-8", "surrogatepass")).hexdigest()[:40]


def _text(record: "dict[str, Any]") -> bytes:
    return json.dumps(record, separators=(",", ":")).encode()


def _line(record: "dict[str, Any]") -> bytes:
    text = _text(record)
    return b"%08x %s\n" % (crc32(text), text)


def _parsed(line: bytes) -> "dict[str, Any] | None":
    """Open a line; None for one that is torn or damaged."""
    try:
        if int(line[:8], 16) != crc32(line[9:]):
            return None
        record = json.loads(line[9:])
    except ValueError:
        return None
    return record if isinstance(record, dict) else None
