"""Calls: who gets them, who their result, and every way in which they end."""

import pytest

from core.wamp.stage import Client, Stage, limits, role, rule
from holdfast.core.wamp.messages import Call, Error, Yield


def pair(stage: Stage | None = None, **options: object) -> tuple[Stage, Client, Client]:
    stage = stage or Stage()
    caller, callee = stage.clients("caller", "callee")
    callee.register("com.proc", **options)
    callee.take()
    return stage, caller, callee


def error_of(message: list[object]) -> object:
    assert message[:2] == [8, 48], message
    return message[4]


def idle(stage: Stage) -> bool:
    """Nothing is left of any call."""
    return stage.realm.stats()["calls_in_flight"] == 0 and not any(
        s.calls or s.invocations for s in stage.realm.sessions.values()
    )


def test_a_call_gets_its_result() -> None:
    """The basic profile."""
    stage, caller, callee = pair()

    request = caller.call("com.proc", 1, kwargs={"a": 2})
    invocation = callee.one()
    callee.give(invocation[1], 3)

    assert invocation == [68, 1, 1, {}, [1], {"a": 2}]
    assert caller.one() == [50, request, {}, [3]]
    assert idle(stage)


def test_results_find_their_calls_in_any_order() -> None:
    """Request ids are of a session, invocation ids of another one."""
    stage, caller, callee = pair()
    other = stage.client()
    first, second = caller.call("com.proc", "1"), caller.call("com.proc", "2")
    third = other.call("com.proc", "3")
    one, two, three = (m[1] for m in callee.take())

    callee.give(three, "c")
    callee.give(one, "a")
    callee.fail(two, "com.error", "b", detail=1)

    assert caller.take() == [
        [50, first, {}, ["a"]],
        [8, 48, second, {}, "com.error", ["b"]],
    ]
    assert other.one() == [50, third, {}, ["c"]]
    assert idle(stage)


def test_calling_what_is_not_there_says_so() -> None:
    """And calling what is no URI, and what one may not call."""
    client = Stage(role("user", rule("com.open"))).client()

    client.call("com.open.nothing")
    assert error_of(client.one()) == "wamp.error.no_such_procedure"
    client.call("com..nothing")
    assert error_of(client.one()) == "wamp.error.invalid_uri"
    client.call("com.closed")
    assert error_of(client.one()) == "wamp.error.not_authorized"
    client.call("com.open.x", timeout="soon")
    assert error_of(client.one()) == "wamp.error.invalid_argument"


def test_a_procedure_belongs_to_one_unless_shared() -> None:
    """Registering what is taken fails; with other policies it has to be the same one."""
    stage = Stage()
    a, b = stage.clients("a", "b")
    from holdfast.core.wamp.messages import Register

    def refused(client: Client, procedure: str, **options: object) -> object:
        client.says(Register(9, dict(options), procedure))
        error = client.one()
        assert error[:3] == [8, 64, 9]
        return error[4]

    a.register("com.single")
    a.register("com.shared", invoke="roundrobin")
    assert refused(b, "com.single") == "wamp.error.procedure_already_exists"
    assert refused(a, "com.single") == "wamp.error.procedure_already_exists"
    assert refused(b, "com.single", invoke="first") == "wamp.error.procedure_already_exists"
    assert refused(b, "com.shared") == "wamp.error.procedure_already_exists"
    assert refused(b, "com.shared", invoke="random") == (
        "wamp.error.procedure_exists_with_different_invocation_policy"
    )
    assert refused(b, "com.x", invoke="best") == "wamp.error.invalid_argument"
    assert refused(b, "com.x", invoke=["all"]) == "wamp.error.invalid_argument"
    assert refused(b, "com.x", concurrency="two") == "wamp.error.invalid_argument"
    assert refused(b, "com..x") == "wamp.error.invalid_uri"
    assert refused(b, "wamp.x") == "wamp.error.invalid_uri"
    assert refused(b, "wamp.session.count") == "wamp.error.invalid_uri"
    it = stage.client("it", "trusted")
    assert refused(it, "wamp.session.count") == "wamp.error.procedure_already_exists"


