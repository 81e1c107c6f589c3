"""What do the realms of a Crossbar.io router mean to Holdfast: roles, permissions, stores?

Crossbar.io has realms inside of routers: two routers may each have a realm of one name, and those are two realms. Here
realms stand beside the routers, so the second one gets another header and keeps its ``name``.
"""

from typing import Any

from holdfast.config.importers.draft import Remarked, Table
from holdfast.config.importers.foreign import Foreign, whole_variable, with_variables
from holdfast.config.importers.tree import Node

_ACTIONS = ("call", "register", "publish", "subscribe")
_CACHE = "permissions are never cached: one that is withdrawn takes effect at once"
_REALM_ADVICE = {
    "id": "realms are known by their name",
    "store": "only event-history is kept, in memory",
    "container": "there are no realm containers",
}  # fmt: skip
_OPTION_ADVICE = {
    "event_dispatching_chunk_size": "events go out at once, with a limit for each slow subscriber (queue_max)",
    "bridge_meta_api": "the meta API of a realm is in that realm",
}


class Realms:
    """The realms of one node."""

    def __init__(self, foreign: Foreign) -> None:
        self.foreign = foreign
        self.cached: list[Node] = []

    def of_router(self, worker: Node, table: Table) -> dict[str, str]:
        """Carry over the realms of a router; return Crossbar's name -> header here."""
        node = worker.get("realms")
        found: dict[str, str] = {}
        links: list[tuple[Node, str]] = []
        for realm in self.foreign.entries(node):
            name = self.foreign.text(realm, "name", needed=True)
            if name is None:
                continue
            if name in found:
                self.foreign.problem(
                    realm, f"{realm.path}: this router has a realm {name!r} already"
                )
                continue
            header = self._realm(realm, name)
            found[name] = header
            links += [(link, name) for link in self.foreign.entries(realm.get("rlinks"))]
        if not found and not self.foreign.problems:
            if not _has_pages(worker):
                self.foreign.problem(
                    node or worker, f"{worker.path} is a router without realms: nobody could join"
                )
            table.put("realms", [], "none there: pages only", at=node or worker)
            return found
        for link, name in links:
            self._link(link, name, found, table)
        if node is not None:
            table.put("realms", list(found.values()), at=node)
        return found

    def note_caches(self) -> None:
        """Say once what becomes of all ``cache`` keys."""
        leaves = [leaf for node in self.cached for leaf in node.leaves()]
        self.foreign.ledger.note(leaves, _CACHE, "cache")

    def _realm(self, realm: Node, name: str) -> str:
        foreign = self.foreign
        header = foreign.draft.free_text("realm", name)
        table = foreign.draft.table(
            "realm", header, remarks=foreign.remarks(realm, "realm"), at=realm
        )
        if header != name:
            table.put("name", name, "another router has a realm of this name")
        options = foreign.mapping(realm.get("options"))
        for key, ours in (("enable_meta_api", "meta_api"), ("uri_check", "uri_check")):
            option = options.get(key) if options else None
            if option is not None:
                table.put(ours, option.value(), at=option)
        self._store(foreign.mapping(realm.get("store")), table)
        for role in foreign.entries(realm.get("roles")):
            self._role(role, table)
        foreign.advise(options, _OPTION_ADVICE)
        foreign.advise(realm, _REALM_ADVICE)
        return header

    def _store(self, store: Node | None, table: Table) -> None:
        if store is None:
            return
        history: list[dict[str, Any]] = []
        for number, entry in enumerate(self.foreign.entries(store.get("event-history"))):
            uri = self.foreign.text(entry, "uri")  # empty, with prefix: every topic
            if uri is None:
                if "uri" not in (entry.pairs or {}):
                    self.foreign.problem(entry, f"{entry.path} has no uri")
                continue
            kept: dict[str, Any] = {"uri": uri}
            for key in ("match", "limit"):
                node = entry.get(key)
                if node is not None:
                    kept[key] = node.value()
            history.append(kept)
            table.mark(("history", number), entry)
        if history:
            table.put("history", history)
        kind = store.get("type")
        if kind is not None and kind.scalar == "memory":
            kind.value()
            table.say("store.type = memory there, as here")
        elif kind is not None:
            kind.note("events are kept in memory")

    def _role(self, role: Node, realm: Table) -> None:
        foreign = self.foreign
        name = foreign.text(role, "name", needed=True)
        if name is None:
            return
        path = ("realm", realm.header[1], "role", name)
        if path in foreign.draft.origins:
            foreign.problem(role, f"{role.path}: this realm has a role {name!r} already")
            return
        table = foreign.draft.inside(realm, "role", name, at=role)
        authorizer, permissions = role.get("authorizer"), role.get("permissions")
        default = role.get("allow-by-default") or role.get("allow_by_default")
        if authorizer is not None:
            if permissions is not None:
                says = f"{role.path} has both an authorizer and permissions; Crossbar.io takes only one of them"
                foreign.problem(role, says)
            uri = foreign.text(role, "authorizer", needed=True)
            table.put("authorizer", uri or "", at=authorizer)
        elif permissions is None:
            if default is not None and default.scalar is True:
                default.value()
                rule = {"uri": "", "match": "prefix", "allow": list(_ACTIONS)}
                table.put("permissions", [rule], "allow-by-default there", at=default)
            else:
                table.say("no permissions there: may do nothing")
        if permissions is not None:
            rules: list[object] = []
            for entry in foreign.entries(permissions):
                rule_ = self._permission(entry)
                if rule_ is not None:
                    table.mark(("permissions", len(rules)), entry)
                    rules.append(rule_)
            table.put("permissions", rules)
            foreign.draft.origins[(*table.path, "permissions")] = permissions
        if default is not None:
            default.note("Crossbar.io goes by the permissions alone when there are any")

    def _permission(self, node: Node) -> Remarked | None:
        foreign = self.foreign
        uri = node.get("uri")
        if foreign.mapping(node) is None:
            return None
        if uri is None or not isinstance(uri.scalar, str):
            foreign.problem(uri or node, f"{node.path} has no uri that is a text")
            return None
        rule: dict[str, Any] = {"uri": uri.value()}
        match = node.get("match")
        if match is not None:
            rule["match"] = match.value()
        rule["allow"], refused = self._actions(node)
        disclose = foreign.mapping(node.get("disclose"))
        for key, ours in (("caller", "disclose_caller"), ("publisher", "disclose_publisher")):
            given = disclose.get(key) if disclose else None
            if given is not None:
                rule[ours] = given.value()
        cache = node.get("cache")
        if cache is not None:
            self.cached.append(cache)
        foreign.advise(
            node, {"validate": "payloads are checked by the types of procedures, in the component"}
        )
        return Remarked(rule, f"not {', '.join(refused)}" if refused else "")

    def _actions(self, node: Node) -> tuple[list[str], list[str]]:
        """Return what is allowed and what is not; before version 2 that stood in the permission itself."""
        grants = self.foreign.mapping(node.get("allow"))
        found: dict[str, bool] = {}
        for action in _ACTIONS:
            given = (grants.get(action) if grants else None) or node.get(action)
            if given is None:
                continue
            if not isinstance(given.scalar, bool):
                says = f"{given.path} has to be true or false, and is {given.kind()}"
                self.foreign.problem(given, says)
                continue
            found[action] = bool(given.value())
        return [a for a, may in found.items() if may], [a for a, may in found.items() if not may]

    def _link(self, link: Node, realm: str, realms: dict[str, str], table: Table) -> None:
        foreign = self.foreign
        there = foreign.text(link, "realm")
        url = url_of(foreign, foreign.mapping(link.get("transport")))
        if there not in (None, realm):
            link.note(f"a link joins a realm of the same name, and this one is {realm}")
        elif url:
            entry = foreign.draft.entry(
                *table.header, "link", remarks=foreign.remarks(link, "rlink"), at=link
            )
            entry.put("realm", realms[realm])
            entry.put("url", url)


