"""What does a Crossbar.io node configuration (JSON or YAML, version 1 or 2) mean to Holdfast?

Containers and guests become workers, classes become components; components that live inside a router get
a container of their own beside it. Realms, roles and transports belong to the bus: as there is no worker of
kind ``router`` yet, they are noted path by path. The model is that of Crossbar.io 26.10 (node, worker, component), with
what older configurations have: no version at all, wamplets.
"""

import re
from importlib import metadata
from typing import Any

from holdfast.config.importers.draft import Draft, Table, is_ours, portable
from holdfast.config.importers.ledger import Ledger
from holdfast.config.importers.tree import Node
from holdfast.model.errors import ConfigError

_NOT_FINITE = ("NaN", "Infinity", "-Infinity")
_LATER = "the router arrives with the bus; kept here for reference"
_PATH = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+")
_WAMPLETS = "autobahn.twisted.wamplet"
_COMPONENTS = ("class", "function", "wamplet")
#: What Holdfast takes for the use of a component.
_USE = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*")
_POLICY = {
    "restart-always": "always",
    "restart-on-failed": "on-failure",
    "restart-failed": "on-failure",  # what Crossbar.io's own code compares with
    "restart-never": "never",
}

#: Keys of a worker's options (and of the worker) that cannot be carried over, and what to do instead.
_WORKER_ADVICE = {
    "title": "Holdfast names its processes after the worker; rename the worker",
    "cpu_affinity": "start a guest by `taskset -c LIST …`; a container has cpu_max, which limits but does not pin",
    "reactor": "the container runs asyncio; a Twisted reactor is the component's own business",
    "shutdown": "a container lives until it is stopped, whatever its components do",
    "expose_controller": "there is no WAMP management session: use `holdfast … --json`",
    "expose_shared": "there is no object shared between components: share a module",
    "profiler": "`holdfast incident` has the stacks; for a live profile use py-spy",
    "watch": "there is no restart on a changed file: run `holdfast restart WORKER`, or watchmedo as a guest",
    "stdin": "a guest reads /dev/null; pass what it needs by a file or by env",
    "stdout": "output is always kept: `holdfast logs`",
    "stderr": "output is always kept: `holdfast logs`",
    "env": "[node] env_pass says which variables of whoever starts the node all workers get",
    "manhole": "there is no ssh into a worker; `holdfast incident` and py-spy show what it does",
    "connections": "components open their own connections",
    "disabled": "Holdfast has autostart = false",
}  # fmt: skip
_CONTROLLER_ADVICE = {
    "manhole": "there is no ssh into the node: use the holdfast command",
    "connections": "there is no WAMP uplink of the node",
    "keyring": "the node has no key: packages and bus bring theirs",
    "enable_parallel_worker_start": "workers start at the same time unless `after` orders them",
    "shutdown": "Holdfast restarts a worker that ends; essential = true ends the node when one is down for good",
    "title": "Holdfast names its processes after their role and the node",
}
_COMPONENT_ADVICE = {
    "realm": f"joins the realm there; {_LATER}",
    "role": f"has this role there; {_LATER}",
    "transport": f"how it reaches the router; {_LATER}",
    "auth": f"how it signs in; {_LATER}",
}


def read(root: Node, file: str, ledger: Ledger) -> Draft:
    """Turn a parsed node configuration into a draft.

    Raises:
        ConfigError: It has not the shape of a node configuration; all problems at once.
    """
    return _Import(root, file, ledger).carry_over()


