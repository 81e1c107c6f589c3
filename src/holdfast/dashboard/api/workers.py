"""One worker: what the plan says, its lives, its charts, what is wrong with it, and what may be done."""

import time

from holdfast.cli import explain as explaining
from holdfast.cli import snapshot
from holdfast.cli.place import Place
from holdfast.cli.terminal import Paint
from holdfast.cli.tops.feed import Feed
from holdfast.cli.tops.past import Lives, Samples
from holdfast.dashboard import charts, planned
from holdfast.dashboard.state import row_of
from holdfast.model.errors import StateError
from holdfast.records import incidents
from holdfast.wire import sample

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

    from holdfast.cli.tops.past import Life
    from holdfast.dashboard.asking import Ask
    from holdfast.dashboard.site import Site

_INCIDENTS, _LIVES, _EXPLAINED = 20, 200, 3
#: What follows such an option is nobody's business.
_SECRET = ("password", "passwd", "secret", "token", "key", "credential")
#: Keys of the plan that people look for; the environment by name only: there are passwords in it.
_SHOWN = (
    "kind", "argv", "directory", "user", "limits", "restart", "after", "requires", "ready", "heartbeat", "stop", "crash_only", "spare", "autostart",
    "essential", "listen", "detect",
)  # fmt: skip
#: What a worker of each state may be told.
_MAY = {
    "running": ("restart", "stop"), "starting": ("restart", "stop"), "backoff": ("start", "restart", "stop"), "waiting": ("start", "stop"),
    "stopping": (), "down": ("start",), "failed": ("start",), "done": ("start",),
}  # fmt: skip


def worker(site: "Site", ask: "Ask") -> "dict[str, Any]":
    """Return everything about one worker but its figures."""
    name = ask.part("name")
    entry = planned.entry(site.where, name)
    now = site.view.state.get("workers", {}).get(name)
    if now is None:
        now = _seen(site.where, name)
    lives = Lives(site.where.run_dir, name)
    lives.read()
    feed = Feed(site.where.state_dir, name)
    feed.look(_LIVES)
    rows = [row_of(row, feed.verdict(row)) for row in feed.rows[:_INCIDENTS]]
    components = snapshot.component_states(site.where.run_dir, entry, ask=bool(now.get("pid")))
    uses = {one["name"]: one.get("use") for one in entry.get("components") or ()}
    return {
        "name": name,
        "now": now,
        "plan": {
            **{key: entry.get(key) for key in _SHOWN},
            "argv": masked(entry.get("argv") or ()),
            "env": sorted(entry.get("env") or ()),
        },
        "components": [{**one, "use": uses.get(one["name"])} for one in components],
        "lives": told_lives(lives.all()[-_LIVES:], feed.rows),
        "flags": now.get("flags") or [],
        "incidents": rows,
        "explain": explain(site.where, entry, [row["id"] for row in rows[:_EXPLAINED]]),
        "may": may(entry, now),
    }


def _seen(where: Place, name: str) -> "dict[str, Any]":
    """Return how a worker is that no look has seen yet."""
    found = next((one for one in snapshot.take(where, components=False)["workers"] if one["name"] == name), None)  # fmt: skip
    return found or {"state": "down", "pid": None, "flags": [], "up": False}


def told_lives(
    lives: "Iterable[Life]", incidents: "Iterable[Mapping[str, Any]]"
) -> "list[dict[str, Any]]":
    """Return the lives of a worker, oldest first, each with how it ended and the incident about that."""
    of_life: dict[int, str] = {}
    for row in sorted(incidents, key=lambda row: float(row["opened_unix_s"])):
        if row.get("start") is not None:
            of_life[row["start"]] = row[
                "id"
            ]  # the last one of a life is the one that it did not survive
    return [
        {
            "n": life.n, "started_unix_s": round(life.born_s, 2),
            "ended_unix_s": None if life.ended_s is None else round(life.ended_s, 2),
            "cause": life.cause or None, "is_death": life.is_death, "status_words": end_words(life),
            "incident": of_life.get(life.n) if life.is_death else None,
        }
        for life in lives
    ]  # fmt: skip


def end_words(life: "Life") -> str:
    """Return how a life ended; "" while it goes on."""
    from holdfast.diagnosis.words import status_words

    if life.ended_s is None:
        return ""
    how = "ended, nobody saw how" if life.status is None else status_words(life.status)
    why = {"died": "", "remedy": ", by order of the watchdog", "stop": ", asked to", "restart": ", restarted by somebody",
           "apply": ", for a new configuration", "down": ", with the node", "group": ", with its group"}  # fmt: skip
    if why.get(life.cause):
        how = how.partition(": ")[0]  # what a status means where nobody asked: "it ended by itself"
    return how + why.get(life.cause, "")


def masked(argv: "Iterable[str]") -> "list[str]":
    """Return a command line without the values of options that name a secret."""
    found: list[str] = []
    hides = False
    for word in argv:
        name, equals, _ = word.partition("=")
        is_secret = any(part in name.lower() for part in _SECRET)
        if hides and not word.startswith("-"):
            found.append("…")
        elif is_secret and equals:
            found.append(f"{name}=…")
        else:
            found.append(word)
        hides = is_secret and not equals and word.startswith("-")
    return found


def explain(where: Place, entry: "dict[str, Any]", names: "Iterable[str]") -> str:
    """Return what `holdfast explain` says of a worker."""
    found = []
    for name in names:
        try:
            found.append(incidents.load(where.state_dir, name))
        except StateError:
            continue  # removed just now
    lines = explaining.worker_lines(where, planned.header(where), entry, found, Paint(is_on=False))
    return "\n".join(lines)


def may(entry: "Mapping[str, Any]", now: "Mapping[str, Any]") -> "list[str]":
    """Return the orders that make sense now."""
    found = list(_MAY.get(str(now.get("state")), ()))
    if now.get("pid"):
        found += ["profile", "stacks"]
    if entry.get("kind") == "container" and len(entry.get("components") or ()) > 1:
        found.append("isolate")
    if "+" in str(entry.get("name")):
        found.append("join")
    return found


def chart(site: "Site", ask: "Ask") -> "dict[str, Any]":
    """Return the columns of a worker's plots."""
    name = ask.part("name")
    for_s = ask.number("for", 600.0, 10.0, 86400.0)
    since_unix_s = time.time() - for_s
    ring = Samples(site.where.run_dir, name)
    ring.read()
    lives = Lives(site.where.run_dir, name)
    lives.read()
    if not ring.rows and not lives.known:
        planned.entry(site.where, name)  # a name that nobody has is told so
    feed = Feed(site.where.state_dir, name)
    feed.look(100)
    rows = [dict(zip(sample.FIELDS, row, strict=True)) for row in ring.rows]
    return {
        **charts.columns(rows, since_unix_s),
        "starts": [round(life.born_s, 2) for life in lives.all() if life.born_s >= since_unix_s],
        "marks": charts.marks(feed.rows, since_unix_s),
    }
