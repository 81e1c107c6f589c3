"""How does an unchanged Autobahn|Python component run here?

A session class, a component object or a function is given a connection to the realm that the configuration says, and a new
session object after each loss, with growing pauses. It is ready when its `onJoin` has ended, or goes on for so long that it is one
which stays there (a loop that publishes every second, as in Crossbar.io's own examples). An exception in `onJoin` is a crash of the process, as in a start function of our own; one that the bus is to blame for (the procedure is taken, the connection
was lost) leads to the next attempt. A session that leaves by itself has ended. Sign-in: what the configuration says,
unless the component has its own `onConnect` and `onChallenge`. Model: Crossbar.io's containers.
"""

import asyncio
import importlib
from os import urandom
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from holdfast.container.foreign import COMPONENT, SESSION, is_twisted
from holdfast.core.backoff import Backoff
from holdfast.sdk.component import Component
from holdfast.sdk.lastwords import one_line, report
from holdfast.sdk.logline import write_text
from holdfast.sdk.recorder import CURRENT, progress

if TYPE_CHECKING:
    from holdfast.model.bus import BusPlan
    from holdfast.sdk.instance import Instance
    from holdfast.sdk.life import Life

#: A router has this long to let a session in.
JOIN_S = 10.0
#: An `onJoin` that runs for longer is the component's work, not its preparation.
STAYS_S = 2.0
_NORMAL = ("wamp.close.normal", "wamp.close.goodbye_and_out")
_LOST = "wamp.close.transport_lost"


class Gone(Exception):  # noqa: N818 -- reads as what it says
    """The session has ended and is to come back; the text says why it ended."""


def component_of(name: str, found: Any, kind: str) -> Component:
    """Return a component that hosts ``found``."""
    app = Component(name)
    app.needs_bus = f"Autobahn {kind}"

    async def prepare() -> None:
        instance = CURRENT.get()
        assert instance is not None  # noqa: S101 -- start functions run in a component
        assert instance.life is not None  # noqa: S101 -- and in a life of it
        instance.joined = Foreign(instance.life, found, kind)

    async def autobahn() -> None:
        instance = CURRENT.get()
        assert instance is not None  # noqa: S101 -- as above
        assert isinstance(instance.joined, Foreign)  # noqa: S101 -- prepare() has set it
        await instance.joined.run()

    app.on_start(prepare)
    app.task(autobahn)
    return app


