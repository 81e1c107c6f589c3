"""A job's bytes: what real Sidekiqs wrote is read, what we write they read, and nothing is touched that was not asked for."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.wire import sidekiq

#: As a real Sidekiq 6.4.1 left them in Redis.
ON_A_LIST = (
    b'{"retry":3,"queue":"default","backtrace":5,"tags":["demo"],"args":[0],"class":"Boom",'
    b'"jid":"94d2b83e11801eb52122bf66","created_at":1795310493.033364,"enqueued_at":1795310493.0366385}'
)
IN_THE_SCHEDULE = (
    b'{"retry":true,"queue":"default","args":[0],"class":"Later",'
    b'"jid":"e6f60f4a5d1c39e1bb2cd421","created_at":1795310493.3718584}'
)
#: `error_backtrace` of a job that failed under Sidekiq 6.4.1: base64 with line breaks.
BY_RUBY = (
    "eJylzVEOgjAQBNCrNP1BE+1CQzThKoaoW1dTKbTuUqO3F5Eb+DszeXPQcE4J\n"
    "7hHFMDa1bfygTon4Grkv9EZDFobgETjjG27UC4i/UOcf252pTTV3SwKJoyOR\n"
    "yF/Llj+MXuTySMfp4z+w2pcziCG6Tq2sCvSkIGs1hcuw0O0He5dHmw==\n"
)

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.text()
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(st.text() | st.sampled_from(["enqueued_at", "created_at"]), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip
times = st.floats(0, 4e9, allow_nan=False)
spacings = st.sampled_from([(",", ":"), (", ", ": "), (" ,\n", "\t: ")])


def as_pushed(**changes: object) -> dict[str, object]:
    return {**json.loads(ON_A_LIST), **changes}


def test_a_job_that_sidekiq_pushed_is_read_and_written_back_byte_for_byte() -> None:
    for raw in (ON_A_LIST, IN_THE_SCHEDULE):
        assert sidekiq.dumps(sidekiq.loads(raw)) == raw


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        (b"", "no job"), (b"nonsense", "no job"), (b"[1]", "no job"), (b'{"class":"A","args":[]}', '"jid" has to be text'),
        (b'{"class":7,"args":[],"jid":"a"}', '"class" has to be text, it is 7'), (b"[" * 100_000, "no job"),
        (b'{"class":"A","args":{},"jid":"a"}', '"args" has to be an array'), (b'{"a":' * 100_000, "nested too deeply"),
        (b'{"class":"\xff","args":[],"jid":"a"}', "no job"), (b'{"class":"A","args":[1e999],"jid":"a"}', "out of range"),
    ],
)  # fmt: skip
def test_what_is_no_job_is_said_to_be_none(raw: bytes, says: str) -> None:
    """It goes to the dead set as it is; an exception of another kind would kill the worker that met it."""
    with pytest.raises(ValueError, match=says):
        sidekiq.loads(raw)


@pytest.mark.parametrize(
    ("said", "read"),
    [
        ([1, 2, 60], (1.0, 2.0, 60.0)), (None, None), ("x", None), ([1, 2], None), (["1", 2, 3], None), ([1, 0.5, 3], None),
        ([-1, 2, 3], None), ([1, 2, 10**400], None), ([True, 2, 3], None),
    ],
)  # fmt: skip
def test_delays_that_make_no_sense_are_not_said(said: object, read: object) -> None:
    """The steward counts with them when it settles what a dead worker held; a stranger's job must not end it."""
    assert sidekiq.backoff({"hf": {"backoff": said}}) == read


def test_a_new_job_has_what_a_sidekiq_asks_for() -> None:
    job = sidekiq.new(
        "shop.send", [1, "a"], jid="0" * 24, queue="mail", now_s=1795310493, extra={"tags": ["x"]}
    )

    assert json.loads(sidekiq.dumps(job)) == {
        "class": "shop.send", "args": [1, "a"], "jid": "0" * 24, "queue": "mail", "retry": True,
        "created_at": 1795310493.0, "tags": ["x"],
    }  # fmt: skip
    assert b'"created_at":1795310493.0' in sidekiq.dumps(job), "an integer would be milliseconds"


def test_what_is_ours_lies_under_one_key() -> None:
    job = sidekiq.new("a", [], jid="0", queue="q", now_s=1.0, hf={"result_s": 60})

    assert sidekiq.hf(job) == {"result_s": 60}
    assert sidekiq.hf(as_pushed()) == {}
    assert sidekiq.hf(as_pushed(hf="of a stranger")) == {}


def test_stamping_a_scheduled_job_adds_the_time_at_its_end() -> None:
    assert sidekiq.stamp(IN_THE_SCHEDULE, 1795310496.25) == (
        IN_THE_SCHEDULE[:-1] + b',"enqueued_at":1795310496.25}'
    )


