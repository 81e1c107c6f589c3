"""Which tables and keys describe the bus: realms, and what a router listens on?

Part of :mod:`holdfast.config.definitions`, under the same rules. The model is Crossbar.io's node configuration, so that one
of those can be written in these words without loss; what each key means to the router stands in
:mod:`holdfast.model.bus`. Leaves out what contradicts itself across tables (:mod:`holdfast.config.router`).
"""

import re
from typing import Any

from holdfast.config.kinds import (
    URL_PATH,
    URL_PATH_WORDS,
    Boolean,
    Choice,
    Duration,
    Integer,
    NameText,
    Off,
    PathText,
    ServiceAddress,
    Size,
    Text,
)
from holdfast.config.tables import (
    Anything,
    Either,
    Key,
    ListOf,
    Named,
    OneOf,
    Settings,
    Short,
    Table,
)

SERIALIZERS = (
    "msgpack", "json", "cbor", "msgpack.batched", "json.batched", "cbor.batched",
)  # fmt: skip
ACTIONS = ("call", "register", "publish", "subscribe")
#: Realms, roles and people are called what WAMP lets them be called.
FREE_NAME = re.compile(r"[^\s#\x00-\x1f\x7f](?:[^#\x00-\x1f\x7f]{0,198}[^\s#\x00-\x1f\x7f])?")
FREE_NAME_WORDS = "letters, digits and signs but no #, at most 200"
#: A path of a port: "/", or "ws", "api/call".
_PATH_NAME = re.compile(f"/|{URL_PATH.pattern}")
_USE = r"[^\W\d]\w*(?:\.[^\W\d]\w*)*[:.][^\W\d]\w*"

_URI = Text("a URI such as com.example.echo", r"[^\s#\x00-\x1f\x7f]+")
_ROLE = Text("the name of a role", FREE_NAME.pattern)
_REALM = Text("the name of a realm", FREE_NAME.pattern)


class UriPattern(Text):
    """A URI, or a part of one; "" stands for all."""

    def __init__(self) -> None:
        super().__init__('a URI such as "com.example.echo", or "com.example.*"')

    def parse(self, value: object) -> str:
        """Return the text; an empty one is a prefix of everything."""
        return "" if value == "" else super().parse(value)

    def schema(self) -> dict[str, Any]:
        """Return a string schema."""
        return {"type": "string"}


_MATCH = Key("match", Choice("exact", "prefix", "wildcard"), "How `uri` is meant.",
             default_words='"exact"; "prefix" where the URI ends in *, "wildcard" where a * is elsewhere', example='"prefix"')  # fmt: skip

PERMISSION = Table(
    "permission",
    "What a role may do with some URIs. Of the rules that match, the most specific one decides: exact, then the longest prefix, "
    "then the wildcard with most fixed parts. What it does not allow is refused; a `deny` of any matching rule wins.",
    Key("uri", UriPattern(), 'The URIs; "com.example.*" is everything that begins with "com.example.", "*" everything.', required=True,
        also=("topic", "procedure", "pattern"), example='"com.example.*"'),
    _MATCH,
    Key("allow", ListOf(Choice(*ACTIONS), 'a list of actions, as ["call", "subscribe"]'), "What is allowed.", default_words="nothing",
        example='["call", "subscribe"]'),
    Key("deny", ListOf(Choice(*ACTIONS), 'a list of actions, as ["publish"]'), "What is refused whatever other rules or an authorizer say.",
        default_words="nothing", example='["publish"]'),
    Key("disclose_caller", Boolean(), "Callees are told who calls.", default=False, example="true"),
    Key("disclose_publisher", Boolean(), "Subscribers are told who publishes.", default=False, example="true"),
    is_shared=True,
)  # fmt: skip

ROLE = Table(
    "role",
    "What the sessions of one authrole may do in a realm. Without permissions and authorizer: nothing.",
    Key("permissions", ListOf(PERMISSION, "a list of tables"), "The rules.", also=("permission", "rules", "allow"),
        example='[{ uri = "com.example.*", allow = ["call", "subscribe"] }]'),
    Key("authorizer", _URI, "A procedure of the realm that is asked where no rule denies.", example='"com.example.authorize"'),
)  # fmt: skip

HISTORY = Table(
    "event history",
    "Events that the router keeps for latecomers (wamp.subscription.get_events).",
    Key("uri", UriPattern(), "The topics.", required=True, also=("topic",), example='"com.example.news"'),
    _MATCH,
    Key("limit", Integer(1, 10_000_000), "Events kept.", default=100, example="100"),
)  # fmt: skip