def test_unregistering_ends_calls_to_come_and_not_those_that_are_there() -> None:
    """The callee still has them, and answers."""
    stage, caller, callee = pair()
    request = caller.call("com.proc")
    invocation = callee.one()

    callee.unregister(invocation[2])
    assert callee.one()[0] == 67
    caller.call("com.proc")
    assert error_of(caller.one()) == "wamp.error.no_such_procedure"
    callee.give(invocation[1], 1)
    assert caller.one() == [50, request, {}, [1]]
    callee.unregister(invocation[2])
    assert callee.one()[4] == "wamp.error.no_such_registration"
    assert idle(stage)


def test_a_callee_that_is_gone_ends_its_calls_at_once() -> None:
    """Not after the caller's patience: crossbar does it in 3 ms, so do we."""
    stage, caller, callee = pair()
    request = caller.call("com.proc")

    callee.leave()

    error = caller.one()
    assert error[2] == request
    assert error_of(error) == "wamp.error.canceled"
    assert idle(stage)
    caller.call("com.proc")
    assert error_of(caller.one()) == "wamp.error.no_such_procedure"


def test_a_caller_that_is_gone_interrupts_its_callee() -> None:
    """Or whoever streams to it would do so for ever. Who does not know INTERRUPT does not get it."""
    stage, caller, callee = pair()
    plain = stage.client(roles={})
    plain.register("com.plain")
    caller.call("com.proc")
    caller.call("com.plain")
    one, other = callee.one()[1], plain.take()[-1][1]

    caller.leave()

    assert callee.one() == [69, one, {"mode": "killnowait"}]
    assert plain.take() == []
    callee.give(one)
    plain.give(other)
    assert idle(stage)


def test_a_session_may_call_itself_and_leave() -> None:
    """Both ends of a call go at once."""
    stage = Stage()
    client = stage.client()
    client.register("com.mine")
    client.call("com.mine")

    client.leave()

    assert stage.realm.stats()["calls_in_flight"] == 0
    assert stage.realm.stats()["registrations"] == 0


def test_who_may_be_told_who_calls() -> None:
    """By wish of the caller, by permission, and because the callee asks for it."""
    stage = Stage(role("user", rule(), rule("com.told", disclose_caller=True)))
    caller, callee = stage.clients("caller", "callee")
    for procedure in ("com.told", "com.plain"):
        callee.register(procedure)
    callee.register("com.asks", disclose_caller=True)
    callee.take()

    caller.call("com.plain")
    caller.call("com.plain", disclose_me=True)
    caller.call("com.told")
    caller.call("com.asks")

    me = {"caller": caller.id, "caller_authid": "caller", "caller_authrole": "user"}
    assert [m[3] for m in callee.take()] == [{}, me, me, me]


def test_the_trust_level_of_a_role_travels_with_its_calls() -> None:
    """Call trust levels."""
    stage = Stage(role("user", rule()), role("staff", rule(), trustlevel=7))
    callee, caller = stage.client(), stage.client("s", "staff")
    callee.register("com.proc")
    callee.take()

    caller.call("com.proc")

    assert callee.one()[3] == {"trustlevel": 7}


def test_patterns_get_calls_with_the_procedure() -> None:
    """Pattern-based registration; the best match gets it, and only that one."""
    stage = Stage()
    caller, callee = stage.clients("a", "b")
    ids = {
        "exact": callee.register("com.app.x"),
        "prefix": callee.register("com.app", match="prefix"),
        "wildcard": callee.register("com..y", match="wildcard"),
    }
    callee.take()

    for procedure in ("com.app.x", "com.app.z", "com.other.y"):
        caller.call(procedure)
    got = callee.take()
    callee.unregister(ids["exact"])
    caller.call("com.app.x")

    assert [(m[2], m[3]) for m in got] == [
        (ids["exact"], {}),
        (ids["prefix"], {"procedure": "com.app.z"}),
        (ids["wildcard"], {"procedure": "com.other.y"}),
    ]
    assert callee.take()[-1][2:4] == [ids["prefix"], {"procedure": "com.app.x"}]


