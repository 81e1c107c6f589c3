"""How does a client prove who it is? The client's side of every WAMP authentication method.

`auth` is the dict of :class:`holdfast.model.bus.BusPlan`: empty for anonymous, or a `method` with its keys:

    anonymous    (authid)
    ticket       authid, ticket
    wampcra      authid, secret
    scram        authid, password; (dialect: "autobahn" announces `scram` alone, as Crossbar.io wants it)
    cryptosign   private_key (64 hexadecimal digits) or private_key_file; (authid, channel_binding: "tls-unique",
                 router_keys: public keys of which the router has to prove one)
    tls          (authid); the certificate is the connection's
    cookie       cookie: "name=value", as a browser would send it

and for all of them, optionally, `authrole` and `authextra`. A signer lives for one HELLO: nonces are used once.

    signer = make_signer(auth, channel_id)      SignInError: the configuration is wrong
    details |= signer.hello()                   authmethods, authid, authrole, authextra
    signature, extra = signer.answer(method, extra)     to a CHALLENGE; SignInError: the client's answer is ABORT
    signer.check(welcome_details)               SignInError: the router has not proved itself; ABORT, too

`signer.headers` go into the HTTP request of a WebSocket. `answer` computes for up to a second where `signer.is_slow`
(password hashing; the result is kept for the next time): call it in a thread. Left out: messages and connections.
"""

import os
from base64 import b64encode
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from holdfast.bus.errors import JoinRefused
from holdfast.core.wamp.auth.secrets import from_base64, from_hex, is_same

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from holdfast.core.wamp.auth.cryptosign import SigningKey
    from holdfast.core.wamp.auth.scram import Keys

FAILED = "wamp.error.authentication_failed"
_ALWAYS = frozenset(("method", "authid", "authrole", "authextra"))


class SignInError(JoinRefused):
    """This side cannot or will not go on with the sign-in; the text says why, and what to do."""

    def __init__(self, says: str) -> None:
        super().__init__(FAILED, says)


