"""In which words does a port speak of statuses, errors and times?

Apart from the rest because a port that only has WebSockets needs nothing else of HTTP: h11 and the services are imported with the
first plain request (2 MB and 30 ms that most restarts of a router do not pay).
"""

import time

TEXT = (("Content-Type", "text/plain; charset=utf-8"), ("X-Content-Type-Options", "nosniff"))

# Not strftime's, which speaks the language of the machine.
_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")

_date = (-1, "")


class ClientGone(Exception):  # noqa: N818 -- nobody's error
    """The client has left: nobody reads the answer. Not an error of anybody here."""


def reason(status: int) -> str:
    """The words for a status; empty for one that nobody knows."""
    from http import HTTPStatus

    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""


def error_text(status: int, says: str) -> bytes:
    """The page of an error: short, plain, and what to do."""
    return f"{status} {reason(status)}\n{says}\n".encode()


def http_date(unix_s: float) -> str:
    """A time as headers write it."""
    global _date
    second = int(unix_s)
    if _date[0] != second:
        t = time.gmtime(second)
        day, month = _DAYS[t.tm_wday], _MONTHS[t.tm_mon - 1]
        clock = f"{t.tm_hour:02}:{t.tm_min:02}:{t.tm_sec:02}"
        _date = (second, f"{day}, {t.tm_mday:02} {month} {t.tm_year:04} {clock} GMT")
    return _date[1]
