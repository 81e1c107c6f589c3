"""Reading on in a log from a mark that outlives its reader: each line once, whatever the logger does to the files meanwhile."""

from __future__ import annotations

import gzip
import os
import random
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from holdfast.logger import rotate
from holdfast.records import taps
from holdfast.records.taps import Mark, Tap
from holdfast.wire import logindex


class Log:
    """A log as the logger writes, closes, compresses and drops it; its time goes on by itself."""

    def __init__(self, directory: Path) -> None:
        self.directory = str(directory)
        self.ms = 1_700_000_000_000
        self.said: list[str] = []

    def say(self, *lines: str, end: str = "\n", start: int = 1) -> None:
        self.ms += 7
        live = rotate.live(self.directory, "out")
        at = os.path.getsize(live) if os.path.exists(live) else 0
        with open(live, "ab") as file:
            file.write(("\n".join(lines) + end).encode())
        with open(logindex.beside(live), "ab") as file:
            file.write(logindex.encode(at, self.ms * 1_000_000, start))
        self.said += lines

    def close(self, *, packed: bool = False) -> str:
        """Close the live segment, by the logger's own code."""
        self.ms += 7
        live = rotate.live(self.directory, "out")
        size = os.path.getsize(live)
        descriptor = os.open(live, os.O_RDONLY)
        at = rotate.find_cut(descriptor, size, 0) or size
        os.close(descriptor)
        rotate.close_segment(self.directory, "out", size, at, self.ms)
        path = rotate.closed(self.directory, "out", self.ms)
        if packed:
            data = Path(path).read_bytes()
            Path(f"{path}.gz").write_bytes(gzip.compress(data))
            os.unlink(path)
        return path

    def tap(self, mark: Mark | None, since_unix_s: float = 0.0) -> Tap:
        return Tap(self.directory, "web", "out", mark, since_unix_s)


def rest(tap: Tap, most_bytes: int = 1 << 20) -> list[str]:
    """Read on until there is nothing more."""
    found: list[str] = []
    while lines := tap.read(most_bytes):
        found += [line.text for line in lines]
    return found


@pytest.fixture
def log() -> Iterator[Log]:
    with tempfile.TemporaryDirectory() as directory:
        yield Log(Path(directory))


def test_a_new_reader_goes_on_where_the_killed_one_was(log: Log) -> None:
    log.say("one", "two")
    tap = log.tap(None)
    assert rest(tap) == ["one", "two"]
    log.say("three")

    assert rest(log.tap(tap.mark)) == ["three"]
    assert not tap.lost


def test_a_line_that_has_no_end_yet_is_given_out_when_it_has(log: Log) -> None:
    """Half a line, sent to somebody else's store, could never be made whole."""
    log.say("one", "tw", end="")
    tap = log.tap(None)
    assert rest(tap) == ["one"]
    log.say("o")

    assert rest(tap) == ["two"]


def test_nothing_new_costs_one_stat_and_a_new_byte_is_news(log: Log) -> None:
    log.say("one")
    tap = log.tap(None)
    rest(tap)
    assert not tap.has_news()
    log.say("two")

    assert tap.has_news()


@pytest.mark.parametrize("packed", [False, True])
def test_segments_that_were_closed_meanwhile_are_read_to_their_end(log: Log, packed: bool) -> None:
    """The target was away for three rotations."""
    log.say("one", "two")
    tap = log.tap(None)
    rest(tap)
    mark = tap.mark
    for number in range(3):
        log.say(f"more {number}", f"and {number}", "tor", end="")
        log.close(packed=packed)
        log.say("n")
    expected = [line for n in range(3) for line in (f"more {n}", f"and {n}", "torn")]

    assert rest(log.tap(mark)) == expected
    assert rest(log.tap(mark), most_bytes=1) == expected


def test_what_was_dropped_before_it_was_read_is_told_as_lost_and_the_rest_is_read(log: Log) -> None:
    log.say("one")
    tap = log.tap(None)
    rest(tap)
    log.say("two")
    first = log.close()
    log.say("three")
    second = log.close()
    log.say("four")
    for path in (first, logindex.beside(first)):
        os.unlink(path)
    late = log.tap(tap.mark)

    assert rest(late, most_bytes=1) == ["three", "four"]
    assert os.path.exists(second)


