"""The life of a job and the verdict after a death: told as stories, and as a whole fleet that is killed at any instant."""

from __future__ import annotations

import math
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from holdfast.core import lease
from holdfast.core.lease import NEXT, PROOF, PROOF_IN_STORM, fates
from holdfast.model.jobs import ACK, BACK, DEAD, DROP, RETRY, SUSPECT

ENDS = {ACK, RETRY, DEAD, BACK, SUSPECT, DROP}
RESTING = {lease.DONE, lease.DIED, lease.DROPPED}


# -- the table


def test_every_way_a_lease_can_end_is_in_the_table() -> None:
    """A verdict without a transition would leave a job in nobody's hands."""
    for held in (lease.LEASED, lease.TRIAL):
        assert {event for state, event in NEXT if state == held} == ENDS


def test_a_job_that_is_not_over_can_always_get_on() -> None:
    """A state that nothing leads out of is a stranded job."""
    states = {state for state, _ in NEXT} | set(NEXT.values())

    assert {state for state in states if not any(s == state for s, _ in NEXT)} == {
        lease.DONE,
        lease.DROPPED,
    }


def test_only_a_leased_job_can_be_done() -> None:
    """Two owners can both say ACK; the second one finds no lease and nothing happens."""
    assert {state for (state, _), after in NEXT.items() if after == lease.DONE} == {
        lease.LEASED,
        lease.TRIAL,
    }


def test_a_done_job_can_never_come_back() -> None:
    """Whatever is sent again, late or twice: done is done."""
    assert not [event for state, event in NEXT if state in {lease.DONE, lease.DROPPED}]


# -- the verdict, as stories


def test_jobs_that_had_not_begun_go_back_and_nobody_suspects_them() -> None:
    """Forty jobs were buffered when one killed the process: they lose a place in no queue."""
    told = fates({1: 0, 2: 0, 3: 5}, {1}, {}, ours=False, alone=False, storm=False)

    assert told == {1: SUSPECT, 2: BACK, 3: BACK}


def test_what_had_ended_is_settled_as_it_ended_and_never_run_again() -> None:
    """The batch of acks died with the worker; the recorder did not."""
    told = fates({1: 0, 2: 0, 3: 0}, {1, 2}, {1: ACK, 2: RETRY, 3: DROP}, ours=False, alone=False, storm=False)  # fmt: skip

    assert told == {1: ACK, 2: RETRY, 3: DROP}


def test_a_deploy_blames_nobody() -> None:
    """A worker that we stopped was killed by us, whatever it ran; also in the lane, also with a strike."""
    for alone in (False, True):
        assert fates({1: 1}, {1}, {}, ours=True, alone=alone, storm=False) == {1: BACK}


def test_the_second_death_alone_is_proof() -> None:
    """Ten ran, one killed them all: each runs alone now, and only the guilty one is there at the second death."""
    assert fates({1: 0}, {1}, {}, ours=False, alone=False, storm=False) == {1: SUSPECT}
    assert fates({1: 1}, {1}, {}, ours=False, alone=True, storm=False) == {1: DEAD}


def test_in_company_nothing_is_ever_proved() -> None:
    """An innocent job can share its process with a pill many times."""
    assert fates({1: 50}, {1}, {}, ours=False, alone=False, storm=False) == {1: SUSPECT}


def test_in_a_storm_two_deaths_prove_nothing() -> None:
    """Somebody kills every process of the machine at random: the job in the lane is a victim like the rest."""
    assert fates({1: 1}, {1}, {}, ours=False, alone=True, storm=True) == {1: SUSPECT}
    last = PROOF_IN_STORM - 1
    assert fates({1: last}, {1}, {}, ours=False, alone=True, storm=True) == {1: DEAD}


@given(
    held=st.dictionaries(st.integers(1, 30), st.integers(0, 8)),
    running=st.sets(st.integers(1, 30)),
    finished=st.dictionaries(st.integers(1, 30), st.sampled_from([ACK, RETRY, DROP])),
    ours=st.booleans(),
    alone=st.booleans(),
    storm=st.booleans(),
)
def test_the_verdict_forgets_no_job_and_adds_none(
    held: dict[int, int], running: set[int], finished: dict[int, str], *, ours: bool, alone: bool, storm: bool
) -> None:  # fmt: skip
    """What the store says was held is what is settled; the recorder only says how. (It still names jobs settled long ago.)"""
    told = fates(held, running, finished, ours=ours, alone=alone, storm=storm)

    assert told.keys() == held.keys()
    for token, end in told.items():
        assert (lease.LEASED, end) in NEXT
        if end == DEAD:
            assert alone, "in company nobody is guilty"
            assert token in running
            assert not ours
            assert held[token] + 1 >= (PROOF_IN_STORM if storm else PROOF)
        if end in (SUSPECT, DEAD):
            assert token in running
            assert token not in finished
        if token in finished:
            assert end == finished[token]


