"""The cookie store: what was kept is there after any death, and what was ended stays ended."""

from __future__ import annotations

import fcntl
import os
import random
import re
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from holdfast.core.wamp.handshake import Remembered
from holdfast.core.wamp.session import Identity
from holdfast.router import signin_cookies
from holdfast.router.signin_cookies import CookieStore, cookie_of, set_cookie

if TYPE_CHECKING:
    from pathlib import Path

JOE = Remembered("realm1", Identity("joe", "user", "ticket", "static", {"nick": "Jo"}), "realm1")
EVE = Remembered("realm2", Identity("eve", "user", "wampcra", "dynamic"), None)
NOW = 1_700_000_000.0
SLOWNESS = float(os.environ.get("HOLDFAST_SLOWNESS", "1"))

#: Signs in and out for ever, saying so only when it is done; rewrites the file often.
WRITER = """
import sys
from holdfast.core.wamp.handshake import Remembered
from holdfast.core.wamp.session import Identity
from holdfast.router import signin_cookies
signin_cookies._STALE_LINES = 5
store = signin_cookies.CookieStore(sys.argv[1])
number = 0
while True:
    number += 1
    cookie = store.issue(24)
    store.keep(cookie, Remembered("realm1", Identity(f"user{number}", "user", "ticket", "static")), 4e9)
    store.tidy()
    print("in", cookie, f"user{number}", flush=True)
    if number % 3:
        store.forget(cookie)
        print("out", cookie, f"user{number}", flush=True)
"""


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "cookies" / "router.t0")


def test_a_kept_sign_in_is_there_in_the_next_life(path: str) -> None:
    """Nobody is signed out by a crash of the router."""
    store = CookieStore(path)
    cookie, other = store.issue(24), store.issue(24)
    store.keep(cookie, JOE, NOW + 60)
    store.keep(other, EVE, NOW + 60)

    again = CookieStore(path)
    assert again.find(cookie, NOW) == JOE
    assert again.find(other, NOW) == EVE
    assert again.is_ours(cookie)


def test_a_sign_out_is_there_in_the_next_life_too(path: str) -> None:
    """A public computer in a library."""
    store = CookieStore(path)
    cookie = store.issue(24)
    store.keep(cookie, JOE, NOW + 60)
    assert store.forget(cookie)

    assert store.find(cookie, NOW) is None
    assert CookieStore(path).find(cookie, NOW) is None
    assert not store.forget(cookie)


def test_a_user_can_be_signed_out_everywhere(path: str) -> None:
    """A stolen laptop."""
    store = CookieStore(path)
    theirs = [store.issue(24) for _ in range(3)]
    for cookie, who in zip(theirs, (JOE, EVE, JOE), strict=True):
        store.keep(cookie, who, NOW + 60)

    assert store.forget_authid("joe") == 2
    assert [CookieStore(path).find(cookie, NOW) for cookie in theirs] == [None, EVE, None]


def test_a_sign_in_ends_when_its_time_is_over(path: str) -> None:
    """The browser forgets the cookie then, somebody else might not."""
    store = CookieStore(path)
    cookie = store.issue(24)
    store.keep(cookie, JOE, NOW + 60)

    assert store.find(cookie, NOW + 59.9) == JOE
    assert store.find(cookie, NOW + 60) is None


def test_the_file_does_not_hold_the_cookies_and_is_private(path: str) -> None:
    """Who reads a backup of it cannot sign in."""
    store = CookieStore(path)
    cookie = store.issue(24)
    store.keep(cookie, JOE, NOW + 60)

    with open(path, encoding="utf-8") as file:
        assert cookie[:24] not in file.read()
    assert os.stat(path).st_mode & 0o777 == 0o600


def test_a_cookie_has_144_bits_of_chance_and_cannot_be_made_up(path: str) -> None:
    """A made-up value must not become somebody's session (session fixation by a page of another site)."""
    store = CookieStore(path)
    cookie = store.issue(1)

    assert re.fullmatch(r"[A-Za-z0-9_-]{40}", cookie)
    assert store.issue(24) != cookie
    assert store.is_ours(cookie)
    for made_up in ("", "x", cookie[:-1], "A" * 40, cookie[1:] + cookie[0], "é" * 40):
        assert not store.is_ours(made_up)
    assert not CookieStore(f"{path}.other").is_ours(cookie)


def test_two_routers_with_one_file_know_each_others_cookies(path: str) -> None:
    """Linked routers of one node: a user signs in at one and comes back to the other."""
    first, second = CookieStore(path), CookieStore(path)
    cookie = first.issue(24)
    first.keep(cookie, JOE, NOW + 60)

    assert second.is_ours(cookie)
    assert second.find(cookie, NOW) == JOE
    assert second.forget(cookie)
    assert first.find(cookie, NOW) is None


def test_a_torn_line_costs_only_itself(path: str) -> None:
    """Half a line is what a full disk leaves; neither the lines before nor those after may suffer."""
    store = CookieStore(path)
    before, after = store.issue(24), store.issue(24)
    store.keep(before, JOE, NOW + 60)
    with open(path, "ab") as file:
        file.write(b'0badc0de {"id": "dead')

    again = CookieStore(path)
    again.keep(after, EVE, NOW + 60)
    for one in (again, store, CookieStore(path)):
        assert one.find(before, NOW) == JOE
        assert one.find(after, NOW) == EVE


@pytest.mark.parametrize(
    "damage", [b"\n\n", b"\xff\xfe\x00\n", b"00000000 {}\n", b"zzzzzzzz []\n", b"00000002 []\n"]
)
def test_damaged_lines_are_skipped(path: str, damage: bytes) -> None:
    """Whatever a disk or a person has done to the file, the router starts."""
    store = CookieStore(path)
    cookie = store.issue(24)
    store.keep(cookie, JOE, NOW + 60)
    with open(path, "rb") as file:
        lines = file.readlines()
    with open(path, "wb") as file:
        file.write(lines[0] + damage + lines[1])

    assert CookieStore(path).find(cookie, NOW) == JOE


