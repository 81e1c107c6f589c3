"""Something watches the watchdog: what the anchor tells whoever started it, and feeds to the kernel."""

from __future__ import annotations

import signal
import socket
from typing import TYPE_CHECKING

import pytest

from node import wait_for

if TYPE_CHECKING:
    from pathlib import Path

    from node import Node

pytestmark = pytest.mark.faults


def test_the_service_manager_is_told(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    """systemd's Type=notify: READY once all workers serve, WATCHDOG while the house is well, STOPPING at the end."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind("\0holdfast-test-" + node.tmp.name)
        manager.settimeout(0.01)
        monkeypatch.setenv("NOTIFY_SOCKET", "@holdfast-test-" + node.tmp.name)
        heard: list[str] = []

        def has_heard(word: str) -> bool:
            try:
                while True:
                    heard.extend(manager.recv(4096).decode().split("\n"))
            except TimeoutError:
                return word in heard

        node.add("w", ["/bin/sleep", "100000"])
        node.start()

        wait_for(lambda: has_heard("READY=1"), "READY=1")
        wait_for(lambda: has_heard("WATCHDOG=1"), "WATCHDOG=1")
        assert f"MAINPID={node.holder('anchor')}" in heard
        old = node.kill("anchor")
        new = node.wait_back("anchor", old)
        wait_for(lambda: has_heard(f"MAINPID={new}"), "the pid of the next anchor")
        node.ask(do="down")
        wait_for(lambda: has_heard("STOPPING=1"), "STOPPING=1")


def test_the_watchdog_device_starves_when_the_keeper_hangs(
    node: Node, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fed from a timer it would keep a dead house alive; it is fed only while keeper and watchdog beat."""
    device = tmp_path / "device"
    device.touch()
    monkeypatch.setenv("HOLDFAST_WATCHDOG_DEVICE", str(device))
    node.add("w", ["/bin/sleep", "100000"])
    node.start()
    wait_for(lambda: device.stat().st_size >= 2, "two meals")

    stopped = [role for role in ("keeper", "watchdog") if node.kill(role, signal.SIGSTOP)]
    assert stopped == ["keeper", "watchdog"]

    # Each looks after the other; with both stopped nobody is left to, and the device has to notice.
    def is_starving() -> bool:
        before = device.stat().st_size
        ages = [_age_s(node, role) for role in stopped]
        return min(ages) > 6.5 and device.stat().st_size == before

    wait_for(is_starving, "the device to be left alone", within_s=30)
    fed = device.stat().st_size
    wait_for(
        lambda: min(_age_s(node, role) for role in stopped) > 9.0, "three more seconds", within_s=30
    )
    assert device.stat().st_size == fed


def _age_s(node: Node, role: str) -> float:
    import time
    from pathlib import Path

    from holdfast.wire import beats, layout

    at_ns, _ = beats.read(Path(node.run_dir, layout.BEATS).read_bytes(), role)
    return (time.monotonic_ns() - at_ns) / 1e9
