"""What does a node look like to systemd: as one unit, or as a unit for each worker?

:func:`node` is the node under systemd, as docs/how-to/run-under-systemd.md tells; nothing of Holdfast is lost. :func:`each`
is for those who leave Holdfast (or need a worker on a machine without it): a service for each guest, a socket for each
listener, a target for all. What systemd cannot do is noted. Follows systemd 252: what later ones know (RestartSteps=)
stands in a note, for an older one would pass over it in silence.
"""

import math
from shlex import quote
from typing import TYPE_CHECKING

from holdfast.config.exporters import units
from holdfast.config.exporters.sheet import Node, Sheet, longest_stop_s, signal_name, span
from holdfast.model.plan import HOSTED

if TYPE_CHECKING:
    from holdfast.model.plan import WorkerPlan

#: Where secrets are expected: one file of NAME=VALUE lines for each unit, for root alone.
SECRETS = "/etc/holdfast"

_ADVICE = {
    "restart.delay_max": "from systemd 254: RestartSteps= and RestartMaxDelaySec= make the delay grow",
    "restart.jitter": "systemd restarts without chance in it",
    "restart.healthy": "systemd counts every start, however long the life before was",
    "essential": "FailureAction= and SuccessAction= of systemd act on the whole machine: set them by hand if that is meant",
    "spare": "systemd has no warm spare: a restart takes as long as a start",
    "agent": "the agent reports to a watchdog of Holdfast; without one it was left out",
    "log": "output goes to the journal: limits are in journald.conf, or LogNamespace= for the unit",
    "group": "PartOf= passes on a restart by hand, but not one after a crash",
    "shed": "ManagedOOMMemoryPressure=kill lets systemd-oomd kill it under memory pressure; nothing starts it again when that is over",
}  # fmt: skip

Files = dict[str, str]


def node(given: Node) -> tuple[Files, list[str]]:
    """Return the unit that runs the whole node."""
    name, plan = given.name, given.plan
    grace = span(math.ceil(longest_stop_s(plan)) + 30)
    up = [given.program, "--config", given.config, "up"]
    service: list[tuple[str, str]] = []
    if given.is_watched:
        service += [("Type", "notify"), ("NotifyAccess", "all"), ("WatchdogSec", "30s"), ("Restart", "always"),
                    ("RestartSec", "1s"), ("KillMode", "mixed"), ("ExecStart", units.command([*up, "--quiet"]))]  # fmt: skip
    else:
        service += [
            ("Type", "oneshot"),
            ("RemainAfterExit", "yes"),
            ("ExecStart", units.command([*up, "--detach"])),
            ("ExecStop", units.command([given.program, "--config", given.config, "down"])),
        ]
    service.append(("WorkingDirectory", units.path(given.directory)))
    if given.user:
        service.append(("User", given.user))
    service += [("TimeoutStartSec", "5min"), ("TimeoutStopSec", grace), ("Delegate", "yes")]
    notes = _passed_on(given)
    if given.variables:
        file = f"{SECRETS}/{name}.env"
        service.append(("EnvironmentFile", units.path(file)))
        notes.append(
            f"variables: the configuration needs {', '.join(given.variables)}: write NAME=value lines into {file},"
            " mode 600 (the unit does not start without the file)"
        )
    sections = {
        "Unit": [
            ("Description", units.sentence(f"{plan['node']}, a Holdfast node")),
            ("Documentation", "man:holdfast(1)"),
            ("Wants", "network-online.target"),
            ("After", "network-online.target"),
        ],
        "Service": service,
        "Install": [("WantedBy", "multi-user.target")],
    }
    file_name = f"{name}.service"
    remarks = [
        f"/etc/systemd/system/{file_name}, made by `holdfast export systemd` from {given.config}"
    ]
    return {file_name: units.unit(sections, remarks)}, notes


def each(given: Node) -> tuple[Files, list[str]]:
    """Return a service for each guest, its sockets, and a target that holds all of them."""
    files: Files = {}
    notes: list[str] = []
    target = f"{given.name}.target"
    guests = [worker for worker in given.plan["workers"] if worker["kind"] not in HOSTED]
    names = {worker["name"] for worker in guests}
    for worker in given.plan["workers"]:
        if worker["kind"] in HOSTED:
            notes.append(hosted(worker))
            continue
        sheet = Sheet(given, worker)
        files |= _Service(given, sheet, names).files()
        notes += sheet.close()
    if not files:
        return {}, notes
    files[target] = units.unit(
        {
            "Unit": [
                ("Description", units.sentence(f"all workers of {given.plan['node']}")),
                ("Wants", "network-online.target"),
            ],
            "Install": [("WantedBy", "multi-user.target")],
        },
        [
            f"/etc/systemd/system/{target}, made by `holdfast export systemd --each` from {given.config}"
        ],
    )
    return files, [*_passed_on(given), *without(), *notes]


