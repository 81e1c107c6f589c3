"""What does a job look like, as bytes?

A JSON object with Sidekiq's keys (its job_util.rb, client.rb and job_retry.rb, 6.4 to 8.1), and what Sidekiq has no word for under
``hf`` (:class:`holdfast.model.jobs.Hf`). Read generously, written strictly: times are seconds as floats up to Sidekiq 7 and
milliseconds as integers from 8 on, both are understood, and a job keeps the style in which it was made.
Left out: the keys of Redis (`jobs/redis/keys.py`), and when what is written (`core/lease.py`).
"""

import re

import msgspec

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    Job = dict[str, object]

#: Retries of a job that says just `true` (Sidekiq's own default).
RETRIES = 25
#: Longest error message that is kept, in characters; as Sidekiq's.
MESSAGE_MAX = 10_000
#: More than this of a backtrace is not unpacked: who pushes may be anybody.
BACKTRACE_MAX = 4_000_000

_decode = msgspec.json.Decoder(dict).decode
_encode = msgspec.json.Encoder().encode
_SPACE = re.compile(rb"[ \t\r\n]*")
_MARKS = re.compile(rb'"(?:[^"\\]+|\\.)*"|[][{}:,]', re.DOTALL)


class _Times(msgspec.Struct):
    """The two keys of the top level that :func:`stamp` has to know."""

    created_at: "float | int | None" = None
    enqueued_at: msgspec.Raw = msgspec.Raw()


#: Stands for a value whose text is not known.
_SOMETHING = msgspec.Raw(b"?")
_times = msgspec.json.Decoder(_Times).decode


_NOTHING: "dict[str, object]" = {}
#: No span of time of a job is longer than this: 300 years.
_LONGEST_S = 1e10
#: No time stamp is later: the year 5138.
_LATEST_S = 1e11


def loads(raw: bytes) -> "Job":
    """Return the job.

    Raises:
        ValueError: This is none: no JSON object, or one without `class`, `args` and `jid`, or with an `hf` that is not ours.
    """
    try:
        job: Job = _decode(raw)
    except RecursionError:
        raise ValueError("this is no job: JSON that is nested too deeply") from None
    except ValueError as error:
        says = f"this is no job: {error}"
        raise ValueError(says) from None
    get = job.get
    if (
        type(get("class")) is str
        and type(get("args")) is list
        and type(get("jid")) is str
        and (type(get("hf", _NOTHING)) is dict)
    ):
        return job
    wrong = next(
        key
        for key, kind in (("class", str), ("args", list), ("jid", str), ("hf", dict))
        if type(get(key)) is not kind
    )
    kind = {"args": "an array", "hf": "an object"}.get(wrong, "text")
    says = f'this is no job: "{wrong}" has to be {kind}, it is {get(wrong)!r:.60}'
    raise ValueError(says)


def dumps(job: "Mapping[str, object]") -> bytes:
    """Return the job as compact JSON; keys stay in their order."""
    return _encode(job)


def new(
    klass: str,
    args: "Sequence[object]",
    *,
    jid: str,
    queue: str,
    now_s: float,
    retry: "bool | int" = True,
    hf: "Mapping[str, object] | None" = None,
    extra: "Mapping[str, object] | None" = None,
) -> "Job":
    """Return a job that was not pushed yet: it has a `created_at` and no `enqueued_at`.

    Args:
        klass: The name by which a worker knows its function.
        args: Plain JSON values.
        jid: 24 hexadecimal digits.
        queue: Where it goes.
        now_s: Unix time.
        retry: So many times; True: 25.
        hf: What is ours; empty is left out.
        extra: Further keys of Sidekiq's: `tags`, `backtrace`, `dead`, …
    """
    job: Job = {
        "class": klass,
        "args": args,
        "jid": jid,
        "queue": queue,
        "retry": retry,
        "created_at": float(now_s),
    }
    if extra:
        job.update(extra)
    if hf:
        job["hf"] = hf
    return job


