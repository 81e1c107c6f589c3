"""Other people's clients against our handshake: Autobahn and xconn (wampproto), where they are installed."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from holdfast.core.wamp.auth.scram import scram_credentials
from holdfast.core.wamp.auth.wampcra import derive_wampcra
from holdfast.core.wamp.handshake import Handshake, Join, Send, TransportFacts
from holdfast.core.wamp.messages import Authenticate, Hello

SEED = "4d57d97a68f555696620a6d849c0ce582568518d729eb753dc7c732de2804510"
PUBLIC = "1adfc8bfe1d35616e64dffbd900096f23b066f914c8c2ffbb66f6075b96e116d"
CHANNEL = bytes(range(32))
AUTH: dict[str, Any] = {
    "ticket": {"type": "static", "principals": {"joe": {"ticket": "secret!", "role": "user"}}},
    "wampcra": {
        "type": "static",
        "users": {
            "joe": {"secret": derive_wampcra("secret!", "salt123", 100, 32), "salt": "salt123", "iterations": 100, "keylen": 32, "role": "user"}
        },
    },
    "cryptosign": {"type": "static", "principals": {"joe": {"authorized_keys": [PUBLIC], "role": "user"}}},
}  # fmt: skip


def challenge_of(handshake: Handshake, method: str, authextra: dict[str, Any]) -> dict[str, Any]:
    details = {
        "roles": {"caller": {}},
        "authid": "joe",
        "authmethods": [method],
        "authextra": authextra,
    }
    (step,) = handshake.receive(Hello("realm1", details), 0.0)
    assert isinstance(step, Send), step
    assert step.head[1] == method
    return step.head[2]  # type: ignore[no-any-return]


def door(auth: dict[str, Any]) -> Handshake:
    facts = TransportFacts("websocket", "tcp4:127.0.0.1:1", is_tls=True, channel_id=CHANNEL)
    return Handshake(auth, facts, {"realm1": {"user"}}, bytes, 1)


def text(signature: Any) -> str:
    return signature.decode() if isinstance(signature, bytes) else signature


@pytest.mark.parametrize(
    ("method", "secret"),
    [("ticket", {"ticket": "secret!"}), ("wampcra", {"secret": "secret!"}), ("scram", {"password": "pencil", "kdf": "", "nonce": "", "salt": "", "iterations": 0, "memory": 0})],
)  # fmt: skip
def test_autobahns_clients_sign_in(method: str, secret: dict[str, Any]) -> None:
    """Its own code answers, and for SCRAM checks our proof."""
    auth_module = pytest.importorskip("autobahn.wamp.auth")
    types = pytest.importorskip("autobahn.wamp.types")
    auth = AUTH
    if method == "scram":
        pytest.importorskip("argon2")
        pytest.importorskip("passlib")
        entry = {
            **scram_credentials("pencil", b"0123456789abcdef", 2, "argon2id-13", 512),
            "role": "user",
        }
        auth = {"scram": {"type": "static", "principals": {"joe": entry}}}
    client = auth_module.create_authenticator(method, authid="joe", **secret)
    handshake = door(auth)
    asked = challenge_of(handshake, method, client.authextra or {})
    session = SimpleNamespace(log=SimpleNamespace(info=print, error=print))
    signature = text(client.on_challenge(session, types.Challenge(method, asked)))
    (step,) = handshake.receive(Authenticate(signature, {}), 0.0)

    assert isinstance(step, Join)
    assert client.on_welcome(session, step.welcome["authextra"]) is None


@pytest.mark.parametrize("binding", [None, "tls-unique"])
def test_autobahns_cryptosign_signs_in(binding: str | None) -> None:
    """With and without channel binding."""
    pytest.importorskip("cryptography")
    pytest.importorskip("nacl")
    module = pytest.importorskip("autobahn.wamp.cryptosign")
    types = pytest.importorskip("autobahn.wamp.types")
    txaio = pytest.importorskip("txaio")
    import asyncio

    async def sign(asked: dict[str, Any]) -> str:
        txaio.use_asyncio()
        txaio.config.loop = asyncio.get_running_loop()
        key = module.CryptosignKey.from_bytes(bytes.fromhex(SEED))
        challenge = types.Challenge("cryptosign", asked)
        channel_id = CHANNEL if binding else None
        signed = await key.sign_challenge(challenge, channel_id=channel_id, channel_id_type=binding)
        return str(signed)

    handshake = door(AUTH)
    extra = {"pubkey": PUBLIC, **({"channel_binding": binding} if binding else {})}
    asked = challenge_of(handshake, "cryptosign", extra)
    (step,) = handshake.receive(Authenticate(asyncio.run(sign(asked)), {}), 0.0)

    assert isinstance(step, Join)


@pytest.mark.parametrize("method", ["ticket", "wampcra", "cryptosign"])
def test_xconns_clients_sign_in(method: str) -> None:
    """Its methods are these three, and anonymous."""
    module = pytest.importorskip("wampproto.auth")
    messages = pytest.importorskip("wampproto.messages")
    pytest.importorskip("nacl")
    pytest.importorskip("cryptography")
    client = {
        "ticket": lambda: module.TicketAuthenticator("joe", "secret!"),
        "wampcra": lambda: module.WAMPCRAAuthenticator("joe", "secret!"),
        "cryptosign": lambda: module.CryptoSignAuthenticator("joe", SEED),
    }[method]()
    handshake = door(AUTH)
    asked = challenge_of(handshake, method, client.auth_extra)
    said = client.authenticate(messages.Challenge(messages.ChallengeFields(method, asked)))
    (step,) = handshake.receive(Authenticate(said.signature, said.extra or {}), 0.0)

    assert isinstance(step, Join)
