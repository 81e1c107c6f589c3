"""From HELLO to WELCOME or ABORT: every method, with the right proof, a wrong one, none, and out of order.

The client's side is :mod:`holdfast.bus.signing`, so that each accepted sign-in is a proof of both.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from holdfast.bus.signing import SignInError, make_signer
from holdfast.core.wamp.auth.certificate import Certificate
from holdfast.core.wamp.auth.cryptosign import SigningKey
from holdfast.core.wamp.auth.scram import scram_credentials
from holdfast.core.wamp.auth.wampcra import derive_wampcra
from holdfast.core.wamp.handshake import (
    Answer,
    Ask,
    Failure,
    Handshake,
    Join,
    KeepCookie,
    Quit,
    Refuse,
    Remembered,
    Run,
    Send,
    Step,
    TransportFacts,
)
from holdfast.core.wamp.messages import Abort, Authenticate, Call, Goodbye, Hello, Message
from holdfast.core.wamp.session import Identity

REALMS = {"realm1": {"user", "anonymous", "admin"}, "realm2": {"user"}}
FACTS = TransportFacts("websocket", "tcp4:127.0.0.1:53976")
ROLES: dict[str, Any] = {"roles": {"caller": {}}}
NOW = 1_700_000_000.0
FAILED = "wamp.error.authentication_failed"

TICKET = {"type": "static", "principals": {"joe": {"ticket": "secret!", "role": "user"}}}
CRA = {
    "type": "static",
    "users": {
        "joe": {"secret": "secret2", "role": "user"},
        "peter": {
            "secret": derive_wampcra("password", "salt123", 100, 16),
            "role": "user", "salt": "salt123", "iterations": 100, "keylen": 16,
        },
    },
}  # fmt: skip
SCRAM = {
    "type": "static",
    "users": {"joe": {**scram_credentials("pencil", b"0123456789abcdef", 4096), "role": "user"}},
}


def chance(count: int) -> bytes:
    """As random as a test wants it."""
    return bytes(range(7, 7 + count))


def door(auth: Any, facts: TransportFacts = FACTS, **more: Any) -> Handshake:
    return Handshake(auth, facts, REALMS, chance, 4711, pepper=b"pepper", **more)


def hello(realm: str | None = "realm1", **details: Any) -> Hello:
    return Hello(realm, {**ROLES, **details})


def one(steps: list[Step]) -> Step:
    assert len(steps) == 1, steps
    return steps[0]


def refused(steps: list[Step]) -> Refuse:
    step = one(steps)
    assert isinstance(step, Refuse), step
    return step


def joined(steps: list[Step]) -> Join:
    step = steps[-1]
    assert isinstance(step, Join), step
    return step


def challenged(steps: list[Step]) -> tuple[str, dict[str, Any]]:
    step = one(steps)
    assert isinstance(step, Send), step
    code, method, extra = step.head
    assert code == 4
    return method, extra


def sign_in(
    handshake: Handshake,
    auth: dict[str, Any],
    realm: str | None = "realm1",
    channel_id: bytes | None = None,
) -> list[Step]:
    """Let our own client sign in with one challenge, and check the router's proof."""
    signer = make_signer(auth, channel_id)
    method, extra = challenged(handshake.receive(hello(realm, **signer.hello()), NOW))
    signature, said = signer.answer(method, extra)
    steps = handshake.receive(Authenticate(signature, said), NOW)
    if isinstance(steps[-1], Join):
        signer.check(steps[-1].welcome)
    return steps


# -- anonymous ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("auth", [{}, {"anonymous": {"type": "static"}}])
@pytest.mark.parametrize("offered", [{}, {"authmethods": []}, {"authmethods": ["anonymous"]}])
def test_anybody_may_join_as_anonymous(auth: dict[str, Any], offered: dict[str, Any]) -> None:
    """The default of a transport without `auth`, and of a client that offers nothing."""
    step = joined(door(auth).receive(hello(**offered), NOW))

    assert step.realm == "realm1"
    assert step.identity.authrole == "anonymous"
    assert step.identity.authmethod == "anonymous"
    assert len(step.identity.authid) == 29
    assert step.welcome["authprovider"] == "static"


def test_an_anonymous_client_does_not_pick_its_own_name() -> None:
    """A name that looks as if somebody had checked it is worse than none."""
    step = joined(door({}).receive(hello(authid="admin", authrole="admin"), NOW))

    assert step.identity.authid != "admin"
    assert step.identity.authrole == "anonymous"


def test_anonymous_takes_role_name_and_realm_from_the_plan() -> None:
    """Crossbar.io's keys."""
    auth = {"anonymous": {"type": "static", "role": "user", "authid": "guest", "realm": "realm2"}}
    step = joined(door(auth).receive(hello(None), NOW))

    assert (step.realm, step.identity.authid, step.identity.authrole) == ("realm2", "guest", "user")
    assert step.welcome["realm"] == "realm2"


def test_what_the_client_tells_of_itself_comes_back_in_welcome() -> None:
    """Crossbar.io does so, and applications have nicknames in there."""
    step = joined(door({}).receive(hello(authextra={"nick": "Jo"}), NOW))

    assert step.identity.authextra == {"nick": "Jo"}
    assert step.welcome["authextra"] == {"nick": "Jo"}


