"""Carry out one order: collect what can be known about one failure, before the remedy destroys it.

    python -P .../holdfast/evidence/__main__.py RUN_DIR KEY

Exit status: 0 the order is carried out (``KEY.done`` names the incident), 2 wrong usage, 5 the order or the plan
cannot be read, 1 nothing could be written anywhere. May be killed at any instant and started again.
"""

import gc
import os
import sys

# It lives for a second or two. Collections while it imports are a thirtieth of what the evidence before a memory kill takes.
gc.set_threshold(50_000)

_PACKAGES = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
if _PACKAGES not in sys.path:
    sys.path.insert(0, _PACKAGES)


def main(arguments: list[str]) -> int:
    """Run one capture and return the exit status."""
    from holdfast.evidence import capture
    from holdfast.linux import procfs
    from holdfast.model.errors import HoldfastError

    if len(arguments) != 2 or "/" in arguments[1] or arguments[1].startswith("."):
        sys.stderr.write("evidence: want RUN_DIR KEY (the watchdog starts this, not a person)\n")
        return 2
    procfs.name_self("evidence")
    try:
        capture.carry_out(arguments[0], arguments[1], _let_go)
    except HoldfastError as error:
        sys.stderr.write(f"evidence: {error}\n")
        return error.exit_status
    except OSError as error:
        sys.stderr.write(
            f"evidence: order {arguments[1]}: {error}\n  neither the disk nor memory takes the bundle\n"
        )
        return 1
    return 0


def _let_go() -> None:
    """End for whoever waits, and go on as a copy of which nobody knows.

    The remedy begins when this process has ended. What is left (writing the bundle through to the disk, old bundles; 0.1 to 0.25 s on a busy machine)
    is done by the copy; killed, it costs a bundle only if the power fails, too.
    """
    try:
        copy = os.fork()
    except OSError:
        return  # no memory or no room for a process: then whoever waits, waits a little longer
    if copy:
        # Not sys.exit(): taking the interpreter down is as long as a collector.
        os._exit(0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
