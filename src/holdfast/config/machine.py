"""What does this machine have: which programs, directories, users, variables?

Each question is asked once: a thousand workers with one command look it up once. Leaves out whether the answer is a
mistake, which depends on who asks.
"""

import os
import re
from collections.abc import Callable, Mapping

from holdfast.config.kinds import NAME
from holdfast.config.problems import Problems, Where, quoted
from holdfast.config.reading import shown_path

_PYTHON = re.compile(r"(?:python|pypy)[0-9.]*")
_ENV_LINE = re.compile(r"\s*(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)\s*=\s*(.*?)\s*")
# What belongs to the login session or to another supervisor, not to the worker: passed on only by name.
_SESSION = re.compile(
    r"HOLDFAST_.*|LISTEN_(?:FDS|PID|FDNAMES)|NOTIFY_SOCKET|WATCHDOG_(?:USEC|PID)|INVOCATION_ID|JOURNAL_STREAM|MANAGERPID"
    r"|SSH_.*|XDG_(?:SESSION|VTNR|SEAT).*|DBUS_SESSION_BUS_ADDRESS|DISPLAY|WAYLAND_DISPLAY|WINDOWID|TMUX.*|STY|TERM.*"
    r"|COLORTERM|COLUMNS|LINES|LS_COLORS|SHLVL|PWD|OLDPWD|PS[0-9]|_|SUDO_.*|LESS.*|PAGER|PYTHONFAULTHANDLER|MAIL"
)
_NEVER_PASSED = re.compile(
    r"HOLDFAST_.*|LISTEN_(?:FDS|PID|FDNAMES)|NOTIFY_SOCKET|WATCHDOG_(?:USEC|PID)"
)


class Machine:
    """What this machine has: programs, directories, users. Each question is asked once."""

    def __init__(self) -> None:
        import holdfast

        self.container_main = os.path.join(
            os.path.dirname(os.path.abspath(holdfast.__file__)), "container", "__main__.py"
        )
        #: What is put in front of a guest's PYTHONPATH to bring the agent in.
        self.agent_boot = os.path.join(
            os.path.dirname(os.path.abspath(holdfast.__file__)), "agent", "boot"
        )
        self._programs: dict[tuple[str, str, str], tuple[str, tuple[str, ...]]] = {}
        self._directories: dict[str, bool] = {}
        self._python: dict[str, bool] = {}
        self._env_files: dict[str, dict[str, str]] = {}

    def name(self) -> str:
        """Return the host's name in the form of our names."""
        host = re.sub(r"[^A-Za-z0-9_-]+", "-", os.uname().nodename.partition(".")[0]).lstrip("-_")[
            :48
        ]
        return host if NAME.fullmatch(host) else "node"

    def is_directory(self, path: str) -> bool:
        """Tell whether a path is a directory."""
        found = self._directories.get(path)
        if found is None:
            found = self._directories[path] = os.path.isdir(path)
        return found

    def program(self, name: str, search: str, directory: str) -> tuple[str, tuple[str, ...]]:
        """Return the absolute path of a program, and what is wrong with it."""
        is_local = "/" in name or not all(part.startswith("/") for part in search.split(":"))
        key = (name, search, directory if is_local else "")
        if key not in self._programs:
            self._programs[key] = _find_program(name, search, directory)
        return self._programs[key]

    def is_python_program(self, path: str) -> bool:
        """Tell whether a program is a Python interpreter, or a script for one."""
        if path not in self._python:
            is_python = bool(_PYTHON.fullmatch(os.path.basename(path)))
            if not is_python and path:
                try:
                    with open(path, "rb") as file:
                        first = file.read(200).partition(b"\n")[0]
                except OSError:
                    first = b""  # a program that may be run but not read
                is_python = first.startswith(b"#!") and (b"python" in first or b"pypy" in first)
            self._python[path] = is_python
        return self._python[path]

    def env_file(self, path: str, where: Where, problems: Problems) -> dict[str, str]:
        """Return the variables of a file of NAME=VALUE lines."""
        if path not in self._env_files:
            self._env_files[path] = _read_env_file(path, lambda *words: problems.add(where, *words))
        return self._env_files[path]

    def user(self, user: str | int) -> tuple[str, int, int, list[int], str] | None:
        """Return (name, uid, gid, groups, home) of a user."""
        import pwd

        is_number = isinstance(user, int) or user.isdecimal()
        try:
            found = pwd.getpwuid(int(user)) if is_number else pwd.getpwnam(str(user))
        except (KeyError, OverflowError, ValueError):
            # A number needs no entry: containers run as such users all the time.
            return (
                (str(user), int(user), int(user), [int(user)], "")
                if is_number and int(user) < 2**32 - 1
                else None
            )
        groups = os.getgrouplist(found.pw_name, found.pw_gid)
        return found.pw_name, found.pw_uid, found.pw_gid, groups, found.pw_dir

    def user_names(self) -> list[str]:
        """Return the names of all users."""
        import pwd

        return [entry.pw_name for entry in pwd.getpwall()]

    def group(self, group: str | int) -> int | None:
        """Return the number of a group; None when there is no such group."""
        import grp

        if isinstance(group, int) or group.isdecimal():
            return int(group) if int(group) < 2**32 - 1 else None
        try:
            return grp.getgrnam(group).gr_gid
        except (KeyError, ValueError):
            return None


