"""The real Sidekiq (Debian's ruby-sidekiq) as client, worker and observer of our jobs: who moves over does it one piece at a time."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import holdfast
from holdfast.jobs.opening import open_store
from node import SLOWNESS, wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

    from holdfast.jobs.store import Store

pytestmark = [
    pytest.mark.faults,
    pytest.mark.skipif(
        not (shutil.which("ruby") and shutil.which("sidekiq") and shutil.which("redis-server")),
        reason="needs redis-server and ruby-sidekiq",
    ),
]

HERE = Path(__file__).parent
SOURCE = str(Path(holdfast.__file__).parent.parent)
TASKS = '''
import json, os, time
from holdfast.sdk import job


def tell(*words):
    fd = os.open(os.environ["OUT"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    os.write(fd, (json.dumps(words) + "\\n").encode())
    os.close(fd)


@job(name="PyAppend")
def append(*args):
    tell(*args)


@job(name="PyBoom")
def boom(i):
    raise ValueError(f"python boom {i}")


@job(name="PyHopeless")
def hopeless(i):
    raise LookupError(f"python gave up {i}")


@job(name="PyOnce")
def once(path):
    """Fails the first time."""
    if not os.path.exists(path):
        open(path, "w").close()
        raise ValueError("not yet")
    tell("once")


@job(name="PyWait")
def wait(path):
    while not os.path.exists(path):
        time.sleep(0.01)
    tell("waited")
'''


class Ruby:
    """The real Sidekiq in a process of its own, asked line by line."""

    def __init__(self, env: dict[str, str]) -> None:
        self.process = subprocess.Popen(
            ["ruby", str(HERE / "sidekiq_peer.rb")], env=env, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip

    def ask(self, do: str, **more: Any) -> Any:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps({"do": do, **more}) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        assert line, "the Ruby process answers"
        return json.loads(line)["is"]

    def push(self, klass: str, *args: Any, queue: str = "python", **more: Any) -> str:
        jid: str = self.ask("push", **{"class": klass}, args=args, queue=queue, more=more)
        return jid

    def shows(self, path: str, *words: str) -> bool:
        """Whether the page of Sidekiq::Web at this path has all these words on it."""
        page = self.ask("get", path=path)
        assert page["status"] == 200, page["text"][:300]
        return all(word in page["text"] for word in words)

    def click(self, path: str, **params: str) -> None:
        assert self.ask("post", path=path, params=params)["status"] in (302, 303)

    def end(self) -> None:
        self.process.kill()
        self.process.communicate()


class Stage:
    """A Redis, a Ruby process, and workers of either language on demand."""

    def __init__(self, tmp: Path) -> None:
        self.tmp = tmp
        self.out = tmp / "out"
        self.children: list[subprocess.Popen[bytes]] = []
        with socket.socket() as sock:
            sock.bind(("127.0.0.1", 0))
            port = sock.getsockname()[1]
        (tmp / "py_tasks.py").write_text(TASKS)
        self.url = f"redis://127.0.0.1:{port}/0"
        self.env = {
            **os.environ,
            "REDIS_URL": self.url,
            "OUT": str(self.out),
            "PYTHONPATH": f"{SOURCE}{os.pathsep}{tmp}",
        }
        self._begin("redis", ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(tmp)])  # fmt: skip

        def is_up() -> bool:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                return True
            return False

        wait_for(is_up, "redis-server to listen")
        self.store: Store = open_store(self.url)
        self.ruby = Ruby(self.env)

    def _begin(self, name: str, argv: list[str]) -> subprocess.Popen[bytes]:
        with (self.tmp / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(argv, env=self.env, cwd=self.tmp, stdout=log, stderr=log)
        self.children.append(process)
        return process

    def python_worker(self) -> subprocess.Popen[bytes]:
        """`holdfast jobs work`, as a person starts it."""
        return self._begin(
            "python",
            [sys.executable, "-m", "holdfast", "jobs", "work", "py_tasks", "-q", "python", "-c", "3", "--async", "2", "--store", self.url, "--lease", "5s"],
        )  # fmt: skip

    def ruby_worker(self) -> subprocess.Popen[bytes]:
        return self._begin(
            "ruby", ["sidekiq", "-r", str(HERE / "sidekiq_peer.rb"), "-c", "3", "-q", "ruby"]
        )

    def told(self) -> list[Any]:
        with contextlib.suppress(FileNotFoundError):
            return [json.loads(line) for line in self.out.read_text().splitlines()]
        return []

    def our_process(self) -> Any:
        """What Sidekiq knows of our worker; nothing yet: None."""
        rows = self.ruby.ask("processes")
        return next((row for row in rows if row.get("queues") == ["python"]), None)

    def end(self) -> None:
        self.ruby.end()
        self.store.close()
        for child in reversed(self.children):
            if child.poll() is None:
                child.send_signal(signal.SIGTERM)
                try:
                    child.wait(10 * SLOWNESS)
                except subprocess.TimeoutExpired:
                    child.kill()
                    child.wait()


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    made = Stage(tmp_path)
    yield made
    made.end()


def test_what_ruby_pushes_our_workers_run(stage: Stage) -> None:
    """One by one, in bulk, and for later; Sidekiq's own figures count them."""
    stage.ruby.push("PyAppend", "one", {"deep": [1, None, 2.5]}, "\u00fcml\u00e4ut \u2603")
    stage.ruby.ask("bulk", **{"class": "PyAppend"}, args=[[i] for i in range(50)], queue="python")
    stage.ruby.push("PyAppend", 2**63, queue="python")
    stage.python_worker()
    soon = time.time() + 0.5
    stage.ruby.push("PyAppend", "later", at=soon)
    wanted = [["one", {"deep": [1, None, 2.5]}, "\u00fcml\u00e4ut \u2603"], *([i] for i in range(50)), [2**63], ["later"]]  # fmt: skip

    wait_for(lambda: len(stage.told()) >= len(wanted), "all of them to be done")
    assert sorted(map(str, stage.told())) == sorted(map(str, wanted))
    wait_for(lambda: stage.ruby.ask("stats")["processed"] == len(wanted), "Sidekiq's figures")
    assert stage.ruby.ask("stats")["failed"] == 0


