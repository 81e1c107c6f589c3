"""Events: who gets them, and what is told with them."""

import pytest

from core.wamp.stage import Stage, limits, role, rule


def test_an_event_reaches_every_subscriber_but_the_publisher() -> None:
    """The basic profile, and its oldest surprise: a publisher does not hear itself."""
    a, b, c = Stage().clients("a", "b", "c")
    topic = a.subscribe("com.topic")
    assert b.subscribe("com.topic") == topic
    a.take()

    request = a.publish("com.topic", "hello", kwargs={"n": 1}, acknowledge=True)

    published = a.one()
    assert published[:2] == [17, request]
    assert b.one() == [36, topic, published[2], {}, ["hello"], {"n": 1}]
    assert c.take() == []


def test_exclude_me_false_lets_a_publisher_hear_itself() -> None:
    """As in the exchange of the specification's test suite (publisher_exclusion_disabled)."""
    client = Stage().client()
    topic = client.subscribe("com.myapp.topic1")

    client.publish("com.myapp.topic1", "Hello, world!", exclude_me=False)

    event = client.one()
    assert event[:2] == [36, topic]
    assert event[4] == ["Hello, world!"]


def test_what_javascript_says_otherwise_means_the_same() -> None:
    """wampy names options that are not set, and its codecs write whole numbers as large as session ids in floating point."""
    a, b, c = Stage().clients("a", "b", "c")
    b.subscribe("com.topic", match=None, get_retained=None)
    c.subscribe("com.topic", match=None)
    b.register("com.procedure", match=None, invoke=None)

    a.publish("com.topic", "to b", eligible=[float(b.id)])
    a.publish("com.topic", "to c", exclude=[float(b.id)])
    found = a.ask("wamp.session.get", float(c.id))

    assert [event[4] for event in b.take()] == [["to b"]]
    assert [event[4] for event in c.take()] == [["to c"]]
    assert found["session"] == c.id


def test_no_acknowledgement_no_answer() -> None:
    """Neither PUBLISHED nor ERROR: a client that did not ask could not tell what they belong to."""
    client = Stage(role("user", rule("com.open"))).client()

    client.publish("com.open.topic", 1)
    client.publish("com.closed", 1)
    client.publish("not a uri", 1)
    client.publish("com.open.topic", 1, eligible="everyone")

    assert client.take() == []


def test_a_refused_publication_says_why_when_acknowledged() -> None:
    """The text has to be enough to find the line of the configuration."""
    client = Stage(role("user", rule("com.open"))).client("joe")

    client.publish("com.closed", acknowledge=True)
    error = client.one()
    client.publish("not a uri", acknowledge=True)
    invalid = client.one()
    client.publish("com.open", acknowledge=True, exclude=["not an id"])
    malformed = client.one()

    assert error[:3] == [8, 16, 1]
    assert error[4] == "wamp.error.not_authorized"
    assert "'joe'" in error[5][0]
    assert "'com.closed'" in error[5][0]
    assert invalid[4] == "wamp.error.invalid_uri"
    assert malformed[4] == "wamp.error.invalid_argument"
    assert "exclude" in malformed[5][0]


@pytest.mark.parametrize(
    ("options", "receivers"),
    [
        ({}, "abc"),
        ({"exclude_authid": ["a"]}, "bc"),
        ({"eligible_authid": ["a", "b"]}, "ab"),
        ({"eligible_authid": ["a", "b"], "exclude_authid": ["a"]}, "b"),
        ({"eligible_authid": []}, ""),
        ({"eligible_authrole": ["staff"]}, "c"),
        ({"exclude_authrole": ["staff"]}, "ab"),
        ({"eligible_authrole": ["staff"], "eligible_authid": ["a"]}, ""),
    ],
)
def test_lists_restrict_the_receivers(options: dict[str, list[str]], receivers: str) -> None:
    """All lists have to agree; an empty whitelist is nobody, not everybody."""
    stage = Stage(role("user", rule()), role("staff", rule()))
    a, b = stage.clients("a", "b")
    c = stage.client("c", "staff")
    for client in (a, b, c):
        client.subscribe("com.topic")

    stage.client("publisher").publish("com.topic", **options)

    assert "".join(x.session.identity.authid for x in (a, b, c) if x.take()) == receivers


