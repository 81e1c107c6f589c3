"""Does `holdfast metrics` tell the truth, hold out against rude clients, and die without anybody noticing?"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from cli.fake_node import FakeNode, planned
from cli.queue_hands import OWNER
from holdfast.cli import commands, metrics_jobs, metrics_serving, place
from holdfast.cli.main import main
from holdfast.cli.metrics import Face
from holdfast.cli.metrics_taking import Deaths, Incidents, Reader, newest
from holdfast.jobs.opening import open_store
from holdfast.model.errors import UsageError
from holdfast.wire import journal, layout, sample
from node import SLOWNESS, wait_for
from records import strict

if TYPE_CHECKING:
    from collections.abc import Iterator

SOURCE = str(Path(commands.__file__).parents[2])


# -- printed once ---------------------------------------------------------------------------------------


def test_once_prints_what_a_textfile_collector_can_take(capsys: pytest.CaptureFixture[str]) -> None:
    with FakeNode(planned("web"), planned("mail", limits={"memory_bytes": 1 << 30})) as fake:
        fake.up()
        fake.workers["mail"] |= {"ready": False, "restarts": 4}
        fake.raise_flag("web", "loop_lag", phase="shown")
        fake.raise_flag("@node", "disk_low", phase="gave_up")
        fake.write_samples("web", 3, 0.5)

        assert main(["metrics", "--once", "--state", fake.state_dir]) == 0
    found = strict.openmetrics(capsys.readouterr().out.encode())

    assert found.value("holdfast_worker_up", worker="web") == 1
    assert found.value("holdfast_worker_ready", worker="mail") == 0
    assert found.value("holdfast_worker_restarts_total", worker="mail") == 4
    assert found.value("holdfast_worker_memory_limit_bytes", worker="mail") == 1 << 30
    assert found.value("holdfast_worker_flag", worker="web", flag="loop_lag") == 1
    assert found.value("holdfast_node_flag", flag="disk_low") == 1
    assert found.value("holdfast_worker_children", worker="web") == 0
    assert (found.value("holdfast_worker_memory_bytes", worker="web") or 0) > 1 << 20


def test_json_has_the_figures_and_the_readiness(capsys: pytest.CaptureFixture[str]) -> None:
    with FakeNode(planned("web")) as fake:
        fake.up()
        fake.workers["web"]["ready"] = False

        assert main(["metrics", "--json", "--state", fake.state_dir]) == 0
    told = json.loads(capsys.readouterr().out)

    assert (told["node"], told["ready"]) == ("fake", False)
    assert told["reasons"] == [{"what": "worker", "says": "running", "worker": "web"}]
    up = next(family for family in told["metrics"] if family["name"] == "holdfast_worker_up")
    assert up["samples"] == [{"name": "holdfast_worker_up", "labels": {"worker": "web"}, "value": 1}]  # fmt: skip


@pytest.mark.parametrize(
    ("argv", "status", "words"),
    [
        ((), 3, "no node is running"),
        (("--host", "x"), 2, "only with --listen"),
        (("--listen", "nowhere"), 2, "is no address"),
        (("--listen", "127.0.0.1:9464", "--once"), 2, "not allowed with"),
        (("--listen", "203.0.113.1:0"), 1, "cannot listen at 203.0.113.1:0"),
    ],
)
def test_mistakes_are_answered_in_words(
    argv: tuple[str, ...], status: int, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with FakeNode(planned("web")) as fake:
        assert main(["metrics", *argv, "--state", fake.state_dir]) == status
    assert words in capsys.readouterr().err


def test_a_port_that_is_taken_is_named_with_the_way_out(capsys: pytest.CaptureFixture[str]) -> None:
    with FakeNode(planned("web")) as fake, socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"

        assert main(["metrics", "--listen", address, "--state", fake.state_dir]) == 1
    assert f"cannot listen at {address}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("9464", ("127.0.0.1", 9464)), (":9464", ("127.0.0.1", 9464)), ("0.0.0.0:1", ("0.0.0.0", 1)),
        ("[::1]:9464", ("::1", 9464)), ("localhost:0", ("localhost", 0)),
    ],
)  # fmt: skip
def test_an_address_may_be_written_in_these_ways(text: str, address: tuple[str, int]) -> None:
    assert metrics_serving.parse_address(text) == address


@pytest.mark.parametrize(
    "text", ["", "::1:9464", "1.2.3.4", "host:", "host:99999", "host:²", "a:-1"]
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is no address"):
        metrics_serving.parse_address(text)


# -- reading ------------------------------------------------------------------------------------------------


def test_while_the_keeper_is_away_its_journal_and_proc_are_told() -> None:
    """The worst moment is when somebody looks."""
    with FakeNode(planned("web")) as fake:
        fake.up(("anchor", "watchdog", "logger"))
        found = Reader(place.Place(fake.state_dir, "")).read()

    assert (found["running"], found["keeper_answers"]) == (True, False)
    assert [(w["name"], w["state"]) for w in found["workers"]] == [("web", "down")]
    assert [p["name"] for p in found["house"] if not p["pid"]] == ["keeper"]


def test_a_plan_that_is_replaced_is_read_anew() -> None:
    with FakeNode(planned("web")) as fake:
        fake.up()
        reader = Reader(place.Place(fake.state_dir, ""))
        before = reader.read()["digest"]
        fake.plan["digest"] = "another"
        new = Path(fake.run_dir, "new")
        new.write_text(json.dumps(fake.plan))
        new.rename(Path(fake.run_dir, layout.PLAN))

        assert (before, reader.read()["digest"]) == ("one", "another")


def test_a_container_that_hangs_holds_up_nobody_else() -> None:
    """One stopped worker must not be the reason why nothing is seen of the others."""
    with FakeNode(planned("good", kind="container"), planned("stuck", kind="container")) as fake:
        fake.up()
        says = {"ok": True, "metrics": {"shop": {"counts": {"sold": 2}, "gauges": {}, "timings": {}, "refused": 0}}}  # fmt: skip
        fake.serve(f"{fake.run_dir}/{layout.CONTROL}/good.sock", lambda _: says)
        stuck = socket.socket(socket.AF_UNIX)
        stuck.bind(f"{fake.run_dir}/{layout.CONTROL}/stuck.sock")
        stuck.listen(1)
        with stuck:
            found = Reader(place.Place(fake.state_dir, ""), components_s=0.5 * SLOWNESS).read()

    assert [(w, c, f["counts"]) for w, c, f in found["components"]] == [("good", "shop", {"sold": 2})]  # fmt: skip
    assert found["unanswered"] == 1


@pytest.mark.parametrize("answer", [{}, {"metrics": 3}, {"metrics": {"a": 1}}, {"ok": False}])
def test_a_container_that_says_nonsense_says_nothing(answer: dict[str, Any]) -> None:
    with FakeNode(planned("odd", kind="container")) as fake:
        fake.up()
        fake.serve(f"{fake.run_dir}/{layout.CONTROL}/odd.sock", lambda _: answer)

        assert Reader(place.Place(fake.state_dir, "")).read()["components"] == []


def write_journal(path: Path, *records: dict[str, Any]) -> None:
    new = path.with_name("new")
    new.write_bytes(journal.encode_all(records))
    new.rename(path)


def exits(*seqs: int, worker: str = "web", cause: str = "died") -> list[dict[str, Any]]:
    return [{"k": "exit", "seq": s, "worker": worker, "cause": cause, "role": "main"} for s in seqs]


BEGAN = {"k": "keeper", "seq": 1, "began_s": 5.0}


def test_deaths_are_counted_once_and_only_of_who_serves(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    spare = {"k": "exit", "seq": 3, "worker": "web", "cause": "died", "role": "spare"}
    write_journal(path, BEGAN, *exits(2), spare, *exits(4, cause="remedy"))
    deaths = Deaths(str(path))

    assert deaths.read() == {("web", "died"): 1, ("web", "remedy"): 1}
    with path.open("ab") as file:
        file.write(journal.encode_all(exits(5)) + b"a torn li")
    assert deaths.read() == {("web", "died"): 2, ("web", "remedy"): 1}
    assert deaths.read() == {("web", "died"): 2, ("web", "remedy"): 1}
    assert deaths.is_whole


def test_a_journal_that_is_shortened_makes_no_deaths_and_loses_none(tmp_path: Path) -> None:
    """A counter that falls from 900 to 880 reads as 880 new deaths: somebody is woken for nothing."""
    path = tmp_path / "journal"
    write_journal(path, BEGAN, *exits(*range(2, 12)))
    old = Deaths(str(path))
    assert old.read() == {("web", "died"): 10}
    with path.open("ab") as file:
        file.write(journal.encode_all(exits(12)))
    # Shortened before anybody has read the last one; and one more after it.
    write_journal(path, *exits(11, 12), {"k": "state", "seq": 13, "worker": "web"}, *exits(14))

    assert old.read() == {("web", "died"): 12}
    late = Deaths(str(path))
    assert late.read() == {}
    assert not late.is_whole
    with path.open("ab") as file:
        file.write(journal.encode_all(exits(15)))
    assert late.read() == {("web", "died"): 1}


def test_another_run_of_the_node_counts_from_its_start(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    write_journal(path, BEGAN, *exits(2, 3))
    deaths = Deaths(str(path))
    assert deaths.read() == {("web", "died"): 2}
    write_journal(path, {**BEGAN, "began_s": 77.0}, *exits(2))

    assert deaths.read() == {("web", "died"): 1}


def bundle(state_dir: Path, name: str, kind: str, *verdicts: str, opened: float) -> None:
    path = state_dir / layout.INCIDENTS / name
    path.mkdir(parents=True)
    record = {"id": name, "worker": "web", "kind": kind, "opened_unix_s": opened, "verdict": "open"}
    (path / "incident.json").write_text(json.dumps(record))
    (path / "timeline.jsonl").write_text("".join(json.dumps({"verdict": v}) + "\n" for v in verdicts))  # fmt: skip


def test_incidents_are_counted_with_their_last_verdict(tmp_path: Path) -> None:
    now_s = time.time()
    bundle(tmp_path, "2026-01-01-web-1", "crash", "open", "cured", opened=now_s - 900_000)
    bundle(tmp_path, "2026-01-02-web-1", "oom", opened=now_s - 10)
    incidents = Incidents(str(tmp_path))

    assert incidents.read(now_s) == ({("crash", "cured"): 1, ("oom", "open"): 1}, now_s - 10)
    timeline = tmp_path / layout.INCIDENTS / "2026-01-02-web-1" / "timeline.jsonl"
    timeline.write_text('{"verdict":"did_not_help"}\n')
    assert incidents.read(now_s)[0] == {("crash", "cured"): 1, ("oom", "did_not_help"): 1}
    bundle(tmp_path, "2026-01-03-web-1", "oom", opened=now_s)
    shutil.rmtree(tmp_path / layout.INCIDENTS / "2026-01-01-web-1")
    assert incidents.read(now_s) == ({("oom", "did_not_help"): 1, ("oom", "open"): 1}, now_s)


@pytest.mark.parametrize("count", [1, 2, 5, 599, 600, 601, 1300])
@pytest.mark.parametrize("hint", [0, 3, 599])
def test_the_newest_sample_is_found_from_any_hint(tmp_path: Path, count: int, hint: int) -> None:
    """A hint only saves time; one that is wrong must not show a sample of ten minutes ago."""
    data = bytearray(sample.SIZE)
    for number in range(1, count + 1):
        at = number % sample.SLOTS * sample.RECORD.size
        sample.RECORD.pack_into(data, at, number, 1, *[0] * (len(sample.FIELDS) - 2))
    path = tmp_path / "ring"
    path.write_bytes(data)
    with path.open("rb") as ring:
        found, slot = newest(ring.fileno(), hint)

    if count > 1 or hint == 1:
        assert found is not None
        assert (found[0], slot) == (count, count % sample.SLOTS)


# -- jobs ---------------------------------------------------------------------------------------------------


def test_queues_are_counted(tmp_path: Path) -> None:
    url = f"sqlite://{tmp_path}/jobs.db"
    store = open_store(url)
    store.register(OWNER, 60.0)
    store.push([json.dumps({"class": "T", "jid": f"{n:024x}", "queue": "mail", "args": []}).encode() for n in range(3)])  # fmt: skip
    store.claim(OWNER, ["mail"], 1, 1)
    jobs = metrics_jobs.Jobs()
    jobs.begin([{"jobs": {"store": url, "prefix": ""}}, {"jobs": {"store": url, "prefix": ""}}, {}])
    found = jobs.end()
    jobs.begin([])
    store.close()

    assert [queue["store"] for queue in found] == [url]
    assert found[0]["counts"].queues["mail"][0] == 2
    assert found[0]["counts"].busy == 1
    wait_for(lambda: asking() == 0, "its thread to end")


def test_a_store_that_is_not_there_yet_is_not_made(tmp_path: Path) -> None:
    """Looking must leave nothing behind, least of all a file that belongs to another user."""
    jobs = metrics_jobs.Jobs()
    jobs.begin([{"jobs": {"store": f"sqlite://{tmp_path}/jobs.db", "prefix": ""}}])

    assert [queue["counts"] for queue in jobs.end()] == [None]
    jobs.begin([])
    wait_for(lambda: asking() == 0, "its thread to end")
    assert list(tmp_path.iterdir()) == []


def asking() -> int:
    return sum(thread.name == "job store" for thread in threading.enumerate())


def test_a_store_that_does_not_answer_is_told_as_away_and_not_waited_for() -> None:
    """Redis hangs: the rest of the node is still seen, and no threads pile up."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"redis://:secret@127.0.0.1:{silent.getsockname()[1]}/0"
        jobs = metrics_jobs.Jobs()
        for _ in range(3):
            jobs.begin([{"jobs": {"store": url, "prefix": "hf:"}}])
            (queue,) = jobs.end()
            assert queue["counts"] is None
            assert "secret" not in queue["store"]
        assert asking() == 1
        jobs.begin([])
        assert jobs.end() == []
    # The thread of a store that the plan names no more ends once its question has.
    wait_for(lambda: asking() == 0, "its thread to end", 60.0)