# -- realm, role, methods ----------------------------------------------------------------------------


@pytest.mark.parametrize("realm", ["nowhere", None])
def test_a_realm_that_does_not_exist_is_refused_by_its_name(realm: str | None) -> None:
    """The most common mistake of a first evening."""
    step = refused(door({}).receive(hello(realm), NOW))

    assert step.reason == "wamp.error.no_such_realm"
    assert (realm or "names no realm") in step.text


def test_a_role_that_does_not_exist_is_refused() -> None:
    """A session without a role could do nothing, and nobody would know why."""
    step = refused(door({"anonymous": {"type": "static", "role": "gone"}}).receive(hello(), NOW))

    assert step.reason == "wamp.error.no_such_role"
    assert step.text == 'realm "realm1" has no role "gone"'


def test_the_clients_order_of_methods_decides() -> None:
    """As in Crossbar.io; what neither side knows is skipped."""
    auth = {"ticket": TICKET, "wampcra": CRA}

    for offered, taken in (
        (["nonsense", "wampcra", "ticket"], "wampcra"),
        (["tls", "cookie", "ticket", "wampcra"], "ticket"),
    ):
        steps = door(auth).receive(hello(authid="joe", authmethods=offered), NOW)
        assert challenged(steps)[0] == taken


def test_a_client_without_a_common_method_is_told_what_there_is() -> None:
    """It cannot guess."""
    step = refused(door({"ticket": TICKET}).receive(hello(authmethods=["wampcra"]), NOW))

    assert step.reason == "wamp.error.no_matching_auth_method"
    assert step.text == "this transport offers ticket; the client offered wampcra"


def test_an_empty_name_is_none() -> None:
    """xconn sends `"authid": ""` where it has none."""
    (step,) = door({}).receive(Hello("realm1", {**ROLES, "authid": "", "authrole": ""}), NOW)

    assert isinstance(step, Join)
    assert (len(step.identity.authid), step.identity.authrole) == (29, "anonymous")
    step = refused(door({"ticket": TICKET}).receive(hello(authid="", authmethods=["ticket"]), NOW))
    assert step.reason == "wamp.error.authentication_failed"


@pytest.mark.parametrize(
    "details",
    [
        {}, {"roles": []}, {"roles": {}}, {"roles": {"king": {}}}, {"roles": {"caller": 1}},
        {"roles": {"caller": {"features": []}}}, {**ROLES, "authid": 1}, {**ROLES, "authid": 0},
        {**ROLES, "authid": "a\nb"}, {**ROLES, "authid": "x" * 501}, {**ROLES, "authmethods": "ticket"},
        {**ROLES, "authmethods": [1]}, {**ROLES, "authextra": []}, {**ROLES, "authrole": {}},
    ],
)  # fmt: skip
def test_a_malformed_hello_is_a_protocol_violation(details: dict[str, Any]) -> None:
    """Said in words, since it is a client's author who reads it."""
    step = refused(door({}).receive(Hello("realm1", details), NOW))

    assert step.reason == "wamp.error.protocol_violation"
    assert step.text.startswith("HELLO.details.")


@pytest.mark.parametrize(
    "message",
    [Authenticate("x", {}), Goodbye({}, "wamp.close.normal"), Call(1, {}, "com.example.add")],
)
def test_nothing_comes_before_hello(message: Message) -> None:
    """A call without a session gets no further."""
    step = refused(door({}).receive(message, NOW))

    assert step.reason == "wamp.error.protocol_violation"
    assert step.text.endswith("where HELLO was expected")


@pytest.mark.parametrize("message", [hello(), Call(1, {}, "com.example.add")])
def test_nothing_but_authenticate_answers_a_challenge(message: Message) -> None:
    """A second HELLO cannot change the name after the challenge was made for another."""
    handshake = door({"ticket": TICKET})
    challenged(handshake.receive(hello(authid="joe", authmethods=["ticket"]), NOW))

    assert refused(handshake.receive(message, NOW)).reason == "wamp.error.protocol_violation"
    assert handshake.is_over
    assert handshake.receive(Authenticate("secret!", {}), NOW) == []


def test_a_client_that_gives_up_is_let_go() -> None:
    """ABORT answers CHALLENGE where the client does not trust the router."""
    handshake = door({"ticket": TICKET})
    challenged(handshake.receive(hello(authid="joe", authmethods=["ticket"]), NOW))

    assert handshake.receive(Abort({}, "wamp.error.cannot_authenticate"), NOW) == [Quit()]


def test_the_nodes_own_socket_trusts_any_role() -> None:
    """Who can open it is the node itself."""
    inside = FACTS._replace(is_internal=True)
    first = joined(door({"ticket": TICKET}, inside).receive(hello(authid="fetch"), NOW))
    second = joined(door({}, inside).receive(hello(authid="fetch", authrole="user"), NOW))

    assert first.identity[:4] == ("fetch", "trusted", "trusted", "node")
    assert second.identity.authrole == "user"
    assert (
        refused(door({}, inside).receive(hello(authrole="gone"), NOW)).reason
        == "wamp.error.no_such_role"
    )


