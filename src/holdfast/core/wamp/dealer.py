"""Who gets a call, and who its result?

Registrations (exact, prefix, wildcard; shared by a policy), calls in flight, their results, progress, cancellation, timeouts and
re-routing. WAMP specification: "Remote Procedure Calls" and the chapters of the advanced profile on it. Where those leave a
choice:

- A call whose callee answers `wamp.error.unavailable` goes to the next callee of a shared registration. One whose callee is *gone* does
  so only where call or registration say `"idempotent": true`: nobody knows how far it came. Else: `wamp.error.canceled`, at once.
- `invoke: "all"` asks every callee. A caller that takes progress gets each result (and each error, as details `_error`) as a progressive
  result, then an empty final one; any other caller gets the first result. Only if all failed the call fails, with the first error.
- `concurrency` is a limit for each callee. When all whom the policy allows have reached it, the caller is told so
  (`crossbar.error.max_concurrency_reached`); nothing is queued.
- A callee that takes the timeout itself (`forward_timeout`) has a second of grace; then the dealer's timer ends the call.
"""

from heapq import heapify, heappop, heappush
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from holdfast.core.wamp.broker import PASSTHRU, forwarding
from holdfast.core.wamp.errors import (
    CANCELED,
    FEATURE_NOT_SUPPORTED,
    INVALID_ARGUMENT,
    LIMIT_EXCEEDED,
    MAX_CONCURRENCY,
    NO_AVAILABLE_CALLEE,
    NO_SUCH_PROCEDURE,
    NO_SUCH_REGISTRATION,
    NOT_AUTHORIZED,
    POLICY_CONFLICT,
    PROCEDURE_ALREADY_EXISTS,
    TIMEOUT,
    UNAVAILABLE,
    ProtocolViolation,
)
from holdfast.core.wamp.messages import (
    CALL,
    ERROR,
    INTERRUPT,
    INVOCATION,
    REGISTER,
    REGISTERED,
    RESULT,
    UNREGISTER,
    UNREGISTERED,
    Objects,
)
from holdfast.core.wamp.permissions import ALLOW, ASK, DISCLOSE, TRUST
from holdfast.core.wamp.session import (
    CANCEL,
    LINK,
    NOTHING,
    PPT_CALLEE,
    PPT_CALLER,
    PROGRESSIVE_CALLS,
    PROGRESSIVE_INVOCATIONS,
)
from holdfast.core.wamp.session import UNREGISTERED as TELL_UNREGISTERED
from holdfast.core.wamp.traffic import Pairs
from holdfast.core.wamp.uri import MATCHES, UriMap, is_reserved

if TYPE_CHECKING:
    from holdfast.core.wamp.messages import (
        Call,
        Cancel,
        Error,
        Payload,
        Register,
        Unregister,
        Yield,
    )
    from holdfast.core.wamp.realm import Realm
    from holdfast.core.wamp.session import Session
    from holdfast.core.wamp.traffic import Pair

POLICIES = ("single", "first", "last", "roundrobin", "random", "all")

#: Procedures whose registration is kept ready, where it is not an exact one; beyond it all are forgotten.
ROUTES = 10_000
#: For callees that take a timeout themselves.
GRACE_S = 1.0
#: Ended progressive calls remembered for a session: further chunks of them were on their way, and are dropped.
FINISHED = 64

_EMPTY = Objects()
_PASSTHRU = frozenset(PASSTHRU)
#: Options of CALL that have to be remembered, or ask something of the callee.
_RARE = frozenset(("receive_progress", "progress", "timeout", "idempotent", "ppt_scheme"))


class Endpoint:
    """A callee of a registration."""

    __slots__ = ("busy", "callers", "calls", "concurrency", "discloses", "forwards_timeout", "invoke", "is_idempotent", "is_link", "registration", "session")  # fmt: skip

    def __init__(
        self, session: "Session", registration: "Registration", options: dict[str, Any]
    ) -> None:
        self.session = session
        self.registration = registration
        #: Calls at a time; 0: no limit.
        self.concurrency: int = options.get("concurrency") or 0
        self.busy = 0
        #: Calls by caller, and those that have no pair.
        self.callers: dict[Session, Pair] = NOTHING
        self.calls = 0
        self.forwards_timeout = options.get("forward_timeout") is True
        self.discloses = options.get("disclose_caller") is True
        self.is_idempotent = options.get("idempotent") is True
        self.invoke: str = options.get("invoke") or "single"
        #: The callee is another router of the realm: local ones are preferred.
        self.is_link = bool(session.can & LINK)


class Registration:
    """A procedure or pattern, and who offers it."""

    __slots__ = ("calls", "created_unix_s", "endpoints", "everyone", "id", "invoke", "is_limited", "match", "plain", "turn", "uri")  # fmt: skip

    def __init__(self, id_: int, uri: str, match: str, invoke: str, created_unix_s: float) -> None:
        self.id = id_
        self.uri = uri
        self.match = match
        self.invoke = invoke
        self.created_unix_s = created_unix_s
        #: Calls of endpoints that are gone.
        self.calls = 0
        #: In the order in which they registered.
        self.endpoints: dict[Session, Endpoint] = {}
        #: Of those the ones that may get calls.
        self.everyone: tuple[Endpoint, ...] = ()
        self.is_limited = False
        #: The only endpoint of an exact registration that needs no thinking: the hot path. Else None.
        self.plain: Endpoint | None = None
        #: Of roundrobin: whose turn it is.
        self.turn = 0

    def changed(self) -> None:
        """Look again who is there, and whether there is anything to think about."""
        everyone = tuple(self.endpoints.values())
        if any(endpoint.is_link for endpoint in everyone):
            everyone = _nearest(everyone)
            self.invoke = everyone[0].invoke
        self.everyone = everyone
        self.is_limited = any(endpoint.concurrency for endpoint in self.everyone)
        is_plain = (
            self.invoke == "single"
            and self.match == "exact"
            and not self.is_limited
            and not any(endpoint.discloses for endpoint in self.everyone)
        )
        self.plain = self.everyone[0] if is_plain and self.everyone else None


