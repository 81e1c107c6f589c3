"""A real container process, started without a keeper, and what can be seen of it from outside."""

import json
import os
import re
import select
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from container.hosting import SLOWNESS, SOURCE, Container, wait_for
from holdfast.config.load import load_plan
from holdfast.wire import pulse as wire

BOARD = """
from holdfast.sdk import Component, progress
app = Component()

@app.on_start
async def begin():
    app.log.info("begins", limit=app.settings["limit"])

@app.every(0.05)
async def tick():
    app.work()
    progress("tick")
"""

# -- a healthy life --------------------------------------------------------------------------------


BOMB = """
from holdfast.sdk import Component
app = Component()

def fan_out():
    for _ in range(20000):
        asyncio.ensure_future(asyncio.sleep(60))

@app.every(0.1)
async def tick():
    app.work()
    if os.path.exists(app.settings["go"]):
        fan_out()
        time.sleep(60)
"""


def test_a_bomb_in_a_component_leaves_its_line_and_its_timer(container: Container) -> None:
    container.write("board.py", BOMB)
    container.host("board", "board:app", go=str(container.root / "go"))
    container.start_ready()
    wait_for(lambda: container.pulse().work_done >= 3, "work")  # type: ignore[union-attr]
    (container.root / "go").touch()

    def named() -> Any:
        made = container.pulse().sites.get("tasks")  # type: ignore[union-attr]
        return made[0] if made and made[0][0] == 20000 else None

    count, live, where, creators = wait_for(named, "the line of the bomb")

    assert (count, live) == (20000, 20000)
    assert where.endswith("board.py:8 in fan_out")
    assert creators
    routes = {route[0]: route[1] for route in container.pulse().routes}  # type: ignore[union-attr]
    assert routes["timer board.tick"] >= 3
    blocked = wait_for(lambda: container.pulse().sites.get("blocked"), "where it is blocked")  # type: ignore[union-attr]
    assert any("board.py:15 in tick" in frame for _, frames in blocked for frame in frames)


def test_without_the_agent_a_container_only_beats(container: Container) -> None:
    container.write("board.py", BOMB)
    container.host("board", "board:app", go=str(container.root / "go"))
    container.start_ready(HOLDFAST_AGENT="0")

    beat = wait_for(lambda: (p := container.pulse()) and p.work_done >= 1 and p, "work")

    assert beat.tasks_created == 0
    assert beat.sites.get("tasks", []) == []


def test_a_component_starts_beats_and_counts(container: Container) -> None:
    container.write("board.py", BOARD)
    container.host("board", "board:app", limit=7)
    container.start_ready()

    first = container.pulse()
    assert first is not None
    assert (first.pid, first.start) == (container.process.pid, 1)
    wait_for(lambda: container.pulse().work_done >= 3, "work")  # type: ignore[union-attr]
    later = wait_for(
        lambda: (
            (p := container.pulse())
            and p.loop_beat_ns > first.loop_beat_ns
            and p.thread_beat_ns > first.thread_beat_ns
            and p
        ),
        "both beats",
    )
    assert later.tasks >= 1
    assert later.threads >= 2
    assert "level=info component=board begins limit=7" in container.stdout().splitlines()
    assert "board: tick" in container.events()
    comm = Path(f"/proc/{container.process.pid}/comm").read_text().strip()
    assert comm == "hf-backend"
    assert container.stderr() == ""


def test_plain_functions_run_in_one_thread_off_the_loop(container: Container) -> None:
    """sqlite3 connections belong to the thread that made them; hooks and timers share it."""
    container.write(
        "store.py",
        """
import sqlite3
from holdfast.sdk import Component
app = Component()
state = {}

@app.on_start
def begin():
    state["db"] = sqlite3.connect(":memory:")

@app.every(0.02)
def look():
    assert threading.current_thread() is not threading.main_thread()
    state["db"].execute("select 1").fetchone()
    app.work()
""",
    )
    container.host("store", "store:app")
    container.start_ready()
    wait_for(lambda: container.pulse().work_done >= 3, "work")  # type: ignore[union-attr]


