"""What crosses a link, and how often: realms coupled without sockets, message by message."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.wamp.stage import MODERN, Client, Stage, rule
from core.wamp.stage import role as role_of
from holdfast.core.wamp import messages
from holdfast.core.wamp.link import BATCH, Link
from holdfast.core.wamp.session import Identity, Session

if TYPE_CHECKING:
    from holdfast.core.wamp.messages import Payload, Shared

EVENT, INVOCATION, RESULT, ERROR, INTERRUPT = 36, 68, 50, 8, 69

_BY_CODE: dict[Any, Any] = {
    kind.__struct_config__.tag: kind for kind in (*messages.CARRYING, *messages.PLAIN)
}  # fmt: skip


class FakeWire:
    """One direction of a link: messages wait until the other end takes them."""

    def __init__(self) -> None:
        self.queue: deque[Any] = deque()
        self.sent: list[str] = []
        self.closed: str | None = None

    def send(self, head: list[Any], payload: Payload | None = None) -> None:
        kind = _BY_CODE[head[0]]
        rest = (payload.args, payload.kwargs) if payload is not None else ()
        self.queue.append(kind(*head[1:], *rest))
        self.sent.append(kind.__name__)

    def send_shared(self, message: Shared) -> None:
        self.send(list(message.head), message.payload)

    def close(self, reason: str, says: str) -> None:
        self.closed = f"{reason} {says}"


class End:
    """One end of a link between two stages."""

    def __init__(self, stage: Stage, there: Stage) -> None:
        self.stage = stage
        self.wire = FakeWire()
        self.says: list[str] = []
        # Ids must not be the same at two routers: they are drawn from 2**53.
        identity = Identity("the other router", "trusted", "link", "router")
        self.session = Session(there.new_id(), identity, _Unused(), MODERN, {"type": "link"})
        stage.realm.join(self.session, stage.now_s)
        self.link = Link(stage.realm, self.session, self.wire, self.says.append)

    def lose(self) -> None:
        """The connection is gone."""
        self.link.end()
        self.stage.realm.leave(self.session, self.stage.now_s)


class _Unused:
    """An outlet that nothing may be sent to: the link takes its place."""

    def send(self, head: list[Any], payload: Payload | None = None) -> None:
        raise AssertionError(head, payload)

    def send_shared(self, message: Shared) -> None:
        raise AssertionError(message.head)

    def close(self, reason: str, says: str) -> None:
        raise AssertionError(reason, says)


class Mesh:
    """Routers of one realm, linked each with each."""

    def __init__(self, n: int = 2, *roles: dict[str, Any], **more: Any) -> None:
        self.stages = [Stage(*roles, **more) for _ in range(n)]
        for at, stage in enumerate(self.stages):
            stage._ids = (at + 1) * 1_000_000
        self.pairs: list[tuple[End, End]] = []
        for at, one in enumerate(self.stages):
            for other in self.stages[:at]:
                self.couple(one, other)

    def couple(self, one: Stage, other: Stage) -> tuple[End, End]:
        ends = End(one, other), End(other, one)
        self.pairs.append(ends)
        for end in ends:
            end.link.open()
        self.settle()
        return ends

    def settle(self) -> None:
        """Let everything arrive that is on its way."""
        for _ in range(10_000):
            waiting = [
                (to, frm) for a, b in self.pairs for to, frm in ((a, b), (b, a)) if frm.wire.queue
            ]
            if not waiting:
                return
            for to, frm in waiting:
                to.link.receive(to.session, frm.wire.queue.popleft(), to.stage.now_s)
        raise AssertionError("it goes in circles")

    def crossed(self) -> list[str]:
        """What has been sent over any link since the last time."""
        found = [name for pair in self.pairs for end in pair for name in end.wire.sent]
        for pair in self.pairs:
            for end in pair:
                end.wire.sent.clear()
        return found


def events(client: Client) -> list[list[Any]]:
    """The arguments of the events that a client has got."""
    return [m[4] if len(m) > 4 else [] for m in client.take() if m[0] == EVENT]


# -- events -----------------------------------------------------------------------------------------


def test_an_event_reaches_each_subscription_of_three_routers_exactly_once() -> None:
    """Overlapping patterns, each on every router: the classic way to get things twice."""
    mesh = Mesh(3)
    people = [stage.client() for stage in mesh.stages]
    for one in people:
        one.subscribe("com.news.today")
        one.subscribe("com.news", match="prefix")
        one.subscribe("com..today", match="wildcard")
    publisher = mesh.stages[0].client("publisher")
    mesh.settle()

    publisher.publish("com.news.today", "hello")
    mesh.settle()

    assert [events(one) for one in people] == [[["hello"]] * 3] * 3


def test_publisher_gets_its_own_event_back_from_nowhere() -> None:
    mesh = Mesh(3)
    publisher = mesh.stages[0].client()
    publisher.subscribe("com.topic")
    mesh.stages[1].client().subscribe("com.topic")
    mesh.settle()

    publisher.publish("com.topic", 1)
    publisher.publish("com.topic", 2, exclude_me=False)
    mesh.settle()

    assert events(publisher) == [[2]]


def test_events_cross_only_where_somebody_wants_them() -> None:
    """A router with no subscriber pays nothing for the traffic of the other one."""
    mesh = Mesh(3)
    first, second, third = (stage.client() for stage in mesh.stages)
    mesh.crossed()
    first.publish("com.topic")
    mesh.settle()
    assert mesh.crossed() == []

    subscription = second.subscribe("com.topic")
    third.subscribe("com.other")
    mesh.settle()
    mesh.crossed()
    first.publish("com.topic")
    mesh.settle()
    assert mesh.crossed() == ["Event"]

    second.unsubscribe(subscription)
    mesh.settle()
    mesh.crossed()
    first.publish("com.topic")
    mesh.settle()
    assert mesh.crossed() == []
    assert events(second) == [[]]


def test_subscribe_and_unsubscribe_in_one_breath_leave_nothing_behind() -> None:
    """The answer of the other router comes when nobody wants it any more."""
    mesh = Mesh()
    here, there = (stage.client() for stage in mesh.stages)
    for _ in range(3):
        here.unsubscribe(here.subscribe("com.topic"))
    mesh.settle()
    assert there.ask("wamp.subscription.lookup", "com.topic") is None

    here.subscribe("com.topic")
    mesh.settle()
    there.publish("com.topic", "still works")
    mesh.settle()
    assert events(here) == [["still works"]]


def test_both_sides_see_the_same_publication() -> None:
    mesh = Mesh()
    here, there = (stage.client() for stage in mesh.stages)
    here.subscribe("com.topic")
    there.subscribe("com.topic")
    publisher = mesh.stages[0].client()
    mesh.settle()

    publisher.publish("com.topic", acknowledge=True)
    mesh.settle()

    assert {m[2] for c in (here, there) for m in c.take() if m[0] == EVENT} == {publisher.one()[2]}


def test_lists_name_sessions_and_people_of_other_routers() -> None:
    """Only the router of a session knows it: the lists have to travel."""
    mesh = Mesh(3)
    people = [s.client(name) for s, name in zip(mesh.stages, "abc", strict=True)]
    for one in people:
        one.subscribe("com.topic")
        one.subscribe("com", match="prefix")
    a, b, c = people
    publisher = mesh.stages[0].client("p")
    mesh.settle()

    for options, gets in (
        ({"eligible": [c.id]}, [c]),
        ({"eligible_authid": ["a", "b"]}, [a, b]),
        ({"exclude": [b.id]}, [a, c]),
        ({"exclude_authid": ["c"]}, [a, b]),
        ({"eligible_authrole": ["nobody"]}, []),
        ({"eligible": [a.id, b.id], "exclude_authid": ["a"]}, [b]),
    ):
        publisher.publish("com.topic", 7, **options)
        mesh.settle()
        assert [one for one in people if events(one) == [[7], [7]]] == gets, options
        assert [one.take() for one in people] == [[], [], []]


def test_publisher_is_named_over_there_as_here() -> None:
    """Disclosure is decided where the publisher is."""
    mesh = Mesh()
    publisher, there = mesh.stages[0].client("joe"), mesh.stages[1].client()
    there.subscribe("com.topic")
    mesh.settle()

    publisher.publish("com.topic", disclose_me=True)
    publisher.publish("com.topic", disclose_me=True, exclude_authid=["nobody"])
    publisher.publish("com.topic")
    mesh.settle()

    told = [m[3].get("publisher_authid") for m in there.take() if m[0] == EVENT]
    assert told == ["joe", "joe", None]


def test_retained_event_is_kept_by_all_and_told_once() -> None:
    """Whoever subscribes late gets it from the nearest router, also when the publisher's router is gone."""
    mesh = Mesh(3)
    publisher = mesh.stages[0].client()
    there = mesh.stages[1].client()
    there.subscribe("com.state")
    mesh.settle()
    publisher.publish("com.state", "old", retain=True)
    publisher.publish("com.state", "new", retain=True)
    mesh.settle()
    assert events(there) == [["old"], ["new"]]

    for end in mesh.pairs[0]:
        end.lose()
    for stage in mesh.stages:
        late = stage.client()
        late.subscribe("com.state", get_retained=True)
        mesh.settle()
        assert events(late) == [["new"]]