def test_calls_in_flight_are_limited() -> None:
    """One client must not fill the router with calls that nobody answers."""
    _, caller, callee = pair(Stage(limits=limits(calls_per_session=2)))
    caller.call("com.proc")
    caller.call("com.proc")

    caller.call("com.proc")

    error = caller.one()
    assert error_of(error) == "holdfast.error.limit_exceeded"
    assert "calls_per_session" in error[5][0]
    callee.give(1)
    caller.take()
    caller.call("com.proc")
    assert caller.take() == []
    assert len(callee.take()) == 3


def test_registrations_are_limited() -> None:
    """Likewise."""
    stage = Stage(limits=limits(registrations_per_session=1))
    client = stage.client()
    client.register("com.a", invoke="last")
    from holdfast.core.wamp.messages import Register

    client.says(Register(5, {}, "com.b"))
    assert client.one()[4] == "holdfast.error.limit_exceeded"
    assert client.register("com.a", invoke="last") == 1


def test_answers_that_nobody_asked_for_are_offences() -> None:
    """A callee that invents results is broken; what it holds goes with it."""
    stage, caller, callee = pair()

    says = callee.offends(Yield(1, {}))

    assert "YIELD for invocation 1" in says
    assert stage.realm.stats()["registrations"] == 0
    other = stage.client()
    assert "ERROR for message type 48" in other.offends(Error(48, 1, {}, "com.error"))
    assert "invocation 7" in stage.client().offends(Error(68, 7, {}, "com.error"))
    assert caller.take() == []


def test_a_request_id_in_flight_cannot_be_used_again() -> None:
    """Nobody could tell the results apart."""
    stage, caller, callee = pair()
    caller.call("com.proc")

    assert "in flight" in caller.offends(Call(1, {}, "com.proc"))

    assert callee.take()[-1][0] == 69
    assert idle(stage)


# -- progress


def test_progressive_results_come_as_they_are_made() -> None:
    """Until the final one."""
    stage, caller, callee = pair()
    request = caller.call("com.proc", receive_progress=True)
    invocation = callee.one()

    assert invocation[3] == {"receive_progress": True}
    callee.give(1, "a", progress=True)
    callee.give(1, "b", progress=True)
    callee.give(1, "end")

    assert caller.take() == [
        [50, request, {"progress": True}, ["a"]],
        [50, request, {"progress": True}, ["b"]],
        [50, request, {}, ["end"]],
    ]
    assert idle(stage)


def test_who_did_not_ask_for_progress_gets_none() -> None:
    """A client would take the first one for the result."""
    stage, caller, callee = pair()
    request = caller.call("com.proc")

    callee.give(1, "a", progress=True)
    callee.give(1, "end")

    assert caller.take() == [[50, request, {}, ["end"]]]
    assert idle(stage)


def test_a_progressive_call_sends_chunk_after_chunk() -> None:
    """Same invocation, options of the first CALL; results may come in between."""
    stage, caller, callee = pair()
    request = caller.call("com.proc", 1, progress=True, receive_progress=True, disclose_me=True)
    first = callee.one()
    caller.says(Call(request, {"progress": True}, "com.proc", [2]))
    callee.give(first[1], "so far", progress=True)
    caller.says(Call(request, {}, "com.proc", [3]))
    second, third = callee.take()
    callee.give(first[1], "all")

    assert first[3]["progress"] is True
    assert second[1:3] == first[1:3]
    assert second[3] == first[3]
    assert second[4] == [2]
    assert third[3] == {**first[3], "progress": False}
    assert [m[2:] for m in caller.take()] == [[{"progress": True}, ["so far"]], [{}, ["all"]]]
    assert idle(stage)


def test_chunks_that_come_too_late_are_dropped() -> None:
    """They were on their way when the callee ended the call: nobody's fault."""
    _stage, caller, callee = pair()
    request = caller.call("com.proc", 1, progress=True)
    callee.fail(1, "com.enough")
    caller.take()
    callee.take()

    caller.says(Call(request, {"progress": True}, "com.proc", [2]))
    caller.says(Call(request, {}, "com.proc", [3]))

    assert caller.take() == []
    assert callee.take() == []
    assert caller.call("com.proc", 4)
    assert callee.one()[4] == [4]