# -- serving --------------------------------------------------------------------------------------------------


class Served:
    """A server on a free port."""

    def __init__(self, answer: Any, patience_s: float = 20.0) -> None:
        self.listener = metrics_serving.listen("127.0.0.1", 0)
        self.port = self.listener.getsockname()[1]
        server = metrics_serving.Server(self.listener, answer, ["Prom.example"], patience_s * SLOWNESS)  # fmt: skip
        self.thread = threading.Thread(target=server.serve, daemon=True)
        self.thread.start()

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), 30 * SLOWNESS)

    def say(self, text: str) -> tuple[int, dict[str, str], str]:
        """Send bytes as they are; status, headers and body of the answer."""
        with self.connect() as sock:
            sock.sendall(text.encode())
            data = b""
            while part := sock.recv(65536):
                data += part
        head, _, body = data.decode().partition("\r\n\r\n")
        first, *lines = head.split("\r\n")
        heads = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in lines)}
        return int(first.split()[1]), heads, body

    def get(self, path: str, host: str = "localhost", more: str = "") -> tuple[int, dict[str, str], str]:  # fmt: skip
        return self.say(f"GET {path} HTTP/1.1\r\nHost: {host}\r\n{more}\r\n")

    def end(self) -> None:
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.thread.join(30 * SLOWNESS)
        assert not self.thread.is_alive()


