"""The cards and their places. The master: an append-only journal that survives a kill at any instant."""

import random
from pathlib import Path

from clandeck.files import Journal
from holdfast.sdk import Component, progress

app = Component()
places: dict[str, int] = {}
#: The journal is written anew, with the last place of each card only, at this size.
COMPACT_BYTES = 1_000_000


class Board:
    """The open journal."""

    journal: Journal


def file() -> Path:
    """Return where the journal is."""
    return Path(app.settings["data"]) / "board.journal"


@app.on_start
def begin() -> None:
    """Replay the journal."""
    Board.journal = Journal(file())
    places.update((card, place) for card, place in Board.journal.records)
    app.log.info("replayed", moves=len(Board.journal.records), cards=len(places), torn_bytes=Board.journal.torn_bytes)  # fmt: skip


@app.every(0.2)
def move() -> None:
    """Somebody moves a card; on disk first, then in memory."""
    card, place = f"card-{random.randrange(200)}", random.randrange(10)
    Board.journal.append([card, place])
    places[card] = place
    app.work()
    progress(f"moved {card}")


@app.every(5)
def tell() -> None:
    """Say how it stands, and keep the journal short."""
    app.log.info("board", cards=len(places), bytes=Board.journal.size())
    if Board.journal.size() > COMPACT_BYTES:
        shorter = file().with_suffix(".new")
        shorter.unlink(missing_ok=True)
        journal = Journal(shorter)
        for card, place in places.items():
            journal.append([card, place])
        shorter.rename(file())
        Board.journal = journal


@app.health
def readable() -> bool:
    """A board whose file is gone cannot serve."""
    return file().exists()
