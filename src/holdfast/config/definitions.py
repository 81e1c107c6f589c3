"""Which tables and keys does a ``holdfast.toml`` have? The one definition.

Checking, defaults, the JSON Schema (:mod:`holdfast.config.schema`) and the reference in docs/reference are all made
from here. A key that is missing here does not exist; a default stands nowhere else; it is
written as a person would write it, and parsed by the same code.
"""

from holdfast.config.alerts_definitions import ALERTS
from holdfast.config.bus_definitions import (
    COMPONENT_KEYS,
    FREE_NAME,
    FREE_NAME_WORDS,
    REALM,
    ROUTER_KEYS,
)
from holdfast.config.dashboard_definitions import DASHBOARD
from holdfast.config.forward_definitions import FORWARD
from holdfast.config.jobs_definitions import JOBS, JOBS_KEYS
from holdfast.config.kinds import (
    Address,
    Boolean,
    Choice,
    Command,
    Cpu,
    Duration,
    Endpoint,
    Integer,
    NameText,
    Number,
    Off,
    OrOff,
    PathText,
    ServiceAddress,
    Signal,
    Size,
    Text,
    Umask,
    Url,
)
from holdfast.config.tables import (
    DurationsByName,
    Either,
    Environment,
    Key,
    ListOf,
    Named,
    Settings,
    Short,
    Table,
)

RESTART = Table(
    "restart policy",
    "When a dead worker is started again. The first death after a healthy life restarts at once.",
    Key("policy", Choice("always", "on-failure", "never"), "Which ends are answered with a new start.",
        default="always", also=("autorestart", "mode"), example='"on-failure"'),
    Key("limit", Integer(0, 1_000_000), "So many deaths within the window are answered promptly; 0 means no limit.",
        default=5, also=("max_retries", "startretries", "intensity", "max_restarts"), example="5"),
    Key("window", Duration(), "The window in which deaths are counted.", default="60s", also=("period", "interval"), example='"60s"'),
    Key("after_limit", Choice("slow", "down"),
        "Beyond the limit: keep trying, once every delay_max, or leave it down.", default="slow"),
    Key("delay", Duration(zero=True), "The first delay, after two short lives in a row; it doubles from there.",
        default="100ms", also=("backoff",), example='"100ms"'),
    Key("delay_max", Duration(zero=True), "The longest delay.", default="30s", also=("max_delay", "max_backoff")),
    Key("jitter", Number(0, 1), "The share of a delay that is drawn at random, so that many workers do not come back in step.",
        default=0.2),
    Key("healthy", Duration(zero=True), "A life this long counts as good: the next death restarts at once.",
        default="1s", also=("startsecs", "min_uptime")),
)  # fmt: skip

_TARGETS = (
    Key("tcp", Endpoint(), "It accepts a connection here; a bare port is one of 127.0.0.1.", also=("port",), example="6390"),
    Key("unix", PathText(), "It accepts a connection on this Unix socket.", also=("socket",), example='"run/app.sock"'),
    Key("http", Url(), "It answers a GET of this address with a status below 400.", also=("url",),
        example='"http://127.0.0.1:8080/health"'),
    Key("file", PathText(), "This file exists (ready), or is touched again and again (heartbeat).", also=("path",), example='"run/ready"'),
    Key("notify", Boolean(), "It says so itself by sd_notify (READY=1, WATCHDOG=1).", also=("sd_notify",), example="true"),
    Key("exec", Command(), "This command ends with status 0.", also=("command", "cmd", "test"), example='["redis-cli", "ping"]'),
    Key("log", Text(), "A line of its output matches this regular expression.", also=("line", "pattern"), example='"listening on"'),
    Key("pulse", Boolean(), "Its pulse says so (containers).", example="true"),
)  # fmt: skip
_BY_NAME = {key.name: key for key in _TARGETS}
READY_KINDS = tuple(_BY_NAME)
HEARTBEAT_KINDS = ("pulse", "file", "notify", "http", "exec", "tcp")
#: The ones that the watchdog asks for; the others come by themselves.
PROBES = ("http", "exec", "tcp")