def test_router_that_comes_back_learns_what_was_retained() -> None:
    """A killed router has forgotten all; more of it than fits one batch."""
    mesh = Mesh()
    keeper = mesh.stages[0].client()
    for n in range(3 * BATCH + 1):
        keeper.publish(f"com.state.x{n}", n, retain=True)
    keeper.publish("com.state.x0", "newer", retain=True, eligible_authid=["me"])
    for end in mesh.pairs.pop():
        end.lose()
    fresh = Stage()
    fresh._ids = 9_000_000
    fresh.client().publish("com.state.x1", "its own", retain=True)

    mesh.couple(mesh.stages[0], fresh)

    late = fresh.client()
    late.subscribe("com.state", match="prefix", get_retained=True)
    got = events(late)
    assert len(got) == 3 * BATCH + 1
    assert ["newer"] in got
    assert ["its own"] in got
    assert [1] not in got


def test_meta_events_stay_at_home() -> None:
    """Each router tells of itself: nothing is told twice, even to those who listen to everything."""
    mesh = Mesh()
    here, there = (stage.client() for stage in mesh.stages)
    here.subscribe("wamp.session.on_join")
    here.subscribe("", match="prefix")
    there.subscribe("wamp.session.on_join")
    mesh.settle()
    here.take()
    there.take()

    mesh.stages[1].client("new")
    mesh.settle()
    assert events(here) == []
    assert [event[0]["authid"] for event in events(there)] == ["new"]

    mesh.stages[0].client("mine")
    mesh.settle()
    assert [event[0]["authid"] for event in events(here)] == ["mine"] * 2
    assert events(there) == []


