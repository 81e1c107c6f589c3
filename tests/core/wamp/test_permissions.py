"""Permissions: what a role may do, what happens when that changes, and dynamic authorizers."""

import pytest

from core.wamp.stage import Client, Stage, role, rule
from holdfast.core.wamp.messages import Register, Subscribe
from holdfast.core.wamp.permissions import ALLOW, DISCLOSE, INVALID, KEPT, Role


def made(*rules: dict[str, object], check: str = "loose") -> Role:
    plan: object = role("r", *rules)
    return Role("r", plan, check)  # type: ignore[arg-type]


def test_the_most_specific_rule_decides() -> None:
    """Exact before prefix before wildcard; a longer prefix, a wildcard with more fixed parts."""
    subject = made(
        rule("", allow=("call",)),
        rule("com.app.", allow=("publish",)),
        rule("com.app.x", "exact", allow=("subscribe",)),
        rule("org..x", "wildcard", allow=("call",)),
    )

    assert subject.verdict("call", "net.any")
    assert not subject.verdict("call", "com.app.y")
    assert subject.verdict("publish", "com.app.y")
    assert not subject.verdict("publish", "com.app.x")
    assert subject.verdict("subscribe", "com.app.x")
    assert made(rule("..x", "wildcard", allow=()), rule("a..x", "wildcard")).verdict(
        "call", "a.b.x"
    )
    assert not made(rule("a..x", "wildcard", allow=()), rule("..x", "wildcard")).verdict("call", "a.b.x")  # fmt: skip


def test_what_no_rule_allows_is_refused() -> None:
    """A role without rules may nothing."""
    assert not made().verdict("call", "com.x")
    assert not made(rule("com.y")).verdict("call", "com.x")


def test_deny_wins() -> None:
    """Over every allow, however specific."""
    subject = made(rule("com", deny=("call",)), rule("com.x", "exact"))

    assert not subject.verdict("call", "com.x")
    assert subject.verdict("publish", "com.x")


def test_of_two_rules_for_one_uri_the_later_one_decides() -> None:
    """As with any table of a configuration."""
    assert not made(rule("com.x"), rule("com.x", allow=())).verdict("call", "com.x")
    assert made(rule("com.x", allow=()), rule("com.x")).verdict("call", "com.x")


def test_disclosure_is_of_the_rule_that_decides() -> None:
    """And of the action that it is about."""
    subject = made(rule("com", disclose_caller=True), rule("com.pub", disclose_publisher=True))

    assert subject.verdict("call", "com.x") == ALLOW | DISCLOSE
    assert subject.verdict("publish", "com.x") == ALLOW
    assert subject.verdict("call", "com.pub") == ALLOW
    assert subject.verdict("publish", "com.pub") == ALLOW | DISCLOSE


def test_a_pattern_needs_a_rule_that_covers_it() -> None:
    """Else who may subscribe to com.news could subscribe to all that begins with it."""
    subject = made(
        rule("com.app.", allow=("subscribe",)),
        rule("com.news", "exact", allow=("subscribe",)),
        rule("org..x", "wildcard", allow=("subscribe",)),
    )

    assert subject.pattern_verdict("subscribe", "com.app.sub", "prefix")
    assert subject.pattern_verdict("subscribe", "com.app..x", "wildcard")
    assert not subject.pattern_verdict("subscribe", "com.", "prefix")
    assert not subject.pattern_verdict("subscribe", "com.news", "prefix")
    assert subject.pattern_verdict("subscribe", "org..x", "wildcard")
    assert not subject.pattern_verdict("subscribe", "org..", "wildcard")
    assert not subject.pattern_verdict("subscribe", "org.a.x", "prefix")
    assert subject.pattern_verdict("subscribe", "com..app", "prefix") == INVALID


def test_a_pattern_does_not_reach_what_is_denied() -> None:
    """Neither events nor calls: a broad pattern must not be the way around a rule."""
    stage = Stage(
        role("user", rule(), rule("com.secret", "exact", deny=("subscribe", "register"))),
        role("boss", rule()),
    )
    user, boss = stage.client(), stage.client("b", "boss")
    user.subscribe("com.", match="prefix")
    boss.subscribe("com.", match="prefix")
    boss.take()
    boss.publish("com.secret", 1, exclude_me=False)
    boss.publish("com.open", 2, exclude_me=False)
    user.says(Register(9, {"match": "prefix"}, "com."))

    got = user.take()
    assert [m[4] for m in got if m[0] == 36] == [[2]]
    assert got[-1][4] == "wamp.error.not_authorized"
    assert [m[4] for m in boss.take()] == [[1], [2]]


def test_made_up_uris_do_not_fill_the_memory() -> None:
    """Verdicts are kept, but not without end."""
    subject = made(rule())
    for n in range(KEPT + 10):
        subject.verdict("call", f"com.x{n}")
    assert len(subject.call) <= KEPT


# -- a permission is withdrawn


