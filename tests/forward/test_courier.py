"""What a target takes is noted, what it does not take is kept; and what its answers mean."""

from __future__ import annotations

import gzip
import http.server
import json
import threading
import time
from email.utils import formatdate
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import pytest

from holdfast.forward import serving, settings
from holdfast.forward.answers import NOTHING, NotTakenError, Refused
from holdfast.forward.collector import Collector, halved
from holdfast.forward.courier import Courier
from holdfast.forward.cursor import Cursor
from holdfast.forward.flag import NAME, RefusalFlag
from holdfast.forward.jsonlines import JsonLines
from holdfast.forward.otlp import Resources
from holdfast.forward.posting import Poster
from holdfast.forward.reading import OPENED, Feed, News, Portion
from holdfast.linux import files
from holdfast.records import incidents
from holdfast.records.logs import Line
from holdfast.records.taps import Mark
from holdfast.watchdog.cases import OWN
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
    [(429, "7"), (503, "7"), (502, ""), (504, ""), (302, "")],
)
def test_what_was_not_taken_is_kept_and_the_pause_is_what_was_asked_for(
    status: int, after: str
) -> None:
    """A collector that restarts must not cost a line."""
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


@pytest.mark.parametrize(
    ("status", "is_general"),
    [(400, False), (422, False), (401, True), (403, True), (404, True), (405, True), (408, True), (500, True), (501, True)],
)  # fmt: skip
def test_what_is_refused_for_good_is_told_and_not_sent_again(status: int, is_general: bool) -> None:
    """The protocol: all but 429, 502, 503 and 504 must not be sent again."""
    with Server((status, {}, '{"message": "no such field"}')) as server:
        refused = collector(server, Authorization="Bearer s3cr3t").deliver(lines("a", "b"), "n")

    assert (refused.number, refused.is_general) == (2, is_general)
    assert refused.says == f"127.0.0.1 answered {status}: no such field"
    assert len(server.bodies) == 1


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("it has to be enabled with --enable\nmore", ": it has to be enabled with --enable"),
        ("<html>", ""), ("{}", ""), ("\x00\x01", ""), ("", ""),
    ],
)  # fmt: skip
def test_why_is_told_in_the_words_of_the_other_side(body: str, says: str) -> None:
    """Prometheus says in plain text which option is missing: whoever hears only "404" looks for it at the wrong end."""
    with Server((404, {}, body)) as server:
        refused = collector(server).deliver(lines("a"), "n")

    assert refused.says == f"127.0.0.1 answered 404{says}"


def test_the_pause_that_was_asked_for_may_be_a_date() -> None:
    """HTTP has both; who reads only seconds comes back at once and is throttled for longer."""
    date = formatdate(time.time() + 100, usegmt=True)
    with Server((503, {"Retry-After": date}, "")) as server, pytest.raises(NotTakenError) as caught:
        collector(server).deliver(lines("a"), "n")
    with Server((503, {"Retry-After": "soon"}, "")) as server, pytest.raises(NotTakenError) as odd:
        collector(server).deliver(lines("a"), "n")

    assert 60.0 < caught.value.after_s <= 100.0
    assert odd.value.after_s == 0.0


def test_a_partial_success_is_told_and_not_sent_again() -> None:
    answer = {"partialSuccess": {"rejectedLogRecords": "1", "errorMessage": "too old"}}
    with Server((200, {}, json.dumps(answer))) as server:
        refused = collector(server).deliver(lines("a", "b"), "n")

    assert (refused.number, refused.says, refused.is_general) == (1, "too old", False)
    assert len(server.bodies) == 1


def test_a_warning_of_the_other_side_is_no_loss() -> None:
    answer = {"partialSuccess": {"rejectedLogRecords": "0", "errorMessage": "use a newer version"}}
    with Server((200, {}, json.dumps(answer))) as server:
        refused = collector(server).deliver(lines("a"), "n")

    assert (refused.number, refused.says) == (0, "use a newer version")


