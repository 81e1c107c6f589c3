"""What does an ecosystem file of pm2 mean to Holdfast?

Each app becomes a guest, or several (``instances``). pm2's own defaults that differ from ours (SIGINT, 1.6 s of grace) are written out. Cluster mode
shares one port among processes by a module of Node.js, which nothing outside of Node.js can do: it is noted. A ``.js`` file is read as far as it is
data: literals, comments and unquoted keys; one that computes something has to be printed as JSON by Node.js itself.
"""

import os
import re
from collections.abc import Callable
from typing import Any

from holdfast.config.importers import guest
from holdfast.config.importers.draft import Draft
from holdfast.config.importers.foreign import Foreign
from holdfast.config.importers.guest import Guest
from holdfast.config.importers.ledger import Ledger
from holdfast.config.importers.tree import Node
from holdfast.model.errors import ConfigError

_INTERPRETERS = {".js": "node", ".mjs": "node", ".cjs": "node", ".ts": "node", ".py": "python3", ".sh": "bash", ".rb": "ruby",
                 ".php": "php", ".pl": "perl"}  # fmt: skip
_LOGS = "output is kept in the state directory, logs/WORKER/ (`holdfast logs`); log = { directory = … } moves it"
_ADVICE = {
    "exec_mode": "there is no cluster mode: give each process a port of its own, or let the program open it with reusePort",
    "watch": "nothing is restarted when a file changes: `holdfast restart NAME` after a deployment",
    "ignore_watch": "nothing is restarted when a file changes", "watch_options": "nothing is restarted when a file changes",
    "cron_restart": "there is no restart by the clock; memory_max and its detectors restart for a reason",
    "wait_ready": "process.send('ready') is Node's own: a check says it, ready = { tcp = PORT } or { log = \"listening\" }",
    "listen_timeout": "ready = { …, timeout = … } once there is a check",
    "out_file": _LOGS, "output": _LOGS, "error_file": _LOGS, "error": _LOGS, "log_file": _LOGS, "log": _LOGS,
    "merge_logs": "each worker has a log of its own", "combine_logs": "each worker has a log of its own",
    "log_date_format": "times are kept beside the log: `holdfast logs` shows them", "time": "times are kept beside the log: `holdfast logs` shows them",
    "pid_file": "Holdfast has no pid files: `holdfast status --json` tells the pids",
    "shutdown_with_message": "the program is asked to end by a signal: stop = { signal = … }",
    "exp_backoff_restart_delay": "the delay doubles anyway: restart = { delay = …, delay_max = … }",
    "source_map_support": "node_args = --enable-source-maps does it",
    "namespace": "there are no namespaces: [group.NAME] keeps workers together",
    "treekill": "what is left of the program's group is killed after it has ended",
    "vizion": "it is pm2's own", "pmx": "it is pm2's own", "automation": "it is pm2's own",
    "autostart": "autostart = false keeps it down until `holdfast start`",
}  # fmt: skip


def read(root: Node, file: str, ledger: Ledger) -> Draft:
    """Turn an ecosystem file into a draft.

    Raises:
        ConfigError: It has not the shape of one; every problem with its place.
    """
    foreign = Foreign(root, file, ledger)
    foreign.draft.heading = [
        f"Imported from {file} (pm2).",
        "pm2 ends a program by SIGINT and waits 1.6 s; this is written out.",
    ]
    apps = root.items or (root.get("apps").items if root.get("apps") else None)  # type: ignore[union-attr]
    if not apps and root.get("script") is not None:
        apps = [root]
    if not apps:
        raise ConfigError([f"{file}:1 there are no apps in it"])
    for app in apps:
        if foreign.mapping(app):
            _app(foreign, app)
    deploy = root.get("deploy")
    if deploy is not None:
        deploy.note(
            "pm2 deploy has no counterpart: any tool that copies files, then `holdfast apply`"
        )
    if foreign.problems:
        raise ConfigError(foreign.problems)
    return foreign.draft


