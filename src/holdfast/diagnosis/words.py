"""How do figures read to a person: a status, a time, a size, an age?

Pure: no clock and no time zone of its own. Whoever prints passes the offset from UTC. Left out: which of
these figures matter (see ``findings``).
"""

#: Number -> (name, what it usually means). The numbers are those of x86-64, arm64 and RISC-V alike.
SIGNALS = {
    1: ("SIGHUP", "its terminal or parent went away"),
    2: ("SIGINT", "interrupted, as by Ctrl-C"),
    3: ("SIGQUIT", "asked to quit"),
    4: ("SIGILL", "illegal instruction"),
    5: ("SIGTRAP", "trace trap"),
    6: ("SIGABRT", "it aborted itself"),
    7: ("SIGBUS", "bus error"),
    8: ("SIGFPE", "arithmetic error"),
    9: ("SIGKILL", "killed from outside"),
    10: ("SIGUSR1", "user signal 1"),
    11: ("SIGSEGV", "segmentation fault"),
    12: ("SIGUSR2", "user signal 2"),
    13: ("SIGPIPE", "wrote into a closed pipe"),
    14: ("SIGALRM", "its alarm went off"),
    15: ("SIGTERM", "asked to end"),
    24: ("SIGXCPU", "over its limit of CPU time"),
    25: ("SIGXFSZ", "over its limit of file size"),
    31: ("SIGSYS", "made a forbidden system call"),
}
#: Signals that a program gets for its own fault.
FAULTS = frozenset({4, 5, 6, 7, 8, 11, 31})

#: Exit statuses with an agreed meaning: sysexits.h and the shells.
_STATUSES = {
    0: "it ended by itself, without an error",
    1: "a general error",
    2: "wrong usage",
    64: "wrong usage",
    65: "wrong input data",
    66: "input missing",
    67: "no such user",
    68: "no such host",
    69: "a service is unavailable",
    70: "an internal error of the program",
    71: "a system error",
    72: "a system file is missing",
    73: "cannot create its output",
    74: "an input or output error",
    75: "a temporary failure",
    76: "a protocol error",
    77: "no permission",
    78: "wrong configuration",
    126: "the command could not be executed",
    127: "the command was not found",
}


def signal_of(status: "int | None") -> int:
    """Return the number of the signal that ended a process; 0 when none did."""
    return 0 if status is None else status & 0x7F


def exit_code_of(status: "int | None") -> "int | None":
    """Return the status a process exited with; None when it did not exit by itself."""
    return None if status is None or status & 0x7F else status >> 8 & 0xFF


def signal_name(number: int) -> str:
    """Return the name of a signal."""
    return SIGNALS[number][0] if number in SIGNALS else f"signal {number}"


def status_words(status: "int | None") -> str:
    """Put a raw wait status into words; None is a status that nobody could tell."""
    if status is None:
        return "ended, and nobody could tell how"
    number = signal_of(status)
    if number:
        core = ", core dumped" if status & 0x80 else ""
        meaning = f" ({SIGNALS[number][1]}{core})" if number in SIGNALS else ""
        return f"killed by {signal_name(number)}{meaning}"
    code = status >> 8 & 0xFF
    if code in _STATUSES:
        return f"exited with status {code}: {_STATUSES[code]}"
    if code > 128 and code - 128 in SIGNALS:
        return f"exited with status {code}: as shells do when {signal_name(code - 128)} ended a command"
    return f"exited with status {code}"


def duration(seconds: float) -> str:
    """Return a length of time, to two figures that matter: "0.35 s", "41 min", "3 h 5 min"."""
    if seconds < 0:
        return "0 s"
    if seconds < 1:
        return f"{seconds:.2g} s"
    if seconds < 90:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes = int(seconds / 60 + 0.5)
    if minutes < 90:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 24:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    days, hours = divmod(hours, 24)
    return f"{days} d {hours} h" if hours else f"{days} d"


def size(count: float) -> str:
    """Return a number of bytes in binary units."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(count) < 1024:
            return (
                f"{count:.0f} {unit}"
                if count >= 10 or count == int(count)
                else f"{count:.1f} {unit}"
            )
        count /= 1024
    return f"{count:.0f} TiB" if count >= 10 else f"{count:.1f} TiB"


def clock(unix_s: float, offset_s: int = 0, *, date: bool = True) -> str:
    """Return a wall-clock time: "2024-11-03 03:11:42 UTC", or the time of day alone.

    Args:
        unix_s: Seconds since 1970.
        offset_s: What the reader's time zone adds to UTC.
        date: With the date and the zone.
    """
    days, seconds = divmod(int(unix_s) + offset_s, 86400)
    day_time = f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"
    if not date:
        return day_time
    hours, minutes = divmod(abs(offset_s) // 60, 60)
    zone = f"{'+' if offset_s > 0 else '-'}{hours:02}:{minutes:02}" if offset_s else "UTC"
    return f"{day(days)} {day_time} {zone}"


def day(days: int) -> str:
    """Return the date, as 2024-11-03, of a day counted from 1970-01-01.

    Howard Hinnant's civil_from_days; ``datetime`` is a clock, and rules have none.
    """
    days += 719468
    era, of_era = divmod(days, 146097)
    year_of_era = (of_era - of_era // 1460 + of_era // 36524 - of_era // 146096) // 365
    of_year = of_era - (365 * year_of_era + year_of_era // 4 - year_of_era // 100)
    shifted = (5 * of_year + 2) // 153
    month = shifted + 3 if shifted < 10 else shifted - 9
    year = year_of_era + era * 400 + (month <= 2)
    return f"{year:04}-{month:02}-{of_year - (153 * shifted + 2) // 5 + 1:02}"


def one_line(text: str, longest: int = 160) -> str:
    """Return text fit for a title: no control characters, one line, cut with an ellipsis."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return line if len(line) <= longest else line[: longest - 1].rstrip() + "…"
