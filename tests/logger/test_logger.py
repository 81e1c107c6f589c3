"""The logger process under real signals, real pipes and a really full disk."""

import array
import fcntl
import gzip
import os
import random
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

import holdfast
from holdfast.linux import locks, talk
from holdfast.records import logs
from holdfast.wire import beats, journal, jsonlite, logindex

pytestmark = pytest.mark.faults
SLOWNESS = float(os.environ.get("HOLDFAST_SLOWNESS", "1"))
SCRIPT = str(Path(holdfast.__file__).parent / "logger" / "__main__.py")
LINE = 100

#: Writes the numbered lines FIRST.. in pieces that know nothing of lines, until stdin says that it is enough; then ends
#: at a line end and prints how many lines there are.
WRITER = """
import os, random, select, sys
number, seed, small = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3] == "small"
chance = random.Random(seed)
rest = b""
poll = select.poll()
poll.register(0, select.POLLIN)
while True:
    block = b"".join([b"%010d " % n + b"x" * 88 + b"\\n" for n in range(number, number + 2000)])
    number += 2000
    at = 0
    while at < len(block):
        size = 100 if small else chance.randrange(1, 20000)
        at += os.write(1, block[at : at + size])
    if poll.poll(0):
        break
os.write(2, b"%d\\n" % number)
"""


def wait_for(
    condition: Callable[[], Any], what: str | Callable[[], str], deadline_s: float = 20.0
) -> Any:
    until = time.monotonic() + deadline_s * SLOWNESS
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > until:
            words = what if isinstance(what, str) else what()
            pytest.fail(f"waited {deadline_s * SLOWNESS:g} s in vain: {words}")
        time.sleep(0.002)


class Node:
    """A run directory with pipes and a logger that the test kills and starts again."""

    def __init__(self, root: Path, workers: tuple[str, ...] = ("w",), **policy: Any) -> None:
        self.root = root
        self.run = root / "run"
        self.logs = root / "logs"
        self.process: subprocess.Popen[bytes] | None = None
        self.ends: dict[str, int] = {}
        (self.run / "fifo").mkdir(parents=True)
        (self.run / "beats").write_bytes(bytes(beats.SIZE))
        # The test is the anchor: without one the logger would start it.
        self.anchor_lock = locks.take(f"{self.run}/anchor.lock")
        self.write_plan(workers, **policy)
        for worker in (*workers, "holdfast"):
            self.make_pipes(worker)

    def write_plan(self, workers: tuple[str, ...], **policy: Any) -> None:
        settings = {
            "max_bytes": 1_000_000,
            "max_age_s": 0.0,
            "keep": 100_000,
            "compress": False,
            **policy,
        }
        plan = {
            "format": 1,
            "state_dir": str(self.root),
            "workers": [
                {"name": w, "log": {**settings, "directory": str(self.logs / w)}} for w in workers
            ],
            "house_log": {**settings, "directory": str(self.root / "house")},
        }
        temporary = self.run / "plan.tmp"
        temporary.write_text(jsonlite.dumps(plan))
        temporary.rename(self.run / "plan.json")

    def make_pipes(self, worker: str) -> None:
        for stream in ("out", "err"):
            path = self.run / "fifo" / f"{worker}.{stream}"
            os.mkfifo(path)
            self.ends[path.name] = os.open(
                path, os.O_RDWR
            )  # as the anchor does: the pipe outlives everybody

    def start(self) -> int:
        actions = self.ends["holdfast.err"]
        self.process = subprocess.Popen(
            [sys.executable, "-I", "-S", SCRIPT, str(self.run)],
            stderr=actions,
            stdin=subprocess.DEVNULL,
        )
        pid = self.process.pid
        wait_for(
            lambda: locks.holder(f"{self.run}/logger.lock") == pid, "the logger takes its lock"
        )
        return pid

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def end(self) -> None:
        if self.process is not None:
            self.kill()
        for descriptor in self.ends.values():
            os.close(descriptor)
        assert self.anchor_lock is not None
        os.close(self.anchor_lock)
        locks.forget(f"{self.run}/anchor.lock")

    def say(self, text: bytes, name: str = "w.out") -> None:
        assert os.write(self.ends[name], text) == len(text)

    def tell(self, **what: Any) -> None:
        wait_for(lambda: talk.tell(str(self.run), "logger", what), "the logger takes a datagram")

    def live(self, worker: str = "w", stream: str = "out") -> bytes:
        path = self.logs / worker / f"{stream}.log"
        return path.read_bytes() if path.exists() else b""

    def closed(self, worker: str = "w", stream: str = "out") -> dict[int, bytes]:
        """Content of the closed segments; where both a plain and a compressed one are there, of the plain one."""
        while True:
            found = {}
            directory = self.logs / worker
            try:
                for path in [
                    *directory.glob(f"{stream}-*.log.gz"),
                    *directory.glob(f"{stream}-*.log"),
                ]:
                    data = path.read_bytes()
                    ms = int(path.name.split("-")[1].split(".")[0])
                    found[ms] = gzip.decompress(data) if path.suffix == ".gz" else data
            except FileNotFoundError:
                continue  # compressed or dropped while we looked
            return dict(sorted(found.items()))

    def is_drained(self, name: str = "w.out") -> bool:
        """Whether the pipe is empty: what was in it is in the file."""
        waiting = array.array("i", [0])
        fcntl.ioctl(self.ends[name], termios.FIONREAD, waiting)
        return not waiting[0]

    def all(self, worker: str = "w", stream: str = "out") -> bytes:
        return b"".join(self.closed(worker, stream).values()) + self.live(worker, stream)

    def state(self) -> str:
        """For the message of a test that failed."""
        status = self.process.poll() if self.process else "none"
        return f"logger: {status}, pipe empty: {self.is_drained()}, it says: {self.house_log()[-3000:]}"

    def house_log(self) -> str:
        path = self.root / "house" / "err.log"
        return path.read_text() if path.exists() else ""


