#!/usr/bin/env python3
# ruff: noqa: T201 -- it talks to whoever runs it
"""Does the site stay up when any part of it is killed? Fifty simulated users find out.

    holdfast up --detach examples/clandeck/split.toml
    python examples/clandeck/drill.py

Users sign in, keep their cookie, and move their mice and their cards all the time. Then the worker of each component is killed with
SIGKILL, one after the other, and the router last. Meanwhile the other components are asked all the time. In the end
everybody has to be there under the same name, by the cookie alone, and every card where its owner was told that it is. Exit
status 0: all that is so.
"""

import argparse
import asyncio
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from holdfast.bus.connect import Connection, connect
from holdfast.bus.errors import BusError, RemoteError, WampError

HERE = Path(__file__).resolve().parent
REALM = "clandeck"
SLOWNESS = float(os.environ.get("HOLDFAST_SLOWNESS", "1"))
#: What shows that a component answers.
PROBES: dict[str, tuple[Any, ...]] = {
    "presence": ("clandeck.presence.list",),
    "board": ("clandeck.board.list",),
    "search": ("clandeck.search.find", "drag"),
    "audit": ("clandeck.audit.recent", 1),
}
#: Whoever needs another one to answer: search asks the board.
NEEDS = {"search": "board"}
#: Everybody has to be back in this time, and each component, too.
WITHIN_S = 1.0
PATIENCE_S = 15.0


class Outcome(NamedTuple):
    """What one crash did."""

    crashed: str
    back_s: float | None  #: until what was killed served again; None: it did not
    failed: list[str]  #: others that failed meanwhile
    slowest_s: float  #: the longest answer of another component meanwhile
    users: int  #: that are connected afterwards, under the name that they had
    pointers: int  #: movements that others saw meanwhile


class User:
    """One browser: a cookie, a connection, a mouse and a card."""

    def __init__(self, number: int, url: str) -> None:
        self.card = f"drill-{os.getpid()}-{number}"
        self.url = url
        self.name = ""
        self.cookie = ""
        self.told: tuple[str, float] = ("", 0.0)
        self.bus: Connection
        self.seen = 0

    async def sign_in(self) -> None:
        """As a browser does it: the first answer of the router gives a cookie, the sign-in gives it a meaning."""
        self.cookie = await a_cookie(self.url)
        ticket = {"method": "ticket", "authid": "demo", "ticket": "guest"}
        async with connect(self.url, REALM, auth=ticket, headers=[("Cookie", self.cookie)]) as bus:
            self.name = str(bus.authid)
        self.bus = connect(
            self.url, REALM, auth={"method": "cookie", "cookie": self.cookie}, serializers="json"
        )
        await self.bus.open()
        await self.bus.subscribe(self._see, "clandeck.pointer", inline=True)

    def _see(self, *_: Any) -> None:
        self.seen += 1

    async def live(self) -> None:
        """Move the mouse once a second, and the card every other second, until cancelled."""
        number = 0
        await self.insist(
            "clandeck.board.add", self.card, "todo", random.random(), f"the card of {self.name}"
        )
        while True:
            with contextlib.suppress(
                BusError
            ):  # while there is no router, a mouse is not worth keeping
                self.bus.publish(
                    "clandeck.pointer", "todo", random.random(), random.randrange(500), None
                )
            number += 1
            if number % 2 == 1:
                column, place = random.choice(("todo", "doing", "done")), float(number)
                await self.insist("clandeck.board.move", self.card, column, place)
                self.told = (column, place)
            await asyncio.sleep(0.8 + 0.4 * random.random())

    async def insist(self, procedure: str, *args: Any) -> Any:
        """Make a change until it is made: it can be made twice without harm."""
        pause_s = 0.05
        while True:
            try:
                return await self.bus.call(procedure, *args, timeout_s=5)
            except RemoteError:
                raise
            except BusError as error:
                if isinstance(error, WampError) and not error.uri.startswith("wamp."):
                    raise
                await asyncio.sleep(pause_s)
                pause_s = min(1.0, pause_s * 2)

    def is_there(self) -> bool:
        """Tell whether this user is connected, and still the same."""
        return self.bus.is_open and self.bus.authid == self.name


