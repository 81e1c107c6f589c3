"""Orders for evidence, and the short-lived processes that carry them out.

An order is a file first and a process second: whoever is killed in between, the next watchdog finds the file and starts
the process. It is over when the process has renamed it to ``KEY.done``. Two at once at most: evidence must not be the
load that keeps a box from recovering (200 workers killed at once would be 200 interpreters otherwise).
"""

import time

from holdfast.linux import files, pidfd, procfs
from holdfast.linux import system as os
from holdfast.watchdog.engine import READ
from holdfast.wire import layout
from holdfast.wire.jsonlite import dumps, loads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from holdfast.watchdog.engine import Engine

AT_ONCE = 2
#: Nobody waits for evidence after a death; something that takes longer is stuck.
POST_MORTEM_S = 20.0
#: An order whose process fails this often is closed without an incident.
ATTEMPTS = 3
#: The interpreter of the evidence process has to start before its own budget can begin.
START_S = 0.3
#: After several deaths at once the workers come first.
_STORM_PAUSE_S = 0.25
_KEPT_DONE, _KEPT_DONE_S = 200, 600.0


class _Running:
    __slots__ = ("descriptor", "is_child", "live", "pid")

    def __init__(self, pid: int, descriptor: int, *, is_child: bool, live: bool) -> None:
        self.pid = pid
        self.descriptor = descriptor
        self.is_child = is_child
        self.live = live


