"""What does a supervisord.conf mean to Holdfast?

A program becomes a guest (several, with ``numprocs``), a group a group, priorities an order. The defaults
of supervisor that differ from ours (``autorestart=unexpected``) are written out, so that a program
behaves as before. What supervisor offers over its sockets (events, RPC, the web page) has no counterpart; each such
key gets a note. The syntax is in :mod:`holdfast.config.importers.ini`; the meaning follows supervisor 4.3.
"""

import math
import os
import shlex
import signal
from collections.abc import Callable
from typing import TypeVar

from holdfast.config.importers import guest, ini
from holdfast.config.importers.draft import Draft, Table, is_ours
from holdfast.config.importers.ini import Option, Section
from holdfast.config.importers.ledger import Ledger
from holdfast.model.errors import ConfigError

_T = TypeVar("_T")

_PRIORITY = 999
_TRUE, _FALSE = ("yes", "true", "on", "1"), ("no", "false", "off", "0")
_OWN_OUTPUT = (
    "/dev/stdout",
    "/dev/stderr",
    "/dev/fd/1",
    "/dev/fd/2",
    "/proc/self/fd/1",
    "/proc/self/fd/2",
)
_LEAST_SEGMENT = 4096
#: Ten years: the longest time that a holdfast.toml takes.
_LONGEST_S = 3650 * 86400
_UNITS = {"kb": 1024, "mb": 1024**2, "gb": 1024**3}

#: Keys of [supervisord] and of programs that cannot be carried over, and what to do instead.
_ADVICE = {
    "logfile": "Holdfast logs into its state directory; read with `holdfast logs --worker holdfast`",
    "logfile_maxbytes": "Holdfast rotates its own log by itself",
    "logfile_backups": "Holdfast rotates its own log by itself",
    "loglevel": "Holdfast has no log levels to choose from",
    "pidfile": "Holdfast has no pid files: `holdfast status --json` tells the pids",
    "nodaemon": "`holdfast up` stays in the foreground, `holdfast up --detach` does not",
    "silent": "`holdfast up --quiet`",
    "minfds": "set files_max for the workers that need more open files",
    "minprocs": "set processes_max for the workers that need a limit",
    "childlogdir": "output is kept in the state directory, logs/WORKER/; log = { directory = … } moves it",
    "nocleanup": "old logs are removed by log = { keep = N }",
    "strip_ansi": "output is kept byte for byte; strip colours when reading",
    "exitcodes": "Holdfast takes exit status 0 alone for a clean end: let the program end with 0,"
    " or use restart = { policy = \"never\" | \"always\" }",
    "stdout_logfile": "kept in the state directory, logs/WORKER/out.log (`holdfast logs`); log = { directory = … } moves it",
    "stderr_logfile": "kept in the state directory, logs/WORKER/err.log (`holdfast logs`); log = { directory = … } moves it",
    "stdout_logfile_maxbytes": "one size for both streams, and never without a limit: log = { max_size = … }",
    "stderr_logfile_maxbytes": "one size for both streams, and never without a limit: log = { max_size = … }",
    "stderr_logfile_backups": "one number for both streams: log = { keep = … }",
    "redirect_stderr": "the streams are kept apart in files and shown together by `holdfast logs`; for one file, start the"
    " program by sh -c 'exec … 2>&1'",
    "stdout_syslog": "no syslog: forward the files in logs/WORKER/",
    "stderr_syslog": "no syslog: forward the files in logs/WORKER/",
    "stdout_events_enabled": "there are no supervisor events; `holdfast logs -f` follows the output",
    "stderr_events_enabled": "there are no supervisor events; `holdfast logs -f` follows the output",
    "stdout_capture_maxbytes": "there is no capture mode: all output is kept",
    "stderr_capture_maxbytes": "there is no capture mode: all output is kept",
    "serverurl": "SUPERVISOR_SERVER_URL is not set for programs: there is no such server",
    "stopasgroup": "the signal goes to the program alone; what is left of its group is killed after it has ended",
    "killasgroup": "Holdfast always kills the whole group",
    "socket_owner": "the socket belongs to whoever starts Holdfast",
    "socket_mode": "the socket has the mode that the umask leaves",
    "user": "start Holdfast as that user",
}  # fmt: skip

