"""How is the running node at this moment, what happened since, and how is it hurt?

The eyes and hands of a drill. Looks at what anybody can look at: the keeper's answer, its journal, the locks, the flags.
Whatever was stopped here is remembered, so that :meth:`Scene.mend` leaves nothing stopped behind, however a drill ends.
"""

import os
import signal
import time

from holdfast.linux import files, locks, pidfd, procfs, talk
from holdfast.model.errors import NodeError
from holdfast.watchdog.tail import Tail
from holdfast.wire import beats, layout
from holdfast.wire.jsonlite import loads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeVar

    from holdfast.cli.place import Place

    T = TypeVar("T")

#: Pause between two looks: at first as short as what is measured asks for, then sparing.
QUICK_S, CALM_S = 0.002, 0.02
_QUICK_FOR_S = 2.0
#: The keeper's answer is not asked for more often than this.
_STATUS_S = 0.1


class Gone(NodeError):  # noqa: N818 -- reads as what it says
    """The node ended while it was drilled."""


class Scene:
    """One node under drill."""

    def __init__(self, where: "Place", plan: "dict[str, Any]", slowness: float) -> None:
        self.run_dir, self.state_dir = where.run_dir, where.state_dir
        self.plan = plan
        self.slowness = slowness
        self.entries: dict[str, dict[str, Any]] = {w["name"]: w for w in plan["workers"]}
        self.records: list[dict[str, Any]] = []  #: of the journal, since this drill began
        self.on_turn: Callable[[], object] = lambda: None  #: called between two looks
        self.show: Callable[[str], object] = lambda _text: None  #: says how far it is
        self._deaths: dict[str, list[float]] = {}
        self._tail = Tail(self.run_dir)
        self._stopped: list[
            tuple[int, int, int, bool]
        ] = []  # pidfd, pid, start ticks, with its group
        self._hung: set[str] = set()
        self._status: dict[str, dict[str, Any]] = {}
        self._status_at_s = 0.0
        self.look()

    # -- looking -----------------------------------------------------------------------------------

    def look(self) -> None:
        """Take in what is new in the journal."""
        for record in self._tail.read():
            self.records.append(record)
            if "history" in record:
                self._deaths[record["worker"]] = record["history"]

    def begin(self) -> None:
        """Forget the records of earlier drills."""
        self.look()
        self.records.clear()

    def until(self, look: "Callable[[], T]", within_s: float, what: str) -> "T | None":
        """Return the first true value of ``look()``; None when there is none within ``within_s``."""
        began_s = time.monotonic()
        while True:
            self.look()
            found = look()
            if found:
                return found
            spent_s = time.monotonic() - began_s
            if spent_s > within_s:
                return None
            self.on_turn()
            if spent_s > 0.2:
                self.show(f"{what} ({spent_s:.1f} s)")
            time.sleep(QUICK_S if spent_s < _QUICK_FOR_S else CALM_S)

    def status(self, timeout_s: float = 1.0) -> "dict[str, dict[str, Any]]":
        """Return what the keeper says of its workers, by name; empty when it does not answer in time."""
        path = f"{self.run_dir}/{layout.socket('keeper')}"
        reply = talk.ask(path, {"do": "status"}, timeout_s * self.slowness)
        return {w["name"]: w for w in reply["workers"]} if reply and reply.get("ok") else {}

    def recent_status(self) -> "dict[str, dict[str, Any]]":
        """Return the keeper's answer, at most a moment old: cheap enough to be looked at in a loop."""
        now_s = time.monotonic()
        if now_s - self._status_at_s > _STATUS_S:
            self._status, self._status_at_s = self.status(), now_s
        return self._status

    def holder(self, role: str) -> int:
        """Return the pid of a house process; 0 when there is none."""
        return locks.holder(f"{self.run_dir}/{layout.lock(role)}")

    def beat_of(self, role: str) -> "tuple[float, int]":
        """Return how old a house process's last beat is in seconds, and whose it was."""
        at_ns, pid = beats.read(files.read(f"{self.run_dir}/{layout.BEATS}"), role)
        return (time.monotonic_ns() - at_ns) / 1e9, pid

    def flags(self) -> "dict[tuple[str, str], dict[str, Any]]":
        """Return the flags that are up, by worker and name."""
        found = {}
        try:
            names = os.listdir(f"{self.run_dir}/{layout.FLAGS}")
        except OSError:
            return {}
        for name in names:
            if name.endswith(".tmp"):
                continue
            try:
                flag = loads(files.read(f"{self.run_dir}/{layout.FLAGS}/{name}").decode())
            except (OSError, ValueError):
                continue  # cleared in this very moment
            if type(flag) is dict and "worker" in flag and "flag" in flag:
                found[str(flag["worker"]), str(flag["flag"])] = flag
        return found

    def order_done(self, key: str) -> "tuple[bool, str | None]":
        """Return whether an order for evidence is done, and the incident it led to."""
        try:
            done = loads(files.read(f"{self.run_dir}/{layout.ORDERS}/{key}.done").decode())
        except (OSError, ValueError):
            return False, None
        incident = done.get("incident") if type(done) is dict else None
        return True, incident if type(incident) is str else None

    def orders(self, prefix: str) -> "list[str]":
        """Return the keys of the orders that begin with ``prefix``, done or not, oldest first."""
        try:
            names = os.listdir(f"{self.run_dir}/{layout.ORDERS}")
        except OSError:
            return []
        keys = {name.rpartition(".")[0] for name in names if name.endswith((".json", ".done"))}
        return sorted(key for key in keys if key.startswith(prefix))

    def exit_of(self, worker: str, n: int) -> "dict[str, Any] | None":
        """Return the record of the death of life ``n``."""
        for record in self.records:
            if (record["k"], record.get("worker"), record.get("n")) == ("exit", worker, n):
                return record
        return None

    def noticed_s(self, worker: str, n: int, death: "dict[str, Any]") -> float:
        """Return when the keeper knew of a death: its record, or what it began because of it.

        The record of an adopted worker's death waits until somebody else has reaped it and its status is known;
        the next life does not.
        """
        followed = [
            float(record["mono_s"])
            for record in self.records
            if record.get("worker") == worker
            and record["k"] in ("intent", "go")
            and record["n"] > n
        ]
        return min([float(death["mono_s"]), *followed])

    def serving_since(self, worker: str, after_n: int) -> "dict[str, Any] | None":
        """Return the record from which on a life later than ``after_n`` could serve."""
        checks = self.entries[worker]["ready"]["kind"] != "none"
        kinds = ("ready",) if checks else ("start", "go")
        for record in self.records:
            if (
                record.get("worker") == worker
                and record["k"] in kinds
                and record["n"] > after_n
                and record.get("role", "main") == "main"
            ):
                return record
        return None

    def recent_deaths(self, worker: str) -> int:
        """Return how many deaths of a worker its restart window still holds."""
        since_s = time.monotonic() - self.entries[worker]["restart"]["window_s"]
        return sum(at > since_s for at in self._deaths.get(worker, ()))

    # -- steadiness --------------------------------------------------------------------------------

    def unsteady(self) -> str:
        """Return what is not as it is on a quiet day, in words; empty when all is."""
        if not any(self.holder(role) for role in layout.ROLES):
            msg = "the node has ended\n  start it:  holdfast up"
            raise Gone(msg)
        for role in layout.ROLES:
            pid = self.holder(role)
            age_s, beat_pid = self.beat_of(role)
            if not pid or pid != beat_pid or age_s > self.plan["watch"]["house_timeout_s"]:
                return f"the {role} is not back yet"
        workers = self.status()
        if not workers:
            return "the keeper does not answer"
        moving = [
            w["name"] for w in workers.values() if w["state"] in ("starting", "stopping", "waiting")
        ]
        return f"{', '.join(moving[:4])}: on the way" if moving else ""

    def wait_steady(self, within_s: float) -> str:
        """Wait until the house is complete and no worker is on its way; return what is still not so at the end."""
        last = [""]

        def look() -> bool:
            last[0] = self.unsteady()
            self.show(last[0])
            return not last[0]

        self.until(look, within_s * self.slowness, "waiting for the node to be steady")
        return last[0]

    # -- hurting -----------------------------------------------------------------------------------

    def signal_house(self, role: str, number: int) -> "tuple[int, float]":
        """Send a signal to a house process; return whom and when (monotonic).

        Raises:
            NodeError: There is none.
        """
        path = f"{self.run_dir}/{layout.lock(role)}"
        pid = locks.holder(path)
        descriptor = pidfd.open_pid(pid) if pid else -1
        # Asked again with the process pinned: only whoever holds the lock now is hurt.
        if descriptor < 0 or locks.holder(path) != pid:
            pidfd.close(descriptor)
            msg = f"there is no {role} at this moment"
            raise NodeError(msg)
        return pid, self._send(descriptor, pid, number)

    def signal_worker(self, worker: str, number: int) -> "tuple[int, int, float]":
        """Send a signal to a worker; return which life, whom and when (monotonic).

        Raises:
            NodeError: It has no process.
        """
        found = self.status().get(worker) or {}
        descriptor = pidfd.open_pid(found["pid"]) if found.get("pid") else -1
        again = self.status().get(worker) or {}
        if descriptor < 0 or again.get("pid") != found["pid"]:
            pidfd.close(descriptor)
            msg = f"{worker} has no process at this moment"
            raise NodeError(msg)
        return (
            found["n"],
            found["pid"],
            self._send(descriptor, found["pid"], number, is_worker=True),
        )

    def _send(self, descriptor: int, pid: int, number: int, *, is_worker: bool = False) -> float:
        if number == signal.SIGSTOP:
            # Noted before it is done: interrupted in between, somebody runs on who was running anyway.
            self._stopped.append((descriptor, pid, procfs.start_ticks(pid), is_worker))
        at_s = time.monotonic()
        is_sent = pidfd.send(descriptor, number)
        if number != signal.SIGSTOP:
            os.close(descriptor)
        if not is_sent:
            msg = f"process {pid} could not be sent {signal.Signals(number).name}"
            raise NodeError(msg)
        if number == signal.SIGSTOP and is_worker:
            # All of a worker: of a shell and the server it started, the server is what has to stand still.
            _signal_group(pid, number)
        return at_s

    def inject(self, worker: str, fault: str) -> "tuple[int, int, float]":
        """Have a container do something bad to itself; return which life, whom and when (monotonic).

        Raises:
            NodeError: It refuses, or does not answer.
        """
        found = self.status().get(worker) or {}
        path = f"{self.run_dir}/{layout.CONTROL}/{worker}.sock"
        self._hung.add(worker)
        reply = talk.ask(path, {"do": "fault", "name": fault}, 5.0 * self.slowness)
        # It answers first and does it then; what is measured begins no earlier than this.
        at_s = time.monotonic()
        if not reply or not reply.get("ok"):
            self._hung.discard(worker)
            why = reply.get("error") if reply else "it does not answer"
            msg = f"{worker} did not take the fault {fault}: {why}"
            raise NodeError(msg)
        return found["n"], found["pid"], at_s

    def order(self, do: str, worker: str, **more: object) -> "dict[str, Any]":
        """Order something from the keeper."""
        request = {"do": do, "worker": worker, "by": "drill", **more}
        return talk.request(self.run_dir, request, 10.0 * self.slowness)

    # -- afterwards --------------------------------------------------------------------------------

    def is_healed(self, worker: str) -> None:
        """Note that a worker has a new life: nothing is left to be mended."""
        self._hung.discard(worker)

    def mend(self) -> None:
        """Let run on what was stopped, and restart what a fault has hung: nobody else may know of it."""
        for descriptor, pid, ticks, is_worker in self._stopped:
            pidfd.send(descriptor, signal.SIGCONT)
            pidfd.close(descriptor)
            if procfs.start_ticks(pid) == ticks:
                self.show(f"process {pid} runs on")
                if is_worker:
                    _signal_group(pid, signal.SIGCONT)
        self._stopped.clear()
        for worker in sorted(self._hung):
            try:
                self.order("restart", worker, how="kill")
            except NodeError:
                continue  # without a keeper the watchdog has it restarted, which takes a little longer
        self._hung.clear()


def _signal_group(pid: int, number: int) -> None:
    """Send a signal to the processes that a worker leads; one that leads none is left alone."""
    try:
        if os.getpgid(pid) == pid:
            os.killpg(pid, number)
    except (ProcessLookupError, PermissionError):
        return  # it has just ended, and the keeper ends its group
