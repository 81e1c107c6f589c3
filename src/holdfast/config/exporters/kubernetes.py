"""What does a node look like to Kubernetes: as one Deployment, or as one for each worker?

A node is a Deployment of one pod that is never there twice (``Recreate``), with a volume for its state and a ConfigMap with its configuration. By itself, a worker that is to run for
ever is a Deployment, and one that may end (``on-failure``, ``never``) a Job. ``$`` is doubled where Kubernetes fills in variables.
Secrets are read from a Secret that a person makes.
"""

import math
import os
import re
import shlex
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from holdfast.config.exporters import emit, image, own_files
from holdfast.config.exporters.sheet import Node, Sheet, longest_stop_s
from holdfast.config.exporters.systemd import hosted, without
from holdfast.model.plan import HOSTED

if TYPE_CHECKING:
    from holdfast.config.exporters.systemd import Files

#: What a program needs none of: to become somebody else, and what root may do.
_SAFE: dict[str, Any] = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "seccompProfile": {"type": "RuntimeDefault"},
}
#: What the four processes of the house take, with room.
_HOUSE_BYTES, _HOUSE_CPU = 64 << 20, "50m"
#: The run directory of a node is in here.
_SHM = "/dev/shm"  # noqa: S108 -- of the container, which has one user

_ADVICE = {
    "umask": "there is no umask in Kubernetes: sh -c 'umask …; exec …' as the command sets it",
    "processes_max": "podPidsLimit of the kubelet bounds it, for all pods of a machine",
    "files_max": "the container runtime sets it, for all containers of a machine",
    "core_max": "the container runtime sets it, for all containers of a machine",
    "restart.after_limit": "Kubernetes never gives up on a Deployment: its delay doubles from 10 s to 5 min",
    "restart.limit": "Kubernetes counts no window; its delay doubles from 10 s to 5 min",
    "restart.delay": "Kubernetes' own delay is 10 s and doubles",
    "restart.delay_max": "Kubernetes' own longest delay is 5 min",
    "restart.jitter": "the kubelet has its own",
    "restart.healthy": "Kubernetes takes ten minutes for a good life",
    "stop.signal": "lifecycle.stopSignal (Kubernetes 1.33, a feature gate) or STOPSIGNAL of the image sets it",
    "after": "Kubernetes starts everything at once: let the program wait, or add an init container that does",
    "requires": "Kubernetes starts everything at once: let the program bear it when the other one is gone",
    "essential": "pods end one by one: nothing ends the others",
    "spare": "replicas: 2 keeps a second one ready, where two may run at once",
    "agent": "the agent reports to a watchdog of Holdfast; without one it was left out",
    "log": "output is the container's; the cluster keeps it",
    "group": "containers of one pod start together, but restart one by one",
    "shed": "priorityClassName says who goes first when a machine is out of memory",
}