@pytest.fixture
def root() -> Iterator[Path]:
    # Not tmp_path: the path of a Unix socket has 107 bytes at most.
    path = Path(tempfile.mkdtemp(prefix="hf-"))
    yield path

    def is_removed() -> bool:
        # The compressor of a logger that was killed may still be at work in there, for an instant.
        shutil.rmtree(path, ignore_errors=True)
        return not path.exists()

    wait_for(is_removed, "the directory of the test can be removed")


@pytest.fixture
def node(root: Path) -> Iterator[Node]:
    made = Node(root)
    made.start()
    yield made
    made.end()


def expected_lines(count: int) -> Iterator[bytes]:
    for first in range(0, count, 2000):
        yield b"".join(
            [b"%010d " % n + b"x" * 88 + b"\n" for n in range(first, min(count, first + 2000))]
        )


def assert_every_line_once(node: Node, count: int) -> None:
    """Given so many numbered lines were written: each is there once, whole, in order; segments end with lines."""
    data = node.all()
    assert len(data) == count * LINE
    at = 0
    for block in expected_lines(count):
        assert data[at : at + len(block)] == block, (
            f"damage between lines {at // LINE} and {at // LINE + 2000}"
        )
        at += len(block)
    for ms, segment in node.closed().items():
        assert segment.endswith(b"\n"), f"segment {ms} ends in the middle of a line"
        assert segment[10:11] == b" ", f"segment {ms} begins in the middle of a line"


def write_while(node: Node, disturb: Callable[[], None], kind: str = "any") -> int:
    """Let a worker write at full speed while ``disturb`` runs; return how many lines it wrote in the end."""
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", WRITER, "0", "1", kind],
        stdin=subprocess.PIPE, stdout=node.ends["w.out"], stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        disturb()
        assert process.stdin is not None
        assert process.stderr is not None
        process.stdin.write(b"enough")
        process.stdin.flush()
        answer = process.stderr
        wait_for(
            lambda: select.select([answer], [], [], 0)[0],
            lambda: f"the writer ends; {node.state()}",
            60,
        )
        count = int(process.stderr.readline())
        assert process.wait(20 * SLOWNESS) == 0
    finally:
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stderr):
            if pipe is not None:
                pipe.close()
    return count


