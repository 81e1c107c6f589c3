"""Which file of the page is meant: the page that was put together where it was made of what is here, the plain modules else."""

from __future__ import annotations

import gzip
import json
import os
import runpy
from pathlib import Path
from typing import Any

import pytest

from holdfast.dashboard.page import BUILT, MADE_FROM, PAGES, PageFiles

ROOT = Path(__file__).resolve().parents[2]
BUNDLE: Any = runpy.run_path(str(ROOT / "script" / "page_bundle.py"))
INDEX = (Path(PAGES) / "index.html").read_text()
NAMES = {"early.js": "early-1.js", "looks.css": "looks-1.css", "main.js": "main-1.js"}


@pytest.fixture
def pages(tmp_path: Path) -> Path:
    """A page of few files, put together."""
    (tmp_path / "js").mkdir()
    (tmp_path / "vendor").mkdir()
    for name in ("index.html", "app.css", "screens.css", "js/main.js", "vendor/preact.js"):
        (tmp_path / name).write_text(f"plain {name}")
    built = tmp_path / BUILT
    built.mkdir()
    (built / "index.html").write_text("together")
    (built / "main-1.js").write_text("long script")
    (built / "main-1.js.gz").write_bytes(gzip.compress(b"long script"))
    (built / MADE_FROM).write_text(json.dumps({"sources": BUNDLE["digests"](tmp_path)}))
    return tmp_path


def test_the_page_is_the_one_that_was_put_together(pages: Path) -> None:
    assert PageFiles(str(pages)).get("/").data == b"together"
    assert PageFiles(str(pages)).get("/workers/web.1").data == b"together"


def test_whoever_edits_a_module_sees_it_at_once(pages: Path) -> None:
    """A page that is older than its modules would make a riddle of every change."""
    files = PageFiles(str(pages))
    assert files.get("/").data == b"together"

    (pages / "js" / "main.js").write_text("edited")
    assert files.get("/").data == b"plain index.html"
    (pages / "js" / "main.js").write_text("plain js/main.js")
    assert files.get("/").data == b"together"
    (pages / "vendor" / "preact.js").unlink()
    assert files.get("/").data == b"plain index.html"


@pytest.mark.parametrize("mark", ["", "{", "[]", "{}", '{"sources": 3}'])
def test_a_page_that_nobody_or_half_put_together_is_plain(pages: Path, mark: str) -> None:
    (pages / BUILT / MADE_FROM).write_text(mark)

    assert PageFiles(str(pages)).get("/").data == b"plain index.html"


def test_what_has_its_content_in_its_name_is_asked_for_once_in_a_life(pages: Path) -> None:
    files = PageFiles(str(pages))

    packed = files.get("/built/main-1.js", takes_gzip=True)
    plain = files.get("/built/main-1.js")

    assert (plain.data, gzip.decompress(packed.data)) == (b"long script", b"long script")
    assert packed.headers["content-encoding"] == "gzip"
    assert packed.kind == plain.kind == "text/javascript; charset=utf-8"
    assert packed.headers["etag"] != plain.headers["etag"]
    for one in (packed, plain):
        assert "immutable" in one.headers["cache-control"]
        assert one.headers["vary"] == "accept-encoding"
    # The page itself names them: it has to be asked for each time.
    for path in ("/", "/built/index.html", "/js/main.js"):
        assert files.get(path).headers["cache-control"] == "no-cache"


@pytest.mark.parametrize(
    "path", ["../web.py", "js/../../web.py", "/etc/passwd", ".", "", "vendor", "js/%2e%2e"]
)
def test_no_path_leads_out_of_the_pages(path: str) -> None:
    """The door refuses such paths already; this is the second lock."""
    assert PageFiles().found(path) is None


def test_a_link_among_the_pages_leads_nowhere_else(tmp_path: Path) -> None:
    os.symlink("/etc/passwd", tmp_path / "app.css")

    assert PageFiles(str(tmp_path)).found("app.css") is None


# -- putting together ------------------------------------------------------------------------------


def test_the_page_put_together_asks_for_three_files_and_has_nothing_inline() -> None:
    made = BUNDLE["page"](INDEX, NAMES)

    assert "/js/" not in made
    assert "/app.css" not in made
    for name in NAMES.values():
        assert made.count(f"/built/{name}") == 1
    # Before the looks, which it would wait for; the connection begins with it.
    assert made.index("early-1.js") < made.index("looks-1.css") < made.index("main-1.js")


def test_a_page_that_is_written_otherwise_is_not_put_together() -> None:
    """Half exchanged, it would load everything twice."""
    with pytest.raises(BUNDLE["Missing"], match=r"index\.html"):
        BUNDLE["page"](INDEX.replace("early.js", "first.js"), NAMES)


def test_a_machine_without_the_tool_is_told_so() -> None:
    front = Path(PAGES).parent / "front"

    assert BUNDLE["tool_of"](front, "x86_64").name == "@esbuild/linux-x64"
    assert BUNDLE["tool_of"](front, "aarch64").integrity.startswith("sha512-")
    with pytest.raises(BUNDLE["Missing"], match="riscv64"):
        BUNDLE["tool_of"](front, "riscv64")


def test_what_was_put_together_here_is_whole() -> None:
    """One script with every screen in it: no second file that an upgrade could take away under an open page."""
    if not PageFiles().is_built():
        pytest.skip("script/frontend has not put the page together here")
    built = Path(PAGES) / BUILT
    (script,) = built.glob("main-*.js")
    text = script.read_text()

    assert "What Holdfast did" in text
    assert "holdfast.theme" in next(iter(built.glob("early-*.js"))).read_text()
    assert 'import("' not in text
    assert gzip.decompress(Path(f"{script}.gz").read_bytes()).decode() == text
