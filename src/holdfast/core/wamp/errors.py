"""Which error URIs does the router use, and what is an offence against the protocol?

From the WAMP specification ("URIs" of the basic and the advanced profile). Three are Crossbar.io's or ours, where the
specification has none.
"""

NOT_AUTHORIZED = "wamp.error.not_authorized"
AUTHORIZATION_FAILED = "wamp.error.authorization_failed"
INVALID_URI = "wamp.error.invalid_uri"
INVALID_ARGUMENT = "wamp.error.invalid_argument"
NO_SUCH_PROCEDURE = "wamp.error.no_such_procedure"
PROCEDURE_ALREADY_EXISTS = "wamp.error.procedure_already_exists"
POLICY_CONFLICT = (
    "wamp.error.procedure_exists_with_different_invocation_policy"  # as Autobahn has it
)
NO_SUCH_REGISTRATION = "wamp.error.no_such_registration"
NO_SUCH_SUBSCRIPTION = "wamp.error.no_such_subscription"
NO_SUCH_SESSION = "wamp.error.no_such_session"
CANCELED = "wamp.error.canceled"
TIMEOUT = "wamp.error.timeout"
UNAVAILABLE = "wamp.error.unavailable"
NO_AVAILABLE_CALLEE = "wamp.error.no_available_callee"
FEATURE_NOT_SUPPORTED = "wamp.error.feature_not_supported"
PROTOCOL_VIOLATION = "wamp.error.protocol_violation"
HISTORY_UNAVAILABLE = "wamp.error.history_unavailable"  # as Crossbar.io has it
MAX_CONCURRENCY = "crossbar.error.max_concurrency_reached"
LIMIT_EXCEEDED = "holdfast.error.limit_exceeded"

KILLED = "wamp.close.killed"
GOODBYE_AND_OUT = "wamp.close.goodbye_and_out"


class ProtocolViolation(Exception):  # noqa: N818 -- the specification's word
    """A peer broke the rules. The session has left its realm already; say ABORT with `PROTOCOL_VIOLATION` and this text."""


class Refused(Exception):  # noqa: N818 -- says what happened
    """A request is answered with ERROR: never leaves :mod:`holdfast.core.wamp`."""

    def __init__(self, error: str, says: str) -> None:
        super().__init__(says)
        self.error = error
        self.says = says
