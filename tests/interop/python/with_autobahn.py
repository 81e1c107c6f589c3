"""Autobahn|Python (asyncio) against a router: cases on standard input, a line for each check on standard output."""

from __future__ import annotations

import asyncio
import json
import ssl
import sys
import traceback
from importlib import import_module
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

import_module("txaio").use_asyncio()
asyncio_wamp = import_module("autobahn.asyncio.wamp")
auth = import_module("autobahn.wamp.auth")
rawsocket = import_module("autobahn.asyncio.rawsocket")
serializer = import_module("autobahn.wamp.serializer")
types = import_module("autobahn.wamp.types")
websocket = import_module("autobahn.asyncio.websocket")
ApplicationError = import_module("autobahn.wamp.exception").ApplicationError

TEXT = 'grüße, 世界, 😀, \u0001 \u2028 "quoted\\"'
BIG = "0123456789abcdef" * 40_000
BINARY = bytes(range(256)) * 800


def report(case: str, check: str, **what: Any) -> None:
    print(json.dumps({"case": case, "check": check, **what}), flush=True)


async def joined(case: dict[str, Any]) -> tuple[Any, Any]:
    """A session, and what resolves when its connection is closed; raises what the router refused it with."""
    session = asyncio_wamp.Session(types.ComponentConfig(realm="realm1"))
    for method, how in (case.get("auth") or {}).items():
        session.add_authenticator(auth.create_authenticator(method, **how))
    loop = asyncio.get_running_loop()
    there: asyncio.Future[Any] = loop.create_future()
    over: asyncio.Future[Any] = loop.create_future()

    def ready(of: Any, details: Any) -> None:
        of.details = details
        there.set_result(of)

    def left(_: Any, details: Any) -> None:
        if not there.done():
            there.set_exception(RuntimeError(f"{details.reason}: {details.message}"))

    session.on("ready", lambda of: ready(of, of.session_details))
    session.on("leave", left)
    session.on("disconnect", lambda *_a, **_k: over.set_result(None))
    parts = urlsplit(case["url"])
    made = serializer.create_transport_serializer(case["serializer"])
    if parts.scheme in ("ws", "wss"):
        factory = websocket.WampWebSocketClientFactory(lambda: session, url=case["url"], serializers=[made])  # fmt: skip
    else:
        factory = rawsocket.WampRawSocketClientFactory(lambda: session, serializer=made)
    if parts.scheme == "unix":
        await loop.create_unix_connection(factory, parts.path)
    else:
        tls = ssl.create_default_context(cafile=case["ca"]) if parts.scheme in ("wss", "rss") else None  # fmt: skip
        await loop.create_connection(factory, parts.hostname, parts.port, ssl=tls)
    return await there, over


async def until(condition: Callable[[], Any]) -> None:
    """Wait for what handlers of the library write down; the check around it has a deadline."""
    while not condition():  # noqa: ASYNC110 -- the conditions are of many kinds
        await asyncio.sleep(0.001)


