"""What are the parts of a posted form?

Incremental and pure: octets in, parts out; a file of any size is never held here. RFC 7578, RFC 2046. Left out: nested multiparts
and Content-Transfer-Encoding, which no browser sends.
"""

import re
from typing import NamedTuple

_HEAD_BYTES = 8192
_PARAMETER = re.compile(r';\s*([\w*-]+)=(?:"((?:[^"\\]|\\.)*)"|([^;\s"]*))')
_BOUNDARY = re.compile(r"[0-9A-Za-z'()+_,\-./:=? ]{1,70}(?<! )")


class MultipartError(Exception):
    """It is not a form as RFC 7578 has it."""


class Part(NamedTuple):
    """A part begins: its field's name, and the name of the file where it is one."""

    name: str
    filename: str | None


class Parser:
    """Takes a form apart."""

    __slots__ = ("_buffer", "_delimiter", "_in_data", "is_done")

    def __init__(self, boundary: str) -> None:
        self._delimiter = b"\r\n--" + boundary.encode("ascii")
        # The first delimiter has no line before it.
        self._buffer = b"\r\n"
        self._in_data = False
        #: Whether the closing delimiter has come.
        self.is_done = False

    def feed(self, data: bytes) -> list[Part | bytes]:
        """What `data` completes: the beginning of a part, and octets of the part that began last.

        Raises:
            MultipartError: It is no form.
        """
        events: list[Part | bytes] = []
        self._buffer += data
        while not self.is_done and self._step(events):
            pass
        if self.is_done:
            self._buffer = b""
        return events

    def _step(self, events: list[Part | bytes]) -> bool:
        """Go on by a part; False when more octets are needed."""
        buffer, delimiter = self._buffer, self._delimiter
        at = buffer.find(delimiter)
        if at < 0:
            keep = len(delimiter) - 1
            if self._in_data and len(buffer) > keep:
                events.append(buffer[:-keep])
            self._buffer = buffer[-keep:]
            return False
        if at:
            if self._in_data:
                events.append(buffer[:at])
            buffer = self._buffer = buffer[at:]
            self._in_data = False
        elif self._in_data:
            self._in_data = False
        after = len(delimiter)
        if len(buffer) < after + 2:
            return False
        if buffer[after : after + 2] == b"--":
            self.is_done = True
            return False
        end = buffer.find(b"\r\n\r\n", after)
        if end < 0 or end > after + _HEAD_BYTES:
            if len(buffer) > after + _HEAD_BYTES:
                raise MultipartError("the headers of a part are too long")
            return False
        events.append(_part(buffer[after:end]))
        self._buffer = (
            buffer[end + 2 :] if buffer[end + 4 :].startswith(delimiter[2:]) else buffer[end + 4 :]
        )
        self._in_data = True
        return True


def boundary_of(content_type: str) -> str:
    """The boundary of multipart/form-data.

    Raises:
        MultipartError: It is something else.
    """
    kind = content_type.partition(";")[0].strip().lower()
    if kind != "multipart/form-data":
        raise MultipartError("a form has to be sent as multipart/form-data")
    boundary = parameters(content_type).get("boundary", "")
    if _BOUNDARY.fullmatch(boundary) is None:
        raise MultipartError("the Content-Type has no boundary")
    return boundary


def parameters(value: str) -> dict[str, str]:
    """The parameters of a header, names in small letters."""
    return {
        m[1].lower(): re.sub(r"\\(.)", r"\1", m[2]) if m[2] is not None else m[3]
        for m in _PARAMETER.finditer(value)
    }


def _part(head: bytes) -> Part:
    try:
        lines = head.decode("utf-8").split("\r\n")
    except UnicodeDecodeError:
        raise MultipartError("the headers of a part are not UTF-8") from None
    for line in lines:
        name, _, value = line.partition(":")
        if name.strip().lower() == "content-disposition":
            found = parameters(value)
            if "name" in found:
                return Part(found["name"], found.get("filename"))
    raise MultipartError("a part does not say which field it is")
