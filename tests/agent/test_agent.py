"""What the agent tells of real programs that know nothing of it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from holdfast.wire import pulse

if TYPE_CHECKING:
    from collections.abc import Iterator

SLOWNESS = float(os.environ.get("HOLDFAST_SLOWNESS", "1"))
SOURCE = Path(__file__).parents[2] / "src"
BOOT = SOURCE / "holdfast/agent/boot"


class Program:
    """A Python program that was started as the keeper starts a guest with ``agent = true``."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.path = home / "pulse"
        self.process: subprocess.Popen[str] | None = None

    def start(self, text: str, *, python: str = sys.executable, n: int = 7, **env: str) -> None:
        (self.home / "program.py").write_text(textwrap.dedent(text))
        self.process = subprocess.Popen(
            [python, "program.py"], cwd=self.home, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True,
            env={
                "PATH": os.environ["PATH"], "HOLDFAST_PULSE": str(self.path), "HOLDFAST_START": str(n),
                "PYTHONPATH": str(BOOT), "PYTHONUNBUFFERED": "1", **env,
            },
        )  # fmt: skip

    def pulse(self) -> pulse.Pulse | None:
        try:
            return pulse.decode(self.path.read_bytes())
        except FileNotFoundError:
            return None

    def wait(self, look: Any, what: str, within_s: float = 20.0) -> Any:
        until_s = time.monotonic() + within_s * SLOWNESS
        while True:
            beat = self.pulse()
            if beat is not None and (found := look(beat)):
                return found
            assert self.process is not None
            assert self.process.poll() is None, self.process.communicate()
            assert time.monotonic() < until_s, f"waited in vain for {what}: {beat and beat.sites}"
            time.sleep(0.01)

    def read_line(self) -> str:
        assert self.process is not None
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def go(self) -> None:
        """Let it go on: it waits for a line."""
        assert self.process is not None
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def ends(self) -> tuple[int, str, str]:
        assert self.process is not None
        out, err = self.process.communicate(timeout=30 * SLOWNESS)
        return self.process.returncode, out, err

    def close(self) -> None:
        if self.process is not None:
            if self.process.poll() is None:
                self.process.kill()
            self.process.communicate()


@pytest.fixture
def program(tmp_path: Path) -> Iterator[Program]:
    made = Program(tmp_path)
    yield made
    made.close()


def first_site(kind: str) -> Any:
    def look(beat: pulse.Pulse) -> Any:
        entries = beat.sites.get(kind)
        return entries[0] if entries and entries[0][0] >= 1000 else None

    return look


# -- bombs -------------------------------------------------------------------------------------------

BOMB = """
    import asyncio, sys, time

    def fan_out(n):
        for _ in range(n):
            asyncio.ensure_future(asyncio.sleep(60))

    async def on_message():
        sys.stdin.readline()
        print(time.monotonic_ns())
        fan_out(20_000)
        print(time.monotonic_ns())
        time.sleep(60)

    async def main():
        await asyncio.create_task(on_message())

    asyncio.run(main())
"""


def test_a_bomb_of_20000_tasks_names_its_line_while_the_loop_is_blocked(program: Program) -> None:
    """The loop that made them cannot say anything any more; the plain thread has."""
    program.start(BOMB)
    program.wait(lambda beat: beat.tasks_created >= 1, "the first task")
    program.go()

    entry = program.wait(first_site("tasks"), "the line")
    beat = program.pulse()

    program.read_line()
    done_ns: int = int(program.read_line())
    assert beat is not None
    full = program.wait(
        lambda b: b.sites if (t := b.sites.get("tasks")) and t[0][0] == 20_000 else None,
        "all of it",
    )
    late_s = (full["at_ns"] - done_ns) / 1e9
    # Measured: 0.05 to 0.2 s (bench/agent.py); this says only that nobody had to ask.
    assert late_s <= 5.0 * SLOWNESS
    assert entry[2].endswith("program.py:6 in fan_out")
    count, live, where, creators = full["tasks"][0]
    assert (count, live) == (20_000, 20_000)
    assert creators[0].endswith("program.py:16 in main")
    stack = full["stacks"][where][0]
    assert any(frame.endswith("program.py:11 in on_message") for frame in stack)
    assert full["recent"]["tasks"][0] == 20_000
    assert program.wait(lambda b: b.tasks_created == 20_002, "the count")


def test_where_the_loop_is_blocked_is_told_without_asking(program: Program) -> None:
    program.start(BOMB)
    program.wait(lambda beat: beat.tasks_created >= 1, "the first task")
    program.go()

    def blocked(beat: pulse.Pulse) -> Any:
        return next(
            (n for n, frames in beat.sites.get("blocked", ()) if "program.py:13 in on_message" in frames[0]), 0,
        )  # fmt: skip

    assert program.wait(blocked, "the line that sleeps")


