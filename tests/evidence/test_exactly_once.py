"""One order, one incident: killed anywhere, carried out twice, two at once, on a disk that is full."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import holdfast
from holdfast.evidence import bundle
from holdfast.records import incidents
from holdfast.wire import layout

pytestmark = pytest.mark.faults
SLOWNESS = float(os.environ.get("HOLDFAST_SLOWNESS", "1"))
DRIVER = str(Path(__file__).with_name("killed_at.py"))
MOST_CHANGES = 120


def dead_worker(node: Any) -> Any:
    node.program("import os\nos._exit(3)\n")
    process = node.start()
    process.wait(timeout=60 * SLOWNESS)
    node.log("err", b"Traceback (most recent call last):\nValueError: x\n", 3)
    return process


def keys(node: Any) -> list[str]:
    return sorted(row["key"] for row in incidents.list_incidents(str(node.state_dir)))


def test_killed_before_each_single_change_to_the_disk_it_still_makes_one_incident(
    node: Any,
) -> None:
    """Every instant that can make a difference, one after another, and not only those that chance finds."""
    process = dead_worker(node)
    env = {**os.environ, "PYTHONPATH": str(Path(holdfast.__file__).parents[1])}
    ends = []
    for number in range(1, MOST_CHANGES):
        key = f"exit-{number}"
        node.order(process, key=key)
        done = subprocess.run(
            [sys.executable, DRIVER, str(node.run_dir), key, str(number)],
            env=env, capture_output=True, text=True, check=False, timeout=60 * SLOWNESS,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        ends.append(done.stdout.strip())
        assert node.done(key)["incident"] == f"{node.bundles()[0][:10]}-backend-{number}"
        if ends[-1] == "finished":
            break

    assert ends[-1] == "finished"
    assert len(ends) > 15  # there were that many instants to be killed at
    assert set(ends[:-1]) == {"killed"}
    assert len(node.bundles()) == len(ends)
    assert not [name for name in node.bundles() if name.startswith(".")]
    assert keys(node) == sorted(f"exit-{n}" for n in range(1, len(ends) + 1))


def test_killed_at_any_moment_it_still_makes_one_incident(node: Any) -> None:
    process = dead_worker(node)
    chance = random.Random(7)
    killed = 0
    for number in range(10):
        key = f"exit-{number}"
        node.order(process, key=key)
        first = node.evidence(key)
        try:
            first.wait(timeout=chance.uniform(0.0, 0.2))
        except subprocess.TimeoutExpired:
            first.kill()
            killed += 1
        first.wait()
        if node.done(key) is None:
            node.incident(key)

    assert killed
    assert keys(node) == sorted(f"exit-{n}" for n in range(10))
    assert len(node.bundles()) == 10


def test_an_order_that_is_done_is_not_done_again(node: Any) -> None:
    process = dead_worker(node)
    found = node.incident(node.order(process))
    node.order(
        process
    )  # the same order appears once more: the watchdog was killed before it saw the answer

    again = node.incident("exit-41")

    assert again["id"] == found["id"]
    assert len(node.bundles()) == 1


def test_two_processes_with_one_order_make_one_incident(node: Any) -> None:
    process = dead_worker(node)
    key = node.order(process)
    both = [node.evidence(key) for _ in range(4)]
    for one in both:
        _, said = one.communicate(timeout=60 * SLOWNESS)
        # Whoever comes after the end finds the order gone and its answer there.
        assert one.returncode == 0, said.decode()

    assert len(node.bundles()) == 1
    assert keys(node) == [key]


def test_processes_with_different_orders_get_different_numbers(node: Any) -> None:
    process = dead_worker(node)
    orders = [node.order(process, key=f"exit-{n}") for n in range(6)]
    at_once = [node.evidence(key) for key in orders]
    for one in at_once:
        assert one.wait(timeout=60 * SLOWNESS) == 0

    ids = [node.done(key)["incident"] for key in orders]
    assert len(set(ids)) == 6
    assert sorted(int(i.rpartition("-")[2]) for i in ids) == [1, 2, 3, 4, 5, 6]
    assert keys(node) == sorted(orders)


def test_what_dead_processes_left_is_removed_and_what_live_ones_do_is_not(node: Any) -> None:
    process = dead_worker(node)
    parent = node.state_dir / layout.INCIDENTS
    dead, live = parent / ".tmp-999999999-5", parent / f".tmp-{os.getpid()}-{ticks(os.getpid())}"
    for directory in (dead, live):
        directory.mkdir(parents=True)
        (directory / "log.txt").write_text("half")

    node.incident(node.order(process))

    assert not dead.exists()
    assert (live / "log.txt").exists()


def ticks(pid: int) -> int:
    from holdfast.linux import procfs

    return procfs.start_ticks(pid)


@pytest.fixture
def small_disk(node: Any) -> Iterator[Path]:
    """The state directory's incidents on a file system of their own, of one megabyte."""
    path = node.state_dir / layout.INCIDENTS
    path.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(path)],
        capture_output=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.decode().strip()}")
    yield path
    subprocess.run(["umount", str(path)], check=True)


