"""Who is the client, and may it join? From its HELLO to WELCOME or ABORT.

A state machine for each connection, thrown away when the session is open. Messages go in, steps come out, and the
router carries them out in order. Left out: sockets, stores, the deadline of the whole (the router's `handshake_s`), and
the calls to dynamic authenticators, which are a step (`Ask`, `Run`) that is answered later. Methods, their choice and the
signature of authenticators are Crossbar.io's; messages and reasons the WAMP specification's ("Authentication
Methods", "Predefined URIs").

A client learns from a refusal what it did wrong in the protocol, but never whether the name or the secret was wrong:
unknown names are asked for a proof, too, which nobody has. Why a sign-in was refused is told to the operator in
`Refuse.cause`.
"""

from base64 import b32encode
from typing import TYPE_CHECKING, Any, NamedTuple, TypeGuard

from holdfast.core.wamp.auth import certificate as certificates
from holdfast.core.wamp.auth.certificate import Certificate
from holdfast.core.wamp.auth.cryptosign import (
    Cryptosign,
    CryptosignError,
    NoCryptography,
    SigningKey,
    authid_of,
)
from holdfast.core.wamp.auth.scram import Scram, ScramError
from holdfast.core.wamp.auth.secrets import is_same, principals, stand_in
from holdfast.core.wamp.auth.wampcra import Wampcra, utc
from holdfast.core.wamp.messages import CHALLENGE, Abort, Authenticate, Hello, Message
from holdfast.core.wamp.session import Identity

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

NO_SUCH_REALM = "wamp.error.no_such_realm"
NO_SUCH_ROLE = "wamp.error.no_such_role"
NO_MATCHING_AUTH_METHOD = "wamp.error.no_matching_auth_method"
AUTHENTICATION_FAILED = "wamp.error.authentication_failed"
AUTHENTICATION_DENIED = "wamp.error.authentication_denied"
PROTOCOL_VIOLATION = "wamp.error.protocol_violation"

#: What the client hears, whatever was wrong with name or secret.
_WRONG = "the sign-in failed: name or secret are wrong"
_LATER = "the sign-in failed: the router could not check it"
_TRUSTED = "trusted"
#: Clients write these names into logs and other clients' details.
_LONGEST_NAME = 500
_ROLES = frozenset(("caller", "callee", "publisher", "subscriber"))
#: Both names of SCRAM are one entry of the plan: the specification's, and that of Autobahn and Crossbar.io.
_TABLE = {"wamp-scram": "scram"}
_PROVED = frozenset(("wampcra", "scram", "cryptosign"))
ASK_TIMEOUT_S = 10.0


class TransportFacts(NamedTuple):
    """What the connection itself tells."""

    kind: str  #: websocket or rawsocket
    peer: str  #: as in Crossbar.io: tcp4:127.0.0.1:53976, unix:
    is_tls: bool = False
    is_internal: bool = False  #: the node's own socket: who can open it may have any role
    channel_id: bytes | None = None  #: tls-unique of the TLS channel, 32 bytes
    certificate: Certificate | None = None
    cookie: str | None = None  #: value of the sign-in's cookie in the upgrade request or response
    details: dict[str, Any] = {}  # noqa: RUF012 -- never written to  #: told to authenticators as `transport`


class Remembered(NamedTuple):
    """An earlier sign-in that a cookie stands for."""

    realm: str
    identity: Identity
    asked: str | None = None  #: the realm that HELLO named, where the sign-in gave another one


class Send(NamedTuple):
    """Send this message."""

    head: list[Any]


class Join(NamedTuple):
    """The sign-in is complete: open the session. `welcome` are the details of WELCOME that come from here."""

    realm: str
    identity: Identity
    welcome: dict[str, Any]


class Refuse(NamedTuple):
    """Send ABORT and close. `cause` is for the operator's log, and may be empty."""

    reason: str
    text: str
    cause: str = ""
    is_guess: bool = False  #: a wrong proof: counts against the peer


class Ask(NamedTuple):
    """Call an authenticator procedure, then go on with :meth:`Handshake.answer`."""

    realm: str
    procedure: str
    args: list[Any]
    kwargs: dict[str, Any]
    timeout_s: float


class Run(NamedTuple):
    """Call an authenticator function of the user's code, then go on with :meth:`Handshake.answer`."""

    create: str  #: module:function, which makes the authenticator
    config: dict[str, Any]
    args: list[Any]
    timeout_s: float


class KeepCookie(NamedTuple):
    """From now on the cookie stands for this sign-in; has to be on disk before the next step."""

    cookie: str
    remembered: Remembered


