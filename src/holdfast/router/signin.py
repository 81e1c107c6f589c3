"""What does a router keep for the sign-in of all its connections?

Stores and loaded code around the rules of :mod:`holdfast.core.wamp.handshake`: cookies, the user's authenticator functions, the
router's own key, who guessed too often. What a connection does with the steps of its handshake:

    Send, Join, Quit    its own
    Refuse              its own, and :meth:`SignIn.note_refusal`
    Run                 :meth:`SignIn.run`, which calls back with the outcome
    KeepCookie          :meth:`SignIn.keep`, before the next step
    Ask                 `Realm.call` of that realm, with `Answer` or `Failure` for :meth:`Handshake.answer`

Left out: calls to procedures (the realm's) and what is said to the client (the rules').
"""

import hashlib
import json
import os
import sys
import time
from math import ceil
from typing import NamedTuple

from holdfast.core.wamp.auth.attempts import Attempts
from holdfast.core.wamp.auth.cryptosign import NoCryptography, SigningKey
from holdfast.core.wamp.auth.secrets import from_hex
from holdfast.core.wamp.handshake import AUTHENTICATION_DENIED, Handshake, Refuse
from holdfast.model.errors import ConfigError
from holdfast.router.signin_cookies import CookieStore, cookie_of, set_cookie
from holdfast.router.signin_functions import Functions

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from holdfast.core.wamp.handshake import (
        Answer,
        Failure,
        KeepCookie,
        Remembered,
        Run,
        TransportFacts,
    )
    from holdfast.model.bus import RouterPlan

#: Where the plan's table `cookie` does not say: Crossbar.io's.
_NAME, _LENGTH, _MAX_AGE_S = "cbtid", 24, 7 * 86400


class Cookie(NamedTuple):
    """The cookie of a request: what it brought, or what the response gives."""

    value: str
    set_cookie: str | None  #: value of the Set-Cookie header, where the client has to be told


