"""Which columns does a plot need of a worker's samples, and what happened meanwhile? Pure.

One list a figure, as long as the list of times; None where nothing is known: between two lives, for a rate at the first sample, for what only a container tells. So a plot
shows a gap and not a line over it. Of a worker that does not move the watchdog keeps the first and the last of a run of equal samples (``watchdog/samples.py``): between
those two everything is known, and is drawn.
"""

from itertools import pairwise

from holdfast.wire import sample

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any

    Sample = Mapping[str, int]
    Columns = dict[str, list[Any]]

KEYS = (
    "at_unix_s", "cpu", "rss_bytes", "lag_ms", "tasks", "work_rate", "latency_ms", "threads", "fds", "in_flight", "children",
)  # fmt: skip
#: Samples further apart than so many times the usual do not belong together.
_GAP = 5.0
_LEAST_GAP_S = 10.0
#: How long after the first sample of a rest its rates are drawn: those of the sample itself are of the time before it.
_STEP_S = 1.0
#: Who took it and when; all else is what was seen.
_OF_THE_LOOK = ("number", "unix_ns", "mono_ns")


def columns(samples: "Iterable[Sample]", since_unix_s: float = 0.0) -> "Columns":
    """Return the columns of samples.

    Args:
        samples: Oldest first.
        since_unix_s: Only from here on; the one before is still looked at, for its rates.
    """
    rows = list(samples)
    found: Columns = {key: [] for key in KEYS}
    gap_s = _usual_gap_s(rows)
    before: Sample | None = None
    for row in rows:
        at_unix_s = row["unix_ns"] / 1e9
        is_same = before is not None and before["pid"] == row["pid"]
        if before is not None and at_unix_s >= since_unix_s:
            elapsed_s = at_unix_s - before["unix_ns"] / 1e9
            if elapsed_s > 2 * _STEP_S and _is_rest(before, row):
                _point(found, row, before)
                began_unix_s = max(before["unix_ns"] / 1e9 + _STEP_S, since_unix_s)
                found["at_unix_s"][-1] = round(began_unix_s, 2)
            elif (not is_same or elapsed_s > gap_s) and found["at_unix_s"]:
                _hole(found, (before["unix_ns"] / 1e9 + at_unix_s) / 2)
                is_same = is_same and elapsed_s <= gap_s
        if at_unix_s >= since_unix_s:
            _point(found, row, before if is_same else None)
        before = row
    return found


def _is_rest(before: "Sample", row: "Sample") -> bool:
    """Whether nothing at all has changed between two samples of one life."""
    return all(before[key] == row[key] for key in row if key not in _OF_THE_LOOK)


def _usual_gap_s(rows: "Sequence[Sample]") -> float:
    distances = sorted(after["mono_ns"] - row["mono_ns"] for row, after in pairwise(rows))  # fmt: skip
    if not distances:
        return _LEAST_GAP_S
    return max(_LEAST_GAP_S, _GAP * distances[len(distances) // 2] / 1e9)


def _hole(found: "Columns", at_unix_s: float) -> None:
    for key in KEYS:
        found[key].append(None)
    found["at_unix_s"][-1] = round(at_unix_s, 2)


def _point(found: "Columns", row: "Sample", before: "Sample | None") -> None:
    inside = bool(row["tasks"] or row["lag_ns"] or row["work_done"])
    found["at_unix_s"].append(round(row["unix_ns"] / 1e9, 2))
    found["rss_bytes"].append(
        row["rss_bytes"] or None
    )  # of a process that is just dying there is none
    found["threads"].append(row["threads"])
    found["fds"].append(row["fds"] if row["fds"] >= 0 else None)
    found["children"].append(row["children"])
    found["lag_ms"].append(round(row["lag_ns"] / 1e6, 2) if inside else None)
    found["tasks"].append(row["tasks"] if inside else None)
    found["in_flight"].append(row["in_flight"] if inside else None)
    cpu = rate = latency = None
    elapsed_ns = row["mono_ns"] - before["mono_ns"] if before is not None else 0
    if before is not None and elapsed_ns > 0:
        cpu = round(max(0.0, (row["cpu_ns"] - before["cpu_ns"]) / elapsed_ns), 4)
        done = row["work_done"] - before["work_done"]
        spent_ns = row["latency_sum_ns"] - before["latency_sum_ns"]
        if inside and done >= 0:
            rate = round(done * 1e9 / elapsed_ns, 2)
        if done > 0 and spent_ns > 0:
            latency = round(spent_ns / done / 1e6, 3)
    found["cpu"].append(cpu)
    found["work_rate"].append(rate)
    found["latency_ms"].append(latency)


def of_bundle(document: "Any") -> "Columns":
    """Return the columns of the ``samples.json`` of an incident; empty ones where it is damaged."""
    try:
        fields, rows = document["fields"], document["rows"]
        known = [
            {**dict.fromkeys(sample.FIELDS, 0), **dict(zip(fields, row, strict=True))}
            for row in rows
        ]
        return columns(known)
    except (KeyError, TypeError, ValueError):
        return {key: [] for key in KEYS}


def marks(incidents: "Iterable[Mapping[str, Any]]", since_unix_s: float) -> "list[dict[str, Any]]":
    """Return what happened, to be drawn over a plot."""
    return [
        {"at_unix_s": row["opened_unix_s"], "says": row["title"], "incident": row["id"]}
        for row in incidents
        if row["opened_unix_s"] >= since_unix_s
    ]
