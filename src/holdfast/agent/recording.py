"""Which lines allocate what stays, in Python and in C? Recorded by memray, where the program's environment has it.

Begun from inside, by the agent: ``memray attach`` would inject a call with gdb, and a program that sleeps in the kernel was seen to
end by that (OSError 514). Cost while it records (bench/heap.py): code that allocates is 3 to 7 times slower (tracemalloc: 6 to 10 times), with
C frames 5 to 12 times; the first time 0.1 s and 9 MB for the import. What was recorded goes into one file a worker in the run directory, which is in
memory and is written over the next time; whoever asked reads it. Left out: reading it (it takes the CPU of somebody else).
"""

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def is_there() -> bool:
    """Tell whether the program could import memray; does not import it."""
    if "memray" in sys.modules:
        return True
    from importlib.util import find_spec

    return find_spec("memray") is not None


def path_for(run_dir: str, worker: str) -> str:
    """Return the file that the recording of a worker is written to."""
    return f"{run_dir}/.heap-{worker.replace('/', '-')}"


def recording(path: str, *, native: bool) -> "Any":
    """Return a context in which allocations are recorded into a file.

    Raises:
        ImportError: It is not installed here, or not for this interpreter.
    """
    import memray

    return memray.Tracker(
        destination=memray.FileDestination(path, overwrite=True, compress_on_exit=False),
        # Sums by stack instead of a line for each allocation: 10 KB instead of 100 MB.
        file_format=memray.FileFormat.AGGREGATED_ALLOCATIONS,
        # Without this, what small objects take is seen once in 256 KB only, and lands on whoever came last.
        trace_python_allocators=True,
        native_traces=native,
    )
