"""Signing in and out: ``/api/enter``, ``/api/leave``, ``/api/me``.

Whoever comes with a one-time link or a password gets a new session; one they had before ends. Every try is bounded (:mod:`.limits`) and written down
(:mod:`.audit`). Nothing here tells whether a name exists.
"""

import time

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from holdfast.dashboard.access import keeping
from holdfast.dashboard.access.audit import Audit
from holdfast.dashboard.access.guard import COOKIE, SAFE_COOKIE
from holdfast.dashboard.access.limits import Tries
from holdfast.dashboard.access.passwords import Passwords
from holdfast.dashboard.access.rules import Rules, Who
from holdfast.model.errors import NodeError
from holdfast.wire.jsonlite import loads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_WRONG = "that did not fit"


class Entrance:
    """Lets people in, one life of the process long."""

    def __init__(self, rules: Rules, state_dir: str, audit: Audit) -> None:
        self._rules = rules
        self._state_dir = state_dir
        self._audit = audit
        self._tries = Tries(time.monotonic())
        self._passwords = Passwords()

    def routes(self) -> list[Route]:
        """Return the routes."""
        return [
            Route("/api/enter", self.enter, methods=["POST"]),
            Route("/api/leave", self.leave, methods=["POST"]),
            Route("/api/me", self.me, methods=["GET"]),
        ]

    async def me(self, request: Request) -> Response:
        """Tell who is signed in, and how somebody could be."""
        who: Who | None = request.scope["holdfast.who"]
        known = (
            who.to_json()
            if who
            else {"user": None, "role": None, "way": None, "expires_unix_s": None}
        )
        return JSONResponse({**known, "ways": self._rules.ways()})

    async def leave(self, request: Request) -> Response:
        """End the session."""
        who: Who | None = request.scope["holdfast.who"]
        if who is not None and who.session:
            keeping.end_session(self._state_dir, who.session)
            self._audit.note(who, "leave")
        gone = Response(status_code=204)
        self._set_cookie(gone, "", 0)
        return gone

    async def enter(self, request: Request) -> Response:
        """Sign in by ``{"token"}`` or ``{"user", "password"}``."""
        address = request.client.host if request.client else ""
        try:
            given = loads((await request.body()).decode())
        except ValueError:
            given = None
        if not isinstance(given, dict):
            return _error(
                400, "this is not a sign-in", 'send {"token": …} or {"user": …, "password": …}'
            )
        wait_s = self._tries.take(address, time.monotonic())
        if wait_s > 0.0:
            seconds = int(wait_s) + 1
            return _error(
                429, "too many tries", f"try again in {seconds} s", {"retry-after": str(seconds)}
            )
        token, user, password = given.get("token"), given.get("user"), given.get("password")
        now_unix_s = time.time()
        try:
            if isinstance(token, str):
                kept = self._by_link(token, now_unix_s)
            elif isinstance(user, str) and isinstance(password, str):
                kept = await self._by_password(user, password, now_unix_s)
            else:
                return _error(
                    400, "this is not a sign-in", 'send {"token": …} or {"user": …, "password": …}'
                )
        except NodeError as error:
            says, _, hint = str(error).partition("\n")
            return _error(503, says, hint.strip())
        name = kept["user"] if kept else user if isinstance(user, str) else ""
        entry = self._audit.note(None, "enter", name, address=address)
        if kept is None:
            self._audit.done(entry, "refused")
            hint = (
                ""
                if user is not None
                else "a link works once, for ten minutes:  holdfast dashboard  prints a new one"
            )
            return _error(401, _WRONG, hint)
        self._tries.succeeded(address)
        before: Who | None = request.scope["holdfast.who"]
        if before is not None and before.session:
            keeping.end_session(self._state_dir, before.session)
        secret = keeping.make_session(self._state_dir, kept, now_unix_s)
        self._audit.done(entry, f"let in by {kept['way']} as {kept['role']}")
        answer = Response(status_code=204)
        self._set_cookie(answer, secret, int(self._rules.session_for_s))
        return answer

    def _by_link(self, token: str, now_unix_s: float) -> "dict[str, Any] | None":
        kept = keeping.take_link(self._state_dir, token, now_unix_s) if self._rules.links else None
        return kept and {
            **kept,
            "way": "link",
            "expires_unix_s": now_unix_s + self._rules.session_for_s,
        }

    async def _by_password(
        self, name: str, password: str, now_unix_s: float
    ) -> "dict[str, Any] | None":
        if not self._rules.users:
            return None
        user = self._rules.users.get(name)
        if (
            not await self._passwords.is_right(user.password_hash if user else None, password)
            or user is None
        ):
            return None
        return {
            "user": name,
            "role": user.role,
            "way": "password",
            "of": keeping.name_of(user.password_hash),
            "expires_unix_s": now_unix_s + self._rules.session_for_s,
        }

    def _set_cookie(self, answer: Response, secret: str, for_s: int) -> None:
        name = SAFE_COOKIE if self._rules.is_tls else COOKIE
        answer.set_cookie(
            name,
            secret,
            max_age=for_s,
            path="/",
            secure=self._rules.is_tls,
            httponly=True,
            samesite="strict",
        )


def _error(
    status: int, says: str, hint: str = "", headers: "dict[str, str] | None" = None
) -> JSONResponse:
    return JSONResponse(
        {"error": says, **({"hint": hint} if hint else {})}, status_code=status, headers=headers
    )
