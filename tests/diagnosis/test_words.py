"""Figures as a person reads them."""

import datetime
import signal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.diagnosis import words


@pytest.mark.parametrize(
    ("status", "says"),
    [
        (11, "killed by SIGSEGV (segmentation fault)"),
        (0x80 | 6, "killed by SIGABRT (it aborted itself, core dumped)"),
        (9, "killed by SIGKILL (killed from outside)"),
        (35, "killed by signal 35"),
        (0, "exited with status 0: it ended by itself, without an error"),
        (70 << 8, "exited with status 70: an internal error of the program"),
        (137 << 8, "exited with status 137: as shells do when SIGKILL ended a command"),
        (33 << 8, "exited with status 33"),
        (None, "ended, and nobody could tell how"),
    ],
)
def test_statuses_are_put_into_words(status: Any, says: Any) -> None:
    assert words.status_words(status) == says


def test_signal_names_are_those_of_this_machine() -> None:
    for number, (name, _) in words.SIGNALS.items():
        assert getattr(signal, name) == number


@given(st.integers(0, 2**33))
def test_dates_agree_with_the_calendar(unix_s: Any) -> None:
    expected = datetime.datetime.fromtimestamp(unix_s, datetime.UTC)

    assert words.clock(unix_s) == expected.strftime("%Y-%m-%d %H:%M:%S UTC")


def test_a_time_zone_is_named() -> None:
    assert words.clock(0, 5400) == "1970-01-01 01:30:00 +01:30"
    assert words.clock(0, -3600) == "1969-12-31 23:00:00 -01:00"


@pytest.mark.parametrize(
    ("seconds", "says"),
    [(0.0421, "0.042 s"), (5.23, "5.2 s"), (42, "42 s"), (600, "10 min"), (3 * 3600 + 300, "3 h 5 min"), (86400 * 3, "3 d")],
)  # fmt: skip
def test_durations(seconds: Any, says: Any) -> None:
    assert words.duration(seconds) == says


def test_sizes() -> None:
    assert words.size(134217728) == "128 MiB"
    assert words.size(1536) == "1.5 KiB"
    assert words.size(-2048) == "-2 KiB"


@given(st.text(), st.integers(10, 60))
def test_a_title_is_one_line(text: Any, longest: Any) -> None:
    line = words.one_line(text, longest)

    assert len(line) <= longest
    assert "\n" not in line
    assert line.isprintable() or not line