def test_chunks_of_a_refused_call_are_dropped() -> None:
    """Or each of them would be answered as a call of its own."""
    client = Stage().client()
    request = client.call("com.nothing", progress=True)
    assert error_of(client.one()) == "wamp.error.no_such_procedure"

    client.says(Call(request, {"progress": True}, "com.nothing"))

    assert client.take() == []


def test_progressive_calls_need_both_sides() -> None:
    """Specification: an offence of the caller, an error because of the callee."""
    stage = Stage()
    old, modern = stage.client(roles={}), stage.client()
    old.register("com.old")
    modern.call("com.old", progress=True)
    assert error_of(modern.one()) == "wamp.error.feature_not_supported"
    assert "progressive_call_invocations" in old.offends(Call(1, {"progress": True}, "com.x"))


def test_a_chunk_after_the_last_one_is_an_offence() -> None:
    """As is one with another procedure."""
    stage, caller, _ = pair()
    request = caller.call("com.proc", progress=True)
    caller.says(Call(request, {}, "com.proc"))
    assert "progressive" in caller.offends(Call(request, {}, "com.proc"))

    other = stage.client()
    request = other.call("com.proc", progress=True)
    assert "com.else" in other.offends(Call(request, {}, "com.else"))


# -- payload passthru


def test_sealed_calls_and_results_keep_their_description() -> None:
    """CALL, YIELD and ERROR: what the router does not read it does not drop."""
    _, caller, callee = pair()
    sealed = {"ppt_scheme": "x_mine", "ppt_keyid": "k"}

    caller.call("com.proc", b"1", **sealed)
    assert callee.one()[3] == sealed
    callee.give(1, b"2", **sealed)
    assert caller.one()[2] == sealed
    caller.call("com.proc", b"1", **sealed)
    callee.says(Error(68, 2, sealed, "com.error", [b"3"]))
    assert caller.one()[3:] == [sealed, "com.error", [b"3"]]


def test_a_sealed_result_for_who_cannot_open_it_is_an_error() -> None:
    """It would take the box for the content."""
    stage, _, callee = pair()
    old = stage.client(roles={})
    old.call("com.proc")

    callee.give(1, b"2", ppt_scheme="x_mine")

    assert error_of(old.one()) == "wamp.error.feature_not_supported"
    assert idle(stage)
    modern = stage.client()
    old.register("com.old")
    modern.call("com.old", ppt_scheme="x_mine")
    assert error_of(modern.one()) == "wamp.error.feature_not_supported"


# -- cancelling


@pytest.mark.parametrize("mode", ["skip", "killnowait", None])
def test_a_canceled_call_ends_at_once_for_the_caller(mode: str | None) -> None:
    """And its result, which may be on its way already, is dropped."""
    stage, caller, callee = pair()
    request = caller.call("com.proc")
    callee.take()

    caller.cancel(request, **({"mode": mode} if mode else {}))

    assert error_of(caller.one()) == "wamp.error.canceled"
    interrupts = [] if mode == "skip" else [[69, 1, {"mode": "killnowait"}]]
    assert callee.take() == interrupts
    callee.give(1, "late")
    assert caller.take() == []
    assert idle(stage)


@pytest.mark.parametrize("is_failure", [True, False])
def test_kill_waits_for_the_callee(is_failure: bool) -> None:
    """Whatever it answers is the end of the call: it may have finished before it heard."""
    stage, caller, callee = pair()
    request = caller.call("com.proc")
    callee.take()

    caller.cancel(request, mode="kill")
    caller.cancel(request, mode="kill")

    assert callee.one() == [69, 1, {"mode": "kill"}]
    assert caller.take() == []
    if is_failure:
        callee.fail(1, "wamp.error.canceled")
        assert error_of(caller.one()) == "wamp.error.canceled"
    else:
        callee.give(1, "done")
        assert caller.one()[3] == ["done"]
    assert idle(stage)


def test_a_kill_that_takes_too_long_can_be_made_final() -> None:
    """CANCEL once more, without waiting."""
    stage, caller, _callee = pair()
    request = caller.call("com.proc")
    caller.cancel(request, mode="kill")
    caller.cancel(request, mode="skip")

    assert error_of(caller.one()) == "wamp.error.canceled"
    assert idle(stage)


