"""What broke: the feed with filters and cursors, the five answers, and files of which nothing is trusted."""

import io
import json
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("starlette", reason="needs holdfast[dashboard]")

from cli.fake_node import FakeNode, planned
from dashboard.seen import asked, break_something
from holdfast.dashboard import telling
from holdfast.dashboard.api import incidents
from holdfast.dashboard.asking import Plain, Refused
from holdfast.model.errors import StateError
from holdfast.records.incidents import timeline_of
from holdfast.wire import layout


@pytest.fixture
def node() -> Iterator[FakeNode]:
    with FakeNode(planned("web")) as made:
        yield made.up()


def ids(found: "dict[str, Any]") -> list[str]:
    return [row["id"] for row in found["rows"]]


def body(found: Any) -> bytes:
    assert isinstance(found, Plain)
    return found.body if isinstance(found.body, bytes) else b"".join(found.body)


# -- again and again -------------------------------------------------------------------------------


def test_what_changed_before_the_first_of_many_is_told_with_each_of_them(node: FakeNode) -> None:
    """A later failure is compared with a start that failed as well: nothing has changed since, and that is no answer."""
    first = break_something(node, "2026-11-01/1", at_s=1000.25, changed=["package mailkit 2.1.0 -> 2.2.0"])  # fmt: skip
    again = {"says": "crashed", "seen_before": {"count": 1, "first_unix_s": 1000.25, "last": first}}
    later = break_something(node, "2026-11-01/2", at_s=1060.0, cause=again)
    orphan = break_something(node, "2026-11-01/3", at_s=1061.0, cause=again | {"seen_before": {"count": 9, "first_unix_s": 1.0}})  # fmt: skip

    assert asked(node, incidents.incident, id=later)["began"] == {
        "id": first, "opened_unix_s": 1000.25, "changed": ["package mailkit 2.1.0 -> 2.2.0"],
    }  # fmt: skip
    assert asked(node, incidents.incident, id=first)["began"] is None
    assert asked(node, incidents.incident, id=orphan)["began"] is None  # the first is pruned


# -- the feed --------------------------------------------------------------------------------------


