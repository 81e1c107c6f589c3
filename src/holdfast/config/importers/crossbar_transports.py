"""What do the transports of a Crossbar.io router mean to Holdfast: endpoints, services, ways to sign in?

Each becomes one ``[[worker.NAME.transport]]``. Checking is left to Holdfast's own definitions, which then name the place in
the Crossbar.io file; here only the words change.
"""

from typing import Any

from holdfast.config.bus_definitions import PATH_KINDS, SERIALIZERS
from holdfast.config.importers.draft import Table, exact, portable
from holdfast.config.importers.foreign import Foreign, whole_variable, with_variables
from holdfast.config.importers.tree import Node

_KNOWN = ("websocket", "rawsocket", "web", "universal")
_UNKNOWN = {
    "mqtt": "there is no MQTT; a broker can run beside as a guest, with a component between them",
    "flashpolicy": "Flash is no more",
    "websocket.testee": "this is a test of WebSocket libraries, not a service",
    "stream.testee": "this is a test of network libraries, not a service",
}
_NO_SERVICE = {
    "longpoll": "browsers have WebSocket: there is no long polling",
    "reverseproxy": "a web server before Holdfast does this",
    "websocket-reverseproxy": "a web server before Holdfast does this",
}
_ENDPOINT_ADVICE = {
    "version": "the address says which version of IP it is",
    "user_timeout": "pings find dead connections: ping and ping_timeout",
    "timeout": "a listening socket has none",
}
_TLS_ADVICE = {
    "dhparam": "key exchange is by elliptic curves, which need no such file",
}
_TRANSPORT_ADVICE = {
    "url": "clients are told by no one else where the router is",
    "debug": "holdfast logs has what the router says",
    "debug_app": "holdfast logs has what the router says",
}
_WEB_ADVICE = {
    "access_log": "requests that fail are logged; for each one, put a web server before it",
    "display_tracebacks": "tracebacks are in the log, never on a page",
    "hsts": "set it in the web server before it",
    "hsts_max_age": "set it in the web server before it",
    "client_timeout": "idle connections of browsers are closed by the router",
}
_SOCKET_ADVICE = {
    "open_handshake_timeout": "one limit for all of a router: [worker.NAME.limits] handshake",
    "close_handshake_timeout": "a connection that closes is closed",
    "enable_webstatus": "a page about the router is kind = \"nodeinfo\"",
    "auto_ping_size": "a ping has no content",
    "auto_ping_restart_on_any_traffic": "that is always so",
    "auto_fragment_size": "messages are sent whole",
    "max_frame_size": "the limit is that of messages: message_max",
    "fail_by_drop": "a broken connection is dropped after saying why",
    "echo_close_codereason": "the reason of a close is answered as RFC 6455 has it",
    "validate_utf8": "that is always so",
    "mask_server_frames": "RFC 6455 forbids it",
    "require_masked_client_frames": "RFC 6455 demands it",
    "apply_mask": "RFC 6455 demands it",
    "tcp_nodelay": "that is always so",
    "allow_null_origin": "\"null\" is an origin like others: put it into origins",
    "enable_hybi10": "only RFC 6455 is spoken",
    "enable_rfc6455": "that is always so",
    "require_websocket_subprotocol": "that is always so",
    "show_server_version": "the version is not shown",
    "external_port": "no one needs to know",
    "enable_flash_policy": "Flash is no more",
    "flash_policy": "Flash is no more",
}  # fmt: skip
_COOKIE_ADVICE = {
    "secure": "over TLS a cookie is always Secure",
    "http_strict": "a cookie is always HttpOnly",
    "same_site": "a cookie is always SameSite=Lax",
    "domain": "a cookie belongs to the host that set it",
    "path": "a cookie belongs to the whole host",
}
#: Keys of a service that Crossbar.io has under `options` and that have the same name here.
_MILLISECONDS = {"auto_ping_interval": "ping", "auto_ping_timeout": "ping_timeout"}
_METHODS = ("anonymous", "ticket", "wampcra", "scram", "cryptosign", "tls")
_HYPHENS = {"stored-key": "stored_key", "server-key": "server_key", "certificate-sha1": "certificate_sha1",
            "certificate-sha256": "certificate_sha256", "authorized-keys": "authorized_keys"}  # fmt: skip
