"""What the router keeps for the sign-in: cookies, the users' own functions, its key, and who guessed too often."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Any

import pytest

from holdfast.core.wamp.auth.attempts import Attempts
from holdfast.core.wamp.handshake import (
    Answer,
    Failure,
    Join,
    KeepCookie,
    Refuse,
    Run,
    TransportFacts,
)
from holdfast.core.wamp.messages import Authenticate, Hello
from holdfast.model.errors import ConfigError
from holdfast.router.signin import SignIn

if TYPE_CHECKING:
    from pathlib import Path

    from holdfast.core.wamp.handshake import Handshake, Step

FACTS = TransportFacts("websocket", "tcp4:10.0.0.1:53976")
SLOWNESS = float(os.environ.get("HOLDFAST_SLOWNESS", "1"))
TICKET = {"type": "static", "principals": {"joe": {"ticket": "secret!", "role": "user"}}}


def plan(**more: Any) -> Any:
    roles: list[Any] = [
        {"name": name, "permissions": [], "authorizer": None} for name in ("user", "anonymous")
    ]
    realm = {
        "name": "realm1",
        "roles": roles,
        "meta_api": True,
        "history": [],
        "uri_check": "loose",
    }
    return {
        "realms": [realm],
        "transports": [],
        "limits": {},
        "links": [],
        "identity": None,
        **more,
    }


def begin(handshake: Handshake, *methods: str) -> list[Step]:
    return handshake.receive(
        Hello("realm1", {"roles": {"caller": {}}, "authid": "joe", "authmethods": list(methods)}),
        0.0,
    )


# -- cookies -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["file", "memory"])
def test_a_browser_that_signed_in_once_comes_back_without_a_secret(
    tmp_path: Path, kind: str
) -> None:
    """The whole way of a cookie; with a file also through the death of the router."""
    auth = {
        "cookie": {
            "name": "cbtid",
            "max_age_s": 60,
            "path": str(tmp_path / "c") if kind == "file" else None,
        },
        "ticket": TICKET,
    }
    signin = SignIn(plan())
    cookie = signin.cookie(auth, None, is_tls=True)
    assert cookie is not None
    assert (
        cookie.set_cookie
        == f"cbtid={cookie.value}; Max-Age=60; Path=/; HttpOnly; SameSite=Lax; Secure"
    )
    facts = FACTS._replace(cookie=cookie.value)
    handshake = signin.open(auth, facts, 1)
    begin(handshake, "cookie", "ticket")
    keep, join = handshake.receive(Authenticate("secret!", {}), 0.0)
    assert isinstance(keep, KeepCookie)
    assert isinstance(join, Join)
    signin.keep(auth, keep)

    if kind == "file":
        signin = SignIn(plan())
    again = signin.cookie(auth, f"cbtid={cookie.value}", is_tls=True)
    assert again is not None
    assert again == (cookie.value, None)
    (back,) = begin(signin.open(auth, facts, 2), "cookie")
    assert isinstance(back, Join)
    assert back.identity[:4] == ("joe", "user", "ticket", "cookie")
    assert signin.sign_out(auth, cookie.value)
    assert isinstance(begin(signin.open(auth, facts, 3), "cookie")[0], Refuse)
    assert not signin.sign_out(auth, cookie.value)


def test_two_tabs_opened_at_once_have_one_cookie() -> None:
    """The second tab sends what the first was given, though nobody has signed in yet."""
    signin = SignIn(plan())
    auth: dict[str, Any] = {"cookie": {}}
    first = signin.cookie(auth, None, is_tls=False)
    assert first is not None

    assert signin.cookie(auth, f"cbtid={first.value}", is_tls=False) == (first.value, None)


def test_a_transport_without_cookies_sets_none() -> None:
    """Nobody likes cookies for nothing."""
    assert SignIn(plan()).cookie({"ticket": TICKET}, "cbtid=x", is_tls=False) is None


def test_a_store_that_cannot_be_opened_costs_the_memory_not_the_sign_in(tmp_path: Path) -> None:
    """Holdfast must never be the outage; the log says what happened."""
    (tmp_path / "file").write_text("")
    said: list[str] = []
    signin = SignIn(plan(), said.append)
    auth = {"cookie": {"path": str(tmp_path / "file" / "cookies")}}

    assert signin.cookie(auth, None, is_tls=False) is not None
    assert len(said) == 1
    assert "kept in memory only" in said[0]


# -- guesses -----------------------------------------------------------------------------------------


def test_who_guesses_too_often_is_held_off_from_every_port_of_that_host() -> None:
    """A new connection for each guess does not help; the node's own socket is never held off."""
    signin = SignIn(plan(), lambda _says: None, Attempts(limit=2, window_s=60.0))
    auth = {"ticket": TICKET}
    for port in (1, 2):
        facts = FACTS._replace(peer=f"tcp4:10.0.0.1:{port}")
        assert signin.held_off(facts, 0.0) is None
        handshake = signin.open(auth, facts, 1)
        begin(handshake, "ticket")
        (step,) = handshake.receive(Authenticate("guess", {}), 0.0)
        assert isinstance(step, Refuse)
        signin.note_refusal(facts, step, 0.0)

    refusal = signin.held_off(FACTS._replace(peer="tcp4:10.0.0.1:3"), 1.5)
    assert refusal is not None
    assert refusal.reason == "wamp.error.authentication_denied"
    assert refusal.text == "too many failed sign-ins came from this address; try again in 59 s"
    assert signin.held_off(FACTS._replace(peer="tcp4:10.0.0.2:3"), 1.5) is None
    assert signin.held_off(FACTS._replace(peer="tcp4:10.0.0.1:3", is_internal=True), 1.5) is None
    assert signin.held_off(FACTS, 60.0) is None


