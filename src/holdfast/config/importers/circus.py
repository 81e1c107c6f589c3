"""What does a circus.ini mean to Holdfast?

A watcher becomes a guest, or several (``numprocesses``). Its sockets are handed over by socket activation, from descriptor 3 on, so that
``$(circus.sockets.NAME)`` is known in advance. What circus offers over its endpoints (commands, statistics, plug-ins) has no
counterpart and gets a note. The syntax is that of :mod:`holdfast.config.importers.ini`; the meaning follows circus 0.19.
"""

import re
import shlex
from collections.abc import Callable
from fnmatch import fnmatch
from typing import TypeVar

from holdfast.config.importers import guest, ini
from holdfast.config.importers.draft import Draft, from_environment
from holdfast.config.importers.guest import Guest
from holdfast.config.importers.ini import Section
from holdfast.config.importers.ledger import Ledger
from holdfast.model.errors import ConfigError

_T = TypeVar("_T")

#: $(circus.wid), ((circus.env.HOME)): either form, any case.
_FILL = re.compile(r"\$\(([\w.:-]+)\)|\(\(([\w.:-]+)\)\)")
_TRUE, _FALSE = ("1", "true", "on", "yes"), ("0", "false", "off", "no")
_LOGS = "output is kept in the state directory, logs/WORKER/ (`holdfast logs`); log = { max_size = …, keep = … } says how much"
_ADVICE = {
    "warmup_delay": "workers start as soon as what they wait for is ready: `after`, or a `ready` check",
    "priority": "order is by name: after = [\"…\"]", "singleton": "a worker is one process anyway",
    "send_hup": "there is no reload: `holdfast restart`", "stop_children": "what is left of the program's group is killed after it has ended",
    "copy_env": "the environment of `holdfast up` is passed on anyway (env_pass of [node])",
    "copy_path": "PYTHONPATH of `holdfast up` is passed on anyway (env_pass of [node])",
    "on_demand": "a worker starts with the node, not with the first connection", "max_age": "there is no restart by age",
    "max_age_variance": "there is no restart by age", "virtualenv": "name the interpreter: command = [\".venv/bin/python\", …]",
    "close_child_stdin": "a worker reads nothing", "close_child_stdout": "output is kept", "close_child_stderr": "output is kept",
    "check_flapping": "restart = { limit = 0 } knows no limit",
}  # fmt: skip
_SECTIONS = {
    "circus": "the endpoints, the web page and the log of circus have no counterpart: `holdfast status`, `holdfast logs --worker holdfast`",
    "plugin": "there are no plug-ins; detectors and incidents are built in",
    "env": "no watcher matches",
}
_PREFIXES = {"hooks.": "there are no hooks: put it into the command, or make it a worker with `after`",
             "stdout_stream.": _LOGS, "stderr_stream.": _LOGS,
             "rlimit_": "only files (nofile), core and processes have limits here"}  # fmt: skip


def read(text: str, file: str, path: str, ledger: Ledger) -> Draft:
    """Turn a circus.ini into a draft.

    Raises:
        ConfigError: Everything that circus would refuse, too.
    """
    sections = ini.read(text, file, path, ledger, keep_case=True)
    draft = Draft(
        [
            f"Imported from {file} (circus).",
            "circus gives up after five tries in a row (max_retry); so does the result.",
        ]
    )
    _Import(sections, file, draft, ledger).carry_over()
    return draft


