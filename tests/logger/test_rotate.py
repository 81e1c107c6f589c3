"""Killed at any step of a rotation, the next logger has every byte once, in order, and segments that end with lines.

The steps run in this process; a fake ``os`` module dies before or behind the k-th call that changes something on disk.
"""

import gzip
import itertools
import os
from pathlib import Path
from typing import Any

import pytest

from holdfast.logger import rotate
from holdfast.wire import logindex

CHANGES = ("open", "write", "sendfile", "rename", "truncate", "unlink")


class Killed(BaseException):
    """SIGKILL: nothing of ours may catch it."""


class DyingOs:
    """The os module of a process that is killed at call number ``at`` of those that change something."""

    def __init__(self, at: int, *, before: bool) -> None:
        self.left = at
        self.before = before

    def __getattr__(self, name: str) -> Any:
        real = getattr(os, name)
        if name not in CHANGES:
            return real

        def call(*args: Any, **kwargs: Any) -> Any:
            if name == "open" and not args[1] & os.O_CREAT:
                return real(*args, **kwargs)
            self.left -= 1
            if self.left:
                return real(*args, **kwargs)
            if self.before:
                raise Killed
            if name == "sendfile":
                # Killed in the middle of a long copy.
                out, source, at, count = args
                real(out, source, at, max(1, count // 2))
                raise Killed
            real(*args, **kwargs)
            raise Killed

        return call


WHOLE = b"".join(b"line %04d of the worker\n" % n for n in range(200))
TAIL = b"the beginning of a line th"


def fill(directory: Path, tail: bytes = TAIL) -> tuple[int, int]:
    """Make a live segment with a torn line at its end; return its size and where the last line ends."""
    data = WHOLE + tail
    (directory / "out.log").write_bytes(data)
    records = [(at, 1_000_000_000 * (n + 1), 7) for n, at in enumerate(range(0, len(data), 1000))]
    (directory / ".out.log.idx").write_bytes(
        b"".join(logindex.encode(*record) for record in records)
    )
    return len(data), len(WHOLE)


def contents(directory: Path) -> bytes:
    """Everything of the stream, oldest first."""
    found, _ = rotate.recover(str(directory), "out")
    parts = []
    for ms in found:
        plain = Path(rotate.closed(str(directory), "out", ms))
        parts.append(
            plain.read_bytes()
            if plain.exists()
            else gzip.decompress(Path(f"{plain}.gz").read_bytes())
        )
    live = directory / "out.log"
    return b"".join(parts) + (live.read_bytes() if live.exists() else b"")


def stamps(directory: Path) -> dict[int, int]:
    """Which stamp each byte of the stream has, at the offsets where lines begin."""
    found: dict[int, int] = {}
    base = 0
    names = [
        rotate.closed(str(directory), "out", ms) for ms in rotate.recover(str(directory), "out")[0]
    ]
    for name in [*names, str(directory / "out.log")]:
        data = Path(name).read_bytes()
        records = logindex.decode(Path(logindex.beside(name)).read_bytes())
        begin = 0
        while begin < len(data):
            covering = [ns for at, ns, _ in records if at <= begin]
            found[base + begin] = covering[-1]
            end = data.find(b"\n", begin)
            begin = len(data) if end < 0 else end + 1
        base += len(data)
    return found


def steps_of_one_rotation(directory: Path, tail: bytes) -> int:
    directory.mkdir()
    size, at = fill(directory, tail)
    counting = DyingOs(10_000, before=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rotate, "os", counting)
        rotate.close_segment(str(directory), "out", size, at, 1000)
    return 10_000 - counting.left


@pytest.mark.parametrize("tail", [TAIL, b""], ids=["torn line at the end", "whole lines only"])
def test_killed_at_any_step_nothing_is_lost_torn_or_doubled(tmp_path: Path, tail: bytes) -> None:
    steps = steps_of_one_rotation(tmp_path / "count", tail)
    expected = stamps(tmp_path / "count")
    assert steps >= 7

    for at_step, before in itertools.product(range(1, steps + 1), (True, False)):
        directory = tmp_path / f"{at_step}-{before}"
        directory.mkdir()
        size, at = fill(directory, tail)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(rotate, "os", DyingOs(at_step, before=before))
            with pytest.raises(Killed):
                rotate.close_segment(str(directory), "out", size, at, 1000)

        assert contents(directory) == WHOLE + tail
        closed, _ = rotate.recover(str(directory), "out")
        if closed:
            assert Path(rotate.closed(str(directory), "out", 1000)).read_bytes() == WHOLE
            assert (directory / "out.log").read_bytes() == tail
        assert stamps(directory) == expected
        left = {p.name for p in directory.iterdir()} - {
            "out.log",
            ".out.log.idx",
            "out-1000.log",
            ".out-1000.log.idx",
        }
        assert not left, "recovery leaves nothing behind"


def test_killed_again_and_again_while_recovering(tmp_path: Path) -> None:
    """A crash loop of the logger itself must not make things worse."""
    steps = steps_of_one_rotation(tmp_path / "count", TAIL)
    for number, (first, second, before) in enumerate(
        itertools.product(range(1, steps + 1), range(1, steps + 1), (True, False))
    ):
        directory = tmp_path / str(number)
        directory.mkdir()
        size, at = fill(directory)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(rotate, "os", DyingOs(first, before=False))
            with pytest.raises(Killed):
                rotate.close_segment(str(directory), "out", size, at, 1000)
            patch.setattr(rotate, "os", DyingOs(second, before=before))
            try:
                rotate.recover(str(directory), "out")
            except Killed:
                pass

        assert contents(directory) == WHOLE + TAIL
        for ms in rotate.recover(str(directory), "out")[0]:
            assert Path(rotate.closed(str(directory), "out", ms)).read_bytes().endswith(b"\n")


def test_a_full_disk_in_the_middle_of_a_rotation_leaves_the_old_segment(tmp_path: Path) -> None:
    size, at = fill(tmp_path)

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    with pytest.MonkeyPatch.context() as patch:
        dying = DyingOs(10_000, before=False)
        patch.setattr(dying, "sendfile", full, raising=False)
        patch.setattr(rotate, "os", dying)
        with pytest.raises(OSError, match="No space"):
            rotate.close_segment(str(tmp_path), "out", size, at, 1000)

    assert contents(tmp_path) == WHOLE + TAIL
    assert sorted(p.name for p in tmp_path.iterdir()) == [".out.log.idx", "out.log"]


def test_a_compressor_killed_at_any_point_leaves_one_complete_segment(tmp_path: Path) -> None:
    plain = tmp_path / "out-5.log"
    plain.write_bytes(WHOLE)
    (tmp_path / ".out-5.log.idx").write_bytes(logindex.encode(0, 1, 1))
    (tmp_path / "out-5.log.gz.tmp").write_bytes(b"half of")

    assert rotate.recover(str(tmp_path), "out") == ([5], [5])
    assert contents(tmp_path) == WHOLE

    # Killed between its rename and its unlink.
    (tmp_path / "out-5.log.gz").write_bytes(gzip.compress(WHOLE))
    assert rotate.recover(str(tmp_path), "out") == ([5], [])
    assert not plain.exists()
    assert contents(tmp_path) == WHOLE


def test_remains_of_a_dropped_segment_are_removed(tmp_path: Path) -> None:
    for name in (
        ".out-5.log.idx",
        "out-6.log.gz.tmp",
        "out.tail",
        ".out.tail.idx",
        ".err-5.log.idx",
        "out-notes.txt",
    ):
        (tmp_path / name).write_bytes(b"x")

    assert rotate.recover(str(tmp_path), "out") == ([], [])
    assert sorted(p.name for p in tmp_path.iterdir()) == [".err-5.log.idx", "out-notes.txt"]


def test_the_cut_is_behind_the_last_line_end(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"a\n" * 40_000 + b"b" * 70_000)
    with path.open("rb") as file:
        assert rotate.find_cut(file.fileno(), 150_000, 0) == 80_000
        assert rotate.find_cut(file.fileno(), 150_000, 80_000) == 0
        assert rotate.find_cut(file.fileno(), 79_999, 0) == 79_998


@pytest.mark.parametrize(
    ("name", "ms"),
    [("out-12.log", 12), ("out-12.log.gz", 12), ("out.log", 0), ("err-12.log", 0), ("out-.log", 0), ("out-1x.log", 0),
     (".out-12.log.idx", 0), ("out-12.log.gz.tmp", 0)],
)  # fmt: skip
def test_only_closed_segments_have_a_time(name: str, ms: int) -> None:
    assert rotate.closed_ms(name, "out") == ms
