"""What becomes of the agent in a copy of the program: real forks, each in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import holdfast
from holdfast.agent import forks
from holdfast.linux import procfs, talk
from holdfast.wire import layout, pulse
from node import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

BOOT = str(Path(holdfast.__file__).parent / "agent/boot")
#: Ends with the test, also when that fails.
END = "\nif __name__ == '__main__':\n    import os, signal, sys\n    sys.stdin.read()\n    os.killpg(0, signal.SIGKILL)\n"


class Program:
    """A Python program with the agent, whose copies are looked at."""

    def __init__(self, tmp: Path) -> None:
        self.run_dir = tmp
        (tmp / layout.PULSES).mkdir()
        self.process: subprocess.Popen[bytes] | None = None

    def run(self, text: str, **env: str) -> None:
        path = self.run_dir / "program.py"
        path.write_text(text + END)
        self.process = subprocess.Popen(
            [sys.executable, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            start_new_session=True, cwd=self.run_dir,
            env={
                **os.environ, "PYTHONPATH": BOOT, "HOLDFAST_PULSE": f"{self.run_dir}/{layout.pulse('app')}",
                "HOLDFAST_START": "1", "HOLDFAST_RUN": str(self.run_dir), "HOLDFAST_WORKER": "app", **env,
            },
        )  # fmt: skip

    def beats(self) -> dict[int, Any]:
        """Return the pulses of the copies by pid."""
        found = {}
        for path in (self.run_dir / layout.forks("app")).glob("[0-9]*"):
            if path.suffix != ".sock" and (beat := pulse.decode(path.read_bytes())) is not None:
                found[int(path.name)] = beat
        return found

    def own(self) -> Any:
        return pulse.decode((self.run_dir / layout.pulse("app")).read_bytes())

    def end(self) -> None:
        if self.process is not None:
            self.process.communicate()


@pytest.fixture
def program(tmp_path: Path) -> Iterator[Program]:
    made = Program(tmp_path)
    try:
        yield made
    finally:
        made.end()


def one(program: Program, of: Callable[[Any], bool] = lambda _: True) -> Any:
    return wait_for(
        lambda: next((b for b in program.beats().values() if of(b)), None), "the pulse of a copy"
    )


def test_a_copy_that_lives_has_a_pulse_of_its_own_and_its_parents_is_its_parents(
    program: Program,
) -> None:
    """gunicorn's workers are copies: until now a frozen one under a healthy master was not seen."""
    program.run("import os, time\nif not os.fork(): time.sleep(3600)")

    beat = one(program)

    assert beat.pid != program.own().pid
    assert beat.parent == program.own().pid
    assert beat.ticks == procfs.start_ticks(beat.pid)
    assert beat.start == 1
    wait_for(lambda: program.beats()[beat.pid].thread_beat_ns > beat.thread_beat_ns, "its next beat")  # fmt: skip
    assert program.own().pid == program.process.pid  # type: ignore[union-attr]


def test_a_copy_begins_to_count_at_zero(program: Program) -> None:
    """What its parent did is in its parent's pulse; twice in the sum it would be wrong."""
    program.run("""
import asyncio, os, time
async def many(count):
    await asyncio.gather(*(asyncio.sleep(0) for _ in range(count)))
asyncio.run(many(50))
time.sleep(0.3)
if not os.fork():
    asyncio.run(many(3))
    time.sleep(3600)
""")

    beat = one(program, lambda b: b.tasks_created > 0)

    assert 3 <= beat.tasks_created < 10
    assert program.own().tasks_created >= 50


def test_the_serving_loop_of_a_copy_is_found_anew(program: Program) -> None:
    """uvicorn's workers begin their loop after the fork; the parent's loop does not run in them."""
    program.run("""
import asyncio, os, time
async def serve():
    await asyncio.sleep(0.5)
    time.sleep(3600)
async def parent():
    if not os.fork():
        asyncio.events._set_running_loop(None)
        asyncio.run(serve())
    await asyncio.sleep(3600)
import threading
threading.Thread(target=lambda: asyncio.run(parent()), daemon=True).start()
""")

    beat = one(program, lambda b: b.thread_beat_ns - b.loop_beat_ns > 5e8)

    assert program.own().thread_beat_ns - program.own().loop_beat_ns < 5e8
    assert beat.pid != program.own().pid


def test_short_copies_leave_nothing(program: Program) -> None:
    """A program that starts others all day long must not pay for the few that serve."""
    program.run("""
import os, subprocess, sys, time
for _ in range(20):
    if not (pid := os.fork()): os._exit(0)
    os.waitpid(pid, 0)
subprocess.run([sys.executable, "-c", "import time; time.sleep(0.6)"])
if not os.fork(): time.sleep(3600)
""")

    last = one(program)

    assert list(program.beats()) == [last.pid]


