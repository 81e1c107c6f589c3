"""What do all files of a configuration say, taken together?

Each is checked against the definitions, then they are joined: a table of workers may be spread over many files, but each
name and each key of ``[node]`` stands in one. Unset keys stay unset; defaults come when the plan is compiled.
"""

from collections.abc import Mapping
from typing import Any

from holdfast.config import definitions as d
from holdfast.config.kinds import BAD
from holdfast.config.problems import Document, Problems, Where


class Entry:
    """One ``[worker.NAME]``, ``[component.NAME]``, ``[group.NAME]`` or ``[realm.NAME]``: what was given, and where."""

    __slots__ = ("given", "is_broken", "raw", "where")

    def __init__(self, given: Any, raw: Any, where: Where) -> None:
        self.is_broken = given is BAD
        self.given: dict[str, Any] = {} if self.is_broken else given
        #: Also the keys that were refused: nothing more is said about those.
        self.raw: Mapping[str, object] = raw if isinstance(raw, dict) else {}
        self.where = where


class Config:
    """All files taken together. Unset keys are missing here; defaults come later."""

    __slots__ = (
        "alerts",
        "components",
        "dashboard",
        "defaults",
        "forward",
        "groups",
        "has_dashboard",
        "jobs",
        "main",
        "node",
        "realms",
        "workers",
    )

    def __init__(self, documents: list[Document], problems: Problems) -> None:
        self.main = documents[0]
        top = Where(self.main, ())
        self.node = Entry({}, {}, top.at("node"))
        self.defaults = Entry({}, {}, top.at("defaults").at("worker"))
        self.jobs = Entry({}, {}, top.at("jobs"))
        self.alerts = Entry({}, {}, top.at("alerts"))
        self.dashboard = Entry({}, {}, top.at("dashboard"))
        self.forward = Entry({}, {}, top.at("forward"))
        #: The table is there, if only to say so.
        self.has_dashboard = any("dashboard" in document.data for document in documents)
        self.components: dict[str, Entry] = {}
        self.workers: dict[str, Entry] = {}
        self.groups: dict[str, Entry] = {}
        self.realms: dict[str, Entry] = {}
        for document in documents:
            where = Where(document, ())
            checked = d.ROOT.check(document.data, where, problems)
            for title in ("node", "jobs", "alerts", "dashboard", "forward"):
                given, raw = checked.get(title), document.data.get(title)
                so_far = getattr(self, title)
                setattr(self, title, _joined(so_far, given, raw, where.at(title), problems))
            defaults, raw = checked.get("defaults", {}), document.data.get("defaults", {})
            inner = (
                (defaults or {}).get("worker"),
                raw.get("worker") if isinstance(raw, dict) else None,
            )
            self.defaults = _joined(
                self.defaults, *inner, where.at("defaults").at("worker"), problems
            )
            for title in ("component", "worker", "group", "realm"):
                found: dict[str, Entry] = getattr(self, title + "s")
                of_title = document.data.get(title)
                for name, given in (checked.get(title) or {}).items():
                    raw = of_title[name] if isinstance(of_title, dict) else {}
                    at = where.at(title).at(name)
                    if name in found:
                        first = found[name].where
                        line, _ = first.document.place(first.path, of_key=True)
                        says = f"there is a {title} of this name already, at {first.document.file}:{line}"
                        problems.add(at, says, "rename one of them", of_key=True)
                    else:
                        found[name] = Entry(given, raw, at)


def _joined(so_far: Entry, given: Any, raw: Any, where: Where, problems: Problems) -> Entry:
    """Add the keys of a table that may be spread over several files."""
    if not isinstance(raw, dict) or given is BAD or given is None:
        return so_far
    if not so_far.raw:
        return Entry(given, raw, where)
    for key in raw:
        if key in so_far.raw:
            line, _ = so_far.where.document.place((*so_far.where.path, key), of_key=True)
            says = f"is set already, at {so_far.where.document.file}:{line}"
            problems.add(where.at(key), says, "leave one of them out", of_key=True)
    return Entry({**given, **so_far.given}, {**raw, **so_far.raw}, so_far.where)