#: Whole sections without a counterpart, by the word before the colon.
_SECTIONS = {
    "unix_http_server": "not needed: the holdfast command talks to its node over a socket in the run directory",
    "inet_http_server": "there is no remote control over TCP; use ssh and the holdfast command",
    "supervisorctl": "not needed: the holdfast command finds its node by the state directory",
    "rpcinterface": "there is no XML-RPC interface; scripts use `holdfast … --json`",
    "ctlplugin": "plug-ins of supervisorctl have no counterpart",
    "eventlistener": "it speaks supervisor's event protocol and cannot run here; incidents (`holdfast incidents --json`)"
    " tell what events told, and a plain program can be a worker of kind guest",
}


def read(text: str, file: str, path: str, ledger: Ledger) -> Draft:
    """Turn the text of a supervisord.conf, and of what it includes, into a draft.

    Raises:
        ConfigError: All problems that supervisor would refuse, too.
    """
    sections = ini.read(text, file, path, ledger)
    draft = Draft(
        [
            f"Imported from {file} (supervisord.conf).",
            "Keys that were not given there have Holdfast's defaults, but for autorestart.",
            "Relative paths mean the directory of this file; in supervisor, the one it was started in.",
        ]
    )
    _Import(sections, file, draft, ledger).carry_over()
    return draft


class _Program:
    """A [program:x] or [fcgi-program:x] and the workers made from it."""

    __slots__ = ("autostart", "group", "level", "section", "workers")

    def __init__(self, section: Section, group: str) -> None:
        self.section = section
        self.group = group
        self.level = (_PRIORITY, _PRIORITY)
        self.autostart = True
        self.workers: list[tuple[str, Table]] = []