def _has_pages(router: Node) -> bool:
    """Tell whether a router has a port with something else than WAMP, so that it is of use without a realm."""
    transports = router.get("transports")
    for transport in (transports.items if transports else None) or []:
        kind = transport.get("type")
        if kind is not None and kind.scalar in ("web", "universal"):
            return True
    return False


_TRANSPORT_ADVICE = {
    "id": "the address says which one it is",
    "serializer": "the serializer is negotiated; msgpack first",
    "serializers": "the serializer is negotiated; msgpack first",
    "options": "the client has one set of options for all",
    "debug": "holdfast logs has what a component says",
    "max_retries": "a component comes back until the router is there, with backoff",
}
_ENDPOINT_ADVICE = {
    "version": "the address says which version of IP it is",
    "timeout": "a component tries again, with backoff, until the router is there",
}


def url_of(foreign: Foreign, transport: Node | None) -> str:
    """Return the URL that a transport of a component connects to; empty after a problem."""
    if transport is None:
        return ""
    kind = foreign.text(transport, "type", needed=True)
    if kind not in (None, "websocket", "rawsocket"):
        foreign.problem(
            transport, f"{transport.path}.type = {kind!r}: known are websocket and rawsocket"
        )
        return ""
    endpoint = foreign.mapping(transport.get("endpoint"))
    url: str | None = None
    if kind == "rawsocket" and endpoint is not None:
        foreign.advise(transport, {"url": "RawSocket needs no URL beside the endpoint"})
    else:
        url = foreign.text(transport, "url", needed=kind == "websocket")
    foreign.advise(transport, _TRANSPORT_ADVICE)
    if kind is None or (kind == "websocket" and not url):
        return ""
    if endpoint is None:
        if not url:
            foreign.problem(transport, f"{transport.path} has no endpoint")
        return url or ""
    foreign.advise(endpoint, _ENDPOINT_ADVICE)
    where = foreign.text(endpoint, "type", needed=True)
    if where == "unix":
        return _unix_url(foreign, endpoint, transport, kind)
    if where == "tcp":
        return _tcp_url(foreign, endpoint, kind, url or "")
    if where is not None:
        says = f"{endpoint.path}.type = {where!r}: known are tcp and unix"
        foreign.problem(endpoint, says)
    return ""


