"""Sentry, and all that speak its protocol (GlitchTip, Bugsink, Relay): one event in an envelope for each incident.

``POST /api/PROJECT/envelope/`` with the key of the DSN. The event's id is made of the incident's, so one that is sent twice is one there; incidents of one cause have one
fingerprint. Limits that the other side tells (``X-Sentry-Rate-Limits``, also with a success) are kept to; meanwhile events wait in the outbox.
"""

import json
import time
from urllib.parse import urlsplit

from holdfast import __version__
from holdfast.alerts.channels import crash, http
from holdfast.alerts.channels.channel import NotDelivered
from holdfast.alerts.channels.moments import rfc3339
from holdfast.core import alerting

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from holdfast.alerts.channels.crash import Crash, Frame

_CLIENT = f"holdfast/{__version__}"
#: Categories of limits that are about us; none named: all are meant.
_OURS = frozenset({"", "error", "default"})
_LONGEST = 200


class Dsn:
    """Where to, and with which key: ``https://KEY@HOST[:PORT][/PATH]/PROJECT``."""

    __slots__ = ("key", "secret", "url")

    def __init__(self, text: str) -> None:
        """Take it apart.

        Raises:
            ValueError: It is none; the message does not repeat it.
        """
        parts = urlsplit(text)
        base, _, project = parts.path.rpartition("/")
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("it has to begin with http:// or https:// and name a host")
        if not parts.username:
            raise ValueError("there is no key in it, before the @")
        if not (project.isascii() and project.isdigit()):
            raise ValueError("it does not end with the number of a project")
        self.key, self.secret = parts.username, parts.password or ""
        host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
        port = f":{parts.port}" if parts.port else ""
        self.url = f"{parts.scheme}://{host}{port}{base}/api/{project}/envelope/"


class Sentry:
    """One project."""

    def __init__(self, dsn: str, release: str, environment: str, kinds: "Sequence[str]", timeout_s: float) -> None:  # fmt: skip
        self._dsn = Dsn(dsn)
        self._release, self._environment = release, environment
        self._kinds = kinds
        self._timeout_s = timeout_s
        self._not_before_s = 0.0

    def wants(self, message: "dict[str, Any]") -> bool:
        """Whether it is an incident: alerts are other people's business."""
        return crash.wants(message, self._kinds)

    def deliver(self, message: "dict[str, Any]") -> None:
        """Send an event."""
        left_s = self._not_before_s - time.monotonic()
        if left_s > 0:
            raise NotDelivered("it has asked for fewer events", after_s=left_s)
        found = crash.Crash(message)
        made = event(found, self._release, self._environment, message["change"] == alerting.TOLD_TEST)  # fmt: skip
        now_unix_s = time.time()
        secret = f", sentry_secret={self._dsn.secret}" if self._dsn.secret else ""
        headers = {
            "Content-Type": "application/x-sentry-envelope", "User-Agent": _CLIENT,
            "X-Sentry-Auth": f"Sentry sentry_version=7, sentry_client={_CLIENT}, sentry_key={self._dsn.key}{secret}",
        }  # fmt: skip
        said = http.send(self._dsn.url, envelope(found.id, made, now_unix_s), headers, timeout_s=self._timeout_s)  # fmt: skip
        self._not_before_s = time.monotonic() + limit_s(said.get("X-Sentry-Rate-Limits") or "")


def limit_s(header: str) -> float:
    """Return for how long no errors are wanted: ``SECONDS:CATEGORIES:SCOPE…``, several apart by commas."""
    longest = 0.0
    for limit in header.replace(" ", "").split(","):
        seconds, _, rest = limit.partition(":")
        try:
            after_s = float(seconds)
        except ValueError:
            continue
        if _OURS & set(rest.partition(":")[0].split(";")):
            longest = max(longest, after_s)
    return min(longest, http.LONGEST_WAIT_S)


def envelope(event_id: str, made: "dict[str, Any]", now_unix_s: float) -> bytes:
    """Return an event in an envelope: a head, the head of the item, the item."""
    payload = json.dumps(made, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "replace")
    head = {"event_id": event_id, "sent_at": rfc3339(now_unix_s), "sdk": _sdk()}
    item = {"type": "event", "content_type": "application/json", "length": len(payload)}
    return json.dumps(head).encode() + b"\n" + json.dumps(item).encode() + b"\n" + payload + b"\n"


def event(found: "Crash", release: str, environment: str, is_test: bool = False) -> "dict[str, Any]":  # fmt: skip
    """Return an incident as an event."""
    made: dict[str, Any] = {
        "event_id": found.id, "timestamp": rfc3339(found.unix_s), "platform": "python", "logger": "holdfast", "sdk": _sdk(),
        "level": "info" if is_test else "fatal" if found.is_fatal else "error", "server_name": found.node,
        "tags": {"node": found.node, "worker": found.worker, "kind": found.kind},
        "contexts": {"holdfast": {"type": "holdfast", **found.facts, "findings": found.findings}},
    }  # fmt: skip
    if found.component:
        made["tags"]["component"] = found.component
    if found.python:
        made["contexts"]["runtime"] = {"type": "runtime", "name": "CPython", "version": found.python}  # fmt: skip
    if release:
        made["release"] = release[:_LONGEST]
    if environment:
        made["environment"] = environment[:64]
    if is_test:
        made["message"] = {"formatted": found.value}
        return made
    # The kind and the innermost functions, without line numbers: an edit elsewhere in the file makes no new issue.
    made["fingerprint"] = ["holdfast", found.worker, found.signature]
    made["transaction"] = found.component or found.worker
    mechanism: dict[str, Any] = {"type": "holdfast", "handled": False}
    if found.signal:
        mechanism["meta"] = {"signal": {"number": found.signal, "name": found.error}}
    exception: dict[str, Any] = {"type": found.error.rpartition(".")[2], "value": found.value, "mechanism": mechanism}  # fmt: skip
    if "." in found.error:
        exception["module"] = found.error.rpartition(".")[0]
    if found.frames:
        # Here the innermost is first, there it is last.
        exception["stacktrace"] = {"frames": [_frame(one) for one in reversed(found.frames)]}
    made["exception"] = {"values": [exception]}
    return made


def _frame(one: "Frame") -> "dict[str, Any]":
    made: dict[str, Any] = {
        "filename": crash.short(one.path), "abs_path": one.path, "module": crash.module(one.path), "function": one.function,
        "in_app": one.is_own,
    }  # fmt: skip
    if one.line:
        made["lineno"] = one.line
    if one.source:
        made["context_line"] = one.source
    return made


def _sdk() -> "dict[str, str]":
    return {"name": "holdfast", "version": __version__}
