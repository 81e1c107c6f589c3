"""Which realms are there, which routers serve them, and how does each component join one?

What lies across workers: realms and roles by name, the links between the routers of one realm, and the way of each component
to the routers of its realm. One router by itself is :mod:`holdfast.config.router`'s business.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from holdfast.config import bus_definitions as b
from holdfast.config.joined import Config, Entry
from holdfast.config.machine import absolute
from holdfast.config.problems import Problems, Where, quoted
from holdfast.config.router import INTERNAL, RouterJob
from holdfast.config.worker import Job
from holdfast.linux.places import run_dir_for

if TYPE_CHECKING:
    from holdfast.model.bus import (
        BusPlan,
        HistoryPlan,
        LinkPlan,
        Match,
        PermissionPlan,
        RealmPlan,
        RolePlan,
        RouterPlan,
        TransportPlan,
    )
    from holdfast.model.plan import ComponentPlan, Listener

#: What a component in a router's process is called: the router itself.
ROUTER_COMPONENT = "router"
ROUTER_USE = "holdfast.router:app"
#: What the internal socket gives to whoever names no role.
TRUSTED = "trusted"
DEFAULT_REALM = "realm1"
_OPEN_HINT = (
    "say who may do what, as:\n"
    '    [realm.realm1.role.anonymous]\n    permissions = [{ uri = "com.example.*", allow = ["call", "subscribe"] }]'
)


class Bus:
    """The bus of a node while the plan is compiled."""

    def __init__(self, config: Config, problems: Problems, state_dir: str) -> None:
        self.config = config
        self.problems = problems
        self.state_dir = state_dir
        self.routers = [
            name for name, entry in config.workers.items() if entry.given.get("kind") == "router"
        ]
        self.run_dir = run_dir_for(state_dir) if self.routers else ""
        # `realms = []` says that a router has pages only: it is no reason for a realm that nobody wrote.
        is_wanted = any("realms" not in config.workers[name].raw for name in self.routers)
        self.is_default = is_wanted and not config.realms
        self.realms: dict[str, RealmPlan] = {
            name: self._realm(name, entry) for name, entry in config.realms.items()
        }
        if self.is_default:
            self.realms[DEFAULT_REALM] = _open_realm()
        self.serves = {name: self._served(name) for name in self.routers}
        self._check_reserved()
        for name, entry in config.realms.items():
            self._check_is_served(name, entry)

    def internal(self, worker: str) -> str:
        """Return the URL of a router's internal socket."""
        return f"unix:{self.run_dir}/bus/{worker}.sock"

    # -- realms ------------------------------------------------------------------------------------

    def _realm(self, name: str, entry: Entry) -> "RealmPlan":
        full = b.REALM.filled(entry.given)
        roles = [
            _role(role, given)
            for role, given in full.get("role", {}).items()
            if isinstance(given, dict)
        ]
        return {
            "name": full.get("name", name),
            "roles": roles,
            "meta_api": full["meta_api"],
            "history": [_history(given) for given in full.get("history", ()) if "uri" in given],
            "uri_check": full["uri_check"],
        }

    def _served(self, worker: str) -> list[str]:
        entry = self.config.workers[worker]
        found = []
        for at, name in enumerate(entry.given.get("realms", ())):
            realm = self.find(name)
            where = entry.where.at("realms").at(at)
            if realm is None:
                self.problems.add(where, f"there is no realm {quoted(name)}", *self._meant(name))
            else:
                found.append(realm)
        if "realms" not in entry.raw:
            found = list(self.realms)
        names: dict[str, str] = {}
        for realm in found:
            name = self.realms[realm]["name"]
            if name in names:
                says = f"would serve two realms that clients call {quoted(name)}: {quoted(names[name])} and {quoted(realm)}"
                key = "realms" if "realms" in entry.raw else "kind"
                self.problems.add(
                    entry.where.at(key), says, "say which one:  realms = […]", of_key=True
                )
            names[name] = realm
        return found

    def _check_is_served(self, name: str, entry: Entry) -> None:
        if not self.routers:
            says = "no worker of this node is a router: nobody serves this realm"
            hint = 'a router:  [worker.bus]  kind = "router", listen = ["ws://127.0.0.1:8080/ws"]'
            self.problems.add(entry.where, says, hint, of_key=True)
        elif not any(name in served for served in self.serves.values()):
            says = "no router serves this realm"
            self.problems.warn(entry.where, says, "add it to the `realms` of one", of_key=True)

    def find(self, name: str) -> str | None:
        """Return the table of a realm, by its header or else by what clients call it."""
        if name in self.realms:
            return name
        return next((key for key, plan in self.realms.items() if plan["name"] == name), None)

    def _meant(self, name: str) -> list[str]:
        guess = self.problems.similar(name, list(self.realms))
        return [guess or "there are: " + ", ".join(self.realms)] if self.realms else []

    # -- routers -----------------------------------------------------------------------------------

    def router(self, job: Job, directory: str) -> "tuple[RouterPlan, list[Listener]]":
        """Return the plan of a router, and the sockets that the keeper holds for it."""
        router = RouterJob(job, directory, self.run_dir, self.state_dir)
        transports, listeners = router.compile()
        self._check_exposed(router)
        self._check_roles(router)
        self._check_anybody_joins(job, transports)
        realms = [self.realms[name] for name in self.serves[job.name]]
        return {
            "realms": realms,
            "transports": transports,
            "limits": router.limits(),
            "links": self._links(job),
            "identity": router.identity(),
        }, listeners

    def _check_anybody_joins(self, job: Job, transports: "list[TransportPlan]") -> None:
        """Complain about WAMP without a realm; pages need none."""
        if self.serves[job.name] or job.given.get("realms") != []:
            return
        for transport in transports:
            paths = transport["paths"].values()
            has_wamp = transport["websocket"] or transport["rawsocket"]
            if not transport["internal"] and (has_wamp or any(p["websocket"] for p in paths)):
                says = f"serves no realm: who joins over {quoted(transport['name'])} is refused"
                self.problems.warn(job.where("realms"), says, "name a realm, or serve pages only")

    def _check_exposed(self, router: RouterJob) -> None:
        if not self.is_default:
            return
        for address, where in router.exposed:
            says = f"{address} can be reached from elsewhere, and there is no [realm.NAME]: everybody could do everything"
            self.problems.add(where, says, _OPEN_HINT, "or listen on 127.0.0.1 only")

    def _check_roles(self, router: RouterJob) -> None:
        known = {
            role["name"]
            for name in self.serves[router.job.name]
            for role in self.realms[name]["roles"]
        } | {TRUSTED}
        for role, where in router.roles:
            if role not in known:
                guess = self.problems.similar(role, sorted(known))
                says = f"no realm of this router has a role {quoted(role)}: who gets it is refused"
                self.problems.warn(where, says, *([guess] if guess else []))

    def _links(self, job: Job) -> "list[LinkPlan]":
        """Return its links: to each router before it that serves the same realm, then those of the file."""
        found: list[LinkPlan] = []
        for other in self.routers[: self.routers.index(job.name)]:
            shared = [name for name in self.serves[job.name] if name in self.serves[other]]
            found += [
                {"realm": self.realms[name]["name"], "url": self.internal(other), "auth": {}}
                for name in shared
            ]
        for at, given in enumerate(job.given.get("link", ())):
            if "realm" not in given or "url" not in given:
                continue  # has been said
            where = job.where("link").at(at)
            realm = self.find(given["realm"])
            if realm is None or realm not in self.serves[job.name]:
                says = f"this router does not serve a realm {quoted(given['realm'])}"
                self.problems.add(where.at("realm"), says, *self._meant(given["realm"]))
                continue
            auth = _sign_in(given.get("auth"), where.at("auth"))
            found.append(
                {
                    "realm": self.realms[realm]["name"],
                    "url": _url(given["url"], where),
                    "auth": auth,
                }
            )
        return found

    def _check_reserved(self) -> None:
        for worker in self.routers:
            entry = self.config.workers[worker]
            for at, name in enumerate(entry.given.get("components", ())):
                if name == ROUTER_COMPONENT:
                    says = f'in a router the name "{ROUTER_COMPONENT}" is taken: it is the router itself'
                    self.problems.add(
                        entry.where.at("components").at(at), says, "rename the component"
                    )

    # -- components --------------------------------------------------------------------------------

    def own_component(self) -> "ComponentPlan":
        """Return the component that is the router."""
        return {"name": ROUTER_COMPONENT, "use": ROUTER_USE, "settings": {}, "bus": None}

    def join(self, worker: str, entry: Entry) -> "BusPlan | None":
        """Return how a component joins its realm; None when it joins none."""
        given = entry.given
        bus = given.get("bus", {})
        if bus.get("none") or entry.is_broken:
            self._check_unused(given, entry.where)
            return None
        if bus:
            return self._join_elsewhere(given, entry)
        if "auth" in given:
            says = "is for a router elsewhere: on the node's own bus nobody has to sign in"
            self.problems.add(
                entry.where.at("auth"), says, 'name the router:  bus = "wss://…"', of_key=True
            )
        if not self.routers or not self.realms:
            for key in ("realm", "role"):
                if key in given:
                    says = "there is no router on this node, and `bus` does not name one elsewhere"
                    hint = 'a router:  [worker.bus]  kind = "router", listen = ["ws://127.0.0.1:8080/ws"]'
                    self.problems.add(entry.where.at(key), says, hint, of_key=True)
            return None
        realm = self._realm_of(entry)
        if realm is None:
            return None
        routers = [name for name in self.routers if realm in self.serves[name]]
        if not routers:
            return None  # has been said of the realm
        role = given.get("role")
        self._check_role(role, realm, entry.where.at("role"))
        # Its own router first: that one is surely there when it is.
        routers.sort(key=lambda name: name != worker)
        return {
            "realm": self.realms[realm]["name"],
            "urls": [self.internal(name) for name in routers],
            "role": role,
            "auth": {},
        }

    def _realm_of(self, entry: Entry) -> str | None:
        name = entry.given.get("realm")
        if name is not None:
            realm = self.find(name)
            if realm is None:
                where = entry.where.at("realm")
                self.problems.add(where, f"there is no realm {quoted(name)}", *self._meant(name))
            return realm
        if len(self.realms) == 1:
            return next(iter(self.realms))
        if "realm" not in entry.raw:
            says = "there are several realms, and it does not say which one it joins: it joins none"
            hint = f'realm = "{next(iter(self.realms), DEFAULT_REALM)}", or bus = false'
            self.problems.warn(entry.where, says, hint, of_key=True)
        return None

    def _join_elsewhere(self, given: Mapping[str, Any], entry: Entry) -> "BusPlan | None":
        bus = given["bus"]
        name = given.get("realm")
        if name is None and len(self.realms) != 1:
            if "realm" not in entry.raw:
                says = "does not say which realm it joins there"
                self.problems.add(entry.where.at("bus"), says, f'realm = "{DEFAULT_REALM}"')
            return None
        realm = self.find(name) if name is not None else next(iter(self.realms))
        urls = bus.get("urls") or [bus["url"]]
        return {
            "realm": self.realms[realm]["name"] if realm is not None else str(name),
            "urls": [_url(url, entry.where) for url in urls],
            "role": given.get("role"),
            "auth": _sign_in(given.get("auth"), entry.where.at("auth")),
        }

    def _check_unused(self, given: Mapping[str, Any], where: Where) -> None:
        for key in ("realm", "role", "auth"):
            if key in given:
                self.problems.add(where.at(key), "has no meaning with bus = false", of_key=True)

    def _check_role(self, role: str | None, realm: str, where: Where) -> None:
        if role is None or role == TRUSTED:
            return
        known = [entry["name"] for entry in self.realms[realm]["roles"]]
        if role not in known:
            guess = self.problems.similar(role, known)
            there = [guess or "there are: " + ", ".join(known)] if known else []
            self.problems.add(
                where, f"the realm {quoted(realm)} has no role {quoted(role)}", *there
            )


