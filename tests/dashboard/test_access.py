"""The door of the dashboard: a stranger gets nothing and changes nothing; who was let in gets what the role allows.

Behind the door stands an application that gives a secret away to whoever reaches it, and remembers every action; the server is the real one, on a socket.
"""

import asyncio
import errno
import json
import socket
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("uvicorn", reason="needs holdfast[dashboard]")

import uvicorn
from hypothesis import given
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, StreamingResponse
from starlette.routing import Route

from dashboard.hostile import HOSTILE, OURS, Hostile, ask, get, post
from holdfast.dashboard.access import Proxy, Rules, User, audit, guard, keeping, limits, passwords
from holdfast.dashboard.access.entering import Entrance
from holdfast.linux import files

SECRET = "the-inner-life-of-the-node"


class Door:
    """A server behind the door, and what reached the application."""

    def __init__(self, rules: Rules, state_dir: Path) -> None:
        self.state_dir = str(state_dir)
        self.acts: list[str] = []
        self.audit = audit.Audit(self.state_dir)
        entrance = Entrance(rules, self.state_dir, self.audit)

        async def page(_: Request) -> PlainTextResponse:
            return PlainTextResponse("a page without data")

        async def data(_: Request) -> JSONResponse:
            return JSONResponse({"data": SECRET})

        async def act(request: Request) -> JSONResponse:
            self.acts.append(request.url.path)
            return JSONResponse({"data": SECRET})

        async def stream(_: Request) -> StreamingResponse:
            async def lines() -> Any:
                while True:
                    yield f"data: {SECRET}\n\n"
                    await asyncio.sleep(0.05)

            return StreamingResponse(lines(), media_type="text/event-stream")

        routes = [
            *entrance.routes(),
            Route("/api/live", stream),
            Route("/api/{path:path}", data, methods=["GET"]),
            Route("/api/{path:path}", act, methods=["POST"]),
            Route("/", page),
        ]
        self.app = guard(Starlette(routes=routes), rules, self.state_dir)
        # uvicorn takes anybody on loopback for a proxy unless it is told not to.
        config = uvicorn.Config(
            self.app,
            proxy_headers=False,
            server_header=False,
            port=0,
            log_config=None,
            access_log=False,
            lifespan="off",
            http="h11",
            ws="none",
        )
        self.server = uvicorn.Server(config)
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.host = f"127.0.0.1:{self.socket.getsockname()[1]}"
        self.thread = threading.Thread(target=self.server.run, kwargs={"sockets": [self.socket]})
        self.thread.start()

    def stop(self) -> None:
        self.server.should_exit = self.server.force_exit = True
        self.thread.join()
        self.socket.close()

    def ask(self, data: bytes) -> tuple[int, dict[str, str], bytes]:
        return ask(self.host, data)

    def enter(self, **given: str) -> tuple[int, str]:
        """Sign in; return the status and the header that carries the session."""
        status, heads, _ = self.ask(post("/api/enter", *OURS, body=json.dumps(given)))
        return status, "Cookie: " + heads.get("set-cookie", "").partition(";")[0]

    def link(self, role: Any = "operator", for_s: float = 60.0) -> str:
        return keeping.make_link(self.state_dir, role, time.time(), for_s)


HASH = passwords.make("correct horse")
RULES = Rules(
    users={"ann": User(HASH, "operator"), "bob": User(HASH, "reader")},
    hosts=frozenset({"board.example"}),
)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    made = Door(RULES, tmp_path_factory.mktemp("state"))
    yield made
    made.stop()


@pytest.fixture
def door(tmp_path: Path) -> Iterator[Any]:
    made: list[Door] = []

    def make(rules: Rules = RULES) -> Door:
        made.append(Door(rules, tmp_path))
        return made[-1]

    yield make
    for one in made:
        one.stop()


# -- strangers -------------------------------------------------------------------------------------