# -- ticket ------------------------------------------------------------------------------------------


def test_ticket_lets_in_who_has_it() -> None:
    """The simplest method."""
    step = joined(
        sign_in(
            door({"ticket": TICKET}), {"method": "ticket", "authid": "joe", "ticket": "secret!"}
        )
    )

    assert step.identity == Identity("joe", "user", "ticket", "static")


def test_wrong_ticket_and_unknown_name_are_told_apart_by_the_operator_only() -> None:
    """The client must not find out which names exist."""
    wrong = refused(
        sign_in(door({"ticket": TICKET}), {"method": "ticket", "authid": "joe", "ticket": "no"})
    )
    unknown = refused(
        sign_in(door({"ticket": TICKET}), {"method": "ticket", "authid": "eve", "ticket": "no"})
    )

    assert wrong[:2] == unknown[:2] == (FAILED, "the sign-in failed: name or secret are wrong")
    assert wrong.cause == "'joe' gave a wrong proof (ticket)"
    assert unknown.cause == "unknown: 'eve' gave a wrong proof (ticket)"
    assert wrong.is_guess
    assert unknown.is_guess


@pytest.mark.parametrize(
    "entry",
    [{"role": "user"}, {"ticket": "", "role": "user"}, {"ticket": None, "role": "user"}, None],
)
def test_an_entry_without_a_ticket_lets_nobody_in(entry: Any) -> None:
    """An environment variable that was not set must not become a password."""
    auth = {"ticket": {"type": "static", "principals": {"joe": entry}}}
    handshake = door(auth)
    challenged(handshake.receive(hello(authid="joe", authmethods=["ticket"]), NOW))

    assert refused(handshake.receive(Authenticate("", {}), NOW)).reason == FAILED


def test_a_principal_may_have_a_realm_of_its_own() -> None:
    """Then that counts, whatever HELLO asks for; WELCOME says which."""
    auth = {
        "ticket": {
            "type": "static",
            "principals": {"joe": {"ticket": "t", "role": "user", "realm": "realm2"}},
        }
    }
    for realm in (None, "realm1", "nowhere"):
        assert (
            joined(
                sign_in(door(auth), {"method": "ticket", "authid": "joe", "ticket": "t"}, realm)
            ).welcome["realm"]
            == "realm2"
        )


# -- WAMP-CRA ----------------------------------------------------------------------------------------


def test_wampcra_lets_in_who_knows_the_secret() -> None:
    """With and without a salt."""
    plain = sign_in(
        door({"wampcra": CRA}), {"method": "wampcra", "authid": "joe", "secret": "secret2"}
    )
    salted = sign_in(
        door({"wampcra": CRA}), {"method": "wampcra", "authid": "peter", "secret": "password"}
    )

    assert joined(plain).identity == Identity("joe", "user", "wampcra", "static")
    assert joined(salted).identity.authid == "peter"


def test_wampcra_also_takes_a_password_in_the_clear_beside_a_salt() -> None:
    """Crossbar.io 26 derives from the configured secret; its documentation has the derived key there. Both exist."""
    users = {
        "joe": {
            "secret": "password",
            "role": "user",
            "salt": "salt123",
            "iterations": 100,
            "keylen": 16,
        }
    }
    auth = {"wampcra": {"type": "static", "users": users}}

    assert joined(sign_in(door(auth), {"method": "wampcra", "authid": "joe", "secret": "password"}))


def test_the_wampcra_challenge_says_all_that_a_third_party_needs() -> None:
    """WAMP specification, "Three-legged Authentication"."""
    _, extra = challenged(
        door({"wampcra": CRA}).receive(hello(authid="joe", authmethods=["wampcra"]), NOW)
    )
    about = json.loads(extra["challenge"])

    assert about.pop("nonce") == chance(24).hex()
    assert about == {
        "authid": "joe", "authrole": "user", "authmethod": "wampcra", "authprovider": "static", "session": 4711,
        "timestamp": "2023-11-14T22:13:20.000Z",
    }  # fmt: skip


@pytest.mark.parametrize("signature", ["", "AAAA", "é", "\ud800", "secret2"])
def test_wampcra_refuses_anything_else(signature: str) -> None:
    """Also what cannot be encoded."""
    handshake = door({"wampcra": CRA})
    challenged(handshake.receive(hello(authid="joe", authmethods=["wampcra"]), NOW))

    assert refused(handshake.receive(Authenticate(signature, {}), NOW)).is_guess


def test_an_unknown_name_gets_a_challenge_like_everybody_else() -> None:
    """The same each time, and with the parameters that others have: else asking twice would tell."""
    users = {"peter": CRA["users"]["peter"]}  # type: ignore[index]
    auth = {"wampcra": {"type": "static", "users": users}}

    def ask(name: str) -> dict[str, Any]:
        return challenged(door(auth).receive(hello(authid=name, authmethods=["wampcra"]), NOW))[1]

    known, unknown = ask("peter"), ask("eve")
    assert unknown.keys() == known.keys()
    assert unknown["iterations"] == known["iterations"]
    assert len(unknown["salt"]) == len(known["salt"])
    assert unknown["salt"] != known["salt"]
    assert unknown == ask("eve")
    assert ask("mallory")["salt"] != unknown["salt"]


