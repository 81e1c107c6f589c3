"""The native protocol of the journal, to a datagram socket that reads it as journald does, and to journald itself where that can be run."""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import struct
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from holdfast.forward.answers import NotTakenError
from holdfast.forward.journald import OPENED_ID, SETTLED_ID, Journald, encode, send_large
from holdfast.forward.reading import OPENED, SETTLED, News, Portion
from holdfast.records.logs import Line
from node import SLOWNESS

if TYPE_CHECKING:
    from collections.abc import Iterator


def decoded(data: bytes) -> dict[str, bytes]:
    """Read an entry: fields with "=", or with a length in eight bytes."""
    found: dict[str, bytes] = {}
    while data:
        line, _, rest = data.partition(b"\n")
        name, equals, value = line.partition(b"=")
        if equals:
            found[name.decode()] = value
            data = rest
            continue
        (size,) = struct.unpack_from("<Q", rest)
        found[name.decode()] = rest[8 : 8 + size]
        assert rest[8 + size : 9 + size] == b"\n"
        data = rest[9 + size :]
    return found


class Journal:
    """The other end: reads datagrams, and memory files that it could trust."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(self.path)
        self.socket.settimeout(20 * SLOWNESS)
        self.memories = 0

    def entry(self) -> dict[str, bytes]:
        data, descriptors, _, _ = socket.recv_fds(self.socket, 1 << 20, 1)
        for descriptor in descriptors:
            assert not data
            wanted = (
                fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL
            )
            assert fcntl.fcntl(descriptor, fcntl.F_GET_SEALS) & wanted == wanted
            self.memories += 1
            data = os.pread(descriptor, os.fstat(descriptor).st_size, 0)
            os.close(descriptor)
        return decoded(data)


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    made = Journal(tmp_path / "socket")
    yield made
    made.socket.close()


def deliver(journal: Journal, some: Portion, node: str = "n") -> None:
    with contextlib.closing(Journald(journal.path)) as target:
        target.deliver(some, node)


def portion(*lines: Line, news: tuple[News, ...] = ()) -> Portion:
    made = Portion()
    made.lines, made.news = list(lines), list(news)
    return made


def test_a_line_has_its_worker_its_stream_and_its_level(journal: Journal) -> None:
    line = Line(1_700_000_000.25, "err", "web", 3, "level=error component=board no room")
    deliver(journal, portion(line), "clandeck-1")

    assert journal.entry() == {
        "MESSAGE": line.text.encode(), "PRIORITY": b"3", "SYSLOG_IDENTIFIER": b"web", "HOLDFAST_NODE": b"clandeck-1",
        "HOLDFAST_WORKER": b"web", "HOLDFAST_STREAM": b"err", "HOLDFAST_UNIX_USEC": b"1700000000250000", "HOLDFAST_START": b"3",
    }  # fmt: skip


def test_whatever_bytes_a_program_wrote_arrive_as_they_were(journal: Journal) -> None:
    raw = b"\xff\x00 = \xc3\xa9\r"
    line = Line(1.0, "out", "web", 0, raw.decode("utf-8", "surrogateescape"))
    deliver(journal, portion(line))

    assert journal.entry()["MESSAGE"] == raw


def test_a_value_with_line_ends_has_its_length_before_it() -> None:
    """Otherwise a stack could write fields of its own."""
    data = encode({"A": "x", "B": "one\nPRIORITY=0\n", "C": "y"})

    assert decoded(data) == {"A": b"x", "B": b"one\nPRIORITY=0\n", "C": b"y"}
    assert b"B\n" + struct.pack("<Q", 15) in data


def test_an_incident_can_be_found_by_its_message_id(journal: Journal) -> None:
    record = {"id": "2024-11-03-web-1", "worker": "web", "kind": "crash", "title": "it crashed", "fatal": "E: x",
              "cause": {"frames": ["/a.py:1 in f"]}, "findings": [{"says": "one"}, {"says": "two"}]}  # fmt: skip
    news = (News(OPENED, record, "", 1.0), News(SETTLED, record, "gave_up", 2.0))
    deliver(journal, portion(news=news))
    opened, settled = journal.entry(), journal.entry()

    assert (opened["MESSAGE_ID"], settled["MESSAGE_ID"]) == (
        OPENED_ID.encode(),
        SETTLED_ID.encode(),
    )
    assert (opened["PRIORITY"], settled["PRIORITY"]) == (b"3", b"2")
    assert opened["HOLDFAST_INCIDENT"] == settled["HOLDFAST_INCIDENT"] == b"2024-11-03-web-1"
    assert opened["HOLDFAST_FINDINGS"] == b"one\ntwo"
    assert opened["HOLDFAST_STACK"].endswith(b"/a.py:1 in f\nE: x")
    assert settled["MESSAGE"] == b"it crashed: gave_up"


def test_what_is_too_large_for_a_datagram_comes_in_a_sealed_memory_file(journal: Journal) -> None:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    sock.connect(journal.path)
    with sock:
        send_large(sock, encode({"MESSAGE": "x" * 900_000}))

    assert journal.entry()["MESSAGE"] == b"x" * 900_000
    assert journal.memories == 1


def test_a_line_that_no_datagram_can_hold_is_not_cut(journal: Journal) -> None:
    line = Line(1.0, "out", "web", 0, "y" * (16 << 20))
    got: list[dict[str, bytes]] = []
    reader = threading.Thread(target=lambda: got.append(journal.entry()))
    reader.start()
    deliver(journal, portion(line))
    reader.join(20 * SLOWNESS)

    assert len(got[0]["MESSAGE"]) == 16 << 20


def test_without_a_journal_nothing_is_taken_and_it_goes_on_where_it_stopped(tmp_path: Path) -> None:
    """What was written before journald went away is not written twice by the same life."""
    path = tmp_path / "socket"
    target = Journald(str(path))
    some = portion(*[Line(float(at), "out", "web", 0, f"line {at}") for at in range(3)])
    with pytest.raises(NotTakenError, match="No such file"):
        target.deliver(some, "n")
    journal = Journal(path)
    target.deliver(some, "n")
    target.close()

    assert [journal.entry()["MESSAGE"] for _ in range(3)] == [b"line 0", b"line 1", b"line 2"]
    journal.socket.close()