def absolute(directory: str, path: str) -> str:
    """Return a path made absolute; ~ is the home of whoever starts the node."""
    if path.startswith("~"):
        path = os.path.expanduser(path)
    return os.path.normpath(os.path.join(directory, path))


def passed_on(environ: Mapping[str, str], patterns: list[str]) -> dict[str, str]:
    """Return the variables that workers inherit, in alphabetical order."""
    everything = "*" in patterns
    named = [re.escape(pattern).replace(r"\*", ".*") for pattern in patterns if pattern != "*"]
    by_name = re.compile("|".join(named)) if named else None
    return {
        name: environ[name]
        for name in sorted(environ)
        if ((everything and not _SESSION.fullmatch(name)) or (by_name and by_name.fullmatch(name)))
        and not _NEVER_PASSED.fullmatch(name)
    }


def _find_program(name: str, search: str, directory: str) -> tuple[str, tuple[str, ...]]:
    if "/" in name:
        path = absolute(directory, name)
        if not os.path.lexists(path):
            hints = (
                ("a relative path counts from the worker's `directory`",)
                if not name.startswith("/")
                else ()
            )
            return path, (f"{shown_path(path)}: there is no such program", *hints)
        if os.path.isdir(path):
            return path, (f"{shown_path(path)} is a directory, not a program",)
        if not os.access(path, os.X_OK):
            return path, (
                f"{shown_path(path)} cannot be executed",
                f"make it executable:  chmod +x {path}",
            )
        return path, ()
    if len(os.fsencode(name)) <= 255:
        for part in search.split(":"):
            path = os.path.normpath(os.path.join(directory, part, name))
            if os.access(path, os.X_OK) and os.path.isfile(path):
                return path, ()
    local = os.path.join(directory, name)
    hint = (
        f'it is in the directory: write "./{name}"'
        if os.path.isfile(local)
        else "install it, or name it by its path"
    )
    return name, (f"there is no program {quoted(name)} on the PATH", hint, f"looked in: {search}")


def _read_env_file(path: str, add: Callable[..., None]) -> dict[str, str]:
    shown = shown_path(path)
    try:
        if not os.path.isfile(path):
            add(
                f"{shown}: there is no such file"
                if not os.path.lexists(path)
                else f"{shown}: is not a file"
            )
            return {}
        with open(path, "rb") as file:
            text = file.read(1 << 20).decode()
    except UnicodeDecodeError:
        add(f"{shown} is not UTF-8")
        return {}
    except OSError as error:
        add(f"{shown} cannot be read: {error.strerror}")
        return {}
    found = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        match = _ENV_LINE.fullmatch(line)
        if match is None or "\0" in line:
            add(f"{shown}:{number} is not a line NAME=VALUE")
            continue
        value = match[2]
        if len(value) >= 2 and value[0] == value[-1] and value[0] in "\"'":
            value = value[1:-1]
        found[match[1]] = value
    return found
