"""What a router, and whoever joins one, needs to know: the compiled bus configuration.

The model is Crossbar.io's node configuration version 2 (realms, roles, permissions, transports, endpoints,
authentication), in one spelling and with every default filled in: `config` writes it from a holdfast.toml or from a
Crossbar.io file, the router and the components only read it. Plain dicts at run time, as in :mod:`holdfast.model.plan`.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Literal, NotRequired, TypedDict

    Action = Literal["call", "register", "publish", "subscribe"]
    Match = Literal["exact", "prefix", "wildcard"]

    class PermissionPlan(TypedDict):
        """A rule of a role.

        Of the rules that match a URI the most specific one decides (exact, then the longest
        prefix, then the wildcard with most fixed parts); whatever it does not allow is refused. A `deny` of any rule that
        matches wins over every `allow`, and over a dynamic authorizer.
        """

        uri: str
        match: Match
        allow: list[Action]
        deny: list[Action]
        disclose_caller: bool  #: callees are told who calls
        disclose_publisher: bool  #: subscribers are told who publishes

    class RolePlan(TypedDict):
        """What the sessions of one authrole may do."""

        name: str
        permissions: list[PermissionPlan]
        authorizer: (
            str | None
        )  #: URI of a procedure of the realm that is asked where no rule denies

    class HistoryPlan(TypedDict):
        """Events that the router keeps for latecomers (event history)."""

        uri: str
        match: Match
        limit: int  #: events kept

    class RealmPlan(TypedDict):
        """A realm: a routing domain and the roles in it."""

        name: str
        roles: list[RolePlan]
        meta_api: bool  #: wamp.session.*, wamp.registration.*, wamp.subscription.* and their events
        history: list[HistoryPlan]
        uri_check: Literal["loose", "strict"]

    class TlsPlan(TypedDict):
        """Paths are absolute."""

        certificate: str
        key: str
        chain: list[str]
        ca: list[
            str
        ]  #: client certificates are asked for and checked against these; empty: not asked for
        require_client: bool
        ciphers: str | None

    class EndpointPlan(TypedDict):
        """Where a transport listens.

        TCP and Unix sockets are opened by the keeper and inherited (LISTEN_FDNAMES has
        `listener`), so that clients wait in the backlog while a router is being restarted; TLS is put on top of them.
        """

        kind: Literal["tcp", "unix"]
        listener: str
        host: str
        port: int
        path: str
        tls: TlsPlan | None

    class AuthPlan(TypedDict):
        """The ways to sign in at a transport or path, by WAMP authmethod.

        Each value is Crossbar.io's table of that method: `{"type": "static"|"dynamic"|"function", …}`.

        static: anonymous `{"role", "authid"?}`; ticket `{"principals": {authid: {"ticket", "role", "realm"?}}}`; wampcra
        `{"users": {authid: {"secret", "role", "salt"?, "iterations"?, "keylen"?, "realm"?}}}`; scram `{"users": {authid:
        {"kdf": "pbkdf2"|"argon2id13", "iterations", "memory"?, "salt", "stored-key", "server-key", "role", "realm"?}}}`; cryptosign
        `{"principals": {authid: {"authorized_keys": [hex], "role", "realm"?}}}`; tls `{"principals": {authid: {"certificate-sha1"
        or "certificate-sha256" or "subject"…, "role"}}}` ; cookie `{"name", "length", "max_age_s", "path": absolute path of the
        store or None}`. dynamic: `{"authenticator": URI, "authenticator_realm": name or None, "expose_controller"?}`. function:
        `{"create": "module:function", "config": {…}}`.
        """

        anonymous: NotRequired[dict[str, Any]]
        ticket: NotRequired[dict[str, Any]]
        wampcra: NotRequired[dict[str, Any]]
        scram: NotRequired[dict[str, Any]]
        cryptosign: NotRequired[dict[str, Any]]
        tls: NotRequired[dict[str, Any]]
        cookie: NotRequired[dict[str, Any]]

    class WebSocketPlan(TypedDict):
        """A WAMP-over-WebSocket service, at a path or on a whole port."""

        kind: Literal["websocket"]
        auth: AuthPlan
        serializers: list[
            str
        ]  #: of json, msgpack, cbor, and the same with .batched; in order of preference
        message_bytes: int
        ping_s: float  #: a ping after this long without a message; 0: none
        ping_timeout_s: float  #: cut off when no pong (or anything else) came this long after
        compression: bool  #: permessage-deflate is accepted where the client offers it
        origins: list[str]  #: allowed origins of browsers, with * for any letters
        queue_bytes: int  #: unsent output of one session beyond this: it is cut off and named

    class RawSocketPlan(TypedDict):
        """A WAMP-over-RawSocket service."""

        auth: AuthPlan
        serializers: list[str]
        message_bytes: int
        ping_s: float
        ping_timeout_s: float
        queue_bytes: int

    class PathPlan(TypedDict):
        """A service at a path of a web transport; `options` depend on `kind` and carry Crossbar.io's names.

        static: directory (absolute) or package+resource, enable_directory_listing, mime_types, cache_timeout_s, fallback.
        redirect: url. json: value. publisher, caller: realm, role, key, secret, timestamp_delta_limit_s, post_body_limit,
        require_ip (list), require_tls. webhook: realm, role, topic, success_response, error_response. wsgi: module, object. cgi: processor
        (absolute), directory. upload: realm, role, directory, temp_directory, form_fields, max_file_size, …. resource: classname,
        extra. nodeinfo, health, path: nothing.
        """

        kind: Literal[
            "websocket", "static", "redirect", "json", "publisher", "caller", "webhook", "wsgi", "cgi", "upload",
            "resource", "nodeinfo", "health", "path",
        ]  # fmt: skip
        options: dict[str, Any]
        websocket: WebSocketPlan | None

    class TransportPlan(TypedDict):
        """A listening endpoint and what is served there.

        RawSocket is told from HTTP by its first octet (0x7F), so one port
        can serve everything.
        """

        name: str
        endpoint: EndpointPlan
        rawsocket: RawSocketPlan | None
        websocket: WebSocketPlan | None  #: at any path that `paths` does not have
        paths: dict[str, PathPlan]  #: "/" and names without slashes at the ends ("ws", "api/call")
        internal: bool  #: the node's own socket in the run directory: who can open it is trusted with any role

    class RouterLimits(TypedDict):
        """What one router bears; beyond each there is a clear ABORT or ERROR."""

        sessions: int
        connections_unauthenticated: int
        handshake_s: (
            float  #: HTTP head, WebSocket and RawSocket handshake, HELLO and sign-in, all together
        )
        subscriptions_per_session: int
        registrations_per_session: int
        calls_per_session: int  #: in flight
        connections_http: (
            int  #: that are neither WebSocket nor RawSocket; idle ones make room for new ones
        )
        queue_bytes_total: (
            int  #: unsent output of all sessions; beyond it those with most of it are cut off
        )

    class LinkPlan(TypedDict):
        """A link to a router of the same realm: events and procedures of either side can be used on both."""

        realm: str
        url: str  #: ws://, wss://, rs://, unix:
        auth: dict[str, Any]  #: as BusPlan.auth

    class RouterPlan(TypedDict):
        """What one worker of kind `router` does."""

        realms: list[RealmPlan]
        transports: list[TransportPlan]
        limits: RouterLimits
        links: list[LinkPlan]
        identity: (
            str | None
        )  #: path of an Ed25519 private key (hex), to sign as the router; None: no identity

    class BusPlan(TypedDict):
        """How a component joins a realm."""

        realm: str
        urls: list[str]  #: tried in turn; the routers of a realm are interchangeable
        role: str | None  #: the authrole on the node's own socket; None: what the sign-in gives
        auth: dict[
            str, Any
        ]  #: {} anonymous, or {"method": "ticket", "authid", "ticket"} and the like
