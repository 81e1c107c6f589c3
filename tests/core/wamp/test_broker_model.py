"""The broker against a model that is too simple to be wrong."""

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from core.wamp.stage import Client, Stage
from holdfast.core.wamp.uri import matches_wildcard

TOPICS = st.sampled_from(["a", "a.b", "a.b.c", "b.b", "b.b.c"])
PATTERNS = st.sampled_from(
    [
        ("exact", "a"), ("exact", "a.b"), ("exact", "b.b.c"), ("prefix", ""), ("prefix", "a"),
        ("prefix", "a.b"), ("wildcard", ".b"), ("wildcard", ".b."), ("wildcard", "a."),
    ]
)  # fmt: skip
WHO = st.integers(0, 3)


def is_match(match: str, pattern: str, topic: str) -> bool:
    if match == "exact":
        return pattern == topic
    return topic.startswith(pattern) if match == "prefix" else matches_wildcard(pattern, topic)


class BrokerMachine(RuleBasedStateMachine):
    """Sessions come, subscribe, publish and go; the model is a set of (session, match, pattern)."""

    @initialize()
    def begin(self) -> None:
        self.stage = Stage(meta_api=False)  # its events reach the prefix "", too
        self.clients: list[Client | None] = [None] * 4
        self.model: dict[tuple[int, str, str], int] = {}
        self.retained: dict[str, int] = {}
        self.number = 0
        for who in range(3):
            self.join(who)

    def join(self, who: int) -> None:
        self.clients[who] = self.stage.client(f"c{who}")

    def at(self, who: int) -> Client | None:
        return self.clients[who]

    @rule(who=WHO, pattern=PATTERNS, get_retained=st.booleans())
    def subscribe(self, who: int, pattern: tuple[str, str], get_retained: bool) -> None:
        client = self.at(who)
        if client is None:
            self.join(who)
            return
        match, uri = pattern
        id_ = client.subscribe(uri, match=match, get_retained=get_retained)
        others = {i for (_, m, u), i in self.model.items() if (m, u) == pattern}
        assert others <= {id_}
        assert id_ not in {i for (_, m, u), i in self.model.items() if (m, u) != pattern}
        self.model[who, match, uri] = id_
        expected = [
            n for topic, n in self.retained.items() if get_retained and is_match(match, uri, topic)
        ]
        assert [m[4] for m in client.take()] == [[n] for n in sorted(expected)]

    @rule(who=WHO, pattern=PATTERNS)
    def unsubscribe(self, who: int, pattern: tuple[str, str]) -> None:
        client = self.at(who)
        if client is None:
            return
        id_ = self.model.pop((who, *pattern), None)
        client.unsubscribe(id_ if id_ is not None else 999_999)
        answer = client.one()
        assert answer[0] == (35 if id_ is not None else 8)

    @rule(
        who=WHO,
        topic=TOPICS,
        exclude_me=st.booleans(),
        eligible=st.none() | st.lists(WHO, max_size=3),
        exclude=st.none() | st.lists(WHO, max_size=2),
        retain=st.booleans(),
    )
    def publish(
        self,
        who: int,
        topic: str,
        exclude_me: bool,
        eligible: list[int] | None,
        exclude: list[int] | None,
        retain: bool,
    ) -> None:
        publisher = self.at(who)
        if publisher is None:
            return
        self.number += 1
        options: dict[str, Any] = {}
        if not exclude_me:
            options["exclude_me"] = False
        if eligible is not None:
            options["eligible_authid"] = [f"c{n}" for n in eligible]
        if exclude is not None:
            options["exclude_authid"] = [f"c{n}" for n in exclude]
        if retain and eligible is None and exclude is None:
            options["retain"] = True
            self.retained.pop(topic, None)
            self.retained[topic] = self.number
        publisher.publish(topic, self.number, **options)
        for n, client in enumerate(self.clients):
            if client is None:
                continue
            wanted = sorted(
                id_ for (w, m, u), id_ in self.model.items() if w == n and is_match(m, u, topic)
            )
            if (
                (n == who and exclude_me)
                or (eligible is not None and n not in eligible)
                or (exclude is not None and n in exclude)
            ):
                wanted = []
            got = client.take()
            assert sorted(m[1] for m in got) == wanted
            assert all(m[0] == 36 and m[4] == [self.number] for m in got)

    @precondition(lambda self: any(self.clients))
    @rule(who=WHO)
    def leave(self, who: int) -> None:
        client = self.at(who)
        if client is None:
            return
        client.leave()
        self.clients[who] = None
        self.model = {key: id_ for key, id_ in self.model.items() if key[0] != who}

    @invariant()
    def nothing_is_left_over(self) -> None:
        if not hasattr(self, "stage"):
            return
        broker = self.stage.realm.broker
        patterns = {(m, u) for _, m, u in self.model}
        assert len(broker.by_id) == len(broker.subscriptions) == len(patterns)
        assert sum(len(s.sessions) for s in broker.by_id.values()) == len(self.model)
        for client in self.clients:
            if client is not None:
                assert client.take() == []


TestBroker = BrokerMachine.TestCase
TestBroker.settings = settings(max_examples=30, stateful_step_count=40, deadline=None)
