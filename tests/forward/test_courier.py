"""What a target takes is noted, what it does not take is kept; and what its answers mean."""

from __future__ import annotations

import gzip
import http.server
import json
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import pytest

from holdfast.forward import settings
from holdfast.forward.collector import Collector, halved
from holdfast.forward.courier import Courier
from holdfast.forward.cursor import Cursor
from holdfast.forward.jsonlines import JsonLines
from holdfast.forward.otlp import Resources
from holdfast.forward.posting import NotTakenError, Poster
from holdfast.forward.reading import OPENED, Feed, News, Portion
from holdfast.linux import files
from holdfast.records import incidents
from holdfast.records.logs import Line
from holdfast.records.taps import Mark
from node import SLOWNESS, wait_for
from records.test_taps import Log

if TYPE_CHECKING:
    from collections.abc import Callable

    from holdfast.forward.courier import Target

TIMEOUT_S = 5.0 * SLOWNESS
Answer = tuple[int, dict[str, str], str]  #: status, headers, body
OK: Answer = (200, {}, "{}")


class Server:
    """A collector on loopback that answers as told."""

    def __init__(self, *answers: Answer) -> None:
        self.answers = list(answers)
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        server = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                data = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers.get("Content-Encoding") == "gzip":
                    data = gzip.decompress(data)
                server.bodies.append(json.loads(data))
                server.headers.append(
                    {"path": self.path, **{k.lower(): v for k, v in self.headers.items()}}
                )
                status, headers, body = server.answers.pop(0) if server.answers else OK
                self.send_response(status)
                for name, value in {"Content-Length": str(len(body)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body.encode())

            def log_message(self, *_args: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.02,), daemon=True
        )
        self._thread.start()

    def texts(self) -> list[str]:
        return [
            record["body"]["stringValue"]
            for body in self.bodies for resource in body["resourceLogs"]
            for scope in resource["scopeLogs"] for record in scope["logRecords"]
        ]  # fmt: skip

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def collector(server: Server, **headers: str) -> Collector:
    return Collector(
        Poster(server.url, headers, TIMEOUT_S, is_compressed=True), Resources("box", {})
    )


def lines(*texts: str) -> Portion:
    made = Portion()
    made.lines = [Line(1.0, "out", "web", 1, text) for text in texts]
    return made


@pytest.mark.parametrize(
    ("status", "after"),
    [(429, "7"), (503, "7"), (502, ""), (504, ""), (401, ""), (404, ""), (500, ""), (302, "")],
)
def test_what_was_not_taken_is_kept_and_the_pause_is_what_was_asked_for(
    status: int, after: str
) -> None:
    """A collector that restarts, or that somebody configured wrongly for an hour, must not cost a line."""
    with (
        Server(
            (status, {"Retry-After": after, "Location": "/elsewhere"}, '{"message": "busy"}')
        ) as server,
        pytest.raises(NotTakenError, match=f"127.0.0.1 answered {status}: busy") as caught,
    ):
        collector(server, Authorization="Bearer s3cr3t").deliver(lines("a"), "n")

    assert caught.value.after_s == float(after or 0)
    assert "s3cr3t" not in str(caught.value)
    assert len(server.bodies) == 1


def test_nobody_there_is_no_mistake_of_ours() -> None:
    with Server() as gone:
        pass
    with pytest.raises(NotTakenError, match=r"127\.0\.0\.1: "):
        collector(gone).deliver(lines("a"), "n")


def test_what_is_refused_for_good_is_told_and_not_sent_again() -> None:
    with Server((400, {}, '{"message": "no such field"}')) as server:
        said = collector(server).deliver(lines("a", "b"), "n")

    assert said == "2 refused for good: 127.0.0.1 answered 400: no such field"


def test_a_partial_success_is_told_and_not_sent_again() -> None:
    answer = {"partialSuccess": {"rejectedLogRecords": "1", "errorMessage": "too old"}}
    with Server((200, {}, json.dumps(answer))) as server:
        said = collector(server).deliver(lines("a", "b"), "n")

    assert said == "1 refused: too old"
    assert len(server.bodies) == 1