@pytest.fixture
def served() -> Iterator[Served]:
    found = Served(lambda path, accept: (200, f"{path} {accept}", "text/plain"))
    yield found
    found.end()


def test_get_and_head_are_answered_and_nothing_else(served: Served) -> None:
    status, heads, body = served.get("/x?y=1", more="Accept: a/b\r\n")
    assert (status, body, heads["content-length"]) == (200, "/x a/b", "6")
    assert heads["connection"] == "close"
    assert heads["cache-control"] == "no-store"

    status, heads, body = served.say("HEAD /x HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert (status, body, heads["content-length"]) == (200, "", "3")

    for method in ("POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE"):
        status, heads, _ = served.say(f"{method} /x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n")  # fmt: skip
        assert (status, heads["allow"]) == (405, "GET, HEAD")


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200), ("LOCALHOST:9464", 200), ("127.0.0.1:9464", 200), ("[::1]:9464", 200), ("10.1.2.3", 200),
        ("prom.example", 200), ("prom.example.", 200), ("evil.example", 403), ("localhost.evil.example", 403),
        ("127.0.0.1.evil.example", 403), ("[::1", 200), ("", 403), ("prom.example@evil", 403), ("[evil]", 403),
    ],
)  # fmt: skip
def test_a_name_that_nobody_allowed_is_refused(served: Served, host: str, status: int) -> None:
    """DNS rebinding: a page of evil.example has its own name point to 127.0.0.1 and reads what is there."""
    assert served.get("/", host)[0] == status


