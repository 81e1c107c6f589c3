"""What has happened, in a chain in which nothing can be changed or left out without being noticed."""

import hashlib
from pathlib import Path

from clandeck.files import Journal
from holdfast.sdk import Component

app = Component()
START = "0" * 64


class Chain:
    """The journal and the digest that the next entry continues."""

    journal: Journal
    last = START
    length = 0


def digest(before: str, text: str) -> str:
    """Return what links an entry to everything before it."""
    return hashlib.sha256(f"{before} {text}".encode()).hexdigest()


@app.on_start
def begin() -> None:
    """Check the chain from its beginning; a broken one is a crash, and a person has to look."""
    Chain.journal = Journal(Path(app.settings["data"]) / "audit.journal")
    Chain.last = START
    for number, (text, link) in enumerate(Chain.journal.records):
        if link != digest(Chain.last, text):
            raise ValueError(f"the audit chain is broken at entry {number}")
        Chain.last = link
    Chain.length = len(Chain.journal.records)
    app.log.info("chain is whole", entries=Chain.length)


@app.every(1)
def note() -> None:
    """Add an entry."""
    text = f"entry {Chain.length}"
    link = digest(Chain.last, text)
    Chain.journal.append([text, link])
    Chain.last, Chain.length = link, Chain.length + 1
    app.work()


@app.every(10)
def tell() -> None:
    """Say how long it is."""
    app.log.info("audited", entries=Chain.length)
