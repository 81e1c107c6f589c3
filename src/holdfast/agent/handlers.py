"""Which line adds handlers to a logger again and again?

A function that fetches its logger and adds a handler each time makes every line be written once more with each call: slow, and then a storm. Nobody adds
more than a handful on purpose. Costs a microsecond for each handler that is added.
"""

import sys

from holdfast.agent.calls import is_own_frame
from holdfast.agent.sites import SITES, place

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import CodeType, FrameType
    from typing import Any

#: So many of one logger are told.
MANY = 20
_MOST_LOGGERS = 200
#: By logger: how many handlers it has.
numbers: "dict[str, int]" = {}
#: By logger and line: how many were added there.
added: "dict[tuple[str, CodeType, int], int]" = {}


def install(logging: "Any") -> None:
    """Note who adds handlers from now on."""
    original = logging.Logger.addHandler
    if hasattr(original, "holdfast_original"):
        return

    def addHandler(self: "Any", hdlr: "Any") -> None:  # noqa: N802 -- its name
        original(self, hdlr)
        _note(str(self.name), len(self.handlers), sys._getframe(1))  # noqa: SLF001

    addHandler.__qualname__, addHandler.__doc__ = original.__qualname__, original.__doc__
    addHandler.holdfast_original = original  # type: ignore[attr-defined]
    logging.Logger.addHandler = addHandler


def told(most: int) -> "list[list[Any]]":
    """Return (handlers of the logger, added there, logger, place) of loggers that have far too many, most first."""
    rows = sorted(added.items(), key=lambda row: -row[1])
    return [
        [numbers[name], count, name, place(code, at)]
        for (name, code, at), count in rows
        if numbers.get(name, 0) >= MANY
    ][:most]


def _note(name: str, number: int, frame: "FrameType | None") -> None:
    if name not in numbers and len(numbers) >= _MOST_LOGGERS:
        return
    numbers[name] = number
    one = frame
    while one is not None and not is_own_frame(one):
        one = one.f_back
    one = one or SITES.outer(frame)
    if one is not None and len(added) < _MOST_LOGGERS * 10:
        key = (name, one.f_code, one.f_lasti)
        added[key] = added.get(key, 0) + 1