REALM = Table(
    "realm",
    "A routing domain of the bus, and the roles in it.",
    Key("name", _REALM, "What clients call it.", default_words="the name in the header", example='"com.example.shop"'),
    Key("role", Named(ROLE, names=FREE_NAME, names_words=FREE_NAME_WORDS, ref=False), "Roles by name.", also=("roles",),
        example='{ anonymous = { permissions = [{ uri = "*", allow = ["call"] }] } }'),
    Key("meta_api", Boolean(), "The procedures and events of the meta API (wamp.session.list and so on) are there.", default=True,
        also=("enable_meta_api",), example="false"),
    Key("history", ListOf(HISTORY, "a list of tables"), "Events that are kept.", also=("event_history", "store"),
        example='[{ uri = "com.example.news", limit = 50 }]'),
    Key("uri_check", Choice("loose", "strict"), "Which URIs are accepted: strict means only a-z, 0-9 and _ between the dots.",
        default="loose", example='"strict"'),
)  # fmt: skip

TLS = Table(
    "tls",
    "Certificates for listening over TLS. Paths are relative to the configuration file.",
    Key("certificate", PathText(), "The certificate (PEM).", required=True, also=("cert", "crt"), example='"cert.pem"'),
    Key("key", PathText(), "Its private key (PEM).", required=True, also=("private_key",), example='"key.pem"'),
    Key("chain", ListOf(PathText(), 'a list of files, as ["chain.pem"]'), "Certificates between it and the root.",
        also=("chain_certificates",), example='["chain.pem"]'),
    Key("ca", ListOf(PathText(), 'a list of files, as ["ca.pem"]'), "Client certificates are asked for and checked against these.",
        also=("ca_certificates", "client_ca"), example='["ca.pem"]'),
    Key("require_client", Boolean(), "Only clients with a certificate get in.", default=False, example="true"),
    Key("ciphers", Text("a list of ciphers as OpenSSL writes it"), "Ciphers of TLS 1.2.", default_words="those of Python",
        example='"ECDHE+AESGCM"'),
    is_shared=True,
)  # fmt: skip

# -- signing in ------------------------------------------------------------------------------------

_ASKS = (
    Key("authenticator", _URI, "A procedure that decides (dynamic sign-in).", example='"com.example.authenticate"'),
    Key("authenticator_realm", _REALM, "The realm of that procedure.", default_words="the one that the client wants to join",
        example='"auth"'),
    Key("create", Text('"module:function"', _USE, hint='as "package.module:function"'), "A function that makes the authenticator.",
        example='"shop.auth:create"'),
    Key("config", Settings(), "A table that is handed to that function.", example="{ ldap = true }"),
)  # fmt: skip
_AUTHENTICATED = (
    Key("role", _ROLE, "The role of this one.", required=True, also=("authrole",), example='"user"'),
    Key("realm", _REALM, "The realm of this one.", default_words="the one that the client wants", example='"realm1"'),
)  # fmt: skip


def _people(title: str, doc: str, *keys: Key) -> Named:
    table = Table(title, doc, *keys, *_AUTHENTICATED)
    return Named(table, names=FREE_NAME, names_words=FREE_NAME_WORDS, ref=False)


def _method(title: str, doc: str, people: str, kind: Named, example: str) -> Table:
    return Table(
        title, doc,
        Key(people, kind, "Who may sign in, by authid.", example=example), *_ASKS,
        choose=(people, "authenticator", "create"), choose_words="does not say who may sign in",
    )  # fmt: skip


