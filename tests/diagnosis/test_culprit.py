"""Who is to blame: the rules that turn a bundle into a name, on evidence as real programs left it."""

from typing import Any

from holdfast.diagnosis import profile
from holdfast.diagnosis.findings import Facts, assess
from holdfast.diagnosis.lastwords import fatal_report

SITE = "/srv/venv/lib/python3.11/site-packages"
STD = "/usr/lib/python3.11"
PLAN = {"name": "web", "kind": "guest", "directory": "/srv/app", "components": [], "limits": {}, "faulthandler": True}  # fmt: skip
OWNERS = {
    f"{SITE}/aiohttp/multipart.py": ("aiohttp", "3.9.3"),
    f"{SITE}/aiohttp/web.py": ("aiohttp", "3.9.3"),
    f"{SITE}/loguru/_handler.py": ("loguru", "0.6.0"),
    f"{SITE}/socketio/manager.py": ("python-socketio", "5.11.4"),
}


def dead(status: int, **more: Any) -> Facts:
    return known(Facts({"worker": "web", "status": status, "live": False, **more}, dict(PLAN)))


def flagged(flag: str, says: str = "it is so", **more: Any) -> Facts:
    order = {"worker": "web", "live": True, "unix_s": 10.0, "kind": flag, "flag": {"flag": flag, "says": says, "since_unix_s": 9.0}}  # fmt: skip
    return known(Facts({**order, **more}, dict(PLAN)))


def known(facts: Facts) -> Facts:
    facts.owners = dict(OWNERS)
    return facts


def only(facts: Facts) -> dict[str, Any]:
    found: list[dict[str, Any]] = assess(facts)["findings"]
    assert len(found) == 1, found
    return found[0]


def stack(*frames: str, thread: str = "MainThread", **more: Any) -> dict[str, Any]:
    return {"thread": thread, "tid": 1, "frames": list(frames), "current": False, **more}


def samples(*stacks: tuple[str, int], thread: str = "MainThread") -> profile.Profile:
    return profile.Profile([(thread, tuple(s.split(";")), count) for s, count in stacks], 1.0)


# -- crashes in C ----------------------------------------------------------------------------------


def test_a_function_in_c_is_named_by_the_line_that_called_it() -> None:
    """A C function leaves no frame: the line of Python is all there is."""
    facts = dead(11)
    frame = "/srv/app/run.py:3 in handle"
    facts.report = fatal_report(
        ["Fatal Python error: Segmentation fault", "", "Current thread 0x1 (most recent call first):",
         '  File "/srv/app/run.py", line 3 in handle'],
    )  # fmt: skip
    facts.source[frame] = "return ujson.dumps(value)"
    facts.calls[frame] = [{"module": "ujson.dumps", "package": "ujson", "version": "5.10.0", "is_c": True}]  # fmt: skip
    facts.changed = ["package ujson 5.9.0 -> 5.10.0"]

    found = only(facts)

    assert (found["package"], found["version"], found["function"]) == ("ujson", "5.10.0", "ujson.dumps")  # fmt: skip
    assert found["confidence"] == "likely"
    assert "called by handle (run.py:3): `return ujson.dumps(value)`" in found["says"]
    assert found["says"].endswith("Since the last good start: package ujson 5.9.0 -> 5.10.0.")
    assert "environment.json" in found["rests_on"]


def test_the_kernel_names_the_library_and_then_it_is_certain() -> None:
    facts = dead(11)
    facts.oom = {"fault_library": "fast.cpython-311-x86_64-linux-gnu.so"}
    facts.libraries = {"fast.cpython-311-x86_64-linux-gnu.so": ("fastlib", "2.0")}

    found = only(facts)

    assert (found["confidence"], found["package"], found["version"]) == ("certain", "fastlib", "2.0")  # fmt: skip
    assert found["rests_on"] == ["kernel.txt"]


def test_without_any_stack_the_only_extension_is_the_suspect_and_of_many_nobody_is() -> None:
    """ormsgpack 1.4.1: the interpreter died while it shut down, and left no word."""
    facts = dead(11)
    facts.extensions = [{"package": "ormsgpack", "version": "1.4.1", "module": "ormsgpack"}]
    found = only(facts)
    assert (found["confidence"], found["package"]) == ("likely", "ormsgpack")

    facts.extensions.append({"package": "numpy", "version": "2.0", "module": "numpy"})
    assert only(facts)["confidence"] == "possible"

    facts.extensions = [{"package": f"p{n}", "version": "1", "module": "m"} for n in range(9)]
    assert assess(facts)["findings"] == []


