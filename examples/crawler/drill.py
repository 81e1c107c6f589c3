#!/usr/bin/env python3
# ruff: noqa: T201 -- it talks to whoever runs it
"""Is every page crawled when the parser leaks, one page kills it, and everything is killed at random? A drill finds out.

    python examples/crawler/drill.py

It starts a node of its own (own data, own port), begins a crawl, and kills with SIGKILL whatever runs: workers, steward, keeper, watchdog,
logger, anchor, collectors of evidence, and once all of them in the same instant. When the crawl is over it compares: what a second, very
simple crawler finds one page after the other has to be there, once; the dead set has to hold the page that kills, and nothing else, with
the incident as evidence; and the site's own access log says whether we were polite. Exit status 0: all that is so.
"""

import argparse
import json
import os
import random
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter, deque
from collections.abc import Callable
from contextlib import closing
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, NamedTuple
from urllib.error import HTTPError
from urllib.parse import urljoin, urlsplit
from urllib.request import HTTPRedirectHandler, build_opener

HERE = Path(__file__).resolve().parent
SLOWNESS = float(os.environ.get("HOLDFAST_SLOWNESS", "1"))
#: What the node of the drill is told. The rate makes the crawl last long enough to be hurt.
RATE, AT_ONCE, DEPTH = 40, 4, 12
#: A site's answers that end without a page, in any crawler: it does not wait for them.
ENDLESS = "/odd/slow"
#: So often a page is asked for that says "not now".
TRIES = 4
POISON = "/odd/poison.html"
#: Everything is killed, in the same instant, after so many other kills.
ALL_AT = 12
PATIENCE_S = 60.0


class Report(NamedTuple):
    """What the drill found."""

    pages: int  #: that were crawled
    missing: list[str]  #: that the simple crawler has found and we have not
    surplus: list[str]  #: the other way round
    unfinished: list[str]  #: that are neither done nor given up
    dead: list[str]  #: in the dead set: job and its argument
    evidence: str  #: the incident that the poison's job carries
    recycled: int  #: processes that had grown and were replaced between two jobs
    kills: dict[str, int]
    asked: int  #: requests that the site has seen
    again: int  #: of these, for a page that was asked for before
    forbidden: list[str]  #: asked for though robots.txt forbids it
    busiest: int  #: requests within the busiest second
    took_s: float

    def wrong(self) -> list[str]:
        """Say what is not as it should be."""
        checks = {
            "pages are missing": self.missing,
            "pages that nobody links to": self.surplus,
            "pages are not finished": self.unfinished,
            "the dead are not just the poison": [] if len(self.dead) == 1 and POISON in self.dead[0] else self.dead or ["none"],
            "the poison has no evidence": [] if self.evidence else ["no incident"],
            "nobody was recycled": [] if self.recycled else ["the parser leaks, and nobody saw it"],
            "robots.txt was not obeyed": self.forbidden,
            # A second of ours may see the end of one span of the limit and the beginning of the next.
            "the rate was not kept": [] if self.busiest <= 2 * RATE else [f"{self.busiest} requests in a second"],
        }  # fmt: skip
        return [f"{what}: {', '.join(found[:5])}" for what, found in checks.items() if found]


