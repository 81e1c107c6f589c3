"""From the settings of the alerts component to channels, routes and measures; or to all that is wrong with them.

Secrets are never settings: a key ending in ``_env`` names a variable of the environment, one ending in ``_file`` a file. A secret that is not there
breaks its channel only: the others go on, and the broken one says why.
"""

import os
from fnmatch import fnmatchcase

from holdfast.alerts.channels.channel import NotDelivered
from holdfast.core import alerting

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from holdfast.alerts.channels.channel import Channel

TYPES = (
    "webhook",
    "email",
    "alertmanager",
    "pagerduty",
    "command",
    "apprise",
    "sentry",
    "honeybadger",
)
#: These get each incident, and nothing else.
_REPORTERS = ("sentry", "honeybadger")
_MEASURES = {
    "hold": "hold_s", "doubt": "doubt_s", "calm": "calm_s", "digest": "digest_s", "often": "often", "storm": "storm",
}  # fmt: skip
#: Keys of each type: (those that it needs, those that it may have). A name with a star may end in _env or _file, too.
_KEYS: "dict[str, tuple[tuple[str, ...], tuple[str, ...]]]" = {
    "webhook": (("url*",), ("secret!", "headers", "bearer!")),
    "email": (("host", "from", "to"), ("port", "tls", "user", "password!")),
    "alertmanager": (("url*",), ("labels", "headers", "bearer!")),
    "pagerduty": (("routing_key!",), ("url*",)),
    "command": (("command",), ()),
    "apprise": (("urls!",), ()),
    "sentry": (("dsn!",), ("release", "environment", "kinds")),
    "honeybadger": (("api_key!",), ("url*", "release", "environment", "kinds")),
}
_COMMON = ("type", "timeout", "least", "digest")
_ROUTE = ("workers", "kinds", "least", "to")


class SettingsError(Exception):
    """Something is wrong with the settings: a line each, with its key."""


class Broken:
    """A channel whose secret is not there."""

    def __init__(self, says: str) -> None:
        self.says = says

    def wants(self, message: "dict[str, Any]") -> bool:
        """Pages wait for the secret; nothing else does."""
        return str(message["change"]) != alerting.TOLD_DIGEST

    def deliver(self, message: "dict[str, Any]") -> None:
        """Refuse, and say why."""
        raise NotDelivered(self.says, is_refused=bool(message))


class Route:
    """Which messages go where."""

    __slots__ = ("kinds", "least", "to", "workers")

    def __init__(self, given: "Mapping[str, Any]") -> None:
        self.workers: list[str] = list(given.get("workers", ["*"]))
        self.kinds: list[str] = list(given.get("kinds", ["*"]))
        self.least = alerting.SEVERITIES.index(given.get("least", ""))
        self.to: list[str] = list(given.get("to", []))

    def takes(self, message: "Mapping[str, Any]") -> bool:
        """Whether a message goes this way."""
        names = {message["worker"], message["cause"], *message["members"]}
        return (
            alerting.SEVERITIES.index(message["severity"]) >= self.least
            and any(fnmatchcase(message["kind"], pattern) for pattern in self.kinds)
            and any(fnmatchcase(name, pattern) for name in names for pattern in self.workers)
        )


class DeadMan:
    """Whom to tell again and again that we live."""

    __slots__ = ("every_s", "timeout_s", "url")

    def __init__(self, url: str, every_s: float, timeout_s: float) -> None:
        self.url = url
        self.every_s = every_s
        self.timeout_s = timeout_s


class Alerting:
    """All of it."""

    __slots__ = ("broken", "channels", "dead_man", "digests", "leasts", "measures", "reporters", "routes")  # fmt: skip

    def __init__(self) -> None:
        self.channels: dict[str, Channel] = {}
        self.leasts: dict[str, int] = {}
        self.digests: set[str] = set()
        self.reporters: set[str] = set()  #: channels for incidents alone
        self.routes: list[Route] = []
        self.measures: dict[str, Any] = {}
        self.dead_man: DeadMan | None = None
        self.broken: dict[str, str] = {}  #: what is to be told of at the start: key -> why

    def ways(self, message: "Mapping[str, Any]") -> "list[str]":
        """Return the channels that get a message, in the order of the settings.

        What no route takes goes to everybody: a page must not fall on the floor.
        """
        is_incident = message["change"] == alerting.TOLD_INCIDENT
        named = {
            name
            for route in self.routes
            if route.takes(message)
            for name in route.to
            if (name in self.reporters) == is_incident
        }
        rank = alerting.SEVERITIES.index(message["severity"])
        is_digest = message["change"] == alerting.TOLD_DIGEST
        return [
            name
            for name, channel in self.channels.items()
            if (name in self.reporters) == is_incident
            and (name in named or not named or is_digest)
            and (rank >= self.leasts[name] or not rank)
            and (name in self.digests or not is_digest)
            and channel.wants(dict(message))
        ]


