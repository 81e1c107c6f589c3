"""What was asked for, and what is answered? Small values between HTTP and the modules that know the node.

So that these are plain functions of a :class:`Ask`, without a request or a response in sight: they run in a thread and may block. Leaves out HTTP itself
(:mod:`holdfast.dashboard.web`).
"""

from math import isnan
from typing import Any, NamedTuple

from holdfast.model.errors import HoldfastError, NodeError, NotRunning, StateError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from holdfast.dashboard.access.rules import Who

#: No list is longer than this.
MOST = 1000


class Ask(NamedTuple):
    """One request."""

    parts: "Mapping[str, str]"  #: of the path
    query: "Mapping[str, str]"
    body: "Mapping[str, Any]"  #: of a POST
    who: "Who | None"

    def part(self, name: str) -> str:
        """Return a part of the path."""
        return self.parts[name]

    def number(self, name: str, default: float, least: float, most: float) -> float:
        """Return a number of the query, within bounds.

        Raises:
            Refused: It is none.
        """
        text = self.query.get(name)
        if not text:
            return default
        try:
            value = float(text)
        except ValueError:
            value = float("nan")
        if isnan(value):
            raise Refused(400, f'"{text[:40]}" is not a number', f"{name}={default:g}")
        return min(most, max(least, value))

    def how_many(self, name: str, default: int, most: int = MOST) -> int:
        """Return how many are wanted."""
        return int(self.number(name, default, 1, most))

    def text(self, name: str, default: str = "") -> str:
        """Return a text of the body.

        Raises:
            Refused: It is something else.
        """
        value = self.body.get(name, default)
        if not isinstance(value, str) or len(value) > 200:
            raise Refused(400, f'"{name}" has to be a text of at most 200 letters')
        return value


class Refused(Exception):  # noqa: N818 -- reads as what it says
    """It is not answered; the sentence is for a person."""

    def __init__(self, status: int, says: str, hint: str = "") -> None:
        super().__init__(says)
        self.status, self.hint = status, hint

    def to_json(self) -> dict[str, Any]:
        """Return what is sent."""
        return {"error": str(self), **({"hint": self.hint} if self.hint else {})}


class Plain(NamedTuple):
    """An answer that is no JSON."""

    body: "bytes | Iterator[bytes]"
    kind: str = "text/plain; charset=utf-8"
    headers: "tuple[tuple[str, str], ...]" = ()


class Accepted(NamedTuple):
    """It is being done."""

    body: dict[str, Any]


def refused(error: Exception) -> Refused:
    """Return how an error of the node's own modules is told; its first line is the sentence, the others say what to do."""
    says, _, hint = str(error).partition("\n")
    status = 500
    if isinstance(error, HoldfastError):
        status = {UsageError: 404, StateError: 404, NotRunning: 503, NodeError: 409}.get(type(error), 500)  # fmt: skip
    return Refused(status, says, "\n".join(line.strip() for line in hint.splitlines()))
