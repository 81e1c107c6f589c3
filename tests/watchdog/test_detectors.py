"""The real watchdog and really sick processes: what is flagged, how soon, and what is done about it."""

import os
import signal
import sys
import time
from typing import Any

import pytest

from holdfast.wire import pulse, sample

pytestmark = pytest.mark.faults

SLOWNESS = float(os.environ.get("HOLDFAST_SLOWNESS", "1"))
BEATING = {"kind": "pulse", "timeout_s": 5.0}

LEAK = """
import sys, time
rate, kept, began = float(sys.argv[1]), [], time.monotonic()
time.sleep(float(sys.argv[2]))
began = time.monotonic()
while True:
    due = (time.monotonic() - began) * rate
    while sum(map(len, kept)) < due:
        kept.append(bytearray(b"x" * (1 << 20)))
    time.sleep(0.005)
"""

THREADS = """
import threading, time
time.sleep(7)
gate = threading.Event()
threading.stack_size(1 << 16)
for _ in range(1200):
    threading.Thread(target=gate.wait, daemon=True).start()
gate.wait()
"""

CHILDREN = """
import os, time
time.sleep(7)
for _ in range(250):
    if not os.fork():
        time.sleep(60)
        os._exit(0)
time.sleep(60)
"""
#: They end at once, and nobody waits for them.
UNMISSED = CHILDREN.replace("        time.sleep(60)\n", "")


def python(script: str, *argv: str) -> list[str]:
    return [sys.executable, "-c", script, *argv]


def test_a_frozen_loop_is_written_up_after_a_second_and_shot_after_its_timeout(
    house: Any, plan_of: Any, wait_for: Any, heart: Any
) -> None:
    """Evidence is freshest at once; patience belongs to the remedy."""
    house.plan(plan_of("api", kind="container", heartbeat=BEATING))
    house.watchdog()
    child = house.start("api")
    beating = heart(house, "api", child.pid)
    wait_for(lambda: (house.run_dir / "samples" / "api").exists())
    time.sleep(1.0)
    beating.loop = False
    began = time.monotonic()
    flag = wait_for(lambda: house.flag("api", "missed_heartbeat"))
    took_s = time.monotonic() - began

    assert took_s <= 4.0 * SLOWNESS  # 1.5 s on a machine of its own: bench/hangs.py
    assert flag["says"].startswith("loop blocked")
    order = wait_for(house.orders)[0]
    assert order["live"] is True
    assert not house.asked("restart")
    asked = wait_for(lambda: house.asked("restart"))[0]
    # Not before its timeout; the time in which we looked into it is ours.
    assert 4.5 <= time.monotonic() - began <= 10 * SLOWNESS
    assert asked["incident"] == f"incident-{order['key']}"
    assert len(house.orders()) == 1


def test_a_block_that_ends_by_itself_costs_nobody_a_restart(
    house: Any, plan_of: Any, wait_for: Any, heart: Any
) -> None:
    house.plan(plan_of("api", kind="container", heartbeat=BEATING))
    house.watchdog()
    child = house.start("api")
    beating = heart(house, "api", child.pid)
    time.sleep(1.0)
    beating.loop = False
    wait_for(lambda: (house.flag("api", "missed_heartbeat") or {}).get("phase") == "shown")
    beating.loop = True

    wait_for(lambda: house.flag("api", "missed_heartbeat") is None)
    assert not house.asked("restart")
    assert house.verdicts(house.orders()[0]["key"]) == ["cured"]