def test_history_of_one_router_has_the_events_of_both() -> None:
    mesh = Mesh(2, history=[{"uri": "com.topic", "match": "exact", "limit": 10}])
    here, there = (stage.client() for stage in mesh.stages)
    there.publish("com.topic", "from there")
    mesh.settle()

    found = here.ask("wamp.subscription.get_events", here.ask("wamp.subscription.lookup", "com.topic"))  # fmt: skip

    assert [event["args"] for event in found] == [["from there"]]


# -- calls ------------------------------------------------------------------------------------------


def call(mesh: Mesh, caller: Client, callee: Client, procedure: str, *args: Any, **options: Any) -> list[Any]:  # fmt: skip
    """Call, and return the invocation that the callee gets."""
    caller.call(procedure, *args, **options)
    mesh.settle()
    invocation = callee.one()
    assert invocation[0] == INVOCATION
    return invocation


def test_procedure_of_one_router_is_called_at_the_other() -> None:
    mesh = Mesh()
    caller, callee = (stage.client() for stage in mesh.stages)
    callee.register("com.add")
    mesh.settle()
    callee.take()

    invocation = call(mesh, caller, callee, "com.add", 2, 3)
    assert invocation[3:] == [{}, [2, 3]]
    callee.give(invocation[1], 5)
    mesh.settle()
    assert caller.one()[2:] == [{}, [5]]

    invocation = call(mesh, caller, callee, "com.add")
    callee.fail(invocation[1], "com.error.too_few", 2)
    mesh.settle()
    assert caller.one()[3:] == [{}, "com.error.too_few", [2]]