def test_an_uncaught_exception_of_a_package_names_it_and_the_callers_line() -> None:
    from holdfast.diagnosis.lastwords import uncaught

    facts = dead(1 << 8)
    facts.uncaught = uncaught([
        "Traceback (most recent call last):", '  File "/srv/app/run.py", line 9, in main', "    post()",
        f'  File "{SITE}/aiohttp/web.py", line 7, in post', "    raise KeyError(1)", "KeyError: 1",
    ])  # fmt: skip

    found = only(facts)

    assert (found["confidence"], found["package"], found["function"]) == ("certain", "aiohttp", "post")  # fmt: skip
    assert "called from main (run.py:9)" in found["says"]


# -- hangs -----------------------------------------------------------------------------------------


def test_a_lock_that_its_own_holder_waits_for() -> None:
    """loguru #712: a finalizer logs while a handler holds its lock."""
    facts = flagged("missed_heartbeat")
    emit = f"{SITE}/loguru/_handler.py:171 in emit"
    facts.live_stacks = [
        stack(emit, "/srv/app/run.py:6 in __del__", "/srv/app/run.py:9 in sink", f"{SITE}/loguru/_handler.py:177 in emit",
              "/srv/app/run.py:11 in <module>", doing="waits for a lock"),
    ]  # fmt: skip
    facts.source[emit] = "with self._lock:"

    found = only(facts)

    assert (found["package"], found["version"], found["function"]) == ("loguru", "0.6.0", "emit")
    assert "through __del__ (run.py:6)" in found["says"]
    assert "RLock" in found["says"]


def test_recursion_that_takes_no_lock_is_no_deadlock() -> None:
    facts = flagged("missed_heartbeat")
    walk = "/srv/app/run.py:6 in walk"
    facts.live_stacks = [stack(walk, walk, walk, doing="runs on the CPU")]
    facts.source[walk] = "return walk(node.left)"

    assert "Deadlock" not in only(facts)["says"]


def test_two_threads_in_each_others_locks() -> None:
    facts = flagged("missed_heartbeat")
    one, two = "/srv/app/run.py:4 in pay", "/srv/app/run.py:8 in refund"
    facts.live_stacks = [
        stack(one, doing="waits for a lock"),
        stack(two, thread="second", doing="waits for a lock"),
    ]
    facts.source.update({one: "with b_lock:", two: "a_lock.acquire()"})

    says = only(facts)["says"]

    assert "MainThread in pay (run.py:4)" in says
    assert "second in refund (run.py:8)" in says


def test_a_lock_by_any_name_is_one_where_the_agent_saw_it_taken() -> None:
    """`with ledger:` could be anything; the instruction could not."""
    facts = flagged("deadlock")
    one, two = "/srv/app/run.py:4 in pay", "/srv/app/run.py:8 in refund"
    facts.live_stacks = [
        stack("/srv/app/run.py:20 in main", doing="waits for a lock"),
        stack(one, thread="first", doing="waits for a lock"),
        stack(two, thread="second", doing="waits for a lock"),
    ]
    facts.source.update({one: "with ledger:", two: "with accounts:"})
    facts.sites = {"stuck": [[f"{one}"], ["/srv/app/run.py:8 in Bank.refund"]]}

    says = only(facts)["says"]

    assert says.startswith("Deadlock: 2 threads wait for locks")
    assert "first in pay (run.py:4)" in says
    assert "second in refund (run.py:8)" in says


def test_threads_of_ours_that_wait_for_work_are_no_deadlock() -> None:
    """A worker of the job queue has several, each asleep at a lock of its own."""
    facts = flagged("memory_leak")
    home = f"{SITE}/holdfast/engine"
    facts.live_stacks = [
        stack(f"{home}/fetching.py:172 in seek", f"{STD}/threading.py:982 in run", doing="waits for a lock"),
        stack(f"{home}/watching.py:90 in _run", thread="holdfast.job.watch", doing="waits for a lock"),
    ]  # fmt: skip
    facts.source.update({f"{home}/fetching.py:172 in seek": "bell.acquire()", f"{home}/watching.py:90 in _run": "self._bell.acquire()"})  # fmt: skip

    assert not [one for one in assess(facts)["findings"] if "Deadlock" in one["says"]]


