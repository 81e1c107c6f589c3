"""Programs that die for real, and what the incident says about it."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from holdfast.evidence.collectors import kernel
from holdfast.wire import layout, pulse, sample

pytestmark = pytest.mark.faults
SLOWNESS = float(os.environ.get("HOLDFAST_SLOWNESS", "1"))

SEGFAULT = """
import ctypes, threading
def idle(): threading.Event().wait()
threading.Thread(target=idle, name="pool-1", daemon=True).start()
def deep(n):
    if n: deep(n - 1)
    else: ctypes.string_at(0)
deep(2)
"""
FILLS = """
import sys, time
file = open(sys.argv[1], "ab", buffering=0)
print("open", flush=True)
for _ in range(6000):
    file.write(b"x" * 100)
    time.sleep(0.01)
"""
#: Tracking an object that is tracked already: what faulty C extensions do (a case of the real world).
GC_TRACK = """
import ctypes
def handler(): ctypes.pythonapi.PyObject_GC_Track(ctypes.py_object([]))
handler()
"""


def test_a_segfault_tells_the_stack_of_every_thread(node: Any) -> None:
    found = node.die(SEGFAULT)

    assert found["kind"] == "crash"
    assert found["status_words"].startswith("killed by SIGSEGV (segmentation fault")
    assert found["fatal"] == "Fatal Python error: Segmentation fault"
    assert (
        found["title"]
        == 'worker "backend": killed by SIGSEGV (segmentation fault) in ctypes at app.py:7 in deep'
    )
    current = [s for s in found["stacks"] if s["current"]]
    assert [f.rpartition(" in ")[2] for f in current[0]["frames"]] == [
        "string_at",
        "deep",
        "deep",
        "deep",
        "<module>",
    ]
    assert any(
        "idle" in frame for s in found["stacks"] if not s["current"] for frame in s["frames"]
    )
    assert "Fatal Python error" in node.file(found, "log.txt")
    assert "in deep" in node.file(found, "stacks.txt")
    assert "the keeper started it again at once" in node.file(found, "story.txt")


def test_an_assertion_of_the_interpreter_is_quoted(node: Any) -> None:
    found = node.die(GC_TRACK)

    assert found["fatal"].startswith("Fatal Python error")
    assert "object already tracked by the garbage collector" in found["title"]
    assert found["title"].endswith("at app.py:3 in handler")


def test_an_uncaught_exception_is_the_title(node: Any) -> None:
    found = node.die("def handle(tag):\n    raise ValueError('bad tag ' + tag)\nhandle('#X')\n")

    assert found["kind"] == "crash"
    assert found["title"] == 'worker "backend" crashed: ValueError: bad tag #X'
    assert found["status"] == 256
    assert found["cause"]["where"] == f"{node.app}/app.py:2 in handle"
    assert found["cause"]["source"] == "raise ValueError('bad tag ' + tag)"


def test_an_exception_of_another_thread_is_not_what_ended_it(node: Any) -> None:
    found = node.die("""
import os, threading, time
def job(): raise OSError("connection lost")
t = threading.Thread(target=job); t.start(); t.join()
os._exit(5)
""")

    assert found["kind"] == "exit"
    assert found["fatal"] is None
    assert found["title"] == 'worker "backend": exited with status 5'


def test_an_abort_is_told(node: Any) -> None:
    found = node.die("import os\ndef finish(): os.abort()\nfinish()\n")

    assert found["fatal"] == "Fatal Python error: Aborted"
    assert (
        found["title"]
        == 'worker "backend": killed by SIGABRT (it aborted itself) at app.py:2 in finish'
    )


def test_a_plain_exit_keeps_the_last_thing_said(node: Any) -> None:
    found = node.die("import sys\nprint('cannot open /data', file=sys.stderr)\nsys.exit(66)\n")

    assert found["kind"] == "exit"
    assert found["status_words"] == "exited with status 66: input missing"
    assert {
        "confidence": "possible",
        "says": "the last thing it wrote to stderr: cannot open /data",
    } in found["cause"]["why"]


def test_a_container_names_its_component(node: Any) -> None:
    node.worker.update(
        kind="container",
        components=[
            {"name": "board", "use": "clan.board:app", "settings": {}},
            {"name": "chat", "use": "clan.chat:app", "settings": {}},
        ],
    )
    node.write_plan()

    found = node.die("""
