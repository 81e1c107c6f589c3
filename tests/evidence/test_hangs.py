"""Processes that live and do not answer: stacks before the kill."""

import os
import re
import signal
import sys
import threading
import time
import types
from typing import Any, cast

import pytest

from holdfast.evidence import bundle, capture
from holdfast.evidence.collectors import stacks
from holdfast.linux import talk
from holdfast.wire import layout, pulse

pytestmark = pytest.mark.faults
SLOWNESS = float(os.environ.get("HOLDFAST_SLOWNESS", "1"))
needs_pyspy = pytest.mark.skipif(stacks.find_pyspy() is None, reason="py-spy is not installed")

SLEEPING = (
    "import time\ndef handle():\n    print('there', flush=True)\n    time.sleep(600)\nhandle()\n"
)
BUSY = "def spin():\n    print('there', flush=True)\n    while True:\n        pass\nspin()\n"
DEADLOCK = """
import threading
lock = threading.Lock()
def second():
    lock.acquire()
def first():
    lock.acquire()
    threading.Thread(target=second, daemon=True).start()
    print('there', flush=True)
    lock.acquire()
first()
"""
GIL_HELD = "import re\ndef match():\n    print('there', flush=True)\n    re.match(r'(a+)+$', 'a' * 60 + 'b')\nmatch()\n"


def pulse_of(node: Any, pid: Any, loop_age_s: Any, thread_age_s: Any, note: Any = b"") -> None:
    data = bytearray(pulse.SIZE)
    data[:8] = pulse.MAGIC
    now = time.monotonic_ns()
    for offset, value in (
        (pulse.PID, pid), (pulse.START, 3), (pulse.LOOP_BEAT, now - int(loop_age_s * 1e9)), (pulse.THREAD_BEAT, now - int(thread_age_s * 1e9)),
    ):  # fmt: skip
        pulse.I64.pack_into(data, offset, value)
    data[pulse.NOTE : pulse.NOTE + len(note)] = note
    (node.run_dir / layout.PULSES / "backend").write_bytes(data)


@needs_pyspy
@pytest.mark.parametrize(
    ("program", "where", "doing"),
    [
        (SLEEPING, "app.py:4 in handle: time.sleep(600)", "sleeps"),
        (BUSY, "in spin", "runs on the CPU"),
        (DEADLOCK, "app.py:10 in first: lock.acquire()", "waits for a lock"),
        (GIL_HELD, "app.py:4 in match", "runs on the CPU"),
    ],
    ids=["sleeping", "busy", "deadlock", "gil-held"],
)
def test_the_stack_of_a_hang_is_taken_while_it_lives(
    node: Any, started: Any, program: Any, where: Any, doing: Any
) -> None:
    process = started(program, asleep=doing != "runs on the CPU")

    found = node.incident(node.hang_order(process))

    assert process.poll() is None  # taking evidence killed nobody
    assert found["kind"] == "hang"
    assert where in found["title"]
    main = found["stacks"][0]
    assert main["thread"] == "MainThread"
    # A busy thread may just be waiting for its turn on a CPU; asleep it is not.
    assert main.get("doing") == doing
    assert where.partition(":")[0] in node.file(found, "stacks.txt") or "in spin" in node.file(
        found, "stacks.txt"
    )


@needs_pyspy
def test_a_stopped_process_is_called_stopped_and_gives_its_stack(node: Any, started: Any) -> None:
    process = started(SLEEPING)
    os.kill(process.pid, signal.SIGSTOP)
    os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)

    found = node.incident(node.hang_order(process))
    os.kill(process.pid, signal.SIGCONT)

    assert re.search(r"stopped \(SIGSTOP\) for 5\.\d s at app.py:4 in handle", found["title"])
    assert found["stacks"][0]["frames"]