def stamp(raw: bytes, now_s: float) -> bytes:
    """Return the job with this `enqueued_at` at its top level; every other byte stays as it is.

    That is why it is done on the text: a re-encoded number would not be the number that was pushed, and whoever looks a job
    up by its bytes (Sidekiq's web page does) would not find it.

    Raises:
        ValueError: This is no JSON object.
    """
    try:
        times = _times(raw)
    except (ValueError, RecursionError):
        times = _anyhow(raw)
    value = _written(now_s, times.created_at)
    if not bytes(times.enqueued_at):
        end = raw.rindex(b"}")
        comma = b"" if raw[:end].rstrip().endswith(b"{") else b","
        return b'%b%b"enqueued_at":%b%b' % (raw[:end], comma, value, raw[end:])
    start, end = _quick_place(raw, bytes(times.enqueued_at)) or _place(raw, "enqueued_at")
    return raw[:start] + value + raw[end:]


def fail(
    job: "Job",
    error_class: str,
    message: str,
    backtrace: "Sequence[str] | None",
    now_s: float,
) -> "Job":
    """Return the job as it is kept after it failed once more; the given one stays as it is.

    The first failure is `failed_at` and `retry_count` 0, each later one `retried_at`. It goes to `retry_queue` if it names one.

    Args:
        job: As it was taken.
        error_class: Name of the exception's class.
        message: Its text.
        backtrace: Lines, the innermost first; kept if the job asks for it (`backtrace`: true, or how many).
        now_s: Unix time.
    """
    failed = dict(job)
    if job.get("retry_queue"):
        failed["queue"] = job["retry_queue"]
    failed["error_message"] = _clean(message[:MESSAGE_MAX])
    failed["error_class"] = _clean(error_class)
    count = job.get("retry_count")
    is_in_ms = type(job.get("created_at")) is int
    at = int(now_s * 1000) if is_in_ms else float(now_s)
    if type(count) is int:
        failed["retry_count"] = count + 1
        failed["retried_at"] = at
    else:
        failed["retry_count"] = 0
        failed["failed_at"] = at
    # That of the failure before would be shown beside this one's message.
    failed.pop("error_backtrace", None)
    wanted = job.get("backtrace")
    if wanted and backtrace:
        lines = backtrace if wanted is True or not isinstance(wanted, int) else backtrace[:wanted]
        failed["error_backtrace"] = pack_backtrace(lines)
    return failed


def retries_left(job: "Mapping[str, object]", default: int = RETRIES) -> bool:
    """Say of a job as :func:`fail` returned it whether it is tried again.

    `retry` says how often; `retry_for` for how many seconds since the first failure, and then the number does not matter.
    """
    retry = job.get("retry", True)
    if retry is False or retry is None:
        return False
    count = job.get("retry_count")
    count = count if isinstance(count, int) else 0
    limit_s = job.get("retry_for")
    if isinstance(limit_s, int | float) and not isinstance(limit_s, bool):
        return seconds(job.get("retried_at", 0.0)) - seconds(job.get("failed_at", 0.0)) < limit_s
    most = default if isinstance(retry, bool) or not isinstance(retry, int) else retry
    return count < most


def keeps_dead(job: "Mapping[str, object]") -> bool:
    """Say whether a job that is given up is kept for a person: neither `retry` nor `dead` says `false`."""
    return job.get("retry", True) is not False and job.get("dead", True) is not False


def seconds(value: object) -> float:
    """Return a time stamp of a job as unix seconds: an integer counts milliseconds, a float seconds; anything else is 0.

    So is what no calendar knows: who shows it would stumble.
    """
    if type(value) is float:
        return value if 0 <= value < _LATEST_S else 0.0
    if type(value) is int:
        return value / 1000 if 0 <= value < _LATEST_S * 1000 else 0.0
    return 0.0


