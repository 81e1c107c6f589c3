"""The flight recorder is read after a SIGKILL: whatever byte the worker had come to, what it tells has to be true."""

from __future__ import annotations

import itertools
import mmap
import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from holdfast.model.jobs import ACK, DROP, RETRY
from holdfast.wire import flight
from holdfast.wire.flight import RING, SLOT, SLOTS_AT, Flight, Recorder, fresh, size
from node import SLOWNESS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SLOTS = 3
JID = b"94d2b83e11801eb52122bf66"


def recorder(slots: int = SLOTS, **names: str) -> tuple[bytearray, Recorder]:
    texts = {"owner": "vm:1:abc", "worker": "mail", "boot": "b", "store": "sqlite:jobs.db", **names}
    buffer = bytearray(fresh(slots, 4711, 99, **texts))
    return buffer, Recorder(memoryview(buffer), itertools.count())


def begin(of: Recorder, slot: int, token: int, *, jid: bytes = JID, klass: bytes = b"app.mail") -> None:  # fmt: skip
    of.begin(slot, token, jid, klass, 77, 5_000, 4_000, 1795310493.5)


def running(flight: Flight) -> dict[int, int]:
    return {one.slot: one.token for one in flight.running}


# -- what is written is what is read


def test_a_new_recorder_names_its_process_and_says_that_nothing_happened() -> None:
    """The steward finds the file before the first job; it must know whom to watch."""
    read = Flight(bytes(recorder()[0]))

    assert (read.pid, read.ticks, read.slots) == (4711, 99, SLOTS)
    assert (read.owner, read.worker, read.boot) == ("vm:1:abc", "mail", "b")
    assert read.store == "sqlite:jobs.db"
    assert (read.running, read.finished, read.started, read.failed) == ([], {}, 0, 0)
    assert (read.is_meant, read.is_quiet, read.lease_until_ns) == (False, False, 0)


def test_what_is_past_its_deadline_is_told_without_reading_the_rest() -> None:
    """The steward asks each second, of each worker."""
    buffer, writer = recorder()
    begin(writer, 1, 7)
    writer.begin(2, 8, JID, b"app.mail", 77, 0, 4_000, 1795310493.5)

    assert flight.overdue(buffer, SLOTS, 5_000) == []
    assert flight.overdue(buffer, SLOTS, 5_001) == [7]
    writer.end(1, 7, 1)
    assert flight.overdue(buffer, SLOTS, 5_001) == []


def test_a_running_job_is_told_with_all_that_blame_and_watchdog_need() -> None:
    """Which job, on which thread, since when, until when."""
    buffer, rec = recorder()
    begin(rec, 1, 12)

    (one,) = Flight(bytes(buffer)).running
    assert (one.slot, one.token, one.jid, one.klass) == (1, 12, JID.decode(), "app.mail")
    assert (one.thread, one.deadline_ns, one.started_ns) == (77, 5_000, 4_000)
    assert one.started_unix_s == 1795310493.5


@pytest.mark.parametrize("end", [ACK, RETRY, DROP])
def test_what_ended_is_told_with_how_it_ended(end: str) -> None:
    """The store has not heard of it yet."""
    buffer, rec = recorder()
    begin(rec, 0, 12)
    rec.end(0, 12, flight.OUTCOME_CODES[end])

    read = Flight(bytes(buffer))
    assert read.finished == {12: end}
    assert read.running == []


def test_the_numbers_of_the_head_keep_to_their_places() -> None:
    """Eight numbers side by side: none runs over into its neighbour."""
    buffer, rec = recorder()
    places = [flight.LEASE_UNTIL, flight.QUIET, flight.MEANT, flight.STARTED, flight.FINISHED, flight.FAILED, flight.LAST_CLAIM, flight.BUFFERED]  # fmt: skip
    for i, at in enumerate(places):
        rec.put(at, 2**62 + i)

    assert [rec.get(at) for at in places] == [2**62 + i for i in range(len(places))]
    read = Flight(bytes(buffer))
    assert (read.pid, read.owner, read.is_meant) == (4711, "vm:1:abc", True)


