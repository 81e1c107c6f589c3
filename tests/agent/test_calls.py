"""What the agent sees of programs in which nobody counts work: one long call, tasks that wait for each other, a child that died."""

from __future__ import annotations

import asyncio
import difflib
import threading
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from holdfast.agent import children
from holdfast.agent.calls import Calls
from holdfast.agent.tasktree import tree
from holdfast.evidence.collectors.tasks import as_text
from node import SLOWNESS, wait_for

if TYPE_CHECKING:
    from collections.abc import Callable


def looked_at(run: Callable[[], None], until: Callable[[Calls], bool], looks_s: float) -> bool:
    """Let a thread run, and look at it as at the main thread of a program, every twentieth second."""
    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    assert thread.ident is not None
    calls, until_s = Calls(thread.ident), time.monotonic() + looks_s
    while time.monotonic() < until_s and thread.is_alive():
        if until(calls):
            return True
        time.sleep(0.05)
    return False


def test_one_call_into_a_library_that_does_not_end_is_work_under_way() -> None:
    """A quadratic parser in a program without a loop: there is nothing else that anybody could count."""

    def program() -> None:
        # Some seconds, in Python code of the library, and then it is over.
        difflib.SequenceMatcher(None, "ab" * 3500, "ba" * 3500, autojunk=False).find_longest_match()

    assert looked_at(program, lambda calls: calls.under_way() == 1, 20.0 * SLOWNESS)


def test_a_program_that_computes_in_its_own_code_is_in_no_call() -> None:
    """A night job is what a night job is for."""
    until_s = time.monotonic() + 1.6

    def program() -> None:
        total = 0
        while time.monotonic() < until_s:
            total += sum(range(100))

    assert not looked_at(program, lambda calls: calls.under_way() == 1, 1.6)


def test_who_waits_for_whom_is_told_through_gather_groups_and_wait() -> None:
    async def leaf() -> None:
        await asyncio.Event().wait()

    async def gathers(shared: asyncio.Task[None]) -> None:
        await asyncio.gather(leaf(), leaf(), shared)

    async def groups() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(leaf())

    async def waits() -> None:
        await asyncio.wait([asyncio.create_task(leaf(), name="waited-for")])

    async def main() -> dict[str, Any]:
        shared = asyncio.create_task(leaf(), name="shared")
        own = [
            asyncio.create_task(gathers(shared), name="gathers"),
            asyncio.create_task(groups(), name="groups"),
            asyncio.create_task(waits(), name="waits"),
        ]
        await asyncio.sleep(0.05)
        found = tree()
        for task in (shared, *own):
            task.cancel()
        return found

    found = asyncio.run(main())
    by_name = {entry["name"]: entry for entry in found["tasks"]}

    assert found["total"] == 9
    below = {name: by_name[name]["tasks"] for name in ("gathers", "groups", "waits")}
    assert sum(entry["count"] for entry in below["gathers"]) == 3
    assert [entry["count"] for entry in below["groups"]] == [1]
    assert [entry["name"] for entry in below["waits"]] == ["waited-for"]
    assert below["groups"][0]["frames"][-1].endswith("in test_who_waits_for_whom_is_told_through_gather_groups_and_wait.<locals>.leaf")  # fmt: skip
    assert "  waited-for  (Future)" in as_text(found)


@pytest.mark.parametrize(("code", "is_meant", "counts"), [(-9, False, True), (-15, True, False), (0, False, False), (3, False, False)])  # fmt: skip
def test_only_a_child_that_died_of_a_signal_nobody_here_sent_is_missed(
    monkeypatch: pytest.MonkeyPatch, code: int, is_meant: bool, counts: bool
) -> None:
    """Pool.terminate() kills its workers, and nobody waits for those."""
    monkeypatch.setattr(children, "died", [])

    class Popen:
        returncode: int | None = None

        def poll(self) -> int | None:
            self.returncode = code
            return code

        def _send_signal(self, number: int) -> None:
            pass

    children.install(SimpleNamespace(Popen=Popen))
    one = Popen()
    if is_meant:
        one._send_signal(15)

    assert one.poll() == code
    assert one.poll() == code
    assert children.died == ([-code] if counts else [])


def test_a_pool_whose_worker_was_killed_is_missed_by_who_waits_for_it(tmp_path: Any) -> None:
    """multiprocessing starts another process and says nothing; the job is lost."""
    import subprocess
    import sys

    import holdfast

    source = str(holdfast.__path__[0]).removesuffix("/holdfast")
    (tmp_path / "program.py").write_text(
        f"import sys; sys.path.insert(0, {source!r})\n"
        "import multiprocessing, os, signal, threading, time\n"
        "import multiprocessing.popen_fork as popen\n"
        "from holdfast.agent import children\n"
        "children.install(popen)\n"
        "def work(n):\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "def look():\n"
        "    main = threading.main_thread().ident\n"
        "    while not children.is_missed(sys._current_frames()[main]):\n"
        "        time.sleep(0.02)\n"
        "    print('missed', children.died[:1], flush=True)\n"
        "    os.killpg(os.getpgid(0), signal.SIGKILL)\n"
        "if __name__ == '__main__':\n"
        "    os.setpgid(0, 0)\n"
        "    with multiprocessing.Pool(1) as pool:\n"
        "        threading.Thread(target=look, daemon=True).start()\n"
        "        pool.map(work, [1])\n"
    )
    program = subprocess.Popen([sys.executable, str(tmp_path / "program.py")], stdout=subprocess.PIPE, text=True)  # fmt: skip
    with program:
        assert program.stdout is not None
        try:
            wait_for(lambda: program.poll() is not None, "the program to see it", 20.0)
            assert program.stdout.read() == "missed [9]\n"
        finally:
            if program.poll() is None:
                program.kill()
