"""What does a Crossbar.io node configuration (JSON or YAML, version 1 or 2) mean to Holdfast?

Containers, routers and guests become workers, classes become components; components inside of a router stay in its
process. The model is that of Crossbar.io 26.10 (node, worker, component), with what older configurations have: no version at
all, permissions without `allow`, wamplets. Realms and transports: :mod:`holdfast.config.importers.crossbar_realms` and
:mod:`~holdfast.config.importers.crossbar_transports`.
"""

import re
from importlib import metadata
from typing import Any

from holdfast.config.importers.crossbar_realms import Realms, url_of
from holdfast.config.importers.crossbar_transports import Transports
from holdfast.config.importers.draft import Draft, Table, exact, is_ours, portable
from holdfast.config.importers.foreign import Foreign, whole_variable
from holdfast.config.importers.ledger import Ledger
from holdfast.config.importers.tree import Node
from holdfast.model.errors import ConfigError

_NOT_FINITE = ("NaN", "Infinity", "-Infinity")
# A file with a hyphen in its name cannot be imported by a statement, but by its name it can.
_PATH = re.compile(r"[A-Za-z_][\w-]*(\.[A-Za-z_][\w-]*)*\.[A-Za-z_]\w*")
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
    "extra": "settings belong to a component: extra",
}  # fmt: skip
_CONTROLLER_ADVICE = {
    "manhole": "there is no ssh into the node: use the holdfast command",
    "connections": "there is no WAMP uplink of the node",
    "keyring": "the node has no key: packages and bus bring theirs",
    "enable_parallel_worker_start": "workers start at the same time unless `after` orders them",
    "shutdown": "Holdfast starts a worker that ended again, and goes on; essential = true ends the node when one is down for good",
    "title": "Holdfast names its processes after their role and the node",
}
_COMPONENT_ADVICE = {
    "references": "components find each other by WAMP",
    "shutdown": "a container lives until it is stopped, whatever its components do",
    "name": "a component is known by its id",
}
#: What a worker of Crossbar.io that Holdfast has not is good for, and what does that here.
_NO_WORKER = {
    "proxy": "a router takes its connections itself; a second router on the same realm shares the load",
    "websocket-testee": "this is a test of WebSocket libraries, not a service",
    "hostmonitor": "`holdfast status` and the samples have the figures of the machine",
}
_SHUTDOWN_MODES = (
    "shutdown_on_worker_exit",
    "shutdown_on_worker_exit_with_error",
    "shutdown_on_last_worker_exit",
    "shutdown_on_shutdown_requested",
)


def read(root: Node, file: str, ledger: Ledger, *, is_direct: bool = False) -> Draft:
    """Turn a parsed node configuration into a draft.

    ``is_direct``: it is read to be run, not to be written down; then nothing has to fit into TOML.

    Raises:
        ConfigError: It has not the shape of a node configuration; all problems at once.
    """
    return _Import(root, file, ledger, is_direct=is_direct).carry_over()