def test_patterns_progress_and_chunks_pass_through() -> None:
    """The procedure's name, results on the way and arguments on the way."""
    mesh = Mesh()
    caller, callee = (stage.client() for stage in mesh.stages)
    callee.register("com.files", match="prefix")
    mesh.settle()
    callee.take()

    request = caller.call("com.files.put", "one", receive_progress=True, progress=True)
    mesh.settle()
    invocation = callee.one()
    assert invocation[3]["procedure"] == "com.files.put"
    assert invocation[3]["receive_progress"] is True
    caller.says(messages.Call(request, {"progress": False}, "com.files.put", ["two"]))
    mesh.settle()
    second = callee.one()
    assert second[1] == invocation[1]
    assert second[4] == ["two"]
    callee.give(invocation[1], 50, progress=True)
    callee.give(invocation[1], 100)
    mesh.settle()

    assert [m[2:] for m in caller.take()] == [[{"progress": True}, [50]], [{}, [100]]]


@pytest.mark.parametrize("mode", ["skip", "killnowait", "kill"])
def test_cancelling_passes_through(mode: str) -> None:
    mesh = Mesh()
    caller, callee = (stage.client() for stage in mesh.stages)
    callee.register("com.slow")
    mesh.settle()
    callee.take()
    request = caller.call("com.slow")
    mesh.settle()
    invocation = callee.one()[1]

    caller.cancel(request, mode=mode)
    mesh.settle()

    if mode == "skip":
        assert callee.take() == []
    else:
        assert callee.one()[:2] == [INTERRUPT, invocation]
    if mode == "kill":
        assert caller.take() == []
        callee.fail(invocation, "wamp.error.canceled")
    else:
        callee.give(invocation, "too late")
    mesh.settle()
    assert caller.one()[4] == "wamp.error.canceled"


def test_time_limit_travels_and_is_kept() -> None:
    mesh = Mesh()
    caller, callee = (stage.client() for stage in mesh.stages)
    callee.register("com.slow", forward_timeout=True)
    mesh.settle()
    callee.take()
    invocation = call(mesh, caller, callee, "com.slow", timeout=500)
    assert invocation[3]["timeout"] == 500

    for stage in mesh.stages:
        stage.after(2.0)
    mesh.settle()

    assert caller.one()[4] == "wamp.error.timeout"
    assert callee.one()[0] == INTERRUPT


def test_callee_learns_who_calls_not_through_whom() -> None:
    mesh = Mesh()
    caller, callee = mesh.stages[0].client("joe"), mesh.stages[1].client()
    callee.register("com.who", disclose_caller=True)
    callee.register("com.whoever")
    mesh.settle()
    callee.take()

    details = call(mesh, caller, callee, "com.who")[3]
    assert (details["caller"], details["caller_authid"]) == (caller.id, "joe")
    details = call(mesh, caller, callee, "com.whoever", disclose_me=True)[3]
    assert (details["caller"], details["caller_authid"]) == (caller.id, "joe")
    assert "caller" not in call(mesh, caller, callee, "com.whoever")[3]


def test_permission_of_the_caller_is_judged_where_it_is() -> None:
    """A link may do everything; its clients may not."""
    mesh = Mesh(2, role_of("user", rule("com.open")), role_of("boss", rule()))
    caller = mesh.stages[0].client()
    callee = mesh.stages[1].client("boss", "boss")
    callee.register("com.secret")
    mesh.settle()
    callee.take()

    caller.call("com.secret")
    mesh.settle()

    assert caller.one()[4] == "wamp.error.not_authorized"
    assert callee.take() == []


def test_local_callee_is_preferred_and_the_other_router_steps_in() -> None:
    """Two copies of a component, one at each router: nobody has to configure anything for that."""
    mesh = Mesh()
    caller, near = mesh.stages[0].client(), mesh.stages[0].client()
    far = mesh.stages[1].client()
    far.register("com.proc")
    mesh.settle()
    registration = near.register("com.proc")
    mesh.settle()
    near.take()
    far.take()

    near.give(call(mesh, caller, near, "com.proc")[1], "near")
    assert caller.one()[3] == ["near"]
    near.unregister(registration)
    mesh.settle()
    near.take()
    caller.take()
    far.give(call(mesh, caller, far, "com.proc")[1], "far")
    mesh.settle()
    assert caller.one()[3] == ["far"]
    far.leave()
    mesh.settle()
    caller.call("com.proc")
    assert caller.one()[4] == "wamp.error.no_such_procedure"


def test_the_more_exact_procedure_wins_wherever_it_is() -> None:
    mesh = Mesh()
    caller, near = mesh.stages[0].client(), mesh.stages[0].client()
    far = mesh.stages[1].client()
    near.register("com", match="prefix")
    far.register("com.proc")
    mesh.settle()
    near.take()
    far.take()

    call(mesh, caller, far, "com.proc")
    call(mesh, caller, near, "com.other")


