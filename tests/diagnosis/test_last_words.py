"""What faulthandler and tracebacks say, read from output with anything else in between."""

import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.diagnosis import lastwords

SEGFAULT = """\
listening on 8080
Fatal Python error: Segmentation fault

Thread 0x00007f22a67d66c0 (most recent call first):
  File "/srv/app/pool.py", line 2 in worker
  File "/usr/lib/python3.11/threading.py", line 982 in run

Current thread 0x00007f22a7276b80 [MainThread] (most recent call first):
  File "/usr/lib/python3.11/ctypes/__init__.py", line 519 in string_at
  File "/srv/app/board, line 3 in odd.py", line 5 in deep
  File "/srv/app/board.py", line 8 in <module>

Extension modules: lxml.etree, _cffi_backend (total: 2)
""".splitlines()

ASSERTION = """\
Modules/gcmodule.c:2220: PyObject_GC_Track: Assertion failed: object already tracked by the garbage collector
Enable tracemalloc to get the memory block allocation traceback

object address  : 0x7fa73e7f4f00
object repr     : []

Fatal Python error: _PyObject_AssertFailed: _PyObject_AssertFailed
Python runtime state: initialized

Current thread 0x00007fa73f220b80 (most recent call first):
  File "run.py", line 4 in handler
""".splitlines()


def test_every_thread_of_a_segfault_is_read_with_the_one_that_died_marked() -> None:
    report = lastwords.fatal_report(SEGFAULT)

    assert report is not None
    assert report.fatal == "Fatal Python error: Segmentation fault"
    assert report.stacks == [
        {
            "thread": "0x00007f22a67d66c0",
            "frames": [
                "/srv/app/pool.py:2 in worker",
                "/usr/lib/python3.11/threading.py:982 in run",
            ],
            "current": False,
        },
        {
            "thread": "0x00007f22a7276b80 [MainThread]",
            "frames": [
                "/usr/lib/python3.11/ctypes/__init__.py:519 in string_at",
                "/srv/app/board, line 3 in odd.py:5 in deep",
                "/srv/app/board.py:8 in <module>",
            ],
            "current": True,
        },
    ]
    assert report.extensions == ["lxml.etree", "_cffi_backend"]


def test_an_assertion_in_c_tells_what_was_wrong() -> None:
    report = lastwords.fatal_report(ASSERTION)

    assert report is not None
    assert report.detail == "object already tracked by the garbage collector"
    assert report.fatal == "Fatal Python error: _PyObject_AssertFailed: _PyObject_AssertFailed"


def test_the_last_of_several_reports_counts() -> None:
    later = [
        line.replace("Segmentation fault", "Aborted").replace("board.py", "later.py")
        for line in SEGFAULT
    ]

    report = lastwords.fatal_report([*SEGFAULT, *later])

    assert report is not None
    assert report.fatal == "Fatal Python error: Aborted"
    assert len(report.stacks) == 2
    assert report.stacks[1]["frames"][2] == "/srv/app/later.py:8 in <module>"


def test_of_two_dumps_on_a_signal_the_second_counts() -> None:
    """SIGUSR1 twice: no fatal error, and the same threads are named again."""
    dump = SEGFAULT[3:11]
    second = [line.replace("line 2 in", "line 77 in") for line in dump]

    report = lastwords.fatal_report([*dump, "", *second])

    assert report is not None
    assert report.fatal is None
    assert report.stacks[0]["frames"][0] == "/srv/app/pool.py:77 in worker"
    assert len(report.stacks) == 2


def test_lines_of_other_threads_in_between_spoil_nothing() -> None:
    mixed = [part for line in SEGFAULT for part in (line, "10.0.0.1 GET /index 200")]

    report = lastwords.fatal_report(mixed)

    assert report is not None
    assert [len(s["frames"]) for s in report.stacks] == [2, 3]


def test_output_without_a_report_gives_none() -> None:
    assert lastwords.fatal_report(["hello", "", "File nothing"]) is None
    assert lastwords.uncaught(["hello"]) is None


@pytest.mark.parametrize(
    ("program", "kind", "message", "source", "in_thread"),
    [
        ("def f():\n    raise ValueError('no such card')\nf()", "ValueError", "no such card", "raise ValueError('no such card')", False),
        ("try:\n    1/0\nexcept Exception as e:\n    raise KeyError('k') from e", "KeyError", "'k'", "raise KeyError('k') from e", False),
        ("raise SystemError", "SystemError", "", "raise SystemError", False),
        ("import json\njson.loads('{')", "json.decoder.JSONDecodeError", "Expecting property name enclosed in double quotes: line 1 column 2 (char 1)", None, False),
        ("raise ExceptionGroup('g', [ValueError('inner')])", "ValueError", "inner", None, None),
        ("import threading\ndef f(): raise OSError('x')\nt=threading.Thread(target=f)\nt.start();t.join()", "OSError", "x", "def f(): raise OSError('x')", True),
        ("def f(n): f(n+1)\nf(0)", "RecursionError", "maximum recursion depth exceeded", "def f(n): f(n+1)", False),
    ],
)  # fmt: skip
def test_real_tracebacks_are_read(
    tmp_path: Any, program: Any, kind: Any, message: Any, source: Any, in_thread: Any
) -> None:
    """Against the interpreter that runs the tests, whatever its version prints between the lines."""
    file = tmp_path / "app.py"
    file.write_text(program + "\n")
    said = subprocess.run(
        [sys.executable, str(file)], capture_output=True, text=True, check=False
    ).stderr

    error = lastwords.uncaught(said.splitlines())

    if "Exception Group" in said:
        # The group itself ends in a line of its own; either it or its member names the fault.
        assert error is None or error.kind in ("ValueError", "ExceptionGroup")
        return
    assert error is not None
    assert (error.kind, error.message) == (kind, message)
    assert source is None or error.source == source
    assert error.in_thread is in_thread
    assert error.trailing == 0
    assert any(frame.startswith(f"{file}:") for frame in error.frames)


def test_a_container_names_the_component_that_crashed_it() -> None:
    lines = [
        'holdfast: component "board" crashed: ValueError: no such card',
        "Traceback (most recent call last):",
    ]

    assert lastwords.crashed_component(lines) == ("board", "ValueError: no such card")
    assert lastwords.crashed_component(["holdfast: component"]) is None


def test_a_traceback_that_was_torn_off_is_not_taken_for_an_error() -> None:
    assert (
        lastwords.uncaught(["Traceback (most recent call last):", '  File "x.py", line 3, in f'])
        is None
    )


@given(
    st.lists(
        st.one_of(
            st.sampled_from([*SEGFAULT, *ASSERTION, "Traceback (most recent call last):"]),
            st.text(),
        ),
        max_size=30,
    )
)
def test_no_output_whatever_breaks_the_readers(lines: Any) -> None:
    report = lastwords.fatal_report(lines)
    error = lastwords.uncaught(lines)

    assert report is None or all(isinstance(s["frames"], list) for s in report.stacks)
    assert error is None or error.trailing >= 0


@given(
    st.text(min_size=1),
    st.integers(1, 10**6),
    st.text(min_size=1).filter(lambda f: " in " not in f),
)
def test_a_frame_comes_apart_as_it_was_put_together(path: Any, number: Any, function: Any) -> None:
    assert lastwords.split_frame(f"{path}:{number} in {function}") == (path, number, function)