@given(st.text(max_size=300), st.text(max_size=300), st.text(max_size=900))
def test_a_name_too_long_is_cut_and_nothing_behind_it_suffers(owner: str, worker: str, store: str) -> None:  # fmt: skip
    """A store's URL may be long, and a cut may fall into the middle of a character."""
    buffer, rec = recorder(owner=owner, worker=worker, store=store)
    begin(rec, 0, 5)
    read = Flight(bytes(buffer))

    for said, meant in ((read.owner, owner), (read.worker, worker), (read.store, store)):
        meant = meant.split("\0", 1)[0]
        assert meant.startswith(said.rstrip("\N{REPLACEMENT CHARACTER}"))
        if len(meant.encode()) < 127:
            assert said == meant
    assert running(read) == {0: 5}


@given(jid=st.binary(max_size=64), klass=st.binary(max_size=200))
def test_a_class_of_any_length_leaves_the_token_alone(jid: bytes, klass: bytes) -> None:
    """A class is named by whoever pushed it; the token behind it decides over a job."""
    buffer, rec = recorder()
    begin(rec, 0, 7)
    begin(rec, 1, 8, jid=jid, klass=klass)
    begin(rec, 2, 9)

    read = Flight(bytes(buffer))
    assert running(read) == {0: 7, 1: 8, 2: 9}
    assert read.running[1].thread == 77


def test_the_ring_holds_all_that_can_be_unsettled() -> None:
    """The last 4096 ends are there, however long the worker has lived."""
    buffer, rec = recorder()
    for token in range(1, 3 * RING + 17):
        begin(rec, token % SLOTS, token)
        rec.end(token % SLOTS, token, 1)

    assert sorted(Flight(bytes(buffer)).finished) == list(range(2 * RING + 17, 3 * RING + 17))


# -- cut off, or no recorder at all


@given(at=st.integers(0, size(SLOTS) - 1))
def test_a_part_of_a_recorder_is_refused(at: int) -> None:
    """A steward that read half a file would take running jobs for never started ones."""
    buffer, rec = recorder()
    begin(rec, 0, 5)

    with pytest.raises(ValueError, match="flight recorder"):
        Flight(bytes(buffer[:at]))


@given(junk=st.binary(max_size=2 * size(1)), with_magic=st.booleans())
def test_whatever_lies_in_the_directory_it_is_read_or_refused(junk: bytes, with_magic: bool) -> None:  # fmt: skip
    """A stray file must not end the steward."""
    data = flight.MAGIC + junk if with_magic else junk
    try:
        slots = Flight(data).slots
    except ValueError:
        return
    assert 0 < slots <= 2


# -- torn by SIGKILL


def torn(before: bytes, after: bytes, at: int, length: int) -> Iterator[bytes]:
    """Every state of one record while `pack_into` writes it: cleared first, then its fields from the front, each by one store.

    That a number is one store is what `test_no_reader_ever_sees_half_a_token` looks at on this very interpreter.
    """
    record = after[at : at + length]
    yield before
    for cut in range(length + 1):
        # A field of bytes may be cut anywhere; a number is whole or absent.
        whole = cut if length == SLOT and cut < 88 else cut - cut % 8
        yield before[:at] + record[:whole].ljust(length, b"\0") + before[at + length :]


@settings(max_examples=20)
@given(
    tokens=st.lists(st.integers(1, 2**62), min_size=2, max_size=2, unique=True),
    klass=st.binary(max_size=56),
    others=st.sets(st.integers(0, 2), max_size=2),
)
def test_killed_while_it_begins_a_job_it_runs_or_it_does_not(tokens: list[int], klass: bytes, others: set[int]) -> None:  # fmt: skip
    """Before the token is written the job has not run an instruction: it is not a suspect."""
    buffer, rec = recorder()
    for slot in others - {1}:
        begin(rec, slot, tokens[0])
    before = bytes(buffer)
    begin(rec, 1, tokens[1], klass=klass)
    at = SLOTS_AT + SLOT

    for state in torn(before, bytes(buffer), at, SLOT):
        now = running(Flight(state))
        assert now.pop(1, tokens[1]) == tokens[1]
        assert now == dict.fromkeys(others - {1}, tokens[0])