def test_stamping_keeps_the_style_of_sidekiq_8() -> None:
    raw = sidekiq.dumps(as_pushed(created_at=1795310493033, enqueued_at=1795310493036))

    assert json.loads(sidekiq.stamp(raw, 1795310496.25))["enqueued_at"] == 1795310496250


def test_a_stamp_of_something_that_is_no_object_is_an_error() -> None:
    for raw in (b"", b"[]", b"7", b'{"a":1', b'{"a":1}}', b"[" * 100_000):
        with pytest.raises(ValueError):
            sidekiq.stamp(raw, 1.0)


@settings(max_examples=60)
@given(st.dictionaries(st.text(), json_values, max_size=6), times, times, spacings, st.booleans())
def test_a_stamp_changes_nothing_else(
    rest: dict[str, object], before_s: float, now_s: float, spacing: tuple[str, str], ascii_: bool
) -> None:
    """Sidekiq's web page finds a member of a set by its bytes, and a big number survives only untouched."""
    rest = {key: value for key, value in rest.items() if key not in ("created_at", "enqueued_at")}
    at = len(rest) // 2
    parts = [*list(rest.items())[:at], ("enqueued_at", before_s), *list(rest.items())[at:]]
    text = json.dumps(dict(parts), separators=spacing, ensure_ascii=ascii_).encode()
    old = json.dumps(before_s).encode()

    stamped = sidekiq.stamp(text, now_s)

    after = json.loads(stamped)
    assert after.pop("enqueued_at") == now_s
    assert after == rest
    assert any(
        stamped.startswith(text[:start]) and stamped.endswith(text[start + len(old) :])
        for start in range(len(text))
        if text.startswith(old, start)
    )


@settings(max_examples=60)
@given(
    st.dictionaries(st.text(), json_values, max_size=6),
    times,
    spacings,
    st.sampled_from(["", " ", "\n\n"]),
)
def test_a_first_stamp_only_adds(
    job: dict[str, object], now_s: float, spacing: tuple[str, str], tail: str
) -> None:
    job.pop("enqueued_at", None)
    text = (json.dumps(job, separators=spacing) + tail).encode()

    stamped = sidekiq.stamp(text, now_s)

    end = text.rindex(b"}")
    assert stamped.startswith(text[:end])
    assert stamped.endswith(text[end:])
    is_in_ms = type(job.get("created_at")) is int
    assert json.loads(stamped) == {**job, "enqueued_at": int(now_s * 1000) if is_in_ms else now_s}


@pytest.mark.parametrize(
    ("raw", "stamped"),
    [
        (b'{"a":{"enqueued_at":1},"enqueued_at":2}', b'{"a":{"enqueued_at":1},"enqueued_at":5.5}'),
        (b'{"enqueued_at":2,"a":{"enqueued_at":2}}', b'{"enqueued_at":5.5,"a":{"enqueued_at":2}}'),
        (b'{"a":"\\"enqueued_at\\":1,","enqueued_at" : 2 }', b'{"a":"\\"enqueued_at\\":1,","enqueued_at" : 5.5 }'),
        (b'{"enqueued\\u005fat":2,"a":{"enqueued_at":2}}', b'{"enqueued\\u005fat":5.5,"a":{"enqueued_at":2}}'),
        (b'{"enqueued_at":1,"enqueued_at":2}', b'{"enqueued_at":1,"enqueued_at":5.5}'),
        (b'{"enqueued_at":null}', b'{"enqueued_at":5.5}'),
        (b'{"enqueued_at":[{"a":[1,2]},3],"b":1}', b'{"enqueued_at":5.5,"b":1}'),
        (b'{"created_at":7,"a":"enqueued_at"}', b'{"created_at":7,"a":"enqueued_at","enqueued_at":5500}'),
        (b'{"created_at":"yesterday","enqueued_at":1}', b'{"created_at":"yesterday","enqueued_at":5.5}'),
        (b'{"enqueued_at":' + b" " * 200 + b"1}", b'{"enqueued_at":' + b" " * 200 + b"5.5}"),
        (b"{ }", b'{ "enqueued_at":5.5}'),
    ],
)  # fmt: skip
def test_the_stamp_finds_the_one_key_that_counts(raw: bytes, stamped: bytes) -> None:
    assert sidekiq.stamp(raw, 5.5) == stamped


def test_the_first_failure_is_written_as_sidekiq_does() -> None:
    job = sidekiq.loads(ON_A_LIST)

    failed = sidekiq.fail(
        job, "ValueError", "boom 0", ["a.py:1 in f", "b.py:2 in g"], 1795310514.25
    )

    assert failed == {
        **job, "error_message": "boom 0", "error_class": "ValueError", "failed_at": 1795310514.25, "retry_count": 0,
        "error_backtrace": failed["error_backtrace"],
    }  # fmt: skip
    assert sidekiq.backtrace(failed) == ["a.py:1 in f", "b.py:2 in g"]
    assert sidekiq.loads(ON_A_LIST) == job, "the one that was given stays as it was"