class _Import:
    """One import: what is known about the whole file while its parts are carried over."""

    def __init__(
        self, sections: dict[str, Section], file: str, draft: Draft, ledger: Ledger
    ) -> None:
        self.sections = sections
        self.file = file
        self.draft = draft
        self.ledger = ledger
        self.problems: list[str] = []
        self.shared: dict[str, object] = {}  #: keys of [supervisord] that hold for each program
        self.environment: dict[str, str | int] = {}  #: ENV_NAME from [supervisord] environment

    def carry_over(self) -> None:
        self.node()
        groups = {}
        member_of: dict[str, str] = {}
        for section in self.of_kind("group"):
            listed = self.option(section, "programs", str) or ""
            members = [name.strip() for name in listed.split(",") if name.strip()]
            groups[section.label] = (section, members)
            for name in members:
                if not {f"program:{name}", f"fcgi-program:{name}"} & set(self.sections):
                    self.problem(
                        section.header.place,
                        f"[{section.name}] names {name}, and there is no [program:{name}]",
                    )
                first = member_of.setdefault(name, section.label)
                if first != section.label:
                    says = f"{name} is in two groups; Holdfast keeps one process of it, in {first}"
                    self.remark(section, "programs", says)
        programs = []
        for section in [s for s in self.sections.values() if s.kind in ("program", "fcgi-program")]:
            program = _Program(section, member_of.get(section.label, section.label))
            self.program(program, groups[program.group][0] if section.label in member_of else None)
            programs.append(program)
        if not programs:
            self.problem(
                f"{self.file}:1", "there is no [program:NAME] in it, nor in what it includes"
            )
        if self.problems:
            raise ConfigError(self.problems)
        self.order(programs)
        for name, (section, members) in groups.items():
            self.ledger.use(section.header)
            table = self.draft.table("group", self.draft.free_name("group", name, "group"))
            if table.header[1] != name:
                table.say(f"called {name} there")
            table.put("strategy", "one_for_one")
            if "priority" in section.options:
                table.say(f"priority {section.options['priority'].raw} there")
            order = [
                program
                for member in members
                for program in programs
                if program.section.label == member and program.group == name
            ]
            table.put("workers", [worker for program in order for worker, _ in program.workers])
        self.leftovers()

    # -- sections ----------------------------------------------------------------------------------

    def node(self) -> None:
        section = self.sections.get("supervisord")
        if section is None:
            return
        table = self.draft.table("node")
        name = self.option(section, "identifier", str)
        if name:
            table.put("name", self.draft.free_name("node", name, "node"))
        environment = self.environment_option(section, {})
        if environment:
            table.put("env", environment)
            self.environment = {f"ENV_{key}": value for key, value in environment.items()}
        for key, conversion in (("umask", _octal), ("user", _user), ("directory", str)):
            value = self.option(section, key, conversion)
            if value is not None:
                self.shared[key] = value
        if table.lines or self.shared:
            self.ledger.use(section.header)

    def program(self, program: _Program, group: Section | None) -> None:
        section = program.section
        before = len(self.problems)
        names: dict[str, str | int] = {
            "program_name": section.label,
            "group_name": program.group,
            **self.environment,
        }
        if not section.label:
            self.problem(section.header.place, f"[{section.name}] has no name after the colon")
        count = self.option(section, "numprocs", _count, names)
        first = self.option(section, "numprocs_start", int, names) or 0
        process_name = section.options.get("process_name")
        if (
            count is not None
            and count > 1
            and "%(process_num)" not in (process_name.raw if process_name else "")
        ):
            says = f"{section.name}.numprocs = {count}: process_name has to contain %(process_num)s, as in supervisor"
            self.problem(section.header.place, says)
        if "command" not in section.options:
            self.problem(section.header.place, f"[{section.name}] has no command")
        own = self.option(section, "priority", int, names)
        of_group = self.option(group, "priority", int, names) if group else own
        program.level = tuple(_PRIORITY if n is None else n for n in (of_group, own))  # type: ignore[assignment]
        if len(self.problems) > before:
            return
        self.ledger.use(section.header)
        for number in range(first, first + (1 if count is None else count)):
            each = {**names, "process_num": number, "numprocs": count or 1}
            self.worker(program, each)

    def worker(self, program: _Program, names: dict[str, str | int]) -> None:
        section = program.section
        environment = self.environment_option(section, names)
        names = {**names, **{f"ENV_{key}": value for key, value in environment.items()}}
        wanted = self.option(section, "process_name", str, names) or section.label
        name = self.draft.free_name("worker", wanted, "program")
        table = self.draft.table(
            "worker", name, remarks=[f"{section.header.place} [{section.name}]"]
        )
        if name != wanted:
            table.say(f"called {wanted} there")
        program.workers.append((name, table))
        table.put("kind", "guest")
        command = self.option(section, "command", _words, names) or []
        if section.kind == "fcgi-program":
            # FastCGI expects its socket as descriptor 0, socket activation starts at 3.
            command = ["/bin/sh", "-c", 'exec "$0" "$@" <&3', *command]
        table.put("command", command)
        if section.kind == "fcgi-program":
            self.socket(section, table, names)
        for key, conversion in (("directory", str), ("user", _user), ("umask", _octal)):
            value = self.option(section, key, conversion, names)
            if value is not None:
                table.put(key, value)
            elif key in self.shared:
                table.put(key, self.shared[key], "from [supervisord]")
        if environment:
            table.put("env", environment)
        autostart = self.option(section, "autostart", _boolean, names)
        if autostart is not None:
            table.put("autostart", autostart)
            program.autostart = autostart
        self.restart(section, table, names)
        self.stop(section, table, names)
        self.log(section, table, names)

    def restart(self, section: Section, table: Table, names: dict[str, str | int]) -> None:
        policy = self.option(section, "autorestart", _policy, names)
        restart: dict[str, object] = {"policy": policy or "on-failure"}
        seconds = self.option(section, "startsecs", _not_negative, names)
        if seconds is not None:
            restart["healthy"] = f"{min(seconds, _LONGEST_S)}s"
        retries = self.option(section, "startretries", _not_negative, names)
        if retries is not None:
            restart["limit"] = min(max(retries, 1), 1_000_000)
            # supervisor waits 1, 2, 3, … seconds between its tries.
            window = retries * (retries + 1) // 2 + (retries + 1) * max(
                1, 1 if seconds is None else seconds
            )
            restart["window"] = f"{min(max(window, 10), _LONGEST_S)}s"
            restart["after_limit"] = "down"
            if retries == 0:
                says = "Holdfast has no limit of none (0 is no limit at all): one restart is tried"
                self.remark(section, "startretries", says)
        table.put("restart", restart, "" if policy else "supervisor's default for autorestart")

    def stop(self, section: Section, table: Table, names: dict[str, str | int]) -> None:
        stop: dict[str, object] = {}
        name = self.option(section, "stopsignal", _signal, names)
        if name is not None:
            stop["signal"] = name
        grace = self.option(section, "stopwaitsecs", _not_negative, names)
        if grace is not None:
            stop["grace"] = f"{min(grace, _LONGEST_S)}s"
        if stop:
            table.put("stop", stop)

    def log(self, section: Section, table: Table, names: dict[str, str | int]) -> None:
        target = section.options.get("stdout_logfile")
        if target and ini.expand(target, names) in _OWN_OUTPUT:
            self.ledger.use(target.setting)
            table.put(
                "log", False, f"{target.raw} there: its output goes where the node's own goes"
            )
            other = section.options.get("stderr_logfile")
            if other and ini.expand(other, names) in _OWN_OUTPUT:
                table.say(f"stderr_logfile = {other.raw} there")
                self.ledger.use(other.setting)
            return
        log: dict[str, object] = {}
        size = self.peek(section, "stdout_logfile_maxbytes", _bytes, names)
        if size:
            self.use(section, "stdout_logfile_maxbytes")
            log["max_size"] = _size(max(size, _LEAST_SEGMENT))
            if size < _LEAST_SEGMENT:
                says = f"{_LEAST_SEGMENT} bytes is the least here"
                self.remark(section, "stdout_logfile_maxbytes", says)
        keep = self.peek(section, "stdout_logfile_backups", _not_negative, names)
        if keep is not None:
            self.use(section, "stdout_logfile_backups")
            log["keep"] = min(keep, 100_000)
        for key in ("stderr_logfile_maxbytes", "stderr_logfile_backups"):
            self.peek(section, key, _bytes, names)
        if log:
            table.put("log", log)

    def socket(self, section: Section, table: Table, names: dict[str, str | int]) -> None:
        address = self.option(section, "socket", str, names)
        backlog = self.option(section, "socket_backlog", _positive, names)
        if not address:
            self.problem(section.header.place, f"[{section.name}] has no socket")
            return
        listen: object = address
        if address.startswith("unix://"):
            listen = f"unix:{address.removeprefix('unix://')}"
        elif not address.startswith("tcp://"):
            says = f"{section.name}.socket = {address}: neither tcp:// nor unix://"
            self.problem(section.header.place, says)
        if backlog:
            listen = {"address": listen, "backlog": min(backlog, 65535)}
        table.put("listen", [listen], f"{address} there; the shell makes it descriptor 0")

    def order(self, programs: list[_Program]) -> None:
        """Turn priorities into `after`: a level waits for the one below it."""
        levels = sorted({program.level for program in programs})
        below: list[str] = []
        for level in levels:
            here = [program for program in programs if program.level == level]
            for program in here:
                for _, table in program.workers:
                    if "priority" in program.section.options:
                        table.say(f"priority {program.level[1]} there")
                    if below:
                        table.put("after", below, "by priority")
            # What does not start by itself must not hold up the others.
            started = [name for program in here if program.autostart for name, _ in program.workers]
            below = started or below

    def leftovers(self) -> None:
        """Note what has no counterpart, with advice where there is some."""
        for section in self.sections.values():
            settings = [section.header, *(option.setting for option in section.options.values())]
            if section.kind in _SECTIONS:
                self.ledger.note(settings, _SECTIONS[section.kind], f"[{section.name}]")
                continue
            for option in section.options.values():
                if option.key in _ADVICE:
                    self.ledger.note([option.setting], _ADVICE[option.key])
            if section.kind in ("supervisord", "include"):
                self.ledger.note(
                    [section.header], "nothing in this section can be carried over as it is"
                )

    # -- single options ----------------------------------------------------------------------------

    def of_kind(self, kind: str) -> list[Section]:
        return [section for section in self.sections.values() if section.kind == kind]

    def peek(
        self,
        section: Section,
        key: str,
        conversion: Callable[[str], _T],
        names: dict[str, str | int] | None = None,
    ) -> _T | None:
        """Return the converted value of an option, or None where it is not given (or wrong: that is a problem)."""
        option = section.options.get(key)
        if option is None:
            return None
        try:
            live = conversion in (str, _user, _words, environment_of)
            text = ini.expand(option, {**self.environment, **(names or {})}, live=live)
            return conversion(text)
        except ConfigError as error:
            self.problems += [says for says in error.problems if says not in self.problems]
        except (ValueError, OverflowError) as error:
            self.problem(option.setting.place, f"{option.setting.path} = {option.raw}: {error}")
        return None

    def option(
        self,
        section: Section,
        key: str,
        conversion: Callable[[str], _T],
        names: dict[str, str | int] | None = None,
    ) -> _T | None:
        """The same, and the setting counts as used."""
        self.use(section, key)
        return self.peek(section, key, conversion, names)

    def environment_option(self, section: Section, names: dict[str, str | int]) -> dict[str, str]:
        """Return the environment of a section without the variables that Holdfast sets itself."""
        environment = self.option(section, "environment", environment_of, names) or {}
        for key in [key for key in environment if is_ours(key)]:
            # Without the value: the rest of it may hold a password.
            setting = section.options["environment"].setting
            says = f"{setting.path}: {key} is set by Holdfast itself and was left out"
            self.ledger.remark(setting, says)
            del environment[key]
        return environment

    def use(self, section: Section, key: str) -> None:
        option: Option | None = section.options.get(key)
        if option is not None:
            self.ledger.use(option.setting)

    def remark(self, section: Section, key: str, says: str) -> None:
        setting = section.options[key].setting
        self.ledger.remark(setting, f"{setting.words()}: {says}")

    def problem(self, place: str, says: str) -> None:
        line = f"{place} {says}"
        if line not in self.problems:
            self.problems.append(line)


