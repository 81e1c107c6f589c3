"""What does a unit of systemd mean to Holdfast?

A ``.service`` becomes a guest, with the ``.socket`` of the same name beside it. systemd's default is not to restart; that is written
out. Hardening, namespaces and credentials stay with systemd: each such setting gets a note. The syntax is systemd.syntax(7): later
lines of a list add to it, an empty one clears it, ``%`` begins a specifier, and ``$`` a variable in commands alone.
"""

import os
import re
from collections.abc import Callable

from holdfast.config.importers import guest
from holdfast.config.importers.draft import Draft, from_environment
from holdfast.config.importers.guest import Guest
from holdfast.config.importers.ini import read_text
from holdfast.config.importers.ledger import Ledger, Setting
from holdfast.model.errors import ConfigError

_SECTION = re.compile(r"\[([^\]]+)\]")
_TIME = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([a-zµ]*)")
_UNITS = {
    "": 1.0, "s": 1.0, "sec": 1.0, "second": 1.0, "seconds": 1.0, "ms": 0.001, "msec": 0.001, "us": 1e-6, "usec": 1e-6, "m": 60.0,
    "min": 60.0, "minute": 60.0, "minutes": 60.0, "h": 3600.0, "hr": 3600.0, "hour": 3600.0, "hours": 3600.0, "d": 86400.0,
    "day": 86400.0, "days": 86400.0, "w": 604800.0, "week": 604800.0, "weeks": 604800.0,
}  # fmt: skip
_POLICY = {"no": "never", "always": "always", "on-success": "always", "on-failure": "on-failure", "on-abnormal": "on-failure",
           "on-watchdog": "on-failure", "on-abort": "on-failure"}  # fmt: skip
_VARIABLE = re.compile(r"\$\$|\$\{([A-Za-z_]\w*)\}")
_SPECIFIER = re.compile(r"%(.)")

_ORDER = 'import the other unit, too, then name its worker: after = ["…"], or requires = ["…"]'
_ADVICE = {
    "Description": "a comment was made of it", "Documentation": "a comment of yours can say it",
    "After": _ORDER, "Before": _ORDER, "Wants": _ORDER, "Requires": _ORDER, "BindsTo": _ORDER, "PartOf": _ORDER,
    "WantedBy": "workers start with the node; autostart = false prevents it", "RequiredBy": "workers start with the node",
    "ExecStartPre": "put it into the command: sh -c 'PRE && exec PROGRAM', or a worker of its own with `after`",
    "ExecStartPost": "a worker of its own, with `after` and restart = \"never\"; or a `ready` check, if it waits for something",
    "ExecStop": "stop = { signal = …, grace = … } asks by a signal alone: let the program end at it",
    "ExecStopPost": "put it into the command: sh -c 'PROGRAM; POST'",
    "ExecReload": "there is no reload: `holdfast restart`, or `kill -HUP` of the pid in `holdfast status --json`",
    "StandardOutput": "output is kept in the state directory, logs/WORKER/ (`holdfast logs`)",
    "StandardError": "output is kept in the state directory, logs/WORKER/ (`holdfast logs`)",
    "SyslogIdentifier": "logs are told apart by the worker's name",
    "PIDFile": "Holdfast has no pid files: `holdfast status --json` tells the pids",
    "LimitNPROC": "it counts all processes of the user; processes_max counts those of the worker",
    "KillMode": "the signal goes to the program alone; what is left of its group is killed after it has ended",
    "NotifyAccess": "the program itself and its children may notify",
    "Delegate": "a worker has no control group tree to itself",
}  # fmt: skip


def read(text: str, file: str, path: str, ledger: Ledger) -> Draft:
    """Turn a ``.service`` (and the ``.socket`` beside it) into a draft.

    Raises:
        ConfigError: Lines that are none of a unit, settings that cannot be.
    """
    problems: list[str] = []
    unit = _parse(text, file, ledger, problems)
    base = re.sub(r"(@[^.]*)?\.service$", "", file) or "program"
    draft = Draft([f"Imported from {file} (a unit of systemd).", "systemd's default is not to restart; where nothing was said, this is written out."])  # fmt: skip
    beside = re.sub(r"\.service$", ".socket", path)
    sockets: list[tuple[Setting, str]] = []
    if beside != path and os.path.isfile(beside):
        socket_file = os.path.basename(beside)
        sockets = _parse(read_text(beside, socket_file), socket_file, ledger, problems)
    if not problems:
        _Unit(unit, sockets, base, draft, file, ledger, problems).carry_over()
    if problems:
        raise ConfigError(problems)
    return draft