@pytest.mark.parametrize("attribute", ["plain", "coroutine", "Class", "instance"])
def test_plain_callables_are_components_too(container: Container, attribute: str) -> None:
    container.write(
        "simple.py",
        """
def plain(): print("ran in", threading.current_thread() is threading.main_thread())
async def coroutine(): print("ran in", threading.current_thread() is threading.main_thread())
class Class:
    def run(self): plain()
instance = Class()
""",
    )
    container.host("simple", f"simple:{attribute}")
    container.start_ready()

    on_loop = attribute == "coroutine"
    wait_for(lambda: f"ran in {on_loop}\n" in container.stdout(), "its line")
    assert container.process.poll() is None  # ending is fine


def test_sigterm_lets_components_say_goodbye_in_reverse_order(container: Container) -> None:
    for name in ("one", "two"):
        container.write(
            f"{name}.py",
            "from holdfast.sdk import Component\napp = Component()\n"
            "@app.on_stop\ndef bye(): app.log.info('bye')\n"
            "@app.task\nasync def serve(): await asyncio.sleep(1e6)\n",
        )
        container.host(name, f"{name}:app")
    container.start_ready()

    container.process.send_signal(signal.SIGTERM)

    assert container.wait_exit() == 0
    assert [line.split()[1] for line in container.stdout().splitlines()] == [
        "component=two",
        "component=one",
    ]
    assert container.pulse().stopping == 1  # type: ignore[union-attr]


def test_a_socket_held_outside_is_served(container: Container) -> None:
    container.write(
        "echo.py",
        """
from holdfast.sdk import Component, serve
os.environ.pop("LISTEN_FDS", None)  # as Twisted does while it is imported
app = Component()

async def echo(reader, writer):
    line = await reader.readline()
    if line == b"fail\\n":
        raise ValueError("no such card")
    writer.write(line)
    await writer.drain()

@app.on_start
async def begin():
    await serve(echo, "web")
""",
    )
    container.host("echo", "echo:app")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        # The descriptor has to be number 3, as the protocol has it: a shell puts it there.
        container.env = {"LISTEN_FDS": "1", "LISTEN_FDNAMES": "web"}
        start_with_descriptor_3(container, listener.fileno())
        container.wait_ready()

        def talk(line: bytes) -> bytes:
            address = listener.getsockname()
            with socket.create_connection(address, timeout=20 * SLOWNESS) as client:
                client.sendall(line)
                return client.recv(100)

        assert talk(b"hello\n") == b"hello\n"
        assert talk(b"fail\n") == b""
        assert talk(b"again\n") == b"again\n"
        assert container.ask(do="restart", component="echo")["ok"]
        assert talk(b"anew\n") == b"anew\n"
    assert "ValueError: no such card" in container.stderr()


def start_with_descriptor_3(container: Container, descriptor: int) -> None:
    keep = None
    try:
        keep = os.dup(3)
    except OSError:
        pass
    inheritable = os.get_inheritable(3) if keep is not None else False
    if descriptor != 3:
        os.dup2(descriptor, 3)
    try:
        container.start(pass_fds=(3,))
    finally:
        if keep is not None:
            os.dup2(keep, 3, inheritable=inheritable)
            os.close(keep)
        elif descriptor != 3:
            os.close(3)


def test_a_component_that_is_busy_in_a_thread_is_named_and_an_idle_one_is_not(
    container: Container,
) -> None:
    """Killed from outside while it did nothing, a process is no component's fault."""
    container.write("board.py", BOARD)
    container.write(
        "audit.py",
        "from holdfast.sdk import Component\napp = Component()\n"
        "@app.every(0.01)\ndef works():\n"
        "    while not os.path.exists(app.settings['until']): time.sleep(0.01)\n"
        "@app.every(0.01)\nasync def waits(): await asyncio.sleep(1e6)\n",
    )
    container.host("audit", "audit:app", until=str(container.root / "until"))
    container.start_ready()
    wait_for(lambda: container.pulse().note == "component=audit", "its name")  # type: ignore[union-attr]

    (container.root / "until").touch()

    wait_for(lambda: container.pulse().note == "", "nobody's name")  # type: ignore[union-attr]