class Rare(Struct, eq=False):
    """What most calls in flight have no need of: options, progress, timeout, re-routing, and a call to all."""

    #: The CALL, while it may yet be sent to another callee.
    message: "Call | None"
    #: The details of INVOCATION as far as they do not depend on the callee; and as they were sent.
    details: dict[str, Any]
    sent: dict[str, Any] = NOTHING
    takes_progress: bool = False
    #: Further chunks of a progressive call are to come.
    takes_chunks: bool = False
    #: A result or a second chunk has passed: too late for another callee.
    is_under_way: bool = False
    is_idempotent: bool = False
    is_killed: bool = False
    #: Nobody waits for it any more; it only occupies a place of an endpoint with limited concurrency.
    is_defunct: bool = False
    timeout_s: float = 0.0
    #: When it times out; 0: never.
    due_s: float = 0.0
    #: Who was asked and is unavailable or gone.
    tried: "tuple[Session, ...]" = ()
    #: Of a call to all: what is not answered yet, by id(); and in each of those the call.
    children: "dict[int, Pending] | None" = None
    parent: "Pending | None" = None
    error: "tuple[str, Payload] | None" = None
    result: "tuple[dict[str, Any], Payload] | None" = None


class Pending(Struct, gc=False, eq=False):
    """A call in flight: in `calls` of its caller and in `invocations` of its callee.

    Not tracked by the garbage collector, so whoever takes it out of both has to cut the circles of a call to all.
    """

    caller: "Session"
    request: int
    procedure: str
    endpoint: Endpoint
    #: The request id of INVOCATION.
    invocation: int
    rare: Rare | None = None


