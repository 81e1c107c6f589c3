"""What can go wrong on the bus, as exceptions.

    BusError
    ├── CannotConnect         no router of the list can be reached
    ├── JoinRefused           a router can be reached and says no (ABORT)
    ├── ConnectionLost        it was open; whether what was under way has happened is unknown
    ├── QueueFull             too much is waiting for a connection already
    └── WampError             an ERROR of the other side: `uri`, `args`, `kwargs`
        ├── NoSuchProcedure       wamp.error.no_such_procedure
        ├── NoAvailableCallee     wamp.error.no_available_callee
        ├── Unavailable           wamp.error.unavailable (raised by a callee: "ask another one")
        ├── InvalidArgument       wamp.error.invalid_argument
        ├── InvalidUri            wamp.error.invalid_uri
        ├── InvalidPayload        wamp.error.invalid_payload
        ├── PayloadTooLarge       wamp.error.payload_size_exceeded
        ├── CallTimeout           wamp.error.timeout (a TimeoutError, too)
        ├── Canceled              wamp.error.canceled
        ├── NotAuthorized         wamp.error.not_authorized
        ├── AuthorizationFailed   wamp.error.authorization_failed
        ├── ProcedureExists       wamp.error.procedure_already_exists
        ├── NoSuchRegistration    wamp.error.no_such_registration
        ├── NoSuchSubscription    wamp.error.no_such_subscription
        ├── FeatureNotSupported   wamp.error.feature_not_supported
        ├── OptionNotAllowed      wamp.error.option_not_allowed
        └── RemoteError           wamp.error.runtime_error (an exception of the callee)

An exception class of the application gets a URI with :func:`error`; raised in a procedure it crosses the wire, and the
caller that knows the same class gets it back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    E = TypeVar("E", bound=type[BaseException])

#: Exception classes by URI, and the other way round.
BY_URI: dict[str, type[BaseException]] = {}
URI_OF: dict[type[BaseException], str] = {}


class BusError(Exception):
    """Base of the tree; never raised itself."""

    #: What was being done, in words; set by who did it.
    doing: str = ""


class CannotConnect(BusError):  # noqa: N818 -- reads as what it says
    """No router could be reached; the text has each URL with its reason."""


class JoinRefused(BusError):  # noqa: N818 -- reads as what it says
    """The session was refused; `uri` is the reason."""

    #: The router refused, not we.
    is_theirs = False

    def __init__(self, uri: str, says: str) -> None:
        super().__init__(f"{says} ({uri})" if says else uri)
        self.uri = uri
        self.says = says


class ConnectionLost(BusError):  # noqa: N818 -- reads as what it says
    """The connection ended; nobody knows whether what was under way has been done."""

    def __str__(self) -> str:
        reason = super().__str__()
        return f"{self.doing}: {reason}" if self.doing else reason


class QueueFull(BusError):  # noqa: N818 -- reads as what it says
    """There is no connection, and as much as may wait for one does already."""


class WampError(BusError):
    """An error with a URI, as it crosses the wire.

    In a procedure: ``raise WampError("com.app.error.full", "no room", limit=3)``.
    """

    #: What the URI means, for people; used where the error brought no text.
    meaning: ClassVar[str] = ""

    def __init__(self, uri: str, /, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args)
        self.args = args  # OSError, an ancestor of CallTimeout, keeps only two of them
        self.uri = uri
        self.kwargs = kwargs

    def __str__(self) -> str:
        text = self.args[0] if self.args and isinstance(self.args[0], str) else self.meaning
        where = f"{self.doing}: " if self.doing else ""
        more = f" {self.kwargs}" if self.kwargs and text is self.meaning else ""
        return f"{where}{text} ({self.uri}){more}" if text else f"{where}{self.uri}{more}"


class _Standard(WampError):  # noqa: N818 -- never raised itself
    """The URI comes with the class."""

    standard_uri: ClassVar[str] = ""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(self.standard_uri, *args, **kwargs)

    def __init_subclass__(cls, uri: str, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.standard_uri = uri
        BY_URI[uri] = cls


class NoSuchProcedure(_Standard, uri="wamp.error.no_such_procedure"):
    """Nobody offers the procedure."""

    meaning = "nobody has registered this procedure in the realm"


class NoAvailableCallee(_Standard, uri="wamp.error.no_available_callee"):
    """All callees of the procedure declined."""

    meaning = "everyone who offers this procedure says that he cannot serve now"


class Unavailable(_Standard, uri="wamp.error.unavailable"):
    """A callee declines; the router asks another one where there is one."""

    meaning = "the callee cannot serve now"


class InvalidArgument(_Standard, uri="wamp.error.invalid_argument"):
    """The arguments do not fit the procedure."""

    meaning = "the arguments do not fit"


class InvalidUri(_Standard, uri="wamp.error.invalid_uri"):
    """The URI breaks the realm's rules."""

    meaning = "this is no URI that the realm takes"