def test_the_feed_is_newest_first_page_by_page_each_incident_once(node: FakeNode) -> None:
    made = [break_something(node, f"2026-11-01/{at}", at_s=1000.0 + at // 2) for at in range(11)]
    pages: list[list[str]] = []
    query = {"limit": "4"}
    while True:
        found = asked(node, incidents.feed, query=query)
        pages.append(ids(found))
        assert found["total"] == 11
        if found["before"] is None:
            break
        query = {"limit": "4", "before": found["before"]}

    assert [len(page) for page in pages] == [4, 4, 3]
    told = [name for page in pages for name in page]
    assert sorted(told) == sorted(made)
    assert told[-1] == made[0]


def test_filters_narrow_and_the_total_counts_what_fits(node: FakeNode) -> None:
    hang = break_something(
        node, "2026-11-01", kind="hang", worker="mail", title="worker mail hangs", at_s=500.0
    )
    crash = break_something(node, "2026-11-02", at_s=600.0, verdict="cured")

    assert ids(asked(node, incidents.feed, query={"worker": "mail"})) == [hang]
    assert ids(asked(node, incidents.feed, query={"kind": "crash"})) == [crash]
    assert ids(asked(node, incidents.feed, query={"since": "550"})) == [crash]
    assert ids(asked(node, incidents.feed, query={"q": "HANGS"})) == [hang]
    assert ids(asked(node, incidents.feed, query={"verdict": "cured"})) == [crash]
    assert ids(asked(node, incidents.feed, query={"verdict": "open"})) == [hang]
    assert asked(node, incidents.feed, query={"worker": "mail"})["total"] == 1


def test_a_feed_without_incidents_is_empty(node: FakeNode) -> None:
    assert asked(node, incidents.feed) == {"rows": [], "before": None, "total": 0}


def test_deleted_bundles_and_torn_rows_are_left_out(node: FakeNode) -> None:
    gone, there = break_something(node, "2026-11-01"), break_something(node, "2026-11-02")
    Path(node.state_dir, layout.INCIDENTS, gone, "incident.json").unlink()
    Path(node.state_dir, layout.INCIDENTS, gone).rmdir()
    with Path(node.state_dir, layout.INCIDENT_INDEX).open("ab") as file:
        file.write(b'{"id": "2026-11-03-we')

    assert ids(asked(node, incidents.feed)) == [there]


def test_a_lost_index_is_made_anew(node: FakeNode) -> None:
    name = break_something(node, "2026-11-01")
    Path(node.state_dir, layout.INCIDENT_INDEX).unlink()

    assert ids(asked(node, incidents.feed)) == [name]


@pytest.mark.parametrize(
    "query", [{"verdict": "fine"}, {"before": "yesterday"}, {"since": "x"}, {"limit": "many"}]
)
def test_nonsense_is_refused_with_a_sentence(node: FakeNode, query: dict[str, str]) -> None:
    with pytest.raises(Refused) as caught:
        asked(node, incidents.feed, query=query)
    assert caught.value.status == 400


# -- one incident ----------------------------------------------------------------------------------


def test_the_page_of_an_incident_answers_the_five_questions(node: FakeNode) -> None:
    name = break_something(
        node, "2026-11-01", at_s=1000.0, verdict="cured",
        findings=[{"confidence": "certain", "says": "page() raises", "where": "shop.py:3 in page", "rests_on": ["log.txt"]}],
        changed=["shop 1.1 -> 1.2"],
    )  # fmt: skip

    found = asked(node, incidents.incident, id=name)

    assert found["answers"] == {
        "what": 'worker "web": crashed: ValueError: no such page', "since_unix_s": 1000.0, "why": "page() raises",
        "done": "the keeper started it again at once", "helped": "it helped: the symptom stayed away", "verdict": "cured",
    }  # fmt: skip
    assert [step["step"] for step in found["timeline"]] == [
        "symptom",
        "remedy",
        "evidence",
        "verdict",
    ]
    assert found["finding"]["because"][0]["says"] == "nobody caught it"
    assert (found["changed"], found["worker_exists"], found["profile"]) == (
        ["shop 1.1 -> 1.2"],
        True,
        None,
    )
    assert "Did it help  cured" in found["story"]
    json.dumps(found, allow_nan=False)


def test_an_incident_of_which_nothing_is_known_still_has_a_page(node: FakeNode) -> None:
    """Damage on the disk is what one looks at this page for."""
    name = break_something(node, "2026-11-01")
    Path(node.state_dir, layout.INCIDENTS, name, "incident.json").write_text("{")

    found = asked(node, incidents.incident, id=name)

    assert "damaged" in found["record"]
    assert found["answers"]["why"].startswith("not known")


def test_who_was_split_off_is_part_of_what_was_done() -> None:
    """That one component runs alone now is the remedy; what was found out by it is not."""
    record: dict[str, Any] = {"worker": "trio", "opened_unix_s": 1.0, "cause": {"next": "restart"}}
    split = {"what": "isolation", "says": "worker trio was split: middle runs alone", "unix_s": 2.0}
    found = {"what": "isolation", "says": "worker trio: middle is the culprit", "unix_s": 3.0}

    assert telling.answers(record, [split, found])["done"] == (
        "the keeper started it again at once; worker trio was split: middle runs alone"
    )


def test_a_suspicion_that_was_shown_only_claims_no_remedy() -> None:
    """ "Holdfast looks whether it comes back", under something that has been there for half an hour."""
    shown: dict[str, Any] = {"worker": "web", "kind": "stalled", "opened_unix_s": 1.0, "verdict": "open", "cause": {"flag": {"flag": "stalled"}}}  # fmt: skip
    remedied = [{"what": "remedy", "says": "killed and started again", "unix_s": 2.0}]

    assert telling.answers(shown, [])["done"].startswith("nothing so far")
    assert "here it is told when it is over" in telling.answers(shown, [])["helped"]
    assert telling.answers(shown, remedied)["helped"] == "Holdfast looks whether it comes back"


def test_what_nobody_but_a_person_can_mend_says_so() -> None:
    """Under "nothing was done" somebody at 3 am goes back to bed."""
    disk: dict[str, Any] = {"worker": "@node", "kind": "disk_filling", "opened_unix_s": 1.0, "cause": {"says": "full in 27 s"}}  # fmt: skip

    assert telling.answers(disk, [])["done"] == "nothing: a person has to"
    over = [{"what": "verdict", "verdict": "cured", "unix_s": 2.0}]
    assert telling.answers(disk, over)["done"] == "nothing was done"


def test_a_record_of_odd_shapes_does_not_break_the_answers() -> None:
    """Evidence is written by processes that may be killed, of versions that may be newer."""
    record: dict[str, Any] = {
        "id": "x", "worker": None, "cause": "crash", "findings": ["odd", None], "evidence": 5, "remedy": "restart", "opened_unix_s": None,
    }  # fmt: skip
    steps = [
        {"what": "verdict", "verdict": "something_new", "unix_s": 5},
        {},
        {"says": "<b>", "unix_s": 7},
    ]

    assert telling.answers(record, steps)["helped"] == "something_new"
    assert [step["says"] for step in telling.steps(record, steps)][-1] == "<b>"


def test_an_unknown_incident_is_told_so(node: FakeNode) -> None:
    with pytest.raises(StateError, match="there is no incident"):
        asked(node, incidents.incident, id="2026-11-01-nobody-1")


def test_the_text_is_the_story(node: FakeNode) -> None:
    name = break_something(node, "2026-11-01")

    found = asked(node, incidents.text, id=name)

    assert body(found).startswith(b'worker "web" crashed: ValueError: no such page\n')
    assert found.kind.startswith("text/plain")


# -- files -----------------------------------------------------------------------------------------


def bundle_dir(node: FakeNode, name: str) -> Path:
    return Path(node.state_dir, layout.INCIDENTS, name)


@pytest.mark.parametrize(("file", "kind"), [("log.txt", "text/plain"), ("page.html", "application/octet-stream"), ("x.svg", "application/octet-stream")])  # fmt: skip
def test_a_file_is_text_or_to_be_saved_and_never_a_page(
    node: FakeNode, file: str, kind: str
) -> None:
    """A worker that was broken into writes its own evidence: a page of its making must not run in the browser of an operator."""
    name = break_something(node, "2026-11-01")
    (bundle_dir(node, name) / file).write_text("<script>alert(1)</script>")

    found = asked(node, incidents.file, id=name, file=file, then=lambda _, made: (made, body(made)))

    made, data = found
    heads = dict(made.headers)
    assert data == b"<script>alert(1)</script>"
    assert made.kind.startswith(kind)
    assert heads["content-security-policy"].startswith("sandbox")
    assert ("content-disposition" in heads) == (kind == "application/octet-stream")


@pytest.mark.parametrize(
    "file", ["../../plan.json", "..", ".", "", "nothing.txt", "secret", "/etc/passwd"]
)
def test_no_name_leads_out_of_a_bundle(node: FakeNode, file: str) -> None:
    name = break_something(node, "2026-11-01")
    os.symlink("/etc/passwd", bundle_dir(node, name) / "secret")

    with pytest.raises(Refused) as caught:
        asked(node, incidents.file, id=name, file=file)
    assert caught.value.status == 404


def test_a_profile_becomes_what_the_flame_graph_reads(node: FakeNode) -> None:
    name = break_something(node, "2026-11-01")
    (bundle_dir(node, name) / "profile.txt").write_text(
        "MainThread;main (a.py:1);work (a.py:5) 7\n"
    )

    page = asked(node, incidents.incident, id=name)
    data = json.loads(body(asked(node, incidents.file, id=name, file="profile.speedscope.json")))

    assert page["profile"]["speedscope"] == f"/api/incidents/{name}/files/profile.speedscope.json"
    assert data["profiles"][0]["weights"] == [7]


def test_a_bundle_is_everything_in_one_file(node: FakeNode) -> None:
    name = break_something(node, "2026-11-01", verdict="cured")
    (bundle_dir(node, name) / "log.txt").write_text("a line\n")
    os.symlink("/etc/passwd", bundle_dir(node, name) / "secret")

    found, data = asked(node, incidents.bundle, id=name, then=lambda _, made: (made, body(made)))

    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        assert sorted(archive.getnames()) == [
            f"{name}/{file}" for file in ("incident.json", "log.txt", "timeline.jsonl")
        ]
        member = archive.extractfile(f"{name}/log.txt")
        assert member is not None
        assert member.read() == b"a line\n"
    assert dict(found.headers)["content-disposition"] == f'attachment; filename="{name}.tar.gz"'


def test_a_page_of_the_feed_reads_the_timelines_of_that_page_only(
    node: FakeNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There may be ten thousand incidents: a file for each of them would take seconds."""
    for at in range(30):
        break_something(node, f"2026-11-01/{at}", at_s=1000.0 + at, verdict="cured")
    read: list[str] = []

    def counted(path: str) -> list[dict[str, Any]]:
        read.append(path)
        return timeline_of(path)

    def feed(site: Any, ask: Any) -> Any:
        monkeypatch.setattr("holdfast.dashboard.api.incidents.records.timeline_of", counted)
        return incidents.feed(site, ask)

    asked(node, feed, query={"limit": "5"})

    assert (
        len({os.path.basename(path) for path in read}) == 6
    )  # and the one that tells that there are more