def test_what_we_enqueue_ruby_workers_run(stage: Stage) -> None:
    """A fleet that moves over: the web application is in Python already, the workers are not."""
    program = """
from holdfast.sdk import push
push("RubyAppend", "one", {"deep": [1, None]}, queue="ruby")
for i in range(20):
    push("RubyAppend", i, queue="ruby")
push("RubyBoom", 7, queue="ruby")
"""
    subprocess.run(
        [sys.executable, "-c", program], env={**stage.env, "HOLDFAST_JOBS": stage.url}, check=True
    )
    stage.ruby_worker()

    wait_for(lambda: len(stage.told()) >= 21, "Ruby to have done them", 30)
    assert sorted(map(str, stage.told())) == sorted(map(str, [["one", {"deep": [1, None]}], *([i] for i in range(20))]))  # fmt: skip
    # And what failed over there is told by us, too.
    failed = wait_for(lambda: stage.store.page("retry"), "the failed one to be in the retries")
    job = json.loads(failed[0].raw)
    assert (job["class"], job["error_class"], job["retry_count"]) == ("RubyBoom", "ArgumentError", 0)  # fmt: skip
    assert job["error_message"] == "ruby boom 7"


def test_sidekiqs_web_page_shows_our_process_and_what_it_runs(stage: Stage) -> None:
    """The page people have open at 3 am works for our workers as for theirs."""
    stage.python_worker()
    gate = stage.tmp / "gate"
    jid = stage.ruby.push("PyWait", str(gate))

    row = wait_for(stage.our_process, "our process to be among Sidekiq's")
    assert row["hostname"] == socket.gethostname()
    assert row["queues"] == ["python"]
    assert row["concurrency"] == 5
    assert row["pid"] in {int(p.name) for p in Path("/proc").glob("[0-9]*")}
    wait_for(lambda: stage.ruby.ask("work"), "its work to be told")
    (work,) = stage.ruby.ask("work")
    assert work["process"] == row["identity"]
    assert work["queue"] == "python"
    assert work["payload"]["jid"] == jid
    assert stage.ruby.shows("/busy", row["identity"], "PyWait", jid, "python")
    assert stage.our_process()["busy"] == 1

    gate.touch()
    wait_for(lambda: ["waited"] in stage.told(), "the job to end")
    wait_for(lambda: not stage.ruby.ask("work"), "the page to show that nothing runs")


