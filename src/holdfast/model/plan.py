"""What the keeper, the watchdog and the logger need to know about a node: the compiled plan.

`config` writes it (checked, every default filled in, every path absolute), everything else only
reads it. The shapes are ``TypedDict`` for the type checker and plain ``dict`` at run time: importing
``typing`` costs a house process 1.7 MiB and 15 ms at each restart, and JSON gives dicts anyway.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Literal, NotRequired, TypedDict

    from holdfast.model.bus import BusPlan, RouterPlan
    from holdfast.model.jobs import JobsPlan

    class RestartPolicy(TypedDict):
        """When a dead worker is started again (see :mod:`holdfast.core.restart`)."""

        policy: Literal["always", "on-failure", "never"]
        limit: int  #: deaths within window_s that are still answered promptly; 0: no limit
        window_s: float
        after_limit: Literal["slow", "down"]  #: keep trying every delay_max_s, or leave it down
        delay_s: float  #: first delay after two short lives in a row; doubles from there
        delay_max_s: float
        jitter: float  #: share of the delay that is drawn at random, 0..1
        healthy_s: float  #: a life this long counts as good: the next death restarts at once

    class ReadyCheck(TypedDict):
        """How we know that a worker can serve."""

        kind: Literal["none", "tcp", "unix", "http", "file", "notify", "exec", "log", "pulse"]
        target: str  #: "host:port", a path, a URL, a pattern of a log line; "" where unused
        argv: list[str]  #: for exec
        timeout_s: float  #: not ready after this long: the start has failed

    class Heartbeat(TypedDict):
        """How we know that a worker still serves."""

        kind: Literal["none", "pulse", "file", "notify", "http", "exec", "tcp"]
        target: str
        argv: list[str]
        period_s: float  #: how often a probe runs (http, exec, tcp)
        timeout_s: float  #: silent for this long: flagged as missed

    class Limits(TypedDict):
        """Ceilings of one worker; None: not set."""

        memory_bytes: int | None
        cpu_share: float | None  #: 1.0 is one core
        processes: int | None
        files: int | None
        core_bytes: int | None

    class Stop(TypedDict):
        """How a worker is asked to end before it is killed."""

        signal: int
        grace_s: float

    class LogPolicy(TypedDict):
        """How much output of a worker is kept."""

        max_bytes: int  #: a segment is closed at this size
        max_age_s: float  #: or at this age; 0: never by age
        keep: int  #: closed segments kept
        compress: bool
        directory: str  #: absolute; holds out.log, err.log and their closed segments

    class Listener(TypedDict):
        """A listening socket that outlives the worker (LISTEN_FDS)."""

        name: str
        kind: Literal["tcp", "unix"]
        host: str
        port: int
        path: str
        backlog: int
        shared: NotRequired[
            bool
        ]  # SO_REUSEPORT: sockets of other workers may have the address, too

    class User(TypedDict):
        """Whom a worker runs as, numbers only."""

        uid: int
        gid: int
        groups: list[int]
        name: str

    class ComponentPlan(TypedDict):
        """One component inside a container."""

        name: str
        use: str  #: "package.module:attribute"
        settings: dict[str, object]
        bus: NotRequired[BusPlan | None]  #: how it joins a realm; None: the node has no router

    class WorkerPlan(TypedDict):
        """One kept process."""

        name: str
        kind: Literal["container", "guest", "router", "jobs"]
        argv: list[str]  #: argv[0] is absolute
        env: dict[str, str]  #: added to Plan.env
        directory: str
        user: User | None
        umask: int | None
        limits: Limits
        restart: RestartPolicy
        after: list[str]  #: start only when these are ready
        requires: list[str]  #: the same, and stay down while one of these is down for good
        ready: ReadyCheck
        heartbeat: Heartbeat
        stop: Stop
        crash_only: bool  #: stopping is SIGKILL
        spare: int  #: 0 or 1: a second process, imported, waiting for its go (containers)
        autostart: bool
        essential: bool  #: the node ends when this worker is down for good (containers, PID 1)
        log: LogPolicy | None  #: None: output goes where the node's own goes
        listen: list[Listener]
        components: list[ComponentPlan]
        router: NotRequired[RouterPlan | None]  #: what a router does; taken over while it runs
        jobs: NotRequired[JobsPlan | None]  #: what a process of the job queue does
        faulthandler: bool  #: a Python program: PYTHONFAULTHANDLER is set, stacks can be had
        detect: NotRequired[
            dict[str, float]
        ]  #: thresholds of its detectors (core/detect/thresholds.py); 0: off
        agent: NotRequired[
            bool
        ]  #: a guest: it gets the agent and a pulse; a container: creations are counted
        isolate: NotRequired[int]  #: split into so many parts at most to find a culprit; 0: never

    class GroupPlan(TypedDict):
        """Workers that restart together (OTP's supervision strategies)."""

        name: str
        strategy: Literal["one_for_one", "one_for_all", "rest_for_one"]
        workers: list[str]  #: in start order

    class WatchPlan(TypedDict):
        """What the watchdog goes by."""

        evidence_budget_s: float
        sample_s: float  #: the least time between two samples of one worker
        disk_min_share: (
            float  #: free share of the state directory's disk below which a flag is raised
        )
        verify_s: float  #: a remedy has helped when the symptom stays away this long
        house_timeout_s: float  #: a house process whose beat is older is replaced
        objectives: dict[str, float]  #: drill name -> longest recovery in seconds
        detect: NotRequired[
            dict[str, float]
        ]  #: thresholds of the box (core/detect/thresholds.py); 0: off
        shed: NotRequired[list[str]]  #: workers that are stopped while the box is out of memory

    class SplitPlan(TypedDict):
        """A worker that runs as several."""

        parts: dict[str, list[str]]  #: name of each part and its components
        since_unix_s: float  #: the last step
        steps: list[dict[str, object]]  #: unix_s, worker, parts, why
        written: NotRequired[WorkerPlan]  #: as the configuration has it

    class Plan(TypedDict):
        """A whole node. ``format`` is bumped when a reader of the old shape would go wrong."""

        format: int
        node: str
        config: str  #: absolute path of the file it was made from
        state_dir: str
        digest: str  #: of everything else in here; names this plan
        drills: bool
        env: dict[str, str]
        workers: list[WorkerPlan]  #: in start order
        groups: list[GroupPlan]
        watch: WatchPlan
        house_log: LogPolicy
        #: By configured worker: how it is split (see :mod:`holdfast.core.parts`); only in the plan that runs.
        split: NotRequired[dict[str, SplitPlan]]


#: Kinds of workers that run `container/`: they have a pulse, a control socket and Python stacks.
HOSTED = ("container", "router", "jobs")

#: The plan format that this version writes and reads.
PLAN_FORMAT = 1
