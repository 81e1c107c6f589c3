"""Read what memray recorded in a program, for somebody whose own environment may not have memray.

    PYTHON -P .../holdfast/evidence/read_recording.py FILE

Run with the interpreter of the program that was recorded, and on its own: nothing of Holdfast is imported, since that environment may have
none. Prints one JSON object: ``{"bytes", "count", "rows": [[bytes, count, thread, [frames, innermost first]], …]}``, the largest first, of
what was allocated and was still there at the end. Exit status 1 with a line on stderr where it cannot be read.
"""

import json
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

#: So many stacks are told; what the rest has is in the totals.
_ROWS = 4000


def main(path: str) -> int:
    """Print what is in a file."""
    try:
        from memray import FileReader

        reader = FileReader(path)
        rows: list[list[Any]] = [
            [one.size, one.n_allocations, one.thread_name, _frames(one, is_native=reader.metadata.has_native_traces)]
            for one in reader.get_leaked_allocation_records(merge_threads=False)
        ]  # fmt: skip
    except (ImportError, OSError, RuntimeError) as error:
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        return 1
    rows.sort(key=lambda row: -row[0])
    total = {"bytes": sum(row[0] for row in rows), "count": sum(row[1] for row in rows)}
    json.dump({**total, "rows": rows[:_ROWS]}, sys.stdout)
    return 0


def _frames(one: "Any", *, is_native: bool) -> "list[str]":
    stack = one.hybrid_stack_trace() if is_native else one.stack_trace()
    return [f"{path}:{line} in {function}" for function, path, line in stack]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
