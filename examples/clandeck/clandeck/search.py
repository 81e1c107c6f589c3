"""Where is it written? An index of the board's cards: it can be thrown away, so it is never saved."""

import re
from collections import defaultdict
from typing import Any

from clandeck import cache
from holdfast.sdk import Component

app = Component()
WORD = re.compile(r"\w+")


class Index:
    """Which card has which words, as of which change of the board."""

    words: defaultdict[str, set[str]] = defaultdict(set)  # noqa: RUF012
    cards: dict[str, str] = {}  # noqa: RUF012 -- the one index there is
    number = -1
    searches = 0


@app.on_start
async def begin() -> None:
    """Begin with nothing: the first question makes the index."""
    Index.number, Index.searches = -1, 0


@app.topic("clandeck.board", match="prefix", inline=True)
def follow(change: dict[str, Any]) -> None:
    """Take a change over, if it is the next one; after a gap the index is made anew by the next question."""
    if Index.number < 0 or change["number"] <= Index.number:
        return
    if change["what"] == "begin" or change["number"] != Index.number + 1:
        Index.number = -1
        return
    if "text" in change:
        put(change["card"], "" if change["what"] == "delete" else change["text"])
    Index.number = change["number"]


@app.procedure("clandeck.search.find", timeout=5)
async def find(text: str) -> list[str]:
    """Return the cards that have all these words, or words that begin so."""
    # An event may be missed without a later one to tell; so the board's number is asked for, and costs a round trip.
    news = await app.call("clandeck.board.changes", max(Index.number, 0), timeout_s=3)
    if Index.number < 0 or not news["complete"]:
        everything = await app.call("clandeck.board.list", timeout_s=3)
        Index.words.clear()
        Index.cards.clear()
        for card in everything["cards"]:
            put(card["id"], card["text"])
        Index.number = everything["number"]
    else:
        for change in news["changes"]:
            follow(change)
    Index.searches += 1
    wanted = WORD.findall(text.casefold())
    if not wanted:
        return []
    found = [{card for known, cards in Index.words.items() if known.startswith(word) for card in cards} for word in wanted]  # fmt: skip
    return sorted(set.intersection(*found))


@app.every(5, timeout=5)
async def tell() -> None:
    """Count the searches in the cache."""
    if Index.searches:
        port = int(app.settings["cache_port"])
        answer = await cache.ask(port, "INCR", "clandeck:searches")
        app.log.info("searched", times=Index.searches, ever=answer or "cache is away")
        Index.searches = 0


def put(card: str, text: str) -> None:
    """Put the words of a card into the index, and take its old ones out."""
    for word in WORD.findall(Index.cards.pop(card, "").casefold()):
        Index.words[word].discard(card)
        if not Index.words[word]:
            del Index.words[word]
    if text:
        Index.cards[card] = text
        for word in WORD.findall(text.casefold()):
            Index.words[word].add(card)
