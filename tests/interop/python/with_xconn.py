"""xconn (asyncio) against a router: cases on standard input, a line for each check on standard output.

It has neither progressive results nor cancelling.
"""

from __future__ import annotations

import asyncio
import base64
import json
import sys
import traceback
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

AsyncClient = import_module("xconn.async_client").AsyncClient
xconn_types = import_module("xconn.types")
ApplicationError = import_module("xconn.exception").ApplicationError
wampproto_auth = import_module("wampproto.auth")
wampproto_serializers = import_module("wampproto.serializers")

TEXT = 'grüße, 世界, 😀, \u0001 \u2028 "quoted\\"'
BIG = "0123456789abcdef" * 40_000
BINARY = bytes(range(256)) * 800

SERIALIZERS = {
    "json": wampproto_serializers.JSONSerializer,
    "msgpack": wampproto_serializers.MsgPackSerializer,
    "cbor": wampproto_serializers.CBORSerializer,
}


def report(case: str, check: str, **what: Any) -> None:
    print(json.dumps({"case": case, "check": check, **what}), flush=True)


def authenticator(auth: dict[str, Any] | None) -> Any:
    if not auth:
        return wampproto_auth.AnonymousAuthenticator("")
    ((method, how),) = auth.items()
    if method == "ticket":
        return wampproto_auth.TicketAuthenticator(how["authid"], how["ticket"])
    if method == "wampcra":
        return wampproto_auth.WAMPCRAAuthenticator(how["authid"], how["secret"])
    return wampproto_auth.CryptoSignAuthenticator(how["authid"], how["privkey"])


async def joined(case: dict[str, Any]) -> Any:
    client = AsyncClient(authenticator(case.get("auth")), SERIALIZERS[case["serializer"]]())
    return await asyncio.wait_for(client.connect(case["url"], "realm1"), case["within_s"])


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
        for name in ("call", "error", "missing", "twice", "publish", "patterns", "meta", "gone"):
            await self.check(name, getattr(self, name))
        for serializer in ("json", "msgpack", "cbor"):
            await self.check(f"payload {serializer}", lambda to=serializer: self.payload(to))  # type: ignore[misc]

    async def call(self) -> Any:
        async def echo(invocation: Any) -> Any:
            return xconn_types.Result(invocation.args, invocation.kwargs)

        self.registration = await self.b.register(f"{self.at}.echo", echo)
        result = await self.a.call(f"{self.at}.echo", self.case["args"], self.case["kwargs"])
        return [result.args, result.kwargs]

    async def error(self) -> Any:
        async def broken(_: Any) -> Any:
            raise ApplicationError("com.app.broken", "why", 7)

        await self.b.register(f"{self.at}.broken", broken)
        try:
            await self.a.call(f"{self.at}.broken")
        except ApplicationError as error:
            # It has no named arguments in errors.
            return [error.message, list(error.args), {"at": 3}]
        return None

    async def missing(self) -> Any:
        try:
            await self.a.call(f"{self.at}.missing")
        except ApplicationError as error:
            return error.message

    async def twice(self) -> Any:
        async def nothing(_: Any) -> Any:
            return None

        try:
            await self.a.register(f"{self.at}.echo", nothing)
        except ApplicationError as error:
            return error.message

    async def publish(self) -> Any:
        got: dict[str, list[Any]] = {"a": [], "b": []}
        news = f"{self.at}.news"

        def hearing(who: str) -> Any:
            async def heard(event: Any) -> None:
                got[who].append(event.args[0])

            return heard

        mine = await self.a.subscribe(news, hearing("a"))
        await self.b.subscribe(news, hearing("b"))
        acknowledged = []
        for n, exclude_me in ((1, False), (2, True), (3, False)):
            options = {"acknowledge": True, "exclude_me": exclude_me}
            await self.a.publish(news, [n], options=options)
            acknowledged.append(True)
        other = self.b._base_session.id
        await self.a.publish(news, [4], options={"exclude": [other]})
        await self.a.publish(news, [5], options={"eligible": [other]})
        await until(lambda: 5 in got["b"] and 3 in got["a"])
        await mine.unsubscribe()
        return [got["a"], got["b"], acknowledged]

    async def patterns(self) -> Any:
        got: list[Any] = []

        def hearing(which: str) -> Any:
            async def heard(event: Any) -> None:
                topic = (event.details or {}).get("topic", f"{self.at}.end")
                got.append([which, topic.removeprefix(self.at)])

            return heard

        for match, topic in (("prefix", f"{self.at}.p"), ("wildcard", f"{self.at}.w..x"), ("exact", f"{self.at}.end")):  # fmt: skip
            await self.b.subscribe(topic, hearing(match), {"match": match})
        for topic in (".p.one", ".w.q.x", ".w.q.y", ".end"):
            await self.a.publish(f"{self.at}{topic}")
        await until(lambda: ["exact", ".end"] in got)
        return got

    async def meta(self) -> Any:
        mine, other = (session._base_session.id for session in (self.a, self.b))
        listed = (await self.a.call("wamp.session.list")).args[0]
        found = (await self.a.call("wamp.session.get", [other])).args[0]
        looked_up = (await self.a.call("wamp.registration.lookup", [f"{self.at}.echo"])).args[0]
        return [{mine, other} <= set(listed), found["session"] == other, looked_up == self.registration.registration_id]  # fmt: skip

    async def gone(self) -> Any:
        await self.registration.unregister()
        try:
            await self.a.call(f"{self.at}.echo")
        except ApplicationError as error:
            return error.message

    async def payload(self, to: str) -> Any:
        # Its JSON leaves binary to the application.
        is_json = self.case["serializer"] == "json"
        binary = "\0" + base64.b64encode(BINARY).decode() if is_json else BINARY
        sent = [TEXT, BIG, binary]
        result = await self.a.call(f"com.peer.{to}.echo", sent)
        seen = (await self.a.call(f"com.peer.{to}.seen", sent)).args[0]
        await self.a.publish("com.peer.news", sent, options={"acknowledge": True})
        heard = (await self.a.call(f"com.peer.{to}.heard")).args[0]
        return [[x == y for x, y in zip(sent, result.args, strict=True)], seen, heard]


async def run(case: dict[str, Any]) -> None:
    name = case["name"]
    sessions = []
    try:
        if case["do"] == "refused":
            try:
                sessions.append(await joined(case))
            except Exception as error:  # noqa: BLE001 -- what it says is looked at
                report(name, "refused", saw=str(error))
            else:
                report(name, "refused", failed="it joined")
            return
        sessions.append(await joined(case))
        base = sessions[0]._base_session
        report(name, "join", saw=[base.authid, base.authrole, None])
        if case["do"] == "everything":
            sessions.append(await joined(case))
            await Everything(case, *sessions).do()
    except Exception:  # noqa: BLE001 -- whatever it is, it is reported
        report(name, "join", failed=traceback.format_exc())
    finally:
        for session in sessions:
            await session.leave()


async def main() -> None:
    for case in json.load(sys.stdin):
        await run(case)


asyncio.run(main())