def test_what_is_too_large_comes_in_halves() -> None:
    too_large: Answer = (413, {}, "")
    with Server(too_large, OK, too_large, OK, too_large) as server:
        said = collector(server).deliver(lines("a", "b", "c", "d"), "n")

    assert server.texts() == ["a", "b", "c", "d", "a", "b", "c", "d", "c", "d"]
    assert said == "1 refused for good: 127.0.0.1 answered 413"


def test_halves_are_all_of_it() -> None:
    some = lines("a")
    some.news = [News(OPENED, {"id": "i"}, "", 1.0) for _ in range(3)]
    first, second = halved(some)

    assert len(first.lines + second.lines) == 1
    assert len(first.news + second.news) == 3
    assert halved(lines("a")) == []


def test_a_request_is_what_a_collector_expects() -> None:
    with Server() as server:
        collector(server, X_Team="web").deliver(lines("x" * 3000), "n")
    (headers,) = server.headers

    assert (headers["path"], headers["content-type"], headers["content-encoding"]) == (
        "/v1/logs",
        "application/json",
        "gzip",
    )
    assert headers["x_team"] == "web"


# -- from the files of a node to a target ------------------------------------------------------------------


class Town:
    """The files of a node, and couriers of it one after another."""

    def __init__(self, root: Path) -> None:
        self.run, self.state = root / "run", root / "state"
        (self.run / "pulse").mkdir(parents=True)
        (self.run / "boot").write_text("x")
        self.log = Log(self._directory("web"))
        self.log.ms = int(time.time() * 1000) + 1000
        self.entries = [{"name": "web", "log": {"directory": str(self.state / "logs/web")}}]
        self.plan()
        self.said: list[tuple[str, str]] = []

    def _directory(self, name: str) -> Path:
        path = self.state / "logs" / name
        path.mkdir(parents=True)
        return path

    def plan(self) -> None:
        house = {"directory": str(self.state / "logs/holdfast")}
        text = json.dumps({"node": "n", "house_log": house, "workers": self.entries})
        files.write_atomic(str(self.run / "plan.json"), text.encode())

    def incident(self, number: int, **changes: Any) -> str:
        name = f"2024-11-03-web-{number}"
        record = {
            "id": name,
            "worker": "web",
            "kind": "crash",
            "title": "it crashed",
            "opened_unix_s": time.time() + 5,
            **changes,
        }
        path = self.state / "incidents" / name
        path.mkdir(parents=True)
        (path / "incident.json").write_text(json.dumps(record))
        files.append(str(self.state / "incidents/index.jsonl"), incidents.encode_row(record))
        return name

    def courier(self, target: Target, **more: Any) -> Courier:
        def say(level: str, event: str, **fields: object) -> None:
            self.said.append((level, f"{event} {fields.get('why', '')}".strip()))

        cursor = Cursor(str(self.state / "forward.json"), (self.run / "boot").stat().st_mtime)
        feed = Feed(str(self.run), str(self.state), cursor, ["*"], True, True, say)
        return Courier("t", target, feed, cursor, say, look_s=0.01, **more)


class Taken:
    """A target in memory; `fails` says what goes wrong with the next portions."""

    def __init__(self, *fails: Exception | None, then: Callable[[], None] = lambda: None) -> None:
        self.fails = list(fails)
        self.portions: list[Portion] = []
        self.then = then

    def deliver(self, portion: Portion, node: str) -> str:
        assert node == "n"
        failure = self.fails.pop(0) if self.fails else None
        if failure is not None:
            raise failure
        self.portions.append(portion)
        self.then()
        return ""

    def told(self) -> list[str]:
        return [line.text for portion in self.portions for line in portion.lines]

    def news(self) -> list[tuple[str, str, str]]:
        return [
            (one.kind, one.record["id"], one.verdict)
            for portion in self.portions
            for one in portion.news
        ]


class Killed(Exception):  # noqa: N818 -- it is none
    """The process was killed here."""


@pytest.fixture
def town(tmp_path: Path) -> Town:
    return Town(tmp_path)


def test_a_new_life_goes_on_behind_what_was_noted(town: Town) -> None:
    town.log.say("one", "two")
    first = Taken()
    courier = town.courier(first)
    courier.turn()
    courier._cursor.save(at_once=True)
    town.log.say("three")
    town.log.close()
    town.log.say("four")
    second = Taken()
    town.courier(second).turn()

    assert (first.told(), second.told()) == (["one", "two"], ["three", "four"])


