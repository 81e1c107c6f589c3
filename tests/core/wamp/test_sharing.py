"""Shared registrations: policies, concurrency, re-routing."""

from core.wamp.stage import Client, Stage
from holdfast.core.wamp.messages import Error


def group(invoke: str, names: str = "abc", **options: object) -> tuple[Stage, Client, list[Client]]:
    stage = Stage()
    callees = [stage.client(name) for name in names]
    for callee in callees:
        callee.register("com.proc", invoke=invoke, **options)
        callee.take()
    return stage, stage.client("caller"), callees


def called(callees: list[Client]) -> str:
    """Who got an invocation, in the order of the callees."""
    return "".join(
        c.session.identity.authid for c in callees for m in c.take() if m[0] == 68
    )  # fmt: skip


def error_of(client: Client) -> object:
    message = client.one()
    assert message[0] == 8, message
    return message[4]


def test_each_policy_picks_its_callee() -> None:
    """first, last, roundrobin, random, as specified."""
    for invoke, expected in (
        ("first", ["a", "a", "a"]),
        ("last", ["c", "c", "c"]),
        ("roundrobin", ["a", "b", "c", "a"]),
        ("random", ["b", "c", "a", "b"]),
    ):
        stage, caller, callees = group(invoke)
        stage.chosen = 0
        picked = []
        for _ in expected:
            caller.call("com.proc")
            picked.append(called(callees))
        assert picked == expected, invoke


def test_a_hot_standby_takes_over() -> None:
    """first: when the first one is gone, the next one is first."""
    _, caller, (a, b, c) = group("first")
    a.leave()
    caller.call("com.proc")
    assert called([b, c]) == "b"


def test_concurrency_is_a_limit_for_each_callee() -> None:
    """The busy one is passed over; when all are busy the caller is told."""
    _, caller, callees = group("roundrobin", "ab", concurrency=1)
    _a, b = callees
    caller.call("com.proc")
    caller.call("com.proc")
    assert called(callees) == "ab"

    caller.call("com.proc")
    assert error_of(caller) == "crossbar.error.max_concurrency_reached"
    b.give(1)
    caller.take()
    caller.call("com.proc")
    assert called(callees) == "b"


def test_a_skipped_call_occupies_its_place_until_it_is_answered() -> None:
    """The callee goes on working: with the place given away it would have two at a time."""
    stage = Stage()
    caller, callee = stage.client(), stage.client(roles={})
    callee.register("com.proc", concurrency=1)
    callee.take()
    caller.cancel(caller.call("com.proc"))
    caller.take()

    caller.call("com.proc")
    assert error_of(caller) == "crossbar.error.max_concurrency_reached"
    callee.give(1)
    caller.call("com.proc")
    assert callee.take()[-1][:2] == [68, 2]


def test_a_call_goes_on_to_the_next_when_a_callee_is_unavailable() -> None:
    """Re-routing: the caller never knows, unless all are."""
    for invoke, order in (("first", "abc"), ("last", "cba"), ("roundrobin", "abc")):
        stage, caller, callees = group(invoke)
        by_name = {c.session.identity.authid: c for c in callees}
        caller.call("com.proc", "x")
        for name in order[:2]:
            invocation = by_name[name].one()
            assert invocation[4] == ["x"]
            by_name[name].fail(invocation[1], "wamp.error.unavailable")
        assert caller.take() == []
        last = by_name[order[2]]
        last.give(last.one()[1], "done")
        assert caller.one()[3] == ["done"]

        caller.call("com.proc", "x")
        for _ in range(3):
            callee = next(c for c in callees if any(m[0] == 68 for m in c.got))
            callee.fail(callee.take()[-1][1], "wamp.error.unavailable")
        assert error_of(caller) == "wamp.error.no_available_callee"
        assert stage.realm.stats()["calls_in_flight"] == 0


def test_an_unavailable_single_callee_is_the_end() -> None:
    """Specification: no_available_callee."""
    stage = Stage()
    caller, callee = stage.clients("a", "b")
    callee.register("com.proc")
    callee.take()
    caller.call("com.proc")
    callee.fail(1, "wamp.error.unavailable")
    assert error_of(caller) == "wamp.error.no_available_callee"


def test_a_call_of_a_callee_that_is_gone_is_made_again_only_where_that_is_harmless() -> None:
    """Nobody knows how far it came: "charge the card" must not be done twice."""
    for said_by in ("nobody", "call", "registration"):
        options = {"idempotent": True} if said_by == "registration" else {}
        stage, caller, (a, b) = group("first", "ab", **options)
        caller.call("com.proc", "x", **({"idempotent": True} if said_by == "call" else {}))
        a.take()

        a.leave()

        if said_by == "nobody":
            assert error_of(caller) == "wamp.error.canceled"
            assert b.take() == []
        else:
            invocation = b.one()
            assert invocation[4] == ["x"]
            b.give(invocation[1], "done")
            assert caller.one()[3] == ["done"]
        assert stage.realm.stats()["calls_in_flight"] == 0


