"""What do WAMP messages look like inside the router?

What comes in is a struct of the message's type, made by a codec of :mod:`holdfast.wire.wamp`; `args` and `kwargs` stay as
the bytes that came (msgspec.Raw, or bytes for CBOR) and travel to the other side untouched when that speaks the same
serializer. What goes out is a list of the leading elements, with the incoming struct as its payload. Message
types and element orders: WAMP specification, "Message Definitions" and "Message Codes".
"""

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Protocol

from msgspec import Meta, Struct

if TYPE_CHECKING:
    from collections.abc import Callable

HELLO, WELCOME, ABORT, CHALLENGE, AUTHENTICATE, GOODBYE, ERROR = 1, 2, 3, 4, 5, 6, 8
PUBLISH, PUBLISHED, SUBSCRIBE, SUBSCRIBED, UNSUBSCRIBE, UNSUBSCRIBED, EVENT = (
    16,
    17,
    32,
    33,
    34,
    35,
    36,
)
CALL, CANCEL, RESULT, REGISTER, REGISTERED, UNREGISTER, UNREGISTERED = 48, 49, 50, 64, 65, 66, 67
INVOCATION, INTERRUPT, YIELD = 68, 69, 70

#: How the payload of a message is encoded. OBJECTS: `args` is a list, `kwargs` a dict (made in this process).
OBJECTS, JSON, MSGPACK, CBOR = 0, 1, 2, 3

#: The largest id: 2**53, the integers that a double holds exactly.
ID_MAX = 2**53
Id = Annotated[int, Meta(ge=0, le=ID_MAX)]


class Payload(Protocol):
    """What is passed through: present or None, encoded as `format` says."""

    format: ClassVar[int]
    args: Any
    kwargs: Any


class Objects:
    """A payload that this process made."""

    __slots__ = ("args", "kwargs")
    format: ClassVar[int] = OBJECTS

    def __init__(self, args: list[Any] | None = None, kwargs: dict[str, Any] | None = None) -> None:
        self.args = args
        self.kwargs = kwargs


class Hello(Struct, array_like=True, tag=HELLO, gc=False):
    """The first message of a client."""

    realm: str | None
    details: dict[str, Any]


class Welcome(Struct, array_like=True, tag=WELCOME, gc=False):
    """The session is open."""

    session: Id
    details: dict[str, Any]


class Abort(Struct, array_like=True, tag=ABORT, gc=False):
    """No session, or its end after an offence. Some clients add arguments: `args` and `kwargs` are theirs."""

    details: dict[str, Any]
    reason: str
    args: Any = None
    kwargs: Any = None


class Challenge(Struct, array_like=True, tag=CHALLENGE, gc=False):
    """A question of the sign-in."""

    method: str
    extra: dict[str, Any]


class Authenticate(Struct, array_like=True, tag=AUTHENTICATE, gc=False):
    """The answer of the sign-in."""

    signature: str
    extra: dict[str, Any]


class Goodbye(Struct, array_like=True, tag=GOODBYE, gc=False):
    """A session ends, or the answer to that."""

    details: dict[str, Any]
    reason: str


class _Carrying(Struct, array_like=True, gc=False):
    """Structs with a payload; a codec has a subclass of each for its format."""

    format: ClassVar[int] = OBJECTS


class Error(_Carrying, array_like=True, tag=ERROR, gc=False):
    """A request failed; `request_type` is the code of the message that `request` numbers."""

    request_type: int
    request: Id
    details: dict[str, Any]
    error: str
    args: Any = None
    kwargs: Any = None


class Publish(_Carrying, array_like=True, tag=PUBLISH, gc=False):
    """An event for a topic."""

    request: Id
    options: dict[str, Any]
    topic: str
    args: Any = None
    kwargs: Any = None


class Event(_Carrying, array_like=True, tag=EVENT, gc=False):
    """An event of a subscription."""

    subscription: Id
    publication: Id
    details: dict[str, Any]
    args: Any = None
    kwargs: Any = None


class Call(_Carrying, array_like=True, tag=CALL, gc=False):
    """A call; the same request id again continues a progressive one."""

    request: Id
    options: dict[str, Any]
    procedure: str
    args: Any = None
    kwargs: Any = None


class Result(_Carrying, array_like=True, tag=RESULT, gc=False):
    """The (or a progressive) result of a call."""

    request: Id
    details: dict[str, Any]
    args: Any = None
    kwargs: Any = None


