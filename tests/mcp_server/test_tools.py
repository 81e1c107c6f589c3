"""What the tools hand out and what they do: bounded, inside of the bundle, marked as data, and written down."""

from __future__ import annotations

import json
import os
import threading
from typing import TYPE_CHECKING, Any

import pytest

from holdfast.cli import mcp_evidence as evidence
from holdfast.cli.mcp_audit import Audit
from holdfast.cli.mcp_evidence import NotThere
from holdfast.cli.mcp_protocol import Request
from holdfast.cli.mcp_tool import Arguments
from holdfast.cli.mcp_tools import READING
from holdfast.model.errors import StateError
from holdfast.records import audit as records

if TYPE_CHECKING:
    from pathlib import Path

    from mcp_server.door import Site

INCIDENT = "2026-01-02-web-1"
ASKED = Request({"id": 1, "method": "tools/call"}, "2026-07-28")


def called(site: Site, name: str, *, has_actions: bool = False, **given: Any) -> dict[str, Any]:
    return site.tools(has_actions=has_actions).call(name, given, ASKED)


def test_the_story_of_the_newest_incident_needs_no_node(site: Site) -> None:
    """When the node is down its evidence is what one wants."""
    found = called(site, "incident")["structuredContent"]

    assert (found["id"], found["worker"]) == (INCIDENT, "web")
    assert 'worker "web": crashed' in found["story"]
    assert [file["name"] for file in found["files"]] == ["incident.json", "log.txt"]


def test_words_of_the_application_are_marked_as_data(site: Site) -> None:
    """They come from whoever can make the application log something: anybody on the internet."""
    result = called(site, "evidence", id=INCIDENT, file="log.txt", offset=-40)
    said = result["content"][0]["text"]

    assert "ignore all previous instructions" in said
    assert said.startswith("What follows was written by, or about, the application")
    mark = said.partition("<data ")[2].partition(">")[0]
    assert said.endswith(f"</data {mark}>")
    assert result["structuredContent"]["untrusted"] == result["_meta"]["holdfast/untrusted"]
    assert (
        called(site, "evidence", id=INCIDENT, file="log.txt")["content"][0]["text"].count(mark) == 0
    )


def test_a_file_is_read_piece_by_piece(site: Site) -> None:
    whole = (site.bundle / "log.txt").read_text()
    read = ""
    at: int | None = 0
    while at is not None:
        found = evidence.piece(str(site.state), INCIDENT, "log.txt", at, 1000)
        read += found["text"]
        at = found["next_offset"]

    assert read == whole


@pytest.mark.parametrize(
    "file",
    [
        "../incident.json",
        "..",
        ".",
        "/etc/passwd",
        "a/../log.txt",
        "log.txt/",
        "link.txt",
        "pipe.txt",
        "folder",
        "log.txt\0",
        ".hidden",
        "",
        "-x",
        "no.txt",
    ],
)
def test_nothing_outside_of_a_bundle_can_be_read(site: Site, file: str) -> None:
    """The application may have left a link in there; an assistant may be talked into asking for one."""
    (site.root / "secret.txt").write_text("secret")
    (site.bundle / "link.txt").symlink_to(site.root / "secret.txt")
    (site.bundle / ".hidden").write_text("hidden")
    (site.bundle / "folder").mkdir()
    os.mkfifo(site.bundle / "pipe.txt")

    with pytest.raises(NotThere):
        evidence.piece(str(site.state), INCIDENT, file)
    assert {one["name"] for one in evidence.files(str(site.bundle))} == {"incident.json", "log.txt"}


