"""A realm with clients that write down what they get: for stories about broker, dealer and meta API, without sockets and clocks."""

from typing import Any, cast

import pytest

from holdfast.core.wamp.errors import ProtocolViolation
from holdfast.core.wamp.messages import (
    Call,
    Cancel,
    Error,
    Objects,
    Payload,
    Publish,
    Register,
    Shared,
    Subscribe,
    Unregister,
    Unsubscribe,
    Yield,
)
from holdfast.core.wamp.realm import Realm
from holdfast.core.wamp.session import Identity, Session

ACTIONS = ("call", "register", "publish", "subscribe")

#: What a modern client library announces.
MODERN: dict[str, Any] = {
    "caller": {"features": {"progressive_call_invocations": True, "payload_passthru_mode": True}},
    "callee": {
        "features": {
            "call_canceling": True,
            "progressive_call_invocations": True,
            "registration_revocation": True,
            "payload_passthru_mode": True,
        }
    },
    "publisher": {"features": {"payload_passthru_mode": True}},
    "subscriber": {"features": {"subscription_revocation": True}},
}


def rule(
    uri: str = "",
    match: str = "prefix",
    allow: tuple[str, ...] = ACTIONS,
    deny: tuple[str, ...] = (),
    **more: Any,
) -> dict[str, Any]:
    """A permission."""
    return {
        "uri": uri, "match": match, "allow": list(allow), "deny": list(deny),
        "disclose_caller": False, "disclose_publisher": False, **more,
    }  # fmt: skip


def role(name: str, *rules: dict[str, Any], authorizer: str | None = None, **more: Any) -> dict[str, Any]:  # fmt: skip
    """A role."""
    return {"name": name, "permissions": list(rules), "authorizer": authorizer, **more}


def limits(**given: int) -> Any:
    """The limits of a router, small ones given."""
    return {
        "sessions": 100, "connections_unauthenticated": 10, "handshake_s": 1.0,
        "subscriptions_per_session": 100, "registrations_per_session": 100, "calls_per_session": 100,
        **given,
    }  # fmt: skip