# -- a whole fleet


class Job:
    def __init__(self, name: int, *, is_pill: bool) -> None:
        self.name = name
        self.is_pill = is_pill
        self.state = lease.READY
        self.strikes = 0
        self.effects = 0
        self.unmarked = 0  #: how often a death fell between its effect and the ring
        self.deaths_alone = 0
        self.blows = 0  #: how often somebody outside killed its process while it ran

    def go(self, event: str) -> None:
        self.state = NEXT[self.state, event]


class Owner:
    def __init__(self, *, alone: bool) -> None:
        self.alone = alone
        self.held: dict[int, Job] = {}
        self.tokens = 0
        self.slots: dict[int, Job] = {}  #: the recorder
        self.ring: dict[int, str] = {}
        self.effect: set[int] = (
            set()
        )  #: what ran to its end and is not in the ring yet: lives in no file
        self.unsaid: dict[int, str] = {}  #: outcomes in the worker's memory, to be settled


class Fleet(RuleBasedStateMachine):
    """Owners, their recorders, and a store that keeps only what was settled. Anything may be killed between any two steps."""

    def __init__(self) -> None:
        super().__init__()
        self.jobs: list[Job] = []
        self.owners: list[Owner] = []
        self.unrecovered: list[tuple[Owner, bool, bool]] = []  #: died: whose doing, and in a storm?

    # producers and the clock

    @rule(is_pill=st.booleans(), scheduled=st.booleans())
    def push(self, is_pill: bool, scheduled: bool) -> None:
        job = Job(len(self.jobs), is_pill=is_pill and len(self.jobs) % 4 == 0)
        job.state = lease.SCHEDULED if scheduled else lease.READY
        self.jobs.append(job)

    @rule()
    def clock(self) -> None:
        for job in self.jobs:
            if job.state == lease.SCHEDULED:
                job.go(lease.DUE)

    # owners

    @rule(alone=st.booleans())
    def born(self, alone: bool) -> None:
        if len(self.owners) < 4 and not (alone and any(o.alone for o in self.owners)):
            self.owners.append(Owner(alone=alone))

    @precondition(lambda self: self.owners)
    @rule(data=st.data(), limit=st.integers(0, 5))
    def settle_and_claim(self, data: st.DataObject, limit: int) -> None:
        """One atomic step: what has ended goes, new leases come."""
        owner = data.draw(st.sampled_from(self.owners))
        for token, end in list(owner.unsaid.items()):
            owner.held.pop(token).go(end)
            del owner.unsaid[token]
        of = lease.SUSPECTED if owner.alone else lease.READY
        limit = min(limit, 1 - len(owner.held)) if owner.alone else limit
        for job in [j for j in self.jobs if j.state == of][: max(limit, 0)]:
            job.go(lease.TAKEN)
            owner.tokens += 1
            owner.held[owner.tokens] = job

    @precondition(lambda self: self.owners)
    @rule(data=st.data())
    def begin(self, data: st.DataObject) -> None:
        owner = data.draw(st.sampled_from(self.owners))
        idle = [t for t in owner.held if t not in owner.slots and t not in owner.unsaid]
        if idle and len(owner.slots) < (1 if owner.alone else 3):
            owner.slots[idle[0]] = owner.held[idle[0]]
            if owner.held[idle[0]].is_pill:
                if owner.alone:
                    owner.held[idle[0]].deaths_alone += 1
                self._dies(owner, ours=False, storm=False)

    @precondition(lambda self: self.owners)
    @rule(data=st.data())
    def effect(self, data: st.DataObject) -> None:
        """The job does what it is for; nobody has written that down yet."""
        owner = data.draw(st.sampled_from(self.owners))
        running = [t for t in owner.slots if t not in owner.effect and t not in owner.ring]
        for token in running[:1]:
            owner.effect.add(token)
            owner.slots[token].effects += 1

    @precondition(lambda self: self.owners)
    @rule(data=st.data(), end=st.sampled_from([ACK, ACK, RETRY]))
    def into_the_ring(self, data: st.DataObject, end: str) -> None:
        owner = data.draw(st.sampled_from(self.owners))
        for token in sorted(owner.effect)[:1]:
            owner.effect.discard(token)
            owner.ring[token] = end
            owner.unsaid[token] = end
            # A failed attempt may have had its effect; it is meant to run again.
            owner.slots[token].effects -= end == RETRY

    @precondition(lambda self: self.owners)
    @rule(data=st.data())
    def out_of_the_slot(self, data: st.DataObject) -> None:
        """A step of its own: killed right here, the token is in the slot and in the ring."""
        owner = data.draw(st.sampled_from(self.owners))
        for token in [t for t in owner.slots if t in owner.ring][:1]:
            del owner.slots[token]

    # death

    @precondition(lambda self: self.owners)
    @rule(data=st.data(), ours=st.booleans())
    def killed(self, data: st.DataObject, ours: bool) -> None:
        """By us (a deploy), or by somebody outside, whose other victims tell of the storm."""
        self._dies(data.draw(st.sampled_from(self.owners)), ours=ours, storm=not ours)

    def _dies(self, owner: Owner, *, ours: bool, storm: bool) -> None:
        for token in owner.effect:
            owner.slots[token].unmarked += 1
        for token, job in owner.slots.items():
            job.blows += storm and token not in owner.ring
        self.owners.remove(owner)
        self.unrecovered.append((owner, ours, storm))

    @precondition(lambda self: self.unrecovered)
    @rule()
    def steward_comes(self) -> None:
        """It may have been dead itself for any time; a second recovery of the same owner finds nothing."""
        for owner, ours, storm in self.unrecovered:
            strikes = {token: job.strikes for token, job in owner.held.items()}
            told = fates(strikes, owner.slots, owner.ring, ours=ours, alone=owner.alone, storm=storm)  # fmt: skip
            for token, end in told.items():
                job = owner.held.pop(token)
                job.strikes += end == SUSPECT
                job.go(end)
        self.unrecovered.clear()

    # what always holds

    @invariant()
    def each_leased_job_is_in_exactly_one_hand(self) -> None:
        hands = [*self.owners, *(dead for dead, _, _ in self.unrecovered)]
        held = Counter(job.name for owner in hands for job in owner.held.values())
        assert held == Counter(j.name for j in self.jobs if j.state in (lease.LEASED, lease.TRIAL))

    @invariant()
    def done_means_that_it_ran(self) -> None:
        for job in self.jobs:
            assert job.state != lease.DONE or job.effects >= 1

    @invariant()
    def twice_only_where_a_death_fell_between_effect_and_ring(self) -> None:
        for job in self.jobs:
            assert job.effects <= 1 + job.unmarked

    @invariant()
    def an_innocent_is_never_judged(self) -> None:
        for job in self.jobs:
            if job.state == lease.DIED and not job.is_pill:
                assert job.blows, "somebody outside was killing"
                assert job.strikes + 1 >= PROOF_IN_STORM, "two deaths in bad weather are no proof"

    @invariant()
    def a_pill_kills_alone_no_more_than_once(self) -> None:
        """First in company, then alone: the second is the last. Never in company at first: one more."""
        for job in self.jobs:
            assert job.deaths_alone <= 1

    def teardown(self) -> None:
        """Let the weather clear up: everything comes to an end."""
        if self.unrecovered:
            self.steward_comes()
        for _ in range(200):
            moving = [j for j in self.jobs if j.state not in RESTING]
            if not moving:
                break
            self._calm_round()
        assert not [(j.name, j.state) for j in self.jobs if j.state not in RESTING]
        for job in self.jobs:
            assert job.state == (lease.DIED if job.is_pill else job.state)
            assert job.is_pill or job.effects >= 1 or job.state == lease.DIED

    def _calm_round(self) -> None:
        self.clock()
        for alone in (False, True):
            owner = next((o for o in self.owners if o.alone == alone), None)
            if owner is None:
                owner = Owner(alone=alone)
                self.owners.append(owner)
        for owner in list(self.owners):
            self._calm_turn(owner)
        if self.unrecovered:
            self.steward_comes()

    def _calm_turn(self, owner: Owner) -> None:
        for token in [t for t in owner.slots if t in owner.ring]:
            del owner.slots[token]
        for token in [t for t in owner.slots if t not in owner.effect]:
            owner.effect.add(token)
            owner.slots[token].effects += 1
        for token in list(owner.effect):
            owner.effect.discard(token)
            owner.ring[token] = owner.unsaid[token] = ACK
            del owner.slots[token]
        for token, end in list(owner.unsaid.items()):
            owner.held.pop(token).go(end)
            del owner.unsaid[token]
        of = lease.SUSPECTED if owner.alone else lease.READY
        if not owner.held:
            for job in [j for j in self.jobs if j.state == of][: 1 if owner.alone else 3]:
                job.go(lease.TAKEN)
                owner.tokens += 1
                owner.held[owner.tokens] = job
        for token, job in owner.held.items():
            if token not in owner.slots and token not in owner.unsaid:
                owner.slots[token] = job
                if job.is_pill:
                    job.deaths_alone += owner.alone
                    self._dies(owner, ours=False, storm=False)
                    return