def _unix_url(foreign: Foreign, endpoint: Node, transport: Node, kind: str) -> str:
    path = foreign.text(endpoint, "path", needed=True)
    if kind == "websocket":
        says = f"{transport.path}: WebSocket over a Unix socket is not there for components"
        foreign.problem(
            transport, f"{says}\n  use type rawsocket, which a router's Unix socket speaks, too"
        )
        return ""
    return f"unix:{with_variables(path)}" if path else ""


def _tcp_url(foreign: Foreign, endpoint: Node, kind: str, url: str) -> str:
    host = foreign.text(endpoint, "host", needed=True) or ""
    port = endpoint.get("port")
    number = port.plain() if port is not None else None
    if port is None or isinstance(number, bool) or not isinstance(number, int | str):
        foreign.problem(port or endpoint, f"{endpoint.path}.port has to be a number")
        return ""
    port.value()
    foreign.advise(
        endpoint,
        {
            "tls": "certificates are checked against those of the system (SSL_CERT_FILE names others)"
        },
    )
    is_secure = "tls" in (endpoint.pairs or {}) or url.startswith(("wss:", "rss:"))
    scheme = ("ws" if kind == "websocket" else "rs") + ("s" if is_secure else "")
    place = f"{f'[{host}]' if ':' in host else host}:{whole_variable(str(number))}"
    if kind == "rawsocket":
        return f"{scheme}://{place}"
    return f"{scheme}://{place}/{url.partition('://')[2].partition('/')[2]}"
