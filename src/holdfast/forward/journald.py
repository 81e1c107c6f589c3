"""Lines and incidents for systemd's journal, by its native protocol: one datagram an entry, a sealed memfd where it is too large for one.

The time of an entry is journald's own, that of its arrival; ours, to the microsecond, is in a field of ours. journald drops
what comes quicker than its rate limit allows (10,000 entries in 30 s) without telling the sender: docs/how-to/forward.md says where that is set. The
socket is systemd's, so what was sent while journald is being restarted waits in it.
"""

import errno
import fcntl
import os
import socket
from struct import pack

from holdfast.forward import levels, otlp
from holdfast.forward.answers import NOTHING, NotTakenError, Refused
from holdfast.forward.reading import OPENED
from holdfast.forward.texts import findings, raw

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from holdfast.forward.reading import News, Portion
    from holdfast.records.logs import Line

SOCKET = "/run/systemd/journal/socket"
#: What `journalctl MESSAGE_ID=…` finds: an incident was opened, an incident has its verdict. Made once, never changed.
OPENED_ID = "6f3b0c5e9d5a4b6c8a1f27d0e4c93b15"
SETTLED_ID = "b27ae86d41f04c5fa0c6f1d93e5872ac"
_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL
#: journald stands still for longer than this: somebody else's trouble, and we look again later.
_PATIENCE_S = 5.0
_SEND_BUFFER = 8 << 20
_SETTLED = {
    "cured": levels.NOTICE,
    "closed": levels.NOTICE,
    "gave_up": levels.CRITICAL,
    "did_not_help": levels.ERROR,
}


class Journald:
    """Writes to one journal."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._socket: socket.socket | None = None
        self._done = 0  #: entries of the portion under way that were taken already

    def deliver(self, portion: "Portion", node: str) -> Refused:
        """Write a portion; what was written of it before it failed is not written again in this life.

        Raises:
            NotTakenError: There is no journald, or it takes nothing.
        """
        entries = [line_fields(line, node) for line in portion.lines]
        entries += [news_fields(one, node) for one in portion.news]
        for entry in entries[self._done :]:
            self._send(encode(entry))
            self._done += 1
        self._done = 0
        return NOTHING

    def _send(self, data: bytes) -> None:
        try:
            if self._socket is None:
                self._socket = self._connected()
            try:
                self._socket.send(data)
            except OSError as error:
                if error.errno not in (errno.EMSGSIZE, errno.ENOBUFS):
                    raise
                send_large(self._socket, data)
        except OSError as error:
            self.close()
            raise NotTakenError(f"{self._path}: {error.strerror or error}") from None

    def close(self) -> None:
        """Let go of the socket; the next entry connects again."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _connected(self) -> socket.socket:
        made = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        try:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)
            made.settimeout(_PATIENCE_S)
            made.connect(self._path)
        except OSError:
            made.close()
            raise
        return made


def send_large(sock: socket.socket, data: bytes) -> None:
    """Send an entry in a memory file that nobody can change any more.

    Raises:
        OSError: It is not taken.
    """
    memory = os.memfd_create("journal-entry", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(memory, view) :]
        fcntl.fcntl(memory, fcntl.F_ADD_SEALS, _SEALS)
        socket.send_fds(sock, [b""], [memory])
    finally:
        os.close(memory)


def encode(fields: "Mapping[str, str]") -> bytes:
    """Return an entry: ``NAME=value``, or with a length where the value has line ends in it."""
    parts = []
    for name, value in fields.items():
        data = raw(value)
        if b"\n" in data:
            parts.append(name.encode() + b"\n" + pack("<Q", len(data)) + data + b"\n")
        else:
            parts.append(name.encode() + b"=" + data + b"\n")
    return b"".join(parts)


def line_fields(line: "Line", node: str) -> "dict[str, str]":
    """Return a line as journal fields. Bytes that are not UTF-8 stay what they were."""
    level = levels.level_of(line.text)
    return {
        "MESSAGE": line.text, "PRIORITY": str(levels.PRIORITIES[level]), "SYSLOG_IDENTIFIER": line.worker,
        **_ours(
            NODE=node, WORKER=line.worker, STREAM=line.stream, UNIX_USEC=_microseconds(line.unix_s),
            START=str(line.start) if line.start else "",
        ),
    }  # fmt: skip


def news_fields(one: "News", node: str) -> "dict[str, str]":
    """Return an incident as journal fields."""
    record = one.record
    says = str(record.get("title") or "")
    is_new = one.kind == OPENED
    level = levels.ERROR if is_new else _SETTLED.get(one.verdict, levels.WARNING)
    stack = otlp.exception(record).get("exception.stacktrace") if is_new else ""
    return {
        "MESSAGE": says if is_new else f"{says}: {one.verdict}", "MESSAGE_ID": OPENED_ID if is_new else SETTLED_ID,
        "PRIORITY": str(levels.PRIORITIES[level]), "SYSLOG_IDENTIFIER": "holdfast",
        **_ours(
            NODE=node, WORKER=str(record.get("worker") or ""), INCIDENT=str(record.get("id") or ""), KIND=str(record.get("kind") or ""),
            VERDICT=one.verdict, UNIX_USEC=_microseconds(one.unix_s), FINDINGS="\n".join(findings(record)) if is_new else "",
            STACK=str(stack or ""),
        ),
    }  # fmt: skip


def _ours(**fields: str) -> "dict[str, str]":
    """Return fields that nobody else has; empty ones are left out."""
    return {f"HOLDFAST_{name}": value for name, value in fields.items() if value}


def _microseconds(unix_s: float) -> str:
    return str(round(unix_s * 1e6))