def test_after_a_progressive_result_no_other_callee_begins_anew() -> None:
    """The caller has half of it already."""
    _, caller, (a, b) = group("first", "ab", idempotent=True)
    caller.call("com.proc", receive_progress=True)
    a.give(1, "half", progress=True)
    caller.take()

    a.leave()

    assert error_of(caller) == "wamp.error.canceled"
    assert b.take() == []


def test_a_rerouted_call_keeps_its_deadline() -> None:
    """Counted from the CALL, not from the last attempt."""
    stage, caller, (a, _) = group("first", "ab")
    caller.call("com.proc", timeout=1000)
    stage.after(0.6)
    a.fail(a.one()[1], "wamp.error.unavailable")

    stage.after(0.5)

    assert error_of(caller) == "wamp.error.timeout"


def test_force_reregister_takes_the_procedure_over() -> None:
    """After a crash of a callee whose connection still hangs: the new one gets in, the old one is told."""
    stage = Stage()
    old, new, caller = stage.clients("old", "new", "caller")
    silent = stage.client("silent", roles={})
    first = old.register("com.proc")
    before = silent.register("com.other")

    second = new.register("com.proc", force_reregister=True)
    new.register("com.other", force_reregister=True)
    caller.call("com.proc")

    assert second != first
    assert old.one()[:2] == [67, 0]
    assert silent.take() == []  # it does not understand being told
    assert before not in silent.session.registrations
    assert new.take()[-1][0] == 68


# -- all


def test_all_are_called_and_each_result_is_told() -> None:
    """Progressive results as they come, an empty final one."""
    stage, caller, (a, b, c) = group("all")
    request = caller.call("com.proc", "x", receive_progress=True)

    for callee in (b, a, c):
        invocation = callee.one()
        assert invocation[4] == ["x"]
        if callee is a:
            callee.fail(invocation[1], "com.broken", "a")
        else:
            callee.give(invocation[1], callee.session.identity.authid)

    assert caller.take() == [
        [50, request, {"progress": True}, ["b"]],
        [50, request, {"progress": True, "_error": "com.broken"}, ["a"]],
        [50, request, {"progress": True}, ["c"]],
        [50, request, {}],
    ]
    assert stage.realm.stats()["calls_in_flight"] == 0


def test_all_without_progress_gives_the_first_result() -> None:
    """When the last one has answered: the caller wants to know that it is done everywhere."""
    _, caller, (a, b, c) = group("all")
    request = caller.call("com.proc")
    a.fail(1, "com.broken")
    b.give(1, "b")
    c.give(1, "c")

    assert caller.take() == [[50, request, {}, ["b"]]]


def test_all_failed_is_a_failure() -> None:
    """With the first error; one that leaves counts as an error, too."""
    for progress in (True, False):
        _, caller, (a, b) = group("all", "ab")
        caller.call("com.proc", receive_progress=progress)
        b.leave()
        a.fail(1, "com.broken")

        got = caller.take()
        assert got[-1][4] == "wamp.error.canceled"
        assert len(got) == 1 + progress


def test_all_can_be_canceled_and_time_out() -> None:
    """All of them are told to stop."""
    for how in ("skip", "kill", "killnowait", "timeout"):
        stage, caller, callees = group("all", "ab")
        request = caller.call("com.proc", timeout=1000)
        for callee in callees:
            callee.take()
        if how == "timeout":
            stage.after(1.1)
        else:
            caller.cancel(request, mode=how)
        told = [callee.take() for callee in callees]
        if how == "kill":
            assert told == [[[69, 1, {"mode": "kill"}]]] * 2
            for callee in callees:
                callee.fail(1, "wamp.error.canceled")
        else:
            mode = [[69, 1, {"mode": "killnowait"}]] if how != "skip" else []
            assert told == [mode, mode]
        expected = "wamp.error.timeout" if how == "timeout" else "wamp.error.canceled"
        assert error_of(caller) == expected
        assert stage.realm.stats()["calls_in_flight"] == 0
        assert not any(s.invocations for s in stage.realm.sessions.values())


def test_all_survives_whoever_leaves_meanwhile() -> None:
    """A callee is cut off while the call goes out to it: the others still answer."""
    stage, caller, (a, b, c) = group("all")
    send, a.send = a.send, lambda *_: (b.leave(), send(*_))[0]  # type: ignore[method-assign, func-returns-value]

    request = caller.call("com.proc")
    a.give(1, "a")
    c.give(1, "c")

    assert caller.take() == [[50, request, {}, ["a"]]]
    assert stage.realm.stats()["calls_in_flight"] == 0


def test_an_answer_of_one_of_all_after_the_end_is_dropped() -> None:
    """Canceled already."""
    _, caller, (a, b) = group("all", "ab")
    caller.cancel(caller.call("com.proc"), mode="skip")
    caller.take()
    a.give(1)
    b.says(Error(68, 1, {}, "com.error"))
    assert caller.take() == []
