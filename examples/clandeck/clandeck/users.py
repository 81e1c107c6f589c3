"""Who is signed in? Sessions in SQLite, so that a cookie outlives a crash."""

import secrets
import sqlite3
import time
from pathlib import Path

from holdfast.sdk import Component

app = Component()


class Store:
    """The open database; every function below runs in the one thread that opened it."""

    sessions: sqlite3.Connection


@app.on_start
def begin() -> None:
    """Open the database and see who is still signed in."""
    data = Path(app.settings["data"])
    data.mkdir(parents=True, exist_ok=True)
    Store.sessions = db = sqlite3.connect(data / "users.db", isolation_level=None)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute(
        "CREATE TABLE IF NOT EXISTS session (cookie TEXT PRIMARY KEY, user TEXT, until_unix_s REAL)"
    )
    (count,) = db.execute("SELECT count(*) FROM session").fetchone()
    app.log.info("sessions kept", count=count)


@app.every(1)
def sign_in() -> None:
    """Somebody signs in."""
    cookie, until = secrets.token_urlsafe(12), time.time() + app.settings["session_s"]
    user = f"user-{secrets.randbelow(50)}"
    Store.sessions.execute("INSERT INTO session VALUES (?, ?, ?)", (cookie, user, until))
    app.work()


@app.every(5)
def expire() -> None:
    """Those whose time is over are out."""
    gone = Store.sessions.execute(
        "DELETE FROM session WHERE until_unix_s < ?", (time.time(),)
    ).rowcount
    (count,) = Store.sessions.execute("SELECT count(DISTINCT user) FROM session").fetchone()
    app.log.info("signed in", users=count, expired=gone)


@app.on_stop
def end() -> None:
    """Close the database; nothing depends on it."""
    Store.sessions.close()
