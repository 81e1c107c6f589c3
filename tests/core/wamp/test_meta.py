"""The meta API: procedures and events about sessions, registrations, subscriptions; testaments."""

import pytest

from core.wamp.stage import Client, Stage, role, rule
from holdfast.core.wamp.realm import ROLES


def heard(client: Client) -> list[tuple[str, list[object]]]:
    """Meta events, as (last part of the topic, args)."""
    return [(m[3]["topic"].rpartition(".")[2], m[4]) for m in client.take() if m[0] == 36]


def listener(stage: Stage) -> Client:
    client = stage.client("listener")
    client.subscribe("wamp.", match="prefix")
    client.take()
    return client


def test_sessions_can_be_counted_listed_and_looked_at() -> None:
    """With roles as a filter."""
    stage = Stage(role("user", rule()), role("staff", rule()))
    a, b = stage.client("a"), stage.client("b", "staff")

    assert a.ask("wamp.session.count") == 2
    assert a.ask("wamp.session.count", ["staff"]) == 1
    assert a.ask("wamp.session.list") == [a.id, b.id]
    assert a.ask("wamp.session.list", filter_authroles=["staff"]) == [b.id]
    details = a.ask("wamp.session.get", b.id)
    assert details["session"] == b.id
    assert details["authrole"] == "staff"
    assert details["transport"] == {"type": "test"}
    assert a.ask("wamp.session.get", 1) == "wamp.error.no_such_session"
    assert a.ask("wamp.session.get") == "wamp.error.invalid_argument"
    assert a.ask("wamp.session.get", "x") == "wamp.error.invalid_argument"


def test_joining_and_leaving_are_told() -> None:
    """Presence: who is online."""
    stage = Stage()
    ear = listener(stage)

    a = stage.client("a")
    a.leave()
    a.leave()

    (join, [details]), (leave, args) = heard(ear)
    assert (join, leave) == ("on_join", "on_leave")
    assert isinstance(details, dict)
    assert details["authid"] == "a"
    assert args == [a.id, "a", "user"]


def test_sessions_can_be_killed() -> None:
    """By id, authid, role, or all; never the killer itself, and no trusted one by others."""
    stage = Stage(role("user", rule()), role("staff", rule()))
    a, b, c = stage.clients("a", "b", "b")
    d, it = stage.client("d", "staff"), stage.client("it", "trusted")

    assert a.ask("wamp.session.kill", a.id) == "wamp.error.no_such_session"
    assert a.ask("wamp.session.kill", it.id) == "wamp.error.not_authorized"
    assert a.ask("wamp.session.kill", b.id, reason="no good") == "wamp.error.invalid_uri"
    assert a.ask("wamp.session.kill", b.id, reason="com.bad", message="go away") is None
    assert b.closed == ("com.bad", "go away")
    assert a.ask("wamp.session.kill_by_authid", "b") == [c.id]
    assert c.closed == ("wamp.close.killed", "")
    assert a.ask("wamp.session.kill_by_authrole", "staff") == 1
    assert d.closed
    more = stage.clients("x", "y")
    assert a.ask("wamp.session.kill_all") == 2
    assert all(one.closed for one in more)
    assert stage.realm.stats()["sessions"] == 2
    assert it.ask("wamp.session.kill_all") == 1
    assert a.closed


def test_details_can_be_added_but_not_forged() -> None:
    """What the sign-in found out stays."""
    a, b = Stage().clients("a", "b")

    assert a.ask("wamp.session.modify_details", b.id, {"room": 5, "x": 1}) is None
    assert a.ask("wamp.session.modify_details", b.id, {"x": None}) is None
    details = a.ask("wamp.session.get", b.id)
    assert details["room"] == 5
    assert "x" not in details
    assert a.ask("wamp.session.modify_details", b.id, {"authrole": "trusted"}) == (
        "wamp.error.invalid_argument"
    )