def test_http_1_0_without_a_host_is_answered(served: Served) -> None:
    assert served.say("GET / HTTP/1.0\r\n\r\n")[0] == 200


@pytest.mark.parametrize(
    "text",
    [
        "\x16\x03\x01\x02\x00\r\n\r\n", "GET\r\n\r\n", "GET / HTTP/1.1\r\n\r\n", "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: localhost\r\nX: " + "a" * 40_000 + "\r\n\r\n", "GET / HTTP/1.1\r\n Host: localhost\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
    ],
)  # fmt: skip
def test_what_is_no_request_gets_an_error_and_no_traceback(served: Served, text: str) -> None:
    status, _, body = served.say(text)

    assert 400 <= status < 500
    assert body == "this is no HTTP request\n"
    assert served.get("/")[0] == 200


def test_who_is_slow_is_cut_off() -> None:
    """A byte a minute, sixteen times, and nobody else gets in: the time is for all of a request."""
    found = Served(lambda *_: (200, "", "text/plain"), patience_s=0.3)
    with found.connect() as sock:
        sock.sendall(b"GET / HTTP/1.1\r\n")
        assert sock.recv(100) == b""
    found.end()


def test_there_are_sixteen_connections_and_no_more(served: Served) -> None:
    held = [served.connect() for _ in range(metrics_serving.MOST_CONNECTIONS)]
    try:
        # The kernel hands connections over in their order.
        with served.connect() as one_too_many:
            said = one_too_many.recv(65536)
        assert said.startswith(b"HTTP/1.1 503 ")
        assert b"Retry-After: 1\r\n" in said
    finally:
        for sock in held:
            sock.close()
    wait_for(lambda: served.get("/")[0] == 200, "room again")