ANONYMOUS = Table(
    "anonymous",
    "Everybody may join, without a proof.",
    Key("role", _ROLE, "Their role.", default="anonymous", example='"guest"'),
    Key("authid", Text("a name"), "Their authid.", default_words="a new one for each", example='"guest"'),
    Key("realm", _REALM, "Only this realm.", default_words="any", example='"public"'),
    *_ASKS,
)  # fmt: skip
TICKET = _method(
    "ticket", "A shared secret that is sent as it is: only over TLS or Unix sockets.", "principals",
    _people("ticket of somebody", "One who signs in by a ticket.",
            Key("ticket", Text("a secret"), "The secret; \"${NAME}\" takes it from the environment.", required=True, example='"${JOE_TICKET}"')),
    '{ joe = { ticket = "${JOE_TICKET}", role = "user" } }',
)  # fmt: skip
WAMPCRA = _method(
    "wampcra", "A shared secret that is never sent (challenge and response).", "users",
    _people("WAMP-CRA secret of somebody", "One who signs in by WAMP-CRA.",
            Key("secret", Text("a secret"), "The secret, or what PBKDF2 made of it when there is a salt.", required=True,
                also=("password",), example='"${JOE_SECRET}"'),
            Key("salt", Text("a text"), "The salt of PBKDF2.", example='"salt123"'),
            Key("iterations", Integer(1, 100_000_000), "The rounds of PBKDF2.", default_words="1000 with a salt", example="1000"),
            Key("keylen", Integer(1, 1024), "The length of the derived key.", default_words="32 with a salt", example="32")),
    '{ joe = { secret = "${JOE_SECRET}", role = "user" } }',
)  # fmt: skip
SCRAM = _method(
    "scram", "A password that is neither sent nor kept (RFC 5802).", "users",
    _people("SCRAM credentials of somebody", "One who signs in by SCRAM.",
            Key("kdf", Choice("pbkdf2", "argon2id13", "argon2id-13"), "How the password was hashed; `argon2id-13` is Autobahn's dialect.",
                default="pbkdf2", example='"argon2id13"'),
            Key("iterations", Integer(1, 100_000_000), "Its rounds.", required=True, example="4096"),
            Key("memory", Integer(1, 1 << 30), "Its memory in KiB (argon2id13).", example="512"),
            Key("salt", Text("a text in Base64 or hex"), "Its salt.", required=True, example='"c2FsdA=="'),
            Key("stored_key", Text("a text in hex"), "StoredKey.", required=True, also=("stored-key",), example='"…"'),
            Key("server_key", Text("a text in hex"), "ServerKey.", required=True, also=("server-key",), example='"…"')),
    '{ joe = { iterations = 4096, salt = "c2FsdA==", stored_key = "1f…", server_key = "9c…", role = "user" } }',
)  # fmt: skip
CRYPTOSIGN = _method(
    "cryptosign", "A signature by an Ed25519 key.", "principals",
    _people("keys of somebody", "One who signs in by a key.",
            Key("authorized_keys", ListOf(Text("a public key: 64 hex digits", "[0-9a-fA-F]{64}"), "a list of public keys", least=1),
                "Public keys, in hex.", required=True, also=("keys", "pubkey"), example='["3b6a27bcceb6a42d62a3a8d02a6f0d73653215771de243a63ac048a18b59da29"]')),
    '{ joe = { authorized_keys = ["3b6a27bcceb6a42d62a3a8d02a6f0d73653215771de243a63ac048a18b59da29"], role = "user" } }',
)  # fmt: skip
TLS_CLIENT = _method(
    "tls sign-in", "A client certificate; needs `ca` in the tls of the transport.", "principals",
    _people("certificate of somebody", "One who signs in by a certificate. At least one of the first three.",
            Key("certificate_sha1", Text("a fingerprint in hex", "[0-9a-fA-F:]{40,59}"), "Its SHA-1 fingerprint.", also=("certificate-sha1",)),
            Key("certificate_sha256", Text("a fingerprint in hex", "[0-9a-fA-F:]{64,95}"), "Its SHA-256 fingerprint.",
                also=("certificate-sha256",)),
            Key("subject", Text("a name"), "Its common name.", also=("cn", "common_name"))),
    '{ joe = { subject = "joe", role = "user" } }',
)  # fmt: skip
COOKIE = Table(
    "cookie",
    "A browser that has signed in once is known by its cookie; that outlives a crash of the router.",
    Key("name", Text("letters, digits, - and _", "[A-Za-z0-9_-]{1,64}"), "Its name.", default="holdfast", example='"shop"'),
    Key("length", Integer(18, 64), "Random bytes in it.", default=24, example="24"),
    Key("max_age", Duration(), "How long it lasts.", default="7d", example='"30d"'),
    Key("store", Either(Off("none", "write a path, or false"), PathText()), "The file that remembers who signed in; false: the router's memory.",
        default_words="STATE/cookies/WORKER.TRANSPORT", also=("path", "filename"), example='"cookies"'),
)  # fmt: skip
AUTH = Table(
    "auth",
    "The ways to sign in. The client names those that it knows; the first one that is also here is used.",
    Key("anonymous", Either(Boolean(), ANONYMOUS), ANONYMOUS.doc, example='{ role = "guest" }'),
    Key("ticket", TICKET, TICKET.doc, example='{ principals = { joe = { ticket = "${JOE_TICKET}", role = "user" } } }'),
    Key("wampcra", WAMPCRA, WAMPCRA.doc, also=("wamp-cra", "wamp_cra"), example='{ authenticator = "com.example.authenticate" }'),
    Key("scram", SCRAM, SCRAM.doc, also=("wamp-scram", "wamp_scram"), example='{ authenticator = "com.example.authenticate" }'),
    Key("cryptosign", CRYPTOSIGN, CRYPTOSIGN.doc, also=("wamp-cryptosign",), example='{ authenticator = "com.example.authenticate" }'),
    Key("tls", TLS_CLIENT, TLS_CLIENT.doc, example='{ authenticator = "com.example.authenticate" }'),
    Key("cookie", Either(Boolean(), COOKIE), COOKIE.doc, example="true"),
    is_shared=True,
)  # fmt: skip