def node(given: Node) -> tuple["Files", list[str]]:
    """Return the Deployment that runs the whole node, its volume, and the image recipe."""
    name = _label(given.name)
    ports, notes = image.published(None, given.plan["workers"])
    state = image.inside(given, given.plan["state_dir"]) or given.plan["state_dir"]
    status = ["holdfast", "--config", os.path.basename(given.config), "status"]
    container: dict[str, Any] = {
        "name": name,
        "image": f"{name}:latest",
        "volumeMounts": [
            {"name": "state", "mountPath": state},
            {"name": "run", "mountPath": _SHM},
        ],
        "startupProbe": {
            "exec": {"command": status},
            "periodSeconds": 2,
            "timeoutSeconds": 5,
            "failureThreshold": 60,
        },
        # A worker that is not ready is Holdfast's business: a pod that leaves the Service because of it would take the others along.
        "readinessProbe": {"exec": {"command": status}, "periodSeconds": 10, "timeoutSeconds": 10},
        "livenessProbe": {
            "exec": {"command": status},
            "periodSeconds": 10,
            "timeoutSeconds": 10,
            "failureThreshold": 6,
        },
    }
    if ports:
        container["ports"] = [{"name": f"tcp-{port}", "containerPort": port} for port in ports]
    if given.variables:
        container["env"] = [_secret(given, variable) for variable in given.variables]
        notes.append(_how_secret(given, "variables", given.variables))
    memory = [worker["limits"]["memory_bytes"] for worker in given.plan["workers"]]
    resources: dict[str, Any] = {"requests": {"memory": str(_HOUSE_BYTES), "cpu": _HOUSE_CPU}}
    if memory and all(memory):
        # What the workers may have together, and the house.
        resources["limits"] = {"memory": str(sum(m or 0 for m in memory) + _HOUSE_BYTES)}
    container["resources"] = resources
    container["securityContext"] = dict(_SAFE)
    notes.append(
        "resources: what is requested is enough for Holdfast alone; add what the workers usually take, or the scheduler puts too much on one machine"
    )
    notes.append(
        "securityContext: the container runs as the image's user; with a USER in the Dockerfile, runAsNonRoot: true and fsGroup for the volume"
        " keep root out of it"
    )
    if any(memory) or any(worker["limits"]["cpu_share"] for worker in given.plan["workers"]):
        notes.append(
            "node: memory and processor limits of single workers need a writable cgroup, which a container has not by default;"
            " `holdfast doctor` in it says what is enforced"
        )
    notes.append("image: build it with the Dockerfile, push it to your registry, and put its name in place of "
                 f"{name}:latest")  # fmt: skip
    volumes: list[dict[str, Any]] = [
        {"name": "state", "persistentVolumeClaim": {"claimName": f"{name}-state"}},
        {"name": "run", "emptyDir": {"medium": "Memory", "sizeLimit": "64Mi"}},
    ]
    pod = {
        "terminationGracePeriodSeconds": math.ceil(longest_stop_s(given.plan)) + 10,
        "containers": [container],
        "volumes": volumes,
    }
    files, said = own_files.own_files(given)
    notes += said
    if files.paths:
        container["volumeMounts"] += [
            # File by file: a whole directory would hide that of the image.
            {"name": "config", "mountPath": path, "subPath": key, "readOnly": True}
            for key, path in files.paths.items()
        ]
        volumes.append({"name": "config", **_source(f"{name}-config", files)})
    if files.secrets:
        notes.append(_how_config(f"{name}-config", files))
    claim = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": _metadata(given, f"{name}-state"),
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
    }
    documents = [claim, _deployment(given, name, pod, 1)]
    if files.texts:
        texts = {key: emit.Lines(text) for key, text in files.texts.items()}
        documents.insert(0, {"apiVersion": "v1", "kind": "ConfigMap", "metadata": _metadata(given, f"{name}-config"), "data": texts})  # fmt: skip
        # A file that is mounted by itself does not change under a running pod: another text is another pod.
        documents[-1]["spec"]["template"]["metadata"]["annotations"] = {
            "checksum/config": files.digest
        }
    if ports:
        documents.append(_service(given, name, ports))
    remarks = [f"The node {given.plan['node']}, made by `holdfast export kubernetes`."]
    return {
        f"{name}.yaml": _documents(documents, remarks),
        "Dockerfile": image.recipe(given),
        ".dockerignore": image.ignored(given),
    }, notes


def each(given: Node) -> tuple["Files", list[str]]:
    """Return a Deployment or a Job for each guest, with its Service."""
    notes: list[str] = []
    files: Files = {}
    for worker in given.plan["workers"]:
        if worker["kind"] in HOSTED:
            notes.append(hosted(worker))
            continue
        sheet = Sheet(given, worker)
        name = _free(f"{_label(given.name)}-{_label(worker['name'])}", files)
        files[f"{name}.yaml"] = _documents(
            _worker(given, sheet, name),
            [
                f"{worker['name']} of {given.plan['node']}, made by `holdfast export kubernetes --each`."
            ],
        )
        notes += sheet.close()
    return files, [*(without() if files else []), *notes]


