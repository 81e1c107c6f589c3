"""Which component does the running code belong to, and what was it given?

An instance is one life of one component in this process. A :class:`~holdfast.sdk.Component` is a
definition and can be hosted twice under two names; whatever it is asked for (settings, log, name) is
looked up in the instance of the current context.
"""

from threading import Event

from holdfast.sdk.logline import Log

TYPE_CHECKING = False
if TYPE_CHECKING:
    from asyncio import Server


class Instance:
    """One life of one component."""

    __slots__ = (
        "log",
        "long_until_ns",
        "name",
        "note",
        "servers",
        "settings",
        "stopping",
        "work_done",
    )

    def __init__(self, name: str, settings: "dict[str, object]") -> None:
        self.name = name
        self.settings = settings
        self.log = Log(name)
        self.note = f"component={name}".encode()
        self.stopping = Event()
        self.work_done = 0
        self.long_until_ns = 0  #: until then a blocked loop is no hang (expect_long)
        self.servers: list[Server] = []
