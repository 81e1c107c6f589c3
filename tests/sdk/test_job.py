"""The decorator and what it makes: settings that are read, jobs that are put into the queue, and words for every wrong use."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import warnings
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, assert_type

import pytest

from holdfast.jobs import queue
from holdfast.sdk import (
    JobArgumentsError,
    JobNameError,
    JobSettingError,
    Limit,
    NoStoreError,
    PayloadTooLargeError,
    Ref,
    StoreDownError,
    job,
    push,
)
from holdfast.sdk.job_registry import REGISTRY
from holdfast.sdk.job_sending import Sending

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

SOURCE = Path(__file__).parents[2] / "src"


class Shelf:
    """A store that only takes."""

    def __init__(self) -> None:
        self.pushed: list[tuple[bytes, float]] = []
        self.steps: list[int] = []
        self.holders: dict[str, str] = {}

    def push(self, jobs: Sequence[bytes], at_s: Sequence[float] | None = None) -> list[str]:
        self.steps.append(len(jobs))
        self.pushed += zip(jobs, at_s or [0.0] * len(jobs), strict=True)
        locks = [json.loads(raw).get("hf", {}).get("unique", "") for raw in jobs]
        return [self.holders.get(lock, "") for lock in locks]

    @property
    def last(self) -> dict[str, Any]:
        pushed: dict[str, Any] = json.loads(self.pushed[-1][0])
        return pushed

    @property
    def hf(self) -> dict[str, Any]:
        ours: dict[str, Any] = self.last.get("hf", {})
        return ours


@pytest.fixture
def shelf() -> Iterator[Shelf]:
    made = Shelf()
    before = queue.use(queue.Queue(made))  # type: ignore[arg-type]
    yield made
    queue.use(before)


@pytest.fixture(autouse=True)
def known() -> Iterator[None]:
    """Forget the jobs of a test after it."""
    before = dict(REGISTRY)
    yield
    REGISTRY.clear()
    REGISTRY.update(before)


@job
def plain(a, b=2): ...  # type: ignore[no-untyped-def]
@job(name="shop.send", queue="mail")
def send(to: str, *, subject: str = "") -> str:
    return f"{to} {subject}"


@job(name="shop.wait")
async def wait(seconds: float) -> float:
    return seconds


# -- what is in the queue ------------------------------------------------------------------------------------


def test_a_job_is_put_into_its_queue_as_sidekiq_would(shelf: Shelf) -> None:
    ref = send.enqueue("ann@example.org")

    made = shelf.last
    assert made == {
        "class": "shop.send", "args": ["ann@example.org"], "jid": ref.jid, "queue": "mail", "retry": True, "backtrace": True,
        "created_at": made["created_at"], "enqueued_at": made["created_at"],
    }  # fmt: skip
    assert type(made["created_at"]) is float
    assert len(ref.jid) == 24
    assert int(ref.jid, 16) >= 0


def test_the_name_is_where_the_function_is(shelf: Shelf) -> None:
    plain.enqueue(1)

    assert shelf.last["class"] == f"{__name__}.plain"
    assert REGISTRY[f"{__name__}.plain"] is plain


def test_keyword_only_arguments_travel_beside_the_others(shelf: Shelf) -> None:
    send.enqueue("ann", subject="hello")

    assert shelf.last["args"] == ["ann"]
    assert shelf.hf == {"kw": {"subject": "hello"}}
    assert send.bind(shelf.last) == (("ann",), {"subject": "hello"})


def test_settings_travel_under_the_keys_that_stores_and_workers_read(shelf: Shelf) -> None:
    @job(name="all", queue="low", retries=3, timeout="30s", unique=True, unique_for="1h", result_for="2h",
         backoff=("500ms", 2, "10m"), limit=Limit(key="db", at_once=2, rate=(10, "1s")), expires_in=timedelta(minutes=1),
         tags=["night"], backtrace=5, dead=False)  # fmt: skip
    def everything(a: int) -> None: ...

    everything.enqueue(7)

    made = shelf.last
    ours = made.pop("hf")
    assert {key: made[key] for key in ("queue", "retry", "tags", "backtrace", "dead")} == {
        "queue": "low", "retry": 3, "tags": ["night"], "backtrace": 5, "dead": False,
    }  # fmt: skip
    assert ours == {
        "result_s": 7200.0, "backoff": [0.5, 2.0, 600.0], "limit": "db", "limit_max": 2, "rate": [10, 1.0],
        "expires": made["created_at"] + 60, "unique": "all:[7]", "unique_s": 3600.0,
    }  # fmt: skip
    assert (everything.timeout_s, everything.retries, everything.queue) == (30.0, 3, "low")


def test_the_timeout_of_the_code_that_runs_counts_unless_one_was_chosen(shelf: Shelf) -> None:
    """A deploy that raises a timeout is to help the jobs that wait, too."""

    @job(name="slow", timeout=5)
    def slow() -> None: ...

    slow.enqueue()
    assert shelf.hf == {}
    slow.schedule(in_=5).enqueue()
    assert shelf.hf == {}
    slow.options(timeout="1h").enqueue()
    assert shelf.hf == {"timeout": 3600.0}
    slow.options(timeout=None).enqueue()
    assert shelf.hf == {"timeout": 0.0}


def test_keys_of_locks_and_limits_are_made_of_the_arguments(shelf: Shelf) -> None:
    @job(name="fetch", unique=lambda url, depth=0: url, limit=Limit(key=lambda url, depth=0: url[:7], at_once=1))  # noqa: ARG005  # fmt: skip
    def fetch(url: str, depth: int = 0) -> None: ...

    fetch.enqueue("http://a/b", depth=3)

    assert shelf.hf == {"unique": "fetch:http://a/b", "limit": "http://", "limit_max": 1}


def test_a_long_key_becomes_a_digest(shelf: Shelf) -> None:
    send.options(unique="until_start").enqueue("x" * 5000)

    assert shelf.hf["unique_until"] == "start"
    assert len(shelf.hf["unique"]) == len("shop.send:") + 64


def test_a_job_that_is_there_already_is_the_one_that_is_returned(shelf: Shelf) -> None:
    shelf.holders['shop.send:["ann"]'] = "0" * 24

    ref = send.options(unique=True).enqueue("ann")
    refs = send.options(unique=True).enqueue_many([("ann",), ("bob",)])

    assert (ref.jid, ref.is_new) == ("0" * 24, False)
    assert [one.is_new for one in refs] == [False, True]
    assert "was there" in repr(ref)


def test_many_are_enqueued_in_atomic_steps_of_a_thousand(shelf: Shelf) -> None:
    refs = plain.enqueue_many((number,) for number in range(2500))

    assert shelf.steps == [1000, 1000, 500]
    made = [json.loads(raw) for raw, _ in shelf.pushed]
    assert [one["args"] for one in made] == [[number] for number in range(2500)]
    assert [one["jid"] for one in made] == [ref.jid for ref in refs]
    assert len({ref.jid for ref in refs}) == 2500


def test_many_are_as_one_by_one(shelf: Shelf) -> None:
    rich = send.options(unique=True, result_for=5, queue="x")
    rich.enqueue_many([("ann",)])
    many = shelf.last
    rich.enqueue("ann")
    one = shelf.last

    for made in (many, one):
        for key in ("jid", "created_at", "enqueued_at"):
            made.pop(key)
    assert many == one
    assert list(many) == list(one)


def test_one_that_does_not_fit_among_many_says_which_and_what_is_stored(shelf: Shelf) -> None:
    calls: list[tuple[Any, ...]] = [("ann",)] * 1500
    calls[1234] = (5,)

    with pytest.raises(JobArgumentsError, match='argument "to": expected str, got int') as caught:
        send.enqueue_many(calls)

    assert caught.value.__notes__ == [
        "this is job 1234 (from 0) of enqueue_many; 1000 before it are enqueued"
    ]
    assert shelf.steps == [1000]


def test_a_store_that_goes_down_in_the_middle_of_many_says_how_far_it_came(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    def push(jobs: Sequence[bytes], at_s: Sequence[float] | None = None) -> list[str]:  # noqa: ARG001
        if shelf.steps:
            raise StoreDownError("connection refused")
        shelf.steps.append(len(jobs))
        return [""] * len(jobs)

    monkeypatch.setattr(shelf, "push", push)

    with pytest.raises(StoreDownError) as caught:
        plain.enqueue_many([(1,)] * 1700)
    assert caught.value.__notes__ == ["enqueue_many: 1000 jobs before these 700 are enqueued"]


def test_many_take_tuples(shelf: Shelf) -> None:
    """`enqueue_many(["ann"])` would send a letter to a, n and n."""
    with pytest.raises(JobArgumentsError, match=r"for one argument: \(value,\)"):
        send.enqueue_many(["ann"])
    send.enqueue_many([["ann"]])

    assert shelf.last["args"] == ["ann"]
    assert send.enqueue_many([]) == []


def test_scheduled_jobs_have_a_time_and_no_enqueued_at(shelf: Shelf) -> None:
    moment = datetime(2040, 1, 1, tzinfo=UTC)

    send.schedule(at=moment).enqueue("ann")
    assert shelf.pushed[-1][1] == moment.timestamp()
    assert "enqueued_at" not in shelf.last
    send.schedule(at=moment.timestamp()).enqueue_many([("ann",)])
    assert shelf.pushed[-1][1] == moment.timestamp()
    for span, seconds in (("10m", 600), (600, 600), (timedelta(minutes=10), 600), ("500ms", 0.5)):
        send.schedule(in_=span).enqueue("ann")
        assert shelf.pushed[-1][1] == pytest.approx(shelf.last["created_at"] + seconds)


def test_a_time_that_is_over_means_now(shelf: Shelf) -> None:
    send.schedule(at=5.0).enqueue("ann")

    assert shelf.pushed[-1][1] == 0.0
    assert "enqueued_at" in shelf.last


def test_a_schedule_and_options_go_together_in_either_order(shelf: Shelf) -> None:
    send.schedule(in_="1h").options(queue="low").enqueue("a")
    send.options(queue="low").schedule(in_="1h").enqueue("b")

    assert [at > 0 for _, at in shelf.pushed] == [True, True]
    assert [json.loads(raw)["queue"] for raw, _ in shelf.pushed] == ["low", "low"]


def test_a_deadline_counts_from_when_the_job_is_due(shelf: Shelf) -> None:
    send.options(expires_in="1m").schedule(at=4e9).enqueue("a")

    assert shelf.hf["expires"] == 4e9 + 60


def test_arguments_of_the_job_never_collide_with_ours(shelf: Shelf) -> None:
    @job(name="names")
    def names(self: int, queue: int, at: int, in_: int) -> None: ...

    names.schedule(in_=5).enqueue(self=1, queue=2, at=3, in_=4)

    assert shelf.last["args"] == [1, 2, 3, 4]


async def twins(shelf: Shelf) -> None:
    ref = await send.aenqueue("ann", subject="x")
    refs = await send.options(queue="low").aenqueue_many([("bob",), ("cat",)])

    assert [json.loads(raw)["jid"] for raw, _ in shelf.pushed] == [ref.jid, *(r.jid for r in refs)]
    assert shelf.last["queue"] == "low"


def test_asyncio_has_twins(shelf: Shelf) -> None:
    asyncio.run(twins(shelf))


def test_a_job_is_still_the_function() -> None:
    assert send("ann", subject="x") == "ann x"
    assert asyncio.run(wait(1.5)) == 1.5
    assert (send.is_async, wait.is_async) == (False, True)
    assert (send.__name__, send.__doc__, repr(send)) == ("send", None, "<job shop.send>")


def test_the_type_checker_knows_arguments_and_results(shelf: Shelf) -> None:
    """What an editor can say while one types need not be found out by a test; `mypy --strict` of this file is half of this one."""
    assert_type(send.enqueue("ann", subject="x"), Ref[str])
    assert_type(wait.options(queue="low").enqueue(1.5), Ref[float])
    assert_type(wait.schedule(in_=1).enqueue_many([(1.5,)]), list[Ref[float]])
    assert_type(send("ann"), str)

    with pytest.raises(JobArgumentsError):
        send.enqueue(5)  # type: ignore[arg-type]
    with pytest.raises(JobArgumentsError):
        wait.options(queue="low").enqueue(second=5)  # type: ignore[call-arg]
    assert len(shelf.pushed) == 3


def test_a_job_of_another_program_is_pushed_by_its_name(shelf: Shelf) -> None:
    ref = push("BNoop", 1, {"a": [None]}, queue="low", in_="10m", retries=3)

    made = shelf.last
    assert made == {"class": "BNoop", "args": [1, {"a": [None]}], "jid": ref.jid, "queue": "low", "retry": 3,
                    "created_at": made["created_at"]}  # fmt: skip
    assert shelf.pushed[-1][1] > 0
    with pytest.raises(JobArgumentsError, match="BNoop: argument"):
        push("BNoop", {1})
    for name in ("", "a\udcff", "a\nb"):
        with pytest.raises(JobNameError, match="a job has a name, as"):
            push(name)


def test_big_payloads_are_refused_with_their_size(shelf: Shelf) -> None:
    with pytest.raises(PayloadTooLargeError, match=r"its payload is 1,1\d\d,\d\d\d bytes, the limit is 1,048,576\n  keep the data"):  # fmt: skip
        send.enqueue("x" * 1_100_000)
    with pytest.raises(PayloadTooLargeError):
        send.options(max_payload="1K").enqueue_many([("x" * 1100,)])
    send.options(max_payload="2M").enqueue("x" * 1_100_000)

    assert len(shelf.pushed) == 1


# -- wrong uses ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"queue": "my queue"}, "queue='my queue' cannot be the name of a queue"), ({"queue": "quarantine"}, "is not for you"),
        ({"timeout": "30 sekunden"}, "timeout='30 sekunden' is no span of time"), ({"timeout": 0}, "has to be more than nothing"),
        ({"timeout": -1}, "is no span"), ({"timeout": True}, "is no span"), ({"retries": -1}, "a whole number"), ({"retries": True}, "a whole number"),
        ({"retries": 2.5}, "a whole number"), ({"unique": "args"}, "until_start"), ({"unique_for": "x"}, "unique_for='x' is no span"),
        ({"result_for": "soon"}, "result_for='soon' is no span"), ({"backoff": (1, 2)}, "first delay, factor"), ({"backoff": ("1s", 0.5, "1m")}, "factor from 1 on"),
        ({"limit": 5}, r"has to be a Limit\("), ({"expires_in": "x"}, "is no span"), ({"tags": "night"}, "several texts"), ({"backtrace": -1}, "a number of lines"),
        ({"max_payload": "1 MB"}, "is no size"), ({"dead": 1}, "True or False"),
        ({"cron": "often"}, "cron='often' is none"), ({"cron": "0 0 30 2 *"}, "never comes|is none"), ({"cron": "@daily", "tz": "Mars/Base"}, "knows no such time zone"),
        ({"tz": "Europe/Berlin"}, "there is none"), ({"cron": "@daily", "expires_in": 5}, "does not go with cron"),
    ],
)  # fmt: skip
def test_a_wrong_setting_is_refused_where_it_is_written(options: dict[str, Any], says: str) -> None:
    with pytest.raises(JobSettingError, match=says) as caught:
        job(name="n", **options)(lambda: None)

    assert str(caught.value).startswith("job n: ")


def test_wrong_limits_say_what_would_be_right() -> None:
    for wrong, says in (
        ({}, "limits nothing"), ({"at_once": -1}, "whole number above 0"), ({"rate": 5}, r"\(10, \"1s\"\)"),
        ({"rate": (0, "1s")}, r"so many, in so long"), ({"rate": (1, "x")}, "so many"), ({"key": 5, "at_once": 1}, "has to be a text"),
    ):  # fmt: skip
        with pytest.raises(JobSettingError, match=says):
            Limit(**wrong)


@pytest.mark.parametrize(
    ("times", "says"),
    [
        ({}, "either at=… or in_=…"), ({"at": 1.0, "in_": 1}, "either"), ({"in_": "later"}, "in_='later' is no span"), ({"in_": -5}, "is no span"),
        ({"at": datetime(2026, 1, 1)}, "has no time zone"), ({"at": 1795310493033}, "unix seconds"), ({"at": "noon"}, "is no moment"),  # noqa: DTZ001
    ],
)  # fmt: skip
def test_a_wrong_time_is_refused(times: dict[str, Any], says: str) -> None:
    with pytest.raises(JobSettingError, match=says):
        send.schedule(**times)


def test_two_jobs_of_one_name_are_refused() -> None:
    """The second would silently get the jobs of the first."""

    def other() -> None: ...

    with pytest.raises(
        JobNameError, match=r"two jobs are named shop\.send: send in .* and .*other in "
    ):
        job(name="shop.send")(other)


def test_a_module_that_is_loaded_again_replaces_its_jobs() -> None:
    def again(version: int) -> Any:
        @job(name="again")
        def same() -> int:
            return version

        return same

    again(1)
    assert again(2) is REGISTRY["again"]


def test_what_can_be_no_job_is_said() -> None:
    def generator() -> Any:
        yield 1

    with pytest.raises(JobSettingError, match="a generator function cannot be a job"):
        job(generator)
    with pytest.raises(JobSettingError, match=r"settings are named: @job\(queue='mail'\)"):
        job("mail")  # type: ignore[call-overload]
    with pytest.raises(JobSettingError, match="one @job is enough"):
        job(send)
    with pytest.raises(JobNameError, match=r"@job\(name="):
        job(lambda: None)
    with pytest.raises(JobSettingError, match="run without arguments"):
        job(name="n", cron="@daily")(lambda a: None)  # noqa: ARG005


def test_without_a_store_the_error_says_how_to_name_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HOLDFAST_JOBS", raising=False)
    before = queue.use(None)
    try:
        with pytest.raises(
            NoStoreError, match=r"(?s)set HOLDFAST_JOBS.*holdfast\.toml needs \[jobs\].*jobs_inline"
        ):
            send.enqueue("ann")
    finally:
        queue.use(before)


def test_a_job_of_the_program_that_was_started_warns_once(shelf: Shelf) -> None:
    """It would lie in the queue under a name that no worker has."""
    scope: dict[str, Any] = {"__name__": "__main__", "job": job}
    # The main program of a test run has a `__spec__`, a script has none.
    exec("@job(name='__main__.f')\ndef f(): pass", scope)

    with pytest.warns(
        UserWarning, match=r"job __main__\.f is a function of the program that was started"
    ):
        scope["f"].enqueue()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scope["f"].enqueue()
        scope["f"].enqueue_many([()])
    assert len(shelf.pushed) == 3


def test_a_module_run_with_m_knows_its_own_name(tmp_path: Path) -> None:
    (tmp_path / "tasks.py").write_text(
        "from holdfast.sdk import job\n@job\ndef f(): pass\nif __name__ == '__main__': print(f.name)\n"
    )

    def said(*argv: str) -> str:
        run = subprocess.run([sys.executable, *argv], cwd=tmp_path, env={"PYTHONPATH": f"{SOURCE}"}, capture_output=True, text=True, check=True)  # fmt: skip
        return run.stdout.strip()

    assert said("-m", "tasks") == "tasks.f"
    assert said("tasks.py") == "__main__.f"


def test_importing_the_engine_first_does_not_hide_the_decorator() -> None:
    """A submodule named like the decorator would take its place in the package."""
    code = "import holdfast.sdk.jobs, holdfast.sdk.job_registry\nfrom holdfast.sdk import job, batch, progress\nassert callable(job) and callable(batch) and callable(progress)"

    subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": f"{SOURCE}"}, check=True)


def test_a_guest_that_only_beats_does_not_pay_for_jobs() -> None:
    code = "import sys; from holdfast.sdk import heartbeat; print(*sys.modules)"

    run = subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": f"{SOURCE}"}, capture_output=True, text=True, check=True)  # fmt: skip

    assert {"msgspec", "asyncio", "holdfast.sdk.jobs", "holdfast.jobs"}.isdisjoint(
        run.stdout.split()
    )


def test_declaring_a_job_is_cheap() -> None:
    """A worker has 40 MB for all; what only a few need (TLS, calendars, digests, loops) comes when it is needed."""
    code = "import sys; from holdfast.sdk import job, current, batch, Limit\n@job\ndef f(): pass\nprint(*sys.modules)"

    run = subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": f"{SOURCE}"}, capture_output=True, text=True, check=True)  # fmt: skip

    dear = {"asyncio", "cronsim", "zoneinfo", "hashlib", "ssl", "sqlite3", "redis", "logging", "holdfast.config", "email"}  # fmt: skip
    assert dear.isdisjoint(run.stdout.split())


def test_every_job_can_be_sent_with_other_settings() -> None:
    assert isinstance(send.options(retries=1), Sending)
    with pytest.raises(
        JobSettingError, match="there is no setting 'colour'; known: backoff, backtrace"
    ):
        send.options(colour=1)  # type: ignore[call-arg]
    with pytest.raises(JobSettingError, match=r"job shop\.send: retries='x'"):
        send.options(retries="x")  # type: ignore[arg-type]
