"""How do figures read to a person: spans of time, sizes, shares, moments, and the name that was meant?

And back: what a person types for a span or a moment. Leaves out colour and layout
(:mod:`holdfast.cli.terminal`, :mod:`holdfast.cli.table`). Imports nothing that `status` would have to wait for.
"""

from holdfast.model.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}


def span(seconds: "float | None") -> str:
    """Return a span of time in at most six characters: ``0.3s``, ``42s``, ``3m12s``, ``4h05m``, ``12d03h``, ``999d``."""
    if seconds is None:
        return "-"
    seconds = max(0.0, seconds)
    if seconds < 9.95:
        return f"{seconds:.1f}s"
    whole = int(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    if whole < 86400:
        return f"{whole // 3600}h{whole % 3600 // 60:02d}m"
    days = whole // 86400
    return f"{days}d{whole % 86400 // 3600:02d}h" if days < 100 else f"{days}d"


def size(count: "int | None") -> str:
    """Return a number of bytes in at most five characters: ``312K``, ``9.4M``, ``1.2G``."""
    if count is None:
        return "-"
    value = float(count)
    for unit in "BKMGT":
        if value < 9.95 and unit not in "BK":
            return f"{value:.1f}{unit}"
        if value < 999.5:
            return f"{value:.0f}{unit}"
        value /= 1024
    return f"{value:.0f}P"


def share(value: "float | None") -> str:
    """Return a share of one core as a percentage."""
    if value is None:
        return "-"
    return f"{value * 100:.1f}%" if value < 0.0995 else f"{value * 100:.0f}%"


def count(number: int, noun: str) -> str:
    """Return ``1 worker``, ``7 workers``."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def parse_span(text: str) -> float:
    """Return the seconds that ``90``, ``10m``, ``1h30m`` or ``2d`` mean.

    Raises:
        UsageError: It is not a span of time.
    """
    rest = text.strip().lower()
    total = 0.0
    if not rest:
        raise _no_span(text)
    while rest:
        digits = len(rest) - len(rest.lstrip("0123456789."))
        number, rest = rest[:digits], rest[digits:]
        letters = len(rest) - len(rest.lstrip("mshdw"))
        unit, rest = rest[:letters] or "s", rest[letters:]
        try:
            total += float(number) * _UNITS[unit]
        except (ValueError, KeyError):
            raise _no_span(text) from None
    return total


def _no_span(text: str) -> UsageError:
    return UsageError(f'"{text}" is not a span of time\n  write 90 (seconds), 10m, 1h30m or 2d')


def parse_moment(text: str, now_unix_s: float) -> float:
    """Return the moment that is meant by a span back from now, a clock time of today, or a date.

    Raises:
        UsageError: It is none of these.
    """
    if text[:1].isdigit() and not ("-" in text or ":" in text):
        return now_unix_s - parse_span(text)
    from datetime import datetime

    try:
        if "-" not in text:
            today = datetime.fromtimestamp(now_unix_s).astimezone().strftime("%Y-%m-%d")
            return datetime.fromisoformat(f"{today} {text.zfill(5)}").astimezone().timestamp()
        return datetime.fromisoformat(text).astimezone().timestamp()
    except ValueError:
        msg = (
            f'"{text}" is not a moment\n'
            '  write a span back from now (10m, 2h), a time of today (14:30), or a date ("2024-11-03 14:30")'
        )
        raise UsageError(msg) from None


def nearest(name: str, names: "Iterable[str]") -> str:
    """Return the one of ``names`` that was most likely meant, or nothing."""
    from difflib import get_close_matches

    found = get_close_matches(name, list(names), 1, 0.6)
    return found[0] if found else ""


def unknown(what: str, name: str, names: "Sequence[str]") -> UsageError:
    """Return the error for a name that does not exist, with the one that was most likely meant."""
    meant = nearest(name, names)
    if meant:
        return UsageError(f'there is no {what} "{name}"\n  Did you mean "{meant}"?')
    if not names:
        return UsageError(f'there is no {what} "{name}": there is none at all')
    some = ", ".join(names[:8]) + (f", … ({len(names)} in all)" if len(names) > 8 else "")
    return UsageError(f'there is no {what} "{name}"\n  there are: {some}')