def _open_realm() -> "RealmPlan":
    everything: PermissionPlan = {
        "uri": "", "match": "prefix", "allow": ["call", "register", "publish", "subscribe"], "deny": [],
        "disclose_caller": False, "disclose_publisher": False,
    }  # fmt: skip
    return {
        "name": DEFAULT_REALM,
        "roles": [{"name": "anonymous", "permissions": [everything], "authorizer": None}],
        "meta_api": True,
        "history": [],
        "uri_check": "loose",
    }


def _role(name: str, given: Mapping[str, Any]) -> "RolePlan":
    return {
        "name": name,
        "permissions": [
            _permission(rule) for rule in given.get("permissions", ()) if "uri" in rule
        ],
        "authorizer": given.get("authorizer"),
    }


def _permission(given: Mapping[str, Any]) -> "PermissionPlan":
    full = b.PERMISSION.filled(given)
    uri, match = pattern(full["uri"], full.get("match"))
    return {
        "uri": uri,
        "match": match,
        "allow": list(full.get("allow", ())),
        "deny": list(full.get("deny", ())),
        "disclose_caller": full["disclose_caller"],
        "disclose_publisher": full["disclose_publisher"],
    }


def _history(given: Mapping[str, Any]) -> "HistoryPlan":
    full = b.HISTORY.filled(given)
    uri, match = pattern(full["uri"], full.get("match"))
    return {"uri": uri, "match": match, "limit": full["limit"]}


def pattern(uri: str, match: "Match | None") -> "tuple[str, Match]":
    """Return a URI and how it is meant: without a word about that, stars tell."""
    if match is not None:
        return uri, match
    if not uri:
        return "", "prefix"
    stars = uri.count("*")
    if not stars:
        return uri, "exact"
    if stars == 1 and uri.endswith("*"):
        return uri[:-1], "prefix"
    return uri.replace("*", ""), "wildcard"


def _sign_in(given: Mapping[str, Any] | None, where: Where) -> dict[str, Any]:
    auth = dict(given or {})
    if "private_key_file" in auth:
        path = auth["private_key_file"]
        auth["private_key_file"] = absolute(where.document.directory, path)
    return auth


def _url(url: str, where: Where) -> str:
    if not url.startswith("unix:"):
        return url
    path = url.removeprefix("unix:").removeprefix("//")
    return f"unix:{absolute(where.document.directory, path)}"


__all__ = ["INTERNAL", "ROUTER_COMPONENT", "Bus", "pattern"]