@pytest.mark.parametrize("invoke", ["roundrobin", "random", "first", "last"])
def test_shared_procedure_keeps_its_policy_over_there(invoke: str) -> None:
    mesh = Mesh()
    caller = mesh.stages[0].client()
    callees = [mesh.stages[1].client(name) for name in "ab"]
    for callee in callees:
        callee.register("com.proc", invoke=invoke)
    mesh.settle()
    for callee in callees:
        callee.take()

    for _ in range(4):
        caller.call("com.proc")
        mesh.settle()

    got = [len(callee.take()) for callee in callees]
    assert sum(got) == 4
    assert got == {"roundrobin": [2, 2], "first": [4, 0], "last": [0, 4]}.get(invoke, got)


def test_call_to_all_asks_each_callee_of_three_routers_once() -> None:
    mesh = Mesh(3)
    callees = [stage.client() for stage in mesh.stages for _ in range(2)]
    for callee in callees:
        callee.register("com.all", invoke="all")
    mesh.settle()
    for callee in callees:
        callee.take()
    caller = mesh.stages[1].client()

    caller.call("com.all", receive_progress=True)
    mesh.settle()
    for n, callee in enumerate(callees):
        callee.give(callee.one()[1], n)
    mesh.settle()

    results = caller.take()
    assert sorted(m[3][0] for m in results if m[2].get("progress") and len(m) > 3) == list(range(6))
    assert not results[-1][2].get("progress")


def test_link_is_no_bottleneck_of_calls_in_flight() -> None:
    """A thousand callers share one link: the limit of one session is not theirs."""
    mesh = Mesh(2, limits={"sessions": 9, "subscriptions_per_session": 2, "registrations_per_session": 2, "calls_per_session": 2})  # fmt: skip
    callers = [mesh.stages[0].client() for _ in range(5)]
    callees = [mesh.stages[1].client() for _ in range(3)]
    for n, callee in enumerate(callees):
        callee.register(f"com.proc{n}")
        callee.subscribe(f"com.topic{n}")
    mesh.settle()
    for caller in callers:
        caller.call("com.proc2")
    mesh.settle()

    assert [m[0] for m in callees[2].take()] == [INVOCATION] * 5
    assert [caller.take() for caller in callers] == [[]] * 5
    assert [end.says for pair in mesh.pairs for end in pair] == [[], []]


# -- ends -------------------------------------------------------------------------------------------


def test_lost_router_takes_its_procedures_along_at_once_and_brings_them_back() -> None:
    """Calls in flight end with a clear error; what is local goes on."""
    mesh = Mesh()
    caller, callee = (stage.client() for stage in mesh.stages)
    local = mesh.stages[0].client()
    local.register("com.local")
    callee.register("com.far")
    mesh.settle()
    callee.take()
    local.take()
    caller.call("com.far")
    mesh.settle()

    for end in mesh.pairs.pop():
        end.lose()

    failed = caller.one()
    assert failed[4:] == ["wamp.error.canceled", ["the callee's router is gone"]]
    assert caller.ask("wamp.registration.match", "com.far") is None
    caller.call("com.never")
    assert caller.one()[4] == "wamp.error.no_such_procedure"
    mesh.stages[0].after(2.0)
    caller.call("com.far")
    assert caller.one()[4] == "wamp.error.no_such_procedure"
    call(mesh, caller, local, "com.local")
    assert callee.take()[-1][0] == INTERRUPT

    mesh.couple(*mesh.stages)
    call(mesh, caller, callee, "com.far")


def lost_router() -> tuple[Mesh, Client]:
    """A caller whose callee has just gone down with the other router."""
    mesh = Mesh()
    caller, callee = (stage.client() for stage in mesh.stages)
    callee.register("com.far")
    callee.register("com.many", match="prefix")
    mesh.settle()
    for end in mesh.pairs.pop():
        end.lose()
    return mesh, caller