class Invocation(_Carrying, array_like=True, tag=INVOCATION, gc=False):
    """A call, as the callee gets it."""

    request: Id
    registration: Id
    details: dict[str, Any]
    args: Any = None
    kwargs: Any = None


class Yield(_Carrying, array_like=True, tag=YIELD, gc=False):
    """The (or a progressive) result, as the callee gives it."""

    request: Id
    options: dict[str, Any]
    args: Any = None
    kwargs: Any = None


class Published(Struct, array_like=True, tag=PUBLISHED, gc=False):
    """Acknowledges PUBLISH."""

    request: Id
    publication: Id


class Subscribe(Struct, array_like=True, tag=SUBSCRIBE, gc=False):
    """Wants events."""

    request: Id
    options: dict[str, Any]
    topic: str


class Subscribed(Struct, array_like=True, tag=SUBSCRIBED, gc=False):
    """Acknowledges SUBSCRIBE."""

    request: Id
    subscription: Id


class Unsubscribe(Struct, array_like=True, tag=UNSUBSCRIBE, gc=False):
    """Wants no more events."""

    request: Id
    subscription: Id


class Unsubscribed(Struct, array_like=True, tag=UNSUBSCRIBED, gc=False):
    """Acknowledges UNSUBSCRIBE; request 0 and details: the router took the subscription away."""

    request: Id
    details: dict[str, Any] | None = None


class Register(Struct, array_like=True, tag=REGISTER, gc=False):
    """Offers a procedure."""

    request: Id
    options: dict[str, Any]
    procedure: str


class Registered(Struct, array_like=True, tag=REGISTERED, gc=False):
    """Acknowledges REGISTER."""

    request: Id
    registration: Id


class Unregister(Struct, array_like=True, tag=UNREGISTER, gc=False):
    """Takes an offer back."""

    request: Id
    registration: Id


class Unregistered(Struct, array_like=True, tag=UNREGISTERED, gc=False):
    """Acknowledges UNREGISTER; request 0 and details: the router took the registration away."""

    request: Id
    details: dict[str, Any] | None = None


class Cancel(Struct, array_like=True, tag=CANCEL, gc=False):
    """A caller gives its call up."""

    request: Id
    options: dict[str, Any]


class Interrupt(Struct, array_like=True, tag=INTERRUPT, gc=False):
    """The callee is told that nobody waits any more."""

    request: Id
    options: dict[str, Any]


#: The classes with a payload, for which every codec has subclasses with its own `format`.
CARRYING = (Error, Publish, Event, Call, Result, Invocation, Yield)
#: The others.
PLAIN = (
    Hello, Welcome, Abort, Challenge, Authenticate, Goodbye, Published, Subscribe, Subscribed, Unsubscribe, Unsubscribed,
    Register, Registered, Unregister, Unregistered, Cancel, Interrupt,
)  # fmt: skip

Message = (
    Hello | Welcome | Abort | Challenge | Authenticate | Goodbye | Error | Publish | Published | Subscribe | Subscribed
    | Unsubscribe | Unsubscribed | Event | Call | Cancel | Result | Register | Registered | Unregister | Unregistered
    | Invocation | Interrupt | Yield
)  # fmt: skip


class Shared:
    """An outgoing message for many sessions: encoded (and framed) once for each kind of connection."""

    __slots__ = ("encoded", "head", "payload")

    def __init__(self, head: list[Any], payload: Payload | None) -> None:
        self.head = head
        self.payload = payload
        #: Kept by the connections: (format, framing) -> bytes.
        self.encoded: dict[Any, bytes] = {}


class Outlet(Protocol):
    """The connection of a session, as the rules see it. Nothing here raises or blocks."""

    def send(self, head: list[Any], payload: Payload | None = None) -> None:
        """Queue a message: the elements of `head` (the list is given away), then the payload's."""

    def send_shared(self, message: Shared) -> None:
        """Queue a message that others get, too."""

    def close(self, reason: str, says: str) -> None:
        """Say GOODBYE with this reason and end the connection; the session has left the realm already."""


#: Opens a payload: (args, kwargs), [] and {} where absent. Comes from the wire floor.
if TYPE_CHECKING:
    OpenPayload = Callable[[Payload], tuple[list[Any], dict[str, Any]]]