# -- crashes ---------------------------------------------------------------------------------------

CRASHES = {
    "start": "@app.on_start\nasync def f(): raise ValueError('no such card')\n",
    "plain start": "@app.on_start\ndef f(): raise ValueError('no such card')\n",
    "timer": "@app.every(0.01)\nasync def f(): raise ValueError('no such card')\n",
    "plain timer": "@app.every(0.01)\ndef f(): raise ValueError('no such card')\n",
    "task": "@app.task\nasync def f(): raise ValueError('no such card')\n",
    "plain task": "@app.task\ndef f(): raise ValueError('no such card')\n",
    "import": "raise ValueError('no such card')\n",
}


@pytest.mark.parametrize("where", CRASHES)
def test_an_exception_is_a_crash_that_names_its_component(container: Container, where: str) -> None:
    container.write("board.py", BOARD)
    container.write(
        "bad.py", "from holdfast.sdk import Component\napp = Component()\n" + CRASHES[where]
    )
    container.host("board", "board:app", limit=1)
    container.host("bad", "bad:app")
    container.start()

    assert container.wait_exit() == 70
    lines = container.stderr().splitlines()
    assert lines[0] == 'holdfast: component "bad" crashed: ValueError: no such card'
    assert lines[1] == "Traceback (most recent call last):"
    assert "bad.py" in lines[2]  # the first frame is the author's
    assert lines[-1] == "ValueError: no such card"
    assert container.pulse().note == "crash component=bad ValueError: no such card"  # type: ignore[union-attr]


def test_a_run_past_its_timeout_is_a_crash_that_shows_where_it_waited(container: Container) -> None:
    container.write(
        "slow.py",
        "from holdfast.sdk import Component\napp = Component()\n"
        "@app.every(0.01, timeout=0.1)\nasync def ask():\n    await asyncio.sleep(1e6)  # the answer\n",
    )
    container.host("slow", "slow:app")
    container.start()

    assert container.wait_exit() == 70
    assert "TimeoutError: ask took longer than 0.1 s" in container.stderr().splitlines()[0]
    assert "# the answer" in container.stderr()


def test_a_call_declared_long_is_neither_late_nor_a_hang(container: Container) -> None:
    container.write(
        "slow.py",
        """
from holdfast.sdk import Component
app = Component()

@app.every(0.01, timeout=0.2)
async def ask():
    with app.expect_long(at_most=60):
        await asyncio.sleep(0.5)
    app.work()

@app.every(0.01, timeout=0.2)
def plain():
    if app.settings["declared"]:
        with app.expect_long(): time.sleep(1e6)
    time.sleep(1e6)
""",
    )
    container.host("slow", "slow:app", declared=True)
    container.start_ready()
    wait_for(lambda: container.pulse().work_done >= 2, "long runs")  # type: ignore[union-attr]
    assert container.pulse().oldest_call_ns == 0  # type: ignore[union-attr]

    container.kill_all()
    container.components[0]["settings"]["declared"] = False
    before_ns = time.monotonic_ns()
    container.start_ready(n=2)
    since_ns = wait_for(lambda: container.pulse().oldest_call_ns, "the late call")  # type: ignore[union-attr]
    assert before_ns < since_ns < time.monotonic_ns()


def test_sys_exit_is_obeyed_and_said(container: Container) -> None:
    container.write("quits.py", "async def main(): sys.exit(3)\n")
    container.host("quits", "quits:main")
    container.start()

    assert container.wait_exit() == 3
    assert 'component "quits" ended the process: sys.exit(3)' in container.stderr()


def test_one_definition_can_be_hosted_under_two_names(container: Container) -> None:
    container.write("board.py", BOARD.replace("0.05", "60"))
    container.host("left", "board:app", limit=1)
    container.host("right", "board:app", limit=2)
    container.start_ready()

    assert container.ask(do="restart", component="right")["ok"]

    assert container.stdout().splitlines() == [
        "level=info component=left begins limit=1",
        "level=info component=right begins limit=2",
        "level=info component=right begins limit=2",
    ]
    states = {c["name"]: c["state"] for c in container.ask(do="components")["components"]}
    assert states == {"left": "running", "right": "running"}


