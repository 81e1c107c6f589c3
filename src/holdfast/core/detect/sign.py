"""What a detector says when it believes that something is wrong: the number, the limit, and a sentence for a person."""


class Sign:
    """One belief. A grave one is a reason to act; any other is a reason to look: evidence is taken and it is shown."""

    __slots__ = ("is_grave", "limit", "says", "value")

    def __init__(self, value: float, limit: float, says: str, *, is_grave: bool = False) -> None:
        self.value = value
        self.limit = limit
        self.says = says
        self.is_grave = is_grave


def count(number: float) -> str:
    """Write a whole number as people do: 20,012."""
    return f"{round(number):,}"


def size(number: float) -> str:
    """Write a number of bytes in the unit that fits."""
    for unit in ("B", "KB", "MB"):
        if abs(number) < 1000:
            return f"{number:.3g} {unit}"
        number /= 1000
    return f"{number:.3g} GB"


def span(seconds: float) -> str:
    """Write a length of time in the unit that fits."""
    if seconds < 0.00995:
        return f"{seconds * 1000:.1g} ms"
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 120:
        return f"{seconds:.3g} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.0f} h"
