"""What does a router process hold, and what happens in it by the clock?

The realms, every connection, the two lists that make the hot loop cheap (who has output, who is overdue), one sweep for
all deadlines, one timer for what the realms wait for. A router keeps nothing that a SIGKILL could lose: sessions are
their connections, the plan is the node's, the sockets are the keeper's, cookies are in the sign-in's store. Not here:
frames (:mod:`holdfast.router.connection`), sockets (:mod:`holdfast.router.port`).
"""

import asyncio
import os
import time
from collections import deque
from time import monotonic

from holdfast.core.wamp import traffic
from holdfast.core.wamp.errors import ProtocolViolation
from holdfast.core.wamp.messages import WELCOME
from holdfast.core.wamp.realm import LIMITS, Realm
from holdfast.core.wamp.session import Session
from holdfast.model.errors import ConfigError
from holdfast.router.bridge import RouterBridge
from holdfast.router.links import Links
from holdfast.router.signin import SignIn
from holdfast.router.stream import Poller, Tally
from holdfast.sdk.recorder import CURRENT, RECORDER
from holdfast.wire.wamp import open_payload

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from holdfast.core.wamp.messages import Error
    from holdfast.core.wamp.session import Identity
    from holdfast.model.bus import RouterLimits, RouterPlan
    from holdfast.router.connection import Connection
    from holdfast.router.port import Leaving, Port
    from holdfast.router.slowflag import SlowFlag
    from holdfast.router.web.connection import HttpConnection
    from holdfast.sdk.logline import Log

#: Seconds between two looks at deadlines.
SWEEP_S = 0.25
#: Looks at deadlines between two looks at who is idle.
_PINGS_EVERY = 4
#: A connection that has got our last words and does not close is ended after this.
LINGER_S = 2.0
#: How long a session that was cut off keeps the router's flag up and its health check unhappy, for people to see.
TELL_S = 60.0
#: When all together have too much unsent, so many are cut off that this share of it is left.
_RELIEF = 7 / 8
#: Topics of a session that was cut off that are told.
_TOPICS = 3


class CutOff:
    """A session that did not read and was cut off: what a person wants to know."""

    __slots__ = ("at_s", "says")

    def __init__(self, at_s: float, says: str) -> None:
        self.at_s = at_s
        self.says = says