def test_who_is_silent_because_we_look_into_it_is_not_shot_for_that(
    house: Any, plan_of: Any, wait_for: Any, heart: Any
) -> None:
    """Stacks are read of a process that is stopped meanwhile, which on a crowded box takes seconds: five healthy workers died of it once."""
    house.watch["evidence_budget_s"] = 20.0 * SLOWNESS
    done = house.run_dir / "looked"
    house.evidence_does(
        "import os, sys, time\n"
        f"while not os.path.exists({str(done)!r}): time.sleep(0.01)\n"
        "path = f'{sys.argv[1]}/orders/{sys.argv[2]}'\n"
        "os.makedirs(f'{sys.argv[1]}/state/incidents/i-1', exist_ok=True)\n"
        "open(path + '.tmp', 'w').write('{\"incident\": \"i-1\"}')\n"
        "os.rename(path + '.tmp', path + '.done')\n"
        "os.unlink(path + '.json')\n"
    )
    house.plan(plan_of("api", kind="container", heartbeat={"kind": "pulse", "timeout_s": 2.0}))
    house.watchdog()
    beating = heart(house, "api", house.start("api").pid)
    wait_for(lambda: (house.run_dir / "samples" / "api").exists())
    beating.loop = beating.thread = False
    wait_for(lambda: (house.flag("api", "missed_heartbeat") or {}).get("phase") == "evidence")
    time.sleep(3.0 * SLOWNESS)  # longer than its timeout
    beating.loop = beating.thread = True
    done.touch()

    wait_for(lambda: house.flag("api", "missed_heartbeat") is None)
    assert not house.asked("restart")


def test_leaks_slow_and_fast_are_told_and_restarted_before_their_limit(
    house: Any, plan_of: Any, wait_for: Any
) -> None:
    """Against a limit of 500 MB, half of the required one: a box under test should not lose more."""
    limit, rates = 500 * 10**6, {"slow": 50e6, "fast": 125e6}
    bounds = {"limits": {"memory_bytes": limit}, "detect": {"memory_leak": 30.0}}
    house.plan(*(plan_of(name, **bounds) for name in rates))
    house.watchdog()
    for name, rate in rates.items():
        house.start(name, python(LEAK, str(rate), "6"))
    for name in ("fast", "slow"):
        flag = wait_for(lambda name=name: house.flag(name, "memory_leak"), 30)
        asked = wait_for(
            lambda name=name: [one for one in house.asked("restart") if one["worker"] == name], 20
        )

        # How many seconds before, on a machine of its own, is a figure of bench/detect.py.
        assert flag["value"] > 0.0 or flag["phase"] != "raised"
        assert asked[0]["flag"] == "memory_leak"
        samples = sample.decode((house.run_dir / "samples" / name).read_bytes())
        assert max(one["rss_bytes"] for one in samples) < limit


def test_bombs_of_each_kind_are_flagged_and_a_switched_off_detector_says_nothing(
    house: Any, plan_of: Any, wait_for: Any, heart: Any
) -> None:
    """One box, five workers that go wrong at the same time: threads, children, dead children, tasks, and tasks that nobody wants to hear of."""
    off = {"task_bomb": 0.0, "freeze": 0.0}
    beating = {"kind": "container", "heartbeat": BEATING}
    house.plan(
        plan_of("threads"), plan_of("children"), plan_of("unmissed"), plan_of("tasks", **beating), plan_of("silent", **beating, detect=off)
    )  # fmt: skip
    house.watchdog()
    tasks, silent = (heart(house, name, house.start(name).pid) for name in ("tasks", "silent"))
    tasks.set(pulse.TASKS, 7)
    house.start("threads", python(THREADS))
    forks = house.start("children", python(CHILDREN))
    house.start("unmissed", python(UNMISSED))
    try:
        # What is quick to grow is normal while a worker is new: seven seconds, and each has its own kind of past.
        time.sleep(7)
        tasks.set(pulse.TASKS, 5007)
        tasks.set(pulse.TASKS_CREATED, 5000)
        tasks.beat()
        silent.set(pulse.TASKS, 50_000)
        silent.loop = False
        flag = wait_for(lambda: house.flag("tasks", "task_bomb"), 30)
        assert flag["says"].startswith("5,007 tasks")

        flag = wait_for(lambda: house.flag("threads", "thread_bomb"), 30)
        assert flag["value"] >= 200
        assert "threads" in flag["says"]

        flag = wait_for(lambda: house.flag("children", "child_bomb"), 30)
        assert flag["value"] >= 100

        flag = wait_for(lambda: house.flag("unmissed", "child_bomb"), 30)
        assert flag["value"] >= 100
    finally:
        os.killpg(forks.pid, 9)

    wait_for(lambda: (house.flag("tasks", "task_bomb") or {}).get("phase") == "shown", 30)
    kinds = {"threads": "thread_bomb", "children": "child_bomb", "tasks": "task_bomb"}
    wait_for(
        lambda: {(one["worker"], one["kind"]) for one in house.orders()} >= set(kinds.items()), 30
    )
    assert not [one for one in house.asked("restart") if one["worker"] == "tasks"]

    flag = wait_for(lambda: house.flag("silent", "missed_heartbeat"), 30)
    assert flag["value"] > 5.0
    assert house.flag("silent", "task_bomb") is None