def test_a_function_that_does_not_end_keeps_its_component_from_restarting(
    container: Container,
) -> None:
    container.write(
        "stuck.py",
        "from holdfast.sdk import Component\napp = Component()\n"
        "@app.task\ndef loops():\n    print('in it', flush=True)\n    time.sleep(1e6)\n",
    )
    container.host("stuck", "stuck:app")
    container.start_ready()
    wait_for(lambda: "in it" in container.stdout(), "the task")

    answer = container.ask(do="restart", component="stuck")

    assert not answer["ok"]
    assert "loops still runs" in answer["error"]
    assert "restart the whole worker" in answer["error"]


def test_an_error_in_a_background_task_is_told_and_nobodys_crash(container: Container) -> None:
    container.write(
        "board.py",
        BOARD + "\n@app.every(0.02)\nasync def forgets():\n"
        "    async def fails(): raise ValueError('forgotten')\n"
        "    asyncio.create_task(fails())\n",
    )
    container.host("board", "board:app", limit=1)
    container.start_ready()

    wait_for(lambda: "ValueError: forgotten" in container.stderr(), "the error")
    assert "component" in container.stderr().splitlines()[0]
    assert container.process.poll() is None


# -- wrong configuration -----------------------------------------------------------------------------

MISTAKES = {
    "clandeck.bord:app": 'there is no module "clandeck.bord" (use = "clandeck.bord:app"). Did you mean "clandeck.board"?',
    "clandek.board:app": 'there is no module "clandek" (use = "clandek.board:app"). Did you mean "clandeck"?',
    "clandeck.board:ap": 'there is no "ap" in clandeck.board (use = "clandeck.board:ap"). Did you mean "app"?',
    "clandeck.board:LIMIT": '"clandeck.board:LIMIT" is an int; it has to be a Component, a function, or a class '
    'with a run method. Did you mean "clandeck.board:app"?',
    "clandeck.board:Card": '"clandeck.board:Card" is a class without a run method; it has to be a Component, '
    "a function, or a class with a run method",
    "clandeck.board:move": "\"clandeck.board:move\" needs arguments (missing a required argument: 'card'); "
    "it is called without any",
    "clandeck.board": 'use = "clandeck.board" has to look like "package.module:attribute"',
    "clandeck:board": '"clandeck:board" is a module; it has to be a Component, a function, or a class with a run '
    'method. Did you mean "clandeck.board:app"?',
}


@pytest.mark.parametrize("use", MISTAKES)
def test_a_wrong_use_is_one_line_and_no_traceback(container: Container, use: str) -> None:
    container.write("clandeck/__init__.py", "from clandeck import board\n")
    container.write(
        "clandeck/board.py", BOARD + "\nLIMIT = 3\nclass Card: pass\ndef move(card): pass\n"
    )
    container.host("board", use)
    container.start()

    assert container.wait_exit() == 78
    assert container.stderr() == f'holdfast: component "board": {MISTAKES[use]}\n'


def test_a_module_that_misses_another_one_shows_its_own_traceback(container: Container) -> None:
    container.write("board.py", "import a_driver_that_is_missing\n")
    container.host("board", "board:app")
    container.start()

    assert container.wait_exit() == 70
    assert "a_driver_that_is_missing" in container.stderr()
    assert 'board.py", line 2' in container.stderr().splitlines()[2]


def test_a_missing_environment_or_plan_is_said(container: Container) -> None:
    container.start(HOLDFAST_WORKER="backnd")
    assert container.wait_exit() == 78
    assert 'there is no worker "backnd" in the plan' in container.stderr()

    container.start(n=2, HOLDFAST_RUN=str(container.root / "nowhere"))
    assert container.wait_exit() == 78
    assert "cannot read the plan" in container.stderr()