class Node:
    """The node of the drill."""

    def __init__(self, home: Path, documents: str) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        self.home = home
        self.data = home / "data"
        self.state = home / "state"
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("HOLDFAST_", "CRAWLER_"))}
        self.env = kept | {
            "CRAWLER_STATE": str(self.state), "CRAWLER_DATA": str(self.data), "CRAWLER_PORT": str(port), "CRAWLER_SITE": documents,
            "CRAWLER_RATE": str(RATE), "CRAWLER_AT_ONCE": str(AT_ONCE), "CRAWLER_DEPTH": str(DEPTH), "CRAWLER_WHOLE_S": str(SLOWNESS),
            "CRAWLER_PARSER": "crawler.broken:parse", "CRAWLER_POISON": "yes", "CRAWLER_RECYCLE": "80M", "CRAWLER_BACKOFF": "400ms", "HOLDFAST_SLOWNESS": str(SLOWNESS),
        }  # fmt: skip

    def holdfast(self, *words: str, may_fail: bool = False) -> str:
        """Say something on the command line."""
        command = [sys.executable, "-m", "holdfast", "-c", str(HERE / "holdfast.toml"), *words]
        done = subprocess.run(command, env=self.env, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)  # fmt: skip
        if done.returncode and not may_fail:
            raise SystemExit(f"holdfast {' '.join(words)}: {done.stdout}{done.stderr}")
        return done.stdout

    def processes(self) -> dict[int, str]:
        """Return everything that lives here: pid, and what it is."""
        try:
            run = os.readlink(self.state / "run")
        except FileNotFoundError:
            return {}
        found = {}
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                argv = (
                    Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
                )
                environ = (
                    Path(f"/proc/{pid}/environ").read_bytes().decode(errors="replace").split("\0")
                )
            except OSError:
                continue  # it ended while we looked
            role = next(
                (Path(word).parent.name for word in argv if word.endswith("/__main__.py")), ""
            )
            name = next((text[16:] for text in environ if text.startswith("HOLDFAST_WORKER=")), "")
            if role in ("anchor", "keeper", "watchdog", "logger", "evidence") and run in argv:
                found[int(pid)] = role
            elif name and f"HOLDFAST_RUN={run}" in environ:
                found[int(pid)] = name
        return found

    def dead(self) -> list[dict[str, Any]]:
        """Return the dead set."""
        jobs: list[dict[str, Any]] = json.loads(self.holdfast("jobs", "list", "dead", "--json"))["jobs"]  # fmt: skip
        return jobs

    def states(self) -> dict[str, int]:
        """Count the pages by their state."""
        return dict(self.rows("SELECT state, count(*) FROM pages GROUP BY state"))

    def rows(self, query: str) -> list[Any]:
        """Ask the results."""
        path = self.data / "crawl.db"
        if not path.exists():
            return []
        with closing(sqlite3.connect(path, timeout=30)) as db:
            try:
                return db.execute(query).fetchall()
            except sqlite3.OperationalError as error:
                if "no such table" in str(error):
                    return []  # it is being made
                raise