def test_a_storm_that_builds_up_keeps_its_line_in_front(program: Program) -> None:
    """A line that made a million tasks in an hour is not to blame for the thousands of the last second."""
    program.start("""
        import asyncio, sys

        async def nothing(): pass

        async def main():
            for _ in range(30_000):
                await asyncio.create_task(nothing())
            print("busy")
            while True:
                for _ in range(500):
                    asyncio.create_task(asyncio.sleep(60))
                await asyncio.sleep(0.2)

        asyncio.run(main())
    """)
    assert program.read_line() == "busy"

    def bomb_first(beat: pulse.Pulse) -> Any:
        tasks = beat.sites.get("tasks", [[0, 0, "", []]])
        # Behind it, somewhere: a line that makes none any more goes down while the bomb goes on.
        return tasks[0][2].endswith(":12 in main") and any(t[0] >= 30_000 for t in tasks[1:])

    assert program.wait(bomb_first, "the line of the bomb in front", 60)


def test_threads_are_counted_where_they_start_and_grouped(program: Program) -> None:
    """py-spy gives up above 4,096 threads, faulthandler at 100."""
    program.start("""
        import threading
        threading.stack_size(65536)
        gate = threading.Event()

        def wait_for_gate():
            gate.wait()

        def connect(n):
            for _ in range(n):
                threading.Thread(target=wait_for_gate, daemon=True).start()

        connect(2000)
        print("started")
        input()
    """)
    assert program.read_line() == "started"

    def whole(beat: pulse.Pulse) -> Any:
        sites = beat.sites
        made, running = sites.get("threads"), sites.get("running")
        return sites if made and made[0][0] == 2000 and running and running[0][0] > 1000 else None

    sites = program.wait(whole, "all threads", 40)
    count, live, where, _ = sites["threads"][0]
    assert (count, live) == (2000, 2000)
    assert where.endswith("program.py:11 in connect")
    most, frames = sites["running"][0]
    assert most > 1000
    assert any("in wait_for_gate" in frame for frame in frames)
    beat = program.pulse()
    assert beat is not None
    assert beat.threads_created == 2000
    assert beat.threads == 2001


def test_causes_cross_executors_and_threads(program: Program) -> None:
    program.start("""
        import asyncio, threading
        from concurrent.futures import ThreadPoolExecutor

        async def nothing(): await asyncio.sleep(60)

        def in_pool(loop):
            threading.Thread(target=in_thread, args=(loop,)).start()

        def in_thread(loop):
            asyncio.run(later())

        async def later():
            tasks = [asyncio.create_task(nothing()) for _ in range(1000)]
            await asyncio.sleep(60)

        async def main():
            loop = asyncio.get_running_loop()
            with ThreadPoolExecutor(1) as pool:
                pool.submit(in_pool, loop)
                await asyncio.sleep(60)

        asyncio.run(main())
    """)

    _, _, where, creators = program.wait(first_site("tasks"), "the tasks")

    assert "program.py:14 in later" in where
    assert [c.rpartition("/")[2] for c in creators] == [
        "program.py:11 in in_thread", "program.py:8 in in_pool", "program.py:20 in main", "program.py:23 in <module>",
    ]  # fmt: skip


# -- the beats ---------------------------------------------------------------------------------------


def test_the_two_beats_tell_a_blocked_loop_from_a_program_without_one(program: Program) -> None:
    program.start("""
        import asyncio, sys, time
        sys.stdin.readline()

        async def main():
            await asyncio.sleep(0.3)
            print("runs")
            time.sleep(2)
            print("blocked")

        asyncio.run(main())
        sys.stdin.readline()
    """)
    first = program.wait(lambda beat: beat.loop_beat_ns, "a beat without a loop")
    program.wait(lambda beat: beat.loop_beat_ns > first + 5e8, "more of them")
    program.go()
    assert program.read_line() == "runs"

    def is_blocked(beat: pulse.Pulse) -> bool:
        now_ns = time.monotonic_ns()
        return now_ns - beat.loop_beat_ns > 1e9 and now_ns - beat.thread_beat_ns < 5e8 * SLOWNESS

    program.wait(is_blocked, "a loop that is late while the thread is not")
    assert program.read_line() == "blocked"

    again = program.wait(
        lambda beat: time.monotonic_ns() - beat.loop_beat_ns < 5e8, "beats afterwards"
    )
    assert again
    beat = program.pulse()
    assert beat is not None
    assert beat.pid == program.process.pid  # type: ignore[union-attr]
    assert beat.start == 7


