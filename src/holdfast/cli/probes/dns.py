"""What does a certain name server say about a name? A question and an answer of RFC 1035, and nothing else of it.

Pure: bytes in, bytes out. Sending is :mod:`holdfast.cli.probes.looks`' business. The answer of a name server is a stranger's: every length is
checked, and compressed names may only point backwards.
"""

import struct
from ipaddress import IPv4Address, IPv6Address
from typing import NamedTuple

TYPES = {"A": 1, "NS": 2, "CNAME": 5, "MX": 15, "TXT": 16, "AAAA": 28}
_NAMES = {number: name for name, number in TYPES.items()}
_IN = 1
_HEAD = struct.Struct("!6H")
_RECORD = struct.Struct("!HHIH")
_RECURSE = 0x0100
_ANSWER, _CUT = 0x8000, 0x0200
_REFUSALS = {1: "it does not understand the question", 2: "it failed", 3: "there is no such name", 4: "it cannot answer such questions", 5: "it refuses to answer"}  # fmt: skip
NO_SUCH_NAME = 3


class BadAnswer(ValueError):  # noqa: N818 -- reads as what it says
    """It is no answer to this question."""


class Reply(NamedTuple):
    """What it says."""

    code: int  #: 0: well
    says: str  #: what the code means
    is_cut: bool  #: there is more, over TCP
    records: tuple[tuple[str, str], ...]  #: (type, value) of the answer section


def question(number: int, name: str, sort: str) -> bytes:
    """Return the question for the records of a type.

    Raises:
        BadAnswer: The name cannot be asked for.
    """
    try:
        labels = name.rstrip(".").encode("idna" if not name.isascii() else "ascii").split(b".")
    except UnicodeError:
        raise BadAnswer(f"{name!r} is no name") from None
    if (
        any(not 1 <= len(label) <= 63 for label in labels)
        or sum(map(len, labels)) + len(labels) > 254
    ):
        raise BadAnswer(f"{name!r} is no name")
    packed = b"".join(bytes([len(label)]) + label for label in labels) + b"\0"
    return _HEAD.pack(number, _RECURSE, 1, 0, 0, 0) + packed + struct.pack("!HH", TYPES[sort], _IN)


def reply(asked: bytes, data: bytes) -> Reply:
    """Return what a datagram says.

    Raises:
        BadAnswer: It is no answer to what was asked.
    """
    if len(data) < _HEAD.size or data[:2] != asked[:2]:
        raise BadAnswer("it answers another question")
    _, flags, questions, answers, _, _ = _HEAD.unpack_from(data)
    if not flags & _ANSWER:
        raise BadAnswer("it asks back")
    code = flags & 15
    try:
        at = _HEAD.size
        for _ in range(questions):
            _, at = _name(data, at)
            at += 4
        if questions == 1 and data[_HEAD.size : at].lower() != asked[_HEAD.size :].lower():
            raise BadAnswer("it answers another question")
        records = []
        for _ in range(answers):
            _, at = _name(data, at)
            sort, kind, _, length = _RECORD.unpack_from(data, at)
            at += _RECORD.size
            if at + length > len(data):
                break  # cut off
            if kind == _IN and sort in _NAMES:
                records.append((_NAMES[sort], _value(data, at, length, sort)))
            at += length
    except (struct.error, IndexError, ValueError) as error:
        if isinstance(error, BadAnswer):
            raise
        if not flags & _CUT:
            raise BadAnswer("its answer cannot be read") from None
        records = []
    says = _REFUSALS.get(code, f"it answers with code {code}") if code else ""
    return Reply(code, says, bool(flags & _CUT), tuple(records))


def _name(data: bytes, at: int) -> tuple[str, int]:
    """Return the name at a place, and the place behind it."""
    labels: list[bytes] = []
    end = 0
    limit = at
    while True:
        length = data[at]
        if length >= 0xC0:
            target = (length & 0x3F) << 8 | data[at + 1]
            end = end or at + 2
            if target >= limit:
                raise BadAnswer("its answer points in a circle")
            at = limit = target
            continue
        if length > 63:
            raise BadAnswer("its answer cannot be read")
        at += 1
        if not length:
            break
        labels.append(data[at : at + length])
        at += length
    return b".".join(labels).decode("ascii", "backslashreplace").lower(), end or at


def _value(data: bytes, at: int, length: int, sort: int) -> str:
    if sort == TYPES["A"]:
        return str(IPv4Address(data[at : at + length]))
    if sort == TYPES["AAAA"]:
        return str(IPv6Address(data[at : at + length]))
    if sort == TYPES["MX"]:
        return f"{int.from_bytes(data[at : at + 2])} {_name(data, at + 2)[0]}"
    if sort == TYPES["TXT"]:
        parts, end = [], at + length
        while at < end:
            parts.append(data[at + 1 : min(end, at + 1 + data[at])])
            at += 1 + data[at]
        return b"".join(parts).decode("utf-8", "replace")
    return _name(data, at)[0]
