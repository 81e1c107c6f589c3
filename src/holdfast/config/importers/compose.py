"""What does a compose.yaml mean to Holdfast?

A service with a command becomes a guest that runs on this machine: the image, its files and its network are Docker's, and each such
key gets a note. A service without a command runs what its image says, which no file here knows: it is noted as a whole. Follows the
Compose specification.
"""

import math
import re
from collections.abc import Callable
from typing import Any

from holdfast.config.importers import guest
from holdfast.config.importers.draft import Draft, from_environment
from holdfast.config.importers.foreign import Foreign
from holdfast.config.importers.guest import Guest
from holdfast.config.importers.ledger import Ledger
from holdfast.config.importers.systemd import seconds
from holdfast.config.importers.tree import Node
from holdfast.model.errors import ConfigError

#: What stands around the name of a variable until the file is written.
_OPEN, _CLOSE = from_environment("/").split("/")
#: `$$`, `$NAME`, `${NAME}`, `${NAME:-default}`, `${NAME:?says}` and their kin without the colon.
_VARIABLE = re.compile(r"\$(?:(\$)|([A-Za-z_]\w*)|\{([A-Za-z_]\w*)(?:(:?[-?+])([^}]*))?\})")

_SERVICE_ADVICE = {
    "image": "the program and its files have to be on this machine: install what the image has",
    "build": "the program and its files have to be on this machine: do what the Dockerfile does",
    "container_name": "a worker is called by its name in the file",
    "ports": "the program listens on this machine itself: there is nothing to publish; mind which port it takes",
    "expose": "the program listens on this machine itself",
    "volumes": "there are no volumes: the program sees the files of this machine, where its paths have to lead",
    "networks": "there are no networks: workers reach each other at 127.0.0.1, not by the names of services",
    "links": "there are no networks: workers reach each other at 127.0.0.1, not by the names of services",
    "hostname": "a worker has the name of the machine",
    "init": "Holdfast reaps orphans anyway",
    "labels": "labels are Docker's",
    "logging": "output is kept in the state directory: log = { max_size = …, keep = … } says how much",
    "profiles": "autostart = false keeps a worker down until `holdfast start`",
    "tty": "a worker has no terminal", "stdin_open": "a worker has no terminal",
    "privileged": "a worker has the rights of whoever starts Holdfast",
    "cap_add": "a worker has the rights of whoever starts Holdfast", "cap_drop": "a worker has the rights of whoever starts Holdfast",
    "secrets": "put the secret into a file, and name it in env_file",
    "deploy": "one machine, one process of each worker: several are several workers",
    "scale": "several processes are several workers",
}  # fmt: skip
_DOCUMENT_ADVICE = {
    "version": "the version of the format means nothing any more",
    "volumes": "there are no volumes: the program sees the files of this machine",
    "networks": "there are no networks: workers reach each other at 127.0.0.1",
    "secrets": "put the secret into a file, and name it in env_file",
    "configs": "the program sees the files of this machine",
}
_POLICY = {
    "always": "always",
    "unless-stopped": "always",
    "on-failure": "on-failure",
    "no": "never",
}


def read(root: Node, file: str, ledger: Ledger) -> Draft:
    """Turn a compose file into a draft.

    Raises:
        ConfigError: It has not the shape of one; every problem with its place.
    """
    foreign = Foreign(root, file, ledger)
    foreign.draft.heading = [
        f"Imported from {file} (Docker Compose).",
        "The services run on this machine, without their images: read the notes at the end.",
    ]
    _Import(foreign).carry_over()
    if foreign.problems:
        raise ConfigError(foreign.problems)
    return foreign.draft


