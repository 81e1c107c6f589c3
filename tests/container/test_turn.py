"""Who may import when."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from container.hosting import SLOWNESS, SOURCE
from holdfast.container import turn

LONG_S = 20.0 * SLOWNESS


@pytest.fixture
def run_dir(tmp_path: Path) -> str:
    (tmp_path / "ctl").mkdir()
    return str(tmp_path)


def test_there_are_as_many_turns_as_processors(run_dir: str) -> None:
    """More at a time would make all of them late."""
    first, second = (turn.take(run_dir, 0.0, 2) for _ in range(2))
    assert first >= 0
    assert second >= 0
    assert turn.take(run_dir, 0.0, 2) == -1
    turn.give_back(first)
    third = turn.take(run_dir, 0.0, 2)
    assert third >= 0
    for one in (second, third, -1):
        turn.give_back(one)


def test_who_waits_gets_the_turn_that_is_given_back(run_dir: str) -> None:
    first = turn.take(run_dir, 0.0, 1)
    got: list[int] = []
    waits = threading.Thread(target=lambda: got.append(turn.take(run_dir, LONG_S, 1)))
    waits.start()
    turn.give_back(first)
    waits.join(LONG_S)
    assert got
    assert got[0] >= 0
    turn.give_back(got[0])


def test_a_killed_process_gives_its_turn_back(run_dir: str) -> None:
    """Nobody else does it for it."""
    code = f"from holdfast.container import turn; print(turn.take({run_dir!r}, 0.0, 1), flush=True); input()"
    holder = subprocess.Popen(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(SOURCE)},
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    with holder:
        assert holder.stdout is not None
        assert int(holder.stdout.readline()) >= 0
        assert turn.take(run_dir, 0.0, 1) == -1
        holder.send_signal(signal.SIGKILL)
        holder.wait(LONG_S)
        mine = turn.take(run_dir, LONG_S, 1)
        assert mine >= 0
        turn.give_back(mine)


def test_a_child_that_a_component_forks_while_it_is_imported_does_not_keep_the_turn(run_dir: str) -> None:  # fmt: skip
    mine = turn.take(run_dir, 0.0, 1)
    copy = os.dup(mine)  # what a forked child has
    turn.give_back(mine)
    next_one = turn.take(run_dir, 0.0, 1)
    assert next_one >= 0
    turn.give_back(next_one)
    os.close(copy)


def test_where_no_turn_can_be_had_nobody_waits(tmp_path: Path) -> None:
    """A directory of another user, a test without one: order is not worth a failed start."""
    assert turn.take(str(tmp_path / "absent"), LONG_S, 4) == -1


def test_only_the_first_life_of_a_worker_without_sockets_waits() -> None:
    """After a crash somebody is waiting for it already, and so they are in front of a router."""
    assert turn.patience_s({"HOLDFAST_START": "1"}) == turn.PATIENCE_S
    assert turn.patience_s({"HOLDFAST_START": "2"}) == 0
    assert turn.patience_s({"HOLDFAST_START": "1", "LISTEN_FDS": "2"}) == 0
    assert turn.patience_s({}) == 0