class Drill:
    """What is done to the node."""

    def __init__(self, node: Node, seed: int, tell: Callable[[str], None]) -> None:
        self.node = node
        self.chance = random.Random(seed)
        self.began_s = time.monotonic()
        self.say = tell
        self.kills: Counter[str] = Counter()
        self.left: list[str] = []

    def run(self) -> Report:
        """Do all of it."""
        self.node.holdfast("up", "--detach")
        expected = simple_crawl(f"{self.node.url}/")
        self.tell(f"a site of {len(expected)} pages at {self.node.url}")
        asked_before = len(requests(self.node.data))
        self.node.holdfast("jobs", "push", "crawler.tasks.crawl", f"{self.node.url}/")
        until_s = time.monotonic() + PATIENCE_S * SLOWNESS
        while self.ended() < 0.85 * len(expected) and time.monotonic() < until_s:
            time.sleep(self.chance.uniform(0.02, 0.5))
            self.hurt()
        self.tell(f"{sum(self.kills.values())} kills; now it is left alone")
        if not self.node.processes():
            self.revive()
        self.wait_for_the_end()
        return self.compare(expected, asked_before, time.monotonic() - self.began_s)

    def tell(self, says: str) -> None:
        """Say it, and when it was."""
        self.say(f"{time.monotonic() - self.began_s:5.1f} s  {says}")

    def ended(self) -> int:
        """Count the pages to which nothing more happens."""
        return self.node.states().get("done", 0)

    def hurt(self) -> None:
        """Kill something: each kind comes in its turn, in an order by chance; once everything at once."""
        there = self.node.processes()
        if not there:
            return self.revive()
        if sum(self.kills.values()) >= ALL_AT and not self.kills["everything"]:
            for pid in there:
                kill(pid)
            self.kills["everything"] += 1
            return self.tell(f"  everything: {len(there)} processes")
        if not self.left:
            self.left = sorted(set(there.values()))
            self.chance.shuffle(self.left)
        kind = self.left.pop() if self.left else ""
        for pid, name in there.items():
            if name == kind and kill(pid):
                self.kills[kind] += 1
                self.tell(f"  {kind:<17} ({self.ended()} pages)")
        return None

    def revive(self) -> None:
        """Bring the node back: nobody is left who could."""
        # What is said then is not of interest: its workers have just been killed, and `up` finds them in the middle of coming back.
        self.node.holdfast("up", "--detach", may_fail=True)
        if not self.node.processes():
            raise SystemExit("the node does not come back")

    def wait_for_the_end(self) -> None:
        """Wait until nothing is left to do, and the node has said what it has to say."""
        until_s = time.monotonic() + PATIENCE_S * SLOWNESS
        while time.monotonic() < until_s:
            counts = json.loads(
                self.node.holdfast("jobs", "stats", "--json", may_fail=True) or "{}"
            )
            states = self.node.states()
            is_idle = counts and not any(
                counts[place] for place in ("busy", "waiting", "retry", "scheduled")
            )
            waiting = sum(queue["size"] for queue in counts.get("queues", [])) if counts else 1
            if is_idle and not waiting and not states.get("found") and not states.get("queued"):
                dead = self.node.dead()
                if not dead or incident(self.node, dead[0]["jid"]):
                    return
            time.sleep(0.2)

    def compare(self, expected: dict[str, int], asked_before: int, took_s: float) -> Report:
        """Look at what there is in the end."""
        node = self.node
        done = {url for (url,) in node.rows("SELECT url FROM pages WHERE state = 'done'")}
        open_ = [
            url
            for (url,) in node.rows(
                "SELECT url FROM pages WHERE state IN ('found', 'queued', 'fetched')"
            )
        ]
        wanted = {url for url in expected if urlsplit(url).path != POISON}
        dead = node.dead()
        asked = requests(node.data)[asked_before:]
        often = Counter(path for _, path in asked)
        times = [at for at, _ in asked]
        logs = [
            path.read_text(errors="replace")
            for path in (node.state / "logs").glob("parse*/err*.log")
        ]
        return Report(
            pages=len(done),
            missing=sorted(wanted - done),
            surplus=sorted(done - wanted),
            unfinished=[url for url in open_ if urlsplit(url).path != POISON],
            dead=[f"{job['class']} {job['args']}" for job in dead],
            evidence=next((found for job in dead if (found := incident(node, job["jid"]))), ""),
            recycled=sum(len(re.findall(r"recycled: it uses", text)) for text in logs),
            kills=dict(self.kills),
            asked=len(asked),
            again=sum(count - 1 for count in often.values()),
            forbidden=[path for path in often if path.startswith("/private/") or "?print=" in path],
            busiest=max((sum(at <= one < at + 1 for one in times) for at in times), default=0),
            took_s=took_s,
        )  # fmt: skip


def incident(node: Node, jid: str) -> str:
    """Return the incident that a job carries, if there is one, and it tells of the very process that the job has killed."""
    (job,) = json.loads(node.holdfast("jobs", "show", jid, "--json"))["jobs"]
    found: str = job["notes"].get("incident", "")
    path = node.state / "incidents" / found / "incident.json"
    if not found or not path.exists():
        return ""
    pid = json.loads(path.read_text())["pid"]
    return found if f"process {pid} of worker" in job["job"]["error_message"] else ""