def test_an_unknown_name_makes_no_key_be_derived_that_a_known_one_would_not() -> None:
    """Deriving takes milliseconds: who sees them for unknown names only, knows which ones exist."""
    from holdfast.core.wamp.auth import wampcra

    users = {"peter": CRA["users"]["peter"]}  # type: ignore[index]
    auth = {"wampcra": {"type": "static", "users": users}}
    door(auth).receive(hello(authid="peter", authmethods=["wampcra"]), NOW)
    before = wampcra._derived.cache_info().misses
    for name in ("peter", "eve", "mallory"):
        door(auth).receive(hello(authid=name, authmethods=["wampcra"]), NOW)

    assert wampcra._derived.cache_info().misses == before


@pytest.mark.parametrize("method", ["ticket", "wampcra", "scram"])
@pytest.mark.parametrize("users", [{}, None])
def test_nobody_gets_in_where_there_are_no_users(method: str, users: Any) -> None:
    """Not even with the secret that an unknown user is made up with."""
    auth = {method: {"type": "static", "principals": users}}
    handshake = door(auth)
    steps = handshake.receive(
        hello(authid="joe", authmethods=[method], authextra={"nonce": "AAAA"}), NOW
    )
    if isinstance(steps[0], Send):
        steps = handshake.receive(Authenticate("", {}), NOW)

    assert refused(steps).reason == FAILED


# -- SCRAM -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dialect", [{}, {"dialect": "autobahn"}])
def test_scram_proves_both_sides(dialect: dict[str, str]) -> None:
    """In the specification's dialect and in Autobahn's; `sign_in` checks the verifier."""
    auth = {"method": "scram", "authid": "joe", "password": "pencil", **dialect}
    step = joined(sign_in(door({"scram": SCRAM}), auth))

    assert step.identity == Identity("joe", "user", "scram" if dialect else "wamp-scram", "static")
    assert step.welcome["authextra"]["verifier"].startswith("v=")


def test_scram_with_argon2_works_in_both_dialects() -> None:
    """`argon2id-13` is what Crossbar.io's configurations have."""
    pytest.importorskip("argon2")
    for kdf, dialect in (("argon2id13", "wamp-scram"), ("argon2id-13", "autobahn")):
        users = {
            "joe": {**scram_credentials("pencil", b"0123456789abcdef", 2, kdf, 512), "role": "user"}
        }
        auth = {"method": "scram", "authid": "joe", "password": "pencil", "dialect": dialect}

        assert joined(sign_in(door({"scram": {"type": "static", "principals": users}}), auth))


@pytest.mark.parametrize(
    "who", [{"authid": "joe", "password": "pen"}, {"authid": "eve", "password": "pencil"}]
)
def test_scram_refuses_a_wrong_password_and_an_unknown_name_alike(who: dict[str, str]) -> None:
    """Both see a challenge, and the same end."""
    step = refused(sign_in(door({"scram": SCRAM}), {"method": "scram", **who}))

    assert step[:2] == (FAILED, "the sign-in failed: name or secret are wrong")


def test_scram_refuses_another_nonce_binding_or_garbage() -> None:
    """Each field of AUTHENTICATE is compared with what was asked."""
    for change in ({"nonce": "AAAA"}, {"channel_binding": "tls-unique"}, {"nonce": None}):
        handshake = door({"scram": SCRAM})
        signer = make_signer({"method": "scram", "authid": "joe", "password": "pencil"})
        method, extra = challenged(handshake.receive(hello(**signer.hello()), NOW))
        signature, said = signer.answer(method, extra)
        assert refused(handshake.receive(Authenticate(signature, {**said, **change}), NOW)).is_guess
    for signature in ("", "AAAA", "not base64", "\ud800"):
        handshake = door({"scram": SCRAM})
        challenged(
            handshake.receive(
                hello(authid="joe", authmethods=["scram"], authextra={"nonce": "AAAA"}), NOW
            )
        )
        assert refused(handshake.receive(Authenticate(signature, {}), NOW)).is_guess


@pytest.mark.parametrize("nonce", [{}, {"nonce": ""}, {"nonce": 5}, {"nonce": "no base64!"}])
def test_scram_needs_a_nonce_in_hello(nonce: dict[str, Any]) -> None:
    """A text for the author of the client."""
    step = refused(
        door({"scram": SCRAM}).receive(
            hello(authid="joe", authmethods=["scram"], authextra=nonce), NOW
        )
    )

    assert "nonce" in step.text
    assert not step.is_guess


