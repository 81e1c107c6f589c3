"""How does a POST become a call or a publication, and its answer JSON?

Crossbar.io's publisher, caller and webhook: the same bodies, options, signatures and answers. What differs: errors of the
router have a status that says what they are (no such procedure 404, not authorized 403, …); an ERROR of an application's own URI is a
200 with `error`, as there. An option that is not known is refused, not ignored: `eligable_authid` would tell everybody.
"""

import hashlib
import hmac
from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

import msgspec

from holdfast.router.web import signed
from holdfast.router.web.failures import SiteError, WampFailure
from holdfast.router.web.head import Refused
from holdfast.router.web.pages import JSON, NOSNIFF

if TYPE_CHECKING:
    from holdfast.router.web.request import Request
    from holdfast.router.web.site import Bridge, Site

#: Crossbar.io's default for requests that carry a timestamp.
TIMESTAMP_DELTA_S = 300.0

#: Errors that the router itself makes, and what HTTP calls them.
STATUS = {
    "wamp.error.no_such_procedure": 404,
    "wamp.error.no_such_realm": 404,
    "wamp.error.no_such_role": 403,
    "wamp.error.not_authorized": 403,
    "wamp.error.authorization_required": 403,
    "wamp.error.authorization_failed": 500,
    "wamp.error.invalid_argument": 400,
    "wamp.error.invalid_uri": 400,
    "wamp.error.option_not_allowed": 400,
    "wamp.error.option_disallowed.disclose_me": 400,
    "wamp.error.payload_size_exceeded": 413,
    "wamp.error.runtime_error": 500,
    "wamp.error.canceled": 503,
    "wamp.error.unavailable": 503,
    "wamp.error.no_available_callee": 503,
    "wamp.error.network_failure": 503,
    "wamp.error.timeout": 504,
}
_PUBLISH_OPTIONS = frozenset((
    "acknowledge", "disclose_me", "eligible", "eligible_authid", "eligible_authrole", "exclude", "exclude_authid", "exclude_authrole",
    "exclude_me", "retain",
))  # fmt: skip
_CALL_OPTIONS = frozenset(("disclose_me", "timeout"))
_NAMES = {b"etag": "ETag", b"dnt": "DNT", b"te": "TE", b"www-authenticate": "WWW-Authenticate"}


def make(kind: str, options: dict[str, Any], site: "Site") -> "Caller | Publisher | Webhook":
    """The bridge of a kind."""
    options = {**options.get("options", {}), **options}
    if site.bridge is None:
        raise SiteError("there is no realm behind this port")
    if "realm" not in options:
        raise SiteError("it names no realm")
    if bool(options.get("key")) != bool(options.get("secret")):
        raise SiteError("key and secret belong together")
    if kind == "caller":
        return Caller(options, site, site.bridge)
    if kind == "publisher":
        return Publisher(options, site, site.bridge)
    if not options.get("topic"):
        raise SiteError("it names no topic")
    return Webhook(options, site, site.bridge)