def test_a_withdrawn_permission_takes_effect_at_once() -> None:
    """On the next action, and on all that goes on: Crossbar.io keeps allowing from its cache."""
    stage = Stage(role("user", rule()), role("other", rule()))
    user, other = stage.client("user"), stage.client("other", "other")
    topic = user.subscribe("com.topic")
    kept = user.subscribe("com.kept")
    procedure = user.register("com.proc")
    other.register("com.slow")
    user.call("com.slow")
    other.call("com.proc")
    user.publish("com.topic")
    for client in (user, other):
        client.take()

    ended = stage.reconfigure(role("user", rule("com.kept")), role("other", rule()))
    got = user.take()
    user.publish("com.topic", acknowledge=True)
    user.call("com.slow")
    other.publish("com.topic")
    other.publish("com.kept", 1)

    assert ended == {"sessions": 0, "subscriptions": 1, "registrations": 1, "calls": 1}
    assert [m[:2] for m in got] == [[35, 0], [67, 0], [69, 1], [8, 48]]
    assert {"subscription": topic}.items() <= got[0][2].items()
    assert {"registration": procedure}.items() <= got[1][2].items()
    assert "withdrawn" in got[0][2]["reason"]
    assert [m[4] for m in got if m[0] == 8] == ["wamp.error.not_authorized"]
    assert [m[4] for m in user.take()] == ["wamp.error.not_authorized"] * 2 + [[1]]
    assert kept in user.session.subscriptions
    told = other.take()
    assert [m[0] for m in told] == [8, 69]
    assert told[0][4] == "wamp.error.canceled"
    assert stage.realm.stats()["calls_in_flight"] == 0


def test_who_does_not_understand_revocation_is_not_confused_by_it() -> None:
    """Specification: no UNSUBSCRIBED with request 0 to a client that did not announce the feature."""
    stage = Stage()
    client = stage.client(roles={})
    client.subscribe("com.topic")

    stage.reconfigure(role("user"))

    assert client.take() == []
    assert not client.session.subscriptions


def test_a_role_that_is_gone_closes_its_sessions() -> None:
    """What they held goes with them."""
    stage = Stage(role("user", rule()), role("guest", rule()))
    guest = stage.client("g", "guest")
    guest.register("com.proc")
    stage.client("it", "trusted")

    ended = stage.reconfigure(role("user", rule()))

    assert ended["sessions"] == 1
    assert guest.closed is not None
    assert guest.closed[0] == "wamp.close.killed"
    assert "'guest'" in guest.closed[1]
    assert stage.realm.stats()["sessions"] == 1
    assert stage.realm.stats()["registrations"] == 0


def test_a_plan_that_changes_nothing_ends_nothing() -> None:
    """Verdicts stay kept, too."""
    stage = Stage()
    client = stage.client()
    client.subscribe("com.topic")
    before = client.session.role

    assert stage.reconfigure(role("user", rule())) == dict.fromkeys(
        ("sessions", "subscriptions", "registrations", "calls"), 0
    )
    assert client.session.role is before


# -- a dynamic authorizer


def dynamic(*rules: dict[str, object]) -> tuple[Stage, Client, Client]:
    stage = Stage(role("user", *rules, authorizer="com.auth"), role("boss", rule()))
    boss = stage.client("boss", "boss")
    boss.register("com.auth")
    boss.take()
    return stage, boss, stage.client("user")


def test_an_authorizer_is_asked_as_crossbar_asks() -> None:
    """(details of the session, URI, action, options); the action waits for the answer."""
    _, boss, user = dynamic()
    user.says(Subscribe(5, {"match": "prefix"}, "com.topic"))

    asked = boss.one()
    assert user.take() == []
    details, uri, action, options = asked[4]
    boss.give(asked[1], True)

    assert details["session"] == user.id
    assert details["authid"] == "user"
    assert (uri, action, options) == ("com.topic", "subscribe", {"match": "prefix"})
    assert user.one()[:2] == [33, 5]


def test_an_authorizer_of_old_is_asked_without_the_options() -> None:
    """Crossbar.io gave three arguments once, and there are authorizers that take no more: Python says so."""
    _, boss, user = dynamic()
    user.says(Subscribe(5, {}, "com.topic"))
    asked = boss.one()
    says = "authorize() takes 4 positional arguments but 5 were given"
    boss.fail(asked[1], "wamp.error.runtime_error", says)

    again = boss.one()
    assert again[4] == asked[4][:3]
    boss.fail(again[1], "wamp.error.runtime_error", says)
    assert user.one()[4] == "wamp.error.authorization_failed"
    assert boss.take() == []


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (False, "wamp.error.not_authorized"),
        ({"allow": False}, "wamp.error.not_authorized"),
        ({"disclose": True}, "wamp.error.authorization_failed"),
        ({"allow": "yes"}, "wamp.error.authorization_failed"),
        ("yes", "wamp.error.authorization_failed"),
        (None, "wamp.error.authorization_failed"),
    ],
)
def test_only_a_clear_yes_is_a_yes(answer: object, error: str) -> None:
    """Fail secure: what makes no sense is a refusal, called by its name."""
    _, boss, user = dynamic()
    user.call("com.proc")

    boss.give(1, answer)

    assert user.one()[4] == error