def test_scram_bound_to_a_channel_refuses_another_channel() -> None:
    """Somebody in between has a channel to each side, and they differ."""
    import base64
    import hashlib

    from holdfast.core.wamp.auth import scram

    finished = b"the Finished message"
    channel = hashlib.sha256(finished).digest()
    for ours, is_right in ((channel, True), (bytes(32), False)):
        handshake = door({"scram": SCRAM}, FACTS._replace(is_tls=True, channel_id=ours))
        extra = {"nonce": "AAAA", "channel_binding": "tls-unique"}
        _, asked = challenged(
            handshake.receive(hello(authid="joe", authmethods=["wamp-scram"], authextra=extra), NOW)
        )
        keys = scram.keys_of(
            scram.salted_password("pencil", b"0123456789abcdef", "pbkdf2", 4096, None)
        )
        message = scram.auth_message(
            "joe", "AAAA", asked["nonce"], asked["salt"], 4096, "tls-unique", finished
        )
        said = {
            "nonce": asked["nonce"],
            "channel_binding": "tls-unique",
            "cbind_data": base64.b64encode(finished).decode(),
        }
        steps = handshake.receive(Authenticate(scram.proof(keys, message), said), NOW)
        assert isinstance(one(steps), Join if is_right else Refuse)


def test_a_client_does_not_give_its_password_to_an_impostor() -> None:
    """Few iterations would make the proof easy to crack, and a router without the hash has no verifier."""
    signer = make_signer({"method": "scram", "authid": "joe", "password": "pencil"})
    nonce = signer.hello()["authextra"]["nonce"]
    with pytest.raises(SignInError, match="10 iterations"):
        signer.answer(
            "scram", {"nonce": nonce + "AAAA", "salt": "AAAA", "kdf": "pbkdf2", "iterations": 10}
        )
    with pytest.raises(SignInError, match="does not go on from ours"):
        signer.answer(
            "scram", {"nonce": "AAAA", "salt": "AAAA", "kdf": "pbkdf2", "iterations": 4096}
        )
    with pytest.raises(SignInError, match="without asking"):
        signer.check({"authmethod": "anonymous"})
    with pytest.raises(SignInError, match="impostor"):
        signer.check({"authmethod": "wamp-scram", "authextra": {"verifier": "v=AAAA"}})


# -- cryptosign --------------------------------------------------------------------------------------

SEED = "4d57d97a68f555696620a6d849c0ce582568518d729eb753dc7c732de2804510"
PUBLIC = "1adfc8bfe1d35616e64dffbd900096f23b066f914c8c2ffbb66f6075b96e116d"
OTHER = "d511fe78e23934b3dadb52fcd022974b80bd92bccc7c5cf404e46cc0a8a2f5cd"
KEYS = {
    "type": "static",
    "principals": {"joe": {"authorized_keys": [PUBLIC.upper()], "role": "user"}},
}


@pytest.mark.parametrize("name", [{"authid": "joe"}, {}])
def test_cryptosign_lets_in_who_has_the_key(name: dict[str, str]) -> None:
    """The name is optional: the key tells it."""
    pytest.importorskip("cryptography")
    step = joined(
        sign_in(door({"cryptosign": KEYS}), {"method": "cryptosign", "private_key": SEED, **name})
    )

    assert step.identity.authid == "joe"
    assert step.identity.authmethod == "cryptosign"


@pytest.mark.parametrize(
    "who",
    [
        {"authid": "joe", "private_key": OTHER},
        {"authid": "eve", "private_key": SEED},
        {"private_key": OTHER},
    ],
)
def test_cryptosign_refuses_another_key_and_another_name(who: dict[str, str]) -> None:
    """Both are asked to sign, so that the end tells nothing."""
    pytest.importorskip("cryptography")
    step = refused(sign_in(door({"cryptosign": KEYS}), {"method": "cryptosign", **who}))

    assert step[:2] == (FAILED, "the sign-in failed: name or secret are wrong")


def test_cryptosign_refuses_the_signature_of_an_earlier_challenge() -> None:
    """A replay."""
    pytest.importorskip("cryptography")
    old = SigningKey(bytes.fromhex(SEED)).sign(bytes(32))
    for signature in (old, old[:-2], "zz" * 96, "", "\ud800"):
        handshake = door({"cryptosign": KEYS})
        challenged(
            handshake.receive(
                hello(authid="joe", authmethods=["cryptosign"], authextra={"pubkey": PUBLIC}), NOW
            )
        )
        assert refused(handshake.receive(Authenticate(signature, {}), NOW)).is_guess


def test_cryptosign_bound_to_a_channel_refuses_another_channel() -> None:
    """Somebody in between has a channel to each side, and they differ."""
    pytest.importorskip("cryptography")
    auth = {"method": "cryptosign", "private_key": SEED, "channel_binding": "tls-unique"}
    facts = FACTS._replace(is_tls=True, channel_id=bytes(range(32)))

    assert joined(sign_in(door({"cryptosign": KEYS}, facts), auth, channel_id=bytes(range(32))))
    assert refused(sign_in(door({"cryptosign": KEYS}, facts), auth, channel_id=bytes(32))).is_guess
    asked = hello(
        authid="joe",
        authmethods=["cryptosign"],
        authextra={"pubkey": PUBLIC, "channel_binding": "tls-unique"},
    )
    assert "no channel identifier" in refused(door({"cryptosign": KEYS}).receive(asked, NOW)).text


