"""The door of the dashboard: what is let through, and as whom?

Outermost ASGI application; what is behind it never sees a request that came under a foreign name (DNS rebinding), from a foreign page (CSRF), too large, too
slow, with an odd path, or, but for the page itself, from nobody. In order: shape, ``Host``, method, origin, who, role. Left out: what a session
is (:mod:`.keeping`), signing in (:mod:`.entering`), what is answered.

Sources: Fetch Metadata (W3C, ``Sec-Fetch-Site``), RFC 6265bis (``SameSite``, ``__Host-``), RFC 9110 section 7.2 (``Host``), OWASP's cheat sheet on CSRF.
"""

import asyncio
import ipaddress
import re
import time

from holdfast.dashboard.access import keeping
from holdfast.dashboard.access.rules import Rules, Who
from holdfast.wire.jsonlite import dumps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from typing import Any

    Scope = dict[str, Any]
    Message = dict[str, Any]
    Receive = Callable[[], Awaitable[Message]]
    Send = Callable[[Message], Awaitable[None]]
    App = Callable[[Any, Any, Any], Awaitable[None]]

#: No request to us is larger, or takes longer to come in.
MOST_BODY_BYTES = 64 * 1024
BODY_S = 10.0
_LONGEST_PATH = 2048
#: A stream ends so soon after its session.
RECHECK_S = 2.0
#: Where nobody has to be signed in: these tell nothing about the node.
PUBLIC = ("/api/me", "/api/enter", "/api/leave")
COOKIE, SAFE_COOKIE = "holdfast", "__Host-holdfast"
CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; connect-src 'self'; "
    "manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"
)
_HEADERS = (
    (b"content-security-policy", CSP.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), geolocation=(), microphone=(), payment=(), usb=()"),
)
_HSTS = (b"strict-transport-security", b"max-age=31536000")
_ODD_PATH = re.compile(r"[\x00-\x20\x7f\\]|//|(?:^|/)\.{1,2}(?:/|$)")
_ASKS = {
    400: ("this is no request of the dashboard", ""),
    401: ("nobody is signed in", "holdfast dashboard  prints a link that signs you in"),
    405: ("GET, HEAD and POST only", ""),
    408: ("the request did not come in in time", ""),
    413: ("the request is too large", ""),
    415: ("a POST has to be application/json", ""),
}


class Refused(Exception):  # noqa: N818 -- reads as what it says
    """The request goes no further."""

    def __init__(self, status: int, says: str = "", hint: str = "") -> None:
        default, default_hint = _ASKS.get(status, ("", ""))
        super().__init__(says or default)
        self.status, self.hint = status, hint or default_hint