def test_who_hangs_up_at_any_moment_is_not_missed(served: Served) -> None:
    for text in ("", "G", "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"):
        for _ in range(metrics_serving.MOST_CONNECTIONS + 4):
            with served.connect() as sock:
                sock.sendall(text.encode())
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    wait_for(lambda: served.get("/")[0] == 200, "an answer")


def test_the_paths_of_a_node() -> None:
    with FakeNode(planned("web")) as fake:
        fake.up()
        face = Face(Reader(place.Place(fake.state_dir, "")))

        assert face.answer("/livez", "") == (200, "ok\n", "text/plain; charset=utf-8")
        assert face.answer("/", "")[0] == 200
        assert face.answer("/etc/passwd", "")[0] == 404
        status, body, kind = face.answer("/metrics", "")
        assert (status, kind) == (200, "text/plain; version=0.0.4; charset=utf-8")
        assert strict.prometheus(as_bytes(body)).value("holdfast_up") == 1
        status, body, kind = face.answer("/metrics", "application/openmetrics-text")
        assert kind == "application/openmetrics-text; version=1.0.0; charset=utf-8"
        assert strict.openmetrics(as_bytes(body)).value("holdfast_up") == 1
        assert json.loads(face.answer("/metrics", "application/json")[1])["ready"] is True
        status, body, _ = face.answer("/readyz", "")
        assert (status, json.loads(body)) == (200, {"node": "fake", "ready": True, "reasons": []})

        fake.raise_flag("web", "missed_heartbeat")
        status, body, _ = face.answer("/readyz", "")
        assert status == 503
        assert json.loads(body)["reasons"] == [
            {"what": "flag", "says": "missed_heartbeat: it does not beat", "worker": "web"}
        ]
        fake.release()
        assert face.answer("/readyz", "")[0] == 503
        assert strict.prometheus(as_bytes(face.answer("/metrics", "")[1])).value("holdfast_up") == 0

        Path(fake.run_dir, layout.PLAN).write_text("no plan")
        assert face.answer("/metrics", "")[0] == 500
        assert face.answer("/livez", "")[0] == 200


