"""The two units of docs/how-to/run-under-systemd.md, under a real systemd.

It is PID 1 of name spaces of its own, with a control group tree, /run and /dev/shm of its own: nothing of the machine's is touched.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from node import SLOWNESS, wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

SYSTEMD = "/lib/systemd/systemd"
ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs/how-to/run-under-systemd.md"

BEGIN = """
set -e
mount --make-rprivate /
mount -t proc proc /proc
umount -R /sys/fs/cgroup 2>/dev/null || true
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /dev/shm
mount --bind {home}/machine-id /etc/machine-id
mount -t cgroup2 cgroup2 /sys/fs/cgroup
export container=test SYSTEMD_UNIT_PATH={home}/units SYSTEMD_LOG_LEVEL=warning SYSTEMD_LOG_TARGET=console
export SYSTEMD_GENERATOR_PATH=/nonexistent SYSTEMD_ENVIRONMENT_GENERATOR_PATH=/nonexistent
exec {systemd} --system --unit=empty.target --show-status=0 --default-standard-output=null
"""
SPACES = ["--pid", "--mount", "--cgroup", "--uts", "--ipc", "--fork", "--kill-child"]
ROLES = ("anchor", "keeper", "watchdog", "logger")


def can_run() -> bool:
    if os.getuid() or not os.path.exists(SYSTEMD) or not shutil.which("nsenter"):
        return False
    tried = subprocess.run(
        ["unshare", *SPACES, "sh", "-c", "mount --make-rprivate / && mount -t cgroup2 cgroup2 /sys/fs/cgroup"],
        capture_output=True,
    )  # fmt: skip
    return tried.returncode == 0


pytestmark = [
    pytest.mark.faults,
    pytest.mark.skipif(not can_run(), reason="needs root, systemd and name spaces"),
]


class Machine:
    """A machine in the machine."""

    def __init__(self, home: Path) -> None:
        self.home = home
        units = home / "units"
        units.mkdir()
        (units / "empty.target").write_text("[Unit]\nDefaultDependencies=no\nAllowIsolate=yes\n")
        (home / "machine-id").write_text("0123456789abcdef0123456789abcdef\n")
        (home / "begin.sh").write_text(BEGIN.format(home=home, systemd=SYSTEMD))
        self.log = open(home / "systemd.log", "wb")
        self.process = subprocess.Popen(
            ["unshare", *SPACES, "sh", str(home / "begin.sh")],
            stdout=self.log, stderr=self.log, stdin=subprocess.DEVNULL,
        )  # fmt: skip

    def begin(self) -> None:
        """Wait until it has come up."""
        self.pid1 = wait_for(self._pid1, "systemd to run")
        wait_for(
            lambda: self.run("systemctl", "is-active", "empty.target").stdout == "active\n",
            "systemd to answer",
        )

    def _pid1(self) -> int:
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        for child in children.split():
            if Path(f"/proc/{child}/comm").read_text() == "systemd\n":
                return int(child)
        assert self.process.poll() is None, (self.home / "systemd.log").read_text()
        return 0

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["nsenter", "-t", str(self.pid1), "-m", "-p", "-u", "-i", "-C", *command],
            capture_output=True, text=True, timeout=60 * SLOWNESS,
        )  # fmt: skip

    def named(self, name: str) -> list[int]:
        return [int(pid) for pid in self.run("pgrep", "-x", name).stdout.split()]

    def house(self) -> dict[str, list[int]]:
        return {role: self.named(f"hf-{role}") for role in ROLES}

    def is_whole(self) -> bool:
        return all(len(pids) == 1 for pids in self.house().values())

    def kill(self, role: str, how: str = "-KILL") -> int:
        (pid,) = self.named(f"hf-{role}")
        self.run("kill", how, str(pid))
        return pid

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        self.log.close()


def units() -> list[str]:
    """The units as the page has them."""
    return re.findall(r"```ini\n(.*?)```", PAGE.read_text(), re.DOTALL)[:2]


def unit(text: str, home: Path) -> str:
    """A unit of the page for a machine that has no users, no network and no installation."""
    kept = [
        line
        for line in text.splitlines()
        if not line.startswith(("User=", "After=", "[Install]", "WantedBy=", "#"))
    ]
    text = "\n".join(kept).replace("/srv/shop/.venv/bin/holdfast", f"{sys.executable} -m holdfast")
    text = text.replace("/srv/shop", str(home / "shop"))
    text = text.replace("[Service]", f"[Service]\nEnvironment=PYTHONPATH={ROOT}/src", 1)
    text = text.replace("WatchdogSec=30s", "WatchdogSec=6s")  # nobody wants to wait for it
    begin = "DefaultDependencies=no\nStartLimitIntervalSec=0\n"
    if "[Unit]" in text:
        return text.replace("[Unit]\n", f"[Unit]\n{begin}") + "\n"
    return f"[Unit]\n{begin}{text}\n"


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    shop = tmp_path / "shop"
    shop.mkdir()
    (shop / "holdfast.toml").write_text(
        '[node]\nname = "shop"\n[worker.one]\ncommand = ["/bin/sleep", "100000"]\n'
        '[worker.two]\ncommand = ["/bin/sleep", "100001"]\n'
    )
    made = Machine(tmp_path)
    try:
        made.begin()
        for name, text in zip(("outlives", "watched"), units(), strict=True):
            (tmp_path / f"units/{name}.service").write_text(unit(text, tmp_path))
        assert made.run("systemctl", "daemon-reload").returncode == 0
        yield made
    finally:
        made.end()


def start(machine: Machine, name: str) -> list[int]:
    done = machine.run("systemctl", "start", name)
    assert done.returncode == 0, done.stderr + (machine.home / "systemd.log").read_text()
    wait_for(machine.is_whole, "the whole house")
    workers = machine.named("sleep")
    assert len(workers) == 2
    return workers


def test_a_node_that_systemd_only_starts_outlives_each_of_its_processes(machine: Machine) -> None:
    workers = start(machine, "outlives.service")

    for role in ROLES:
        old = machine.kill(role)
        wait_for(
            lambda old=old: (
                machine.is_whole() and not any(old in p for p in machine.house().values())
            ),  # type: ignore[misc]
            f"another {role}",
        )

    assert machine.named("sleep") == workers
    assert machine.run("systemctl", "is-active", "outlives.service").stdout == "active\n"
    assert machine.run("systemctl", "stop", "outlives.service").returncode == 0
    assert not any(machine.house().values())
    assert machine.named("sleep") == []


def test_a_node_that_systemd_watches(machine: Machine) -> None:
    """Keeper, watchdog and logger are the node's own business; a house that hangs as a whole is systemd's."""
    workers = start(machine, "watched.service")
    for role in ("keeper", "watchdog", "logger"):
        old = machine.kill(role)
        wait_for(
            lambda old=old: (
                machine.is_whole() and not any(old in p for p in machine.house().values())
            ),  # type: ignore[misc]
            f"another {role}",
        )
    assert machine.named("sleep") == workers
    assert restarts(machine) == 0

    for role in ROLES:
        machine.kill(role, "-STOP")

    wait_for(lambda: restarts(machine) == 1, "systemd to start it anew", 40.0)
    wait_for(machine.is_whole, "the whole house again")
    wait_for(lambda: len(machine.named("sleep")) == 2, "two new workers")
    assert not set(machine.named("sleep")) & set(workers)
    began_s = time.monotonic()
    assert machine.run("systemctl", "stop", "watched.service").returncode == 0
    assert time.monotonic() - began_s < 30 * SLOWNESS
    assert not any(machine.house().values())


def restarts(machine: Machine) -> int:
    return int(machine.run("systemctl", "show", "-P", "NRestarts", "watched.service").stdout)
