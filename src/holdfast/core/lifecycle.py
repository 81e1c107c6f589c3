"""The whole life of a worker, as the keeper sees it: one table.

Pure. A pair that is missing from the table cannot happen; asking for it is a fault of the
caller and raises. The keeper turns what it sees (a process died, a person asked) into one of the events; which
of the ``DIED_…`` events a death is follows from :mod:`holdfast.core.restart`.

States:
    waiting   wanted, but something it starts after is not ready
    starting  a process is there, it cannot serve yet
    running   a process is there and ready
    stopping  asked to end, not dead yet
    backoff   dead, will be started when its delay is over
    down      not wanted
    failed    left down: it died too often (or cannot be started)
    done      ended by itself and is not to be started again
"""

WAITING, STARTING, RUNNING, STOPPING = "waiting", "starting", "running", "stopping"
BACKOFF, DOWN, FAILED, DONE = "backoff", "down", "failed", "done"

#: States in which a process exists.
ALIVE = frozenset({STARTING, RUNNING, STOPPING})

WANT_UP = "want_up"  # a person or the plan wants it
SPAWNED = "spawned"
READY = "ready"
ASK_STOP = "ask_stop"  # a live process is told to end (for good, or to be restarted)
WANT_DOWN = "want_down"  # not wanted, and there is no process
STOPPED = "stopped"  # died as asked, stays down
STOPPED_RESTART = "stopped_restart"  # died as asked, to be started again
DIED_RESTART = "died_restart"
DIED_DELAY = "died_delay"
DIED_DOWN = "died_down"
DIED_NONE = "died_none"

#: Every transition there is.
NEXT = {
    (WAITING, WANT_UP): WAITING,
    (BACKOFF, WANT_UP): WAITING,
    (DOWN, WANT_UP): WAITING,
    (FAILED, WANT_UP): WAITING,
    (DONE, WANT_UP): WAITING,
    (WAITING, SPAWNED): STARTING,
    (STARTING, READY): RUNNING,
    (RUNNING, READY): RUNNING,
    (STARTING, ASK_STOP): STOPPING,
    (RUNNING, ASK_STOP): STOPPING,
    (STOPPING, ASK_STOP): STOPPING,
    (STOPPING, READY): STOPPING,
    (WAITING, WANT_DOWN): DOWN,
    (BACKOFF, WANT_DOWN): DOWN,
    (DOWN, WANT_DOWN): DOWN,
    (FAILED, WANT_DOWN): DOWN,
    (DONE, WANT_DOWN): DOWN,
    (STOPPING, STOPPED): DOWN,
    (STOPPING, STOPPED_RESTART): WAITING,
    # A death that nobody asked for; WAITING: the spawn itself failed; STOPPING: shot as a remedy,
    # which counts like a death.
    **{
        (state, event): after
        for state in (STARTING, RUNNING, WAITING, STOPPING)
        for event, after in (
            (DIED_RESTART, WAITING),
            (DIED_DELAY, BACKOFF),
            (DIED_DOWN, FAILED),
            (DIED_NONE, DONE),
        )
    },
}


def step(state: str, event: str) -> str:
    """Return the state after ``event``.

    Raises:
        ValueError: This cannot happen in this state.
    """
    try:
        return NEXT[state, event]
    except KeyError:
        raise ValueError(f"a worker that is {state} cannot get {event}") from None
