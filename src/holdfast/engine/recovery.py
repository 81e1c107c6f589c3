"""A process that held jobs is dead: what becomes of each job, and what is said about it?

The rule is :func:`holdfast.core.lease.fates`; here its verdict becomes what a store carries out in one step
(:class:`~holdfast.model.jobs.Settle`) and words for a person. Nothing here touches a store, a clock or a file: the steward brings
what it knows, and does what comes back.
"""

from holdfast.core.lease import backoff_delay_s, fates, retry_delay_s
from holdfast.model.jobs import ACK, DEAD, DROP, RETRY, SUSPECT, Settle
from holdfast.wire import sidekiq

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from holdfast.engine.dying import Death
    from holdfast.model.jobs import Lease
    from holdfast.wire.flight import Flight

#: What a dead job is kept with: as Ruby names classes, because Sidekiq's web page shows it beside those.
KILLED, LOST = "Holdfast::ProcessKilled", "Holdfast::DetailsLost"


class Scene:
    """Where and when it happened."""

    __slots__ = ("culprits", "death", "is_alone", "node", "now_s", "pid", "rss_bytes", "storm", "worker")  # fmt: skip

    def __init__(
        self,
        worker: str,
        pid: int,
        death: "Death",
        *,
        node: str,
        now_s: float,
        rss_bytes: int = 0,
        is_alone: bool = False,
        storm: str = "",
        culprits: "frozenset[int]" = frozenset(),
    ) -> None:
        self.worker = worker
        self.pid = pid
        self.death = death
        self.node = node
        self.now_s = now_s  #: unix
        self.rss_bytes = rss_bytes  #: as last seen; 0: not known
        self.is_alone = is_alone  #: it was the quarantine lane
        self.storm = storm  #: who else was killed lately; "": nobody
        self.culprits = culprits  #: tokens of those because of which we killed it; none: we did not

    def words(self) -> str:
        """Return the scene as the end of a sentence."""
        rss = f", using {self.rss_bytes / 1e6:.0f} MB" if self.rss_bytes else ""
        when = _utc(self.death.unix_s or self.now_s)
        return f"process {self.pid} of worker {self.worker} on {self.node}{rss}, {when}"


class Verdict:
    """What follows from a death."""

    __slots__ = ("back", "dead", "ended", "settled", "suspects")

    def __init__(self) -> None:
        self.settled: list[Settle] = []
        self.back = 0  #: how many go back to the front of their queues
        self.ended = 0  #: had ended and are settled now
        self.suspects: list[tuple[str, str]] = []  #: jid and class
        self.dead: list[tuple[str, str, str]] = []  #: jid, class, why

    def words(self) -> str:
        """Return what was done, as the end of a sentence; "" for nothing."""
        said = []
        if self.suspects:
            names = ", ".join(f"{klass} {jid}" for jid, klass in self.suspects[:3])
            more = f" and {len(self.suspects) - 3} more" if len(self.suspects) > 3 else ""
            were = "was" if len(self.suspects) == 1 else "were"
            said.append(f"{_jobs(len(self.suspects))} {were} running ({names}{more}): suspects")
        if self.dead:
            names = ", ".join(f"{klass} {jid}" for jid, klass, _ in self.dead)
            said.append(f"{_jobs(len(self.dead))} given up ({names})")
        if self.back:
            said.append(f"{_jobs(self.back)} went back to the queue")
        if self.ended:
            said.append(f"{_jobs(self.ended)} had ended")
        return "; ".join(said)


