"""What does `holdfast heap --trace` cost the program while it watches?

    python bench/heap.py [--runs 3]

A loop that does little but allocate, in each of the ways that the agent has, one after the other, again and again: what a machine does meanwhile evens out.
Figures are processor time of the loop, as a multiple of the same loop unwatched. memray's rows need memray in this environment.
"""

import argparse
import contextlib
import json
import statistics
import tempfile
import time
import tracemalloc

from holdfast.agent import recording

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from typing import Any

_SECONDS, _TURNS, _CALLS_DEEP = 0.35, 200, 20
#: Frames that the agent has tracemalloc keep, without and with `-o`.
_DEPTH, _DEEP = 8, 40
_TEXT = '{"a": [1, 2, 3, {"b": "ccccccccccccccccccccccccccc"}], "d": 1.5}'


def small() -> None:
    """Make small objects, and keep some for a while."""
    kept = [json.loads(_TEXT) for _ in range(_TURNS)]
    kept.clear()


def large() -> None:
    """Make buffers and drop them."""
    for _ in range(_TURNS):
        bytearray(20_000)
        bytes(3_000)


def rate(depth: int, work: "Callable[[], None]") -> float:
    """Return turns a second of processor time, with so many frames on the stack."""
    if depth:
        return rate(depth - 1, work)
    began_s = time.process_time()
    turns = 0
    while time.process_time() - began_s < _SECONDS:
        work()
        turns += 1
    return turns / (time.process_time() - began_s)


@contextlib.contextmanager
def traced(depth: int) -> "Any":
    tracemalloc.start(depth)
    yield
    tracemalloc.stop()


def ways(path: str) -> "dict[str, Callable[[], AbstractContextManager[Any]]]":
    found: dict[str, Callable[[], AbstractContextManager[Any]]] = {
        "unwatched": contextlib.nullcontext,
        "tracemalloc": lambda: traced(_DEPTH),
        "tracemalloc, -o": lambda: traced(_DEEP),
    }
    if recording.is_there():
        found["memray"] = lambda: recording.recording(path, native=False)
        found["memray, --native"] = lambda: recording.recording(path, native=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=3)
    args = parser.parse_args()
    with tempfile.NamedTemporaryFile(dir="/dev/shm") as file:
        rates: dict[tuple[str, str], list[float]] = {}
        for _ in range(args.runs):
            for name, begin in ways(file.name).items():
                for work in (small, large):
                    with begin():
                        rates.setdefault((name, work.__name__), []).append(rate(_CALLS_DEEP, work))
        medians = {key: statistics.median(found) for key, found in rates.items()}
    print(f"{'':18} {'small':>8} {'large':>8}")
    for name in ways(""):
        small_x, large_x = (
            medians["unwatched", kind] / medians[name, kind] for kind in ("small", "large")
        )
        print(f"{name:18} {small_x:7.1f}x {large_x:7.1f}x")


if __name__ == "__main__":
    main()