def test_what_is_too_large_comes_in_halves() -> None:
    too_large: Answer = (413, {}, "")
    with Server(too_large, OK, too_large, OK, too_large) as server:
        refused = collector(server).deliver(lines("a", "b", "c", "d"), "n")

    assert server.texts() == ["a", "b", "c", "d", "a", "b", "c", "d", "c", "d"]
    assert (refused.number, refused.says) == (1, "127.0.0.1 answered 413")


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

    def __init__(
        self, *fails: Exception | Refused | None, then: Callable[[], None] = lambda: None
    ) -> None:
        self.fails = list(fails)
        self.portions: list[Portion] = []
        self.then = then

    def deliver(self, portion: Portion, node: str) -> Refused:
        assert node == "n"
        failure = self.fails.pop(0) if self.fails else None
        if isinstance(failure, Exception):
            raise failure
        if failure is not None:
            return failure
        self.portions.append(portion)
        self.then()
        return NOTHING

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


def test_what_is_refused_is_counted_told_once_and_shown_by_a_flag(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lines that a wrong limit costs are gone; that nobody hears of it is what must not be."""
    (town.run / "flags").mkdir()
    flag = RefusalFlag(str(town.run), "forward")
    refused = Refused(1, "box answered 400: too long")
    target = Taken(refused, refused)
    courier = town.courier(target, flag=flag)
    for text in ("one", "two", "three"):
        town.log.say(text)
        courier.turn()
    shown = json.loads((town.run / "flags/forward.forward_refused").read_text())
    courier._cursor.save(at_once=True)
    again = Cursor(str(town.state / "forward.json"), 0.0)
    monkeypatch.setattr("holdfast.forward.courier.CALM_S", 0.0)
    courier.turn()

    assert target.told() == ["three"]
    assert again.refused == {"records": 2, "figures": 0}
    assert shown["says"] == "t refused 2 for good: box answered 400: too long"
    assert (shown["worker"], shown["flag"], shown["phase"]) == ("forward", NAME, "shown")
    assert NAME in OWN
    assert not (town.run / "flags/forward.forward_refused").exists()
    assert town.said == [
        ("warning", "records refused for good, not sent again box answered 400: too long"),
        ("info", "no records are refused any more"),
    ]


def test_a_wrong_token_costs_a_portion_at_a_time_and_not_all_there_is(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was refused must not be sent again, so what would be refused next has to wait."""
    pauses: list[float] = []
    courier = town.courier(Taken(*[Refused(1, "box answered 401", is_general=True)] * 4))
    monkeypatch.setattr(courier, "_wait", pauses.append)
    for number in range(5):
        town.log.say(str(number))
        courier.turn()

    assert [round(pause) for pause in pauses] == pytest.approx([1, 2, 4, 8], rel=0.51)
    assert courier._cursor.refused["records"] == 4
    assert town.said[-1] == ("info", "taken again")


def test_a_flag_of_a_killed_life_is_not_believed(town: Town) -> None:
    (town.run / "flags").mkdir()
    RefusalFlag(str(town.run), "forward").tell("t", 3, "no")
    (town.run / "flags/forward.forward_refused.7.1.tmp").write_text("{")
    RefusalFlag(str(town.run), "forward")

    assert list((town.run / "flags").iterdir()) == []


def test_figures_go_on_while_lines_wait(town: Town) -> None:
    """Another path, another limit: what refuses lines may take figures."""
    town.log.say("one")
    measured: list[int] = []

    def measure() -> Refused:
        measured.append(1)
        return NOTHING

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


def test_a_target_is_made_of_what_the_configuration_says(town: Town) -> None:
    """Figures go out at once, and a refusal of theirs is counted as well: nothing else makes these parts into one."""
    (town.run / "flags").mkdir()
    wanted = {"type": "otlp", "metrics": True, "logs": False, "incidents": False, "every": 0.01}
    with Server((404, {}, "no such path")) as server:
        flag = RefusalFlag(str(town.run), "forward")
        given = settings.Wanted("t", {**wanted, "url": server.url})
        made = serving.courier(given, str(town.run), str(town.state), flag)
        made._due_s = 0.0
        made._look_s = 0.0
        made.turn()

    assert server.headers[0]["path"] == "/v1/metrics"
    assert made._cursor.refused["figures"] > 0
    assert "404: no such path" in (town.run / "flags/forward.forward_refused").read_text()


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