class Everything:
    """What a pair of sessions does in a case."""

    def __init__(self, case: dict[str, Any], a: Any, b: Any) -> None:
        self.case, self.a, self.b = case, a, b
        self.at = f"com.app.{case['tag']}"

    async def check(self, name: str, of: Callable[[], Awaitable[Any]]) -> None:
        try:
            report(self.case["name"], name, saw=await asyncio.wait_for(of(), self.case["within_s"]))
        except Exception:  # noqa: BLE001 -- whatever it is, it is reported
            report(self.case["name"], name, failed=traceback.format_exc())

    async def do(self) -> None:
        for name in ("call", "progress", "cancel", "error", "missing", "twice", "publish", "patterns", "meta", "gone"):  # fmt: skip
            await self.check(name, getattr(self, name))
        for to in ("json", "msgpack", "cbor"):
            await self.check(f"payload {to}", lambda to=to: self.payload(to))  # type: ignore[misc]

    async def call(self) -> Any:
        async def echo(*args: Any, **kwargs: Any) -> Any:
            return types.CallResult(*args, **kwargs)

        self.registration = await self.b.register(echo, f"{self.at}.echo")
        kwargs = self.case["kwargs"]
        result = await self.a.call(f"{self.at}.echo", *self.case["args"], **kwargs)
        return [list(result.results), result.kwresults]

    async def progress(self) -> Any:
        async def slow(details: Any) -> str:
            for n in range(3):
                details.progress(n)
            return "done"

        await self.b.register(slow, f"{self.at}.slow", options=types.RegisterOptions(details_arg="details"))  # fmt: skip
        chunks: list[Any] = []
        result = await self.a.call(f"{self.at}.slow", options=types.CallOptions(on_progress=chunks.append))  # fmt: skip
        return [chunks, result]

    async def cancel(self) -> Any:
        started, interrupted = asyncio.Event(), asyncio.Event()

        async def never() -> None:
            started.set()
            try:
                await asyncio.Event().wait()
            finally:
                interrupted.set()

        await self.b.register(never, f"{self.at}.never")
        call = self.a.call(f"{self.at}.never")
        await started.wait()
        call.cancel()
        # It hides the router's answer behind a CancelledError of its own; that the callee is told is seen.
        await interrupted.wait()
        said = "wamp.error.canceled" if call.cancelled() else "not cancelled"
        return [said, await self.a.call(f"{self.at}.echo", "still here")]

    async def error(self) -> Any:
        async def broken() -> None:
            raise ApplicationError("com.app.broken", "why", 7, at=3)

        await self.b.register(broken, f"{self.at}.broken")
        try:
            await self.a.call(f"{self.at}.broken")
        except ApplicationError as error:
            return [error.error, list(error.args), {"at": error.kwargs["at"]}]
        return None

    async def missing(self) -> Any:
        try:
            await self.a.call(f"{self.at}.missing")
        except ApplicationError as error:
            return error.error

    async def twice(self) -> Any:
        try:
            await self.a.register(lambda: None, f"{self.at}.echo")
        except ApplicationError as error:
            return error.error

    async def publish(self) -> Any:
        got: dict[str, list[Any]] = {"a": [], "b": []}
        news = f"{self.at}.news"
        mine = await self.a.subscribe(lambda n: got["a"].append(n), news)
        await self.b.subscribe(lambda n: got["b"].append(n), news)
        acknowledged = []
        for n, exclude_me in ((1, False), (2, None), (3, False)):
            options = types.PublishOptions(acknowledge=True, exclude_me=exclude_me)
            acknowledged.append((await self.a.publish(news, n, options=options)).id > 0)
        other = self.b.details.session
        self.a.publish(news, 4, options=types.PublishOptions(exclude=[other]))
        self.a.publish(news, 5, options=types.PublishOptions(eligible=[other]))
        await until(lambda: 5 in got["b"] and 3 in got["a"])
        await mine.unsubscribe()
        return [got["a"], got["b"], acknowledged]

    async def patterns(self) -> Any:
        got: list[Any] = []

        def heard(which: str) -> Any:
            return lambda details: got.append([which, details.topic.removeprefix(self.at)])

        for match, topic in (("prefix", f"{self.at}.p"), ("wildcard", f"{self.at}.w..x"), ("exact", f"{self.at}.end")):  # fmt: skip
            await self.b.subscribe(heard(match), topic, options=types.SubscribeOptions(match=match, details_arg="details"))  # fmt: skip
        for topic in (".p.one", ".w.q.x", ".w.q.y", ".end"):
            self.a.publish(f"{self.at}{topic}")
        await until(lambda: any(which == "exact" for which, _ in got))
        return [[w, t or ".end"] for w, t in got]

    async def meta(self) -> Any:
        listed = await self.a.call("wamp.session.list")
        found = await self.a.call("wamp.session.get", self.b.details.session)
        return [
            {self.a.details.session, self.b.details.session} <= set(listed),
            found["session"] == self.b.details.session,
            await self.a.call("wamp.registration.lookup", f"{self.at}.echo") == self.registration.id,
        ]  # fmt: skip

    async def gone(self) -> Any:
        await self.registration.unregister()
        try:
            await self.a.call(f"{self.at}.echo")
        except ApplicationError as error:
            return error.error

    async def payload(self, to: str) -> Any:
        sent = [TEXT, BIG, BINARY]
        result = await self.a.call(f"com.peer.{to}.echo", *sent)
        seen = await self.a.call(f"com.peer.{to}.seen", *sent)
        await self.a.publish("com.peer.news", *sent, options=types.PublishOptions(acknowledge=True))
        heard = await self.a.call(f"com.peer.{to}.heard")
        return [[x == y for x, y in zip(sent, result.results, strict=True)], seen, heard]


async def run(case: dict[str, Any]) -> None:
    name = case["name"]
    sessions = []
    try:
        if case["do"] == "refused":
            try:
                sessions.append(await asyncio.wait_for(joined(case), case["within_s"]))
            except Exception as error:  # noqa: BLE001 -- what it says is looked at
                report(name, "refused", saw=str(error))
            else:
                report(name, "refused", failed="it joined")
            return
        sessions.append(await asyncio.wait_for(joined(case), case["within_s"]))
        details = sessions[0][0].details
        report(name, "join", saw=[details.authid, details.authrole, details.authmethod])
        if case["do"] == "everything":
            sessions.append(await asyncio.wait_for(joined(case), case["within_s"]))
            await Everything(case, sessions[0][0], sessions[1][0]).do()
    except Exception:  # noqa: BLE001 -- whatever it is, it is reported
        report(name, "join", failed=traceback.format_exc())
    finally:
        for session, over in sessions:
            session.leave()
            await asyncio.wait({over}, timeout=case["within_s"])


async def main() -> None:
    asyncio.get_running_loop().set_exception_handler(lambda *_: None)
    for case in json.load(sys.stdin):
        await run(case)


asyncio.run(main())
