"""How are lines and incidents written in the OpenTelemetry protocol (OTLP/HTTP, JSON)?

Pure: values in, dicts out. Each worker is a resource (``service.name`` is the worker, ``service.namespace`` the node), a line is a log record, an
incident an event, that is a log record with a name: ``holdfast.incident.opened`` and ``holdfast.incident.settled``. Of the JSON mapping it matters that 64-bit
integers are strings and enumerations numbers. Left out: figures (:mod:`holdfast.forward.otlp_metrics`), sending (:mod:`holdfast.forward.posting`).
"""

from holdfast import __version__
from holdfast.forward import levels
from holdfast.forward.reading import OPENED
from holdfast.forward.texts import findings, readable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

    from holdfast.forward.reading import News, Portion
    from holdfast.records.logs import Line

    Attributes = list[dict[str, Any]]

SCOPE = {"name": "holdfast", "version": __version__}
_STREAMS = {"out": "stdout", "err": "stderr"}
_SEVERITIES = {
    "cured": levels.INFO,
    "closed": levels.INFO,
    "did_not_help": levels.ERROR,
    "gave_up": levels.CRITICAL,
}


class Resources:
    """Who said it.

    Args:
        host: Name of this machine.
        more: Attributes that a person wants on everything.
    """

    def __init__(self, host: str, more: "Mapping[str, str]") -> None:
        self._host = host
        self._more = more

    def of(self, node: str, worker: str = "") -> "dict[str, Any]":
        """Return a worker as a resource; without one the node itself."""
        # Unique within a name and namespace, and the same in the next life: a restart is the same instance.
        found = {
            "service.name": worker or "holdfast", "service.namespace": node, "service.instance.id": f"{self._host}/{node}",
            "host.name": self._host, **self._more,
        }  # fmt: skip
        return {"attributes": attributes(found)}


def attributes(values: "Mapping[str, object]") -> "Attributes":
    """Return attributes as the protocol has them; None is left out."""
    return [{"key": key, "value": any_value(value)} for key, value in values.items() if value is not None]  # fmt: skip


def any_value(value: object) -> "dict[str, Any]":
    """Return one value with its type."""
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int):
        return {"intValue": str(value)}
    if isinstance(value, float):
        return {"doubleValue": value}
    if isinstance(value, list | tuple):
        return {"arrayValue": {"values": [any_value(one) for one in value]}}
    return {"stringValue": readable(str(value))}


def nanoseconds(unix_s: float) -> str:
    """Return a moment as the protocol has it; to the microsecond, which is what a float holds."""
    return str(round(unix_s * 1e6) * 1000)


def logs(portion: "Portion", node: str, resources: Resources, now_unix_s: float) -> "dict[str, Any]":  # fmt: skip
    """Return the body of a request to ``/v1/logs``."""
    by_worker: dict[str, list[dict[str, Any]]] = {}
    seen = nanoseconds(now_unix_s)
    for line in portion.lines:
        by_worker.setdefault(line.worker, []).append({**_line(line), "observedTimeUnixNano": seen})
    for one in portion.news:
        worker = str(one.record.get("worker") or "")
        record = {**_event(one), "observedTimeUnixNano": seen}
        by_worker.setdefault("" if worker.startswith("@") else worker, []).append(record)
    return {
        "resourceLogs": [
            {"resource": resources.of(node, worker), "scopeLogs": [{"scope": SCOPE, "logRecords": found}]}
            for worker, found in by_worker.items()
        ]
    }  # fmt: skip


def _line(line: "Line") -> "dict[str, Any]":
    level = levels.level_of(line.text)
    return {
        "timeUnixNano": nanoseconds(line.unix_s),
        "severityNumber": levels.SEVERITIES[level],
        "severityText": level,
        "body": {"stringValue": readable(line.text)},
        "attributes": attributes(
            {"log.iostream": _STREAMS.get(line.stream), "holdfast.start": line.start or None}
        ),
    }


def _event(one: "News") -> "dict[str, Any]":
    record = one.record
    level = levels.ERROR if one.kind == OPENED else _SEVERITIES.get(one.verdict, levels.WARNING)
    says = str(record.get("title") or "")
    found: dict[str, object] = {
        "holdfast.incident.id": record.get("id"), "holdfast.incident.kind": record.get("kind"),
        "holdfast.incident.signature": cause(record).get("signature"), "holdfast.component": record.get("component"),
        "holdfast.start": record.get("start"), "process.pid": record.get("pid"),
    }  # fmt: skip
    if one.kind == OPENED:
        found |= {
            "holdfast.incident.findings": findings(record) or None, "holdfast.incident.changed": record.get("changed") or None,
            **exception(record),
        }  # fmt: skip
    else:
        says = f"{says}: {one.verdict}"
        found["holdfast.incident.verdict"] = one.verdict
    return {
        "timeUnixNano": nanoseconds(one.unix_s), "eventName": f"holdfast.incident.{one.kind}",
        "severityNumber": levels.SEVERITIES[level], "severityText": level, "body": {"stringValue": readable(says)},
        "attributes": attributes(found),
    }  # fmt: skip


def cause(record: "Mapping[str, Any]") -> "dict[str, Any]":
    """Return the facts of an incident's symptom; a damaged bundle has none."""
    found = record.get("cause")
    return found if isinstance(found, dict) else {}


def exception(record: "Mapping[str, Any]") -> "dict[str, object]":
    """Return what killed a program as OpenTelemetry describes exceptions; nothing where there was none."""
    fatal, frames = str(record.get("fatal") or ""), cause(record).get("frames") or []
    if not fatal:
        return {}
    kind, colon, message = fatal.partition(": ")
    if fatal.startswith("Fatal Python error"):
        kind, message = "Fatal Python error", message
    # As Python prints it: the innermost last.
    trace = "".join(f"  {frame}\n" for frame in reversed(_texts(frames)))
    return {
        "exception.type": kind, "exception.message": message if colon else fatal,
        "exception.stacktrace": f"Traceback (most recent call last):\n{trace}{fatal}" if trace else None,
    }  # fmt: skip


def _texts(found: "Iterable[object]") -> "list[str]":
    return [str(one) for one in found]