class Client:
    """A session and its outlet."""

    def __init__(self, stage: "Stage", authid: str, authrole: str, roles: dict[str, Any]) -> None:
        self.stage = stage
        self.got: list[list[Any]] = []
        self.closed: tuple[str, str] | None = None
        self.request = 0
        identity = Identity(authid, authrole, "anonymous", "static")
        self.session = Session(stage.new_id(), identity, self, roles, {"type": "test"})
        self.id = self.session.id

    # -- the outlet

    def send(self, head: list[Any], payload: Payload | None = None) -> None:
        message = list(head)
        if payload is not None and (payload.args is not None or payload.kwargs is not None):
            message.append(payload.args if payload.args is not None else [])
            if payload.kwargs:
                message.append(payload.kwargs)
        self.got.append(message)

    def send_shared(self, message: Shared) -> None:
        self.send(message.head, message.payload)

    def close(self, reason: str, says: str) -> None:
        assert self.id not in self.stage.realm.sessions, "closed before it left"
        self.closed = (reason, says)

    # -- the client

    def take(self) -> list[list[Any]]:
        """All messages since the last time."""
        got, self.got = self.got, []
        return got

    def one(self) -> list[Any]:
        """The only message since the last time."""
        got = self.take()
        assert len(got) == 1, got
        return got[0]

    def says(self, message: Any) -> None:
        self.stage.realm.receive(self.session, message, self.stage.now_s)

    def offends(self, message: Any) -> str:
        """Send what breaks the rules; return what the ABORT will say."""
        with pytest.raises(ProtocolViolation) as caught:
            self.says(message)
        assert self.id not in self.stage.realm.sessions
        return str(caught.value)

    def leave(self) -> None:
        self.stage.realm.leave(self.session, self.stage.now_s)

    def _next(self) -> int:
        self.request += 1
        return self.request

    def subscribe(self, topic: str, **options: Any) -> int:
        """Subscribe; the id of the subscription. Other messages stay for `take`."""
        request = self._next()
        self.says(Subscribe(request, options, topic))
        return self._id_of([33, request])

    def register(self, procedure: str, **options: Any) -> int:
        """Register; the id of the registration."""
        request = self._next()
        self.says(Register(request, options, procedure))
        return self._id_of([65, request])

    def _id_of(self, begins: list[Any]) -> int:
        found = [m for m in self.got if m[:2] == begins]
        assert found, self.got
        self.got.remove(found[0])
        id_: int = found[0][2]
        return id_

    def unsubscribe(self, subscription: int) -> None:
        self.says(Unsubscribe(self._next(), subscription))

    def unregister(self, registration: int) -> None:
        self.says(Unregister(self._next(), registration))

    def publish(self, topic: str, *args: Any, kwargs: Any = None, **options: Any) -> int:
        request = self._next()
        self.says(Publish(request, options, topic, list(args), kwargs))
        return request

    def call(self, procedure: str, *args: Any, kwargs: Any = None, **options: Any) -> int:
        request = self._next()
        self.says(Call(request, options, procedure, list(args), kwargs))
        return request

    def ask(self, procedure: str, *args: Any, **kwargs: Any) -> Any:
        """Call what answers at once (a meta procedure): its first result, or the error URI."""
        request = self.call(procedure, *args, kwargs=kwargs)
        found = [m for m in self.got if m[:2] == [50, request] or m[:3] == [8, 48, request]]
        assert found, self.got
        self.got.remove(found[0])
        if found[0][0] == 8:
            return found[0][4]
        results = found[0][3] if len(found[0]) > 3 else []
        return results[0] if results else None

    def cancel(self, request: int, **options: Any) -> None:
        self.says(Cancel(request, options))

    def give(self, invocation: int, *args: Any, **options: Any) -> None:
        """YIELD."""
        self.says(Yield(invocation, options, list(args)))

    def fail(self, invocation: int, error: str, *args: Any, **details: Any) -> None:
        """ERROR for an invocation."""
        self.says(Error(68, invocation, details, error, list(args)))


class Stage:
    """A realm and its clock."""

    def __init__(self, *roles: dict[str, Any], **more: Any) -> None:
        self._ids = 1000
        self.now_s = 0.0
        self.chosen = 0
        self.plan: Any = {
            "name": "realm1",
            "roles": list(roles) or [role("user", rule())],
            "meta_api": True,
            "history": [],
            "uri_check": "loose",
        }
        given = more.pop("limits", None)
        self.plan.update(more)
        self.realm = Realm(
            cast("Any", self.plan), self.new_id, self._open, self._choose, limits=given, unix_at_zero_s=1_700_000_000.0,
        )  # fmt: skip

    def new_id(self) -> int:
        self._ids += 1
        return self._ids

    def client(self, authid: str = "me", authrole: str = "user", roles: Any = None) -> Client:
        client = Client(self, authid, authrole, MODERN if roles is None else roles)
        self.realm.join(client.session, self.now_s)
        return client

    def clients(self, *authids: str) -> list[Client]:
        return [self.client(authid) for authid in authids]

    def after(self, seconds: float) -> None:
        """Let time pass."""
        self.now_s += seconds
        due_s = self.realm.due_s()
        if due_s is not None and due_s <= self.now_s:
            self.realm.tick(self.now_s)

    def reconfigure(self, *roles: dict[str, Any], **more: Any) -> dict[str, int]:
        self.plan = {**self.plan, "roles": list(roles), **more}
        return self.realm.reconfigure(self.plan, self.now_s)

    @staticmethod
    def _open(payload: Payload) -> tuple[list[Any], dict[str, Any]]:
        return payload.args or [], payload.kwargs or {}

    def _choose(self, n: int) -> int:
        self.chosen += 1
        return self.chosen % n


__all__ = ["ACTIONS", "MODERN", "Client", "Objects", "Stage", "limits", "role", "rule"]
