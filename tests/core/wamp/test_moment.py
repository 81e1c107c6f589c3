"""Instants in RFC 3339."""

import datetime

from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.core.wamp.moment import rfc3339, unix_s_of

UTC = datetime.UTC


@settings(max_examples=200, deadline=None)
@given(st.datetimes(datetime.datetime(1000, 1, 1), datetime.datetime(9999, 12, 31)))  # noqa: DTZ001
def test_every_instant_is_written_and_read_as_datetime_does(when: datetime.datetime) -> None:
    """Own calendar arithmetic has to be right on leap days, too."""
    when = when.replace(microsecond=when.microsecond // 1000 * 1000, tzinfo=UTC)
    unix_s = (when - datetime.datetime(1970, 1, 1, tzinfo=UTC)) / datetime.timedelta(seconds=1)

    written = rfc3339(unix_s)

    assert written == when.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    read = unix_s_of(written)
    assert read is not None
    assert abs(read - unix_s) < 0.001


def test_offsets_are_understood_and_nonsense_is_not() -> None:
    """A filter that reads "yesterday" as 1970 would return everything."""
    assert unix_s_of("1970-01-01T01:00:00+01:00") == 0.0
    assert unix_s_of("1969-12-31T23:30:00.5-00:30") == 0.5
    for nonsense in ("yesterday", "", "2024-13-01T00:00:00Z", "2024-01-01", "2024-01-01T00:00:00"):
        assert unix_s_of(nonsense) is None
