"""The cards: what is written on them, and where they are. The master of the board.

Every change is a record of an append-only journal before it is in memory, and in memory before anybody hears of it, so
a kill at any instant loses no change that somebody was told of. Each can be made twice without harm: who does not know
whether a change arrived makes it again. Left out: who is here (presence), and where mice are (nobody's business but the
browsers').
"""

from collections import deque
from pathlib import Path
from typing import Any

from clandeck.files import Journal
from holdfast.bus.errors import error
from holdfast.sdk import Component, progress

app = Component()

COLUMNS = ("todo", "doing", "done")
LONGEST_TEXT = 500
MOST_CARDS = 500
#: The journal is written anew, with the cards as they are and the last changes, at this size.
COMPACT_BYTES = 1_000_000
#: So many changes are kept for components that were away (`changes`).
KEPT_CHANGES = 500

WELCOME = (
    ("todo", "Drag me: everybody sees it move"),
    ("todo", "Write @your-name on a card, and you get a mail (a file in data/outbox)"),
    ("doing", "kill -9 any process of this site, and go on working"),
    ("done", "Open this page in a second browser"),
)


@error("clandeck.error.refused")
class Refused(Exception):  # noqa: N818 -- reads as what it says
    """The board does not take this change; the text is for the person who made it."""


class Board:
    """What the journal says."""

    journal: Journal
    cards: dict[str, dict[str, Any]] = {}  # noqa: RUF012 -- the one board there is
    changes: deque[dict[str, Any]] = deque(maxlen=KEPT_CHANGES)  # noqa: RUF012
    number = 0


@app.on_start
def begin() -> None:
    """Replay the journal."""
    Board.cards, Board.number = {}, 0
    Board.changes.clear()
    Board.journal = Journal(Path(app.settings["data"]) / "board.journal")
    for record in Board.journal.records:
        if "cards" in record:
            Board.cards, Board.number = record["cards"], record["number"]
            Board.changes.extend(record["changes"])
        else:
            take(record)
    if not Board.number:
        for place, (column, text) in enumerate(WELCOME):
            change("add", f"welcome-{place}", "clandeck", column=column, place=float(place), text=text)  # fmt: skip
    app.log.info("replayed", changes=len(Board.journal.records), cards=len(Board.cards), torn_bytes=Board.journal.torn_bytes)  # fmt: skip
    Board.journal.records = []
    # Killed between the journal and the event, nobody was told of the last change: who has another number asks again.
    app.publish("clandeck.board.on_begin", {"number": Board.number, "what": "begin"})


@app.procedure("clandeck.board.list")
def everything() -> dict[str, Any]:
    """Return all cards, and the number of the last change: events with a higher one are news."""
    return {"number": Board.number, "columns": COLUMNS, "cards": list(Board.cards.values())}


@app.procedure("clandeck.board.changes")
def changes(after: int) -> dict[str, Any]:
    """Return what was changed after a number; `complete` is false where it is too long ago to tell."""
    news = [one for one in Board.changes if one["number"] > after]
    first = Board.changes[0]["number"] if Board.changes else Board.number + 1
    return {"number": Board.number, "changes": news, "complete": first <= after + 1}


@app.procedure("clandeck.board.add")
def add(card: str, column: str, place: float, text: str, *, details: Any) -> dict[str, Any]:
    """Add a card under an id that the caller has made up; the same one again is the same card."""
    if card in Board.cards:
        return as_of_now(card)
    if not (0 < len(card) <= 64 and card.isascii() and card.replace("-", "").isalnum()):
        raise Refused("the id of a card is up to 64 letters, digits and hyphens")
    if len(Board.cards) >= MOST_CARDS:
        raise Refused(f"the board is full: it holds {MOST_CARDS} cards")
    change("add", card, who(details), column=column_of(column), place=float(place), text=text_of(text))  # fmt: skip
    return as_of_now(card)


@app.procedure("clandeck.board.move")
def move(card: str, column: str, place: float, *, details: Any) -> dict[str, Any]:
    """Put a card somewhere else: cards of a column are ordered by their places."""
    there = card_of(card)
    if (there["column"], there["place"]) != (column, float(place)):
        change("move", card, who(details), column=column_of(column), place=float(place))
    return as_of_now(card)


@app.procedure("clandeck.board.edit")
def edit(card: str, text: str, *, details: Any) -> dict[str, Any]:
    """Write something else on a card."""
    if card_of(card)["text"] != text_of(text):
        change("edit", card, who(details), text=text_of(text))
    return as_of_now(card)


@app.procedure("clandeck.board.delete")
def delete(card: str, *, details: Any) -> dict[str, Any]:
    """Take a card away; one that is gone already is no fault."""
    if card in Board.cards:
        change("delete", card, who(details), text=Board.cards[card]["text"])
    return as_of_now(card)


@app.every(5)
def compact() -> None:
    """Say how it stands, and keep the journal short."""
    app.gauge("cards", len(Board.cards))
    if Board.journal.size() > COMPACT_BYTES:
        whole = {"number": Board.number, "cards": Board.cards, "changes": list(Board.changes)}
        Board.journal.rewrite([whole])
        app.log.info("compacted", cards=len(Board.cards), bytes=Board.journal.size())


@app.health
def readable() -> bool:
    """A board whose file is gone cannot serve."""
    return (Path(app.settings["data"]) / "board.journal").exists()


def change(what: str, card: str, by: str, **facts: Any) -> None:
    """Carry a change out: on disk, in memory, to everybody. All of this runs in one thread."""
    made = {"number": Board.number + 1, "what": what, "card": card, "by": by, **facts}
    Board.journal.append(made)
    take(made)
    app.publish(f"clandeck.board.on_{what}", made)
    progress(f"{what} {card}")


def take(made: dict[str, Any]) -> None:
    """Put a change into memory."""
    card = made["card"]
    if made["what"] == "delete":
        Board.cards.pop(card, None)
    else:
        known = Board.cards.setdefault(card, {"id": card, "author": made["by"]})
        known |= {key: made[key] for key in ("column", "place", "text") if key in made}
    Board.number = made["number"]
    Board.changes.append(made)


def as_of_now(card: str) -> dict[str, Any]:
    """Return what a caller gets: the card, and how far it is ahead of the events that it has seen."""
    return {"number": Board.number, "card": Board.cards.get(card)}


def card_of(card: str) -> dict[str, Any]:
    """Find a card."""
    if card not in Board.cards:
        raise Refused("somebody has deleted this card")
    return Board.cards[card]


def column_of(column: str) -> str:
    """Check the name of a column."""
    if column not in COLUMNS:
        raise Refused(f"there is no column {column!r}")
    return column


def text_of(text: str) -> str:
    """Check what is to be written on a card."""
    text = text.strip()
    if not text:
        raise Refused("a card needs a text")
    if len(text) > LONGEST_TEXT:
        raise Refused(f"a card has room for {LONGEST_TEXT} characters")
    return text


def who(details: Any) -> str:
    """Return who asked for it: the router tells, not the caller."""
    return str(details.caller_authid or "somebody")