def read(raw: "Mapping[str, Any]", environ: "Mapping[str, str]", base: str = "") -> Alerting:
    """Return what the settings say.

    Args:
        raw: As they came from the plan; times are seconds.
        environ: Where variables are looked up.
        base: Directory that files are relative to.

    Raises:
        SettingsError: Everything that is wrong.
    """
    reader = _Reader(environ, base)
    made = reader.read(raw)
    if reader.wrong:
        raise SettingsError("\n".join(reader.wrong))
    return made


class _Reader:
    def __init__(self, environ: "Mapping[str, str]", base: str) -> None:
        self.environ = environ
        self.base = base
        self.wrong: list[str] = []

    def read(self, raw: "Mapping[str, Any]") -> Alerting:
        made = Alerting()
        for key in raw:
            if key not in _MEASURES and key not in ("channel", "route", "dead_man"):
                self.wrong.append(f"alerts.{key}: there is no such key")
        for key, name in _MEASURES.items():
            if key in raw:
                made.measures[name] = self._number(raw[key], f"alerts.{key}", key)
        for name, given in self._table(raw, "channel").items():
            self._channel(made, str(name), given)
        if not made.channels and not self.wrong:
            self.wrong.append("alerts.channel: there is no channel\n  one:  [alerts.channel.NAME]  type = …")  # fmt: skip
        routes = raw.get("route", [])
        for at, given in enumerate(routes if isinstance(routes, list) else [routes]):
            self._route(made, at, given)
        dead_man = self._table(raw, "dead_man")
        if dead_man:
            self._dead_man(made, dead_man)
        return made

    def _table(self, raw: "Mapping[str, Any]", key: str) -> "dict[str, Any]":
        found = raw.get(key, {})
        if not isinstance(found, dict):
            self.wrong.append(f"alerts.{key}: this is not a table")
            return {}
        return found

    def _number(self, value: object, where: str, key: str) -> "float | int":
        least = 1 if key in ("often", "storm") else 0
        if (
            isinstance(value, bool)
            or not isinstance(value, int | float)
            or not least <= value < 1e9
        ):
            self.wrong.append(f"{where}: {value!r} is not a number of at least {least}")
            return least
        return int(value) if least else float(value)

    # -- channels ----------------------------------------------------------------------------------

    def _channel(self, made: Alerting, name: str, given: object) -> None:
        where = f"alerts.channel.{name}"
        if not isinstance(given, dict):
            self.wrong.append(f"{where}: this is not a table")
            return
        sort = given.get("type")
        if sort not in _KEYS:
            self.wrong.append(f"{where}.type: {sort!r} is no type of channel\n  there are: {', '.join(TYPES)}")  # fmt: skip
            return
        if not self._check_keys(where, sort, given) or not self._check_values(where, sort, given):
            return
        made.leasts[name] = alerting.SEVERITIES.index(given.get("least", ""))
        if sort in _REPORTERS:
            made.reporters.add(name)
        if given.get("digest", sort != "pagerduty"):
            made.digests.add(name)
        try:
            made.channels[name] = self._made(sort, given)
        except NotDelivered as error:
            made.channels[name] = Broken(str(error))
            made.broken[where] = str(error)

    def _check_keys(self, where: str, sort: str, given: "dict[str, Any]") -> bool:
        needed, others = _KEYS[sort]
        known = set(_COMMON)
        for pattern in (*needed, *others):
            known.update(_spellings(pattern))
        wrong = [f"{where}.{key}: {_unknown(key, known, sort)}" for key in given if key not in known]  # fmt: skip
        for pattern in needed:
            found = [key for key in _spellings(pattern) if key in given]
            if not found:
                names = " or ".join(f'"{key}"' for key in _spellings(pattern))
                wrong.append(f"{where}: there is no {names} here")
        self.wrong += wrong
        return not wrong

    def _check_values(self, where: str, sort: str, given: "dict[str, Any]") -> bool:
        before = len(self.wrong)
        for key in ("timeout", "port"):
            if key in given:
                self._number(given[key], f"{where}.{key}", key)
        self._check_least(where, given)
        for key in ("command", "to", "kinds"):
            if key in given and not _is_texts(given[key]):
                self.wrong.append(f"{where}.{key}: {given[key]!r} is not a list of texts")
        for key in ("labels", "headers"):
            table = given.get(key, {})
            if not isinstance(table, dict) or not _is_texts([*table.values(), "x"]):
                self.wrong.append(f"{where}.{key}: this is not a table of texts")
        if given.get("tls", "starttls") not in ("starttls", "tls", "none"):
            self.wrong.append(f'{where}.tls: {given["tls"]!r} is not "starttls", "tls" or "none"')
        texts = [key for key in given if key.endswith(("_env", "_file")) or key in ("url", "host", "from", "user", "release", "environment")]  # fmt: skip
        for key in texts:
            if not isinstance(given[key], str) or not given[key]:
                self.wrong.append(f"{where}.{key}: {given[key]!r} is not a text")
        url = given.get("url")
        if isinstance(url, str) and url and not url.startswith(("http://", "https://")):
            self.wrong.append(f"{where}.url: it has to begin with http:// or https://")
        has_user, has_password = "user" in given, any(key.startswith("password") for key in given)
        if sort == "email" and has_user != has_password:
            self.wrong.append(f'{where}: "user" and a password ("password_env" or "password_file") belong together')  # fmt: skip
        return len(self.wrong) == before

    def _check_least(self, where: str, given: "Mapping[str, Any]") -> None:
        if "least" in given and given["least"] not in alerting.SEVERITIES[1:]:
            says = ", ".join(alerting.SEVERITIES[1:])
            self.wrong.append(f"{where}.least: {given['least']!r} is no severity\n  there are: {says}")  # fmt: skip

    def _made(self, sort: str, given: "dict[str, Any]") -> "Channel":
        timeout_s = float(given.get("timeout", 10.0))
        # Imported here: smtplib and ssl cost 40 ms that who has no mail need not pay.
        if sort == "webhook":
            from holdfast.alerts.channels.webhook import Webhook

            url, secrets = self._url(given, "url"), self._secret(given, "secret").split()
            try:
                return Webhook(url, secrets, self._headers(given), timeout_s)
            except ValueError as error:
                says = f"the secret is none of Standard Webhooks (whsec_ and base64): {error}"
                raise NotDelivered(says, is_refused=True) from None
        if sort == "email":
            from holdfast.alerts.channels.mail import Mail

            tls = given.get("tls", "starttls")
            port = int(given.get("port", 465 if tls == "tls" else 587))
            password = self._secret(given, "password")
            return Mail(given["host"], port, tls, given.get("user", ""), password, given["from"], given["to"], timeout_s)  # fmt: skip
        if sort == "alertmanager":
            from holdfast.alerts.channels.alertmanager import Alertmanager

            return Alertmanager(
                self._url(given, "url"), given.get("labels", {}), self._headers(given), timeout_s
            )
        if sort == "pagerduty":
            from holdfast.alerts.channels import pagerduty

            url = self._url(given, "url") or pagerduty.URL
            return pagerduty.PagerDuty(self._secret(given, "routing_key"), url, timeout_s)
        if sort == "command":
            from holdfast.alerts.channels.command import Command

            return Command(given["command"], timeout_s)
        if sort in _REPORTERS:
            return self._reporter(sort, given, timeout_s)
        from holdfast.alerts.channels.other import Apprise

        return Apprise(self._secret(given, "urls").split(), max(timeout_s, 30.0))

    def _reporter(self, sort: str, given: "dict[str, Any]", timeout_s: float) -> "Channel":
        release, environment = given.get("release", ""), given.get("environment", "")
        kinds = given.get("kinds", ["*"])
        if sort == "sentry":
            from holdfast.alerts.channels.sentry import Sentry

            try:
                return Sentry(self._secret(given, "dsn"), release, environment, kinds, timeout_s)
            except ValueError as error:
                raise NotDelivered(f"this is no DSN of Sentry: {error}", is_refused=True) from None
        from holdfast.alerts.channels import honeybadger

        url = self._url(given, "url") or honeybadger.URL
        return honeybadger.Honeybadger(self._secret(given, "api_key"), url, release, environment, kinds, timeout_s)  # fmt: skip

    def _headers(self, given: "Mapping[str, Any]") -> "dict[str, str]":
        headers = dict(given.get("headers", {}))
        bearer = self._secret(given, "bearer")
        return {**headers, "Authorization": f"Bearer {bearer}"} if bearer else headers

    def _url(self, given: "Mapping[str, Any]", key: str) -> str:
        url = str(given[key]) if key in given else self._secret(given, key)
        if url and not url.startswith(("http://", "https://")):
            says = f"{key}: it has to begin with http:// or https://"
            raise NotDelivered(says, is_refused=True)
        return url

    def _secret(self, given: "Mapping[str, Any]", key: str) -> str:
        """Return a secret; empty when none is named.

        Raises:
            NotDelivered: It is named, but not there.
        """
        if f"{key}_env" in given:
            name = given[f"{key}_env"]
            found = self.environ.get(name, "").strip()
            if not found:
                says = f"{key}_env: the environment variable {name} is not set"
                raise NotDelivered(says, is_refused=True)
            return found
        if f"{key}_file" in given:
            path = os.path.join(self.base, os.path.expanduser(given[f"{key}_file"]))
            try:
                with open(path, encoding="utf-8") as file:
                    found = file.read().strip()
            except (OSError, ValueError) as error:
                why = error.strerror if isinstance(error, OSError) else "is not a text"
                says = f"{key}_file: {path}: {why}"
                raise NotDelivered(says, is_refused=True) from None
            if not found:
                says = f"{key}_file: {path}: is empty"
                raise NotDelivered(says, is_refused=True)
            return found
        return ""

    # -- routes and the dead man -------------------------------------------------------------------

    def _route(self, made: Alerting, at: int, given: object) -> None:
        where = f"alerts.route[{at}]"
        if not isinstance(given, dict):
            self.wrong.append(f"{where}: this is not a table")
            return
        before = len(self.wrong)
        self.wrong += [f"{where}.{key}: there is no such key" for key in given if key not in _ROUTE]
        for key in ("workers", "kinds", "to"):
            if key in given and not _is_texts(given[key]):
                self.wrong.append(f"{where}.{key}: {given[key]!r} is not a list of texts")
        self._check_least(where, given)
        if "to" not in given:
            self.wrong.append(f'{where}: there is no "to" here: a list of channels')
        if len(self.wrong) > before:
            return
        for name in given["to"]:
            if name not in made.channels:
                known = ", ".join(made.channels) or "none"
                self.wrong.append(f'{where}.to: there is no channel "{name}"\n  there are: {known}')
        made.routes.append(Route(given))

    def _dead_man(self, made: Alerting, given: "dict[str, Any]") -> None:
        where = "alerts.dead_man"
        known = {*_spellings("url*"), "every", "timeout"}
        before = len(self.wrong)
        self.wrong += [f"{where}.{key}: there is no such key" for key in given if key not in known]
        for key in ("every", "timeout"):
            if key in given:
                self._number(given[key], f"{where}.{key}", key)
        if not any(key in given for key in _spellings("url*")):
            self.wrong.append(f'{where}: there is no "url", "url_env" or "url_file" here')
        if len(self.wrong) > before:
            return
        every_s = max(1.0, float(given.get("every", 60.0)))
        try:
            url = self._url(given, "url")
        except NotDelivered as error:
            made.broken[where] = str(error)
            return
        made.dead_man = DeadMan(url, every_s, float(given.get("timeout", 10.0)))


def _spellings(pattern: str) -> "tuple[str, ...]":
    """Return the keys that a pattern stands for: NAME* may be given in three ways, NAME! never openly."""
    name = pattern.rstrip("*!")
    if pattern.endswith("*"):
        return (name, f"{name}_env", f"{name}_file")
    return (f"{name}_env", f"{name}_file") if pattern.endswith("!") else (name,)


def _unknown(key: str, known: "set[str]", sort: str) -> str:
    if f"{key}_env" in known:
        return f'a secret does not stand in a configuration: write "{key}_env" or "{key}_file"'
    return f"a channel of type {sort} has no such key"


def _is_texts(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(one, str) and one for one in value)  # fmt: skip
