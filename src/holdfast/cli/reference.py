"""What does docs/reference/cli.md say? It is made from the parsers, so it cannot be out of date.

    python -m holdfast.cli.reference > docs/reference/cli.md

A test compares the two.
"""

import argparse
import sys

from holdfast.cli import commands

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection

_HEAD = """\
# Command line

This page is made from the program (`python -m holdfast.cli.reference`); a test keeps it up to date.
The shapes of `--json` are in [json.md](json.md), the exit statuses in [exit-statuses.md](exit-statuses.md).

    holdfast [-c PATH | --state DIR] [--json] [--no-color] COMMAND …

A node is found by `--state DIR`, else by `--config PATH`, else by the nearest `holdfast.toml` in the current directory or above it.
The options below may stand before or after the command.
"""


def page() -> str:
    """Return the whole page."""
    parts = [_HEAD, _table(rows(global_parser())), ""]
    for heading, entries in commands.GROUPS:
        parts += ["", f"## {heading[:1].upper()}{heading[1:]}"]
        for name, _, says in entries:
            parts += ["", *_section(name, says)]
    return "\n".join(parts) + "\n"


def global_parser() -> argparse.ArgumentParser:
    """Return a parser with the options that every command has."""
    parser = commands.Parser(prog="holdfast", add_help=False)
    commands.add_global(parser)
    return parser


def _section(name: str, says: str) -> "list[str]":
    parser = commands.parser_for(name)
    everywhere = {spelling for spelling, _ in rows(global_parser())} | {"`-h`, `--help`"}
    own = [row for row in rows(parser) if row[0] not in everywhere]
    lines = [
        f"### holdfast {name}",
        "",
        f"    {usage(name, parser)}",
        "",
        f"{says[:1].upper()}{says[1:]}.",
    ]
    if own:
        lines += ["", _table(own)]
    if parser.epilog:
        lines += ["", *(f"    {line}" for line in parser.epilog.splitlines())]
    for verb, says_verb, of_verb in commands.verbs(parser):
        lines += [
            "",
            *_verb_section(f"{name} {verb}", says_verb, of_verb, {row[0] for row in rows(parser)}),
        ]
    return lines


def _verb_section(
    name: str, says: str, parser: argparse.ArgumentParser, everywhere: "set[str]"
) -> "list[str]":
    own = [row for row in rows(parser) if row[0] not in everywhere]
    words = usage(name, parser, hidden={"store", "prefix"})
    lines = [f"#### holdfast {name}", "", f"    {words}", "", f"{says[:1].upper()}{says[1:]}."]
    return [*lines, "", _table(own)] if own else lines


def usage(name: str, parser: argparse.ArgumentParser, hidden: "Collection[str]" = ()) -> str:
    """Return the line that shows what may follow a command; ``hidden`` are names of more arguments to leave out."""
    words = [f"holdfast {name}"]
    mine = {*hidden} | {action.dest for action in global_parser()._actions}  # noqa: SLF001 -- no public list
    for action in parser._actions:  # noqa: SLF001 -- no public list
        if action.dest in mine or action.dest == "help":
            continue
        if action.option_strings:
            words.append(f"[{_spelled(action, ' | ')}]")
        else:
            words.append(_positional(action))
    return " ".join(words)


def rows(parser: argparse.ArgumentParser) -> "list[tuple[str, str]]":
    """Return spelling and meaning of everything a parser takes."""
    found = []
    for action in parser._actions:  # noqa: SLF001 -- no public list
        if action.help == argparse.SUPPRESS:
            continue
        spelling = _spelled(action, "`, `") if action.option_strings else _positional(action)
        says = action.help or ""
        if isinstance(action.choices, dict):
            says = "what to do, see below"
        elif action.choices and not action.metavar:
            says = says or "one of these"
        found.append((f"`{spelling}`", says))
    return found


def _spelled(action: argparse.Action, between: str) -> str:
    value = "" if action.nargs == 0 else f" {_value(action)}"
    return between.join(f"{option}{value}" for option in action.option_strings)


def _positional(action: argparse.Action) -> str:
    value = _value(action)
    return {"?": f"[{value}]", "*": f"[{value} …]", "+": f"{value} [{value} …]"}.get(
        str(action.nargs), value
    )


def _value(action: argparse.Action) -> str:
    if isinstance(action.metavar, str):
        return action.metavar
    if action.choices:
        return "|".join(str(choice) for choice in action.choices)
    return action.dest.upper()


def _table(rows: "list[tuple[str, str]]") -> str:
    escaped = [(spelling.replace("|", "\\|"), says.replace("|", "\\|")) for spelling, says in rows]
    return "\n".join(
        ["| argument | meaning |", "|---|---|", *(f"| {a} | {b} |" for a, b in escaped)]
    )


if __name__ == "__main__":
    sys.stdout.write(page())
