"""A real node that runs jobs, and everything in it is killed: nothing is lost, and nobody innocent is blamed."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import holdfast
from holdfast.jobs.opening import open_store
from holdfast.linux import locks, procfs, talk
from holdfast.wire import layout, sidekiq
from jobs.redis_server import Server, needs_redis
from node import SLOWNESS, wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.faults

SOURCE = str(Path(holdfast.__file__).parent.parent)
#: Whoever asks must not wait for ever for a node that hangs.
DEADLINE_S = 60 * SLOWNESS

_TASKS = """
import os, signal, time
from holdfast.sdk import job

def write(name, text):
    # One write of one line: it is there whole, or not at all.
    with open(name, "ab", buffering=0) as file:
        file.write(f"{text} {os.getpid()}\\n".encode())

@job(retries=3)
def note(number, for_s):
    time.sleep(for_s)
    write("done", number)

@job
async def anote(number, for_s):
    import asyncio
    await asyncio.sleep(for_s)
    write("done", number)

@job
def poison():
    write("poisoned", "x")
    os.kill(os.getpid(), signal.SIGKILL)
"""

_NODE = """
[node]
name = "shop"
verify = "1s"

[defaults.worker]
restart = {{ limit = 0, delay = "50ms", delay_max = "50ms", healthy = "0s" }}

[jobs]
{jobs}