def _worker(given: Node, sheet: Sheet, name: str) -> list[dict[str, Any]]:
    worker = sheet.worker
    container: dict[str, Any] = {
        "name": _label(worker["name"]),
        "image": f"{_label(given.name)}:latest",
        "command": [_literal(word) for word in image.argv(given, sheet)],
        "workingDir": image.directory(given, sheet),
    }
    env: list[dict[str, Any]] = [
        {"name": key, "value": _literal(value)} for key, value in sheet.env.items()
    ]
    env += [_secret(given, key) for key in sheet.secrets]
    if env:
        container["env"] = env
    if sheet.secrets:
        sheet.remark("env", _how_secret(given, "", tuple(sheet.secrets)).removeprefix(": "))
    container |= _resources(sheet) | _user(sheet)
    ports, _ = image.published(sheet, [worker])
    if ports:
        container["ports"] = [{"name": f"tcp-{port}", "containerPort": port} for port in ports]
    for at, _ in enumerate(worker["listen"]):
        sheet.note(
            f"listen[{at}]",
            "Kubernetes hands over no sockets (LISTEN_FDS): the program has to bind it itself",
        )
    container |= _probes(sheet)
    grace = 0 if worker["crash_only"] else math.ceil(worker["stop"]["grace_s"])
    pod: dict[str, Any] = {"terminationGracePeriodSeconds": grace, "containers": [container]}
    sheet.take("stop.grace", "crash_only", "restart.policy", "autostart")
    if worker["restart"]["policy"] == "always":
        documents = [_deployment(given, name, pod, 1 if worker["autostart"] else 0)]
    else:
        documents = [_job(given, sheet, name, pod)]
    if ports:
        documents.append(_service(given, name, ports))
    sheet.advise(_ADVICE)
    return documents


def _deployment(given: Node, name: str, pod: dict[str, Any], replicas: int) -> dict[str, Any]:
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": _metadata(given, name),
        "spec": {
            "replicas": replicas,
            "strategy": {"type": "Recreate"},  # never two at once
            "selector": {"matchLabels": {"app.kubernetes.io/name": name}},
            "template": {"metadata": {"labels": _labels(given, name)}, "spec": pod},
        },
    }


def _job(given: Node, sheet: Sheet, name: str, pod: dict[str, Any]) -> dict[str, Any]:
    worker = sheet.worker
    restart = worker["restart"]
    pod["restartPolicy"] = "Never" if restart["policy"] == "never" else "OnFailure"
    spec: dict[str, Any] = {
        "backoffLimit": 0,
        "template": {"metadata": {"labels": _labels(given, name)}, "spec": pod},
    }
    if restart["policy"] == "on-failure":
        gives_up = restart["limit"] and restart["after_limit"] == "down"
        spec["backoffLimit"] = restart["limit"] if gives_up else 2**31 - 1
        if gives_up:
            sheet.take("restart.after_limit")
            sheet.note("restart.limit", "backoffLimit counts without a window")
    if not worker["autostart"]:
        spec["suspend"] = True
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": _metadata(given, name),
        "spec": spec,
    }


def _service(given: Node, name: str, ports: list[int]) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": _metadata(given, name),
        "spec": {
            "selector": {"app.kubernetes.io/name": name},
            "ports": [{"name": f"tcp-{port}", "port": port, "targetPort": port} for port in ports],
        },
    }


def _resources(sheet: Sheet) -> dict[str, Any]:
    limits = sheet.worker["limits"]
    found = {}
    if limits["memory_bytes"] is not None:
        found["memory"] = str(limits["memory_bytes"])
    if limits["cpu_share"] is not None:
        found["cpu"] = f"{max(1, round(limits['cpu_share'] * 1000))}m"
    sheet.take("memory_max", "cpu_max")
    # Without requests Kubernetes takes the limits for them.
    return {"resources": {"limits": found}} if found else {}


def _user(sheet: Sheet) -> dict[str, Any]:
    user = sheet.worker["user"]
    sheet.take("user")
    if user is None:
        return {"securityContext": dict(_SAFE)}
    others = [gid for gid in user["groups"] if gid != user["gid"]]
    if others:
        sheet.remark(
            "user",
            f"its other groups ({', '.join(map(str, others))}) go into supplementalGroups of the pod",
        )
    runs_as: dict[str, Any] = {"runAsUser": user["uid"], "runAsGroup": user["gid"]}
    if user["uid"]:
        runs_as["runAsNonRoot"] = True
    return {"securityContext": {**runs_as, **_SAFE}}