import sys, traceback
try:
    raise ValueError("bad tag")
except ValueError as error:
    sys.stderr.write('holdfast: component "board" crashed: ValueError: bad tag\\n' + traceback.format_exc())
print("last line of somebody else", file=sys.stderr)
sys.exit(70)
""")

    assert found["component"] == "board"
    assert found["title"] == 'worker "backend": component "board" crashed: ValueError: bad tag'


def test_only_this_life_counts(node: Any) -> None:
    """The traceback of an earlier life must not explain a later death."""
    node.log("err", b"Traceback (most recent call last):\nValueError: of life 2\n", 2)

    found = node.die("import os\nos._exit(9)\n")

    assert found["fatal"] is None
    assert found["kind"] == "exit"


def test_last_words_that_were_filed_under_the_next_life_are_found(node: Any) -> None:
    """The keeper restarts in 2 ms; the logger may take the last words of the old life after that."""
    node.program(SEGFAULT)
    process = node.start(3)
    _, said = process.communicate(timeout=60 * SLOWNESS)
    node.log("err", said, 4)

    found = node.incident(node.order(process, n=3))

    assert found["fatal"] == "Fatal Python error: Segmentation fault"


def test_a_foreign_sigkill_is_called_foreign_where_the_kernel_log_can_be_read(node: Any) -> None:
    try:
        kernel.read_kmsg()
    except OSError as error:
        pytest.skip(f"/dev/kmsg cannot be read here: {error}")
    process = node.start()
    process.kill()
    process.wait()

    found = node.incident(node.order(process))

    assert found["kind"] == "crash"
    assert found["status_words"] == "killed by SIGKILL (killed from outside)"
    assert any(
        "neither Holdfast nor the kernel's OOM killer" in why["says"]
        for why in found["cause"]["why"]
    )


def test_a_kill_ordered_by_the_watchdog_is_called_ours(node: Any) -> None:
    process = node.start()
    process.kill()
    process.wait()
    key = node.order(process)
    from holdfast.wire import journal

    path = node.run_dir / layout.JOURNAL
    record = journal.decode(path.read_bytes())[0][0]
    path.write_bytes(journal.encode({**record, "cause": "remedy", "next": "restart"}))

    found = node.incident(key)

    assert found["cause"]["why"][0] == {
        "confidence": "certain",
        "says": "the watchdog had it ended as a remedy",
    }


def test_an_oom_kill_in_its_own_cgroup_is_told_by_the_kernel(node: Any, memory_group: Any) -> None:
    try:
        kernel.read_kmsg()
    except OSError as error:
        pytest.skip(f"/dev/kmsg cannot be read here: {error}")
    node.worker["limits"] = {"memory_bytes": 64 << 20}
    node.write_plan()
    node.program(
        "import sys\nopen(sys.argv[1] + '/cgroup.procs', 'w').write('0')\nkept = []\nwhile True: kept.append(b'x' * (1 << 20))\n"
    )
    node.worker["argv"] = [*node.worker["argv"], memory_group]
    process = node.start()
    process.wait(timeout=60 * SLOWNESS)
    assert process.returncode == -signal.SIGKILL

    found = node.incident(node.order(process))

    assert found["kind"] == "oom"
    assert "out of memory" in found["title"]
    assert "of 64 MiB allowed" in found["title"]
    assert f"Killed process {process.pid}" in node.file(found, "kernel.txt")


def test_samples_and_the_pulse_of_the_life_are_kept(node: Any) -> None:
    node.worker.update(
        kind="container",
        components=[
            {"name": "board", "use": "app:app", "settings": {}},
            {"name": "chat", "use": "b:c", "settings": {}},
        ],
    )
    node.write_plan()
    process = node.start()
    process.kill()
    process.wait()
    samples = bytearray()
    for n in range(20):
        values = dict.fromkeys(sample.FIELDS, 0) | {
            "number": n, "unix_ns": time.time_ns(), "mono_ns": n * 10**9 + 1, "start": 3, "pid": process.pid, "rss_bytes": (20 + 10 * n) << 20,
        }  # fmt: skip
        samples += sample.RECORD.pack(*(values[f] for f in sample.FIELDS))
    (node.run_dir / layout.SAMPLES / "backend").write_bytes(samples)
    # The next life has put its own pulse in place; the container keeps the one before as NAME.last.
    for name, pid, n, note in (
        ("backend.last", process.pid, 3, b"component=chat"),
        ("backend", 1, 4, b"component=board"),
    ):
        data = bytearray(pulse.SIZE)
        data[:8] = pulse.MAGIC
        for offset, value in (
            (pulse.PID, pid),
            (pulse.START, n),
            (pulse.LOOP_BEAT, time.monotonic_ns()),
        ):
            pulse.I64.pack_into(data, offset, value)
        data[pulse.NOTE : pulse.NOTE + len(note)] = note
        data[pulse.RING_OFFSET : pulse.RING_OFFSET + pulse.EVENT_BYTES] = pulse.encode_event(
            time.monotonic_ns(), "request /decks"
        )
        (node.run_dir / layout.PULSES / name).write_bytes(data)

    found = node.incident(node.order(process))

    assert found["component"] == "chat"
    assert "request /decks" in node.file(found, "pulse.json")
    assert '"rows"' in node.file(found, "samples.json")


def test_what_changed_since_the_good_start_is_told(node: Any) -> None:
    """The lesson of most incidents: somebody changed something."""
    node.worker["env"] = {"API_TOKEN": "tok-1234"}
    node.write_plan()
    node.program("import time\ntime.sleep(0)\n")
    (node.app / "same.py").write_text("x = 1\n")
    node.place(
        {
            "key": "good-backend-2",
            "kind": "good",
            "worker": "backend",
            "n": 2,
            "pid": 0,
            "unix_s": time.time(),
            "deadline_s": 5.0,
            "live": False,
        }
    )
    assert node.evidence("good-backend-2").wait(timeout=60 * SLOWNESS) == 0
    assert node.done("good-backend-2") == {"key": "good-backend-2", "incident": None}

    node.worker["env"] = {"API_TOKEN": "tok-5678"}
    node.worker["limits"] = {"memory_bytes": 128 << 20}
    node.write_plan("d2")
    os.utime(node.app / "same.py")
    found = node.die("raise KeyError('deck')\n")

    assert len(found["changed"]) == 3
    assert found["changed"][0].startswith("file app.py changed ")
    assert found["changed"][1:] == [
        "configuration: worker.backend.limits.memory_bytes not set -> 128 MiB",
        "environment variable API_TOKEN changed (value not shown)",
    ]
    everything = "".join(node.file(found, name) for name in os.listdir(found["path"]))
    assert "tok-" not in everything
    assert "tok-" not in "".join(p.read_text() for p in (node.state_dir / "good").glob("*.json"))


def test_a_worker_whose_output_is_not_kept_says_what_is_missing(node: Any) -> None:
    node.worker["log"] = None
    node.write_plan()
    node.program("import os\nos._exit(4)\n")
    process = node.start()
    process.wait()

    found = node.incident(node.order(process))

    assert found["title"] == 'worker "backend": exited with status 4'
    assert {
        "what": "log",
        "why": "the output of this worker is not captured (log is off)",
    } in found["evidence"]["missed"]


def test_an_order_without_a_plan_or_of_nonsense_is_refused_with_words(node: Any) -> None:
    process = node.evidence("exit-1")
    _, said = process.communicate(timeout=60 * SLOWNESS)
    assert process.returncode == 5
    assert b"there is no such order" in said

    (node.run_dir / layout.ORDERS / "exit-2.json").write_text('{"worker": 7}')
    assert node.evidence("exit-2").wait(timeout=60 * SLOWNESS) == 5

    wrong = subprocess.run(
        [sys.executable, "-P", str(Path(kernel.__file__).parents[1] / "__main__.py"), "x"],
        capture_output=True,
        check=False,
    )
    assert wrong.returncode == 2
    assert b"Traceback" not in wrong.stderr


def test_output_that_is_no_text_harms_nothing(node: Any) -> None:
    found = node.die("import os\nos.write(2, b'caf\\xe9 \\x1b[31m\\xff\\x00\\n')\nos._exit(3)\n")

    assert "caf\ufffd" in node.file(found, "log.txt")
    assert "\x1b" not in node.file(found, "story.txt")


def test_a_full_disk_of_the_node_itself_is_an_incident(node: Any) -> None:
    flag = {
        "worker": "@node",
        "flag": "disk_low",
        "since_unix_s": time.time(),
        "says": "3 % of the disk are free",
    }
    node.place({
        "key": "flag-@node-disk_low-1", "kind": "flag", "worker": "@node", "n": None, "pid": None, "status": None, "lived_s": None,
        "seq": None, "flag": flag, "unix_s": time.time(), "deadline_s": 2.0, "live": False,
    })  # fmt: skip

    fat = f"{node.state_dir}/fat"
    with subprocess.Popen([sys.executable, "-I", "-S", "-c", FILLS, fat], stdout=subprocess.PIPE) as writer:  # fmt: skip
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"open\n"
        found = node.incident("flag-@node-disk_low-1")
        writer.kill()

    assert found["kind"] == "disk"
    assert found["title"] == "this machine: 3 % of the disk are free"
    assert "free of" in node.file(found, "disk.txt")
    (why,) = [one for one in found["cause"]["why"] if fat in one["says"]]
    assert why["confidence"] == "likely"
    assert f"(pid {writer.pid}) writes" in why["says"]


def test_a_crash_loop_tells_of_the_last_death(node: Any) -> None:
    node.program("raise KeyError('deck')\n")
    process = node.start()
    _, said = process.communicate(timeout=60 * SLOWNESS)
    node.log("err", said, 3)
    node.order(process)  # the journal's exit record
    flag = {
        "worker": "backend",
        "flag": "crash_loop",
        "since_unix_s": time.time(),
        "says": "died 6 times in 60 s",
    }
    node.place(
        {
            "key": "flag-backend-2",
            "kind": "flag",
            "worker": "backend",
            "flag": flag,
            "unix_s": time.time(),
            "live": False,
        }
    )

    found = node.incident("flag-backend-2")

    assert found["kind"] == "crash_loop"
    assert (
        found["title"]
        == "worker \"backend\": died 6 times in 60 s; last: crashed: KeyError: 'deck'"
    )
    assert found["start"] == 3


def test_a_program_that_cannot_be_started_is_told_with_the_reason(node: Any) -> None:
    node.place({
        "key": "exit-7", "kind": "start", "worker": "backend", "n": 2, "pid": 0, "status": None, "lived_s": 0.0, "seq": 7,
        "flag": None, "unix_s": time.time(), "deadline_s": 5.0, "live": False, "error": "/srv/x: no such file", "coalesced": 4,
    })  # fmt: skip

    found = node.incident("exit-7")

    assert found["kind"] == "start"
    assert found["title"] == 'worker "backend": could not be started: /srv/x: no such file'
    assert any("4 more deaths" in why["says"] for why in found["cause"]["why"])


def test_what_a_healthy_life_ran_with_becomes_what_later_ones_are_compared_with(node: Any) -> None:
    """An edit during a life is loaded by the next one: it must still be told when that one dies."""
    healthy, sick = {"lived_s": 100.0}, {"lived_s": 0.5}
    program = "raise KeyError('deck')\n"
    assert node.die(program, key="exit-1", **healthy)["changed"][0].startswith(
        "file app.py changed"
    )
    (node.app / "late.py").write_text("x = 1\n")  # while the second life runs

    second = node.die(program, key="exit-2", **healthy)["changed"]
    third = node.die(program, key="exit-3", **sick)["changed"]
    fourth = node.die(program, key="exit-4", **healthy)["changed"]
    fifth = node.die(program, key="exit-5", **sick)["changed"]

    assert second == third == fourth == ["file late.py is new"]
    assert fifth == []


def test_a_worker_that_dies_again_and_again_is_no_example_for_itself(node: Any) -> None:
    """Each life lasts a little longer than `restart.healthy`: what was changed before the first has to be told of the last as well."""
    program = "raise KeyError('deck')\n"
    node.die(program, key="exit-1", lived_s=100.0)
    (node.app / "late.py").write_text("x = 1\n")

    for number in range(2, 5):
        found = node.die(program, key=f"exit-{number}", lived_s=15.0)
        assert found["changed"] == ["file late.py is new"], number