def test_calls_wait_a_moment_for_a_component_that_goes_over_to_this_router() -> None:
    """Nobody is to see an error because a router died; a short delay is all."""
    mesh, caller = lost_router()
    first = caller.call("com.far", 1)
    second = caller.call("com.many.x", 2)
    assert caller.take() == []

    moved = mesh.stages[0].client()
    moved.register("com.far")
    invocation = moved.one()
    assert invocation[4] == [1]
    moved.give(invocation[1], "here")
    assert caller.one()[1:] == [first, {}, ["here"]]
    moved.register("com.many", match="prefix")
    invocation = moved.one()
    moved.give(invocation[1], "here, too")
    assert caller.one()[1:] == [second, {}, ["here, too"]]


def test_calls_that_wait_end_in_time_when_nobody_comes() -> None:
    mesh, caller = lost_router()
    stage = mesh.stages[0]
    caller.call("com.far")
    caller.call("com.far", timeout=100)
    request = caller.call("com.far")
    other = stage.client()
    other.call("com.far")
    assert stage.realm.due_s() == pytest.approx(0.1)

    caller.cancel(request)
    assert caller.one()[4] == "wamp.error.canceled"
    other.leave()
    stage.after(0.2)
    assert caller.one()[4] == "wamp.error.timeout"
    stage.after(0.9)
    assert caller.one()[4] == "wamp.error.no_such_procedure"
    assert other.take() == []
    assert stage.realm.due_s() is None


def test_call_in_flight_is_repeated_only_where_it_says_that_it_may() -> None:
    mesh = Mesh()
    caller, callee = (stage.client() for stage in mesh.stages)
    callee.register("com.far")
    mesh.settle()
    caller.call("com.far", "once")
    caller.call("com.far", "again", idempotent=True)
    mesh.settle()

    for end in mesh.pairs.pop():
        end.lose()

    assert caller.one()[4] == "wamp.error.canceled"
    moved = mesh.stages[0].client()
    moved.register("com.far")
    invocation = moved.one()
    assert invocation[4] == ["again"]
    moved.give(invocation[1], "done")
    assert caller.one()[3] == ["done"]
    assert mesh.stages[0].realm.stats()["calls_in_flight"] == 0


def test_call_in_flight_goes_to_a_third_router_at_once() -> None:
    """The same component runs at two routers, and one of them dies."""
    mesh = Mesh(3)
    caller, *callees = (stage.client() for stage in mesh.stages)
    for callee in callees:
        callee.register("com.far")
    mesh.settle()
    for callee in callees:
        callee.take()
    caller.call("com.far", "again", idempotent=True)
    mesh.settle()
    assert len(callees[0].take()) == 1

    for end in mesh.pairs[0]:
        end.lose()
    mesh.settle()

    assert callees[1].one()[4] == ["again"]


def test_call_that_comes_too_late_is_answered_and_never_passed_on() -> None:
    """Two routers that both think that the other one has it would play ball with a call."""
    mesh = Mesh(3)
    callers = [stage.client() for stage in mesh.stages]
    callees = [stage.client() for stage in mesh.stages]
    ids = [callee.register("com.proc") for callee in callees]
    mesh.settle()

    for callee, registration in zip(callees, ids, strict=True):
        callee.unregister(registration)
    for caller in callers:
        caller.call("com.proc")
    mesh.settle()

    assert [caller.one()[4] for caller in callers] == ["wamp.error.no_such_procedure"] * 3


def test_call_that_came_over_a_link_never_goes_over_another_one() -> None:
    """One hop: only then can nothing go in circles, whatever each router believes of the others."""
    mesh = Mesh(3)
    callee = mesh.stages[2].client()
    callee.register("com.proc")
    mesh.settle()
    callee.take()
    end = next(e for pair in mesh.pairs for e in pair if e.stage is mesh.stages[0])
    mesh.crossed()

    end.link.receive(
        end.session, messages.Invocation(1, 1, {"procedure": "com.proc"}), end.stage.now_s
    )

    assert mesh.crossed() == ["Error"]
    assert end.wire.queue[-1].error == "wamp.error.no_such_procedure"


def test_progress_over_a_link_that_is_lost_ends_with_an_error() -> None:
    mesh = Mesh()
    caller, callee = (stage.client() for stage in mesh.stages)
    callee.register("com.slow")
    mesh.settle()
    callee.take()
    invocation = call(mesh, caller, callee, "com.slow", receive_progress=True)
    callee.give(invocation[1], 1, progress=True)
    mesh.settle()
    assert caller.one()[2] == {"progress": True}

    mesh.pairs[0][1].lose()

    assert caller.one()[0] == ERROR