def test_the_loss_is_said_once(log: Log) -> None:
    log.say("one")
    tap = log.tap(None)
    rest(tap)
    log.say("two")
    first = log.close()
    log.say("three")
    for path in (first, logindex.beside(first)):
        os.unlink(path)
    late = log.tap(tap.mark)

    assert [line.text for line in late.read(1 << 20)] == ["three"]
    assert late.lost
    log.say("four")
    assert [line.text for line in late.read(1 << 20)] == ["four"]
    assert not late.lost


def test_a_file_that_somebody_emptied_is_new_from_its_beginning(log: Log) -> None:
    log.say("one", "two", "three")
    tap = log.tap(None)
    rest(tap)
    os.truncate(rotate.live(log.directory, "out"), 0)
    Path(logindex.beside(rotate.live(log.directory, "out"))).unlink()
    log.say("x")

    assert rest(tap) == ["x"]


def test_without_a_mark_it_begins_with_what_came_since(log: Log) -> None:
    """A node that has been there for a year is not told anew because somebody wants its log from now on."""
    log.say("old")
    log.close()
    log.say("older than that")
    since = log.ms / 1000 + 0.001
    log.say("new")

    assert rest(log.tap(None, since)) == ["new"]


def test_a_log_that_is_not_there_yet(log: Log) -> None:
    tap = log.tap(None)
    assert rest(tap) == []
    log.say("first")

    assert rest(tap) == ["first"]


@pytest.mark.parametrize("step", [1, 2, 3, 4])
def test_while_a_segment_is_being_closed_nothing_is_read_twice(
    log: Log, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    """The logger was killed between two of its steps; the mark must not rest on a name that is about to change."""
    log.say("one", "two", "thr", end="")
    tap = log.tap(None)
    assert rest(tap, 1) == ["one", "two"]
    its_os = vars(rotate)["os"]  # the house has one of its own
    real, steps = its_os.rename, [0]

    def rename(*paths: str) -> None:
        steps[0] += 1
        if steps[0] == step:
            raise RuntimeError("killed")
        real(*paths)

    monkeypatch.setattr(its_os, "rename", rename)
    with pytest.raises(RuntimeError, match="killed"):
        log.close()
    half = rest(log.tap(tap.mark))
    monkeypatch.undo()
    rotate.recover(log.directory, "out")
    log.say("ee", "four")
    after = log.tap(tap.mark)

    assert half == []
    assert rest(after) == ["three", "four"]


def test_a_mark_names_the_segment_that_was_read_and_not_the_one_that_took_its_name(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A flood: between opening a segment and noting how far it was read, it was closed and the next one begun."""
    log.say("one", "two")
    begin: Callable[..., Iterator[Any]] = vars(taps)["_raw_lines"]

    def close_first(*args: Any, **kwargs: Any) -> Iterator[Any]:
        log.close(packed=True)
        log.say("three")
        monkeypatch.setattr(taps, "_raw_lines", begin)
        return begin(*args, **kwargs)

    monkeypatch.setattr(taps, "_raw_lines", close_first)
    tap = log.tap(None)
    assert [line.text for line in tap.read(1)] == ["one"]
    tap.close()

    after = log.tap(tap.mark)  # whoever read first was killed
    assert rest(after) == ["two", "three"]
    assert not after.lost


def test_each_line_once_under_chance(log: Log) -> None:
    """Writing, closing, packing and reading in any order, a new reader each time."""
    chance = random.Random(3)
    found: list[str] = []
    mark: Mark | None = None
    number = 0
    for _ in range(150):
        what = chance.random()
        if what < 0.5:
            count = chance.randint(1, 4)
            log.say(*[f"line {number + k}" for k in range(count)])
            number += count
        elif what < 0.65 and os.path.exists(rotate.live(log.directory, "out")):
            log.close(packed=chance.random() < 0.5)
        else:
            tap = log.tap(mark)
            found += [line.text for line in tap.read(chance.choice((1, 20, 1 << 20)))]
            mark = tap.mark
            tap.close()
    found += rest(log.tap(mark))

    assert found == [f"line {k}" for k in range(number)]


def test_the_date_and_the_life_come_with_a_line(log: Log) -> None:
    log.say("one", start=3)
    (line,) = log.tap(None).read(99)

    assert (line.worker, line.stream, line.start) == ("web", "out", 3)
    assert abs(line.unix_s - log.ms / 1000) < 0.001
    assert line.unix_s < time.time()
