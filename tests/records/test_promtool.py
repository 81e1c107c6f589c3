"""Prometheus' own judge of metrics, where it is installed: is there anything that it would have us do otherwise?"""

from __future__ import annotations

import os
import shutil
import subprocess

import pytest

from holdfast.records import metrics, openmetrics
from records.test_metrics import full

PROMTOOL = os.environ.get("HOLDFAST_PROMTOOL") or shutil.which("promtool") or ""


@pytest.mark.skipif(
    not PROMTOOL, reason="there is no promtool here (apt install prometheus, or HOLDFAST_PROMTOOL)"
)
def test_promtool_has_nothing_to_say() -> None:
    """Names, units, types and help of every family that a node can tell."""
    data = openmetrics.prometheus(metrics.families(full()))

    done = subprocess.run(
        [PROMTOOL, "check", "metrics"], input=data, capture_output=True, timeout=60, check=False
    )

    assert (done.returncode, done.stderr.decode(), done.stdout.decode()) == (0, "", "")
