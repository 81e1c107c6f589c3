"""How is an instant written in RFC 3339, and read back?

The meta API and event history speak in such strings. No clock here (`datetime` has one, so it is not for rules): seconds since 1970
come in and go out. The conversion between days and dates is Howard Hinnant's, which is exact for every year that has four digits.
"""

import re

_SHAPE = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt ](\d\d):(\d\d):(\d\d)(\.\d+)?(?:[Zz]|([+-])(\d\d):(\d\d))", re.ASCII
)


def rfc3339(unix_s: float) -> str:
    """Write an instant as UTC with milliseconds."""
    milliseconds = round(unix_s * 1000)
    seconds, thousandth = divmod(milliseconds, 1000)
    days, second = divmod(seconds, 86_400)
    year, month, day = _date(days)
    return (
        f"{year:04}-{month:02}-{day:02}T{second // 3600:02}:{second // 60 % 60:02}:{second % 60:02}"
        f".{thousandth:03}Z"
    )


def unix_s_of(text: str) -> float | None:
    """Read an instant; None when it is not one."""
    found = _SHAPE.fullmatch(text)
    if found is None:
        return None
    year, month, day, hour, minute, second = (int(part) for part in found.groups()[:6])
    if not (1 <= month <= 12 and 1 <= day <= 31 and hour < 24 and minute < 60 and second <= 60):
        return None
    fraction = float(found[7]) if found[7] else 0.0
    offset = (int(found[9]) * 3600 + int(found[10]) * 60) if found[8] else 0
    return (
        _days(year, month, day) * 86_400.0
        + hour * 3600
        + minute * 60
        + second
        + fraction
        - (-offset if found[8] == "-" else offset)
    )


def _date(days: int) -> tuple[int, int, int]:
    era, of_era = divmod(days + 719_468, 146_097)
    year = (of_era - of_era // 1460 + of_era // 36_524 - of_era // 146_096) // 365
    of_year = of_era - (365 * year + year // 4 - year // 100)
    month = (5 * of_year + 2) // 153
    day = of_year - (153 * month + 2) // 5 + 1
    month = month + 3 if month < 10 else month - 9
    return year + era * 400 + (month <= 2), month, day


def _days(year: int, month: int, day: int) -> int:
    year -= month <= 2
    era, of_era = divmod(year, 400)
    of_year = (153 * (month - 3 if month > 2 else month + 9) + 2) // 5 + day - 1
    return era * 146_097 + of_era * 365 + of_era // 4 - of_era // 100 + of_year - 719_468
