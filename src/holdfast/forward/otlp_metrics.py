"""How are the figures of a node written in the OpenTelemetry protocol?

Pure: the families of :mod:`holdfast.records.metrics` in, requests out. A name is the Prometheus name without its unit, ``holdfast.`` before it; a reader
that makes Prometheus names of it again gets the very same ones, so dashboards fit both ways. Sums are cumulative and begin with the life that they
count. What OpenTelemetry has conventions for (``process.*``) is told once more under the worker as a resource of its own.
"""

from holdfast.forward.otlp import SCOPE, attributes, nanoseconds
from holdfast.records.openmetrics import COUNTER, HISTOGRAM, INFO, SUMMARY

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

    from holdfast.forward.otlp import Resources
    from holdfast.records.metrics import State, Worker
    from holdfast.records.openmetrics import Family, Sample

#: So many points at most are in one request: collectors take 20 MiB by default, a point is some 300 bytes.
MOST_POINTS = 4_000
_CUMULATIVE = 2
_UNITS = {"seconds": "s", "bytes": "By"}
#: Counters that count since the node was started, not since a worker's life began.
_OF_NODE = frozenset({"holdfast_worker_restarts", "holdfast_worker_deaths"})
#: Suffixes of samples that belong to one point.
_PART = ("_bucket", "_sum", "_count")


class Starts:
    """When did each count begin? Nanoseconds as texts; "" where nobody knows."""

    def __init__(self, state: "State") -> None:
        self.node = _since(state["began_unix_s"])
        self._workers = {one["name"]: _since(one["started_unix_s"]) for one in state["workers"]}
        self._house = {one["name"]: _since(one["started_unix_s"]) for one in state["house"]}

    def of(self, family: str, labels: "dict[str, str]") -> str:
        """Return it for one series."""
        if family in _OF_NODE:
            return self.node
        if "worker" in labels:
            return self._workers.get(labels["worker"], "")
        return self._house.get(labels["process"], "") if "process" in labels else ""


def requests(
    families: "Iterable[Family]", state: "State", resources: "Resources", now_unix_s: float
) -> "Iterator[dict[str, Any]]":
    """Give the bodies of requests to ``/v1/metrics``, none of them too large."""
    node, now = state["node"], nanoseconds(now_unix_s)
    starts = Starts(state)
    found: list[dict[str, Any]] = []
    points = 0
    for family in families:
        all_points = _points(family, starts, now)
        # A family of a thousand workers may be too much by itself.
        for at in range(0, len(all_points), MOST_POINTS):
            some = all_points[at : at + MOST_POINTS]
            if points and points + len(some) > MOST_POINTS:
                yield _request([(resources.of(node), found)])
                found, points = [], 0
            found.append(_metric(family, some))
            points += len(some)
    if found:
        yield _request([(resources.of(node), found)])
    several: list[tuple[dict[str, Any], list[dict[str, Any]]]] = []
    for worker in state["workers"]:
        metrics = _process(worker, now)
        if metrics:
            several.append((resources.of(node, worker["name"]), metrics))
        if len(several) * 6 >= MOST_POINTS:
            yield _request(several)
            several = []
    if several:
        yield _request(several)


def points_of(body: "dict[str, Any]") -> int:
    """Return how many points a request has."""
    return sum(
        len(part["dataPoints"])
        for resource in body["resourceMetrics"]
        for scope in resource["scopeMetrics"]
        for metric in scope["metrics"]
        for part in metric.values()
        if isinstance(part, dict)
    )


def name_of(family: "Family") -> str:
    """Return what a family is called here."""
    name = family.name.removesuffix(f"_{family.unit}") if family.unit else family.name
    if family.kind == INFO:
        name += "_info"
    return name.replace("holdfast_", "holdfast.", 1)


def _request(several: "list[tuple[dict[str, Any], list[dict[str, Any]]]]") -> "dict[str, Any]":
    return {
        "resourceMetrics": [
            {"resource": resource, "scopeMetrics": [{"scope": SCOPE, "metrics": metrics}]}
            for resource, metrics in several
        ]
    }


def _since(unix_s: "float | None") -> str:
    return nanoseconds(unix_s) if unix_s else ""


