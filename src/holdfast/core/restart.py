"""When may a dead worker be started again, and when do we stop hurrying?

Pure: no clock, no sleep, no chance. The caller passes ``now_s`` (monotonic seconds) and a number drawn at random,
and carries out the decision that comes back. The rule is OTP's restart intensity (a limit of deaths within a
window), with a growing delay added, because a Unix process costs far more to start than an Erlang one.

Beyond the limit a worker is not given up for good unless the configuration says so: the unmet need in every
tracker of every peer (supervisor #487, systemd #43813) is a supervisor that slows down, never stops
trying, and is quick again once the worker is healthy.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from holdfast.model.plan import RestartPolicy


class History:
    """What has to be remembered about a worker's deaths; ``deaths`` are monotonic seconds, oldest first."""

    __slots__ = ("deaths", "short_lives")

    def __init__(self, deaths: "list[float] | None" = None, short_lives: int = 0) -> None:
        self.deaths = deaths or []
        self.short_lives = short_lives


class Decision:
    """What follows from a death.

    ``action`` is ``restart`` (at once), ``delay`` (after ``delay_s``), ``slow`` (the limit was reached: after
    ``delay_s``, which is the longest there is), ``down`` (leave it down: the limit was reached) or
    ``none`` (the policy does not want it again).
    """

    __slots__ = ("action", "delay_s", "history")

    def __init__(self, action: str, delay_s: float, history: History) -> None:
        self.action = action
        self.delay_s = delay_s
        self.history = history


def after_death(
    policy: "RestartPolicy",
    history: History,
    *,
    now_s: float,
    lived_s: float,
    clean: bool,
    chance: float,
) -> Decision:
    """Decide about a worker that died by itself (or was shot as a remedy).

    Args:
        policy: The worker's restart policy.
        history: Of the deaths before this one.
        now_s: Monotonic time of the death.
        lived_s: How long this life was.
        clean: It ended with status 0.
        chance: Drawn evenly from 0..1; spreads delays so that many workers do not come back in step.
    """
    deaths = [at for at in history.deaths if at > now_s - policy["window_s"]]
    deaths.append(now_s)
    short = history.short_lives + 1 if lived_s < policy["healthy_s"] else 0
    # Only what the rule can still ask for is kept: a crash loop of a year must not grow the keeper.
    kept = History(deaths[-(policy["limit"] + 1) :] if policy["limit"] else deaths[-1:], short)

    if policy["policy"] == "never" or (policy["policy"] == "on-failure" and clean):
        return Decision("none", 0.0, kept)
    if policy["limit"] and len(deaths) > policy["limit"]:
        if policy["after_limit"] == "down":
            return Decision("down", 0.0, kept)
        return Decision("slow", _spread(policy["delay_max_s"], policy["jitter"], chance), kept)
    # The first death after a healthy life restarts at once: most crashes are one-offs, and a delay
    # there is downtime that we chose to have.
    if short <= 1:
        return Decision("restart", 0.0, kept)
    # The exponent is bounded because 2.0 ** 2000 is not a number.
    delay_s = min(policy["delay_max_s"], policy["delay_s"] * 2.0 ** min(short - 2, 40))
    return Decision("delay", _spread(delay_s, policy["jitter"], chance), kept)


def _spread(delay_s: float, jitter: float, chance: float) -> float:
    return delay_s * (1.0 - jitter + 2.0 * jitter * chance)