def test_kill_of_a_callee_that_knows_no_interrupt_is_skip() -> None:
    """Specification: "If the callee does not support call canceling, then behavior is skip"."""
    stage = Stage()
    caller, callee = stage.client(), stage.client(roles={})
    callee.register("com.proc")
    request = caller.call("com.proc")
    callee.take()

    caller.cancel(request, mode="kill")

    assert error_of(caller.one()) == "wamp.error.canceled"
    assert callee.take() == []
    assert idle(stage)


def test_canceling_what_is_over_does_nothing() -> None:
    """The result may have crossed it. A mode that there is not is an offence."""
    from holdfast.core.wamp.messages import Cancel

    _, caller, _ = pair()
    caller.cancel(12)
    assert caller.take() == []
    assert "'stop'" in caller.offends(Cancel(1, {"mode": "stop"}))


# -- timeouts


def test_a_timeout_is_in_milliseconds_and_is_called_so() -> None:
    """Crossbar.io 26.10 takes it for seconds, and answers wamp.error.canceled."""
    stage, caller, callee = pair()
    request = caller.call("com.proc", timeout=500)
    callee.take()

    stage.after(0.499)
    assert caller.take() == []
    stage.after(0.002)

    error = caller.one()
    assert error[2] == request
    assert error_of(error) == "wamp.error.timeout"
    assert "500 ms" in error[5][0]
    assert callee.one() == [69, 1, {"mode": "killnowait"}]
    callee.give(1, "late")
    assert caller.take() == []
    assert idle(stage)
    assert stage.realm.due_s() is None


def test_no_timeout_is_no_timer() -> None:
    """Zero means none, as specified; a call that ended takes its timer along."""
    stage, caller, callee = pair()
    caller.call("com.proc", timeout=0)
    assert stage.realm.due_s() is None
    caller.call("com.proc", timeout=1000)
    assert stage.realm.due_s() == 1.0
    callee.give(2)
    assert stage.realm.due_s() is None


def test_progress_starts_the_timeout_anew() -> None:
    """It is a limit between results, not for all of them."""
    stage, caller, callee = pair()
    caller.call("com.proc", timeout=1000, receive_progress=True)
    for _ in range(5):
        stage.after(0.9)
        callee.give(1, progress=True)
    assert len(caller.take()) == 5

    stage.after(1.1)

    assert error_of(caller.one()) == "wamp.error.timeout"


def test_a_callee_may_take_the_timeout_itself() -> None:
    """It gets the number, and a second more than that before the dealer steps in."""
    stage, caller, callee = pair(forward_timeout=True)
    caller.call("com.proc", timeout=500)

    assert callee.one()[3] == {"timeout": 500}
    stage.after(1.0)
    assert caller.take() == []
    stage.after(0.6)
    assert error_of(caller.one()) == "wamp.error.timeout"


def test_timers_of_ended_calls_do_not_pile_up() -> None:
    """A hundred thousand calls an hour with a timeout of an hour must not be a leak."""
    stage, caller, callee = pair()
    for n in range(1, 2001):
        caller.call("com.proc", timeout=3_600_000)
        callee.give(n)

    assert len(stage.realm.dealer._timers) < 200
    assert idle(stage)


# -- the router's own calls


def test_the_router_calls_in_its_own_name() -> None:
    """Dynamic authenticators and authorizers are called so."""
    stage, _, callee = pair()
    answers: list[object] = []

    def then(error: str | None, args: list[object], kwargs: dict[str, object]) -> None:
        answers.append((error, args, kwargs))

    stage.realm.call("com.proc", [1], {"a": 2}, then, 0.0, 5.0)
    invocation = callee.one()
    assert invocation[4:] == [[1], {"a": 2}]
    assert answers == []
    callee.give(1, "yes")
    stage.realm.call("com.proc", [], {}, then, 0.0, 5.0)
    stage.realm.call("com.nothing", [], {}, then, 0.0, 5.0)
    stage.after(5.1)

    assert answers[0] == (None, ["yes"], {})
    assert [a[0] for a in answers[1:]] == ["wamp.error.no_such_procedure", "wamp.error.timeout"]  # type: ignore[index]