class SignIn:
    """What all connections of a router share to sign their clients in."""

    def __init__(
        self,
        plan: "RouterPlan",
        says: "Callable[[str], object] | None" = None,
        attempts: Attempts | None = None,
    ) -> None:
        """Load what the plan asks for.

        Args:
            plan: The router's.
            says: Writes a line to the log; standard error by default.
            attempts: Who guessed too often.

        Raises:
            ConfigError: The router's key cannot be used.
        """
        self._says = says or _to_stderr
        self.attempts = attempts or Attempts()
        self._functions = Functions()
        self._stores: dict[str, CookieStore] = {}
        self.identity: SigningKey | None = None
        #: The names of the roles of each realm.
        self.realms: dict[str, frozenset[str]] = {}
        #: What made-up users are made of (see `stand_in`).
        self.pepper = b""
        self.configure(plan)

    def configure(self, plan: "RouterPlan") -> None:
        """Take a new plan over; handshakes that are under way go on with the old one.

        Raises:
            ConfigError: The router's key cannot be used; nothing has changed.
        """
        path = plan["identity"]
        self.identity = None if path is None else read_identity(path)
        self.realms = {
            one["name"]: frozenset(role["name"] for role in one["roles"]) for one in plan["realms"]
        }
        # Made of the users' secrets, which nobody outside knows: the same after a restart, without another file to keep.
        text = json.dumps(plan["transports"], sort_keys=True, default=str)
        self.pepper = hashlib.sha256(b"stand-ins:" + text.encode()).digest()

    def open(self, auth: "Mapping[str, Any]", facts: "TransportFacts", session: int) -> Handshake:
        """Begin the sign-in of a connection; `session` is the id that its session is going to have."""
        return Handshake(
            auth, facts, self.realms, os.urandom, session,
            pepper=self.pepper, remembered=self.remembered(auth, facts.cookie), identity=self.identity,
        )  # fmt: skip

    def held_off(self, facts: "TransportFacts", now_s: float) -> Refuse | None:
        """Say so when too many wrong proofs came from that host; asked before HELLO is looked at."""
        if facts.is_internal:
            return None
        wait_s = self.attempts.wait_s(_host(facts.peer), now_s)
        if not wait_s:
            return None
        text = f"too many failed sign-ins came from this address; try again in {ceil(wait_s)} s"
        return Refuse(
            AUTHENTICATION_DENIED, text, "there are too many failed sign-ins from this address"
        )

    def note_refusal(self, facts: "TransportFacts", refusal: Refuse, now_s: float) -> None:
        """Remember a wrong proof, and tell the operator why somebody was refused."""
        if refusal.is_guess:
            self.attempts.note_failure(_host(facts.peer), now_s)
        if refusal.cause:
            self._says(f"{facts.peer} was refused with {refusal.reason}: {refusal.cause}")

    def run(self, step: "Run", then: "Callable[[Answer | Failure], object]") -> None:
        """Ask an authenticator function; `then` is called later, on the running loop, once."""
        self._functions.run(step, then)

    # -- cookies ------------------------------------------------------------------------------------

    def cookie(
        self, auth: "Mapping[str, Any]", header: str | None, *, is_tls: bool
    ) -> Cookie | None:
        """Find or make the cookie of a request; None where the transport does not have any.

        Args:
            auth: Of the transport or path.
            header: The Cookie header of the request (several: joined by "; ").
            is_tls: Whether the browser is told to send it over TLS only.
        """
        store = self._store(auth)
        if store is None:
            return None
        table = auth["cookie"]
        name = str(table.get("name") or _NAME)
        found = cookie_of(header, name, store)
        if found is not None:
            return Cookie(found, None)
        value = store.issue(int(table.get("length") or _LENGTH))
        return Cookie(value, set_cookie(name, value, _max_age_s(table), is_tls=is_tls))

    def remembered(self, auth: "Mapping[str, Any]", cookie: str | None) -> "Remembered | None":
        """Return the sign-in that a cookie stands for."""
        store = self._store(auth) if cookie else None
        if store is None or not cookie:
            return None
        return store.find(cookie, time.time())

    def keep(self, auth: "Mapping[str, Any]", step: "KeepCookie") -> None:
        """Let the cookie stand for the sign-in, also after a crash. A full disk costs the memory of it, not the sign-in."""
        store = self._store(auth)
        if store is None:
            return
        try:
            store.keep(step.cookie, step.remembered, time.time() + _max_age_s(auth["cookie"]))
        except OSError as error:
            self._says(
                f"the sign-in of {step.remembered.identity.authid!r} is kept in memory only: {error}"
            )
            return
        try:
            store.tidy()
        except OSError as error:
            self._says(f"the file of the cookies grows, for it cannot be written anew: {error}")

    def sign_out(self, auth: "Mapping[str, Any]", cookie: str | None) -> bool:
        """End what a cookie stands for (GOODBYE with the reason wamp.close.logout); tell whether it stood for anything.

        The other sessions of the same cookie are the caller's to close.
        """
        store = self._store(auth)
        if store is None or cookie is None:
            return False
        try:
            return store.forget(cookie)
        except OSError as error:
            self._says(
                f"a sign-out could not be written, and may be undone by a restart of the router: {error}"
            )
            return True

    def _store(self, auth: "Mapping[str, Any]") -> CookieStore | None:
        table = auth.get("cookie")
        if not isinstance(table, dict):
            return None
        path = table.get("path")
        # Without a file: one for each name, so that a port's paths agree.
        key = str(path) if path else f"memory:{table.get('name') or _NAME}"
        store = self._stores.get(key)
        if store is None:
            try:
                store = CookieStore(str(path) if path else None)
            except OSError as error:
                self._says(f"cookies are kept in memory only: {path}: {error.strerror or error}")
                store = CookieStore(None)
            self._stores[key] = store
        return store


def read_identity(path: str) -> SigningKey:
    """Read the router's private key: 64 hexadecimal digits, or a key file of Crossbar.io.

    Raises:
        ConfigError: It is not there, is not a key, or the package cryptography is missing.
    """
    try:
        with open(path, encoding="ascii") as file:
            text = file.read(65536)
    except (OSError, UnicodeDecodeError) as error:
        says = error.strerror if isinstance(error, OSError) else "not a text of hexadecimal digits"
        raise ConfigError([f"{path}: the router's key cannot be read: {says}"]) from None
    for line in text.splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "private-key-ed25519":
            text = value
    seed = from_hex(text.strip(), 32)
    if seed is None:
        raise ConfigError([f"{path}: the router's key has to be 64 hexadecimal digits (Ed25519)"])
    try:
        return SigningKey(seed)
    except NoCryptography as error:
        raise ConfigError([f"{path}: {error}"]) from None


def _max_age_s(table: "Mapping[str, Any]") -> int:
    return int(table.get("max_age_s") or table.get("max_age") or _MAX_AGE_S)


def _host(peer: str) -> str:
    """Drop the port: tcp4:127.0.0.1:53976 is tcp4:127.0.0.1; a Unix socket's clients are one."""
    if not peer.startswith("tcp"):
        return peer.partition(":")[0]
    return peer.rpartition(":")[0] if peer.count(":") > 1 else peer


def _to_stderr(text: str) -> None:
    print(text, file=sys.stderr, flush=True)  # noqa: T201 -- the worker's log
