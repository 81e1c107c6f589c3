"""From a ``probe.toml`` to checked probes, or to all that is wrong with it, by file, line and key.

Reading, variables and the check of single values are the configuration's own (:mod:`holdfast.config`); here is what follows across tables:
names that are taken or that nobody has, circles, more waiting than there is room for.
"""

import os
import socket
from collections.abc import Mapping
from typing import Any, NamedTuple

from holdfast.cli.probes import definitions as d
from holdfast.config import alerts
from holdfast.config.joined import Entry
from holdfast.config.kinds import BAD, NAME
from holdfast.config.machine import absolute
from holdfast.config.problems import Problems, Where
from holdfast.config.reading import read_all
from holdfast.core.outside import Rule

#: So long a look may take that says nothing else: this share of its pace, and so long at most.
_TIMEOUT_SHARE, _TIMEOUT_S = 0.75, 5.0


class Probe(NamedTuple):
    """One thing that is looked at; times in seconds."""

    name: str
    kind: str
    given: Mapping[str, Any]  #: the keys of its kind, defaults filled in, paths absolute
    every_s: float
    again_s: float
    timeout_s: float
    slow_s: float
    rule: Rule
    after: tuple[str, ...]


class Probes(NamedTuple):
    """A whole file."""

    name: str
    path: str
    state_dir: str
    parallel: int
    probes: tuple[Probe, ...]
    alerts: (
        Mapping[str, Any] | None
    )  #: settings as :func:`holdfast.alerts.settings.read` wants them
    notes: tuple[str, ...]


def load(path: str, environ: Mapping[str, str]) -> Probes:
    """Return what a file asks for.

    Raises:
        ConfigProblems: (a ConfigError) Everything that is wrong with it.
    """
    problems = Problems()
    document = read_all(path, environ, problems)[0]
    where = Where(document, ())
    given = d.ROOT.check(document.data, where, problems)
    full = d.ROOT.filled(given)
    raw = document.data.get("probe")
    probes = _probes(full, raw if isinstance(raw, list) else [], where, problems)
    _check_capacity(probes, full, where, problems)
    settings = None
    if isinstance(full.get("alerts"), dict):
        # Without a channel there is nobody to tell, but perhaps a dead man to feed.
        entry = Entry(full["alerts"], document.data["alerts"], where.at("alerts"))
        alerts.check(entry, problems)
        settings = alerts.settings_of(d.ALERTS.filled(entry.given), entry)
    problems.finish()
    state_dir = absolute(document.directory, full["state_dir"])
    name = full.get("name") or _machine()
    notes = tuple(map(str, problems.warnings()))
    return Probes(name, document.path, state_dir, full["parallel"], tuple(probes), settings, notes)


def _machine() -> str:
    """Return the name of this machine, as far as a name goes."""
    plain = "".join(
        c if c.isalnum() or c in "-_" else "-" for c in socket.gethostname().partition(".")[0]
    )
    found = NAME.match(plain.encode("ascii", "replace").decode())
    return found[0] if found else "probe"


def _probes(full: dict[str, Any], raw: list[Any], where: Where, problems: Problems) -> list[Probe]:
    defaults = {**d.DEFAULTS.defaults, **full.get("defaults", {})}
    listed = full.get("probe", [])
    first: dict[str, int] = {}
    for at, one in enumerate(raw):
        name = one.get("name") if isinstance(one, dict) else None
        if not isinstance(name, str):
            continue
        if name in first:
            line, _ = (
                where.at("probe")
                .at(first[name])
                .document.place(("probe", first[name], "name"), of_key=False)
            )
            says = f'the name "{name}" is taken already, at {where.document.file}:{line}'
            problems.add(where.at("probe").at(at).at("name"), says, "choose another name")
        first.setdefault(name, at)
    if listed is BAD:
        return []
    made = []
    for at, given in enumerate(listed):
        here = where.at("probe").at(at)
        if given is BAD or "name" not in given:
            continue
        made.append(_probe({**defaults, **given}, here, problems))
        _check_after(given, list(first), here, problems)
    _check_circles(made, first, where, problems)
    return made