def test_the_router_signs_the_clients_challenge_with_its_own_key() -> None:
    """So that a client knows whom it talks to; a router with another key, or without one, is left."""
    pytest.importorskip("cryptography")
    identity = SigningKey(bytes.fromhex(OTHER))
    auth = {"method": "cryptosign", "private_key": SEED, "router_keys": [identity.public]}

    assert joined(sign_in(door({"cryptosign": KEYS}, identity=identity), auth))
    for other in (None, SigningKey(bytes(32))):
        with pytest.raises(SignInError, match="impostor"):
            sign_in(door({"cryptosign": KEYS}, identity=other), auth)
    with pytest.raises(SignInError, match="without proving"):
        make_signer(auth).check({})


# -- TLS ---------------------------------------------------------------------------------------------

CERTIFICATE = Certificate(
    "ab" * 20, "cd" * 32, {"commonName": "joe.example.com", "organizationName": "Example"}, {}
)


@pytest.mark.parametrize(
    "entry",
    [
        {"certificate-sha1": ":".join(["AB"] * 20)}, {"certificate-sha256": "cd" * 32}, {"sha256": "CD" * 32},
        {"subject": "joe.example.com"}, {"subject": {"organizationName": "Example"}},
        {"certificate-sha1": "ab" * 20, "subject": "joe.example.com"},
    ],
)  # fmt: skip
def test_a_client_certificate_is_known_by_what_the_entry_names(entry: dict[str, Any]) -> None:
    """Fingerprints as people paste them, or the subject."""
    auth = {
        "tls": {
            "type": "static",
            "principals": {
                "other": {"subject": "x", "role": "user"},
                "joe": {**entry, "role": "user"},
            },
        }
    }
    facts = FACTS._replace(is_tls=True, certificate=CERTIFICATE)
    step = joined(door(auth, facts).receive(hello(authmethods=["tls"]), NOW))

    assert step.identity == Identity("joe", "user", "tls", "static")


@pytest.mark.parametrize(
    "entry",
    [
        {}, {"certificate-sha1": "00" * 20}, {"subject": "Joe.example.com"}, {"subject": {}}, {"subject": ""},
        {"certificate-sha1": "ab" * 20, "subject": "other"}, {"subject": {"organizationName": "Example", "x": "y"}},
    ],
)  # fmt: skip
def test_a_certificate_that_fits_no_entry_wholly_is_refused(entry: dict[str, Any]) -> None:
    """An entry that names nothing must not fit everybody."""
    auth = {"tls": {"type": "static", "principals": {"joe": {**entry, "role": "user"}}}}
    facts = FACTS._replace(is_tls=True, certificate=CERTIFICATE)

    assert refused(door(auth, facts).receive(hello(authmethods=["tls"]), NOW)).reason == FAILED


def test_a_client_without_a_certificate_goes_on_to_its_next_method() -> None:
    """`tls` is not for it."""
    auth = {"tls": {"type": "static", "principals": {}}, "ticket": TICKET}
    steps = door(auth).receive(hello(authid="joe", authmethods=["tls", "ticket"]), NOW)

    assert challenged(steps)[0] == "ticket"


# -- cookie ------------------------------------------------------------------------------------------

BROWSER = FACTS._replace(cookie="c00kie")
JOE = Identity("joe", "user", "ticket", "static")
BY_COOKIE: dict[str, Any] = {"cookie": {"name": "cbtid"}, "ticket": TICKET}


def test_a_sign_in_is_kept_with_its_cookie_before_welcome() -> None:
    """Killed in between, the client has seen nothing and signs in again."""
    steps = sign_in(
        door(BY_COOKIE, BROWSER), {"method": "ticket", "authid": "joe", "ticket": "secret!"}
    )

    assert steps[0] == KeepCookie("c00kie", Remembered("realm1", JOE, "realm1"))
    assert isinstance(steps[1], Join)


def test_a_cookie_lets_in_whom_it_stands_for() -> None:
    """Without any proof: that is what it is for."""
    handshake = door(BY_COOKIE, BROWSER, remembered=Remembered("realm1", JOE, "realm1"))
    steps = handshake.receive(hello(authmethods=["cookie", "ticket"]), NOW)

    assert one(steps) == joined(steps)
    assert joined(steps).identity == JOE._replace(authprovider="cookie")


def test_a_cookie_that_stands_for_nobody_leads_to_the_next_method() -> None:
    """The first visit of a browser."""
    steps = door(BY_COOKIE, BROWSER).receive(
        hello(authid="joe", authmethods=["cookie", "ticket"]), NOW
    )

    assert challenged(steps)[0] == "ticket"


def test_a_cookie_of_a_user_who_is_gone_is_worth_nothing() -> None:
    """Withdrawn is withdrawn, for a week-old cookie, too; a changed role counts at once."""
    gone = {**BY_COOKIE, "ticket": {"type": "static", "principals": {}}}
    changed = {
        **BY_COOKIE,
        "ticket": {"type": "static", "principals": {"joe": {"ticket": "x", "role": "admin"}}},
    }
    remembered = Remembered("realm1", JOE, "realm1")

    assert refused(
        door(gone, BROWSER, remembered=remembered).receive(hello(authmethods=["cookie"]), NOW)
    )
    step = joined(
        door(changed, BROWSER, remembered=remembered).receive(hello(authmethods=["cookie"]), NOW)
    )
    assert step.identity.authrole == "admin"


