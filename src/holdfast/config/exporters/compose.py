"""What does a node look like to Docker Compose: as one service, or as a service for each worker?

Follows the Compose specification. ``$`` is doubled, since Compose fills in variables everywhere; a secret becomes such a variable
(``${NAME:?}``), read from the ``.env`` beside the file, and Compose refuses to start without it.
"""

import math
import os
from typing import TYPE_CHECKING, Any

from holdfast.config.exporters import emit, image
from holdfast.config.exporters.sheet import Node, Sheet, longest_stop_s, signal_name, span
from holdfast.config.exporters.systemd import hosted, without
from holdfast.model.plan import HOSTED

if TYPE_CHECKING:
    from holdfast.config.exporters.systemd import Files

FILE = "compose.yaml"

_ADVICE = {
    "umask": "there is no umask in Compose: sh -c 'umask …; exec …' as the command sets it",
    "restart.after_limit": "Docker's own delay doubles from 100 ms to a minute, and it never gives up but with on-failure:N",
    "restart.limit": "Docker counts no window; only `on-failure` has a limit",
    "restart.delay": "Docker's own delay is 100 ms and doubles",
    "restart.delay_max": "Docker's own longest delay is a minute",
    "restart.jitter": "Docker restarts without chance in it",
    "restart.healthy": "Docker takes ten seconds for a good life",
    "essential": "`docker compose up --abort-on-container-exit` ends everything with any of them",
    "spare": "there is no warm spare: a restart takes as long as a start",
    "agent": "the agent reports to a watchdog of Holdfast; without one it was left out",
    "log": "`logging: { driver: json-file, options: { max-size: …, max-file: … } }` limits what is kept",
    "group": "`depends_on` with `restart: true` passes on a restart by Compose, but not one after a crash",
    "shed": "nothing is stopped to make room: mem_limit and oom_score_adj decide",
}


def node(given: Node) -> tuple["Files", list[str]]:
    """Return the service that runs the whole node, with its image recipe."""
    workers = given.plan["workers"]
    state = image.inside(given, given.plan["state_dir"]) or given.plan["state_dir"]
    ports, notes = image.published(None, workers)
    service: dict[str, Any] = {
        "build": ".",
        "image": f"{given.name.lower()}:latest",
        "restart": "unless-stopped",
        "stop_grace_period": span(math.ceil(longest_stop_s(given.plan)) + 10),
        "volumes": [f"state:{_literal(state)}"],
        "shm_size": "64m",
        "healthcheck": {
            "test": [
                "CMD",
                "holdfast",
                "--config",
                _literal(os.path.basename(given.config)),
                "status",
            ],
            "interval": "10s",
            "timeout": "5s",
            "retries": 3,
            "start_period": "60s",
        },
    }
    if ports:
        service["ports"] = [f"{port}:{port}" for port in ports]
    if given.variables:
        service["environment"] = {name: _asked(name) for name in given.variables}
        notes.append(
            f"variables: the configuration needs {', '.join(given.variables)}: write NAME=value lines into .env beside {FILE}"
        )
    if any(worker["limits"]["memory_bytes"] or worker["limits"]["cpu_share"] for worker in workers):
        notes.append(
            "node: memory and processor limits of workers need a writable cgroup, which a container has not by default;"
            " `holdfast doctor` in it says what is enforced, and mem_limit bounds the whole"
        )
    notes += _outside(given)
    document = {
        "name": _project(given),
        "services": {given.name.lower(): service},
        "volumes": {"state": None},
    }
    remarks = [f"The node {given.plan['node']}, made by `holdfast export compose`."]
    return {
        FILE: emit.document(document, remarks),
        "Dockerfile": image.recipe(given),
        ".dockerignore": image.ignored(given),
    }, notes


def each(given: Node) -> tuple["Files", list[str]]:
    """Return a service for each guest."""
    notes: list[str] = []
    services: dict[str, Any] = {}
    checked = {worker["name"] for worker in given.plan["workers"] if _check(worker)}
    names = {worker["name"] for worker in given.plan["workers"] if worker["kind"] not in HOSTED}
    for worker in given.plan["workers"]:
        if worker["kind"] in HOSTED:
            notes.append(hosted(worker))
            continue
        sheet = Sheet(given, worker)
        services[worker["name"]] = _service(given, sheet, names, checked)
        notes += sheet.close()
    if not services:
        return {}, notes
    document = {"name": _project(given), "services": services}
    remarks = [f"The workers of {given.plan['node']}, made by `holdfast export compose --each`."]
    return {FILE: emit.document(document, remarks)}, [*without(), *notes]