# -- services --------------------------------------------------------------------------------------

_SERVICE = (
    Key("auth", AUTH, "The ways to sign in here.", default_words="those of the transport; anonymous", example="{ anonymous = true }"),
    Key("serializers", ListOf(Choice(*SERIALIZERS), 'a list of serializers, as ["msgpack", "json"]', least=1),
        "What is spoken, in order of preference.", default_words="all", also=("serializer",), example='["msgpack", "json"]'),
    Key("message_max", Size(512, "512 bytes"), "A longer message ends the connection.", default="4M",
        also=("max_message_size", "message_bytes"), example='"1M"'),
    Key("ping", Duration(zero=True), "A ping after this long without a message; 0: none.", default="30s",
        also=("auto_ping_interval", "ping_interval"), example='"10s"'),
    Key("ping_timeout", Duration(), "Cut off when nothing came this long after a ping.", default="20s",
        also=("auto_ping_timeout",), example='"5s"'),
    Key("queue_max", Size(4096, "4 KiB"), "Unsent output of one session beyond this: it is cut off, and named.", default="16M",
        also=("queue_bytes", "high_water"), example='"1M"'),
)  # fmt: skip
_WEBSOCKET_KEYS = (
    *_SERVICE,
    Key("compression", Boolean(), "permessage-deflate is accepted where the client offers it.", default=False, example="true"),
    Key("origins", ListOf(Text("an origin, with * for any letters"), 'a list of origins, as ["https://example.com"]'),
        "Web pages that may connect, by their origin.", default_words='["*"]', also=("allowed_origins",), example='["https://*.example.com"]'),
)  # fmt: skip
WEBSOCKET = Table("websocket", "WAMP over WebSocket.", *_WEBSOCKET_KEYS, is_shared=True)
RAWSOCKET = Table("rawsocket", "WAMP over RawSocket.", *_SERVICE, is_shared=True)

_AS_WHOM = (
    Key("realm", _REALM, "The realm.", required=True, example='"realm1"'),
    Key("role", _ROLE, "In which role it is done.", required=True, example='"web"'),
)  # fmt: skip
_POST = (
    Key("key", Text("a text"), "The name of the secret that requests are signed with.", example='"web"'),
    Key("secret", Text("a secret"), "The secret.", example='"${WEB_SECRET}"'),
    Key("timestamp_delta_limit", Integer(1, 86400), "Seconds that the time of a signed request may be off.", default=300, example="60"),
    Key("post_body_limit", Size(1), "A longer request is refused.", default="256K", example='"1M"'),
    Key("require_ip", ListOf(Text("an address or network"), 'a list, as ["127.0.0.1", "10.0.0.0/8"]'), "Only from here.",
        example='["127.0.0.1"]'),
    Key("require_tls", Boolean(), "Only over TLS.", default=False, example="true"),
)  # fmt: skip


def _service(kind: str, doc: str, *keys: Key, choose: tuple[str, ...] = ()) -> Table:
    return Table(
        f'kind = "{kind}"', doc, Key("kind", Choice(kind), "What it is.", required=True, also=("type",), example=f'"{kind}"'), *keys,
        choose=choose, choose_words="does not say what to serve",
    )  # fmt: skip


