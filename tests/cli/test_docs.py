"""`holdfast docs` and the man page: what a person reads on a box without a browser."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from holdfast.cli import docs, manual
from holdfast.cli.main import main
from holdfast.cli.terminal import Paint

ROOT = Path(__file__).parents[2]
MAN = ROOT / "docs" / "man" / "holdfast.1"


def test_the_man_page_is_up_to_date() -> None:
    """To write it anew: python -m holdfast.cli.manual > docs/man/holdfast.1."""
    assert MAN.read_text(encoding="utf-8") == manual.page()


@pytest.mark.skipif(shutil.which("groff") is None, reason="groff is not installed")
def test_groff_finds_nothing_to_complain_about() -> None:
    """A dot at the beginning of a line is a request, and an unknown one swallows the line."""
    ran = subprocess.run(
        ["groff", "-man", "-ww", "-z", "-Tutf8", "-Kutf8", str(MAN)],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    if "preconv" in ran.stderr:
        pytest.skip("groff is installed without preconv")
    # A hyphen less at the end of a long word is a matter of taste.
    complaints = [line for line in ran.stderr.splitlines() if "adjust" not in line and "break" not in line]  # fmt: skip

    assert complaints == []


def test_every_page_is_listed_with_its_title(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["docs", "--json"]) == 0
    pages = {page["topic"]: page for page in json.loads(capsys.readouterr().out)["pages"]}

    assert pages["limits-and-memory"]["title"].startswith("Limit memory")
    assert all(page["title"] for page in pages.values())


def test_a_page_goes_into_a_pipe_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    """`holdfast docs export | less`, or into a tool that knows Markdown."""
    assert main(["docs", "how-to/run-in-a-container.md"]) == 0

    page = ROOT / "docs" / "how-to" / "run-in-a-container.md"
    assert capsys.readouterr().out == page.read_text(encoding="utf-8")


def test_part_of_a_name_is_enough_where_it_is_clear(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["docs", "culprit", "--where"]) == 2
    assert "these fit: find-the-culprit, isolate-a-culprit" in capsys.readouterr().err

    assert main(["docs", "isolate", "--where"]) == 0
    assert capsys.readouterr().out.endswith("/isolate-a-culprit.md\n")

    assert main(["docs", "limits-and-memorry"]) == 2
    assert 'Did you mean "limits-and-memory"?' in capsys.readouterr().err


def test_a_page_is_laid_out_for_the_terminal() -> None:
    """Code is never wrapped, sentences are; marks for the tests are nobody's business."""
    text = "# Title\n\n<!-- test: x -->\n```console\n$ holdfast status --and --much --more --than --fits --in --a --line\n```\n- a **bold** word and `code` in [a page](page.md) or [a site](https://example.com/) that goes on\n"
    lines = docs.shown(text, 40, Paint(False))

    assert lines[0] == "Title"
    assert "    $ holdfast status --and --much --more --than --fits --in --a --line" in lines
    assert "test: x" not in "\n".join(lines)
    assert "- a bold word and code in" in lines[-3]
    assert lines[-1].startswith("  ")
    assert "\x1b[1mTitle\x1b[0m" in docs.shown(text, 40, Paint(True))