@pytest.mark.parametrize("kind", ["any", "small"])
def test_a_logger_killed_sixty_times_loses_tears_and_doubles_nothing(root: Path, kind: str) -> None:
    """Law 1, while segments rotate thirty times a second and are compressed; compressors are killed, too."""
    node = Node(root, max_bytes=300_000, compress=True)
    chance = random.Random(kind)
    kills = 0

    def disturb() -> None:
        nonlocal kills
        for _ in range(60):
            pid = node.start()
            # Any moment from its very first steps to full flood: that is what is being tested.
            time.sleep(chance.random() * 0.025)
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
            node.kill()
            if chance.random() < 0.3:
                for child in children:
                    try:
                        os.kill(int(child), signal.SIGKILL)
                    except ProcessLookupError:
                        continue
            kills += 1
        node.start()

    try:
        count = write_while(node, disturb, kind)
        wait_for(node.is_drained, "the pipe is empty", 60)
        last = b"%010d " % (count - 1)
        wait_for(lambda: node.all()[-LINE:].startswith(last), "the last line is on disk", 60)

        assert kills == 60
        assert len(node.closed()) > 10
        assert_every_line_once(node, count)
    finally:
        node.end()


def test_whoever_follows_sees_every_line_once_while_the_logger_is_killed(root: Path) -> None:
    """The reader on the other side of rotation, compression and recovery, all at full speed."""
    node = Node(root, max_bytes=300_000, compress=True)
    node.start()
    is_over = False
    lines = logs.follow(str(node.logs / "w"), "w", stop=lambda: is_over, poll_s=0.001)
    seen: list[logs.Line] = []

    def disturb() -> None:
        for _ in range(8):
            goal = len(seen) + 2_000
            until = time.monotonic() + 30 * SLOWNESS
            while len(seen) < goal:
                seen.append(next(lines))
                assert time.monotonic() < until
            node.kill()
            node.start()

    try:
        count = write_while(node, disturb, "any")
        wait_for(node.is_drained, "the pipe is empty", 60)
        while len(seen) < count:
            # Millions of lines may be left to read: what counts is that each of them comes.
            until = time.monotonic() + 30 * SLOWNESS
            seen.append(next(lines))
            assert time.monotonic() < until
        is_over = True
        seen += lines

        assert len(seen) == count
        assert all(
            line.text.startswith(f"{n:010d} ") and len(line.text) == 99
            for n, line in enumerate(seen)
        )
        assert all(a.unix_s <= b.unix_s for a, b in pairwise(seen))
        assert [line.text for line in logs.tail(str(node.logs / "w"), "w", 500)] == [
            x.text for x in seen[-500:]
        ]
    finally:
        node.end()


def test_segments_are_closed_compressed_and_only_so_many_kept(root: Path) -> None:
    node = Node(root, max_bytes=50_000, compress=True, keep=3)
    node.start()
    try:
        for n in range(3000):
            node.say(b"%010d " % n + b"x" * 88 + b"\n")
        last = b"%010d " % 2999
        wait_for(lambda: node.all()[-LINE:].startswith(last), "the last line")
        directory = node.logs / "w"
        wait_for(
            lambda: (
                sorted(p.name.partition(".")[2] for p in directory.glob("out-*")) == ["log.gz"] * 3
            ),
            "three compressed segments with their indexes, and nothing else",
        )

        data = node.all()
        assert len(data) < 4 * 50_000
        first = int(data[:10])
        assert data == b"".join(b"%010d " % n + b"x" * 88 + b"\n" for n in range(first, 3000))
        assert all(len(segment) <= 50_000 for segment in node.closed().values())
        assert all(segment.endswith(b"\n") for segment in node.closed().values())
    finally:
        node.end()


