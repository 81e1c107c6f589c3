"""Which component does the running code belong to, and what was it given?

An instance is one life of one component in this process. A :class:`~holdfast.sdk.Component` is a
definition and can be hosted twice under two names; whatever it is asked for (settings, log, name) is
looked up in the instance of the current context.
"""

from threading import Event, Lock

from holdfast.sdk.logline import Log
from holdfast.sdk.metrics import Metrics

TYPE_CHECKING = False
if TYPE_CHECKING:
    from asyncio import Server
    from collections.abc import Callable
    from typing import Any

    from holdfast.model.bus import BusPlan
    from holdfast.sdk.joined import Connect
    from holdfast.sdk.life import Life, OnBus

_joining = Lock()


class Instance:
    """One life of one component."""

    __slots__ = (
        "answers",
        "bus",
        "joined",
        "life",
        "log",
        "long_until_ns",
        "metrics",
        "name",
        "note",
        "servers",
        "settings",
        "stopping",
        "work_done",
    )

    def __init__(self, name: str, settings: "Any", bus: "BusPlan | Connect | None" = None) -> None:
        self.name = name
        self.settings = settings
        self.log = Log(name)
        self.metrics = Metrics()
        self.note = f"component={name}".encode()
        self.stopping = Event()
        self.work_done = 0
        self.long_until_ns = 0  #: until then a blocked loop is no hang (expect_long)
        self.servers: list[Server] = []
        #: What its worker's control socket answers in its name, made in the loop.
        self.answers: dict[str, Callable[[], Any]] = {}
        self.bus = bus  #: how it joins a realm; None: the node has no router
        self.joined: OnBus | None = None  #: its place on the bus, from the first use on
        self.life: Life | None = None  #: set by the life itself

    def on_bus(self) -> "OnBus":
        """Return its place on the bus, from any thread; a component that never asks has none and pays nothing.

        Raises:
            RuntimeError: There is no bus here.
        """
        joined = self.joined
        return joined if joined is not None else self._join()

    def _join(self) -> "OnBus":
        life = self.life
        if life is None:
            says = (
                f'component "{self.name}" runs nowhere: use its bus in a container, or in a test with '
                f"holdfast.sdk.testing.running(app)"
            )
            raise RuntimeError(says)
        if self.bus is None:
            says = (
                f'component "{self.name}" wants the bus, but its node has no router: add a worker of kind "router" to '
                f"the configuration"
            )
            raise RuntimeError(says)
        from holdfast.sdk.joined import Joined

        with _joining:
            if self.joined is None:
                self.joined = Joined(life, self.bus)
            return self.joined
