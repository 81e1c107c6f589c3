"""What do the rules themselves cost? Calls and events through a `Realm` whose outlets do nothing, in µs a message.

    python bench/wamp_realm.py

Not in here: sockets, frames, codecs. On a busy machine take the best of several rounds (it prints the best).
"""

import random
import resource
import time
from typing import Any

from holdfast.core.wamp.messages import Call, Publish, Register, Shared, Subscribe, Yield
from holdfast.core.wamp.realm import Realm
from holdfast.core.wamp.session import Identity, Session

ROUNDS = 7


class Silent:
    """An outlet that does nothing."""

    __slots__ = ()

    def send(self, head: list[Any], payload: Any = None) -> None:
        """Nothing."""

    def send_shared(self, message: Shared) -> None:
        """Nothing."""

    def close(self, reason: str, says: str) -> None:
        """Nothing."""


def realm() -> Realm:
    chance = random.Random(1)
    rule = {
        "uri": "", "match": "prefix", "allow": ["call", "register", "publish", "subscribe"], "deny": [],
        "disclose_caller": False, "disclose_publisher": False,
    }  # fmt: skip
    plan: Any = {
        "name": "realm1",
        "roles": [{"name": "anonymous", "permissions": [rule], "authorizer": None}],
        "meta_api": True,
        "history": [],
        "uri_check": "loose",
    }
    return Realm(plan, lambda: chance.getrandbits(53) + 1, lambda _: ([], {}), chance.randrange)


def session(on: Realm, **roles: Any) -> Session:
    identity = Identity("me", "anonymous", "anonymous", "static")
    one = Session(on.new_session_id(), identity, Silent(), roles, {"type": "test"})
    on.join(one, 0.0)
    return one


def best(count: int, work: Any) -> float:
    """The best of some rounds, in µs for one of `count`."""
    times = []
    for _ in range(ROUNDS):
        began = time.process_time()
        work()
        times.append(time.process_time() - began)
    return min(times) / count * 1e6


def calls(options: dict[str, Any], invoke: str = "single") -> tuple[float, float]:
    on = realm()
    caller, callee = session(on), session(on)
    on.receive(callee, Register(1, {"invoke": invoke}, "com.example.echo"), 0.0)
    count = 20_000
    requests = iter(range(1, 10**9))
    call_times, yield_times = [], []
    for _ in range(ROUNDS):
        spent_call = spent_yield = 0.0
        for _ in range(count // 64):
            batch = [Call(next(requests), options, "com.example.echo", b"[]") for _ in range(64)]
            began = time.process_time()
            for message in batch:
                on.receive(caller, message, 1.0)
            spent_call += time.process_time() - began
            first = callee.next_invocation - 63
            answers = [Yield(first + i, {}, b"[]") for i in range(64)]
            began = time.process_time()
            for answer in answers:
                on.receive(callee, answer, 1.0)
            spent_yield += time.process_time() - began
        call_times.append(spent_call)
        yield_times.append(spent_yield)
    done = count // 64 * 64
    assert not caller.calls
    assert not callee.invocations
    return min(call_times) / done * 1e6, min(yield_times) / done * 1e6


def events(receivers: int, options: dict[str, Any]) -> float:
    on = realm()
    publisher = session(on)
    for request in range(receivers):
        on.receive(session(on), Subscribe(request + 1, {}, "com.example.topic"), 0.0)
    message = Publish(1, options, "com.example.topic", b"[]")
    count = 20_000

    def work() -> None:
        for _ in range(count):
            on.receive(publisher, message, 1.0)

    return best(count, work)


def idle(count: int = 20_000) -> float:
    on = realm()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(count):
        session(on, caller={"features": {"caller_identification": True}})
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 / count


def main() -> None:
    print(f"idle session                    {idle():7.0f} bytes")
    for name, options, invoke in (
        ("CALL, YIELD", {}, "single"),
        ("  with receive_progress", {"receive_progress": True}, "single"),
        ("  with disclose_me", {"disclose_me": True}, "single"),
        ("  with timeout", {"timeout": 60_000}, "single"),
        ("  to a roundrobin of one", {}, "roundrobin"),
    ):
        call, answer = calls(options, invoke)
        print(f"{name:30} {call:6.2f} {answer:6.2f} µs")
    zero = events(0, {})
    one, ten = events(1, {}), events(10, {})
    print(f"PUBLISH to nobody              {zero:6.2f} µs")
    print(f"PUBLISH to 1                   {one:6.2f} µs")
    print(f"PUBLISH to 10                  {ten:6.2f} µs ({(ten - one) / 9:.2f} each further one)")
    print(f"PUBLISH acknowledged, to 1     {events(1, {'acknowledge': True}):6.2f} µs")
    print(f"PUBLISH disclosed, to 1        {events(1, {'disclose_me': True}):6.2f} µs")


if __name__ == "__main__":
    main()