def test_late_turns_and_processor_time_are_counted(program: Program) -> None:
    program.start("""
        import asyncio, time

        async def main():
            for _ in range(3):
                await asyncio.sleep(0.3)
                end = time.monotonic() + 0.5
                while time.monotonic() < end: pass
            await asyncio.sleep(60)

        asyncio.run(main())
    """)

    beat = program.wait(lambda b: b if b.late_ticks >= 3 else None, "three late turns")

    assert beat.cpu_ns > 2e8
    assert beat.lag_ns > 1e8


def test_the_last_state_survives_sigkill(program: Program) -> None:
    program.start(BOMB)
    program.wait(lambda beat: beat.tasks_created >= 1, "the first task")
    program.go()
    program.wait(lambda b: (found := b.sites.get("tasks")) and found[0][0] == 20_000, "the line")

    assert program.process is not None
    program.process.send_signal(signal.SIGKILL)
    program.process.wait(timeout=20 * SLOWNESS)

    beat = program.pulse()
    assert beat is not None
    assert beat.sites["tasks"][0][0] == 20_000


# -- programs notice nothing -------------------------------------------------------------------------


def test_a_program_finds_everything_as_it_was(program: Program) -> None:
    text = """
        import sys, os, threading, asyncio, concurrent.futures
        boot = [p for p in sys.path if "holdfast" in p]
        seen = {}
        async def main():
            loop = asyncio.get_running_loop()
            seen["factory"] = loop.get_task_factory()
            task = asyncio.create_task(asyncio.sleep(0), name="mine")
            seen["names"] = sorted(t.get_name() for t in asyncio.all_tasks())
            await task
        asyncio.run(main())
        print(boot, threading.active_count(), threading.enumerate(), seen, asyncio.__loader__.__class__.__name__,
              asyncio.base_events.__spec__.loader is asyncio.base_events.__loader__, sys.stdin.isatty())
        try:
            with concurrent.futures.ThreadPoolExecutor() as pool:
                pool.submit(lambda: 1 / 0).result()
        except ZeroDivisionError as error:
            import traceback
            print([f.name for f in traceback.extract_tb(error.__traceback__)])
        raise SystemExit(3)
    """
    program.start(text)
    with_agent = program.ends()
    beat = program.pulse()
    program.start(text, HOLDFAST_AGENT="0")
    without = program.ends()

    assert with_agent[0] == 3
    assert [line for line in with_agent[1].splitlines() if "MainThread" not in line] == [
        line for line in without[1].splitlines() if "MainThread" not in line
    ]
    assert with_agent[1].startswith("[] 1 [<_MainThread")
    assert "'factory': None, 'names': ['Task-1', 'mine']" in with_agent[1]
    assert with_agent[2] == ""
    assert beat is not None
    # It may end before the next beat, and asyncio.run makes up to two tasks of its own at its end.
    assert beat.tasks_created in (0, 2, 3, 4)