def environment_of(text: str) -> dict[str, str]:
    """Read ``A="x",B=y`` the way supervisor does (its quoting is that of a shell's lexer, commas separate)."""
    lexer = shlex.shlex(text)
    lexer.wordchars += "/.+-():\ue000\ue001"
    try:
        tokens = list(lexer)
    except ValueError as error:
        says = f'{str(error).lower()}: write KEY="value",KEY2="value"'
        raise ValueError(says) from None
    found = {}
    for at in range(0, len(tokens), 4):
        part = tokens[at : at + 4]
        if len(part) < 3 or part[1] != "=" or (len(part) == 4 and part[3] != ","):
            says = f'near {" ".join(part)}: write KEY="value",KEY2="value"'
            raise ValueError(says)
        found[part[0]] = part[2].strip("'\"")
    return found


def _words(text: str) -> list[str]:
    words = guest.split(text)
    return [os.path.expanduser(words[0]), *words[1:]]


def _boolean(text: str) -> bool:
    if text.lower() in _TRUE:
        return True
    if text.lower() in _FALSE:
        return False
    raise ValueError("neither true nor false")


def _count(text: str) -> int:
    number = _not_negative(text)
    if number > 10_000:
        raise ValueError("more than 10000 processes of one program")
    return number


def _not_negative(text: str) -> int:
    number = int(text)
    if number < 0:
        raise ValueError("less than 0")
    return number


