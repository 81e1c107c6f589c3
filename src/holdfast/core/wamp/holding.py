"""How is an action held until a dynamic authorizer has answered?

The authorizer is a procedure of the realm, called in the router's own name with (details of the session, URI, action, options), as
Crossbar.io does; it answers a bool or {"allow": bool, "disclose": bool, "cache": bool}. Actions of one session are asked for at once
and carried out in the order in which they came, so two events of a publisher never overtake each other. An answer with "cache" holds
for that session until the plan or the authorizer's registration changes. No answer, or one that makes no sense, is a refusal.
"""

from collections import deque
from typing import TYPE_CHECKING, Any

from holdfast.core.wamp.errors import ProtocolViolation
from holdfast.core.wamp.permissions import ALLOW, ASK, DISCLOSE, FAILED, TOO_MANY
from holdfast.core.wamp.session import NOTHING

if TYPE_CHECKING:
    from collections.abc import Callable

    from holdfast.core.wamp.permissions import Role
    from holdfast.core.wamp.realm import Realm
    from holdfast.core.wamp.session import Session

    Resume = Callable[[Session, Any, int], None]

#: What Python says of a call with one argument more than there are: authorizers were once asked without the options.
_TOO_MANY_ARGUMENTS = "positional arguments but "
#: An authorizer that takes longer does not answer.
PATIENCE_S = 10.0
#: Answers kept for a session.
KEPT = 1_000


class Held:
    """An action that waits."""

    __slots__ = ("action", "match", "message", "resume", "role", "uri", "verdict")

    def __init__(
        self, action: str, uri: str, match: str, message: Any, resume: "Resume", role: "Role"
    ) -> None:
        self.action = action
        self.uri = uri
        self.match = match
        self.message = message
        self.resume = resume
        #: The role that the authorizer was asked for: when it changes meanwhile, the answer is void.
        self.role = role
        self.verdict: int | None = None


class Holding:
    """All actions of a realm that wait."""

    __slots__ = ("limit", "realm")

    def __init__(self, realm: "Realm", limit: int) -> None:
        self.realm = realm
        self.limit = limit

    def hold(
        self, session: "Session", action: str, uri: str, match: str, message: Any, resume: "Resume"
    ) -> None:
        """Carry an action out as soon as the authorizer of the session's role has allowed or refused it."""
        granted = session.granted.get((action, match, uri))
        if session.held is None:
            if granted is not None:
                resume(session, message, granted)
                return
            session.held = deque()
        held = Held(action, uri, match, message, resume, session.role)
        if len(session.held) >= self.limit:
            held.verdict = TOO_MANY
        else:
            held.verdict = granted
        session.held.append(held)
        if held.verdict is None:
            self._ask(session, held)

    def follow(self, session: "Session", request: int, message: Any, resume: "Resume") -> bool:
        """Put a further chunk of a progressive call behind its first one, if that is being held."""
        if session.held is None or not any(_is_call(held, request) for held in session.held):
            return False
        held = Held("call", message.procedure, "exact", message, resume, session.role)
        held.verdict = ALLOW if len(session.held) < self.limit else TOO_MANY
        session.held.append(held)
        return True

    def cancel(self, session: "Session", request: int) -> bool:
        """Forget a CALL that is being held; false when there is none."""
        if session.held is None:
            return False
        kept = deque(held for held in session.held if not _is_call(held, request))
        is_found = len(kept) < len(session.held)
        session.held = kept
        self._drain(session)
        return is_found

    def ask(
        self, session: "Session", action: str, uri: str, match: str, then: "Callable[[int], None]"
    ) -> None:
        """Ask for something that is already going on; `then` gets the verdict."""
        role = session.role

        def answered(error: str | None, args: list[Any], _: dict[str, Any]) -> None:
            then(_verdict(role, action, uri, match, error, args)[0])

        self._call(session, role, action, uri, {"match": match}, answered)

    def _ask(self, session: "Session", held: Held) -> None:
        def answered(error: str | None, args: list[Any], _: dict[str, Any]) -> None:
            if session.held is None or held not in session.held:
                return  # it left, or gave the call up
            if session.role is not held.role:
                self._ask_again(session, held)
            else:
                verdict, is_kept = _verdict(
                    held.role, held.action, held.uri, held.match, error, args
                )
                if is_kept:
                    self._keep(session, (held.action, held.match, held.uri), verdict)
                held.verdict = verdict
            self._drain(session)

        self._call(session, held.role, held.action, held.uri, held.message.options, answered)

    def _ask_again(self, session: "Session", held: Held) -> None:
        verdict = session.role.pattern_verdict(held.action, held.uri, held.match)
        held.role = session.role
        if verdict & ASK:
            self._ask(session, held)
        else:
            held.verdict = verdict

    def _call(
        self,
        session: "Session",
        role: "Role",
        action: str,
        uri: str,
        options: dict[str, Any],
        answered: "Callable[[str | None, list[Any], dict[str, Any]], None]",
    ) -> None:
        asked: list[Any] = [session.details(), uri, action, options]

        def judged(error: str | None, args: list[Any], kwargs: dict[str, Any]) -> None:
            if len(asked) == 4 and error is not None and args and _TOO_MANY_ARGUMENTS in str(args[0]):  # fmt: skip
                asked.pop()
                call(judged)
            else:
                answered(error, args, kwargs)

        def call(then: "Callable[[str | None, list[Any], dict[str, Any]], None]") -> None:
            realm = self.realm
            realm.call(role.authorizer or "", [*asked], {}, then, realm.now_s, PATIENCE_S)

        call(judged)

    def _keep(self, session: "Session", key: tuple[str, str, str], verdict: int) -> None:
        if session.granted is NOTHING or len(session.granted) >= KEPT:
            session.granted = {}
        session.granted[key] = verdict

    def _drain(self, session: "Session") -> None:
        while session.held and session.held[0].verdict is not None:
            held = session.held.popleft()
            try:
                held.resume(session, held.message, held.verdict or 0)
            except ProtocolViolation as violation:
                # Found out in the middle of somebody else's message: the offender has to go, not the authorizer.
                self.realm.expel(session, str(violation))
                return
        if not session.held:
            session.held = None


def _is_call(held: Held, request: int) -> bool:
    return held.action == "call" and held.message.request == request


def _verdict(
    role: "Role",
    action: str,
    uri: str,
    match: str,
    error: str | None,
    args: list[Any],
) -> tuple[int, bool]:
    """Read an answer: the verdict, and whether it may be kept."""
    if error is not None or not args:
        return FAILED, False
    answer = args[0]
    if isinstance(answer, bool):
        answer = {"allow": answer}
    if not isinstance(answer, dict) or any(
        not isinstance(answer.get(name, False), bool) for name in ("allow", "disclose", "cache")
    ) or "allow" not in answer:  # fmt: skip
        return FAILED, False
    is_kept = answer.get("cache", False)
    if not answer["allow"]:
        return 0, is_kept
    verdict = ALLOW | (role.pattern_verdict(action, uri, match) & ~ASK)
    if "disclose" in answer:
        verdict = verdict | DISCLOSE if answer["disclose"] else verdict & ~DISCLOSE
    return verdict, is_kept
