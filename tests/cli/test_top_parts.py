"""What `holdfast top` is made of: keys, charts, order of the rows, ends of logs, of incidents, of the journal."""

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from cli.fake_node import FakeNode, planned, worker
from holdfast.cli.place import Place
from holdfast.cli.terminal import Paint, visible
from holdfast.cli.tops import charts, feed, keys, logtail, overview, past, screen
from holdfast.cli.tops.app import App
from holdfast.cli.tops.rows import Choice, matches, rows_of
from holdfast.wire import journal, layout, logindex, sample

PLAIN = Paint(False)
GLYPHS = charts.glyphs_for("utf-8", "xterm")


# -- keys ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "names"),
    [
        (b"jk", ["j", "k"]),
        (b"\x1b[A\x1bOB\x1b[5~\x1b[H", ["up", "down", "pgup", "home"]),
        (b"\r\n\x7f", ["enter", "enter", "backspace"]),
        ("/é".encode(), ["/", "é"]),
        (b"\x1b[1;5A\x1b[200~r", ["r"]),  # a sequence that is not known orders nothing
        (b"\x00\x01", []),
    ],
)
def test_keys_are_told_apart(data: bytes, names: list[str]) -> None:
    assert keys.split(data) == (names, b"")


def test_a_sequence_that_a_slow_line_cuts_in_two_is_one_key() -> None:
    """Over ssh the three bytes of an arrow may come in two packets: neither half may quit or restart anything."""
    for cut in (1, 2, 3):
        data = b"\x1b[5~"
        names, rest = keys.split(data[:cut])
        more, left = keys.split(rest + data[cut:])

        assert (names, more, left) == ([], ["pgup"], b"")


def test_a_lone_escape_is_a_key_when_nothing_follows() -> None:
    names, rest = keys.split(b"\x1b")

    assert (names, keys.flush(rest)) == ([], ["esc"])


# -- charts ----------------------------------------------------------------------------------------


def life(n: int, born_s: float, ended_s: float | None = None, *, is_death: bool = True) -> past.Life:  # fmt: skip
    one = past.Life(n, born_s)
    one.ended_s, one.is_death = ended_s, is_death and ended_s is not None
    return one


def test_the_strip_shows_lives_deaths_and_who_was_asked_to_end() -> None:
    lives = [life(1, 10, 29), life(2, 30, 49, is_death=False), life(3, 70)]

    assert charts.strip(lives, 0, 100, 10, GLYPHS) == "·━x━o··━━━"


def test_deaths_in_one_place_are_counted() -> None:
    """A worker that dies ten times a minute looks otherwise than one that dies once."""
    lives = [life(n, 50 + n / 2, 50.4 + n / 2) for n in range(12)]

    assert charts.strip(lives, 0, 100, 10, GLYPHS)[5] == "9"


def test_bars_fit_every_terminal() -> None:
    ascii_only = charts.glyphs_for("ascii", "xterm")
    console = charts.glyphs_for("utf-8", "linux")

    assert charts.bars([0.0, 0.5, 1.0, None], 1, 1.0, GLYPHS) == ["▁▄█ "]
    assert charts.bars([1.0], 3, 1.0, GLYPHS) == ["█", "█", "█"]
    assert "".join(charts.bars([0.1, 0.6, 1.0], 1, 1.0, ascii_only)).isascii()
    assert set("".join(charts.bars([0.1, 0.6, 1.0], 1, 1.0, console))) <= set(" ▄█")


def test_values_are_spread_over_the_time_that_they_stand_for() -> None:
    """A quiet guest is sampled twice a minute: its chart must not be all holes."""
    assert charts.spread([(0, 30, 1.0), (30, 35, 4.0)], 0, 50, 5) == [1.0, 1.0, 1.0, 4.0, None]


# -- rows ------------------------------------------------------------------------------------------


def app_on(node: FakeNode, **more: Any) -> App:
    where = Place(node.state_dir, node.config)
    app = App(where, PLAIN, GLYPHS, every_s=1.0, is_read_only=False, **more)
    app.once(100, 30)
    return app