def test_no_room_for_the_pulse_is_said(container: Container) -> None:
    container.start(HOLDFAST_PULSE=str(container.root / "nowhere/backend"))
    assert container.wait_exit() == 74
    assert "cannot make the pulse file" in container.stderr()


def test_a_full_memory_file_system_is_an_error_and_not_a_sigbus(container: Container) -> None:
    """A limit on file sizes stands in for the full tmpfs: both fail when the space is allocated."""
    container.write("board.py", BOARD)
    container.host("board", "board:app", limit=1)
    container.start_ready()  # makes the bytecode, so that the second start writes nothing else
    container.kill_all()
    container.wrapper = ["sh", "-c", 'ulimit -f 8; exec "$@"', "sh"]

    container.start(n=2)

    assert container.wait_exit() == 74
    assert "cannot make the pulse file" in container.stderr()
    assert container.pulse().start == 1  # type: ignore[union-attr]  # the old one is untouched


def test_killed_at_any_instant_of_its_start_it_starts_again(container: Container) -> None:
    container.write("board.py", BOARD)
    container.host("board", "board:app", limit=1)
    for n in range(1, 13):
        container.start(n)
        with pytest.raises(subprocess.TimeoutExpired):
            container.process.wait(timeout=0.012 * n)  # the instant is what is varied
        container.process.kill()
        container.process.wait()
    container.start_ready(n=99)


# -- hangs, seen from outside --------------------------------------------------------------------------

STALE_S = 1.0

#: Fault -> (does the thread still beat, does the loop, state of the process), with any state as "".
HANGS = {
    "block_loop": (True, False, "S"),
    "deadlock": (True, False, "S"),
    "busy_loop": (True, False, "R"),
    "hold_gil": (False, False, "R"),
    "SIGSTOP": (False, False, "T"),
    "leak": (True, True, ""),
}


@pytest.mark.parametrize("fault", HANGS)
def test_the_beats_tell_the_hangs_apart(container: Container, fault: str) -> None:
    """gunicorn sees four of these, uvicorn one; none says which."""
    container.write("board.py", BOARD)
    container.write("other.py", BOARD)
    container.host("other", "other:app", limit=1)
    container.host("board", "board:app", limit=1)
    container.start_ready()
    thread_beats, loop_beats, state = HANGS[fault]

    if fault == "SIGSTOP":
        container.process.send_signal(signal.SIGSTOP)
    else:
        assert container.ask(do="fault", name=fault, component="board")["ok"]

    def looks_like_it() -> bool:
        now_ns = time.monotonic_ns()
        pulse = container.pulse()
        assert pulse is not None
        thread_is_fresh = now_ns - pulse.thread_beat_ns < STALE_S * 1e9
        loop_is_fresh = now_ns - pulse.loop_beat_ns < STALE_S * 1e9
        stat = Path(f"/proc/{container.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (
            thread_is_fresh == thread_beats
            and loop_is_fresh == loop_beats
            and (not state or stat[0] == state)
        )

    wait_for(looks_like_it, f"the picture of {fault}")
    if not loop_beats and fault != "SIGSTOP":
        assert container.pulse().note == "component=board"  # type: ignore[union-attr]
    if thread_beats and not loop_beats:
        found = container.ask(do="stacks")["stacks"]
        assert f"in {fault}" in found
        assert "component" in str(container.ask(do="components"))
    if fault == "leak":

        def rss() -> int:
            statm = Path(f"/proc/{container.process.pid}/statm").read_text()
            return int(statm.split()[1]) * os.sysconf("SC_PAGE_SIZE")

        wait_for(lambda: rss() > 100e6, "100 MB")


def test_a_held_gil_still_gives_its_stack_to_a_signal(container: Container) -> None:
    container.write("board.py", BOARD)
    container.host("board", "board:app", limit=1)
    container.start_ready()
    assert container.ask(do="fault", name="hold_gil")["ok"]
    wait_for(
        lambda: time.monotonic_ns() - container.pulse().thread_beat_ns > 1e9,  # type: ignore[union-attr]
        "a held GIL",
    )

    container.process.send_signal(signal.SIGUSR1)

    wait_for(lambda: "in hold_gil" in container.stderr(), "the stacks of all threads")
    assert container.process.poll() is None


