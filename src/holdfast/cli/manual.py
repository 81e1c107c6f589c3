"""What does docs/man/holdfast.1 say? It is made from the parsers, so it cannot be out of date.

    python -m holdfast.cli.manual > docs/man/holdfast.1

A test compares the two. Written in the man macros that groff and mandoc both know; leaves out what docs/reference explains.
"""

import argparse
import re
import sys

from holdfast.cli import commands, reference

_STATUSES = (
    ("0", "done"), ("1", "failed"), ("2", "wrong usage or configuration"), ("3", "the node does not run"),
    ("4", "the node runs already"), ("5", "damaged state"), ("70", "a fault of Holdfast itself"), ("130", "interrupted"),
)  # fmt: skip
_FILES = (
    ("holdfast.toml", "the configuration; the nearest one, from the current directory upwards"),
    (".holdfast/", "the state of the node: logs and incidents, beside the configuration"),
    ("/dev/shm/holdfast-UID/", "the run directories: gone after a boot"),  # noqa: S108 -- told, not used
)


def page() -> str:
    """Return the whole page."""
    lines = [
        '.\\" Made by `python -m holdfast.cli.manual`; a test keeps it up to date.',
        '.TH HOLDFAST 1 "" "Holdfast" "User Commands"',
        ".SH NAME",
        r"holdfast \- a crash-only application host",
        ".SH SYNOPSIS",
        r".B holdfast",
        r"[\fB\-c\fR \fIPATH\fR | \fB\-\-state\fR \fIDIR\fR] [\fB\-\-json\fR] [\fB\-\-no\-color\fR] \fICOMMAND\fR ...",
        ".SH DESCRIPTION",
        "It keeps programs running, keeps the evidence of each failure, and verifies the cure.",
        ".PP",
        _text("A node is found by --state DIR, else by --config PATH, else by the nearest holdfast.toml in the current directory or above it."),
        "The options of every command may stand before or after it.",
        ".SH OPTIONS OF EVERY COMMAND",
    ]  # fmt: skip
    for row in reference.rows(reference.global_parser()):
        lines += _item(*row)
    lines.append(".SH COMMANDS")
    for heading, entries in commands.GROUPS:
        lines.append(f".SS {_text(heading[:1].upper() + heading[1:])}")
        for name, _, says in entries:
            lines += _command(name, says)
    for heading, listed in (("EXIT STATUS", _STATUSES), ("FILES", _FILES)):
        lines.append(f".SH {heading}")
        for name, says in listed:
            lines += [".TP", rf"\fB{_text(name)}\fR", _text(says)]
    lines += [
        ".SH SEE ALSO",
        _text(
            "`holdfast docs` lists the pages that come with the program, `holdfast docs TOPIC` shows one."
        ),
    ]
    return "\n".join(lines) + "\n"


def _command(name: str, says: str) -> "list[str]":
    parser = commands.parser_for(name)
    everywhere = {spelling for spelling, _ in reference.rows(reference.global_parser())} | {
        "`-h`, `--help`"
    }
    lines = [
        ".TP",
        rf"\fB{_text(reference.usage(name, parser))}\fR",
        _text(f"{says[:1].upper()}{says[1:]}."),
    ]
    lines += _options(parser, everywhere)
    for verb, says_verb, of_verb in commands.verbs(parser):
        words = reference.usage(f"{name} {verb}", of_verb, hidden={"store", "prefix"})
        lines += [
            ".TP",
            rf"\fB{_text(words)}\fR",
            _text(f"{says_verb[:1].upper()}{says_verb[1:]}."),
        ]
        lines += _options(of_verb, everywhere | {row[0] for row in reference.rows(parser)})
    return lines


def _options(parser: argparse.ArgumentParser, everywhere: "set[str]") -> "list[str]":
    own = [row for row in reference.rows(parser) if row[0] not in everywhere]
    if not own:
        return []
    lines = [".RS"]
    for row in own:
        lines += _item(*row)
    return [*lines, ".RE"]


def _item(spelling: str, says: str) -> "list[str]":
    return [".TP", rf"\fB{_text(spelling.replace('`', ''))}\fR", _text(says or "see above")]


def _text(text: str) -> str:
    """Return a line of text in which nothing is a request, an escape or a hyphen that a terminal would change."""
    line = " ".join(text.split()).replace("\\", r"\e").replace("-", r"\-").replace("…", "...")
    line = (
        re.sub("[–—]", r"\\-", line)
        .replace("`", r"\(ga")
        .replace("'", r"\(aq")
        .replace("“", '"')
        .replace("”", '"')
    )
    return rf"\&{line}" if line.startswith(".") else line


if __name__ == "__main__":
    sys.stdout.write(page())
