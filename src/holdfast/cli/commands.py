"""Which commands are there, and how is the parser of one of them built?

Only the module of the chosen command is imported: `holdfast status` does not pay for `holdfast doctor`.
A command's module has ``add_arguments(parser)`` and ``run(args) -> int``; its first docstring line is not shown to
users, the sentence in :data:`COMMANDS` is. Leaves out running them (:mod:`holdfast.cli.main`).
"""

import argparse
import sys
from importlib import import_module

from holdfast.cli.terminal import size_of
from holdfast.model.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn, Protocol

    class CommandModule(Protocol):
        """What the module of a command offers."""

        def add_arguments(self, parser: argparse.ArgumentParser) -> None:
            """Declare what may be typed after the command."""

        def run(self, args: argparse.Namespace) -> int:
            """Do it, and return the exit status."""


#: Heading of the help, then (command, module, what it does). In the order a newcomer needs them.
GROUPS: "tuple[tuple[str, tuple[tuple[str, str, str], ...]], ...]" = (
    (
        "a node",
        (
            ("init", "init", "write a configuration to start from"),
            ("up", "up", "start the node; on a terminal with a live table"),
            ("status", "status", "show every worker, the house and what is wrong"),
            ("top", "top", "watch it on a terminal: who uses what, what is wrong, and keys to act"),
            ("dashboard", "dashboard", "print a link that opens the dashboard in the browser"),
            ("down", "down", "stop every worker, then the node"),
        ),
    ),
    (
        "its workers",
        (
            ("start", "order", "start a worker or a component that is down"),
            ("stop", "order", "stop a worker or a component and leave it down"),
            ("restart", "order", "stop and start a worker or a component"),
            ("logs", "logs", "show what the workers wrote"),
            ("metrics", "metrics", "print the figures of the node, or serve them to Prometheus"),
            ("probe", "probe", "look at it from outside, from another machine, and tell people"),
            ("mcp", "mcp", "let an assistant read incidents and evidence (Model Context Protocol)"),
        ),
    ),
    (
        "its jobs",
        (("jobs", "jobs", "look into the job queue and change it, or work on it"),),
    ),
    (
        "its configuration",
        (
            ("check", "check", "tell everything that is wrong with the configuration"),
            ("diff", "diff", "show what `apply` would change in the running node"),
            (
                "apply",
                "apply",
                "put the changed configuration into effect; only changed workers are touched",
            ),
            ("import", "importing", "turn a Procfile, supervisord.conf, … into a configuration"),
            ("export", "export", "turn it into systemd units, Kubernetes manifests, …"),
            ("schema", "schema", "print the JSON Schema of the configuration"),
        ),
    ),
    (
        "when something broke",
        (
            ("incidents", "incidents", "list what broke"),
            ("incident", "incident", "tell the story of one incident"),
            ("alerts", "alerts", "list what people were told of, silence it, test the channels"),
            (
                "explain",
                "explain",
                "tell what is wrong, who is to blame, and from where on it counts as wrong",
            ),
            (
                "isolate",
                "isolate",
                "show which component is the culprit, and how its worker is split",
            ),
            ("drill", "drill", "break things on purpose and measure the recovery"),
            ("doctor", "doctor", "tell what this machine allows and what that means"),
        ),
    ),
    (
        "looking into a worker",
        (
            ("stacks", "stacks", "show where each thread of a worker is now"),
            ("profile", "profile", "show where a worker spends its time: table and flame graph"),
            ("heap", "heap", "show what the memory of a worker is made of, and what grows"),
            ("tasks", "tasks", "show which lines created the tasks and threads of a worker"),
        ),
    ),
    (
        "the program",
        (
            ("docs", "docs", "show a page of the documentation"),
            ("completion", "completion", "print the completion script for a shell"),
            ("version", "version", "print the version"),
        ),
    ),
)

#: command -> (module, what it does); with those that only other programs call.
COMMANDS: "dict[str, tuple[str, str]]" = {
    name: (module, says) for _, commands in GROUPS for name, module, says in commands
} | {"__complete": ("completing", "")}

#: Global options that take a value: needed to find the command among the arguments.
_WITH_VALUE = ("-c", "--config", "--state")


