"""From flags and journal records to signs."""

from __future__ import annotations

from typing import Any

from holdfast.alerts import signs
from holdfast.core import ladder
from holdfast.core.alerting import BAD, DOUBTFUL, HOPELESS, MENDING

PLAN = {"web": {"ready": {"kind": "tcp"}}, "cron": {"ready": {"kind": "none"}}, "jobs.quarantine": {"ready": {"kind": "pulse"}}}  # fmt: skip


class Story:
    """A journal, told record by record."""

    def __init__(self) -> None:
        self.deaths = signs.Deaths(lambda record: f"status {record.get('status')}")
        self.seq = 0
        self.tell(k="keeper", began_s=5.0)

    def tell(self, **record: Any) -> Story:
        self.seq += 1
        self.deaths.note({"seq": self.seq, **record}, 100.0, PLAN)
        return self

    def died(self, worker: str = "web", n: int = 1, **more: Any) -> Story:
        record = {"role": "main", "cause": "died", "status": 9, "next": "restart", **more}
        return self.tell(k="exit", worker=worker, n=n, **record)

    def states(self, now_s: float = 100.0) -> dict[str, str]:
        found = self.deaths.signs(now_s, 10.0, PLAN, lambda key: f"incident of {key}")
        return {sign.worker: sign.state for sign in found}


def test_a_death_is_bad_until_the_next_life_serves_and_on_the_mend_until_it_has_lasted() -> None:
    story = Story().died()
    assert story.states() == {"web": BAD}
    story.tell(k="start", worker="web", n=2, role="main")
    assert story.states() == {"web": BAD}  # started is not serving
    story.tell(k="ready", worker="web", n=2)
    assert story.states(109.0) == {"web": MENDING}
    assert story.states(110.0) == {}


def test_a_program_without_a_check_serves_when_it_is_started() -> None:
    story = Story().died("cron").tell(k="start", worker="cron", n=2, role="main")

    assert story.states() == {"cron": MENDING}


def test_left_down_is_hopeless_until_somebody_starts_it() -> None:
    story = Story().died(next="down")
    assert story.states() == {"web": HOPELESS}

    story.tell(k="want", worker="web", up=True, by="user")

    assert story.states() == {}


def test_what_people_and_plans_ask_for_is_no_death() -> None:
    story = Story()
    for cause in ("stop", "restart", "apply", "group", "down", "remedy"):
        story.died(cause=cause)
    story.died(status=0).died(role="spare").died("jobs.quarantine")

    assert story.states() == {}


def test_a_record_is_read_once_and_another_run_of_the_node_begins_anew() -> None:
    """A compacted journal repeats itself; a new boot counts from one again."""
    story = Story().died()
    before = story.deaths.to_json()
    story.seq -= 1
    story.died()
    assert story.deaths.to_json() == before

    story.seq = 0
    story.tell(k="keeper", began_s=77.0)

    assert story.states() == {}
    assert story.died().states() == {"web": BAD}


def test_what_it_knows_survives_a_kill() -> None:
    story = Story().died().tell(k="ready", worker="web", n=2)
    after = Story()
    after.deaths.restore(story.deaths.to_json(), 100.0)

    assert after.states(105.0) == {"web": MENDING}
    assert after.states(111.0) == {}


def test_every_phase_of_the_ladder_says_something() -> None:
    """A phase that is added there and forgotten here would be a symptom that nobody ever hears of."""
    phases = {phase for phase, _ in ladder.NEXT} - {ladder.CLEAR}
    for phase in phases:
        assert signs.of_flag({"worker": "w", "flag": "slow", "phase": phase, "says": "x"}) is not None  # fmt: skip


def test_a_suspicion_is_none_where_somebody_is_not_served() -> None:
    def state(flag: str, phase: str) -> str:
        sign = signs.of_flag({"worker": "w", "flag": flag, "phase": phase, "says": "x"})
        assert sign is not None
        return sign.state

    assert state("memory_leak", "shown") == DOUBTFUL
    assert state("missed_heartbeat", "raised") == BAD
    assert state("memory_leak", "remedy") == BAD
    assert state("slow", "verify") == MENDING
    assert state("disk_low", "gave_up") == HOPELESS
    assert signs.of_flag({"worker": "w"}) is None


def test_a_house_that_nobody_revives_is_told() -> None:
    """The last line of defence: the watchdog itself is silent, and nobody replaced it."""
    assert signs.of_house({"keeper": 0.5, "watchdog": 1.0}) == []
    (sign,) = signs.of_house({"keeper": 0.5, "watchdog": 40.0})
    assert "watchdog (40 s)" in sign.says