def _app(foreign: Foreign, app: Node) -> None:
    try:
        argv = _command(foreign, app)
        count = _instances(app)
    except ValueError as error:
        foreign.problem(app, f"{app.path}: {error}")
        return
    if not argv:
        return
    script = app.get("script")
    stem = os.path.splitext(os.path.basename(str(script.scalar if script else "app")))[0]
    name = foreign.text(app, "name") or stem
    for number in range(count):
        remarks = (
            foreign.remarks(app, f"{count} instances there")
            if count > 1
            else [f"{foreign.file}:{app.line} {app.path or 'the app'}"]
        )
        made = Guest(foreign.draft, f"{name}-{number}" if count > 1 else name, remarks)
        made.table.put("command", argv)
        made.parts["restart"] = {"policy": "always"}
        made.parts["stop"] = {"signal": "INT", "grace": "1600ms"}
        _keys(foreign, made, app)
        env = app.get("env")
        for key, below in ((env.pairs if env else None) or {}).items():
            made.env[key] = _text(below.value())
        if count > 1:
            made.env["NODE_APP_INSTANCE"] = str(number)
        made.finish()
    for key, below in (app.pairs or {}).items():
        if key.startswith("env_"):
            below.note(
                "a set of variables chosen by `pm2 --env`: a configuration of its own, which includes the other",
                below.path,
            )
    foreign.advise(app, _ADVICE)


def _command(foreign: Foreign, app: Node) -> list[str]:
    script = foreign.text(app, "script", needed=True)
    if not script:
        return []
    chosen = next(
        (key for key in ("interpreter", "exec_interpreter") if app.get(key) is not None),
        "interpreter",
    )
    interpreter = foreign.text(app, chosen) or _INTERPRETERS.get(
        os.path.splitext(script)[1], "none"
    )
    options: list[str] = []
    for key in ("node_args", "interpreter_args"):
        options += _words(app.get(key))
    arguments = _words(app.get("args"))
    if interpreter == "none":
        # A bare script of pm2 is one of the directory, a word with arguments a command.
        words = (
            script.split()
            if " " in script
            else [script if "/" in script or not _is_file(script) else f"./{script}"]
        )
        return [*words, *arguments]
    return [interpreter, *options, script, *arguments]


def _is_file(script: str) -> bool:
    return "." in script


def _words(node: Node | None) -> list[str]:
    if node is None:
        return []
    value = node.value()
    return [_text(word) for word in value] if isinstance(value, list) else guest.split(str(value))


def _instances(app: Node) -> int:
    node = app.get("instances")
    if node is None:
        return 1
    try:
        count = int(str(node.scalar))
    except ValueError:
        count = 0
    if count < 1:
        node.note(
            "as many as the machine has processors (or all but some): write a worker for each that you want"
        )
        return 1
    if count > 1000:
        raise ValueError("more than 1000 instances")
    node.value()
    return count


def _keys(foreign: Foreign, made: Guest, app: Node) -> None:
    table = made.table
    uses: dict[str, Callable[[Any], None]] = {
        "cwd": lambda v: table.put("directory", _text(v)),
        "uid": lambda v: table.put("user", _user(v)), "user": lambda v: table.put("user", _user(v)), "gid": lambda v: table.put("group", _user(v)),
        "autorestart": lambda v: made.set("restart", "policy", "always" if v else "never"),
        "stop_exit_codes": lambda v: _stop_codes(made, v),
        "max_restarts": lambda v: made.parts["restart"].update({"limit": max(1, int(v)), "after_limit": "down"}),
        "min_uptime": lambda v: made.set("restart", "healthy", guest.time(_span(v))),
        "restart_delay": lambda v: made.set("restart", "delay", guest.time(_span(v))),
        "kill_timeout": lambda v: made.set("stop", "grace", guest.time(_span(v))),
        "max_memory_restart": lambda v: table.put("memory_max", guest.size(v), "pm2 looks now and then, here the kernel enforces it"),
    }  # fmt: skip
    for key, use in uses.items():
        node = app.get(key)
        if node is None:
            continue
        try:
            use(node.plain())
        except _DifferentError as error:
            node.note(str(error))
            continue
        except (ValueError, TypeError) as error:
            foreign.problem(node, f"{node.path}: {error}")
        node.value()


class _DifferentError(Exception):
    """The value has no counterpart; the text says what to do."""


def _user(value: Any) -> str | int:
    if not isinstance(value, (str, int)) or isinstance(value, bool) or value == "":
        raise ValueError("neither a name nor a number")
    return value