PATH_KINDS = {
    "websocket": _service("websocket", "WAMP over WebSocket.", *_WEBSOCKET_KEYS),
    "static": _service("static", "Files.",
        Key("directory", PathText(), "The directory; relative to the configuration file.", also=("dir", "root"), example='"web"'),
        Key("package", Text("the name of a package"), "Or a Python package that has them, with `resource`.", example='"shop"'),
        Key("resource", Text("a path"), "Where in the package.", default_words='"web"', example='"web"'),
        Key("enable_directory_listing", Boolean(), "Directories can be looked through.", default=False, example="true"),
        Key("allow_cross_origin", Boolean(), "Other pages may read them.", default=False, example="true"),
        Key("mime_types", Settings(), "Types by the end of the name.", example='{ ".md" = "text/plain" }'),
        Key("cache_timeout", Duration(zero=True), "How long browsers may keep them.", default_words="they ask each time", example='"1h"'),
        Key("fallback", PathText(), "Served where there is no such file (single-page applications).", also=("default_file",), example='"index.html"'),
        choose=("directory", "package")),
    "redirect": _service("redirect", "Elsewhere.", Key("url", Text("a URL"), "Where to.", required=True, example='"https://example.com/"')),
    "json": _service("json", "A fixed value as JSON.", Key("value", Anything(), "The value.", required=True, example="{ version = 1 }"),
        Key("prettify", Boolean(), "For people to read.", default=False, example="true"),
        Key("allow_cross_origin", Boolean(), "Other pages may read it.", default=True, example="false"),
        Key("discourage_caching", Boolean(), "Browsers should not keep it.", default=False, example="true")),
    "publisher": _service("publisher", "Publishes what is sent by POST.", *_AS_WHOM, *_POST),
    "caller": _service("caller", "Calls what is sent by POST.", *_AS_WHOM, *_POST),
    "webhook": _service("webhook", "Publishes whatever is sent by POST to one topic.", *_AS_WHOM,
        Key("topic", _URI, "The topic.", required=True, example='"com.example.hook"'),
        Key("success_response", Text("a text"), "What is answered.", default="OK", example='"thanks"'),
        Key("error_response", Text("a text"), "What is answered when it could not be published.", default="NOT OK", example='"sorry"'),
        Key("github_secret", Text("a secret"), "Only requests that GitHub signed with this.", example='"${HOOK_SECRET}"'),
        Key("post_body_limit", Size(1), "A longer request is refused.", default="256K", example='"1M"')),
    "wsgi": _service("wsgi", "A WSGI application.", Key("module", Text("a module"), "Its module.", required=True, example='"shop.web"'),
        Key("object", Text("a name"), "Its name there.", required=True, example='"app"'),
        Key("minthreads", Integer(0, 10_000), "Threads that are kept.", default=0, example="1"),
        Key("maxthreads", Integer(1, 10_000), "Threads at most.", default=20, example="10")),
    "cgi": _service("cgi", "CGI programs.", Key("processor", PathText(), "What runs them, as /usr/bin/python3.", required=True,
        example='"/usr/bin/python3"'), Key("directory", PathText(), "Where they are.", required=True, example='"cgi-bin"'),
        Key("timeout", Duration(), "A program that takes longer is killed.", default="30s", example='"5s"'),
        Key("memory_max", Size(1 << 20, "1 MiB"), "Address space of one program.", default_words="no limit of its own",
            also=("memory_bytes",), example='"256M"'),
        Key("max_processes", Integer(1, 10_000), "Programs at a time; further requests wait.", default=16, example="4")),
    "upload": _service("upload", "Takes files, in pieces.", *_AS_WHOM,
        Key("directory", PathText(), "Where they go.", required=True, example='"uploads"'),
        Key("temp_directory", PathText(), "Where they are until they are whole.", default_words="below `directory`", example='"uploads/.tmp"'),
        Key("form_fields", Settings(), "What the form's fields are called (file_name, mime_type, total_size, chunk_number, chunk_size, "
            "total_chunks, content; on_progress, session, chunk_extra, finish_extra).", required=True,
            example='{ file_name = "resumableFilename" }'),
        Key("max_file_size", Size(1), "A larger one is refused.", default="100M", example='"10M"'),
        Key("file_types", ListOf(Text("an ending, as .png"), 'a list of endings, as [".png"]'), "Only these.", example='[".png", ".jpg"]'),
        Key("file_permissions", Text("a file mode, as \"0644\"", "0?[0-7]{3}"), "Their mode.", default="0640", example='"0644"')),
    "resource": _service("resource", "A web application of your own: an ASGI application or a callable.",
        Key("classname", Text('"module:attribute"', _USE), "Where it is.", required=True, also=("use",), example='"shop.web:app"'),
        Key("extra", Anything(), "What it is handed.", also=("settings",), example="{ title = \"shop\" }"),
        Key("on_loop", Boolean(), "An ASGI application runs on the router's own loop, where it may use what runs there, and must not block.",
            default=False, example="true")),
    "nodeinfo": _service("nodeinfo", "A page about the router."),
    "health": _service("health", "Whether the router lives and serves, for load balancers."),
    "path": _service("path", "Nothing but the paths below it."),
}  # fmt: skip
PATH = OneOf("path", "A service at a path of a port; the longest path that fits is used.", PATH_KINDS)  # fmt: skip

