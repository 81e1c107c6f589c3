"""What can be said about a job beside its arguments, and is it right?

The settings of `@job(…)` and `.options(…)`: read once, where they are written, so that a mistake is an error there and not in
a worker. Spans of time and sizes are written as in holdfast.toml: "500ms", "30s", "10m", "2h", "7d"; "64K", "1M".
"""

import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import timedelta
    from typing import Any, TypedDict

    Span = float | str | timedelta

    class JobOptions(TypedDict, total=False):
        """What may be changed for some jobs of a kind: see :func:`holdfast.sdk.job`."""

        queue: str
        retries: int
        timeout: Span | None
        unique: bool | str | Callable[..., object]
        unique_for: Span | None
        result_for: Span | None
        backoff: tuple[Span, float, Span] | None
        limit: "Limit | None"
        expires_in: Span | None
        tags: Sequence[str]
        backtrace: bool | int
        max_payload: int | str
        dead: bool


#: As Sidekiq's web page accepts them.
_QUEUE = re.compile(r"[A-Za-z0-9_.:-]{1,100}")
_SPAN = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h|d)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?)([KMG]?)", re.IGNORECASE)
_UNTIL_START = "until_start"
#: Of a limit.
_MOST = 1_000_000_000


class JobSettingError(ValueError):
    """Something that was said about a job is wrong; the message names job, setting and value, and what would be right."""


class Limit:
    """How many jobs may run at a time, or start in a while; over the whole fleet.

    Args:
        key: What is counted: a text, or a function that makes one of the job's arguments
            (``lambda url: urlsplit(url).hostname``). Jobs with the same key share the limit. Default: the job's name.
        at_once: So many run at a time at most.
        rate: So many starts in so long at most: ``(10, "1s")``.
    """

    __slots__ = ("at_once", "key", "rate")

    def __init__(
        self,
        key: "str | Callable[..., object] | None" = None,
        at_once: int = 0,
        rate: "tuple[float, Span] | None" = None,
    ) -> None:
        count: Any = at_once
        name: Any = key
        if type(count) is not int or not 0 <= count <= _MOST:
            says = f"Limit(at_once={count!r}): it has to be a whole number above 0, and below {_MOST:,}"
            raise JobSettingError(says)
        if not at_once and rate is None:
            raise JobSettingError("Limit(): it limits nothing; give at_once=… or rate=(…, …)")
        if name is not None and not callable(name) and not (isinstance(name, str) and name):
            says = f"Limit(key={name!r}): it has to be a text, or a function that makes one of the arguments"
            raise JobSettingError(says)
        self.key = key
        self.at_once = at_once
        self.rate: tuple[int, float] | None = None
        if rate is not None:
            self.rate = _rate(rate)


class Settings:
    """All that was said about a job, read."""

    __slots__ = ("backoff", "backtrace", "dead", "expires_s", "limit", "max_bytes", "names_timeout", "queue", "result_s", "retries", "tags",
                 "timeout_s", "unique", "unique_s", "unique_until_start")  # fmt: skip

    def __init__(self) -> None:
        self.queue = "default"
        self.retries = 25
        self.timeout_s = 0.0  #: 0: the worker's
        self.names_timeout = False  #: it was changed for these jobs alone
        self.unique: str | Callable[..., object] = ""  #: "": no; "args": by all its arguments
        self.unique_s = 0.0
        self.unique_until_start = False
        self.result_s = 0.0
        self.backoff: tuple[float, float, float] | None = None
        self.limit: Limit | None = None
        self.expires_s = 0.0
        self.tags: tuple[str, ...] = ()
        self.backtrace: bool | int = True
        self.max_bytes = 1 << 20
        self.dead = True

    def changed(self, name: str, options: "dict[str, Any]") -> "Settings":
        """Return these settings with others in their place.

        Raises:
            JobSettingError: One is wrong, or there is none of this name.
        """
        made = Settings()
        for slot in Settings.__slots__:
            setattr(made, slot, getattr(self, slot))
        for key, value in options.items():
            reader = _READERS.get(key)
            if reader is None:
                known = ", ".join(sorted(_READERS))
                says = f"job {name}: there is no setting {key!r}; known: {known}"
                raise JobSettingError(says)
            try:
                reader(made, value)
            except JobSettingError as error:
                says = f"job {name}: {key}={value!r} {error}"
                raise JobSettingError(says) from None
        return made


def seconds_of(value: object) -> float:
    """Return a span of time in seconds: a number, a timedelta, or text as "10m".

    Raises:
        JobSettingError: It is none, or it is below 0.
    """
    total = getattr(value, "total_seconds", None)
    if total is not None:
        value = float(total())
    if isinstance(value, str):
        match = _SPAN.fullmatch(value)
        if match is not None:
            return float(match[1]) * _SECONDS[match[2]]
    elif isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1e11:
        return float(value)
    raise JobSettingError(
        'is no span of time; write seconds, or "500ms", "30s", "10m", "2h", "7d", or a timedelta'
    )


