"""Who is to blame where the evidence is thin: no stack, a loop that only spins, descriptors, a child that died, a cause elsewhere."""

from typing import Any

from holdfast.diagnosis import owners, profile, stacks
from holdfast.diagnosis.findings import Facts, assess
from holdfast.diagnosis.story import story

SITE = "/srv/venv/lib/python3.11/site-packages"
STD = "/usr/lib/python3.11"
PLAN = {"name": "web", "kind": "guest", "directory": "/srv/app", "components": [], "limits": {}, "faulthandler": True}  # fmt: skip


def flagged(flag: str) -> Facts:
    order = {"worker": "web", "live": True, "unix_s": 10.0, "kind": flag, "flag": {"flag": flag, "says": "it is so", "since_unix_s": 9.0}}  # fmt: skip
    return Facts(order, dict(PLAN))


def first(facts: Facts) -> dict[str, Any]:
    found: dict[str, Any] = assess(facts)["findings"][0]
    return found


def sampled(*rows: tuple[str, int]) -> profile.Profile:
    return profile.Profile([("MainThread", tuple(s.split(";")), n) for s, n in rows], 1.0)


def test_a_crash_without_a_stack_is_told_by_what_the_program_calls_of_its_only_extension() -> None:
    """It broke memory and died later, where nothing of it is left on any stack."""
    facts = Facts({"worker": "web", "status": 11, "live": False}, dict(PLAN))
    facts.extensions = [{"package": "ormsgpack", "version": "1.4.1", "module": "ormsgpack"}]
    facts.used = {"ormsgpack": ["ormsgpack.packb (run.py:3)"]}

    found = first(facts)

    assert (found["package"], found["function"]) == ("ormsgpack", "ormsgpack.packb")
    assert "ormsgpack.packb (run.py:3)" in found["says"]


def test_with_two_functions_in_use_none_is_blamed() -> None:
    facts = Facts({"worker": "web", "status": 11, "live": False}, dict(PLAN))
    facts.extensions = [{"package": "fast", "version": "1", "module": "fast"}]
    facts.used = {"fast": ["fast.pack (run.py:3)", "fast.unpack (run.py:9)"]}

    assert first(facts)["function"] == ""


def test_a_loop_that_spins_is_blamed_on_what_it_runs_and_not_on_who_started_it() -> None:
    """Most samples are in the loop's own turns, and all of them below asyncio.run() of the program."""
    loop = f"/srv/app/run.py:9 in <module>;{STD}/asyncio/base_events.py:607 in BaseEventLoop.run_forever;{STD}/asyncio/base_events.py:1890 in BaseEventLoop._run_once"  # fmt: skip
    call = f"{STD}/asyncio/events.py:80 in Handle._run"
    retry = f"{SITE}/anyio/_backends/_asyncio.py:596 in CancelScope._deliver_cancellation"
    facts = flagged("pegged")
    facts.owners = {f"{SITE}/anyio/_backends/_asyncio.py": ("anyio", "4.9.0")}
    facts.profile = sampled((loop, 30), (f"{loop};{call}", 12), (f"{loop};{call};{retry}", 8))

    found = first(facts)

    assert (found["package"], found["function"]) == ("anyio", "CancelScope._deliver_cancellation")
    assert found["says"].startswith("The event loop turns without a pause")
    assert found["confidence"] == "possible"


def test_the_package_that_the_program_calls_is_named_beside_the_one_that_does_its_work() -> None:
    """People know requests; urllib3 is what they find on the stack."""
    facts = flagged("slow")
    facts.owners = {f"{SITE}/urllib3/connection.py": ("urllib3", "2.8.0"), f"{SITE}/requests/api.py": ("requests", "2.31.0")}  # fmt: skip
    way = f"/srv/app/run.py:5 in handle;{SITE}/requests/api.py:73 in get;{SITE}/urllib3/connection.py:638 in getresponse"
    facts.profile = sampled((way, 20))

    assert "called from handle (run.py:5) through requests 2.31.0, get (requests/api.py:73)" in first(facts)["says"]  # fmt: skip


def test_descriptors_are_blamed_on_the_objects_of_which_there_are_as_many() -> None:
    facts = flagged("fd_leak")
    facts.process = {"fds": {"count": 1200, "limit": 20000, "targets": {"socket": 800, "anon_inode": 400}}}  # fmt: skip
    facts.census = {
        "own": [
            {"type": "chatter.Note", "count": 90000, "more": 50},
            {"type": "tornado.platform.asyncio.AsyncIOLoop", "count": 400, "more": 8},
        ],
        "allocated": [{"bytes": 9000, "frames": [f"{SITE}/tornado/ioloop.py:9 in __init__", "/srv/app/run.py:5 in fetch"]}],
    }  # fmt: skip
    facts.modules = {"tornado": ("tornado", "6.1"), "chatter": ("chatter", "1.0")}
    facts.owners = {f"{SITE}/tornado/ioloop.py": ("tornado", "6.1")}

    found = first(facts)

    assert (found["package"], found["version"]) == ("tornado", "6.1")
    assert "400 objects of tornado.platform.asyncio.AsyncIOLoop" in found["says"]
    assert "made by fetch (run.py:5)" in found["says"]