def test_lists_of_session_ids_restrict_the_receivers() -> None:
    """How an application keeps the caller of a procedure from its own news."""
    stage = Stage()
    a, b, publisher = stage.clients("a", "b", "publisher")
    a.subscribe("com.topic")
    b.subscribe("com.topic")

    publisher.publish("com.topic", 1, exclude=[a.id])
    publisher.publish("com.topic", 2, eligible=[a.id])

    assert [m[4] for m in a.take()] == [[2]]
    assert [m[4] for m in b.take()] == [[1]]


def test_a_publisher_is_told_where_it_or_the_permission_says_so() -> None:
    """Identification: on request, or by configuration for all."""
    stage = Stage(
        role("user", rule(), rule("com.told", disclose_publisher=True)),
    )
    a, b = stage.clients("a", "b")
    for topic in ("com.told", "com.plain"):
        b.subscribe(topic)

    a.publish("com.plain")
    a.publish("com.plain", disclose_me=True)
    a.publish("com.told")

    me = {"publisher": a.id, "publisher_authid": "a", "publisher_authrole": "user"}
    assert [m[3] for m in b.take()] == [{}, me, me]


def test_the_trust_level_of_a_role_travels_with_its_events() -> None:
    """Publication trust levels: given by the router, whatever the publisher claims."""
    stage = Stage(role("user", rule()), role("staff", rule(), trustlevel=3))
    reader, writer = stage.client(), stage.client("w", "staff")
    reader.subscribe("com.topic")

    writer.publish("com.topic")
    writer.publish("com.topic", trustlevel=99)

    assert [m[3] for m in reader.take()] == [{"trustlevel": 3}, {"trustlevel": 3}]


def test_passed_through_payloads_keep_their_description() -> None:
    """End-to-end encryption: the receiver needs to know the cipher, the router never does."""
    a, b = Stage().clients("a", "b")
    b.subscribe("com.topic")
    options = {"ppt_scheme": "wamp", "ppt_serializer": "cbor", "ppt_cipher": "aes256gcm", "ppt_keyid": "k"}  # fmt: skip

    a.publish("com.topic", b"sealed", **options)

    assert b.one()[3:] == [options, [b"sealed"]]


def test_payload_passthru_without_announcing_it_is_an_offence() -> None:
    """Specification: a protocol error, with ABORT."""
    stage = Stage()
    client = stage.client(roles={"publisher": {}})

    with pytest.raises(Exception, match="payload_passthru_mode"):
        client.publish("com.topic", ppt_scheme="wamp")


def test_patterns_get_events_with_the_topic() -> None:
    """One event for each subscription, with one publication id."""
    a, b = Stage().clients("a", "b")
    exact = b.subscribe("com.app.news")
    prefix = b.subscribe("com.app", match="prefix")
    wild = b.subscribe("com..news", match="wildcard")
    b.subscribe("com.other", match="prefix")
    b.subscribe("com...x", match="wildcard")

    a.publish("com.app.news", 1)

    got = b.take()
    assert [(m[1], m[3]) for m in got] == [
        (exact, {}),
        (prefix, {"topic": "com.app.news"}),
        (wild, {"topic": "com.app.news"}),
    ]
    assert len({m[2] for m in got}) == 1


def test_a_subscription_of_a_moment_ago_counts_at_once() -> None:
    """The table of routes must not remember what was before."""
    a, b = Stage().clients("a", "b")
    a.publish("com.app.x")
    b.subscribe("com.app", match="prefix")
    a.publish("com.app.x", 1)
    exact = b.subscribe("com.app.x")
    a.publish("com.app.x", 2)
    b.unsubscribe(exact)
    a.publish("com.app.x", 3)

    assert [m[4][0] for m in b.take() if m[0] == 36] == [1, 2, 2, 3]


