"""Is every page crawled when the parser leaks, one page kills it, and everything is killed at random?"""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from crawler_example import EXAMPLE
from node import SLOWNESS


def drill(*words: str) -> dict[str, object]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("HOLDFAST_", "CRAWLER_"))}
    env = kept | {"PYTHONPATH": str(EXAMPLE.parents[1] / "src"), "HOLDFAST_SLOWNESS": str(SLOWNESS)}
    done = subprocess.run(
        [sys.executable, str(EXAMPLE / "drill.py"), "--json", *words], env=env, capture_output=True, text=True, timeout=180 * SLOWNESS, check=False
    )  # fmt: skip
    assert done.stdout, done.stderr
    told: dict[str, object] = json.loads(done.stdout)
    assert done.returncode == (1 if told["wrong"] else 0)
    return told


@pytest.mark.faults
def test_every_page_is_crawled_whatever_is_killed() -> None:
    """The story of 2016, with the other end: nobody sat in his chair for 72 hours."""
    told = drill()
    kills = told["kills"]
    assert isinstance(kills, dict)

    assert told["wrong"] == [], told
    # That it held is worth something only if it was hit.
    assert kills["everything"] == 1
    assert {"anchor", "keeper", "watchdog", "logger", "steward", "fetch", "parse", "parse.2", "site"} <= set(kills)  # fmt: skip
