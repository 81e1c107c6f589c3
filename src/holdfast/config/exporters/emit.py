"""How is YAML written so that every reader reads back what was meant?

The part of YAML that needs no thought: block mappings and lists, and texts in double quotes unless they are plain words
beyond doubt (not ``no``, ``1e3``, ``0x10``, ``12:30``). Writing only; reading is PyYAML's business.
"""

import re

#: Begins with a letter, and none of the characters that mean something.
_PLAIN = re.compile(r"[A-Za-z_/][A-Za-z0-9_./-]*")
#: Words that YAML 1.1 or 1.2 takes for something else than a text.
_TAKEN = {"true", "false", "yes", "no", "on", "off", "y", "n", "null", "nan", "inf"}
_ESCAPES = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\t": "\\t", "\r": "\\r", "\0": "\\0"}
#: Printable in YAML, and no line break of it.
_PRINTABLE = re.compile(
    "[\x20-\x7e\xa0-\u2027\u202a-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]"
)


class Lines(str):
    """A text of many lines that a person is to read and edit: it stays as it is, where YAML allows that."""

    __slots__ = ()


def document(value: object, remarks: "list[str] | tuple[str, ...]" = ()) -> str:
    """Return a document: a mapping or a list, with comments above it."""
    head = [f"# {line}".rstrip() for remark in remarks for line in remark.splitlines()]
    return "\n".join([*map(_comment, head), *_block(value, "")]) + "\n"


def scalar(value: object) -> str:
    """Return a single value as it stands behind a key."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        # YAML 1.1 takes `1e+16` for a text: a point, and no exponent.
        return f"{value:.6f}".rstrip("0") + ("0" if value == int(value) else "")
    if isinstance(value, str):
        return text(value)
    message = f"not a YAML value: {value!r}"
    raise TypeError(message)


def text(value: str) -> str:
    """Return a text, quoted unless it is a plain word."""
    if _PLAIN.fullmatch(value) and value.lower() not in _TAKEN:
        return value
    return '"' + "".join(map(_character, value)) + '"'


def _character(char: str) -> str:
    if char in _ESCAPES:
        return _ESCAPES[char]
    if _PRINTABLE.fullmatch(char):
        return char
    code = ord(char)
    if code <= 0xFF:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"


def _comment(line: str) -> str:
    return "".join(char if _PRINTABLE.fullmatch(char) else "?" for char in line)


def _block(value: object, indent: str) -> list[str]:
    if isinstance(value, dict) and value:
        lines = []
        for key, item in value.items():
            lines += _entry(f"{indent}{scalar(key)}:", item, indent)
        return lines
    if isinstance(value, (list, tuple)) and value:
        lines = []
        for item in value:
            below = _block(item, f"{indent}  ")
            # The first line of what is below moves up behind the dash.
            lines += [f"{indent}- {below[0].lstrip(' ')}", *below[1:]]
        return lines
    return [f"{indent}{_empty(value)}"]


def _entry(head: str, item: object, indent: str) -> list[str]:
    if isinstance(item, (dict, list, tuple)) and item:
        return [head, *_block(item, f"{indent}  ")]
    if isinstance(item, Lines) and (sign := _literal_sign(item)):
        below = [
            f"{indent}  {line}" if line else "" for line in item.removesuffix("\n").split("\n")
        ]
        return [f"{head} {sign}", *below]
    return [f"{head} {_empty(item)}"]


def _literal_sign(text: str) -> str:
    """Return what a block of lines begins with; empty where it has to be quoted.

    A blank at the beginning would be taken for more indentation, blank lines at the end for none, and what is no printable character
    or another kind of line break cannot stand in a block.
    """
    lines = text.removesuffix("\n").split("\n")
    if not lines[0] or lines[0][0] in " \t" or not lines[-1].strip():
        return ""
    if not all(char == "\t" or _PRINTABLE.fullmatch(char) for line in lines for char in line):
        return ""
    return "|" if text.endswith("\n") else "|-"


def _empty(value: object) -> str:
    if isinstance(value, dict):
        return "{}"
    if isinstance(value, (list, tuple)):
        return "[]"
    return scalar(value)
