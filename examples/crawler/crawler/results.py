"""What is known about the site? One SQLite file: pages, links, and what has been fetched but not parsed.

Every change is one transaction, and making it twice leaves what making it once does: a job that was killed after its commit and
before its end runs again, and nothing is counted double. The file is also the record of what is *left to do*: a page is `found` from the
transaction that saw the link until its job is in the queue, so no kill between the two loses a page.

How deep a page lies is the length of the shortest way from the start, whatever the order in which the pages came: a shorter way that
is found later counts for all that lies behind. So the same site gives the same pages, however many processes died on the way.
"""

import os
import sqlite3
import threading
import time
import zlib
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from crawler import rules
from crawler.parsing import Page
from crawler.rules import Answer

#: Links away from the start that are followed. What an endless calendar hangs on is cut here.
MOST_DEPTH = int(os.environ.get("CRAWLER_DEPTH", "12"))
#: Pages of one site; a second net, for a trap that grows in breadth.
MOST_PAGES = int(os.environ.get("CRAWLER_PAGES", "20000"))

_SCHEMA = """
CREATE TABLE IF NOT EXISTS pages (
    url TEXT PRIMARY KEY, site TEXT NOT NULL, depth INTEGER NOT NULL, state TEXT NOT NULL, status INTEGER, kind TEXT, size INTEGER,
    is_cut INTEGER NOT NULL DEFAULT 0, location TEXT, title TEXT, words INTEGER, says TEXT, at REAL NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS pages_state ON pages (state, depth);
CREATE TABLE IF NOT EXISTS links (
    source TEXT NOT NULL, target TEXT NOT NULL, follow INTEGER NOT NULL, PRIMARY KEY (source, target)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS links_target ON links (target);
CREATE TABLE IF NOT EXISTS bodies (url TEXT PRIMARY KEY, charset TEXT NOT NULL, body BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS sites (site TEXT PRIMARY KEY, robots TEXT NOT NULL, pages INTEGER NOT NULL DEFAULT 0, at REAL NOT NULL);
"""


class Known(NamedTuple):
    """A page as far as it is known."""

    url: str
    depth: int
    state: str
    status: int | None = None
    says: str | None = None