def test_its_own_sitecustomize_runs_as_ever(program: Program, tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.mkdir()
    (own / "sitecustomize.py").write_text("import builtins\nbuiltins.was_here = __file__\n")

    program.start(
        "print(was_here)\nimport sitecustomize; print(sitecustomize.__file__)",
        PYTHONPATH=f"{BOOT}:{own}",
    )

    assert program.ends() == (0, f"{own}/sitecustomize.py\n" * 2, "")


def test_a_fork_leaves_the_pulse_to_its_parent(program: Program) -> None:
    program.start("""
        import asyncio, os, sys, warnings
        warnings.simplefilter("ignore")
        async def nothing(): pass
        async def many():
            for _ in range(5000): await asyncio.create_task(nothing())
        pid = os.fork()
        if not pid:
            asyncio.run(many())
            os._exit(0)
        os.waitpid(pid, 0)
        print("done")
        sys.stdin.readline()
    """)
    assert program.read_line() == "done"

    now_ns = time.monotonic_ns()
    program.wait(lambda beat: beat.thread_beat_ns > now_ns + 2e8, "beats of the parent")

    beat = program.pulse()
    assert beat is not None
    assert beat.pid == program.process.pid  # type: ignore[union-attr]
    assert beat.tasks_created == 0


def test_an_interpreter_that_takes_seconds_to_end_says_that_it_does(program: Program) -> None:
    """Seen: a program that had 500 MB of small things to free was "frozen", and nothing was wrong with it."""
    program.start("""
        import atexit, os

        def wait(word, read=os.read, write=os.write):
            write(1, word)
            read(0, 2)

        class Kept:
            def __del__(self, wait=wait):
                wait(b"freed\\n")

        atexit.register(wait, b"its own end\\n")
        kept = Kept()
    """)  # fmt: skip

    assert program.read_line() == "its own end"
    assert (
        program.wait(lambda beat: beat, "the pulse").stopping == 0
    )  # that may hang as anything may
    program.go()
    assert program.read_line() == "freed"
    assert program.wait(lambda beat: beat, "the pulse").stopping == 1
    program.go()
    assert program.ends()[0] == 0


def test_a_second_python_of_the_same_life_leaves_the_pulse_alone_and_takes_it_over_later(program: Program) -> None:  # fmt: skip
    """`sh -c "migrate && serve"` is one worker; the watchdog keeps the file open."""
    program.start("""
        import subprocess, sys
        print(subprocess.check_output([sys.executable, "-c", "print('child')"], text=True).strip())
        sys.stdin.readline()
    """)
    assert program.read_line() == "child"
    first = program.pulse()
    assert first is not None
    assert first.pid == program.process.pid  # type: ignore[union-attr]
    inode = program.path.stat().st_ino
    program.close()

    program.start("import sys; sys.stdin.readline()")

    assert program.wait(lambda beat: beat.pid == program.process.pid, "the second one")  # type: ignore[union-attr]
    assert program.path.stat().st_ino == inode


def test_a_pulse_that_cannot_be_made_costs_a_line_and_nothing_else(program: Program, tmp_path: Path) -> None:  # fmt: skip
    program.start("print('runs')", HOLDFAST_PULSE=str(tmp_path / "nowhere/pulse"))

    code, out, err = program.ends()

    assert (code, out) == (0, "runs\n")
    assert (
        err == f"holdfast agent: no pulse at {tmp_path}/nowhere/pulse: No such file or directory\n"
    )


def test_it_can_be_switched_off(program: Program) -> None:
    program.start(
        "import asyncio; print(asyncio.base_events.BaseEventLoop.create_task.__module__)",
        HOLDFAST_AGENT="0",
    )

    assert program.ends() == (0, "asyncio.base_events\n", "")
    assert program.pulse() is None


# -- routes ------------------------------------------------------------------------------------------


def test_requests_of_a_wsgi_program_are_counted_by_route(program: Program) -> None:
    program.start("""
        import threading, time, urllib.request
        from wsgiref.simple_server import make_server, WSGIRequestHandler

        def app(environ, start_response):
            if environ["PATH_INFO"].startswith("/slow"):
                end = time.thread_time() + 0.05
                while time.thread_time() < end: pass
            start_response("200 OK", [])
            return [b"x"]

        WSGIRequestHandler.log_message = lambda *a: None
        server = make_server("127.0.0.1", 0, app)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        for path in ("/users/17", "/users/18", "/slow", "/slow", "/users/9f8e7d6c-1111-2222-3333-444455556666"):
            urllib.request.urlopen(f"http://127.0.0.1:{server.server_port}{path}").read()
        print("asked")
        input()
    """)
    assert program.read_line() == "asked"

    beat = program.wait(lambda b: b if b.work_done == 5 else None, "five requests")

    rows = {name: (count, latency, cpu) for name, count, latency, cpu in beat.routes}
    assert rows["GET /users/{}"][0] == 3
    assert rows["GET /slow"][0] == 2
    assert rows["GET /slow"][1] >= 1e8
    assert rows["GET /slow"][2] >= 1e8
    assert beat.latency_sum_ns == sum(latency for _, latency, _ in rows.values())


def test_threads_that_wait_for_each_others_locks_are_counted(program: Program) -> None:
    """No loop beats in such a program, and it uses no processor: from outside it looks like one that rests."""
    program.start("""
        import threading, time, queue
        left, right = threading.Lock(), threading.Lock()

        def one():
            with left:
                time.sleep(0.2)
                with right:
                    pass

        def other():
            right.acquire()
            time.sleep(0.2)
            left.acquire()

        rests = [threading.Thread(target=rest, daemon=True) for rest in (
            queue.Queue().get, queue.SimpleQueue().get, threading.Event().wait, lambda: threading.Lock().acquire(timeout=-1) and time.sleep(99),
        )]
        stands = [threading.Thread(target=f) for f in (one, other)]
        for thread in rests + stands: thread.start()
        for thread in stands: thread.join()
    """)
    stuck = program.wait(
        lambda beat: beat.stuck_threads == 2 and beat.stuck_ns > 3_000_000_000 and beat,
        "two that stand",
    )
    assert stuck.threads >= 7


def test_a_lock_that_comes_free_is_forgotten(program: Program) -> None:
    program.start("""
        import threading, sys
        lock = threading.RLock()
        lock.acquire()
        def waits():
            with lock:
                print("through", flush=True)
                threading.Event().wait()
        threading.Thread(target=waits, daemon=True).start()
        sys.stdin.readline()
        lock.release()
        threading.Event().wait()
    """)
    program.wait(lambda beat: beat.stuck_threads == 1, "the one that waits")
    program.go()
    assert program.read_line() == "through"
    program.wait(lambda beat: beat.stuck_threads == 0, "nobody to wait")
