"""What plan follows from one worker of kind ``router``?

Addresses and services become transports, with every default filled in. Which realms there are, who serves them and who joins
them is :mod:`holdfast.config.bus`'s business.
"""

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

from holdfast.config import bus_definitions as b
from holdfast.config.kinds import Service
from holdfast.config.machine import absolute
from holdfast.config.problems import Where, quoted
from holdfast.config.reading import shown_path, typed_path
from holdfast.config.worker import Job

if TYPE_CHECKING:
    from holdfast.model.bus import (
        AuthPlan,
        EndpointPlan,
        PathPlan,
        RawSocketPlan,
        RouterLimits,
        TlsPlan,
        TransportPlan,
        WebSocketPlan,
    )
    from holdfast.model.plan import Listener

#: Name of the listener and transport in the run directory.
INTERNAL = "internal"
_TLS_SCHEMES = ("wss", "rss", "https")
_ANY = "any"


class _Port:
    """A listening socket in the making."""

    __slots__ = (
        "auth", "backlog", "given", "host", "kind", "name", "number", "path", "shared", "store", "tls", "where",
    )  # fmt: skip

    def __init__(self, kind: str, host: str, number: int, path: str, where: Where) -> None:
        self.kind, self.host, self.number, self.path = kind, host, number, path
        self.where = where
        self.name = ""
        self.backlog: int = b.TRANSPORT.defaults["backlog"]
        self.shared = False
        self.tls: TlsPlan | None = None
        self.store = ""  #: where its cookies are kept, unless it is said
        self.auth: AuthPlan | None = (
            None  #: for services that have none of their own; made when it is needed
        )
        #: Services as they would stand in a [[worker.NAME.transport]].
        self.given: dict[str, Any] = {}