class _Import:
    def __init__(
        self, sections: dict[str, Section], file: str, draft: Draft, ledger: Ledger
    ) -> None:
        self.sections = sections
        self.file = file
        self.draft = draft
        self.ledger = ledger
        self.problems: list[str] = []

    def carry_over(self) -> None:
        watchers = [section for section in self.sections.values() if section.kind == "watcher"]
        for section in watchers:
            self.watcher(section)
        if not watchers:
            self.problems.append(f"{self.file}:1 there is no [watcher:NAME] in it")
        if self.problems:
            raise ConfigError(self.problems)
        for section in self.sections.values():
            settings = [section.header, *(option.setting for option in section.options.values())]
            if section.kind in _SECTIONS:
                self.ledger.note(settings, _SECTIONS[section.kind], f"[{section.name}]")
            elif section.kind == "socket":
                self.ledger.note(
                    settings, "no watcher with use_sockets takes it", f"[{section.name}]"
                )
            for option in section.options.values():
                advice = _ADVICE.get(option.key) or next(
                    (says for prefix, says in _PREFIXES.items() if option.key.startswith(prefix)),
                    "",
                )
                if advice:
                    self.ledger.note([option.setting], advice)

    def watcher(self, section: Section) -> None:
        self.ledger.use(section.header)
        if "cmd" not in section.options:
            self.problem(section, "", "has no cmd")
            return
        count = self.take(section, "numprocesses", int) or 1
        if not 1 <= count <= 1000:
            self.problem(section, "numprocesses", "not from 1 to 1000")
            return
        for number in range(1, count + 1):
            name = f"{section.label}-{number}" if count > 1 else section.label
            made = Guest(self.draft, name, [f"{section.header.place} [{section.name}]"])
            made.env = self.environment(section.label)
            uses = self.take(section, "use_sockets", _boolean)
            sockets = self.sockets(made) if uses and count == 1 else {}
            if uses and count > 1:
                says = "a socket is handed to one worker: let the program take several connections, or open the port itself with SO_REUSEPORT"
                self.ledger.note([section.options["use_sockets"].setting], says)
            self.command(section, made, number, sockets)
            self.keys(section, made)
            made.finish()

    def command(self, section: Section, made: Guest, number: int, sockets: dict[str, str]) -> None:
        names = {"wid": str(number), **{f"sockets.{name}": fd for name, fd in sockets.items()},
                 **{f"env.{key.lower()}": value for key, value in made.env.items()}}  # fmt: skip

        def fill(found: re.Match[str]) -> str:
            option = (found[1] or found[2]).lower().removeprefix("circus.")
            if option in names:
                return names[option]
            if option.startswith("env."):
                return from_environment((found[1] or found[2]).rpartition(".")[2])
            self.ledger.remark(
                section.options["cmd"].setting,
                f"{section.name}.cmd: {found[0]} was left as it is: write what it stands for",
            )
            return found[0]

        text = _FILL.sub(fill, self.take(section, "cmd", str) or "")
        arguments = _FILL.sub(fill, self.take(section, "args", str) or "")
        if self.take(section, "shell", _boolean):
            made.table.put("command", ["/bin/sh", "-c", f"{text} {arguments}".strip()])
            return
        try:
            words = [*guest.split(text), *shlex.split(arguments)]
        except ValueError as error:
            self.problem(section, "cmd", str(error))
            return
        executable = self.take(section, "executable", str)
        made.table.put("command", [executable, *words] if executable else words)

    def keys(self, section: Section, made: Guest) -> None:
        table = made.table
        respawn = self.take(section, "respawn", _boolean)
        made.set("restart", "policy", "never" if respawn is False else "always")
        retries = self.take(section, "max_retry", int)
        if respawn is not False:
            if retries is not None and retries < 0:
                made.set("restart", "limit", 0)
            else:
                made.parts["restart"] |= {
                    "limit": max(1, 5 if retries is None else retries),
                    "after_limit": "down",
                }
        made.set("stop", "grace", "30s")
        uses: dict[str, tuple[Callable[[str], object], Callable[[object], None]]] = {
            "working_dir": (str, lambda v: table.put("directory", v)),
            "uid": (_user, lambda v: table.put("user", v)),
            "gid": (_user, lambda v: table.put("group", v)),
            "autostart": (_boolean, lambda v: table.put("autostart", v)),
            "stop_signal": (guest.signal_of, lambda v: made.set("stop", "signal", v)),
            "graceful_timeout": (lambda text: guest.time(float(text)), lambda v: made.set("stop", "grace", v)),
            "rlimit_nofile": (int, lambda v: table.put("files_max", v)),
            "rlimit_core": (int, lambda v: table.put("core_max", v)),
            "rlimit_nproc": (int, lambda v: table.put("processes_max", v, "there it counts all of the user, here those of the worker")),
        }  # fmt: skip
        for key, (convert, put) in uses.items():
            value = self.take(section, key, convert)
            if value is not None:
                put(value)

    def sockets(self, made: Guest) -> dict[str, str]:
        """Hand over every socket, as circus does; return the number of each descriptor."""
        entries: list[dict[str, object]] = []
        numbers: dict[str, str] = {}
        for section in self.sections.values():
            if section.kind != "socket":
                continue
            path, host = self.take(section, "path", str), self.take(section, "host", str)
            port, backlog = self.take(section, "port", int), self.take(section, "backlog", int)
            self.ledger.use(section.header)
            numbers[section.label.lower()] = str(3 + len(entries))
            entry: dict[str, object] = {
                "address": f"unix:{path}" if path else f"tcp://{host or '127.0.0.1'}:{port or 0}",
                "name": section.label,
            }
            if backlog:
                entry["backlog"] = min(max(backlog, 1), 65535)
            entries.append(entry)
        if entries:
            made.table.put("listen", entries)
        return numbers

    def environment(self, watcher: str) -> dict[str, str]:
        found: dict[str, str] = {}
        for section in self.sections.values():
            patterns = (
                [part.strip() for part in section.label.split(",")] if section.label else ["*"]
            )
            if section.kind != "env" or not any(fnmatch(watcher, pattern) for pattern in patterns):
                continue
            self.ledger.use(section.header)
            for option in section.options.values():
                self.ledger.use(option.setting)
                found[option.key] = option.raw
        return found

    def take(self, section: Section, key: str, convert: Callable[[str], _T]) -> _T | None:
        """Return the converted value of an option, which counts as used; None where it is not given."""
        option = section.options.get(key)
        if option is None:
            return None
        self.ledger.use(option.setting)
        try:
            return convert(option.raw)
        except ValueError as error:
            self.problem(section, key, str(error))
            return None

    def problem(self, section: Section, key: str, says: str) -> None:
        option = section.options.get(key)
        line = (
            f"{option.setting.place} {section.name}.{key} = {option.raw}: {says}"
            if option
            else f"{section.header.place} [{section.name}] {says}"
        )
        if line not in self.problems:
            self.problems.append(line)


def _boolean(text: str) -> bool:
    if text.lower() not in (*_TRUE, *_FALSE):
        raise ValueError("neither true nor false")
    return text.lower() in _TRUE


def _user(text: str) -> "str | int":
    return int(text) if text.isdecimal() else text