def test_a_mistake_in_the_protocol_is_no_guess() -> None:
    """A client under development would lock its author out."""
    signin = SignIn(plan(), lambda _says: None, Attempts(limit=1))
    (step,) = signin.open({"ticket": TICKET}, FACTS, 1).receive(Hello("realm1", {}), 0.0)
    assert isinstance(step, Refuse)
    signin.note_refusal(FACTS, step, 0.0)

    assert signin.held_off(FACTS, 0.0) is None


def test_the_operator_is_told_why() -> None:
    """The client is not."""
    said: list[str] = []
    signin = SignIn(plan(), said.append)
    handshake = signin.open({"ticket": TICKET}, FACTS, 1)
    begin(handshake, "ticket")
    (step,) = handshake.receive(Authenticate("guess", {}), 0.0)
    assert isinstance(step, Refuse)
    signin.note_refusal(FACTS, step, 0.0)

    assert said == [
        "tcp4:10.0.0.1:53976 was refused with wamp.error.authentication_failed: 'joe' gave a wrong proof (ticket)"
    ]


def test_made_up_users_are_the_same_after_a_restart_and_others_with_other_secrets() -> None:
    """Else a restart of the router would tell which names do not exist."""
    one = plan(transports=[{"auth": {"ticket": TICKET}}])

    assert SignIn(one).pepper == SignIn(plan(transports=[{"auth": {"ticket": TICKET}}])).pepper
    assert SignIn(one).pepper != SignIn(plan()).pepper


# -- the router's key --------------------------------------------------------------------------------

SEED = "d511fe78e23934b3dadb52fcd022974b80bd92bccc7c5cf404e46cc0a8a2f5cd"


@pytest.mark.parametrize(
    "text",
    [
        SEED,
        f"{SEED}\n",
        f"Crossbar.io node private key\n\ncreator: me\nprivate-key-ed25519: {SEED}\n",
    ],
)
def test_the_routers_key_is_read_from_its_file(tmp_path: Path, text: str) -> None:
    """Plain, or as Crossbar.io writes it."""
    pytest.importorskip("cryptography")
    path = tmp_path / "key"
    path.write_text(text)
    identity = SignIn(plan(identity=str(path))).identity

    assert identity is not None
    assert len(identity.public) == 64


@pytest.mark.parametrize("content", [None, b"", b"abc", b"\xff", b"zz" * 32, SEED.encode() + b"00"])
def test_a_key_that_cannot_be_used_is_an_error_with_its_path(
    tmp_path: Path, content: bytes | None
) -> None:
    """A router that silently has no identity would look like an impostor to its clients."""
    path = tmp_path / "key"
    if content is not None:
        path.write_bytes(content)

    with pytest.raises(ConfigError, match=str(path)):
        SignIn(plan(identity=str(path)))


