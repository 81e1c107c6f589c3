"""Where is what in a container image that was made of a node's directory?

The recipe puts the directory of the configuration at ``/srv/NODE``; paths inside of it follow, programs of the usual
directories are looked up by name (an image has its own), and everything else is a path of this machine, which is
noted. Also here: what both kinds of containers need to know, the ports and the probes.
"""

import math
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from holdfast.config.exporters.sheet import Node, Sheet, address

if TYPE_CHECKING:
    from holdfast.model.plan import Listener, WorkerPlan

#: A program in one of these, or in another directory of the PATH, is meant by its name.
_USUAL = ("/bin", "/sbin", "/usr/bin", "/usr/sbin", "/usr/local/bin", "/usr/local/sbin")
_LOOPBACK = ("127.", "::1", "localhost")

_TCP = "import socket,sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), 3)"
_HTTP = "import sys,urllib.request; urllib.request.urlopen(sys.argv[1], timeout=3)"
_UNIX = (
    "import socket,sys; s = socket.socket(socket.AF_UNIX); s.settimeout(3); s.connect(sys.argv[1])"
)


def root(given: Node) -> str:
    """Return where the directory of the configuration is in the image."""
    return f"/srv/{given.name}"


def recipe(given: Node) -> str:
    """Return a Dockerfile with Holdfast as process 1."""
    config = os.path.basename(given.config)
    return f"""\
# The node {given.name}, made by `holdfast export`; Holdfast is process 1 and reaps orphans.
FROM python:3.12-slim
WORKDIR {root(given)}
# Holdfast itself: a wheel or a checkout beside this file.
COPY vendor/holdfast /opt/holdfast
RUN pip install --no-cache-dir /opt/holdfast
# Programs of the workers that the image lacks: RUN apt-get update && apt-get install -y …
COPY . .
# The list form: no shell becomes process 1.
CMD ["holdfast", "--config", "{config}", "up", "--quiet"]
"""


def ignored(given: Node) -> str:
    """Return a .dockerignore: the state of this machine's node, and what secrets are usually in."""
    state = inside(given, given.plan["state_dir"])
    lines = [".git", "**/__pycache__", ".env", "*.env", ".venv"]
    if state is not None and state != root(given):
        lines.append(os.path.relpath(state, root(given)))
    return "\n".join(lines) + "\n"


def inside(given: Node, path: str) -> str | None:
    """Return where a path of the node's directory is in the image; None where it is none of them."""
    if path == given.directory:
        return root(given)
    prefix = given.directory.rstrip("/") + "/"
    return f"{root(given)}/{path.removeprefix(prefix)}" if path.startswith(prefix) else None


def directory(given: Node, sheet: Sheet) -> str:
    """Return the directory that a worker runs in."""
    return _moved(given, sheet, "directory", sheet.worker["directory"])


def argv(given: Node, sheet: Sheet) -> list[str]:
    """Return the command line of a worker."""
    program = sheet.worker["argv"][0]
    found = os.path.dirname(program)
    searched = given.environ.get("PATH", "").split(os.pathsep)
    if found in _USUAL or (found in searched and inside(given, program) is None):
        return [os.path.basename(program), *sheet.worker["argv"][1:]]
    return [_moved(given, sheet, "command", program), *sheet.worker["argv"][1:]]


def _moved(given: Node, sheet: Sheet, key: str, path: str) -> str:
    found = inside(given, path)
    if found is None:
        sheet.remark(key, f"{path} is a path of this machine: has the image got it there?")
    return path if found is None else found


def published(sheet: "Sheet | None", workers: "list[WorkerPlan]") -> tuple[list[int], list[str]]:
    """Return the TCP ports that can be reached from outside the container, and notes about those that cannot."""
    ports: list[int] = []
    notes = []
    for worker in workers:
        for at, listener in enumerate(worker["listen"]):
            if listener["kind"] != "tcp" or not listener["port"]:
                continue
            if is_loopback(listener):
                says = f"{address(listener)} can be reached inside of the container only; 0.0.0.0 lets the port be published"
                notes.append(f"worker.{worker['name']}.listen[{at}]: {says}")
            elif listener["port"] not in ports:
                ports.append(listener["port"])
    return ports, notes if sheet is None else []


def is_loopback(listener: "Listener") -> bool:
    """Tell whether a listener can be reached from its own machine only."""
    return listener["kind"] == "tcp" and listener["host"].startswith(_LOOPBACK)


def probe(check: Mapping[str, Any]) -> list[str]:
    """Return a command that ends with 0 when a check of the configuration would pass; empty where none can."""
    kind, target = check["kind"], check["target"]
    if kind == "exec":
        return list(check["argv"])
    if kind == "tcp":
        host, _, port = target.rpartition(":")
        return ["python3", "-c", _TCP, host.strip("[]"), port]
    if kind == "http":
        return ["python3", "-c", _HTTP, target]
    if kind == "unix":
        return ["python3", "-c", _UNIX, target]
    if kind == "file":
        return ["test", "-e", target]
    return []


def retries(heartbeat: Mapping[str, Any]) -> int:
    """Return how many probes in a row have to fail before the silence is long enough."""
    times: float = heartbeat["timeout_s"] / max(heartbeat["period_s"], 0.001)
    return max(1, math.ceil(times))
