"""Does a whole crawl find what there is, and is it polite? Real jobs, real workers, a real server, and nobody who hurts them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from crawler_example import EXAMPLE, Served, results, rules, site
from node import SLOWNESS, wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PAGES, RATE, AT_ONCE, DEPTH = 40, 30, 3, 6
#: What becomes of the odd corner.
ODD = {
    "/odd/": rules.DONE, "/odd/target.html": rules.DONE, "/odd/moved": rules.MOVED, "/odd/target.html?from=moved": rules.DONE,
    "/odd/loop": rules.MOVED, "/odd/loop-2": rules.MOVED, "/odd/away": rules.MOVED, "/odd/flaky": rules.DONE,
    "/odd/failing": rules.FAILED, "/odd/latin": rules.DONE, "/odd/meta": rules.DONE, "/odd/liar": rules.DONE,
    "/odd/picture.png": rules.OTHER, "/odd/huge": rules.DONE, "/odd/slow": rules.FAILED, "/odd/query": rules.DONE,
    "/odd/query?a=1&b=2": rules.DONE, "/odd/query?b=2&a=1": rules.DONE, "/odd/gone.html": rules.MISSING,
    "/odd/target.html?print=1": rules.REFUSED, "/private/secret.html": rules.REFUSED, "/odd/calendar": rules.DONE,
    **{f"/odd/calendar?month={month}": rules.DONE for month in range(2, DEPTH)}, f"/odd/calendar?month={DEPTH}": rules.BEYOND,
}  # fmt: skip
ENV = {k: v for k, v in os.environ.items() if not k.startswith(("HOLDFAST_", "CRAWLER_"))}


class Crawl:
    """A site, a queue and `holdfast jobs work`."""

    def __init__(self, tmp: Path) -> None:
        self.served = Served(tmp / "site", pages=PAGES)
        self.path = tmp / "crawl.db"
        self.store = f"sqlite://{tmp / 'jobs.db'}"
        self.env = ENV | {
            "PYTHONPATH": str(EXAMPLE.parents[1] / "src"), "CRAWLER_DATA": str(tmp), "CRAWLER_RATE": str(RATE), "CRAWLER_AT_ONCE": str(AT_ONCE),
            "CRAWLER_DEPTH": str(DEPTH), "CRAWLER_WHOLE_S": str(1.5 * SLOWNESS), "CRAWLER_BACKOFF": "100ms", "CRAWLER_MAX_BYTES": "100000",
        }  # fmt: skip
        self.log = tmp / "work.log"
        with self.log.open("wb") as log:
            self.foreman = subprocess.Popen(
                [sys.executable, "-m", "holdfast", "jobs", "--store", self.store, "work", "crawler.tasks", "-q", "default", "-q", "fetch", "-q", "parse", "-c", "6"],
                cwd=EXAMPLE, env=self.env, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip

    def jobs(self, *words: str) -> Any:
        command = [
            sys.executable,
            "-m",
            "holdfast",
            "jobs",
            "--store",
            self.store,
            *words,
            "--json",
        ]
        done = subprocess.run(command, cwd=EXAMPLE, env=self.env, capture_output=True, text=True, timeout=60 * SLOWNESS, check=False)  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return json.loads(done.stdout)

    def is_over(self) -> bool:
        assert self.foreman.poll() is None, self.log.read_text()
        kept = results.Results(self.path)
        states = set(kept.states())
        kept.close()
        return bool(states) and states <= set(rules.ENDS)

    def end(self) -> None:
        self.foreman.terminate()
        self.foreman.wait(30 * SLOWNESS)
        self.served.end()


@pytest.fixture(scope="module")
def crawled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Crawl]:
    """A crawl that is over."""
    made = Crawl(tmp_path_factory.mktemp("crawl"))
    try:
        made.jobs("push", "crawler.tasks.crawl", f"{made.served.url}/")
        wait_for(made.is_over, "the end of the crawl", 40)
        yield made
    finally:
        made.end()


@pytest.fixture
def kept(crawled: Crawl) -> Iterator[Any]:
    """What it has found."""
    opened = results.Results(crawled.path)
    yield opened
    opened.close()


def test_every_page_comes_to_the_end_that_it_should(kept: Any) -> None:
    """Pages, traps, redirects, circles, failures, other kinds of files, forbidden corners: each has one row and one end."""
    found = {rules.path(url): state for url, state in kept.rows("SELECT url, state FROM pages")}

    assert {path: state for path, state in found.items() if not path.startswith("/made/")} == {"/": rules.DONE} | ODD  # fmt: skip
    assert {path for path in found if path.startswith("/made/")} == {f"/made/page-{n}.html" for n in range(PAGES)}  # fmt: skip


def test_what_is_in_the_pages_is_kept(kept: Any) -> None:
    """Titles in their encodings, words, links: also those that lead away."""
    titles = dict(kept.rows("SELECT url, title FROM pages WHERE title IS NOT NULL"))
    by_path = {rules.path(url): title for url, title in titles.items()}

    assert by_path["/odd/latin"] == "Überseebrücke"
    assert by_path["/odd/meta"] == "Якорь"
    assert by_path["/odd/liar"].startswith("caf")
    assert by_path["/made/page-7.html"] == "Page 7"
    assert kept.rows("SELECT count(*) FROM links WHERE target = 'http://elsewhere.invalid/page.html'") == [(1,)]  # fmt: skip
    assert kept.rows("SELECT is_cut FROM pages WHERE url LIKE '%/odd/huge'") == [(1,)]
    assert kept.rows("SELECT min(words) FROM pages WHERE url LIKE '%/made/%'")[0][0] > 200


def test_the_site_was_treated_politely(crawled: Crawl) -> None:
    """By the site's own log: who we are, what robots.txt forbids, how fast, and nothing twice but what asked for it."""
    said = site.requests(crawled.served.data)
    often = Counter(one.path for one in said)
    times = [one.at_s for one in said]

    assert {one.agent.split("/")[0] for one in said} == {"holdfast-crawler"}
    assert said[0].path == "/robots.txt"
    assert not [path for path in often if path.startswith("/private/") or "print=" in path]
    assert {path: n for path, n in often.items() if n > 1} == {"/odd/flaky": 3, "/odd/failing": 5, "/odd/slow": 5}  # fmt: skip
    # The end of one second of the limit and the beginning of the next may fall into one of ours.
    assert max(sum(at <= one < at + 1 for one in times) for at in times) <= 2 * RATE


def test_nothing_is_left_in_the_queue(crawled: Crawl) -> None:
    """What the site does wrong is in the results; the dead set is for what we do wrong."""

    def counts() -> Any:
        found = crawled.jobs("stats")
        places = ("busy", "waiting", "retry", "scheduled", "dead")
        return all(found[place] == 0 for place in places) and found

    assert wait_for(counts, "an empty queue")["processed"] > PAGES


def test_the_report_names_broken_links(crawled: Crawl) -> None:
    """The first thing that a site's owner wants to know."""
    done = subprocess.run([sys.executable, "-m", "crawler"], cwd=EXAMPLE, env=crawled.env, capture_output=True, text=True, check=True)  # fmt: skip

    assert "missing  /odd/gone.html  (404)  on /odd/" in done.stdout
    assert "failed  /odd/failing  (500)  on /odd/" in done.stdout
    assert "cut off  /odd/huge" in done.stdout
