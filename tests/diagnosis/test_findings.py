"""From facts to title, kind, component and reasons; and never surer than the evidence."""

from typing import Any

import pytest

from holdfast.diagnosis import changes, stacks
from holdfast.diagnosis.findings import Facts, assess, blames_nobody
from holdfast.diagnosis.lastwords import fatal_report, uncaught

TRACEBACK = """\
Traceback (most recent call last):
  File "/srv/app/clandeck/board.py", line 31, in handle
    raise ValueError("bad tag")
ValueError: bad tag
""".splitlines()

BOARD = {"name": "board", "use": "clandeck.board:app", "settings": {}}
PRESENCE = {"name": "presence", "use": "clandeck.presence:app", "settings": {}}
PLAN = {
    "name": "backend", "kind": "container", "directory": "/srv/app", "components": [BOARD, PRESENCE],
    "limits": {"memory_bytes": 256 << 20}, "faulthandler": True,
}  # fmt: skip


def death(status: int, **more: object) -> Facts:
    facts = Facts({"worker": "backend", "status": status, "live": False, **more}, dict(PLAN))
    facts.oom = {"looked": True}
    return facts


def hang(**pulse: object) -> Facts:
    facts = Facts(
        {
            "worker": "backend",
            "live": True,
            "unix_s": 105.2,
            "flag": {"flag": "missed_heartbeat", "since_unix_s": 100.0},
        },
        dict(PLAN),
    )
    facts.pulse = dict(pulse)
    facts.live_stacks = [
        {
            "thread": "MainThread",
            "tid": 1,
            "frames": ["/srv/app/clandeck/presence.py:7 in poll"],
            "current": False,
        },
        {
            "thread": "pool",
            "tid": 2,
            "frames": ["/srv/app/clandeck/board.py:9 in spin"],
            "current": False,
            "doing": "runs on the CPU",
        },
    ]
    return facts


def sure_of(found: Any, confidence: str) -> list[str]:
    return [why["says"] for why in found["cause"]["why"] if why["confidence"] == confidence]


def test_an_uncaught_exception_names_the_component_by_its_module() -> None:
    facts = death(1 << 8)
    facts.uncaught = uncaught(TRACEBACK)

    found = assess(facts)

    assert found["kind"] == "crash"
    assert found["component"] == "board"
    assert found["title"] == 'worker "backend": component "board" crashed: ValueError: bad tag'
    assert found["fatal"] == "ValueError: bad tag"
    assert found["cause"]["where"] == "/srv/app/clandeck/board.py:31 in handle"
    assert sure_of(found, "certain") == [
        'the exception ValueError: bad tag was not caught, at: raise ValueError("bad tag")'
    ]


def test_a_logged_exception_does_not_explain_a_later_exit() -> None:
    """A program that logs tracebacks all day and then exits with 3 did not die of the last one."""
    facts = death(3 << 8)
    facts.uncaught = uncaught([*TRACEBACK, *[f"request {n}" for n in range(50)]])
    facts.last_line = "giving up"

    found = assess(facts)

    assert found["kind"] == "exit"
    assert found["fatal"] is None
    assert found["title"] == 'worker "backend": exited with status 3'
    assert sure_of(found, "possible") == ["the last thing it wrote to stderr: giving up"]


def test_a_segfault_names_signal_library_and_caller() -> None:
    facts = death(11)
    facts.report = fatal_report([
        "Fatal Python error: Segmentation fault", "",
        "Current thread 0x1 (most recent call first):",
        '  File "/v/lib/python3.11/site-packages/lxml/etree.py", line 5 in parse',
        '  File "/srv/app/clandeck/board.py", line 8 in load',
    ])  # fmt: skip

    found = assess(facts)

    assert found["title"] == (
        'worker "backend" (component "board"): killed by SIGSEGV (segmentation fault) in lxml at clandeck/board.py:8 in load'
    )
    assert found["status_words"] == "killed by SIGSEGV (segmentation fault)"


def test_an_assertion_of_the_interpreter_is_said_in_its_words() -> None:
    facts = death(6)
    facts.report = fatal_report([
        "Modules/gcmodule.c:2220: PyObject_GC_Track: Assertion failed: object already tracked by the garbage collector",
        "Fatal Python error: _PyObject_AssertFailed: _PyObject_AssertFailed",
        "Current thread 0x1 (most recent call first):", '  File "/srv/app/run.py", line 4 in handler',
    ])  # fmt: skip

    assert assess(facts)["title"] == (
        'worker "backend": killed by SIGABRT: object already tracked by the garbage collector at run.py:4 in handler'
    )