@needs_pyspy
def test_two_beats_tell_a_blocked_loop_from_a_frozen_process(node: Any, started: Any) -> None:
    node.worker.update(
        kind="container",
        components=[
            {"name": "board", "use": "x:y", "settings": {}},
            {"name": "chat", "use": "z:y", "settings": {}},
        ],
    )
    node.write_plan()
    process = started(SLEEPING)
    # Ahead of time: on a crowded machine the evidence process needs seconds to start, and a beat of now is old then.
    pulse_of(node, process.pid, 7.0, -60.0 * SLOWNESS, b"component=chat")
    blocked = node.incident(node.hang_order(process, key="flag-1"))
    pulse_of(node, process.pid, 7.0, 7.0, b"component=chat")
    frozen = node.incident(node.hang_order(process, key="flag-2"))

    assert re.match(
        r'worker "backend" \(component "chat"\): event loop blocked for [\d.]+ s at app.py:4 in handle',
        blocked["title"],
    )
    assert re.match(r'worker "backend" \(component "chat"\): frozen for [\d.]+ s', frozen["title"])
    assert "py-spy --native" in node.file(frozen, "stacks-raw.txt")


def test_without_pyspy_a_container_tells_its_stacks_on_a_signal(
    node: Any, started: Any, monkeypatch: Any
) -> None:
    """The text arrives in the log; here a thread of the test is the logger."""
    node.worker.update(kind="container", components=[])
    node.write_plan()
    process = started(
        "import faulthandler, signal\nfaulthandler.register(signal.SIGUSR1, all_threads=True, chain=False)\n"
        + SLEEPING
    )
    assert process.stderr is not None
    moving = threading.Thread(target=lambda: move(node, process.stderr.fileno()), daemon=True)
    moving.start()
    monkeypatch.setattr(stacks, "find_pyspy", lambda _="": None)
    case = case_of(node, process)

    stacks.collect(case)

    assert process.poll() is None
    assert case.facts.live_stacks[0]["frames"][0].endswith("app.py:6 in handle")
    assert "py-spy" in [m["what"] for m in case.missed]
    process.kill()
    moving.join(10)


def move(node: Any, descriptor: int) -> None:
    while data := os.read(descriptor, 65536):
        node.log("err", data, 3)


def case_of(node: Any, process: Any) -> Any:
    from holdfast.evidence import capture

    return capture._open_case(str(node.run_dir), node.hang_order(process))


def test_a_process_that_does_not_handle_the_signal_is_not_sent_it(
    node: Any, started: Any, monkeypatch: Any
) -> None:
    """The default of SIGUSR1 is to die: evidence must not be what kills the worker."""
    node.worker.update(kind="container", components=[])
    node.write_plan()
    process = started(SLEEPING)
    monkeypatch.setattr(stacks, "find_pyspy", lambda _="": None)
    case = case_of(node, process)

    stacks.collect(case)

    assert process.poll() is None
    assert any(m["what"] == "SIGUSR1" and "does not handle it" in m["why"] for m in case.missed)


def test_the_control_socket_is_asked_when_nothing_else_helps(
    node: Any, started: Any, monkeypatch: Any
) -> None:
    node.worker.update(kind="container", components=[])
    node.write_plan()
    process = started(SLEEPING)
    listener = talk.listen_stream(f"{node.run_dir}/ctl/backend.sock")
    listener.settimeout(20)
    text = 'Thread 0x1 MainThread (most recent call first):\n  File "/srv/app.py", line 3, in handle\n    x()\n\n'

    def answer() -> None:
        from holdfast.wire import message

        descriptor, _ = cast("Any", listener)._accept()
        assert message.decode(os.read(descriptor, 4096)) == {"do": "stacks"}
        os.write(descriptor, message.encode({"ok": True, "stacks": text}))
        os.close(descriptor)

    answering = threading.Thread(target=answer)
    listener.setblocking(True)
    answering.start()
    monkeypatch.setattr(stacks, "find_pyspy", lambda _="": None)
    case = case_of(node, process)

    stacks.collect(case)
    answering.join(10)
    listener.close()

    assert case.facts.live_stacks == [
        {"thread": "0x1 MainThread", "frames": ["/srv/app.py:3 in handle"], "current": False}
    ]


