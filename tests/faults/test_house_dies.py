"""Law 1: any process of the house may be killed at any instant."""

from __future__ import annotations

import mmap
import os
import random
import re
import shutil
import signal
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from holdfast.linux import launch, procfs
from holdfast.wire import beats, layout
from node import SLOWNESS, program, wait_for

if TYPE_CHECKING:
    from node import Node

pytestmark = pytest.mark.faults

SLEEP = ["/bin/sleep", "100000"]
ROLES = ("anchor", "keeper", "watchdog", "logger")

#: Writes numbered lines, and dies by its own hand now and then with a status of its own.
WRITER = """
import os, sys, time
path, die = sys.argv[1], sys.argv[2] == "dies"
try: n = int(open(path).read())
except (OSError, ValueError): n = 0
born = time.monotonic()
while True:
    for _ in range(20):
        os.write(1, b"line %012d of the story\\n" % n); n += 1
    fd = os.open(path + ".t", os.O_CREAT | os.O_WRONLY | os.O_TRUNC); os.write(fd, str(n).encode()); os.close(fd)
    os.rename(path + ".t", path)
    time.sleep(0.005)
    if die and time.monotonic() - born > 0.6: os._exit(n % 50 + 1)
"""


@pytest.mark.parametrize("role", ROLES)
def test_it_is_back_and_no_worker_noticed(node: Node, role: str) -> None:
    for i in range(5):
        node.add(f"w{i}", SLEEP)
    node.start()
    before = {n: node.wait_state(n, "running")["pid"] for n in node.status()}

    old = wait_for(lambda: node.kill(role), f"a {role} to kill")

    node.wait_back(role, old)
    assert {n: s["pid"] for n, s in wait_for(node.status, "the keeper").items()} == before
    assert node.journal("exit") == []


def test_everyone_in_the_house_dies_at_once_and_up_takes_over_what_lives(node: Node) -> None:
    node.add("w", SLEEP)
    node.start()
    before = node.wait_state("w", "running")["pid"]
    wait_for(lambda: all(node.holder(role) for role in ROLES), "the whole house")
    for role in ROLES:
        os.kill(node.holder(role), signal.SIGSTOP)
    for role in ROLES:
        node.kill(role)
    os.waitpid(node.anchor_child, 0)
    wait_for(lambda: not any(node.holder(role) for role in ROLES), "the house to be empty")
    assert procfs.start_ticks(before)

    node.start()

    assert node.wait_state("w", "running")["pid"] == before


def test_what_another_boot_left_names_nobody_of_this_one(node: Node) -> None:
    """A run directory that outlived a reboot names process ids that are strangers' now: none is adopted or hurt."""
    node.add("w", SLEEP)
    node.start()
    stranger = node.wait_state("w", "running")["pid"]
    wait_for(lambda: all(node.holder(role) for role in ROLES), "the whole house")
    for role in ROLES:
        os.kill(node.holder(role), signal.SIGSTOP)
    for role in ROLES:
        node.kill(role)
    os.waitpid(node.anchor_child, 0)
    wait_for(lambda: not any(node.holder(role) for role in ROLES), "the house to be empty")
    Path(node.run_dir, layout.BOOT).write_text("00000000-0000-0000-0000-000000000000")
    Path(node.run_dir, layout.FLAGS, "w.crash_loop").write_text("{}")

    node.start()

    assert node.wait_state("w", "running")["pid"] != stranger
    assert procfs.start_ticks(stranger)
    assert [r["n"] for r in node.journal("start")] == [1]
    assert not os.listdir(Path(node.run_dir, layout.FLAGS))