class Router:
    """A running router."""

    def __init__(
        self, plan: "RouterPlan", log: "Log", name: str = "router", flag: "SlowFlag | None" = None
    ) -> None:
        self.plan = plan
        self.log = log
        self.name = name
        self.limits = _limits(plan)
        self.loop = asyncio.get_running_loop()
        self.poller = Poller(self.loop, self._connection_failed)
        #: What is unsent on all plain connections that speak WAMP; the sweep looks after those over TLS.
        self.tally = Tally(self.limits["queue_bytes_total"], self._relieve)
        self.flag = flag
        self.instance = CURRENT.get()
        self.ports: list[Port] = []
        #: Every connection that speaks WAMP; the sweep pings the idle ones.
        self.connections: dict[Connection, None] = {}
        #: Transports without a session, oldest first: since when.
        self.newcomers: dict[Any, float] = {}
        #: Connections that have got our last words: until when they may linger.
        self.lingering: dict[Connection | Leaving, float] = {}
        self.sessions: dict[int, Session] = {}
        self.cut_offs: deque[CutOff] = deque(maxlen=100)
        self.events_dropped = 0
        self.began_s = monotonic()
        self.realms: dict[str, Realm] = {
            entry["name"]: self._realm(entry) for entry in plan["realms"]
        }
        self.signin = SignIn(plan, self._tell_signin)
        self.bridge = RouterBridge(self)
        self.links = Links(self)
        self.is_idle = True
        self._due: list[Connection] = []
        self._timer: asyncio.TimerHandle | None = None
        self._timer_s = float("inf")
        self._sweeps = 0
        self._sweep_timer = self.loop.call_later(SWEEP_S, self._sweep)
        self._told_s: dict[str, float] = {}

    def _realm(self, entry: "Any") -> Realm:
        # Not corrected when somebody sets the clock: these are times of events, and they keep their order.
        return Realm(
            entry, self.new_id, open_payload, _choose, limits=self.limits, unix_at_zero_s=time.time() - monotonic()
        )  # fmt: skip

    def facts(self) -> "dict[str, Any]":
        """Return what the page about this node tells."""
        return {"router": self.name, "realms": sorted(self.realms), "sessions": len(self.sessions)}

    def traffic(self) -> "dict[str, Any]":
        """Return all counters of all realms: they only grow, so two answers of one life make rates."""
        return {
            "at_s": monotonic(),
            "began_s": self.began_s,
            "realms": {name: traffic.told(realm) for name, realm in self.realms.items()},
        }

    def totals(self) -> "dict[str, dict[str, int]]":
        """Return what went over each realm since this life began; from any thread."""
        return {name: traffic.totals(realm) for name, realm in tuple(self.realms.items())}

    def unready(self) -> str | None:
        """What keeps this router from serving: nothing, for what would ends the process."""
        return None

    def new_id(self) -> int:
        """Return a random id of the global scope, 1 to 2**53, that no session here has."""
        while True:
            found = (int.from_bytes(os.urandom(7), "big") >> 3) + 1
            if found not in self.sessions:
                return found

    # -- output: who has some, and when it is written ----------------------------------------------

    def is_due(self, connection: "Connection") -> None:
        """Note that the first output is queued on a connection."""
        self._due.append(connection)
        if self.is_idle:
            # No chunk is being dealt with: a timer or another task has made it.
            self.is_idle = False
            self.loop.call_soon(self.flush)

    def flush(self) -> None:
        """Write what everybody has got."""
        due = self._due
        for connection in due:  # it may grow meanwhile: a cut-off tells others
            try:
                connection.write_out()
            except Exception as error:  # noqa: BLE001 -- one connection must not take the others along
                self._connection_failed(connection.transport, error)
        due.clear()
        self.is_idle = True

    def worked(self, messages: int, realm: "Realm | None") -> None:
        """Count, and look whether a realm has set itself an earlier time limit."""
        if messages:
            RECORDER.work(self.instance, messages)
        if realm is not None:
            due_s = realm.due_s()
            if due_s is not None and due_s < self._timer_s:
                self._set_timer(due_s)

    def soon(self, connection: "Connection", error: "Error") -> None:
        """Let a session's realm receive this in a moment, as if the session had sent it."""
        self.loop.call_soon(self._receive_now, connection, connection.session, error)

    def _receive_now(
        self, connection: "Connection", session: "Session | None", error: "Error"
    ) -> None:
        if connection.session is session and session is not None:
            try:
                connection.receive(session, error, monotonic())
            except ProtocolViolation as unlikely:
                connection.violated(str(unlikely))

    def limit_http(self, newest: "HttpConnection") -> None:
        """Make room for another HTTP connection: the one that has idled longest goes; where none idles, the new one does."""
        most = self.limits["connections_http"]
        count = sum(len(port.http) for port in self.ports)
        if count <= most:
            return
        if count > 2 * most:
            # So many do not even hear that they are refused.
            newest.transport.abort()
            return
        http = [one for port in self.ports for one in port.http if not one.is_gone]
        if len(http) <= most:
            return
        idle = [one for one in http if one.is_idle and one is not newest]
        if idle:
            min(idle, key=_since_s).transport.close()
            return
        self.tell("too many HTTP connections", connections_http=most)
        newest.turn_away(f"This router bears {most} HTTP connections, and all are busy; try again.")

    # -- sessions --------------------------------------------------------------------------------

    def admit(
        self, connection: "Connection", id_: int, realm_name: str, identity: "Identity", roles: "dict[str, Any]",
        transport: "dict[str, Any]", extra: "dict[str, Any]",
    ) -> None:  # fmt: skip
        """Open a session for whoever has signed in."""
        realm = self.realms.get(realm_name)
        if realm is None:
            # It was there when the sign-in began.
            connection.refuse(
                "wamp.error.no_such_realm", f'there is no realm "{realm_name}" any more'
            )
            return
        most = self.limits["sessions"]
        if len(self.sessions) >= most:
            self.tell(
                "a session was refused",
                sessions=most,
                says="there are as many as limits.sessions allows",
            )
            says = f"this router bears {most} sessions, and it has them; try again later"
            connection.refuse("wamp.error.unavailable", says)
            return
        session = Session(id_, identity, connection, roles, transport)
        self.sessions[session.id] = session
        self.newcomers.pop(connection.transport, None)
        details = realm.welcome(session)
        details.update(extra)
        details["x_router"] = self.name
        details.update(self.links.welcome(roles, identity))
        connection.send([WELCOME, session.id, details])
        if connection.is_leaving:
            # It cannot even be told that.
            del self.sessions[session.id]
            return
        connection.opened(session, realm)
        realm.join(session, connection.heard_s)
        self.links.admitted(connection, session, realm, roles)

    def sign_out(self, connection: "Connection") -> None:
        """End what the cookie of a connection stands for, and the other sessions that it opened."""
        cookie = connection.facts.cookie
        if not self.signin.sign_out(connection.plan["auth"], cookie):
            return
        for other in tuple(self.connections):
            if (
                other is not connection
                and other.facts.cookie == cookie
                and other.session is not None
            ):
                other.leave_realm()
                other.close("wamp.close.logout", "signed out at another connection of this browser")

    def left(self, connection: "Connection", session: "Session", realm: Realm) -> None:  # noqa: ARG002
        """Take a session out of its realm."""
        self.sessions.pop(session.id, None)
        self.links.left(session)
        realm.leave(session, monotonic())

    def forget_session(self, session: "Session") -> None:
        """Forget a session whose realm has let it go."""
        self.sessions.pop(session.id, None)
        self.links.left(session)

    # -- the end of connections --------------------------------------------------------------------

    def leaving(self, connection: "Connection | Leaving") -> None:
        """Give a connection that has got our last words a moment to close."""
        self.newcomers.pop(connection.transport, None)
        self.lingering[connection] = monotonic() + LINGER_S

    def gone(self, connection: "Connection") -> None:
        """Forget a connection that is closed."""
        self.connections.pop(connection, None)
        self.lingering.pop(connection, None)
        self.newcomers.pop(connection.transport, None)

    def cut_off(self, connection: "Connection", total_bytes: int = 0) -> None:
        """End a session that does not read: what is unsent has reached its limit, or that of all (then `total_bytes` are)."""
        if connection.is_leaving:
            connection.transport.abort()
            return
        unsent = connection.transport.get_write_buffer_size()
        session = connection.session
        who = f"session {session.id}" if session is not None else "a connection that was signing in"
        authid = session.identity.authid if session is not None else ""
        topics = _topics(session)
        hears = f", subscribed to {topics}," if topics else ""
        if total_bytes:
            limit = self.tally.limit
            measured = f"{unsent} bytes unsent, of {total_bytes} of all sessions, {limit} allowed (queue_bytes_total)"
        else:
            limit = connection.plan["queue_bytes"]
            measured = f"{unsent} bytes unsent, {limit} allowed (queue_bytes)"
        says = f"{who} ({authid}, {connection.peer}){hears} does not read: {measured}"
        self.cut_offs.append(CutOff(monotonic(), says))
        self.log.warning(
            "cut off: it does not read", session=session.id if session else "", authid=authid, peer=connection.peer,
            topics=topics, unsent_bytes=unsent, **{"queue_bytes_total" if total_bytes else "queue_bytes": limit},
        )  # fmt: skip
        self._event(f"cut off {authid} {connection.peer}: {unsent} bytes unsent")
        self._raise_flag(says, total_bytes or unsent, limit)
        connection.is_leaving = True
        connection.out.clear()
        connection.leave_realm()
        connection.transport.abort()

    def _relieve(self) -> None:
        """Cut off those with most unsent output: that of all together is more than the router bears.

        More than one, where many have a little each: to look at all for each chunk that is too much costs more than they do.
        """
        sizes = [(c.transport.get_write_buffer_size(), c) for c in self.connections]
        sizes.sort(key=_first, reverse=True)
        unsent = sum(size for size, _ in sizes)
        for size, connection in sizes:
            if unsent <= self.tally.limit * _RELIEF:
                break
            self.cut_off(connection, unsent)
            unsent -= size

    def _weigh(self) -> None:
        """Look whether all together have too much unsent, where TLS keeps it from being counted as it grows."""
        if any(port.certificates is not None for port in self.ports):
            unsent = sum(c.transport.get_write_buffer_size() for c in self.connections)
            if unsent > self.tally.limit:
                self._relieve()

    # -- telling people ----------------------------------------------------------------------------

    def tell_violation(self, connection: "Connection", says: str) -> None:
        """Log who broke the protocol, not more often than a log can bear."""
        session = connection.session
        authid = session.identity.authid if session is not None else ""
        self.tell("protocol violation", authid=authid, peer=connection.peer, says=says)

    def tell_fault(self, connection: "Connection", error: Exception) -> None:
        """Log a fault of ours with its traceback."""
        self.log.exception(  # noqa: LOG004 -- called from a handler
            "a message could not be dealt with: the fault is the router's", peer=connection.peer
        )
        self._event(f"fault {type(error).__name__}: {error}")

    def tell_unsayable(self, connection: "Connection", says: str) -> None:
        """Log a message that could not be sent and that nobody waits for."""
        self.tell("not sent", peer=connection.peer, says=says)

    def dropped_event(self, connection: "Connection", says: str) -> None:
        """Count an event that its subscriber cannot be sent."""
        self.events_dropped += 1
        self.tell("event dropped", peer=connection.peer, says=says)

    def _tell_signin(self, says: str) -> None:
        self.tell("sign-in", says=says)

    def tell(self, event: str, /, **fields: object) -> None:
        """Log at most one line a second of a kind: a flood of offences must not become one of lines."""
        now_s = monotonic()
        if now_s - self._told_s.get(event, 0.0) >= 1.0:
            self._told_s[event] = now_s
            self.log.warning(event, **fields)

    def _raise_flag(self, says: str, value: int, limit: int) -> None:
        if self.flag is None:
            return
        try:
            self.flag.tell(says, value, limit)
        except OSError as error:
            self.tell("the flag could not be raised", says=str(error))

    def _lower_flag(self, now_s: float) -> None:
        flag = self.flag
        if flag is not None and flag.count and now_s - self.cut_offs[-1].at_s >= TELL_S:
            try:
                flag.clear()
            except OSError as error:
                self.tell("the flag could not be taken back", says=str(error))

    def _event(self, text: str) -> None:
        if RECORDER.sink is not None:
            RECORDER.sink(f"{self.name}: {text}")

    def health(self) -> bool:
        """Whether every transport is served and nobody was cut off within the last minute.

        Raises:
            RuntimeError: With the words.
        """
        recent = [c for c in self.cut_offs if monotonic() - c.at_s < TELL_S]
        for port in self.ports:
            if port.trouble:
                raise RuntimeError(f'transport "{port.plan["name"]}" is not served: {port.trouble}')
        if recent:
            more = f" (and {len(recent) - 1} more)" if len(recent) > 1 else ""
            raise RuntimeError(f"cut off {recent[-1].says}{more}")
        return True

    def _connection_failed(self, stream: "Any", error: Exception) -> None:
        self.log.exception("a connection failed: the fault is the router's")  # noqa: LOG004 -- called from a handler
        self._event(f"fault {type(error).__name__}: {error}")
        abort = getattr(stream, "abort", None)
        if abort is not None:
            abort()

    def close(self) -> None:
        """End: for a component that is stopped or restarted within its process. Clients see a lost connection."""
        self._sweep_timer.cancel()
        if self._timer is not None:
            self._timer.cancel()
        self.links.close()
        for port in self.ports:
            port.close()
        self.ports.clear()
        for protocol in (*self.connections, *self.lingering):
            protocol.transport.abort()
        for transport in self.newcomers:
            transport.abort()
        # The aborted ones are let go in the loop's next turn, and still need it.
        self.loop.call_soon(self.poller.close)

    # -- by the clock ------------------------------------------------------------------------------

    def _set_timer(self, due_s: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_s = due_s
        # The realms' clock is monotonic(), the loop's may be another.
        self._timer = self.loop.call_later(max(0.0, due_s - monotonic()), self._tick)

    def _tick(self) -> None:
        self.is_idle = False
        self._timer, self._timer_s = None, float("inf")
        now_s = monotonic()
        next_s = float("inf")
        for realm in self.realms.values():
            due_s = realm.due_s()
            if due_s is not None and due_s <= now_s:
                realm.tick(now_s)
                due_s = realm.due_s()
            if due_s is not None:
                next_s = min(next_s, due_s)
        if next_s != float("inf"):
            # Never in a tight loop, whatever a realm says.
            self._set_timer(max(next_s, now_s + 0.001))
        self.flush()

    def _sweep(self) -> None:
        self._sweep_timer = self.loop.call_later(SWEEP_S, self._sweep)
        self.is_idle = False
        now_s = monotonic()
        self._sweeps += 1
        self._sweep_newcomers(now_s)
        for connection, until_s in tuple(self.lingering.items()):
            if now_s >= until_s:
                connection.transport.abort()
        self._weigh()
        if self._sweeps % _PINGS_EVERY == 0:
            self._sweep_idle(now_s)
            self._lower_flag(now_s)
        for port in self.ports:
            port.sweep(now_s)
        self.flush()

    def _sweep_newcomers(self, now_s: float) -> None:
        oldest_s = now_s - self.limits["handshake_s"]
        late = []
        for transport, since_s in self.newcomers.items():
            if since_s > oldest_s:
                break  # they are in the order of their coming
            late.append(transport)
        for transport in late:
            self.newcomers.pop(transport, None)
            protocol = transport.get_protocol()
            if protocol is not None:
                protocol.overdue()

    def _sweep_idle(self, now_s: float) -> None:
        for connection in tuple(self.connections):
            ping_s = connection.plan["ping_s"]
            if not ping_s or now_s - connection.heard_s < ping_s or connection.is_leaving:
                continue
            if connection.pinged_s <= connection.heard_s:
                connection.pinged_s = now_s
                connection.ping()
            elif now_s - connection.pinged_s >= connection.plan["ping_timeout_s"]:
                self._silent(connection, now_s)

    def _silent(self, connection: "Connection", now_s: float) -> None:
        session = connection.session
        self.log.info(
            "cut off: it answers no ping", session=session.id if session else "",
            authid=session.identity.authid if session else "", peer=connection.peer,
            silent_s=round(now_s - connection.heard_s, 1),
        )  # fmt: skip
        connection.transport.abort()

    # -- another plan ------------------------------------------------------------------------------

    def reconfigure(self, plan: "RouterPlan") -> "list[str]":
        """Take another plan over while running; returns what has changed, in words."""
        self.is_idle = False
        now_s = monotonic()
        changed = []
        wanted = {entry["name"]: entry for entry in plan["realms"]}
        before = {entry["name"]: entry for entry in self.plan["realms"]}
        limits = _limits(plan)
        has_new_limits = limits != self.limits
        if has_new_limits:
            self.limits = limits
            self.tally.limit = self.limits["queue_bytes_total"]
            changed.append("limits have changed")
        for name in [name for name in self.realms if name not in wanted]:
            changed.append(f'realm "{name}" is gone')
            self._close_realm(name)
        for name, entry in wanted.items():
            if name not in self.realms:
                self.realms[name] = self._realm(entry)
                changed.append(f'realm "{name}" is new')
            elif entry != before.get(name) or has_new_limits:
                ended = self.realms[name].reconfigure(entry, now_s, self.limits)
                words = ", ".join(f"{n} {what}" for what, n in ended.items() if n)
                changed.append(
                    f'realm "{name}" has changed' + (f"; ended: {words}" if words else "")
                )
        try:
            self.signin.configure(plan)
        except ConfigError as error:
            changed.append(f"the router's key stays as it was: {error}")
        changed += self._retarget(plan)
        self.links.configure(plan)
        self.plan = plan
        for realm in self.realms.values():
            self.worked(0, realm)
        self.flush()
        return changed

    def _close_realm(self, name: str) -> None:
        realm = self.realms.pop(name)
        for connection in tuple(self.connections):
            if connection.realm is realm:
                connection.leave_realm()
                connection.close("wamp.close.close_realm", f'realm "{name}" is gone')

    def _retarget(self, plan: "RouterPlan") -> "list[str]":
        changed = []
        ports = {port.plan["endpoint"]["listener"]: port for port in self.ports}
        for transport in plan["transports"]:
            port = ports.pop(transport["endpoint"]["listener"], None)
            if port is None:
                changed.append(
                    f'transport "{transport["name"]}" waits for a restart of this worker: it has no socket yet'
                )
            elif port.plan != transport:
                port.reconfigure(transport)
                changed.append(f'transport "{transport["name"]}" has changed, for new connections')
        for port in ports.values():
            port.close()
            self.ports.remove(port)
            changed.append(f'transport "{port.plan["name"]}" is closed')
        return changed


def _first(pair: "tuple[int, Connection]") -> int:
    return pair[0]


def _limits(plan: "RouterPlan") -> "RouterLimits":
    """Return the plan's limits; a plan that an older Holdfast has written lacks the newest of them."""
    return {**LIMITS, **plan["limits"]}


def _since_s(connection: "HttpConnection") -> float:
    return connection.since_s


def _topics(session: "Session | None") -> str:
    """Name what a session hears, as far as a line of a log bears it."""
    found = (
        [subscription.uri for subscription in session.subscriptions.values()]
        if session is not None
        else []
    )
    more = f" and {len(found) - _TOPICS} more" if len(found) > _TOPICS else ""
    return ", ".join(found[:_TOPICS]) + more


def _choose(n: int) -> int:
    """Return a number below ``n`` by chance."""
    return int.from_bytes(os.urandom(4), "big") % n