class RouterJob:
    """One router being compiled."""

    def __init__(self, job: Job, directory: str, run_dir: str, state_dir: str) -> None:
        self.job = job
        self.problems = job.problems
        self.machine = job.machine
        self.directory = directory
        self.internal_path = f"{run_dir}/bus/{job.name}.sock"
        self.state_dir = state_dir
        #: Roles that a sign-in gives, and where that stands: whether a realm has them is seen later.
        self.roles: list[tuple[str, Where]] = []
        #: Sockets that others than this machine's own users can reach.
        self.exposed: list[tuple[str, Where]] = []

    def compile(self) -> "tuple[list[TransportPlan], list[Listener]]":
        """Return its transports, the internal one last, and the sockets that the keeper opens for them."""
        transports: list[TransportPlan] = []
        listeners: list[Listener] = []
        for number, port in enumerate([*self._short_ports(), *self._long_ports()]):
            listener = f"t{number}"
            transports.append(self._transport(port, listener))
            listeners.append(self._listener(port, listener))
        names: dict[str, int] = {}
        for number, transport in enumerate(transports):
            if transport["name"] in names:
                says = f"there is a transport {quoted(transport['name'])} of this router already"
                self.problems.add(
                    self.job.where("transport").at(number), says, "rename one of them"
                )
            names[transport["name"]] = number
        transports.append(self._internal())
        listeners.append({
            "name": INTERNAL, "kind": "unix", "host": "", "port": 0, "path": self.internal_path,
            "backlog": b.TRANSPORT.defaults["backlog"],
        })  # fmt: skip
        return transports, listeners

    def limits(self) -> "RouterLimits":
        """Return what it bears."""
        full = b.LIMITS.filled(self.job.given.get("limits", {}))
        return {
            "sessions": full["sessions"],
            "connections_unauthenticated": full["unauthenticated"],
            "handshake_s": full["handshake"],
            "subscriptions_per_session": full["subscriptions"],
            "registrations_per_session": full["registrations"],
            "calls_per_session": full["calls"],
            "connections_http": full["http"],
            "queue_bytes_total": full["queue_total"],
        }

    def identity(self) -> str | None:
        """Return the path of its private key."""
        path = self.job.given.get("identity")
        return None if path is None else self._file(path, self.job.where("identity"))

    # -- sockets -----------------------------------------------------------------------------------

    def _short_ports(self) -> list[_Port]:
        """Return the ports of ``listen``; addresses with the same host and port share one."""
        found: dict[tuple[object, ...], _Port] = {}
        for at, given in enumerate(self.job.given.get("listen", ())):
            if "address" not in given:
                continue  # has been said
            where = self.job.where("listen").at(at)
            address = given["address"]
            scheme, kind, host, number, path, url_path = _parts(address, self.directory)
            is_tls = scheme in _TLS_SCHEMES
            key = (kind, host, number or -at, path, is_tls)
            port = found.get(key)
            if port is None:
                port = found[key] = _Port(kind, host, number, path, where)
                if is_tls:
                    port.tls = self._tls_of_worker(where)
            port.backlog = given.get("backlog", port.backlog)
            port.name = given.get("name", port.name)
            self._serve(port, scheme, url_path, where)
        return list(found.values())

    def _long_ports(self) -> list[_Port]:
        found = []
        for at, given in enumerate(self.job.given.get("transport", ())):
            if "listen" not in given:
                continue  # has been said
            where = self.job.where("transport").at(at)
            scheme, kind, host, number, path, url_path = _parts(given["listen"], self.directory)
            port = _Port(kind, host, number, path, where)
            port.name = given.get("name", "")
            port.backlog = given.get("backlog", port.backlog)
            port.shared = given.get("shared", False)
            port.given = {
                key: given[key] for key in ("auth", "websocket", "rawsocket") if key in given
            }
            port.given["paths"] = dict(given.get("paths", {}))
            if "tls" in given:
                port.tls = self._tls(given["tls"], where.at("tls"))
            elif scheme in _TLS_SCHEMES:
                port.tls = self._tls_of_worker(where.at("listen"))
            is_silent = not ({"websocket", "rawsocket", "paths"} & given.keys())
            if scheme != _ANY or is_silent:
                self._serve(port, scheme, url_path, where.at("listen"))
            found.append(port)
        return found

    def _serve(self, port: _Port, scheme: str, url_path: str, where: Where) -> None:
        """Add what a scheme stands for to the services of a port."""
        given = port.given
        paths: dict[str, Any] = given.setdefault("paths", {})
        new: dict[str, str] = {}
        if scheme in ("ws", "wss") and url_path:
            new = {url_path: "websocket"}
        elif scheme in ("ws", "wss", _ANY):
            given.setdefault("websocket", True)
        if scheme in ("rs", "rss", _ANY):
            given.setdefault("rawsocket", True)
        elif scheme in ("http", "https"):
            prefix = f"{url_path}/" if url_path else ""
            new = {f"{prefix}health": "health", f"{prefix}info": "nodeinfo"}
        for path, kind in new.items():
            if path not in paths:
                paths[path] = {"kind": kind}
            elif (paths[path] or {}).get("kind", kind) != kind:
                says = f"at {quoted(path)} there is something else already"
                self.problems.add(where, says, "choose another path")

    def _listener(self, port: _Port, name: str) -> "Listener":
        where = port.where
        if port.kind == "unix":
            self.job.check_socket_path(port.path, where)
            if self.machine.is_directory(port.path):
                self.problems.add(where, f"{shown_path(port.path)} is a directory")
        elif not (port.host.startswith("127.") or port.host == "::1"):
            self.exposed.append((f"{port.host}:{port.number}", where))
        if port.shared and port.kind == "unix":
            says = "a Unix socket cannot be shared: its path is one router's"
            self.problems.add(where.at("shared"), says, "give each router a path of its own")
        self.job.claim(port.kind, port.host, port.number, port.path, where, shared=port.shared)
        listener: Listener = {
            "name": name, "kind": cast("Any", port.kind), "host": port.host, "port": port.number, "path": port.path,
            "backlog": port.backlog,
        }  # fmt: skip
        if port.shared:
            listener["shared"] = True
        return listener

    # -- services ----------------------------------------------------------------------------------

    def _transport(self, port: _Port, listener: str) -> "TransportPlan":
        given = port.given
        where = port.where
        endpoint: EndpointPlan = {
            "kind": cast("Any", port.kind), "listener": listener, "host": port.host, "port": port.number, "path": port.path,
            "tls": port.tls,
        }  # fmt: skip
        name = port.name or listener
        port.store = f"{self.state_dir}/cookies/{self.job.name}.{name}"
        if "auth" in given:
            port.auth = self._auth(given["auth"], where.at("auth"), port)
        websocket = _switch(given.get("websocket"))
        rawsocket = _switch(given.get("rawsocket"))
        return {
            "name": name,
            "endpoint": endpoint,
            "rawsocket": None
            if rawsocket is None
            else self._rawsocket(rawsocket, where.at("rawsocket"), port),
            "websocket": None
            if websocket is None
            else self._websocket(websocket, where.at("websocket"), port),
            "paths": {
                path: self._path(service, where.at("paths").at(path), port)
                for path, service in given.get("paths", {}).items()
                if isinstance(service, dict) and "kind" in service
            },
            "internal": False,
        }

    def _internal(self) -> "TransportPlan":
        full = b.RAWSOCKET.filled({})
        return {
            "name": INTERNAL,
            "endpoint": {
                "kind": "unix", "listener": INTERNAL, "host": "", "port": 0, "path": self.internal_path, "tls": None,
            },
            "rawsocket": {
                "auth": {}, "serializers": list(b.SERIALIZERS), "message_bytes": 1 << 24, "ping_s": 0.0,
                "ping_timeout_s": full["ping_timeout"], "queue_bytes": max(full["queue_max"], 1 << 25),
            },
            "websocket": None,
            "paths": {},
            "internal": True,
        }  # fmt: skip

    def _rawsocket(self, given: Mapping[str, Any], where: Where, port: _Port) -> "RawSocketPlan":
        full = b.RAWSOCKET.filled(given)
        if "auth" in given:
            auth = self._auth(given["auth"], where.at("auth"), port)
        elif port.auth is None:
            auth = port.auth = {"anonymous": self._anonymous({}, port.where)}
        else:
            auth = port.auth
        if full["queue_max"] < full["message_max"]:
            says = f"queue_max ({full['queue_max']} bytes) is less than one message (message_max, {full['message_max']} bytes)"
            self.problems.add(where, says, "raise queue_max, or lower message_max")
        return {
            "auth": auth,
            "serializers": list(full.get("serializers", b.SERIALIZERS)),
            "message_bytes": full["message_max"],
            "ping_s": full["ping"],
            "ping_timeout_s": full["ping_timeout"],
            "queue_bytes": full["queue_max"],
        }

    def _websocket(self, given: Mapping[str, Any], where: Where, port: _Port) -> "WebSocketPlan":
        full = b.WEBSOCKET.filled(given)
        plan = self._rawsocket(given, where, port)
        return {
            "kind": "websocket",
            **plan,
            "compression": full["compression"],
            "origins": list(full.get("origins", ["*"])),
        }

    def _path(
        self,
        given: dict[str, Any],
        where: Where,
        port: _Port,
    ) -> "PathPlan":
        kind = given["kind"]
        if kind == "websocket":
            plan = self._websocket(given, where, port)
            return {"kind": kind, "options": {}, "websocket": plan}
        table = b.PATH_KINDS[kind]
        full = table.filled(given)
        options = {key: full.get(key) for key in table.keys if key != "kind"}
        if kind == "static":
            options["cache_timeout_s"] = options.pop("cache_timeout")
            options["mime_types"] = options["mime_types"] or {}
            if options["package"] is not None and options["resource"] is None:
                options["resource"] = "web"
        elif kind == "cgi":
            options["timeout_s"] = options.pop("timeout")
            options["memory_bytes"] = options.pop("memory_max")
        elif kind in ("publisher", "caller"):
            options["timestamp_delta_limit_s"] = options["timestamp_delta_limit"]
            if (options["key"] is None) != (options["secret"] is None):
                self.problems.add(
                    where, "has only one of key and secret", "requests are signed with both"
                )
        if kind in ("publisher", "caller"):
            options["require_ip"] = options["require_ip"] or []
        if "role" in options and options["role"] is not None:
            self.roles.append((options["role"], where.at("role")))
        for key in ("directory", "temp_directory", "processor"):
            given_path = options.get(key)
            if given_path is not None:
                options[key] = self._path_of(given_path, where.at(key), kind)
        options = {
            key: value for key, value in options.items() if value is not None or key == "value"
        }
        return {"kind": kind, "options": options, "websocket": None}

    def _path_of(self, path: str, where: Where, kind: str) -> str:
        path = absolute(where.document.directory, path)
        is_processor = where.path[-1] == "processor"
        if where.path[-1] == "temp_directory":
            return path  # made when it is needed
        if is_processor and not os.access(path, os.X_OK):
            self.problems.warn(
                where,
                f"{shown_path(path)}: there is no such program",
                "until there is, requests fail",
            )
        elif not is_processor and not self.machine.is_directory(path):
            says = f"{shown_path(path)}: there is no such directory"
            what = "uploads are refused" if kind == "upload" else "requests are answered with 404"
            self.problems.warn(where, says, f"until there is, {what};  mkdir -p {typed_path(path)}")
        return path

    # -- TLS ---------------------------------------------------------------------------------------

    def _tls_of_worker(self, where: Where) -> "TlsPlan | None":
        given = self.job.given.get("tls")
        if given is None:
            if "tls" not in self.job.entry.raw:
                hint = 'tls = { certificate = "cert.pem", key = "key.pem" }'
                self.problems.add(where, "needs a certificate, and this worker has no `tls`", hint)
            return None
        return self._tls(given, self.job.where("tls"))

    def _tls(self, given: Mapping[str, Any], where: Where) -> "TlsPlan | None":
        if "certificate" not in given or "key" not in given:
            return None  # has been said
        full = b.TLS.filled(given)
        if full["require_client"] and not full.get("ca"):
            says = "says that clients need a certificate, but not by whom it has to be signed"
            self.problems.add(where.at("require_client"), says, 'ca = ["ca.pem"]', of_key=True)
        return {
            "certificate": self._file(full["certificate"], where.at("certificate")),
            "key": self._file(full["key"], where.at("key")),
            "chain": [
                self._file(p, where.at("chain").at(n)) for n, p in enumerate(full.get("chain", ()))
            ],
            "ca": [self._file(p, where.at("ca").at(n)) for n, p in enumerate(full.get("ca", ()))],
            "require_client": full["require_client"],
            "ciphers": full.get("ciphers"),
        }

    def _file(self, path: str, where: Where) -> str:
        path = absolute(where.document.directory, path)
        if not os.path.isfile(path):
            says = "is not a file" if os.path.lexists(path) else "there is no such file"
            self.problems.add(where, f"{shown_path(path)}: {says}")
        return path

    # -- signing in --------------------------------------------------------------------------------

    def _auth(self, given: Mapping[str, Any], where: Where, port: _Port) -> "AuthPlan":
        plan: dict[str, Any] = {}
        for method, value in given.items():
            at = where.at(method)
            if method == "anonymous":
                if value is not False:
                    plan[method] = self._anonymous({} if value is True else value, at)
            elif method == "cookie":
                if value is not False:
                    plan[method] = self._cookie({} if value is True else value, at, port.store)
            else:
                plan[method] = self._method(method, value, at)
        if not plan.keys() - {"cookie"}:
            says = "nobody can sign in here" + (
                " for the first time: a cookie needs another way before it" if plan else ""
            )
            self.problems.add(where, says, "name a method, as { anonymous = true }", of_key=True)
        if "tls" in plan and port.tls is not None and not port.tls["ca"]:
            self.problems.add(
                where.at("tls"),
                "needs `ca` in the tls of this transport: nobody asks for certificates",
                of_key=True,
            )
        elif "tls" in plan and port.tls is None:
            self.problems.add(where.at("tls"), "needs TLS on this transport", of_key=True)
        return cast("AuthPlan", plan)

    def _anonymous(self, given: Mapping[str, Any], where: Where) -> dict[str, Any]:
        asked = _asked(given)
        if asked:
            return asked
        full = b.ANONYMOUS.filled(given)
        self.roles.append((full["role"], where.at("role") if "role" in given else where))
        return {"type": "static", **{k: full[k] for k in ("role", "authid", "realm") if k in full}}

    def _cookie(self, given: Mapping[str, Any], where: Where, store: str) -> dict[str, Any]:
        full = b.COOKIE.filled(given)
        path: str | None = store
        named = full.get("store")
        if isinstance(named, dict):
            path = None
        elif named is not None:
            path = absolute(where.document.directory, named)
        return {
            "name": full["name"],
            "length": full["length"],
            "max_age_s": full["max_age"],
            "path": path,
        }

    def _method(self, method: str, given: Mapping[str, Any], where: Where) -> dict[str, Any]:
        asked = _asked(given)
        if asked:
            return asked
        people = "users" if "users" in given else "principals"
        found = {}
        for authid, entry in (given.get(people) or {}).items():
            if not isinstance(entry, dict):
                continue  # has been said
            at = where.at(people).at(authid)
            person: dict[str, Any] = {
                _CROSSBAR_NAMES.get(key) or key: value for key, value in entry.items()
            }
            if method == "wampcra" and "salt" in person:
                person.setdefault("iterations", 1000)
                person.setdefault("keylen", 32)
            elif method == "scram":
                person.setdefault("kdf", "pbkdf2")
            elif method == "tls":
                self._check_certificate(person, at)
            if "role" in person:
                self.roles.append((person["role"], at.at("role")))
            found[authid] = person
        return {"type": "static", people: found}

    def _check_certificate(self, person: dict[str, Any], where: Where) -> None:
        known = ("certificate-sha1", "certificate-sha256", "subject")
        if not any(key in person for key in known):
            says = "does not say which certificate it has"
            self.problems.add(where, says, "one of certificate_sha1, certificate_sha256, subject")