def test_the_file_stays_small(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Crossbar.io's grows for ever."""
    monkeypatch.setattr(signin_cookies, "_STALE_LINES", 50)
    store = CookieStore(path)
    stays = store.issue(24)
    store.keep(stays, JOE, 4e9)
    cookie = stays
    for _ in range(300):
        cookie = store.issue(24)
        store.keep(cookie, EVE, 4e9)
        store.forget(cookie)
        store.tidy()

    with open(path, "rb") as file:
        assert len(file.readlines()) < 60
    assert CookieStore(path).find(stays, NOW) == JOE
    assert CookieStore(path).is_ours(cookie)


def test_a_deleted_file_signs_everybody_out_and_is_made_again(path: str) -> None:
    """What a person does who wants everybody to sign in again."""
    store = CookieStore(path)
    cookie = store.issue(24)
    store.keep(cookie, JOE, NOW + 60)
    os.unlink(path)

    assert store.find(cookie, NOW) is None
    store.keep(cookie, EVE, NOW + 60)
    assert store.find(cookie, NOW) == EVE
    again = CookieStore(path)
    assert again.find(cookie, NOW) == EVE
    assert again.is_ours(cookie)


def test_a_full_disk_is_reported_and_the_sign_in_works_until_the_router_ends(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk must not keep people out."""
    store = CookieStore(path)
    cookie = store.issue(24)

    def full(_descriptor: int, _data: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OSError, match="No space"):
        store.keep(cookie, JOE, NOW + 60)
    assert store.find(cookie, NOW) == JOE


def test_a_stopped_router_does_not_stop_the_others(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SIGSTOP while it holds the lock: one sign-in waits for a moment, the next ones do not."""
    monkeypatch.setattr(signin_cookies, "_LOCK_WAIT_S", 0.01)
    store = CookieStore(path)
    cookies = [store.issue(24) for _ in range(3)]
    with open(f"{path}.lock", "rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for cookie in cookies:
            store.keep(cookie, JOE, NOW + 60)

    assert [CookieStore(path).find(cookie, NOW) for cookie in cookies] == [JOE] * 3


def test_without_a_file_it_is_a_store_in_memory() -> None:
    """Crossbar.io's store of type memory."""
    store = CookieStore(None)
    cookie = store.issue(24)
    assert store.find(cookie, NOW) is None
    store.keep(cookie, JOE, NOW + 60)

    assert store.find(cookie, NOW) == JOE
    assert store.forget(cookie)
    assert store.find(cookie, NOW) is None


def test_our_cookie_is_found_among_others() -> None:
    """Browsers send all of a site's, sometimes two of one name."""
    store = CookieStore(None)
    cookie = store.issue(24)

    assert cookie_of(f"a=b; cbtid={cookie}; c", "cbtid", store) == cookie
    assert cookie_of(f'cbtid=forged; cbtid="{cookie}"', "cbtid", store) == cookie
    assert cookie_of(f"other={cookie}", "cbtid", store) is None
    assert cookie_of("cbtid; =; ;;", "cbtid", store) is None
    assert cookie_of(None, "cbtid", store) is None


def test_scripts_and_other_sites_do_not_get_the_cookie() -> None:
    """HttpOnly, SameSite; Secure where there is TLS."""
    plain = set_cookie("cbtid", "value", 60, is_tls=False)

    assert plain == "cbtid=value; Max-Age=60; Path=/; HttpOnly; SameSite=Lax"
    assert set_cookie("cbtid", "value", 60, is_tls=True) == f"{plain}; Secure"


@pytest.mark.faults
@pytest.mark.parametrize("writers", [1, 2])
def test_no_sign_in_is_lost_and_no_sign_out_undone_by_kill_9(
    path: str, tmp_path: Path, writers: int
) -> None:
    """Killed again and again in the middle of appends and rewrites; whatever a client was told is true afterwards."""
    chance = random.Random(4)
    known: dict[str, str | None] = {}
    where = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    for turn in range(4):
        said = [tmp_path / f"said.{turn}.{number}" for number in range(writers)]
        running = []
        for one in said:
            with open(one, "wb") as out:
                running.append(
                    subprocess.Popen([sys.executable, "-c", WRITER, path], stdout=out, env=where)
                )
        for one in said:
            wait_for_lines(one, chance.randrange(20, 200))
        for process in running:
            process.send_signal(signal.SIGKILL)
            assert process.wait(30 * SLOWNESS) == -signal.SIGKILL
        for one in said:
            lines = [
                line.split()
                for line in one.read_text().splitlines(keepends=True)
                if line.endswith("\n")
            ]
            for what, cookie, authid in lines:
                known[cookie] = authid if what == "in" else None
            if lines[-1][0] == "in":
                # Its end may have been written, but not said any more.
                del known[lines[-1][1]]
    store = CookieStore(path)

    assert len(known) > 80
    assert (
        len([name for name in os.listdir(os.path.dirname(path)) if name.endswith(".new")])
        <= writers
    )
    for cookie, who in known.items():
        found = store.find(cookie, NOW)
        assert (found.identity.authid if found else None) == who
        assert store.is_ours(cookie)


def wait_for_lines(path: Path, count: int) -> None:
    """Wait until a process has said that much."""
    deadline = time.monotonic() + 30 * SLOWNESS
    while path.read_bytes().count(b"\n") < count:
        assert time.monotonic() < deadline, path.read_bytes()[-200:]
        time.sleep(0.002)