def test_subscribing_twice_is_one_subscription() -> None:
    """Same id, one event; one UNSUBSCRIBE ends it."""
    a, b = Stage().clients("a", "b")
    first = b.subscribe("com.topic")
    assert b.subscribe("com.topic") == first

    a.publish("com.topic")
    assert len(b.take()) == 1
    b.unsubscribe(first)
    assert b.one()[0] == 35
    a.publish("com.topic")
    assert b.take() == []
    b.unsubscribe(first)
    assert b.one()[4] == "wamp.error.no_such_subscription"


def test_subscribing_is_refused_with_a_reason() -> None:
    """Bad URIs, bad options, and a limit that names the key of the configuration."""
    stage = Stage(limits=limits(subscriptions_per_session=2))
    client = stage.client()
    from holdfast.core.wamp.messages import Subscribe

    def refused(topic: str, **options: object) -> tuple[str, str]:
        client.says(Subscribe(7, dict(options), topic))
        error = client.one()
        assert error[:3] == [8, 32, 7]
        return error[4], error[5][0]

    assert refused("com..topic")[0] == "wamp.error.invalid_uri"
    assert refused("com.topic", match="regex")[0] == "wamp.error.invalid_argument"
    assert refused("com.topic", match=["exact"])[0] == "wamp.error.invalid_argument"
    client.subscribe("com.a")
    client.subscribe("com.b")
    error, says = refused("com.c")
    assert error == "holdfast.error.limit_exceeded"
    assert "subscriptions_per_session" in says
    assert client.subscribe("com.b")  # has it already


def test_topics_of_the_router_are_not_for_others_to_publish() -> None:
    """Who could forge wamp.session.on_leave could log anybody out of an application."""
    stage = Stage()
    client, trusted = stage.client(), stage.client("it", "trusted")

    client.publish("wamp.session.on_leave", 1, acknowledge=True)
    assert client.one()[4] == "wamp.error.invalid_uri"
    trusted.publish("wamp.my.topic", acknowledge=True)
    assert trusted.one()[0] == 17


def test_strict_uris_are_strict() -> None:
    """uri_check of the realm."""
    stage = Stage(uri_check="strict")
    client = stage.client()

    client.publish("com.Topic", acknowledge=True)

    assert client.one()[4] == "wamp.error.invalid_uri"


def test_the_router_publishes_in_its_own_name() -> None:
    """The REST bridge and the meta API do."""
    stage = Stage()
    client = stage.client()
    topic = client.subscribe("com.topic")

    publication = stage.realm.publish("com.topic", [1], {"a": 2}, {"exclude_authid": ["you"]})

    assert client.one() == [36, topic, publication, {}, [1], {"a": 2}]
    with pytest.raises(ValueError, match="no URI"):
        stage.realm.publish("com..topic", [], {}, {})
    with pytest.raises(ValueError, match="eligible"):
        stage.realm.publish("com.topic", [], {}, {"eligible": 5})


def test_who_leaves_while_an_event_goes_out_harms_nobody() -> None:
    """The router cuts off a subscriber that is too slow from within `send`."""
    stage = Stage()
    a, b, c, publisher = stage.clients("a", "b", "c", "p")
    for client in (a, b, c):
        client.subscribe("com.topic")
    b.send_shared = lambda _: c.leave()  # type: ignore[method-assign, assignment]

    publisher.publish("com.topic", 1)
    publisher.publish("com.topic", 2)

    assert [m[4] for m in a.take()] == [[1], [2]]
    assert stage.realm.stats()["subscriptions"] == 1
    assert c.id not in stage.realm.sessions


def test_links_between_routers_say_for_whom_they_act() -> None:
    """Only who is trusted may: anybody else could pretend to be somebody."""
    stage = Stage()
    reader, link, liar = stage.client(), stage.client("link", "trusted"), stage.client("liar")
    reader.subscribe("com.topic")
    origin = {"session": 5, "authid": "far", "authrole": "away"}

    link.publish("com.topic", disclose_me=True, forward_for=[origin])
    liar.publish("com.topic", disclose_me=True, forward_for=[origin])

    first, second = (m[3] for m in reader.take())
    assert first["publisher"] == 5
    assert first["publisher_authid"] == "far"
    assert [one["session"] for one in first["forward_for"]] == [5, link.id]
    assert second["publisher"] == liar.id
    assert "forward_for" not in second
