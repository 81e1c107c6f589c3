"""Where everything is: the names of the files under the state directory and the run directory.

The *state directory* is on disk and survives a reboot (logs, incidents, the plan). The *run directory* is in
memory (tmpfs) and belongs to one boot: locks, sockets, beats, pulses, the keeper's journal, flags.
``STATE/run`` is a symbolic link to it, so that ``ls .holdfast/run/flags`` works.
"""

# -- run directory ---------------------------------------------------------------------------------
PLAN = "plan.json"  # the plan that runs, replaced by atomic rename
BOOT = "boot"  # boot id; another one means that everything else in here is dead
BEATS = "beats"
JOURNAL = "journal"  # the keeper's
EXITS = "exits"  # the anchor's: exit statuses of orphans it reaped
SEEN = "watchdog.seen"  # sequence number up to which the watchdog has dealt with the journal
FIFOS = "fifo"  # fifo/WORKER.out, fifo/WORKER.err
PULSES = "pulse"  # pulse/WORKER (the one that serves), pulse/WORKER.spare, pulse/WORKER.words, pulse/WORKER.forks/PID
SAMPLES = "samples"  # samples/WORKER
FLAGS = "flags"  # flags/WORKER.NAME
ORDERS = "orders"  # orders/INCIDENT.json: what an evidence process was asked for
BUS = "bus"  # bus/WORKER.sock: a router's internal socket
JOBS = "jobs"  # jobs/OWNER: flight recorders; jobs/steward.sock
CONTROL = "ctl"  # ctl/WORKER.sock: a container's own control socket
NOTIFY = "notify.sock"  # sd_notify of all workers
STATE_LINK = "state"  # link to the state directory
ROLES = ("anchor", "keeper", "watchdog", "logger")

# -- state directory -------------------------------------------------------------------------------
NODE_LOCK = "node.lock"  # held by the anchor: one node on one state directory
RUN_LINK = "run"
LOGS = "logs"  # logs/WORKER/out.log
INCIDENTS = "incidents"  # incidents/ID/…
INCIDENT_INDEX = "incidents/index.jsonl"
GOOD = "good"  # good/WORKER.json: the environment at the last good start

#: Name under which the house's own output is kept, like a worker's.
HOUSE_LOG = "holdfast"


def lock(role: str) -> str:
    """Name of the lock file of a house process; whoever holds the lock is the process."""
    return role + ".lock"


def socket(role: str) -> str:
    """Name of the control socket of a house process."""
    return role + ".sock"


def fifo(worker: str, stream: str) -> str:
    """Name of the pipe that carries the output of a worker; ``stream`` is out or err."""
    return f"{FIFOS}/{worker}.{stream}"


def pulse(worker: str, role: str = "main") -> str:
    """Name of the pulse file of a worker, or of its spare."""
    return f"{PULSES}/{worker}" if role == "main" else f"{PULSES}/{worker}.{role}"


def forks(worker: str) -> str:
    """Name of the directory with the pulses of the processes that a worker forked: PID, PID.sock, and ``dead``, what the dead had counted."""
    return f"{PULSES}/{worker}.forks"


def words(worker: str) -> str:
    """Name of the file with the interpreter's dying words, where the output is not captured."""
    return f"{PULSES}/{worker}.words"


def flag(worker: str, name: str) -> str:
    """Name of a flag file; the box itself is the worker ``@node``."""
    return f"{FLAGS}/{worker}.{name}"