class Results:
    """The file, for any number of threads and processes."""

    def __init__(self, path: str | Path, most_depth: int = MOST_DEPTH, most_pages: int = MOST_PAGES) -> None:  # fmt: skip
        self.path = Path(path)
        self.most_depth = most_depth
        self.most_pages = most_pages
        self._thread = threading.local()

    @property
    def db(self) -> sqlite3.Connection:
        """The connection of this thread."""
        found: sqlite3.Connection | None = getattr(self._thread, "db", None)
        if found is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            found = sqlite3.connect(self.path, timeout=30, isolation_level=None)
            # WAL: a commit survives the kill of every process. (Not a power cut in the same second; then the job is run again.)
            found.execute("PRAGMA journal_mode=WAL")
            found.execute("PRAGMA synchronous=NORMAL")
            found.executescript(_SCHEMA)
            self._thread.db = found
        return found

    # -- sites ------------------------------------------------------------------------------------------

    def keep_robots(self, site: str, text: str) -> None:
        """Keep what a site's robots.txt says."""
        self.db.execute(
            "INSERT INTO sites (site, robots, at) VALUES (?, ?, ?)"
            " ON CONFLICT (site) DO UPDATE SET robots = excluded.robots, at = excluded.at",
            (site, text, time.time()),
        )

    def robots(self, site: str) -> tuple[str, float] | None:
        """Return the robots.txt of a site, and since when (unix) we have it."""
        row = self.db.execute("SELECT robots, at FROM sites WHERE site = ?", (site,)).fetchone()
        return None if row is None else (str(row[0]), float(row[1]))

    # -- what is to be done ---------------------------------------------------------------------------

    def begin(self, url: str) -> None:
        """Put a start page in, at depth 0."""
        with self._transaction() as db:
            self._reach(db, [(url, 0)])

    def found(self, most: int = 1000) -> list[str]:
        """Return pages that have no job yet, those that lie least deep first."""
        rows = self.db.execute(
            "SELECT url FROM pages WHERE state = ? ORDER BY depth LIMIT ?", (rules.FOUND, most)
        )
        return [str(url) for (url,) in rows]

    def queued(self, urls: Iterable[str]) -> None:
        """Note that these have a job now; whatever has come further than that stays where it is."""
        with self._transaction() as db:
            db.executemany(
                "UPDATE pages SET state = ? WHERE url = ? AND state = ?",
                [(rules.QUEUED, url, rules.FOUND) for url in urls],
            )

    def page(self, url: str) -> Known | None:
        """Return what is known about a page."""
        row = self.db.execute("SELECT url, depth, state, status, says FROM pages WHERE url = ?", (url,)).fetchone()  # fmt: skip
        return None if row is None else Known(*row)

    # -- what was done --------------------------------------------------------------------------------

    def keep_answer(self, url: str, answer: Answer, says: str = "") -> str:
        """Keep what a server answered; return the new state of the page.

        The body waits here until it is parsed. A redirect is a page whose only link is its target.
        """
        state = rules.end_of(answer)
        with self._transaction() as db:
            location = rules.normal(answer.location, url) if state == rules.MOVED else None
            self._end(db, url, state, says, status=answer.status, kind=answer.kind, size=answer.size,
                      is_cut=answer.is_cut, location=location or answer.location or None)  # fmt: skip
            if state == rules.FETCHED:
                # Level 1: a page shrinks to a quarter, and parsing it costs twenty times as much.
                packed = zlib.compress(answer.body, 1)
                db.execute("INSERT OR REPLACE INTO bodies VALUES (?, ?, ?)", (url, answer.charset, packed))  # fmt: skip
            if location is not None:
                self._link(db, url, {location: True})
        return state

    def keep_end(self, url: str, state: str, says: str) -> None:
        """Note that a page ends without an answer: REFUSED, or FAILED."""
        with self._transaction() as db:
            self._end(db, url, state, says)

    def body(self, url: str) -> tuple[bytes, str] | None:
        """Return body and charset of a page that waits for its parser; None: it does not."""
        row = self.db.execute("SELECT body, charset FROM bodies WHERE url = ?", (url,)).fetchone()
        return None if row is None else (zlib.decompress(row[0]), str(row[1]))

    def keep_page(self, url: str, page: Page) -> None:
        """Keep what is in a page, and reach what it links to; its body is not needed any more."""
        with self._transaction() as db:
            db.execute(
                "UPDATE pages SET state = ?, title = ?, words = ?, at = ? WHERE url = ?",
                (rules.DONE, page.title, page.words, time.time(), url),
            )
            self._link(db, url, page.links)
            db.execute("DELETE FROM bodies WHERE url = ?", (url,))

    # -- people -----------------------------------------------------------------------------------------

    def states(self) -> dict[str, int]:
        """Count the pages by their state."""
        return dict(self.db.execute("SELECT state, count(*) FROM pages GROUP BY state ORDER BY 2 DESC"))  # fmt: skip

    def rows(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        """Ask anything."""
        return self.db.execute(query, values).fetchall()

    def close(self) -> None:
        """Close the connection of this thread."""
        if (db := getattr(self._thread, "db", None)) is not None:
            db.close()
            self._thread.db = None

    # ----------------------------------------------------------------------------------------------------

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        db = self.db
        # IMMEDIATE: a transaction that reads first and then finds that somebody wrote meanwhile could not go on.
        db.execute("BEGIN IMMEDIATE")
        try:
            yield db
        except BaseException:
            db.execute("ROLLBACK")
            raise
        db.execute("COMMIT")

    def _end(self, db: sqlite3.Connection, url: str, state: str, says: str, *, status: int | None = None, kind: str = "",
             size: int = 0, is_cut: bool = False, location: str | None = None) -> None:  # fmt: skip
        db.execute(
            "UPDATE pages SET state = ?, says = ?, status = ?, kind = ?, size = ?, is_cut = ?, location = ?, at = ? WHERE url = ?",
            (state, says or None, status, kind or None, size, is_cut, location, time.time(), url),
        )

    def _link(self, db: sqlite3.Connection, source: str, links: dict[str, bool]) -> None:
        """Replace the links of a page, and reach those of its own site that may be followed."""
        (depth,) = db.execute("SELECT depth FROM pages WHERE url = ?", (source,)).fetchone()
        db.execute("DELETE FROM links WHERE source = ?", (source,))
        db.executemany("INSERT INTO links VALUES (?, ?, ?)", [(source, *one) for one in links.items()])  # fmt: skip
        self._reach(db, [(url, depth + 1) for url in _followed(source, links.items())])

    def _reach(self, db: sqlite3.Connection, ways: list[tuple[str, int]]) -> None:
        """Follow ways of known length: pages that are new are found, and shorter ways to old ones go on behind those."""
        left = deque(ways)
        while left:
            url, depth = left.popleft()
            row = db.execute("SELECT depth, state FROM pages WHERE url = ?", (url,)).fetchone()
            if row is None:
                state = rules.FOUND if depth <= self.most_depth and self._has_room(db, url) else rules.BEYOND  # fmt: skip
                db.execute(
                    "INSERT INTO pages (url, site, depth, state, at) VALUES (?, ?, ?, ?, ?)",
                    (url, rules.origin(url), depth, state, time.time()),
                )
            elif depth < row[0]:
                state = row[1]
                if state == rules.BEYOND and depth <= self.most_depth and self._has_room(db, url):
                    state = rules.FOUND
                db.execute("UPDATE pages SET depth = ?, state = ? WHERE url = ?", (depth, state, url))  # fmt: skip
                links = db.execute("SELECT target, follow FROM links WHERE source = ?", (url,))
                left.extend((target, depth + 1) for target in _followed(url, links.fetchall()))

    def _has_room(self, db: sqlite3.Connection, url: str) -> bool:
        """Count one more page of a site, unless there are too many."""
        done = db.execute(
            "INSERT INTO sites (site, robots, pages, at) VALUES (?, '', 1, 0)"
            " ON CONFLICT (site) DO UPDATE SET pages = pages + 1 WHERE pages < ?",
            (rules.origin(url), self.most_pages),
        )
        return done.rowcount > 0


def _followed(source: str, links: Iterable[tuple[str, Any]]) -> list[str]:
    """Return the links that a polite crawler of this one site goes on to."""
    site = rules.origin(source)
    return [url for url, follow in links if follow and rules.origin(url) == site]


def opened() -> Results:
    """Return the results that the configuration names (`CRAWLER_DATA`)."""
    return Results(Path(os.environ.get("CRAWLER_DATA", "data")) / "crawl.db")