class Signer:
    """Anonymous, and what all methods have: anonymous clients have nothing to answer."""

    method = "anonymous"
    needs: tuple[str, ...] = ()
    takes: tuple[str, ...] = ()
    #: Whether `answer` computes for long.
    is_slow = False

    def __init__(
        self, auth: "Mapping[str, Any]", channel_id: bytes | None, chance: "Callable[[int], bytes]"
    ) -> None:
        missing = [key for key in self.needs if not auth.get(key)]
        if missing:
            raise SignInError(f'auth: {self.method} needs "{missing[0]}", which is missing')
        unknown = sorted(auth.keys() - _ALWAYS - {*self.needs, *self.takes})
        if unknown:
            raise SignInError(f'auth: {self.method} has no "{unknown[0]}"')
        self.auth = auth
        self.channel_id = channel_id
        self.chance = chance

    @property
    def headers(self) -> list[tuple[str, str]]:
        """More headers for the request that opens a WebSocket."""
        return []

    def methods(self) -> list[str]:
        """Return HELLO.details.authmethods."""
        return [self.method]

    def extra(self) -> dict[str, Any]:
        """Return what the method adds to HELLO.details.authextra."""
        return {}

    def hello(self) -> dict[str, Any]:
        """Return what belongs into HELLO.details."""
        details: dict[str, Any] = {"authmethods": self.methods()}
        for key in ("authid", "authrole"):
            if self.auth.get(key):
                details[key] = self.auth[key]
        extra = {**(self.auth.get("authextra") or {}), **self.extra()}
        if extra:
            details["authextra"] = extra
        return details

    def answer(self, method: str, extra: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        """Answer a CHALLENGE: signature and extra of AUTHENTICATE.

        Raises:
            SignInError: The challenge is none that this side answers.
        """
        if method not in self.methods():
            raise SignInError(
                f'the router asks for a sign-in by "{method:.60}", and "{self.method}" is configured'
            )
        try:
            return self._answer(extra)
        except (KeyError, TypeError, ValueError) as error:
            raise SignInError(
                f"the router's challenge ({self.method}) makes no sense: {error}"
            ) from None

    def check(self, welcome: dict[str, Any]) -> None:
        """Look at WELCOME.details: has the router proved itself, where the method wants that?

        Raises:
            SignInError: It has not.
        """

    def _answer(self, extra: dict[str, Any]) -> tuple[str, dict[str, Any]]:  # noqa: ARG002 -- the shape of every method
        raise SignInError(f'the router asks for a proof, and "{self.method}" has none')


class Ticket(Signer):
    """A shared secret, as it is."""

    method = "ticket"
    needs: tuple[str, ...] = ("authid", "ticket")

    def _answer(self, extra: dict[str, Any]) -> tuple[str, dict[str, Any]]:  # noqa: ARG002 -- a ticket needs no challenge
        return str(self.auth["ticket"]), {}


class Wampcra(Signer):
    """A shared secret that stays here."""

    method = "wampcra"
    needs: tuple[str, ...] = ("authid", "secret")

    def _answer(self, extra: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        from holdfast.core.wamp.auth.wampcra import ITERATIONS, KEYLEN, sign

        key = str(self.auth["secret"])
        if extra.get("salt"):
            key = _derived(key, str(extra["salt"]), int(extra.get("iterations") or ITERATIONS), int(extra.get("keylen") or KEYLEN))  # fmt: skip
        return sign(key, str(extra["challenge"])), {}


class Scram(Signer):
    """A password that stays here, and a router that has to prove that it knows of it."""

    method = "scram"
    needs: tuple[str, ...] = ("authid", "password")
    takes: tuple[str, ...] = ("dialect",)
    is_slow = True

    def __init__(
        self, auth: "Mapping[str, Any]", channel_id: bytes | None, chance: "Callable[[int], bytes]"
    ) -> None:
        super().__init__(auth, channel_id, chance)
        self._nonce = b64encode(chance(18)).decode()
        self._expected = ""

    def methods(self) -> list[str]:
        """Return both names of the method, the specification's first."""
        if self.auth.get("dialect") == "autobahn":
            return ["scram"]
        return ["wamp-scram", "scram"]

    def extra(self) -> dict[str, Any]:
        """Return the nonce that the router's has to begin with."""
        return {"nonce": self._nonce}

    def answer(self, method: str, extra: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        """Answer in the dialect that the name of the method tells: what is signed differs."""
        self._is_autobahn = method == "scram"
        return super().answer(method, extra)

    def _answer(self, extra: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        from holdfast.core.wamp.auth import scram

        nonce, salt, kdf = str(extra["nonce"]), str(extra["salt"]), str(extra["kdf"])
        iterations, memory = int(extra["iterations"]), extra.get("memory")
        if not nonce.startswith(self._nonce) or len(nonce) == len(self._nonce):
            raise SignInError(
                "the router's nonce does not go on from ours: somebody is in between, or it is broken"
            )
        raw_salt = from_base64(salt)
        if not raw_salt:
            raise SignInError("the router's salt is not Base64")
        if kdf == scram.PBKDF2 and iterations < scram.FEWEST_ITERATIONS:
            raise SignInError(
                f"the router asks for {iterations} iterations, which gives the password away; "
                f"at least {scram.FEWEST_ITERATIONS} are needed: store new credentials for this user"
            )
        keys = _keys(
            str(self.auth["password"]),
            raw_salt,
            kdf,
            iterations,
            None if memory is None else int(memory),
        )
        parts = (str(self.auth["authid"]), self._nonce, nonce, salt, iterations)
        message = (
            scram.auth_message_autobahn(*parts) if self._is_autobahn else scram.auth_message(*parts)
        )
        self._expected = scram.server_signature(keys.server, message)
        said = (
            {}
            if self._is_autobahn
            else {"nonce": nonce, "channel_binding": None, "cbind_data": None}
        )
        return scram.proof(keys, message), said

    def check(self, welcome: dict[str, Any]) -> None:
        """See to it that the router knows the password's hash."""
        if welcome.get("authmethod") not in ("scram", "wamp-scram"):
            # Signed in by something else: there was no challenge, and nothing was promised.
            raise SignInError(
                "the router let us in without asking for the password (SCRAM): it may be an impostor"
            )
        extra = welcome.get("authextra")
        said = extra if isinstance(extra, dict) else {}
        verifier = said.get("verifier")
        given = (
            verifier.removeprefix("v=")
            if isinstance(verifier, str)
            else said.get("scram_server_signature")
        )
        if not self._expected or not is_same(given, self._expected):
            raise SignInError(
                "the router does not know this user's password hash (SCRAM): it may be an impostor"
            )


class Cryptosign(Signer):
    """A private key that stays here."""

    method = "cryptosign"
    takes: tuple[str, ...] = ("private_key", "private_key_file", "channel_binding", "router_keys")

    def __init__(
        self, auth: "Mapping[str, Any]", channel_id: bytes | None, chance: "Callable[[int], bytes]"
    ) -> None:
        super().__init__(auth, channel_id, chance)
        self._key = _private_key(auth)
        self._challenge = chance(32) if auth.get("router_keys") else None
        self._is_proved = self._challenge is None

    def extra(self) -> dict[str, Any]:
        """Return the public key, and what the router has to sign."""
        extra: dict[str, Any] = {"pubkey": self._key.public}
        if self.auth.get("channel_binding"):
            extra["channel_binding"] = self.auth["channel_binding"]
        if self._challenge is not None:
            extra["challenge"] = self._challenge.hex()
        return extra

    def _answer(self, extra: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        from holdfast.core.wamp.auth.cryptosign import message_of, verify

        binding = self.auth.get("channel_binding")
        if self._challenge is not None:
            known = [str(key).lower() for key in self.auth["router_keys"]]
            public = from_hex(extra.get("pubkey"), 32)
            if public is None or public.hex() not in known:
                raise SignInError(
                    "the router does not have one of the keys in router_keys: it may be an impostor"
                )
            if not verify(
                public,
                str(extra.get("signature")),
                message_of(self._challenge, binding, self.channel_id),
            ):
                raise SignInError("the router's signature is wrong: it may be an impostor")
            self._is_proved = True
        challenge = from_hex(extra["challenge"], 32)
        if challenge is None:
            raise SignInError("the router's challenge (cryptosign) is not 64 hexadecimal digits")
        return self._key.sign(message_of(challenge, binding, self.channel_id)), {}

    def check(self, welcome: dict[str, Any]) -> None:  # noqa: ARG002 -- the shape of every method
        """See to it that the router has signed, where it had to."""
        if not self._is_proved:
            raise SignInError("the router let us in without proving one of the keys in router_keys")


class TlsCertificate(Signer):
    """The certificate of the connection."""

    method = "tls"


class Cookie(Signer):
    """An earlier sign-in, as a browser has it."""

    method = "cookie"
    needs: tuple[str, ...] = ("cookie",)

    @property
    def headers(self) -> list[tuple[str, str]]:
        """Send it."""
        return [("Cookie", str(self.auth["cookie"]))]


SIGNERS: dict[str, type[Signer]] = {
    one.method: one for one in (Signer, Ticket, Wampcra, Scram, Cryptosign, TlsCertificate, Cookie)
}


def make_signer(
    auth: "Mapping[str, Any] | None",
    channel_id: bytes | None = None,
    chance: "Callable[[int], bytes]" = os.urandom,
) -> Signer:
    """Return the signer for one HELLO.

    Args:
        auth: As above; None or empty: anonymous.
        channel_id: SHA-256 of the TLS connection's tls-unique, for cryptosign with channel binding.
        chance: Gives that many random bytes.

    Raises:
        SignInError: The method is unknown, or a key of it is missing.
    """
    auth = auth or {}
    method = str(auth.get("method") or "anonymous")
    kind = SIGNERS.get("scram" if method == "wamp-scram" else method)
    if kind is None:
        raise SignInError(
            f'auth: there is no method "{method}"; there are {", ".join(sorted(SIGNERS))}'
        )
    return kind(auth, channel_id, chance)


def _private_key(auth: "Mapping[str, Any]") -> "SigningKey":
    from holdfast.core.wamp.auth.cryptosign import NoCryptography, SigningKey

    text, where = auth.get("private_key"), "private_key"
    if not text:
        path = auth.get("private_key_file")
        if not path:
            raise SignInError('auth: cryptosign needs "private_key" or "private_key_file"')
        try:
            with open(path, encoding="ascii") as file:
                text, where = file.read(65536), str(path)
        except (OSError, UnicodeDecodeError) as error:
            says = error.strerror if isinstance(error, OSError) else "it is not a text"
            raise SignInError(f"auth: the private key {path} cannot be read: {says}") from None
    seed = from_hex(str(text).strip(), 32)
    if seed is None:
        raise SignInError(
            f"auth: {where} has to be 64 hexadecimal digits (the seed of an Ed25519 key)"
        )
    try:
        return SigningKey(seed)
    except NoCryptography as error:
        raise SignInError(str(error)) from None


@lru_cache(maxsize=8)
def _derived(secret: str, salt: str, iterations: int, keylen: int) -> str:
    from holdfast.core.wamp.auth.wampcra import derive_wampcra

    return derive_wampcra(secret, salt, iterations, keylen)


@lru_cache(maxsize=8)
def _keys(password: str, salt: bytes, kdf: str, iterations: int, memory: int | None) -> "Keys":
    """Hash once, not at every reconnect: a hundred components coming back together would hash for a minute."""
    from holdfast.core.wamp.auth.scram import keys_of, salted_password

    return keys_of(salted_password(password, salt, kdf, iterations, memory))