def _parse(text: str, file: str, ledger: Ledger, problems: list[str]) -> list[tuple[Setting, str]]:
    """Return the settings and their values, continued lines joined."""
    found: list[tuple[Setting, str]] = []
    section, joined, first = "", "", 0
    for number, line in enumerate(text.splitlines(), 1):
        stripped = line.strip()
        if stripped.startswith(("#", ";")) or (not stripped and not joined):
            continue
        first = first or number
        if stripped.endswith("\\"):
            joined += f"{stripped[:-1]} "
            continue
        whole, at, joined, first = (joined + stripped).strip(), first, "", 0
        header = _SECTION.fullmatch(whole)
        key, equals, value = whole.partition("=")
        if header:
            section = header[1]
        elif not equals or not section:
            problems.append(
                f"{file}:{at} this is neither a [Section] nor `Key=value` of one: {whole[:60]}"
            )
        else:
            found.append(
                (ledger.enter(file, at, f"{section}.{key.strip()}", value.strip()), value.strip())
            )
    return found


class _Unit:
    """One unit in the making of a guest."""

    def __init__(
        self, unit: list[tuple[Setting, str]], sockets: list[tuple[Setting, str]], base: str, draft: Draft, file: str,
        ledger: Ledger, problems: list[str],
    ) -> None:  # fmt: skip
        self.unit = unit
        self.sockets = sockets
        self.ledger = ledger
        self.problems = problems
        self.file = file
        self.base = base
        self.guest = Guest(draft, base, [file])

    def carry_over(self) -> None:
        self.environment()
        self.command()
        kind = self.last("Service.Type")
        text = kind[1] if kind else "simple"
        if kind and text in ("notify", "notify-reload"):
            self.ledger.use(kind[0])
            self.guest.set("ready", "notify", True)
        elif kind and text == "forking":
            self.note(
                kind[0],
                "Holdfast keeps what it has started: take away the option that sends the program into the background",
            )
        elif kind and text != "oneshot":
            self.note(kind[0], "it counts as ready when it runs; a `ready` check tells more")
        elif kind:
            self.note(kind[0], 'it runs once: restart = "never"')
        self.restart(text)
        self.keys()
        self.listen()
        for name in self.guest.finish():
            self.ledger.remark(
                self.unit[0][0],
                f"Service.Environment: {name} is set by Holdfast itself and was left out",
            )
        for setting, value in [*self.unit, *self.sockets]:
            key = setting.path.partition(".")[2]
            if key == "Description" and value:
                self.guest.table.say(value)
                self.ledger.use(setting)
            elif key in _ADVICE:
                self.ledger.note([setting], _ADVICE[key])

    # -- what it runs --------------------------------------------------------------------------------

    def environment(self) -> None:
        for setting, value in self.all("Service.Environment"):
            try:
                pairs = [word.partition("=") for word in unquoted(self.specified(setting, value))]
            except ValueError as error:
                self.problem(setting, str(error))
                continue
            self.ledger.use(setting)
            self.guest.env |= {name: text for name, equals, text in pairs if equals}
        files = self.all("Service.EnvironmentFile")
        for setting, _ in files[:-1]:
            self.note(setting, "Holdfast reads one file for a worker (env_file): put them together")
        for setting, value in files[-1:]:
            self.guest.table.put("env_file", self.specified(setting, value.removeprefix("-")))
            self.ledger.use(setting)
            if value.startswith("-"):
                self.ledger.remark(setting, f"{setting.words()}: here the file has to exist")

    def command(self) -> None:
        given = self.all("Service.ExecStart")
        if not given:
            self.problems.append(f"{self.file}:1 there is no ExecStart in it")
            return
        setting, value = given[0]
        for other, _ in given[1:]:
            self.note(other, "a worker is one program: sh -c 'FIRST && SECOND', or a worker each")
        prefix = re.match(r"[@:!+|-]*", value)
        marks = prefix[0] if prefix else ""
        try:
            found = unquoted(self.specified(setting, value[len(marks) :]))
        except ValueError as error:
            self.problem(setting, str(error))
            return
        if "@" in marks and len(found) > 1:
            del found[1]
        argv = (
            found
            if ":" in marks
            else [part for word in found for part in self.filled(setting, word)]
        )
        if not argv:
            self.problem(setting, "the command is empty")
            return
        if set(marks) - set(":"):
            self.ledger.remark(setting, f"{setting.path}: the prefix {marks} has no counterpart")
        self.ledger.use(setting)
        self.guest.table.put("command", argv)

    def filled(self, setting: Setting, word: str) -> list[str]:
        """Fill in variables: of the unit itself now, others when the configuration is read."""
        alone = re.fullmatch(r"\$([A-Za-z_]\w*)", word)
        if alone:
            if alone[1] in self.guest.env:
                return self.guest.env[alone[1]].split()
            self.ledger.remark(
                setting,
                f"{setting.path}: ${alone[1]} is taken as one word of the environment of `holdfast up`",
            )
            return [from_environment(alone[1])]

        def fill(found: re.Match[str]) -> str:
            if found[1] is None:
                return "$"
            if found[1] in self.guest.env:
                return self.guest.env[found[1]]
            self.ledger.remark(
                setting,
                f"{setting.path}: ${{{found[1]}}} comes from the environment of `holdfast up`",
            )
            return from_environment(found[1])

        return [_VARIABLE.sub(fill, word)]

    def specified(self, setting: Setting, text: str) -> str:
        """Fill in the specifiers that do not depend on the machine; a note for the others."""
        known = {"%": "%", "n": self.file, "N": self.base, "p": self.base.partition("@")[0], "i": "", "I": "", "t": "/run", "S": "/var/lib",
                 "C": "/var/cache", "L": "/var/log", "E": "/etc"}  # fmt: skip

        def fill(found: re.Match[str]) -> str:
            if found[1] not in known:
                self.ledger.remark(
                    setting,
                    f"{setting.path}: %{found[1]} was left as it is: write what it stands for",
                )
            return known.get(found[1], found[0])

        return _SPECIFIER.sub(fill, text)

    # -- when it is started again, and the rest --------------------------------------------------------

    def restart(self, kind: str) -> None:
        given = self.last("Service.Restart")
        policy = _POLICY.get(given[1], "") if given else "never"
        if given and not policy:
            self.problem(given[0], "this is no policy that systemd knows")
        self.guest.set("restart", "policy", policy or "never")
        if given:
            self.ledger.use(given[0])
            if given[1] not in ("no", "always", "on-failure"):
                self.ledger.remark(
                    given[0], f"{given[0].words()}: taken for {policy}, which is the nearest"
                )
        if policy == "never" or kind == "oneshot":
            return
        burst, interval = self.last("Unit.StartLimitBurst"), self.last("Unit.StartLimitIntervalSec")
        try:
            window = seconds(interval[1]) if interval else 10.0
            count = int(burst[1]) if burst else 5
        except ValueError as error:
            self.problem((burst or interval or self.unit[0])[0], str(error))
            return
        for limit in (burst, interval):
            if limit:
                self.ledger.use(limit[0])
        if window and count:
            # It counts starts, the first one too; and it gives up.
            self.guest.parts["restart"] |= {
                "limit": max(count - 1, 1),
                "window": guest.time(window),
                "after_limit": "down",
            }
        else:
            self.guest.set("restart", "limit", 0)

    def keys(self) -> None:
        table = self.guest.table
        plain: dict[str, Callable[[str], None]] = {
            "WorkingDirectory": lambda v: table.put("directory", v.removeprefix("-").replace("~", from_environment("HOME"), 1) if v.startswith("~") else v.removeprefix("-")),
            "User": lambda v: table.put("user", int(v) if v.isdecimal() else v),
            "Group": lambda v: table.put("group", int(v) if v.isdecimal() else v),
            "UMask": lambda v: table.put("umask", f"{int(v, 8):03o}"),
            "RestartSec": lambda v: self.guest.set("restart", "delay", guest.time(seconds(v))),
            "RestartMaxDelaySec": lambda v: self.guest.set("restart", "delay_max", guest.time(seconds(v))),
            "TimeoutStopSec": lambda v: self.guest.set("stop", "grace", guest.time(seconds(v))),
            "TimeoutSec": lambda v: self.guest.set("stop", "grace", guest.time(seconds(v))),
            "KillSignal": lambda v: self.guest.set("stop", "signal", guest.signal_of(v)),
            "WatchdogSec": self.watchdog,
            "MemoryMax": lambda v: table.put("memory_max", _limit(v, guest.size)),
            "MemoryLimit": lambda v: table.put("memory_max", _limit(v, guest.size)),
            "CPUQuota": lambda v: table.put("cpu_max", v),
            "TasksMax": lambda v: table.put("processes_max", _limit(v, int)),
            "LimitNOFILE": lambda v: table.put("files_max", _limit(v.partition(":")[0], int)),
            "LimitCORE": lambda v: table.put("core_max", _limit(v.partition(":")[0], guest.size)),
        }  # fmt: skip
        if "notify" in self.guest.parts["ready"]:
            plain["TimeoutStartSec"] = lambda v: self.guest.set(
                "ready", "timeout", guest.time(seconds(v))
            )
        for key, put in plain.items():
            found = self.last(f"Service.{key}")
            if not found or not found[1]:
                continue
            try:
                put(self.specified(found[0], found[1]))
            except _UnlimitedError:
                self.note(found[0], "no limit is what Holdfast has by default")
            except ValueError as error:
                self.problem(found[0], str(error))
            else:
                self.ledger.use(found[0])

    def watchdog(self, value: str) -> None:
        if not seconds(value):
            raise _UnlimitedError
        self.guest.parts["heartbeat"] = {"notify": True, "timeout": guest.time(seconds(value))}

    def listen(self) -> None:
        entries = []
        name, backlog = (
            self.last("Socket.FileDescriptorName", self.sockets),
            self.last("Socket.Backlog", self.sockets),
        )
        for setting, value in self.all("Socket.ListenStream", self.sockets):
            host, _, port = value.rpartition(":")
            if value.startswith("/"):
                entry: dict[str, object] = {"address": f"unix:{value}"}
            elif port.isdecimal():
                # A bare port is all addresses, of both families.
                entry = {"address": f"tcp://{host or '[::]'}:{port}"}
            else:
                self.note(setting, "only TCP and Unix stream sockets can be handed over")
                continue
            self.ledger.use(setting)
            if name:
                self.ledger.use(name[0])
                entry["name"] = name[1]
            if backlog and backlog[1].isdecimal():
                self.ledger.use(backlog[0])
                entry["backlog"] = min(max(int(backlog[1]), 1), 65535)
            entries.append(entry)
        if entries:
            self.guest.table.put("listen", entries)

    # -- the settings --------------------------------------------------------------------------------

    def all(
        self, path: str, of: "list[tuple[Setting, str]] | None" = None
    ) -> list[tuple[Setting, str]]:
        """Return the settings of a list; an empty one clears those before it."""
        found: list[tuple[Setting, str]] = []
        for setting, value in self.unit if of is None else of:
            if setting.path != path:
                continue
            if value:
                found.append((setting, value))
                continue
            self.ledger.note(
                [entry for entry, _ in found], f"cleared by the empty one in line {setting.line}"
            )
            self.note(setting, "it clears the lines above it, and has done so")
            found = []
        return found

    def last(
        self, path: str, of: "list[tuple[Setting, str]] | None" = None
    ) -> tuple[Setting, str] | None:
        """Return the setting that counts where a later one replaces an earlier one."""
        found = [entry for entry in (self.unit if of is None else of) if entry[0].path == path]
        for setting, _ in found[:-1]:
            self.ledger.note(
                [setting], "it is given again further down, and the last one wins, as in systemd"
            )
        return found[-1] if found else None

    def note(self, setting: Setting, advice: str) -> None:
        self.ledger.note([setting], advice)

    def problem(self, setting: Setting, says: str) -> None:
        self.problems.append(f"{setting.place} {setting.path} = {setting.text[:60]}: {says}")