def test_those_that_need_a_look_come_first_and_sorting_goes_by_the_columns() -> None:
    with FakeNode(*map(planned, "abcd")) as node:
        node.workers["c"] = worker("c", state="failed", ready=False, pid=None, restarts=9)
        node.workers["d"] = worker("d", restarts=3)
        node.raise_flag("b", "memory_leak")
        node.up()
        app = app_on(node)
        choice = Choice()

        assert [row.key for row in rows_of(app.node, choice)] == ["b", "c", "a", "d"]
        choice.sort = "restarts"
        assert [row.key for row in rows_of(app.node, choice)][:2] == ["c", "d"]
        choice.sort, choice.is_turned = "worker", True
        assert [row.key for row in rows_of(app.node, choice)] == ["d", "c", "b", "a"]


def test_a_filter_is_about_everything_that_a_row_says() -> None:
    with FakeNode(planned("web"), planned("mail")) as node:
        node.raise_flag("mail", "memory_leak")
        node.up()
        app = app_on(node)

        def found(pattern: str) -> list[str]:
            return [w["name"] for w in app.node.workers if matches(w, app.node, pattern)]

        assert found("") == ["web", "mail"]
        assert found("LEAK") == ["mail"]
        assert found("running !leak") == ["web"]
        assert found("web leak") == []


def test_the_tree_shows_groups_parts_and_processes() -> None:
    with FakeNode(
        planned("all"), planned("all+mail"), planned("x"), planned("q", jobs={"family": "q", "role": "worker"}),
        planned("q.2", jobs={"family": "q", "role": "worker"}),
    ) as node:  # fmt: skip
        node.plan["groups"] = [{"name": "site", "strategy": "one_for_all", "workers": ["all"]}]
        node.plan["split"] = {"all": {"parts": {"all": ["a"], "all+mail": ["mail"]}, "since_unix_s": 1, "steps": []}}  # fmt: skip
        node.write_plan()
        node.up()
        app = app_on(node)
        choice = Choice()
        choice.is_tree = True
        rows = rows_of(app.node, choice)

        assert [(row.depth, row.says or row.key) for row in rows] == [
            (0, "site/ (one_for_all)"), (1, "all/ (split)"), (2, "all"), (2, "all+mail"), (0, "x"),
            (0, "q/ (processes)"), (1, "q"), (1, "q.2"),
        ]  # fmt: skip
        assert rows[0].members == ["all", "all+mail"]


@pytest.mark.parametrize("width", [10, 40, 60, 80, 100, 133, 200])
@pytest.mark.parametrize("height", [3, 10, 24, 60])
def test_a_frame_fits_every_size(width: int, height: int) -> None:
    """40 × 10 is a phone in a hand at 3 am."""
    with FakeNode(
        planned("web"), planned("a-worker-of-a-very-long-name-that-goes-on-and-on")
    ) as node:
        node.raise_flag("web", "memory_leak", says="it grows and grows, " * 10)
        node.up()
        app = app_on(node)
        app._is_once = False
        for key in ("", "t", "enter", "?"):
            if key:
                app.press(key)
            lines = app.frame(width, height, time.monotonic())

            assert len(lines) <= height
            assert max(map(visible, lines)) <= width


def test_the_first_line_says_whether_anything_is_wrong() -> None:
    with FakeNode(planned("web"), planned("mail")) as node:
        node.up()
        app = app_on(node)
        assert overview.health(app.node, 0) == ("all is well: 2 workers ready, nothing is flagged", "green")  # fmt: skip

        node.workers["mail"] = worker("mail", state="failed", ready=False, pid=None)
        app = app_on(node)
        assert overview.health(app.node, 0)[0] == "1 of 2 workers needs a look: mail failed"

        node.workers["mail"] = worker("mail", state="starting", ready=False)
        app = app_on(node)
        assert overview.health(app.node, 0) == ("1 of 2 workers not ready yet: mail", "yellow")


def test_what_broke_just_now_is_not_called_well() -> None:
    """Everything runs again a moment after a crash; green would be a lie until somebody knows that it helped."""
    row = {"worker": "web", "kind": "crash", "opened_unix_s": 1000.0}

    assert overview.Last(row, "open", 1030.0).is_recent
    assert overview.Last(row, "came_back", 1030.0).is_recent
    assert not overview.Last(row, "cured", 1030.0).is_recent
    assert not overview.Last(row, "open", 9000.0).is_recent


# -- drawing ---------------------------------------------------------------------------------------


