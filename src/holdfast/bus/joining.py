"""How does a connection become a session? HELLO, the questions of the sign-in, WELCOME or ABORT.

The answers to the questions come from :mod:`holdfast.bus.signing`; without a sign-in that is never imported.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from holdfast import __version__
from holdfast.bus.coding import BROKEN, decoder
from holdfast.bus.errors import CannotConnect, JoinRefused
from holdfast.core.wamp.messages import ABORT, AUTHENTICATE, CHALLENGE, GOODBYE, HELLO, WELCOME

if TYPE_CHECKING:
    from holdfast.bus.asking import Link
    from holdfast.bus.signing import Signer

#: What this client can do (specification: "Feature Announcement"). The specification spells call canceling in two ways.
ROLES: dict[str, Any] = {
    "caller": {
        "features": {
            "caller_identification": True,
            "call_timeout": True,
            "call_canceling": True,
            "call_cancelling": True,
            "progressive_call_results": True,
            "progressive_call_invocations": True,
            "payload_passthru_mode": True,
        }
    },
    "callee": {
        "features": {
            "caller_identification": True,
            "call_timeout": True,
            "call_canceling": True,
            "call_cancelling": True,
            "call_reroute": True,
            "pattern_based_registration": True,
            "shared_registration": True,
            "registration_revocation": True,
            "progressive_call_results": True,
            "progressive_call_invocations": True,
            "payload_passthru_mode": True,
        }
    },
    "publisher": {
        "features": {
            "publisher_identification": True,
            "publisher_exclusion": True,
            "subscriber_blackwhite_listing": True,
            "payload_passthru_mode": True,
        }
    },
    "subscriber": {
        "features": {
            "publisher_identification": True,
            "pattern_based_subscription": True,
            "subscription_revocation": True,
            "event_retention": True,
            "event_history": True,
            "payload_passthru_mode": True,
        }
    },
}


def hello_details(
    authid: str | None, role: str | None, extra: dict[str, Any] | None
) -> dict[str, Any]:
    """Return HELLO.Details."""
    details: dict[str, Any] = {"roles": ROLES, "agent": f"holdfast-{__version__}"}
    if authid is not None:
        details["authid"] = authid
    if role is not None:
        details["authrole"] = role
    if extra:
        details.update(extra)
    return details


async def join(
    link: Link, realm: str, details: dict[str, Any], signer: Signer | None = None
) -> tuple[int, dict[str, Any], list[bytes]]:
    """Return session id, WELCOME.Details and what came right after it; the caller limits the time.

    Raises:
        JoinRefused: The router said no, or we do (it asks for what we have not, or has not proved itself).
        CannotConnect: The connection ended, or what came is not WAMP.
    """
    inbox = _Inbox(link)
    decode = decoder(link.codec)
    encode = link.codec.encode
    link.send(encode([HELLO, realm, details], None))
    try:
        while True:
            data = await inbox.next()
            try:
                message = decode(data)
                code = message[0]
                if code == WELCOME:
                    session_id, welcome = message[1], message[2]
                    if signer is not None:
                        signer.check(welcome)
                    return session_id, welcome, inbox.messages
                if code == CHALLENGE:
                    signature, extra = await _answer(signer, message[1], message[2])
                    link.send(encode([AUTHENTICATE, signature, extra], None))
                elif code in (ABORT, GOODBYE):
                    refused = JoinRefused(message[2], str(message[1].get("message", "")))
                    refused.is_theirs = True
                    raise refused
                else:
                    raise CannotConnect(f"instead of WELCOME there came {message!r:.100}")
            except (*BROKEN, LookupError, TypeError, AttributeError) as error:
                raise CannotConnect(f"what came is no WELCOME: {error}") from error
    except JoinRefused as error:
        if not error.is_theirs:
            link.send(encode([ABORT, {"message": error.says}, error.uri], None))
        raise


async def _answer(
    signer: Signer | None, method: str, extra: dict[str, Any]
) -> tuple[str, dict[str, Any]]:
    if signer is None:
        raise JoinRefused(
            "wamp.error.authentication_failed",
            f'the router asks for a sign-in by "{method}", and no credentials are configured (auth)',
        )
    if signer.is_slow:
        return await asyncio.to_thread(signer.answer, method, extra)
    return signer.answer(method, extra)


class _Inbox:
    """Messages in the order they came, for somebody who waits for the next one."""

    def __init__(self, link: Link) -> None:
        self.messages: list[bytes] = []
        self._reason: str | None = None
        self._waiter: asyncio.Future[None] | None = None
        link.receive = self._receive
        link.lost = self._lost

    async def next(self) -> bytes:
        while not self.messages:
            if self._reason is not None:
                raise CannotConnect(self._reason)
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        return self.messages.pop(0)

    def _receive(self, data: bytes) -> None:
        self.messages.append(data)
        self._wake()

    def _lost(self, reason: str) -> None:
        self._reason = reason
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