def _probe(given: dict[str, Any], where: Where, problems: Problems) -> Probe:
    kind = given["kind"]
    full = d.KINDS[kind].filled(given)
    base = where.document.directory
    if "ca_file" in full:
        full["ca_file"] = absolute(base, full["ca_file"])
        if not os.path.isfile(full["ca_file"]):
            problems.add(where.at("ca_file"), f"{full['ca_file']}: there is no such file")
    if "private_key_file" in full.get("auth", {}):
        key_file = absolute(base, full["auth"]["private_key_file"])
        full["auth"] = {**full["auth"], "private_key_file": key_file}
    if kind == "steps" and full.get("step") is not BAD:
        full["step"] = [d.STEP.filled(step) for step in full.get("step", ()) if step is not BAD]
        _check_taken(full["step"], where.at("step"), problems)
    if kind == "dns":
        _check_dns(full, given, where, problems)
    fails = full["fails"]
    of = full.get("of", fails)
    if of < fails:
        says = f"{fails} failures among {of} looks can never be"
        problems.add(where.at("of"), says, f"of = {fails} or more")
    every_s = full["every"]
    timeout_s = full.get("timeout", min(_TIMEOUT_S, every_s * _TIMEOUT_SHARE))
    if timeout_s > every_s:
        says = f"a look that may take {timeout_s:g} s does not fit into {every_s:g} s"
        problems.add(where.at("timeout"), says, "let `every` be longer, or `timeout` shorter")
    rule = Rule(fails, of, full["good"])
    slow_s = full.get("slow", timeout_s)
    after = tuple(full.get("after", ()))
    return Probe(full["name"], kind, full, every_s, full["again"], timeout_s, slow_s, rule, after)


def _check_dns(
    full: dict[str, Any], given: dict[str, Any], where: Where, problems: Problems
) -> None:
    if "server" not in full and full["type"] not in ("A", "AAAA"):
        says = f"this machine's own way to look up names knows no {full['type']} records"
        problems.add(where.at("type"), says, 'name a server that is asked:  server = "9.9.9.9"')
    if "equals" in given and "has" in given:
        problems.add(
            where.at("has"),
            '"equals" and "has" cannot both be meant',
            "leave one of them out",
            of_key=True,
        )


def _check_taken(steps: list[dict[str, Any]], where: Where, problems: Problems) -> None:
    """Find the names in braces that a later step takes, or none: `{token}` would be sent as it stands."""
    everywhere = {name for step in steps for name in step.get("take", {})}
    known: set[str] = set()
    for at, step in enumerate(steps):
        texts = [step.get("url", ""), step.get("body", ""), *step.get("headers", {}).values()]
        for name in sorted(everywhere - known):
            if any(f"{{{name}}}" in text for text in texts):
                says = f'"{{{name}}}" is not known yet: no step before this one takes it'
                problems.add(where.at(at), says, "change the order of the steps", of_key=True)
        known |= set(step.get("take", {}))


def _check_after(given: dict[str, Any], names: list[str], where: Where, problems: Problems) -> None:
    for at, other in enumerate(given.get("after", ())):
        here = where.at("after").at(at)
        if other == given["name"]:
            problems.add(here, "a probe does not follow from itself", "leave it out")
        elif other not in names:
            guess = problems.similar(other, names)
            problems.add(
                here, f'there is no probe "{other}"', guess or f"there are: {', '.join(names[:8])}"
            )


def _check_circles(
    made: list[Probe], first: dict[str, int], where: Where, problems: Problems
) -> None:
    by_name = {probe.name: probe for probe in made}
    for probe in made:
        waiting, seen = list(probe.after), set()
        while waiting:
            name = waiting.pop()
            if name == probe.name and name not in probe.after:
                here = where.at("probe").at(first[name]).at("after")
                problems.add(
                    here, f'"{name}" follows from itself, by way of others', "leave one of them out"
                )
                return
            if name in by_name and name not in seen:
                seen.add(name)
                waiting += by_name[name].after


def _check_capacity(
    probes: list[Probe], full: dict[str, Any], where: Where, problems: Problems
) -> None:
    """Warn when probes that hang would keep others waiting."""
    parallel = full["parallel"]
    # While it is not known to be down, looks begin beside those that hang.
    busy = sum(min(probe.rule.fails, probe.timeout_s / min(probe.again_s, probe.every_s)) for probe in probes)  # fmt: skip
    if busy > parallel:
        says = f"if all of them hang, {busy:.0f} run at a time, and there is room for {parallel}"
        hint = f"parallel = {min(1000, int(busy) + 1)}, or shorter timeouts"
        problems.warn(where.at("parallel"), says, hint, of_key=True)