DEATHS = {"segfault": -signal.SIGSEGV, "exception": 70, "exit": 3}


@pytest.mark.parametrize("fault", DEATHS)
def test_faults_that_kill_name_the_component(container: Container, fault: str) -> None:
    container.write("board.py", BOARD)
    container.write("other.py", BOARD)
    container.host("other", "other:app", limit=1)
    container.host("board", "board:app", limit=1)
    container.start_ready()

    assert container.ask(do="fault", name=fault, component="board")["ok"]

    assert container.wait_exit() == DEATHS[fault]
    assert "component=board" in container.pulse().note  # type: ignore[union-attr]
    if fault == "segfault":
        assert "Fatal Python error: Segmentation fault" in container.stderr()
        assert re.search(r"ctypes/__init__.py.* in string_at", container.stderr())


def test_faults_are_refused_on_a_node_without_drills(container: Container) -> None:
    container.drills = False
    container.write("board.py", BOARD)
    container.host("board", "board:app", limit=1)
    container.start_ready()

    answer = container.ask(do="fault", name="exit")

    assert not answer["ok"]
    assert "drills" in answer["error"]
    assert container.process.poll() is None


def test_a_blocked_loop_that_was_declared_long_keeps_beating(container: Container) -> None:
    container.write(
        "board.py",
        BOARD + "\n@app.task\nasync def long():\n    await asyncio.sleep(0.2)\n"
        "    with app.expect_long(at_most=1e6):\n        print('long', flush=True)\n        time.sleep(1e6)\n",
    )
    container.host("board", "board:app", limit=1)
    container.start_ready()
    wait_for(lambda: "long" in container.stdout(), "the long call")
    work_done = container.fresh().work_done
    begun_ns = time.monotonic_ns()

    wait_for(lambda: container.pulse().loop_beat_ns > begun_ns + 1e9, "beats of the loop")  # type: ignore[union-attr]
    assert container.fresh().work_done == work_done  # blocked it is


# -- micro-reboot ----------------------------------------------------------------------------------


def test_restart_of_a_component_takes_its_changed_code_and_leaves_the_others(
    container: Container,
) -> None:
    """Two edits within a second and of one size: the cached bytecode must not win."""
    program = """
from clandeck import rules
from holdfast.sdk import Component
app = Component()
born = time.monotonic_ns()

@app.on_start
async def begin():
    app.log.info("begins", version=VERSION, rules=rules.VERSION, born=born)
    async def own(): await asyncio.sleep(1e6)
    app.kept = asyncio.create_task(own())

@app.on_stop
def end():
    app.log.info("ends", cancelled=app.kept.cancelled())
"""
    container.write("clandeck/__init__.py", "")
    container.write("clandeck/rules.py", "VERSION = 1\n")
    container.write("clandeck/board.py", program + "VERSION = 1\n")
    container.write("clandeck/audit.py", program + "VERSION = 1\n")
    container.host("board", "clandeck.board:app")
    container.host("audit", "clandeck.audit:app")
    container.start_ready()
    container.write("clandeck/rules.py", "VERSION = 2\n")
    container.write("clandeck/board.py", program + "VERSION = 2\n")

    answer = container.ask(do="restart", component="board")

    assert answer["ok"], answer
    assert answer["reimported"] == ["clandeck.board", "clandeck.rules"]
    lines = container.stdout().splitlines()
    assert "component=board ends cancelled=true" in lines[2]
    assert re.search(r"component=board begins version=2 rules=2", lines[3])
    assert len(lines) == 4  # nothing happened to audit
    states = {c["name"]: c for c in container.ask(do="components")["components"]}
    assert states["board"]["state"] == states["audit"]["state"] == "running"
    assert (states["board"]["restarts"], states["audit"]["restarts"]) == (1, 0)


