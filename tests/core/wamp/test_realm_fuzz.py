"""Any message at any time: the offender gets one clear violation, everybody else notices nothing."""

import contextlib
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from core.wamp.stage import Client, Stage, role, rule
from holdfast.core.wamp import messages as m
from holdfast.core.wamp.errors import ProtocolViolation

IDS = st.integers(0, 6) | st.just(2**53)
URIS = st.sampled_from(
    [
        "com.a", "com.b", "com.", "", "com..a", "wamp.session.count", "wamp.session.kill", "wamp.x", "no uri",
        "wamp.session.add_testament", "wamp.session.kill_all", "wamp.subscription.get_events", "com.auth",
        "wamp.registration.remove_callee", "wamp.session.modify_details", "wamp.subscription.lookup",
    ]
)  # fmt: skip
WORDS = st.sampled_from(
    ["exact", "prefix", "wildcard", "all", "first", "roundrobin", "kill", "skip", "destroyed"]
)
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 5) | st.just(2**60) | st.floats() | WORDS | URIS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS | URIS, inner, max_size=2),
    max_leaves=4,
)
OPTIONS = st.dictionaries(
    st.sampled_from(
        [
            "match", "invoke", "concurrency", "force_reregister", "mode", "timeout", "progress", "receive_progress",
            "acknowledge", "retain", "get_retained", "exclude", "eligible", "exclude_authid", "eligible_authrole",
            "exclude_me", "disclose_me", "disclose_caller", "forward_timeout", "forward_for", "ppt_scheme",
            "idempotent", "made_up",
        ]
    ),
    VALUES,
    max_size=3,
)  # fmt: skip
ARGS = st.none() | st.lists(VALUES, max_size=3)
KWARGS = st.none() | st.dictionaries(
    st.sampled_from(["reason", "scope", "limit", "topic", "from_time", "session", "options"]),
    VALUES,
    max_size=2,
)

MESSAGES = st.one_of(
    st.builds(m.Publish, IDS, OPTIONS, URIS, ARGS, KWARGS),
    st.builds(m.Subscribe, IDS, OPTIONS, URIS),
    st.builds(m.Unsubscribe, IDS, IDS),
    st.builds(m.Call, IDS, OPTIONS, URIS, ARGS, KWARGS),
    st.builds(m.Yield, IDS, OPTIONS, ARGS, KWARGS),
    st.builds(m.Register, IDS, OPTIONS, URIS),
    st.builds(m.Unregister, IDS, IDS),
    st.builds(m.Cancel, IDS, OPTIONS),
    st.builds(m.Error, st.sampled_from([68, 68, 68, 48]), IDS, OPTIONS, URIS, ARGS, KWARGS),
    st.builds(m.Goodbye, OPTIONS, URIS),
    st.builds(m.Abort, OPTIONS, URIS),
)
ROUTERS = st.one_of(
    st.builds(m.Hello, URIS, OPTIONS),
    st.builds(m.Welcome, IDS, OPTIONS),
    st.builds(m.Challenge, URIS, OPTIONS),
    st.builds(m.Authenticate, URIS, OPTIONS),
    st.builds(m.Published, IDS, IDS),
    st.builds(m.Subscribed, IDS, IDS),
    st.builds(m.Unsubscribed, IDS),
    st.builds(m.Event, IDS, IDS, OPTIONS, ARGS, KWARGS),
    st.builds(m.Result, IDS, OPTIONS, ARGS, KWARGS),
    st.builds(m.Registered, IDS, IDS),
    st.builds(m.Unregistered, IDS),
    st.builds(m.Invocation, IDS, IDS, OPTIONS, ARGS, KWARGS),
    st.builds(m.Interrupt, IDS, OPTIONS),
)


def stage_with_bystanders() -> tuple[Stage, Client, Client]:
    """Fuzzers may not use com.safe, nor kill trusted sessions: the bystanders are those."""
    safe = rule("com.safe", deny=("call", "register", "publish", "subscribe"))
    stage = Stage(
        role("user", rule(), safe),
        role("odd", rule("", allow=()), safe, authorizer="com.auth"),
        history=[{"uri": "com.", "match": "prefix", "limit": 3}],
    )
    one, other = stage.client("one", "trusted"), stage.client("other", "trusted")
    one.register("com.safe.proc")
    one.subscribe("com.safe.topic")
    return stage, one, other


def bystanders_are_fine(one: Client, other: Client) -> None:
    one.take()
    other.take()
    request = other.call("com.safe.proc", 1)
    invocation = one.one()
    one.give(invocation[1], 2)
    assert other.one() == [50, request, {}, [2]]
    other.publish("com.safe.topic", 3)
    assert one.one()[4] == [3]


@settings(max_examples=120, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2), MESSAGES | ROUTERS), max_size=25), st.booleans())
def test_nothing_but_a_violation_is_ever_raised(
    script: list[tuple[int, Any]], time_passes: bool
) -> None:
    """Random messages from three sessions, two of which an authorizer decides about."""
    stage, one, other = stage_with_bystanders()

    def join(who: int) -> Client:
        return stage.client(f"f{who}", "odd" if who else "user")

    clients = [join(who) for who in range(3)]
    for who, message in script:
        client = clients[who]
        if client.id not in stage.realm.sessions:
            client.says(message)  # heard no more, whatever it is
            client = clients[who] = join(who)
        before = len(stage.realm.sessions)
        with contextlib.suppress(ProtocolViolation):
            client.says(message)
            before = 0
        assert not before or client.id not in stage.realm.sessions  # who offends is out
        if time_passes:
            stage.after(0.5)

    bystanders_are_fine(one, other)
    for client in clients:
        client.leave()
    stage.after(20.0)
    stats = stage.realm.stats()
    assert stats["sessions"] == 2
    assert stats["registrations"] == 1
    assert stats["calls_in_flight"] == 0
    assert stage.realm._then == {}
    assert stage.realm.due_s() is None


@settings(max_examples=60, deadline=None)
@given(ROUTERS)
def test_what_only_a_router_may_send_is_an_offence(message: Any) -> None:
    """Named by its type."""
    client = Stage().client()

    says = client.offends(message)

    assert says.startswith(type(message).__name__.upper())


def test_codecs_may_have_structs_of_their_own() -> None:
    """Handlers are found by the class, and by the classes above it."""

    class JsonPublish(m.Publish, array_like=True, tag=m.PUBLISH, gc=False):
        format = m.JSON

    class JsonEvent(m.Event, array_like=True, tag=m.EVENT, gc=False):
        format = m.JSON

    stage = Stage()
    a, b = stage.clients("a", "b")
    b.subscribe("com.topic")

    a.says(JsonPublish(1, {}, "com.topic", [1]))
    a.says(JsonPublish(2, {}, "com.topic", [2]))

    assert [event[4] for event in b.take()] == [[1], [2]]
    assert "EVENT" in a.offends(JsonEvent(1, 1, {}))


def test_goodbye_is_answered_after_the_session_has_left() -> None:
    """Everything that it held is gone by then; what it still says is not heard."""
    stage = Stage()
    client = stage.client()
    client.register("com.proc")

    client.says(m.Goodbye({}, "wamp.close.close_realm"))

    assert client.closed == ("wamp.close.goodbye_and_out", "")
    assert stage.realm.stats()["registrations"] == 0
    client.publish("com.topic", acknowledge=True)
    assert client.take() == []