def test_a_wait_for_a_process_that_has_died_says_so() -> None:
    """A worker of a pool was killed: its job is lost, and whoever waits for the result waits for ever."""
    facts = flagged("deadlock")
    frames = [f"{STD}/threading.py:327 in Condition.wait", f"{STD}/multiprocessing/pool.py:765 in ApplyResult.wait", "/srv/app/run.py:7 in main"]  # fmt: skip
    facts.live_stacks = [{"thread": "MainThread", "tid": 1, "frames": frames, "current": False, "doing": "waits for a lock"}]  # fmt: skip
    facts.sites = {"stuck": [frames], "died": [9]}

    found = first(facts)

    assert found["function"] == "main"
    assert "A child process has died of SIGKILL" in found["says"]


def test_a_consequence_names_its_cause_and_the_cause_what_it_led_to() -> None:
    facts = Facts({"worker": "web", "status": 256, "live": False, "because": {"worker": "db", "key": "exit-3"}}, dict(PLAN))  # fmt: skip
    told = assess(facts)

    assert {"confidence": "likely", "says": 'it needs worker "db", which had just died'} in told["cause"]["why"]  # fmt: skip
    child = story({**told, "worker": "web", "because": {"worker": "db", "incident": "2024-01-01-db-1"}}, [])  # fmt: skip
    assert 'Because of   worker "db": 2024-01-01-db-1' in child
    parent = story({**told, "worker": "db", "consequences": ["2024-01-01-web-1"]}, [])
    assert "Led to       2024-01-01-web-1" in parent


def test_what_takes_more_of_the_time_than_on_a_good_day_is_told() -> None:
    then = sampled(("/srv/app/a.py:1 in run;/srv/app/a.py:5 in look", 5), ("/srv/app/a.py:1 in run;/srv/app/a.py:9 in send", 45))  # fmt: skip
    now = sampled(("/srv/app/a.py:1 in run;/srv/app/a.py:5 in look", 40), ("/srv/app/a.py:1 in run;/srv/app/a.py:9 in send", 10))  # fmt: skip

    rows = profile.grown(now, then)
    assert [(row["function"], row["then"], row["now"]) for row in rows] == [("/srv/app/a.py in look", 0.1, 0.8)]  # fmt: skip
    facts = flagged("slow")
    facts.profile, facts.healthy = now, then
    assert "On a good day it had 10%." in first(facts)["says"]


def test_locals_are_told_without_secrets_and_without_the_interpreters_own() -> None:
    held = [{"name": "password", "repr": '"hunter2"'}, {"name": "items", "repr": "[1, 2]\n"}]
    thread = {
        "thread_name": "MainThread",
        "frames": [
            {"filename": f"{STD}/threading.py", "line": 1, "name": "wait", "locals": held},
            {"filename": "/srv/app/a.py", "line": 5, "name": "crunch", "locals": held},
        ],
    }

    assert owners.is_machinery(f"{STD}/threading.py")
    text = stacks.locals_as_text([thread])
    assert text == "Thread MainThread\n  /srv/app/a.py:5 in crunch\n    password = (not shown)\n    items = [1, 2]\n"  # fmt: skip


POOL = f"{SITE}/redis/connection.py"


def deadlocked(*frames: str) -> dict[str, Any]:
    facts = flagged("deadlock")
    facts.owners = {POOL: ("redis", "4.5.5"), f"{SITE}/redis/client.py": ("redis", "4.5.5")}
    facts.live_stacks = [
        {"thread": "Thread-1", "frames": list(frames), "current": False, "doing": "waits for a lock"},
        {"thread": "Thread-2", "frames": [f"{POOL}:1448 in ConnectionPool.get_connection", "/srv/app/run.py:9 in count"],
         "current": False, "doing": "waits for a lock"},
    ]  # fmt: skip
    facts.sites = {"stuck": [stack["frames"] for stack in facts.live_stacks]}
    return first(facts)


def test_a_destructor_that_comes_back_for_the_lock_of_its_own_pool_is_a_deadlock_with_itself() -> (
    None
):
    """redis-py issue 2883: the collector deletes a subscription while its pool makes a connection, and all others wait behind it."""
    found = deadlocked(
        f"{POOL}:1497 in ConnectionPool.release",
        f"{SITE}/redis/client.py:1418 in PubSub.__del__",
        f"{POOL}:949 in AbstractConnection.__init__",
        f"{POOL}:1452 in ConnectionPool.get_connection",
        "/srv/app/run.py:37 in follow",
    )

    assert found["function"] == "ConnectionPool.release"
    assert "Deadlock of a thread with itself: Thread-1" in found["says"]
    assert "through PubSub.__del__" in found["says"]


def test_two_methods_of_one_class_on_a_stack_are_no_deadlock_of_a_thread_with_itself() -> None:
    found = deadlocked(
        f"{POOL}:1497 in ConnectionPool.release",
        f"{POOL}:1452 in ConnectionPool.get_connection",
        "/srv/app/run.py:37 in follow",
    )

    assert "with itself" not in found["says"]


def test_a_line_that_computes_for_a_request_comes_before_the_line_that_waits_for_it() -> None:
    """pypdf 3.8.1: a handler awaits a thread that never ends; to look at the handler helps nobody."""
    facts = flagged("slow")
    facts.owners = {f"{SITE}/pypdf/reader.py": ("pypdf", "3.8.1")}
    facts.pulse = {"in_flight": 2}
    facts.sites = {"waiting": [[1, 46.0, "/srv/app/run.py:47 in text", "", ["/srv/app/run.py:47 in text"]]]}  # fmt: skip
    parse = f"/srv/app/run.py:43 in extract;{SITE}/pypdf/reader.py:1019 in Reader.parse"
    facts.profile = sampled((parse, 45))

    assert first(facts)["package"] == "pypdf"

    facts.profile = sampled((parse, 8))  # it hardly works: it waits
    assert "does not answer" in first(facts)["says"]
