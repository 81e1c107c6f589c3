"""Requests that do not end: the finding names the line where they wait, the pool, and who has its connections."""

from typing import Any

from holdfast.diagnosis import culprit
from holdfast.diagnosis.findings import Facts

APP = "/srv/shop"
GET_USER = f"{APP}/db.py:41 in get_user"
EXPORT = f"{APP}/report.py:17 in export"
POOL = "/srv/venv/lib/python3.11/site-packages/sqlalchemy/pool/impl.py"
QUEUE_POOL = "sqlalchemy.pool.impl.QueuePool, size 5"


def findings(
    waiting: list[list[Any]], holding: list[list[Any]], in_flight: int
) -> list[dict[str, Any]]:
    facts = Facts({"kind": "stalled", "live": True}, {"directory": APP})
    facts.owners = {POOL: ("SQLAlchemy", "2.0.30")}
    facts.sites = {"waiting": waiting, "holding": holding}
    facts.pulse = {"in_flight": in_flight}
    return culprit.findings(facts, "stalled", [], None)


def test_an_exhausted_pool_names_who_has_its_connections() -> None:
    """Thirty requests wait at an innocent line; the fault is in a report that forgot to close."""
    waiting = [[31, 12.0, GET_USER, QUEUE_POOL, [f"{POOL}:145 in QueuePool._do_get", GET_USER]]]
    holding = [[5, EXPORT, "taken there, and not given back"]]

    (found,) = findings(waiting, holding, in_flight=32)

    assert "31 of 32 requests wait in get_user (db.py:41)" in found["says"]
    assert f"a connection of a pool ({QUEUE_POOL})" in found["says"]
    assert "5 were taken in export (report.py:17)" in found["says"]
    assert found["where"] == EXPORT
    assert found["confidence"] == "likely"


def test_a_pool_whose_holders_nobody_can_see_names_the_pool() -> None:
    waiting = [[8, 4.0, GET_USER, QUEUE_POOL, [f"{POOL}:145 in QueuePool._do_get", GET_USER]]]

    (found,) = findings(waiting, [], in_flight=8)

    assert found["package"] == "SQLAlchemy"
    assert "Who has them is not known" in found["says"]


def test_requests_that_wait_for_another_server_are_not_blamed_on_a_pool() -> None:
    driver = "/srv/venv/lib/python3.11/site-packages/httpx/_client.py"
    waiting = [[12, 6.0, GET_USER, "", [f"{driver}:100 in AsyncClient.send", GET_USER]]]

    (found,) = findings(waiting, [], in_flight=12)

    assert "pool" not in found["says"]
    assert "does not answer" in found["says"]
    assert found["package"] == "httpx"


def test_the_server_that_called_the_program_is_not_what_it_waits_for() -> None:
    """Behind uvicorn every request has its middleware further out; the line that waits asks nobody but itself."""
    middleware = "/srv/venv/lib/python3.11/site-packages/uvicorn/middleware/proxy_headers.py"
    frames = ["asyncio/locks.py:387 in Semaphore.acquire", GET_USER, f"{middleware}:63 in ProxyHeadersMiddleware.__call__"]  # fmt: skip
    facts = Facts({"kind": "stalled", "live": True}, {"directory": APP})
    facts.owners = {middleware: ("uvicorn", "0.54.0")}
    facts.sites = {"waiting": [[7, 2.0, GET_USER, "", frames]]}
    facts.pulse = {"in_flight": 7}

    (found,) = culprit.findings(facts, "stalled", [], None)

    assert found["where"] == GET_USER
    assert "uvicorn" not in found["says"]


def test_who_waits_for_himself_is_told_so() -> None:
    """Each request has one connection and asks for a second one."""
    waiting = [[15, 6.0, GET_USER, QUEUE_POOL, [f"{POOL}:145 in QueuePool._do_get", GET_USER]]]

    (found,) = findings(waiting, [[15, GET_USER, "Session"]], in_flight=15)

    assert "stand at the same line" in found["says"]


def test_tasks_that_are_no_requests_wait_for_a_semaphore() -> None:
    semaphore = "asyncio.locks.Semaphore, size 4"
    waiting = [[40, 30.0, GET_USER, semaphore, [GET_USER]]]

    (found,) = findings(waiting, [[4, EXPORT, "inside its `with`"]], in_flight=0)

    assert "40 tasks or threads wait" in found["says"]
    assert "its turn at a semaphore" in found["says"]
    assert "4 of those that have one are in export" in found["says"]


def test_where_nobody_waits_nothing_is_said() -> None:
    assert findings([], [], in_flight=3) == []


def test_an_executor_without_a_thread_left_names_the_line_that_keeps_its_threads() -> None:
    """asgiref issue 348: a view waits in a thread for a job that needs that very thread."""
    bridge = "/srv/venv/lib/python3.11/site-packages/asgiref/sync.py"
    middleware = f"{APP}/run.py:38 in middleware"
    executor = "concurrent.futures.ThreadPoolExecutor"
    waiting = [[12, 21.0, middleware, executor, [f"{bridge}:206 in AsyncToSync.__call__", middleware]]]  # fmt: skip

    (found,) = findings(waiting, [], in_flight=12)

    assert (found["package"], found["function"]) == ("asgiref", "middleware")
    assert "a job of the same executor" in found["says"]