def test_subscriptions_can_be_looked_at() -> None:
    """And found by topic, in both ways."""
    stage = Stage()
    a, b = stage.clients("a", "b")
    exact = a.subscribe("com.x.y")
    prefix = b.subscribe("com.x", match="prefix")
    b.subscribe("com.x.y")

    assert a.ask("wamp.subscription.list") == {"exact": [exact], "prefix": [prefix], "wildcard": []}
    assert a.ask("wamp.subscription.list", a.id) == {"exact": [exact], "prefix": [], "wildcard": []}
    assert a.ask("wamp.subscription.lookup", "com.x") is None
    assert a.ask("wamp.subscription.lookup", "com.x", {"match": "prefix"}) == prefix
    assert a.ask("wamp.subscription.match", "com.x.y") == [exact, prefix]
    assert a.ask("wamp.subscription.match", "org") is None
    assert a.ask("wamp.subscription.get", prefix) == {
        "id": prefix, "created": "2023-11-14T22:13:20.000Z", "uri": "com.x", "match": "prefix",
    }  # fmt: skip
    assert a.ask("wamp.subscription.list_subscribers", exact) == [a.id, b.id]
    assert a.ask("wamp.subscription.count_subscribers", exact) == 2
    assert a.ask("wamp.subscription.remove_subscriber", exact, b.id) is None
    assert a.ask("wamp.subscription.count_subscribers", exact) == 1
    assert b.take()[-1][:2] == [35, 0]
    assert a.ask("wamp.subscription.get", 999) == "wamp.error.no_such_subscription"


def test_registrations_can_be_looked_at() -> None:
    """Likewise, with the policy."""
    stage = Stage()
    a, b = stage.clients("a", "b")
    exact = a.register("com.x.y", invoke="roundrobin")
    prefix = b.register("com.x", match="prefix")
    b.register("com.x.y", invoke="roundrobin")

    assert a.ask("wamp.registration.list") == {"exact": [exact], "prefix": [prefix], "wildcard": []}
    assert a.ask("wamp.registration.lookup", "com.x", {"match": "prefix"}) == prefix
    assert a.ask("wamp.registration.match", "com.x.z") == prefix
    assert a.ask("wamp.registration.match", "org") is None
    assert a.ask("wamp.registration.get", exact)["invoke"] == "roundrobin"
    assert a.ask("wamp.registration.list_callees", exact) == [a.id, b.id]
    assert a.ask("wamp.registration.count_callees", exact) == 2
    assert a.ask("wamp.registration.remove_callee", exact, b.id) is None
    assert a.ask("wamp.registration.count_callees", exact) == 1
    assert (
        a.ask("wamp.registration.remove_callee", exact, b.id) == "wamp.error.no_such_registration"
    )
    assert a.ask("wamp.registration.get", 999) == "wamp.error.no_such_registration"


def test_the_life_of_a_subscription_is_told() -> None:
    """create, subscribe, unsubscribe, delete: in this order; those of the meta topics themselves are not."""
    stage = Stage()
    ear = listener(stage)
    a, b = stage.clients("a", "b")
    heard(ear)

    id_ = a.subscribe("com.t")
    b.subscribe("com.t")
    a.unsubscribe(id_)
    b.leave()

    told = heard(ear)
    assert [name for name, _ in told] == [
        "on_create", "on_subscribe", "on_subscribe", "on_unsubscribe", "on_unsubscribe", "on_delete",
        "on_leave",
    ]  # fmt: skip
    assert told[0][1][0] == a.id
    assert told[1][1] == [a.id, id_]
    assert told[5][1] == [b.id, id_]


def test_the_life_of_a_registration_is_told() -> None:
    """Likewise; taking it over by force, too."""
    stage = Stage()
    ear = listener(stage)
    a, b = stage.clients("a", "b")
    heard(ear)

    a.register("com.p")
    b.register("com.p", force_reregister=True)
    b.leave()

    assert [name for name, _ in heard(ear)] == [
        "on_create", "on_register", "on_unregister", "on_delete", "on_create", "on_register",
        "on_unregister", "on_delete", "on_leave",
    ]  # fmt: skip