class Dealer:
    """Registrations and calls of one realm."""

    __slots__ = ("_dead_timers", "_ids", "_order", "_routes", "_timers", "answered_here", "by_id", "call_limit", "called", "failed", "in_flight", "limit",
                 "pairs", "realm", "registrations")  # fmt: skip

    def __init__(self, realm: "Realm", limit: int, call_limit: int) -> None:
        self.realm = realm
        self.limit = limit
        self.call_limit = call_limit
        self.registrations: UriMap[Registration] = UriMap()
        self.by_id: dict[int, Registration] = {}
        self.called = 0
        #: Of those the ones that the router itself answered.
        self.answered_here = 0
        self.pairs = Pairs()
        self.failed = 0
        self.in_flight = 0
        self._ids = 0
        self._order = 0
        self._routes: dict[str, Registration] = {}
        #: (due_s, order, call, its rest); calls that ended meanwhile stay until there are too many of them.
        self._timers: list[tuple[float, int, Pending, Rare]] = []
        self._dead_timers = 0

    # -- the hot path

    def call(self, session: "Session", message: "Call") -> None:
        """CALL. The path of a call without options to a single callee is the hot one."""
        procedure = message.procedure
        request = message.request
        calls = session.calls
        registration = self.registrations.exact.get(procedure)
        if (
            registration is None
            or message.options
            or session.role.call.get(procedure) != ALLOW
            or request in calls
            or len(calls) >= self.call_limit
        ):
            self._call(session, message)
            return
        endpoint = registration.plain
        if endpoint is None or session.finished:
            self._call(session, message)
            return
        self.called += 1
        self.in_flight += 1
        callee = endpoint.session
        invocation = callee.next_invocation + 1
        callee.next_invocation = invocation
        pair: Pair | Endpoint | None = endpoint.callers.get(session)
        if pair is None:
            pair = self.pairs.first(session, endpoint)
        pair.calls += 1
        pending = Pending(session, request, procedure, endpoint, invocation)
        if calls is NOTHING:
            session.calls = {request: pending}
        else:
            calls[request] = pending
        if callee.invocations is NOTHING:
            callee.invocations = {}
        callee.invocations[invocation] = pending
        callee.outlet.send([INVOCATION, invocation, registration.id, {}], message)

    def yielded(self, session: "Session", message: "Yield") -> None:
        """YIELD."""
        request = message.request
        if not message.options:
            pending = session.invocations.pop(request, None)
            if pending is not None:
                if pending.rare is None:
                    self.in_flight -= 1
                    caller = pending.caller
                    del caller.calls[pending.request]
                    caller.outlet.send([RESULT, pending.request, {}], message)
                    return
                if self._ended_rare(pending, pending.rare):
                    pending.caller.outlet.send([RESULT, pending.request, {}], message)
                    return
                session.invocations[request] = pending
        self._yielded(session, message)

    def _ended_rare(self, pending: Pending, rare: Rare) -> bool:
        """End a call with options whose final result is there and that its callee has forgotten; false: it needs more thought."""
        if rare.parent is not None or rare.is_defunct:
            return False
        caller = pending.caller
        del caller.calls[pending.request]
        self.in_flight -= 1
        if pending.endpoint.concurrency:
            pending.endpoint.busy -= 1
        if rare.due_s:
            rare.due_s = 0.0
            self._bury_timer()
        rare.message = None
        if "progress" in rare.details:
            _remember(caller, pending.request)
            rare.takes_chunks = False
        return True

    # -- other messages of a session

    def register(self, session: "Session", message: "Register") -> None:
        """REGISTER."""
        options = message.options
        match = options.get("match") or "exact"
        invoke = options.get("invoke") or "single"
        concurrency = options.get("concurrency")
        says = None
        if match not in MATCHES:
            says = f"match has to be exact, prefix or wildcard, not {match!r}"
        elif invoke not in POLICIES:
            says = f"invoke has to be one of {', '.join(POLICIES)}, not {invoke!r}"
        elif concurrency is not None and (type(concurrency) is not int or concurrency < 0):
            says = f"concurrency has to be a positive integer, not {concurrency!r}"
        if says is not None:
            self._refuse(session, REGISTER, message.request, INVALID_ARGUMENT, says)
            return
        verdict = session.role.pattern_verdict("register", message.procedure, match)
        if verdict & ASK:
            self.realm.holding.hold(
                session, "register", message.procedure, match, message, self.registered
            )
        else:
            self.registered(session, message, verdict)

    def registered(self, session: "Session", message: "Register", verdict: int) -> None:
        """Carry out or refuse a REGISTER whose verdict is known."""
        options, procedure, request = message.options, message.procedure, message.request
        match = options.get("match") or "exact"
        invoke = options.get("invoke") or "single"
        refusal = self.realm.refusal(session, "register", procedure, match, verdict)
        if refusal is None:
            refusal = self._conflict(session, procedure, match, invoke, options)
        if refusal is not None:
            self._refuse(session, REGISTER, request, *refusal)
            return
        registration = self.registrations.get(procedure, match)
        if registration is not None and options.get("force_reregister") is True:
            for other in list(registration.endpoints):
                if not other.can & LINK:
                    self.revoke(other, registration, f"registered anew by session {session.id}")
            registration = self.registrations.get(procedure, match)
        is_new = registration is None
        if registration is None:
            self._ids += 1
            registration = Registration(self._ids, procedure, match, invoke, self.realm.unix_s())
            self.registrations.add(procedure, match, registration)
            self.by_id[registration.id] = registration
            self._routes.clear()
        session.outlet.send([REGISTERED, request, registration.id])
        if session in registration.endpoints:
            return
        endpoint = registration.endpoints[session] = Endpoint(session, registration, options)
        if session.registrations is NOTHING:
            session.registrations = {}
        session.registrations[registration.id] = endpoint
        registration.changed()
        for link in self.realm.links:
            link.offer(registration)
        if not is_reserved(procedure):
            if is_new:
                self.realm.announce(
                    "wamp.registration.on_create", [session.id, self.realm.described(registration)]
                )
            self.realm.announce("wamp.registration.on_register", [session.id, registration.id])
        self.realm.awaited.arrived()

    def unregister(self, session: "Session", message: "Unregister") -> None:
        """UNREGISTER. Calls that the callee has already are its own to answer."""
        endpoint = session.registrations.get(message.registration)
        if endpoint is None:
            self._refuse(
                session, UNREGISTER, message.request, NO_SUCH_REGISTRATION,
                f"this session has no registration {message.registration}",
            )  # fmt: skip
            return
        session.outlet.send([UNREGISTERED, message.request])
        self.drop(session, endpoint.registration)

    def cancel(self, session: "Session", message: "Cancel") -> None:
        """CANCEL. For a call that is no more it came too late, which is nobody's fault."""
        mode = message.options.get("mode", "killnowait")
        if mode not in ("skip", "kill", "killnowait"):
            raise ProtocolViolation(
                f"CANCEL with mode {mode!r}: it has to be skip, kill or killnowait"
            )
        pending = session.calls.get(message.request)
        if pending is None:
            if self.realm.holding.cancel(session, message.request) or self.realm.awaited.cancel(
                session, message.request
            ):
                self._fail(session, message.request, CANCELED, "canceled by the caller")
            return
        if mode == "kill" and self._kill(pending):
            return
        self._end(pending, "skip" if mode == "skip" else "killnowait")
        self._fail(session, pending.request, CANCELED, "canceled by the caller")

    def error(self, session: "Session", message: "Error") -> None:
        """ERROR of a callee."""
        if message.request_type != INVOCATION:
            raise ProtocolViolation(
                f"ERROR for message type {message.request_type}: only INVOCATION (68) can fail at a client"
            )
        pending = self._answered(session, message.request, "ERROR")
        if pending is None:
            return
        rare = pending.rare
        if message.error == UNAVAILABLE:
            self._unavailable(pending)
            return
        if rare is not None and rare.parent is not None:
            self._release(pending)
            self._answered_one(pending, None, (message.error, message))
            return
        self._end(pending)
        self.failed += 1
        details = _passthru(message.details)
        pending.caller.outlet.send([ERROR, CALL, pending.request, details, message.error], message)

    # -- for the realm

    def drop(self, session: "Session", registration: Registration) -> None:
        """Take a callee out of a registration."""
        del session.registrations[registration.id]
        self.pairs.callee_left(registration.endpoints.pop(session))
        registration.changed()
        is_last = not registration.endpoints
        if is_last:
            self.registrations.remove(registration.uri, registration.match)
            del self.by_id[registration.id]
            self._routes.clear()
        for link in self.realm.links:
            link.offer(registration)
        self.realm.forget_answers(registration.uri)
        if not is_reserved(registration.uri):
            self.realm.announce("wamp.registration.on_unregister", [session.id, registration.id])
            if is_last:
                self.realm.announce("wamp.registration.on_delete", [session.id, registration.id])

    def revoke(self, session: "Session", registration: Registration, reason: str) -> None:
        """Take a registration away; the callee is told if it understands that."""
        if session.can & TELL_UNREGISTERED:
            details = {"registration": registration.id, "reason": reason}
            session.outlet.send([UNREGISTERED, 0, details])
        self.drop(session, registration)

    def leave(self, session: "Session") -> None:
        """Drop everything of a session that leaves: its calls, its registrations, the calls that it was given."""
        for pending in list(session.calls.values()):
            if session.calls.get(pending.request) is pending:
                self._end(pending, "killnowait")
        for endpoint in list(session.registrations.values()):
            self.drop(session, endpoint.registration)
        is_link = session.can & LINK
        self.abandon(
            session, None, "the callee's router is gone" if is_link else "the callee is gone"
        )
        if is_link:
            self.realm.awaited.arrived()
        self.pairs.caller_left(session)
        session.calls = session.invocations = session.registrations = NOTHING
        session.finished = NOTHING

    def abandon(self, callee: "Session", registration: Registration | None, says: str) -> None:
        """End the calls that a callee (of one registration, if given) will not answer: elsewhere, or with an error."""
        for pending in list(callee.invocations.values()):
            if registration is not None and pending.endpoint.registration is not registration:
                continue
            if callee.invocations.get(pending.invocation) is not pending:
                continue
            rare = pending.rare
            if rare is not None and rare.is_defunct:
                self._release(pending)
            elif rare is not None and rare.parent is not None:
                self._release(pending)
                self._answered_one(pending, None, (CANCELED, Objects([says])))
            elif not self._reroute(pending, is_gone=True) and not self._await(pending):
                self._end(pending, None if registration is None else "killnowait")
                self._fail(pending.caller, pending.request, CANCELED, says)

    def revoke_call(self, pending: Pending) -> None:
        """End a call that its caller may not make any more."""
        self._end(pending, "killnowait")
        self._fail(
            pending.caller, pending.request, NOT_AUTHORIZED,
            f"the permission to call {pending.procedure!r} was withdrawn",
        )  # fmt: skip

    def route(self, procedure: str) -> Registration | None:
        """Find the registration that a call goes to."""
        registration = self.registrations.exact.get(procedure)
        if registration is None and (self.registrations.prefix or self.registrations.wildcard):
            registration = self._routes.get(procedure)
            if registration is None:
                registration = self.registrations.best(procedure)
                if registration is not None:
                    if len(self._routes) >= ROUTES:
                        self._routes.clear()
                    self._routes[procedure] = registration
        return registration

    def due_s(self) -> float | None:
        """Tell when `tick` has something to do."""
        timers = self._timers
        while timers and not _is_alive(timers[0]):
            heappop(timers)
            self._dead_timers = max(self._dead_timers - 1, 0)
        return timers[0][0] if timers else None

    def tick(self, now_s: float) -> None:
        """End the calls whose time is over."""
        while (due_s := self.due_s()) is not None and due_s <= now_s:
            pending, rare = heappop(self._timers)[2:]
            rare.due_s = 0.0
            self._end(pending, "killnowait")
            self._fail(
                pending.caller, pending.request, TIMEOUT,
                f"no result of {pending.procedure!r} within {rare.timeout_s * 1000:g} ms",
            )  # fmt: skip

    # -- calls, in full

    def _call(self, session: "Session", message: "Call") -> None:
        request = message.request
        if self._continued(session, message):
            return
        options = message.options
        if options:
            if options.get("progress") is True and not session.can & PROGRESSIVE_CALLS:
                raise ProtocolViolation(
                    "CALL with progress, but the caller did not announce progressive_call_invocations"
                )
            if "ppt_scheme" in options and not session.can & PPT_CALLER:
                raise ProtocolViolation(
                    "CALL with ppt_scheme, but the caller did not announce payload_passthru_mode"
                )
        if (
            len(session.calls) >= self.call_limit
            and not session.can & LINK
            and not self.realm.is_own(session)
        ):
            self._fail(
                session, request, LIMIT_EXCEEDED,
                f"a session may have {self.call_limit} calls in flight (limits.calls_per_session)",
                message,
            )  # fmt: skip
            return
        verdict = session.role.verdict("call", message.procedure)
        if verdict & ASK:
            self.realm.holding.hold(
                session, "call", message.procedure, "exact", message, self.authorized
            )
        else:
            self.authorized(session, message, verdict)

    def authorized(self, session: "Session", message: "Call", verdict: int) -> None:
        """Carry out or refuse a CALL whose verdict is known."""
        procedure, request, options = message.procedure, message.request, message.options
        if request in session.calls:
            raise ProtocolViolation(f"CALL {request} is in flight already")
        if not verdict & ALLOW:
            refusal = self.realm.refusal(session, "call", procedure, "exact", verdict)
            if refusal is not None:
                self._fail(session, request, *refusal, message)
                return
        timeout_ms = options.get("timeout", 0) if options else 0
        if timeout_ms and not _is_time(timeout_ms):
            self._fail(
                session, request, INVALID_ARGUMENT,
                f"timeout has to be a number of milliseconds, not {timeout_ms!r}", message,
            )  # fmt: skip
            return
        if self.realm.meta.answers(session, message):
            self.called += 1
            self.answered_here += 1
            return
        registration = self.route(procedure)
        if registration is None:
            if self.realm.awaited.hold(session, message):
                return
            self._fail(
                session, request, NO_SUCH_PROCEDURE,
                f"nobody has registered {procedure!r}", message,
            )  # fmt: skip
            return
        details = self._details(session, options, verdict)
        if registration.plain is not None and _RARE.isdisjoint(options):
            self._invoke_plain(session, message, registration.plain, details)
            return
        rare = _rare(message, details, options, timeout_ms)
        if registration.invoke == "all":
            self._call_all(session, message, registration, rare)
            return
        endpoint, error, says = self._choose(registration, rare)
        if endpoint is None:
            self._fail(session, request, error, says, message)
            return
        if session.calls is NOTHING:
            session.calls = {}
        pending = Pending(session, request, procedure, endpoint, 0, rare)
        session.calls[request] = pending
        self.called += 1
        self.in_flight += 1
        self._invoke(pending, rare)

    def _invoke_plain(
        self, session: "Session", message: "Call", endpoint: Endpoint, details: dict[str, Any]
    ) -> None:
        """Carry out a call that has nothing but details: as `call` does it, where disclosure or trust levels are configured."""
        self.called += 1
        self.in_flight += 1
        callee = endpoint.session
        invocation = callee.next_invocation + 1
        callee.next_invocation = invocation
        (endpoint.callers.get(session) or self.pairs.first(session, endpoint)).calls += 1
        pending = Pending(session, message.request, message.procedure, endpoint, invocation)
        if session.calls is NOTHING:
            session.calls = {}
        session.calls[message.request] = pending
        if callee.invocations is NOTHING:
            callee.invocations = {}
        callee.invocations[invocation] = pending
        callee.outlet.send([INVOCATION, invocation, endpoint.registration.id, details], message)

    def _continued(self, session: "Session", message: "Call") -> bool:
        """Take a further chunk of a progressive call, or a CALL that continues one that is no more."""
        request = message.request
        pending = session.calls.get(request)
        if pending is None:
            return request in session.finished or (
                session.held is not None
                and self.realm.holding.follow(session, request, message, self._late)
            )
        rare = pending.rare
        if rare is None or not rare.takes_chunks:
            raise ProtocolViolation(
                f"CALL {request} is in flight already, and it is not a progressive one"
            )
        if message.procedure != pending.procedure:
            raise ProtocolViolation(
                f"CALL {request} continues a call of {pending.procedure!r} with {message.procedure!r}"
            )
        rare.takes_chunks = message.options.get("progress") is True
        rare.is_under_way = True
        rare.message = None
        details = {**rare.sent, "progress": rare.takes_chunks}
        pending.endpoint.session.outlet.send(
            [INVOCATION, pending.invocation, pending.endpoint.registration.id, details], message
        )
        return True

    def _late(self, session: "Session", message: "Call", _verdict: int) -> None:
        """Carry on with a chunk that was held behind the first one; where that was refused, it is dropped."""
        if message.request in session.calls:
            self._continued(session, message)

    def _details(self, caller: "Session", options: dict[str, Any], verdict: int) -> dict[str, Any]:
        details: dict[str, Any] = {}
        if options:
            if options.get("receive_progress") is True:
                details["receive_progress"] = True
            if options.get("progress") is True:
                details["progress"] = True
            details.update(_passthru(options))
        if verdict & TRUST:
            details["trustlevel"] = caller.role.trustlevel
        forwarded = forwarding(caller, options)
        if forwarded is not None:
            details["forward_for"] = forwarded
        if verdict & DISCLOSE or options.get("disclose_me") is True:
            _disclose(details, caller)
        return details

    def _choose(self, registration: Registration, rare: Rare) -> tuple[Endpoint | None, str, str]:
        """Pick the callee by the policy, or say why there is none."""
        invoke = registration.invoke
        everyone = registration.everyone
        if not (
            registration.is_limited
            or rare.tried
            or rare.takes_chunks
            or "ppt_scheme" in rare.details
        ):
            return everyone[self._whose_turn(registration, len(everyone))], "", ""
        candidates = _candidates(registration, rare)
        if not candidates:
            return None, NO_AVAILABLE_CALLEE, _nobody_left(registration)
        free = candidates
        if registration.is_limited:
            free = [e for e in candidates if not e.concurrency or e.busy < e.concurrency]
            if not free:
                return None, MAX_CONCURRENCY, _all_busy(registration)
        able, error, says = self._able(free, rare)
        if not able:
            return None, error, says
        if invoke == "random":
            return able[self.realm.choose(len(able))], "", ""
        if invoke == "roundrobin":
            registration.turn = everyone.index(able[0]) + 1
        return able[0], "", ""

    def _whose_turn(self, registration: Registration, count: int) -> int:
        """Pick one of `count` callees who can all do it."""
        invoke = registration.invoke
        if count == 1 or invoke == "first":
            return 0
        if invoke == "roundrobin":
            at = registration.turn % count
            registration.turn = at + 1
            return at
        if invoke == "random":
            return self.realm.choose(count)
        return -1 if invoke == "last" else 0

    def _able(self, endpoints: list[Endpoint], rare: Rare) -> tuple[list[Endpoint], str, str]:
        """Sort out who cannot do what the call wants."""
        needed = 0
        what = ""
        if rare.takes_chunks:
            needed, what = PROGRESSIVE_INVOCATIONS | CANCEL, "progressive calls"
        if "ppt_scheme" in rare.details:
            needed |= PPT_CALLEE
            what = what or "payload passthru mode"
        if not needed:
            return endpoints, "", ""
        able = [e for e in endpoints if e.session.can & needed == needed]
        return able, FEATURE_NOT_SUPPORTED, f"the callee does not support {what}"

    def _invoke(self, pending: Pending, rare: Rare) -> None:
        """Send a call to the endpoint that it has got."""
        endpoint = pending.endpoint
        registration = endpoint.registration
        callee = endpoint.session
        details = rare.details.copy()
        if endpoint.discloses and "caller" not in details:
            _disclose(details, pending.caller)
        if registration.match != "exact":
            details["procedure"] = pending.procedure
        if rare.timeout_s:
            timeout_s = rare.timeout_s
            if endpoint.forwards_timeout:
                details["timeout"] = round(timeout_s * 1000)
                timeout_s += GRACE_S
            if rare.parent is None and not rare.due_s:  # timed from the CALL on, whoever answers it
                self._start_timer(pending, rare, timeout_s)
        if rare.takes_chunks:
            # Not the same one: who gets it may change it.
            rare.sent = details.copy()
        if endpoint.concurrency:
            endpoint.busy += 1
        invocation = callee.next_invocation + 1
        callee.next_invocation = invocation
        caller = pending.caller
        (endpoint.callers.get(caller) or self.pairs.first(caller, endpoint)).calls += 1
        pending.invocation = invocation
        if callee.invocations is NOTHING:
            callee.invocations = {}
        callee.invocations[invocation] = pending
        message = rare.message
        if registration.invoke == "all" or (
            registration.invoke == "single" and not (endpoint.is_link and rare.is_idempotent)
        ):
            # There is nobody else to send it to: no need to keep what may be megabytes.
            rare.message = None
        callee.outlet.send([INVOCATION, invocation, registration.id, details], message)

    def _call_all(
        self, session: "Session", message: "Call", registration: Registration, rare: Rare
    ) -> None:
        request = message.request
        free = [
            e
            for e in registration.everyone
            if (not e.concurrency or e.busy < e.concurrency)
            and not (e.is_link and session.can & LINK)
        ]
        able, error, says = self._able(free, rare)
        if rare.takes_chunks:
            able, error = [], FEATURE_NOT_SUPPORTED
            says = "a progressive call cannot go to all callees"
        elif not free:
            error, says = MAX_CONCURRENCY, _all_busy(registration)
        if not able:
            self._fail(session, request, error, says, message)
            return
        if session.calls is NOTHING:
            session.calls = {}
        call = Pending(session, request, message.procedure, able[0], 0, rare)
        session.calls[request] = call
        self.called += 1
        self.in_flight += 1
        if rare.timeout_s:
            self._start_timer(call, rare, rare.timeout_s)
        rare.message = None
        rare.children = {}
        children = []
        for endpoint in able:
            one = Rare(
                message, rare.details, takes_progress=rare.takes_progress, parent=call,
                timeout_s=rare.timeout_s,
            )  # fmt: skip
            child = Pending(session, request, message.procedure, endpoint, 0, one)
            children.append((child, one))
            rare.children[id(child)] = child
        for child, one in children:
            # An outlet that is too full may end its session while we are sending: the caller's, or one of theirs.
            if id(child) not in rare.children:
                continue
            if child.endpoint.session in registration.endpoints:
                self._invoke(child, one)
            else:
                self._answered_one(child, None, (CANCELED, Objects(["the callee is gone"])))

    # -- results, in full

    def _answered(self, session: "Session", request: int, what: str) -> Pending | None:
        """Find the call that a callee answers; None: nobody waits for it any more."""
        pending = session.invocations.get(request)
        if pending is None:
            if not 0 < request <= session.next_invocation:
                raise ProtocolViolation(
                    f"{what} for invocation {request}, which this session never got"
                )
            return None
        if pending.rare is not None and pending.rare.is_defunct:
            self._release(pending)
            return None
        return pending

    def _yielded(self, session: "Session", message: "Yield") -> None:
        options = message.options
        if "ppt_scheme" in options and not session.can & PPT_CALLEE:
            raise ProtocolViolation(
                "YIELD with ppt_scheme, but the callee did not announce payload_passthru_mode"
            )
        is_progress = options.get("progress") is True
        pending = session.invocations.get(message.request)
        if (
            is_progress
            and pending is not None
            and pending.rare is not None
            and pending.rare.is_defunct
        ):
            return
        pending = self._answered(session, message.request, "YIELD")
        if pending is None:
            return
        rare = pending.rare
        details = _passthru(options)
        caller = pending.caller
        if "ppt_scheme" in details and not caller.can & PPT_CALLER:
            self._release(pending)
            self._end(pending)
            if is_progress and session.can & CANCEL:
                session.outlet.send([INTERRUPT, pending.invocation, {"mode": "killnowait"}])
            self._fail(
                caller, pending.request, FEATURE_NOT_SUPPORTED,
                "the result is in payload passthru mode, which the caller did not announce",
            )  # fmt: skip
            return
        if not is_progress:
            if rare is not None and rare.parent is not None:
                self._release(pending)
                self._answered_one(pending, (details, message), None)
                return
            self._end(pending)
            caller.outlet.send([RESULT, pending.request, details], message)
            return
        if rare is None or not rare.takes_progress:
            return  # the caller did not ask for progress; the final result is still to come
        details["progress"] = True
        whole = (rare.parent.rare if rare.parent is not None else None) or rare
        whole.is_under_way = rare.is_under_way = True
        rare.message = None
        if whole.timeout_s and whole.due_s:
            # The limit is one between results (specification, "Progressive Call Results").
            self._bury_timer()
            self._start_timer(rare.parent or pending, whole, whole.timeout_s)
        caller.outlet.send([RESULT, pending.request, details], message)

    def _answered_one(
        self,
        child: Pending,
        result: "tuple[dict[str, Any], Payload] | None",
        error: "tuple[str, Payload] | None",
    ) -> None:
        """Count the answer of one of all callees, which is out of its callee's invocations already."""
        call = child.rare.parent if child.rare is not None else None
        rare = call.rare if call is not None else None
        if call is None or rare is None or rare.children is None:
            return
        caller = call.caller
        if rare.children.pop(id(child), None) is None:
            return
        is_last = not rare.children
        if is_last:
            self._end(call)
        if error is not None:
            rare.error = rare.error or error
        else:
            rare.result = rare.result or result
        if rare.takes_progress:
            if result is not None:
                caller.outlet.send(
                    [RESULT, call.request, {**result[0], "progress": True}], result[1]
                )
            elif error is not None and not (is_last and rare.result is None):
                told = {"progress": True, "_error": error[0]}
                caller.outlet.send([RESULT, call.request, told], error[1])
        if not is_last:
            return
        if rare.result is None and rare.error is not None:
            self.failed += 1
            uri, payload = rare.error
            caller.outlet.send([ERROR, CALL, call.request, {}, uri], payload)
        elif rare.result is None or rare.takes_progress:
            caller.outlet.send([RESULT, call.request, {}], _EMPTY)
        else:
            details, payload = rare.result
            caller.outlet.send([RESULT, call.request, details], payload)

    def _unavailable(self, pending: Pending) -> None:
        rare = pending.rare
        if rare is not None and rare.parent is not None:
            self._release(pending)
            self._answered_one(pending, None, (UNAVAILABLE, Objects(["the callee is unavailable"])))
        elif not self._reroute(pending, is_gone=False):
            self._end(pending)
            says = _nobody_left(pending.endpoint.registration)
            self._fail(pending.caller, pending.request, NO_AVAILABLE_CALLEE, says)

    def _reroute(self, pending: Pending, *, is_gone: bool) -> bool:
        """Give a call to another callee; false when there is none or it is too late for that."""
        rare = pending.rare
        if rare is None or rare.message is None or rare.is_under_way or rare.is_killed:
            return False
        if is_gone and not (rare.is_idempotent or pending.endpoint.is_idempotent):
            return False
        rare.tried = (*rare.tried, pending.endpoint.session)
        registration = self.route(pending.procedure)
        if registration is None or registration.invoke in ("single", "all"):
            return False
        endpoint, _, _ = self._choose(registration, rare)
        if endpoint is None:
            return False
        self._release(pending)
        pending.endpoint = endpoint
        self._invoke(pending, rare)
        return True

    def _await(self, pending: Pending) -> bool:
        """Let a call wait that may be repeated, when its callee is gone with its router."""
        rare = pending.rare
        if (
            rare is None
            or rare.message is None
            or rare.is_under_way
            or rare.is_killed
            or not rare.is_idempotent
            or "progress" in rare.details
            or not pending.endpoint.is_link
        ):
            return False
        message = rare.message
        if not self.realm.awaited.hold(pending.caller, message):
            return False
        self._end(pending)
        return True

    def refuse(self, caller: "Session", message: "Call", error: str, says: str) -> None:
        """Answer a CALL that never was in flight with an error."""
        self._fail(caller, message.request, error, says, message)

    # -- the ends of a call

    def _end(self, pending: Pending, stop: str | None = None) -> None:
        """Take a call out of its caller and its callees. `stop`: None, it was answered; skip; killnowait."""
        caller = pending.caller
        if caller.calls.get(pending.request) is not pending:
            return
        del caller.calls[pending.request]
        self.in_flight -= 1
        rare = pending.rare
        if rare is not None:
            if rare.due_s:
                rare.due_s = 0.0
                self._bury_timer()
            rare.message = None
            if "progress" in rare.details:
                _remember(caller, pending.request)
            rare.takes_chunks = False
            if rare.children is not None:
                children, rare.children = rare.children, {}
                for child in children.values():
                    self._detach(child, stop)
                return
        self._detach(pending, stop)

    def _detach(self, pending: Pending, stop: str | None) -> None:
        """Take an invocation out of its callee, who may not have answered it."""
        endpoint = pending.endpoint
        callee = endpoint.session
        if callee.invocations.get(pending.invocation) is not pending:
            return
        if stop == "killnowait" and callee.can & CANCEL:
            self._release(pending)
            callee.outlet.send([INTERRUPT, pending.invocation, {"mode": stop}])
        elif stop is not None and endpoint.concurrency:
            # It goes on working, and that counts until it answers.
            pending.rare = Rare(None, {}, is_defunct=True)
        else:
            self._release(pending)

    def _release(self, pending: Pending) -> None:
        endpoint = pending.endpoint
        was_there = endpoint.session.invocations.pop(pending.invocation, None) is not None
        if was_there and endpoint.concurrency:
            endpoint.busy -= 1

    def _kill(self, pending: Pending) -> bool:
        """Tell the callees to stop, and wait for their answers; false when there is none that understands."""
        rare = pending.rare
        if rare is None:
            rare = pending.rare = Rare(None, {})
        asked = list(rare.children.values()) if rare.children is not None else [pending]
        able = [one for one in asked if one.endpoint.session.can & CANCEL]
        if not able:
            return False
        if not rare.is_killed:
            rare.is_killed = True
            for one in able:
                callee = one.endpoint.session
                if callee.invocations.get(one.invocation) is one:
                    callee.outlet.send([INTERRUPT, one.invocation, {"mode": "kill"}])
        return True

    def _start_timer(self, pending: Pending, rare: Rare, timeout_s: float) -> None:
        rare.due_s = self.realm.now_s + timeout_s
        self._order += 1
        heappush(self._timers, (rare.due_s, self._order, pending, rare))

    def _bury_timer(self) -> None:
        """Count a timer that nobody needs any more; clear them away when they are the most."""
        self._dead_timers += 1
        if self._dead_timers > 64 and self._dead_timers > len(self._timers) // 2:
            self._timers = [timer for timer in self._timers if _is_alive(timer)]
            heapify(self._timers)
            self._dead_timers = 0

    # -- answers of our own

    def _conflict(
        self, session: "Session", procedure: str, match: str, invoke: str, options: dict[str, Any]
    ) -> tuple[str, str] | None:
        """Say what keeps a permitted REGISTER from being carried out."""
        if self.realm.meta.has(procedure) and match == "exact":
            return PROCEDURE_ALREADY_EXISTS, f"{procedure!r} is the router's own"
        registration = self.registrations.get(procedure, match)
        is_link = session.can & LINK
        if (
            registration is not None
            and options.get("force_reregister") is not True
            and not is_link
            and not registration.everyone[0].is_link
        ):
            if invoke != registration.invoke and "single" not in (invoke, registration.invoke):
                return (
                    POLICY_CONFLICT,
                    f"{procedure!r} is registered with invoke {registration.invoke!r}, not {invoke!r}",
                )
            if registration.invoke == "single" or invoke == "single":
                return PROCEDURE_ALREADY_EXISTS, f"{procedure!r} is registered already"
            if session in registration.endpoints:
                return None
        if len(session.registrations) >= self.limit and not is_link:
            return (
                LIMIT_EXCEEDED,
                f"a session may have {self.limit} registrations (limits.registrations_per_session)",
            )
        return None

    def _fail(
        self, caller: "Session", request: int, error: str, says: str, message: "Call | None" = None
    ) -> None:
        """Answer a CALL with an error of our own. `message`: the CALL, where it never was in flight."""
        self.failed += 1
        if message is not None and message.options.get("progress") is True:
            _remember(caller, request)
        caller.outlet.send([ERROR, CALL, request, {}, error], Objects([says]))

    def _refuse(self, session: "Session", kind: int, request: int, error: str, says: str) -> None:
        session.outlet.send([ERROR, kind, request, {}, error], Objects([says]))


