"""The whole life of a job, and what a death does to it: one table and one verdict.

Pure. A pair that is missing from the table cannot happen. The stores carry the transitions out, each in one atomic step;
the engine says ACK, RETRY or DEAD of what it ran; the steward asks :func:`fates` when a process died.

States:
    scheduled  waits for its time (also: between two attempts)
    ready      in its queue
    waiting    its limit is reached; it is first in line when a place becomes free
    leased     in the hands of one owner
    suspect    a process died while it ran: in the quarantine lane, where jobs run alone
    trial      a suspect in the hands of one owner, alone
    done       ran to its end
    dead       given up; kept for a person
    dropped    cancelled, or its deadline passed before it was started

The idea of the verdict: only a job that *was running* when its process died by itself can have killed it. Several were
running, usually, so they are suspects and run again one by one; the one that is alone when a process dies a second time is
guilty by proof. Innocents pass through the lane and lose nothing but a moment.
"""

from holdfast.model.jobs import ACK, BACK, DEAD, DROP, RETRY, SUSPECT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container, Mapping

SCHEDULED, READY, WAITING, LEASED, SUSPECTED, TRIAL, DONE, DIED, DROPPED = (
    "scheduled", "ready", "waiting", "leased", "suspect", "trial", "done", "dead", "dropped",
)  # fmt: skip

#: Events beside the ends of a lease.
DUE, LIMITED, FREED, TAKEN, REVIVED = "due", "limited", "freed", "taken", "revived"

#: Every transition there is.
NEXT = {
    (SCHEDULED, DUE): READY,
    (READY, LIMITED): WAITING,
    (WAITING, FREED): READY,
    (READY, TAKEN): LEASED,
    (SUSPECTED, TAKEN): TRIAL,
    (LEASED, ACK): DONE,
    (LEASED, RETRY): SCHEDULED,
    (LEASED, DEAD): DIED,
    (LEASED, BACK): READY,
    (LEASED, SUSPECT): SUSPECTED,
    (LEASED, DROP): DROPPED,
    (TRIAL, ACK): DONE,
    (TRIAL, RETRY): SCHEDULED,
    (TRIAL, DEAD): DIED,
    (TRIAL, BACK): SUSPECTED,
    (TRIAL, SUSPECT): SUSPECTED,
    (TRIAL, DROP): DROPPED,
    (READY, DROP): DROPPED,
    (SCHEDULED, DROP): DROPPED,
    (WAITING, DROP): DROPPED,
    (SUSPECTED, DROP): DROPPED,
    (DIED, DROP): DROPPED,
    (READY, DEAD): DIED,
    (SCHEDULED, DEAD): DIED,
    (DIED, REVIVED): READY,
    (SCHEDULED, REVIVED): READY,
}

#: Name of the lane in which suspects run, one at a time.
QUARANTINE = "quarantine"

#: A job whose process died so often while it ran alone is guilty.
PROOF = 2
#: While something outside kills processes, a death proves nothing; but so many are enough in any weather.
PROOF_IN_STORM = 6
#: A job may say of itself that it has failed any number of times; from here on it makes no difference.
_MANY = 10_000


def fates(
    held: "Mapping[int, int]",
    running: "Container[int]",
    finished: "Mapping[int, str]",
    *,
    ours: bool,
    alone: bool,
    storm: bool,
) -> "dict[int, str]":
    """Say what becomes of each job that a dead owner held.

    Args:
        held: What the store says it held: token, and how many strikes the job has already.
        running: Tokens that an executor was running when it died, by its flight recorder.
        finished: Tokens that had ended but were not settled: token, and how (ACK, RETRY, DROP).
        ours: We ended the process (deploy, stop, recycling, reboot), or the whole machine went: nobody is to blame.
        alone: It was the quarantine lane, where one job runs at a time.
        storm: Processes that run no jobs were killed in the last moments, too: somebody out there is killing.

    Returns:
        By token one of ACK, RETRY, DROP (as it had ended), BACK (never started, or nobody's fault), SUSPECT, DEAD.
    """
    what = {}
    for token, strikes in held.items():
        if token in finished:
            what[token] = finished[token]
        elif token not in running or ours:
            what[token] = BACK
        elif alone and strikes + 1 >= (PROOF_IN_STORM if storm else PROOF):
            what[token] = DEAD
        else:
            what[token] = SUSPECT
    return what


def retry_delay_s(count: int, chance: float) -> float:
    """Return how long to wait before retry number ``count`` (the first is 0), in seconds.

    Sidekiq's formula (job_retry.rb, 8.1): count⁴ + 15 + up to 10·(count+1), the last by ``chance`` (0..1).
    """
    count = min(count, _MANY)
    return count**4 + 15 + int(chance * 10 * (count + 1))


def backoff_delay_s(count: int, base_s: float, factor: float, max_s: float, chance: float) -> float:
    """Return the delay before retry number ``count`` for a job that chose its own: exponential, with full jitter on the upper half."""
    most_s = base_s
    for _ in range(min(count, _MANY) if factor > 1 else 0):
        most_s *= factor
        if most_s >= max_s:
            break  # no power of a thousand, which would overflow, on the way to a maximum
    most_s = min(max_s, most_s)
    return most_s / 2 + most_s / 2 * chance


def order(queues: "list[tuple[str, int]]", chances: "list[float]") -> "list[str]":
    """Return the queues in the order in which one fetch looks at them.

    All weights zero: strictly as given. Otherwise each is drawn with a probability by its weight (one of ``chances``, 0..1, for
    each queue), so that none starves (Sidekiq shuffles a list in which a queue is repeated by its weight: the same law).
    """
    if all(weight == 0 for _, weight in queues):
        return [name for name, _ in queues]
    # The largest of chance^(1/weight) first: sampling without replacement by weight (Efraimidis and Spirakis, 2006).
    keyed = [
        (-(chance ** (1.0 / max(weight, 1))), i)
        for i, ((_, weight), chance) in enumerate(zip(queues, chances, strict=True))
    ]
    return [queues[i][0] for _, i in sorted(keyed)]