def test_killed_between_the_delivery_and_its_note_it_is_sent_again(town: Town) -> None:
    """At least once: the other side may have it, nobody here can know."""

    def dies() -> None:
        raise Killed

    town.log.say("one")
    first = Taken(then=dies)
    with pytest.raises(Killed):
        town.courier(first).turn()
    second = Taken()
    town.courier(second).turn()

    assert first.told() == second.told() == ["one"]


def test_what_is_not_taken_is_tried_again_and_said_once(town: Town) -> None:
    town.log.say("one")
    failure = NotTakenError("box answered 503", after_s=0.01)
    target = Taken(failure, failure, failure)
    town.courier(target).turn()

    assert target.told() == ["one"]
    assert town.said == [
        ("warning", "not taken, trying again box answered 503"),
        ("info", "taken again"),
    ]


def test_figures_go_on_while_lines_wait(town: Town) -> None:
    """Another path, another limit: what refuses lines may take figures."""
    town.log.say("one")
    measured: list[int] = []

    def measure() -> str:
        measured.append(1)
        return ""

    failure = NotTakenError("box answered 429", after_s=0.2)
    courier = town.courier(Taken(failure), measure=measure, every_s=0.02)
    courier.turn()

    assert len(measured) >= 2


def test_an_incident_is_told_when_it_opens_and_when_its_verdict_is_there(town: Town) -> None:
    name = town.incident(1, verdict="open")
    target = Taken()
    courier = town.courier(target)
    courier.turn()
    courier.turn()
    files.append(
        str(town.state / "incidents" / name / "timeline.jsonl"),
        b'{"unix_s": 9.5, "what": "verdict", "verdict": "cured"}\n',
    )
    courier.turn()
    courier._cursor.save(at_once=True)
    later = Taken()
    town.courier(later).turn()

    assert target.news() == [("opened", name, ""), ("settled", name, "cured")]
    assert target.portions[-1].news[0].unix_s == 9.5
    assert later.news() == []


def test_incidents_from_before_anybody_wanted_them_are_not_told(town: Town) -> None:
    town.incident(1, opened_unix_s=1000.0)
    target = Taken()
    town.courier(target).turn()

    assert target.news() == []


def test_a_worker_that_left_the_plan_is_read_to_its_end(town: Town) -> None:
    """Its last words are what somebody will look for."""
    town.log.say("one")
    first = town.courier(Taken())
    first.turn()
    first._cursor.save(at_once=True)
    town.log.say("last words")
    town.entries.clear()
    town.plan()
    target = Taken()
    town.courier(target).turn()

    assert target.told() == ["last words"]


def test_only_what_is_wanted_is_read(town: Town) -> None:
    town.log.say("one")
    cursor = Cursor(str(town.state / "forward.json"), 0.0)
    feed = Feed(
        str(town.run), str(town.state), cursor, ["db*"], False, False, lambda *_a, **_k: None
    )
    feed.look()

    assert not feed.next()


def test_a_cursor_that_cannot_be_read_is_said_and_begins_with_this_node(town: Town) -> None:
    town.log.say("one")
    (town.state / "forward.json").write_text('{"format": 1, "marks": ')
    target = Taken()
    courier = town.courier(target)
    trouble = courier._cursor.trouble
    courier.turn()

    assert "cannot be read" in trouble
    assert target.told() == ["one"]


def test_a_cursor_survives_its_own_file(tmp_path: Path) -> None:
    cursor = Cursor(str(tmp_path / "c.json"), 5.0)
    cursor.advance({"web/out": Mark(1, 2, 3)}, {"i": "cured"})
    cursor.save(at_once=True)
    again = Cursor(str(tmp_path / "c.json"), 99.0)

    assert (again.marks, again.told, again.since_unix_s) == (
        {"web/out": Mark(1, 2, 3)},
        {"i": "cured"},
        5.0,
    )


def test_what_was_told_is_remembered_for_as_long_as_it_could_be_told_again(tmp_path: Path) -> None:
    """Five thousand incidents in a bad week are told once each; those of last year need not be remembered."""
    cursor = Cursor(str(tmp_path / "c.json"), 0.0)
    today = time.strftime("%Y-%m-%d", time.gmtime())
    cursor.advance(
        {}, {f"{today}-web-{number}": "cured" for number in range(5000)} | {"2020-01-01-web-1": ""}
    )
    cursor.save(at_once=True)

    assert len(cursor.told) == 5000