Fleet.TestCase.settings = settings(max_examples=50, stateful_step_count=50, deadline=None)
TestFleet = Fleet.TestCase


# -- delays and the order of queues


def test_the_delays_are_those_of_sidekiq() -> None:
    """25 retries are 20.4 days; a queue that is moved from Ruby keeps its rhythm."""
    assert [lease.retry_delay_s(count, 0.0) for count in range(4)] == [15, 16, 31, 96]
    assert round(sum(lease.retry_delay_s(count, 0.0) for count in range(25)) / 86400, 1) == 20.4


def test_a_job_that_says_it_failed_ever_so_often_gets_a_delay_at_all() -> None:
    """It may say 10²⁰⁰: too much for a float, and for whoever counts up to it."""
    assert math.isfinite(time_s := lease.retry_delay_s(10**200, 0.5) + 1.5)
    assert time_s > 1e15
    assert lease.backoff_delay_s(10**200, 1.0, 1.0000001, 1e9, 1.0) < 1e9


@given(count=st.integers(0, 100), chance=st.floats(0, 1, exclude_max=True))
def test_jitter_never_shortens_a_delay(count: int, chance: float) -> None:
    """A thousand jobs that failed together must not come back together, nor early."""
    bare = lease.retry_delay_s(count, 0.0)

    assert bare <= lease.retry_delay_s(count, chance) < bare + 10 * (count + 1)