def test_later_failures_count_and_keep_the_time_of_the_first() -> None:
    failed = sidekiq.fail(as_pushed(), "E", "1", ["x"], 100.0)

    again = sidekiq.fail(failed, "E", "2", None, 200.0)

    assert (again["retry_count"], again["failed_at"], again["retried_at"]) == (1, 100.0, 200.0)
    assert "error_backtrace" not in again, "that of the failure before tells nothing about this one"


def test_a_job_of_sidekiq_8_fails_in_milliseconds() -> None:
    failed = sidekiq.fail(as_pushed(created_at=1795310493033), "E", "", None, 100.25)

    assert failed["failed_at"] == 100250
    assert sidekiq.seconds(failed["failed_at"]) == 100.25


def test_a_failure_keeps_as_much_backtrace_as_was_asked_for() -> None:
    lines = [f"line {n}" for n in range(9)]

    def kept(backtrace: object) -> list[str]:
        return sidekiq.backtrace(sidekiq.fail(as_pushed(backtrace=backtrace), "E", "", lines, 1.0))

    assert kept(3) == lines[:3]
    assert kept(True) == lines
    assert kept(False) == kept(None) == []


def test_text_that_json_cannot_carry_does_not_stop_a_failure_from_being_kept() -> None:
    """An exception about a file name that is no UTF-8 has such text; it must not cost the job."""
    job = as_pushed(backtrace=True, retry_queue="slow")

    failed = sidekiq.fail(job, "E\udc80", "\udcff" * 20_000, ["\ud800 in f"], 1.0)

    back = sidekiq.loads(sidekiq.dumps(failed))
    assert back["error_message"] == "?" * sidekiq.MESSAGE_MAX
    assert (back["error_class"], back["queue"]) == ("E?", "slow")
    assert sidekiq.backtrace(back) == ["? in f"]


@pytest.mark.parametrize(
    ("retry", "retry_count", "left"),
    [
        (True, 24, True), (True, 25, False), (3, 2, True), (3, 3, False), (0, 0, False), (False, 0, False), (None, 0, False),
        ("often", 24, True),
    ],
)  # fmt: skip
def test_a_job_is_retried_as_often_as_it_says(retry: object, retry_count: int, left: bool) -> None:
    assert sidekiq.retries_left(as_pushed(retry=retry, retry_count=retry_count)) is left


def test_a_job_may_be_retried_for_a_time_instead() -> None:
    failed = sidekiq.fail(as_pushed(retry=0, retry_for=60), "E", "", None, 1000.0)
    assert sidekiq.retries_left(failed)

    assert sidekiq.retries_left(sidekiq.fail(failed, "E", "", None, 1059.0))
    assert not sidekiq.retries_left(sidekiq.fail(failed, "E", "", None, 1061.0))


def test_what_is_given_up_is_kept_unless_the_job_says_no() -> None:
    assert sidekiq.keeps_dead(as_pushed())
    assert sidekiq.keeps_dead(as_pushed(retry=0))
    assert not sidekiq.keeps_dead(as_pushed(dead=False))
    assert not sidekiq.keeps_dead(as_pushed(retry=False))


def test_a_backtrace_of_ruby_is_read() -> None:
    assert sidekiq.backtrace({"error_backtrace": BY_RUBY})[0].startswith("/app/jobs.rb:")


def test_a_backtrace_that_cannot_be_read_is_none() -> None:
    bomb = sidekiq.pack_backtrace(["x" * 50_000_000])

    for kept in ("%%%", "aGVsbG8=", bomb, 7, None, sidekiq.pack_backtrace([])):
        assert sidekiq.backtrace({"error_backtrace": kept}) == []
    assert sidekiq.backtrace({"error_backtrace": ["as", "Sidekiq 5 had it"]}) == ["as", "Sidekiq 5 had it"]  # fmt: skip


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]))))
def test_a_backtrace_comes_back_as_it_went(lines: list[str]) -> None:
    packed = sidekiq.pack_backtrace(lines)

    assert sidekiq.backtrace({"error_backtrace": packed}) == lines
    assert "\n" not in packed, "Sidekiq 8 reads strict base64 only"


@given(st.integers(0, 10**14 - 1), times)
def test_times_are_read_in_both_styles(ms: int, unix_s: float) -> None:
    assert math.isclose(sidekiq.seconds(ms), ms / 1000)
    assert sidekiq.seconds(unix_s) == unix_s
    assert sidekiq.seconds("soon") == sidekiq.seconds(None) == sidekiq.seconds(True) == 0.0
    assert sidekiq.seconds(10**400) == sidekiq.seconds(1e308) == sidekiq.seconds(-1) == 0.0
