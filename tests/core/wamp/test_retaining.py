"""Retained events and event history."""

import pytest

from core.wamp.stage import Client, Stage, role, rule


def test_a_late_subscriber_gets_the_retained_event_if_it_asks() -> None:
    """The last known temperature, not the next one in an hour."""
    a, b, c = Stage().clients("a", "b", "c")
    a.publish("com.temperature", 20, retain=True)
    a.publish("com.temperature", 21, retain=True)
    a.publish("com.temperature", 99)

    b.subscribe("com.temperature", get_retained=True)
    c.subscribe("com.temperature")

    event = b.one()
    assert event[3:] == [{"retained": True}, [21]]
    assert c.take() == []


def test_a_retained_event_goes_to_whom_it_would_have_gone() -> None:
    """Who was not meant then gets the last one that was for them."""
    stage = Stage()
    a, b, c = stage.clients("a", "b", "c")
    a.publish("com.t", "all", retain=True)
    a.publish("com.t", "b only", retain=True, eligible_authid=["b"])
    b.subscribe("com.t", get_retained=True)
    c.subscribe("com.t", get_retained=True)

    assert b.one()[4] == ["b only"]
    assert c.one()[4] == ["all"]

    a.publish("com.t", "new for all", retain=True)
    b.take()
    c.take()
    late = stage.client("b")
    late.subscribe("com.t", get_retained=True)
    assert late.one()[4] == ["new for all"]


def test_a_pattern_gets_the_retained_event_of_each_topic() -> None:
    """Oldest first, each with its topic."""
    a, b = Stage().clients("a", "b")
    for name in ("x", "y", "x"):
        a.publish(f"com.{name}.t", name, retain=True)
    a.publish("org.t", retain=True)

    b.subscribe("com..t", match="wildcard", get_retained=True)

    got = b.take()
    assert [m[3]["topic"] for m in got] == ["com.y.t", "com.x.t"]


def history_of(client: Client, of: str, /, *args: object, **kwargs: object) -> object:
    subscription = client.ask("wamp.subscription.lookup", of, {"match": "prefix"})
    events = client.ask("wamp.subscription.get_events", subscription, *args, **kwargs)
    return [event["args"][0] for event in events] if isinstance(events, list) else events


HISTORY = [{"uri": "com.log", "match": "prefix", "limit": 5}]


def test_history_is_kept_before_anybody_subscribed() -> None:
    """Up to its limit; with time, topic and payload, in the order of publication."""
    stage = Stage(history=HISTORY)
    a, b = stage.clients("a", "b")
    for n in range(7):
        a.publish(f"com.log.{n % 2}", n, kwargs={"n": n})
        stage.after(1.0)

    assert history_of(b, "com.log") == [2, 3, 4, 5, 6]
    subscription = b.ask("wamp.subscription.lookup", "com.log", {"match": "prefix"})
    first = b.ask("wamp.subscription.get_events", subscription)[0]
    assert first["timestamp"] == "2023-11-14T22:13:22.000Z"
    assert first["topic"] == "com.log.0"
    assert first["kwargs"] == {"n": 2}
    assert first["subscription"] == subscription


def test_history_can_be_filtered_as_specified() -> None:
    """Time, topic, publication, order, number: all of them together narrow."""
    stage = Stage(history=HISTORY)
    a = stage.client()
    ids = []
    for n in range(5):
        a.publish(f"com.log.{n % 2}", n, acknowledge=True)
        ids.append(a.one()[2])
        stage.after(1.0)

    def asked(**kwargs: object) -> object:
        return history_of(a, "com.log", **kwargs)

    assert asked(limit=2) == [0, 1]
    assert history_of(a, "com.log", 3) == [0, 1, 2]
    assert asked(limit=2, reverse=True) == [4, 3]
    assert asked(from_time="2023-11-14T22:13:22.000Z") == [2, 3, 4]
    assert asked(after_time="2023-11-14T22:13:22Z") == [3, 4]
    assert asked(before_time="2023-11-14T23:13:22+01:00") == [0, 1]
    assert asked(until_time="2023-11-14T22:13:22Z") == [0, 1, 2]
    assert asked(topic="com.log.1") == [1, 3]
    assert asked(from_publication=ids[3]) == [3, 4]
    assert asked(after_publication=ids[3]) == [4]
    assert asked(before_publication=ids[1]) == [0]
    assert asked(until_publication=ids[1]) == [0, 1]
    assert asked(after_publication=ids[0], topic="com.log.1", reverse=True) == [3, 1]
    assert asked(after_publication=12345) == []


@pytest.mark.parametrize(
    "wrong", [{"from_time": "yesterday"}, {"limit": 0}, {"limit": "many"}, {"after_time": 5}]
)
def test_a_filter_that_is_none_is_refused(wrong: dict[str, object]) -> None:
    """Rather than ignored: the caller would take everything for the answer."""
    client = Stage(history=HISTORY).client()

    assert history_of(client, "com.log", **wrong) == "wamp.error.invalid_argument"


def test_history_keeps_the_rules_of_who_may_see_what() -> None:
    """Lists of roles still hold; an event for chosen sessions is not kept at all; no permission, no history."""
    stage = Stage(
        role("user", rule()),
        role("guest", rule("wamp.")),
        role("half", rule(), rule("com.log.secret", "exact", deny=("subscribe",))),
        history=HISTORY,
    )
    a, other = stage.client("a"), stage.client("other")
    guest, half = stage.client("g", "guest"), stage.client("h", "half")
    a.publish("com.log.x", "for a", eligible_authid=["a"])
    a.publish("com.log.x", "for a session", eligible=[a.id])
    a.publish("com.log.secret", "secret")
    a.publish("com.log.x", "for all")

    assert history_of(a, "com.log") == ["for a", "secret", "for all"]
    assert history_of(other, "com.log") == ["secret", "for all"]
    assert history_of(half, "com.log") == ["for all"]
    assert history_of(guest, "com.log") == "wamp.error.not_authorized"


def test_a_subscription_without_history_says_so() -> None:
    """Empty would mean that nothing happened."""
    client = Stage(history=HISTORY).client()
    subscription = client.subscribe("com.other")

    assert client.ask("wamp.subscription.get_events", subscription) == (
        "wamp.error.history_unavailable"
    )
    assert client.ask("wamp.subscription.get_events", 999) == "wamp.error.no_such_subscription"


def test_a_history_outlives_its_subscribers_and_a_new_plan() -> None:
    """The last one unsubscribing is no reason to forget."""
    stage = Stage(history=HISTORY)
    a, b = stage.clients("a", "b")
    subscription = b.subscribe("com.log", match="prefix")
    for n in range(4):
        a.publish("com.log.x", n)
    b.unsubscribe(subscription)

    assert history_of(a, "com.log") == [0, 1, 2, 3]
    stage.reconfigure(role("user", rule()), history=[{**HISTORY[0], "limit": 2}])
    assert history_of(a, "com.log") == [2, 3]
    stage.reconfigure(role("user", rule()), history=[])
    assert stage.realm.stats()["subscriptions"] == 0
