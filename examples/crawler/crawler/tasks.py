"""The jobs: `crawl` begins a site, `fetch` gets one page, `parse` reads it. Everything else is in the results.

Each may be killed at any line, and is run again then. What is done comes first (one transaction), what follows from it second (jobs, each
under a lock of its own URL): a job that is run again finds the first done, and makes up for the second.
"""

import os
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from crawler import fetching, parsing, results, robots, rules
from holdfast.sdk import Limit, current, job

if TYPE_CHECKING:
    from holdfast.sdk.job_sending import Sending

AT_ONCE = int(os.environ.get("CRAWLER_AT_ONCE", "4"))
RATE = int(os.environ.get("CRAWLER_RATE", "50"))
#: What did not work is tried again after this, then after twice as long …
BACKOFF = (os.environ.get("CRAWLER_BACKOFF", "1s"), 2, "30s")

_results = results.opened()
_parse = parsing.chosen()


class NoPageError(ValueError):
    """What was asked for is no address of a page."""


def host(url: str) -> str:
    """Return what the limits count by: a machine, not a site, is what can be overrun."""
    return urlsplit(url).netloc


@job(unique=True, retries=5, backoff=BACKOFF)
def crawl(url: str) -> None:
    """Crawl a site, from this page on."""
    start = rules.normal(url)
    if start is None:
        raise NoPageError(f"{url!r} is no address of a page; one begins with http:// or https://")
    # How fast we may be has to be known before the first page's job is made.
    robots.known(_results, rules.origin(start))
    _results.begin(start)
    push_found()


@job(queue="fetch", unique=True, retries=4, backoff=BACKOFF, timeout="60s",
     limit=Limit(key=host, at_once=AT_ONCE, rate=(RATE, "1s")))  # fmt: skip
def fetch(url: str) -> None:
    """Get one page, politely."""
    page = _results.page(url)
    if page is None or page.state in rules.ENDS:
        return  # two pages linked to it at the same time
    if page.state != rules.FETCHED and not _fetched(url):
        push_found()  # a redirect leads somewhere
        return
    parse.enqueue(url)


@job(queue="parse", unique=True, retries=3, backoff=BACKOFF, timeout="60s")
def parse(url: str) -> None:
    """Read one page, and push what it leads to."""
    if (kept := _results.body(url)) is not None:
        body, charset = kept
        _results.keep_page(url, _parse(url, body, charset))
    push_found()


def push_found() -> None:
    """Make a job of each page that has none. Several may do so at the same time: the lock of a URL lets one through."""
    while urls := _results.found():
        by_site: dict[str, list[str]] = {}
        for url in urls:
            by_site.setdefault(rules.origin(url), []).append(url)
        for site, pages in by_site.items():
            _polite(robots.delay_s(_results, site)).enqueue_many([(url,) for url in pages])
        _results.queued(urls)


def _polite(delay_s: float) -> "Sending[[str], None]":
    """Return `fetch` as fast as a site allows it."""
    if delay_s <= 1 / RATE:
        return fetch
    return fetch.options(limit=Limit(key=host, at_once=1, rate=(1, delay_s)))


def _fetched(url: str) -> bool:
    """Get a page and keep the answer; tell whether there is something to parse."""
    try:
        if not robots.allows(_results, url):
            _results.keep_end(url, rules.REFUSED, "robots.txt does not allow it")
            return False
        answer = fetching.get(url)
    except fetching.UnreachableError as error:
        if not current().is_last_attempt:
            raise
        # A page that does not answer is a fact about that site, and no failure of ours: it is kept, and the job is done.
        _results.keep_end(url, rules.FAILED, str(error))
        return False
    if rules.must_try_again(answer.status) and not current().is_last_attempt:
        raise fetching.UnreachableError(f"{url} answers {answer.status}")
    return _results.keep_answer(url, answer) == rules.FETCHED