def test_the_meta_api_needs_permission_like_all_else() -> None:
    """And it can be turned off."""
    stage = Stage(role("user", rule("com.")), role("staff", rule()))
    user, staff = stage.client(), stage.client("s", "staff")
    assert user.ask("wamp.session.kill_all") == "wamp.error.not_authorized"

    stage.reconfigure(role("user", rule("com.")), role("staff", rule()), meta_api=False)

    assert staff.ask("wamp.session.count") == "wamp.error.no_such_procedure"


def test_a_testament_is_published_when_its_session_is_gone() -> None:
    """However it went; detached before destroyed, in the order in which they were made."""
    stage = Stage()
    a, b = stage.clients("a", "b")
    b.subscribe("com.gone")
    a.ask("wamp.session.add_testament", "com.gone", ["2"], {"k": 1})
    a.ask("wamp.session.add_testament", "com.gone", ["3"], {})
    a.ask("wamp.session.add_testament", "com.gone", ["1"], {}, scope="detached")
    a.ask(
        "wamp.session.add_testament", "com.gone", ["not for b"], {},
        publish_options={"exclude_authid": ["b"], "acknowledge": True},
    )  # fmt: skip
    assert b.take() == []

    a.leave()

    got = b.take()
    assert [m[4] for m in got] == [["1"], ["2"], ["3"]]
    assert got[1][5] == {"k": 1}
    assert a.take() == []


def test_testaments_can_be_taken_back() -> None:
    """By scope: who leaves in good order leaves no testament."""
    stage = Stage()
    a, b = stage.clients("a", "b")
    b.subscribe("com.gone")
    for scope in ("destroyed", "detached"):
        a.ask("wamp.session.add_testament", "com.gone", [scope], {}, scope=scope)
    assert a.ask("wamp.session.flush_testaments") == 1
    assert a.ask("wamp.session.flush_testaments", scope="some") == "wamp.error.invalid_argument"

    a.leave()

    assert [m[4] for m in b.take()] == [["detached"]]


def test_a_testament_is_no_way_around_a_permission() -> None:
    """Neither when it is made nor, after a new plan, when it is read."""
    stage = Stage(role("user", rule("wamp."), rule("com.gone")), role("ear", rule()))
    a, ear = stage.client("a"), stage.client("e", "ear")
    ear.subscribe("com.", match="prefix")
    assert a.ask("wamp.session.add_testament", "com.other", [], {}) == "wamp.error.not_authorized"
    assert a.ask("wamp.session.add_testament", "com.gone", [1], {}) is None
    stage.reconfigure(role("user", rule("wamp.")), role("ear", rule()))

    a.leave()

    assert [m for m in ear.take() if m[0] == 36] == []


def test_welcome_says_who_one_is_and_what_the_router_can() -> None:
    """Everything that is announced is there; everything that is there is announced."""
    stage = Stage()
    client = stage.client("joe")

    details = stage.realm.welcome(client.session)

    assert details["authid"] == "joe"
    assert details["realm"] == "realm1"
    assert details["roles"] is ROLES
    assert details["roles"]["dealer"]["features"]["call_timeout"] is True


def test_status_counts_and_describes() -> None:
    """For `holdfast status` and the dashboard."""
    stage = Stage()
    a, b = stage.clients("a", "b")
    a.subscribe("com.t")
    a.register("com.p")
    b.publish("com.t")
    b.call("com.p")

    assert stage.realm.stats() == {
        "sessions": 2, "subscriptions": 1, "registrations": 1, "calls_in_flight": 1, "calls": 1,
        "calls_failed": 0, "published": 1, "delivered": 1,
    }  # fmt: skip
    told = stage.realm.describe()
    assert [s["authid"] for s in told["sessions"]] == ["a", "b"]
    assert told["sessions"][0]["invocations_in_flight"] == 1
    assert told["registrations"][0]["sessions"] == [a.id]


def test_an_id_is_given_once() -> None:
    """Two sessions of one id would get each other's messages."""
    stage = Stage()
    client = stage.client()
    with pytest.raises(ValueError, match="already"):
        stage.realm.join(client.session, 0.0)
    stage._ids = client.id - 1
    assert stage.realm.new_session_id() == client.id + 1