def bytes_of(value: "int | str") -> int:
    """Return a size in bytes: a number, or text as "64K", "1M".

    Raises:
        JobSettingError: It is none.
    """
    if isinstance(value, str):
        match = _SIZE.fullmatch(value)
        if match is not None:
            power = {"": 0, "K": 10, "M": 20, "G": 30}[match[2].upper()]
            return int(float(match[1]) * (1 << power))
    elif type(value) is int and value > 0:
        return value
    raise JobSettingError('is no size; write bytes, or "64K", "1M"')


def check_queue(queue: object) -> str:
    """Return the name of a queue.

    Raises:
        JobSettingError: It cannot be one.
    """
    if not isinstance(queue, str) or not _QUEUE.fullmatch(queue):
        raise JobSettingError(
            "cannot be the name of a queue: letters, digits and _ . : - only, at most 100"
        )
    if queue == "quarantine":
        raise JobSettingError(
            "is not for you: it is the lane where jobs that may have killed their worker run alone"
        )
    return queue


def _positive(value: "Span") -> float:
    span_s = seconds_of(value)
    if not span_s:
        raise JobSettingError("has to be more than nothing")
    return span_s


def _maybe(value: "Span | None") -> float:
    return 0.0 if value is None else _positive(value)


def _rate(rate: "Any") -> "tuple[int, float]":
    try:
        starts, span = rate
        if isinstance(starts, int | float) and 1 <= starts <= _MOST and starts == int(starts):
            return int(starts), _positive(span)
    except (TypeError, ValueError):  # a JobSettingError is a ValueError, too
        pass
    says = f'Limit(rate={rate!r}): it has to be (so many, in so long), as (10, "1s")'
    raise JobSettingError(says)


def _queue(settings: Settings, value: str) -> None:
    settings.queue = check_queue(value)


def _retries(settings: Settings, value: int) -> None:
    if type(value) is not int or value < 0:
        raise JobSettingError("has to be a whole number, 0 or more (0: the first failure is final)")
    settings.retries = value


def _timeout(settings: Settings, value: "Span | None") -> None:
    settings.timeout_s = _maybe(value)


def _unique(settings: Settings, value: "bool | str | Callable[..., object]") -> None:
    settings.unique_until_start = value == _UNTIL_START
    if callable(value):
        settings.unique = value
    elif value is False:
        settings.unique = ""
    elif value is True or value == _UNTIL_START:
        settings.unique = "args"
    else:
        raise JobSettingError(
            'has to be True (until it is done), "until_start", or a function that makes the key of the arguments'
        )


def _unique_for(settings: Settings, value: "Span | None") -> None:
    settings.unique_s = _maybe(value)


def _result_for(settings: Settings, value: "Span | None") -> None:
    settings.result_s = _maybe(value)


def _backoff(settings: Settings, value: "Any") -> None:
    if value is None:
        settings.backoff = None
        return
    try:
        base, factor, longest = value
        if isinstance(factor, int | float) and factor >= 1:
            settings.backoff = (_positive(base), float(factor), _positive(longest))
            return
    except (TypeError, ValueError):
        pass
    raise JobSettingError(
        'has to be (first delay, factor from 1 on, longest delay), as ("1s", 2, "10m")'
    )


def _limit(settings: Settings, value: object) -> None:
    if value is not None and not isinstance(value, Limit):
        raise JobSettingError("has to be a Limit(key=…, at_once=…, rate=…)")
    settings.limit = value


def _expires_in(settings: Settings, value: "Span | None") -> None:
    settings.expires_s = _maybe(value)


def _tags(settings: Settings, value: "Sequence[str]") -> None:
    if isinstance(value, str) or not all(isinstance(tag, str) for tag in value):
        raise JobSettingError('has to be several texts, as ("billing", "nightly")')
    settings.tags = tuple(value)


def _backtrace(settings: Settings, value: object) -> None:
    if not isinstance(value, int) or value < 0:
        raise JobSettingError("has to be True, False, or a number of lines")
    settings.backtrace = value


def _max_payload(settings: Settings, value: "int | str") -> None:
    settings.max_bytes = bytes_of(value)


def _dead(settings: Settings, value: object) -> None:
    if not isinstance(value, bool):
        raise JobSettingError("has to be True or False (False: not kept when it is given up)")
    settings.dead = value


_READERS: "dict[str, Callable[[Settings, Any], None]]" = {
    "queue": _queue, "retries": _retries, "timeout": _timeout, "unique": _unique, "unique_for": _unique_for,
    "result_for": _result_for, "backoff": _backoff, "limit": _limit, "expires_in": _expires_in, "tags": _tags,
    "backtrace": _backtrace, "max_payload": _max_payload, "dead": _dead,
}  # fmt: skip
