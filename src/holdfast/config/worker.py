"""What plan follows from one ``[worker.NAME]`` and the defaults?

Fills in defaults, finds its program and user, and says what contradicts itself within the worker. Names of other
workers and components are :mod:`holdfast.config.compile`'s business.
"""

import os
import re
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from holdfast.config import definitions as d
from holdfast.config.joined import Entry
from holdfast.config.kinds import Address, Service
from holdfast.config.machine import Machine, absolute
from holdfast.config.problems import Problems, Where, quoted
from holdfast.config.reading import shown_path, typed_path

if TYPE_CHECKING:
    from typing import Literal

    from holdfast.model.plan import (
        Heartbeat,
        Limits,
        Listener,
        ReadyCheck,
        RestartPolicy,
        Stop,
        User,
    )

#: Below this no Python interpreter gets as far as its first line.
_LEAST_CONTAINER_BYTES = 16 << 20
#: sun_path has 108 bytes, one of them for the final NUL.
_LONGEST_SOCKET_PATH = 107
#: Jobs that kill their process are the queue's business: each is caught after two deaths, and no other job has to wait for that.
_JOBS_LIMIT = 30
#: Defaults of these keys are merged with a worker's own, key by key.
_MERGED = ("restart", "stop", "log", "detect", "env")


class Node:
    """What all workers share while the plan is compiled."""

    __slots__ = (
        "claims", "defaults", "env", "jobs_workers", "machine", "passed_env", "problems",
    )  # fmt: skip

    def __init__(
        self, defaults: Entry, env: dict[str, str], passed_env: dict[str, str], problems: Problems
    ) -> None:
        self.defaults = defaults
        self.env = env
        self.passed_env = passed_env
        self.problems = problems
        self.machine = Machine()
        self.jobs_workers: list[str] = []  # configured ones, without their steward
        self.claims: dict[
            int | str, list[tuple[str, str, bool]]
        ] = {}  # port or path -> (host, worker, is shared)


