"""Keys of a router that bound what it costs, and of services that run somebody's program: what they become in the plan."""

from typing import Any

import pytest

from config.desk import Desk

ROUTER = '[worker.bus]\nkind = "router"\n'
PORT = '[[worker.bus.transport]]\nlisten = "tcp://127.0.0.1:8080"\n'


def router(desk: Desk, text: str) -> dict[str, Any]:
    found: Any = desk.workers(ROUTER + text)["bus"].get("router")
    assert found is not None
    return dict(found)


def options(desk: Desk, path: str) -> dict[str, Any]:
    (transport, _) = router(desk, f"{PORT}{path}\n")["transports"]
    found: dict[str, Any] = transport["paths"]["x"]["options"]
    return found


def test_bounds_have_defaults_and_can_be_set(desk: Desk) -> None:
    limits = router(desk, "")["limits"]
    assert (limits["connections_http"], limits["queue_bytes_total"]) == (1024, 256 << 20)

    limits = router(desk, 'limits = { http = 7, queue_total = "64M" }\n')["limits"]
    assert (limits["connections_http"], limits["queue_bytes_total"]) == (7, 64 << 20)


def test_an_asgi_application_may_run_on_the_routers_loop(desk: Desk) -> None:
    given = 'paths.x = { kind = "resource", classname = "shop.web:app"'
    assert options(desk, f"{given} }}")["on_loop"] is False
    assert options(desk, f"{given}, on_loop = true }}")["on_loop"] is True


def test_cgi_programs_are_bounded(desk: Desk) -> None:
    (desk.directory / "bin").mkdir()
    given = 'paths.x = { kind = "cgi", processor = "/bin/sh", directory = "bin"'

    found = options(desk, f"{given} }}")
    assert (found["timeout_s"], found["max_processes"]) == (30.0, 16)
    assert "memory_bytes" not in found

    found = options(desk, f'{given}, timeout = "5s", memory_max = "64M", max_processes = 2 }}')
    assert (found["timeout_s"], found["memory_bytes"], found["max_processes"]) == (5.0, 64 << 20, 2)


@pytest.mark.parametrize("given", [False, True])
def test_static_files_may_be_read_by_other_pages(desk: Desk, given: bool) -> None:
    (desk.directory / "web").mkdir()
    text = f'paths.x = {{ kind = "static", directory = "web", allow_cross_origin = {str(given).lower()} }}'
    assert options(desk, text)["allow_cross_origin"] is given