class InvalidPayload(_Standard, uri="wamp.error.invalid_payload"):
    """A value cannot be said in the serializer."""

    meaning = "a value cannot be encoded"


class PayloadTooLarge(_Standard, uri="wamp.error.payload_size_exceeded"):
    """A message is larger than the other side takes."""

    meaning = "the message is too large"


class CallTimeout(_Standard, TimeoutError, uri="wamp.error.timeout"):  # noqa: N818 -- as TimeoutError's children
    """No result in time."""

    meaning = "there was no result in time"


class Canceled(_Standard, uri="wamp.error.canceled"):
    """The call was given up, by the router or by the callee (also: the callee has gone)."""

    meaning = "the call was canceled"


class NotAuthorized(_Standard, uri="wamp.error.not_authorized"):
    """The role of the session must not do this."""

    meaning = "the role of this session must not do this"


class AuthorizationFailed(_Standard, uri="wamp.error.authorization_failed"):
    """Whether this is allowed could not be found out."""

    meaning = "the router could not find out whether this is allowed"


class ProcedureExists(_Standard, uri="wamp.error.procedure_already_exists"):
    """Somebody else has registered the procedure."""

    meaning = "somebody else has registered this procedure"


class NoSuchRegistration(_Standard, uri="wamp.error.no_such_registration"):
    """The registration is gone."""

    meaning = "there is no such registration (any more)"


class NoSuchSubscription(_Standard, uri="wamp.error.no_such_subscription"):
    """The subscription is gone."""

    meaning = "there is no such subscription (any more)"


class FeatureNotSupported(_Standard, uri="wamp.error.feature_not_supported"):
    """The other side cannot do this."""

    meaning = "the other side does not support this"


class OptionNotAllowed(_Standard, uri="wamp.error.option_not_allowed"):
    """The router refuses one of the options."""

    meaning = "the router refuses one of the options"


class RemoteError(_Standard, uri="wamp.error.runtime_error"):
    """An exception in the callee; its traceback is in the callee's log and nowhere else."""

    meaning = "the procedure raised an exception"


def error(uri: str) -> Callable[[E], E]:
    """Give an exception class its URI: raised in a procedure, it reaches the caller under that.

    A caller in whose process the class is declared, too, gets an instance, made of the arguments
    (`args` and, where it takes them, `kwargs`); others get a :class:`WampError`.
    """
    if not uri or not isinstance(uri, str):
        says = f"error({uri!r}): the URI has to be a text, like 'com.app.error.full'"
        raise ValueError(says)

    def declare(cls: E) -> E:
        BY_URI[uri] = cls
        URI_OF[cls] = uri
        return cls

    return declare


def from_wire(
    uri: str, args: Sequence[Any], kwargs: Mapping[str, Any], doing: str = ""
) -> BaseException:
    """Return the exception that an ERROR stands for."""
    cls = BY_URI.get(uri)
    made: BaseException
    if cls is None:
        made = WampError(uri, *args, **kwargs)
    else:
        try:
            made = cls(*args, **kwargs)
        except Exception:  # noqa: BLE001 -- the application's constructor may raise anything
            # The class does not take what the other side sent: the URI is still true.
            made = WampError(uri, *args, **kwargs)
    if isinstance(made, BusError):
        made.doing = doing
    elif doing:
        made.add_note(doing)
    return made


def to_wire(raised: BaseException) -> tuple[str, list[Any], dict[str, Any]]:
    """Return what an ERROR says about an exception: URI, arguments. No traceback, no file names."""
    if isinstance(raised, WampError):
        return raised.uri, list(raised.args), raised.kwargs
    for cls in type(raised).__mro__:
        uri = URI_OF.get(cls)
        if uri is not None:
            kwargs = getattr(raised, "kwargs", None)
            return uri, list(raised.args), kwargs if isinstance(kwargs, dict) else {}
    name = type(raised).__name__
    text = str(raised)
    return RemoteError.standard_uri, [f"{name}: {text}" if text else name], {"type": name}
