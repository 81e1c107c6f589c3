"""The five answers: whoever opens an incident at 3 am gets them before anything else, whatever is missing from the record."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from holdfast.diagnosis.brief import brief

LEAK: dict[str, Any] = {
    "id": "20261122-131500-crawler-1",
    "worker": "crawler",
    "component": "parse",
    "title": "crawler: memory grows",
    "opened_unix_s": 1_000_000.0,
    "lived_s": 75.0,
    "cause": {"says": "memory grew 48 MB/s for 70 s", "seen_before": {"count": 2}},
    "findings": [
        {"confidence": "sure", "says": "all of it in crawl.parse (lxml), since lxml 5.2 → 5.3"}
    ],
}
CURED = [
    {
        "unix_s": 1_000_004.0,
        "what": "remedy",
        "rung": 0,
        "says": "the watchdog had it killed and started again",
    },
    {"unix_s": 1_000_040.0, "what": "verdict", "verdict": "cured"},
]


def test_the_whole_story_in_five_answers() -> None:
    told = brief(LEAK, CURED)
    assert told["what"] == 'Worker "crawler", component "parse": memory grew 48 MB/s for 70 s'
    assert "over and verified 40 s later" in told["since"]
    assert "seen 2 times before" in told["since"]
    assert told["why"] == "Sure: all of it in crawl.parse (lxml), since lxml 5.2 → 5.3"
    assert told["done"] == "The watchdog had it killed and started again."
    assert told["helped"].startswith("Yes")


def test_a_remedy_that_failed_is_not_told_as_a_cure() -> None:
    rows = [*CURED[:1], {"unix_s": 1_000_009.0, "what": "verdict", "verdict": "came_back"}]
    assert brief(LEAK, rows)["helped"].startswith("No")
    assert "verified" not in brief(LEAK, rows)["since"]


def test_what_nobody_knows_is_said_to_be_unknown() -> None:
    told = brief({}, [])
    assert told["since"] == "Not known."
    assert told["why"].startswith("Not known")
    assert told["helped"] == "There was nothing to verify."


def test_the_box_itself_is_no_worker() -> None:
    assert (
        brief({"worker": "@node", "title": "the disk is full"}, [])["what"]
        == "The machine: the disk is full"
    )


@given(st.dictionaries(st.sampled_from(sorted(LEAK)), st.none()), st.lists(st.sampled_from(CURED)))
def test_no_answer_is_ever_empty(missing: dict[str, None], rows: list[dict[str, Any]]) -> None:
    assert all(brief({**LEAK, **missing}, rows).values())
