"""What people serve with: counted by route without a line of theirs. Each is passed over where it is not installed."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import pytest

from agent.test_agent import Program

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


#: Asks a server in the same program, from a thread, and says so.
ASK = """
import threading, time, urllib.request, urllib.error
def ask(port):
    for path in ("/items/1", "/items/2", "/nothing"):
        until = time.monotonic() + 20
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}{path}").read()
            except urllib.error.HTTPError:
                pass
            except OSError:
                if time.monotonic() > until: raise
                time.sleep(0.02)
                continue
            break
    print("asked", flush=True)
def free_port():
    import socket
    with socket.create_server(("127.0.0.1", 0)) as found:
        return found.getsockname()[1]
port = free_port()
threading.Thread(target=ask, args=(port,), daemon=True).start()
"""

RAW_ASGI = """
async def app(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"x"})
"""

PROGRAMS = {
    "uvicorn": (
        ["uvicorn"],
        RAW_ASGI + "import uvicorn; uvicorn.run(app, port=port, log_level='error', lifespan='off')",
        {"GET /items/{}": 2, "GET /nothing": 1},
    ),
    "fastapi": (
        ["uvicorn", "fastapi"],
        """
import uvicorn, fastapi
app = fastapi.FastAPI()
@app.get("/items/{item}")
async def item(item: int): return item
uvicorn.run(app, port=port, log_level="error")
""",
        {"GET /items/{item}": 2, "GET /nothing": 1},
    ),
    "uvloop": (
        ["uvicorn", "uvloop"],
        RAW_ASGI + "import uvicorn; uvicorn.run(app, port=port, log_level='error', lifespan='off', loop='uvloop')",
        {"GET /items/{}": 2, "GET /nothing": 1},
    ),
    "hypercorn": (
        ["hypercorn"],
        RAW_ASGI
        + """
import asyncio
from hypercorn.asyncio import serve
from hypercorn.config import Config
config = Config()
config.bind, config.errorlog = [f"127.0.0.1:{port}"], None
asyncio.run(serve(app, config, shutdown_trigger=asyncio.Event().wait))
""",
        {"GET /items/{}": 2, "GET /nothing": 1},
    ),
    "aiohttp": (
        ["aiohttp"],
        """
from aiohttp import web
async def item(request): return web.Response(text="x")
app = web.Application()
app.router.add_get("/items/{item}", item)
web.run_app(app, host="127.0.0.1", port=port, print=None)
""",
        {"GET /items/{item}": 2, "GET (no route)": 1},
    ),
    "tornado": (
        ["tornado"],
        """
import asyncio, tornado.web
class Item(tornado.web.RequestHandler):
    def get(self, item): self.write("x")
async def main():
    tornado.web.Application([("/items/(.*)", Item)], log_function=lambda handler: None).listen(port, "127.0.0.1")
    await asyncio.Event().wait()
asyncio.run(main())
""",
        {"GET Item": 2, "GET ErrorHandler": 1},
    ),
    "flask": (
        ["flask"],
        """
import flask
app = flask.Flask("program")
@app.get("/items/<item>")
def item(item): return "x"
import logging; logging.getLogger("werkzeug").disabled = True
app.run(port=port)
""",
        {"GET /items/{}": 2, "GET /nothing": 1},
    ),
    "waitress": (
        ["waitress", "flask"],
        """
import flask, waitress
app = flask.Flask("program")
@app.get("/items/<item>")
def item(item): return "x"
waitress.serve(app, host="127.0.0.1", port=port, _quiet=True)
""",
        {"GET /items/{}": 2, "GET /nothing": 1},
    ),
}  # fmt: skip


@pytest.fixture
def program(tmp_path: Path) -> Iterator[Program]:
    made = Program(tmp_path)
    yield made
    made.close()


@pytest.mark.parametrize("name", PROGRAMS)
def test_requests_are_counted_by_route(program: Program, name: str) -> None:
    needs, text, expected = PROGRAMS[name]
    if missing := [module for module in needs if find_spec(module) is None]:
        pytest.skip(f"not installed: {', '.join(missing)}")
    program.start(ASK + text)

    def all_of_it(beat: Any) -> Any:
        return beat if beat.work_done >= 3 else None

    beat = program.wait(all_of_it, "three requests", 40)

    assert {route[0]: route[1] for route in beat.routes} == expected
    assert all(latency_ns > 0 for _, _, latency_ns, _ in beat.routes)
    assert beat.in_flight == 0


@pytest.mark.skipif(find_spec("uvloop") is None, reason="not installed: uvloop")
def test_tasks_of_uvloop_are_counted_and_its_loop_beats(program: Program) -> None:
    program.start("""
        import asyncio, uvloop
        def fan_out():
            for _ in range(2000): asyncio.ensure_future(asyncio.sleep(60))
        async def main():
            fan_out()
            while True: await asyncio.sleep(0.01)
        uvloop.run(main())
    """)

    def named(beat: Any) -> Any:
        made = beat.sites.get("tasks")
        return made[0] if made and made[0][0] == 2000 and beat.tasks > 2000 else None

    assert program.wait(named, "the bomb")[2].endswith("program.py:4 in fan_out")


@pytest.mark.skipif(find_spec("gevent") is None, reason="not installed: gevent")
def test_greenlets_are_counted_where_they_are_spawned(program: Program) -> None:
    program.start("""
        from gevent import monkey; monkey.patch_all()
        import gevent
        def fan_out():
            return [gevent.spawn(gevent.sleep, 60) for _ in range(2000)]
        kept = fan_out()
        gevent.sleep(60)
    """)

    beat = program.wait(
        lambda b: b if b.greenlets >= 2000 and b.sites.get("greenlets") else None, "greenlets"
    )

    count, live, where, _ = beat.sites["greenlets"][0]
    assert count == live == 2000
    assert "in fan_out" in where
    assert where.rpartition("/")[2].startswith("program.py:5")