def test_code_that_cannot_be_imported_leaves_the_running_component_alone(
    container: Container,
) -> None:
    container.write("board.py", BOARD)
    container.host("board", "board:app", limit=1)
    container.start_ready()
    container.write("board.py", BOARD + "\ndef broken(:\n")

    answer = container.ask(do="restart", component="board")

    assert not answer["ok"]
    assert "SyntaxError" in answer["error"]
    before = container.pulse().work_done  # type: ignore[union-attr]
    wait_for(lambda: container.pulse().work_done > before, "work of the old one")  # type: ignore[union-attr]
    container.write("board.py", BOARD)
    assert container.ask(do="restart", component="board")["ok"]


def test_stop_and_start_of_a_component(container: Container) -> None:
    container.write("board.py", BOARD)
    container.host("board", "board:app", limit=1)
    container.start_ready()

    assert container.ask(do="stop", component="board")["state"] == "stopped"
    resting = container.fresh().work_done
    assert container.fresh(after_s=0.3).work_done == resting
    assert container.ask(do="start", component="board")["state"] == "running"
    wait_for(lambda: container.pulse().work_done > resting, "work")  # type: ignore[union-attr]
    wrong = container.ask(do="stop", component="bord")
    assert not wrong["ok"]
    assert "board" in wrong["error"]


def test_requests_that_make_no_sense_are_answered(container: Container) -> None:
    container.write("board.py", BOARD)
    container.host("board", "board:app", limit=1)
    container.start_ready()

    for line in (b"hello\n", b"[]\n", b"{}\n", b'{"do": 7}\n', b'{"do": "stop"}\n', b"\xff\n"):
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(20 * SLOWNESS)
            client.connect(str(container.run_dir / "ctl/backend.sock"))
            client.sendall(line)
            client.shutdown(socket.SHUT_WR)
            answer = json.loads(b"".join(iter(lambda: client.recv(4096), b"")))
            assert answer["ok"] is False
            assert answer["error"]
    assert container.ask(do="components")["ok"]


def test_a_health_check_that_says_no_is_reported(container: Container) -> None:
    container.write(
        "board.py",
        BOARD + "\n@app.health\ndef disk():\n    raise OSError('no room for cards')\n",
    )
    container.host("board", "board:app", limit=1)
    container.start_ready()

    state = wait_for(
        lambda: (c := container.ask(do="components")["components"][0])["healthy"] is False and c,
        "its opinion",
    )
    assert state["says"] == "OSError: no room for cards"
    assert 'level=warning component=board unhealthy says="OSError: no room' in container.stdout()
    assert container.process.poll() is None


# -- spare, lives ----------------------------------------------------------------------------------


def test_a_spare_waits_and_serves_at_the_go(container: Container) -> None:
    container.write(
        "web.py",
        """
import decimal
from holdfast.sdk import Component
app = Component()

@app.on_start
async def begin():
    async def answer(reader, writer):
        writer.write(b"served"); writer.close()
    await asyncio.start_server(answer, "127.0.0.1", app.settings["port"])
""",
    )
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    container.host("web", "web:app", port=port)
    container.start_ready(n=1)
    active = container.process
    took_ms = []
    for n in range(2, 7):
        reader, writer = os.pipe()
        container.start(
            n, (reader,), HOLDFAST_GO=str(reader), HOLDFAST_ROLE="spare",
            HOLDFAST_PULSE=str(container.run_dir / "pulse/backend.spare"),
        )  # fmt: skip
        os.close(reader)
        wait_for(lambda: (p := container.pulse(".spare")) and p.note == "spare", "the spare")
        assert container.pulse(".spare").ready == 0  # type: ignore[union-attr]
        active.kill()
        active.wait()

        went_s = time.perf_counter()
        os.write(writer, b"g")
        while True:
            with socket.socket() as client:
                if client.connect_ex(("127.0.0.1", port)) == 0 and client.recv(10) == b"served":
                    break
            assert time.perf_counter() - went_s < 20 * SLOWNESS
        took_ms.append((time.perf_counter() - went_s) * 1e3)
        os.close(writer)
        container.wait_ready(n)
        assert not container.pulse_bytes(".spare")
        assert container.pulse(".last").start == n - 1  # type: ignore[union-attr]
        active = container.process
    print("go to first answer, ms:", ", ".join(f"{ms:.1f}" for ms in sorted(took_ms)))
    assert min(took_ms) < 100 * SLOWNESS