READY = Table(
    "ready check",
    "How Holdfast learns that a worker can serve. Exactly one of the first keys, and a timeout.",
    *_TARGETS,
    Key("timeout", Duration(), "Not ready after this long: the start has failed.", default="60s",
        also=("start_timeout", "timeout_s"), example='"30s"'),
    choose=READY_KINDS,
)  # fmt: skip

HEARTBEAT = Table(
    "heartbeat",
    "How Holdfast learns that a worker still serves. Exactly one of the first keys, and the times.",
    *(_BY_NAME[name] for name in HEARTBEAT_KINDS),
    Key("period", Duration(), "How often a probe runs (http, exec, tcp).", default="5s", also=("interval", "every"), example='"5s"'),
    Key("timeout", Duration(), "Silent for this long: flagged, and remedied.",
        default_words='"5s" for a pulse, "30s" for everything else', also=("timeout_s", "watchdog_sec"), example='"30s"'),
    choose=HEARTBEAT_KINDS,
)  # fmt: skip
#: Default of heartbeat.timeout by kind, in seconds; a pulse beats ten times a second, others rarely.
HEARTBEAT_TIMEOUT_S = {"pulse": 5.0}
HEARTBEAT_TIMEOUT_OTHERS_S = 30.0

STOP = Table(
    "stopping",
    "How a worker is asked to end before it is killed.",
    Key("signal", Signal(), "The signal that asks it to end.", default="TERM", also=("stopsignal", "kill_signal"), example='"TERM"'),
    Key("grace", Duration(zero=True), "How long it may take before it is killed.", default="10s",
        also=("stopwaitsecs", "timeout", "kill_timeout", "graceful_timeout"), example='"10s"'),
)  # fmt: skip

LOG = Table(
    "log",
    "Where output is kept, and how much of it.",
    Key("max_size", Size(4096, "4 KiB"), "A segment is closed at this size.", default="10M",
        also=("maxbytes", "size", "max_bytes"), example='"10M"'),
    Key("max_age", Duration(zero=True), "Or at this age; 0 means never by age.", default=0, example='"1d"'),
    Key("keep", Integer(0, 100_000), "So many closed segments are kept.", default=10, also=("backups", "rotate", "max_files"),
        example="10"),
    Key("compress", Boolean(), "Closed segments are compressed by gzip.", default=True, example="true"),
    Key("directory", PathText(), "Where the segments are; relative to the configuration file. No two workers may share one.",
        default_words="STATE/logs/WORKER", also=("dir", "path", "folder"), example='"/var/log/crawler"'),
)  # fmt: skip

DETECT = Table(
    "detectors",
    "From where on something is flagged; `false` switches a detector off. Every key is the name of a flag, but `freeze` and `warm_up`.",
    Key("freeze", OrOff(Duration()), "A pulse that is silent for so long is written up; the remedy waits for heartbeat.timeout.",
        default="1s", example='"2s"'),
    Key("loop_lag", OrOff(Duration()), "The event loop comes this late, three times within three seconds.", default="250ms",
        example='"500ms"'),
    Key("slow", OrOff(Number(1.1, 1000)), "A unit of work costs so many times the processor time that it used to.", default=2.0,
        example="3"),
    Key("stalled", OrOff(Number(1.5, 1000)), "Requests that have not ended are so many times as old as they get on their route, three at once.",
        default=5.0, example="10"),
    Key("starved", OrOff(Number(0.05, 1)), "It waits for a processor for this share of the time: the machine's fault, or a limit's, so it is only shown.",
        default=0.5, example="0.8"),
    Key("pegged", OrOff(Duration()), "A busy processor, calls under way, and none ends for so long.", default="5s", example='"10s"'),
    Key("deadlock", OrOff(Duration()), "A thread waits for one lock for so long.", default="10s", example='"1m"'),
    Key("task_bomb", OrOff(Number(10, 1e7)), "So many asyncio tasks, and ten times what is usual.", default=1000, example="5000"),
    Key("thread_bomb", OrOff(Number(4, 1e6)), "So many threads, and three times what is usual.", default=200, example="500"),
    Key("child_bomb", OrOff(Number(4, 1e6)), "So many processes below it, and five times what is usual.", default=100, example="400"),
    Key("fd_leak", OrOff(Number(0.05, 1)), "This share of the files that it may have open; steady growth is flagged long before.",
        default=0.8, example="0.9"),
    Key("memory_leak", OrOff(Duration()), "Memory lasts no longer than this until the limit (of the worker, or of the machine); "
        "steady growth is flagged long before.", default="30s", example='"60s"'),
    Key("odd_one_out", OrOff(Number(2, 1000)), "So many robust standard deviations above the workers that do the same.", default=4.0,
        example="6"),
    Key("log_storm", OrOff(Size()), "So many bytes of log a second, and thirty times what is usual.", default="1MB", example='"10MB"'),
    Key("log_silence", OrOff(Duration()), "No line for so long, and ten times its longest pause, while it works as before.",
        default="2m", example='"10m"'),
    Key("warm_up", Duration(zero=True), "After it is ready, so long no steady growth is a leak.", default="30s", example='"5m"'),
)  # fmt: skip

