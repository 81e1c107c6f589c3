"""The dealer against a model that is too simple to be wrong."""

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from core.wamp.stage import Client, Stage

PROCEDURES = ["single", "first", "last", "roundrobin", "random", "all"]
PROCEDURE = st.sampled_from(PROCEDURES)
WHO = st.integers(0, 3)


class DealerMachine(RuleBasedStateMachine):
    """Each procedure is named after its policy.

    The model knows who offers what, which calls wait (with the callees that owe an answer), and
    that each call ends exactly once.
    """

    @initialize()
    def begin(self) -> None:
        self.stage = Stage()
        self.clients: list[Client | None] = [self.stage.client(f"c{n}") for n in range(4)]
        self.offers: dict[str, list[int]] = {name: [] for name in PROCEDURES}
        #: tag of a call -> (caller, request, procedure)
        self.calls: dict[int, tuple[int, int, str]] = {}
        #: (callee, invocation) -> tag of the call, while the callee owes an answer
        self.owed: dict[tuple[int, int], int] = {}
        self.ended: dict[int, list[Any]] = {}
        self.tag = 0

    def client(self, who: int) -> Client:
        """The client, joined if it is not."""
        client = self.clients[who]
        if client is None:
            client = self.clients[who] = self.stage.client(f"c{who}")
        return client

    def settle(self) -> None:
        """Take what everybody got, and put it on record."""
        for who, client in enumerate(self.clients):
            if client is None:
                continue
            for message in client.take():
                if message[0] == 68:
                    self.owed[who, message[1]] = message[4][0]
                elif message[0] == 69:
                    if message[2]["mode"] == "killnowait":
                        self.owed.pop((who, message[1]), None)
                elif message[0] in (50, 8) and message[1] not in (64, 66):
                    request = message[1] if message[0] == 50 else message[2]
                    details = message[2] if message[0] == 50 else message[3]
                    if details.get("progress"):
                        continue
                    tags = [t for t, c in self.calls.items() if c[:2] == (who, request)]
                    assert len(tags) == 1, "a call ended twice, or it never was"
                    self.ended[tags[0]] = message
                    del self.calls[tags[0]]

    @rule(who=WHO, procedure=PROCEDURE, force=st.booleans())
    def register(self, who: int, procedure: str, force: bool) -> None:
        from holdfast.core.wamp.messages import Register

        client = self.client(who)
        options = {"invoke": procedure, **({"force_reregister": True} if force else {})}
        client.says(Register(777, options, procedure))
        answer = next(m for m in client.got if m[:2] == [65, 777] or m[:3] == [8, 64, 777])
        client.got.remove(answer)
        if answer[0] == 8:
            assert procedure == "single"
            assert self.offers[procedure]
            assert not force
        elif force:
            self.offers[procedure] = [who]
        elif who not in self.offers[procedure]:
            self.offers[procedure].append(who)
        for other in self.clients:
            if other is not None:
                other.got = [m for m in other.got if m[:2] != [67, 0]]
        self.settle()

    @rule(who=WHO, procedure=PROCEDURE)
    def unregister(self, who: int, procedure: str) -> None:
        client = self.client(who)
        if who in self.offers[procedure]:
            registration = self.stage.realm.dealer.registrations.get(procedure, "exact")
            assert registration is not None
            client.unregister(registration.id)
            assert client.got.pop()[0] == 67
            self.offers[procedure].remove(who)

    @rule(who=WHO, procedure=PROCEDURE, progress=st.booleans(), timeout=st.sampled_from([0, 1000]))
    def call(self, who: int, procedure: str, progress: bool, timeout: int) -> None:
        client = self.client(who)
        self.tag += 1
        options: dict[str, Any] = {}
        if progress:
            options["receive_progress"] = True
        if timeout:
            options["timeout"] = timeout
        before = set(self.owed)
        self.calls[self.tag] = (who, client.request + 1, procedure)
        client.call(procedure, self.tag, **options)
        self.settle()
        offers = self.offers[procedure]
        asked = sorted(callee for callee, _ in set(self.owed) - before)
        if not offers:
            assert self.ended[self.tag][4] == "wamp.error.no_such_procedure"
            assert asked == []
        elif procedure == "all":
            assert asked == sorted(offers)
        elif procedure in ("single", "first"):
            assert asked == [offers[0]]
        elif procedure == "last":
            assert asked == [offers[-1]]
        else:
            assert len(asked) == 1
            assert asked[0] in offers

    @rule(
        pick=st.integers(0, 99), how=st.sampled_from(["yield", "progress", "error", "unavailable"])
    )
    def answer(self, pick: int, how: str) -> None:
        if not self.owed:
            return
        (who, invocation), tag = sorted(self.owed.items())[pick % len(self.owed)]
        client = self.client(who)
        is_waiting = tag in self.calls
        if how == "progress":
            client.give(invocation, tag, progress=True)
            self.settle()
            assert (tag in self.calls) == is_waiting
            return
        del self.owed[who, invocation]
        if how == "yield":
            client.give(invocation, tag)
        else:
            client.fail(invocation, "wamp.error.unavailable" if how == "unavailable" else "com.e")
        self.settle()
        if is_waiting and how == "yield" and tag not in self.owed.values():
            assert tag not in self.calls
            message = self.ended[tag]
            assert message[0] == 50
            if len(message) > 3 and self.ended[tag][3]:
                assert message[3] == [tag]

    @rule(pick=st.integers(0, 99), mode=st.sampled_from(["skip", "kill", "killnowait"]))
    def cancel(self, pick: int, mode: str) -> None:
        if not self.calls:
            return
        tag, (who, request, _) = sorted(self.calls.items())[pick % len(self.calls)]
        self.client(who).cancel(request, mode=mode)
        self.settle()
        if mode != "kill":
            assert self.ended[tag][4] == "wamp.error.canceled"

    @rule(seconds=st.sampled_from([0.3, 1.5]))
    def time_passes(self, seconds: float) -> None:
        self.stage.after(seconds)
        self.settle()
        due_s = self.stage.realm.due_s()
        assert due_s is None or due_s > self.stage.now_s

    @rule(who=WHO)
    def leave(self, who: int) -> None:
        client = self.clients[who]
        if client is None:
            return
        client.leave()
        self.clients[who] = None
        for procedure in PROCEDURES:
            if who in self.offers[procedure]:
                self.offers[procedure].remove(who)
        self.calls = {t: c for t, c in self.calls.items() if c[0] != who}
        self.owed = {key: tag for key, tag in self.owed.items() if key[0] != who}
        self.settle()

    @invariant()
    def books_are_balanced(self) -> None:
        if not hasattr(self, "stage"):
            return
        realm = self.stage.realm
        assert realm.dealer.in_flight == len(self.calls)
        mine = {
            (who, request)
            for who, c in enumerate(self.clients)
            if c is not None
            for request in c.session.calls
        }
        assert mine == {(who, request) for who, request, _ in self.calls.values()}
        # Every call that waits is owed by somebody, and what the dealer waits for is owed.
        assert set(self.calls) <= set(self.owed.values())
        waiting = {
            (who, invocation)
            for who, c in enumerate(self.clients)
            if c is not None
            for invocation in c.session.invocations
        }
        assert waiting <= set(self.owed)
        assert {self.owed[key] for key in waiting} == set(self.calls)
        offered = {name: len(who) for name, who in self.offers.items() if who}
        assert {r.uri: len(r.endpoints) for r in realm.dealer.by_id.values()} == offered


TestDealer = DealerMachine.TestCase
TestDealer.settings = settings(max_examples=40, stateful_step_count=50, deadline=None)