class Job:
    """One worker being compiled."""

    def __init__(self, name: str, entry: Entry, node: Node) -> None:
        self.name = name
        self.entry = entry
        self.node = node
        self.problems = node.problems
        self.machine = node.machine
        self.is_router = entry.given.get("kind") == "router"
        self.is_jobs = entry.given.get("kind") == "jobs"
        #: Routers and jobs workers are containers, too: what they do is a component of Holdfast's own.
        self.is_container = self._is_container()
        self.given = self._given()
        self.base = entry.where.document.directory

    @property
    def kind(self) -> 'Literal["container", "guest", "router", "jobs"]':
        """Return what it is, as the plan says it."""
        if self.is_router or self.is_jobs:
            return "router" if self.is_router else "jobs"
        return "container" if self.is_container else "guest"

    @property
    def has_agent(self) -> bool:
        """Whether Holdfast's agent is in the process."""
        return bool(self.given.get("agent", self.is_container))

    def where(self, key: str) -> Where:
        """Return where a key of this worker stands: in its own table, or among the defaults."""
        defaults = self.node.defaults
        own = key in self.entry.raw or key not in defaults.raw
        return (self.entry if own else defaults).where.at(key)

    def _is_container(self) -> bool:
        entry, add = self.entry, self.problems.add
        raw = entry.raw
        has_components = "components" in raw or "components" in entry.given
        sort: str = entry.given.get("kind", "container" if has_components else "guest")
        is_container = sort != "guest"
        if entry.is_broken or ("kind" in raw and "kind" not in entry.given):
            return is_container
        if sort in ("container", "guest") and not has_components and "command" not in raw:
            add(
                entry.where,
                'says neither "command" nor "components"',
                'a program:   command = ["redis-server"]',
                'components:  components = ["board"]',
                'a router:    kind = "router"',
                'jobs:        kind = "jobs", use = ["shop.tasks"]',
            )
        if self.is_jobs:
            self._check_jobs(entry)
        for key in d.WORKER.keys.values():
            # A value that was refused has been complained about; spare = 0 asks for nothing.
            is_foreign = key.only == ("guest" if is_container else "container") or (
                key.only in ("router", "jobs") and key.only != sort
            )
            if is_foreign and entry.given.get(key.name):
                add(
                    entry.where.at(key.name),
                    *self._not_for(key.name, sort, has_both=has_components),
                    of_key=True,
                )
        return is_container

    def _check_jobs(self, entry: Entry) -> None:
        if "use" not in entry.raw and self.name in self.node.jobs_workers:
            says = 'does not say where its jobs are: there is no "use"'
            self.problems.add(entry.where, says, 'the modules with @job in them:  use = ["shop.tasks"]')  # fmt: skip
        for key, hint in (
            ("components", "a component lives in a worker of its own, or in a container"),
            ("listen", "nobody connects to it; a component or a guest can listen"),
        ):
            if entry.given.get(key):
                says = f'a jobs worker has no "{key}": it runs jobs'
                self.problems.add(entry.where.at(key), says, hint, of_key=True)

    def _not_for(self, key: str, sort: str, *, has_both: bool) -> tuple[str, ...]:
        sort = "jobs worker" if sort == "jobs" else sort
        only = d.WORKER.keys[key].only
        if only == "router":
            return (f'a {sort} has no "{key}": only a router has', 'write kind = "router" for one')
        if only == "jobs":
            hint = (
                f"it belongs into [component.NAME]; {sort}s list components by name"
                if key == "use"
                else 'write kind = "jobs" for one'
            )
            return (f'a {sort} has no "{key}": only a jobs worker has', hint)
        if key == "command" and self.is_jobs:
            return (
                f'a {sort} has no "command": it runs jobs',
                'its modules:  use = ["shop.tasks"]',
            )
        if key == "command" and has_both and not self.is_router:
            return (
                'a worker has either "command" or "components", not both',
                "make two workers of it: one for the program, one for the components",
            )
        if key == "command":
            return (
                f'a {sort} has no "command": it runs components',
                'write kind = "guest" for a program',
            )
        if key == "components":
            return 'a guest has no "components": it runs a command', "leave out `kind`"
        hints = {
            "spare": "only components can wait for their go; for a guest, two workers behind `listen` do the same",
            "python": "a guest is started by its command: name the interpreter there",
            "pythonpath": 'for a program in Python:  env = { PYTHONPATH = "…" }',
        }
        return f'a {sort} has no "{key}"', hints.get(key, "only a container has")

    def _given(self) -> dict[str, Any]:
        defaults = self.node.defaults.given
        given = self.entry.given
        if not defaults:
            return d.WORKER.filled(given)
        other = "guest" if self.is_container else "container"
        merged = {key: value for key, value in defaults.items() if d.WORKER.keys[key].only != other}
        for key in _MERGED:
            if (
                key in merged
                and key in given
                and True not in (merged[key].get("none"), given[key].get("none"))
            ):
                merged[key] = {**merged[key], **given[key]}
                given = {k: v for k, v in given.items() if k != key}
        return d.WORKER.filled({**merged, **given})

    def _from(self, key: str, path: str) -> str:
        """Return a path of the configuration, relative to the file in which it stands."""
        return absolute(self.where(key).document.directory, path)

    def directory(self) -> str:
        """Return the directory that it runs in."""
        path: str | None = self.given.get("directory")
        if path is None:
            return self.base
        path = self._from("directory", path)
        if not self.machine.is_directory(path):
            says = (
                "is a file, not a directory"
                if os.path.lexists(path)
                else "there is no such directory"
            )
            self.problems.add(
                self.where("directory"),
                f"{shown_path(path)}: {says}",
                f"make it:  mkdir -p {typed_path(path)}",
            )
        return path

    def environment(self) -> dict[str, str]:
        """Return its variables: those of the node, of its file, its own; the later ones win."""
        env = dict(self.node.env)
        if "env_file" in self.given:
            path = self._from("env_file", self.given["env_file"])
            env.update(self.machine.env_file(path, self.where("env_file"), self.problems))
        env.update(self.given.get("env", {}))
        if self.is_container:
            paths = [self._from("pythonpath", path) for path in self.given.get("pythonpath", ())]
            for at, path in enumerate(paths):
                if not self.machine.is_directory(path) and not os.path.isfile(path):
                    self.problems.add(
                        self.where("pythonpath").at(at),
                        f"{shown_path(path)}: there is no such directory",
                    )
            if paths:
                inherited = env.get("PYTHONPATH", self.node.passed_env.get("PYTHONPATH", ""))
                env["PYTHONPATH"] = ":".join([*paths, *([inherited] if inherited else [])])
        elif self.has_agent:
            inherited = env.get("PYTHONPATH", self.node.passed_env.get("PYTHONPATH", ""))
            env["PYTHONPATH"] = ":".join(
                [self.machine.agent_boot, *([inherited] if inherited else [])]
            )
        return env

    def user(self, env: dict[str, str]) -> "User | None":
        """Return whom it runs as, None for whoever starts the node; HOME and the like go into ``env``."""
        user, group = self.given.get("user"), self.given.get("group")
        if user is None and group is None:
            return None
        where_user, where_group = self.where("user"), self.where("group")
        me = os.geteuid()
        found = self.machine.user(me if user is None else user)
        if found is None:
            guess = self.problems.similar(str(user), self.machine.user_names())
            self.problems.add(
                where_user,
                f"there is no user {_named(user)} on this machine",
                *([guess] if guess else []),
            )
            return None
        name, uid, gid, groups, home = found
        if group is not None:
            number = self.machine.group(group)
            if number is None:
                self.problems.add(where_group, f"there is no group {_named(group)} on this machine")
                return None
            gid = number
            groups = [gid]
        if me != 0:
            if uid != me or gid not in {os.getegid(), *os.getgroups()}:
                where = where_user if uid != me else where_group
                says = "only root can run a worker as somebody else"
                self.problems.add(where, says, "start the node as root, or leave the key out")
            elif gid == os.getegid():
                return None
        if user is not None and uid != me:
            for key, value in (("HOME", home), ("USER", name), ("LOGNAME", name)):
                if value:
                    env.setdefault(key, value)
        return {"uid": uid, "gid": gid, "groups": groups, "name": name}

    def argv(self, env: Mapping[str, str], directory: str) -> list[str]:
        """Return its command line, the program as an absolute path."""
        if not self.is_container:
            command = self.given.get("command")
            if not command:
                return []  # has been said
            return [self._program(command[0], self.where("command"), env, directory), *command[1:]]
        python = self.given.get("python")
        if python is None:
            found = sys.executable
        else:
            path = self._from("python", python)
            # People name the virtual environment and mean its interpreter.
            if self.machine.is_directory(path):
                path += "/bin/python"
            elif "/" not in python:
                path = python
            found = self._program(path, self.where("python"), env, directory)
        options = ["-P", "-X", "faulthandler"] if self.given.get("faulthandler", True) else ["-P"]
        return [found, *options, self.machine.container_main]

    def _program(self, name: str, where: Where, env: Mapping[str, str], directory: str) -> str:
        passed = self.node.passed_env
        search = env.get("PATH") or passed.get("PATH") or os.defpath
        path, complaint = self.machine.program(name, search, directory)
        if complaint:
            self.problems.add(where, *complaint)
        return path

    def limits(self) -> "Limits":
        """Return its ceilings."""
        given = self.given
        memory = given.get("memory_max")
        if memory is not None and memory < _LEAST_CONTAINER_BYTES and self.is_container:
            says = f"{memory} bytes are too little for a container: no Python starts with less than 16 MiB"
            self.problems.add(
                self.where("memory_max"), says, 'most need more:  memory_max = "128M"'
            )
        return {
            "memory_bytes": memory,
            "cpu_share": given.get("cpu_max"),
            "processes": given.get("processes_max"),
            "files": given.get("files_max"),
            "core_bytes": given.get("core_max"),
        }

    def restart(self) -> "RestartPolicy":
        """Return its restart policy."""
        full = d.RESTART.filled({**self._usual("restart"), **self.given.get("restart", {})})
        if full["delay"] > full["delay_max"]:
            says = f"the first delay ({full['delay']:g} s) is longer than the longest, delay_max ({full['delay_max']:g} s)"
            self.problems.add(self.where("restart"), says)
        return {
            "policy": full["policy"],
            "limit": full["limit"],
            "window_s": full["window"],
            "after_limit": full["after_limit"],
            "delay_s": full["delay"],
            "delay_max_s": full["delay_max"],
            "jitter": full["jitter"],
            "healthy_s": full["healthy"],
        }

    def _usual(self, key: str) -> dict[str, Any]:
        """Return the defaults of a table that are others for this kind of worker."""
        if not self.is_jobs:
            return {}
        if key == "restart":
            return {"limit": _JOBS_LIMIT}
        given = self.given
        return {
            # Jobs of one queue cost what they like, and may compute for an hour: that is what their timeout is for.
            "slow": 0.0,
            "pegged": 0.0,
            "thread_bomb": max(d.DETECT.defaults["thread_bomb"], 2.0 * given["concurrency"]),
            "task_bomb": max(d.DETECT.defaults["task_bomb"], 3.0 * given["async_concurrency"]),
        }

    def detect(self) -> dict[str, float]:
        """Return the thresholds of its detectors."""
        full = d.DETECT.filled({**self._usual("detect"), **self.given.get("detect", {})})
        return {name: float(value) for name, value in full.items()}

    def stop(self) -> "Stop":
        """Return how it is asked to end."""
        full = d.STOP.filled(self.given.get("stop", {}))
        if self.given["crash_only"] and "stop" in self.entry.raw and "crash_only" in self.entry.raw:
            says = 'contradicts "crash_only = true": such a worker is killed, never asked'
            self.problems.add(self.where("stop"), says, "leave out one of the two", of_key=True)
        return {"signal": full["signal"], "grace_s": full["grace"]}

    # -- ready and heartbeat -----------------------------------------------------------------------

    def ready(self, env: Mapping[str, str], directory: str, *, has_log: bool) -> "ReadyCheck":
        """Return how its readiness is known."""
        given = self.given.get("ready")
        if given is None:
            given = {"pulse": True} if self.is_container else {"none": True}
        full = d.READY.filled(given)
        kind, target, argv = self._looked_at("ready", full, d.READY_KINDS, env, directory)
        if kind == "log" and not has_log:
            says = "cannot look at the output: with log = false nobody reads it"
            self.problems.add(
                self.where("ready"), says, "leave out log = false, or choose another ready check"
            )
        return {"kind": kind, "target": target, "argv": argv, "timeout_s": full["timeout"]}

    def heartbeat(self, env: Mapping[str, str], directory: str) -> "Heartbeat":
        """Return how its being alive is known."""
        given = self.given.get("heartbeat")
        if given is None:
            has_pulse = self.is_container or self.has_agent
            given = {"pulse": True} if has_pulse else {"none": True}
        kind, target, argv = self._looked_at("heartbeat", given, d.HEARTBEAT_KINDS, env, directory)
        timeout_s = given.get(
            "timeout", d.HEARTBEAT_TIMEOUT_S.get(kind, d.HEARTBEAT_TIMEOUT_OTHERS_S)
        )
        period_s = d.HEARTBEAT.filled(given)["period"]
        where = self.where("heartbeat")
        if "period" in given and kind not in (*d.PROBES, "none"):
            says = f'has no meaning for "{kind}": such a beat comes by itself'
            self.problems.add(
                where.at("period"),
                says,
                "leave it out; `timeout` is how long it may be silent",
                of_key=True,
            )
        elif kind in d.PROBES and timeout_s < period_s:
            says = f"a probe every {period_s:g} s cannot notice a silence of {timeout_s:g} s"
            key = "timeout" if "timeout" in given else "period"
            self.problems.add(where.at(key), says, "let `period` be at most a half of `timeout`")
        return {
            "kind": kind,
            "target": target,
            "argv": argv,
            "period_s": period_s,
            "timeout_s": timeout_s,
        }

    def _looked_at(
        self,
        key: str,
        given: Mapping[str, Any],
        kinds: tuple[str, ...],
        env: Mapping[str, str],
        directory: str,
    ) -> "tuple[Any, str, list[str]]":
        """Return (kind, target, argv) of a check."""
        kind = next((name for name in kinds if name in given), "none")
        if kind == "none":
            return "none", "", []
        value: Any = given[kind]
        where = self.where(key).at(kind)
        if kind in ("pulse", "notify"):
            self._check_self_told(key, kind, is_meant=value)
            # A guest has a pulse once a Python with the agent runs in it, and is not judged by it before.
            is_agents = kind == "pulse" and not self.is_container
            return kind, "agent" if is_agents else "", []
        if kind == "exec":
            return kind, "", [self._program(value[0], where, env, directory), *value[1:]]
        if kind in ("file", "unix"):
            value = absolute(directory, value)
            if kind == "unix":
                self.check_socket_path(value, where)
        elif kind == "log":
            self._check_pattern(value, where)
        return kind, value, []

    def _check_self_told(self, key: str, kind: str, *, is_meant: bool) -> None:
        where = self.where(key)
        if not is_meant:
            says = f"there is no use in {kind} = false"
            self.problems.add(where.at(kind), says, f"for none at all:  {key} = false")
        elif (
            kind == "pulse"
            and not self.is_container
            and not (key == "heartbeat" and self.has_agent)
        ):
            says = "a guest has no pulse: only containers write one"
            hints = [f"choose tcp, http, notify, …, or none: {key} = false"]
            if key == "heartbeat":
                hints.append("for a Python program:  agent = true")
            elif self.has_agent:
                says = "the agent in a guest knows that it lives, not when it is ready"
            self.problems.add(where, says, *hints)

    def _check_pattern(self, pattern: str, where: Where) -> None:
        try:
            re.compile(pattern.encode())  # bytes, as the watchdog searches them
        except re.error as error:
            says = f"{quoted(pattern)} is not a regular expression: {error}"
            self.problems.add(where, says, "a special character is meant as itself after a \\")
        except (RecursionError, OverflowError):
            self.problems.add(where, f"{quoted(pattern)} is too much of a regular expression")

    def check_socket_path(self, path: str, where: Where) -> None:
        """Complain about a path that is too long for a Unix socket."""
        length = len(os.fsencode(path))
        if length > _LONGEST_SOCKET_PATH:
            says = f"{shown_path(path)} has {length} bytes; the path of a Unix socket has at most {_LONGEST_SOCKET_PATH}"
            self.problems.add(where, says, "choose a shorter place, as below /run or /tmp")

    def listen(self, directory: str) -> "list[Listener]":
        """Return its listening sockets."""
        found: list[Listener] = []
        for at, given in enumerate(self.given.get("listen", ())):
            full = d.LISTENER.filled(given)
            if "address" not in full:
                continue  # has been said
            where = self.where("listen").at(at)
            if isinstance(full["address"], Service):
                self._no_service(full["address"], where)
                continue
            kind, host, port, path = full["address"]
            if kind == "unix":
                path = absolute(directory, path)
                self.check_socket_path(path, where)
                if self.machine.is_directory(path):
                    self.problems.add(where, f"{shown_path(path)} is a directory")
            self.claim(kind, host, port, path, where)
            name = full.get("name", self.name)
            found.append({
                "name": name, "kind": kind, "host": host, "port": port, "path": path, "backlog": full["backlog"],
            })  # fmt: skip
        return found

    def _no_service(self, service: Service, where: Where) -> None:
        shown = f"{service.host}:{service.port}"
        url = f"{service.scheme}://{shown}{'/' if service.path else ''}{service.path}"
        says = f"{quoted(url)} is not {Address.words}"
        kind = 'for a router:  kind = "router"'
        self.problems.add(
            where, says, f'the worker speaks the protocol; here stands "tcp://{shown}"', kind
        )

    def claim(
        self, kind: str, host: str, port: int, path: str, where: Where, *, shared: bool = False
    ) -> None:
        """Complain about a socket that a worker has already, unless both say that they share it."""
        if kind == "tcp" and port == 0:
            return  # any free port: never the same one
        claims = self.node.claims.setdefault(port if kind == "tcp" else path, [])
        for other_host, other, is_shared in claims:
            if shared and is_shared and other != self.name:
                continue
            if other_host == host or {other_host, host} & {"0.0.0.0", "::"}:
                what = f"port {port}" if kind == "tcp" else shown_path(path)
                whose = "this worker" if other == self.name else f'the worker "{other}"'
                self.problems.add(
                    where, f"{what} is claimed by {whose} already", "choose another one"
                )
                break
        claims.append((host, self.name, shared))


def _named(value: object) -> str:
    return quoted(value) if isinstance(value, str) else str(value)