class _Import:
    def __init__(self, foreign: Foreign) -> None:
        self.foreign = foreign
        self.names: dict[str, str] = {}  #: of the service -> of the worker
        self.waiting: list[tuple[Guest, Node]] = []

    def carry_over(self) -> None:
        foreign = self.foreign
        services = (
            foreign.mapping(foreign.root.get("services")) if foreign.mapping(foreign.root) else None
        )
        if not services or not services.pairs:
            foreign.problems.append(f"{foreign.file}:1 there are no services in it")
            return
        name = foreign.root.get("name")
        if name is not None and isinstance(name.scalar, str):
            table = foreign.draft.table("node")
            table.put("name", foreign.draft.free_name("node", str(name.value()), "node"))
        for service_name, service in services.pairs.items():
            if foreign.mapping(service):
                self.service(service_name, service)
        for guest_of, depends in self.waiting:
            self.depends(guest_of, depends)
            guest_of.finish()
        if not self.names and not foreign.problems:
            says = (
                "no service says what it runs (command or entrypoint): that is in the images alone"
            )
            foreign.problems.append(f"{foreign.file}:{services.line} {says}")
        foreign.advise(foreign.root, _DOCUMENT_ADVICE)

    def service(self, name: str, node: Node) -> None:
        try:
            argv = [*self.command(node.get("entrypoint")), *self.command(node.get("command"))]
        except ValueError as error:
            self.foreign.problem(node, f"{node.path}: {error}")
            return
        if not argv:
            node.note(
                "what it runs is in its image alone: install the program, and give the worker a command"
            )
            return
        made = Guest(self.foreign.draft, name, [f"{self.foreign.file}:{node.line} {node.path}"])
        self.names[name] = made.name
        made.table.put("command", argv)
        self.environment(made, node.get("environment"))
        self.keys(made, node)
        self.health(made, node.get("healthcheck"))
        depends = node.get("depends_on")
        if depends is None:
            made.finish()
        else:
            self.waiting.append((made, depends))
        self.foreign.advise(node, _SERVICE_ADVICE)

    def command(self, node: Node | None) -> list[str]:
        if node is None or (node.scalar is None and not node.items):
            return []
        if node.items is not None:
            return [filled(str(word)) for word in node.value()]
        # Compose fills in first and splits then.
        words = guest.split(filled(str(node.value())))
        if any(word.count(_OPEN) != word.count(_CLOSE) for word in words):
            raise ValueError("a variable's default has blanks in it: write the command as a list")
        return words

    def environment(self, made: Guest, node: Node | None) -> None:
        if node is None:
            return
        entries: list[tuple[str, Any, Node]] = []
        for key, below in (node.pairs or {}).items():
            entries.append((key, below.scalar, below))
        for below in node.items or ():
            name, equals, value = str(below.scalar).partition("=")
            entries.append((name, value if equals else None, below))
        for name, value, below in entries:
            if value is None:
                below.note(
                    "it is passed on from the environment of `holdfast up` anyway (env_pass of [node])"
                )
                continue
            below.value()
            made.env[name] = filled(_text(value))

    def keys(self, made: Guest, node: Node) -> None:
        table = made.table
        self.put(node.get("working_dir"), lambda v: table.put("directory", filled(str(v))))
        self.put(node.get("stop_signal"), lambda v: made.set("stop", "signal", guest.signal_of(v)))
        self.put(
            node.get("stop_grace_period"),
            lambda v: made.set("stop", "grace", guest.time(seconds(str(v)))),
        )
        self.put(node.get("restart"), lambda v: self.restart(made, str(v)))
        if node.get("restart") is None:
            made.set("restart", "policy", "never")
            table.say("no restart there, which is Docker's default")
        self.put(node.get("user"), lambda v: self.user(made, str(v)))
        files = node.get("env_file")
        if files is not None and isinstance(files.scalar, str):
            self.put(files, lambda v: table.put("env_file", filled(str(v))))
        elif files is not None:
            files.note("Holdfast reads one file for a worker (env_file): put them together")
        deploy = node.get("deploy")
        resources = deploy.get("resources") if deploy else None
        limits = resources.get("limits") if resources else None
        for key, given in (("memory_max", (node.get("mem_limit"), limits and limits.get("memory"))),
                           ("cpu_max", (node.get("cpus"), limits and limits.get("cpus"))),
                           ("processes_max", (node.get("pids_limit"), limits and limits.get("pids")))):  # fmt: skip
            for found in given:
                self.limit(made, key, found or None, _LIMITS[key])
        ulimits = node.get("ulimits")
        for key, ours in (("nofile", "files_max"), ("core", "core_max")):
            limit = ulimits.get(key) if ulimits else None
            soft = limit.get("soft") if limit is not None and limit.pairs else limit
            self.limit(made, ours, soft, _whole)

    def limit(
        self, made: Guest, key: str, node: Node | None, convert: Callable[[Any], object]
    ) -> None:
        self.put(node, lambda value: made.table.put(key, convert(value)))

    def restart(self, made: Guest, text: str) -> None:
        policy, _, times = text.partition(":")
        if policy not in _POLICY:
            raise ValueError("this is no policy that Compose knows")
        made.set("restart", "policy", _POLICY[policy])
        if times:
            made.set("restart", "limit", max(1, int(times)))
            made.set("restart", "window", "1d")
            made.set("restart", "after_limit", "down")

    def user(self, made: Guest, text: str) -> None:
        name, _, group = filled(text).partition(":")
        made.table.put("user", int(name) if name.isdecimal() else name)
        if group:
            made.table.put("group", int(group) if group.isdecimal() else group)

    def health(self, made: Guest, node: Node | None) -> None:
        test = node.get("test") if node else None
        disabled = node.get("disable") if node else None
        if node is None or test is None or (disabled is not None and disabled.scalar is True):
            return
        words = (
            [str(word) for word in test.plain()]
            if test.items is not None
            else ["CMD-SHELL", str(test.scalar)]
        )
        if not words or words[0] == "NONE":
            return
        argv = words[1:] if words[0] == "CMD" else ["/bin/sh", "-c", " ".join(words[1:])]
        argv = [filled(word) for word in argv]
        try:
            period = self.span(node, "interval", 30.0)
            start = self.span(node, "start_period", 0.0)
            retries = node.get("retries")
            count = min(max(int(str(retries.value())), 1), 1000) if retries is not None else 3
        except ValueError as error:
            self.foreign.problem(node, f"{node.path}: {error}")
            return
        test.value()
        # Unhealthy there: so many failures in a row; here: so long without a success.
        made.parts["ready"] = {
            "exec": argv,
            "timeout": guest.time(max(start + period * count, 1.0)),
        }
        made.parts["heartbeat"] = {
            "exec": argv,
            "period": guest.time(max(period, 0.1)),
            "timeout": guest.time(math.ceil(period * count)),
        }

    def span(self, node: Node, key: str, usual: float) -> float:
        below = node.get(key)
        return usual if below is None else seconds(str(below.value()))

    def depends(self, made: Guest, node: Node) -> None:
        entries = [(str(item.scalar), item) for item in node.items or ()]
        entries += [(name, below) for name, below in (node.pairs or {}).items()]
        after = []
        for name, below in entries:
            if name not in self.names:
                below.note("it is no worker here: see the note about it")
                continue
            after.append(self.names[name])
            if below.pairs is None:
                below.value()
            else:
                condition = below.get("condition")
                if condition is not None and condition.scalar in (
                    "service_started",
                    "service_healthy",
                ):
                    condition.value()
                below.note("`after` waits until the other one is ready, and that is all it does")
        if after:
            made.table.put("after", after)

    def put(self, node: Node | None, use: Callable[[Any], None]) -> None:
        """Use a scalar; what cannot be is a problem."""
        if node is None:
            return
        if node.pairs is not None or node.items is not None or node.scalar is None:
            return
        try:
            use(node.scalar)
        except ValueError as error:
            self.foreign.problem(node, f"{node.path} = {node.scalar}: {error}")
        node.value()


def _cores(value: Any) -> float:
    return float(str(value))


def _whole(value: Any) -> int:
    return int(str(value))


_LIMITS: dict[str, Callable[[Any], Any]] = {
    "memory_max": guest.size,
    "cpu_max": _cores,
    "processes_max": _whole,
}


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def filled(text: str) -> str:
    """Return a text of Compose with its variables as Holdfast's: filled in when the configuration is read."""

    def fill(found: re.Match[str]) -> str:
        dollar, plain, name, mark, rest = found.groups()
        if dollar:
            return "$"
        if mark in ("-", ":-"):
            return from_environment(f"{name}:-{rest}")
        return from_environment(plain or name)

    return _VARIABLE.sub(fill, text)