class Quit(NamedTuple):
    """The client has given up (ABORT): close without a word."""


Step = Send | Join | Refuse | Ask | Run | KeepCookie | Quit


class Answer(NamedTuple):
    """What an authenticator returned."""

    value: Any


class Failure(NamedTuple):
    """An authenticator raised, is not there, or did not answer in time."""

    error: str  #: URI
    text: str


_NEW, _ASKED, _CHALLENGED, _OVER = range(4)


class Handshake:
    """One client's way into a realm."""

    __slots__ = ("_asked_for", "_attempt", "_auth", "_authextra", "_authid", "_authrole", "_chance", "_facts", "_identity",
                 "_is_known", "_method", "_pepper", "_principal", "_provider", "_realm", "_realms", "_remembered", "_state",
                 "_table", "session")  # fmt: skip

    def __init__(
        self,
        auth: "Mapping[str, Any]",
        facts: TransportFacts,
        realms: "Mapping[str, Collection[str]]",
        chance: "Callable[[int], bytes]",
        session: int,
        *,
        pepper: bytes = b"",
        remembered: Remembered | None = None,
        identity: SigningKey | None = None,
    ) -> None:
        """Wait for HELLO.

        Args:
            auth: AuthPlan of the transport; empty: everybody may join as anonymous.
            facts: What the connection tells.
            realms: The names of the roles of each realm.
            chance: Gives that many random bytes.
            session: The id that the session will have (it is part of what WAMP-CRA signs).
            pepper: A secret of the router, from which made-up users get their parameters.
            remembered: What `facts.cookie` stands for.
            identity: The router's own key.
        """
        self._auth = auth
        self._facts = facts
        self._realms = realms
        self._chance = chance
        self.session = session
        self._pepper = pepper
        self._remembered = remembered
        self._identity = identity
        self._state = _NEW
        self._realm: str | None = None
        self._authid: str | None = None
        self._authrole: str | None = None
        self._authextra: dict[str, Any] = {}
        self._method = self._asked_for = self._provider = ""
        self._table: Mapping[str, Any] = {}
        self._principal: dict[str, Any] = {}
        self._is_known = False
        self._attempt: Wampcra | Scram | Cryptosign | None = None

    @property
    def is_over(self) -> bool:
        """Joined, refused or given up: nothing more comes out."""
        return self._state == _OVER

    def receive(self, message: Message, now_unix_s: float) -> list[Step]:
        """Take the next message of the client."""
        if self._state == _OVER:
            return []
        if isinstance(message, Abort):
            self._state = _OVER
            return [Quit()]
        if self._state == _NEW and isinstance(message, Hello):
            return self._hello(message, now_unix_s)
        if self._state == _CHALLENGED and isinstance(message, Authenticate):
            return self._authenticate(message)
        name = type(message).__name__.upper()
        expected = {_NEW: "HELLO", _ASKED: "nothing before the router's answer"}.get(
            self._state, "AUTHENTICATE"
        )
        return [self._refuse(PROTOCOL_VIOLATION, f"{name} came where {expected} was expected")]

    def answer(self, outcome: Answer | Failure, now_unix_s: float) -> list[Step]:
        """Go on with what the authenticator said. Too late (the handshake is over) is no harm."""
        if self._state != _ASKED:
            return []
        if isinstance(outcome, Failure):
            return [self._failure(outcome)]
        value = outcome.value
        principal = {"role": value} if isinstance(value, str) else value
        if not isinstance(principal, dict):
            return [self._refuse(AUTHENTICATION_FAILED, _LATER, f"the authenticator returned {_kind(value)}, not a role or a dict")]  # fmt: skip
        self._principal = principal
        self._is_known = True
        if self._method in _PROVED:
            return self._challenge(principal, now_unix_s)
        return self._accept()

    # -- HELLO --------------------------------------------------------------------------------------

    def _hello(self, hello: Hello, now_unix_s: float) -> list[Step]:
        details = hello.details
        fault = _fault(hello)
        if fault:
            return [self._refuse(PROTOCOL_VIOLATION, fault)]
        self._realm = hello.realm
        # Some clients send an empty name where they have none.
        self._authid = details.get("authid") or None
        self._authrole = details.get("authrole") or None
        self._authextra = details.get("authextra") or {}
        if self._facts.is_internal:
            return self._trusted()
        # Without a list the client is anonymous; without a table for anybody, everybody may be that.
        wanted = details.get("authmethods") or ["anonymous"]
        auth = self._auth or {"anonymous": {"type": "static"}}
        for name in wanted:
            table = auth.get(_TABLE.get(name, name))
            if not isinstance(table, dict):
                continue
            steps = self._begin(name, table, now_unix_s)
            if steps is not None:
                return steps
        offered = ", ".join(sorted(auth))
        asked = ", ".join(str(name)[:40] for name in wanted[:10])
        return [self._refuse(NO_MATCHING_AUTH_METHOD, f"this transport offers {offered}; the client offered {asked}")]  # fmt: skip

    def _trusted(self) -> list[Step]:
        self._method, self._provider = _TRUSTED, "node"
        self._principal = {"role": self._authrole or _TRUSTED, "extra": self._authextra}
        self._authid = self._authid or self._random_name()
        return self._accept()

    def _begin(self, name: str, table: "Mapping[str, Any]", now_unix_s: float) -> list[Step] | None:
        """Begin with a method; None: it is not for this client, try the next."""
        self._asked_for, self._method, self._table = name, _TABLE.get(name, name), table
        method = self._method
        if method == "cookie":
            return self._by_cookie()
        if method == "tls" and self._facts.certificate is None:
            return None
        self._provider = str(table.get("type") or "static")
        if method == "anonymous":
            # A name that the client picked itself would look as if somebody had checked it.
            self._authid = self._anonymous_name(table)
        elif method == "ticket":
            # The ticket is looked at when it is there, and so is the user. A dynamic one may tell the name itself.
            if not self._authid and self._provider == "static":
                return [
                    self._refuse(AUTHENTICATION_FAILED, "ticket: HELLO.details.authid is missing")
                ]
            self._state = _CHALLENGED
            return [Send([CHALLENGE, name, {}])]
        elif method not in _PROVED and method != "tls":
            return None
        if self._provider != "static":
            return [self._ask({})]
        return self._begin_static(method, now_unix_s)

    def _begin_static(self, method: str, now_unix_s: float) -> list[Step]:
        if method == "anonymous":
            self._principal = {
                "role": self._table.get("role", "anonymous"),
                "extra": self._authextra,
            }
            if self._table.get("realm"):
                self._principal["realm"] = self._table["realm"]
            return self._accept()
        users = principals(self._table)
        if method == "tls":
            return self._by_certificate(users)
        if (
            method == "cryptosign"
            and self._authid is None
            and isinstance(self._authextra.get("pubkey"), str)
        ):
            self._authid = authid_of(users, self._authextra["pubkey"].lower())
            if self._authid is None:
                # The name that such a client would get by the specification; nobody has it.
                self._authid = self._authextra["pubkey"][:64]
        if not self._authid:
            return [
                self._refuse(AUTHENTICATION_FAILED, f"{method}: HELLO.details.authid is missing")
            ]
        return self._challenge(self._principal_of(users, self._authid), now_unix_s)

    def _principal_of(self, users: "Mapping[str, Any]", authid: str) -> dict[str, Any]:
        """Look a user up; one who does not exist gets a stand-in. It is made for everybody, or the time would tell."""
        made_up = stand_in(users, authid, self._pepper)
        record = users.get(authid)
        self._is_known = isinstance(record, dict)
        return dict(record) if isinstance(record, dict) else made_up

    def _by_cookie(self) -> list[Step] | None:
        """Accept whom the cookie stands for, unless that user is gone since."""
        if self._remembered is None:
            return None
        realm, identity, asked = self._remembered
        if self._realm not in (None, realm, asked):
            return None
        role: Any = identity.authrole
        if identity.authprovider == "static":
            method = _TABLE.get(identity.authmethod, identity.authmethod)
            record = principals(self._auth.get(method) or {}).get(identity.authid)
            if not isinstance(record, dict):
                return None
            role = record.get("role", role)
        self._realm, self._authid, self._provider = realm, identity.authid, "cookie"
        self._asked_for = identity.authmethod
        self._principal = {"role": role, "extra": identity.authextra or {}}
        return self._accept(is_new=False)

    def _by_certificate(self, users: "Mapping[str, Any]") -> list[Step]:
        assert self._facts.certificate is not None  # noqa: S101 -- for the type checker; see _begin
        found = certificates.principal_of(users, self._facts.certificate)
        if found is None:
            cause = (
                f"nobody has the client certificate with SHA-256 {self._facts.certificate.sha256}"
            )
            return [self._refuse(AUTHENTICATION_FAILED, "the sign-in failed: this client certificate is nobody's here", cause, is_guess=True)]  # fmt: skip
        self._authid, principal = found
        self._principal = {"extra": self._authextra, **principal}
        return self._accept()

    def _ask(self, more: dict[str, Any]) -> Step:
        """Ask the user's own code, with Crossbar.io's signature: (realm, authid, details)."""
        facts = self._facts
        transport = dict(facts.details)
        transport.setdefault("peer", facts.peer)
        transport.setdefault("is_secure", facts.is_tls)
        transport["peer_cert"] = facts.certificate.details() if facts.certificate else None
        details = {
            "transport": transport, "session": self.session, "authmethod": self._asked_for, "authid": self._authid,
            "authrole": self._authrole, "authextra": self._authextra or None, **more,
        }  # fmt: skip
        table = self._table
        args = [self._realm, self._authid, details]
        if self._provider == "function":
            self._state = _ASKED
            return Run(str(table.get("create", "")), table.get("config") or {}, args, ASK_TIMEOUT_S)
        realm = table.get("authenticator_realm") or table.get("authenticator-realm") or self._realm
        if not isinstance(realm, str) or realm not in self._realms:
            return self._no_realm(realm)
        self._state = _ASKED
        return Ask(realm, str(table.get("authenticator", "")), args, {}, ASK_TIMEOUT_S)

    def _failure(self, failure: Failure) -> Refuse:
        cause = f"the authenticator failed: {failure.error}: {failure.text}"
        # What an application says about its own users is for them; what Python or the router says about the application is not.
        if failure.error.startswith("wamp.error.") and failure.error not in (AUTHENTICATION_FAILED, AUTHENTICATION_DENIED, "wamp.error.not_authorized", "wamp.error.no_such_principal"):  # fmt: skip
            return self._refuse(AUTHENTICATION_FAILED, _LATER, cause)
        return self._refuse(failure.error, failure.text or _WRONG, cause, is_guess=True)

    # -- CHALLENGE and AUTHENTICATE -------------------------------------------------------------------

    def _challenge(self, record: dict[str, Any], now_unix_s: float) -> list[Step]:
        facts, extra, method = self._facts, self._authextra, self._method
        self._principal = record
        authid = self._authid or record.get("authid")
        if not isinstance(authid, str):
            return [
                self._refuse(AUTHENTICATION_FAILED, f"{method}: HELLO.details.authid is missing")
            ]
        try:
            if method == "wampcra":
                about = {
                    "authid": record.get("authid") or authid, "authrole": record.get("role"), "authmethod": method,
                    "authprovider": self._provider, "session": self.session,
                    "nonce": self._chance(24).hex(), "timestamp": utc(now_unix_s),
                }  # fmt: skip
                self._attempt = Wampcra(record, about)
            elif method == "scram":
                self._attempt = Scram(record, authid, extra, self._chance(18), facts.channel_id)
            else:
                self._attempt = Cryptosign(record if self._is_known else None, extra, self._chance(32), facts.channel_id, self._identity)  # fmt: skip
        except (ScramError, CryptosignError) as error:
            return [self._refuse(AUTHENTICATION_FAILED, str(error))]
        except NoCryptography as error:
            return [self._refuse(AUTHENTICATION_FAILED, _LATER, str(error))]
        except (KeyError, ValueError, TypeError, OverflowError) as error:
            cause = f"the entry of {authid!r} in the table {method} cannot be used: {type(error).__name__}: {error}"
            return [self._refuse(AUTHENTICATION_FAILED, _LATER, cause)]
        self._state = _CHALLENGED
        return [Send([CHALLENGE, self._asked_for, self._attempt.challenge])]

    def _authenticate(self, message: Authenticate) -> list[Step]:
        if self._method == "ticket":
            return self._by_ticket(message)
        assert self._attempt is not None  # noqa: S101 -- for the type checker; see _challenge
        try:
            is_right = self._attempt.proves(message.signature, message.extra)
        except NoCryptography as error:
            return [self._refuse(AUTHENTICATION_FAILED, _LATER, str(error))]
        if not is_right or not self._is_known:
            return [self._wrong()]
        return self._accept()

    def _by_ticket(self, message: Authenticate) -> list[Step]:
        if self._provider != "static":
            return [self._ask({"ticket": message.signature})]
        principal = self._principal_of(principals(self._table), str(self._authid))
        is_right = is_same(message.signature, str(principal.get("ticket") or ""))
        if not is_right or not self._is_known or not message.signature:
            return [self._wrong()]
        principal.setdefault("extra", self._authextra)
        self._principal = principal
        return self._accept()

    # -- the end --------------------------------------------------------------------------------------

    def _accept(self, *, is_new: bool = True) -> list[Step]:
        """Give the principal realm, role and name, and join."""
        principal = self._principal
        realm = principal.get("realm") or self._realm
        authid = principal.get("authid") or self._authid
        role = principal.get("role") or self._table.get("default-role")
        extra = principal.get("extra") or {}
        if not isinstance(realm, str) or realm not in self._realms:
            return [self._no_realm(realm)]
        if not _is_name(authid) or not _is_name(role) or not isinstance(extra, dict):
            cause = f"the sign-in gave authid {authid!r}, role {role!r}, extra {_kind(extra)}; needed are two names and a dict"
            return [
                self._refuse(
                    NO_SUCH_ROLE, "the sign-in succeeded, but gave no usable name or role", cause
                )
            ]
        if role != _TRUSTED and role not in self._realms[realm]:
            return [self._refuse(NO_SUCH_ROLE, f'realm "{realm}" has no role "{role}"')]
        self._state = _OVER
        method = _TRUSTED if self._facts.is_internal else self._asked_for
        identity = Identity(authid, role, method, self._provider, extra or None)
        authextra = dict(extra)
        if self._attempt is not None:
            authextra |= self._attempt.welcome()
        welcome = {"realm": realm, "authid": authid, "authrole": role, "authmethod": method, "authprovider": self._provider, "authextra": authextra}  # fmt: skip
        steps: list[Step] = []
        cookie = self._facts.cookie
        # Anonymous proves nothing, so there is nothing to remember; and an earlier sign-in is not overwritten by it.
        if is_new and cookie and "cookie" in self._auth and method not in ("anonymous", _TRUSTED):
            steps.append(KeepCookie(cookie, Remembered(realm, identity, self._realm)))
        steps.append(Join(realm, identity, welcome))
        return steps

    def _no_realm(self, realm: object) -> Refuse:
        if not realm:
            return self._refuse(
                NO_SUCH_REALM, "HELLO names no realm, and this sign-in does not give one"
            )
        return self._refuse(
            NO_SUCH_REALM, f'no realm "{str(realm)[:_LONGEST_NAME]}" exists on this router'
        )

    def _wrong(self) -> Refuse:
        cause = "" if self._is_known else "unknown: "
        cause = f"{cause}{self._authid!r} gave a wrong proof ({self._asked_for})"
        return self._refuse(AUTHENTICATION_FAILED, _WRONG, cause, is_guess=True)

    def _refuse(self, reason: str, text: str, cause: str = "", *, is_guess: bool = False) -> Refuse:
        self._state = _OVER
        # Texts quote what the client said; no serializer takes half a surrogate pair.
        return Refuse(reason, text.encode("utf-8", "replace").decode(), cause, is_guess)

    def _anonymous_name(self, table: "Mapping[str, Any]") -> str:
        if table.get("authid"):
            return str(table["authid"])
        return self._random_name()

    def _random_name(self) -> str:
        # 120 bits in groups, as Crossbar.io's serial numbers: these names are read out by people.
        text = b32encode(self._chance(15)).decode()
        return "-".join(text[at : at + 4] for at in range(0, 24, 4))


