"""What has happened, in a chain in which nothing can be changed or left out without being noticed.

It hears of everything by one pattern subscription, without any other component knowing. What happens while it is being restarted is
not in the chain (the board's own journal has it); what is in it is whole.
"""

import hashlib
import json
import time
from collections import deque
from pathlib import Path
from typing import Any

from clandeck.files import Journal
from holdfast.sdk import Component

app = Component()
START = "0" * 64
#: So many entries are told to whoever asks.
KEPT = 100
#: The chain goes on in a new file at this size; the old one is kept beside it.
FULL_BYTES = 10_000_000


class Chain:
    """The journal and the digest that the next entry continues."""

    journal: Journal
    last = START
    length = 0
    recent: deque[dict[str, Any]] = deque(maxlen=KEPT)  # noqa: RUF012 -- the one chain there is


def digest(before: str, text: str) -> str:
    """Return what links an entry to everything before it."""
    return hashlib.sha256(f"{before} {text}".encode()).hexdigest()


def file() -> Path:
    """Return where the chain is."""
    return Path(app.settings["data"]) / "audit.journal"


@app.on_start
def begin() -> None:
    """Check the chain from its beginning; a broken one is a crash, and a person has to look."""
    Chain.journal = Journal(file())
    Chain.last, Chain.length = START, 0
    Chain.recent.clear()
    for number, (text, link) in enumerate(Chain.journal.records):
        entry = json.loads(text)
        if number == 0:
            Chain.last = entry.get("continues", START)
        if link != digest(Chain.last, text):
            raise ValueError(f"{file()}: the chain is broken at entry {number}")
        Chain.last = link
        Chain.recent.append(entry)
    Chain.length = len(Chain.journal.records)
    Chain.journal.records = []
    app.log.info("chain is whole", entries=Chain.length)


@app.topic("clandeck.board", match="prefix")
def note(change: dict[str, Any], *, details: Any) -> None:
    """Add an entry for whatever happens on the board."""
    entry = {"at_unix_s": round(time.time(), 3), "topic": details.topic, **change}
    if Chain.journal.size() > FULL_BYTES:
        file().rename(file().with_name(f"audit-{time.time_ns() // 1_000_000}.journal"))
        Chain.journal = Journal(file())
        entry["continues"] = Chain.last
    text = json.dumps(entry, separators=(",", ":"))
    link = digest(Chain.last, text)
    Chain.journal.append([text, link])
    Chain.last, Chain.length = link, Chain.length + 1
    Chain.recent.append(entry)


@app.procedure("clandeck.audit.recent")
def recent(most: int = 30) -> list[dict[str, Any]]:
    """Return the last entries, the newest first."""
    return list(Chain.recent)[::-1][: max(0, most)]


@app.every(10)
def tell() -> None:
    """Say how long it is."""
    app.gauge("entries", Chain.length)