def judge(
    held: "Sequence[Lease]",
    flight: "Flight | None",
    scene: Scene,
    chance: "Callable[[], float]",
    *,
    is_scribbled: bool = False,
) -> Verdict:
    """Say what becomes of what a dead process held.

    Args:
        held: By the store.
        flight: Its flight recorder; None: there is none, and nobody is blamed.
        scene: What is known of the death.
        chance: Spreads retries; returns 0..1.
        is_scribbled: There is no recorder because the process itself has spoilt it: whatever it held may have run.
    """
    jobs: dict[int, dict[str, Any]] = {}
    for lease in held:
        try:
            jobs[lease.token] = sidekiq.loads(lease.raw)
        except ValueError:
            continue  # it can have run nowhere
    running: set[int] = {lease.token for lease in held} if is_scribbled else set()
    if flight is not None:
        running = {one.token for one in flight.running}
    if scene.culprits:
        running &= scene.culprits
    is_ours = scene.death.is_ours or (flight.is_meant if flight is not None else not is_scribbled)
    ends = fates(
        {lease.token: _strikes(jobs.get(lease.token, {})) for lease in held},
        running,
        flight.finished if flight is not None else {},
        ours=is_ours,
        alone=scene.is_alone,
        storm=bool(scene.storm),
    )
    verdict = Verdict()
    for lease in held:
        _carry_out(verdict, lease.token, ends[lease.token], jobs.get(lease.token), scene, chance)
    return verdict


def _carry_out(
    verdict: Verdict,
    token: int,
    end: str,
    job: "dict[str, Any] | None",
    scene: Scene,
    chance: "Callable[[], float]",
) -> None:
    if end in (ACK, DROP) or (job is None and end == RETRY):
        verdict.ended += 1
        verdict.settled.append(Settle(token, ACK if end == ACK else DROP))
    elif job is None:
        verdict.back += 1
    elif end == RETRY:
        verdict.ended += 1
        verdict.settled.append(_failed(token, job, scene, chance))
    elif end == SUSPECT:
        verdict.suspects.append((str(job["jid"]), str(job["class"])))
        verdict.settled.append(Settle(token, SUSPECT, sidekiq.dumps(_struck(job))))
    elif end == DEAD:
        struck = _struck(job)
        held = "it ran past its timeout and could not be interrupted; " if scene.culprits else ""
        why = (
            f"{held}its process {scene.death.words()} while it ran alone, the {_ordinal(_strikes(struck))} to die under it: "
            f"{scene.words()}"
        )
        made = sidekiq.fail(struck, KILLED, why, None, scene.now_s)
        verdict.dead.append((str(job["jid"]), str(job["class"]), why))
        # Only who said so has it vanish: a proof is what a person needs most.
        kept = job.get("dead", True) is not False
        verdict.settled.append(
            Settle(token, DEAD if kept else DROP, sidekiq.dumps(made), scene.now_s)
        )
    else:
        verdict.back += 1  # `recover` puts back whatever is not settled


def _failed(
    token: int, job: "dict[str, Any]", scene: Scene, chance: "Callable[[], float]"
) -> Settle:
    """Settle a job that failed just before its process died: the exception is lost, the failure counts."""
    why = f"it failed, and its process {scene.death.words()} before the details were kept: {scene.words()}"
    made = sidekiq.fail(job, LOST, why, None, scene.now_s)
    raw = sidekiq.dumps(made)
    if not sidekiq.retries_left(made):
        kept = sidekiq.keeps_dead(made)
        return Settle(token, DEAD if kept else DROP, raw, scene.now_s)
    count = made.get("retry_count")
    count = count if isinstance(count, int) else 0
    backoff = sidekiq.backoff(made)
    if backoff is not None:
        delay_s = backoff_delay_s(count, *backoff, chance())
    else:
        delay_s = retry_delay_s(count, chance())
    return Settle(token, RETRY, raw, scene.now_s + delay_s)


def _strikes(job: "dict[str, Any]") -> int:
    strikes = sidekiq.hf(job).get("strikes")
    return strikes if isinstance(strikes, int) else 0


def _struck(job: "dict[str, Any]") -> "dict[str, Any]":
    return {**job, "hf": {**sidekiq.hf(job), "strikes": _strikes(job) + 1}}


def _ordinal(n: int) -> str:
    return str(n) + {1: "st", 2: "nd", 3: "rd"}.get(n, "th")


def _jobs(n: int) -> str:
    return "1 job" if n == 1 else f"{n} jobs"


def _utc(unix_s: float) -> str:
    from time import gmtime, strftime

    return strftime("%Y-%m-%d %H:%M:%S UTC", gmtime(unix_s))
