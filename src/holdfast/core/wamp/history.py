"""Which events does the router keep for latecomers, and who is told of them?

A topic (or pattern) of the plan has a subscription of its own from the start, with or without subscribers, so its id can be looked
up (`wamp.subscription.lookup`) and asked for (`wamp.subscription.get_events`). Kept in memory: a router that was
killed starts with an empty history. WAMP specification, "Event History"; an event for chosen sessions is not kept, one for chosen
authids or authroles only told to those.
"""

from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple

from holdfast.core.wamp.errors import INVALID_ARGUMENT, Refused
from holdfast.core.wamp.moment import rfc3339, unix_s_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from holdfast.core.wamp.broker import Audience
    from holdfast.core.wamp.messages import OpenPayload, Payload
    from holdfast.core.wamp.session import Session

#: Events told at once, where the caller names no limit.
PAGE = 1000


class Past(NamedTuple):
    """An event that was."""

    publication: int
    unix_s: float
    topic: str
    details: dict[str, Any]
    payload: "Payload"
    audience: "Audience | None"


class History:
    """The last events of one subscription."""

    __slots__ = ("events",)

    def __init__(self, limit: int, events: "Iterable[Past]" = ()) -> None:
        self.events: deque[Past] = deque(events, maxlen=max(limit, 0))

    def keep(self, event: Past) -> None:
        """Add an event; the oldest goes when there are too many."""
        self.events.append(event)

    def told(
        self,
        subscription: int,
        session: "Session",
        asked: dict[str, Any],
        open_payload: "OpenPayload",
    ) -> list[dict[str, Any]]:
        """List the events that this session may see and asked for; raises Refused for a filter that is none."""
        chosen = [
            event
            for event in _between(list(self.events), asked)
            if (event.audience is None or event.audience.admits_person(session.identity))
            and not session.role.hides(event.topic)
        ]
        for name, keeps in _TIMES.items():
            if asked.get(name) is not None:
                limit_s = _instant(name, asked[name])
                chosen = [event for event in chosen if keeps(event.unix_s, limit_s)]
        topic = asked.get("topic")
        if topic is not None:
            chosen = [event for event in chosen if event.topic == topic]
        if asked.get("reverse"):
            chosen.reverse()
        limit = asked.get("limit")
        if limit is None:
            limit = PAGE
        if type(limit) is not int or limit < 1:
            raise Refused(INVALID_ARGUMENT, f"limit has to be a positive integer, not {limit!r}")
        return [_told(event, subscription, open_payload) for event in chosen[:limit]]


_TIMES: "dict[str, Callable[[float, float], bool]]" = {
    "from_time": float.__ge__,
    "after_time": float.__gt__,
    "before_time": float.__lt__,
    "until_time": float.__le__,
}


def _between(events: list[Past], asked: dict[str, Any]) -> list[Past]:
    """Cut by publication ids: they have no order of their own, the order of the events counts."""
    for name, is_start, is_included in (
        ("from_publication", True, True),
        ("after_publication", True, False),
        ("before_publication", False, False),
        ("until_publication", False, True),
    ):
        publication = asked.get(name)
        if publication is None:
            continue
        at = next((i for i, e in enumerate(events) if e.publication == publication), None)
        if at is None:
            # It is gone or was never here; what came after it cannot be told from what came before.
            return []
        if is_start:
            events = events[at if is_included else at + 1 :]
        else:
            events = events[: at + 1 if is_included else at]
    return events


def _instant(name: str, text: object) -> float:
    unix_s = unix_s_of(text) if isinstance(text, str) else None
    if unix_s is None:
        raise Refused(
            INVALID_ARGUMENT,
            f"{name} has to be a time like 2024-05-31T12:00:00.000Z, not {text!r}",
        )
    return unix_s


def _told(event: Past, subscription: int, open_payload: "OpenPayload") -> dict[str, Any]:
    args, kwargs = open_payload(event.payload)
    return {
        "timestamp": rfc3339(event.unix_s),
        "subscription": subscription,
        "publication": event.publication,
        "topic": event.topic,
        "details": event.details,
        "args": args,
        "kwargs": kwargs,
    }