class _Import:
    """One import: the draft in the making and the problems found so far."""

    def __init__(self, root: Node, file: str, ledger: Ledger) -> None:
        self.root = root
        self.file = file
        self.ledger = ledger
        self.problems: list[str] = []
        self.essential = False
        self.draft = Draft([])

    def carry_over(self) -> Draft:
        version = self.version()
        self.draft.heading = [
            f"Imported from {self.file} (Crossbar.io node configuration, {version}).",
            "Relative paths mean the directory of the node: save this file beside the other.",
            'Crossbar.io leaves a worker that died dead; Holdfast restarts it (restart = { policy = "never" } if not).',
        ]
        self.controller()
        workers = self.root.get("workers")
        if workers is None:
            self.problem(self.root, "this is no node configuration: there is no `workers`")
        elif workers.items is None:
            self.problem(workers, f"workers has to be a list, and is {workers.kind()}")
        for index, worker in enumerate((workers.items or []) if workers else [], 1):
            self.worker(worker, index)
        if self.problems:
            raise ConfigError(self.problems)
        if not self.draft.has("worker"):
            self.draft.heading.append(
                "There is nothing in it yet that could run: routers alone, or nothing."
            )
        schema = self.root.get("$schema")
        if schema:
            schema.note("`holdfast schema` prints the JSON Schema of a holdfast.toml")
        return self.draft

    def version(self) -> str:
        if self.root.pairs is None:
            self.problem(
                self.root, f"a node configuration is a mapping; this is {self.root.kind()}"
            )
            raise ConfigError(self.problems)
        node = self.root.get("version")
        if node is None:
            return "no version, as before version 1"
        version = node.value()
        if version not in (1, 2) or isinstance(version, bool):
            self.problem(node, f"version = {version!r}: the versions 1 and 2 are known")
        return f"version {version}"

    def controller(self) -> None:
        table = self.draft.table("node")
        controller = self.root.get("controller")
        if controller is None or not controller.pairs:
            return
        options = controller.get("options")
        name = self.text(controller, "id")
        if name:
            table.put("name", self.draft.free_name("node", name, "node"))
        shutdown = options.get("shutdown") if options else None
        # A text in older configurations, a list in later ones.
        modes = [shutdown, *(shutdown.items or [])] if shutdown else []
        if shutdown and any(mode.scalar == "shutdown_on_worker_exit" for mode in modes):
            shutdown.value()
            self.essential = True
        for section in (controller, options):
            self.advise(section, _CONTROLLER_ADVICE)

    # -- workers -----------------------------------------------------------------------------------

    def worker(self, worker: Node, index: int) -> None:
        kind = self.text(worker, "type", needed=True)
        if kind == "container":
            self.container(worker, index, kind)
        elif kind == "router":
            if worker.get("components"):
                self.container(worker, index, kind)
            for key in ("realms", "transports"):
                part = worker.get(key)
                if part:
                    part.note(_LATER, f"{part.path} ({_count(part)})")
            worker.note(_LATER, f"{worker.path} (router)")
        elif kind == "guest":
            self.guest(worker, index)
        elif kind is not None:
            advice = f"Holdfast has no worker of kind {kind}; a program can do its work as a guest"
            if kind == "proxy":
                advice = _LATER
            worker.note(advice, f"{worker.path} ({kind})")
        self.advise(worker.get("options"), _WORKER_ADVICE)
        self.advise(worker, _WORKER_ADVICE)

    def container(self, worker: Node, index: int, kind: str) -> None:
        components = worker.get("components")
        if components and components.items is None:
            says = f"{components.path} has to be a list, and is {components.kind()}"
            self.problem(components, says)
            return
        given_components = (components.items if components else None) or []
        if not any(self.is_known(node) for node in given_components):
            # Nothing of it must be used: a worker without components cannot be written.
            advice = "there is no component in it that Holdfast could run"
            worker.note(advice, f"{worker.path} ({kind})")
            return
        given = self.text(worker, "id")
        wanted = given or f"{kind}-{index}"
        if kind == "router":
            wanted = f"{wanted}-components"
        table = self.table(worker, wanted, given is not None and kind == "container")
        table.put("kind", "container")
        names: list[str] = []
        table.put("components", names)
        options = worker.get("options")
        self.python(options, table)
        self.environment(options, table)
        self.policy(options, table)
        for node in given_components:
            name = self.component(node)
            if name is not None:
                names.append(name)

    def guest(self, worker: Node, index: int) -> None:
        executable = self.text(worker, "executable", needed=True)
        given = self.text(worker, "id")
        base = re.sub(r"\.\w+$", "", (executable or "guest").rstrip("/").rpartition("/")[2])
        table = self.table(worker, given or base or f"guest-{index}", given is not None)
        table.put("kind", "guest")
        arguments = worker.get("arguments")
        words: list[str] = []
        if arguments is not None:
            if arguments.items is None or any(
                isinstance(item.scalar, bool) or item.leaves() != [item.setting]
                for item in arguments.items
            ):
                self.problem(arguments, f"{arguments.path} has to be a list of texts")
            else:
                words = [str(word) for word in arguments.value()]
                if not words:
                    table.say("no arguments there")
        table.put("command", [executable or "", *words])
        options = worker.get("options")
        if options:
            directory = self.text(options, "workdir")
            if directory:
                table.put("directory", directory)
            elif directory is not None:
                table.say("workdir is empty there")
            for key in ("stdout", "stderr"):
                stream = options.get(key)
                if stream and stream.scalar == "log":
                    stream.value()
                    table.say(f"{key} = log there: holdfast logs --worker {table.header[1]}")
        self.environment(options, table)

    def table(self, worker: Node, wanted: str, chosen: bool) -> Table:
        name = self.draft.free_name("worker", wanted, "worker")
        table = self.draft.table(
            "worker", name, remarks=[f"{self.file}:{worker.line} {worker.path}"]
        )
        if chosen and name != wanted:
            table.say(f"called {wanted} there")
        if self.essential:
            table.put("essential", True, "shutdown_on_worker_exit there")
        return table

    # -- options -----------------------------------------------------------------------------------

    def python(self, options: Node | None, table: Table) -> None:
        if options is None:
            return
        interpreter = self.text(options, "python")
        if interpreter:
            table.put("python", interpreter)
        paths = options.get("pythonpath")
        if paths is None:
            return
        if paths.items is None or not all(isinstance(item.scalar, str) for item in paths.items):
            self.problem(paths, f"{paths.path} has to be a list of directories")
        elif paths.items:
            table.put("pythonpath", paths.value())

    def environment(self, options: Node | None, table: Table) -> None:
        env = options.get("env") if options else None
        if env is None:
            return
        inherit, variables = env.get("inherit"), env.get("vars")
        if inherit is not None and inherit.scalar is True:
            inherit.value()
            table.say("env.inherit = true there, as always here")
        if variables is None:
            return
        if variables.pairs is None:
            self.problem(variables, f"{variables.path} has to be a mapping of names to texts")
        elif variables.pairs:
            values = {
                key: _text(node.scalar) for key, node in variables.pairs.items() if node.setting
            }
            if len(values) < len(variables.pairs):
                self.problem(variables, f"{variables.path}: every value has to be a text")
            for key in [key for key in values if is_ours(key)]:
                variables.pairs[key].note("Holdfast sets this variable itself")
                del values[key]
            variables.value()
            if values:
                table.put("env", values)

    def policy(self, options: Node | None, table: Table) -> None:
        restart = options.get("restart") if options else None
        if restart is None:
            return
        policy = _POLICY.get(str(restart.scalar))
        if policy is None:
            known = ", ".join(_POLICY)
            self.problem(restart, f"{restart.path} = {restart.scalar!r}: known are {known}")
            return
        table.put("restart", {"policy": policy}, f"{restart.value()} there, for each component")

    # -- components --------------------------------------------------------------------------------

    def is_known(self, node: Node) -> bool:
        """Tell whether a component can be carried over, or is so broken that it is a problem."""
        kind = node.get("type")
        return kind is None or not isinstance(kind.scalar, str) or kind.scalar in _COMPONENTS

    def component(self, node: Node) -> str | None:
        kind = self.text(node, "type", needed=True)
        remarks = [f"{self.file}:{node.line} {node.path} ({kind})"]
        if kind == "class":
            use, wanted = self.dotted(node, "classname")
        elif kind == "function":
            use, wanted = self.function(node)
        elif kind == "wamplet":
            use, wanted = self.wamplet(node, remarks)
        else:
            if kind is not None:
                node.note(f"Holdfast has no component of type {kind}", f"{node.path} ({kind})")
            return None
        if use is None:
            return None
        given = self.text(node, "id")
        name = self.draft.free_name("component", given or wanted, "component")
        if given and name != given:
            remarks.append(f"called {given} there")
        table = self.draft.table("component", name, remarks=remarks)
        table.put("use", use)
        self.settings(node, table)
        self.advise(node, _COMPONENT_ADVICE)
        return name

    def dotted(self, node: Node, key: str) -> tuple[str | None, str]:
        """Turn ``package.module.Class`` into ``package.module:Class`` and a name for it."""
        text = self.text(node, key, needed=True)
        if text is None:
            return None, ""
        if not _PATH.fullmatch(text):
            self.problem(
                node.get(key) or node,
                f"{node.path}.{key} = {text!r}: a name like package.module.Class is needed",
            )
            return None, ""
        module, _, attribute = text.rpartition(".")
        return f"{module}:{attribute}", _snake(attribute)

    def function(self, node: Node) -> tuple[str | None, str]:
        callbacks = node.get("callbacks")
        if callbacks is None or not callbacks.pairs:
            self.problem(callbacks or node, f"{node.path} is of type function and has no callbacks")
            return None, ""
        key = "join" if "join" in callbacks.pairs else next(iter(callbacks.pairs))
        use, wanted = self.dotted(callbacks, key)
        chosen = callbacks.pairs[key].setting
        if chosen and use:
            says = f"Crossbar.io calls it with a WAMP session on {key}; the session arrives with the bus"
            self.ledger.remark(chosen, f"{chosen.words()}: {says}")
        for name, other in callbacks.pairs.items():
            if name != key:
                other.note(
                    f"a component has one entry, and {key} became it; call the others from there"
                )
        return use, wanted

    def wamplet(self, node: Node, remarks: list[str]) -> tuple[str | None, str]:
        package, entry = (
            self.text(node, "package", needed=True),
            self.text(node, "entrypoint", needed=True),
        )
        if not package or not entry:
            return None, ""
        remarks.append(f"wamplet {entry} of {package} there")
        where = node.get("entrypoint") or node
        try:
            for point in metadata.distribution(package).entry_points:
                is_it = point.group == _WAMPLETS and point.name == entry
                if is_it and _USE.fullmatch(point.value):
                    return point.value, _snake(package)
        except (metadata.PackageNotFoundError, ValueError):
            pass
        remarks.append(
            "a guess: the package is not installed here; its setup names what the entry point stands for"
        )
        if where.setting:
            says = f"{package} is not installed here, so [component.…] use is a guess: see {_WAMPLETS} in its entry points"
            self.ledger.remark(where.setting, f"{where.setting.words()}: {says}")
        use = f"{package.replace('-', '_')}:{entry.replace('-', '_')}"
        if not _USE.fullmatch(use):
            self.problem(where, f"{where.path}: {package} and {entry} make no module:attribute")
            return None, ""
        return use, _snake(package)

    def settings(self, node: Node, table: Table) -> None:
        extra = node.get("extra")
        if extra is None:
            return
        nulls = [leaf for leaf in extra.leaves() if leaf.text == "null"]
        self.ledger.note(
            nulls, "TOML has no null: leave the key out and let the component take its default"
        )
        for leaf in extra.leaves():
            if leaf.text in _NOT_FINITE or _is_huge(leaf.text):
                says = "carried over as a text: a component cannot be handed such a number"
                self.ledger.remark(leaf, f"{leaf.words()}: {says}")
        value: Any = portable(extra.value())
        if value in (None, {}, []):
            table.say("extra is empty there")
        else:
            table.put("settings", value if isinstance(value, dict) else {"extra": value})

    # -- small things ------------------------------------------------------------------------------

    def text(self, node: Node, key: str, needed: bool = False) -> str | None:
        """Return the text under a key and mark it used; a missing or wrong one is a problem."""
        if node.pairs is None:
            says = f"{node.path} has to be a mapping, and is {node.kind()}"
            self.problem(node, says)
            return None
        found = node.get(key)
        if found is None:
            if needed:
                self.problem(node, f"{node.path} has no {key}")
            return None
        if not isinstance(found.scalar, str) or (needed and not found.scalar):
            self.problem(
                found,
                f"{found.path} has to be a text, and is {found.kind() if found.scalar != '' else 'empty'}",
            )
            return None
        found.value()
        return found.scalar

    def advise(self, node: Node | None, advice: dict[str, str]) -> None:
        for key, below in ((node.pairs if node else None) or {}).items():
            if key in advice:
                below.note(advice[key])

    def problem(self, node: Node, says: str) -> None:
        line = f"{self.file}:{node.line} {says}"
        if line not in self.problems:
            self.problems.append(line)


def _count(node: Node) -> str:
    number = len(node.items or node.pairs or [])
    word = node.path.rpartition(".")[2]
    return f"{number} {word if number != 1 else word.removesuffix('s')}"


def _snake(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()


def _is_huge(text: str) -> bool:
    """Tell a whole number that does not fit into 64 bits."""
    return text.lstrip("-").isdecimal() and (len(text) > 20 or abs(int(text)) >= 1 << 63)


def _text(scalar: object) -> str:
    if isinstance(scalar, bool):
        return "true" if scalar else "false"
    return "" if scalar is None else str(scalar)