class Foreign:
    """The place on the bus of an Autobahn component."""

    def __init__(self, life: "Life", found: Any, kind: str) -> None:
        self._life = life
        self._instance: Instance = life.instance
        self._loop = life.loop
        self._found = found
        self._kind = kind
        self._is_twisted = is_twisted(found)
        plan = self._instance.bus
        assert isinstance(plan, dict)  # noqa: S101 -- the host has refused it otherwise
        self._plan: BusPlan = plan
        self.session: Any = None
        self._ready = asyncio.Event()
        self._ended: asyncio.Future[str] | None = None
        self._has_left = False
        self._has_told = False
        self._has_begun = False  #: the connection has come as far as a session
        self._refusals = 0  #: connections that have not
        self._trouble = ""
        self._txaio = self._use_flavour()

    def _use_flavour(self) -> Any:
        chosen = "twisted" if self._is_twisted else "asyncio"
        try:
            importlib.import_module(f"autobahn.{chosen}.wamp")
        except RuntimeError as error:
            # txaio, Autobahn's layer between the two, can be only one of them in a process.
            says = (
                f'component "{self._instance.name}" is made for {chosen}, but another one of this container has chosen '
                f"Autobahn's other half already ({error}): give it a container of its own"
            )
            raise RuntimeError(says) from None
        txaio: Any = importlib.import_module("txaio")
        if self._is_twisted:
            importlib.import_module("twisted.internet.reactor")
        else:
            txaio.config.loop = self._loop
        return txaio

    # -- living ----------------------------------------------------------------------------------

    async def run(self) -> None:
        """Connect again and again until the session leaves by itself."""
        backoff = Backoff()
        at = 0
        while not self._has_left:
            url = self._plan["urls"][at % len(self._plan["urls"])]
            at += 1
            began_s = self._loop.time()
            try:
                await self._live_once(url)
            except TimeoutError as error:
                self._tell_waiting(str(error) or f"no answer in {JOIN_S:g} s")
            except (OSError, Gone) as error:
                self._tell_waiting(str(error) or type(error).__name__)
            else:
                if not self._has_left:
                    self._instance.log.info("has left the realm by itself")
                return
            backoff.lived(self._loop.time() - began_s)
            pause_s = backoff.next_s(int.from_bytes(urandom(4)) / 2**32)
            await asyncio.sleep(pause_s)

    async def _live_once(self, url: str) -> None:
        """Return when the session has left by itself; raise Gone, OSError or what ``onJoin`` raised."""
        ended: asyncio.Future[str] = self._loop.create_future()
        self._ended = ended
        welcome: asyncio.Future[None] = self._loop.create_future()
        joined: asyncio.Future[None] = self._loop.create_future()
        self._has_begun = False

        def make_session() -> Any:
            self._has_begun = True
            try:
                self.session = session = self._make_session()
            except Exception as error:
                # Autobahn prints it and hangs up: for us it is what an exception in onJoin is.
                if not joined.done():
                    joined.set_exception(error)
                raise
            self._dress(session, welcome, joined, ended)
            return session

        both: list[asyncio.Future[Any]] = [joined, ended]
        connection = await self._connect(url, make_session)
        try:
            async with asyncio.timeout(JOIN_S):
                await asyncio.wait([welcome, *both], return_when=asyncio.FIRST_COMPLETED)
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED, timeout=STAYS_S)
            if joined.done():
                joined.result()
            if joined.done() or not ended.done():
                self._is_there()
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            if joined.done():
                joined.result()
            reason = await ended
        finally:
            joined.cancel()  # what becomes of an onJoin whose session is over is nobody's business
            self._close(connection)
        if reason not in _NORMAL:
            raise Gone(reason)

    def _make_session(self) -> Any:
        types = importlib.import_module("autobahn.wamp.types")
        found, kind = self._found, self._kind
        realm = self._plan["realm"]
        settings = self._instance.settings
        if kind == SESSION:
            return found(types.ComponentConfig(realm=realm, extra=settings))
        if kind == COMPONENT:
            extra = settings or found._extra  # noqa: SLF001 -- there is no other way to it
            session = found.session_factory(types.ComponentConfig(realm=realm, extra=extra))
            self._sign_in_as(session, found._authentication)  # noqa: SLF001 -- likewise
            session._parent = found  # noqa: SLF001 -- what it registered is hooked up by this
            found._session = session  # noqa: SLF001 -- likewise
            if found._entry is not None:  # noqa: SLF001 -- likewise
                session.on("join", lambda session, _: self._main(session, found._entry))  # noqa: SLF001
            return session
        flavour = "twisted" if self._is_twisted else "asyncio"
        cls = importlib.import_module(f"autobahn.{flavour}.wamp").ApplicationSession
        session = cls(types.ComponentConfig(realm=realm, extra=settings))
        if found.__code__.co_varnames[0] == "reactor":
            session.on("join", lambda session, _: self._main(session, found))
        else:
            session.on("join", found)
        return session

    def _main(self, session: Any, function: Any) -> None:
        """Run a main function beside the session, and leave when it has ended."""
        running = self._txaio.as_future(function, self._reactor(), session)

        def ended(_: Any) -> None:
            if session.is_attached():
                session.leave()

        def failed(failure: Any) -> None:
            self._life.crash(self._instance.name, failure.value)

        self._txaio.add_callbacks(running, ended, failed)

    def _reactor(self) -> Any:
        if self._is_twisted:
            return importlib.import_module("twisted.internet").reactor
        return self._loop

    def _dress(
        self,
        session: Any,
        welcome: "asyncio.Future[None]",
        joined: "asyncio.Future[None]",
        ended: "asyncio.Future[str]",
    ) -> None:
        """Put our ears and the configured sign-in onto a session object; its class stays as it is."""
        auth = dict(self._plan["auth"])
        method = auth.pop("method", None)
        plain_join, plain_on_join, plain_error = session.join, session.onJoin, session.onUserError

        def join(realm: Any = None, authmethods: Any = None, authid: Any = None, authrole: Any = None, *args: Any, **kwargs: Any) -> Any:  # fmt: skip
            if (
                authmethods is None
                and method is not None
                and not getattr(session, "_authenticators", None)
            ):
                authmethods = [method]
            return plain_join(
                realm or self._plan["realm"], authmethods, authid or auth.get("authid") or self._instance.name,
                authrole or self._plan["role"], *args, **kwargs,
            )  # fmt: skip

        def on_join(details: Any) -> Any:
            _settle(welcome)
            running = self._txaio.as_future(plain_on_join, details)
            self._txaio.add_callbacks(running, lambda _: _settle(joined), lambda f: self._failed_to_join(joined, f.value))  # fmt: skip
            return running

        def on_user_error(failure: Any, says: str) -> Any:
            if says.startswith("While notifying 'join'"):
                self._failed_to_join(joined, failure.value)
            else:
                self._tell_error(says, failure.value)
            return plain_error(failure, says)

        def on_leave(_: Any, details: Any) -> None:
            text = f": {details.message}" if details.message else ""
            if not ended.done():
                is_normal = details.reason in _NORMAL
                ended.set_result(details.reason if is_normal else f"{details.reason}{text}")

        def on_disconnect(*_: Any, **__: Any) -> None:
            if not ended.done():
                ended.set_result("the connection was lost")

        session.join, session.onJoin, session.onUserError = join, on_join, on_user_error
        session.on("leave", on_leave)
        session.on("disconnect", on_disconnect)
        if method is not None:
            self._answer_challenges(session, method, auth)

    def _failed_to_join(self, joined: "asyncio.Future[None]", error: BaseException) -> None:
        exceptions = importlib.import_module("autobahn.wamp.exception")
        if isinstance(error, exceptions.ApplicationError | exceptions.TransportLost):
            error = Gone(one_line(error))
        if not joined.done():
            joined.set_exception(error)

    def _answer_challenges(self, session: Any, method: str, auth: "dict[str, Any]") -> None:
        base = importlib.import_module("autobahn.wamp.protocol").ApplicationSession
        has_own = getattr(type(session), "onChallenge", None) is not base.onChallenge
        if not has_own:
            if "private_key" in auth:
                auth["privkey"] = auth.pop("private_key")  # its name there
            make = importlib.import_module("autobahn.wamp.auth").create_authenticator
            authenticator = make(method, **auth)
            session.onChallenge = lambda challenge: authenticator.on_challenge(session, challenge)

    def _sign_in_as(self, session: Any, authentication: "dict[str, Any]") -> None:
        make = importlib.import_module("autobahn.wamp.auth").create_authenticator
        for method, given in authentication.items():
            is_made = not isinstance(given, dict)
            session.add_authenticator(given if is_made else make(method, **given))

    # -- connecting ------------------------------------------------------------------------------

    async def _connect(self, url: str, make_session: Any) -> Any:
        """Open the transport and put a session on it; returns what is to be closed."""
        scheme, _, rest = url.partition(":")
        flavour = "twisted" if self._is_twisted else "asyncio"
        if scheme in ("ws", "wss"):
            module = importlib.import_module(f"autobahn.{flavour}.websocket")
            factory = module.WampWebSocketClientFactory(make_session, url=url)
            factory.setProtocolOptions(openHandshakeTimeout=JOIN_S)
            end = "onClose"
        else:
            module = importlib.import_module(f"autobahn.{flavour}.rawsocket")
            factory = module.WampRawSocketClientFactory(
                make_session, serializer=_serializer(self._refusals)
            )
            end = "connectionLost" if self._is_twisted else "connection_lost"
        self._listen_for_end(factory, end)
        if scheme == "unix":
            if self._is_twisted:
                return await self._endpoint("UNIXClientEndpoint", rest, factory=factory)
            transport, _ = await self._loop.create_unix_connection(factory, rest)
            return transport
        parts = urlsplit(url)
        is_tls = scheme in ("wss", "rss")
        host, port = parts.hostname or "127.0.0.1", parts.port or (443 if is_tls else 80)
        if not self._is_twisted:
            transport, _ = await self._loop.create_connection(
                factory, host, port, ssl=is_tls or None
            )
            return transport
        if is_tls:
            options = importlib.import_module("twisted.internet.ssl").optionsForClientTLS(host)
            return await self._endpoint("SSL4ClientEndpoint", host, port, options, factory=factory)
        return await self._endpoint("TCP4ClientEndpoint", host, port, factory=factory)

    def _listen_for_end(self, factory: Any, name: str) -> None:
        """Hear of a connection that ends before there is a session: of that Autobahn tells nobody."""
        cls = factory.protocol
        plain = getattr(cls, name)
        ended = self._ended

        def heard(protocol: Any, *args: Any) -> None:
            plain(protocol, *args)
            if not self._has_begun and ended is not None and not ended.done():
                self._refusals += 1
                says = args[2] if name == "onClose" else None
                ended.set_result(str(says or "the router closed the connection before a session"))

        factory.protocol = type(cls.__name__, (cls,), {name: heard})

    async def _endpoint(self, kind: str, *where: Any, factory: Any) -> Any:
        endpoints = importlib.import_module("twisted.internet.endpoints")
        endpoint = getattr(endpoints, kind)(self._reactor(), *where)
        try:
            protocol = await endpoint.connect(factory).asFuture(self._loop)
        except importlib.import_module("twisted.internet.error").ConnectError as error:
            raise Gone(str(error)) from None
        return protocol.transport

    def _close(self, transport: Any) -> None:
        if self._is_twisted:
            transport.loseConnection()
        else:
            transport.close()

    # -- telling ---------------------------------------------------------------------------------

    def _is_there(self) -> None:
        self._ready.set()
        self._trouble = ""
        if self._has_told:
            self._has_told = False
            self._instance.log.info("joined the realm", realm=self._plan["realm"])
            progress("joined the realm")

    def _tell_waiting(self, says: str) -> None:
        self._trouble = says
        if not self._has_told and not self._has_left:
            self._has_told = True
            self._instance.log.warning("waits for a router", realm=self._plan["realm"], says=says)
            progress(f"waits for a router: {says}")

    def _tell_error(self, says: str, error: BaseException) -> None:
        write_text(2, report(self._instance.name, error, f"had an error ({says})"))

    # -- what the host asks ----------------------------------------------------------------------

    def offer(self, app: Component) -> None:
        """Do nothing: the session registers by itself."""

    async def wait(self, within_s: float | None) -> bool:
        """Wait until it has joined and its ``onJoin`` has ended."""
        try:
            async with asyncio.timeout(within_s):
                await self._ready.wait()
        except TimeoutError:
            return False
        return not self._has_left

    async def drain(self, until_s: float) -> None:
        """Let the session say goodbye: its ``onLeave`` may have something to do."""
        self._has_left = True
        self._ready.set()
        session = self.session
        if session is None or not session.is_attached():
            return
        session.leave()
        if self._ended is not None:
            await asyncio.wait([self._ended], timeout=max(0.0, until_s - self._loop.time()))

    async def leave(self) -> None:
        """Do nothing: the task that held the connection has ended."""

    def describe(self) -> "dict[str, object]":
        """Return what the control socket tells."""
        session = self.session
        is_joined = session is not None and bool(session.is_attached())
        return {
            "realm": self._plan["realm"],
            "is_joined": is_joined,
            "is_offered": is_joined and self._ready.is_set(),
            "session": getattr(session, "_session_id", None),
            "running": 0,
            "says": self._trouble,
        }

    def call(self, uri: str, args: "tuple[Any, ...]", kwargs: "dict[str, Any]") -> Any:
        """Call through the session."""
        return self.session.call(uri, *args, **kwargs)

    def call_sync(self, uri: str, args: "tuple[Any, ...]", kwargs: "dict[str, Any]") -> Any:
        """Refuse: Autobahn has nothing of this kind."""
        says = f"call_sync({uri!r}, {args}, {kwargs}): an Autobahn session has no such call"
        raise RuntimeError(says)

    def publish(self, uri: str, args: "tuple[Any, ...]", kwargs: "dict[str, Any]") -> Any:
        """Publish through the session."""
        return self.session.publish(uri, *args, **kwargs)


def _settle(future: "asyncio.Future[None]") -> None:
    if not future.done():
        future.set_result(None)


def _serializer(refusals: int) -> Any:
    """Return MessagePack, and one after the other of those for which Autobahn found a library: a RawSocket offers only one."""
    known = importlib.import_module("autobahn.wamp.serializer")
    names = ("MsgPackSerializer", "CBORSerializer", "JsonSerializer")
    classes = [getattr(known, name) for name in names if hasattr(known, name)]
    return classes[refusals % len(classes)]()
