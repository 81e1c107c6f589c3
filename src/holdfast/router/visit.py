"""Where does a connection stand that has no session yet?

Glue between a connection, the rules of the sign-in (:mod:`holdfast.core.wamp.handshake`) and the stores around them
(:mod:`holdfast.router.signin`): it carries out the steps that the rules ask for, in their order. One for each sign-in; it is
gone when the session is open.
"""

import time
from time import monotonic
from typing import Any, assert_never

from holdfast.core.wamp.handshake import (
    Answer,
    Ask,
    Failure,
    Join,
    KeepCookie,
    Quit,
    Refuse,
    Run,
    Send,
)
from holdfast.core.wamp.messages import Hello

TYPE_CHECKING = False
if TYPE_CHECKING:
    from holdfast.core.wamp.handshake import Handshake, Step, TransportFacts
    from holdfast.core.wamp.messages import Message
    from holdfast.router.connection import Connection
    from holdfast.router.router import Router


class Visit:
    """A sign-in that is under way."""

    __slots__ = ("_auth", "_facts", "_handshake", "_roles", "_router")

    def __init__(self, router: "Router", auth: "Any", facts: "TransportFacts") -> None:
        self._router = router
        self._auth = auth
        self._facts = facts
        self._handshake: Handshake | None = None
        self._roles: dict[str, Any] = {}

    def receive(self, connection: "Connection", message: "Message", _now_s: float) -> None:
        """Take a message of the client."""
        handshake = self._handshake
        if handshake is None:
            handshake = self._begin(connection)
            if handshake is None:
                return
        if isinstance(message, Hello):
            roles = message.details.get("roles")
            self._roles = roles if isinstance(roles, dict) else {}
        self._carry_out(connection, handshake.receive(message, time.time()))

    def _begin(self, connection: "Connection") -> "Handshake | None":
        signin, facts = self._router.signin, self._facts
        held_off = signin.held_off(facts, monotonic())
        if held_off is not None:
            self._refuse(connection, held_off)
            return None
        self._handshake = signin.open(self._auth, facts, self._router.new_id())
        return self._handshake

    def _carry_out(self, connection: "Connection", steps: "list[Step]") -> None:
        signin = self._router.signin
        for step in steps:
            match step:
                case Send():
                    connection.send(step.head)
                case Join():
                    self._join(connection, step)
                case Refuse():
                    self._refuse(connection, step)
                case Ask():
                    self._ask(connection, step)
                case Run():
                    signin.run(step, lambda outcome: self._answered(connection, outcome))
                case KeepCookie():
                    signin.keep(self._auth, step)
                case Quit():
                    connection.quit()
                case _:
                    assert_never(step)

    def _join(self, connection: "Connection", step: Join) -> None:
        handshake = self._handshake
        assert handshake is not None  # noqa: S101 -- it has made the step
        self._router.admit(
            connection, handshake.session, step.realm, step.identity, self._roles, self._facts.details, step.welcome
        )  # fmt: skip

    def _refuse(self, connection: "Connection", step: Refuse) -> None:
        self._router.signin.note_refusal(self._facts, step, monotonic())
        connection.refuse(step.reason, step.text)

    def _ask(self, connection: "Connection", step: Ask) -> None:
        realm = self._router.realms.get(step.realm)
        if realm is None:
            self._answered(connection, Failure("wamp.error.no_such_realm", f'there is no realm "{step.realm}" any more'))  # fmt: skip
            return

        def then(error: str | None, args: list[Any], _kwargs: dict[str, Any]) -> None:
            first = args[0] if args else None
            if error is None:
                self._answered(connection, Answer(first))
            else:
                self._answered(connection, Failure(error, str(first) if first is not None else ""))

        realm.call(step.procedure, step.args, step.kwargs, then, monotonic(), step.timeout_s)
        self._router.worked(0, realm)

    def _answered(self, connection: "Connection", outcome: "Answer | Failure") -> None:
        """Go on with the answer of an authenticator, unless the client has gone meanwhile."""
        if connection.visit is self and self._handshake is not None:
            self._carry_out(connection, self._handshake.answer(outcome, time.time()))