def _is_time(timeout_ms: object) -> bool:
    return type(timeout_ms) in (int, float) and 0 <= timeout_ms < 2**53  # type: ignore[operator]


def _rare(
    message: "Call", details: dict[str, Any], options: dict[str, Any], timeout_ms: float
) -> Rare:
    rare = Rare(message, details)
    if options:
        rare.takes_progress = options.get("receive_progress") is True
        rare.takes_chunks = options.get("progress") is True
        rare.is_idempotent = options.get("idempotent") is True
        if timeout_ms:
            rare.timeout_s = timeout_ms / 1000
    return rare


def _candidates(registration: Registration, rare: Rare) -> list[Endpoint]:
    """Whom the policy allows, without those who were asked before, best first."""
    everyone = registration.everyone
    invoke = registration.invoke
    candidates = list(everyone)
    if invoke == "roundrobin":
        at = registration.turn % len(everyone)
        candidates = [*everyone[at:], *everyone[:at]]
    if rare.tried:
        candidates = [e for e in candidates if e.session not in rare.tried]
    if invoke == "last":
        return candidates[-1:]
    return candidates[:1] if invoke == "first" else candidates


def _nearest(everyone: tuple[Endpoint, ...]) -> tuple[Endpoint, ...]:
    """Sort out who gets calls: our own callees, else those of linked routers; `all` means all of them."""
    near = [endpoint for endpoint in everyone if not endpoint.is_link] or everyone
    invoke = near[0].invoke
    if invoke == "all":
        far = [endpoint for endpoint in everyone if endpoint.is_link and endpoint not in near]
        near = [*near, *far]
    return tuple(endpoint for endpoint in near if endpoint.invoke == invoke)


