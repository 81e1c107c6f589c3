"""`holdfast jobs work`: real foremen, real workers, real signals."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from engine.stewarding import parsed
from holdfast.cli import jobs_work
from holdfast.jobs.opening import open_store
from holdfast.linux import procfs
from holdfast.model.errors import UsageError
from holdfast.wire import sidekiq
from node import SLOWNESS, wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

SOURCE = Path(__file__).parents[2] / "src"
TASKS = """
import os, signal, time
from holdfast.sdk import job

def write(word, n):
    descriptor = os.open(os.environ["EFFECTS"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(descriptor, f"{word} {n} {os.getpid()}\\n".encode())
    os.close(descriptor)

@job(name="short")
def short(n):
    write("begin", n)
    time.sleep(0.02)
    write("end", n)

@job(name="long")
def long(n):
    write("begin", n)
    time.sleep(60)

@job(name="pill")
def pill(n):
    write("begin", n)
    os.kill(os.getpid(), signal.SIGKILL)
"""


class Site:
    """A directory with jobs, a store, and the foremen that a test starts in it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.url = f"sqlite://{root}/jobs.db"
        self.store = open_store(self.url)
        self.effects = root / "effects"
        (root / "tasks.py").write_text(TASKS)
        self.env = {
            **os.environ, "PYTHONPATH": str(SOURCE), "EFFECTS": str(self.effects), "HOLDFAST_RUNTIME_DIR": f"{root}/r",
        }  # fmt: skip
        self.foremen: list[subprocess.Popen[bytes]] = []
        self.output = root / "output"

    def push(self, klass: str, *numbers: int, **more: Any) -> None:
        self.store.push([
            sidekiq.dumps(sidekiq.new(klass, [n], jid=f"{n:024x}", queue="default", now_s=1.5e9, extra=more))
            for n in numbers
        ])  # fmt: skip

    def start(self, *words: str, module: str = "tasks") -> subprocess.Popen[bytes]:
        with self.output.open("ab") as output:
            made = subprocess.Popen(
                [sys.executable, "-m", "holdfast", "jobs", "--store", self.url, "work", module, *words],
                cwd=self.root, env=self.env, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True,
            )  # fmt: skip
        self.foremen.append(made)
        return made

    def lines(self, word: str = "") -> list[tuple[str, int, int]]:
        if not self.effects.exists():
            return []
        rows = [line.split() for line in self.effects.read_text().splitlines()]
        return [(row[0], int(row[1]), int(row[2])) for row in rows if not word or row[0] == word]

    def done(self) -> Counter[int]:
        return Counter(n for _, n, _ in self.lines("end"))

    def wait(self, look: Any, what: str) -> Any:
        def explain() -> Any:
            if found := look():
                return found
            for foreman in self.foremen[-1:]:
                assert foreman.poll() is None, self.output.read_text()
            return found

        try:
            return wait_for(explain, what, 20.0)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.output.read_text()}") from None

    def end(self) -> None:
        for foreman in self.foremen:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(foreman.pid, signal.SIGKILL)
            foreman.wait()
        self.store.close()


@pytest.fixture
def site() -> Iterator[Site]:
    # Short: the paths of the control sockets have to fit into a socket address.
    with tempfile.TemporaryDirectory(prefix="hf-") as root:
        made = Site(Path(root))
        try:
            yield made
        finally:
            made.end()


def test_work_is_done_and_a_stop_leaves_nothing_behind(site: Site) -> None:
    """One command, one file: that is all there has to be; and SIGTERM ends it as a service manager expects."""
    site.push("short", *range(20))
    foreman = site.start("--json", "-c", "4")
    site.wait(lambda: len(site.done()) == 20, "all jobs")
    assert sum(site.done().values()) == 20

    foreman.terminate()

    assert foreman.wait(20 * SLOWNESS) == 0
    assert list((site.root / "r").iterdir()) == [], "no run directory"
    assert site.store.owners() == [], "no owner in the store"
    events = [json.loads(line) for line in site.output.read_text().splitlines()]
    assert events[0]["event"] == "foreman"
    assert events[-1] | {"unix_s": 0} == {"unix_s": 0, "event": "ended", "status": 0}
    assert any(event.get("worker") == "work" and event["event"] == "runs jobs" for event in events)


def test_everything_killed_at_once_is_gone_on_with_by_the_next_start(site: Site) -> None:
    """kill -9 of the whole group in the middle of it: nothing lost, nothing done twice."""
    site.push("short", *range(100))
    foreman = site.start()
    site.wait(lambda: len(site.done()) >= 20, "some jobs")

    os.killpg(foreman.pid, signal.SIGKILL)
    foreman.wait()
    site.start()

    site.wait(lambda: len(site.done()) == 100, "all jobs")
    # But for one that was killed between its last act and the mark in the flight recorder: microseconds, of ten executors. All ten
    # would be the recorder not working.
    assert sum(count - 1 for count in site.done().values()) <= 2
    assert site.store.counts().dead == 0


def test_a_job_that_kills_its_worker_runs_twice_and_takes_nobody_along(site: Site) -> None:
    """The poison of every queue: caught by its second death, its neighbours done, and a person told."""
    site.push("short", *range(20))
    site.push("pill", 666)
    site.push("short", *range(20, 40))
    site.start()

    site.wait(lambda: len(site.done()) == 40 and site.store.counts().dead, "the neighbours")

    assert set(site.done().values()) == {1}
    assert sum(n == 666 for _, n, _ in site.lines("begin")) == 2
    (dead,) = [parsed(entry.raw) for entry in site.store.page("dead")]
    assert (dead["class"], dead["hf"]["strikes"]) == ("pill", 2)
    assert "work.quarantine" in dead["error_message"]
    output = site.wait(lambda: "is given up" in (text := site.output.read_text()) and text, "words")
    assert "work (process" in output
    assert "was killed by SIGKILL" in output


def test_a_foreman_that_was_killed_long_ago_is_no_weather_today(site: Site) -> None:
    """What lies in the run directory since yesterday must not excuse the pill of this morning."""
    foreman = site.start()
    site.wait(lambda: site.store.owners(), "the worker")
    os.killpg(foreman.pid, signal.SIGKILL)
    foreman.wait()
    (run_dir,) = (site.root / "r").iterdir()
    long_ago_s = time.time() - 60
    os.utime(run_dir / "foreman", (long_ago_s, long_ago_s))

    site.push("pill", 666)
    site.start()

    site.wait(lambda: site.store.counts().dead, "the pill to be given up")
    assert len(site.lines("begin")) == 2


def test_children_die_with_their_foreman(site: Site) -> None:
    """An OOM killer that takes the foreman alone must not leave workers that nobody looks after."""
    foreman = site.start("--processes", "2")
    site.wait(lambda: len(site.store.owners()) == 2, "two workers")
    children = procfs.children_of(foreman.pid)
    assert len(children) == 2

    foreman.kill()
    foreman.wait()

    wait_for(lambda: not any(map(procfs.start_ticks, children)), "the children to be dead")


def test_a_second_signal_does_not_wait_and_the_job_goes_back_without_blame(site: Site) -> None:
    """Ctrl-C twice: whoever sits there wants it to end now; it is not the job's fault."""
    site.push("long", 1)
    foreman = site.start("--grace", "1h")
    site.wait(lambda: site.lines("begin"), "the job to begin")

    foreman.terminate()
    site.wait(lambda: "stopping" in site.output.read_text(), "the first signal to be heard")
    assert foreman.poll() is None, "it waits for the job"
    foreman.terminate()

    assert foreman.wait(20 * SLOWNESS) == 0
    (back,) = site.store.page("queue:default")
    assert "strikes" not in parsed(back.raw).get("hf", {})
    assert site.store.counts().busy == 0


def test_quiet_takes_nothing_new_and_starts_nobody(site: Site) -> None:
    """Before a deploy: finish what runs, leave the rest to others."""
    site.push("short", 1)
    foreman = site.start()
    site.wait(lambda: site.done(), "the first job")

    foreman.send_signal(signal.SIGTSTP)
    site.wait(lambda: "quiet: it takes no more jobs" in site.output.read_text(), "the worker to be quiet")  # fmt: skip
    site.push("short", 2)
    (child,) = procfs.children_of(foreman.pid)
    os.kill(child, signal.SIGKILL)
    site.wait(lambda: "was killed by SIGKILL" in site.output.read_text(), "the death to be settled")
    foreman.terminate()

    assert foreman.wait(20 * SLOWNESS) == 0
    assert set(site.done()) == {1}
    assert len(site.store.page("queue:default")) == 1


def test_a_hangup_of_the_terminal_is_a_stop_and_no_crime_of_a_job(site: Site) -> None:
    """The kernel sends SIGHUP to the whole group; a worker that died of it would leave suspects behind."""
    site.push("long", 1)
    foreman = site.start("--grace", "0")
    site.wait(lambda: site.lines("begin"), "the job to begin")

    os.killpg(foreman.pid, signal.SIGHUP)

    assert foreman.wait(20 * SLOWNESS) == 0
    (back,) = site.store.page("queue:default")
    assert "strikes" not in parsed(back.raw).get("hf", {})


def test_the_recorders_of_a_foreman_that_nobody_started_again_are_found(site: Site) -> None:
    """Two foremen of one command; both are killed, and only one comes back: it settles for both, at once."""
    site.push("long", 1, 2)
    first = site.start("-c", "1")
    second = site.start("-c", "1")
    site.wait(lambda: len(site.lines("begin")) == 2, "both to run a job")
    assert len(list((site.root / "r").iterdir())) == 2
    for foreman in (first, second):
        os.killpg(foreman.pid, signal.SIGKILL)
        foreman.wait()

    site.start("-c", "1")

    wait = "both jobs to be tried again, one by one (the lane has one of them)"
    site.wait(lambda: {n for _, n, _ in site.lines("begin")[2:]} and site.store.counts().busy == 1, wait)  # fmt: skip
    assert len(site.store.page("queue:quarantine")) == 1


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (None, "there is no module"),
        ("import nothing_of_this_name", "nothing_of_this_name"),
        ("def f(:", "SyntaxError"),
    ],
)
def test_a_module_that_cannot_be_imported_ends_it_with_a_sentence(
    site: Site, text: str | None, says: str
) -> None:
    """A typing error on the command line is no crash loop."""
    if text is None:
        (site.root / "tasks.py").unlink()
    else:
        (site.root / "tasks.py").write_text(text)

    foreman = site.start()

    assert foreman.wait(20 * SLOWNESS) == 2
    output = site.output.read_text()
    assert says in output
    assert "Traceback" not in output


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["a", "b"], [("a", 0), ("b", 0)]),
        (["critical,6", "default,2"], [("critical", 6), ("default", 2)]),
        (["critical,6", "default"], [("critical", 6), ("default", 1)]),
    ],
)
def test_queues_are_written_as_in_sidekiq(words: list[str], found: list[tuple[str, int]]) -> None:
    """Without weights strictly in order; with them by chance, and one without counts once."""
    assert jobs_work._queues(words) == found


@pytest.mark.parametrize("word", ["a,b", "a,0", "", "a b", "a,-1"])
def test_a_queue_that_is_none_is_refused(word: str) -> None:
    """Not silently served under a strange name."""
    with pytest.raises(UsageError, match="-q"):
        jobs_work._queues([word])


def test_sizes_and_modules_are_read_as_people_write_them() -> None:
    """`512M` and not bytes; and who writes a path is told what it should have been."""
    assert jobs_work._bytes("512M") == 512 << 20
    assert jobs_work._bytes("1.5G") == 3 << 29
    assert jobs_work._bytes("4096") == 4096
    with pytest.raises(UsageError, match="512M"):
        jobs_work._bytes("much")
    with pytest.raises(UsageError, match=r"holdfast jobs work shop\.tasks"):
        jobs_work._module("shop/tasks.py")


def test_a_store_that_is_none_is_told_at_once(site: Site) -> None:
    """Nothing is started for a URL that makes no sense."""
    site.url = "redisss://here"
    foreman = site.start()

    assert foreman.wait(20 * SLOWNESS) == 1
    assert "redisss" in site.output.read_text()
    assert "Traceback" not in site.output.read_text()