TRANSPORT = Table(
    "transport",
    "A listening socket of a router, and what is served there. Without `websocket`, `rawsocket` and `paths`: WAMP over both.",
    Key("listen", ServiceAddress(), "Where; `tcp://` and `unix:` serve what the other keys say, `ws://`, `rs://` … what they name.",
        required=True, also=("address", "endpoint", "bind", "url"), example='"tcp://127.0.0.1:8080"'),
    Key("name", NameText(), "Its name, in status and logs.", default_words='"t0", "t1" and so on', also=("id",), example='"public"'),
    Key("backlog", Integer(1, 65535), "How many connections may wait.", default=1024, example="1024"),
    Key("shared", Boolean(), "Whether other routers may listen at the same TCP address, all with this key; the kernel spreads connections over them.",
        default=False, also=("reuse_port",), example="true"),
    Key("tls", TLS, "TLS on this socket.", example='{ certificate = "cert.pem", key = "key.pem" }'),
    Key("auth", AUTH, "The ways to sign in at each service that has no `auth` of its own.", default_words="anonymous",
        example='{ anonymous = { role = "guest" } }'),
    Key("websocket", Either(Boolean(), WEBSOCKET), "WAMP over WebSocket, at every path that `paths` does not have.", example="true"),
    Key("rawsocket", Either(Boolean(), RAWSOCKET), "WAMP over RawSocket.", example="true"),
    Key("paths", Named(PATH, names=_PATH_NAME, names_words=f'"/", or {URL_PATH_WORDS}', ref=False), "Services by path.",
        also=("path", "routes"), example='{ "/" = { kind = "static", directory = "web" }, ws = { kind = "websocket" } }'),
)  # fmt: skip

LIMITS = Table(
    "limits",
    "What one router bears; beyond each there is a clear ABORT or ERROR.",
    Key("sessions", Integer(1, 10_000_000), "Open sessions.", default=100_000, example="1000"),
    Key("unauthenticated", Integer(1, 10_000_000), "Connections that have not signed in yet.", default=4096,
        also=("connections_unauthenticated",), example="100"),
    Key("handshake", Duration(), "Time for handshakes and sign-in, all together.", default="10s", also=("handshake_timeout",), example='"5s"'),
    Key("subscriptions", Integer(0, 10_000_000), "Subscriptions of one session.", default=10_000, example="100"),
    Key("registrations", Integer(0, 10_000_000), "Registrations of one session.", default=10_000, example="100"),
    Key("calls", Integer(0, 10_000_000), "Calls of one session in flight.", default=10_000, example="100"),
    Key("http", Integer(1, 10_000_000), "HTTP connections; idle ones make room for new ones.", default=1024, also=("connections_http",),
        example="100"),
    Key("queue_total", Size(1 << 20, "1 MiB"), "Unsent output of all sessions together; beyond it those with most of it are cut off, and named.",
        default="256M", also=("queue_bytes_total",), example='"64M"'),
)  # fmt: skip