DETECT_NODE = Table(
    "detectors of the machine",
    "From where on something is flagged; `false` switches a detector off.",
    Key("disk_filling", OrOff(Duration()), "The disk of the state directory is full within so long.", default="10m", example='"1h"'),
    Key("inodes_low", OrOff(Number(0, 1)), "A smaller share of its inodes is free.", default=0.05, example="0.02"),
    Key("memory_pressure", OrOff(Number(0, 1)), "A smaller share of the memory is available, or it will be gone within half a minute.",
        default=0.05, example="0.1"),
    Key("clock_jump", OrOff(Duration()), "The clock is set by more than this.", default="1s", example='"10s"'),
)  # fmt: skip

LISTENER = Table(
    "listener",
    "A listening socket that outlives the worker.",
    Key("address", Address(), "Where it is bound.", required=True, also=("bind", "url", "tcp", "unix"), example='"tcp://127.0.0.1:8080"'),
    Key("name", NameText(), "Its name in LISTEN_FDNAMES.", default_words="the name of the worker", example='"web"'),
    Key("backlog", Integer(1, 65535), "How many connections may wait.", default=512, example="512"),
)  # fmt: skip

_OFF_READY = Off("none", 'say what to look at, as { tcp = 8080 }, "notify" or "pulse"')
_NAMES = ListOf(NameText(), 'a list of worker names, as ["cache"]')