@pytest.mark.parametrize("hostile", HOSTILE, ids=lambda one: one.name)
def test_a_stranger_gets_nothing_and_changes_nothing(hostile: Hostile, shared: Door) -> None:
    # Each is the first request of somebody: the limit of tries has a test of its own.
    shared.app._app.routes[0].endpoint.__self__._tries = limits.Tries(time.monotonic())  # type: ignore[attr-defined]
    status, _, body = shared.ask(hostile.data)

    assert SECRET.encode() not in body
    assert not shared.acts
    assert status in hostile.right, body


def test_the_list_of_hostile_requests_is_long_enough() -> None:
    """The issue asks for more than fifty, all different."""
    assert len({one.data for one in HOSTILE}) == len(HOSTILE) > 50


def test_one_who_sends_nothing_is_hung_up_on_by_the_body_limit(
    door: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A slow loris in the body of a sign-in: it holds nothing of ours for longer than that."""
    monkeypatch.setattr(sys.modules["holdfast.dashboard.access.guard"], "BODY_S", 0.2)
    status, heads, _ = door().ask(post("/api/enter", *OURS)[:-5])
    assert (status, heads["connection"]) == (408, "close")


def test_the_page_under_a_configured_name_is_served(shared: Door) -> None:
    assert shared.ask(get("/", host="Board.Example:443"))[0] == 200


def test_every_answer_forbids_what_a_page_of_ours_never_does(shared: Door) -> None:
    for request in (get("/"), get("/api/state"), get("/", host="evil.example")):
        _, heads, _ = shared.ask(request)
        assert "default-src 'none'" in heads["content-security-policy"]
        assert "frame-ancestors 'none'" in heads["content-security-policy"]
        assert "unsafe" not in heads["content-security-policy"]
        assert heads["x-content-type-options"] == "nosniff"
        assert heads["referrer-policy"] == "no-referrer"


# -- one-time links --------------------------------------------------------------------------------


def test_a_link_signs_in_once(door: Any) -> None:
    one = door()
    token = one.link()
    status, cookie = one.enter(token=token)
    assert status == 204
    assert one.ask(get("/api/state", cookie))[0] == 200
    assert one.enter(token=token)[0] == 401


def test_a_link_that_is_too_old_signs_nobody_in(door: Any) -> None:
    one = door()
    assert one.enter(token=one.link(for_s=-1.0))[0] == 401


def test_of_many_who_come_with_one_link_one_gets_in(door: Any) -> None:
    """Two browsers, or a mail scanner and its owner."""
    one = door()
    token, now = one.link(), time.time()
    taken: list[Any] = []
    threads = [
        threading.Thread(target=lambda: taken.append(keeping.take_link(one.state_dir, token, now)))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len([kept for kept in taken if kept]) == 1


def test_links_can_be_forbidden(door: Any) -> None:
    one = door(RULES._replace(links=False))
    assert one.enter(token=one.link())[0] == 401


# -- sessions --------------------------------------------------------------------------------------


def test_the_cookie_is_kept_from_scripts_and_from_other_pages(door: Any) -> None:
    one = door()
    _, heads, _ = one.ask(post("/api/enter", *OURS, body=json.dumps({"token": one.link()})))
    said = heads["set-cookie"]
    assert "HttpOnly" in said
    assert "samesite=strict" in said.lower()
    assert "Path=/" in said
    assert "domain" not in said.lower()


def test_with_tls_the_cookie_is_bound_to_the_host(door: Any) -> None:
    one = door(RULES._replace(is_tls=True))
    _, heads, _ = one.ask(post("/api/enter", *OURS, body=json.dumps({"token": one.link()})))
    assert heads["set-cookie"].startswith("__Host-holdfast=")
    assert "Secure" in heads["set-cookie"]


def test_a_dashboard_that_was_killed_signed_nobody_out(door: Any) -> None:
    """The files are the truth: another process with the same state directory knows the session."""
    first = door()
    _, cookie = first.enter(token=first.link())
    assert door().ask(get("/api/state", cookie))[0] == 200


def test_a_file_that_is_removed_ends_its_session_and_its_stream(door: Any) -> None:
    one = door()
    _, cookie = one.enter(token=one.link())
    seen: list[bytes] = []
    watcher = threading.Thread(target=lambda: seen.append(one.ask(get("/api/live", cookie))[2]))
    watcher.start()
    sessions = Path(one.state_dir, "dashboard", "sessions")
    for file in sessions.iterdir():
        file.unlink()
    watcher.join(20)
    assert not watcher.is_alive()
    assert one.ask(get("/api/state", cookie))[0] == 401


def test_who_leaves_is_out(door: Any) -> None:
    one = door()
    _, cookie = one.enter(token=one.link())
    assert one.ask(post("/api/leave", *OURS, cookie, body="{}"))[0] == 204
    assert one.ask(get("/api/state", cookie))[0] == 401


def test_signing_in_again_ends_the_session_before(door: Any) -> None:
    """A session that somebody planted does not become theirs and mine."""
    one = door()
    _, old = one.enter(token=one.link())
    one.ask(post("/api/enter", *OURS, old, body=json.dumps({"token": one.link()})))
    assert one.ask(get("/api/state", old))[0] == 401


def test_sessions_are_over_when_their_time_is(door: Any) -> None:
    one = door(RULES._replace(session_for_s=-1.0))
    _, cookie = one.enter(token=one.link())
    assert one.ask(get("/api/state", cookie))[0] == 401


def test_what_is_on_disk_opens_nothing(door: Any) -> None:
    """Who reads the state directory (a backup) finds names of files that are hashes of secrets, and no secret."""
    one = door()
    token = one.link()
    _, cookie = one.enter(token=one.link())
    secret = cookie.partition("=")[2]
    for path in Path(one.state_dir, "dashboard").rglob("*"):
        text = path.name + (path.read_text() if path.is_file() else "")
        assert token not in text
        assert secret not in text
    assert Path(one.state_dir, "dashboard").stat().st_mode & 0o077 == 0


def test_ten_thousand_sign_ins_leave_no_more_than_the_most_sessions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeping, "MOST_SESSIONS", 5)
    newest = ""
    for number in range(12):
        kept = {"user": "a", "role": "reader", "expires_unix_s": 1000.0 + number}
        newest = keeping.make_session(str(tmp_path), kept, 0.0)
    assert len(list((tmp_path / "dashboard" / "sessions").iterdir())) == 5
    assert keeping.read_session(str(tmp_path), keeping.name_of(newest), 0.0)


# -- passwords and roles ---------------------------------------------------------------------------


def test_a_password_signs_in_and_its_role_holds(door: Any) -> None:
    one = door()
    status, ann = one.enter(user="ann", password="correct horse")
    assert status == 204
    assert one.ask(post("/api/orders", *OURS, ann))[0] == 200
    assert one.acts == ["/api/orders"]


def test_a_reader_sees_everything_and_does_nothing(door: Any) -> None:
    one = door()
    _, bob = one.enter(user="bob", password="correct horse")
    assert one.ask(get("/api/state", bob))[0] == 200
    status, _, body = one.ask(post("/api/orders", *OURS, bob))
    assert status == 403
    assert b"bob may look" in body
    assert not one.acts


@pytest.mark.parametrize(
    "given",
    [("ann", "wrong"), ("eve", "correct horse"), ("ann", ""), ("ann", "x" * 5000), ("", "")],
)
def test_what_is_wrong_is_refused_without_saying_what(given: tuple[str, str], door: Any) -> None:
    one = door()
    user, password = given
    status, _, body = one.ask(
        post("/api/enter", *OURS, body=json.dumps({"user": user, "password": password}))
    )
    assert status == 401
    assert json.loads(body) == {"error": "that did not fit"}


def test_somebody_taken_out_of_the_configuration_is_out(door: Any) -> None:
    _, cookie = door().enter(user="ann", password="correct horse")
    assert door(RULES._replace(users={})).ask(get("/api/state", cookie))[0] == 401


def test_another_password_ends_the_sessions_of_the_old_one(door: Any) -> None:
    _, cookie = door().enter(user="ann", password="correct horse")
    changed = RULES._replace(users={"ann": User(passwords.make("new"), "operator")})
    assert door(changed).ask(get("/api/state", cookie))[0] == 401


def test_a_role_taken_away_is_taken_away_at_once(door: Any) -> None:
    _, cookie = door().enter(user="ann", password="correct horse")
    less = door(RULES._replace(users={"ann": User(HASH, "reader")}))
    assert less.ask(post("/api/orders", *OURS, cookie))[0] == 403


def test_guessing_is_slowed_down(door: Any) -> None:
    one = door()
    found = [
        one.ask(post("/api/enter", *OURS, body=json.dumps({"token": f"guess {n}"})))
        for n in range(7)
    ]
    assert [status for status, *_ in found] == [401] * 5 + [429] * 2
    assert 0 < int(found[-1][1]["retry-after"]) <= 20


# -- behind a proxy --------------------------------------------------------------------------------

PROXY = Proxy(frozenset({"127.0.0.1"}), b"x-forwarded-user", frozenset({"ann"}), "between us")
PROXIED = ("X-Holdfast-Proxy: between us", "X-Forwarded-For: 203.0.113.9")


def test_a_proxy_says_who_it_is(door: Any) -> None:
    one = door(Rules(proxy=PROXY))
    assert one.ask(get("/api/state", "X-Forwarded-User: bob", *PROXIED))[0] == 200
    assert one.ask(post("/api/orders", *OURS, "X-Forwarded-User: bob", *PROXIED))[0] == 403
    assert one.ask(post("/api/orders", *OURS, "X-Forwarded-User: ann", *PROXIED))[0] == 200


@pytest.mark.parametrize(
    "heads",
    [
        ("X-Forwarded-User: ann",),
        ("X-Forwarded-User: ann", "X-Holdfast-Proxy: guessed"),
        PROXIED,
        ("X-Forwarded-User: ", *PROXIED),
    ],
)
def test_who_is_not_the_proxy_is_nobody(heads: tuple[str, ...], door: Any) -> None:
    """Another program of the machine connects from the same address; it does not know the secret."""
    assert door(Rules(proxy=PROXY)).ask(get("/api/state", *heads))[0] == 401


def test_a_name_said_twice_is_nobodys(door: Any) -> None:
    one = door(Rules(proxy=PROXY))
    heads = ("X-Forwarded-User: bob", "X-Forwarded-User: ann", *PROXIED)
    assert one.ask(get("/api/state", *heads))[0] == 400


def test_from_elsewhere_the_header_means_nothing(door: Any) -> None:
    elsewhere = PROXY._replace(addresses=frozenset({"192.0.2.1"}))
    assert (
        door(Rules(proxy=elsewhere)).ask(get("/api/state", "X-Forwarded-User: ann", *PROXIED))[0]
        == 401
    )


# -- the audit -------------------------------------------------------------------------------------


def test_the_audit_tells_who_came_in_and_who_did_not(door: Any) -> None:
    one = door()
    one.enter(user="ann", password="wrong")
    one.enter(user="ann", password="correct horse")
    rows = audit.read(one.state_dir)
    assert [(row["what"], row["target"], row["result"]) for row in rows] == [
        ("enter", "ann", "refused"),
        ("enter", "ann", "let in by password as operator"),
    ]
    assert all(row["address"] == "127.0.0.1" for row in rows)


def test_an_action_that_was_cut_off_has_no_result(tmp_path: Path) -> None:
    """Killed between the two lines: nobody claims that it was done, or that it was not."""
    book = audit.Audit(str(tmp_path))
    book.note(None, "restart", "api")
    book.done(book.note(None, "restart", "db"), "done")
    assert [row["result"] for row in audit.read(str(tmp_path))] == [None, "done"]


def test_a_line_torn_by_a_full_disk_spoils_no_other(tmp_path: Path) -> None:
    book = audit.Audit(str(tmp_path))
    book.note(None, "restart", "api")
    with open(book.path, "a") as file:
        file.write('{"entry": "half')
    book.note(None, "stop", "db")
    assert [row["what"] for row in audit.read(str(tmp_path))] == ["restart", "stop"]


def test_a_full_disk_locks_nobody_out_and_no_entry_is_lost(
    door: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They come because the disk is full: to see why, and to stop whoever fills it."""
    run_dir = tmp_path.parent / f"{tmp_path.name}-run"
    run_dir.mkdir()
    (tmp_path / "run").symlink_to(run_dir)
    one = door()
    one.audit.note(None, "restart", "before")
    real = {name: getattr(files, name) for name in ("write_atomic", "append")}

    def full(name: str) -> Any:
        def write(path: str, data: bytes) -> None:
            if not path.startswith(f"{tmp_path}/run/"):
                raise OSError(errno.ENOSPC, "No space left on device")
            real[name](path, data)

        return write

    for name in real:
        monkeypatch.setattr(files, name, full(name))
    token = one.link()
    status, cookie = one.enter(token=token)
    assert status == 204
    assert one.enter(token=token)[0] == 401  # once is once
    assert one.ask(get("/api/state", cookie))[0] == 200
    entry = one.audit.note(None, "stop", "whoever fills it")
    one.audit.done(entry, "done")
    seen = [(row["what"], row["target"]) for row in audit.read(one.state_dir)]
    assert one.audit.find(entry)["result"] == "done"

    monkeypatch.undo()
    one.audit.note(None, "restart", "after")
    assert [(row["what"], row["target"]) for row in audit.read(one.state_dir)] == [*seen, ("restart", "after")]  # fmt: skip
    assert ("stop", "whoever fills it") in seen
    assert not (run_dir / "dashboard" / audit.FILE).exists()
    assert one.ask(get("/api/state", cookie))[0] == 200
    one.ask(post("/api/leave", cookie, *OURS, body="{}"))
    assert one.ask(get("/api/state", cookie))[0] == 401


def test_the_audit_does_not_grow_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("holdfast.records.audit.LARGEST_BYTES", 1000)
    book = audit.Audit(str(tmp_path))
    for number in range(40):
        book.note(None, "restart", f"worker {number}")
    assert sum(path.stat().st_size for path in (tmp_path / "dashboard").iterdir()) < 3000
    assert audit.read(str(tmp_path))[-1]["target"] == "worker 39"


# -- the limit, alone ------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.floats(0, 30), st.sampled_from("abc")), max_size=200))
def test_nobody_gets_more_tries_than_the_bucket_holds(steps: list[tuple[float, str]]) -> None:
    """In any span, an address has at most the burst and what came back since; a wait that was told is enough."""
    tries, now = limits.Tries(0.0), 0.0
    used: dict[str, list[float]] = {}
    most, every_s = limits.PER_ADDRESS
    for step, address in steps:
        now += step
        wait_s = tries.take(address, now)
        if wait_s > 0:
            now += wait_s + 1e-6
            assert tries.take(address, now) == 0.0
        used.setdefault(address, []).append(now)
        for times in used.values():
            for at, begin in enumerate(times):
                assert len(times) - at <= most + (now - begin) / every_s + 1e-3


def test_many_addresses_are_one_attacker_too() -> None:
    tries = limits.Tries(0.0)
    assert (
        sum(tries.take(f"10.0.{n // 256}.{n % 256}", 0.0) == 0.0 for n in range(10_000))
        == limits.FOR_ALL[0]
    )