@pytest.mark.parametrize("victim", ["anchor", "keeper"])
def test_a_node_whose_run_directory_is_removed_ends_with_all_it_has(
    node: Node, victim: str
) -> None:
    """Nobody could reach it any more, and it started anchors without end: 1,378 of them, once."""
    node.add("w", SLEEP)
    node.start()
    node.wait_state("w", "running")
    wait_for(lambda: all(node.holder(role) for role in ROLES), "the whole house")
    house = [node.holder(role) for role in ROLES]
    # The house goes on writing there while we remove: a file that appears in between leaves half of the directory.
    shutil.rmtree(node.run_dir, ignore_errors=True)
    assert not Path(node.run_dir, layout.PLAN).exists()
    os.kill(house[ROLES.index(victim)], signal.SIGKILL)

    wait_for(lambda: not node.processes(), "the worker to be gone")
    wait_for(lambda: not any(procfs.start_ticks(pid) for pid in house), "the house to be gone")
    os.waitpid(node.anchor_child, 0)


@pytest.mark.parametrize("role", ROLES)
def test_one_that_hangs_is_replaced(node: Node, role: str) -> None:
    """SIGSTOP: the keeper is noticed by the watchdog, the watchdog by the keeper, …"""
    node.add("w", SLEEP)
    node.start()
    before = node.wait_state("w", "running")["pid"]
    wait_for(lambda: all(node.holder(r) for r in ROLES), "the whole house")

    old = node.kill(role, signal.SIGSTOP)

    node.wait_back(role, old, within_s=20)
    assert node.wait_state("w", "running")["pid"] == before


@pytest.mark.parametrize("role", ["keeper", "watchdog"])
def test_one_that_hangs_before_its_first_beat_is_replaced(node: Node, role: str) -> None:
    """It has its lock and is stopped right there: from outside, its place among the beats is empty."""
    node.add("w", SLEEP)
    node.start()
    wait_for(lambda: all(node.holder(r) for r in ROLES), "the whole house")

    old = node.kill(role, signal.SIGSTOP)
    stat = Path("/proc", str(old), "stat")
    wait_for(lambda: stat.read_text().rpartition(") ")[2].startswith("T"), f"{role} stopped")
    with open(Path(node.run_dir, layout.BEATS), "r+b") as file, mmap.mmap(file.fileno(), 0) as seen:
        beats.write(memoryview(seen), role, 0, 0)

    node.wait_back(role, old, within_s=20)


def test_a_death_while_no_keeper_lives_keeps_its_status(node: Node, tmp_path: Path) -> None:
    for i in range(10):
        text = (
            "import os, signal, sys\nsignal.pthread_sigmask(0, [10])\nos.mkdir(__file__ + '.waits')\n"
            f"signal.sigwait([10])\nos._exit({i + 40})\n"
        )
        node.add(f"w{i}", program(tmp_path, f"w{i}.py", text))
    node.start()
    pids = {n: node.wait_state(n, "running")["pid"] for n in node.status()}
    wait_for(
        lambda: len(list(tmp_path.glob("*.waits"))) == 10, "the programs to wait for their signal"
    )

    keeper = node.kill("keeper")
    for pid in pids.values():
        os.kill(pid, 10)

    node.wait_back("keeper", keeper)
    exits = wait_for(
        lambda: len(found := node.journal("exit")) >= 10 and found, "ten exits on record"
    )
    assert {r["worker"]: os.WEXITSTATUS(r["status"]) for r in exits} == {
        f"w{i}": i + 40 for i in range(10)
    }