def test_a_frame_is_one_write_of_the_lines_that_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Over a slow ssh each byte counts: a clock that ticks must not send the table again."""
    writes: list[bytes] = []
    monkeypatch.setattr(screen, "_input", lambda: 0)
    taken = screen.Screen("utf-8")

    def write(_: int, data: bytes) -> int:
        writes.append(data)
        return len(data)

    monkeypatch.setattr(os, "write", write)
    monkeypatch.setattr(taken, "size", lambda: (40, 10))
    taken.draw(["one", "two", "three"])
    taken.draw(["one", "2", "three"])
    taken.draw(["one", "2", "three"])

    assert len(writes) == 2
    assert writes[1] == b"\x1b[2;1H2\x1b[K"


# -- logs ------------------------------------------------------------------------------------------


def test_the_end_of_a_log_grows_with_it_through_rotation(tmp_path: Path) -> None:
    out, err = tmp_path / "out.log", tmp_path / "err.log"
    out.write_text("one\ntwo\n")
    Path(logindex.beside(str(out))).write_bytes(logindex.encode(0, 10**9, 1) + logindex.encode(4, 3 * 10**9, 1))  # fmt: skip
    err.write_text("oops\n")
    Path(logindex.beside(str(err))).write_bytes(logindex.encode(0, 2 * 10**9, 1))
    tail = logtail.Tail(str(tmp_path))

    def texts() -> list[str]:
        tail.read()
        return [text for _, _, text in tail.lines]

    assert texts() == ["one", "oops", "two"]
    with out.open("a") as file:
        file.write("three\nfo")
    assert texts()[-1] == "three"
    with out.open("a") as file:
        file.write("ur\nlast of this segment\n")
    for path in (str(out), logindex.beside(str(out))):
        os.rename(path, path.replace("out.log", "out-123.log"))
    out.write_text("first of the next\n")
    assert texts()[-3:] == ["four", "last of this segment", "first of the next"]
    os.truncate(out, 0)
    out.write_text("anew\n")
    assert texts()[-1] == "anew"
    tail.close()


def test_a_storm_of_output_costs_no_more_than_a_screen(tmp_path: Path) -> None:
    """A worker that writes 100 MB a second must not make the one who looks at it read them."""
    out = tmp_path / "out.log"
    out.write_text("x\n")
    tail = logtail.Tail(str(tmp_path))
    tail.read()
    with out.open("a") as file:
        file.write("".join(f"line {n:08}\n" for n in range(200_000)))
    tail.read()

    assert tail.lines[-1][2] == "line 00199999"
    assert len(tail.lines) <= logtail.LINES
    assert all(text.startswith("line ") and len(text) == 13 for _, _, text in tail.lines)
    tail.close()


def test_output_cannot_do_anything_to_the_terminal() -> None:
    assert (
        logtail.plain("\x1b[31mred\x1b[0m\ttab\x07\x1b]0;title\x07 \x9b2J")
        == "red    tab 0;title   2J"
    )


# -- incidents -------------------------------------------------------------------------------------


def incident(state_dir: Path, at: int, worker_name: str = "web", verdict: str | None = None) -> str:
    name = f"2026-01-01-{worker_name}-{at}"
    path = state_dir / layout.INCIDENTS / name
    path.mkdir(parents=True)
    record = {"id": name, "worker": worker_name, "kind": "crash", "opened_unix_s": float(at), "title": f"title {at}", "verdict": verdict}  # fmt: skip
    (path / "incident.json").write_text(json.dumps(record))
    with (state_dir / layout.INCIDENT_INDEX).open("a") as file:
        file.write(json.dumps(record) + "\n")
    return name


def test_the_last_incidents_are_read_from_the_end(tmp_path: Path) -> None:
    for at in range(300):
        incident(tmp_path, at, "web" if at % 3 else "mail")
    found = feed.Feed(str(tmp_path))
    assert found.look(5)
    assert [row["opened_unix_s"] for row in found.rows] == [299.0, 298.0, 297.0, 296.0, 295.0]
    assert not found.is_whole
    assert not found.look(5)  # nothing is read that has not changed

    found.look(1000)
    assert (len(found.rows), found.is_whole) == (300, True)
    of_mail = feed.Feed(str(tmp_path), "mail")
    of_mail.look(2)
    assert [row["opened_unix_s"] for row in of_mail.rows] == [297.0, 294.0]


def test_verdicts_and_deleted_bundles_are_noticed(tmp_path: Path) -> None:
    first, second = incident(tmp_path, 1), incident(tmp_path, 2, verdict="open")
    (tmp_path / layout.INCIDENTS / first / "incident.json").unlink()
    (tmp_path / layout.INCIDENTS / first).rmdir()
    found = feed.Feed(str(tmp_path))
    found.look(9)

    assert [row["id"] for row in found.rows] == [second]
    assert found.verdict(found.rows[0]) == "open"
    (tmp_path / layout.INCIDENTS / second / "timeline.jsonl").write_text('{"verdict": "cured"}\n')
    assert found.verdict(found.rows[0]) == "cured"


def test_a_missing_index_is_made_anew(tmp_path: Path) -> None:
    name = incident(tmp_path, 1)
    (tmp_path / layout.INCIDENT_INDEX).unlink()
    found = feed.Feed(str(tmp_path))
    found.look(9)
    found.look(9)

    assert [row["id"] for row in found.rows] == [name]


# -- lives and samples -----------------------------------------------------------------------------


def test_lives_are_read_as_the_journal_grows_and_survive_its_compaction(tmp_path: Path) -> None:
    path = tmp_path / layout.JOURNAL
    records: list[dict[str, Any]] = [
        {"k": "start", "worker": "web", "n": 1, "pid": 1, "role": "main", "unix_s": 10.0, "seq": 1},
        {"k": "start", "worker": "web", "n": 2, "pid": 2, "role": "spare", "unix_s": 11.0, "seq": 2},
        {"k": "start", "worker": "web2", "n": 7, "pid": 3, "role": "main", "unix_s": 11.0, "seq": 3},
        {"k": "exit", "worker": "web", "n": 1, "role": "main", "status": 9, "cause": "died", "lived_s": 10.0, "unix_s": 20.0, "seq": 4},
        {"k": "go", "worker": "web", "n": 2, "unix_s": 20.1, "seq": 5},
    ]  # fmt: skip
    path.write_bytes(journal.encode_all(records[:4]))
    lives = past.Lives(str(tmp_path), "web")
    lives.read()
    assert [(one.n, one.ended_s, one.is_death) for one in lives.all()] == [(1, 20.0, True)]

    with path.open("ab") as file:
        file.write(journal.encode(records[4]) + b"torn")
    lives.read()
    assert [(one.n, one.born_s) for one in lives.all()] == [(1, 10.0), (2, 20.1)]

    compact = tmp_path / "compact"
    compact.write_bytes(journal.encode({**records[4], "k": "exit", "role": "main", "cause": "stop", "lived_s": 9.9, "status": 0, "unix_s": 30.0, "seq": 9}))  # fmt: skip
    compact.rename(path)
    lives.read()
    assert [(one.n, one.ended_s, one.is_death) for one in lives.all()] == [(1, 20.0, True), (2, 30.0, False)]  # fmt: skip


def test_samples_follow_the_ring_round_its_end(tmp_path: Path) -> None:
    (tmp_path / layout.SAMPLES).mkdir()
    path = tmp_path / layout.SAMPLES / "web"
    path.write_bytes(bytes(sample.SIZE))

    def write(number: int) -> None:
        values = dict.fromkeys(sample.FIELDS, 0) | {
            "number": number, "unix_ns": number * 10**9, "mono_ns": number * 10**9, "pid": 5, "rss_bytes": 100, "cpu_ns": number * 5 * 10**8,
        }  # fmt: skip
        with path.open("r+b") as file:
            file.seek(number % sample.SLOTS * sample.RECORD.size)
            file.write(sample.RECORD.pack(*values.values()))

    for number in range(500, 700):
        write(number)
    found = past.Samples(str(tmp_path), "web")
    found.read()
    for number in range(700, 705):
        write(number)
    found.read()
    cpu, memory = found.pieces()

    assert [row[0] for row in found.rows] == list(range(500, 705))
    assert {round(share, 3) for _, _, share in cpu} == {0.5}
    assert memory[-1] == (703.0, 704.0, 100.0)


def test_incidents_of_a_full_disk_are_shown_from_memory(tmp_path: Path) -> None:
    """The disk is full: just then the last incident is what everybody looks for."""
    incident(tmp_path, 1)
    found = feed.Feed(str(tmp_path))
    found.look(9)
    waiting = tmp_path / layout.RUN_LINK / layout.INCIDENTS / "2026-01-02-web-1"
    waiting.mkdir(parents=True)
    (waiting / "incident.json").write_text(json.dumps({"id": waiting.name, "worker": "web", "opened_unix_s": 5.0}))  # fmt: skip
    found.look(9)

    assert [row["id"] for row in found.rows] == [waiting.name, "2026-01-01-web-1"]
