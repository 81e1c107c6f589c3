"""How do other programs write a moment? As RFC 3339, in UTC, with milliseconds."""

from datetime import UTC, datetime


def rfc3339(unix_s: float) -> str:
    """Return a Unix time as ``2026-01-31T12:00:00.123Z``."""
    stamp = datetime.fromtimestamp(unix_s, UTC).isoformat(timespec="milliseconds")
    return stamp.replace("+00:00", "Z")
