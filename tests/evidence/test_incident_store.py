"""The list of incidents is right whatever happened to its index, and quick with ten thousand."""

import json
import os
import time
from typing import Any

import pytest

from holdfast.model.errors import StateError
from holdfast.records import incidents

SLOWNESS = float(os.environ.get("HOLDFAST_SLOWNESS", "1"))


def make(
    state_dir: Any, identity: str, opened: float = 0.0, worker: str = "backend", **more: Any
) -> None:
    path = state_dir / "incidents" / identity
    path.mkdir(parents=True)
    record = {
        "format": 1, "id": identity, "key": f"exit-{identity}", "worker": worker, "component": None, "kind": "crash",
        "title": f'worker "{worker}" crashed', "opened_unix_s": opened, "start": 1, "pid": 7, "status_words": "killed", "verdict": "open",
        "cause": {"signature": "crash|x"}, **more,
    }  # fmt: skip
    (path / "incident.json").write_text(json.dumps(record))


@pytest.fixture
def state(tmp_path: Any) -> Any:
    for n in range(1, 6):
        make(tmp_path, f"2024-11-03-backend-{n}", opened=1000.0 + n)
    make(tmp_path, "2024-11-03-api-1", opened=500.0, worker="api")
    return tmp_path


def ids(rows: Any) -> list[str]:
    return [row["id"].removeprefix("2024-11-03-") for row in rows]


EVERYTHING = ["backend-5", "backend-4", "backend-3", "backend-2", "backend-1", "api-1"]


def test_newest_first_by_worker_time_and_number(state: Any) -> None:
    path = str(state)

    assert ids(incidents.list_incidents(path)) == EVERYTHING
    assert ids(incidents.list_incidents(path, worker="api")) == ["api-1"]
    assert ids(incidents.list_incidents(path, since=1004.0)) == ["backend-5", "backend-4"]
    assert ids(incidents.list_incidents(path, limit=2)) == ["backend-5", "backend-4"]
    assert incidents.list_incidents(str(state / "nowhere")) == []


@pytest.mark.parametrize(
    "damage",
    [
        lambda index: index.unlink(),
        lambda index: index.write_bytes(b""),
        lambda index: index.write_bytes(index.read_bytes()[:-7]),
        lambda index: index.write_bytes(index.read_bytes()[40:]),
        lambda index: index.write_bytes(os.urandom(500)),
        lambda index: index.write_bytes(index.read_bytes().replace(b'"id"', b'"di"', 1)),
        lambda index: index.write_bytes(index.read_bytes() + index.read_bytes()),
        lambda index: index.write_bytes(b'{"id": "2024-11-03-gone-1", "opened_unix_s": 9e9}\n' + index.read_bytes()),
        lambda index: index.write_bytes(b"[1]\n7\nnull\n" + index.read_bytes()),
        lambda index: index.write_bytes(index.read_bytes().replace(b"1005.0", b'"soon"')),
    ],
    ids=["gone", "empty", "torn end", "torn begin", "noise", "no id", "twice", "of a deleted bundle", "not objects", "no time"],
)  # fmt: skip
def test_a_damaged_index_is_mended_by_whoever_reads(state: Any, damage: Any) -> None:
    index = state / "incidents" / "index.jsonl"
    incidents.rebuild_index(str(state))
    damage(index)

    rows = incidents.list_incidents(str(state))

    assert sorted(ids(rows)) == sorted(EVERYTHING)
    again, whole = incidents.read_index(str(state))
    assert whole
    assert {row["id"] for row in again} >= {row["id"] for row in rows}


def test_rebuilding_gives_a_row_for_each_bundle(state: Any) -> None:
    assert incidents.rebuild_index(str(state)) == 6
    rows, whole = incidents.read_index(str(state))
    assert whole
    assert sorted(ids(rows)) == sorted(EVERYTHING)
    assert rows[0]["signature"] == "crash|x"


def test_a_bundle_that_was_deleted_is_not_listed(state: Any) -> None:
    incidents.rebuild_index(str(state))
    for path in (state / "incidents" / "2024-11-03-backend-3").iterdir():
        path.unlink()
    (state / "incidents" / "2024-11-03-backend-3").rmdir()

    assert "backend-3" not in ids(incidents.list_incidents(str(state)))


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"format": 1}', b"\xff\xfe", None])
def test_a_damaged_bundle_is_shown_as_such_and_hides_no_other(state: Any, content: Any) -> None:
    record = state / "incidents" / "2024-11-03-backend-3" / "incident.json"
    if content is None:
        record.unlink()
    else:
        record.write_bytes(content)

    rows = incidents.list_incidents(str(state))
    broken = incidents.load(str(state), "2024-11-03-backend-3")

    assert sorted(ids(rows)) == sorted(EVERYTHING)
    assert (
        next(r for r in rows if r["id"].endswith("backend-3"))["title"]
        == 'worker "backend": this bundle is damaged'
    )
    assert broken["worker"] == "backend"
    assert "cannot be read" in broken["damaged"]


def test_the_index_remembers_a_bundle_that_is_damaged_later(state: Any) -> None:
    incidents.list_incidents(str(state))
    (state / "incidents" / "2024-11-03-backend-3" / "incident.json").write_bytes(b"{")

    assert incidents.load(str(state), "2024-11-03-backend-3")["title"] == 'worker "backend" crashed'


def test_the_last_verdict_of_the_timeline_counts(state: Any) -> None:
    timeline = state / "incidents" / "2024-11-03-backend-2" / "timeline.jsonl"
    timeline.write_text(
        '{"unix_s": 1, "says": "restarted"}\n{"unix_s": 2, "verdict": "came_back"}\n{"unix_s": 3, "verdict": "cured"}\n{"verd'
    )

    assert incidents.load(str(state), "2024-11-03-backend-2")["verdict"] == "cured"
    assert len(incidents.timeline(str(state), "2024-11-03-backend-2")) == 3
    verdicts = {row["id"]: row["verdict"] for row in incidents.list_incidents(str(state))}
    assert verdicts["2024-11-03-backend-2"] == "cured"
    assert verdicts["2024-11-03-backend-1"] == "open"


def test_an_id_may_be_cut_short_when_it_stays_unmistakable(state: Any) -> None:
    assert incidents.load(str(state), "2024-11-03-a")["id"] == "2024-11-03-api-1"
    with pytest.raises(StateError, match="fits 5 incidents"):
        incidents.load(str(state), "2024-11-03-b")
    for nonsense in ("", "nope", "../incidents", ".tmp-1", "2024-11-03-api-1/x"):
        with pytest.raises(StateError, match="there is no incident"):
            incidents.load(str(state), nonsense)


def test_a_whole_id_wins_over_longer_ones(state: Any) -> None:
    make(state, "2024-11-03-api-10", worker="api")

    assert incidents.load(str(state), "2024-11-03-api-1")["id"] == "2024-11-03-api-1"


def test_ten_thousand_are_listed_quickly(tmp_path: Any) -> None:
    for n in range(1, 10_001):
        make(tmp_path, f"2024-11-03-backend-{n}", opened=float(n))
    incidents.rebuild_index(str(tmp_path))

    began = time.perf_counter()
    rows = incidents.list_incidents(str(tmp_path), limit=50)
    took_s = time.perf_counter() - began
    print(f"list_incidents of 10,000, limit 50: {took_s * 1000:.0f} ms")

    assert ids(rows)[0] == "backend-10000"
    assert len(rows) == 50
    assert took_s < 5.0 * SLOWNESS
