"""The reader of the logs against a naive model, and on what crashes, rotations and people leave behind."""

import gzip
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.records import logs
from holdfast.wire import logindex

SLOWNESS = float(os.environ.get("HOLDFAST_SLOWNESS", "1"))


class Segment(NamedTuple):
    data: bytes
    records: list[tuple[int, int, int]]


def put(
    directory: Path, stream: str, segments: list[Segment], packed: list[bool] | None = None
) -> None:
    """Lay segments down as the logger does; the last is the live one."""
    ms = 1000
    for number, (data, records) in enumerate(segments):
        ms = max([ms, *(ns // 1_000_000 for _, ns, _ in records)]) + 1
        path = directory / (
            f"{stream}.log" if number == len(segments) - 1 else f"{stream}-{ms}.log"
        )
        Path(logindex.beside(str(path))).write_bytes(
            b"".join(logindex.encode(*record) for record in records)
        )
        if packed and number < len(segments) - 1 and packed[number]:
            Path(f"{path}.gz").write_bytes(gzip.compress(data))
        else:
            path.write_bytes(data)


def naive(segments: list[Segment], stream: str = "out") -> list[logs.Line]:
    """The slow and obvious way: a date and a life for each byte, then cut at line ends and at deaths."""
    stamps: list[tuple[int, int]] = []
    for data, records in segments:
        good: list[tuple[int, int, int]] = []
        for record in reversed(records):
            if record[0] < max(1, len(data)) and (not good or record[0] < good[-1][0]):
                good.append(record)
        good.reverse()
        here: list[tuple[int, int]] = []
        for at in range(len(data)):
            before = [r for r in good if r[0] <= at]
            lives = [r[2] for r in before if r[2]]
            ns = before[-1][1] if before else good[0][1]
            here.append((ns, lives[-1] if lives else 0))
        stamps += here
    whole = b"".join(data for data, _ in segments)
    found: list[logs.Line] = []
    line = b""
    head: tuple[int, int] | None = None
    life = 0
    for at in range(len(whole)):
        byte = whole[at : at + 1]
        if head is not None and life and stamps[at][1] and stamps[at][1] != life:
            found.append(line_of(stream, line, head))
            line, head = b"", None
        if head is None:
            head, life = stamps[at], stamps[at][1]
        if byte == b"\n":
            found.append(line_of(stream, line, head))
            line, head = b"", None
        elif len(line) == logs.LONGEST:
            found.append(line_of(stream, line, head))
            line, head = byte, stamps[at]
            life = stamps[at][1]
        else:
            line += byte
    if head is not None:
        found.append(line_of(stream, line, head))
    return found


def line_of(stream: str, data: bytes, head: tuple[int, int]) -> logs.Line:
    return logs.Line(head[0] / 1e9, stream, "w", head[1], data.decode("utf-8", "surrogateescape"))


BYTES = st.sampled_from([b"a", b"bc", b"\n", b"\xff", "é".encode(), b"\x1b[1m"])


@st.composite
def streams(draw: st.DrawFn) -> list[Segment]:
    """Segments with dates that grow and lives that follow one another; a logger may not have known the life."""
    made: list[Segment] = []
    ns, life = 1_000_000_000, draw(st.integers(0, 2))
    for _ in range(draw(st.integers(1, 4))):
        data = b""
        records: list[tuple[int, int, int]] = []
        for _ in range(draw(st.integers(0, 6))):
            piece = draw(st.lists(BYTES, min_size=1, max_size=8))
            ns += draw(st.integers(1, 5)) * 1_000_000_000
            life += draw(st.integers(0, 3)) // 3
            records.append((len(data), ns, life if draw(st.integers(0, 5)) else 0))
            data += b"".join(piece)
        # As after a rotation: records about bytes that went to the next segment.
        is_rotated = draw(st.booleans())
        if records and is_rotated:
            records.append((len(data) + 3, ns, life))
        if not records and data:
            records.append((0, ns, life))
        made.append(Segment(data, records))
    return made


@settings(deadline=None, max_examples=150)
@given(
    streams(),
    st.lists(st.booleans(), min_size=4, max_size=4),
    st.integers(1, 12),
    st.integers(2, 9),
    st.data(),
)
def test_read_and_tail_agree_with_the_naive_model(
    segments: list[Segment], packed: list[bool], count: int, longest: int, data: st.DataObject
) -> None:
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        directory = Path(name)
        patch.setattr(logs, "_CHUNK", data.draw(st.integers(1, 7)))
        patch.setattr(logs, "_INDEX_BLOCK", logindex.SIZE * data.draw(st.integers(1, 3)))
        patch.setattr(logs, "LONGEST", longest)
        put(directory, "out", segments, packed)
        expected = naive(segments)
        dates = sorted({line.unix_s for line in expected}) or [1.0]
        until, since = data.draw(st.sampled_from(dates)), data.draw(st.sampled_from(dates))
        life = data.draw(st.sampled_from(sorted({line.start for line in expected}) or [0]))

        assert list(logs.read(name, "w")) == expected
        # An over-long line is cut into pieces; seen from its end they may be other pieces.
        if all(len(line.text.encode("utf-8", "surrogateescape")) < longest for line in expected):
            assert logs.tail(name, "w", count) == expected[-count:]
            assert (
                logs.tail(name, "w", count, until_unix_s=until)
                == [x for x in expected if x.unix_s <= until][-count:]
            )
            assert (
                logs.tail(name, "w", count, start=life)
                == [x for x in expected if x.start == life][-count:]
            )
        assert list(logs.read(name, "w", until=until)) == [x for x in expected if x.unix_s <= until]
        assert list(logs.read(name, "w", since_unix_s=since)) == [
            x for x in expected if x.unix_s >= since
        ]


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path


def test_out_and_err_are_merged_by_time(directory: Path) -> None:
    put(
        directory, "out", [Segment(b"one\nthree\n", [(0, 1_000_000_000, 1), (4, 3_000_000_000, 1)])]
    )
    put(directory, "err", [Segment(b"two\nfour\n", [(0, 2_000_000_000, 1), (4, 4_000_000_000, 1)])])

    assert [line.text for line in logs.read(str(directory), "w")] == ["one", "two", "three", "four"]
    assert [(x.stream, x.text) for x in logs.tail(str(directory), "w", 2)] == [
        ("out", "three"),
        ("err", "four"),
    ]
    assert [x.text for x in logs.read(str(directory), "w", since_unix_s=2.0, until=3.0)] == [
        "two",
        "three",
    ]
    assert [x.text for x in logs.search(logs.read(str(directory), "w"), "^t")] == ["two", "three"]
    assert [
        x.text for x in logs.search(logs.read(str(directory), "w"), "FOUR", ignore_case=True)
    ] == ["four"]


def test_the_last_words_of_a_killed_life_are_a_line_of_their_own(directory: Path) -> None:
    """kill -9 in the middle of a line: in the file the next life's first line follows without a line end."""
    data = b"fine\nhalf a liFresh start\n"
    put(directory, "out", [Segment(data, [(0, 10**9, 1), (14, 2 * 10**9, 2)])])

    assert [(x.start, x.text) for x in logs.tail(str(directory), "w")] == [
        (1, "fine"),
        (1, "half a li"),
        (2, "Fresh start"),
    ]
    assert [x.text for x in logs.tail(str(directory), "w", start=1)] == ["fine", "half a li"]


def test_without_an_index_the_date_is_that_of_the_file(directory: Path) -> None:
    path = directory / "out.log"
    path.write_bytes(b"a\nb")
    os.utime(path, (50, 50))

    assert logs.tail(str(directory), "w") == [
        logs.Line(50.0, "out", "w", 0, "a"),
        logs.Line(50.0, "out", "w", 0, "b"),
    ]


@given(st.binary(max_size=200), st.integers(0, 200))
def test_a_damaged_index_costs_dates_but_no_lines(noise: bytes, at: int) -> None:
    good = b"".join(logindex.encode(4 * n, n * 10**9, 1) for n in range(10))
    with tempfile.TemporaryDirectory() as name:
        (Path(name) / "out.log").write_bytes(b"abc\n" * 10)
        (Path(name) / ".out.log.idx").write_bytes(good[:at] + noise + good[at + len(noise) :])
        assert [line.text for line in logs.read(name, "w")] == ["abc"] * 10
        assert [line.text for line in logs.tail(name, "w", 3)] == ["abc"] * 3


def test_a_damaged_compressed_segment_is_read_as_far_as_it_is_good(directory: Path) -> None:
    put(
        directory,
        "out",
        [Segment(b"x\n", [(0, 10**9, 1)]), Segment(b"live\n", [(0, 2 * 10**9, 1)])],
        [True],
    )
    packed = gzip.compress(b"".join(b"line %d\n" % n for n in range(50_000)), mtime=0)
    next(directory.glob("*.gz")).write_bytes(packed[: len(packed) // 2])

    texts = [line.text for line in logs.read(str(directory), "w")]
    assert texts[0] == "line 0"
    assert texts[-1].endswith("live"), "what is behind the damage is there, too"
    assert len(texts) > 1000


def test_nothing_there_is_no_error(directory: Path) -> None:
    assert logs.tail(str(directory / "missing"), "w") == []
    assert list(logs.read(str(directory), "w")) == []
    (directory / "out.log").write_bytes(b"")
    assert logs.tail(str(directory), "w") == []
    assert logs.tail(str(directory), "w", 0) == []


def test_ansi_and_foreign_bytes_come_through(directory: Path) -> None:
    data = b"\x1b[31mred\x1b[0m\r\n\xff\xfe caf\xe9\n"
    put(directory, "out", [Segment(data, [(0, 10**9, 1)])])

    red, foreign = logs.tail(str(directory), "w")
    assert red.text == "\x1b[31mred\x1b[0m"
    assert foreign.text.encode("utf-8", "surrogateescape") == b"\xff\xfe caf\xe9"


@pytest.mark.parametrize("step", ["cut", "truncated", "renamed"])
def test_a_rotation_that_was_killed_half_way_shows_every_byte_once(
    directory: Path, step: str
) -> None:
    """The logger is dead and nobody has recovered: steps 2 to 6 of logger/rotate.py."""
    lines, torn = b"one\ntwo\n", b"thr"
    put(directory, "out", [Segment(lines + torn, [(0, 10**9, 1), (8, 2 * 10**9, 1)])])
    (directory / f"out.cut-1000-{len(lines)}").write_bytes(torn)
    (directory / ".out.tail.idx").write_bytes(logindex.encode(0, 2 * 10**9, 1))
    if step != "cut":
        (directory / ".out.log.idx").rename(directory / ".out-1000.log.idx")
        os.truncate(directory / "out.log", len(lines))
    if step == "renamed":
        (directory / "out.log").rename(directory / "out-1000.log")

    found = logs.tail(str(directory), "w")
    assert [(x.unix_s, x.text) for x in found] == [(1.0, "one"), (1.0, "two"), (2.0, "thr")]


def test_the_tail_of_a_large_segment_does_not_read_all_of_it(directory: Path) -> None:
    with (directory / "out.log").open("wb") as file:
        file.truncate(1 << 30)  # a hole: reading it all would take a second
        file.seek(0, os.SEEK_END)
        file.write(b"\n" + b"the end\n" * 300)
    began = time.process_time()
    found = logs.tail(str(directory), "w", 200)
    took_s = time.process_time() - began

    assert [x.text for x in found] == ["the end"] * 200
    assert took_s < 0.2 * SLOWNESS


class Written:
    """A live log to which a test appends, and that it rotates as the logger does."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "out.log"
        self.index = directory / ".out.log.idx"
        self.ms = 1000
        self.ns = 10**9

    def add(self, data: bytes, start: int = 1) -> None:
        at = self.path.stat().st_size if self.path.exists() else 0
        with self.path.open("ab") as file:
            file.write(data)
        with self.index.open("ab") as file:
            self.ns += 10**9
            file.write(logindex.encode(at, self.ns, start))

    def rotate(self, *, packed: bool = False) -> None:
        data = self.path.read_bytes()
        at = data.rfind(b"\n") + 1
        os.truncate(self.path, at)
        closed = self.path.with_name(f"out-{self.ms}.log")
        self.index.rename(logindex.beside(str(closed)))
        self.path.rename(closed)
        if packed:
            Path(f"{closed}.gz").write_bytes(gzip.compress(data[:at]))
            closed.unlink()
        self.ms += 1
        self.path.write_bytes(data[at:])
        self.index.write_bytes(logindex.encode(0, self.ns, 1))


class Follow:
    """A reader that follows; ``take`` gives what came since."""

    def __init__(self, directory: Path, lines: int = 0) -> None:
        self.done = False
        self.until = 0.0
        self.lines: Iterator[logs.Line] = logs.follow(
            str(directory), "w", lines, stop=self.is_over, poll_s=0.001
        )

    def is_over(self) -> bool:
        return self.done or time.monotonic() > self.until

    def take(self, count: int) -> list[str]:
        self.until = time.monotonic() + 10 * SLOWNESS
        found = []
        for line in self.lines:
            found.append(line.text)
            if len(found) == count:
                return found
        raise AssertionError(f"waited in vain for {count} lines, got {found}")

    def rest(self) -> list[str]:
        self.done = True
        return [line.text for line in self.lines]


def test_follow_gives_each_line_once_across_rotations(directory: Path) -> None:
    log = Written(directory)
    log.add(b"old 1\nold 2\n")
    follow = Follow(directory, lines=1)
    assert follow.take(1) == ["old 2"]

    log.add(b"a\nb\nhalf")
    assert follow.take(2) == ["a", "b"]
    log.rotate()
    log.add(b" a line\nc\n")
    assert follow.take(2) == ["half a line", "c"]
    # Several between two looks, some of them compressed at once.
    for n in range(5):
        log.add(b"n%d\n" % n)
        log.rotate(packed=n % 2 == 0)
    log.add(b"last\npart")
    assert follow.take(6) == ["n0", "n1", "n2", "n3", "n4", "last"]
    assert follow.rest() == []


def test_follow_gets_on_when_segments_are_closed_faster_than_it_looks(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A flood on a starved machine: at each look there is another live segment, and it is never the one that was seen."""
    log = Written(directory)
    log.add(b"old\n")
    follow = Follow(directory)
    written = 0
    look = logs._names

    def flood(path: str) -> set[str]:
        nonlocal written
        found = look(path)
        for _ in range(3 if written < 600 else 0):
            log.add(b"n%d\n" % written)
            log.rotate(packed=written % 5 == 0)
            written += 1
        return found

    monkeypatch.setattr(logs, "_names", flood)
    # Who reads once gets all that was there, and stops somewhere in the flood.
    once = [line.text for line in logs.read(str(directory), "w")]
    assert once == ["old", *(f"n{n}" for n in range(len(once) - 1))]
    so_far = written
    last = [int(line.text[1:]) for line in logs.tail(str(directory), "w", 3)]
    assert last == [*range(last[0], last[0] + 3)]
    assert last[0] >= so_far - 3
    assert 0 < written < 200, "it waited for the end of the flood"
    assert follow.take(300) == [f"n{n}" for n in range(300)]
    assert written < 600, "it got on only after the flood"


def test_follow_takes_a_long_way_in_steps_and_leaves_nothing_out(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Far behind, the open files of one look are few; asked to stop, it still comes to the end of what was there."""
    log = Written(directory)
    log.add(b"old\n")
    follow = Follow(directory, lines=1)
    assert follow.take(1) == ["old"]
    for n in range(500):
        log.add(b"n%d\n" % n)
        log.rotate()
    opened: list[int] = []
    look = logs._Follower.fresh

    def count(self: logs._Follower) -> list[logs.Line]:
        found = look(self)
        opened.append(len(os.listdir("/proc/self/fd")))
        return found

    monkeypatch.setattr(logs._Follower, "fresh", count)
    before = len(os.listdir("/proc/self/fd"))
    log.add(b"last\n")
    assert follow.rest() == [*(f"n{n}" for n in range(500)), "last"]
    assert max(opened) < before + 2 * logs._BATCH + 10


def test_follow_waits_for_a_log_that_is_not_there_yet(directory: Path) -> None:
    follow = Follow(directory / "later")
    (directory / "later").mkdir()
    log = Written(directory / "later")
    log.add(b"first\n")
    assert follow.take(1) == ["first"]
    assert follow.rest() == []


def test_follow_begins_anew_when_somebody_empties_or_removes_the_file(directory: Path) -> None:
    log = Written(directory)
    log.add(b"a long enough first line\n")
    follow = Follow(directory, lines=5)
    assert follow.take(1) == ["a long enough first line"]

    os.truncate(log.path, 0)
    log.index.unlink()
    log.add(b"short\n")
    assert follow.take(1) == ["short"]
    log.path.unlink()
    log.index.unlink()
    log.add(b"anew\n")
    assert follow.take(1) == ["anew"]
    assert follow.rest() == []


def test_follow_parts_the_last_words_of_a_killed_life(directory: Path) -> None:
    log = Written(directory)
    log.add(b"x\n")
    follow = Follow(directory, lines=1)
    assert follow.take(1) == ["x"]
    log.add(b"dying wor", start=1)
    log.add(b"alive\n", start=2)
    assert follow.take(2) == ["dying wor", "alive"]
    assert follow.rest() == []
