"""Sign-in over real sockets: our client, the real router, every method; cookies through the death of a router."""

from __future__ import annotations

import asyncio
import re
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from holdfast.bus.connect import connect
from holdfast.bus.errors import JoinRefused, WampError, error
from holdfast.core.wamp.auth.scram import scram_credentials
from holdfast.core.wamp.auth.wampcra import derive_wampcra
from holdfast.router import alone
from router.peers import (
    ABORT,
    DEADLINE_S,
    GOODBYE,
    HELLO,
    ROLES,
    WELCOME,
    Running,
    WebSocketPeer,
    wait_until,
)

if TYPE_CHECKING:
    from pathlib import Path

CHALLENGE, AUTHENTICATE = 4, 5
SEED = "4d57d97a68f555696620a6d849c0ce582568518d729eb753dc7c732de2804510"
PUBLIC = "1adfc8bfe1d35616e64dffbd900096f23b066f914c8c2ffbb66f6075b96e116d"
ROLE = {"role": "anonymous"}
STATIC: dict[str, Any] = {
    "ticket": {"type": "static", "principals": {"joe": {"ticket": "secret!", **ROLE}}},
    "wampcra": {"type": "static", "users": {
        "joe": {"secret": derive_wampcra("secret!", "salt", 100, 32), "salt": "salt", "iterations": 100, "keylen": 32, **ROLE}}},
    "scram": {"type": "static", "users": {"joe": {**scram_credentials("secret!", b"saltsalt", 4096), **ROLE}}},
    "cryptosign": {"type": "static", "principals": {"joe": {"authorized_keys": [PUBLIC], **ROLE}}},
}  # fmt: skip
CREDENTIALS = {
    "ticket": {"ticket": "secret!"},
    "wampcra": {"secret": "secret!"},
    "scram": {"password": "secret!"},
    "cryptosign": {"private_key": SEED},
}
WRONG = {
    "ticket": {"ticket": "guess"},
    "wampcra": {"secret": "guess"},
    "scram": {"password": "guess"},
    "cryptosign": {"private_key": SEED[::-1]},
}


def url(running: Running, kind: str, listener: str = "t0") -> str:
    host, port = running.address(listener)
    return f"{kind}://{host}:{port}" + ("/" if kind == "ws" else "")


async def who_am_i(where: str, auth: dict[str, Any]) -> tuple[str, str]:
    """Join, look, leave."""
    async with connect(where, "realm1", auth=auth, open_s=DEADLINE_S) as session:
        details = session.session.details  # type: ignore[union-attr]
        return details["authid"], details["authmethod"]


@pytest.mark.parametrize("kind", ["ws", "rs"])
@pytest.mark.parametrize("method", sorted(STATIC))
def test_every_method_signs_in_over_every_transport(
    running: Running, method: str, kind: str
) -> None:
    """And refuses a wrong proof with words that name neither name nor secret."""
    pytest.importorskip("cryptography")
    running.start(alone.transport("t0", auth=STATIC))
    where = url(running, kind)

    signed_in = asyncio.run(
        who_am_i(where, {"method": method, "authid": "joe", **CREDENTIALS[method]})
    )
    assert signed_in == ("joe", "wamp-scram" if method == "scram" else method)
    with pytest.raises(JoinRefused, match="name or secret are wrong") as caught:
        asyncio.run(who_am_i(where, {"method": method, "authid": "joe", **WRONG[method]}))
    assert caught.value.uri == "wamp.error.authentication_failed"


@error("com.shop.expired")
class ExpiredError(Exception):
    """Raised by the authenticator below."""


@pytest.mark.parametrize("method", ["ticket", "wampcra"])
def test_a_component_decides_who_comes_in(running: Running, method: str) -> None:
    """A dynamic authenticator: it is there, it refuses, it fails, it is gone."""
    auth = {
        method: {
            "type": "dynamic",
            "authenticator": "com.shop.authenticate",
            "authenticator_realm": None,
        }
    }
    running.start(alone.transport("t0"), alone.transport("t1", auth=auth))

    async def authenticate(_realm: str, authid: str, details: dict[str, Any]) -> Any:
        if authid == "late":
            raise ExpiredError("pay first")
        if authid == "broken":
            raise KeyError(authid)
        if method == "ticket" and details["ticket"] != "secret!":
            raise WampError("wamp.error.authentication_failed", ["no"])
        return {
            "secret": "secret!",
            "role": "anonymous",
            "authid": authid.upper(),
            "extra": {"shop": 1},
        }

    async def attempt(authid: str, secret: str = "secret!") -> Any:
        key = "ticket" if method == "ticket" else "secret"
        try:
            return await who_am_i(
                url(running, "rs", "t1"), {"method": method, "authid": authid, key: secret}
            )
        except JoinRefused as refused:
            return refused.uri, refused.says

    async def main() -> dict[str, Any]:
        told: dict[str, Any] = {"nobody": await attempt("joe")}
        async with connect(url(running, "ws"), "realm1", open_s=DEADLINE_S) as component:
            await component.register(authenticate, "com.shop.authenticate")
            for name in ("joe", "late", "broken"):
                told[name] = await attempt(name)
            told["guess"] = await attempt("joe", "guess")
        return told

    told = asyncio.run(main())
    assert told["joe"] == ("JOE", method)
    assert told["late"] == ("com.shop.expired", "pay first")
    assert told["guess"][0] == "wamp.error.authentication_failed"
    unchecked = (
        "wamp.error.authentication_failed",
        "the sign-in failed: the router could not check it",
    )
    assert told["broken"] == told["nobody"] == unchecked


