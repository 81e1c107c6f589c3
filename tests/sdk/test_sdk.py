"""What authors import, without a container: it works, goes nowhere and costs little."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast import sdk
from holdfast.sdk.logline import Log, quoted
from holdfast.sdk.recorder import RECORDER, Call

SOURCE = Path(__file__).parents[2] / "src"


def test_a_guest_pays_for_what_it_uses_only() -> None:
    program = "import sys; from holdfast.sdk import heartbeat, notify; print(*sorted(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", f"import sys; sys.path.insert(0, {str(SOURCE)!r}); {program}"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert not {"asyncio", "socket", "typing", "json", "threading", "logging"} & set(
        done.stdout.split()
    )


def test_every_public_name_is_there_and_no_other() -> None:
    for name in sdk.__all__:
        assert getattr(sdk, name).__doc__
    with pytest.raises(AttributeError, match="no attribute 'Compnent'"):
        _ = sdk.Compnent


def test_a_component_collects_what_its_author_registers() -> None:
    app = sdk.Component("board")

    @app.every(2, timeout=1)
    def tick() -> None: ...

    @app.on_start
    async def begin() -> None: ...

    assert (app.timers[0].function, app.timers[0].seconds, app.timers[0].timeout) == (tick, 2, 1)
    assert app.starters == [begin]
    assert (app.name, app.settings) == ("board", {})
    app.work(3)
    sdk.progress("goes nowhere")
    with app.expect_long(), app.handling(timeout=1):
        pass


@pytest.mark.parametrize(
    ("seconds", "timeout"), [(0, None), (-1, None), (float("nan"), None), (1, 0)]
)
def test_a_timer_that_makes_no_sense_is_refused(seconds: float, timeout: float | None) -> None:
    with pytest.raises(ValueError, match="above 0"):
        sdk.Component().every(seconds, timeout)


def test_a_time_as_the_configuration_writes_it_is_refused_in_words() -> None:
    """ "1s" is right in holdfast.toml: who writes it here, or forgets the parentheses, is told what is right."""
    app: Any = sdk.Component()
    with pytest.raises(TypeError, match=r"every\('1s'\): seconds are a number here, as in 1.5"):
        app.every("1s")
    with pytest.raises(TypeError, match="seconds are a number here"):
        app.every(app.on_start)
    with pytest.raises(TypeError, match="seconds are a number here"):
        app.procedure("com.app.x", timeout="2s")


# -- log -------------------------------------------------------------------------------------------


def test_a_log_line_reads_like_one(capfd: pytest.CaptureFixture[str]) -> None:
    log = Log("board")

    log.info("moved", card=3, by="somebody else", ok=True, path="")
    log.error("lost", card="a=b")

    out, err = capfd.readouterr()
    assert out == 'level=info component=board moved card=3 by="somebody else" ok=true path=""\n'
    assert err == 'level=error component=board lost card="a=b"\n'


def test_an_exception_is_logged_with_its_traceback(capfd: pytest.CaptureFixture[str]) -> None:
    try:
        raise ValueError("no such card")
    except ValueError:
        Log("board").exception("not moved", card=3)

    lines = capfd.readouterr().err.splitlines()
    assert lines[0] == "level=error component=board not moved card=3"
    assert lines[-1] == "ValueError: no such card"


@given(st.text())
def test_whatever_the_value_it_stays_one_line_and_one_word(value: str) -> None:
    word = quoted(value)

    assert not any(c in word for c in "\n\r\t\0\x1b")
    assert word.startswith('"') or (word == value and " " not in word and "=" not in word)


# -- sd_notify, heartbeat --------------------------------------------------------------------------


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "n"))
        listener.settimeout(10)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "n"))
        yield listener


def test_a_guest_says_that_it_is_ready_and_alive(host: socket.socket) -> None:
    assert sdk.notify_ready("42 users")
    assert sdk.notify("STATUS=43 users")
    assert sdk.heartbeat()

    assert [host.recv(100) for _ in range(3)] == [
        b"READY=1\nSTATUS=42 users",
        b"STATUS=43 users",
        b"WATCHDOG=1",
    ]


def test_a_host_that_does_not_listen_is_no_reason_to_stop(
    host: socket.socket, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    while sdk.notify("STATUS=nobody reads this"):
        assert host.fileno() >= 0  # until its queue is full: then we are told, and not held up
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "nobody"))
    assert not sdk.notify_ready()
    monkeypatch.delenv("NOTIFY_SOCKET")
    assert not sdk.heartbeat()


def test_a_heartbeat_touches_a_file(tmp_path: Path) -> None:
    beat = tmp_path / "beat"
    assert sdk.heartbeat(beat)
    os.utime(beat, (1, 1))
    before_s = time.time() - 1

    assert sdk.heartbeat(str(beat))

    assert beat.stat().st_mtime > before_s
    assert not sdk.heartbeat(tmp_path / "nowhere" / "beat")


# -- calls -----------------------------------------------------------------------------------------


def test_only_a_call_past_its_own_deadline_is_reported() -> None:
    app = sdk.Component()
    now_ns = time.monotonic_ns()
    with Call(None, None), Call(None, 3600.0), app.handling(10.0) as call:
        assert len(RECORDER.calls) == 3
        assert RECORDER.overdue_since_ns(now_ns) == 0
        assert RECORDER.overdue_since_ns(now_ns + 11_000_000_000) == call.started_ns
        with app.expect_long():
            assert RECORDER.overdue_since_ns(now_ns + 11_000_000_000) == 0
        assert RECORDER.overdue_since_ns(now_ns + 11_000_000_000_000) != 0
    assert not RECORDER.calls


# -- listening sockets -----------------------------------------------------------------------------


def test_listening_sockets_are_those_of_this_very_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LISTEN_FDS", "1")
    monkeypatch.setenv("LISTEN_PID", "1")
    assert sdk.listen_fds() == {}
    monkeypatch.setenv("LISTEN_FDS", "many")
    monkeypatch.setenv("LISTEN_PID", str(os.getpid()))
    assert sdk.listen_fds() == {}