def test_a_blocked_loop_is_blamed_on_the_function_that_computes_not_on_the_event_loop() -> None:
    facts = flagged("missed_heartbeat")
    root = f"/srv/app/run.py:18 in <module>;{STD}/asyncio/base_events.py:640 in run_forever;{STD}/asyncio/events.py:80 in Handle._run"  # fmt: skip
    loop = f"{root};/srv/app/run.py:5 in post;{SITE}/aiohttp/web.py:755 in post;{SITE}/aiohttp/multipart.py:299 in read"
    facts.profile = samples(
        (f"{loop};{STD}/logging/__init__.py:1 in warning", 6), (loop, 5), (f"{loop};{STD}/json/x.py:1 in f", 4)
    )  # fmt: skip

    found = only(facts)

    assert (found["package"], found["function"]) == ("aiohttp", "read")
    assert "called from post (run.py:5)" in found["says"]
    assert "100% of 15 samples" in found["says"]


def test_a_regular_expression_that_backtracks_is_called_so() -> None:
    facts = flagged("missed_heartbeat")
    facts.live_stacks = [
        stack(f"{STD}/re/__init__.py:166 in match", "/srv/app/run.py:4 in parse", doing="runs on the CPU")
    ]  # fmt: skip

    found = only(facts)

    assert found["where"] == "/srv/app/run.py:4 in parse"
    assert "regular expression (re.match)" in found["says"]


def test_a_compiled_pattern_has_no_frame_of_its_own_and_is_told_as_what_it_seems() -> None:
    facts = flagged("missed_heartbeat")
    here = "/srv/app/run.py:4 in parse"
    facts.live_stacks = [stack(here, doing="runs on the CPU")]
    facts.source[here] = "return PATTERN.match(text)"

    assert "it seems, in .match of a compiled pattern" in only(facts)["says"]


def test_a_program_with_nothing_to_do_is_not_accused() -> None:
    facts = flagged("failed_probe")
    facts.live_stacks = [
        stack(f"{STD}/selectors.py:468 in select", "/srv/app/run.py:4 in main", doing="waits for events (epoll)")
    ]  # fmt: skip

    assert assess(facts)["findings"] == []


def test_a_loop_that_rests_between_requests_is_not_what_made_them_slow() -> None:
    """A shop at 7 % of a processor: one look at its stack finds it waiting, most of the time."""
    facts = flagged("slow")
    facts.live_stacks = [
        stack(f"{SITE}/uvicorn/_compat.py:30 in asyncio_run", "/srv/app/run.py:4 in main", doing="waits for events (epoll)")
    ]  # fmt: skip
    facts.pulse = {
        "loop_beat_ns": 9_000_000_000, "loop_beat_age_s": 0.09,
        "routes": [
            {"name": "GET /basket", "count": 374, "cpu_ns": 727_000_000, "latency_sum_ns": 1_478_000_000},
            {"name": "GET /", "count": 747, "cpu_ns": 260_000_000, "latency_sum_ns": 619_000_000},
        ],
    }  # fmt: skip

    found = only(facts)

    assert found["says"] == "The route that costs most is GET /basket (374 times, 1.9 ms each)."
    assert (found["confidence"], found["where"]) == ("possible", "")

    facts.profile = samples(("/srv/app/run.py:17 in app;/srv/app/run.py:8 in price", 3))
    found = only(facts)
    assert (found["confidence"], found["where"]) == ("possible", "/srv/app/run.py:8 in price")
    assert found["says"].endswith("The route that costs most is GET /basket (374 times, 1.9 ms each).")  # fmt: skip


def test_time_that_is_spread_over_everything_blames_nobody() -> None:
    facts = flagged("pegged")
    root = f"{STD}/asyncio/events.py:80 in _run"
    facts.profile = samples(*((f"{root};/srv/app/run.py:{n} in f{n}", 2) for n in range(10)))

    assert assess(facts)["findings"] == []


def test_what_blocked_the_loop_when_it_ended_is_told_from_the_agents_looks() -> None:
    facts = dead(3 << 8)
    facts.pulse = {"thread_beat_ns": 9_000_000_000, "loop_beat_ns": 6_000_000_000}
    facts.profile = samples((f"/srv/app/run.py:5 in post;{SITE}/aiohttp/multipart.py:299 in read", 9))  # fmt: skip

    found = only(facts)

    assert found["package"] == "aiohttp"
    assert "blocked for 3.0 s" in found["says"]


