"""Honeybadger, by its API for notices: ``POST /v1/notices``, 201 is success.

The token of a notice is made of the incident's id, so one that is sent twice has one token; incidents of one cause have one fingerprint.
"""

import json
import sys

from holdfast import __version__
from holdfast.alerts.channels import crash, http
from holdfast.alerts.channels.moments import rfc3339
from holdfast.core import alerting

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from holdfast.alerts.channels.crash import Crash

URL = "https://api.honeybadger.io"
_AGENT = f"Holdfast {__version__}; {sys.version.split()[0]}; {sys.platform}"
#: A notice may have 256 KiB; what people wrote into an exception is all that could be so long.
_LONGEST = 16_000


class Honeybadger:
    """One project."""

    def __init__(
        self, api_key: str, url: str, release: str, environment: str, kinds: "Sequence[str]", timeout_s: float
    ) -> None:  # fmt: skip
        self._api_key = api_key
        self._url = f"{url.rstrip('/')}/v1/notices"
        self._release, self._environment = release, environment
        self._kinds = kinds
        self._timeout_s = timeout_s

    def wants(self, message: "dict[str, Any]") -> bool:
        """Whether it is an incident: alerts are other people's business."""
        return crash.wants(message, self._kinds)

    def deliver(self, message: "dict[str, Any]") -> None:
        """Send a notice."""
        made = notice(crash.Crash(message), self._release, self._environment, message["change"] == alerting.TOLD_TEST)  # fmt: skip
        headers = {
            "X-API-Key": self._api_key, "Content-Type": "application/json", "Accept": "application/json", "User-Agent": _AGENT,
        }  # fmt: skip
        data = json.dumps(made, ensure_ascii=False).encode("utf-8", "replace")
        http.send(self._url, data, headers, timeout_s=self._timeout_s)


def notice(found: "Crash", release: str, environment: str, is_test: bool = False) -> "dict[str, Any]":  # fmt: skip
    """Return an incident as a notice."""
    number = found.id
    token = "-".join((number[:8], number[8:12], number[12:16], number[16:20], number[20:]))
    error: dict[str, Any] = {
        "token": token, "class": "test" if is_test else found.error, "message": found.value[:_LONGEST],
        "tags": ["holdfast", found.kind, f"worker-{found.worker}"], "fingerprint": f"{found.worker}|{found.signature}",
        "backtrace": [_line(one) for one in found.frames],
    }  # fmt: skip
    server: dict[str, Any] = {
        "hostname": found.node, "time": rfc3339(found.unix_s), "environment_name": environment or "production",
    }  # fmt: skip
    if release:
        server["revision"] = release
    if found.pid:
        server["pid"] = found.pid
    facts = {**found.facts, "node": found.node, "findings": found.findings, "python": found.python}
    return {
        "notifier": {"name": "Holdfast", "url": "https://pypi.org/project/holdfast/", "version": __version__},
        "error": error,
        "request": {"component": found.worker, "action": found.component, "context": facts},
        "server": server,
    }  # fmt: skip


def _line(one: "crash.Frame") -> "dict[str, Any]":
    made: dict[str, Any] = {"number": str(one.line), "file": one.path, "method": one.function}
    if one.source and one.line:
        made["source"] = {str(one.line): one.source}
    return made
