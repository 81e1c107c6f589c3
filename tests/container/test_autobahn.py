"""Components written for Autobahn|Python run unchanged: classes, component objects, functions; asyncio and Twisted."""

import importlib.util
import socket
import threading

import pytest

from container.conftest import Router
from container.hosting import Container, wait_for
from container.test_bus import call, on_bus
from holdfast.bus.errors import NoSuchProcedure

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("autobahn") is None, reason="autobahn is not installed"
)

SESSION = """
from autobahn.FLAVOUR.wamp import ApplicationSession

class Calc(ApplicationSession):
    async def onJoin(self, details):
        print("joined", self.config.realm, self.config.extra, details.authid)
        self.pings = 0
        await self.register(self.add, "calc.add")
        await self.register(self.fails, "calc.fails")
        await self.subscribe(self.ping, "calc.ping")

    def add(self, a, b):
        return a + b

    def fails(self):
        raise ValueError("no such card")

    def ping(self):
        print("pinged")

    def onLeave(self, details):
        print("left", details.reason)
        super().onLeave(details)
"""

COMPONENT = """
from autobahn.asyncio.component import Component
calc = Component(transports="ws://127.0.0.1:1/", realm="elsewhere")

@calc.register("calc.add")
async def add(a, b):
    return a + b

@calc.on_join
def joined(session, details):
    print("joined", details.realm)
"""

FUNCTION = """
async def main(reactor, session):
    await session.register(lambda a, b: a + b, "calc.add")
    await asyncio.Event().wait()

async def joined(session, details):
    await session.register(lambda a, b: a + b, "calc.add")
"""


def test_a_session_class_lives_and_comes_back(container: Container, router: Router) -> None:
    """What Crossbar.io's containers host; a new session object for each connection."""
    router.start()
    container.urls = [router.url]
    container.write("calc.py", SESSION.replace("FLAVOUR", "asyncio"))
    container.host("calc", "calc:Calc", limit=7)
    container.start_ready()
    assert call(router, "calc.add", 2, 3) == 5
    assert "joined realm1 {'limit': 7} " in container.stdout()

    router.kill()
    wait_for(lambda: "waits for a router" in container.stdout(), "the word about the router")
    router.start()

    wait_for(lambda: container.stdout().count("joined realm1") == 2, "the second session")
    wait_for(
        lambda: container.ask(do="components")["components"][0]["bus"]["is_offered"], "registering"
    )
    assert call(router, "calc.add", 2, 3) == 5
    assert "ValueError" not in container.stderr()


def test_an_exception_in_a_procedure_is_told_and_nobodys_crash(
    container: Container, router: Router
) -> None:
    router.start()
    container.urls = [router.url]
    container.write("calc.py", SESSION.replace("FLAVOUR", "asyncio"))
    container.host("calc", "calc:Calc")
    container.start_ready()

    with pytest.raises(Exception, match="no such card"):
        call(router, "calc.fails")

    wait_for(lambda: "ValueError: no such card" in container.stderr(), "the traceback in the log")
    assert call(router, "calc.add", 2, 3) == 5


def test_a_component_object_gets_the_configured_realm(container: Container, router: Router) -> None:
    """Its own URL and realm are those of the author's desk."""
    router.start()
    container.urls = [router.url]
    container.write("calc.py", COMPONENT)
    container.host("calc", "calc:calc")
    container.start_ready()

    assert call(router, "calc.add", 2, 3) == 5
    assert "joined realm1" in container.stdout()


@pytest.mark.parametrize("name", ["main", "joined"])
def test_a_function_gets_the_session(container: Container, router: Router, name: str) -> None:
    """Autobahn's main functions, and Crossbar.io's components of type `function`."""
    router.start()
    container.urls = [router.url]
    container.write("calc.py", FUNCTION)
    container.host("calc", f"calc:{name}")
    container.start_ready()

    def has_registered() -> bool:
        try:
            return bool(call(router, "calc.add", 2, 3) == 5)
        except NoSuchProcedure:
            return False

    wait_for(has_registered, "the function to register")


def test_an_exception_in_on_join_is_a_crash(container: Container, router: Router) -> None:
    """A component that could not start serves nobody: better a restart that is seen."""
    router.start()
    container.urls = [router.url]
    container.write(
        "calc.py",
        SESSION.replace("FLAVOUR", "asyncio").replace(
            "self.pings = 0", "raise LookupError('no table')"
        ),
    )
    container.host("calc", "calc:Calc")
    container.start()

    assert container.wait_exit() == 70
    assert 'component "calc" crashed: LookupError: no table' in container.stderr()