class Orders:
    """All orders that are not done."""

    __slots__ = (
        "_attempts", "_command", "_directory", "_done", "_engine", "_queue", "_run_dir", "_running", "_shared",
        "_stdio",
    )  # fmt: skip

    def __init__(
        self,
        engine: "Engine",
        run_dir: str,
        command: "list[str]",
        done: "Callable[[str, str | None], None]",
    ) -> None:
        self._engine = engine
        self._run_dir = run_dir
        self._directory = f"{run_dir}/{layout.ORDERS}"
        self._command = command  #: to which the run directory and the key are added
        self._done = done
        self._queue: dict[str, dict[str, Any]] = {}  #: in the order in which they came
        self._running: dict[str, _Running] = {}
        self._attempts: dict[str, int] = {}
        self._shared: dict[str, float] = {}
        self._stdio = self._actions()

    def place(self, order: "dict[str, Any]") -> bool:
        """Write an order, unless it was written before; False when there is no room for it."""
        key = order["key"]
        path = f"{self._directory}/{key}"
        if os.path.exists(path + ".done"):
            return True
        if not os.path.exists(path + ".json"):
            try:
                files.write_atomic(path + ".json", dumps(order).encode())
            except OSError as error:
                self._engine.say(f"cannot write the order {key}: {error.strerror}")
                return False
        self._queue.setdefault(key, order)
        return True

    def is_busy(self) -> bool:
        """Whether there is anything to be done."""
        return bool(self._queue)

    def live(self) -> "list[str]":
        """Return the workers of whom evidence is being taken while they run."""
        return [
            str(self._queue[key].get("worker"))
            for key in self._running
            if key in self._queue and self._queue[key].get("live")
        ]

    def outcome(self, key: str) -> "tuple[bool, str | None]":
        """Return whether an order is done, and its incident."""
        data = _load(f"{self._directory}/{key}.done")
        if data is None:
            return False, None
        incident = data.get("incident")
        return True, incident if type(incident) is str else None

    def find(self) -> None:
        """Take up what an earlier watchdog left: orders that are not done, processes that still run."""
        try:
            names = os.listdir(self._directory)
        except OSError:
            return
        for name in sorted(names):
            key, dot, kind = name.rpartition(".")
            if dot and kind == "json" and key not in self._queue:
                order = _load(f"{self._directory}/{name}")
                if order is None or order.get("key") != key:
                    self._close(key, "the order cannot be read")
                else:
                    self._queue[key] = order
        self._forget_old([n for n in names if n.endswith(".done")])

    def adopt(self) -> None:
        """Find the processes that an earlier watchdog started; only worth it when there are orders."""
        if not self._queue:
            return
        tail = [*self._command[-1:], self._run_dir]
        for pid in procfs.pids():
            argv = procfs.command_line(pid)
            if argv[-3:-1] == tail and argv[-1] in self._queue and argv[-1] not in self._running:
                descriptor = pidfd.open_pid(pid)
                if descriptor >= 0:
                    self._follow(
                        argv[-1],
                        _Running(pid, descriptor, is_child=False, live=False),
                        POST_MORTEM_S,
                    )

    def start_due(self, deaths_lately: int = 0) -> None:
        """Start as many processes as may run at once; live evidence first."""
        waiting = [key for key in self._queue if key not in self._running]
        waiting.sort(
            key=lambda key: not self._queue[key].get("live")
        )  # stable: otherwise oldest first
        now_unix_s = time.time()
        for key in waiting:
            order = self._queue[key]
            live = bool(order.get("live")) and not self._attempts.get(key)
            # Somebody waits for live evidence: it does not queue behind the dead.
            if len(self._running) >= AT_ONCE + (2 if live else 0):
                return
            young = now_unix_s - order.get("unix_s", 0.0) < _STORM_PAUSE_S
            if not live and deaths_lately > AT_ONCE and young:
                self._engine.at(time.monotonic() + _STORM_PAUSE_S, self.start_due)
                return
            self._start(key, order, live=live)

    def _start(self, key: str, order: "dict[str, Any]", *, live: bool) -> None:
        if os.path.exists(f"{self._directory}/{key}.done"):
            self._finish(key)
            return
        attempt = self._attempts[key] = self._attempts.get(key, 0) + 1
        if attempt > ATTEMPTS:
            self._close(key, "the evidence process failed every time")
            return
        argv = [*self._command, self._run_dir, key]
        try:
            pid = os.posix_spawn(argv[0], argv, os.environ, file_actions=self._stdio, setsid=True)
            if not live:
                os.setpriority(os.PRIO_PROCESS, pid, 10)  # the workers come first
        except OSError as error:
            self._engine.say(f"cannot start the evidence process for {key}: {error.strerror}")
            return
        descriptor = pidfd.open_pid(pid)
        deadline_s = order.get("deadline_s", 2.0) + START_S if live else POST_MORTEM_S
        self._follow(key, _Running(pid, descriptor, is_child=True, live=live), deadline_s)

    def _follow(self, key: str, running: _Running, deadline_s: float) -> None:
        self._running[key] = running
        self._engine.watch(running.descriptor, READ, lambda _: self._ended(key, running))
        self._engine.at(time.monotonic() + deadline_s, lambda: self._too_long(key, running))

    def _too_long(self, key: str, running: _Running) -> None:
        if self._running.get(key) is running:
            self._engine.say(f"evidence {key} takes too long; stopped")
            pidfd.send(running.descriptor, 9)

    def _ended(self, key: str, running: _Running) -> None:
        self._engine.unwatch(running.descriptor)
        os.close(running.descriptor)
        self._running.pop(key, None)
        if running.is_child:
            try:
                os.waitpid(running.pid, 0)
            except ChildProcessError:
                pass  # somebody reaped it for us
        if os.path.exists(f"{self._directory}/{key}.done"):
            self._finish(key)
        elif running.live:
            # Whoever waited goes on without; what can still be had is taken after the remedy.
            self._done(key, None)
        self.start_due()

    def _close(self, key: str, why: str) -> None:
        self._engine.say(f"evidence {key} is given up: {why}")
        try:
            files.write_atomic(
                f"{self._directory}/{key}.done", dumps({"incident": None, "error": why}).encode()
            )
            os.unlink(f"{self._directory}/{key}.json")
        except OSError:
            pass  # tried again when it is found the next time
        self._finish(key)

    def _finish(self, key: str) -> None:
        self._queue.pop(key, None)
        self._attempts.pop(key, None)
        self._done(key, self.outcome(key)[1])

    def _forget_old(self, names: "list[str]") -> None:
        if len(names) <= _KEPT_DONE:
            return
        now_unix_s = time.time()
        for name in names:
            path = f"{self._directory}/{name}"
            try:
                if now_unix_s - os.stat(path).st_mtime > _KEPT_DONE_S:
                    os.unlink(path)
            except OSError:
                continue  # somebody else tidied up

    def _actions(self) -> "list[tuple[object, ...]]":
        actions: list[tuple[object, ...]] = [(os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0)]
        for number, stream in ((1, "out"), (2, "err")):
            path = f"{self._run_dir}/{layout.fifo(layout.HOUSE_LOG, stream)}"
            # For reading and writing: opening does not wait for a reader, and there is never a SIGPIPE.
            actions.append(
                (
                    os.POSIX_SPAWN_OPEN,
                    number,
                    path if os.path.exists(path) else "/dev/null",
                    os.O_RDWR,
                    0,
                )
            )
        return actions


def _load(path: str) -> "dict[str, Any] | None":
    try:
        value = loads(files.read(path).decode())
    except (OSError, ValueError):
        return None
    return value if type(value) is dict else None