class _Import(Foreign):
    """One import."""

    def __init__(self, root: Node, file: str, ledger: Ledger, *, is_direct: bool) -> None:
        super().__init__(root, file, ledger)
        self.essential = False
        self.is_direct = is_direct
        self.realms = Realms(self)

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
        given = (workers.items or []) if workers else []
        for index, worker in enumerate(given, 1):
            self.worker(worker, index)
        self.realms.note_caches()
        if self.problems:
            raise ConfigError(self.problems)
        if not self.draft.has("worker"):
            self.draft.heading.append("There is nothing in it that could run.")
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
        self.shutdown(options.get("shutdown") if options else None, table)
        parallel = options.get("enable_parallel_worker_start") if options else None
        if parallel is not None and parallel.scalar is True:
            parallel.value()
            table.say(
                "enable_parallel_worker_start there, as always here: components wait for their router by themselves"
            )
        for section in (controller, options):
            self.advise(section, _CONTROLLER_ADVICE)

    def shutdown(self, node: Node | None, table: Table) -> None:
        """Carry over when the node ends: a text in older configurations, a list in later ones, of the same meaning."""
        if node is None:
            return
        for mode in node.items if node.items is not None else [node]:
            if mode.scalar not in _SHUTDOWN_MODES:
                known = ", ".join(_SHUTDOWN_MODES)
                self.problem(mode, f"{mode.path} = {mode.scalar!r}: known are {known}")
            elif mode.scalar == "shutdown_on_worker_exit":
                mode.value()
                self.essential = True
            elif mode.scalar == "shutdown_on_shutdown_requested":
                mode.value()
                table.say("shutdown_on_shutdown_requested there, as always here: holdfast down")

    # -- workers -----------------------------------------------------------------------------------

    def worker(self, worker: Node, index: int) -> None:
        kind = self.kind(worker, ("router", "container", "guest"))
        if kind == "container":
            self.container(worker, index, kind)
        elif kind == "router":
            self.router(worker, index)
        elif kind == "guest":
            self.guest(worker, index)
        elif kind is not None:
            usual = f"Holdfast has no worker of kind {kind}; a program can do its work as a guest"
            advice = _NO_WORKER.get(kind, usual)
            worker.note(advice, f"{worker.path} ({kind})")
        self.advise(worker.get("options"), _WORKER_ADVICE)
        self.advise(worker, _WORKER_ADVICE)

    def router(self, worker: Node, index: int) -> None:
        given = self.text(worker, "id")
        table = self.table(worker, given or f"router-{index}", given is not None)
        table.put("kind", "router", at=worker.get("type"))
        options = worker.get("options")
        self.python(options, table)
        self.environment(options, table)
        self.disabled(options, table)
        realms = self.realms.of_router(worker, table)
        names: list[str] = []
        for node in self.entries(worker.get("components")):
            name = self.component(node, realms)
            if name is not None:
                table.mark(("components", len(names)), node)
                names.append(name)
        if names:
            table.put("components", names)
        Transports(self, table).read(worker.get("transports"))

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
        table = self.table(worker, wanted, given is not None)
        table.put("kind", "container")
        names: list[str] = []
        table.put("components", names)
        options = worker.get("options")
        self.python(options, table)
        self.environment(options, table)
        self.policy(options, table)
        self.disabled(options, table)
        for node in given_components:
            name = self.component(node, None)
            if name is not None:
                table.mark(("components", len(names)), node)
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
        table.put("command", [executable or "", *words], at=worker.get("executable"))
        options = worker.get("options")
        if options:
            directory = self.text(options, "workdir")
            if directory:
                table.put("directory", directory, at=options.get("workdir"))
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
            "worker", name, remarks=[f"{self.file}:{worker.line} {worker.path}"], at=worker
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
            table.put("python", interpreter, at=options.get("python"))
        paths = options.get("pythonpath")
        if paths is None:
            return
        if paths.items is None or not all(isinstance(item.scalar, str) for item in paths.items):
            self.problem(paths, f"{paths.path} has to be a list of directories")
        elif paths.items:
            table.put("pythonpath", paths.value(), at=paths)

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
                table.put("env", values, at=variables)

    def policy(self, options: Node | None, table: Table) -> None:
        restart = options.get("restart") if options else None
        if restart is None:
            return
        policy = _POLICY.get(str(restart.scalar))
        if policy is None:
            known = ", ".join(_POLICY)
            self.problem(restart, f"{restart.path} = {restart.scalar!r}: known are {known}")
            return
        table.put(
            "restart",
            {"policy": policy},
            f"{restart.value()} there, for each component",
            at=restart,
        )

    def disabled(self, options: Node | None, table: Table) -> None:
        node = options.get("disabled") if options else None
        if node is not None and isinstance(node.scalar, bool):
            table.put(
                "autostart", not node.value(), "disabled there" if node.scalar else "", at=node
            )

    # -- components --------------------------------------------------------------------------------

    def is_known(self, node: Node) -> bool:
        """Tell whether a component can be carried over, or is so broken that it is a problem."""
        kind = node.get("type")
        return kind is None or not isinstance(kind.scalar, str) or kind.scalar in _COMPONENTS

    def component(self, node: Node, realms: dict[str, str] | None) -> str | None:
        """Carry over a component; ``realms`` are those of its router, when it lives in one."""
        kind = self.kind(node, _COMPONENTS)
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
        wanted = given or wanted
        if realms is not None and wanted == "router":
            wanted = "router-component"  # in a router's process that name is the router's own
        name = self.draft.free_name("component", wanted, "component")
        if given and name != given:
            remarks.append(f"called {given} there")
        table = self.draft.table("component", name, remarks=remarks, at=node)
        table.put(
            "use", use, at=node.get("classname") or node.get("callbacks") or node.get("entrypoint")
        )
        self.settings(node, table)
        self.joining(node, table, realms)
        self.advise(node, _COMPONENT_ADVICE)
        return name

    def joining(self, node: Node, table: Table, realms: dict[str, str] | None) -> None:
        """Carry over how a component joins its realm."""
        if realms is not None:
            self.joining_inside(node, table, realms)
            return
        realm = self.text(node, "realm")
        if realm is not None:
            table.put("realm", realm, at=node.get("realm"))
        self.advise(node, {"role": "the sign-in at the router says which role it gets"})
        transport = self.mapping(node.get("transport"))
        url = url_of(self, transport)
        if url and transport is not None:
            table.put("bus", url, at=transport.get("url") or transport)
            self.sign_in(self.mapping(node.get("auth")), table)
        elif transport is None:
            if realm is not None:
                table.say("no transport there: joins the bus of this node, as trusted")
            self.advise(node, {"auth": "on the node's own bus nobody has to sign in"})

    def joining_inside(self, node: Node, table: Table, realms: dict[str, str]) -> None:
        """Carry over how a component inside of a router joins: directly, in the role that is written there."""
        realm = self.text(node, "realm", needed=True)
        if realm is not None and realm not in realms:
            says = f"{node.path}.realm = {realm!r}: this router has {', '.join(realms) or 'none'}"
            self.problem(node.get("realm") or node, says)
        elif realm is not None:
            table.put("realm", realms[realm], at=node.get("realm"))
        given = self.text(node, "role")
        why = "" if given else "none there"
        table.put("role", given or "anonymous", why, at=node.get("role") or node)
        advice = {
            "transport": "a component of a router is on its bus already",
            "auth": "a component of a router does not sign in",
        }
        self.advise(node, advice)

    def sign_in(self, auth: Node | None, table: Table) -> None:
        """Carry over how a component signs in: a method, and what it needs."""
        if auth is None:
            return
        if not auth.pairs:
            auth.value()
            table.say("auth is empty there")
            return
        (name, method), *others = auth.pairs.items()
        for _, other in others:
            other.note(f"one way to sign in is enough: {name}")
        entry: dict[str, Any] = {"method": name}
        for key, given in (method.pairs or {}).items():
            value = given.value()
            if value is not None:
                ours = "private_key" if key == "privkey" else key
                entry[ours] = whole_variable(value) if isinstance(value, str) else portable(value)
        if not method.pairs:
            method.value()
        table.put("auth", entry, at=method)

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
            says = f"Crossbar.io calls it with a WAMP session on {key}; here it is called when it has joined"
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
        if not self.is_direct:
            self.ledger.note(
                nulls, "TOML has no null: leave the key out and let the component take its default"
            )
        for leaf in extra.leaves():
            if leaf.text in _NOT_FINITE or _is_huge(leaf.text):
                says = "carried over as a text: a component cannot be handed such a number"
                self.ledger.remark(leaf, f"{leaf.words()}: {says}")
        plain = extra.value()
        value: Any = portable(plain)
        if isinstance(plain, dict) and value:
            self.draft.exact[(*table.path, "settings")] = exact(plain)
        if value in (None, {}, []):
            table.say("extra is empty there")
        else:
            table.put("settings", value if isinstance(value, dict) else {"extra": value}, at=extra)


def _snake(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()


def _is_huge(text: str) -> bool:
    """Tell a whole number that does not fit into 64 bits."""
    return text.lstrip("-").isdecimal() and (len(text) > 20 or abs(int(text)) >= 1 << 63)


def _text(scalar: object) -> str:
    if isinstance(scalar, bool):
        return "true" if scalar else "false"
    return "" if scalar is None else str(scalar)