@pytest.mark.parametrize(
    ("oom", "kind", "certain"),
    [
        ({"looked": True}, "crash", True),
        ({}, "crash", False),
    ],
)
def test_a_foreign_sigkill_is_only_blamed_on_somebody_when_the_kernel_was_asked(
    oom: Any, kind: Any, certain: Any
) -> None:
    facts = death(9)
    facts.oom = oom

    found = assess(facts)

    assert found["kind"] == kind
    assert any("neither" in says for says in sure_of(found, "certain")) is certain


def test_an_oom_kill_tells_how_much_it_held_and_how_it_grew() -> None:
    facts = death(9)
    facts.oom = {
        "looked": True,
        "line": "Killed process 7 (python3)",
        "rss_bytes": 250 << 20,
        "sure": True,
    }
    facts.samples = [
        {"mono_ns": n * 10**9, "rss_bytes": (50 + 20 * n) << 20, "cpu_ns": 0, "start": 1}
        for n in range(10)
    ]

    found = assess(facts)

    assert found["kind"] == "oom"
    assert "it held 250 MiB of 256 MiB allowed" in found["title"]
    assert any("grew from 50 MiB to 230 MiB in 9.0 s" in says for says in sure_of(found, "likely"))


def test_a_kill_of_our_own_is_said_to_be_ours() -> None:
    facts = death(9)
    facts.exit = {"cause": "remedy"}

    assert sure_of(assess(facts), "certain") == ["the watchdog had it ended as a remedy"]


def test_a_blocked_loop_blames_the_main_thread_and_the_noted_component() -> None:
    facts = hang(loop_beat_age_s=5.2, thread_beat_age_s=0.1, note="component=presence")
    facts.source = {"/srv/app/clandeck/presence.py:7 in poll": "time.sleep(60)"}

    found = assess(facts)

    assert found["kind"] == "hang"
    assert found["component"] == "presence"
    assert found["title"] == (
        'worker "backend" (component "presence"): event loop blocked for 5.2 s at clandeck/presence.py:7 in poll: time.sleep(60)'
    )


def test_a_frozen_process_blames_the_thread_that_runs() -> None:
    found = assess(hang(loop_beat_age_s=5.2, thread_beat_age_s=5.2))

    assert found["component"] == "board"
    assert found["cause"]["says"] == "frozen for 5.2 s"
    assert any("GIL" in says for says in sure_of(found, "likely"))


def test_a_stopped_process_is_said_to_be_stopped() -> None:
    facts = hang(loop_beat_age_s=5.2, thread_beat_age_s=5.2)
    facts.process = {"state": "T"}

    assert assess(facts)["cause"]["says"] == "stopped (SIGSTOP) for 5.2 s"


def test_threads_that_wait_for_locks_look_like_a_deadlock() -> None:
    facts = hang(loop_beat_age_s=5.2, thread_beat_age_s=0.1)
    for stack in facts.live_stacks:
        stack["doing"] = "waits for a lock"

    assert sure_of(assess(facts), "likely") == ["a deadlock: 2 of 2 threads wait for a lock"]


@pytest.mark.parametrize(
    ("flag", "kind"),
    [("crash_loop", "crash_loop"), ("failed_probe", "probe"), ("start_failed", "start"), ("memory_over_limit", "memory")],
)  # fmt: skip
def test_flags_name_the_kind_and_keep_their_sentence(flag: Any, kind: Any) -> None:
    facts = death(11, flag={"flag": flag, "says": "the flag's own sentence"})

    found = assess(facts)

    assert found["kind"] == kind
    assert found["title"].startswith('worker "backend": the flag\'s own sentence')


def test_the_same_fault_has_the_same_signature_after_an_edit_elsewhere() -> None:
    first, second = death(256), death(256)
    first.uncaught = uncaught(TRACEBACK)
    second.uncaught = uncaught(
        [line.replace("31", "44").replace("bad tag", "other tag") for line in TRACEBACK]
    )

    assert (
        assess(first)["cause"]["signature"]
        == assess(second)["cause"]["signature"]
        == "crash|ValueError|board.py:handle"
    )


def test_two_components_of_one_module_are_not_guessed_at() -> None:
    frames = ["/srv/app/clandeck/board.py:31 in handle"]

    assert stacks.component_of(frames, [BOARD, {**BOARD, "name": "twin"}]) is None
    assert stacks.component_of(frames, [BOARD, PRESENCE]) == "board"


def test_own_code_is_to_blame_before_libraries() -> None:
    frames = [
        "/usr/lib/python3.11/socket.py:1 in recv", "/v/lib/python3.11/site-packages/redis/client.py:9 in get",
        "/srv/app/board.py:3 in load", "/srv/app/main.py:1 in <module>",
    ]  # fmt: skip

    assert stacks.guilty_frame(frames) == "/srv/app/board.py:3 in load"
    assert stacks.library_of(frames) == "socket"
    assert stacks.library_of(frames[1:]) == "redis"
    assert stacks.library_of(frames[2:]) is None


