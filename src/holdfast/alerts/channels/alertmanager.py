"""Prometheus Alertmanager, by its API v2: ``POST /api/v2/alerts`` with labels, annotations, startsAt and endsAt.

Labels are the identity there, so they never change during an alert's life (no severity, no text). An alert that is not sent again ends by
itself at ``endsAt``: :data:`REFRESH_S` is how often it has to be. A resolved one is sent with the moment of its end.
"""

import json
import time

from holdfast.alerts.channels import http
from holdfast.alerts.channels.moments import rfc3339
from holdfast.core import alerting

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

#: Prometheus re-sends each minute by default.
REFRESH_S = 60.0
_LASTS_S = 5 * REFRESH_S
_IS_OVER = (alerting.TOLD_RESOLVED,)
_MUTE = (alerting.TOLD_DIGEST, alerting.TOLD_ACK, alerting.TOLD_SNOOZE)


class Alertmanager:
    """One Alertmanager."""

    def __init__(
        self, url: str, labels: "dict[str, str]", headers: "dict[str, str]", timeout_s: float
    ) -> None:
        base = url.rstrip("/")
        self._url = base if base.endswith("/api/v2/alerts") else f"{base}/api/v2/alerts"
        self._labels = labels
        self._headers = headers
        self._timeout_s = timeout_s

    def wants(self, message: "dict[str, Any]") -> bool:
        """Whether it is of an alert; silences are Alertmanager's own business."""
        return message["change"] not in _MUTE

    def deliver(self, message: "dict[str, Any]") -> None:
        """Post it."""
        is_over = message["change"] in _IS_OVER
        ends = message["at_unix_s"] if is_over else time.time() + _LASTS_S
        alert = {
            "labels": {
                "alertname": "Holdfast", "node": message["node"], "worker": message["cause"], "alert": message["alert"],
                **self._labels,
            },
            "annotations": {
                "summary": message["title"], "description": message["text"], "severity": message["severity"],
                "kind": message["kind"], "incident": message["incident"] or "",
            },
            "startsAt": rfc3339(message["since_unix_s"]),
            "endsAt": rfc3339(ends),
        }  # fmt: skip
        headers = {**self._headers, "Content-Type": "application/json"}
        http.send(self._url, json.dumps([alert]).encode(), headers, timeout_s=self._timeout_s)