@settings(max_examples=20)
@given(
    token=st.integers(2, 2**62),
    outcome=st.sampled_from(sorted(flight.OUTCOMES)),
    laps=st.integers(0, 1),
)
def test_killed_while_it_writes_an_end_down_the_job_is_running_or_ended_but_never_neither(
    token: int, outcome: int, laps: int
) -> None:
    """Neither would be "never started": the job would run again, whose effect is out in the world."""
    buffer, rec = recorder(slots=1)
    for _ in range(laps * RING):
        rec.end(0, 1, 3)
    begin(rec, 0, token)
    before = bytes(buffer)
    rec.end(0, token, outcome)
    after = bytes(buffer)
    ring_at = SLOTS_AT + SLOT
    slot_full = after[:SLOTS_AT] + before[SLOTS_AT:ring_at] + after[ring_at:]

    states = [*torn(before, slot_full, ring_at, 16), slot_full, after]
    for state in states:
        read = Flight(state)
        assert set(read.finished) <= {1, token}
        if token in read.finished:
            assert read.finished[token] == flight.OUTCOMES[outcome]
        else:
            assert running(read) == {0: token}
    assert token in Flight(after).finished
    assert not Flight(after).running


READER = """
import mmap, os, struct, sys
from itertools import count
sys.path.insert(0, sys.argv[2])
from holdfast.wire.flight import Recorder
fd = os.open(sys.argv[1], os.O_RDWR)
recorder = Recorder(memoryview(mmap.mmap(fd, 0)), count())
one, two = 0x0101010101010101, 0x0202020202020202
os.write(1, b"!")
while True:
    for token in (one, two):
        recorder.begin(0, token, b"j", b"k", 1, 0, 0, 0.0)
        recorder.put(40, token)
        recorder.end(0, token, 1)
"""


def test_no_reader_ever_sees_half_a_token(tmp_path: Path) -> None:
    """Half a token is another job's: it would be settled, and lost. A number has to be one store, on this interpreter, too."""
    path = tmp_path / "flight"
    path.write_bytes(fresh(1, 1, 1, "o", "w", "b", "s"))
    source = os.path.dirname(os.path.dirname(flight.__file__)).removesuffix("/holdfast")
    writer = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", READER, str(path), source], stdout=subprocess.PIPE
    )
    seen = set()
    try:
        assert writer.stdout is not None
        assert writer.stdout.read(1) == b"!", "the writer has begun"
        with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as mapped:
            numbers = memoryview(mapped).cast("q")
            slot, first, lease = (
                (SLOTS_AT + SLOT - 8) // 8,
                (SLOTS_AT + SLOT + 8) // 8,
                flight.LEASE_UNTIL // 8,
            )
            until = time.monotonic() + 0.5 * SLOWNESS
            while time.monotonic() < until:
                for _ in range(1000):
                    seen.add(numbers[slot])
                    seen.add(numbers[first])
                    seen.add(numbers[lease])
            numbers.release()
    finally:
        writer.send_signal(signal.SIGKILL)
        writer.communicate(timeout=10)

    assert seen <= {0, 0x0101010101010101, 0x0202020202020202}
    assert len(seen) > 1, "the reader did see it being written"


# -- many jobs, any order


class Life(RuleBasedStateMachine):
    """One worker's life against a plain record of it; the file is read after every step."""

    def __init__(self) -> None:
        super().__init__()
        self.buffer, self.rec = recorder()
        self.token = 0
        self.running: dict[int, int] = {}
        self.ended: dict[int, str] = {}

    @precondition(lambda self: len(self.running) < SLOTS)
    @rule(data=st.data())
    def begins(self, data: st.DataObject) -> None:
        slot = data.draw(st.sampled_from([i for i in range(SLOTS) if i not in self.running]))
        self.token += 1
        begin(self.rec, slot, self.token)
        self.running[slot] = self.token

    @precondition(lambda self: self.running)
    @rule(data=st.data(), end=st.sampled_from([ACK, RETRY, DROP]))
    def ends(self, data: st.DataObject, end: str) -> None:
        slot = data.draw(st.sampled_from(sorted(self.running)))
        self.rec.end(slot, self.running[slot], flight.OUTCOME_CODES[end])
        self.ended[self.running.pop(slot)] = end

    @rule(at=st.sampled_from([flight.STARTED, flight.QUIET, flight.MEANT]), value=st.integers(0, 9))
    def counts(self, at: int, value: int) -> None:
        self.rec.put(at, value)

    @invariant()
    def the_file_tells_it(self) -> None:
        read = Flight(memoryview(self.buffer))
        assert running(read) == self.running
        assert read.finished == self.ended


Life.TestCase.settings = settings(max_examples=30, stateful_step_count=30, deadline=None)
TestLife = Life.TestCase