# -- functions ---------------------------------------------------------------------------------------

SHOP = """
import asyncio
made = []
def create(config, controller):
    made.append(config)
    def authenticate(realm, authid, details):
        return {"role": config["role"], "authid": authid.upper(), "extra": {"realm": realm, "ticket": details["ticket"]}}
    return authenticate
async def create_async(config):
    async def authenticate(realm, authid, details):
        await asyncio.sleep(0)
        return "user"
    return authenticate
def create_nothing(config):
    return None
def create_broken(config):
    raise KeyError("no database")
class Expired(Exception):
    error = "com.shop.expired"
def create_refusing(config):
    def authenticate(realm, authid, details):
        raise Expired("pay first")
    return authenticate
def create_failing(config):
    def authenticate(realm, authid, details):
        return 1 / 0
    return authenticate
def create_hanging(config):
    async def authenticate(realm, authid, details):
        await asyncio.Event().wait()
    return authenticate
number = 5
"""


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    name = f"shop_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(SHOP)
    (tmp_path / f"{name}_broken.py").write_text("import nothing_of_this_name")
    monkeypatch.syspath_prepend(str(tmp_path))
    return name


def outcome(
    create: str,
    config: dict[str, Any] | None = None,
    times: int = 1,
    timeout_s: float = 10 * SLOWNESS,
) -> Answer | Failure:
    """Run an authenticator as a router does."""

    async def main() -> Answer | Failure:
        signin = SignIn(plan())
        told: Answer | Failure | None = None
        for _ in range(times):
            done: asyncio.Future[Answer | Failure] = asyncio.get_running_loop().create_future()
            signin.run(
                Run(create, config or {}, ["realm1", "joe", {"ticket": "t"}], timeout_s),
                done.set_result,
            )
            told = await done
        assert told is not None
        return told

    return asyncio.run(main())


@pytest.mark.parametrize("separator", [":", "."])
def test_a_function_of_the_users_code_signs_in(shop: str, separator: str) -> None:
    """Crossbar.io's signature and spelling, and ours; it is made once."""
    told = outcome(f"{shop}{separator}create", {"role": "user"}, times=3)

    assert told == Answer(
        {"role": "user", "authid": "JOE", "extra": {"realm": "realm1", "ticket": "t"}}
    )
    assert __import__(shop).made == [{"role": "user"}]


def test_coroutine_functions_are_awaited(shop: str) -> None:
    """Both of them."""
    assert outcome(f"{shop}:create_async") == Answer("user")


@pytest.mark.parametrize(
    ("create", "error", "words"),
    [
        ("{}:missing", "wamp.error.runtime_error", "has no missing"),
        ("{}:number", "wamp.error.runtime_error", "is a int, not a function"),
        ("{}_gone:create", "wamp.error.runtime_error", "ModuleNotFoundError"),
        ("{}_broken:create", "wamp.error.runtime_error", "nothing_of_this_name"),
        ("nodots", "wamp.error.runtime_error", 'expected "module:function"'),
        (
            "{}:create_nothing",
            "wamp.error.runtime_error",
            "returned a NoneType, not an authenticator",
        ),
        ("{}:create_broken", "wamp.error.runtime_error", "KeyError: 'no database'"),
        ("{}:create_failing", "wamp.error.runtime_error", "ZeroDivisionError"),
        ("{}:create_refusing", "com.shop.expired", "pay first"),
    ],
)
def test_whatever_the_users_code_does_wrong_is_an_answer(
    shop: str, create: str, error: str, words: str
) -> None:
    """It costs one sign-in, never the router; the operator reads which function."""
    told = outcome(create.format(shop))

    assert isinstance(told, Failure)
    assert told.error == error
    assert words in told.text


def test_an_authenticator_that_hangs_is_given_up(shop: str) -> None:
    """The client would wait for ever."""
    told = outcome(f"{shop}:create_hanging", timeout_s=0.05)

    assert isinstance(told, Failure)
    assert told.error == "wamp.error.timeout"
