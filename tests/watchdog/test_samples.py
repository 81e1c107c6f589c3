"""What is remembered of a worker that does nothing: its last two samples."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from holdfast.core.detect import thresholds
from holdfast.watchdog import samples
from holdfast.watchdog.samples import Sampler, before
from holdfast.watchdog.vitals import Feeler
from holdfast.watchdog.wards import Ward
from holdfast.wire import layout, sample

#: A program that sleeps until it is told to take memory, and says when it has done so.
EATER = "import sys; print(flush=True); sys.stdin.readline(); food = b'x' * (40 << 20); print(flush=True); sys.stdin.readline()"


class Watched:
    """One sampler, and programs that it looks at."""

    def __init__(self, run_dir: Path) -> None:
        self.run_dir = run_dir
        self.sampler = Sampler(str(run_dir), Feeler())
        self.programs: list[subprocess.Popen[bytes]] = []
        (run_dir / layout.SAMPLES).mkdir()
        none = {"kind": "none", "timeout_s": 60.0}
        spec: Any = SimpleNamespace(
            detect=thresholds.filled(None, thresholds.WORKER), memory_bytes=0, ready=none, beat=none,
            has_pulse=False, needs_care=lambda: False,
        )  # fmt: skip
        self.ward = Ward("w", spec)

    def begin(self, n: int) -> "subprocess.Popen[bytes]":
        program = subprocess.Popen(
            [sys.executable, "-c", EATER], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self.programs.append(program)
        self.ward.begin(n, program.pid, 0, time.monotonic() - 60.0)
        self.wait_for_word(program)
        return program

    def wait_for_word(self, program: "subprocess.Popen[bytes]") -> None:
        assert program.stdout is not None
        assert program.stdout.readline() == b"\n"

    def eat(self, program: "subprocess.Popen[bytes]") -> None:
        assert program.stdin is not None
        program.stdin.write(b"\n")
        program.stdin.flush()
        self.wait_for_word(program)

    def look(self) -> "list[dict[str, int]]":
        """Look once; return the samples that there are then."""
        self.sampler.look(self.ward, 0.25)
        return sample.decode((self.run_dir / layout.SAMPLES / "w").read_bytes())


@pytest.fixture
def watched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Watched]:
    monkeypatch.setattr(samples, "_REST_S", 0.0)  # a program is at rest as soon as one look says so
    found = Watched(tmp_path)
    yield found
    for program in found.programs:
        program.kill()
        program.communicate()


def test_of_a_worker_that_sleeps_nothing_is_kept_but_its_first_and_its_last_sample(
    watched: Watched, wait_for: Callable[..., Any]
) -> None:
    """A thousand of them would fill 100 MB of memory disk with equal lines, and cost 700 bytes each in the watchdog."""
    watched.begin(1)
    wait_for(lambda: watched.look() and watched.ward.is_run)
    looked = watched.look()
    again = watched.look()

    assert watched.ward.vitals is None
    assert len(again) == len(looked)
    assert again[-1].pop("mono_ns") > looked[-1].pop("mono_ns")
    assert again[-1].pop("unix_ns") >= looked[-1].pop("unix_ns")
    assert again[-1] == looked[-1]
    assert again[-2]["rss_bytes"] == again[-1]["rss_bytes"]


def test_the_first_step_after_a_long_sleep_is_measured_from_where_it_slept(
    watched: Watched, wait_for: Callable[..., Any]
) -> None:
    """Otherwise the first half of a quick leak would be taken for what the program always had."""
    program = watched.begin(1)
    wait_for(lambda: watched.look() and watched.ward.is_run)
    slept = watched.look()
    watched.eat(program)
    woken = watched.look()

    vitals = watched.ward.vitals
    assert vitals is not None
    assert vitals.began_rss == slept[-1]["rss_bytes"]
    assert vitals.rss == woken[-1]["rss_bytes"] > vitals.began_rss + (30 << 20)
    assert woken[-1]["number"] == slept[-1]["number"] + 1


def test_one_that_was_stopped_has_moved(watched: Watched, wait_for: Callable[..., Any]) -> None:
    """State T in place of S is all that a SIGSTOP changes, and it must not pass for sleep."""
    program = watched.begin(1)
    wait_for(lambda: watched.look() and watched.ward.is_run)
    program.send_signal(signal.SIGSTOP)

    assert wait_for(lambda: watched.look()[-1]["state"] == ord("T"))
    assert watched.ward.vitals is not None


def test_what_another_life_was_like_says_nothing_about_this_one(
    watched: Watched, wait_for: Callable[..., Any]
) -> None:
    """A new life that begins with less memory has not given any back, one with more does not leak."""
    watched.begin(1)
    wait_for(lambda: watched.look() and watched.ward.is_run)
    assert before(watched.ward) is not None
    watched.begin(2)

    assert before(watched.ward) is None
    assert watched.look()[-1]["start"] == 2
    assert before(watched.ward) is not None


def test_a_new_watchdog_goes_on_in_the_same_ring(
    watched: Watched, wait_for: Callable[..., Any]
) -> None:
    """It is killed in between: the numbers go on, and the history is still there."""
    program = watched.begin(1)
    wait_for(lambda: watched.look() and watched.ward.is_run)
    known = watched.look()
    watched.ward.close()
    watched.ward = Ward("w", watched.ward.spec)
    watched.ward.begin(1, program.pid, 0, time.monotonic() - 60.0)
    found = watched.look()

    assert [s["number"] for s in found] == list(range(len(known) + 1))
