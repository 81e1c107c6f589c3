"""How are words, variables and paths spelled in a unit file of systemd, so that systemd reads what was meant?

Quoting only (systemd.syntax, systemd.service "Command lines", systemd.unit "Specifiers"): ``%`` begins a specifier
everywhere, ``$`` a variable in commands alone, and C escapes are understood inside quotes.
"""

import re

_BARE = re.compile(r"[A-Za-z0-9_./:=,@+-]+")
_ESCAPES = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\t": "\\t", "\r": "\\r"}


def command(argv: list[str]) -> str:
    """Return a command line of ``Exec…=``; the first word is an absolute path."""
    return " ".join(_word(word.replace("$", "$$")) for word in argv)


def variable(name: str, value: str) -> str:
    """Return what stands behind ``Environment=``."""
    return _word(f"{name}={value}", quote=True)


def path(text: str) -> str:
    """Return a path of a setting that takes exactly one, and no quotes."""
    return text.replace("%", "%%")


def sentence(text: str) -> str:
    """Return a text for a comment or ``Description=``: one line of it."""
    return " ".join(text.split()).replace("%", "%%")


def unit(sections: dict[str, list[tuple[str, str]]], remarks: list[str]) -> str:
    """Return a unit file; a comment's lines stand above the first section."""
    lines = [f"# {line}".rstrip() for remark in remarks for line in remark.splitlines()]
    for name, settings in sections.items():
        if settings:
            lines += ["", f"[{name}]", *(f"{key}={value}" for key, value in settings)]
    return "\n".join(lines).lstrip("\n") + "\n"


def _word(text: str, *, quote: bool = False) -> str:
    text = text.replace("%", "%%")
    if not quote and _BARE.fullmatch(text):
        return text
    return '"' + "".join(map(_character, text)) + '"'


def _character(char: str) -> str:
    if char in _ESCAPES:
        return _ESCAPES[char]
    # Bytes that were no UTF-8 arrive as lone surrogates and leave as the bytes they were.
    if "\udc80" <= char <= "\udcff":
        return f"\\x{ord(char) - 0xDC00:02x}"
    return f"\\x{ord(char):02x}" if char < " " or char == "\x7f" else char