class Guard:
    """Wraps an application; see the module."""

    def __init__(self, app: "App", rules: Rules, state_dir: str) -> None:
        self._app = app
        self._rules = rules
        self._state_dir = state_dir
        self._cookie = SAFE_COOKIE if rules.is_tls else COOKIE
        self._headers = (*_HEADERS, _HSTS) if rules.is_tls else _HEADERS

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        """Let it in, or answer."""
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        is_api = scope["path"].startswith("/api/")
        try:
            heads = _heads(scope)
            self._check(scope, heads)
            who = self._who(scope, heads)
            if is_api and scope["path"] not in PUBLIC:
                if who is None:
                    raise Refused(401)
                if scope["method"] == "POST" and not who.may_act():
                    raise Refused(
                        403,
                        f"{who.name} may look, but do nothing",
                        'role = "operator" in the configuration allows more',
                    )
            scope["holdfast.who"] = who
            if scope["method"] == "POST":
                receive = await _whole(receive)
        except Refused as refused:
            await self._answer(scope, send, refused)
            return
        await self._app(scope, receive, self._sending(send, who, is_api=is_api))

    # -- the request -----------------------------------------------------------------------------------

    def _check(self, scope: "Scope", heads: "dict[bytes, list[bytes]]") -> None:
        path = scope["path"]
        if len(path) > _LONGEST_PATH or not path.startswith("/") or _ODD_PATH.search(path):
            raise Refused(400)
        host = _only(heads, b"host")
        if host is None or not self._is_ours(host):
            shown = "no name" if host is None else repr(host[:100])
            raise Refused(
                403,
                f"this is not {shown}",
                'hosts = ["NAME"] below [dashboard] lets a name be used',
            )
        if scope["method"] not in ("GET", "HEAD", "POST"):
            raise Refused(405)
        site = _only(heads, b"sec-fetch-site")
        if scope["method"] != "POST":
            # The page itself may be opened from anywhere; it holds nothing. Data may not.
            if path.startswith("/api/") and site not in (None, "same-origin", "none"):
                raise Refused(403, "another page asked for this")
            return
        if site not in (None, "same-origin"):
            raise Refused(403, "another page asked for this")
        origin = _only(heads, b"origin")
        if origin is not None and origin.partition("://")[2].lower() != host.lower():
            raise Refused(403, "another page asked for this")
        if _only(heads, b"x-holdfast") != "1":
            raise Refused(403, "the header X-Holdfast: 1 is missing")
        kind = (_only(heads, b"content-type") or "").partition(";")[0].strip().lower()
        if kind != "application/json":
            raise Refused(415)
        length = _only(heads, b"content-length")
        if length is not None and (not length.isdigit() or int(length) > MOST_BODY_BYTES):
            raise Refused(413)

    def _is_ours(self, host: str) -> bool:
        """Whether this is a name of ours. An address is: it cannot be made to point elsewhere."""
        name = host.lower()
        name = name[1:].partition("]")[0] if name.startswith("[") else name.partition(":")[0]
        if name == "localhost" or name in self._rules.hosts:
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True

    def _who(self, scope: "Scope", heads: "dict[bytes, list[bytes]]") -> Who | None:
        address = (scope.get("client") or ("",))[0]
        proxy = self._rules.proxy
        if proxy is not None and address in proxy.addresses:
            user = _only(heads, proxy.user_header)
            if user and (
                not proxy.secret or _same(_only(heads, b"x-holdfast-proxy") or "", proxy.secret)
            ):
                for_whom = _only(heads, b"x-forwarded-for") or address
                role: Any = "operator" if user in proxy.operators else "reader"
                return Who(
                    user[:100], role, "proxy", address=for_whom.rpartition(",")[2].strip()[:64]
                )
        secret = _cookie(heads, self._cookie)
        if not secret:
            return None
        return self.session(keeping.name_of(secret), address)

    def session(self, name: str, address: str = "") -> Who | None:
        """Return who has this session, with the rights that the configuration gives now."""
        kept = keeping.read_session(self._state_dir, name, time.time())
        if kept is None:
            return None
        role, way = kept["role"], kept.get("way", "link")
        if way == "password":
            user = self._rules.users.get(kept["user"])
            # Taken out of the configuration, or with another password since: the session is over.
            if user is None or kept.get("of") != keeping.name_of(user.password_hash):
                return None
            role = user.role
        elif not self._rules.links:
            return None
        return Who(kept["user"], role, way, name, address, kept["expires_unix_s"])

    # -- the answer ------------------------------------------------------------------------------------

    def _sending(self, send: "Send", who: Who | None, *, is_api: bool) -> "Send":
        """Return a `send` that adds what every answer has, and that ends a stream with the session."""
        checked_s = time.monotonic()
        is_over = False

        async def guarded(message: "Message") -> None:
            nonlocal checked_s, is_over
            if is_over:
                raise ConnectionResetError("the session is over")
            if message["type"] == "http.response.start":
                message = {
                    **message,
                    "headers": self._with_ours(message.get("headers", ()), is_api=is_api),
                }
            elif message.get("more_body") and who is not None and who.session:
                now_s = time.monotonic()
                if now_s - checked_s >= RECHECK_S:
                    checked_s = now_s
                    if self.session(who.session) != who._replace(address=""):
                        is_over = True
                        message = {"type": "http.response.body", "body": b"", "more_body": False}
            await send(message)

        return guarded

    def _with_ours(self, headers: "Any", *, is_api: bool) -> "list[tuple[bytes, bytes]]":
        made = [(bytes(name).lower(), bytes(value)) for name, value in headers]
        there = {name for name, _ in made}
        made += [pair for pair in self._headers if pair[0] not in there]
        if is_api and b"cache-control" not in there:
            made.append((b"cache-control", b"no-store"))
        return made

    async def _answer(self, scope: "Scope", send: "Send", refused: Refused) -> None:
        says: dict[str, Any] = {"error": str(refused)}
        if refused.hint:
            says["hint"] = refused.hint
        body = dumps(says).encode() + b"\n"
        heads = [
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % len(body)),
            (b"cache-control", b"no-store"),
        ]
        if refused.status == 405:
            heads.append((b"allow", b"GET, HEAD, POST"))
        if refused.status in (408, 413):
            heads.append((b"connection", b"close"))
        await send(
            {
                "type": "http.response.start",
                "status": refused.status,
                "headers": self._with_ours(heads, is_api=True),
            }
        )
        await send(
            {"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body}
        )


def guard(app: "App", rules: Rules, state_dir: str) -> Guard:
    """Return the application behind its door."""
    return Guard(app, rules, state_dir)


def _heads(scope: "Scope") -> "dict[bytes, list[bytes]]":
    found: dict[bytes, list[bytes]] = {}
    for name, value in scope["headers"]:
        found.setdefault(bytes(name).lower(), []).append(bytes(value))
    return found


def _only(heads: "dict[bytes, list[bytes]]", name: bytes) -> "str | None":
    """Return the one value of a header; said twice, it could mean two things to two readers."""
    values = heads.get(name)
    if values is None:
        return None
    if len(values) != 1:
        raise Refused(400)
    return values[0].decode("latin-1").strip()


def _cookie(heads: "dict[bytes, list[bytes]]", name: str) -> str:
    for line in heads.get(b"cookie", ()):
        for part in line.decode("latin-1").split(";"):
            key, _, value = part.strip().partition("=")
            if key == name:
                return value
    return ""


def _same(one: str, other: str) -> bool:
    import hmac

    return hmac.compare_digest(one.encode(), other.encode())


async def _whole(receive: "Receive") -> "Receive":
    """Take the whole body in, within bounds, and return what hands it out."""
    parts: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(BODY_S):
            while True:
                message = await receive()
                if message["type"] != "http.request":
                    raise Refused(400)
                part = message.get("body", b"")
                size += len(part)
                if size > MOST_BODY_BYTES:
                    raise Refused(413)
                parts.append(part)
                if not message.get("more_body"):
                    break
    except TimeoutError:
        raise Refused(408) from None
    body: list[Message] = [{"type": "http.request", "body": b"".join(parts), "more_body": False}]

    async def handed() -> "Message":
        return body.pop() if body else await receive()

    return handed