#: How a component or a link signs in: the client's side of AUTH.
SIGN_IN = Table(
    "sign-in",
    "How a component signs in at a router elsewhere.",
    Key("method", Choice("anonymous", "ticket", "wampcra", "scram", "cryptosign", "tls", "cookie"), "The authmethod.", required=True,
        example='"ticket"'),
    Key("authid", Text("a name"), "As whom.", also=("user", "name"), example='"backend"'),
    Key("authrole", _ROLE, "In which role, where the router lets the client choose.", also=("role",), example='"backend"'),
    Key("ticket", Text("a secret"), "The ticket.", example='"${TICKET}"'),
    Key("secret", Text("a secret"), "The secret of WAMP-CRA.", example='"${SECRET}"'),
    Key("password", Text("a secret"), "The password of SCRAM.", example='"${PASSWORD}"'),
    Key("private_key", Text("64 hex digits", "[0-9a-fA-F]{64}"), "The private key of cryptosign, in hex.", also=("privkey", "key"), example='"3b6a27bcceb6a42d62a3a8d02a6f0d73653215771de243a63ac048a18b59da29"'),
    Key("private_key_file", PathText(), "Or the file that has it.", also=("key_file",), example='"key.priv"'),
    Key("channel_binding", Choice("tls-unique"), "The signature also binds the TLS connection (cryptosign).", example='"tls-unique"'),
    Key("router_keys", ListOf(Text("a public key: 64 hex digits", "[0-9a-fA-F]{64}"), "a list of public keys", least=1),
        "The router has to prove that it has one of these.", example='["3b6a27bcceb6a42d62a3a8d02a6f0d73653215771de243a63ac048a18b59da29"]'),
    Key("cookie", Text("a text"), 'The cookie: "name=value".', example='"${COOKIE}"'),
    Key("authextra", Settings(), "More for the authenticator.", example="{ }"),
    is_shared=True,
)  # fmt: skip
BusUrl = Text(
    "the URL of a router: ws://, wss://, rs://, rss:// or unix:",
    r"(?:wss?|rss?|https?|tcp)://[^\s/]+(?:/\S*)?|unix:.+",
)

LINK = Table(
    "link",
    "A link to a router elsewhere: events and procedures of either side can be used on both. The sign-in there has to give the role `trusted`.",
    Key("realm", _REALM, "The realm, here and there.", required=True, example='"realm1"'),
    Key("url", BusUrl, "Where.", required=True, example='"wss://other.example.com/ws"'),
    Key("auth", SIGN_IN, "How it signs in there.", default_words="anonymously", example='{ method = "ticket", authid = "link", ticket = "${T}" }'),
)  # fmt: skip

ROUTER_KEYS = (
    Key("transport", ListOf(TRANSPORT, "tables: [[worker.NAME.transport]]"), "What it listens on, in full; `listen` is the short form.",
        only="router", also=("transports",), example='[{ listen = "tcp://127.0.0.1:8080" }]'),
    Key("realms", ListOf(Text("the name of a realm"), 'a list of realms, as ["realm1"]'), "The realms that it serves; none with `[]`: pages only.",
        only="router", default_words="every [realm.NAME]", example='["realm1"]'),
    Key("tls", TLS, "TLS for the wss://, https:// and rss:// addresses of `listen`.", only="router",
        example='{ certificate = "cert.pem", key = "key.pem" }'),
    Key("limits", LIMITS, "What it bears.", only="router", example="{ sessions = 1000 }"),
    Key("link", ListOf(LINK, "tables: [[worker.NAME.link]]"), "Links to routers elsewhere; those of one node find each other.",
        only="router", also=("links", "rlinks"), example='[{ realm = "realm1", url = "wss://other.example.com/ws" }]'),
    Key("identity", PathText(), "A file with an Ed25519 private key in hex: the router shows clients who it is.", only="router",
        default_words="none", example='"router.key"'),
)  # fmt: skip
COMPONENT_KEYS = (
    Key("realm", Text("the name of a realm"), "The realm that it joins.", default_words="the only one there is", example='"realm1"'),
    Key("role", _ROLE, "Its role there, on this node's own bus.", default_words='"trusted", which may do everything', also=("authrole",),
        example='"backend"'),
    Key("bus", Either(Off("none", "leave it out, or write false"), Short(BusUrl, "url"), Short(ListOf(BusUrl, 'a list of URLs', least=1), "urls")),
        "The routers that it joins, by URL, tried in turn; false: none.", default_words="the routers of this node", also=("transport", "router", "url"),
        example='"ws://127.0.0.1:8080/ws"'),
    Key("auth", SIGN_IN, "How it signs in there.", default_words="anonymously", also=("authentication",),
        example='{ method = "ticket", authid = "board", ticket = "${TICKET}" }'),
)  # fmt: skip
#: Tables that stand in several places; the schema describes each once.
SHARED = (AUTH, TLS, WEBSOCKET, RAWSOCKET, SIGN_IN, PERMISSION)
