"""What does a session want published when it is gone?

`wamp.session.add_testament` and `wamp.session.flush_testaments`; there is no session resumption, so both scopes are published as a
session leaves, "detached" first. WAMP specification, "Session Testament". Kept in memory: a router that is killed takes the
testaments of its sessions along.
"""

from typing import TYPE_CHECKING, Any, NamedTuple

from holdfast.core.wamp.errors import INVALID_ARGUMENT, LIMIT_EXCEEDED, NOT_AUTHORIZED, Refused
from holdfast.core.wamp.messages import Objects
from holdfast.core.wamp.permissions import ALLOW, ASK
from holdfast.core.wamp.session import NOTHING

if TYPE_CHECKING:
    from holdfast.core.wamp.broker import Broker
    from holdfast.core.wamp.session import Session

SCOPES = ("detached", "destroyed")
#: Testaments of one session.
LIMIT = 100

#: They make no sense when nobody is there any more.
_POINTLESS = ("acknowledge", "exclude_me")


class Testament(NamedTuple):
    """An event to come."""

    topic: str
    args: list[Any]
    kwargs: dict[str, Any]
    options: dict[str, Any]


def add(session: "Session", testament: Testament, scope: str) -> None:
    """Keep a testament; raises Refused."""
    _check(scope)
    verdict = session.role.verdict("publish", testament.topic)
    if not verdict & (ALLOW | ASK):
        raise Refused(NOT_AUTHORIZED, f"this session may not publish to {testament.topic!r}")
    if sum(map(len, session.testaments.values())) >= LIMIT:
        raise Refused(LIMIT_EXCEEDED, f"a session may have {LIMIT} testaments")
    if session.testaments is NOTHING:
        session.testaments = {name: [] for name in SCOPES}
    options = {name: value for name, value in testament.options.items() if name not in _POINTLESS}
    session.testaments[scope].append(testament._replace(options=options))


def flush(session: "Session", scope: str) -> int:
    """Forget the testaments of a scope, and tell how many there were; raises Refused."""
    _check(scope)
    if session.testaments is NOTHING:
        return 0
    flushed = len(session.testaments[scope])
    session.testaments[scope] = []
    return flushed


def publish(session: "Session", broker: "Broker") -> None:
    """Publish what a session left behind, as far as its role may publish that now.

    A role with an authorizer was asked for nothing when the testament was made; it is trusted to have meant what its
    rules do not deny, because there is nobody left to hold the event for.
    """
    testaments, session.testaments = session.testaments, NOTHING
    for scope in SCOPES:
        for testament in testaments.get(scope, ()):
            verdict = session.role.verdict("publish", testament.topic)
            if verdict & (ALLOW | ASK):
                payload = Objects(testament.args, testament.kwargs)
                try:
                    broker.send(session, testament.topic, payload, testament.options, verdict)
                except Refused:  # its black- or whitelist has the wrong shape: an event for nobody
                    continue


def _check(scope: str) -> None:
    if scope not in SCOPES:
        raise Refused(INVALID_ARGUMENT, f"scope has to be detached or destroyed, not {scope!r}")