_SHARED_KEYS = (
    Key("directory", PathText(), "The directory it runs in; relative to the configuration file.",
        default_words="the directory of the configuration file", also=("cwd", "chdir", "working_dir", "working_directory", "dir"),
        example='"app"'),
    Key("env", Environment(), "Environment variables, added to those of [node] and of whoever started the node.",
        also=("environment", "envs", "vars"), example='{ TZ = "UTC" }'),
    Key("env_file", PathText(), "A file with NAME=VALUE lines, read when the plan is made; `env` wins.",
        also=("envfile", "environment_file", "dotenv"), example='".env"'),
    Key("user", Either(Text("a user name"), Integer(0, 2**31)), "Run as this user (name or number); only root can.",
        default_words="whoever started the node", also=("uid", "runas"), example='"www-data"'),
    Key("group", Either(Text("a group name"), Integer(0, 2**31)), "Run with this group (name or number).",
        default_words="the user's own groups", also=("gid",), example='"www-data"'),
    Key("umask", Umask(), "Permissions that new files do not get.", default_words="as inherited", example='"027"'),
    Key("memory_max", Size(1 << 20, "1 MiB"), "Memory of the worker and its children; beyond it the kernel kills.",
        default_words="no limit", also=("memory", "memory_limit", "mem_limit", "max_memory", "mem"), example='"512M"'),
    Key("cpu_max", Cpu(), "Processor time: 1.5 or \"150%\" is one core and a half.",
        default_words="no limit", also=("cpu", "cpus", "cpu_limit", "cpu_quota"), example="1.5"),
    Key("processes_max", Integer(1, 4_194_304), "Processes and threads that the worker and its children may have.",
        default_words="no limit", also=("pids_max", "tasks_max", "pids_limit", "nproc"), example="64"),
    Key("files_max", Integer(16, 1 << 30), "Files that it may have open.", default_words="as inherited",
        also=("nofile", "limit_nofile", "open_files", "ulimit"), example="4096"),
    Key("core_max", Size(0, "0"), "Size of a core dump.", default_words="as inherited", also=("core", "limit_core"), example="0"),
    Key("restart", Either(Short(Choice("always", "on-failure", "never"), "policy"), RESTART),
        "When it is started again after a death; a word alone is the policy.", also=("autorestart", "restart_policy", "respawn"),
        example='{ limit = 3, window = "1m" }'),
    Key("ready", Either(Short(Choice("notify", "pulse")), _OFF_READY, READY),
        "How Holdfast learns that it can serve.", default_words='"pulse" for a container, false for a guest',
        also=("readiness", "ready_check", "startup_probe", "readiness_probe"), example="{ tcp = 6390 }"),
    Key("heartbeat", Either(Short(Choice("pulse", "notify")), _OFF_READY, HEARTBEAT),
        "How Holdfast learns that it still serves.", default_words='"pulse" for a container, false for a guest',
        also=("healthcheck", "health", "liveness", "watchdog", "liveness_probe"), example='{ http = "http://127.0.0.1:8080/", period = "2s" }'),
    Key("detect", DETECT, "From where on its detectors flag something.", also=("detectors", "alerts", "thresholds"),
        example='{ task_bomb = 5000, slow = false }'),
    Key("stop", STOP, "How it is asked to end.", also=("shutdown", "kill"), example='{ signal = "INT", grace = "3s" }'),
    Key("crash_only", Boolean(), "It can be killed at any time without harm: stopping it is SIGKILL.", default=False, example="true"),
    Key("spare", Integer(0, 1), "1: a second process, imported and waiting, takes over within milliseconds.",
        default=0, only="container", also=("warm_spare", "standby"), example="1"),
    Key("isolate", Either(Boolean(), Choice("halves")),
        "A worker of several components that dies again and again is run as several workers until the culprit stands alone: "
        "all at once, or \"halves\" (two processes at a time, but more crashes); false: never.",
        default=True, only="container", also=("split", "isolation"), example='"halves"'),
    Key("autostart", Boolean(), "Start it with the node; otherwise only `holdfast start` does.", default=True,
        also=("enabled", "auto_start"), example="false"),
    Key("essential", Boolean(), "The node ends when this worker is down for good.", default=False, also=("critical",), example="true"),
    Key("log", Either(Off("none", "write false, or a table such as { keep = 3 }"), LOG),
        "How much of its output is kept; false: output goes where the node's own goes.",
        also=("logs", "logging", "stdout_logfile", "output"), example='{ max_size = "1M", keep = 3 }'),
    Key("python", PathText("the path or name of a Python interpreter"), "The interpreter of the container.",
        default_words="the one that runs Holdfast", only="container", also=("interpreter", "executable", "venv"), example='".venv/bin/python"'),
    Key("pythonpath", ListOf(PathText(), 'a list of directories, as ["src"]'),
        "Directories that components are imported from, after the worker's own `directory`; relative to the configuration file.",
        only="container", also=("path", "sys_path"), example='["src"]'),
    Key("faulthandler", Boolean(), "A Python program: a crash leaves its stacks (PYTHONFAULTHANDLER).",
        default_words="true for containers, and for guests that are Python programs", example="true"),
    Key("agent", Boolean(), "Inside the process: beats, which line creates tasks and threads, what each route costs. For a guest: a Python program, "
        "which stays as it is. false for a container: nothing is counted, it only beats.",
        default_words="true for containers, false for guests", also=("instrument", "apm", "trace"), example="true"),
)  # fmt: skip