GOOD = {
    "worker": "backend", "packages": {"lxml": "5.2.1", "old": "1"}, "env": {"TOKEN": "hash:1", "GONE": "hash:2"},
    "files": {"app/board.py": [1_000_000_000_000, 10, "aa"], "app/same.py": [5, 1, "s"]},
    "plan": {"digest": "d1", "keys": {"limits.memory_bytes": 256 << 20, "component.board.settings.url": "hash:8"}},
    "interpreter": {"path": "/v/bin/python", "version": "3.11.7"}, "kernel": "6.1", "cpus": 2, "memory_bytes": 8 << 30,
    "boot_id": "b1", "hostname": "box",
}  # fmt: skip


def test_what_changed_is_said_in_sentences_without_secrets() -> None:
    now = {
        **GOOD, "packages": {"lxml": "5.3.0", "new": "2"}, "env": {"TOKEN": "hash:9"},
        "files": {"app/board.py": [1_280_000_000_000, 12, "bb"], "app/same.py": [9, 1, "s"]},
        "plan": {"digest": "d2", "keys": {"limits.memory_bytes": 128 << 20, "component.board.settings.url": "hash:7"}},
        "interpreter": {"path": "/v/bin/python", "version": "3.12.1"}, "kernel": "6.2", "boot_id": "b2",
    }  # fmt: skip

    assert changes.compare(GOOD, now, failed_unix_s=2000.0) == [
        "package lxml 5.2.1 -> 5.3.0",
        "package new 2 was added",
        "package old 1 is gone",
        "file app/board.py changed 12 min before this failure",
        "configuration: worker.backend.component.board.settings.url changed (value not shown)",
        "configuration: worker.backend.limits.memory_bytes 256 MiB -> 128 MiB",
        "environment variable TOKEN changed (value not shown)",
        "environment variable GONE is gone",
        "Python 3.11.7 -> 3.12.1",
        "kernel 6.1 -> 6.2",
        "the machine was started anew since",
    ]


def test_nothing_changed_says_nothing_and_a_touched_file_is_no_change() -> None:
    touched = {**GOOD, "files": {"app/board.py": [9_999, 10, "aa"], "app/same.py": [5, 1, "s"]}}

    assert changes.compare(GOOD, touched, 2000.0) == []


def test_a_deployment_of_hundreds_of_files_is_summed_up() -> None:
    now = {**GOOD, "files": {f"app/f{n}.py": [n, 1, "x"] for n in range(300)}}

    said = changes.compare(GOOD, now, 2000.0)

    assert len(said) == 9
    assert said[-1] == "and 294 more files"


def test_without_a_good_start_the_newest_files_are_named() -> None:
    now = {"files": {"a.py": [1_900_000_000_000, 1, "x"], "b.py": [5, 1, "y"]}}

    assert changes.compare({}, now, failed_unix_s=2000.0) == [
        "file a.py changed 2 min before this failure",
        "file b.py changed 33 min before this failure",
    ]


def test_of_many_files_that_changed_those_come_first_that_it_was_in() -> None:
    """Five files of a deployment, written in one second: the three newest were named, and the guilty one was not."""
    now = {
        "files": {f"{name}.py": [1_900_000_000_000 + at, 1, "x"] for at, name in enumerate("abcde")}
    }

    said = changes.compare(
        {}, now, 2000.0, on_stacks=["/srv/app/a.py", "/usr/lib/python3.11/threading.py"]
    )

    assert [words.split()[1] for words in said] == ["a.py", "e.py", "d.py"]
    old = {"files": {f"{name}.py": [0, 1, "y"] for name in "abcde"}}
    assert changes.compare(old, now, 2000.0, on_stacks=["/srv/app/b.py"])[0].startswith(
        "file b.py "
    )


def test_numbers_alone_blame_nobody_for_memory() -> None:
    """Before a memory kill the rules are not even imported; whatever names code has them asked after all."""
    order = {"worker": "crawler", "live": True, "flag": {"flag": "memory_over_limit", "says": "x"}}
    bare = Facts(order)
    bare.sites = {"tasks": [[5, 5, "a.py:1 in f", []]]}
    seen = Facts(order)
    seen.census = {"window_s": 1.0, "grown": [{"type": "crawl.Page", "more": 900, "count": 900}]}

    assert blames_nobody(bare)
    assert assess(bare)["findings"] == []
    assert not blames_nobody(seen)
    assert "crawl.Page" in assess(seen)["findings"][0]["says"]
    assert not blames_nobody(Facts({**order, "live": False}))
    assert not blames_nobody(Facts({**order, "flag": {"flag": "task_bomb", "says": "x"}}))