class _UnlimitedError(Exception):
    """The setting says that there is no limit."""


def _limit(text: str, convert: Callable[[str], int]) -> int:
    if text == "infinity":
        raise _UnlimitedError
    if text.endswith("%"):
        raise ValueError("a share of the machine cannot be carried over: write a size")
    return convert(text)


def seconds(text: str) -> float:
    """Return a time of systemd: ``90``, ``1min 30s``, ``infinity``.

    Raises:
        ValueError: It is none.
    """
    if text == "infinity":
        return guest.LONGEST_S
    parts = _TIME.findall(text)
    if not parts or _TIME.sub("", text).strip() or any(unit not in _UNITS for _, unit in parts):
        raise ValueError("not a time such as 1min 30s")
    return min(sum(float(number) * _UNITS[unit] for number, unit in parts), guest.LONGEST_S)


_ESCAPES = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v", "s": " "}
_ESCAPED = re.compile(
    rb"\\(?:x([0-9a-fA-F]{2})|([0-7]{3})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|(.))", re.DOTALL
)
_WORD = re.compile(r"""(?:"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'|\\.|[^\s"'\\])+""", re.DOTALL)
_PIECE = re.compile(r""""((?:\\.|[^"\\])*)"|'((?:\\.|[^'\\])*)'""", re.DOTALL)


def unquoted(text: str) -> list[str]:
    """Return the words of a line that has systemd's quotes and C escapes.

    Raises:
        ValueError: A quote is not closed.
    """
    rest = _WORD.sub("", text)
    if rest.strip():
        raise ValueError("a quote is not closed")
    pieces = (
        _PIECE.sub(lambda f: f[1] if f[1] is not None else f[2], word)
        for word in _WORD.findall(text)
    )
    return [_unescaped(piece) for piece in pieces]


def _unescaped(text: str) -> str:
    def plain(found: re.Match[bytes]) -> bytes:
        byte, octal, short, wide, char = found.groups()
        if byte or octal:
            return bytes([int(byte, 16) if byte else int(octal, 8) & 0xFF])
        if short or wide:
            return chr(int(short or wide, 16)).encode("utf-8", "replace")
        letter: bytes = char
        return _ESCAPES.get(letter.decode("latin-1"), letter.decode("latin-1")).encode("latin-1")

    # Escapes are bytes: two of them can be one character.
    return _ESCAPED.sub(plain, text.encode("utf-8", "surrogateescape")).decode(
        "utf-8", "surrogateescape"
    )
