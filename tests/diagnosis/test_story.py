"""The story for a person at 3 am: always there, always short, whatever is missing from the incident."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.diagnosis.story import headline, story

INCIDENT: dict[str, Any] = {
    "id": "2024-11-03-backend-2", "worker": "backend", "component": "board", "kind": "crash",
    "title": 'worker "backend": component "board" crashed: ValueError: bad tag', "opened_unix_s": 1730603502.0, "start": 7,
    "pid": 4711, "lived_s": 2460.0, "status": 256, "status_words": "exited with status 1: a general error", "restarts": 6,
    "changed": ["package lxml 5.2.1 -> 5.3.0"], "verdict": "open",
    "cause": {
        "says": "crashed: ValueError: bad tag", "where": "/srv/app/board.py:31 in handle", "source": "raise ValueError(tag)",
        "frames": ["/srv/app/board.py:31 in handle", "/srv/app/main.py:3 in main"], "next": "delay", "delay_s": 2.0,
        "why": [{"confidence": "certain", "says": "the exception was not caught"}],
        "seen_before": {"count": 2, "last": "2024-11-03-backend-1"},
    },
    "evidence": {"files": ["log.txt", "stacks.txt"], "missed": [], "took_s": 0.08},
}  # fmt: skip


def test_the_story_answers_what_since_why_done_helped_changed_and_where() -> None:
    told = story(INCIDENT, [{"unix_s": 1730603510.0, "says": "ready again", "verdict": "cured"}])

    assert (
        told
        == """\
worker "backend": component "board" crashed: ValueError: bad tag

What broke   worker "backend", component "board": crashed: ValueError: bad tag
             exited with status 1: a general error
Since        2024-11-03 03:11:42 UTC, life 7 (pid 4711), it had run for 41 min, 6 restarts before this
             the same fault was seen 2 times before, last in 2024-11-03-backend-1
Why          certain: the exception was not caught
Where        /srv/app/board.py:31 in handle:  raise ValueError(tag)
             /srv/app/main.py:3 in main
Changed      package lxml 5.2.1 -> 5.3.0
Done         evidence taken in 0.08 s
             the keeper starts it again after 2.0 s
             03:11:50 ready again
Did it help  cured: the symptom stayed away

Look         log.txt, stacks.txt
             holdfast logs --worker backend   (it happened at 2024-11-03 03:11:42 UTC)
"""
    )


@pytest.mark.parametrize("width", [60, 80, 200])
def test_in_a_terminal_of_any_width_a_line_goes_on_below_where_it_began(width: int) -> None:
    """The terminal itself breaks lines in the middle of words, and begins at the left edge: nobody finds the next heading."""
    says = "word " * 60
    finding = {"confidence": "likely", "says": says, "rests_on": ["stacks.txt"]}
    why = [{"confidence": "certain", "says": says}]
    whole = {
        **INCIDENT,
        "findings": [finding],
        "cause": {**INCIDENT["cause"], "why": why},
        "title": says,
    }
    told = story(whole, [], 0, width).splitlines()

    # Commands and paths are there to be copied: they stay whole.
    broken = [
        line for line in told if not line[13:].lstrip().startswith(("/", "in /", "holdfast "))
    ]
    assert max(map(len, broken)) <= width
    head = told.index("")
    assert all(line.startswith("  ") for line in told[1:head])
    headings = [line[:13].strip() for line in told[head:] if line[:1].strip()]
    assert headings == ["What broke", "Since", "Finding", "Why", "Where", "Changed", "Done", "Did it help", "Look"]  # fmt: skip
    assert sum(line.split().count("word") for line in told) >= 60


def test_what_is_not_there_says_why_once() -> None:
    """ "missed: log, log" leaves everybody asking whether it was lost."""
    missed = [
        {"what": "log", "why": "late"},
        {"what": "log", "why": "this life wrote nothing"},
        {"what": "pulse"},
        "odd",
    ]
    told = story({**INCIDENT, "worker": "@node", "evidence": {"missed": missed, "took_s": 0.1}}, [])

    assert "evidence taken in 0.1 s; not there: log (this life wrote nothing), pulse\n" in told
    assert "What broke   this machine" in told


def test_a_long_history_keeps_its_newest_rows() -> None:
    rows = [{"unix_s": 1730603502.0 + n, "says": f"step {n}"} for n in range(500)]
    lines = story({**INCIDENT, "changed": ["x"] * 50, "path": "/p"}, rows).splitlines()

    assert len(lines) <= 40
    assert any("step 499" in line for line in lines)
    assert any("more rows in timeline.jsonl" in line for line in lines)
    assert lines[-1].startswith("             holdfast logs")


def test_an_empty_incident_still_has_a_story() -> None:
    assert story({"id": "x"}, []).startswith("incident x\n")
    assert headline({"id": "x"}) == "incident x"


def test_control_characters_of_a_worker_do_not_reach_the_terminal() -> None:
    told = story(
        {**INCIDENT, "title": "a\x1b[31mb\x07", "changed": ["\x1b]0;x\x07"]}, [{"says": "\x1b[2J"}]
    )

    assert "\x1b" not in told
    assert "\x07" not in told


@given(
    st.dictionaries(st.sampled_from(["title", "worker", "status_words", "component"]), st.text())
)
def test_any_text_gives_a_story_of_at_most_forty_lines(fields: Any) -> None:
    assert len(story({**INCIDENT, **fields}, []).split("\n")) <= 41
