"""Two real routers on real sockets that are linked, and peers that know nothing of it."""

from __future__ import annotations

import socket
import threading
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from holdfast.router import alone, links, links_dialled
from holdfast.router import router as router_module
from router.peers import (
    CALL,
    DEADLINE_S,
    ERROR,
    EVENT,
    HELLO,
    INVOCATION,
    RESULT,
    ROLES,
    WELCOME,
    YIELD,
    Peer,
    RawSocketPeer,
    Running,
    wait_until,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from holdfast.model.bus import LinkPlan, RouterPlan


class Town:
    """Routers of one realm, each with a TCP port and an internal socket."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.routers: dict[str, Running] = {}

    def link(self, name: str) -> LinkPlan:
        return {"realm": "realm1", "url": f"unix:{self.directory}/{name}.sock", "auth": {}}

    def start(self, name: str, *links: LinkPlan | str, change: Callable[[RouterPlan], None] | None = None) -> Running:  # fmt: skip
        """Start a router with links to others, by name or in full."""
        internal = alone.transport("internal", "unix")
        internal["endpoint"]["path"] = f"{self.directory}/{name}.sock"
        internal["internal"] = True

        def changed(plan: RouterPlan) -> None:
            plan["links"] = [self.link(one) if isinstance(one, str) else one for one in links]
            if change is not None:
                change(plan)

        self.routers[name] = Running()
        return self.routers[name].start(alone.transport("t0"), internal, change=changed)

    def linked(self, name: str, n: int = 1) -> None:
        """Wait until a router has so many links."""
        router = self.routers[name].router
        wait_until(lambda: len(router.realms["realm1"].links) == n, f"{n} links of {name}")

    def known(self, name: str, procedure: str) -> None:
        """Wait until a procedure can be called at a router."""
        dealer = self.routers[name].router.realms["realm1"].dealer
        wait_until(lambda: procedure in dealer.registrations.exact, f"{procedure} at {name}")

    def unknown(self, name: str, procedure: str) -> None:
        dealer = self.routers[name].router.realms["realm1"].dealer
        wait_until(lambda: procedure not in dealer.registrations.exact, f"no {procedure} at {name}")

    def wanted(self, name: str, topic: str, n: int = 1) -> None:
        """Wait until a router has so many subscribers, links counted."""
        exact = self.routers[name].router.realms["realm1"].broker.subscriptions.exact
        wait_until(lambda: topic in exact and len(exact[topic].sessions) == n, f"{topic} at {name}")

    def end(self, name: str) -> None:
        running = self.routers.pop(name)
        running.end()
        assert running.unhandled == []
        assert [line for line in running.log.lines if "the fault is the router's" in line] == []


@pytest.fixture
def town(tmp_path: Path) -> Iterator[Town]:
    made = Town(tmp_path)
    yield made
    for name in list(made.routers):
        made.end(name)


def answer(callee: Peer, *args: Any) -> list[Any]:
    """Answer the next invocation; returns it."""
    invocation = callee.expect(INVOCATION)
    callee.send(YIELD, invocation[1], {}, list(args))
    return invocation


@pytest.mark.parametrize("serializer", ["json", "msgpack", "cbor"])
def test_call_and_event_cross_whatever_the_serializers(town: Town, serializer: str) -> None:
    """The link speaks one serializer, the clients any: what they say arrives as they said it."""
    there, here = town.start("b"), town.start("a", "b")
    town.linked("a")
    town.linked("b")
    callee = there.join(serializer=serializer)
    caller = here.join("websocket", "json")
    callee.register("com.add")
    subscription = caller.subscribe("com.topic")
    town.known("a", "com.add")
    town.wanted("b", "com.topic")

    caller.call("com.add", 2, "drei", [4.5, None, True])
    assert answer(callee, {"sum": 5})[4] == [2, "drei", [4.5, None, True]]
    assert caller.expect(RESULT)[3] == [{"sum": 5}]
    callee.publish("com.topic", "grüß", {"k": [1]})
    event = caller.expect(EVENT)
    assert (event[1], event[4]) == (subscription, ["grüß", {"k": [1]}])


def test_link_works_the_other_way_round_as_well(town: Town) -> None:
    """Only one of the two opens the connection."""
    there, here = town.start("b"), town.start("a", "b")
    town.linked("b")
    callee, caller = here.join(), there.join()
    callee.register("com.add")
    subscription = caller.subscribe("com.topic")
    town.known("b", "com.add")
    town.wanted("a", "com.topic")

    caller.call("com.add", 1)
    answer(callee, 2)
    assert caller.expect(RESULT)[3] == [2]
    callee.publish("com.topic", 3)
    assert caller.expect(EVENT)[1] == subscription


def test_three_routers_and_every_event_once(town: Town) -> None:
    town.start("c")
    town.start("b", "c")
    town.start("a", "b", "c")
    for name in "abc":
        town.linked(name, 2)
    peers = {name: running.join() for name, running in town.routers.items()}
    for peer in peers.values():
        peer.subscribe("com.topic")
    for name in "abc":
        town.wanted(name, "com.topic", 3)

    for name, peer in peers.items():
        peer.publish("com.topic", name)

    for name, peer in peers.items():
        # The answer of the last of these comes after every event that was on its way to that router's clients.
        got = [peer.expect(EVENT)[4][0] for _ in range(2)]
        assert sorted([name, *got]) == ["a", "b", "c"]
        assert peer.is_served()


def test_dead_router_takes_its_procedures_along_and_is_linked_again(town: Town) -> None:
    """What is local goes on meanwhile, and the call in flight ends clearly."""
    town.start("b")
    here = town.start("a", "b")
    town.linked("a")
    callee = town.routers["b"].join()
    callee.register("com.far")
    caller, local = here.join(), here.join()
    local.register("com.near")
    town.known("a", "com.far")
    caller.call("com.far")
    callee.expect(INVOCATION)

    town.end("b")

    assert caller.expect(ERROR)[4] == "wamp.error.canceled"
    assert caller.request(CALL, ERROR, {}, "com.far")[4] == "wamp.error.no_such_procedure"
    caller.call("com.near")
    answer(local, 1)
    assert caller.expect(RESULT)[3] == [1]
    wait_until(lambda: any("link lost" in line for line in here.log.lines), "the loss in the log")

    again = town.start("b")
    town.linked("a")
    callee = again.join()
    callee.register("com.far")
    town.known("a", "com.far")
    caller.call("com.far")
    answer(callee, 2)
    assert caller.expect(RESULT)[3] == [2]


@pytest.mark.parametrize(
    "frozen", ["a", "b"], ids=["the one that dials", "the one that is dialled"]
)
def test_frozen_router_is_given_up_and_taken_back(
    town: Town, frozen: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that is stopped keeps its connections: nobody is told by the kernel, and calls would wait for ever."""
    for module in (links, links_dialled):
        monkeypatch.setattr(module, "PING_S", 0.2)
    monkeypatch.setattr(router_module, "_PINGS_EVERY", 1)
    town.start("b")
    town.start("a", "b")
    town.linked("a")
    town.linked("b")
    still = "b" if frozen == "a" else "a"
    callee, local, caller = (town.routers[name].join() for name in (frozen, still, still))
    callee.register("com.far")
    local.register("com.near")
    town.known(still, "com.far")
    go_on = threading.Event()
    town.routers[frozen].loop.call_soon_threadsafe(go_on.wait)
    try:
        caller.call("com.far", "old")
        town.unknown(still, "com.far")
        assert caller.expect(ERROR)[4] == "wamp.error.canceled"
        caller.call("com.near")
        answer(local, 1)
        assert caller.expect(RESULT)[3] == [1]
    finally:
        go_on.set()

    town.known(still, "com.far")
    town.linked("a")
    town.linked("b")
    caller.call("com.far", "new")
    # What was asked before may have reached the callee meanwhile; nobody waits for that answer.
    while (came := callee.receive())[0] != INVOCATION or came[4:] != [["new"]]:
        pass
    callee.send(YIELD, came[1], {}, [2])
    assert caller.expect(RESULT)[3] == [2]


def test_two_routers_that_open_a_link_to_each_other_have_one(town: Town) -> None:
    """Each node's file names the other: not a mistake, and no event comes twice."""
    town.start("b", town.link("a"))
    town.start("a", town.link("b"))
    for name in "ab":
        town.linked(name)
    here, there = town.routers["a"].join(), town.routers["b"].join()
    here.subscribe("com.topic")
    town.wanted("b", "com.topic")
    for _ in range(3):
        for n in range(10):
            there.publish("com.topic", n)
        assert [here.expect(EVENT)[4] for _ in range(10)] == [[n] for n in range(10)]
        assert here.is_served()
    for name in "ab":
        town.linked(name)


def test_router_that_is_linked_with_itself_says_so(town: Town) -> None:
    here = town.start("a", "a")
    wait_until(lambda: any("linked with itself" in line for line in here.log.lines), "the words")
    assert here.router.realms["realm1"].links == ()
    assert here.join().is_served()


def test_only_the_trusted_can_be_a_link(town: Town) -> None:
    """Anybody can claim to be a router; a stranger is a session like any other."""
    there = town.start("b")
    port = there.address("t0")[1]
    plan: LinkPlan = {"realm": "realm1", "url": f"rs://127.0.0.1:{port}", "auth": {}}
    here = town.start("a", plan)

    wait_until(lambda: any('the role "anonymous"' in line for line in here.log.lines), "the words")

    assert there.router.realms["realm1"].links == ()
    with closing(there.connect()) as sock:
        peer = RawSocketPeer(sock, "json")
        peer.send(HELLO, "realm1", {"roles": {**ROLES, "x_link": {"features": {"router": "me"}}}})
        assert "x_link" not in peer.expect(WELCOME)[2]


def test_link_signs_in_where_it_has_to(town: Town) -> None:
    def with_ticket(plan: RouterPlan) -> None:
        service = plan["transports"][0]["rawsocket"]
        assert service is not None
        people = {"north": {"ticket": "s3cret", "role": "trusted"}}
        service["auth"] = {"ticket": {"type": "static", "principals": people}}

    there = town.start("b", change=with_ticket)
    url = f"rs://127.0.0.1:{there.address('t0')[1]}"
    auth = {"method": "ticket", "authid": "north", "ticket": "s3cret"}
    town.start("a", {"realm": "realm1", "url": url, "auth": auth})
    town.linked("a")
    town.linked("b")
    wrong = town.start("c", {"realm": "realm1", "url": url, "auth": {**auth, "ticket": "wrong"}})
    wait_until(lambda: any("link not open yet" in line for line in wrong.log.lines), "the words")
    assert not any("s3cret" in line for r in town.routers.values() for line in r.log.lines)


def test_another_plan_opens_and_closes_links(town: Town) -> None:
    """`apply` does not restart a router."""
    town.start("b")
    here = town.start("a")
    assert here.router.realms["realm1"].links == ()

    here.reconfigure(lambda plan: plan["links"].append(town.link("b")))
    town.linked("a")
    town.linked("b")
    here.reconfigure(lambda plan: plan["links"].clear())
    town.linked("a", 0)
    town.linked("b", 0)


def test_realm_that_is_gone_takes_its_link_along(town: Town) -> None:
    there, here = town.start("b"), town.start("a", "b")
    town.linked("a")
    town.linked("b")

    def without(plan: RouterPlan) -> None:
        plan["realms"].clear()
        plan["links"].clear()

    here.reconfigure(without)
    town.linked("b", 0)
    assert there.join().is_served()


def test_stranger_on_a_link_breaks_only_the_link(town: Town) -> None:
    """Whoever can open the internal socket may break the protocol; the others notice nothing."""
    there = town.start("b")
    with closing(socket.socket(socket.AF_UNIX)) as sock:
        sock.settimeout(DEADLINE_S)
        sock.connect(f"{town.directory}/b.sock")
        peer = RawSocketPeer(sock, "json")
        peer.send(HELLO, "realm1", {"roles": {**ROLES, "x_link": {"features": {"router": "me"}}}})
        assert "x_link" in peer.expect(WELCOME)[2]
        town.linked("b")
        peer.send(CALL, 1, {}, "com.proc")
        assert peer.receive()[2] == "wamp.error.protocol_violation"
    town.linked("b", 0)
    assert there.join().is_served()


def test_killed_session_of_a_link_comes_back(town: Town) -> None:
    """An administrator may end it like any session."""
    there = town.start("b")
    town.start("a", "b")
    town.linked("b")
    link = there.router.realms["realm1"].links[0]
    there.do(lambda: there.router.realms["realm1"].close(link.session, "wamp.close.killed", ""))
    wait_until(lambda: there.router.realms["realm1"].links not in ((), (link,)), "another link")
    town.linked("a")