def test_a_spare_that_is_not_needed_ends(container: Container) -> None:
    container.write("board.py", BOARD)
    container.host("board", "board:app", limit=1)
    reader, writer = os.pipe()
    container.start(1, (reader,), HOLDFAST_GO=str(reader), HOLDFAST_ROLE="spare")
    os.close(reader)
    wait_for(lambda: (p := container.pulse(".spare")) and p.note == "spare", "the spare")

    os.close(writer)

    assert container.wait_exit() == 0
    assert container.stdout() == ""


def test_the_last_events_outlive_sigkill_and_the_next_life(container: Container) -> None:
    container.write("board.py", BOARD)
    container.host("board", "board:app", limit=1)
    container.start_ready()
    wait_for(lambda: "board: tick" in container.events(), "an event")
    container.process.kill()
    container.process.wait()

    assert "board: tick" in container.events()
    container.start_ready(n=2)
    last = wire.decode_events(container.pulse_bytes(".last"))
    assert "board: tick" in [text for _, text in last]
    assert container.pulse(".last").start == 1  # type: ignore[union-attr]


def test_an_idle_container_costs_next_to_nothing(container: Container) -> None:
    """The agent's budget is 0.5 % of a core."""
    container.write("idle.py", "async def main(): await asyncio.sleep(1e6)\n")
    container.host("idle", "idle:main")
    container.start_ready()

    def cpu_of_all_s() -> float:
        tasks = Path(f"/proc/{container.process.pid}/task").iterdir()
        return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9

    begun_s, begun_cpu_s = time.monotonic(), cpu_of_all_s()
    select.select([], [], [], 2.0)  # what is measured is the passing of time itself
    share = (cpu_of_all_s() - begun_cpu_s) / (time.monotonic() - begun_s)
    print(f"idle: {share:.2%} of a core")
    assert share < 0.02 * SLOWNESS


# -- the example site ------------------------------------------------------------------------------

CLANDECK = SOURCE.parent / "examples" / "clandeck"


def test_the_two_placements_differ_in_nothing_else() -> None:
    all_in_one, split = (
        load_plan(str(CLANDECK / f"{name}.toml"), dict(os.environ))
        for name in ("allinone", "split")
    )

    def components(plan: Any) -> dict[str, Any]:
        return {c["name"]: c for worker in plan["workers"] for c in worker["components"]}

    def alike(plan: Any) -> list[dict[str, Any]]:
        """Everything about the workers but their names and what lives in them."""
        own = ("name", "components", "log")
        return [{k: v for k, v in w.items() if k not in own} for w in plan["workers"]]

    assert components(all_in_one) == components(split)
    assert len(components(split)) == 7  # six of the site, and the router
    assert sorted(len(w["components"]) for w in all_in_one["workers"]) == [0, 1, 6]
    assert sorted(len(w["components"]) for w in split["workers"]) == [0, 1, 1, 1, 1, 1, 1, 1]
    assert all(kept in alike(all_in_one) for kept in alike(split))
    assert all_in_one["drills"] is split["drills"] is True


def test_the_stand_in_for_redis_speaks_its_protocol() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, str(CLANDECK / "cache.py"), str(port)], stdout=subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        assert b"listens" in process.stdout.readline()
        with socket.create_connection(("127.0.0.1", port), timeout=20 * SLOWNESS) as client:
            client.sendall(b"PING\r\nSET a 1\r\nINCR a\r\nGET a\r\nGET b\r\nDEL a\r\nNO\r\n")
            client.shutdown(socket.SHUT_WR)
            replies = b"".join(iter(lambda: client.recv(4096), b""))
        assert replies == b"+PONG\r\n+OK\r\n:2\r\n$1\r\n2\r\n$-1\r\n:1\r\n-ERR unknown command\r\n"
    finally:
        process.kill()
        process.communicate()