@pytest.mark.parametrize("flavour", ["asyncio", "twisted"])
def test_an_exception_in_the_constructor_is_a_crash(
    container: Container, router: Router, flavour: str
) -> None:
    """Autobahn prints it and hangs up, again and again: it looked as if the router did not answer."""
    if flavour == "twisted":
        pytest.importorskip("twisted.python")
    router.start()
    container.urls = [router.url]
    code = f"""
from autobahn.{flavour}.wamp import ApplicationSession

class Calc(ApplicationSession):
    def __init__(self, config):
        raise LookupError("no table")
"""
    container.write("calc.py", code)
    container.host("calc", "calc:Calc")
    container.start()

    assert container.wait_exit() == 70
    assert 'component "calc" crashed: LookupError: no table' in container.stderr()


def test_a_session_may_stay_in_on_join(container: Container, router: Router) -> None:
    """Crossbar.io's first example does: it publishes every second, for ever. An exception in it is still a crash."""
    router.start()
    container.urls = [router.url]
    code = SESSION.replace("FLAVOUR", "asyncio").replace('print("pinged")', "self.told.set()")
    stay = """
        self.told = asyncio.Event()
        await self.told.wait()
        raise LookupError("no table")

    def add("""
    container.write("calc.py", code.replace("\n    def add(", stay))
    container.host("calc", "calc:Calc")
    container.start_ready()
    assert call(router, "calc.add", 2, 3) == 5

    on_bus(router, lambda bus: bus.publish("calc.ping", acknowledge=True))

    assert container.wait_exit() == 70
    assert container.stdout().count("joined realm1") == 1
    assert 'component "calc" crashed: LookupError: no table' in container.stderr()


def test_a_server_that_is_no_router_is_named_at_once(container: Container) -> None:
    """A wrong path in the URL is answered with 404; Autobahn tells that to its log alone."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            while True:
                try:
                    client, _ = server.accept()
                except OSError:
                    return
                with client:
                    client.recv(4096)
                    client.sendall(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")

        threading.Thread(target=answer, daemon=True).start()
        container.urls = [f"ws://127.0.0.1:{server.getsockname()[1]}/nowhere"]
        container.write("calc.py", SESSION.replace("FLAVOUR", "asyncio"))
        container.host("calc", "calc:Calc")
        container.start()

        wait_for(lambda: "waits for a router" in container.stdout(), "the word about the router")
        assert "404" in container.stdout()


def test_stop_and_restart_say_goodbye_and_take_new_code(
    container: Container, router: Router
) -> None:
    router.start()
    container.urls = [router.url]
    code = SESSION.replace("FLAVOUR", "asyncio")
    container.write("calc.py", code)
    container.host("calc", "calc:Calc")
    container.start_ready()

    container.write("calc.py", code.replace("a + b", "a * b"))
    answer = container.ask(do="restart", component="calc")

    assert answer["ok"], answer
    assert "left wamp.close" in container.stdout()
    assert call(router, "calc.add", 2, 3) == 6
    assert container.ask(do="stop", component="calc")["ok"]
    with pytest.raises(Exception, match="no_such_procedure"):
        call(router, "calc.add", 2, 3)


def test_a_twisted_session_runs_on_the_containers_loop(
    container: Container, router: Router
) -> None:
    """Most components of Crossbar.io are Twisted's; one reactor, on the loop whose beat is watched."""
    pytest.importorskip("twisted.python")  # "twisted" alone may be a namespace of plugins
    router.start()
    container.urls = [router.url]
    container.write(
        "calc.py",
        SESSION.replace("FLAVOUR", "twisted")
        + """
        from twisted.internet import reactor
        print("reactor", type(reactor).__name__, reactor.running)
        reactor.callLater(0.01, print, "called later")
""".replace("        ", ""),
    )
    container.host("calc", "calc:Calc")
    container.start_ready()

    assert call(router, "calc.add", 2, 3) == 5
    assert "reactor AsyncioSelectorReactor True" in container.stdout()
    wait_for(lambda: "called later" in container.stdout(), "the reactor's timer")


def test_without_a_router_in_the_node_it_is_refused(container: Container) -> None:
    container.write("calc.py", SESSION.replace("FLAVOUR", "asyncio"))
    container.host("calc", "calc:Calc")
    container.start()

    assert container.wait_exit() == 78
    assert 'component "calc": it is on the bus (Autobahn session)' in container.stderr()