def as_bytes(body: bytes | str) -> bytes:
    return body if isinstance(body, bytes) else body.encode()


def test_many_scrapes_at_once_are_one_look_or_two() -> None:
    """Two Prometheus and a dashboard: the keeper is asked no more often for it."""

    class Slow:
        def __init__(self) -> None:
            self.looks = 0
            self.go = threading.Event()

        def read(self) -> Any:
            self.looks += 1
            assert self.go.wait(20 * SLOWNESS)
            return {"node": "n", "running": False}

    slow = Slow()
    face = Face(slow)  # type: ignore[arg-type]
    statuses: list[int] = []
    asking = [
        threading.Thread(target=lambda: statuses.append(face.answer("/readyz", "")[0]))
        for _ in range(10)
    ]
    for thread in asking:
        thread.start()
    wait_for(lambda: slow.looks == 1, "the first look")
    slow.go.set()
    for thread in asking:
        thread.join(20 * SLOWNESS)

    assert statuses == [503] * 10
    assert slow.looks <= 3


# -- for real -----------------------------------------------------------------------------------------------------


class Site:
    """A node with a worker, a component and the server of its figures; and what curl would see."""

    def __init__(self) -> None:
        # Short: a Unix socket's path has 107 bytes.
        self.home = tempfile.mkdtemp(prefix="h", dir="/tmp")
        self.site = Path(self.home, "site")
        self.site.mkdir()
        self.env = {**os.environ, "HOLDFAST_RUNTIME_DIR": self.home, "PYTHONPATH": SOURCE}
        served = [sys.executable, "-m", "holdfast", "metrics", "--listen", "127.0.0.1:0"]
        (self.site / "holdfast.toml").write_text(
            f'[node]\nenv = {{ PYTHONPATH = "{SOURCE}" }}\n\n'
            f"[worker.metrics]\ncommand = {json.dumps(served)}\n\n"
            '[worker.ticker]\ncommand = ["sleep", "600"]\n\n[component.shop]\nuse = "shop:app"\n'
        )
        (self.site / "shop.py").write_text(
            "from holdfast.sdk import Component\napp = Component('shop')\n"
            "@app.on_start\nasync def begin():\n    app.count('sold', 3)\n    app.timing('sale', 0.02)\n"
        )

    def types(self, *argv: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "holdfast", *argv], cwd=self.site, env=self.env, capture_output=True, text=True,
            timeout=100 * SLOWNESS, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{argv}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def pid(self, name: str) -> int:
        found = json.loads(self.types("status", "--json"))
        return next(w["pid"] or 0 for w in found["workers"] + found["house"] if w["name"] == name)

    def get(self, path: str) -> tuple[int, bytes]:
        """Status and body; 0 while nobody answers."""
        try:
            # Each life says where it listens: no port is safe from being taken between two of them.
            said = (self.site / ".holdfast" / "logs" / "metrics" / "err.log").read_text()
            port = re.findall(r"http://127.0.0.1:(\d+)/metrics\n", said)[-1]
            with socket.create_connection(("127.0.0.1", int(port)), 30 * SLOWNESS) as sock:
                sock.sendall(f"GET {path} HTTP/1.0\r\nAccept: application/openmetrics-text\r\n\r\n".encode())  # fmt: skip
                data = b""
                while part := sock.recv(65536):
                    data += part
        except (OSError, IndexError):
            return 0, b""
        head, _, body = data.partition(b"\r\n\r\n")
        return int(head.split()[1]) if head else 0, body

    def scrape(self) -> strict.Exposition | None:
        status, body = self.get("/metrics")
        return strict.openmetrics(body) if status == 200 else None

    def shows(self, what: str, condition: Any) -> strict.Exposition:
        def look() -> strict.Exposition | None:
            found = self.scrape()
            return found if found is not None and condition(found) else None

        found: strict.Exposition = wait_for(look, what, 60.0)
        return found


