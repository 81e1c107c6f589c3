"""Figures as people read and write them."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.cli import words
from holdfast.model.errors import UsageError


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "-"), (0, "0.0s"), (9.94, "9.9s"), (9.96, "9s"), (59.9, "59s"), (192, "3m12s"), (3600, "1h00m"),
        (86399, "23h59m"), (12 * 86400 + 3 * 3600, "12d03h"), (1000 * 86400, "1000d"), (-5, "0.0s"),
    ],
)  # fmt: skip
def test_a_span_of_time_is_short(seconds: float | None, text: str) -> None:
    assert words.span(seconds) == text


@given(st.floats(0, 999 * 86400))
def test_a_span_always_fits_its_column(seconds: float) -> None:
    assert len(words.span(seconds)) <= 6


@given(st.integers(0, 1 << 59))
def test_a_size_always_fits_its_column(count: int) -> None:
    assert len(words.size(count)) <= 5


def test_sizes_and_shares_read_as_people_say_them() -> None:
    assert [words.size(n) for n in (None, 0, 512, 20 << 20, 1288490188)] == [
        "-",
        "0B",
        "512B",
        "20M",
        "1.2G",
    ]
    assert [words.share(s) for s in (None, 0.0, 0.021, 0.5, 3.2)] == [
        "-",
        "0.0%",
        "2.1%",
        "50%",
        "320%",
    ]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), ("10m", 600), ("1h30m", 5400), ("1.5s", 1.5), ("200ms", 0.2), ("2d", 172800)],
)
def test_a_span_can_be_typed(text: str, seconds: float) -> None:
    assert words.parse_span(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "ten", "10x", "m", "1..2s", "-5s", "10 m 3"])
def test_what_is_no_span_is_refused_with_examples(text: str) -> None:
    with pytest.raises(UsageError, match="is not a span of time\n  write 90"):
        words.parse_span(text)


def test_a_moment_is_a_span_back_a_clock_time_or_a_date() -> None:
    now = time.mktime((2024, 11, 3, 15, 0, 0, 0, 0, -1))

    assert words.parse_moment("10m", now) == now - 600
    assert words.parse_moment("14:30", now) == now - 1800
    assert words.parse_moment("9:00", now) == now - 6 * 3600
    assert words.parse_moment("2024-11-03 14:00", now) == now - 3600
    assert words.parse_moment("2024-11-03", now) == now - 15 * 3600


@pytest.mark.parametrize("text", ["yesterday", "25:00", "2024-13-01", "10 minutes"])
def test_what_is_no_moment_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"is not a (moment|span)"):
        words.parse_moment(text, 0.0)


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    assert 'Did you mean "crawler"?' in str(words.unknown("worker", "crawer", ["web", "crawler"]))
    assert "there are: web, cache" in str(words.unknown("worker", "zzz", ["web", "cache"]))
    assert "(20 in all)" in str(words.unknown("worker", "!", [f"w{n}" for n in range(20)]))