WORKER = Table(
    "worker",
    "One kept process: a container of components, a router of the bus, a worker of the job queue, or a guest (any program).",
    Key("kind", Choice("container", "guest", "router", "jobs"), "What it is. A router is a container with Holdfast's own WAMP router in it; "
        "`jobs` runs jobs of the queue.",
        default_words='"container" with components, otherwise "guest"', also=("type",), example='"router"'),
    Key("command", Command(), "The program of a guest and its arguments. A text is split at blanks; no shell reads it.",
        only="guest", also=("cmd", "run", "exec", "start", "exec_start", "program", "args", "script"), example='["redis-server", "--port", "6390"]'),
    Key("components", ListOf(NameText(), 'a list of component names, as ["board"]', least=1), "The components of a container.",
        only="container", also=("component", "apps"), example='["board", "presence"]'),
    Key("after", _NAMES, "Start it only when these are ready.", also=("starts_after", "depends_on"), example='["cache"]'),
    Key("requires", _NAMES, "The same; and leave it down while one of these is down for good.",
        also=("needs", "require", "depends", "wants", "dependencies"), example='["cache"]'),
    Key("listen", ListOf(Either(Short(ServiceAddress(), "address"), LISTENER), 'a list of addresses, as ["tcp://127.0.0.1:8080"]'),
        "Listening sockets that Holdfast opens and hands over (LISTEN_FDS): a restart loses no connection. For a router also "
        "`ws://`, `wss://` (with a path), `rs://`, `rss://`, `http://`, `https://`: what is spoken there; one port can serve several.",
        also=("sockets", "bind", "ports", "socket"), example='["tcp://127.0.0.1:8080", "unix:app.sock"]'),
    *ROUTER_KEYS,
    *JOBS_KEYS,
    *_SHARED_KEYS,
)  # fmt: skip

DEFAULTS_WORKER = Table(
    "defaults of workers",
    "Keys for every worker that does not set them itself. `restart`, `stop`, `log`, `detect` and `env` are merged key by key.",
    *_SHARED_KEYS,
)

COMPONENT = Table(
    "component",
    "A piece of Python that runs inside a container. One that no worker names gets a worker of its own, of the same name.",
    Key("use", Text('"module:attribute"', r"[^\W\d][\w-]*(?:\.[^\W\d][\w-]*)*:[^\W\d]\w*(?:\.[^\W\d]\w*)*",
                    hint='as "package.module:attribute"'),
        "Where it is: a module and what to take from it.", required=True, also=("module", "class", "app", "path", "classname"),
        example='"board.app:main"'),
    Key("settings", Settings(), "A table that is handed to the component as it is.", also=("config", "options", "extra", "params"),
        example="{ rooms = 3 }"),
    *COMPONENT_KEYS,
)  # fmt: skip

GROUP = Table(
    "group",
    "Workers that restart together.",
    Key("strategy", Choice("one_for_one", "one_for_all", "rest_for_one"),
        "Who restarts when one dies: only that one, all, or that one and those listed after it.", default="one_for_all",
        example='"rest_for_one"'),
    Key("workers", ListOf(NameText(), 'a list of worker names, as ["cache", "web"]', least=1), "The workers, in start order.",
        required=True, also=("members", "programs"), example='["cache", "web"]'),
)  # fmt: skip

