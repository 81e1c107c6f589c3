"""PagerDuty, by its Events API v2: trigger, acknowledge and resolve under one ``dedup_key``.

The key is the alert's id, so a message that is sent twice lands on the same alert there. 202 is success, 400 is never worth another try,
429 and 5xx are. What only informs (a digest) does not page anybody.
"""

import json

from holdfast.alerts.channels import http
from holdfast.alerts.channels.moments import rfc3339
from holdfast.core import alerting

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

URL = "https://events.pagerduty.com/v2/enqueue"
_ACTIONS = {
    alerting.TOLD_FIRING: "trigger",
    alerting.TOLD_WORSE: "trigger",
    alerting.TOLD_AGAIN: "trigger",
    alerting.TOLD_ACK: "acknowledge",
    alerting.TOLD_SNOOZE: "acknowledge",
    alerting.TOLD_RESOLVED: "resolve",
    alerting.TOLD_TEST: "trigger",
    alerting.TOLD_TROUBLE: "trigger",
}
#: Longest summary and key that it takes.
_SUMMARY, _KEY = 1024, 255


class PagerDuty:
    """One integration of a PagerDuty service."""

    def __init__(self, routing_key: str, url: str, timeout_s: float) -> None:
        self._routing_key = routing_key
        self._url = url
        self._timeout_s = timeout_s

    def wants(self, message: "dict[str, Any]") -> bool:
        """Whether it is of an alert."""
        return message["change"] in _ACTIONS

    def deliver(self, message: "dict[str, Any]") -> None:
        """Enqueue an event."""
        event: dict[str, Any] = {
            "routing_key": self._routing_key,
            "event_action": _ACTIONS[message["change"]],
            "dedup_key": f"holdfast-{message['node']}-{message['alert']}"[:_KEY],
        }
        if event["event_action"] == "trigger":
            event["client"] = "Holdfast"
            event["payload"] = {
                "summary": message["title"][:_SUMMARY],
                "source": message["node"],
                "severity": message["severity"] or "info",
                "timestamp": rfc3339(message["at_unix_s"]),
                "component": message["worker"],
                "class": message["kind"],
                "custom_details": {
                    name: message[name]
                    for name in ("text", "incident", "consequences", "members", "look")
                },
            }
        data = json.dumps(event).encode()
        headers = {"Content-Type": "application/json"}
        http.send(self._url, data, headers, timeout_s=self._timeout_s)
