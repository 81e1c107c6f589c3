"""The process that hosts components; started by the keeper (ARCHITECTURE, "The environment of a worker")."""

import gc
import os
import sys

# Imports make nothing but things that stay: passes over them cost a start 10 ms. main() goes back to what was.
collect_at = gc.get_threshold()
gc.set_threshold(1_000_000, *collect_at[1:])

try:
    import holdfast
except ModuleNotFoundError:
    # The worker's interpreter may be another one than ours (an application's own virtual environment):
    # the package that this very file belongs to is then put last, where it shadows nothing.
    sys.path.append(__file__.rsplit("/", 3)[0])
    import holdfast  # noqa: F401

from holdfast.container import turn  # noqa: E402 -- after the package was found

# What comes next is what takes long.
taken = turn.take(
    os.environ.get("HOLDFAST_RUN", ""), turn.patience_s(os.environ), len(os.sched_getaffinity(0))
)

from holdfast.container.host import main  # noqa: E402

main(collect_at, taken)