def kill(pid: int) -> bool:
    """Kill a process; tell whether it was there."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


def requests(data: Path) -> list[tuple[float, str]]:
    """Return what the site was asked for, and when."""
    log = data / "site" / "access.log"
    lines = [line.split(" ", 2) for line in log.read_text().splitlines()] if log.exists() else []
    return [(float(at), path) for at, path, _ in lines]


class _Stay(HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        """Follow nothing: a redirect is an answer."""


class _Links(HTMLParser):
    """The links of a page, by another parser than the crawler's: two that are wrong in the same way are not likely."""

    @classmethod
    def of(cls, text: str) -> list[str]:
        """Return them as they are written."""
        reader = cls()
        reader.found = []
        reader.feed(text)
        return reader.found

    found: list[str]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """See one element."""
        about = dict(attrs)
        if (
            tag in ("a", "area")
            and about.get("href") is not None
            and "nofollow" not in (about.get("rel") or "")
        ):
            self.found.append(about["href"] or "")


def simple_crawl(start: str) -> dict[str, int]:
    """Return all pages of the site and how deep they lie, one request after the other: slow, rude, and simple enough to be right."""
    opener = build_opener(_Stay)
    tries: Counter[str] = Counter()
    depths, pages = {start: 0}, {}
    left = deque([start])
    while left:
        url = left.popleft()
        path = urlsplit(url).path
        if (
            depths[url] > DEPTH
            or path == ENDLESS
            or path.startswith("/private/")
            or "?print=" in url
        ):
            continue
        try:
            with opener.open(url, timeout=10) as answer:
                kind = answer.headers.get_content_type()
                text = answer.read(2 << 20).decode("latin-1") if kind == "text/html" else None
        except HTTPError as error:
            with error:
                text = None
                tries[url] += 1
                if error.code >= 500 and tries[url] < TRIES:
                    left.append(url)
                to = error.headers.get("Location")
                links = [to] if to else []
        else:
            links = _Links.of(text) if text is not None else []
        if text is not None:
            pages[url] = depths[url]
        for link in links:
            to = _absolute(url, link)
            if to is not None and to.startswith(start) and to not in depths:
                depths[to] = depths[url] + 1
                left.append(to)
    return pages


def _absolute(url: str, link: str) -> str | None:
    """Return where a link leads, without its fragment; the odd corner has spellings of one page that only a real crawler sees through."""
    try:
        to = urljoin(url, link.strip()).partition("#")[0].replace("%61", "a")
    except ValueError:
        return None
    return to if len(to) < 2000 else None


def main() -> int:
    """Run the drill, and print what happened."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--site", metavar="DIRECTORY", default="", help="crawl this documentation (default: 300 pages are made up)")  # fmt: skip
    parser.add_argument("--seed", type=int, default=int(time.time()), help="the same seed kills in the same order")  # fmt: skip
    parser.add_argument("--keep", action="store_true", help="leave the node running, and its files")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    home = Path(tempfile.mkdtemp(prefix="crawler-drill-"))
    node = Node(home, given.site or "-")

    def tell(says: str) -> None:
        if not given.json:
            print(says, flush=True)

    tell(f"seed {given.seed}, {home}")
    try:
        report = Drill(node, given.seed, tell).run()
    finally:
        if not given.keep:
            node.holdfast("--json", "down", "--kill", may_fail=True)
            shutil.rmtree(home)
    wrong = report.wrong()
    if given.json:
        print(json.dumps({**report._asdict(), "seed": given.seed, "wrong": wrong}))
    else:
        print(
            f"\n{report.pages} pages in {report.took_s:.0f} s, {sum(report.kills.values())} kills ({', '.join(f'{name} {n}' for name, n in sorted(report.kills.items()))})"
        )
        print(f"{report.recycled} parsers were recycled; {report.again} of {report.asked} requests were for a page that was asked for before")  # fmt: skip
        print(f"dead: {'; '.join(report.dead) or 'none'}, with {report.evidence or 'no evidence'}")
        for line in wrong or ["all as it should be"]:
            print(line)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
