"""Is no page lost and none doubled, at whatever line a job is killed? The jobs without network and processes, killed at each step."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from crawler_example import fetching, results, rules, tasks
from holdfast.jobs import queue
from holdfast.sdk.job_context import JobContext, entering
from holdfast.sdk.job_registry import REGISTRY
from holdfast.wire import sidekiq

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

SITE = "http://site.example"
#: A small site: a page, and what it links to. /moved is a redirect, /gone a 404, /no is forbidden.
LINKS = {
    "/": ["/a", "/b", "/moved", "/no"],
    "/a": ["/b", "/gone"],
    "/b": ["/", "/a", "/c"],
    "/c": ["/picture"],
    "/d": [],
}
STATES = {
    "/": rules.DONE, "/a": rules.DONE, "/b": rules.DONE, "/c": rules.DONE, "/d": rules.DONE, "/moved": rules.MOVED, "/gone": rules.MISSING,
    "/no": rules.REFUSED, "/picture": rules.OTHER,
}  # fmt: skip


class Killed(BaseException):
    """Here the process ended."""


class Steps:
    """Everything that writes, as steps that are counted; before or after one of them comes the kill."""

    def __init__(self, kill_at: int) -> None:
        self.kill_at = kill_at
        self.count = 0

    def __call__(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def stepped(*args: Any, **kwargs: Any) -> Any:
            self._step()
            value = function(*args, **kwargs)
            self._step()
            return value

        return stepped

    def _step(self) -> None:
        self.count += 1
        if self.count == self.kill_at:
            raise Killed


class Worker:
    """As much of a store and a worker as the rule needs: at least once, under the lock of `unique`."""

    url = "memory:"

    def __init__(self) -> None:
        self.waiting: list[bytes] = []
        self.locks: dict[str, str] = {}

    def push(self, jobs: Sequence[bytes], at_s: Any = None) -> list[str]:
        del at_s
        holders = []
        for raw in jobs:
            job = sidekiq.loads(raw)
            lock, jid = str(sidekiq.hf(job)["unique"]), str(job["jid"])
            holder = self.locks.setdefault(lock, jid)
            holders.append("" if holder == jid else holder)
            if holder == jid:
                self.waiting.append(raw)
        return holders

    def run(self, prepare: Callable[[], None]) -> int:
        """Run all there is; a job that is killed goes back to the front. Return how many were."""
        killed = 0
        while self.waiting:
            raw = self.waiting.pop(0)
            job: Any = sidekiq.loads(raw)
            known = REGISTRY[job["class"]]
            args, kwargs = known.bind(job)
            try:
                with entering(JobContext(job, self)):  # type: ignore[arg-type]  # it notes nothing
                    known.function(*args, **kwargs)
            except Killed:
                killed += 1
                self.waiting.insert(0, raw)
                prepare()
                continue
            self.locks = {lock: jid for lock, jid in self.locks.items() if jid != job["jid"]}
        return killed


@pytest.fixture
def worker(monkeypatch: pytest.MonkeyPatch) -> Iterator[Worker]:
    """The jobs, on a small site that needs no network."""
    made = Worker()
    before = queue.use(queue.Queue(made))  # type: ignore[arg-type]  # what it lacks is not asked for
    monkeypatch.setattr(fetching, "get", answer)
    yield made
    queue.use(before)


def answer(url: str, *_: Any, **__: Any) -> Any:
    path = rules.path(url)
    if path == "/robots.txt":
        return rules.Answer(200, "text/plain", body=b"User-agent: *\nDisallow: /no\n")
    if path == "/moved":
        return rules.Answer(302, location="d")
    if path == "/picture":
        return rules.Answer(200, "image/png")
    if path not in LINKS:
        return rules.Answer(404, "text/html")
    text = "".join(f'<a href="{to}">' for to in LINKS[path])
    return rules.Answer(200, "text/html", body=f"<title>{path}</title>{text}".encode())


def crawl(
    worker: Worker, kept: Any, steps: Steps, monkeypatch: pytest.MonkeyPatch, start: str = "/"
) -> int:
    """Crawl the small site; return how often it was killed."""
    for name in ("begin", "queued", "keep_answer", "keep_end", "keep_page", "keep_robots"):
        monkeypatch.setattr(kept, name, steps(getattr(kept, name)))
    monkeypatch.setattr(tasks, "_results", kept)
    tasks.crawl.enqueue(f"{SITE}{start}")
    monkeypatch.setattr(worker, "push", steps(worker.push))
    return worker.run(lambda: None)


def test_a_kill_at_any_step_loses_no_page_and_doubles_none(
    worker: Worker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is done comes first and what follows second, so whoever runs again makes up for the second. Here it is killed before and after each write."""
    kill_at = 0
    while True:
        steps = Steps(kill_at)
        kept = results.Results(tmp_path / f"{kill_at}.db")
        with monkeypatch.context() as patched:
            killed = crawl(worker, kept, steps, patched)

        found = {rules.path(url): state for url, state in kept.rows("SELECT url, state FROM pages")}
        assert found == STATES, f"killed at step {kill_at}"
        assert kept.rows("SELECT count(*) FROM links") == [(11,)]
        assert kept.rows("SELECT count(*) FROM bodies") == [(0,)]
        kept.close()
        if kill_at and not killed:
            break  # there is no such step any more
        kill_at += 1
    assert kill_at > 60