def _stop_codes(made: Guest, value: Any) -> None:
    codes = value if isinstance(value, list) else [value]
    if [str(code) for code in codes] != ["0"]:
        raise _DifferentError(
            'status 0 alone counts as a clean end: restart = "on-failure" stops at it'
        )
    made.set("restart", "policy", "on-failure")


def _span(value: Any) -> float:
    """A number is milliseconds; a text has a unit: 10s, 1m, 1h."""
    found = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]+)?)\s*(h|m|s|ms)?\s*", str(value))
    if found is None:
        raise ValueError("not a time such as 3000 (milliseconds) or 10s")
    return float(found[1]) * {"h": 3600.0, "m": 60.0, "s": 1.0}.get(found[2] or "", 0.001)


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return "" if value is None else str(value)


# -- JavaScript that is data ---------------------------------------------------------------------------

_PIECE = re.compile(
    r"""(?P<space>\s+|//[^\n]*|/\*.*?\*/)|(?P<text>"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'|`(?:\\.|[^`\\$])*`)"""
    r"""|(?P<number>-?(?:0x[0-9a-fA-F]+|[0-9][0-9_]*(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?))|(?P<word>[A-Za-z_$][\w$]*)|(?P<sign>[{}\[\]:,])""",
    re.DOTALL,
)
_HEAD = re.compile(
    r"(?:\s+|//[^\n]*|/\*.*?\*/|['\"]use strict['\"];?)*(?:module\.exports\s*=|export\s+default)",
    re.DOTALL,
)
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f", "v": "\v", "0": "\0", "\n": ""}


def as_json(text: str, file: str) -> str:
    """Return a JavaScript file that is data as JSON, every value in its line.

    Raises:
        ConfigError: It is a program.
    """
    head = _HEAD.match(text)
    at = head.end() if head else 0
    # The lines above stay, so that notes name the right ones.
    out = ["\n" * text.count("\n", 0, at)]
    pieces: list[tuple[str, str, int]] = []
    end = len(text.rstrip().rstrip(";"))
    while at < end:
        found = _PIECE.match(text, at, end)
        if found is None:
            raise _program(text, at, file)
        pieces.append((str(found.lastgroup), found[0], at))
        at = found.end()
    solid = [number for number, piece in enumerate(pieces) if piece[0] != "space"]
    for place, number in enumerate(solid):
        kind, piece, where = pieces[number]
        before = pieces[solid[place - 1]] if place else ("sign", "", 0)
        after = pieces[solid[place + 1]] if place + 1 < len(solid) else ("sign", "", 0)
        out.append(
            "\n"
            * sum(
                pieces[i][1].count("\n")
                for i in range(solid[place - 1] + 1 if place else 0, number)
            )
        )
        out.append(
            _json_piece(kind, piece, before[1], after[1])
            if kind != "word" or after[1] == ":" or piece in ("true", "false", "null", "undefined")
            else ""
        )
        if not out[-1] and piece != ",":
            raise _program(text, where, file)
    return "".join(out)


def _json_piece(kind: str, piece: str, before: str, after: str) -> str:
    from json import dumps

    if kind == "text":
        inner = re.sub(
            r"\\(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|(.))",
            lambda f: chr(int(f[1] or f[2], 16)) if f[1] or f[2] else _ESCAPES.get(f[3], f[3]),
            piece[1:-1], flags=re.DOTALL,
        )  # fmt: skip
        return dumps(inner) + "\n" * piece.count("\n")
    if kind == "number":
        plain = piece.replace("_", "")
        return f'"{piece}"' if after == ":" else str(int(plain, 16)) if "x" in plain else plain
    if kind == "word":
        if after == ":" and before in ("{", ","):
            return dumps(piece)
        return "null" if piece == "undefined" else piece
    return "" if piece == "," and after in ("}", "]") else piece


def _program(text: str, at: int, file: str) -> ConfigError:
    line = text.count("\n", 0, at) + 1
    says = (
        f"{file}:{line} this is computed, and only Node.js can do that: {text[at : at + 40].splitlines()[0]}\n"
        f"  print it as data:  node -p 'JSON.stringify(require(\"./{file}\"), null, 1)' > ecosystem.json\n"
        "  and import that:   holdfast import --kind pm2 ecosystem.json"
    )
    return ConfigError([says])
