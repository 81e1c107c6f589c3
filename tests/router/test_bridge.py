"""HTTP services publish and call through sessions of their own, which obey the same permissions as everybody."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from holdfast.router.web.site import WampFailure
from router.peers import DEADLINE_S, EVENT, INVOCATION, YIELD

if TYPE_CHECKING:
    from holdfast.model.bus import RouterPlan
    from router.peers import Running


def _ask(running: Running, name: str, *args: Any, role: str = "anonymous") -> Any:
    async def run() -> Any:
        function = getattr(running.router.bridge, name)
        return await function("realm1", role, *args)

    return asyncio.run_coroutine_threadsafe(run(), running.loop)


def test_a_publication_over_http_reaches_subscribers_and_has_an_id(running: Running) -> None:
    running.start()
    listener = running.join()
    listener.subscribe("com.t")

    publication = _ask(running, "publish", "com.t", [1, 2], {"k": "v"}, {}).result(DEADLINE_S)

    event = listener.expect(EVENT)
    assert event[2] == publication
    assert event[4:] == [[1, 2], {"k": "v"}]


def test_a_call_over_http_gets_result_or_error(running: Running) -> None:
    running.start()
    callee = running.join("rawsocket", "msgpack")
    callee.register("com.app.add")
    answer = _ask(running, "call", "com.app.add", [1, 2], {}, {})
    invocation = callee.expect(INVOCATION)
    callee.send(YIELD, invocation[1], {}, [sum(invocation[4])], {"n": 2})
    assert answer.result(DEADLINE_S) == ([3], {"n": 2})

    answer = _ask(running, "call", "com.app.add", [1], {}, {})
    invocation = callee.expect(INVOCATION)
    callee.send(8, 68, invocation[1], {}, "com.app.bad", ["one is too few"])
    with pytest.raises(WampFailure) as failed:
        answer.result(DEADLINE_S)
    assert (failed.value.uri, failed.value.payload) == ("com.app.bad", ["one is too few"])

    with pytest.raises(WampFailure, match="no_such_procedure"):
        _ask(running, "call", "com.app.nothing", [], {}, {}).result(DEADLINE_S)


def test_a_call_that_nobody_waits_for_any_more_is_cancelled(running: Running) -> None:
    running.start()
    callee = running.peer()
    callee.send(1, "realm1", {"roles": {"callee": {"features": {"call_canceling": True}}}})
    callee.receive()
    callee.register("com.app.slow")
    waiting = _ask(running, "call", "com.app.slow", [], {}, {})
    invocation = callee.expect(INVOCATION)

    waiting.cancel()

    assert callee.receive()[:2] == [69, invocation[1]]


def test_withdrawn_permissions_and_realms_end_the_bridge_sessions_too(running: Running) -> None:
    running.start()
    _ask(running, "publish", "com.t", [], {}, {}).result(DEADLINE_S)

    def change(plan: RouterPlan) -> None:
        plan["realms"][0]["roles"].clear()

    running.reconfigure(change)

    with pytest.raises(WampFailure, match="not_authorized"):
        _ask(running, "publish", "com.t", [], {}, {}).result(DEADLINE_S)
    running.reconfigure(lambda plan: plan["realms"].clear())
    with pytest.raises(WampFailure, match="no_such_realm"):
        _ask(running, "publish", "com.t", [], {}, {}).result(DEADLINE_S)


def test_an_option_of_a_wrong_shape_costs_the_request_only(running: Running) -> None:
    running.start()
    with pytest.raises(WampFailure):
        _ask(running, "publish", "com.t", [], {}, {"exclude": "everybody"}).result(DEADLINE_S)

    assert _ask(running, "publish", "com.t", [], {}, {}).result(DEADLINE_S) > 0