def fill(path: Path) -> None:
    with path.open("wb", buffering=0) as file:
        while True:
            file.write(b"x" * 4096)


def test_on_a_full_disk_the_bundle_waits_in_memory_and_comes_home_later(
    node: Any, small_disk: Any
) -> None:
    process = dead_worker(node)
    filler = small_disk / "filler"
    with pytest.raises(OSError, match="No space left"):
        fill(filler)

    found = node.incident(node.order(process, key="exit-1"))

    assert found["title"] == 'worker "backend" crashed: ValueError: x'
    assert found["path"].startswith(str(node.state_dir / layout.RUN_LINK))
    assert any(m["what"] == "bundle" for m in found["evidence"]["missed"])
    assert node.bundles() == []  # nothing half done is left on the full disk
    assert keys(node) == ["exit-1"]

    filler.unlink()
    later = node.incident(node.order(process, key="exit-2"))

    assert keys(node) == ["exit-1", "exit-2"]
    assert later["id"] != found["id"]
    assert node.bundles() == sorted([found["id"], later["id"]])
    assert not list((node.run_dir / layout.INCIDENTS).iterdir())
    assert incidents.load(str(node.state_dir), found["id"])["key"] == "exit-1"


def test_coming_home_twice_makes_no_second_one(node: Any) -> None:
    """Killed after the rename and before the copy in memory was removed."""
    process = dead_worker(node)
    found = node.incident(node.order(process, key="exit-1"))
    memory = node.run_dir / layout.INCIDENTS / found["id"]
    memory.parent.mkdir()
    subprocess.run(["cp", "-r", found["path"], str(memory)], check=True)

    moved = bundle.bring_home(
        str(node.state_dir / layout.INCIDENTS), str(memory.parent), str(node.state_dir)
    )

    assert moved == [found["id"]]
    assert node.bundles() == [found["id"]]
    assert not memory.exists()


def test_a_holder_that_is_stopped_is_waited_for_and_its_death_frees_the_order(node: Any) -> None:
    process = dead_worker(node)
    key = node.order(process)
    lock = node.run_dir / layout.ORDERS / f"{key}.lock"
    holder = subprocess.Popen(
        [sys.executable, "-c", "import sys,time\nfrom holdfast.linux import locks\nfd = locks.take(sys.argv[1])\nprint('held', flush=True)\ntime.sleep(600)", str(lock)],
        stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(Path(holdfast.__file__).parents[1])},
    )  # fmt: skip
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"held\n"
    waiting = node.evidence(key)
    with pytest.raises(subprocess.TimeoutExpired):
        waiting.wait(timeout=0.5)
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    holder.stdout.close()
    began = time.monotonic()

    assert waiting.wait(timeout=20 * SLOWNESS) == 0
    assert time.monotonic() - began < 5 * SLOWNESS
    assert keys(node) == [key]


def test_the_oldest_bundles_make_room(node: Any) -> None:
    process = dead_worker(node)
    for n in range(5):
        node.incident(node.order(process, key=f"exit-{n}"))
    parent = node.state_dir / layout.INCIDENTS
    (
        parent / ".tmp-1-2024-11-03-backend-9"
    ).mkdir()  # discarded by somebody who was killed before it was gone

    assert bundle.prune(str(parent), keep=5) == 0
    assert bundle.prune(str(parent), keep=2) == 3
    assert bundle.sweep(str(parent)) == 1

    assert keys(node) == ["exit-3", "exit-4"]
    assert len(node.bundles()) == 2