@given(
    count=st.integers(0, 10_000),
    base_s=st.floats(0.001, 1e6),
    factor=st.floats(1, 10),
    max_s=st.floats(0.001, 1e9),
    chance=st.floats(0, 1),
)
def test_a_chosen_backoff_stays_within_its_maximum_however_often_it_failed(
    count: int, base_s: float, factor: float, max_s: float, chance: float
) -> None:
    """A job that failed ten thousand times must not overflow the arithmetic of its worker."""
    delay = lease.backoff_delay_s(count, base_s, factor, max_s, chance)

    assert math.isfinite(delay)
    assert 0 < delay <= max_s * (1 + 1e-9)
    if base_s <= max_s:
        assert delay >= base_s / 2 * (1 - 1e-9)


def test_strict_queues_are_looked_at_as_they_are_written() -> None:
    """`-q critical -q default`: the second one's turn is when the first is empty."""
    assert lease.order([("b", 0), ("a", 0), ("c", 0)], [0.9, 0.1, 0.5]) == ["b", "a", "c"]


@given(
    weights=st.lists(st.integers(1, 100), min_size=1, max_size=8).flatmap(
        lambda w: st.tuples(st.just(w), st.lists(st.floats(0, 1), min_size=len(w), max_size=len(w)))
    )
)
def test_a_fetch_looks_at_every_queue_once(weights: tuple[list[int], list[float]]) -> None:
    """Whatever the dice say: none is left out."""
    queues = [(f"q{i}", weight) for i, weight in enumerate(weights[0])]

    assert sorted(lease.order(queues, weights[1])) == sorted(name for name, _ in queues)


@pytest.mark.parametrize(("heavy", "light"), [(6, 2), (3, 1), (1, 1)])
def test_a_queue_is_first_as_often_as_its_weight_says(heavy: int, light: int) -> None:
    """Sidekiq's law, with even dice: the share of first looks is weight over sum of weights."""
    n = 60
    first = Counter(
        lease.order([("heavy", heavy), ("light", light)], [(i + 0.5) / n, (j + 0.5) / n])[0]
        for i in range(n)
        for j in range(n)
    )

    assert first["heavy"] / n**2 == pytest.approx(heavy / (heavy + light), abs=0.02)
