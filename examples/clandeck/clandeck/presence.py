"""Who is online? In memory only: after a crash the router tells it again.

Mice do not come through here: browsers publish where theirs is, and the router hands that to all others. This component
may be away for a while, and the mice go on moving.
"""

import asyncio
from typing import Any

from clandeck import cache
from holdfast.bus.errors import BusError, WampError
from holdfast.sdk import Component

app = Component()
#: Session -> who that is; a person with two tabs is there twice.
sessions: dict[int, str] = {}
#: Who came and went while the router is being asked who is there: that is newer than its answer.
came: set[int] = set()
gone: set[int] = set()


@app.on_start
async def begin() -> None:
    """Listen first, then ask who is there: nobody falls between the two."""
    sessions.clear()
    await app.call("wamp.session.count")  # waits for a router
    await app.session.subscribe(joined, "wamp.session.on_join")
    await app.session.subscribe(left, "wamp.session.on_leave")
    await ask()
    app.log.info("doors open", online=len(names()))


@app.task
async def after_a_restart_of_the_router() -> None:
    """All sessions are new ones then."""
    again = asyncio.Event()
    app.session.on_join(lambda _: again.set())
    while True:
        await again.wait()
        again.clear()
        await app.session.wait_declared()
        try:
            await ask()
        except BusError as error:
            app.log.info("asking again", says=str(error))
            again.set()
            await asyncio.sleep(0.1)  # the pause between two attempts, not a wait for something


async def ask() -> None:
    """Make the list anew."""
    came.clear()
    gone.clear()
    found: dict[int, str] = {}
    for session in await app.call("wamp.session.list", ["user"]):
        try:
            found[session] = (await app.call("wamp.session.get", session))["authid"]
        except WampError:
            gone.add(session)
    for session in sessions.keys() - found.keys() - came:
        del sessions[session]
    for session in found.keys() - gone:
        sessions[session] = found[session]
    tell()


def joined(session: dict[str, Any]) -> None:
    """Somebody has come; components are not somebody."""
    if session.get("authrole") == "user":
        sessions[session["session"]] = session["authid"]
        came.add(session["session"])
        tell()


def left(session: int, *_: Any) -> None:
    """Somebody has gone."""
    if sessions.pop(session, None) is not None:
        came.discard(session)
        gone.add(session)
        tell()


@app.procedure("clandeck.presence.list", inline=True)
def names() -> list[str]:
    """Return who is online, in the order of the alphabet."""
    return sorted(set(sessions.values()), key=str.casefold)


@app.every(5, timeout=3)
async def count() -> None:
    """Leave the number in the cache and in the metrics."""
    app.gauge("online", len(names()))
    came.intersection_update(sessions)
    await cache.ask(int(app.settings["cache_port"]), "SET", "clandeck:online", str(len(names())))


def tell() -> None:
    """Publish who is there."""
    app.publish("clandeck.presence.on_change", names())