async def a_cookie(url: str) -> str:
    """Get a cookie as a browser gets it: from the answer to a WebSocket's request."""
    host, _, path = url.removeprefix("ws://").partition("/")
    name, _, port = host.partition(":")
    reader, writer = await asyncio.open_connection(name, int(port))
    try:
        writer.write(
            f"GET /{path} HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
            "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Protocol: wamp.2.json\r\n\r\n".encode()
        )
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
    finally:
        writer.close()
    for line in head.split("\r\n"):
        if line.lower().startswith("set-cookie:"):
            return line.partition(":")[2].partition(";")[0].strip()
    raise SystemExit(f"{url} gives no cookie:\n{head}")


class Drill:
    """The users, and what is done to the site."""

    def __init__(self, url: str, users: int, pid_of: Callable[[str], int]) -> None:
        self.url = url
        self.users = [User(number, url) for number in range(users)]
        self.pid_of = pid_of
        self.lost: list[str] = []

    async def run(self, workers: list[str], tell: Callable[[Outcome], None]) -> list[Outcome]:
        """Kill each of these workers in turn."""
        outcomes = []
        for user in self.users:
            await user.sign_in()
        async with asyncio.TaskGroup() as group:
            lives = [group.create_task(user.live()) for user in self.users]
            await self.until(
                lambda: all(user.told[0] for user in self.users), "everybody to move a card"
            )
            for worker in workers:
                outcome = await self.crash(worker)
                tell(outcome)
                outcomes.append(outcome)
            for life in lives:
                life.cancel()
        board = await self.users[0].insist("clandeck.board.list")
        there = {card["id"]: (card["column"], card["place"]) for card in board["cards"]}
        # Whoever was cancelled in the middle of a move does not know about that one: its place may be a later one.
        self.lost = [
            user.card for user in self.users
            if user.card not in there or (there[user.card] != user.told and there[user.card][1] <= user.told[1])
        ]  # fmt: skip
        for user in self.users:
            with contextlib.suppress(BusError):
                await user.bus.call("clandeck.board.delete", user.card)
            await user.bus.close()
        return outcomes

    async def crash(self, worker: str) -> Outcome:
        """Kill one worker, and see what everybody notices."""
        seen = sum(user.seen for user in self.users)
        others = [name for name in PROBES if name != worker and NEEDS.get(name) != worker]
        watching = [asyncio.create_task(self.watch(name)) for name in others if worker != "router"]
        killed = await asyncio.to_thread(self.pid_of, worker)
        began_s = time.monotonic()
        os.kill(killed, signal.SIGKILL)
        back_s = await self.back(worker, killed, began_s)
        # Go on for a moment: a component that is taken along falls later.
        await asyncio.sleep(0.3)
        # A busy machine may not have moved a single mouse in that time.
        until_s = time.monotonic() + 5.0 * SLOWNESS
        while sum(u.seen for u in self.users) == seen and time.monotonic() < until_s:  # noqa: ASYNC110 -- nobody sets an event
            await asyncio.sleep(0.02)
        failed, slowest_s = [], 0.0
        for name, task in zip(others, watching, strict=False):
            task.cancel()
            faults, longest_s = await task
            failed += [f"{name}: {fault}" for fault in faults[:1]]
            slowest_s = max(slowest_s, longest_s)
        users = sum(user.is_there() for user in self.users)
        return Outcome(
            worker, back_s, failed, slowest_s, users, sum(u.seen for u in self.users) - seen
        )

    async def back(self, worker: str, killed: int, began_s: float) -> float | None:
        """Return how long it took until it served again."""
        before = {user.bus.id for user in self.users}
        while time.monotonic() < began_s + PATIENCE_S * SLOWNESS:
            try:
                if await self.serves(worker, killed, before):
                    return time.monotonic() - began_s
            except (BusError, OSError):
                pass  # not yet
            await asyncio.sleep(0.01)
        return None

    async def serves(self, worker: str, killed: int, before: set[int | None]) -> bool:
        """Try whether it does again what it is there for."""
        if worker == "router":
            if not all(user.is_there() and user.bus.id not in before for user in self.users):
                return False
            await self.users[0].bus.call(*PROBES["board"], timeout_s=2)
        elif worker == "users":
            ticket = {"method": "ticket", "authid": "demo", "ticket": "guest"}
            async with connect(self.url, REALM, auth=ticket):
                pass
        elif worker in PROBES:
            await self.users[0].bus.call(*PROBES[worker], timeout_s=2)
        else:  # nobody calls it: it is back when there is another process
            return await asyncio.to_thread(self.pid_of, worker) not in (0, killed)
        return True

    async def watch(self, name: str) -> tuple[list[str], float]:
        """Ask a component all the time, until cancelled; return what went wrong, and the longest answer."""
        faults: list[str] = []
        longest_s = 0.0
        with contextlib.suppress(asyncio.CancelledError):
            while True:
                asked_s = time.monotonic()
                try:
                    await self.users[-1].bus.call(*PROBES[name], timeout_s=5)
                except BusError as error:
                    faults.append(str(error))
                longest_s = max(longest_s, time.monotonic() - asked_s)
                await asyncio.sleep(0.02)
        return faults, longest_s

    async def until(self, condition: Callable[[], bool], what: str) -> None:
        """Wait for something."""
        until_s = time.monotonic() + PATIENCE_S * SLOWNESS
        while not condition():
            if time.monotonic() > until_s:
                raise SystemExit(f"waited in vain for {what}")
            await asyncio.sleep(0.02)


