"""Which worker follows from ``[alerts]``, and with what settings?

A container like any other, called ``alerts``, with a component of Holdfast's own: what it may be killed for, how it is started again and what it logs
are an ordinary worker's. What one key may be is :mod:`holdfast.config.alerts_definitions`' business, what the process does that of
:mod:`holdfast.alerts`.
"""

from typing import TYPE_CHECKING, Any

from holdfast.config import own_workers
from holdfast.config.alerts_definitions import ALERTS, DEAD_MAN
from holdfast.config.joined import Config, Entry
from holdfast.config.machine import absolute
from holdfast.config.problems import Problems, Where

if TYPE_CHECKING:
    from holdfast.model.plan import WorkerPlan

#: The worker that sends alerts; no other one can be called so beside it.
WORKER = "alerts"
USE = "holdfast.alerts:app"
_MEASURES = ("hold", "doubt", "calm", "digest", "often", "storm")


class Alerts:
    """The alerts of a node while the plan is compiled."""

    def __init__(self, config: Config, problems: Problems) -> None:
        self._config = config
        self._problems = problems
        self._table = config.alerts
        #: Somebody wants alerts.
        self.is_used = bool(config.alerts.raw)
        if self.is_used:
            self._check()

    def entry(self) -> Entry:
        """Return its worker as if it stood in the file."""
        # It may never be left down: who would tell of that?
        given = {"components": [WORKER], "restart": {"limit": 0, "delay_max": 5.0}}
        return Entry(given, given, self._table.where)

    def worker(self, plan: "WorkerPlan") -> "WorkerPlan":
        """Return the plan of the worker, from that of one that has nothing of its own."""
        settings = settings_of(ALERTS.filled(self._table.given), self._table)
        return own_workers.made_of(plan, WORKER, USE, settings)

    # -- what contradicts itself -----------------------------------------------------------------------

    def _check(self) -> None:
        own_workers.check_name(WORKER, self._config, self._problems)
        check(self._table, self._problems)


def settings_of(full: dict[str, Any], table: Entry) -> dict[str, Any]:
    """Return the settings of whoever sends: measures, channels, routes, dead man.

    Args:
        full: The table with its defaults.
        table: Where it stands: paths of files are relative to that.
    """
    made: dict[str, Any] = {key: full[key] for key in _MEASURES if key in full}
    channels = full.get("channel", {})
    made["channel"] = {
        name: _placed(given, table) for name, given in channels.items() if isinstance(given, dict)
    }
    if "route" in full:
        made["route"] = full["route"]
    if "dead_man" in full:
        made["dead_man"] = _placed(DEAD_MAN.filled(full["dead_man"]), table)
    return made


def _placed(given: dict[str, Any], table: Entry) -> dict[str, Any]:
    """Return a table with the paths of its files made absolute."""
    base = table.where.document.directory
    return {
        key: absolute(base, value) if key.endswith("_file") else value
        for key, value in given.items()
    }


def check(table: Entry, problems: Problems) -> None:
    """Note what of the channels and routes contradicts itself."""
    where = table.where
    channels = table.given.get("channel", {})
    if channels == {} and "channel" in table.given:
        says = "there is no channel here: nobody would be told"
        problems.add(where.at("channel"), says, "write [alerts.channel.NAME] above the keys of one")
    for name, given in channels.items():
        if isinstance(given, dict):
            _check_channel(where.at("channel").at(name), given, problems)
    raw = table.raw.get("channel")
    known = list(raw) if isinstance(raw, dict) else []
    for at, route in enumerate(table.given.get("route", ())):
        for number, name in enumerate(route.get("to", ())):
            if name not in known:
                guess = problems.similar(name, known)
                hint = guess or f"there are: {', '.join(known) or 'none'}"
                here = where.at("route").at(at).at("to").at(number)
                problems.add(here, f'there is no channel "{name}"', hint)


def _check_channel(where: Where, given: dict[str, Any], problems: Problems) -> None:
    for name in ("secret", "bearer", "password", "dsn", "api_key"):
        if f"{name}_env" in given and f"{name}_file" in given:
            says = f'"{name}_env" and "{name}_file" cannot both be right'
            problems.add(where.at(f"{name}_file"), says, "leave one of them out", of_key=True)
    has_password = "password_env" in given or "password_file" in given
    if given.get("type") == "email" and ("user" in given) != has_password:
        says = '"user" and a password belong together'
        hint = 'as:  user = "alerts", password_env = "SMTP_PASSWORD"'
        problems.add(where, says, hint, of_key=True)