def test_a_copy_of_a_copy_is_seen_as_well(program: Program) -> None:
    program.run("""
import os, time
if not os.fork():
    if not os.fork(): time.sleep(3600)
    time.sleep(3600)
""")

    beats = wait_for(lambda: len(found := program.beats()) == 2 and found, "both copies")

    younger = [beat for beat in beats.values() if beat.parent in beats]
    assert len(younger) == 1


def test_there_is_an_end_to_the_files(program: Program) -> None:
    """A fork bomb of 10,000 must not fill the memory of the run directory."""
    program.run(
        "import os, time\nfrom holdfast.agent import forks\nforks.MOST = 3\n"
        "for _ in range(6):\n    if not os.fork(): time.sleep(3600)\n    time.sleep(0.05)\n"
    )
    wait_for(lambda: len(program.beats()) >= 3, "as many as may be")
    until_s = time.monotonic() + 3 * forks.LEAST_S

    wait_for(lambda: time.monotonic() > until_s, "the others to have looked for room")

    assert len(program.beats()) == 3


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_a_copy_that_becomes_another_user_is_still_seen(program: Program) -> None:
    """gunicorn's `user`: the run directory is closed to that user, and its worker has to be seen all the same."""
    program.run_dir.chmod(0o700)
    program.run("import os, time\nif not os.fork():\n    os.setgid(65534); os.setuid(65534)\n    time.sleep(3600)")  # fmt: skip

    beat = one(program)

    owner = (program.run_dir / layout.forks("app") / str(beat.pid)).stat().st_uid
    assert owner == 65534
    wait_for(lambda: program.beats()[beat.pid].thread_beat_ns > beat.thread_beat_ns, "its next beat")  # fmt: skip


def test_a_copy_answers_for_itself(program: Program) -> None:
    """The census of a leak has to be that of the copy that grew, not of its healthy parent."""
    program.run("import os, time\ndef here(): time.sleep(3600)\nif not os.fork(): here()")
    beat = one(program)
    path = program.run_dir / layout.forks("app") / f"{beat.pid}.sock"
    wait_for(path.exists, "its socket")

    answer = talk.ask(str(path), {"do": "stacks"}, 10.0)

    assert answer is not None
    assert any("in here" in frame for stack in answer["stacks"] for frame in stack["frames"])


def test_a_process_that_multiprocessing_spawns_is_seen_like_a_copy(program: Program) -> None:
    """uvicorn --workers starts its workers anew instead of forking them."""
    program.run("""
import multiprocessing, time
if __name__ == "__main__":
    multiprocessing.get_context("spawn").Process(target=time.sleep, args=(3600,), daemon=True).start()
""")

    beat = one(program)

    assert beat.pid != program.own().pid


def test_one_request_that_does_not_end_is_told_with_its_line(program: Program) -> None:
    """A sync worker has no loop that could be late: the request itself has to be noticed."""
    program.run("""
import os, threading, time, urllib.request
from wsgiref.simple_server import make_server, WSGIRequestHandler
def stuck(): time.sleep(3600)
def app(environ, start_response):
    if environ["PATH_INFO"] == "/stuck": stuck()
    start_response("200 OK", [])
    return [b"ok"]
class Quiet(WSGIRequestHandler):
    def log_message(self, *_): pass
server = make_server("127.0.0.1", 0, app, handler_class=Quiet)
if not os.fork(): server.serve_forever()
url = f"http://127.0.0.1:{server.server_port}"
urllib.request.urlopen(url + "/").read()
threading.Thread(target=lambda: urllib.request.urlopen(url + "/stuck"), daemon=True).start()
""")

    beat = one(program, lambda b: b.held_ns and b.sites.get("blocked"))

    assert beat.is_held == 1
    assert beat.in_flight == 1
    assert beat.work_done == 1
    assert "in stuck" in beat.sites["blocked"][0][1][0]


def test_the_jobs_of_a_pool_are_counted_and_one_that_hangs_is_told(program: Program) -> None:
    """Whoever waits for the result waits for ever, and the pool looks as if it rested."""
    program.run("""
import multiprocessing, time
def add(number): return number + 1
def hangs(): time.sleep(3600)
if __name__ == "__main__":
    pool = multiprocessing.get_context("fork").Pool(1)
    assert pool.map(add, range(5), chunksize=1) == [1, 2, 3, 4, 5]
    pool.apply_async(hangs)
""")

    beat = one(program, lambda b: b.held_ns and b.work_done)

    assert beat.is_held == pulse.JOB
    assert beat.work_done == 5
    wait_for(lambda: program.beats()[beat.pid].routes, "the route of the jobs")
    assert [(name, count) for name, count, *_ in program.beats()[beat.pid].routes] == [
        ("__main__.add", 5)
    ]
