"""Where is which card? An index made from the board's journal: it can be thrown away, so it is never saved."""

from collections import defaultdict
from pathlib import Path

from clandeck import cache
from clandeck.files import read_journal
from holdfast.sdk import Component

app = Component()
index: dict[int, set[str]] = {}


@app.every(2)
def build() -> None:
    """Read the journal and make the index anew."""
    moves = read_journal(Path(app.settings["data"]) / "board.journal")
    last: dict[str, int] = dict(moves)  # the last move of a card wins
    found: defaultdict[int, set[str]] = defaultdict(set)
    for card, place in last.items():
        found[place].add(card)
    index.clear()
    index.update(found)
    app.work(len(last))


@app.every(6, timeout=5)
async def tell() -> None:
    """Count the searches in the cache."""
    count = await cache.ask(int(app.settings["cache_port"]), "INCR", "clandeck:searches")
    app.log.info("indexed", places=len(index), searches=count or "cache is away")