class _Posted:
    """What the three have in common: who may post, and the checks of a body."""

    def __init__(self, options: dict[str, Any], site: "Site", bridge: "Bridge") -> None:
        self._site, self._bridge = site, bridge
        self._realm = str(options["realm"])
        self._role = str(options.get("role") or "anonymous")
        self._limit = int(options.get("post_body_limit") or 0) or site.body_limit
        delta = options.get("timestamp_delta_limit_s", options.get("timestamp_delta_limit"))
        self._rule = signed.Rule(
            options.get("key") or None,
            options.get("secret") or None,
            float(TIMESTAMP_DELTA_S if delta is None else delta),
        )
        self._seen = signed.Seen(self._rule.delta_s, site.unix_clock())
        try:
            # "192.168.1.1/255.255.255.0" is how Crossbar.io's pages write a network.
            self._networks = [ip_network(n, strict=False) for n in options.get("require_ip") or []]
        except ValueError as error:
            raise SiteError(f"require_ip: {error}") from None
        self._require_tls = bool(options.get("require_tls"))
        self._github = str(options.get("github_secret") or "").encode()

    async def serve(self, request: "Request") -> None:
        """Answer it."""
        if request.method == "OPTIONS":
            allowed = [
                ("Allow", "POST, PUT, OPTIONS"),
                ("Access-Control-Allow-Methods", "POST, PUT, OPTIONS"),
            ]
            request.respond(200, [*_cross_origin(request), *allowed])
            return
        try:
            request.allow("POST", "PUT")
            self._check_peer(request)
            body = await request.body(self._limit)
            query = dict(reversed(parse_qsl(request.head.query, keep_blank_values=True)))
            signed.check(self._rule, query, body, self._site.unix_clock(), self._seen)
            self._check_github(request, body)
            await self._take(request, body)
        except Refused as refused:
            told = {"error": _uri_of(refused.status), "args": [refused.says], "kwargs": {}}
            self._answer(request, refused.status, told, refused.headers)

    async def _take(self, request: "Request", body: bytes) -> None:
        raise NotImplementedError

    def _check_peer(self, request: "Request") -> None:
        if self._require_tls and request.scheme != "https":
            raise Refused(403, "This address wants TLS; use https://.")
        if self._networks:
            address = ip_address(request.peer[0]) if request.peer[0] else None
            address = getattr(address, "ipv4_mapped", None) or address
            if address is None or not any(address in network for network in self._networks):
                raise Refused(403, "Requests from your address are not taken here.")

    def _check_github(self, request: "Request", body: bytes) -> None:
        if not self._github:
            return
        for header, digest in ((b"x-hub-signature-256", "sha256"), (b"x-hub-signature", "sha1")):
            given = request.head.get(header)
            if given is not None:
                mac = hmac.new(self._github, body, getattr(hashlib, digest)).hexdigest()
                if hmac.compare_digest(given.lower(), f"{digest}={mac}".encode()):
                    return
                break
        raise Refused(
            401, "GitHub's signature is missing or wrong; is the secret the same on both sides?"
        )

    def _answer(
        self,
        request: "Request",
        status: int,
        value: Any,
        headers: tuple[tuple[str, str], ...] = (),
    ) -> None:
        try:
            body = msgspec.json.encode(value)
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            status = 500
            says = f"The result cannot be written as JSON: {error}"
            body = msgspec.json.encode(
                {"error": "wamp.error.runtime_error", "args": [says], "kwargs": {}}
            )
        if status >= 500:
            self._site.log.error(
                "request failed", status=status, method=request.method, path=request.head.path,
                says=body[:300].decode("utf-8", "replace"),
            )  # fmt: skip
        no_store = ("Cache-Control", "no-store, no-cache, must-revalidate, max-age=0")
        told = [JSON, NOSNIFF, no_store, *_cross_origin(request), *headers]
        request.respond(status, told, body)

    def _fail(self, request: "Request", failure: WampFailure) -> None:
        told = {"error": failure.uri, "args": failure.payload, "kwargs": failure.named}
        self._answer(request, STATUS.get(failure.uri, 200), told)


class Publisher(_Posted):
    """POST `{"topic", "args", "kwargs", "options"}` publishes; the answer is `{"id"}`."""

    async def _take(self, request: "Request", body: bytes) -> None:
        event = _event(request, body, "topic")
        options = _options(event, _PUBLISH_OPTIONS)
        options["acknowledge"] = True
        try:
            publication = await self._bridge.publish(
                self._realm, self._role, event["topic"], event["args"], event["kwargs"], options
            )
        except WampFailure as failure:
            self._fail(request, failure)
        else:
            self._answer(request, 200, {"id": publication})


class Caller(_Posted):
    """POST `{"procedure", "args", "kwargs"}` calls; the answer is `{"args", "kwargs"}` of the result."""

    async def _take(self, request: "Request", body: bytes) -> None:
        event = _event(request, body, "procedure")
        options = _options(event, _CALL_OPTIONS)
        try:
            args, kwargs = await self._bridge.call(
                self._realm, self._role, event["procedure"], event["args"], event["kwargs"], options
            )
        except WampFailure as failure:
            self._fail(request, failure)
        else:
            self._answer(request, 200, _result(args, kwargs))