def test_a_failure_of_ours_is_on_sidekiqs_pages_with_its_backtrace_and_its_buttons_work(stage: Stage) -> None:  # fmt: skip
    """Retry now, delete, and a second life from the morgue: by Sidekiq's buttons, byte for byte the same member."""
    stage.python_worker()
    stage.ruby.push("PyBoom", 7, retry=3, backtrace=True)
    stage.ruby.push("PyHopeless", 8, retry=0)
    stage.ruby.push("PyOnce", str(stage.tmp / "once"))
    wait_for(lambda: stage.ruby.ask("stats")["retry"] == 2, "two to be in the retries")
    wait_for(lambda: stage.ruby.ask("stats")["dead"] == 1, "one to be in the morgue")

    failed = {entry["class"]: entry for entry in stage.ruby.ask("set", name="retry")}
    boom, once = failed["PyBoom"], failed["PyOnce"]
    assert (boom["item"]["error_class"], boom["item"]["error_message"]) == ("ValueError", "python boom 7")  # fmt: skip
    assert (boom["item"]["retry_count"], boom["item"]["retry"]) == (0, 3)
    assert any("py_tasks.py" in line and "boom" in line for line in boom["backtrace"])
    assert 10 < boom["at"] - boom["item"]["failed_at"] < 60, "Sidekiq's first delay"
    assert stage.ruby.shows("/retries", "PyBoom", "PyOnce", "python boom 7")
    assert stage.ruby.shows(f"/retries/{boom['score']}-{boom['jid']}", "ValueError", "py_tasks.py")
    assert stage.ruby.shows("/morgue", "PyHopeless", "python gave up 8")

    stage.ruby.click(f"/retries/{once['score']}-{once['jid']}", retry="1")
    wait_for(lambda: ["once"] in stage.told(), "the second attempt of it")
    stage.ruby.click(f"/retries/{boom['score']}-{boom['jid']}", delete="1")
    assert stage.ruby.ask("stats")["retry"] == 0
    (dead,) = stage.ruby.ask("set", name="dead")
    stage.ruby.click(f"/morgue/{dead['score']}-{dead['jid']}", retry="1")
    wait_for(
        lambda: any(e["score"] != dead["score"] for e in stage.ruby.ask("set", name="dead")),
        "it to have run and died once more",
    )


def test_quiet_and_stop_of_sidekiqs_page_reach_our_workers(stage: Stage) -> None:
    """Quiet: what runs goes on, nothing new begins. Stop: the process ends, and nothing is lost."""
    stage.python_worker()
    gate = stage.tmp / "gate"
    stage.ruby.push("PyWait", str(gate))
    row = wait_for(stage.our_process, "our process to be among Sidekiq's")
    wait_for(lambda: stage.ruby.ask("work"), "its work to be told")

    stage.ruby.click("/busy", identity=row["identity"], quiet="1")
    wait_for(lambda: stage.our_process()["quiet"] == "true", "the page to show that it is quiet")
    stage.ruby.push("PyAppend", "while quiet")
    gate.touch()
    wait_for(lambda: ["waited"] in stage.told(), "the running job to end")
    wait_for(lambda: not stage.ruby.ask("work"), "nothing to run any more")
    assert ["while quiet"] not in stage.told()
    assert stage.ruby.ask("stats")["enqueued"] == 1

    stage.ruby.click("/busy", identity=row["identity"], stop="1")
    wait_for(lambda: not Path(f"/proc/{row['pid']}").exists(), "the process to end")
    # What a person stopped is started again by whoever keeps it, and that one is not quiet.
    wait_for(lambda: ["while quiet"] in stage.told(), "its successor to do the waiting job", 20)