def test_a_cookie_of_one_realm_does_not_open_another() -> None:
    """Unless HELLO asked for that one, too, when the sign-in gave the realm."""
    for asked, wanted, is_right in (
        ("realm1", "realm2", False),
        ("realm1", None, True),
        ("realm2", "realm2", True),
    ):
        handshake = door(BY_COOKIE, BROWSER, remembered=Remembered("realm1", JOE, asked))
        steps = handshake.receive(hello(wanted, authmethods=["cookie"]), NOW)
        assert isinstance(one(steps), Join if is_right else Refuse)


def test_anonymous_does_not_take_the_place_of_a_sign_in() -> None:
    """A page that joins as anonymous first would sign its user out."""
    auth = {**BY_COOKIE, "anonymous": {"type": "static"}}
    steps = door(auth, BROWSER).receive(hello(authmethods=["anonymous"]), NOW)

    assert isinstance(one(steps), Join)


# -- dynamic -----------------------------------------------------------------------------------------


def dynamic(method: str, **more: Any) -> dict[str, Any]:
    return {
        method: {
            "type": "dynamic",
            "authenticator": "com.example.auth",
            "authenticator_realm": None,
            **more,
        }
    }


def asked(steps: list[Step]) -> Ask:
    step = one(steps)
    assert isinstance(step, Ask), step
    return step


def test_a_dynamic_authenticator_is_asked_with_crossbars_signature() -> None:
    """(realm, authid, details); the ticket is in the details."""
    handshake = door(dynamic("ticket"), FACTS._replace(details={"type": "websocket"}))
    challenged(
        handshake.receive(hello(authid="joe", authmethods=["ticket"], authextra={"a": 1}), NOW)
    )
    step = asked(handshake.receive(Authenticate("token", {}), NOW))

    assert (step.realm, step.procedure, step.kwargs) == ("realm1", "com.example.auth", {})
    realm, authid, details = step.args
    assert (realm, authid) == ("realm1", "joe")
    assert details == {
        "transport": {"type": "websocket", "peer": "tcp4:127.0.0.1:53976", "is_secure": False, "peer_cert": None},
        "session": 4711, "authmethod": "ticket", "authid": "joe", "authrole": None, "authextra": {"a": 1}, "ticket": "token",
    }  # fmt: skip
    assert joined(handshake.answer(Answer("user"), NOW)).identity == Identity(
        "joe", "user", "ticket", "dynamic"
    )


def test_the_authenticators_realm_is_the_plans() -> None:
    """An authenticator for many realms lives in one of its own."""
    handshake = door(dynamic("anonymous", authenticator_realm="realm2"))

    assert asked(handshake.receive(hello(), NOW)).realm == "realm2"


def test_an_authenticator_may_give_realm_name_role_and_extra() -> None:
    """A dict instead of a role; a ticket may tell the name."""
    handshake = door(dynamic("ticket", authenticator_realm="realm1"))
    challenged(handshake.receive(hello(None, authmethods=["ticket"]), NOW))
    asked(handshake.receive(Authenticate("token", {}), NOW))
    step = joined(
        handshake.answer(
            Answer({"realm": "realm2", "authid": "joe", "role": "user", "extra": {"x": 1}}), NOW
        )
    )

    assert (step.realm, step.identity) == (
        "realm2",
        Identity("joe", "user", "ticket", "dynamic", {"x": 1}),
    )
    assert step.welcome["authextra"] == {"x": 1}


@pytest.mark.parametrize(
    ("method", "principal", "auth"),
    [
        ("wampcra", {"secret": "s3", "role": "user"}, {"secret": "s3"}),
        (
            "wampcra",
            {"secret": derive_wampcra("s3", "salty"), "salt": "salty", "role": "user"},
            {"secret": "s3"},
        ),
        (
            "scram",
            {**scram_credentials("s3", b"saltsalt", 4096), "role": "user"},
            {"password": "s3"},
        ),
        ("cryptosign", {"pubkey": PUBLIC, "role": "user"}, {"private_key": SEED}),
    ],
)
def test_a_dynamic_authenticator_gives_the_secret_and_the_router_checks_it(
    method: str, principal: dict[str, Any], auth: dict[str, Any]
) -> None:
    """Right and wrong, for the methods with a challenge."""
    if method == "cryptosign":
        pytest.importorskip("cryptography")
    for is_right in (True, False):
        handshake = door(dynamic(method))
        signer = make_signer({"method": method, "authid": "joe", **auth})
        step = asked(handshake.receive(hello(**signer.hello()), NOW))
        assert step.args[2]["authmethod"] in (method, f"wamp-{method}")
        name, extra = challenged(handshake.answer(Answer(principal), NOW))
        signature, said = signer.answer(name, extra)
        steps = handshake.receive(
            Authenticate(signature if is_right else signature[::-1], said), NOW
        )
        assert isinstance(one(steps), Join if is_right else Refuse)
        if is_right:
            assert joined(steps).identity.authprovider == "dynamic"


