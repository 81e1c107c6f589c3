"""Do the pages tell the truth? Their commands are run, their links and configuration fragments are checked."""

from __future__ import annotations

import importlib.util
import json
import re
import tomllib
from pathlib import Path

import pytest

from docs import pages
from holdfast.cli.probes import definitions
from holdfast.core import ladder
from holdfast.watchdog import box, cases, vitals
from holdfast.wire import layout

DOCS = pages.ROOT / "docs"
ALL = pages.pages()
#: Pages that show commands: each block of theirs is run, or says why not.
SHOWN = [*sorted((DOCS / "tutorial").glob("*.md")), *sorted((DOCS / "how-to").glob("*.md"))]
#: Written with a harness of its own.
ELSEWHERE = {"drills.md"}
SESSIONS = [
    pytest.param(page, name, id=f"{page.stem}-{name}")
    for page in SHOWN
    for name in pages.sessions(page)
]


def named(path: Path) -> str:
    return str(path.relative_to(pages.ROOT))


@pytest.mark.parametrize(("page", "name"), SESSIONS)
def test_what_a_page_shows_is_what_happens(page: Path, name: str, tmp_path: Path) -> None:
    """A newcomer types what the page says. The first line that fails is the last line they read."""
    session = pages.Session(tmp_path / "home")
    try:
        session.play(pages.sessions(page)[name])
    finally:
        session.end()


@pytest.mark.parametrize("page", [p for p in SHOWN if p.name not in ELSEWHERE], ids=named)
def test_every_console_block_is_run_or_says_why_not(page: Path) -> None:
    """A command that nobody runs is wrong a year later."""
    unmarked = [
        f"{named(page)}:{block.at}"
        for block in pages.blocks(page)
        if block.lang in ("console", "sh") and not re.match(r"(test|not run|file): \S", block.mark)
    ]

    assert unmarked == []


def anchors(path: Path) -> set[str]:
    """The names of the headings of a page, as GitHub makes them."""
    text = re.sub(r"^```.*?^```$", "", path.read_text(), flags=re.MULTILINE | re.DOTALL)
    heads = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", ALL, ids=named)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    """A dead link at 3 am is a door painted on a wall."""
    text = re.sub(r"^```.*?^```$|`[^`\n]*`", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    dead = []
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        found = (page.parent / path).resolve() if path else page
        if not found.exists() or (anchor and anchor not in anchors(found)):
            dead.append(target)

    assert dead == []


@pytest.mark.parametrize("page", [p for p in ALL if DOCS in p.parents], ids=named)
def test_fragments_of_configuration_are_right(page: Path) -> None:
    """What is copied from a page has to be accepted by `holdfast check`."""
    jsonschema = pytest.importorskip("jsonschema")
    schema = json.loads((DOCS / "reference" / "holdfast.schema.json").read_text())
    probe = {**definitions.json_schema(), "required": []}
    wrong = []
    for block in pages.blocks(page):
        if block.lang == "toml" and page.name != "configuration.md":
            is_probe = "probe.toml" in block.mark
            check = jsonschema.Draft202012Validator(probe if is_probe else schema)
            wrong += [
                f"{named(page)}:{block.at}: {error.json_path}: {error.message[:200]}"
                for error in check.iter_errors(tomllib.loads(block.body))
            ]

    assert wrong == []


def test_every_page_can_be_reached_from_the_index() -> None:
    """A page that is not linked is not there."""
    index = (DOCS / "index.md").read_text()
    missing = [
        str(page.relative_to(DOCS))
        for page in DOCS.rglob("*.md")
        if page.name != "index.md" and f"({page.relative_to(DOCS)})" not in index
    ]

    assert missing == []


@pytest.mark.parametrize(
    ("shown", "printed"),
    [
        (["a 12 ms", "…", "b"], ["a 3.5 s", "x", "y", "b"]),
        (["greeter  running  yes  6277"], ["greeter running  yes    88"]),
        (["incident 2024-01-02-web-1"], ["incident 2031-12-30-web-1"]),
        (["long li…", "end"], ["long line", "end"]),
    ],
)
def test_numbers_do_not_matter(shown: list[str], printed: list[str]) -> None:
    """Times and process ids differ from run to run."""
    assert pages.missing(shown, printed) == ""


@pytest.mark.parametrize(
    ("shown", "printed"),
    [
        (["web running"], ["web stopping"]),
        (["a", "b"], ["a", "x", "b"]),
        (["a"], ["a", "b"]),
        (["a", "b"], ["a"]),
        (["2024-01-02-web-1"], ["2024-01-02-web-2"]),
    ],
)
def test_words_do_matter(shown: list[str], printed: list[str]) -> None:
    """A comparison that accepts everything is no comparison."""
    assert pages.missing(shown, printed) != ""


def test_sdk_reference_is_made_from_the_docstrings_of_today() -> None:
    """A reference that is written by hand is of last year."""
    source = DOCS / "reference" / "sdk.py"
    spec = importlib.util.spec_from_file_location("sdk_reference", source)
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)

    assert source.with_suffix(".md").read_text() == made.page(), (
        "write it anew:  python docs/reference/sdk.py"
    )


def test_flags_page_names_every_flag_with_its_remedies() -> None:
    """A flag that is not explained is one more thing to be afraid of at night."""
    text = (DOCS / "reference" / "flags.md").read_text()
    told = set(re.findall(r"^\| `(\w+)` \| .*\|.*\|.*\|$", text, re.MULTILINE))

    assert told == {*cases.KINDS, *vitals.FLAGS, *box.FLAGS, *cases.OWN}
    assert set(ladder.RUNGS) <= told


def test_environment_page_names_every_variable_that_the_program_knows() -> None:
    """What the program reads and does not say is a trap."""
    text = (DOCS / "reference" / "environment.md").read_text()
    known = {
        name
        for source in (pages.ROOT / "src").rglob("*.py")
        for name in re.findall(r"\bHOLDFAST_[A-Z_]*[A-Z]\b", source.read_text())
    }
    # HOLDFAST_FDS passes descriptors from the anchor to its children: nobody else's business.
    assert sorted(name for name in known - {"HOLDFAST_FDS"} if f"`{name}`" not in text) == []


def test_files_page_names_everything_in_the_run_directory() -> None:
    """Somebody who does not know a file may remove it."""
    text = (DOCS / "reference" / "files-on-disk.md").read_text()
    names = [
        layout.PLAN, layout.BOOT, layout.BEATS, layout.JOURNAL, layout.EXITS, layout.SEEN, layout.FIFOS,
        layout.PULSES, layout.SAMPLES, layout.FLAGS, layout.ORDERS, layout.CONTROL, layout.NOTIFY,
        layout.STATE_LINK, layout.NODE_LOCK, layout.RUN_LINK, layout.LOGS, layout.INCIDENT_INDEX, layout.GOOD,
    ]  # fmt: skip

    assert [name for name in names if f"`{name}`" not in text and f"`{name}/" not in text] == []
