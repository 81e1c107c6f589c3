"""Which worker follows from ``[dashboard]``, and with what settings?

A container like any other, called ``dashboard``, with a component of Holdfast's own and a listening socket that the keeper holds: connections wait while
it is being restarted. What one key may be is :mod:`holdfast.config.dashboard_definitions`' business, what the process does that of
``holdfast.dashboard``.
"""

from ipaddress import ip_address
from typing import TYPE_CHECKING, Any

from holdfast.config import own_workers
from holdfast.config.dashboard_definitions import DASHBOARD, PROXY, USER
from holdfast.config.joined import Config, Entry
from holdfast.config.kinds import host_and_port
from holdfast.config.machine import absolute
from holdfast.config.problems import Problems, Where

if TYPE_CHECKING:
    from holdfast.model.plan import WorkerPlan

#: The worker that serves the dashboard, its listening socket, and its component.
WORKER = "dashboard"
USE = "holdfast.dashboard:app"


class Dashboard:
    """The dashboard of a node while the plan is compiled."""

    def __init__(self, config: Config, problems: Problems) -> None:
        self._config = config
        self._problems = problems
        self._table = config.dashboard
        #: Somebody wants it; an empty table is enough to say so.
        self.is_used = config.has_dashboard
        self._full = DASHBOARD.filled(self._table.given)
        self._host, self._port = host_and_port(self._full["listen"], least=1)
        if self.is_used:
            self._check()

    def entry(self) -> Entry:
        """Return its worker as if it stood in the file."""
        address = ("tcp", self._host, self._port, "")
        given = {
            "components": [WORKER],
            "listen": [{"address": address, "name": WORKER}],
            "restart": {"limit": 0, "delay_max": 5.0},
            # It holds nothing that an end in good order would save, and open pages would hold that up.
            "crash_only": True,
        }
        return Entry(given, {}, self._table.where)

    def worker(self, plan: "WorkerPlan") -> "WorkerPlan":
        """Return the plan of the worker, from that of one that has nothing of its own."""
        return own_workers.made_of(plan, WORKER, USE, self.settings())

    def settings(self) -> dict[str, Any]:
        """Return what the process is told: every key with its default, paths absolute."""
        made = {key: value for key, value in self._full.items() if key not in ("user", "proxy")}
        made = self._placed(made)
        made["user"] = {
            name: self._placed(USER.filled(given))
            for name, given in self._full.get("user", {}).items()
            if isinstance(given, dict)
        }
        if "proxy" in self._full:
            made["proxy"] = self._placed(PROXY.filled(self._full["proxy"]))
        return made

    def _placed(self, given: dict[str, Any]) -> dict[str, Any]:
        base = self._table.where.document.directory
        return {
            key: absolute(base, value) if key.endswith("_file") else value
            for key, value in given.items()
        }

    # -- what contradicts itself -----------------------------------------------------------------------

    def _check(self) -> None:
        problems, where = self._problems, self._table.where
        own_workers.check_name(WORKER, self._config, problems)
        full = self._full
        if "key_file" in full and "certificate_file" not in full:
            says = "a key without a certificate"
            problems.add(where.at("key_file"), says, "add  certificate_file = …", of_key=True)
        self._check_reach(where)
        if not full["links"] and not full.get("user") and "proxy" not in full:
            says = "nobody could sign in: no link, no user, no proxy"
            hint = "take it out, or write [dashboard.user.NAME]"
            problems.add(where.at("links"), says, hint)
        self._check_proxy(where.at("proxy"))

    def _check_reach(self, where: Where) -> None:
        full = self._full
        if ip_address(self._host).is_loopback or full["insecure"]:
            return
        if "certificate_file" not in full and "proxy" not in full:
            says = f"{full['listen']} is reached by others, and without TLS they read along, passwords too"
            self._problems.add(
                where.at("listen"), says, 'add  certificate_file = "…"  and  key_file = "…"',
                "or listen on 127.0.0.1 behind a reverse proxy (docs/how-to/dashboard.md)", "or say that you mean it:  insecure = true",
            )  # fmt: skip

    def _check_proxy(self, where: Where) -> None:
        given = self._full.get("proxy") or {}
        if "secret_env" in given and "secret_file" in given:
            says = '"secret_env" and "secret_file" cannot both be right'
            self._problems.add(where.at("secret_file"), says, "leave one of them out", of_key=True)
        for at, address in enumerate(given.get("from", ())):
            try:
                ip_address(address)
            except ValueError:
                here = where.at("from").at(at)
                self._problems.add(here, f'"{address}" is not a numeric address', 'as "127.0.0.1"')