_CROSSBAR_NAMES: dict[str, str] = {
    "stored_key": "stored-key",
    "server_key": "server-key",
    "certificate_sha1": "certificate-sha1",
    "certificate_sha256": "certificate-sha256",
}


def _asked(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return a dynamic or function sign-in; empty when it is neither."""
    if "authenticator" in given:
        realm = given.get("authenticator_realm")
        return {
            "type": "dynamic",
            "authenticator": given["authenticator"],
            "authenticator_realm": realm,
        }
    if "create" in given:
        module, _, attribute = given["create"].replace(":", ".").rpartition(".")
        return {
            "type": "function",
            "create": f"{module}:{attribute}",
            "config": given.get("config", {}),
        }
    return {}


def _parts(address: Any, directory: str) -> tuple[str, str, str, int, str, str]:
    """Return (scheme, kind, host, port, path, path of the URL)."""
    if isinstance(address, Service):
        return address.scheme, "tcp", address.host, address.port, "", address.path
    kind, host, port, path = address
    return _ANY, kind, host, port, absolute(directory, path) if kind == "unix" else "", ""


def _switch(given: Any) -> Mapping[str, Any] | None:
    """Return what true, false or a table says of a service."""
    if given is None or given is False:
        return None
    return {} if given is True else cast("Mapping[str, Any]", given)
