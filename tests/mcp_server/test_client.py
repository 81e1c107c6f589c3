"""A foreign client: the protocol's own Python SDK, over both transports, in both eras. Left out where it is not installed.

``HOLDFAST_MCP_PYTHON`` names an interpreter that has ``mcp`` (2 or later), if this one has not.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import holdfast
from mcp_server.door import INCIDENT, TOKEN
from node import SLOWNESS

if TYPE_CHECKING:
    from mcp_server.door import Door, Site

PYTHON = os.environ.get("HOLDFAST_MCP_PYTHON", sys.executable)
ROOT = str(Path(holdfast.__file__).parent.parent)


@pytest.fixture(scope="module", autouse=True)
def _needs_the_client() -> None:
    found = subprocess.run(
        [PYTHON, "-P", "-c", "import mcp.client.client"], capture_output=True, check=False
    )
    if found.returncode:
        pytest.skip(f"{PYTHON} has no mcp package: pip install mcp, or set HOLDFAST_MCP_PYTHON")


def looked(*words: str) -> dict[str, Any]:
    env = {**os.environ, "PYTHONPATH": ROOT}
    script = str(Path(__file__).with_name("real_client.py"))
    done = subprocess.run(
        [PYTHON, "-P", script, *words],
        capture_output=True,
        timeout=60 * SLOWNESS,
        check=False,
        env=env,
    )
    assert done.returncode == 0, done.stderr.decode()
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def check(found: dict[str, Any]) -> None:
    assert found["tools"][:2] == ["status", "workers"]
    assert (found["story"], found["wrong"], found["templates"]) == (INCIDENT, True, 2)
    assert 'worker "web": crashed' in found["resource"]
    assert found["marked"].startswith("What follows")


@pytest.mark.parametrize("mode", ["auto", "legacy"])
def test_a_foreign_client_reads_over_http(door: Door, mode: str) -> None:
    check(looked("http", mode, f"http://127.0.0.1:{door.port}/mcp", TOKEN))


@pytest.mark.parametrize("mode", ["auto", "legacy"])
def test_a_foreign_client_reads_over_stdio(site: Site, mode: str) -> None:
    check(
        looked(
            "stdio", mode, sys.executable, "-P", "-m", "holdfast", "mcp", "--state", str(site.state)
        )
    )