def cookie_of(peer: WebSocketPeer) -> str:
    found = re.search(r"Set-Cookie: (cbtid=[^;]+)", peer.head, re.IGNORECASE)
    assert found is not None, peer.head
    return found[1]


def browser(running: Running, *methods: str, cookie: str = "") -> tuple[WebSocketPeer, list[Any]]:
    """Connect as a browser does, and say HELLO; the answer comes back, too."""
    headers = (f"Cookie: a=b; {cookie}",) if cookie else ()
    peer = running.peer("websocket", "json", headers=headers)
    assert isinstance(peer, WebSocketPeer)
    peer.send(HELLO, "realm1", {"roles": ROLES, "authid": "joe", "authmethods": list(methods)})
    return peer, peer.receive()


def test_a_sign_in_by_cookie_survives_the_death_of_the_router(
    running: Running, tmp_path: Path
) -> None:
    """The whole way over sockets, with a router killed by SIGKILL in the middle, and a sign-out at the end."""
    auth = {**STATIC, "cookie": {"name": "cbtid", "path": str(tmp_path / "cookies")}}
    program = (
        "import asyncio, json, sys\n"
        "from holdfast.router import alone\n"
        "from holdfast.router.serving import serve\n"
        "from holdfast.sdk.logline import Log\n"
        "async def main():\n"
        "    socket = alone.listen('ws://127.0.0.1:0')\n"
        "    await serve(alone.open_plan([alone.transport('t0', auth=json.loads(sys.argv[1]))]), {'t0': socket}, Log('router'))\n"
        "    print(socket.getsockname()[1], flush=True)\n"
        "    await asyncio.Event().wait()\n"
        "asyncio.run(main())\n"
    )
    import json
    import os
    import socket

    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    first = subprocess.Popen(
        [sys.executable, "-c", program, json.dumps(auth)],
        stdout=subprocess.PIPE,
        text=True,
        env=env,
    )
    try:
        assert first.stdout is not None
        address = ("127.0.0.1", int(first.stdout.readline()))
        peer = WebSocketPeer(socket.create_connection(address, DEADLINE_S), "json")
        cookie = cookie_of(peer)
        peer.send(
            HELLO, "realm1", {"roles": ROLES, "authid": "joe", "authmethods": ["cookie", "ticket"]}
        )
        assert peer.expect(CHALLENGE)[1] == "ticket"
        peer.send(AUTHENTICATE, "secret!", {})
        peer.expect(WELCOME)
    finally:
        first.send_signal(signal.SIGKILL)
        first.wait(DEADLINE_S)
        first.stdout.close()  # type: ignore[union-attr]
    peer.close()
    running.start(alone.transport("t0", auth=auth))

    tab, answer = browser(running, "cookie", "ticket", cookie=cookie)
    assert answer[0] == WELCOME, answer
    assert answer[2]["authid"] == "joe"
    assert answer[2]["authprovider"] == "cookie"
    assert "set-cookie" not in tab.head.lower()
    other, answer = browser(running, "cookie", cookie=cookie)
    assert answer[0] == WELCOME
    tab.send(GOODBYE, {}, "wamp.close.logout")
    assert tab.receive()[0] == GOODBYE
    assert other.receive()[0] == GOODBYE
    assert browser(running, "cookie", cookie=cookie)[1][0] == ABORT


def test_a_guesser_is_held_off_and_others_are_not_told_more(running: Running) -> None:
    """After a hundred wrong tickets within a minute; what is said does not depend on the name."""
    running.start(alone.transport("t0", auth=STATIC))
    reasons = []
    for number in range(101):
        peer = running.peer()
        peer.send(
            HELLO,
            "realm1",
            {"roles": ROLES, "authid": "joe" if number % 2 else "eve", "authmethods": ["ticket"]},
        )
        answer = peer.receive()
        if answer[0] == CHALLENGE:
            peer.send(AUTHENTICATE, "guess", {})
            answer = peer.receive()
        assert answer[0] == ABORT
        reasons.append((answer[2], answer[1]["message"]))
        peer.close()

    assert set(reasons[:100]) == {
        ("wamp.error.authentication_failed", "the sign-in failed: name or secret are wrong")
    }
    assert reasons[100][0] == "wamp.error.authentication_denied"
    wait_until(
        lambda: any("wrong proof" in line for line in running.log.lines), "a line in the log"
    )
