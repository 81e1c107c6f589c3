"""What goes over a realm is counted as it goes, and told when somebody asks."""

from __future__ import annotations

from typing import Any

from core.wamp.stage import Client, Stage
from holdfast.core.wamp import traffic
from holdfast.core.wamp.session import NOTHING


def pairs_of(stage: Stage) -> dict[tuple[int, int, str], int]:
    return {(a, b, uri): count for a, b, uri, _, count in told(stage)["pairs"]}


def told(stage: Stage) -> dict[str, Any]:
    return traffic.told(stage.realm)


def shop(stage: Stage) -> tuple[Client, Client, Client]:
    ann, bob, callee = stage.clients("ann", "bob", "shop")
    callee.register("com.shop.list")
    callee.register("com.shop.buy")
    return ann, bob, callee


def test_calls_are_told_by_who_calls_whom() -> None:
    """Issue 6: on the page of the bus stands who calls whom, so that a flood has a name."""
    stage = Stage()
    ann, bob, callee = shop(stage)

    for _ in range(3):
        ann.call("com.shop.list")
    bob.call("com.shop.list", receive_progress=True)
    bob.call("com.shop.buy", disclose_me=True)

    assert pairs_of(stage) == {
        (ann.id, callee.id, "com.shop.list"): 3,
        (bob.id, callee.id, "com.shop.list"): 1,
        (bob.id, callee.id, "com.shop.buy"): 1,
    }
    assert told(stage)["registrations"] == [
        ["com.shop.list", "exact", 4],
        ["com.shop.buy", "exact", 1],
    ]
    assert sorted(told(stage)["by_session"]) == sorted(
        [[ann.id, 3, 0, 0], [bob.id, 2, 0, 0], [callee.id, 0, 5, 0]]
    )
    assert told(stage)["who"][str(ann.id)] == {"authid": "ann", "peer": None}
    assert (told(stage)["calls"], told(stage)["other_calls"]) == (5, 0)


def test_every_callee_of_a_call_to_all_counts() -> None:
    """Who is asked has work, whoever else is asked."""
    stage = Stage()
    caller, one, two = stage.clients("caller", "one", "two")
    one.register("com.all", invoke="all")
    two.register("com.all", invoke="all")

    caller.call("com.all")

    assert pairs_of(stage) == {(caller.id, one.id, "com.all"): 1, (caller.id, two.id, "com.all"): 1}
    assert (told(stage)["calls"], told(stage)["registrations"]) == (1, [["com.all", "exact", 2]])


def test_questions_to_the_router_itself_are_no_traffic() -> None:
    """The dashboard asks hundreds of them to show the page: it must not show itself."""
    stage = Stage()
    (client,) = stage.clients("dashboard")

    for _ in range(5):
        client.ask("wamp.session.count")

    assert (told(stage)["calls"], told(stage)["pairs"], stage.realm.stats()["calls"]) == (0, [], 5)


def test_events_are_counted_by_topic_and_by_publisher() -> None:
    """A topic's rate is what its subscribers get, one event of each publication."""
    stage = Stage()
    publisher, one, two = stage.clients("publisher", "one", "two")
    one.subscribe("com.topic")
    two.subscribe("com.topic")
    two.subscribe("com", match="prefix")
    one.subscribe("com.quiet")

    for _ in range(4):
        publisher.publish("com.topic")
    publisher.publish("com.topic", acknowledge=True)
    publisher.publish("org.nobody")

    assert told(stage)["subscriptions"] == [["com.topic", "exact", 5], ["com", "prefix", 5]]
    assert told(stage)["by_session"] == [[publisher.id, 0, 0, 6]]
    assert told(stage)["events"] == 15


def test_who_leaves_leaves_the_counts_behind() -> None:
    """A counter that falls is read as a router that began anew: rates would be lies."""
    stage = Stage()
    ann, bob, callee, other = stage.clients("ann", "bob", "shop", "other shop")
    callee.register("com.shop.list", invoke="first")
    other.register("com.shop.list", invoke="first")
    ann.call("com.shop.list")
    bob.call("com.shop.list")

    ann.leave()
    after_caller = told(stage)
    callee.leave()
    after_callee = told(stage)

    assert after_caller["registrations"] == [["com.shop.list", "exact", 2]]
    assert (after_caller["other_calls"], len(after_caller["pairs"])) == (1, 1)
    assert after_callee["registrations"] == [["com.shop.list", "exact", 2]]
    assert (after_callee["other_calls"], after_callee["pairs"]) == (2, [])
    assert stage.realm.dealer.pairs.count == 0
    assert bob.session.asked == {}


def test_a_thousand_strangers_cannot_fill_the_memory_with_pairs() -> None:
    """Beyond the limit calls are counted without a name, and room comes back with those who leave."""
    stage = Stage()
    stage.realm.dealer.pairs = traffic.Pairs(limit=2)
    ann, bob, callee = shop(stage)
    carl = stage.client("carl")

    for one in (ann, bob, carl, carl):
        one.call("com.shop.list")
    full = told(stage)
    ann.leave()
    carl.call("com.shop.list")

    assert (len(full["pairs"]), full["other_calls"]) == (2, 2)
    assert carl.session.asked is not NOTHING
    assert pairs_of(stage) == {
        (bob.id, callee.id, "com.shop.list"): 1,
        (carl.id, callee.id, "com.shop.list"): 1,
    }
    assert told(stage)["registrations"] == [["com.shop.list", "exact", 5]]


def test_a_callee_that_comes_and_goes_leaves_nothing_with_its_callers() -> None:
    """A component that restarts a thousand times must not grow in the memory of those who call it."""
    stage = Stage()
    caller = stage.client("caller")

    for _ in range(50):
        callee = stage.client("callee")
        callee.register("com.proc")
        caller.call("com.proc")
        callee.leave()

    assert caller.session.asked == {}
    assert stage.realm.dealer.pairs.count == 0
    assert told(stage)["calls"] == 50


def test_what_cannot_be_told_whole_says_so() -> None:
    """A rate of nothing where nothing was told would be a guess."""
    stage = Stage()
    shop(stage)

    assert told(stage)["is_whole"]
    stage.realm.broker.by_id.update(dict.fromkeys(range(-traffic.LOOKED_AT - 1, 0), _SUBSCRIPTION))
    assert not told(stage)["is_whole"]


class _Subscription:
    events = 0


_SUBSCRIPTION: Any = _Subscription()
