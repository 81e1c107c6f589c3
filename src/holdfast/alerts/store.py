"""What of the alerts outlives this process, and how does it hear what a person wants?

One SQLite file, ``STATE/alerts/alerts.db``: the memory of the rules, the outbox (one row for each message and channel) and the requests of
the command line. A change of state and the messages that follow from it are one transaction, so nothing is forgotten and nothing told
twice, wherever the process is killed: between the write and the delivery the row still waits; between the delivery and its mark the message
goes out again under the same id, by which webhooks, PagerDuty, Alertmanager and mail systems know it.

A disk that takes nothing must not silence the alarm about it: rows are kept in memory meanwhile (:class:`Outbox`) and written when it can
be. Left out: when something is sent again (:mod:`holdfast.alerts.sending`).
"""

import contextlib
import os
import sqlite3
import time

from holdfast.wire.jsonlite import dumps, loads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

DIRECTORY, FILE = "alerts", "alerts.db"
WAITING, DELIVERED, DROPPED = "waiting", "delivered", "dropped"
#: Rows of what is over are kept for people, so many and so long.
_KEPT_ROWS, _KEPT_S = 2000, 30 * 86400.0
#: Whoever has the file for longer than this is stuck.
_BUSY_S = 2.0

_SCHEMA = """
CREATE TABLE IF NOT EXISTS memory (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS outbox (
  message TEXT NOT NULL, channel TEXT NOT NULL, alert TEXT NOT NULL, change TEXT NOT NULL, body TEXT NOT NULL,
  made_unix_s REAL NOT NULL, state TEXT NOT NULL, attempts INTEGER NOT NULL, error TEXT NOT NULL, ended_unix_s REAL,
  PRIMARY KEY (message, channel));
CREATE INDEX IF NOT EXISTS waiting ON outbox (state, made_unix_s);
CREATE TABLE IF NOT EXISTS request (
  id INTEGER PRIMARY KEY AUTOINCREMENT, what TEXT NOT NULL, body TEXT NOT NULL, made_unix_s REAL NOT NULL, answer TEXT);
"""
_COLUMNS = (
    "message, channel, alert, change, body, made_unix_s, state, attempts, error, ended_unix_s"
)


class Row:
    """One message on its way to one channel."""

    __slots__ = (
        "alert", "attempts", "body", "change", "channel", "ended_unix_s", "error", "is_flying", "made_unix_s", "message",
        "next_s", "state",
    )  # fmt: skip

    def __init__(
        self,
        message: str,
        channel: str,
        alert: str,
        change: str,
        body: "dict[str, Any]",
        made_unix_s: float,
        state: str = WAITING,
        attempts: int = 0,
        error: str = "",
        ended_unix_s: "float | None" = None,
    ) -> None:
        self.message, self.channel, self.alert, self.change = message, channel, alert, change
        self.body = body
        self.made_unix_s = made_unix_s
        self.state = state
        self.attempts = attempts
        self.error = error
        self.ended_unix_s = ended_unix_s
        self.next_s = 0.0  #: not tried again before this monotonic time; dies with the process
        self.is_flying = False

    def values(self) -> "tuple[object, ...]":
        """Return the columns."""
        return (
            self.message, self.channel, self.alert, self.change, dumps(self.body), self.made_unix_s, self.state, self.attempts,
            self.error, self.ended_unix_s,
        )  # fmt: skip

    def to_json(self) -> "dict[str, Any]":
        """Return what the command line shows."""
        return {
            "message": self.message, "channel": self.channel, "alert": self.alert, "change": self.change,
            "title": self.body.get("title", ""), "made_unix_s": self.made_unix_s, "state": self.state,
            "attempts": self.attempts, "error": self.error or None, "ended_unix_s": self.ended_unix_s,
        }  # fmt: skip