def test_peer_that_breaks_the_rules_is_out() -> None:
    mesh = Mesh()
    end = mesh.pairs[0][0]
    with pytest.raises(Exception, match="has no business on a link"):
        end.link.receive(end.session, messages.Call(1, {}, "com.proc"), 0.0)

    assert end.session.id not in end.stage.realm.sessions
    assert end.stage.realm.links == ()
    end.stage.client().subscribe("com.topic")


# -- whatever happens ---------------------------------------------------------------------------------

_TOPICS = [("com.a.x", "exact"), ("com.a", "prefix"), ("com..x", "wildcard"), ("com.b.x", "exact")]
_REACHES = {
    "com.a.x": {"com.a.x", "com.a", "com..x"},
    "com.b.x": {"com.b.x", "com..x"},
}  # fmt: skip
_STEPS = st.tuples(
    st.sampled_from(["subscribe", "unsubscribe", "publish", "register", "unregister", "call", "break"]),
    st.integers(0, 2), st.integers(0, 1), st.integers(0, 3), st.booleans(),
)  # fmt: skip


class Model:
    """What three linked routers promise, said without routers: who has what."""

    def __init__(self) -> None:
        self.mesh = Mesh(3)
        self.clients = [[stage.client() for _ in range(2)] for stage in self.mesh.stages]
        self.subscribed: dict[tuple[int, int, str], int] = {}
        self.registered: dict[int, tuple[int, int]] = {}

    def everybody(self) -> list[tuple[int, int, Client]]:
        return [(r, c, client) for r, row in enumerate(self.clients) for c, client in enumerate(row)]  # fmt: skip

    def clear(self) -> None:
        self.mesh.settle()
        for _, _, client in self.everybody():
            client.take()

    def step(self, what: str, r: int, c: int, n: int, is_listed: bool) -> None:
        client = self.clients[r][c]
        uri, match = _TOPICS[n]
        key = (r, c, uri)
        if what == "subscribe" and key not in self.subscribed:
            self.subscribed[key] = client.subscribe(uri, match=match)
        elif what == "unsubscribe" and key in self.subscribed:
            client.unsubscribe(self.subscribed.pop(key))
        elif what == "register" and r not in self.registered:
            self.registered[r] = c, client.register("com.proc")
        elif what == "unregister" and r in self.registered:
            owner, registration = self.registered.pop(r)
            self.clients[r][owner].unregister(registration)
        elif what == "break":
            ends = self.mesh.pairs.pop(r)
            for end in ends:
                end.lose()
            self.mesh.couple(ends[0].stage, ends[1].stage)
            for stage in self.mesh.stages:
                stage.after(2.0)
        elif what == "publish":
            self.publish(r, c, "com.a.x" if n % 2 else "com.b.x", is_listed)
        elif what == "call":
            self.call(r, client)

    def publish(self, r: int, c: int, topic: str, is_listed: bool) -> None:
        self.clear()
        options = {"exclude_authid": ["nobody"]} if is_listed else {}
        self.clients[r][c].publish(topic, 1, **options)
        self.mesh.settle()
        for at, one, client in self.everybody():
            wanted = sum((at, one, uri) in self.subscribed for uri in _REACHES[topic])
            assert len(events(client)) == (0 if (at, one) == (r, c) else wanted)

    def call(self, r: int, caller: Client) -> None:
        self.clear()
        caller.call("com.proc")
        self.mesh.settle()
        got = {client.id: client.take() for _, _, client in self.everybody()}
        asked = [id_ for id_, messages in got.items() for m in messages if m[0] == INVOCATION]
        owners = {at: self.clients[at][one].id for at, (one, _) in self.registered.items()}
        if not owners:
            assert got[caller.id][0][4] == "wamp.error.no_such_procedure"
        else:
            assert len(asked) == 1
            assert asked[0] in ([owners[r]] if r in owners else owners.values())


@settings(max_examples=150, deadline=None)
@given(st.lists(_STEPS, max_size=40))
def test_whatever_happens_each_event_and_each_call_arrives_once(steps: list[Any]) -> None:
    """Subscriptions, registrations and links come and go, in any order, with answers still under way."""
    model = Model()
    for step in steps:
        model.step(*step)
    for at in range(3):
        model.publish(at, 0, "com.a.x", False)
        model.call(at, model.clients[at][1])
