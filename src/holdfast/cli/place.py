"""Which node does this command mean, and is it running?

``--state`` names it directly, ``--config`` by its file, otherwise the nearest ``holdfast.toml`` upwards from
the current directory does, as with git. A configuration that is broken at the moment still leads to its running
node: a person who has just made a mistake in it needs `status` most. Leaves out checking the file (config).
"""

import os

from holdfast.linux import locks, places
from holdfast.model.errors import NotRunning, StateError, UsageError
from holdfast.wire import layout
from holdfast.wire.jsonlite import loads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace
    from typing import Any

CONFIG_NAME = "holdfast.toml"
#: What a directory may have instead: the node configuration of Crossbar.io.
CROSSBAR_NAMES = (".crossbar/config.json", ".crossbar/config.yaml")
STATE_NAME = ".holdfast"


class Place:
    """A node's directories; ``config`` is empty when only the state directory is known."""

    __slots__ = ("config", "run_dir", "state_dir")

    def __init__(self, state_dir: str, config: str) -> None:
        self.state_dir = os.path.abspath(state_dir)
        self.run_dir = places.run_dir_for(self.state_dir)
        self.config = config


def find(args: "Namespace") -> Place:
    """Return the node that is meant.

    Raises:
        UsageError: There is no configuration file here, or not where the user said.
    """
    if args.state:
        if not os.path.isdir(args.state):
            msg = f"--state: {args.state}: there is no such directory"
            raise UsageError(msg)
        return Place(args.state, args.config or "")
    config = find_config(args.config)
    if config:
        return Place(state_dir_of(config), config)
    msg = (
        f"there is no {CONFIG_NAME} in {os.getcwd()} or above it\n"
        "  make one:      holdfast init\n"
        "  or name it:    holdfast -c PATH …   (or the state directory: --state DIR)"
    )
    raise UsageError(msg)


def find_config(given: "str | None") -> str:
    """Return the absolute path of the configuration file: the given one, or the nearest upwards; "" when there is none.

    In each directory holdfast.toml comes first, then Crossbar.io's .crossbar/config.json or .yaml.

    Raises:
        UsageError: The given one does not exist.
    """
    if given:
        path = given
        if os.path.isdir(given):
            path = _config_in(given) or os.path.join(given, CONFIG_NAME)
        if not os.path.exists(path):
            msg = f"{path}: there is no such file"
            raise UsageError(msg)
        return os.path.abspath(path)
    directory = os.getcwd()
    while True:
        path = _config_in(directory)
        if path:
            return path
        parent = os.path.dirname(directory)
        if parent == directory:
            return ""
        directory = parent


def _config_in(directory: str) -> str:
    # "config.json" for who names the .crossbar directory itself.
    names = [CONFIG_NAME, *CROSSBAR_NAMES]
    if os.path.basename(os.path.abspath(directory)) == ".crossbar":
        names += ["config.json", "config.yaml"]
    paths = [os.path.join(directory, name) for name in names]
    return next((path for path in paths if os.path.isfile(path)), "")


def state_dir_of(config: str) -> str:
    """Return the state directory that a configuration file names, or the usual one beside it.

    Only looks at ``node.state_dir``: a mistake anywhere else in the file does not stand in the way.
    """
    usual = os.path.join(os.path.dirname(config), STATE_NAME)
    named = _named_state_dir(config)
    return os.path.join(os.path.dirname(config), os.path.expanduser(named)) if named else usual


def _named_state_dir(config: str) -> str:
    try:
        with open(config, "rb") as file:
            text = file.read()
    except OSError:
        return ""
    # tomllib costs 15 ms, and 30 more for a thousand workers: most files do not name a state directory, or plainly.
    if b"state_dir" not in text:
        return ""
    plain = _plain_state_dir(text)
    if plain:
        return plain
    import tomllib

    try:
        node = tomllib.loads(text.decode("utf-8", "replace")).get("node", {})
    except tomllib.TOMLDecodeError:
        return ""
    named = node.get("state_dir", "") if isinstance(node, dict) else ""
    return _expand(named) if isinstance(named, str) else ""


def _plain_state_dir(text: bytes) -> str:
    """Return what a line of the [node] table says as plainly as can be; "" leaves it to the parser.

    Plainly: the only mention in a file without multi-line strings, on a line of its own, quoted, with nothing to expand or unescape.
    """
    before, _, after = text.partition(b"state_dir")
    rest, _, _ = after.partition(b"\n")
    equals, quote, rest = (part.strip() for part in rest.partition(b'"'))
    named, end, more = rest.partition(b'"')
    tables, _, line_start = before.rpartition(b"\n")
    table = next((line for line in reversed(tables.split(b"\n")) if line.lstrip()[:1] == b"["), b"")
    is_plain = (
        quote and end and equals == b"=" and not line_start.strip() and not more.partition(b"#")[0].strip()
        and table.partition(b"#")[0].strip() == b"[node]"
        and b"state_dir" not in after and b'"""' not in text and b"'''" not in text
        and not any(mark in named for mark in (b"$", b"\\", b"\r"))
    )  # fmt: skip
    return named.decode("utf-8", "replace") if is_plain else ""


def _expand(text: str) -> str:
    # As in the configuration language; whether it is right to the letter is for the config room to say.
    if "$" not in text:
        return text
    import re

    def value(found: "re.Match[str]") -> str:
        name, otherwise = found[1], found[2]
        return os.environ.get(name) or otherwise or "" if name else "$"

    return re.sub(r"\$\$|\$\{(\w+)(?::-([^}]*))?\}", value, text)


def running_roles(place: Place) -> "dict[str, int]":
    """Return role -> pid of the house processes that are there (0: missing)."""
    return {role: locks.holder(f"{place.run_dir}/{layout.lock(role)}") for role in layout.ROLES}


def node_pid(place: Place) -> int:
    """Return the pid of a process of the running node, the anchor's where there is one; 0 when none runs.

    Any survivor brings the whole house back, so one of the four is enough to call it running.
    """
    anchor = locks.holder(f"{place.state_dir}/{layout.NODE_LOCK}")
    if anchor:
        return anchor
    return next((pid for pid in running_roles(place).values() if pid), 0)


def need_running(place: Place) -> None:
    """Pass only when the node runs.

    Raises:
        NotRunning: Nobody holds its locks.
    """
    if not node_pid(place):
        msg = f"no node is running on {place.state_dir}\n  start it:  holdfast up"
        raise NotRunning(msg)


def read_plan(place: Place) -> "dict[str, Any]":
    """Return the plan that runs, or the last one that ran; empty when there never was one.

    Raises:
        StateError: It is not readable as what it has to be.
    """
    for path in (f"{place.run_dir}/{layout.PLAN}", f"{place.state_dir}/{layout.PLAN}"):
        try:
            with open(path, encoding="utf-8") as file:
                plan = loads(file.read())
        except FileNotFoundError:
            continue
        except (ValueError, UnicodeDecodeError) as error:
            msg = f"{path}: not a plan: {error}\n  write it anew:  holdfast apply   (or remove it and `holdfast up`)"
            raise StateError(msg) from None
        if type(plan) is not dict or type(plan.get("workers")) is not list:
            msg = f"{path}: not a plan\n  write it anew:  holdfast apply   (or remove it and `holdfast up`)"
            raise StateError(msg)
        return plan
    return {}