def test_a_line_longer_than_a_segment_stays_whole_up_to_a_bound(root: Path) -> None:
    node = Node(root, max_bytes=10_000)
    node.start()
    try:
        node.say(b"short\n" + b"a" * 50_000 + b"\nafter\n")
        wait_for(lambda: node.all().endswith(b"after\n"), "the end")
        assert any(b"a" * 50_000 + b"\n" in segment for segment in node.closed().values())

        node.say(b"b" * 100_000 + b"\nthe end\n")
        wait_for(lambda: node.all().endswith(b"the end\n"), "the end")
        assert (
            node.all()
            == b"short\n" + b"a" * 50_000 + b"\nafter\n" + b"b" * 100_000 + b"\nthe end\n"
        )
        assert max(map(len, node.closed().values())) <= 8 * 10_000 + 65_536
    finally:
        node.end()


def test_old_segments_are_closed_by_age_without_a_new_line(root: Path) -> None:
    node = Node(root, max_age_s=1.0)
    node.start()
    try:
        node.say(b"one\nhalf a li")
        wait_for(lambda: list(node.closed().values()) == [b"one\n"], "closed by age")
        wait_for(lambda: node.live() == b"half a li", "the torn line moved on")

        node.say(b"ne\n")
        wait_for(
            lambda: b"half a line\n" in node.closed().values(), "closed by age with its line whole"
        )
        assert node.all() == b"one\nhalf a line\n"
    finally:
        node.end()


def test_the_index_tells_when_and_from_which_life(node: Node) -> None:
    before_ns = time.time_ns()
    node.tell(do="start", worker="w", n=3)
    node.say(b"first life\n")
    wait_for(lambda: node.live() == b"first life\n", "the first line")
    node.say(b"its last words")
    node.tell(do="start", worker="w", n=4)
    wait_for(lambda: node.live().endswith(b"words"), "its last words")
    # Messages are taken first in each turn: once this line is in its file, the new life is known.
    node.say(b"a mark\n", "w.err")
    wait_for(lambda: b"a mark\n" in node.live("w", "err"), "the mark")
    node.say(b"second life\n")
    wait_for(lambda: node.live().endswith(b"second life\n"), "the second life")

    def records() -> list[tuple[int, int, int]]:
        return logindex.decode((node.logs / "w" / ".out.log.idx").read_bytes())

    wait_for(lambda: records()[-1][0] == 25, "the record of the second life")
    found = records()
    assert [(at, start) for at, _, start in found if at in (0, 25)] == [(0, 3), (25, 4)]
    assert all(before_ns <= ns <= time.time_ns() for _, ns, _ in found)


def test_a_new_logger_learns_the_number_of_the_life_from_the_journal(root: Path) -> None:
    node = Node(root)
    records = [
        {"seq": 1, "k": "start", "worker": "w", "n": 8, "pid": 1, "ticks": 1, "role": "main"},
        {"seq": 2, "k": "start", "worker": "w", "n": 9, "pid": 2, "ticks": 1, "role": "spare"},
    ]
    (node.run / "journal").write_bytes(journal.encode_all(records))
    node.start()
    try:
        node.say(b"x\n")
        wait_for(lambda: (node.logs / "w" / ".out.log.idx").exists() and node.live(), "a line")
        index = node.logs / "w" / ".out.log.idx"
        wait_for(lambda: logindex.decode(index.read_bytes()), "a record")
        assert logindex.decode(index.read_bytes())[0][2] == 8

        # The spare is promoted, and the datagram about it is lost.
        with (node.run / "journal").open("ab") as file:
            file.write(journal.encode({"seq": 3, "k": "go", "worker": "w", "n": 9}))
        said = 0

        def newest() -> bool:
            nonlocal said
            node.say(b"x\n")
            said += 1
            time.sleep(0.02)
            return logindex.decode(index.read_bytes())[-1][2] == 9

        wait_for(newest, "the number of the promoted spare")
    finally:
        node.end()