def _positive(text: str) -> int:
    number = _not_negative(text)
    if not number:
        raise ValueError("less than 1")
    return number


def _user(text: str) -> str | int:
    return int(text) if text.isdecimal() else text


def _octal(text: str) -> str:
    if not 0 <= int(text, 8) <= 0o777:
        raise ValueError("not an octal mode of 000 to 777")
    return f"{int(text, 8):03o}"


def _policy(text: str) -> str:
    if text.lower() == "unexpected":
        return "on-failure"
    try:
        return "always" if _boolean(text) else "never"
    except ValueError:
        raise ValueError("this is not true, false or unexpected") from None


def _signal(text: str) -> str:
    if text.strip().isdigit():
        return signal.Signals(int(text)).name.removeprefix("SIG")
    name = text.strip().upper()
    name = name if name.startswith("SIG") else f"SIG{name}"
    if name not in signal.Signals.__members__:
        raise ValueError("there is no such signal")
    return name.removeprefix("SIG")


def _bytes(text: str) -> int:
    unit = _UNITS.get(text[-2:].lower())
    number = int(text[:-2]) * unit if unit else int(text)
    if number < 0:
        raise ValueError("less than 0")
    return number


def _size(number: int) -> str | int:
    for unit, letter in ((1024**3, "G"), (1024**2, "M"), (1024, "K")):
        if number % unit == 0 and math.log2(max(number, 1)) >= 10:
            return f"{number // unit}{letter}"
    return number