def test_killed_at_random_nothing_is_lost_and_nothing_doubled(node: Node, tmp_path: Path) -> None:
    """The law, as it is judged: kills of one or two house processes at any moment, under load.

    HOLDFAST_KILLS sets how many (the acceptance run is 1000).
    """
    rounds = int(os.environ.get("HOLDFAST_KILLS", "60"))
    writer = program(tmp_path, "writer.py", WRITER)
    for i in range(6):
        node.add(f"healthy{i}", SLEEP)
    for name in ("talks", "dies0", "dies1"):
        node.add(name, [*writer, str(tmp_path / name), "dies" if name != "talks" else "lives"])
    node.start()
    before = {
        n: node.wait_state(n, "running")["pid"] for n in node.status() if not n.startswith("dies")
    }
    chance = random.Random(os.environ.get("HOLDFAST_SEED", "7"))
    slowest: dict[str, float] = {}

    for _ in range(rounds):
        victims = {
            role: pid
            for role in chance.sample(ROLES, chance.choice((1, 1, 2)))
            if (pid := node.kill(role))
        }
        began = time.monotonic()
        for role, pid in victims.items():
            node.wait_back(role, pid)
            slowest[role] = max(slowest.get(role, 0.0), time.monotonic() - began)
        time.sleep(chance.random() * 0.3)  # the moment of the next kill is drawn, not waited for

    after = wait_for(node.status, "the keeper")
    assert {n: after[n]["pid"] for n in before} == before, "a healthy worker was lost or doubled"
    for name in ("dies0", "dies1"):
        node.ask(do="stop", worker=name)
        node.wait_state(name, "down")
        left = node.processes(name)
        assert left == [], "\n".join(
            [
                f"{pid} life {procfs.environ(pid).get('HOLDFAST_START')} {procfs.reading(pid)}"
                for pid in left
            ]
            + [str(r) for r in node.journal() if r.get("worker") == name][-12:]
        )
    for name in before:
        assert len(node.processes(name)) == 1, f"{name} runs twice"
    for name in ("dies0", "dies1"):
        exits = {r["n"]: r for r in node.journal("exit") if r["worker"] == name}
        lost = [n for n, r in exits.items() if r["status"] is None]
        told = [r for r in node.journal() if r.get("worker") == name and r.get("n") in lost]
        assert lost == [], f"{name}: exit statuses lost {told}"
    node.ask(do="stop", worker="talks")
    node.wait_state("talks", "down")
    for name in ("talks", "dies0", "dies1"):
        written = int((tmp_path / name).read_text())
        try:
            wait_for(partial(_is_whole, node, name, written), "all lines")
        except AssertionError:
            lost = sorted(_missing(node, name, written))
            raise AssertionError(
                f"{len(lost)} of {written} lines of {name} lost: {lost[:3]} … {lost[-3:]}"
            ) from None
    print(
        {role: f"{seconds * 1000:.0f} ms" for role, seconds in slowest.items()},
        "slowest return",
        SLOWNESS,
    )


def _is_whole(node: Node, name: str, written: int) -> bool:
    return not _missing(node, name, written)


def _missing(node: Node, name: str, written: int) -> set[int]:
    directory = Path(node.state_dir, "logs", name)
    numbers: list[int] = []
    for path in sorted(directory.glob("out*.log"), key=lambda p: (p.name == "out.log", p.name)):
        for line in path.read_bytes().splitlines():
            found = re.fullmatch(rb"line (\d{12}) of the story", line)
            assert found, f"torn: {line!r} in {path.name}"
            numbers.append(int(found[1]))
    # A writer that dies between its lines and its note of them writes the last few again.
    seen = set(numbers)
    assert numbers == sorted(numbers) or name != "talks", "lines out of order"
    return set(range(written)) - seen


def test_a_node_whose_keeper_cannot_work_can_still_be_ended(node: Node) -> None:
    """The plan is damaged while it runs and the keeper dies: it can never come back, and SIGTERM must still end it all."""
    node.add("w", SLEEP)
    node.start()
    worker = node.wait_state("w", "running")["pid"]
    Path(node.run_dir, "plan.json").write_text("{")
    node.kill("keeper")

    os.kill(node.anchor_child, signal.SIGTERM)
    os.kill(node.anchor_child, signal.SIGINT)

    _, status = os.waitpid(node.anchor_child, 0)
    assert os.WEXITSTATUS(status) == 1
    wait_for(lambda: not procfs.start_ticks(worker), "the worker to be gone")


def test_a_plan_from_another_version_is_a_clear_error() -> None:
    from holdfast.model.errors import StateError
    from holdfast.wire.plan import decode

    with pytest.raises(StateError, match="plan format 99, this version of Holdfast knows 1"):
        decode(b'{"format": 99}', "plan.json")
    assert launch.command("keeper", "/x")[-1] == "/x"