NODE = Table(
    "node",
    "The node as a whole.",
    Key("name", NameText(), "Its name, in status and incidents.", default_words="the name of the host", example='"clandeck-1"'),
    Key("state_dir", PathText(), "Where logs and incidents are kept; relative to the configuration file.", default=".holdfast",
        also=("state", "data_dir", "directory"), example='".holdfast"'),
    Key("drills", Boolean(), "`holdfast drill` may inject faults into this node.", default=False, also=("drill",), example="true"),
    Key("env", Environment(), "Environment variables of all workers.", also=("environment",), example='{ TZ = "UTC" }'),
    Key("env_pass", ListOf(Text("a name of a variable, with * for any letters"), 'a list of names, as ["PATH", "LC_*"]'),
        "Which variables of whoever starts the node the workers get; those of a login session (SSH_*, TERM, …) only by name.",
        default_words='["*"]', also=("pass_env", "inherit_env", "passenv"), example='["PATH", "HOME", "LC_*"]'),
    Key("evidence_budget", Duration(), "A remedy waits at most this long for evidence.", default="2s", example='"2s"'),
    Key("sample", Duration(), "The least time between two samples of one worker.", default="1s", also=("sample_interval",), example='"1s"'),
    Key("disk_min_share", Number(0, 1), "A flag is raised when less than this share of the state directory's disk is free.",
        default=0.05, example="0.05"),
    Key("verify", Duration(), "A remedy has helped when the symptom stays away this long.", default="10s", example='"10s"'),
    Key("detect", DETECT_NODE, "From where on the detectors of the machine flag something.", also=("detectors", "alerts"),
        example='{ disk_filling = "1h" }'),
    Key("shed", ListOf(NameText(), 'a list of worker names, as ["reports"]'),
        "Workers that are stopped while the machine is out of memory, and started again when it is well; nobody misses them for a while.",
        also=("optional", "dispensable"), example='["reports"]'),
    Key("house_timeout", Duration(), "A process of Holdfast whose beat is older is replaced. They beat once a second.",
        default="5s", example='"5s"'),
    Key("objectives", DurationsByName(), "Drills, and the longest recovery that is good enough.", also=("slo", "targets"),
        example='{ kill-worker = "250ms" }'),
    Key("log", LOG, "How much of the output of Holdfast itself is kept.", also=("logs",), example="{ keep = 3 }"),
)  # fmt: skip


DEFAULTS = Table("defaults", "Defaults for tables that come more than once.",
                 Key("worker", DEFAULTS_WORKER, "Defaults of workers.", also=("workers",)))  # fmt: skip

ROOT = Table(
    "holdfast.toml",
    "The configuration of a Holdfast node: what runs on it, and how it is kept running.",
    Key("include", ListOf(PathText(), 'a list of files, as ["conf.d/*.toml"]'),
        "More files to read; relative to this one; * stands for any letters of a file name.", also=("includes", "import"), example='["conf.d/*.toml"]'),
    Key("node", NODE, "The node as a whole.", also=("global", "settings", "holdfast", "supervisord")),
    Key("defaults", DEFAULTS, "Defaults for tables that come more than once.", also=("default",)),
    Key("component", Named(COMPONENT), "Python components by name.", also=("components", "app", "apps")),
    Key("worker", Named(WORKER), "Workers by name.", also=("workers", "program", "programs", "service", "services", "process", "processes")),
    Key("group", Named(GROUP), "Groups by name.", also=("groups",)),
    Key("jobs", JOBS, "The job queue.", also=("queue", "broker", "celery", "sidekiq")),
    Key("alerts", ALERTS, "How people are told of what needs them.", also=("alert", "alerting", "notify", "notifications")),
    Key("forward", FORWARD, "What the node says, for other tools: OpenTelemetry, the journal, JSON.",
        also=("otlp", "opentelemetry", "otel", "journald", "forwarding", "export")),
    Key("dashboard", DASHBOARD, "The dashboard in the browser.", also=("web", "ui", "admin", "inet_http_server")),
    Key("realm", Named(REALM, names=FREE_NAME, names_words=FREE_NAME_WORDS), "Realms of the bus by name.", also=("realms",)),
)  # fmt: skip

COMPONENT.elsewhere = dict.fromkeys(
    WORKER.keys, "[worker.NAME]: how a process is run is the worker's business"
)
WORKER.elsewhere = dict.fromkeys(
    COMPONENT.keys, "[component.NAME]; a worker lists its components by name"
)
ROOT.elsewhere = {
    **dict.fromkeys(COMPONENT.keys, "[component.NAME]"),
    **dict.fromkeys(WORKER.keys, "[worker.NAME]"),
    **dict.fromkeys(NODE.keys, "[node]"),
    **dict.fromkeys(JOBS.keys, "[jobs]"),
}
JOBS.elsewhere = {
    **dict.fromkeys(WORKER.keys, "[worker.NAME]"),
    **dict.fromkeys(NODE.keys, "[node]"),
}
NODE.elsewhere = dict.fromkeys(JOBS.keys, "[jobs]")