def is_good(outcome: Outcome, users: int, within_s: float) -> bool:
    """Tell whether one crash went as it should."""
    return (
        outcome.back_s is not None
        and outcome.back_s <= within_s * SLOWNESS
        and not outcome.failed
        and outcome.users == users
        and outcome.pointers > 0
    )


def main() -> int:
    """Run the drill against the node of split.toml, and print what happened."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--users", type=int, default=50)
    parser.add_argument(
        "--only", nargs="*", help="workers to crash (default: each component, then the router)"
    )
    parser.add_argument(
        "--within",
        type=float,
        default=WITHIN_S,
        metavar="SECONDS",
        help="what was killed has to serve again in this time (default: 1)",
    )
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    config = str(HERE / "split.toml")

    def pid_of(worker: str) -> int:
        asked = [sys.executable, "-m", "holdfast", "-c", config, "status", "--json"]
        done = subprocess.run(asked, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(
                f"{done.stderr.strip()}\n  the drill needs the site: holdfast up --detach {config}"
            )
        return next(
            int(one["pid"] or 0)
            for one in json.loads(done.stdout)["workers"]
            if one["name"] == worker
        )

    workers = given.only or ["presence", "board", "users", "mailout", "audit", "search", "router"]
    drill = Drill(
        f"ws://127.0.0.1:{os.environ.get('CLANDECK_PORT', '8080')}/ws", given.users, pid_of
    )
    pid_of(workers[0])
    if not given.json:
        print(f"{given.users} users sign in, and move mice and cards\n")
        print("crash      back      others                    slowest   signed in   pointer events")

    def tell(one: Outcome) -> None:
        if not given.json:
            back = f"{one.back_s * 1000:.0f} ms" if one.back_s is not None else "never"
            says = "; ".join(one.failed) or ("-" if one.crashed == "router" else "go on working")
            slowest = f"{one.slowest_s * 1000:.0f} ms" if one.slowest_s else "-"
            print(
                f"{one.crashed:<10} {back:<9} {says:<25} {slowest:<9} {one.users} of {given.users:<4} {one.pointers}"
            )

    outcomes = asyncio.run(drill.run(workers, tell))
    good = sum(is_good(one, given.users, given.within) for one in outcomes)
    if given.json:
        print(json.dumps({"crashes": [one._asdict() for one in outcomes], "lost": drill.lost}))
    else:
        print(
            f"\n{good} of {len(outcomes)} crashes as they should be; {len(drill.lost)} of {given.users} cards lost"
        )
    return 0 if good == len(outcomes) and not drill.lost else 1


if __name__ == "__main__":
    sys.exit(main())