def test_new_pipes_and_plans_are_found_also_when_nobody_tells(node: Node) -> None:
    """A socket's queue holds ten datagrams; a thousand starts at once send two thousand."""
    node.write_plan(("w", "late"), max_bytes=777)
    node.make_pipes("late")
    node.say(b"here\n", "late.err")

    wait_for(lambda: node.live("late", "err") == b"here\n", "the late worker's line")
    node.say(b"y" * 99 * 10 + b"\n", "late.err")
    wait_for(lambda: node.closed("late", "err"), "the new plan's segment size")


def test_a_pipe_made_anew_under_its_old_name_is_found(node: Node) -> None:
    node.say(b"old\n")
    wait_for(lambda: node.live() == b"old\n", "the old pipe's line")
    (node.run / "fifo" / "w.out").unlink()
    old = node.ends.pop("w.out")
    os.write(old, b"still in the old one\n")
    (node.run / "fifo" / "w.err").unlink()
    os.close(node.ends.pop("w.err"))
    node.make_pipes("w")
    node.tell(do="fifos")
    node.say(b"new\n")
    os.close(old)

    wait_for(
        lambda: sorted(node.live().splitlines()) == [b"new", b"old", b"still in the old one"],
        "both pipes",
    )


@pytest.mark.parametrize("how", ["removed", "moved away", "directory removed", "emptied"])
def test_what_is_done_to_the_files_behind_our_back_is_noticed(node: Node, how: str) -> None:
    node.say(b"before\n")
    wait_for(lambda: node.live() == b"before\n", "the first line")
    directory = node.logs / "w"
    if how == "removed":
        (directory / "out.log").unlink()
    elif how == "moved away":
        (directory / "out.log").rename(directory / "mine.txt")
    elif how == "directory removed":
        shutil.rmtree(directory)
    else:
        os.truncate(directory / "out.log", 0)
    said: list[bytes] = []

    def seen() -> bool:
        said.append(b"after %d\n" % len(said))
        node.say(said[-1])
        time.sleep(0.02)
        return b"after" in node.live()

    wait_for(seen, "later lines are written to a file of the right name")
    wait_for(lambda: node.live().endswith(said[-1]), "the last line")
    lines = node.live().lstrip(b"\0").splitlines(keepends=True)
    assert lines == said[len(said) - len(lines) :], "from then on every line"


def test_a_logger_that_finds_its_role_taken_ends_with_75(node: Node) -> None:
    second = subprocess.run(
        [sys.executable, "-I", "-S", SCRIPT, str(node.run)], check=False, timeout=20 * SLOWNESS
    )
    assert second.returncode == 75


def test_it_beats_has_its_name_and_sleeps_when_there_is_nothing_to_do(root: Path) -> None:
    """Idle with 200 streams: the beat once a second, and next to nothing else."""
    node = Node(root, workers=tuple(f"w{n}" for n in range(100)))
    pid = node.start()
    try:
        assert Path(f"/proc/{pid}/comm").read_text() == "hf-logger\n"

        def beat() -> tuple[int, int]:
            return beats.read((node.run / "beats").read_bytes(), "logger")

        first = beat()
        assert first[1] == pid
        wait_for(lambda: beat()[0] > first[0], "the next beat")

        def switches() -> int:
            status = Path(f"/proc/{pid}/status").read_text()
            return int(status.split("\nvoluntary_ctxt_switches:")[1].split()[0])

        count = switches()
        second = beat()
        wait_for(lambda: beat()[0] >= second[0] + 3 * beats.PERIOD_NS, "three more beats")
        assert switches() - count <= 3 + 6, "it wakes only to beat"
    finally:
        node.end()


def is_mountable() -> bool:
    if os.geteuid() != 0:
        return False
    directory = tempfile.mkdtemp(prefix="hf-")
    try:
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", directory],
            check=False,
            capture_output=True,
        )
        if done.returncode == 0:
            subprocess.run(["umount", directory], check=True)
        return done.returncode == 0
    except FileNotFoundError:
        return False
    finally:
        os.rmdir(directory)


needs_mount = pytest.mark.skipif(
    not is_mountable(), reason="a small file system has to be mounted: needs root and mount(8)"
)


