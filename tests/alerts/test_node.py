"""On a real node: the page comes in time, and nobody notices when the alerts process is shot."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import holdfast
from node import SLOWNESS, program, wait_for

if TYPE_CHECKING:
    from alerts.sinks import Sink
    from node import Node

pytestmark = pytest.mark.faults

_CONTAINER = str(Path(holdfast.__file__).parent / "container/__main__.py")


def test_from_a_real_fault_to_the_page_with_the_alerts_process_shot_in_between(node: Node, sink: Sink, tmp_path: Path) -> None:  # fmt: skip
    """A worker dies beyond its limit: five seconds. The alerts process dies: no worker, no page and no second page."""
    node.add("bystander", ["/bin/sleep", "100000"])
    node.add(
        "web", program(tmp_path, "web.py", "import sys, time; time.sleep(0.05); sys.exit(3)\n"), autostart=False,
        restart={"limit": 2, "after_limit": "down", "delay_s": 0.05},
    )  # fmt: skip
    node.add(
        "alerts", [sys.executable, "-P", "-X", "faulthandler", _CONTAINER], kind="container", faulthandler=True,
        ready={"kind": "pulse", "target": "", "argv": [], "timeout_s": 30.0 * SLOWNESS},
        components=[{
            "name": "alerts", "use": "holdfast.alerts:app", "bus": None,
            "settings": {"channel": {"hook": {"type": "webhook", "url": f"{sink.url}/hook"}}},
        }],
    )  # fmt: skip
    node.start()
    wait_for(lambda: node.status()["alerts"]["ready"], "the alerts process")
    before = node.wait_state("bystander", "running")["pid"]

    node.ask(do="start", worker="web", by="user")
    wait_for(lambda: any(one["severity"] == "critical" for one in sink.messages()), "the page")
    told_unix_s = time.time()
    left_down = [record for record in node.journal("exit") if record["next"] == "down"]
    old = node.status()["alerts"]["pid"]
    os.kill(old, signal.SIGKILL)
    wait_for(lambda: (s := node.status()["alerts"])["ready"] and s["pid"] != old, "another life")
    node.ask(do="start", worker="web", by="user")  # it dies again: the same alert, not another one
    node.wait_state("web", "failed")

    assert told_unix_s - left_down[0]["unix_s"] < 5.0 * SLOWNESS
    assert node.status()["bystander"]["pid"] == before
    assert [worker for worker in (r["worker"] for r in node.journal("exit")) if worker == "bystander"] == []  # fmt: skip
    assert {one["cause"] for one in sink.messages()} == {"web"}
    assert [one["change"] for one in sink.messages()].count("firing") == 1
