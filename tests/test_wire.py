"""Formats: what is written is read back, and what is torn or foreign is not taken for it."""

import subprocess
import sys
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from holdfast.model.plan import PLAN_FORMAT
from holdfast.wire import beats, journal, jsonlite, logindex, message, pulse, sample
from holdfast.wire import plan as plan_format

values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip
records = st.lists(st.dictionaries(st.text(max_size=8), values, max_size=4), max_size=6)


@given(values)
def test_the_small_json_says_what_the_large_one_says(value: object) -> None:
    import json

    assert json.loads(jsonlite.dumps(value)) == value
    assert jsonlite.loads(json.dumps(value)) == value
    assert jsonlite.loads(" \n" + json.dumps(value, ensure_ascii=False, indent=1) + "\n") == value


@given(st.text(max_size=30))
def test_the_small_json_refuses_what_the_large_one_refuses(text: str) -> None:
    import json

    try:
        expected = json.loads(text)
    except ValueError:
        expected = ValueError
    try:
        found = jsonlite.loads(text)
    except ValueError:
        found = ValueError
    # NaN is the one word on which they may differ, and nan is not equal to itself.
    assert found == expected or found != found


def test_the_small_json_refuses_in_a_process_that_never_loaded_the_large_one() -> None:
    """There the C scanner has no error class to raise; a keeper died of a request that was `{`."""
    code = (
        f"import sys; sys.path.insert(0, {str(Path(__file__).parent.parent / 'src')!r})\n"
        "from holdfast.wire import message\n"
        "print([message.decode(x) for x in (b'{', b'[1', b'tru', b'{\"a\": }', b'\"\\\\x\"')])\n"
    )
    run = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=False
    )

    assert run.stdout.strip() == "[None, None, None, None, None]", run.stderr


@given(records, st.binary(max_size=40), st.integers(0, 400))
def test_a_torn_or_scribbled_journal_keeps_its_whole_records(
    written: list[dict[str, object]], scribble: bytes, cut: int
) -> None:
    """Killed in the middle of a write: what was whole is there, nothing else is made up."""
    data = journal.encode_all(written)

    assert journal.decode(data) == (written, len(data))
    whole, end = journal.decode(data[: max(0, len(data) - cut)])
    assert whole == written[: len(whole)]
    assert end <= len(data)
    found, _ = journal.decode(data + scribble.replace(b"\n", b"") + b"\n")
    assert found[: len(written)] == written


@given(st.lists(st.tuples(st.integers(0, 2**63), st.integers(0, 2**63), st.integers(0, 2**31))))
def test_the_log_index_survives_a_torn_tail(chunks: list[tuple[int, int, int]]) -> None:
    data = b"".join(logindex.encode(*chunk) for chunk in chunks)

    assert logindex.decode(data) == chunks
    assert logindex.decode(data[:-1]) == chunks[:-1]


def test_beats_and_pulses_are_read_as_they_were_written() -> None:
    shared = memoryview(bytearray(beats.SIZE))
    beats.write(shared, "keeper", 12345, 77)
    assert beats.read(shared, "keeper") == (12345, 77)
    assert beats.read(shared, "logger") == (0, 0)

    data = bytearray(pulse.SIZE)
    assert pulse.decode(bytes(data)) is None
    data[:8] = pulse.MAGIC
    pulse.I64.pack_into(data, pulse.LOOP_BEAT, 99)
    data[pulse.NOTE : pulse.NOTE + 5] = b"board"
    slot = pulse.RING_OFFSET + 3 * pulse.EVENT_BYTES
    data[slot : slot + pulse.EVENT_BYTES] = pulse.encode_event(5, "é" * 200)
    found = pulse.decode(bytes(data))
    assert found is not None
    assert (found.loop_beat_ns, found.note) == (99, "board")
    assert pulse.decode_events(bytes(data))[0][0] == 5


def test_the_entries_of_a_plan_share_what_is_equal_and_nothing_else() -> None:
    """A thousand workers are 1.4 MB of dictionaries in the keeper, or half of that; `apply` changes single ones."""
    log = {"max_bytes": 1, "max_age_s": 0, "keep": 1, "compress": False}
    entries = [
        {**plan_format.stub(f"w{n}", "/"), "argv": ["/bin/a", "-n", str(n)], "log": {**log, "directory": f"/{n}"}}
        for n in range(20)
    ]  # fmt: skip
    plan: Any = {"format": PLAN_FORMAT, "env": {}, "workers": entries}

    found = plan_format.decode(plan_format.encode(plan), "plan.json")
    first, last = found["workers"][1], found["workers"][-1]

    assert found == plan
    assert first["argv"][0] is last["argv"][0]
    assert sys.getsizeof(last) < sys.getsizeof(dict(last)) / 2
    first["spare"] = 1
    assert last["spare"] == 0
    assert plan_format.fingerprint(last, 0) == plan_format.fingerprint(plan["workers"][-1], 0)


def test_samples_come_back_oldest_first() -> None:
    ring = b"".join(
        sample.RECORD.pack(n, 1, *[0] * (len(sample.FIELDS) - 2)) for n in (3, 1, 2)
    ) + bytes(sample.RECORD.size)

    assert [s["number"] for s in sample.decode(ring)] == [1, 2, 3]


@given(st.binary(max_size=60))
def test_a_message_that_is_none_is_refused_quietly(noise: bytes) -> None:
    assert message.decode(noise) is None or isinstance(message.decode(noise), dict)


def test_a_plan_is_read_by_nobody_but_its_owner() -> None:
    """There are passwords in ``env`` and in stores; a worker under another user has to find its entry, though."""
    worker = plan_format.stub("w", "/")
    ours: Any = {"workers": [worker]}
    other: Any = {
        "workers": [worker, {**worker, "user": {"name": "www", "uid": 33, "gid": 33, "groups": []}}]
    }
    assert plan_format.mode(ours) == 0o600
    assert plan_format.mode(other) == 0o644
