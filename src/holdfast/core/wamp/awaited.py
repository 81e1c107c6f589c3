"""What about calls to a procedure that has just gone down with its router?

Its component is on its way to another router, and offers it there in a moment. Until then such calls wait, at most `GRACE_S`: then,
or when the procedure is offered again, they are dealt with as if they came just now. So the death of a router is a short
delay for those who call what lived there, and not an error. Not held: whatever was not offered over the lost link. A call that was
in flight is held only where it says `"idempotent": true`: nobody knows how far it came.
"""

from typing import TYPE_CHECKING, NamedTuple

from holdfast.core.wamp.errors import TIMEOUT, ProtocolViolation
from holdfast.core.wamp.uri import UriMap

if TYPE_CHECKING:
    from collections.abc import Iterable

    from holdfast.core.wamp.messages import Call
    from holdfast.core.wamp.realm import Realm
    from holdfast.core.wamp.session import Session

#: A component needs about 0.1 s to go over to another router; one whose router is being restarted, half a second.
GRACE_S = 1.0
#: Calls that wait at a time; further ones are told at once that there is no such procedure.
MOST = 10_000


class Waiting(NamedTuple):
    """A call that waits."""

    due_s: float
    is_timeout: bool  #: at `due_s` its own time limit is over
    session: "Session"
    message: "Call"


class Awaited:
    """Procedures that are expected to be back soon, and the calls that wait for them."""

    __slots__ = ("_calls", "_expected", "_next_s", "_realm", "_until_s")

    def __init__(self, realm: "Realm") -> None:
        self._realm = realm
        self._expected: UriMap[bool] = UriMap()
        self._until_s = 0.0
        self._calls: list[Waiting] = []
        #: Not later than the first of them is due.
        self._next_s = 0.0

    def expect(self, procedures: "Iterable[tuple[str, str]]") -> None:
        """Let calls of these (pattern, match policy) wait, from now on."""
        if self._realm.now_s >= self._until_s:
            self._expected = UriMap()
        for uri, match in procedures:
            if not self._expected.get(uri, match):
                self._expected.add(uri, match, True)
        self._until_s = self._realm.now_s + GRACE_S

    def hold(self, session: "Session", message: "Call") -> bool:
        """Let a call wait that nobody can take just now; false where it is not expected that anybody will."""
        now_s = self._realm.now_s
        if (
            now_s >= self._until_s
            or len(self._calls) >= MOST
            or self._expected.best(message.procedure) is None
        ):
            return False
        timeout_ms = message.options.get("timeout", 0)
        limit_s = now_s + timeout_ms / 1000 if timeout_ms else self._until_s
        due_s = min(limit_s, self._until_s)
        self._next_s = min(due_s, self._next_s) if self._calls else due_s
        self._calls.append(Waiting(due_s, limit_s < self._until_s, session, message))
        return True

    def cancel(self, session: "Session", request: int) -> bool:
        """Forget a call that its caller gives up; false when it does not wait here."""
        before = len(self._calls)
        self._calls = [
            one for one in self._calls if one.session is not session or one.message.request != request
        ]  # fmt: skip
        return len(self._calls) < before

    def arrived(self) -> None:
        """Deal with the calls that somebody can take now."""
        if not self._calls:
            return
        calls, self._calls = self._calls, []
        route = self._realm.dealer.route
        for one in calls:
            if route(one.message.procedure) is None:
                self._calls.append(one)
            else:
                self._again(one)

    def due_s(self) -> float | None:
        """Tell when `tick` has something to do."""
        return self._next_s if self._calls else None

    def tick(self, now_s: float) -> None:
        """Give up what has waited long enough."""
        if not self._calls or self._next_s > now_s:
            return
        calls, self._calls = self._calls, []
        self._next_s = min((one.due_s for one in calls if one.due_s > now_s), default=0.0)
        for one in calls:
            if one.due_s > now_s:
                self._calls.append(one)
            elif one.is_timeout:
                self._realm.dealer.refuse(
                    one.session, one.message, TIMEOUT, "the procedure's router is gone, and it was not offered elsewhere in time"
                )  # fmt: skip
            else:
                self._again(one)

    def _again(self, one: Waiting) -> None:
        session, message = one.session, one.message
        if self._realm.is_own(session):
            self._realm.dealer.call(session, message)
            return
        try:
            # Of a session that has left they do nothing.
            session.handlers[type(message)](session, message)
        except ProtocolViolation as violation:
            self._realm.expel(session, str(violation))