class Webhook(_Posted):
    """A POST of anybody's making is published as `{"headers", "body"}`."""

    def __init__(self, options: dict[str, Any], site: "Site", bridge: "Bridge") -> None:
        super().__init__(options, site, bridge)
        self._topic = str(options["topic"])
        success, error = options.get("success_response"), options.get("error_response")
        self._success = ("OK" if success is None else str(success)).encode()
        self._error = ("NOT OK" if error is None else str(error)).encode()

    async def _take(self, request: "Request", body: bytes) -> None:
        try:
            text = body.decode()
        except UnicodeDecodeError:
            raise Refused(400, "The body is not UTF-8.") from None
        headers: dict[str, list[str]] = {}
        for name, value in request.head.headers:
            headers.setdefault(_title(name), []).append(value.decode("latin-1"))
        try:
            await self._bridge.publish(
                self._realm, self._role, self._topic, [{"headers": headers, "body": text}], {},
                {"acknowledge": True},
            )  # fmt: skip
        except WampFailure as failure:
            self._site.log.error(
                "webhook not published", topic=self._topic, error=failure.uri, realm=self._realm,
                role=self._role, why=" ".join(map(str, failure.payload)),
            )  # fmt: skip
            request.respond(500, [_PLAIN, NOSNIFF], self._error)
        else:
            request.respond(202, [_PLAIN, NOSNIFF], self._success)


_PLAIN = ("Content-Type", "text/plain; charset=utf-8")


def _cross_origin(request: "Request") -> list[tuple[str, str]]:
    """Browsers of other origins may post: a bridge knows no cookies, so there is nothing to borrow."""
    headers = [("Access-Control-Allow-Origin", "*")]
    wanted = request.head.get(b"access-control-request-headers")
    if wanted is not None:
        headers.append(("Access-Control-Allow-Headers", wanted.decode("latin-1")))
    return headers


def _event(request: "Request", body: bytes, uri: str) -> dict[str, Any]:
    """The JSON object of the body, with `args` and `kwargs`."""
    _check_type(request.head.get(b"content-type"))
    try:
        event = msgspec.json.decode(body)
    except (ValueError, RecursionError):
        raise Refused(400, "The body is not JSON in UTF-8.") from None
    if not isinstance(event, dict):
        raise Refused(400, "The body is JSON, but not an object.")
    if not isinstance(event.get(uri), str):
        raise Refused(400, f"The body has no {uri!r}, the URI as a text.")
    for name, kind in (("args", list), ("kwargs", dict), ("options", dict)):
        # Crossbar.io takes null, 0 and "" for "nothing given".
        event[name] = event.get(name) or kind()
        if not isinstance(event[name], kind):
            says = "a list" if kind is list else "an object"
            raise Refused(400, f"{name!r} is not {says}.")
    return event


def _check_type(content_type: bytes | None) -> None:
    if content_type is None:
        return
    kind, *parameters = [part.strip().lower() for part in content_type.split(b";")]
    if kind != b"application/json":
        raise Refused(400, "The Content-Type has to be application/json.")
    given = dict(p.partition(b"=")[::2] for p in parameters if p)
    if given.get(b"charset", b"utf-8").strip(b'"') not in (b"utf-8", b"utf8"):
        raise Refused(400, "The charset has to be UTF-8.")


def _options(event: dict[str, Any], known: frozenset[str]) -> dict[str, Any]:
    options: dict[str, Any] = {k: v for k, v in event["options"].items() if v is not None}
    unknown = options.keys() - known
    if unknown:
        raise Refused(
            400,
            f"Options that are not understood here: {', '.join(sorted(unknown))}; known: {', '.join(sorted(known))}.",
        )
    return options


def _result(args: list[Any], kwargs: dict[str, Any]) -> dict[str, Any]:
    """As Crossbar.io tells it: a result with nothing in it is `{"args": [null]}`."""
    if kwargs:
        return {"args": args, "kwargs": kwargs} if args else {"kwargs": kwargs}
    return {"args": args or [None]}


def _uri_of(status: int) -> str:
    if status in (401, 403):
        return "wamp.error.not_authorized"
    return "wamp.error.runtime_error" if status >= 500 else "wamp.error.invalid_argument"


def _title(name: bytes) -> str:
    """A header's name as everybody writes it."""
    return _NAMES.get(name) or "-".join(w.capitalize() for w in name.decode("latin-1").split("-"))