def test_a_stranger_with_the_same_pid_is_left_alone(node: Any, started: Any) -> None:
    """The worker died and its pid was given to somebody else between the flag and the evidence."""
    process = started(SLEEPING)

    found = node.incident(node.hang_order(process, n=99))

    assert found["stacks"] == []
    assert {"what": "stacks", "why": f"pid {process.pid} is gone"} in found["evidence"]["missed"]


@needs_pyspy
def test_the_evidence_of_a_hang_is_there_within_a_second(node: Any, started: Any) -> None:
    """Somebody waits for it: the remedy. Includes the start of the interpreter."""
    process = started(SLEEPING)
    took = []
    for n in range(5):
        key = node.hang_order(process, key=f"flag-{n}")
        began = time.monotonic()
        node.incident(key)
        took.append(time.monotonic() - began)
    print(f"live hang, start to done: {sorted(took)[2] * 1000:.0f} ms (median of 5)")

    # The promise is 1 s on an idle machine (0.16 s measured); tests run on busy ones.
    assert sorted(took)[2] < 5.0 * SLOWNESS


def test_a_collector_that_hangs_costs_its_own_part_only(
    node: Any, started: Any, monkeypatch: Any
) -> None:
    from holdfast.evidence import capture

    process = started(SLEEPING)
    key = node.hang_order(process)

    def stuck(_case: Any) -> None:
        time.sleep(600)

    module = types.ModuleType("holdfast.evidence.collectors.stuck")
    module.collect = stuck  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(capture, "_LIVE", (("stuck", "stuck.collect", 0.1), *capture._LIVE))
    began = time.monotonic()
    identity = capture.carry_out(str(node.run_dir), key)

    from holdfast.records import incidents

    found = incidents.load(str(node.state_dir), str(identity))
    assert time.monotonic() - began < 60 * SLOWNESS
    missed = {m["what"]: m["why"] for m in found["evidence"]["missed"]}
    assert missed["stuck"].startswith("OutOfTime: took longer than")
    assert "process" in found["evidence"]["collected"]


def test_in_a_hurry_no_tool_is_started(node: Any, started: Any) -> None:
    """Memory is about to run out: 50 ms, and only what is in memory already."""
    process = started(SLEEPING)
    flag = {
        "worker": "backend",
        "flag": "memory_over_limit",
        "since_unix_s": time.time(),
        "says": "rss 130 MiB of 128 MiB",
    }

    found = node.incident(
        node.order(
            process, key="flag-backend-9", live=True, kind="memory", deadline_s=0.05, flag=flag
        )
    )

    assert found["kind"] == "memory"
    assert found["title"] == 'worker "backend": rss 130 MiB of 128 MiB'
    assert "stacks" not in found["evidence"]["collected"]


def test_no_time_at_all_still_gives_an_incident(node: Any, started: Any) -> None:
    process = started(SLEEPING)

    found = node.incident(node.hang_order(process, deadline_s=0.0))

    assert found["kind"] == "hang"
    assert found["evidence"]["collected"] == []
    assert all(m["why"] == "no time was left" for m in found["evidence"]["missed"])


def test_who_waits_is_let_go_before_the_bundle_is_written_through_to_the_disk(
    node: Any, started: Any, monkeypatch: Any
) -> None:
    """The watchdog begins the remedy when the evidence process has ended: on a slow disk, fsync of ten files is most of a second."""
    process = started(SLEEPING)
    key = node.hang_order(process, deadline_s=0.5 * SLOWNESS)
    told: list[str] = []
    monkeypatch.setattr(bundle, "settle", lambda _: told.append("written through"))

    capture.carry_out(str(node.run_dir), key, lambda: told.append(f"let go with {node.bundles()}"))

    assert told[0].startswith("let go with ['")
    assert told[1:] == ["written through"]
    assert node.done(key) is not None
