"""Whatever a stranger sends, and in whatever order: nothing raises, and nobody joins without a proof."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.core.wamp.auth.scram import scram_credentials
from holdfast.core.wamp.handshake import (
    Answer,
    Ask,
    Failure,
    Handshake,
    Join,
    Quit,
    Refuse,
    Send,
    TransportFacts,
)
from holdfast.core.wamp.messages import Abort, Authenticate, Call, Goodbye, Hello, Message

REALMS = {"realm1": {"user", "anonymous"}}
PUBLIC = "1adfc8bfe1d35616e64dffbd900096f23b066f914c8c2ffbb66f6075b96e116d"
USERS = {
    "ticket": {"joe": {"ticket": "a secret that is not guessed", "role": "user"}, "": {"ticket": "", "role": "user"}},
    "wampcra": {
        "joe": {"secret": "a secret that is not guessed", "role": "user"},
        "peter": {"secret": "another", "salt": "salt", "iterations": 10, "keylen": 16, "role": "user"},
    },
    "scram": {"joe": {**scram_credentials("not guessed", b"saltsalt", 10), "role": "user"}, "broken": {"role": "user"}},
    "cryptosign": {"joe": {"authorized_keys": [PUBLIC], "role": "user"}},
    "tls": {"joe": {"sha1": "ab" * 20, "role": "user"}},
}  # fmt: skip
STATIC = {name: {"type": "static", "principals": users} for name, users in USERS.items()} | {
    "cookie": {}
}
DYNAMIC = {name: {"type": "dynamic", "authenticator": "com.example.auth"} for name in USERS}

text = st.text(st.characters(), max_size=12)
junk = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | text | st.binary(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=6,
)
names = st.sampled_from(["joe", "peter", "broken", "", "eve"]) | text
methods = (
    st.sampled_from(
        ["ticket", "wampcra", "scram", "wamp-scram", "cryptosign", "tls", "cookie", "anonymous"]
    )
    | text
)
extras = st.fixed_dictionaries(
    {},
    optional={
        "nonce": st.sampled_from(["AAAA", "AAAAAAAA", ""]) | junk,
        "pubkey": st.sampled_from([PUBLIC, "00" * 32, "58" + "66" * 31, "ff" * 32]) | junk,
        "challenge": st.just("ab" * 32) | junk,
        "channel_binding": st.sampled_from([None, "tls-unique", "tls-exporter"]) | junk,
    },
)
details: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {"roles": st.just({"caller": {}}) | junk},
    optional={
        "authid": names | junk,
        "authrole": names | junk,
        "authmethods": st.lists(methods, max_size=4) | junk,
        "authextra": extras | junk,
    },
)
realms = st.sampled_from(["realm1", "nowhere", None]) | text
signatures = st.sampled_from(["", "AAAA", "A" * 43 + "=", "00" * 96]) | text
answers = st.fixed_dictionaries(
    {},
    optional={"nonce": signatures | junk, "channel_binding": junk, "cbind_data": signatures | junk},
)
hellos = st.builds(Hello, realms, details)
messages: st.SearchStrategy[Message] = st.one_of(
    hellos,
    st.builds(Authenticate, signatures, answers),
    st.sampled_from([Abort({}, "no"), Goodbye({}, "no"), Call(1, {}, "com.example.add")]),
)
facts = st.tuples(st.sampled_from([None, bytes(32)]), st.sampled_from([None, "c00kie"])).map(
    lambda pair: TransportFacts("rawsocket", "unix:", channel_id=pair[0], cookie=pair[1])
)


def chance(count: int) -> bytes:
    return bytes(count)


@settings(max_examples=400)
@given(facts, st.lists(messages, max_size=2), hellos, st.lists(messages, max_size=3))
def test_no_message_raises_and_none_joins_without_a_proof(
    known: TransportFacts, before: list[Message], hello: Message, after: list[Message]
) -> None:
    """All methods at once, with users whose secrets are not among the guesses."""
    handshake = Handshake(STATIC, known, REALMS, chance, 1, pepper=b"p")
    for message in [*before, hello, *after]:
        was_over = handshake.is_over
        for step in handshake.receive(message, 0.0):
            assert isinstance(step, Send | Refuse | Quit)
            assert handshake.is_over == (not isinstance(step, Send))
            assert not was_over


@settings(max_examples=300)
@given(hellos, st.lists(messages, max_size=2), junk, st.booleans(), st.booleans())
def test_no_answer_of_an_authenticator_raises_or_joins_without_a_role(
    hello: Hello, after: list[Message], value: Any, is_failure: bool, is_early: bool
) -> None:
    """An authenticator is somebody's code: it may return anything, at any time, or raise."""
    handshake = Handshake(
        DYNAMIC, TransportFacts("rawsocket", "unix:"), REALMS, chance, 1, pepper=b"p"
    )
    outcome = Failure("wamp.error.runtime_error", "x") if is_failure else Answer(value)
    if is_early:
        assert handshake.answer(outcome, 0.0) == []
    is_asked = False
    for message in [hello, *after]:
        for step in handshake.receive(message, 0.0):
            assert not isinstance(step, Join)
            is_asked = is_asked or isinstance(step, Ask)
    for step in handshake.answer(outcome, 0.0):
        assert is_asked
        assert (
            not isinstance(step, Join)
            or value == "user"
            or (isinstance(value, dict) and value.get("role") in REALMS["realm1"])
        )


@given(hellos)
def test_an_open_transport_gives_nobody_more_than_anonymous(hello: Hello) -> None:
    """Whatever role and name a stranger asks for."""
    handshake = Handshake(
        {"anonymous": {"type": "static"}, "cookie": {}},
        TransportFacts("websocket", "x", cookie="y"),
        REALMS,
        chance,
        1,
    )
    for step in handshake.receive(hello, 0.0):
        assert isinstance(step, Join | Refuse)
        if isinstance(step, Join):
            assert step.identity.authrole == "anonymous"
            assert step.identity.authmethod == "anonymous"