def hf(job: "Mapping[str, object]") -> "dict[str, object]":
    """Return what is ours of a job; empty where there is nothing (usable) of it."""
    ours = job.get("hf")
    return ours if type(ours) is dict else {}


def backoff(job: "Mapping[str, object]") -> "tuple[float, float, float] | None":
    """Return what a job says of the delays between its attempts: first, factor, longest; None: nothing (usable)."""
    said = hf(job).get("backoff")
    if type(said) is not list or len(said) != 3:
        return None
    if not all(type(part) in (int, float) and 0 < part <= _LONGEST_S for part in said):
        return None
    base_s, factor, max_s = (float(part) for part in said)
    return (base_s, factor, max_s) if factor >= 1 else None


def pack_backtrace(lines: "Sequence[str]") -> str:
    """Return lines as `error_backtrace`: base64 of zlib of JSON, strict base64 as of Sidekiq 8."""
    from base64 import b64encode
    from zlib import compress

    return b64encode(compress(_encode([_clean(line) for line in lines]))).decode()


def backtrace(job: "Mapping[str, object]") -> "list[str]":
    """Return the lines of a job's `error_backtrace`, in every form in which a Sidekiq wrote it; [] when it cannot be read."""
    kept = job.get("error_backtrace")
    if isinstance(kept, list):  # up to 5.1
        return [str(line) for line in kept]
    if not isinstance(kept, str):
        return []
    from base64 import b64decode
    from zlib import decompressobj
    from zlib import error as zlib_error

    try:
        unpacking = decompressobj()
        text = unpacking.decompress(b64decode(kept), BACKTRACE_MAX)
        lines = msgspec.json.decode(text, type=list[str])
    except (ValueError, zlib_error):
        return []
    return lines


def _written(now_s: float, like: "float | int | None") -> bytes:
    """Return a time in the style of another one."""
    return _encode(int(now_s * 1000) if type(like) is int else float(now_s))


def _anyhow(raw: bytes) -> _Times:
    """Read the times of a job that has something else in their place.

    Raises:
        ValueError: This is no JSON object.
    """
    try:
        job = _decode(raw)
    except RecursionError:
        raise ValueError("JSON that is nested too deeply") from None
    created = job.get("created_at")
    style = created if type(created) in (int, float) else None
    return _Times(style, _SOMETHING if "enqueued_at" in job else msgspec.Raw())


def _quick_place(raw: bytes, value: bytes) -> "tuple[int, int] | None":
    """Return the place of the top level's `enqueued_at` where it is beyond doubt: nothing else in the job looks like it."""
    text = b'"enqueued_at":' + value
    start = raw.find(text)
    # A key that is written with escapes would be the one that counts, and this one a stranger's deep inside.
    if start < 0 or raw.count(b'enqueued_at"') != 1 or b"\\u" in raw:
        return None
    return start + len(text) - len(value), start + len(text)


def _place(raw: bytes, wanted: str) -> "tuple[int, int]":
    """Return where the value of a key of the top level begins and ends; of one that is there twice, the last (which counts)."""
    depth = 0
    key = b""
    found = (0, 0)
    start = -1
    for mark in _MARKS.finditer(raw):
        sign = mark[0]
        if sign in (b"{", b"["):
            depth += 1
        elif sign in (b"}", b"]", b","):
            if start >= 0 and depth == 1:
                found = (start, start + len(raw[start : mark.start()].rstrip()))
                start = -1
            if sign != b",":
                depth -= 1
        elif depth == 1 and start < 0:
            if sign == b":":
                if key and msgspec.json.decode(key) == wanted:
                    start = _after_space(raw, mark.end())
                key = b""
            else:
                key = sign
    return found


def _after_space(raw: bytes, at: int) -> int:
    """Return where the next thing begins that is no white space."""
    space = _SPACE.match(raw, at)
    return space.end() if space is not None else at


def _clean(text: str) -> str:
    """Return text that JSON can carry: half a surrogate pair becomes a question mark."""
    return text.encode("utf-8", "replace").decode()