def test_a_site_may_begin_with_a_redirect(
    worker: Worker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody parses anything then, so nobody else pushes what it leads to."""
    kept = results.Results(tmp_path / "crawl.db")
    crawl(worker, kept, Steps(0), monkeypatch, "/moved")

    assert kept.rows("SELECT url, state FROM pages ORDER BY url") == [
        (f"{SITE}/d", rules.DONE),
        (f"{SITE}/moved", rules.MOVED),
    ]
    kept.close()


def test_two_links_to_a_page_are_one_request(worker: Worker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    """The page knows that it was fetched, whatever the queue has forgotten by then."""
    asked: list[str] = []

    def get(url: str, *_: Any, **__: Any) -> Any:
        asked.append(url)
        return answer(url)

    monkeypatch.setattr(fetching, "get", get)
    kept = results.Results(tmp_path / "crawl.db")
    crawl(worker, kept, Steps(0), monkeypatch)
    tasks.fetch.enqueue(f"{SITE}/a")
    worker.run(lambda: None)
    kept.close()

    assert sorted(asked) == sorted({*asked})
    assert f"{SITE}/no" not in asked


def test_a_page_that_never_answers_is_a_result_and_no_failure(
    worker: Worker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The dead set is for what is wrong with us. A site that is down is tried again, and then it is a fact about that site."""
    kept = results.Results(tmp_path / "crawl.db")
    monkeypatch.setattr(tasks, "_results", kept)
    kept.keep_robots(SITE, "")
    kept.begin(f"{SITE}/")
    monkeypatch.setattr(fetching, "get", unreachable)
    url = f"{SITE}/"
    tasks.push_found()
    job = sidekiq.loads(worker.waiting[0])
    for _ in range(tasks.fetch.retries):
        with entering(JobContext(job, worker)), pytest.raises(fetching.UnreachableError):  # type: ignore[arg-type]  # it notes nothing
            tasks.fetch(url)
        assert kept.page(url).state == rules.QUEUED
        job = sidekiq.fail(job, "UnreachableError", "silence", [], 1.0)
    with entering(JobContext(job, worker)):  # type: ignore[arg-type]
        tasks.fetch(url)

    assert kept.page(url).state == rules.FAILED
    assert kept.page(url).says == "silence"
    kept.close()


def unreachable(*_: Any, **__: Any) -> Any:
    raise fetching.UnreachableError("silence")


def test_a_slow_site_makes_slow_jobs(worker: Worker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    """Crawl-delay of robots.txt becomes the limit of the jobs themselves: one at a time, one in so many seconds."""
    kept = results.Results(tmp_path / "crawl.db")
    monkeypatch.setattr(tasks, "_results", kept)
    kept.keep_robots(SITE, "User-agent: *\nCrawl-delay: 3\n")
    kept.begin(f"{SITE}/")
    tasks.push_found()
    ours = sidekiq.hf(sidekiq.loads(worker.waiting[0]))
    kept.close()

    assert (ours["limit"], ours["limit_max"], ours["rate"]) == ("site.example", 1, [1, 3.0])


def test_nonsense_is_no_site(worker: Worker) -> None:
    """Whoever mistypes the address is told what one looks like."""
    del worker
    with pytest.raises(tasks.NoPageError, match="one begins with http"):
        tasks.crawl("site.example")
