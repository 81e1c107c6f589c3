"""A real node for tests: a plan, a real anchor, and words to ask and hurt it with."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from holdfast.linux import launch, locks, procfs, talk
from holdfast.wire import journal, layout
from holdfast.wire.plan import stub

if TYPE_CHECKING:
    from collections.abc import Callable

    from holdfast.model.plan import Plan, WorkerPlan

SLOWNESS = float(os.environ.get("HOLDFAST_SLOWNESS", "1"))


def wait_for(condition: Callable[[], Any], what: str, within_s: float = 15.0) -> Any:
    """Return the first true value of ``condition``; fail with ``what`` when there is none in time."""
    until = time.monotonic() + within_s * SLOWNESS
    while True:
        found = condition()
        if found:
            return found
        if time.monotonic() > until:
            raise AssertionError(f"waited {within_s * SLOWNESS:g} s in vain for: {what}")
        time.sleep(0.005)


def program(tmp: Path, name: str, text: str) -> list[str]:
    """Write a Python program and return the arguments that run it quickly."""
    path = tmp / name
    path.write_text(text)
    return [sys.executable, "-I", "-S", str(path)]


class Node:
    """One node under a temporary directory."""

    def __init__(self, tmp: Path) -> None:
        self.tmp = tmp
        self.state_dir = str(tmp / "state")
        self.workers: list[WorkerPlan] = []
        self.groups: list[Any] = []
        self.run_dir = ""
        self.env = {"PATH": os.environ.get("PATH", "/usr/bin:/bin")}

    def add(self, name: str, argv: list[str], **changes: Any) -> WorkerPlan:
        """Put a guest into the plan; ``changes`` replace keys of its entry (dicts are merged)."""
        entry = stub(name, str(self.tmp))
        entry["autostart"] = True
        entry["argv"] = argv
        entry["restart"] = {
            "policy": "always", "limit": 0, "window_s": 60.0, "after_limit": "slow", "delay_s": 0.1,
            "delay_max_s": 5.0, "jitter": 0.0, "healthy_s": 0.2,
        }  # fmt: skip
        entry["log"] = {
            "max_bytes": 1 << 20, "max_age_s": 0.0, "keep": 1000, "compress": False,
            "directory": f"{self.state_dir}/logs/{name}",
        }  # fmt: skip
        loose: dict[str, Any] = entry  # type: ignore[assignment]
        for key, value in changes.items():
            old = loose.get(key)
            loose[key] = (
                {**old, **value} if isinstance(old, dict) and isinstance(value, dict) else value
            )
        self.workers.append(entry)
        return entry

    def plan(self) -> Plan:
        return {
            "format": 1, "node": "test", "config": str(self.tmp / "holdfast.toml"), "state_dir": self.state_dir,
            "digest": f"{len(self.workers)}-{time.monotonic_ns()}", "drills": True, "env": self.env,
            "workers": self.workers, "groups": self.groups,
            "watch": {
                "evidence_budget_s": 2.0, "sample_s": 1.0, "disk_min_share": 0.0001, "verify_s": 2.0,
                "house_timeout_s": 3.0 * SLOWNESS, "objectives": {},
            },
            "house_log": {
                "max_bytes": 1 << 20, "max_age_s": 0.0, "keep": 10, "compress": False,
                "directory": f"{self.state_dir}/logs/holdfast",
            },
        }  # fmt: skip

    def start(self) -> None:
        self.run_dir = launch.prepare(self.plan())
        self.anchor_child = launch.spawn_anchor(self.run_dir)
        wait_for(lambda: len(self.status()) == len(self.workers), "the keeper to answer")

    def status(self) -> dict[str, dict[str, Any]]:
        reply = talk.ask(
            f"{self.run_dir}/{layout.socket('keeper')}", {"do": "status"}, 5.0 * SLOWNESS
        )
        return {w["name"]: w for w in reply["workers"]} if reply else {}

    def ask(self, **request: Any) -> dict[str, Any]:
        reply: dict[str, Any] = talk.request(self.run_dir, request, 15.0 * SLOWNESS)
        return reply

    def wait_state(self, name: str, state: str, within_s: float = 15.0) -> dict[str, Any]:
        def look() -> Any:
            found = self.status().get(name)
            return found if found and found["state"] == state else None

        what = f"worker {name} to be {state} (it is {self.status().get(name)})"
        found: dict[str, Any] = wait_for(look, what, within_s)
        return found

    def holder(self, role: str) -> int:
        return locks.holder(f"{self.run_dir}/{layout.lock(role)}")

    def kill(self, role: str, number: int = signal.SIGKILL) -> int:
        """Hurt a house process; return the pid that was hurt (0: there was none just now)."""
        pid = self.holder(role)
        if pid:
            os.kill(pid, number)
        return pid

    def wait_back(self, role: str, old: int, within_s: float = 15.0) -> int:
        return wait_for(  # type: ignore[no-any-return]
            lambda: (pid := self.holder(role)) and pid != old and pid,
            f"another {role} than {old}",
            within_s,
        )

    def journal(self, kind: str = "") -> list[dict[str, Any]]:
        records, _ = journal.decode(Path(self.run_dir, layout.JOURNAL).read_bytes())
        return [r for r in records if not kind or r["k"] == kind]

    def processes(self, worker: str = "") -> list[int]:
        """Every living process that carries the mark of this node (or of one worker of it)."""
        found = []
        for pid in procfs.pids():
            env = procfs.environ(pid)
            if env.get("HOLDFAST_RUN") == self.run_dir and (
                not worker or env.get("HOLDFAST_WORKER") == worker
            ):
                found.append(pid)
        return found

    def end(self) -> None:
        """End everything, whatever state the test has left it in."""
        if not self.run_dir:
            return
        until = time.monotonic() + 20 * SLOWNESS
        while time.monotonic() < until and Path(self.run_dir).exists():
            for role in layout.ROLES:
                pid = self.holder(role)
                if pid:
                    os.kill(pid, signal.SIGCONT)
            talk.ask(
                f"{self.run_dir}/{layout.socket('keeper')}", {"do": "down", "force": True}, 1.0
            )
            time.sleep(0.05)
        for pid in self.processes():
            os.kill(pid, signal.SIGKILL)
        try:
            os.waitpid(self.anchor_child, os.WNOHANG)
        except ChildProcessError:
            pass  # it was killed, and somebody else's child took over
