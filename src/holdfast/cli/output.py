"""How is an answer printed for a program: JSON on stdout, one document or one object a line.

The shapes are in docs/reference/json.md; a key that is there stays there.
"""

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def document(value: "Any") -> None:
    """Print one JSON document, indented: programs do not mind, people look at it, too."""
    from json import dumps

    sys.stdout.write(dumps(value, indent=2, ensure_ascii=False) + "\n")


def line(value: "Any") -> None:
    """Print one JSON object on a line of its own."""
    from holdfast.wire.jsonlite import dumps

    sys.stdout.write(dumps(value) + "\n")