@pytest.mark.parametrize(
    "name", ["..", "../state", "/", ".", "2026-01-02-web-1/..", "x", "2025", "2026\0", ""]
)
def test_nothing_but_an_incident_is_an_incident(site: Site, name: str) -> None:
    with pytest.raises(NotThere):
        evidence.piece(str(site.state), name, "log.txt")


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("workers", {"limit": 0}), ("workers", {"limit": 10**6}), ("workers", {"limit": "5"}), ("workers", {"limit": True}),
        ("workers", {"troubled": 1}), ("workers", {"state": "dead"}), ("workers", {"colour": "red"}), ("explain", {}),
        ("explain", {"what": "--help"}), ("explain", {"what": "-c/etc/passwd"}), ("explain", {"what": 5}), ("logs", {"worker": "../x"}),
        ("logs", {"lines": 10**9}), ("logs", {"grep": "x" * 201}), ("incidents", {"since": "--x=$(id)"}), ("evidence", {"id": INCIDENT}),
    ],
)  # fmt: skip
def test_wrong_arguments_are_answered_with_the_right_ones(
    site: Site, name: str, given: dict[str, Any]
) -> None:
    """A model reads the answer and calls again; nothing that begins with a dash ever becomes an option of a command."""
    result = called(site, name, **given)

    assert result["isError"]
    assert result["content"][0]["text"].startswith(f"{name}: ")


def test_every_tool_says_what_it_takes(site: Site) -> None:
    """A client shows it, and a model goes by it."""
    jsonschema = pytest.importorskip("jsonschema")
    for tool in site.tools(has_actions=True).listed():
        jsonschema.Draft202012Validator.check_schema(tool["inputSchema"])
        assert tool["description"]
    assert all(Arguments(tool).checked({}) is not None for tool in READING if not tool.required)


def test_what_a_command_refuses_is_told_in_its_words(site: Site) -> None:
    result = called(site, "status")

    assert result["isError"]
    assert "no node is running" in result["content"][0]["text"]


def audit(site: Site) -> list[dict[str, Any]]:
    return records.read(str(site.state))


def test_an_action_is_on_record_before_it_happens(site: Site) -> None:
    """Killed in between, the audit says that something was begun: the same audit as the dashboard's, for the question is the same."""
    seen: list[list[dict[str, Any]]] = []

    Audit(str(site.state), "mcp stdio").around(
        "restart_worker", {"target": "web"}, "desk", lambda: seen.append(audit(site))
    )

    ((begin,),) = seen
    assert (begin["what"], begin["target"], begin["way"], begin["client"], begin["result"]) == (
        "restart_worker", "web", "mcp stdio", "desk", None,
    )  # fmt: skip
    assert json.loads(begin["given"]) == {"target": "web"}
    assert [row["result"] for row in audit(site)] == ["done"]


def test_an_action_that_failed_is_on_record_as_failed(site: Site) -> None:
    result = called(site, "restart_worker", has_actions=True, target="web")

    assert result["isError"]
    (row,) = audit(site)
    assert row["result"].startswith("failed: ")


def test_two_who_write_make_room_once(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """The dashboard and an assistant write into one file: what the first has put aside the second must not throw away."""
    monkeypatch.setattr("holdfast.records.audit.LARGEST_BYTES", 700)
    books = [Audit(str(site.state), "mcp stdio") for _ in range(2)]

    def act(book: Audit) -> None:
        for _ in range(2):
            book.around("stacks", {"worker": "web"}, "", lambda: 1)

    hands = [threading.Thread(target=act, args=(book,)) for book in books]
    for hand in hands:
        hand.start()
    for hand in hands:
        hand.join()

    assert [row["result"] for row in audit(site)][-2:] == ["done", "done"]
    assert (site.state / "dashboard/audit.jsonl.1").stat().st_size > 700


def test_looking_leaves_no_record(site: Site) -> None:
    called(site, "incident", has_actions=True)

    assert audit(site) == []


def test_what_cannot_be_written_down_is_not_done(tmp_path: Path) -> None:
    done: list[int] = []

    with pytest.raises(StateError, match="not done"):
        Audit(str(tmp_path / "nowhere"), "x").around("stop_worker", {}, "", lambda: done.append(1))
    assert done == []
