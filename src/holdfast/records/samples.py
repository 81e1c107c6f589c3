"""The samples that the watchdog took of a worker, read back.

The ring is in memory (run directory) and is overwritten: what has to outlive it is copied into an incident's bundle.
"""

from holdfast.linux import files
from holdfast.wire import layout, sample

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def recent(
    run_dir: str, worker: str, *, start: "int | None" = None, since_unix_s: "float | None" = None
) -> "list[dict[str, int]]":
    """Return the samples of a worker, oldest first; none when nobody has sampled it.

    Args:
        run_dir: The node's run directory.
        worker: Its name.
        start: Only of this life.
        since_unix_s: Only from this time on.
    """
    found = sample.decode(files.read(f"{run_dir}/{layout.SAMPLES}/{worker}"))
    if start is not None:
        found = [one for one in found if one["start"] == start]
    if since_unix_s is not None:
        found = [one for one in found if one["unix_ns"] >= since_unix_s * 1e9]
    return found


def columns(samples: "list[dict[str, int]]") -> "dict[str, Any]":
    """Return samples as one list a field: a third of the bytes, and what plots want."""
    return {
        "fields": list(sample.FIELDS),
        "rows": [[one[f] for f in sample.FIELDS] for one in samples],
    }