def hosted(worker: "WorkerPlan") -> str:
    """Return the note about a worker that runs inside of Holdfast's own code."""
    return (
        f"worker.{worker['name']}: a {worker['kind']} worker is Holdfast's own code and cannot run without a node: it was left"
        " out; export the node as a whole (without --each) for it"
    )


def without() -> list[str]:
    """Return the note about what is not there when Holdfast itself is not."""
    says = (
        "node: incidents, evidence before a restart, verified remedies and detectors are Holdfast's own work; nothing"
        " of them is there with --each"
    )
    return [says]


def _passed_on(given: Node) -> list[str]:
    names = [
        name
        for name in given.plan["env"]
        if name not in ("PATH", "HOME", "USER", "SHELL", "LOGNAME", "PWD")
    ]
    says = (
        "node.env_pass: systemd starts with an environment of its own; of the"
        f" {len(names)} variables that this shell would have passed on none was written: put what the workers need into [node] env"
    )
    return [says]


class _Service:
    """One guest as a unit."""

    def __init__(self, given: Node, sheet: Sheet, names: set[str]) -> None:
        self.given = given
        self.sheet = sheet
        self.worker = sheet.worker
        self.names = names
        self.unit = f"{given.name}-{self.worker['name']}"

    def files(self) -> Files:
        sections = {
            "Unit": self.head(),
            "Service": [
                *self.kind(),
                *self.process(),
                *self.limits(),
                *self.restart(),
                *self.stop(),
            ],
            "Install": [("WantedBy", f"{self.given.name}.target")]
            if self.worker["autostart"]
            else [],
        }
        sockets = self.sockets(sections["Service"])
        self.sheet.take("autostart")
        self.sheet.advise(_ADVICE)
        remarks = [
            f"/etc/systemd/system/{self.unit}.service, made by `holdfast export systemd --each`"
        ]
        return {f"{self.unit}.service": units.unit(sections, remarks)} | sockets

    def head(self) -> list[tuple[str, str]]:
        worker, sheet = self.worker, self.sheet
        head = [
            ("Description", units.sentence(f"{worker['name']} of {self.given.plan['node']}")),
            ("PartOf", f"{self.given.name}.target"),
        ]
        for key, setting in (("after", "Wants"), ("requires", "Requires")):
            others = worker["after"] if key == "after" else worker["requires"]
            here = [f"{self.given.name}-{name}.service" for name in others if name in self.names]
            if here:
                head += [(setting, " ".join(here)), ("After", " ".join(here))]
            if len(here) == len(others):
                sheet.take(key)
            else:
                sheet.note(key, "of these, those that are no guests were left out")
        restart = worker["restart"]
        if restart["policy"] != "never":
            # Holdfast slows down and goes on where systemd gives up, unless it was told to give up as well.
            gives_up = restart["limit"] and restart["after_limit"] == "down"
            head.append(("StartLimitIntervalSec", span(restart["window_s"]) if gives_up else "0"))
            if gives_up:
                head.append(
                    ("StartLimitBurst", str(restart["limit"] + 1))
                )  # it counts the first start, too
        sheet.take("restart.limit", "restart.after_limit")
        return head

    def kind(self) -> list[tuple[str, str]]:
        worker, sheet = self.worker, self.sheet
        ready, beat = worker["ready"], worker["heartbeat"]
        settings = [("Type", "exec")]
        timeout = ("TimeoutStartSec", span(ready["timeout_s"]))
        if ready["kind"] == "notify":
            settings = [("Type", "notify"), ("NotifyAccess", "main"), timeout]
            sheet.take("ready")
        elif ready["kind"] in ("exec", "file"):
            check = (
                " ".join(map(quote, ready["argv"]))
                if ready["argv"]
                else f"test -e {quote(ready['target'])}"
            )
            loop = ["/bin/sh", "-c", f"until {check}; do sleep 0.2; done"]
            settings += [("ExecStartPost", units.command(loop)), timeout]
            sheet.take("ready")
        else:
            sheet.note(
                "ready",
                "systemd takes it for ready as soon as it runs; let it speak sd_notify (READY=1), or use exec",
            )
        if beat["kind"] == "notify":
            settings.append(("WatchdogSec", span(beat["timeout_s"])))
            sheet.take("heartbeat")
            if ready["kind"] != "notify":
                settings.append(("NotifyAccess", "main"))
        else:
            sheet.note(
                "heartbeat",
                "systemd does not probe: let it speak sd_notify (WATCHDOG=1), or watch it from outside",
            )
        return settings

    def process(self) -> list[tuple[str, str]]:
        worker, sheet = self.worker, self.sheet
        settings = [
            ("ExecStart", units.command(worker["argv"])),
            ("WorkingDirectory", units.path(worker["directory"])),
        ]
        settings += [("Environment", units.variable(*pair)) for pair in sheet.env.items()]
        if sheet.secrets:
            file = f"{SECRETS}/{self.unit}.env"
            settings.append(("EnvironmentFile", units.path(file)))
            sheet.remark(
                "env",
                f"{', '.join(sheet.secrets)}: the values were not written; put NAME=value lines into {file}, mode 600",
            )
        user = worker["user"]
        if user is not None:
            settings += [("User", user["name"] or str(user["uid"])), ("Group", str(user["gid"]))]
            others = [str(gid) for gid in user["groups"] if gid != user["gid"]]
            if others:
                settings.append(("SupplementaryGroups", " ".join(others)))
        if worker["umask"] is not None:
            settings.append(("UMask", f"{worker['umask']:04o}"))
        sheet.take("user", "umask")
        return settings

    def limits(self) -> list[tuple[str, str]]:
        limits = self.worker["limits"]
        settings = []
        if limits["memory_bytes"] is not None:
            settings.append(("MemoryMax", str(limits["memory_bytes"])))
        if limits["cpu_share"] is not None:
            settings.append(("CPUQuota", f"{max(1, round(limits['cpu_share'] * 100))}%"))
        if limits["processes"] is not None:
            settings.append(("TasksMax", str(limits["processes"])))
        if limits["files"] is not None:
            settings.append(("LimitNOFILE", str(limits["files"])))
        if limits["core_bytes"] is not None:
            settings.append(("LimitCORE", str(limits["core_bytes"])))
        self.sheet.take("memory_max", "cpu_max", "processes_max", "files_max", "core_max")
        return settings

    def restart(self) -> list[tuple[str, str]]:
        restart = self.worker["restart"]
        self.sheet.take("restart.policy", "restart.delay")
        if restart["policy"] == "never":
            return [("Restart", "no")]
        # Without a growing delay a program that cannot start would be started ten times a second for ever.
        endless = not restart["limit"] or restart["after_limit"] == "slow"
        delay = max(restart["delay_s"], 1.0) if endless else restart["delay_s"]
        settings = [("Restart", restart["policy"]), ("RestartSec", span(delay))]
        if restart["policy"] == "on-failure":
            # systemd counts these among the clean ends, Holdfast takes status 0 alone for one.
            settings.append(("RestartForceExitStatus", "SIGHUP SIGINT SIGTERM SIGPIPE"))
        return settings

    def stop(self) -> list[tuple[str, str]]:
        worker = self.worker
        self.sheet.take("stop.signal", "stop.grace", "crash_only")
        sent = "SIGKILL" if worker["crash_only"] else signal_name(worker["stop"]["signal"])
        # The signal goes to the program alone, what is left of it is killed: as Holdfast does.
        return [
            ("KillMode", "mixed"),
            ("KillSignal", sent),
            ("TimeoutStopSec", span(worker["stop"]["grace_s"])),
        ]

    def sockets(self, service: list[tuple[str, str]]) -> Files:
        files = {}
        for at, listener in enumerate(self.worker["listen"]):
            name = f"{self.unit}-{at}.socket" if at else f"{self.unit}.socket"
            host = listener["host"]
            where = listener["path"] if listener["kind"] == "unix" else (
                f"[{host}]:{listener['port']}" if ":" in host else f"{host}:{listener['port']}"
            )  # fmt: skip
            socket = [
                ("ListenStream", units.path(where)),
                ("Backlog", str(listener["backlog"])),
                ("FileDescriptorName", listener["name"]),
                ("Service", f"{self.unit}.service"),
            ]
            head = [
                ("Description", units.sentence(f"a listening socket of {self.worker['name']}")),
                ("PartOf", f"{self.given.name}.target"),
            ]
            install = [("WantedBy", "sockets.target")]
            sections = {"Unit": head, "Socket": socket, "Install": install}
            files[name] = units.unit(sections, [f"/etc/systemd/system/{name}"])
            service.append(("Sockets", name))
            self.sheet.take(f"listen[{at}]")
        if len(files) > 1:
            self.sheet.remark(
                "listen",
                "systemd hands over several sockets in no certain order: tell them by LISTEN_FDNAMES",
            )
        return files