[worker.crawl]
kind = "jobs"
use = ["tasks"]
concurrency = 4
{crawl}
{more}
"""


class Shop:
    """A directory with tasks in it, its node, and what the jobs wrote."""

    def __init__(self, jobs: str = "", crawl: str = "", more: str = "") -> None:
        # Short: a Unix socket's path has 107 bytes.
        self.home = Path(tempfile.mkdtemp(prefix="j", dir="/tmp"))
        kept = {key: value for key, value in os.environ.items() if not key.startswith("HOLDFAST_")}
        # Where bytecode is not kept, each start compiles all that it imports.
        kept.pop("PYTHONDONTWRITEBYTECODE", None)
        self.env = kept | {
            "HOLDFAST_RUNTIME_DIR": str(self.home), "PYTHONPATH": SOURCE, "HOLDFAST_SLOWNESS": str(SLOWNESS),
        }  # fmt: skip
        (self.home / "tasks.py").write_text(_TASKS)
        self.config = self.home / "holdfast.toml"
        self.config.write_text(_NODE.format(jobs=jobs, crawl=crawl, more=more))
        url = jobs.partition('store = "')[2].partition('"')[0]
        self.url = url or f"sqlite://{self.home}/.holdfast/jobs.db"
        self.expected: list[str] = []

    # -- the command line

    def types(self, *argv: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "holdfast", *argv], cwd=self.home, env=self.env, capture_output=True, text=True,
            timeout=DEADLINE_S, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{argv}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def told(self, *argv: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.types(*argv, "--json"))
        return found

    def up(self) -> Shop:
        self.types("up", "--detach", "--timeout", f"{DEADLINE_S:.0f}")
        return self

    def kept(self) -> dict[str, dict[str, Any]]:
        """What the keeper says of each worker; {} while there is no keeper."""
        address = f"{self.home}/.holdfast/run/{layout.socket('keeper')}"
        reply = talk.ask(address, {"do": "status"}, 5 * SLOWNESS)
        return {worker["name"]: worker for worker in reply["workers"]} if reply else {}

    def pid(self, name: str) -> int:
        return int((self.kept().get(name) or {}).get("pid") or 0)

    def processes(self, **marks: str) -> list[int]:
        """Every living process of this node whose environment has these marks."""
        found = []
        run = str((self.home / ".holdfast/run").resolve())
        for pid in procfs.pids():
            env = procfs.environ(pid)
            if env.get("HOLDFAST_RUN") == run and all(env.get(k) == v for k, v in marks.items()):
                found.append(pid)
        return found

    def wipe_out(self) -> set[int]:
        """Kill every process of the node at one instant, as a reboot does; return which those were."""
        run = str((self.home / ".holdfast/run").resolve())
        stopped: set[int] = set()
        while True:
            # Who is stopped starts nobody in place of one that was killed.
            house = [pid for pid in procfs.pids() if run in procfs.command_line(pid)]
            found = {*self.processes(), *house} - stopped
            if not found:
                break
            for pid in found:
                try:
                    os.kill(pid, signal.SIGSTOP)
                except ProcessLookupError:
                    pass  # it ended meanwhile
            stopped |= found
        for pid in stopped:
            shoot(pid)
        return stopped

    def house(self) -> dict[str, int]:
        run = self.home / ".holdfast/run"
        found = {role: locks.holder(str(run / layout.lock(role))) for role in layout.ROLES}
        return {role: pid for role, pid in found.items() if pid}

    # -- jobs

    def push(self, numbers: range, klass: str = "tasks.note", *args: Any, queue: str = "default") -> None:  # fmt: skip
        """Put jobs in from here: what a program does, without starting one for each."""
        store = open_store(self.url)
        try:
            store.push([
                sidekiq.dumps(
                    sidekiq.new(klass, [n, *args], jid=os.urandom(12).hex(), queue=queue, now_s=time.time())
                )
                for n in numbers
            ])  # fmt: skip
        finally:
            store.close()
        self.expected += [str(n) for n in numbers]

    def counts(self) -> Any:
        store = open_store(self.url)
        try:
            return store.counts()
        finally:
            store.close()

    def lines(self, name: str = "done") -> list[tuple[str, int]]:
        path = self.home / name
        text = path.read_text() if path.exists() else ""
        return [(number, int(pid)) for number, pid in map(str.split, text.splitlines())]

    def wait_lines(self, count: int) -> None:
        """Wait until so many jobs are done."""
        wait_for(lambda: len(self.lines()) >= count, f"{count} jobs to be done")

    def wait_all_done(self, within_s: float = 60.0) -> None:
        """Wait until every job was done and none is left anywhere but among the dead."""
        wanted = set(self.expected)
        wait_for(lambda: wanted <= {n for n, _ in self.lines()}, "every job to be done", within_s)

        def is_quiet() -> bool:
            counts = self.counts()
            left = sum(size for size, _, _ in counts.queues.values())
            return not (left or counts.busy or counts.retry or counts.scheduled or counts.waiting)

        wait_for(is_quiet, "nothing to be left in the queue", within_s)

    def doubled(self, killed: set[int]) -> list[str]:
        """The jobs that ran twice although no process died between their effect and the note of it."""
        by_number: dict[str, list[int]] = {}
        for number, pid in self.lines():
            by_number.setdefault(number, []).append(pid)
        # Of each job at most one life survived: all the earlier ones ended by our hand.
        return [n for n, pids in by_number.items() if any(pid not in killed for pid in pids[:-1])]

    def end(self) -> None:
        subprocess.run(
            [sys.executable, "-m", "holdfast", "down", "--kill"], cwd=self.home, env=self.env, capture_output=True,
            timeout=DEADLINE_S, check=False,
        )  # fmt: skip
        shutil.rmtree(self.home, ignore_errors=True)


@pytest.fixture
def shops() -> Iterator[list[Shop]]:
    made: list[Shop] = []
    yield made
    for shop in made:
        shop.end()


def shoot(pid: int) -> bool:
    try:
        os.kill(pid, signal.SIGKILL)
    except (ProcessLookupError, OverflowError):
        return False
    return True


@pytest.fixture(params=["sqlite", pytest.param("redis", marks=needs_redis)])
def store_line(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """What stands under [jobs], for each store."""
    if request.param == "sqlite":
        yield ""
        return
    server = Server(tmp_path)
    yield f'store = "redis://127.0.0.1:{server.port}/0"'
    server.kill()


def test_whatever_is_killed_no_job_is_lost_and_none_runs_twice(
    shops: list[Shop], store_line: str
) -> None:
    """Each process of the node in turn, then all of them at one instant, and the node is started again."""
    shops.append(shop := Shop(store_line, "processes = 2"))
    shop.up()
    killed: set[int] = set()
    chance = random.Random(5)
    number = 0

    def hit(pid: int) -> None:
        if pid and shoot(pid):
            killed.add(pid)

    targets = ["crawl", "crawl.2", "steward", "keeper", "both", "crawl", "anchor", "crawl.2"]
    # The processes are the same for the second store; what it does with them has its own tests.
    for target in targets[:5] if store_line else targets:
        before = len(shop.lines())
        shop.push(range(number, number + 160), "tasks.note", 0.02)
        shop.push(range(number + 160, number + 200), "tasks.anote", 0.02)
        number += 200
        shop.wait_lines(before + chance.randrange(2, 60))
        if target in layout.ROLES:
            hit(shop.house().get(target, 0))
        elif target == "both":
            pids = shop.pid("crawl"), shop.pid("steward")
            for pid in pids:
                hit(pid)
        else:
            hit(shop.pid(target))
    before = len(shop.lines())
    shop.push(range(number, number + 200), "tasks.note", 0.02)
    shop.wait_lines(before + 10)
    killed |= shop.wipe_out()
    shop.up()
    shop.wait_all_done()

    counts = shop.counts()
    assert counts.dead == 0, "an innocent job was given up"
    assert {n for n, _ in shop.lines()} == set(shop.expected)
    assert shop.doubled(killed) == []
    # Else nothing was running when they died, and this was no test.
    assert "suspects" in shop.types("logs", "--worker", "steward", "-n", "1000")


def test_a_poison_job_ends_among_the_dead_with_its_incident_and_takes_nobody_along(
    shops: list[Shop],
) -> None:
    """Two runs and it is caught; its neighbours, which ran in the same process when it killed, are done."""
    shops.append(shop := Shop())
    shop.up()
    assert "crawl.quarantine  idle" in shop.types("status")
    shop.push(range(100), "tasks.note", 0.02)
    poison = shop.told("jobs", "push", "tasks.poison")["jid"]
    shop.push(range(100, 200), "tasks.note", 0.02)
    shop.wait_all_done()

    wait_for(lambda: shop.counts().dead == 1, "the poison job to be given up")
    assert len(shop.lines("poisoned")) == 2
    assert {n for n, _ in shop.lines()} == set(shop.expected)
    (dead,) = shop.told("jobs", "list", "dead")["jobs"]
    assert (dead["jid"], dead["strikes"]) == (poison, 2)
    assert dead["error_class"] == "Holdfast::ProcessKilled"
    assert "SIGKILL" in dead["error_message"]

    def incident() -> Any:
        return shop.told("jobs", "show", poison)["jobs"][0]["notes"].get("incident")

    found = wait_for(incident, "the incident to be noted")
    assert (shop.home / ".holdfast/incidents" / found / "story.txt").exists()
    assert f"holdfast incident {found}" in shop.types("jobs", "show", poison)
    assert "crawl.quarantine" in shop.types("incident", found)

    # A node whose jobs behave has no use for a third of its processes.
    wait_for(lambda: not shop.pid("crawl.quarantine"), "the lane to end", 40)
    assert shop.kept()["crawl.quarantine"]["state"] == "done"
    assert "crawl.quarantine  idle" in shop.types("status")


def test_each_worker_has_its_own_suspects(shops: list[Shop]) -> None:
    """A lane knows the code of its own worker only; a suspect of another one must not fail there, nor be lost between the two."""
    mail = '[worker.mail]\nkind = "jobs"\nuse = ["mails"]\nqueues = ["mail"]\n'
    shops.append(shop := Shop(more=mail))
    (shop.home / "mails.py").write_text(_TASKS)
    shop.up()
    for at in range(2):
        shop.push(range(at * 200, at * 200 + 100), "tasks.note", 0.02)
        shop.push(range(at * 200 + 100, at * 200 + 200), "mails.note", 0.02, queue="mail")
        if not at:
            shop.told("jobs", "push", "tasks.poison")
            shop.told("jobs", "push", "mails.poison", "--queue", "mail")
    shop.wait_all_done()

    wait_for(lambda: shop.counts().dead == 2, "both poison jobs to be given up", 30)
    dead = shop.told("jobs", "list", "dead")["jobs"]
    assert {(job["class"], job["failures"]) for job in dead} == {("tasks.poison", 1), ("mails.poison", 1)}  # fmt: skip
    assert {n for n, _ in shop.lines()} == set(shop.expected)


def test_a_restart_blames_nobody_and_does_nothing_twice(shops: list[Shop]) -> None:
    """What somebody asked for is no death: jobs end in peace, or go back as if nothing had been."""
    shops.append(shop := Shop(crawl='processes = 2\nstop = { grace = "200ms" }'))
    shop.up()
    shop.push(range(300), "tasks.note", 0.02)
    shop.push(range(300, 310), "tasks.note", 0.5)  # longer than the grace
    shop.wait_lines(20)
    before = {name: shop.pid(name) for name in ("crawl", "crawl.2", "steward")}
    shop.types("restart", "crawl")
    after = {name: shop.pid(name) for name in ("crawl", "crawl.2", "steward")}
    shop.wait_all_done()

    assert before["steward"] == after["steward"]
    assert before["crawl"] != after["crawl"]
    assert before["crawl.2"] != after["crawl.2"]
    assert not shop.pid("crawl.quarantine"), "somebody was suspected"
    assert shop.counts().dead == 0
    assert [n for n, times in Counter(n for n, _ in shop.lines()).items() if times > 1] == []


def test_apply_restarts_only_the_workers_that_were_changed(shops: list[Shop]) -> None:
    """Turning one queue up must not interrupt the other, nor who looks after both."""
    mail = '[worker.mail]\nkind = "jobs"\nuse = ["tasks"]\nqueues = ["mail"]\n'
    shops.append(shop := Shop(more=mail))
    shop.up()
    names = ("steward", "crawl", "mail")
    before = [shop.pid(name) for name in names]
    shop.push(range(100), "tasks.note", 0.02)
    shop.push(range(100, 200), "tasks.note", 0.02, queue="mail")
    text = shop.config.read_text()
    shop.config.write_text(text.replace("concurrency = 4", "concurrency = 2\nprocesses = 2"))
    found = shop.told("apply", "--yes")
    shop.wait_all_done()

    assert found["touched"] == {"start": ["crawl.2"], "stop": [], "restart": ["crawl"]}
    after = [shop.pid(name) for name in names]
    assert [a == b for a, b in zip(before, after, strict=True)] == [True, False, True]
    assert shop.pid("crawl.2")
    assert shop.doubled(set()) == []


def test_a_spare_takes_no_job_until_it_is_needed(shops: list[Shop]) -> None:
    """It is there to take over in milliseconds, not to be a second worker that nobody configured."""
    shops.append(shop := Shop(crawl="spare = 1"))
    shop.up()
    spare = wait_for(lambda: shop.kept()["crawl"].get("spare_pid"), "a spare")
    main = shop.pid("crawl")
    shop.push(range(100), "tasks.note", 0.005)
    shop.wait_all_done()
    assert {pid for _, pid in shop.lines()} == {main}
    workers = shop.told("jobs", "workers")["workers"]
    assert [worker["pid"] for worker in workers] == [main]

    shoot(main)
    shop.push(range(100, 200), "tasks.note", 0.005)
    shop.wait_all_done()
    assert {pid for n, pid in shop.lines() if int(n) >= 100} == {spare}


@needs_redis
def test_no_command_line_and_no_answer_holds_the_password(
    shops: list[Shop], tmp_path: Path
) -> None:
    """`ps` shows every argument to everybody on the machine."""
    server = Server(tmp_path, "--requirepass", "hush-hush")
    try:
        url = f"redis://:hush-hush@127.0.0.1:{server.port}/0"
        shops.append(shop := Shop(f'store = "{url}"'))
        shop.up()
        shop.push(range(5), "tasks.note", 0.0)
        shop.wait_all_done()

        pids = [*shop.processes(), *shop.house().values()]
        assert len(pids) >= 6
        assert not any("hush" in " ".join(procfs.command_line(pid)) for pid in pids)
        for argv in (["status", "--json"], ["jobs", "stats", "--json"], ["jobs", "workers"], ["diff"], ["logs"]):  # fmt: skip
            assert "hush" not in shop.types(*argv)
    finally:
        server.kill()