def _fault(hello: Hello) -> str | None:
    """Say what is wrong with a HELLO."""
    details = hello.details
    if hello.realm is not None and not _is_name(hello.realm):
        return "HELLO.realm has to be a URI"
    roles = details.get("roles")
    if not isinstance(roles, dict) or not _ROLES & roles.keys():
        return "HELLO.details.roles has to name one of caller, callee, publisher, subscriber"
    for name, role in roles.items():
        if not isinstance(role, dict) or not isinstance(role.get("features", {}), dict):
            return f"HELLO.details.roles.{str(name)[:40]} has to be a dict, and its features, too"
    for key in ("authid", "authrole"):
        if details.get(key) not in (None, "") and not _is_name(details[key]):
            return (
                f"HELLO.details.{key} has to be a text of 1 to {_LONGEST_NAME} printable characters"
            )
    methods = details.get("authmethods")
    if methods is not None and not (
        isinstance(methods, list) and all(isinstance(name, str) for name in methods)
    ):
        return "HELLO.details.authmethods has to be a list of names"
    extra = details.get("authextra")
    if extra is not None and not isinstance(extra, dict):
        return "HELLO.details.authextra has to be a dict"
    return None


def _is_name(value: object) -> TypeGuard[str]:
    """Tell whether it can be an authid, authrole or realm: it ends up in logs, so nothing that moves the cursor."""
    return isinstance(value, str) and 0 < len(value) <= _LONGEST_NAME and value.isprintable()


def _kind(value: object) -> str:
    return type(value).__name__
