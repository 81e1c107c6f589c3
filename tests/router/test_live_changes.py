"""Another plan while the router runs: what is withdrawn ends at once, what stays is not disturbed."""

from __future__ import annotations

import copy
import json
from typing import TYPE_CHECKING

from holdfast.router import alone
from holdfast.router.serving import PlanFile
from router.peers import ABORT, EVENT, GOODBYE, HELLO, ROLES, wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from holdfast.model.bus import PermissionPlan, RouterPlan
    from router.peers import Running


def _without(action: str) -> object:
    def change(plan: RouterPlan) -> None:
        rule: PermissionPlan = plan["realms"][0]["roles"][0]["permissions"][0]
        rule["allow"] = [one for one in rule["allow"] if one != action]

    return change


def test_a_withdrawn_subscription_gets_no_further_event(running: Running) -> None:
    """Crossbar.io keeps allowing from its cache."""
    running.start()
    listener, speaker = running.join("websocket"), running.join()
    subscription = listener.subscribe("com.t")
    speaker.publish("com.t", 1)
    assert listener.expect(EVENT)[4] == [1]

    changed = running.reconfigure(_without("subscribe"))  # type: ignore[arg-type]

    assert changed == ['realm "realm1" has changed; ended: 1 subscriptions']
    speaker.publish("com.t", 2)
    assert speaker.is_served()
    # The revocation is told to who announced that it understands it; others hear nothing at all.
    assert listener.request(32, 8, {}, "com.t")[4] == "wamp.error.not_authorized"
    assert subscription


def test_a_call_in_flight_ends_when_its_permission_is_withdrawn(running: Running) -> None:
    running.start()
    callee, caller = running.join(), running.join("websocket")
    callee.register("com.app.slow")
    caller.call("com.app.slow")
    callee.receive()

    running.reconfigure(_without("call"))  # type: ignore[arg-type]

    assert caller.expect(8)[4] == "wamp.error.not_authorized"
    assert caller.request(48, 8, {}, "com.app.slow")[4] == "wamp.error.not_authorized"


def test_the_sessions_of_a_role_that_is_gone_are_ended(running: Running) -> None:
    running.start()
    peer = running.join()

    running.reconfigure(lambda plan: plan["realms"][0]["roles"].clear())

    message = peer.expect(GOODBYE)
    assert "role" in message[1]["message"]
    peer.drain()
    again = running.peer()
    again.send(HELLO, "realm1", {"roles": ROLES})
    assert again.expect(ABORT)[2] == "wamp.error.no_such_role"


def test_realms_come_and_go(running: Running) -> None:
    running.start()
    old = running.join()

    def change(plan: RouterPlan) -> None:
        second = copy.deepcopy(plan["realms"][0])
        second["name"] = "realm2"
        plan["realms"] = [second]

    changed = running.reconfigure(change)

    assert changed == ['realm "realm1" is gone', 'realm "realm2" is new']
    assert old.expect(GOODBYE)[2] == "wamp.close.close_realm"
    new = running.peer("websocket")
    new.join("realm2")
    assert new.is_served()


def test_another_sign_in_holds_for_new_connections(running: Running) -> None:
    running.start()
    before = running.join()

    def change(plan: RouterPlan) -> None:
        rawsocket = plan["transports"][0]["rawsocket"]
        assert rawsocket is not None
        rawsocket["auth"] = {"ticket": {"type": "static", "principals": {"joe": {"ticket": "abc", "role": "anonymous"}}}}  # fmt: skip

    assert running.reconfigure(change) == ['transport "t0" has changed, for new connections']

    assert before.is_served()
    stranger = running.peer()
    stranger.send(HELLO, "realm1", {"roles": ROLES})
    assert stranger.expect(ABORT)[2] == "wamp.error.no_matching_auth_method"
    joe = running.peer()
    joe.send(HELLO, "realm1", {"roles": ROLES, "authid": "joe", "authmethods": ["ticket"]})
    assert joe.receive()[:2] == [4, "ticket"]
    joe.send(5, "abc", {})
    assert joe.receive()[0] == 2


def test_a_plan_that_only_looks_new_disturbs_nobody(running: Running) -> None:
    running.start()
    peer = running.join()

    assert running.reconfigure(lambda plan: None) == []  # noqa: ARG005

    assert peer.is_served()


def test_a_transport_that_is_gone_is_closed_and_one_without_a_socket_waits(running: Running) -> None:  # fmt: skip
    running.start(alone.transport("t0"), alone.transport("t1"))
    peer = running.join(listener="t1")

    def change(plan: RouterPlan) -> None:
        plan["transports"] = [plan["transports"][0], alone.transport("t9")]

    changed = running.reconfigure(change)

    assert 'transport "t1" is closed' in changed
    assert any('"t9" waits for a restart' in text for text in changed)
    assert peer.is_served(), "connections live on"


def test_the_plan_file_is_read_again_only_when_it_is_another(tmp_path: Path) -> None:
    plan = {"workers": [{"name": "bus", "router": {"realms": []}}, {"name": "other"}]}
    path = tmp_path / "plan.json"
    path.write_text(json.dumps(plan))
    file = PlanFile(str(tmp_path), "bus")

    assert file.changed()
    assert json.dumps(file.read()) == '{"realms": []}'
    assert not file.changed()
    (tmp_path / "new").write_text(json.dumps(plan))
    (tmp_path / "new").rename(path)
    assert file.changed()
    assert PlanFile(str(tmp_path), "other").read() is None
    path.unlink()
    assert not file.changed(), "the run directory is being torn down: no reason to fall over"


def test_a_dynamic_authenticator_is_asked_through_the_realm(running: Running) -> None:
    running.start(
        alone.transport("t0"),
        alone.transport("t1", auth={"ticket": {"type": "dynamic", "authenticator": "com.app.who"}}),
    )
    authenticator = running.join()
    authenticator.register("com.app.who")
    peer = running.peer(listener="t1")
    peer.send(HELLO, "realm1", {"roles": ROLES, "authid": "ann", "authmethods": ["ticket"]})
    assert peer.receive()[0] == 4
    peer.send(5, "secret", {})
    invocation = authenticator.expect(68)
    assert invocation[4][:2] == ["realm1", "ann"]
    assert invocation[4][2]["ticket"] == "secret"

    authenticator.send(70, invocation[1], {}, [{"role": "anonymous", "extra": {"n": 1}}])

    welcome = peer.receive()
    assert welcome[0] == 2
    assert welcome[2]["authid"] == "ann"
    wait_until(lambda: len(running.router.sessions) == 2, "both sessions")

    refused = running.peer(listener="t1")
    refused.send(HELLO, "realm1", {"roles": ROLES, "authid": "eve", "authmethods": ["ticket"]})
    assert refused.receive()[0] == 4
    refused.send(5, "guess", {})
    invocation = authenticator.expect(68)
    authenticator.send(8, 68, invocation[1], {}, "com.app.no_such_user", ["who is that?"])
    message = refused.expect(ABORT)
    assert message[2] == "com.app.no_such_user"
    assert message[1]["message"] == "who is that?"