@pytest.fixture
def small_disk(root: Path) -> Iterator[Path]:
    """2 MB for the logs of the worker ``w``."""
    path = root / "logs" / "w"
    path.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(path)], check=True)
    yield path
    subprocess.run(["umount", "-l", str(path)], check=True)


@needs_mount
def test_a_full_disk_holds_the_output_back_and_loses_none_of_it(
    root: Path, small_disk: Path
) -> None:
    node = Node(root, max_bytes=100_000_000)
    hog = small_disk / "hog"
    hog.write_bytes(b"h" * 1_500_000)
    node.start()
    lines = [b"%010d " % n + b"x" * 88 + b"\n" for n in range(10_000)]
    try:
        for line in lines:
            node.say(line)
        wait_for(
            lambda: "cannot write the log of w (out)" in node.house_log(), "the house log says so"
        )
        assert len(node.live()) < 700_000

        # It does not spin, and it still beats.
        assert node.process is not None
        stat = Path(f"/proc/{node.process.pid}/stat")
        ticks = [int(f) for f in stat.read_text().rpartition(")")[2].split()[11:13]]
        beat = beats.read((node.run / "beats").read_bytes(), "logger")[0]
        wait_for(
            lambda: (
                beats.read((node.run / "beats").read_bytes(), "logger")[0] > beat + beats.PERIOD_NS
            ),
            "two beats",
        )
        later = [int(f) for f in stat.read_text().rpartition(")")[2].split()[11:13]]
        assert sum(later) - sum(ticks) < 0.5 * os.sysconf("SC_CLK_TCK")

        hog.unlink()
        wait_for(
            lambda: len(node.live()) == LINE * len(lines),
            "everything is written once there is room",
        )
        assert node.live() == b"".join(lines)
        wait_for(
            lambda: "is written again" in node.house_log(), "the house log says that it is over"
        )
    finally:
        node.end()


@needs_mount
@pytest.mark.usefixtures("small_disk")
def test_on_a_disk_that_stays_full_the_oldest_segments_make_room(root: Path) -> None:
    """The worker must not stand still for ever because of its own old logs."""
    node = Node(root, max_bytes=300_000)
    node.start()
    count = 0
    try:
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", WRITER, "0", "1", "any"],
            stdin=subprocess.PIPE, stdout=node.ends["w.out"], stderr=subprocess.PIPE,
        )  # fmt: skip
        assert process.stdin is not None
        assert process.stderr is not None
        try:
            wait_for(lambda: "to make room" in node.house_log(), "an old segment is removed", 40)
            process.stdin.write(b"enough")
            process.stdin.flush()
            # What is still in its hands takes more segments; one goes each second.
            count = int(process.stderr.readline())
            process.wait(20 * SLOWNESS)
        finally:
            process.kill()
            process.wait()
            process.stdin.close()
            process.stderr.close()
        last = b"%010d " % (count - 1)
        wait_for(lambda: node.all()[-LINE:].startswith(last), "the last line", 60)
        data = node.all()
        first = int(data[:10])
        assert first > 0, "the oldest went"
        assert data == b"".join(b"%010d " % n + b"x" * 88 + b"\n" for n in range(first, count)), (
            "no hole, no tear"
        )
    finally:
        node.end()


@needs_mount
def test_a_read_only_disk_is_waited_for(root: Path, small_disk: Path) -> None:
    node = Node(root)
    node.start()
    try:
        node.say(b"one\n")
        wait_for(lambda: node.live() == b"one\n", "the first line")
        # A file that is open for writing keeps a disk from becoming read-only: only an idle logger lets go of it.
        node.kill()
        subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
        node.start()
        node.say(b"two\n")
        wait_for(lambda: "Read-only" in node.house_log(), "the house log says so")
        subprocess.run(["mount", "-o", "remount,rw", str(small_disk)], check=True)
        wait_for(lambda: node.live() == b"one\ntwo\n", "the line that waited")
    finally:
        node.end()