def test_an_authorizer_that_fails_is_not_there_or_is_slow_refuses() -> None:
    """The text says what to look at."""
    stage, boss, user = dynamic()
    user.call("com.proc")
    boss.fail(1, "com.crash")
    error = user.one()
    assert error[4] == "wamp.error.authorization_failed"
    assert "'com.auth'" in error[5][0]
    user.call("com.proc")
    stage.after(11.0)
    assert user.one()[4] == "wamp.error.authorization_failed"
    boss.leave()
    user.call("com.proc")
    assert user.one()[4] == "wamp.error.authorization_failed"


def test_deny_wins_over_an_authorizer() -> None:
    """It is not even asked."""
    _, boss, user = dynamic(rule("com.never", deny=("call",)))
    user.call("com.never.x")

    assert user.one()[4] == "wamp.error.not_authorized"
    assert boss.take() == []


def test_answers_are_kept_where_the_authorizer_says_so() -> None:
    """For that session, action and URI; until the authorizer is another one."""
    _, boss, user = dynamic()
    boss.register("com.proc")
    boss.take()
    user.call("com.proc")
    boss.give(1, {"allow": True, "cache": True, "disclose": True})
    assert boss.take()[-1][3]["caller"] == user.id

    user.call("com.proc")
    assert boss.one()[3]["caller"] == user.id  # the call itself, nothing was asked
    boss.unregister(1)
    boss.register("com.auth")
    boss.take()
    user.call("com.proc")
    assert boss.one()[4][1:3] == ["com.proc", "call"]


def test_actions_of_one_session_keep_their_order() -> None:
    """Answers may come in any order, events may not."""
    stage, boss, user = dynamic()
    reader = stage.client("r", "boss")
    reader.subscribe("com.topic")
    for n in range(3):
        user.publish("com.topic", n)
    first, second, third = (m[1] for m in boss.take())

    boss.give(third, True)
    boss.give(second, False)
    assert reader.take() == []
    boss.give(first, True)

    assert [m[4] for m in reader.take()] == [[0], [2]]
    assert user.session.held is None


def test_a_held_call_can_be_canceled() -> None:
    """And who leaves holds nothing."""
    stage, boss, user = dynamic()
    request = user.call("com.proc")
    user.cancel(request)
    assert user.one()[4] == "wamp.error.canceled"
    boss.give(1, True)
    assert user.take() == []
    user.call("com.proc")
    user.leave()
    boss.give(2, True)
    assert user.take() == []
    assert stage.realm.stats()["calls_in_flight"] == 0


def test_chunks_wait_behind_their_first_one() -> None:
    """A progressive call is asked for once."""
    from holdfast.core.wamp.messages import Call

    _, boss, user = dynamic()
    boss.register("com.proc")
    boss.take()
    request = user.call("com.proc", 1, progress=True)
    user.says(Call(request, {}, "com.proc", [2]))
    asked = boss.one()
    boss.give(asked[1], True)

    assert [m[4] for m in boss.take()] == [[1], [2]]


def test_what_waits_is_limited() -> None:
    """An authorizer that hangs must not let one client fill our memory."""
    stage, boss, user = dynamic()
    stage.realm.holding.limit = 3
    for _ in range(4):
        user.call("com.proc")
    for n in range(3):
        boss.give(n + 1, False)

    assert [m[4] for m in user.take()] == [
        *["wamp.error.not_authorized"] * 3,
        "holdfast.error.limit_exceeded",
    ]


def test_a_new_plan_voids_the_answers_on_their_way() -> None:
    """The role's rules changed while the authorizer was thinking: they count."""
    stage, boss, user = dynamic()
    user.call("com.proc")
    stage.reconfigure(role("user"), role("boss", rule()))

    boss.give(1, True)

    assert user.one()[4] == "wamp.error.not_authorized"


def test_a_new_authorizer_is_asked_about_what_goes_on() -> None:
    """A no ends it; an authorizer that fails ends nothing."""
    stage, boss, user = dynamic()
    ids = []
    for n, topic in enumerate(("com.a", "com.b", "com.c")):
        user.says(Subscribe(n + 1, {}, topic))
        boss.give(boss.one()[1], True)
        ids.append(user.one()[2])
    boss.register("com.auth2")
    boss.take()

    stage.reconfigure(role("user", authorizer="com.auth2"), role("boss", rule()))
    asked = boss.take()
    boss.give(asked[0][1], True)
    boss.give(asked[1][1], False)
    boss.fail(asked[2][1], "com.crash")

    assert list(user.session.subscriptions) == [ids[0], ids[2]]
    assert user.one()[:2] == [35, 0]
