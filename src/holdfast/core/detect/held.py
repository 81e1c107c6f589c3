"""Does one request hold a process, or a thread, that serves one at a time?

Pure. Such a process (gunicorn's sync workers) has no loop that could be late, and slow requests are what it is made for: a fixed number
would flag every report that takes its time. So it is compared with the past: once many requests have ended, one that runs for many times as
long as the longest of them is looked into. Nothing is done about it before it has lasted for longer than a server's own patience, and
never for a single thread, or a job of a pool: the others serve on, and jobs may take hours.
"""

#: So many requests have to have ended before their past says anything.
LEAST = 100
#: So many times the longest that has ended, and so many times the mean (the longest is known only from a third of a second on).
TIMES, TIMES_MEAN = 10.0, 50.0
#: A job of a pool is given so many times as long: they may be as unlike each other as they like.
JOBS = 30.0
#: Grave: so many times the heartbeat's timeout, whatever the past says (gunicorn's own patience is 30 s).
GRAVE = 6.0


def held(
    for_s: float,
    longest_s: float,
    mean_s: float,
    ended: int,
    *,
    freeze_s: float,
    timeout_s: float,
    is_whole: bool,
) -> "tuple[bool, float] | None":
    """Return whether it is grave and the limit that was passed; None as long as it is no news.

    Args:
        for_s: How long the process, or a thread of it, has been in this request.
        longest_s: The longest that has ended.
        mean_s: What one takes on average.
        ended: How many requests have ended.
        freeze_s: From where on a silence is looked into.
        timeout_s: The heartbeat's.
        is_whole: Nothing else is served meanwhile, and something should be.
    """
    usual_s = max(TIMES * longest_s, TIMES_MEAN * mean_s)
    grave_s = max(GRAVE * timeout_s, usual_s)
    if is_whole and for_s > grave_s:
        return True, grave_s
    limit_s = max(freeze_s, usual_s)
    return (False, limit_s) if ended >= LEAST and for_s > limit_s else None


def sentence(for_s: float, longest_s: float, *, is_whole: bool) -> str:
    """Say it to a person."""
    past = f", the longest before took {longest_s:.1f} s" if longest_s else ""
    if is_whole:
        return f"one request has held the process for {for_s:.1f} s{past}: nothing else is served by it"
    return f"one request or job has held a thread for {for_s:.1f} s{past}"
