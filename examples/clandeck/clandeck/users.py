"""Who may sign in? Names and passwords in SQLite; the router asks when somebody presents a ticket.

The first who signs in under a name chooses its password. That a browser stays signed in is the router's business: its cookie
outlives reloads, and crashes of the router and of this component. Left out: guessing too often, which the router slows
down.
"""

import hashlib
import hmac
import re
import secrets
import sqlite3
import time
from pathlib import Path
from typing import Any

from holdfast.bus.errors import error
from holdfast.sdk import Component

app = Component()

NAME = re.compile(r"[^\W_][\w.-]{0,23}")
#: The name under which everybody gets a new name, without a password.
DEMO = "demo"
ANIMALS = ("Otter", "Heron", "Lynx", "Finch", "Badger", "Newt", "Raven", "Hare", "Seal", "Wren", "Ibex", "Mole")  # fmt: skip
#: scrypt with 16 MB and some 50 ms: what an attacker with the file has to pay for each guess.
COST = {"n": 2**14, "r": 8, "p": 1}


@error("clandeck.error.sign_in")
class NotSignedIn(Exception):  # noqa: N818 -- reads as what it says
    """The text is for the person who tries to sign in."""


class Store:
    """The open database; every function below runs in the one thread that opened it."""

    db: sqlite3.Connection


@app.on_start
def begin() -> None:
    """Open the database."""
    data = Path(app.settings["data"])
    data.mkdir(parents=True, exist_ok=True)
    Store.db = db = sqlite3.connect(data / "users.db", isolation_level=None)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute(
        "CREATE TABLE IF NOT EXISTS user (key TEXT PRIMARY KEY, name TEXT, salt BLOB, hash BLOB, since_unix_s REAL)"
    )
    (count,) = db.execute("SELECT count(*) FROM user").fetchone()
    app.log.info("users known", count=count)


@app.procedure("clandeck.users.authenticate")
def authenticate(realm: str, authid: str | None, details: dict[str, Any]) -> dict[str, Any]:
    """Decide about a ticket: Crossbar.io's signature of a dynamic authenticator."""
    name, password = (authid or "").strip(), str(details.get("ticket") or "")
    if name == DEMO:
        name = f"{secrets.choice(ANIMALS)}-{secrets.randbelow(9000) + 1000}"
        add(name, b"", b"")
        return {"role": "user", "authid": name}
    if not NAME.fullmatch(name):
        raise NotSignedIn("a name has 1 to 24 letters, digits, hyphens, dots or underscores")
    found = Store.db.execute("SELECT name, salt, hash FROM user WHERE key = ?", (name.casefold(),)).fetchone()  # fmt: skip
    if found is None:
        if len(password) < 4:
            raise NotSignedIn("this name is free; choose a password of 4 characters or more")
        salt = secrets.token_bytes(16)
        # Two at once: the first one has the name, and the second has to know the first one's password.
        if add(name, salt, hashed(password, salt)):
            app.log.info("new user", name=name)
            return {"role": "user", "authid": name}
        return authenticate(realm, authid, details)
    name, salt, known = found
    if not known or not hmac.compare_digest(hashed(password, salt), known):
        raise NotSignedIn("this name is taken, and the password is not the one that belongs to it")
    return {"role": "user", "authid": name}


def add(name: str, salt: bytes, made: bytes) -> bool:
    """Add a user; false when the name is taken."""
    row = (name.casefold(), name, salt, made, time.time())
    return Store.db.execute("INSERT OR IGNORE INTO user VALUES (?, ?, ?, ?, ?)", row).rowcount == 1


def hashed(password: str, salt: bytes) -> bytes:
    """Return what is kept of a password."""
    return hashlib.scrypt(password.encode(), salt=salt, **COST)


@app.on_stop
def end() -> None:
    """Close the database; nothing depends on it."""
    Store.db.close()
