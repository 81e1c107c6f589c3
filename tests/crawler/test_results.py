"""What is known about the site: does it depend on the order, on repetition, on a kill? It must not."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crawler_example import EXAMPLE, parsing, results, rules
from node import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

Page, Results, Answer = parsing.Page, results.Results, rules.Answer
START = "http://site.example/0"


def url(number: int) -> str:
    return f"http://site.example/{number}"


def crawl(results: Any, graph: dict[int, list[int]], choose: Callable[[int], int], again: set[int]) -> None:  # fmt: skip
    """Crawl a drawn site: the pages that are in the queue are done in any order, some of them twice."""
    results.begin(START)
    queue: list[str] = []
    while True:
        found = results.found()
        queue += found
        results.queued(found)
        if not queue:
            return
        page = queue.pop(choose(len(queue)))
        number = int(page.rpartition("/")[2])
        for _ in range(2 if number in again else 1):
            assert results.keep_answer(page, Answer(200, "text/html", body=b"x")) == rules.FETCHED
            links = {url(to): True for to in graph.get(number, [])}
            results.keep_page(page, Page(f"Page {number}", number, links))


def within(graph: dict[int, list[int]], most: int) -> dict[int, int]:
    """Return by breadth-first search how far each page is from the start, up to ``most``."""
    depths, ring = {0: 0}, [0]
    for depth in range(1, most + 1):
        ring = [to for at in ring for to in graph.get(at, []) if depths.setdefault(to, depth) == depth]  # fmt: skip
    return depths


@settings(max_examples=40)
@given(
    st.dictionaries(st.integers(0, 11), st.lists(st.integers(0, 11), max_size=4), max_size=12),
    st.integers(1, 4),
    st.randoms(use_true_random=False),
    st.sets(st.integers(0, 11)),
)
def test_the_same_site_gives_the_same_pages_in_any_order(tmp_path_factory, graph, most, chance, again) -> None:  # type: ignore[no-untyped-def]  # fmt: skip
    """A job that is retried, or set aside as a suspect, comes late: what lies behind it must not be cut off by the depth limit for that."""
    results = Results(tmp_path_factory.mktemp("crawl") / "crawl.db", most_depth=most)
    try:
        crawl(results, graph, lambda count: chance.randrange(count), again)
        rows = results.rows("SELECT url, depth FROM pages WHERE state = 'done'")

        assert {int(page.rpartition("/")[2]): depth for page, depth in rows} == within(graph, most)
        assert results.rows("SELECT count(*) FROM links WHERE source = ?", START) == [(len(set(graph.get(0, []))),)]  # fmt: skip
        assert results.rows("SELECT count(*) FROM bodies") == [(0,)]
    finally:
        results.close()


def test_the_links_of_other_sites_are_kept_and_not_followed(tmp_path: Path) -> None:
    """It is a crawler of one site: what others are called is a result, not a way."""
    results = Results(tmp_path / "crawl.db")
    results.begin(START)
    results.keep_page(START, Page("", 0, {"http://other.example/": True, url(1): False, url(2): True}))  # fmt: skip

    assert results.found() == [url(2)]
    assert len(results.rows("SELECT * FROM links")) == 3


def test_a_trap_that_grows_in_breadth_ends_too(tmp_path: Path) -> None:
    """A depth limit alone lets a page with a thousand links a page have a thousand to the twelfth."""
    results = Results(tmp_path / "crawl.db", most_pages=50)
    results.begin(START)
    results.keep_page(START, Page("", 0, {url(n): True for n in range(1, 100)}))

    assert results.states() == {rules.FOUND: 49, rules.DONE: 1, rules.BEYOND: 50}


def test_a_redirect_leads_to_its_target(tmp_path: Path) -> None:
    """Relative to where it was met; one to another site leads nowhere."""
    results = Results(tmp_path / "crawl.db")
    results.begin(START)
    results.queued([START])
    results.keep_answer(START, Answer(302, location="a/b"))

    assert results.found() == ["http://site.example/a/b"]
    assert results.page(START) == (START, 0, rules.MOVED, 302, None)


WRITER = """
import sys
from pathlib import Path
from crawler.parsing import Page
from crawler.results import Results
from crawler.rules import Answer

results = Results(Path(sys.argv[1]), most_depth=100_000)
results.begin("http://site.example/0")
print("begun", flush=True)
while True:
    # What the one before left undone comes first, as the queue would bring it again.
    undone = results.rows("SELECT url FROM pages WHERE state IN ('queued', 'fetched')")
    for url in [url for (url,) in undone] or results.found(1):
        number = int(url.rpartition("/")[2])
        results.queued([url])
        results.keep_answer(url, Answer(200, "text/html", body=b"x" * 5000))
        results.keep_page(url, Page("t", number, {f"http://site.example/{number + n}": True for n in (1, 2, 3)}))
"""


def killed_after(path: Path, pages: int) -> None:
    """Crawl until so many pages are done, and be killed at whatever is being done then."""
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, env=os.environ | {"PYTHONPATH": f"{EXAMPLE}"}
    )  # fmt: skip
    kept = Results(path)
    try:
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"begun\n"
        wait_for(lambda: kept.states().get(rules.DONE, 0) >= pages, f"{pages} pages to be done")
    finally:
        writer.kill()
        writer.communicate()
        kept.close()


@pytest.mark.faults
def test_a_kill_at_any_instant_leaves_a_whole_file(tmp_path: Path) -> None:
    """A dozen kills in the middle of transactions: each page that is done has its links, and each link its page."""
    path = tmp_path / "crawl.db"
    done = 0
    for number in range(12):
        killed_after(path, done + 1 + number)
        kept = Results(path)
        linkless = "SELECT url FROM pages WHERE state = 'done' AND (SELECT count(*) FROM links WHERE source = url) <> 3"
        pageless = (
            "SELECT target FROM links WHERE NOT EXISTS (SELECT 1 FROM pages WHERE url = target)"
        )

        assert kept.rows("PRAGMA integrity_check") == [("ok",)]
        assert kept.rows(linkless) == []
        assert kept.rows(pageless) == []
        done = kept.states()[rules.DONE]
        kept.close()