class Parser(argparse.ArgumentParser):
    """A parser whose errors are ours: one sentence and where to read more."""

    def error(self, message: str) -> "NoReturn":
        """Raise instead of printing the usage and leaving.

        Raises:
            UsageError: Always.
        """
        msg = f"{self.prog}: {message}\n  {self.prog} --help"
        raise UsageError(msg)

    def _check_value(self, action: argparse.Action, value: "Any") -> None:
        """Answer a verb that does not exist with the one that was most likely meant."""
        if isinstance(action.choices, dict) and value not in action.choices:
            from holdfast.cli.words import nearest

            meant = nearest(str(value), list(action.choices))
            hint = (
                f'Did you mean "{self.prog} {meant}"?'
                if meant
                else f"{self.prog} --help lists what there is"
            )
            msg = f'there is no "{self.prog} {value}"\n  {hint}'
            raise UsageError(msg)
        super()._check_value(action, value)


class Formatter(argparse.RawDescriptionHelpFormatter):
    """Knows the width without `import shutil`: argparse makes one of these for every argument it declares."""

    def __init__(self, prog: str) -> None:
        columns, _ = size_of()
        super().__init__(prog, max_help_position=32, width=min(columns, 110) - 2)


def load(command: str) -> "CommandModule":
    """Import the module of a command."""
    module: Any = import_module(f"holdfast.cli.{COMMANDS[command][0]}")
    return module  # type: ignore[no-any-return]


def parser_for(command: str) -> Parser:
    """Return the parser of one command, with the global options."""
    says = COMMANDS[command][1]
    parser = Parser(
        prog=f"holdfast {command}",
        description=says[:1].upper() + says[1:] + "." if says else None,
        allow_abbrev=False,
        formatter_class=Formatter,
    )
    parser.set_defaults(command=command)
    load(command).add_arguments(parser)
    add_global(parser)
    return parser


def add_file(parser: argparse.ArgumentParser) -> None:
    """Declare the configuration file that a command is about."""
    parser.add_argument(
        "file",
        nargs="?",
        metavar="CONFIG",
        help="the file (default: the nearest holdfast.toml or .crossbar/config.json)",
    )


def add_verb(verbs: "Any", name: str, says: str) -> argparse.ArgumentParser:
    """Declare a word that may follow a command; the options of every command may stand before it and behind it."""
    made: argparse.ArgumentParser = verbs.add_parser(
        name, help=says, description=says[:1].upper() + says[1:] + ".", allow_abbrev=False, formatter_class=Formatter
    )  # fmt: skip
    before = len(made._actions)  # noqa: SLF001 -- no public list
    add_global(made)
    for action in made._actions[before:]:  # noqa: SLF001 -- no public list
        action.default = argparse.SUPPRESS  # what stood before the word stays
    return made


def add_global(parser: argparse.ArgumentParser) -> None:
    """Declare the options that every command has."""
    group = parser.add_argument_group("which node, and how to print")
    group.add_argument(
        "-c",
        "--config",
        metavar="PATH",
        help="configuration file (default: the nearest holdfast.toml)",
    )
    group.add_argument(
        "--state", metavar="DIR", help="state directory of the node (default: the configuration's)"
    )
    group.add_argument("--json", action="store_true", help="print JSON, in a shape that stays")
    group.add_argument("--no-color", action="store_true", help="no colour; as with NO_COLOR=1")


def verbs(parser: argparse.ArgumentParser) -> "list[tuple[str, str, argparse.ArgumentParser]]":
    """Return the words that may follow a command, with what each does and its parser; most commands have none."""
    for action in parser._actions:  # noqa: SLF001 -- argparse has no public way to list them
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001
            says = {choice.dest: choice.help or "" for choice in action._choices_actions}  # noqa: SLF001
            return [(name, says[name], found) for name, found in action.choices.items()]
    return []


def find_command(argv: "list[str]") -> int:
    """Return where in the arguments the command is; -1 when there is none."""
    at = 0
    while at < len(argv):
        word = argv[at]
        if word in _WITH_VALUE:
            at += 2
        elif word.startswith("-"):
            at += 1
        else:
            return at
    return -1


def overview() -> str:
    """Return the text of ``holdfast --help``."""
    lines = [
        "usage: holdfast [-c PATH | --state DIR] [--json] [--no-color] COMMAND …",
        "",
        "A crash-only application host: it keeps programs running, keeps the evidence, and verifies the cure.",
    ]
    for heading, entries in GROUPS:
        lines += ["", f"{heading}:"]
        lines += [f"  {name:<12}{says}" for name, _, says in entries]
    lines += [
        "",
        "holdfast COMMAND --help tells the options of one command.",
        "Exit statuses: 0 done, 1 failed, 2 wrong usage or configuration, 3 not running, 4 already running, 5 damaged state.",
    ]
    return "\n".join(lines)


def say(text: str) -> None:
    """Write a sentence for the person: to stderr, so that stdout stays clean for what was asked for."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()