# -- bombs -----------------------------------------------------------------------------------------


def test_a_task_bomb_names_the_creating_line_and_who_caused_it() -> None:
    facts = flagged("task_bomb")
    facts.sites = {"tasks": [
        [2, 2, "/srv/app/run.py:16 in main", []],
        [20000, 19990, f"{SITE}/socketio/manager.py:47 in emit", ["/srv/app/run.py:16 in main"]],
    ]}  # fmt: skip

    found = only(facts)

    assert (found["confidence"], found["package"], found["function"]) == ("certain", "python-socketio", "emit")  # fmt: skip
    assert "20000 tasks" in found["says"]
    assert "main (run.py:16)" in found["says"]


def test_threads_that_nobody_counted_are_told_by_what_they_do() -> None:
    facts = flagged("thread_bomb")
    work = "/srv/app/run.py:7 in work"
    facts.live_stacks = [stack(work, thread=f"t{n}", doing="sleeps") for n in range(300)]

    found = only(facts)

    assert found["where"] == work
    assert found["says"].startswith("300 threads stand in the same place")


# -- memory and descriptors ------------------------------------------------------------------------


def test_what_a_c_extension_does_not_give_back_is_laid_at_its_door() -> None:
    """ujson #631: the text is made in the callback, and never freed by the caller in C."""
    facts = flagged("memory_leak")
    inner, outer = "/srv/app/run.py:5 in default", "/srv/app/run.py:10 in <module>"
    facts.census = {"window_s": 0.5, "allocated": [{"bytes": 10 << 20, "count": 900, "frames": [inner, outer]}]}  # fmt: skip
    facts.calls[outer] = [{"module": "ujson.dumps", "package": "ujson", "version": "5.10.0", "is_c": True}]  # fmt: skip

    found = only(facts)

    assert (found["package"], found["function"], found["confidence"]) == ("ujson", "ujson.dumps", "likely")  # fmt: skip
    assert "default (run.py:5)" in found["says"]


def test_types_that_grow_name_their_package_and_their_holder() -> None:
    facts = flagged("memory_leak")
    facts.census = {
        "window_s": 0.5, "objects": 10000,
        "grown": [{"type": "builtins.dict", "more": 900, "count": 5000}, {"type": "aiohttp.web.Route", "more": 300, "count": 2000}],
        "held_by": [{"says": "the cache of aiohttp.web.build (functools.lru_cache)", "where": f"{SITE}/aiohttp/web.py:3 in build"}],
    }  # fmt: skip

    found = only(facts)

    assert (found["package"], found["function"]) == ("aiohttp", "build")
    assert "aiohttp.web.Route (+300, 2000 in all), builtins.dict" in found["says"]


def test_a_few_objects_more_are_no_leak() -> None:
    facts = flagged("memory_leak")
    facts.census = {"window_s": 0.5, "grown": [{"type": "aiohttp.web.Route", "more": 9, "count": 20}]}  # fmt: skip

    assert assess(facts)["findings"] == []


def test_without_the_agent_the_growing_mapping_and_the_busiest_code_are_told_as_possible() -> None:
    facts = flagged("memory_leak")
    facts.mappings = [{"name": "[heap]", "bytes": 9 << 20, "grown": 8 << 20}]
    facts.mappings_s = 60.0
    facts.profile = samples(("/srv/app/run.py:5 in parse", 20))

    found = assess(facts)["findings"]

    assert [one["confidence"] for one in found] == ["possible", "possible"]
    assert "100% of the growth (8 MiB in 60 s) is in [heap]" in found[1]["says"]
    assert "parse (run.py:5)" in found[0]["says"]


def test_descriptors_are_told_by_what_most_of_them_are() -> None:
    facts = flagged("fd_leak")
    facts.process = {"fds": {"count": 900, "limit": 1024, "targets": {"/srv/data/#.tmp": 870, "socket": 30}}}  # fmt: skip

    assert only(facts)["says"].startswith("900 descriptors of 1024 allowed are open; 870 of them are /srv/data/#.tmp.")  # fmt: skip


def test_a_symptom_is_an_incident_of_its_own_kind() -> None:
    found = assess(flagged("slow", "each request costs 3.1 times what it did"))

    assert found["kind"] == "slow"
    assert found["title"] == 'worker "web": each request costs 3.1 times what it did'