def _is_alive(timer: tuple[float, int, Pending, Rare]) -> bool:
    return timer[3].due_s == timer[0]


def _remember(caller: "Session", request: int) -> None:
    """Remember a progressive call that ended."""
    if caller.finished is NOTHING:
        caller.finished = {}
    caller.finished[request] = None
    if len(caller.finished) > FINISHED:
        del caller.finished[next(iter(caller.finished))]


def _passthru(options: dict[str, Any]) -> dict[str, Any]:
    if _PASSTHRU.isdisjoint(options):
        return {}
    return {name: options[name] for name in PASSTHRU if name in options}


def _disclose(details: dict[str, Any], caller: "Session") -> None:
    forwarded = details.get("forward_for")
    if not forwarded:
        identity = caller.identity
        details["caller"] = caller.id
        details["caller_authid"] = identity.authid
        details["caller_authrole"] = identity.authrole
        return
    origin = forwarded[0]
    details["caller"] = origin["session"]
    details["caller_authid"] = origin["authid"]
    details["caller_authrole"] = origin["authrole"]


def _nobody_left(registration: Registration) -> str:
    return f"every callee of {registration.uri!r} said that it is unavailable"


def _all_busy(registration: Registration) -> str:
    return f"every callee of {registration.uri!r} has as many calls in flight as it takes (concurrency)"