def _probes(sheet: Sheet) -> dict[str, Any]:
    worker = sheet.worker
    found: dict[str, Any] = {}
    ready, beat = worker["ready"], worker["heartbeat"]
    of_ready, of_beat = _probe(ready), _probe(beat)
    if of_ready:
        found["startupProbe"] = {**of_ready, "periodSeconds": 1, "timeoutSeconds": 5,
                                 "failureThreshold": max(1, math.ceil(ready["timeout_s"]))}  # fmt: skip
        found["readinessProbe"] = {**of_ready, "periodSeconds": 5, "timeoutSeconds": 5}
        sheet.take("ready")
    if of_beat:
        found["livenessProbe"] = {**of_beat, "periodSeconds": max(1, math.ceil(beat["period_s"])), "timeoutSeconds": 5,
                                  "failureThreshold": image.retries({**beat, "period_s": max(1, math.ceil(beat["period_s"]))})}  # fmt: skip
        sheet.take("heartbeat")
    advice = "Kubernetes probes by HTTP, TCP or a command: let one of them tell"
    sheet.note("ready", advice)
    sheet.note("heartbeat", advice)
    return found


def _probe(check: Any) -> dict[str, Any]:
    """Return the probe: a command in the container wherever the address is one of the container's own loopback."""
    target = check["target"]
    if check["kind"] == "tcp":
        host, _, port = target.rpartition(":")
        if host in ("0.0.0.0", "[::]", "::"):
            return {"tcpSocket": {"port": int(port)}}
    if check["kind"] == "http":
        url = urlsplit(target)
        if url.hostname in ("0.0.0.0", "::"):
            path = f"{url.path or '/'}{'?' + url.query if url.query else ''}"
            return {"httpGet": {"path": path, "port": url.port or (443 if url.scheme == "https" else 80),
                                "scheme": url.scheme.upper()}}  # fmt: skip
    command = image.probe(check)
    return {"exec": {"command": command}} if command else {}


def _secret(given: Node, variable: str) -> dict[str, Any]:
    reference = {"name": f"{_label(given.name)}-secrets", "key": variable}
    return {"name": variable, "valueFrom": {"secretKeyRef": reference}}


def _how_secret(given: Node, key: str, names: tuple[str, ...]) -> str:
    options = " ".join(f"--from-literal={name}=…" for name in names)
    return (
        f"{key}: {', '.join(names)}: the values were not written; kubectl create secret generic"
        f" {_label(given.name)}-secrets {options}"
    )


def _source(name: str, files: own_files.OwnFiles) -> dict[str, Any]:
    """Return what the volume with the configuration is filled from."""
    return {"secret": {"secretName": name}} if files.secrets else {"configMap": {"name": name}}


def _how_config(name: str, files: own_files.OwnFiles) -> str:
    options = " ".join(
        f"--from-file={key}={shlex.quote(path)}" for key, path in files.sources.items()
    )
    return (
        f"configuration: {', '.join(files.secrets)} may be secret: it was not written into a ConfigMap; kubectl create secret generic {name} {options};"
        f" after a change, kubectl rollout restart"
    )


def _metadata(given: Node, name: str) -> dict[str, Any]:
    return {"name": name, "labels": _labels(given, name)}


def _labels(given: Node, name: str) -> dict[str, str]:
    return {"app.kubernetes.io/name": name, "app.kubernetes.io/part-of": _label(given.name)}


def _label(text: str) -> str:
    """Return a name that Kubernetes takes (RFC 1123): small letters, digits and hyphens, a letter first."""
    name = re.sub("[^a-z0-9]+", "-", text.lower()).strip("-")[:40].strip("-") or "worker"
    return name if name[0].isalpha() else f"w-{name}"


def _free(name: str, files: "Files") -> str:
    """`web_1` and `web-1` are two workers, and one name in Kubernetes."""
    number, free = 2, name
    while f"{free}.yaml" in files:
        free = f"{name}-{number}"
        number += 1
    return free


def _literal(text: str) -> str:
    # `$(NAME)` is filled in and `$$` is one dollar: each dollar is doubled.
    return text.replace("$", "$$")


def _documents(documents: list[dict[str, Any]], remarks: list[str]) -> str:
    texts = [emit.document(document) for document in documents]
    return emit.document(documents[0], remarks) + "".join(f"---\n{text}" for text in texts[1:])