class Store:
    """The file."""

    def __init__(self, state_dir: str) -> None:
        self.path = f"{state_dir}/{DIRECTORY}/{FILE}"
        self._connection: sqlite3.Connection | None = None

    def load(self) -> "tuple[dict[str, Any], list[Row]]":
        """Return the memory and the rows that wait, oldest first.

        Raises:
            sqlite3.Error: The file cannot be read.
            OSError: Its directory cannot be made.
        """
        connection = self._open()
        memory = {str(name): loads(value) for name, value in connection.execute("SELECT name, value FROM memory")}  # fmt: skip
        return memory, self._rows("WHERE state = ? ORDER BY made_unix_s, rowid", (WAITING,))

    def set_aside(self, error: Exception) -> None:
        """Keep a damaged file for people; one that is only out of reach (``error`` tells) stays."""
        if isinstance(error, sqlite3.OperationalError | OSError):
            return
        for ending in ("", "-wal", "-shm"):
            with contextlib.suppress(OSError):
                os.rename(self.path + ending, f"{self.path}.damaged{ending}")

    def save(
        self,
        memory: "dict[str, str]",
        rows: "Iterable[Row]",
        answers: "Iterable[tuple[int, dict[str, Any]]]" = (),
    ) -> None:
        """Write down a change of state, the rows that it made or changed, and what a person is answered, all or nothing.

        Raises:
            sqlite3.Error: The disk is full, or broken; nothing was written.
            OSError: The directory cannot be made.
        """
        connection = self._open()
        with connection:
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany(
                "INSERT OR REPLACE INTO memory VALUES (?, ?)",
                list(memory.items()),
            )
            connection.executemany(
                "INSERT INTO outbox VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (message, channel) DO UPDATE SET "
                "state = excluded.state, attempts = excluded.attempts, error = excluded.error, ended_unix_s = excluded.ended_unix_s",
                [row.values() for row in rows],
            )
            connection.executemany(
                "UPDATE request SET answer = ? WHERE id = ?",
                [(dumps(answer), number) for number, answer in answers],
            )

    def tidy(self, now_unix_s: float) -> None:
        """Remove what is over for long."""
        connection = self._open()
        with connection:
            connection.execute(
                "DELETE FROM outbox WHERE state != ? AND (ended_unix_s < ? OR rowid NOT IN "
                "(SELECT rowid FROM outbox ORDER BY made_unix_s DESC LIMIT ?))",
                (WAITING, now_unix_s - _KEPT_S, _KEPT_ROWS),
            )
            connection.execute("DELETE FROM request WHERE made_unix_s < ?", (now_unix_s - 86400.0,))

    def requests(self) -> "list[tuple[int, str, dict[str, Any]]]":
        """Return what people want and nobody has answered: (number, what, body)."""
        found = self._open().execute(
            "SELECT id, what, body FROM request WHERE answer IS NULL ORDER BY id"
        )
        return [(int(number), str(what), loads(body)) for number, what, body in found]

    # -- what the command line uses ----------------------------------------------------------------

    def ask(self, what: str, body: "dict[str, Any]") -> int:
        """Write down a request and return its number."""
        connection = self._open()
        with connection:
            done = connection.execute(
                "INSERT INTO request (what, body, made_unix_s) VALUES (?, ?, ?)",
                (what, dumps(body), time.time()),
            )
        return int(done.lastrowid or 0)

    def answer(self, number: int) -> "dict[str, Any] | None":
        """Return the answer to a request; None while there is none."""
        found = self._open().execute("SELECT answer FROM request WHERE id = ?", (number,)).fetchone()  # fmt: skip
        if found is None or found[0] is None:
            return None
        answer: dict[str, Any] = loads(found[0])
        return answer

    def rows(self, limit: int) -> "list[Row]":
        """Return the rows of the outbox: those that wait, then the newest others."""
        return self._rows("ORDER BY state != 'waiting', made_unix_s DESC LIMIT ?", (limit,))

    def row(self, message: str, channel: str) -> "Row | None":
        """Return one row."""
        return next(iter(self._rows("WHERE message = ? AND channel = ?", (message, channel))), None)

    # -- private -----------------------------------------------------------------------------------

    def _rows(self, rest: str, values: "tuple[object, ...]") -> "list[Row]":
        found = self._open().execute(f"SELECT {_COLUMNS} FROM outbox {rest}", values)  # noqa: S608 -- both parts are ours
        return [_row(values) for values in found]

    def _open(self) -> sqlite3.Connection:
        if self._connection is not None:
            return self._connection
        os.makedirs(os.path.dirname(self.path), mode=0o700, exist_ok=True)
        connection = sqlite3.connect(self.path, timeout=_BUSY_S, isolation_level=None)
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            connection.executescript(_SCHEMA)
        except sqlite3.Error:
            connection.close()
            raise
        self._connection = connection
        return connection

    def close(self) -> None:
        """Let go of the file; the next call opens it again."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _row(values: "tuple[Any, ...]") -> Row:
    message, channel, alert, change, body, *others = values
    return Row(message, channel, alert, change, loads(body), *others)


class Outbox:
    """The rows that wait, in memory, and what of them the file does not know yet."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.waiting: dict[tuple[str, str], Row] = {}
        self._unsaved: dict[tuple[str, str], Row] = {}
        self._answers: dict[int, dict[str, Any]] = {}
        self._memory: dict[str, str] = {}
        self.trouble = ""  #: why nothing can be written at this moment

    def load(self) -> "dict[str, Any]":
        """Return the memory that was left; waiting rows are taken up."""
        memory, rows = self._store.load()
        self.waiting = {(row.message, row.channel): row for row in rows}
        return memory

    def add(self, row: Row) -> None:
        """Put a message on its way; the same one a second time changes nothing."""
        self.waiting.setdefault((row.message, row.channel), row)
        self.changed(row)

    def changed(self, row: Row) -> None:
        """Have a row written."""
        if row.state != WAITING:
            self.waiting.pop((row.message, row.channel), None)
        self._unsaved[row.message, row.channel] = row

    def answer(self, number: int, body: "dict[str, Any]") -> None:
        """Have a request answered."""
        self._answers[number] = body

    def is_answered(self, number: int) -> bool:
        """Whether a request has its answer, although that may not be written yet."""
        return number in self._answers

    def save(self, memory: "dict[str, Any]") -> bool:
        """Write what changed, if anything did; False when it could not be written and is kept here."""
        texts = {name: dumps(value) for name, value in memory.items()}
        if texts == self._memory and not self._unsaved and not self._answers:
            return True
        try:
            self._store.save(texts, self._unsaved.values(), self._answers.items())
        except (sqlite3.Error, OSError) as error:
            self.trouble = str(error)
            self._store.close()
            return False
        self.trouble = ""
        self._memory = texts
        self._unsaved.clear()
        self._answers.clear()
        return True