def test_samples_keep_what_the_agent_counts(
    house: Any, plan_of: Any, wait_for: Any, heart: Any
) -> None:
    house.watch["sample_s"] = 0.1
    house.plan(plan_of("api", kind="container", heartbeat=BEATING))
    house.watchdog()
    child = house.start("api")
    beating = heart(house, "api", child.pid)
    for offset, value in (
        (pulse.TASKS_CREATED, 11), (pulse.THREADS_CREATED, 12), (pulse.LATENCY_SUM, 13), (pulse.LATE_TICKS, 14),
    ):  # fmt: skip
        beating.set(offset, value)
    path = house.run_dir / "samples" / "api"

    wait_for(lambda: path.exists() and sample.decode(path.read_bytes())[-1]["late_ticks"] == 14)
    last = sample.decode(path.read_bytes())[-1]
    assert (last["tasks_created"], last["threads_created"], last["latency_sum_ns"]) == (11, 12, 13)


def test_while_the_box_is_out_of_memory_what_is_dispensable_is_stopped(
    house: Any, plan_of: Any, wait_for: Any
) -> None:
    """No box has half a gigabyte a second to lose in a test: the threshold is put above what it has."""
    house.watch |= {"detect": {"memory_pressure": 5.0}, "shed": ["reports"]}
    house.plan(plan_of("api"), plan_of("reports"))
    house.watchdog()
    house.start("api")
    house.start("reports")

    flag = wait_for(lambda: house.flag("@node", "memory_pressure"), 30)
    assert "memory are available" in flag["says"]
    asked = wait_for(lambda: house.asked("stop"))
    assert asked[0] == {"do": "stop", "worker": "reports", "by": "watchdog"}
    wait_for(lambda: (house.flag("@node", "memory_pressure") or {}).get("phase") == "verify")
    assert {request["worker"] for request in asked} == {"reports"}


def test_the_death_of_a_worker_that_needs_another_names_the_one_that_died_first(
    house: Any, plan_of: Any, wait_for: Any
) -> None:
    """One cause, one alarm."""
    house.plan(plan_of("db"), plan_of("web", requires=["db"]), plan_of("mail"))
    house.watchdog()
    first = house.exit("db", status=11)
    house.exit("web")
    house.exit("mail")

    wait_for(lambda: len(house.orders()) == 3)
    because = {order["worker"]: order.get("because") for order in house.orders()}
    assert because == {"db": None, "mail": None, "web": {"worker": "db", "key": f"exit-{first}"}}


def test_a_guest_without_a_heartbeat_that_is_stopped_is_told_and_left_alone(
    house: Any, plan_of: Any, wait_for: Any
) -> None:
    """Nobody would notice otherwise, and somebody may have it in a debugger."""
    house.plan(plan_of("guest", detect={"freeze": 0.2}))
    house.watchdog()
    child = house.start("guest")
    os.kill(child.pid, signal.SIGSTOP)
    flag = wait_for(lambda: house.flag("guest", "stopped"))

    assert "SIGSTOP" in flag["says"]
    assert wait_for(house.orders)[0]["kind"] == "hang"
    os.kill(child.pid, signal.SIGCONT)
    wait_for(lambda: house.flag("guest", "stopped") is None)
    assert not house.asked("restart")
