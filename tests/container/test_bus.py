"""Components of a real container process on the bus of a real router process."""

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from container.conftest import Router
from container.hosting import SLOWNESS, Container, wait_for
from holdfast.bus.connect import Connection, connect
from holdfast.bus.errors import NoSuchProcedure

CALC = """
from holdfast.sdk import Component
app = Component()
VERSION = 1

@app.procedure()
async def add(a: int, b: int) -> int:
    app.count("additions")
    return a + b

@app.procedure("calc.version")
def version():
    return VERSION, os.getpid(), threading.current_thread().name

@app.procedure("calc.slow")
async def slow(seconds: float):
    await asyncio.sleep(seconds)
    return "done"
"""


def on_bus(router: Router, use: Callable[[Connection], Awaitable[Any]]) -> Any:
    """Run ``use(connection)`` on a connection of its own."""

    async def run() -> Any:
        async with asyncio.timeout(30 * SLOWNESS), connect(router.url, "realm1") as bus:
            return await use(bus)

    return asyncio.run(run())


def call(router: Router, uri: str, *args: object) -> Any:
    return on_bus(router, lambda bus: bus.call(uri, *args))


def test_it_is_ready_when_its_procedures_can_be_called(
    container: Container, router: Router
) -> None:
    """Whoever waits for `ready` calls next: a "no such procedure" then is our fault."""
    router.start()
    container.urls = [router.url]
    container.write("calc.py", CALC)
    container.host("calc", "calc:app")
    container.start_ready()

    assert call(router, "calc.add", 2, 3) == 5
    version, pid, thread = call(router, "calc.version")
    assert (version, pid, thread) == (1, container.process.pid, "calc")
    assert container.ask(do="metrics")["metrics"]["calc"]["counts"] == {"additions": 1}
    told = container.ask(do="components")["components"][0]
    assert told["bus"]["is_offered"] is True
    assert told["work_done"] == 2


def test_without_a_router_it_waits_says_so_once_and_comes_by_itself(
    container: Container, router: Router
) -> None:
    """With Crossbar.io a container that was faster than the router took the whole node down."""
    container.urls = [router.url]
    container.write("calc.py", CALC)
    container.write("lone.py", "from holdfast.sdk import Component\napp = Component()\napp.on_start(lambda: print('lone runs'))\n")  # fmt: skip
    container.host("calc", "calc:app")
    container.host("lone", "lone:app")
    container.start()
    wait_for(lambda: "waits for a router" in container.stdout(), "the word about the router")
    wait_for(lambda: "lone runs" in container.stdout(), "the neighbour")
    pulse = container.pulse()
    assert pulse is not None
    assert pulse.ready == 0

    router.start()
    container.wait_ready()

    assert call(router, "calc.add", 2, 3) == 5
    assert container.stdout().count("waits for a router") == 1
    assert any("waits for a router" in event for event in container.events())


def test_a_killed_router_costs_nothing_but_the_time_it_is_away(
    container: Container, router: Router
) -> None:
    """Crossbar.io's containers never came back from this."""
    router.start()
    container.urls = [router.url]
    container.write("calc.py", CALC)
    container.host("calc", "calc:app")
    container.start_ready()
    _, pid, _ = call(router, "calc.version")

    router.kill()
    router.start()

    def callable_again() -> bool:
        try:
            return bool(call(router, "calc.version")[1] == pid)
        except NoSuchProcedure:
            return False

    wait_for(callable_again, "the same process to be callable again")
    assert container.process.poll() is None


def test_restart_of_one_component_takes_new_code_and_leaves_the_others_sessions(
    container: Container, router: Router
) -> None:
    router.start()
    container.urls = [router.url]
    container.write("calc.py", CALC)
    container.write("other.py", CALC.replace('"calc.', '"other.'))
    container.host("calc", "calc:app")
    container.host("other", "other:app")
    container.start_ready()
    before = {c["name"]: c["bus"]["session"] for c in container.ask(do="components")["components"]}

    container.write("calc.py", CALC.replace("VERSION = 1", "VERSION = 2"))
    answer = container.ask(do="restart", component="calc")

    assert answer["ok"], answer
    assert call(router, "calc.version")[0] == 2
    assert call(router, "other.version")[0] == 1
    after = {c["name"]: c["bus"]["session"] for c in container.ask(do="components")["components"]}
    assert after["other"] == before["other"]
    assert after["calc"] != before["calc"]


def test_a_stop_finishes_what_runs_for_a_caller(container: Container, router: Router) -> None:
    """A planned restart is no reason for anybody to see an error."""
    router.start()
    container.urls = [router.url]
    container.write("calc.py", CALC)
    container.host("calc", "calc:app")
    container.start_ready()

    async def use(bus: Connection) -> Any:
        running = asyncio.ensure_future(bus.call("calc.slow", 0.3))
        await asyncio.to_thread(wait_for, lambda: _in_flight(container), "the call to begin")
        container.process.send_signal(signal.SIGTERM)
        return await running

    assert on_bus(router, use) == "done"
    assert container.wait_exit() == 0


def _in_flight(container: Container) -> int:
    found: int = container.ask(do="components")["components"][0]["in_flight"]
    return found


def test_procedures_on_a_node_without_a_router_are_refused_in_one_line(
    container: Container,
) -> None:
    container.write("calc.py", CALC)
    container.host("calc", "calc:app")
    container.start()

    assert container.wait_exit() == 78
    assert container.stderr().count("\n") == 1
    assert 'component "calc": it is on the bus (procedure "calc.add" and 2 more)' in container.stderr()  # fmt: skip


def test_settings_that_do_not_fit_are_refused_by_their_key(container: Container) -> None:
    container.write(
        "desk.py",
        "from dataclasses import dataclass\nfrom holdfast.sdk import Component\n"
        "@dataclass\nclass Settings:\n    limit: int = 3\napp = Component(settings=Settings)\n",
    )
    container.host("desk", "desk:app", limit="many")
    container.start()

    assert container.wait_exit() == 78
    assert container.stderr() == 'holdfast: component "desk": component.desk.settings.limit: expected int, got str\n'  # fmt: skip


def test_a_spare_has_imported_what_the_bus_needs_before_it_is_wanted(
    container: Container, router: Router
) -> None:
    """Fifty milliseconds of imports after the death of the other one would be most of its absence."""
    router.start()
    container.urls = [router.url]
    container.write("calc.py", CALC)
    container.host("calc", "calc:app")
    go, give = os.pipe()
    try:
        container.start(1, (go,), HOLDFAST_GO=str(go), HOLDFAST_ROLE="spare")
        wait_for(
            lambda: (p := container.pulse(".spare")) and p.note == "spare", "the spare to wait"
        )
        assert "msgspec" in Path(f"/proc/{container.process.pid}/maps").read_text()
        with pytest.raises(NoSuchProcedure):
            call(router, "calc.add", 2, 3)

        os.write(give, b"g")
        container.wait_ready()

        assert call(router, "calc.add", 2, 3) == 5
    finally:
        os.close(go)
        os.close(give)


def test_who_does_not_need_the_bus_does_not_pay_for_it(
    container: Container, router: Router
) -> None:
    """A node with a router offers it to all; a component that only computes has no use for six megabytes."""
    container.urls = [router.url]
    container.write("calc.py", "from holdfast.sdk import Component\napp = Component()\n")
    container.host("calc", "calc:app")
    container.start_ready()

    assert "msgspec" not in Path(f"/proc/{container.process.pid}/maps").read_text()
