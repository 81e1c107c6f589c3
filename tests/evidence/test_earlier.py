"""Where there is little to go by, the last incident of the same kind that was seen well is worth more than a guess."""

import time
from typing import Any

import pytest

from holdfast.diagnosis.findings import Facts, assess
from holdfast.evidence import bundle, earlier
from holdfast.records import incidents
from holdfast.wire import layout

PLACE = "/srv/app/shop.py:8 in price"


@pytest.fixture
def state_dir(tmp_path: Any) -> str:
    (tmp_path / layout.INCIDENTS).mkdir()
    return str(tmp_path)


def incident(
    state_dir: str, number: int, kind: str, confidence: str, *, worker: str = "shop", age_s: float = 60.0, **more: Any
) -> str:  # fmt: skip
    record = {
        "format": 1, "id": None, "key": f"k{number}", "worker": worker, "kind": kind, "opened_unix_s": time.time() - age_s,
        "findings": [{"confidence": confidence, "says": "The time goes into price", "where": PLACE, **more}] if confidence else [],
    }  # fmt: skip
    identity = bundle.publish(f"{state_dir}/{layout.INCIDENTS}", f"2026-11-22-{worker}", record, {}, [])  # fmt: skip
    bundle.add_row(state_dir, record)
    assert incidents.read_record(f"{state_dir}/{layout.INCIDENTS}/{identity}")
    return identity


def found(state_dir: str, kind: str, worker: str = "shop") -> "dict[str, Any] | None":
    return earlier.finding(state_dir, worker, kind, time.time())


def test_a_guess_stands_behind_what_was_seen_well_before(state_dir: str) -> None:
    """Seen: a shop that grew slower had price() in its first incident, and its server in the fourth, out of eight samples."""
    well = incident(state_dir, 1, "slow", "likely")
    incident(state_dir, 2, "slow", "possible")

    told = found(state_dir, "loop_lag")
    assert told is not None
    assert (told["where"], told["rests_on"]) == (PLACE, [well])
    assert told["says"] == f"Here there is little to go by; {well} found: The time goes into price"

    order = {"worker": "shop", "live": True, "unix_s": 10.0, "kind": "slow", "flag": {"flag": "slow", "says": "slow", "since_unix_s": 9.0}}  # fmt: skip
    facts = Facts(order, {"name": "shop", "directory": "/srv/app"})
    facts.earlier = told
    assessed = assess(facts)
    assert assessed["findings"] == [told]
    assert assessed["cause"]["where"] == PLACE


def test_out_of_memory_is_told_from_the_leak_before_it(state_dir: str) -> None:
    leak = incident(state_dir, 1, "memory_leak", "certain")

    told = found(state_dir, "oom")

    assert told is not None
    assert (told["from"], told["confidence"]) == (leak, "likely")


@pytest.mark.parametrize(
    ("kind", "confidence", "more"),
    [
        ("crash", "likely", {}),
        ("slow", "possible", {}),
        ("slow", "", {}),
        ("slow", "likely", {"worker": "other"}),
        ("slow", "likely", {"age_s": 2 * 86400.0}),
        ("slow", "likely", {"from": "2026-11-21-shop-1"}),
    ],
    ids=["of another kind", "a guess", "nothing", "of another worker", "of long ago", "a repetition itself"],
)  # fmt: skip
def test_what_says_nothing_about_this_is_not_repeated(
    state_dir: str, kind: str, confidence: str, more: Any
) -> None:
    incident(state_dir, 1, kind, confidence, **more)

    assert found(state_dir, "slow") is None
