"""Workers that fork: each process is felt, only the sick one is ended, and the counts of all are one."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

import holdfast
from holdfast.agent.pulse import PulseWriter
from holdfast.core import ladder
from holdfast.evidence.collectors.pulse import with_forks
from holdfast.linux import procfs
from holdfast.watchdog.cases import Cases
from holdfast.watchdog.digest import Spec
from holdfast.watchdog.forks import Forks
from holdfast.watchdog.senses import Look, Senses
from holdfast.watchdog.wards import Care, Ward
from holdfast.wire import layout, pulse
from node import SLOWNESS, Node, wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

BOOT = str(Path(holdfast.__file__).parent / "agent/boot")
SERVER = """
import asyncio, os, socket, sys, time
def never_ends():
    time.sleep(3600)
async def answer(reader, writer):
    if b"/stuck" in await reader.readline():
        never_ends()
    writer.write(b"HTTP/1.0 200 OK\\r\\n\\r\\n%d" % os.getpid())
    await writer.drain()
    writer.close()
async def serve(listener):
    await (await asyncio.start_server(answer, sock=listener)).serve_forever()
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
def start():
    if not os.fork():
        asyncio.run(serve(listener))
for _ in range(3):
    start()
while True:
    os.wait()
    start()
"""


# -- a real server -----------------------------------------------------------------------------------


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def asked(port: int, path: str = "/", timeout_s: float = 20.0) -> int:
    """Return the pid of the process that answers; 0 when none does."""
    try:
        url = f"http://127.0.0.1:{port}{path}"
        with urllib.request.urlopen(url, timeout=timeout_s * SLOWNESS) as answer:
            return int(answer.read())
    except OSError:
        return 0


def test_only_the_stuck_process_of_a_server_is_ended(node: Node, tmp_path: Path) -> None:
    """Issue 4: under a healthy master a worker of gunicorn could hang for ever, and nothing was flagged."""
    (tmp_path / "server.py").write_text(SERVER)
    port = free_port()
    node.add(
        "web", [sys.executable, str(tmp_path / "server.py"), str(port)], agent=True, faulthandler=True,
        env={"PYTHONPATH": BOOT},
        heartbeat={"kind": "pulse", "target": "agent", "timeout_s": 1.5 * SLOWNESS},
    )  # fmt: skip
    node.start()
    directory = Path(node.run_dir, layout.forks("web"))
    wait_for(lambda: len([*directory.glob("*.sock")]) == 3, "three processes with a pulse")
    master = node.status()["web"]["pid"]
    before = {int(path.stem) for path in directory.glob("*.sock")}
    answers: list[int] = []
    done = threading.Event()

    def customer() -> None:
        while not done.wait(0.02):
            answers.append(asked(port, timeout_s=2.0))

    others = [threading.Thread(target=customer) for _ in range(4)]
    for one in others:
        one.start()
    wait_for(lambda: len(answers) >= 20, "customers are served")
    served = len(answers)
    threading.Thread(target=asked, args=(port, "/stuck", 60.0), daemon=True).start()
    try:
        ended = wait_for(lambda: node.journal("order"), "the stuck one to be ended", 40)
        meanwhile = answers[served:]
        incident = wait_for(lambda: [*Path(node.state_dir, "incidents").glob("*-web-1/timeline.jsonl")], "the story")[0]  # fmt: skip
        wait_for(lambda: "cured" in incident.read_text(), "the verdict", 30)
    finally:
        done.set()
        for one in others:
            one.join()

    assert [(order["do"], order["pid"] in before) for order in ended] == [("end", True)]
    # The stuck one may have accepted a connection of each of them in the same turn; no more than that.
    assert len([pid for pid in meanwhile if pid]) >= 10
    assert len([pid for pid in answers if not pid]) <= len(others)
    stranger = node.ask(do="end", worker="web", pid=os.getpid(), ticks=procfs.start_ticks(os.getpid()))  # fmt: skip
    assert "is not one that worker" in stranger["error"]
    assert node.status()["web"]["pid"] == master
    assert node.journal("exit") == []
    after = {int(path.stem) for path in directory.glob("*.sock")}
    assert before - after == {ended[0]["pid"]}
    record = json.loads((incident.parent / "incident.json").read_text())
    assert record["pid"] == ended[0]["pid"]
    assert "never_ends" in record["title"]
    told = [json.loads(line)["says"] for line in incident.read_text().splitlines() if "says" in line]  # fmt: skip
    assert f"process {ended[0]['pid']} ended" in told[0]
    assert f"its parent started process {max(after - before)}" in told[1]


# -- sums --------------------------------------------------------------------------------------------


@pytest.fixture
def sleepers() -> Iterator[Any]:
    """Processes that stand for copies of a worker."""
    made: list[subprocess.Popen[bytes]] = []

    def start() -> subprocess.Popen[bytes]:
        made.append(subprocess.Popen(["/bin/sleep", "3600"]))
        return made[-1]

    yield start
    for process in made:
        process.kill()
        process.wait()


def ward() -> Ward:
    nothing = {"kind": "none", "target": "", "argv": [], "timeout_s": 1.0, "period_s": 1.0}
    spec = Spec({
        "ready": nothing, "beat": {**nothing, "kind": "pulse", "target": "agent"}, "memory_bytes": 0, "healthy_s": 1.0,
        "slow_s": 1.0, "stop_s": 1.0, "log_directory": "", "directory": "", "env": None, "is_python": True,
        "detect": None, "has_pulse": True, "has_forks": True, "needs": [], "own_log": "", "peers": 0,
    })  # fmt: skip
    found = Ward("web", spec)
    found.n, found.pid, found.care = 7, os.getpid(), Care(time.monotonic())
    return found


def show(run_dir: Path, process: subprocess.Popen[bytes], done: int, start: int = 7) -> Path:
    """Write what the agent in a copy writes."""
    directory = run_dir / layout.forks("web")
    directory.mkdir(parents=True, exist_ok=True)
    writer = PulseWriter.private(start)
    ticks = procfs.start_ticks(process.pid)
    writer.show(None, f"{directory}/{process.pid}", process.pid, ticks, os.getpid())
    writer.thread_beat(time.monotonic_ns(), 1, 0, done, 0)
    writer.route(0, b"GET /", done, done * 1_000_000, done * 500_000)
    return directory / str(process.pid)


def total(forks: Forks, of: Ward) -> tuple[int, int]:
    """Return the work of all, and that of their route."""
    forks.look(of)
    assert of.care is not None
    of.care.beat = pulse.decode(masters_pulse())
    forks.merge(of)
    assert of.care.beat is not None
    routes = forks.routes(of)
    return of.care.beat.work_done, routes[0][1] if routes else 0


def masters_pulse() -> bytes:
    writer = PulseWriter.private(7)
    writer.thread_beat(time.monotonic_ns(), 1, 0, 1000, 0)
    return bytes(writer._memory)


def test_counts_are_summed_and_those_of_the_dead_stay(tmp_path: Path, sleepers: Any) -> None:
    """A rate that falls when a worker is recycled looks like an outage on every chart."""
    of, first, second = ward(), sleepers(), sleepers()
    show(tmp_path, first, 10)
    file = show(tmp_path, second, 20)
    forks = Forks(str(tmp_path), of)
    assert total(forks, of) == (1030, 30)

    second.kill()
    second.wait()

    assert total(forks, of) == (1030, 30)
    assert list(forks.living) == [first.pid]
    assert not file.exists()


def test_whoever_reads_the_files_has_the_same_sums(tmp_path: Path, sleepers: Any) -> None:
    """A scrape of the metrics asks nobody; it must not fall when a process dies, before and after the watchdog saw it."""
    of, first, second = ward(), sleepers(), sleepers()
    show(tmp_path, first, 10)
    show(tmp_path, second, 20)
    own = pulse.decode(masters_pulse())
    assert own is not None
    forks = Forks(str(tmp_path), of)
    total(forks, of)
    assert with_forks(str(tmp_path), "web", own).work_done == 1030

    second.kill()
    second.wait()
    assert with_forks(str(tmp_path), "web", own).work_done == 1030
    total(forks, of)

    found = with_forks(str(tmp_path), "web", own)
    assert found.work_done == 1030
    assert found.routes == [("GET /", 30, 30_000_000, 15_000_000)]
    assert with_forks(str(tmp_path), "other", own) is own


def test_the_next_watchdog_knows_what_the_dead_had_counted(tmp_path: Path, sleepers: Any) -> None:
    of, first = ward(), sleepers()
    show(tmp_path, first, 10)
    forks = Forks(str(tmp_path), of)
    total(forks, of)
    first.kill()
    first.wait()
    total(forks, of)

    assert total(Forks(str(tmp_path), of), of) == (1010, 10)


def test_a_watchdog_killed_between_record_and_removal_counts_nobody_twice(tmp_path: Path, sleepers: Any) -> None:  # fmt: skip
    """First the sum is written, then the file goes: killed in between, the next one finds both."""
    of, first = ward(), sleepers()
    file = show(tmp_path, first, 10)
    kept = file.read_bytes()
    forks = Forks(str(tmp_path), of)
    total(forks, of)
    first.kill()
    first.wait()
    total(forks, of)
    file.write_bytes(kept)

    assert total(Forks(str(tmp_path), of), of) == (1010, 10)
    assert not file.exists()


def test_what_another_life_left_is_removed_and_not_counted(tmp_path: Path, sleepers: Any) -> None:
    of, first = ward(), sleepers()
    file = show(tmp_path, first, 10, start=6)
    first.kill()
    first.wait()

    assert total(Forks(str(tmp_path), of), of) == (1000, 0)
    assert not file.exists()


def test_what_a_process_was_making_when_it_was_killed_is_removed(tmp_path: Path, sleepers: Any) -> None:  # fmt: skip
    of, first = ward(), sleepers()
    file = show(tmp_path, first, 10)
    half = file.with_name(f".{first.pid}")
    half.write_bytes(b"")
    first.kill()
    first.wait()

    total(Forks(str(tmp_path), of), of)

    assert not half.exists()


def test_a_pid_that_is_anothers_by_now_is_not_taken_for_the_copy(tmp_path: Path, sleepers: Any) -> None:  # fmt: skip
    of, stranger = ward(), sleepers()
    file = show(tmp_path, stranger, 10)
    data = bytearray(file.read_bytes())
    pulse.I64.pack_into(data, pulse.TICKS, 1)
    file.write_bytes(data)
    forks = Forks(str(tmp_path), of)

    total(forks, of)

    assert not forks.living
    assert stranger.poll() is None


# -- who is meant ------------------------------------------------------------------------------------


def looks(forks: Forks, **says: str) -> list[tuple[Any, Look]]:
    return [(forks.living[int(pid[1:])], Look(verdict, says=verdict)) for pid, verdict in says.items()]  # fmt: skip


def family(run_dir: Path, sleepers: Any, count: int = 3) -> tuple[Ward, Forks, list[int]]:
    of = ward()
    pids = [int(show(run_dir, sleepers(), 0).name) for _ in range(count)]
    forks = of.forks = Forks(str(run_dir), of)
    forks.look(of)
    return of, forks, pids


def test_the_worst_is_told_with_its_pid(tmp_path: Path, sleepers: Any) -> None:
    of, forks, (a, b, c) = family(tmp_path, sleepers)
    found = looks(forks, **{f"p{a}": ladder.WELL, f"p{b}": ladder.SUSPECT, f"p{c}": ladder.SICK})

    look = forks.worst("missed_heartbeat", Look(ladder.WELL), found, of)

    assert (look.verdict, look.pid) == (ladder.SICK, c)
    assert look.says.startswith(f"process {c}, one of 3 that it forked: ")


def test_a_healthy_family_says_what_the_worker_says(tmp_path: Path, sleepers: Any) -> None:
    of, forks, pids = family(tmp_path, sleepers)
    own = Look(ladder.UNKNOWN)

    found = looks(forks, **{f"p{pid}": ladder.WELL for pid in pids})
    assert forks.worst("missed_heartbeat", own, found, of) is own


def test_whoever_is_dealt_with_comes_first_and_the_others_are_named(tmp_path: Path, sleepers: Any) -> None:  # fmt: skip
    """Evidence was taken of one; to end another for it would be a blind shot."""
    of, forks, (a, b, c) = family(tmp_path, sleepers)
    forks.in_hand["missed_heartbeat"] = b
    found = looks(forks, **{f"p{a}": ladder.SICK, f"p{b}": ladder.SICK, f"p{c}": ladder.WELL})

    look = forks.worst("missed_heartbeat", Look(ladder.WELL), found, of)

    assert look.pid == b
    assert [pid for pid, _ in look.others] == [a]


# -- what is done ------------------------------------------------------------------------------------


class Desk:
    """The flags of one worker, with nobody real around them."""

    def __init__(self, tmp: Path, sleepers: Any) -> None:
        self.ward, self.forks, self.pids = family(tmp, sleepers)
        self.asked: list[dict[str, Any]] = []
        self.placed: list[dict[str, Any]] = []
        self.said: list[str] = []
        (tmp / layout.FLAGS).mkdir()
        engine: Any = SimpleNamespace(say=self.said.append, aside=lambda _do, _then: None)
        keeper: Any = SimpleNamespace(ask=self._ask)
        roll: Any = SimpleNamespace(by_name={"web": self.ward}, groups={})
        orders: Any = SimpleNamespace(
            place=self.placed.append, start_due=lambda: None, outcome=lambda _: (True, "incident-1")
        )
        watch: Any = {"verify_s": 1.0, "evidence_budget_s": 1.0}
        self.cases = Cases(engine, str(tmp), keeper, roll)
        self.cases.go_by(orders, watch, str(tmp))
        self.now_s = time.monotonic() + 10.0  # long after they were forked

    def _ask(self, what: dict[str, Any], reply: Any) -> None:
        self.asked.append(what)
        reply({"ok": True})

    def look(self, verdict: str, pid: int = 0, others: tuple[int, ...] = ()) -> None:
        look = Look(verdict, 2.0, 1.0, "sick")
        look.pid, look.others = pid, tuple((one, 1) for one in others)
        self.cases.look("web", "missed_heartbeat", look, self.ward.n)

    def captured(self) -> None:
        self.cases.evidence_done(self.placed[-1]["key"], "incident-1")

    def case(self) -> ladder.Case:
        return self.cases.of("web")[0]


@pytest.fixture
def desk(tmp_path: Path, sleepers: Any, monkeypatch: pytest.MonkeyPatch) -> Desk:
    made = Desk(tmp_path, sleepers)
    clock = SimpleNamespace(monotonic=lambda: made.now_s, time=lambda: 1e9 + made.now_s)
    monkeypatch.setattr("holdfast.watchdog.cases.time", clock)
    return made


def up_to_the_remedy(desk: Desk, pid: int, others: tuple[int, ...] = ()) -> None:
    for _ in range(2):
        desk.look(ladder.SICK, pid, others)
    desk.captured()
    desk.look(ladder.SICK, pid, others)
    desk.look(ladder.SICK, pid, others)


def test_evidence_is_of_the_sick_process_and_so_is_the_remedy(desk: Desk) -> None:
    sick = desk.pids[1]

    up_to_the_remedy(desk, sick)

    assert desk.placed[0]["pid"] == sick
    assert [(a["do"], a["pid"], a["n"]) for a in desk.asked] == [("end", sick, 7)]
    assert desk.case().to_flag()["pid"] == sick


def test_all_that_are_as_sick_are_ended_at_once(desk: Desk) -> None:
    """A poisoned request that is tried again holds the next one: one after the other would take a minute."""
    up_to_the_remedy(desk, desk.pids[1], (desk.pids[2],))

    assert sorted(a["pid"] for a in desk.asked) == sorted(desk.pids[1:])


def test_a_parent_that_starts_no_other_one_is_no_cure(desk: Desk) -> None:
    up_to_the_remedy(desk, desk.pids[0])
    desk.look(ladder.SICK, desk.pids[0])
    assert desk.case().phase == ladder.VERIFY

    desk.now_s += ladder.ACT_S + 0.1
    desk.look(ladder.WELL)

    assert (desk.case().phase, desk.case().rung) == (ladder.RAISED, 1)
    desk.look(ladder.SICK)
    desk.now_s += 2.0
    for _ in range(2):
        desk.look(ladder.SICK)
    desk.captured()
    for _ in range(2):
        desk.look(ladder.SICK)
    assert desk.asked[-1]["do"] == "restart"


def test_evidence_of_one_that_is_well_again_ends_nobody_else(desk: Desk) -> None:
    first, second, _ = desk.pids
    for _ in range(2):
        desk.look(ladder.SICK, first)
    desk.captured()

    desk.look(ladder.SICK, second)
    desk.look(ladder.SICK, second)

    assert desk.asked == []
    assert [order["pid"] for order in desk.placed] == [first, second]


def test_the_worker_itself_is_restarted_as_ever(desk: Desk) -> None:
    up_to_the_remedy(desk, 0)

    assert desk.asked[0]["do"] == "restart"


def test_who_does_not_fork_has_nothing_kept_of_it(tmp_path: Path, sleepers: Any) -> None:
    """A thousand idle workers cost one failed look a second each, and no memory."""
    of, engine = ward(), cast("Any", None)
    senses = Senses(engine, str(tmp_path), "node")
    senses.gather([of], 100.0)
    assert of.forks is None

    show(tmp_path, sleepers(), 5)
    senses.gather([of], 100.1)
    assert of.forks is None
    senses.gather([of], 101.5)

    forks = wait_for(lambda: of.forks, "its processes to be found")
    assert len(forks.living) == 1


def test_a_frozen_process_of_a_healthy_worker_is_sick(tmp_path: Path, sleepers: Any) -> None:
    of, forks, pids = family(tmp_path, sleepers)
    of.is_ready, engine = True, cast("Any", None)
    senses = Senses(engine, str(tmp_path), "node")
    now_s = time.monotonic()
    frozen = forks.living[pids[1]].care
    assert frozen is not None
    for fork in forks.living.values():
        assert fork.care is not None
        for silence in (fork.care.silence, fork.care.thread):
            silence.sign(now_s if fork.care is not frozen else now_s - 5.0)
    frozen.silence.last_s = frozen.thread.last_s = now_s - 5.0

    look = forks.worst(
        "missed_heartbeat", Look(ladder.WELL),
        [(fork, senses.heartbeat(fork, now_s)) for fork in forks.living.values()], of,
    )  # fmt: skip

    assert (look.verdict, look.pid) == (ladder.SICK, pids[1])
    assert "no thread runs" in look.says