@pytest.fixture
def site() -> Iterator[Site]:
    found = Site()
    yield found
    subprocess.run(
        [sys.executable, "-m", "holdfast", "--state", f"{found.site}/.holdfast", "down", "--kill"],
        env=found.env, capture_output=True, timeout=100 * SLOWNESS, check=False,
    )  # fmt: skip
    shutil.rmtree(found.home)


@pytest.mark.faults
def test_a_death_is_seen_and_the_death_of_the_server_is_not_felt(site: Site) -> None:
    """As any guest it is killed at any instant: its next life tells the same, and nobody else has noticed."""
    site.types("up", "--detach", "--timeout", f"{60 * SLOWNESS:.0f}")
    before = site.shows("a node that is ready", lambda now: now.value("holdfast_node_ready") == 1)
    assert site.get("/readyz")[0] == 200
    assert before.value("holdfast_worker_deaths_total", worker="ticker", cause="died") == 0
    assert before.value("holdfast_house_up", process="keeper") == 1
    of = {"worker": "shop", "component": "shop"}
    assert before.value("holdfast_component_events_total", **of, name="sold") == 3
    assert before.value("holdfast_component_seconds_count", **of, name="sale") == 1
    assert before.value("holdfast_worker_beat_age_seconds", worker="shop") is not None

    os.kill(site.pid("ticker"), signal.SIGKILL)
    after = site.shows(
        "the death and what followed",
        lambda now: (now.value("holdfast_worker_deaths_total", worker="ticker", cause="died"),
                     now.value("holdfast_worker_restarts_total", worker="ticker")) == (1, 1),
    )  # fmt: skip
    assert after.value("holdfast_worker_deaths_total", worker="shop", cause="died") == 0

    ticker, shop, server = site.pid("ticker"), site.pid("shop"), site.pid("metrics")
    os.kill(server, signal.SIGKILL)
    again = site.shows(
        "the server to be back and tell of its own death",
        lambda now: now.value("holdfast_worker_deaths_total", worker="metrics", cause="died") == 1,
    )
    assert again.value("holdfast_worker_deaths_total", worker="ticker", cause="died") == 1
    assert (site.pid("ticker"), site.pid("shop")) == (ticker, shop)

    os.kill(site.pid("keeper"), signal.SIGSTOP)
    _, body = wait_for(
        lambda: (answer := site.get("/readyz"))[0] == 503 and answer, "readyz to say 503", 30.0
    )
    assert {"what": "keeper", "says": "the keeper does not answer"} in json.loads(body)["reasons"]
    assert site.get("/livez") == (200, b"ok\n")
    # The watchdog replaces a keeper that does not beat.
    wait_for(lambda: site.get("/readyz")[0] == 200, "the node to be ready again", 60.0)