def _service(given: Node, sheet: Sheet, names: set[str], checked: set[str]) -> dict[str, Any]:
    worker = sheet.worker
    service: dict[str, Any] = {
        "image": f"{given.name.lower()}:latest",
        "build": ".",
        "init": True,  # somebody has to reap orphans
        "command": [_literal(word) for word in image.argv(given, sheet)],
        "working_dir": _literal(image.directory(given, sheet)),
        "restart": _restart(sheet),
        "stop_signal": "SIGKILL" if worker["crash_only"] else signal_name(worker["stop"]["signal"]),
        "stop_grace_period": span(worker["stop"]["grace_s"]),
    }
    sheet.take("restart.policy", "stop.signal", "stop.grace", "crash_only", "autostart")
    environment = {name: _literal(value) for name, value in sheet.env.items()}
    environment |= {name: _asked(name) for name in sheet.secrets}
    if environment:
        service["environment"] = environment
    if sheet.secrets:
        sheet.remark(
            "env",
            f"{', '.join(sheet.secrets)}: the values were not written; put them into .env beside {FILE}",
        )
    user = worker["user"]
    if user is not None:
        service["user"] = f"{user['uid']}:{user['gid']}"
        groups = [str(gid) for gid in user["groups"] if gid != user["gid"]]
        if groups:
            service["group_add"] = groups
        sheet.take("user")
    service |= _limits(sheet)
    if not worker["autostart"]:
        service["profiles"] = ["manual"]
    service |= _health(sheet)
    depends = _depends(sheet, names, checked)
    if depends:
        service["depends_on"] = depends
    ports, _ = image.published(sheet, [worker])
    if ports:
        service["ports"] = [f"{port}:{port}" for port in ports]
    for at, _ in enumerate(worker["listen"]):
        sheet.note(
            f"listen[{at}]",
            "Docker hands over no sockets (LISTEN_FDS): the program has to bind it itself",
        )
    sheet.advise(_ADVICE)
    return service


def _restart(sheet: Sheet) -> str:
    restart = sheet.worker["restart"]
    if restart["policy"] == "always":
        return "always"
    if restart["policy"] == "never":
        return "no"
    if restart["limit"] and restart["after_limit"] == "down":
        sheet.take("restart.after_limit")
        sheet.note("restart.limit", f"on-failure:{restart['limit']} counts without a window")
        return f"on-failure:{restart['limit']}"
    return "on-failure"


def _limits(sheet: Sheet) -> dict[str, Any]:
    limits = sheet.worker["limits"]
    found: dict[str, Any] = {}
    if limits["memory_bytes"] is not None:
        found["mem_limit"] = limits["memory_bytes"]
    if limits["cpu_share"] is not None:
        found["cpus"] = limits["cpu_share"]
    if limits["processes"] is not None:
        found["pids_limit"] = limits["processes"]
    ulimits = {}
    if limits["files"] is not None:
        ulimits["nofile"] = limits["files"]
    if limits["core_bytes"] is not None:
        ulimits["core"] = limits["core_bytes"]
    if ulimits:
        found["ulimits"] = ulimits
    sheet.take("memory_max", "cpu_max", "processes_max", "files_max", "core_max")
    return found


def _check(worker: Any) -> list[str]:
    return image.probe(worker["heartbeat"]) or image.probe(worker["ready"])


def _health(sheet: Sheet) -> dict[str, Any]:
    beat, ready = sheet.worker["heartbeat"], sheet.worker["ready"]
    command = _check(sheet.worker)
    if not command:
        advice = "Docker has health checks by a command only: let one tell"
        sheet.note("ready", advice)
        sheet.note("heartbeat", advice)
        return {}
    of_beat = bool(image.probe(beat))
    check = {
        "test": ["CMD", *map(_literal, command)],
        "interval": span(beat["period_s"] if of_beat else 5.0),
        "timeout": span(5),
        "retries": image.retries(beat) if of_beat else 3,
        "start_period": span(ready["timeout_s"] if ready["kind"] != "none" else 60.0),
    }
    if of_beat:
        sheet.note("ready", "there is one health check: that of `heartbeat` tells readiness, too")
        sheet.note(
            "heartbeat",
            "a container that fails its check is shown as unhealthy; Docker does not restart it",
        )
    else:
        sheet.take("ready")
        sheet.note(
            "heartbeat",
            "there is one health check, and a command has to tell it: that of `ready` was taken",
        )
    return {"healthcheck": check}


def _depends(sheet: Sheet, names: set[str], checked: set[str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, others in (("after", sheet.worker["after"]), ("requires", sheet.worker["requires"])):
        here = [name for name in others if name in names]
        for name in here:
            found[name] = {"condition": "service_healthy" if name in checked else "service_started"}
            if name not in checked:
                sheet.remark(
                    key,
                    f"{name} has no check that a command can tell: it is waited for its start only",
                )
        if len(here) == len(others):
            sheet.take(key)
        else:
            sheet.note(key, "of these, those that are no guests were left out")
    return found


def _outside(given: Node) -> list[str]:
    notes = []
    for worker in given.plan["workers"]:
        path = worker["directory"]
        if image.inside(given, path) is None:
            notes.append(
                f"worker.{worker['name']}.directory: {path} is a path of this machine: has the image got it there?"
            )
    return notes


def _project(given: Node) -> str:
    return given.name.lower()


def _literal(text: str) -> str:
    return text.replace("$", "$$")


def _asked(name: str) -> str:
    return f"${{{name}:?write {name}=… into .env}}"