_SECRETS = ("ticket", "secret")


class Transports:
    """The transports of one router."""

    def __init__(self, foreign: Foreign, table: Table) -> None:
        self.foreign = foreign
        self.table = table

    def read(self, transports: Node | None) -> None:
        """Carry over all of them."""
        for transport in self.foreign.entries(transports):
            kind = self.foreign.kind(transport, _KNOWN)
            if kind in _KNOWN:
                self._transport(transport, kind or "")
            elif kind is not None:
                advice = _UNKNOWN.get(kind, f"Holdfast has no transport of type {kind}")
                transport.note(advice, f"{transport.path} ({kind})")

    def _transport(self, node: Node, kind: str) -> None:
        foreign = self.foreign
        entry = foreign.draft.entry(
            *self.table.header, "transport", remarks=foreign.remarks(node, kind), at=node
        )
        name = foreign.text(node, "id")
        if name:
            entry.put("name", name, at=node.get("id"))
        if not self._endpoint(foreign.mapping(node.get("endpoint")), node, entry):
            return
        if kind == "websocket":
            self._socket(node, foreign.draft.inside(entry, "websocket", at=node))
        elif kind == "rawsocket":
            self._socket(node, foreign.draft.inside(entry, "rawsocket", at=node))
        elif kind == "web":
            self._paths(node, node, entry)
        else:
            self._universal(node, entry)
        foreign.advise(node, _TRANSPORT_ADVICE)
        if kind == "web":
            foreign.advise(foreign.mapping(node.get("options")), _WEB_ADVICE)

    def _universal(self, node: Node, entry: Table) -> None:
        foreign = self.foreign
        rawsocket = foreign.mapping(node.get("rawsocket"))
        if rawsocket is not None:
            self._socket(rawsocket, foreign.draft.inside(entry, "rawsocket", at=rawsocket))
            self._kind_there(rawsocket)
        websocket = foreign.mapping(node.get("websocket"))
        for path, below in ((websocket.pairs if websocket else None) or {}).items():
            self._service(path, "", below, entry)
        web = foreign.mapping(node.get("web"))
        if web is not None:
            self._kind_there(web)
            self._paths(web, web, entry)
            foreign.advise(foreign.mapping(web.get("options")), _WEB_ADVICE)
        mqtt = node.get("mqtt")
        if mqtt is not None:
            mqtt.note(_UNKNOWN["mqtt"], f"{mqtt.path} (mqtt)")
        if rawsocket is None and websocket is None and web is None:
            foreign.problem(node, f"{node.path} serves nothing that Holdfast has")

    def _kind_there(self, node: Node) -> None:
        kind = node.get("type")
        if kind is not None:
            kind.note("the key above says the same")

    # -- endpoints ---------------------------------------------------------------------------------

    def _endpoint(self, node: Node | None, transport: Node, entry: Table) -> bool:
        foreign = self.foreign
        if node is None:
            if "endpoint" not in (transport.pairs or {}):
                foreign.problem(transport, f"{transport.path} has no endpoint")
            return False
        kind = foreign.text(node, "type", needed=True)
        if kind == "unix":
            path = foreign.text(node, "path", needed=True)
            if path is None:
                return False
            entry.put("listen", f"unix:{with_variables(path)}", at=node.get("path"))
        elif kind == "tcp":
            address = self._address(node)
            if address is None:
                return False
            everywhere = "" if node.get("interface") else "every interface there"
            entry.put("listen", address, everywhere, at=node.get("port"))
        else:
            if kind is not None:
                foreign.problem(node, f"{node.path}.type = {kind!r}: known are tcp and unix")
            return False
        backlog = node.get("backlog")
        if backlog is not None:
            entry.put("backlog", backlog.value(), at=backlog)
        tls = foreign.mapping(node.get("tls"))
        if tls is not None:
            self._tls(tls, foreign.draft.inside(entry, "tls", at=tls))
        shared = node.get("shared")
        if shared is not None and kind == "tcp":
            entry.put("shared", shared.value(), at=shared)
        foreign.advise(node, _ENDPOINT_ADVICE)
        return True

    def _address(self, node: Node) -> str | None:
        foreign = self.foreign
        host = foreign.text(node, "interface")
        version = node.get("version")
        if not host:
            host = "0.0.0.0"
            if version is not None and version.scalar == 6:
                version.value()
                host = "::"
        ports = node.get("portrange")
        port = node.get("port")
        if ports is not None and ports.items:
            port = ports.items[0]
            ports.items[-1].note("a transport has one port: the first one is used")
        if port is None:
            foreign.problem(node, f"{node.path} has no port")
            return None
        value = port.value()
        if isinstance(value, str):
            text = whole_variable(value)
            if text == value and not value.isdecimal():
                foreign.problem(
                    port, f"{port.path} = {value!r}: a port is a number or a variable as $PORT"
                )
                return None
        elif isinstance(value, bool) or not isinstance(value, int):
            foreign.problem(
                port, f"{port.path} has to be a number or a variable as $PORT, and is {port.kind()}"
            )
            return None
        else:
            text = str(value)
        return f"tcp://{f'[{host}]' if ':' in host else host}:{text}"

    def _tls(self, node: Node, table: Table) -> None:
        for key, ours in (
            ("certificate", "certificate"), ("key", "key"), ("chain_certificates", "chain"), ("ca_certificates", "ca"),
            ("ciphers", "ciphers"),
        ):  # fmt: skip
            given = node.get(key)
            if given is not None:
                table.put(ours, given.value(), at=given)
        ca = node.get("ca_certificates")
        if ca is not None and ca.items:
            table.put("require_client", True, "Crossbar.io demands a certificate, too")
        self.foreign.advise(node, _TLS_ADVICE)

    # -- WAMP --------------------------------------------------------------------------------------

    def _socket(self, node: Node, table: Table) -> None:
        """Carry over what WebSocket and RawSocket services have in common, at a path or on a port."""
        foreign = self.foreign
        serializers = node.get("serializers")
        if serializers is not None:
            known = [item for item in foreign.entries(serializers) if item.scalar in SERIALIZERS]
            for item in foreign.entries(serializers):
                if item not in known:
                    item.note(f"there are {', '.join(SERIALIZERS[:3])}, and .batched of each")
            if known:
                table.put("serializers", [item.value() for item in known], at=serializers)
        self._options(foreign.mapping(node.get("options")), table)
        auth = foreign.mapping(node.get("auth"))
        cookie = foreign.mapping(node.get("cookie"))
        if auth is not None:
            self._auth(auth, cookie, table)
        elif cookie is not None:
            cookie.note("a cookie is only set for signing in: auth.cookie")
        foreign.advise(node, _TRANSPORT_ADVICE)

    def _options(self, options: Node | None, table: Table) -> None:
        if options is None:
            return
        origins = options.get("allowed_origins")
        if origins is not None:
            table.put("origins", origins.value(), at=origins)
        self._pings(options, table)
        self._size(options.get("max_message_size"), table)
        self._compression(options.get("compression"), table)
        self.foreign.advise(options, _SOCKET_ADVICE)

    def _pings(self, options: Node, table: Table) -> None:
        interval = options.get("auto_ping_interval")
        is_off = interval is not None and interval.scalar == 0
        for key, ours in _MILLISECONDS.items():
            node = options.get(key)
            if node is None:
                continue
            if isinstance(node.scalar, bool) or not isinstance(node.scalar, int):
                says = f"{node.path} has to be a number of milliseconds, and is {node.kind()}"
                self.foreign.problem(node, says)
            elif key == "auto_ping_timeout" and is_off:
                node.note("without pings there is nothing to wait for")
            elif key == "auto_ping_timeout" and not node.scalar:
                node.note("a dead connection is always cut off")
            elif node.scalar == 0:
                table.put(ours, node.value(), "no pings there", at=node)
            else:
                table.put(ours, f"{node.value()}ms", at=node)

    def _size(self, node: Node | None, table: Table) -> None:
        if node is None:
            return
        if isinstance(node.scalar, bool) or not isinstance(node.scalar, int):
            says = f"{node.path} has to be a number of bytes, and is {node.kind()}"
            self.foreign.problem(node, says)
        elif node.scalar < 512:
            node.note("there is always a limit, of 512 bytes at least: message_max")
        else:
            table.put("message_max", node.value(), at=node)
            if node.scalar > 16 << 20:
                table.put("queue_max", node.scalar, "as large as a message")

    def _compression(self, node: Node | None, table: Table) -> None:
        if node is None:
            return
        deflate = node.get("deflate")
        if deflate is not None:
            table.put("compression", True, f"{deflate.path} there", at=node)
            if deflate.setting is not None:
                deflate.value()
            deflate.note("client and router agree on these")
        node.note("permessage-deflate is the one that there is")

    def _auth(self, auth: Node, cookie: Node | None, table: Table) -> None:
        foreign = self.foreign
        if not auth.pairs:
            table.put("auth", {}, at=auth)
            auth.value()
        for method, node in (auth.pairs or {}).items():
            if method == "cookie":
                self._cookie(node, cookie, foreign.draft.inside(table, "auth", "cookie", at=node))
            elif method not in _METHODS:
                node.note(f"known are {', '.join(_METHODS)} and cookie")
            elif foreign.mapping(node) is not None:
                self._method(node, method, foreign.draft.inside(table, "auth", method, at=node))
        foreign.draft.origins[(*table.path, "auth")] = auth
        if cookie is not None and "cookie" not in (auth.pairs or {}):
            cookie.note("a cookie is only set for signing in: auth.cookie")

    def _method(self, node: Node, method: str, table: Table) -> None:
        foreign = self.foreign
        kind = foreign.text(node, "type", needed=True)
        if kind == "dynamic":
            for key in ("authenticator", "authenticator-realm", "authenticator_realm"):
                self._take(node, key, key.replace("-", "_"), table)
        elif kind == "function":
            for key in ("create", "config"):
                self._take(node, key, key, table)
        elif kind == "static":
            for key in ("role", "authid", "realm") if method == "anonymous" else ():
                self._take(node, key, key, table)
            people = "users" if method in ("wampcra", "scram") else "principals"
            # What are users here are principals there with SCRAM, as with most methods.
            given = foreign.mapping(node.get(people) or node.get("principals"))
            if given is not None:
                self._people(given, people, table)
            self._trustroots(node, given)
        elif kind is not None:
            says = f"{node.path}.type = {kind!r}: known are static, dynamic and function"
            foreign.problem(node, says)
        advice = "there is no WAMP management session: use `holdfast … --json`"
        foreign.advise(node, {"expose_controller": advice, "expose-controller": advice})

    def _trustroots(self, node: Node, people: Node | None) -> None:
        """Say that certificates of an EIP-712 root are not checked; without principals nobody is left."""
        roots = node.get("trustroots")
        if roots is not None and people is None:
            says = "certificates of a trust root are not checked here"
            hint = "list the keys of those who may sign in: principals"
            self.foreign.problem(roots, f"{roots.path}: {says}\n  {hint}")
        elif roots is not None:
            roots.note("keys are listed one by one: principals")

    def _take(self, node: Node, key: str, ours: str, table: Table) -> None:
        given = node.get(key)
        if given is not None:
            table.put(ours, portable(given.value()), at=given)

    def _people(self, node: Node, people: str, table: Table) -> None:
        found: dict[str, Any] = {}
        for authid, person in (node.pairs or {}).items():
            if self.foreign.mapping(person) is None:
                continue
            entry: dict[str, Any] = {}
            for key, value in (person.pairs or {}).items():
                given = portable(value.value())
                is_secret = key in _SECRETS and isinstance(given, str)
                entry[_HYPHENS.get(key, key)] = whole_variable(given) if is_secret else given
            found[authid] = entry
        table.put(people, found, at=node)
        if not node.pairs:
            node.value()

    def _cookie(self, node: Node, cookie: Node | None, table: Table) -> None:
        foreign = self.foreign
        kind = node.get("type")
        if kind is not None:
            kind.note("there is one way to sign in by a cookie")
        if cookie is None:
            return
        name = cookie.get("name")
        if name is not None:
            table.put("name", name.value(), at=name)
        length = cookie.get("length")
        if length is not None and isinstance(length.scalar, int) and length.scalar < 18:
            length.note("a cookie that can be guessed protects nothing: 24 random bytes")
        elif length is not None:
            table.put("length", length.value(), at=length)
        age = cookie.get("max_age")
        if age is not None:
            table.put("max_age", age.value(), at=age)
        store = foreign.mapping(cookie.get("store"))
        if store is not None:
            filename = store.get("filename")
            if filename is not None:
                table.put("store", filename.value(), at=filename)
            store.note(
                "who signed in is kept in a file that outlives a crash; [… auth.cookie] store says where"
            )
        foreign.advise(cookie, _COOKIE_ADVICE)

    # -- HTTP --------------------------------------------------------------------------------------

    def _paths(self, node: Node, owner: Node, entry: Table, prefix: str = "") -> None:
        paths = self.foreign.mapping(node.get("paths"))
        if paths is None:
            if "paths" not in (node.pairs or {}):
                self.foreign.problem(owner, f"{owner.path} has no paths")
            return
        if not paths.pairs:
            paths.value()
            self.foreign.problem(paths, f"{paths.path} is empty: there is nothing to serve")
        for path, service in (paths.pairs or {}).items():
            self._service(path, prefix, service, entry)

    def _service(self, path: str, prefix: str, node: Node, entry: Table) -> None:
        foreign = self.foreign
        kind = foreign.kind(node, PATH_KINDS)
        if kind is None:
            return
        plain = path.strip("/")
        full = "/".join(part for part in (prefix, plain) if part) or "/"
        if kind == "path":
            if "/" not in ((node.get("paths") or node).pairs or {}):
                foreign.draft.inside(entry, "paths", full, at=node).put(
                    "kind", "path", at=node.get("type")
                )
            self._paths(node, node, entry, "" if full == "/" else full)
        elif kind in _NO_SERVICE or kind not in PATH_KINDS:
            advice = _NO_SERVICE.get(kind, f"Holdfast has no web service of type {kind}")
            node.note(advice, f"{node.path} ({kind})")
        else:
            table = foreign.draft.inside(entry, "paths", full, at=node)
            table.put("kind", kind, at=node.get("type"))
            if kind == "websocket":
                self._socket(node, table)
            else:
                self._plain(node, kind, table)
        foreign.advise(node, {"id": "a service is known by its path"})

    def _plain(self, node: Node, kind: str, table: Table) -> None:
        known = PATH_KINDS[kind].keys
        for source in (node, self.foreign.mapping(node.get("options"))):
            for key, given in ((source.pairs if source else None) or {}).items():
                ours = {"default_file": "fallback"}.get(key, key)
                if key == "debug":
                    given.note("holdfast logs has what the router says")
                elif ours in known and ours != "kind":
                    self._carry(table, ours, given)
        if kind == "resource":
            named = node.get("classname")
            setting = named.setting if named is not None else None
            if setting is not None:
                says = (
                    "a Resource of Twisted cannot run here; an ASGI application or a callable can"
                )
                self.foreign.ledger.remark(setting, f"{setting.words()}: {says}")

    def _carry(self, table: Table, key: str, given: Node) -> None:
        value = given.value()
        if key == "cache_timeout" and value is None:
            table.put(key, 0, "null there", at=given)
        elif key == "value" and value is None:
            table.put(key, "", "null there, which TOML does not have", at=given)
            self.foreign.draft.exact[(*table.path, key)] = None
        elif key in ("secret", "github_secret") and isinstance(value, str):
            table.put(key, whole_variable(value), at=given)
        elif value is None:
            self.foreign.problem(given, f"{given.path} is null")
        else:
            table.put(key, portable(value), at=given)
            if key in ("value", "extra"):
                self.foreign.draft.exact[(*table.path, key)] = exact(value)