def test_a_portion_is_small_however_much_there_is(town: Town) -> None:
    """A target that was away for a day costs no more memory than one that was not."""
    for _ in range(40):
        town.log.say("x" * 50_000)
    target = Taken()
    town.courier(target).turn()

    assert len(target.told()) == 40
    assert (
        max(sum(len(line.text) for line in portion.lines) for portion in target.portions) < 400_000
    )


def test_json_lines_go_to_a_file_that_others_may_rename(town: Town, tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    town.log.say("one")
    town.incident(1)
    courier = town.courier(JsonLines(str(path)))
    courier.turn()
    path.rename(tmp_path / "old.jsonl")
    town.log.say("two")
    courier.turn()
    first, incident = map(json.loads, (tmp_path / "old.jsonl").read_text().splitlines())
    (second,) = map(json.loads, path.read_text().splitlines())

    assert (first["worker"], first["text"], first["level"], first["node"]) == (
        "web",
        "one",
        "info",
        "n",
    )
    assert (incident["event"], incident["incident"]) == ("incident_opened", "2024-11-03-web-1")
    assert second["text"] == "two"


def test_a_line_that_a_killed_life_left_half_does_not_spoil_the_next(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    path.write_bytes(b'{"text": "ha')
    JsonLines(str(path)).deliver(lines("whole"), "n")

    assert json.loads(path.read_text().splitlines()[1])["text"] == "whole"


def test_secrets_come_from_where_they_are_named(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("t0ken\n")
    given = {"headers": {"A": "b"}, "headers_env": "MORE", "bearer_file": str(tmp_path / "token")}

    assert settings.headers(given, {"MORE": "x-key=k3y%3D, y=z"}) == {
        "A": "b",
        "x-key": "k3y=",
        "y": "z",
        "Authorization": "Bearer t0ken",
    }
    with pytest.raises(settings.BrokenError, match="the environment variable MORE is not set"):
        settings.headers(given, {})


# -- the process itself ------------------------------------------------------------------------------------


@pytest.mark.faults
def test_shot_at_any_moment_it_leaves_nothing_out(tmp_path: Path) -> None:
    """A real container, killed again and again while a worker writes: every line is there, in order but for what came twice."""
    from alerts.conftest import Town as Place

    place = Place(tmp_path)
    directory = place.state / "logs/backend"
    directory.mkdir(parents=True)
    (place.run_dir / "boot").write_text("x")
    log = Log(directory)
    log.ms = int(time.time() * 1000) + 1000
    out = tmp_path / "out.jsonl"
    place.container.components.clear()
    place.container.host(
        "forward",
        "holdfast.forward:app",
        target={"file": {"type": "json", "path": str(out), "house": False}},
    )
    number = 0

    def told() -> list[int]:
        if not out.exists():
            return []
        found = []
        for line in out.read_text().splitlines():
            try:
                found.append(int(json.loads(line)["text"]))
            except ValueError:
                continue  # half of one, at a kill
        return found

    try:
        for pause_s in (0.3, 0.0, 0.15):
            place.n += 1
            place.container.start_ready(place.n)
            plan = json.loads((place.run_dir / "plan.json").read_text())
            plan["workers"][0]["log"] = {"directory": str(directory)}
            files.write_atomic(str(place.run_dir / "plan.json"), json.dumps(plan).encode())
            for _ in range(5):
                log.say(str(number))
                number += 1
            if pause_s == 0.3:
                wait_for(lambda: len(told()) >= 5, "the first lines")
            time.sleep(pause_s)  # the moment of the kill is the point
            place.kill()
        place.n += 1
        place.container.start_ready(place.n)
        plan = json.loads((place.run_dir / "plan.json").read_text())
        plan["workers"][0]["log"] = {"directory": str(directory)}
        files.write_atomic(str(place.run_dir / "plan.json"), json.dumps(plan).encode())
        wait_for(lambda: number - 1 in told(), "the last line")
    finally:
        place.container.kill_all()

    assert sorted(set(told())) == list(range(number))