def _metric(family: "Family", points: "list[dict[str, Any]]") -> "dict[str, Any]":
    found: dict[str, Any] = {"name": name_of(family), "description": family.help}
    if family.unit:
        found["unit"] = _UNITS[family.unit]
    if family.kind == COUNTER:
        found["sum"] = {"aggregationTemporality": _CUMULATIVE, "isMonotonic": True, "dataPoints": points}  # fmt: skip
    elif family.kind == HISTOGRAM:
        found["histogram"] = {"aggregationTemporality": _CUMULATIVE, "dataPoints": points}
    else:
        found["summary" if family.kind == SUMMARY else "gauge"] = {"dataPoints": points}
    return found


def _points(family: "Family", starts: Starts, now: str) -> "list[dict[str, Any]]":
    if family.kind in (HISTOGRAM, SUMMARY):
        return _parts(family, starts, now)
    found = []
    for _, labels, value in family.samples:
        named = dict(labels.pairs)
        point = _head(family, named, starts if family.kind == COUNTER else None, now)
        found.append({**point, **_number(value)})
    return found


def _head(family: "Family", named: "dict[str, str]", starts: "Starts | None", now: str) -> "dict[str, Any]":  # fmt: skip
    point: dict[str, Any] = {"timeUnixNano": now, "attributes": attributes(named)}
    start = starts.of(family.name, named) if starts is not None else ""
    if start:
        point["startTimeUnixNano"] = start
    return point


def _number(value: float) -> "dict[str, Any]":
    if isinstance(value, int):
        return {"asInt": str(value)}
    # What JSON has no number for is a text in this mapping.
    if value != value:
        return {"asDouble": "NaN"}
    return {"asDouble": value if abs(value) != float("inf") else "Infinity" if value > 0 else "-Infinity"}  # fmt: skip


def _parts(family: "Family", starts: Starts, now: str) -> "list[dict[str, Any]]":
    """Return a point for each set of labels; their samples stand behind each other."""
    found: dict[tuple[tuple[str, str], ...], dict[str, Any]] = {}
    for sample in family.samples:
        suffix, labels, value = sample
        pairs = tuple(pair for pair in labels.pairs if pair[0] != "le")
        point = found.get(pairs)
        if point is None:
            point = found[pairs] = _head(family, dict(pairs), starts, now)
        if suffix == "_bucket":
            _bucket(point, sample)
        elif suffix == "_count":
            point["count"] = str(int(value))
        elif suffix == "_sum":
            point["sum"] = float(value)
    for point in found.values():
        if family.kind == HISTOGRAM:
            # Here each class counts for itself; there each counts all below it, too.
            below = point["bucketCounts"]
            pairs_of = zip([0, *below], below, strict=False)
            point["bucketCounts"] = [str(more - less) for less, more in pairs_of]
    return list(found.values())


def _bucket(point: "dict[str, Any]", sample: "Sample") -> None:
    bound = dict(sample[1].pairs)["le"]
    point.setdefault("bucketCounts", []).append(int(sample[2]))
    bounds = point.setdefault("explicitBounds", [])
    if bound != "+Inf":
        bounds.append(float(bound))


def _process(worker: "Worker", now: str) -> "list[dict[str, Any]]":
    """Return a worker's main process in the words of OpenTelemetry's conventions."""
    since = _since(worker["started_unix_s"])
    cpu_ns, faults = worker["cpu_ns"], worker["major_faults"]
    made: list[tuple[str, str, bool, dict[str, Any], dict[str, str]]] = []
    if cpu_ns is not None:
        made.append(("process.cpu.time", "s", True, {"asDouble": cpu_ns / 1e9}, {}))
    if faults is not None:
        of = {"system.paging.fault.type": "major"}
        made.append(("process.paging.faults", "{fault}", True, {"asInt": str(faults)}, of))
    for name, unit, value in (
        ("process.memory.usage", "By", worker["rss_bytes"]),
        ("process.thread.count", "{thread}", worker["threads"]),
        ("process.open_file_descriptor.count", "{file_descriptor}", worker["fds"]),
    ):
        if value is not None:
            made.append((name, unit, False, {"asInt": str(value)}, {}))
    start = {"startTimeUnixNano": since} if since else {}
    return [
        {
            "name": name, "unit": unit,
            "sum": {
                "aggregationTemporality": _CUMULATIVE, "isMonotonic": is_monotonic,
                "dataPoints": [{"timeUnixNano": now, "attributes": attributes(of), **start, **value}],
            },
        }
        for name, unit, is_monotonic, value, of in made
    ]  # fmt: skip