def test_a_dynamic_tls_authenticator_sees_the_certificate() -> None:
    """It decides by the fingerprint."""
    handshake = door(dynamic("tls"), FACTS._replace(is_tls=True, certificate=CERTIFICATE))
    step = asked(handshake.receive(hello(authmethods=["tls"]), NOW))

    assert step.args[2]["transport"]["peer_cert"]["sha1"] == ":".join(["AB"] * 20)
    assert step.args[2]["transport"]["peer_cert"]["subject"]["cn"] == "joe.example.com"
    assert (
        joined(handshake.answer(Answer({"role": "user", "authid": "joe"}), NOW)).identity.authmethod
        == "tls"
    )


@pytest.mark.parametrize(
    "value",
    [
        None,
        5,
        [],
        {},
        {"role": 5},
        {"role": "gone"},
        {"role": "user", "realm": ["realm1"]},
        {"role": "user", "extra": 5},
        {"role": "user", "authid": 7},
    ],
)
def test_an_authenticator_that_answers_nonsense_lets_nobody_in(value: Any) -> None:
    """None is what a function without a return returns."""
    handshake = door(dynamic("ticket"))
    challenged(handshake.receive(hello(authid="joe", authmethods=["ticket"]), NOW))
    asked(handshake.receive(Authenticate("token", {}), NOW))

    assert refused(handshake.answer(Answer(value), NOW))


@pytest.mark.parametrize("method", ["wampcra", "scram"])
@pytest.mark.parametrize(
    "principal",
    [
        {},
        {"role": "user"},
        {"role": "user", "secret": "x", "salt": "y", "iterations": -1},
        {"role": "user", "salt": 5, "stored-key": 5, "server-key": []},
    ],
)
def test_a_principal_without_a_usable_secret_is_told_to_the_operator(
    method: str, principal: dict[str, Any]
) -> None:
    """And to the client only that it was not its fault."""
    handshake = door(dynamic(method))
    asked(
        handshake.receive(
            hello(authid="joe", authmethods=[method], authextra={"nonce": "AAAA"}), NOW
        )
    )
    step = refused(handshake.answer(Answer(principal), NOW))

    assert step[:2] == (FAILED, "the sign-in failed: the router could not check it")
    assert step.cause


def test_what_an_application_says_reaches_the_client_and_what_python_says_does_not() -> None:
    """An expired licence is for the user; a traceback's last line is for the operator."""
    for failure, reason, text in (
        (Failure("com.example.expired", "pay"), "com.example.expired", "pay"),
        (Failure(FAILED, ""), FAILED, "the sign-in failed: name or secret are wrong"),
        (
            Failure("wamp.error.runtime_error", "KeyError: 'joe'"),
            FAILED,
            "the sign-in failed: the router could not check it",
        ),
        (
            Failure("wamp.error.no_such_procedure", "x"),
            FAILED,
            "the sign-in failed: the router could not check it",
        ),
        (
            Failure("wamp.error.timeout", "x"),
            FAILED,
            "the sign-in failed: the router could not check it",
        ),
    ):
        handshake = door(dynamic("anonymous"))
        asked(handshake.receive(hello(), NOW))
        step = refused(handshake.answer(failure, NOW))
        assert step[:2] == (reason, text)
        assert failure.text in step.cause


def test_a_client_that_does_not_wait_for_the_authenticator_is_refused_and_the_answer_is_late() -> (
    None
):
    """No order of the two may open a session."""
    handshake = door(dynamic("ticket"))
    challenged(handshake.receive(hello(authid="joe", authmethods=["ticket"]), NOW))
    asked(handshake.receive(Authenticate("token", {}), NOW))

    assert (
        refused(handshake.receive(Authenticate("token", {}), NOW)).reason
        == "wamp.error.protocol_violation"
    )
    assert handshake.answer(Answer("user"), NOW) == []


def test_an_answer_that_nobody_asked_for_changes_nothing() -> None:
    """The router may be mistaken about which connection it is for."""
    handshake = door({"ticket": TICKET})
    assert handshake.answer(Answer("user"), NOW) == []
    challenged(handshake.receive(hello(authid="joe", authmethods=["ticket"]), NOW))
    assert handshake.answer(Answer("user"), NOW) == []


def test_a_function_is_run_with_the_same_arguments() -> None:
    """The third type: the user's own code in the router."""
    auth = {"ticket": {"type": "function", "create": "shop.auth:create", "config": {"a": 1}}}
    handshake = door(auth)
    challenged(handshake.receive(hello(authid="joe", authmethods=["ticket"]), NOW))
    step = one(handshake.receive(Authenticate("token", {}), NOW))

    assert isinstance(step, Run)
    assert (step.create, step.config, step.args[:2]) == (
        "shop.auth:create",
        {"a": 1},
        ["realm1", "joe"],
    )
    assert joined(handshake.answer(Answer("user"), NOW)).identity.authprovider == "function"


def test_a_dynamic_sign_in_to_a_realm_that_does_not_exist_is_refused_before_anybody_is_asked() -> (
    None
):
    """There is nobody to ask."""
    assert (
        refused(door(dynamic("anonymous")).receive(hello("nowhere"), NOW)).reason
        == "wamp.error.no_such_realm"
    )
