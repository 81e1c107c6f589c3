"""What is written to a terminal, and what is not."""

import io
from argparse import Namespace

import pytest

from holdfast.cli.terminal import Block, Paint, Progress, clip, paint_for, size_of, visible


class Screen(io.StringIO):
    """A terminal as far as a stream can tell."""

    def isatty(self) -> bool:
        return True


def test_colour_is_for_terminals_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")

    assert paint_for(Namespace(), Screen()).is_on
    assert not paint_for(Namespace(), io.StringIO()).is_on


@pytest.mark.parametrize("refusal", ["NO_COLOR", "TERM", "--no-color", "--json"])
def test_colour_can_be_refused(monkeypatch: pytest.MonkeyPatch, refusal: str) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    if refusal == "NO_COLOR":
        monkeypatch.setenv("NO_COLOR", "1")
    if refusal == "TERM":
        monkeypatch.setenv("TERM", "dumb")

    assert not paint_for(
        Namespace(no_color=refusal == "--no-color", json=refusal == "--json"), Screen()
    ).is_on


def test_an_empty_no_color_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """no-color.org: present *and not empty*."""
    monkeypatch.setenv("NO_COLOR", "")
    monkeypatch.setenv("TERM", "xterm")

    assert paint_for(Namespace(), Screen()).is_on


def test_clipping_counts_columns_not_codes() -> None:
    red = Paint(True)("memory", "red")

    assert clip("abcdef", 6) == "abcdef"
    assert clip("abcdefg", 6) == "abcde…"
    assert clip(red + " over", 11) == red + " over"
    assert visible(clip(red + " over the limit", 9)) == 9
    assert clip(red + " over the limit", 4).endswith("…\x1b[0m")


def test_columns_from_the_environment_count_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "72")

    assert size_of(io.StringIO())[0] == 72


def test_a_block_is_redrawn_in_place_and_never_scrolls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("holdfast.cli.terminal.size_of", lambda _=None: (20, 5))
    screen = Screen()
    block = Block(screen)
    block.draw([f"line {n}" for n in range(9)])
    first = screen.getvalue()
    screen.truncate(0)
    screen.seek(0)
    block.draw(["only one"])

    assert first.count("\n") == 4
    assert screen.getvalue() == "\x1b[4A\ronly one\x1b[K\n\x1b[J"


def test_a_block_starts_anew_after_the_terminal_changed_its_width(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A narrower terminal wraps what is there: nobody knows then how far up the first line is."""
    width = [80]
    monkeypatch.setattr("holdfast.cli.terminal.size_of", lambda _=None: (width[0], 24))
    screen = Screen()
    block = Block(screen)
    block.draw(["x" * 80])
    width[0] = 40
    screen.truncate(0)
    screen.seek(0)
    block.draw(["x" * 80])

    assert screen.getvalue().startswith("\x1b[H\x1b[2J")
    assert "x" * 39 + "…" in screen.getvalue()


def test_progress_is_a_line_on_a_terminal_and_lines_elsewhere(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    screen, pipe = Screen(), io.StringIO()
    for stream in (screen, pipe):
        bar = Progress(stream)
        for text in ("1 of 2", "1 of 2", "2 of 2"):
            bar.show(text)
        bar.end()

    assert pipe.getvalue() == "1 of 2\n2 of 2\n"
    assert screen.getvalue() == "\r1 of 2\x1b[K\r2 of 2\x1b[K\r\x1b[K"
