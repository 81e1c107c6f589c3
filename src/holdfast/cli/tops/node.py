"""What is known of the node at this moment, and what has to be asked anew?

Nothing is read that has not changed, and of processes only those that are shown: the keeper is asked when its journal has grown (and every
ten seconds), flags are read when their directory has changed, the plan when it was replaced. So a node of 1,000 quiet workers costs
a few system calls a second. While the keeper does not answer its journal tells, as for `holdfast status`.
"""

import os
import struct
import sys
import time

from holdfast.cli import place, snapshot
from holdfast.cli.tops.asking import Ask
from holdfast.linux import files, locks, procfs
from holdfast.model.errors import StateError
from holdfast.wire import beats, layout, plan
from holdfast.wire.jsonlite import loads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Worker = dict[str, Any]

_ANSWER_S = 1.0
#: A keeper that was killed is back in a quarter of a second: until then nobody need be told.
_GRACE_S = 1.5
#: It beats once a second.
_STUCK_S = 2.5
_ANYWAY_S = 10.0
#: Asking a node of 1,000 workers costs 7 ms of ours: what is asked for is this share of a processor at most.
_ASK_SHARE, _ASK_GAP_S = 0.003, 5.0
_TICK_NS = 50_000_000
#: Processes that are not shown are looked at so many at a time, when the order depends on all of them.
_SWEEP = 50


class Entry:
    """What the plan says of a worker, as far as it is shown."""

    __slots__ = ("components", "family", "group", "kind", "lane", "log")

    def __init__(self, worker: "dict[str, Any]") -> None:
        jobs = worker.get("jobs") or {}
        self.kind = sys.intern(str(worker.get("kind", "")))
        self.components = tuple(str(one["name"]) for one in worker.get("components") or ())
        self.log = str((worker.get("log") or {}).get("directory") or "")
        self.family = sys.intern(str(jobs.get("family") or str(worker["name"]).partition("+")[0]))
        self.lane = sys.intern(str(jobs.get("role") or ""))
        self.group = ""


class Usage:
    """Memory and processor time of one process, between two looks."""

    __slots__ = ("_cpu_ns", "_mono_s", "cpu_share", "pid", "rss_bytes")

    def __init__(self, pid: int, share: "float | None") -> None:
        self.pid = pid
        self.cpu_share = share
        self.rss_bytes: int | None = None
        self._cpu_ns = self._mono_s = 0.0

    def look(self, now_s: float) -> bool:
        """Read it anew; return False when the process is gone."""
        found = procfs.reading(self.pid)
        if found is None or found.state in "ZX":
            return False
        elapsed_s = now_s - self._mono_s
        if self._mono_s and elapsed_s >= 0.5:
            self.cpu_share = max(0.0, (found.cpu_ns - self._cpu_ns) / 1e9 / elapsed_s)
        if not self._mono_s or elapsed_s >= 0.5:
            self._cpu_ns, self._mono_s = found.cpu_ns, now_s
        self.rss_bytes = found.rss_bytes
        return True


class Node:
    """The node as it was at the last look."""

    def __init__(self, where: place.Place) -> None:
        self.where = where
        self.name = ""
        self.config = ""  #: the file that it was started with
        self.has_drills = False
        self.entries: dict[str, Entry] = {}
        self.groups: list[tuple[str, str]] = []  #: name, strategy
        self.splits: list[dict[str, Any]] = []
        self.workers: list[Worker] = []
        self.by_name: dict[str, Worker] = {}
        self.flags: dict[str, list[dict[str, Any]]] = {}
        self.uptime_at: tuple[float, float] | None = None  #: when told, seconds
        self.house: dict[str, int] = {}
        self.is_up = True
        self.plan_trouble = ""
        self.asking: Ask | None = None
        #: Grows with every answer: what is made of the workers is made anew then.
        self.version = 0
        self.silent_since_s: float | None = None
        self._usages: dict[str, Usage] = {}
        self._asked_s = -_ANYWAY_S
        self._next_s = 0.0
        self._cost_s = 0.0
        self._journal = self._flags_stamp = self._plan_stamp = (-1, -1)
        self._told_journal = (-1, -1)
        self._swept = 0

    # -- looking -----------------------------------------------------------------------------------

    def look(self, now_s: float, *, is_urgent: bool = False) -> None:
        """Read what has changed, and begin to ask what has to be asked.

        Args:
            now_s: Monotonic.
            is_urgent: Ask the keeper in any case: an order was given to it.
        """
        self._read_plan()
        self._read_flags()
        self.house = place.running_roles(self.where)
        self.is_up = any(self.house.values()) or bool(locks.holder(f"{self.where.state_dir}/{layout.NODE_LOCK}"))  # fmt: skip
        if not self.is_up:
            self._forget()
            return
        if self.asking is not None:
            return
        journal = _stamp(f"{self.where.run_dir}/{layout.JOURNAL}")
        is_due = now_s - self._asked_s >= _ANYWAY_S or self.silent_since_s is not None
        is_due = is_due or self._is_stuck(now_s)
        if is_urgent or is_due or (journal != self._journal and now_s >= self._next_s):
            self._journal, self._asked_s = journal, now_s
            path = f"{self.where.run_dir}/{layout.socket('keeper')}"
            self.asking = Ask(path, {"do": "status"}, _ANSWER_S)

    def _is_stuck(self, now_s: float) -> bool:
        """Whether the keeper has missed beats: where nothing happens, a keeper that cannot act would look like one that need not."""
        try:
            beat_ns, _ = beats.read(files.read(f"{self.where.run_dir}/{layout.BEATS}"), "keeper")
        except (OSError, struct.error):
            return False  # it has just begun, or is being replaced
        return 0 < beat_ns < now_s * 1e9 - _STUCK_S * 1e9

    def take(self, now_s: float) -> bool:
        """Take the keeper's answer if it has come; return whether anything is new."""
        ask = self.asking
        if ask is None:
            return False
        began_s = time.thread_time()
        if not ask.is_over:
            ask.step()
        self._cost_s += time.thread_time() - began_s
        if not ask.is_over:
            return False
        self.asking = None
        self._next_s = now_s + min(_ASK_GAP_S, self._cost_s / _ASK_SHARE)
        self._cost_s = 0.0
        reply = ask.reply
        if reply is None or not reply.get("ok"):
            if self.silent_since_s is None:
                self.silent_since_s = ask.began_s
            return self._do_without(now_s)
        self.silent_since_s = None
        self._told_journal = (-1, -1)
        self.uptime_at = (now_s, float(reply.get("uptime_s") or 0))
        self._accept(reply["workers"])
        return True

    def answers(self, now_s: float) -> bool:
        """Whether the keeper answers, as far as a person is to be told."""
        return self.silent_since_s is None or now_s - self.silent_since_s < _GRACE_S

    def uptime_s(self, now_s: float) -> "float | None":
        """Return how long the node has been up."""
        if self.uptime_at is None:
            return None
        told_s, was_s = self.uptime_at
        return was_s + max(0.0, now_s - told_s)

    def may_order(self) -> bool:
        """Whether this user may give orders to the keeper."""
        return os.access(f"{self.where.run_dir}/{layout.socket('keeper')}", os.R_OK | os.W_OK)

    def _accept(self, told: "list[Worker]") -> None:
        for worker in told:
            worker["state"] = sys.intern(worker["state"])
            worker["kind"] = sys.intern(worker["kind"])
            entry = self.entries.get(worker["name"])
            if entry is not None and entry.lane:
                worker["jobs"] = entry.lane
        self.workers = told
        self.by_name = {worker["name"]: worker for worker in told}
        self.version += 1

    def _do_without(self, now_s: float) -> bool:
        """Use the journal instead, once for each of its states."""
        journal = _stamp(f"{self.where.run_dir}/{layout.JOURNAL}")
        if self.workers and (self.answers(now_s) or journal == self._told_journal):
            return False
        self._told_journal = journal
        planned = {name: {"kind": entry.kind} for name, entry in self.entries.items()}
        try:
            told = snapshot.from_journal(self.where.run_dir, planned)
        except OSError:
            return False
        self._accept([{"spare_pid": None, "delay_s": None, **worker, "pid": worker["pid"] or None} for worker in told])  # fmt: skip
        return True

    def _forget(self) -> None:
        """The node is down: nothing runs, whatever was told last."""
        if self.asking is not None:
            self.asking.end()
            self.asking = None
        if any(worker["pid"] for worker in self.workers):
            self._accept([{**worker, "state": "down", "ready": False, "pid": None} for worker in self.workers])  # fmt: skip
        self._asked_s = -_ANYWAY_S
        self.uptime_at = None

    def _read_flags(self) -> None:
        stamp = _stamp(f"{self.where.run_dir}/{layout.FLAGS}")
        if stamp == self._flags_stamp:
            return
        self.flags = {}
        for flag in snapshot.read_flags(self.where.run_dir):
            self.flags.setdefault(str(flag["worker"]), []).append(flag)
        # The clock of a file system ticks every 4 ms: what came within the same tick as our look would be missed.
        is_fresh = _age_ns(f"{self.where.run_dir}/{layout.FLAGS}") < _TICK_NS
        self._flags_stamp = (-1, -1) if is_fresh else stamp
        self.version += 1

    def _read_plan(self) -> None:
        path = f"{self.where.run_dir}/{layout.PLAN}"
        stamp = _stamp(path)
        if stamp == self._plan_stamp:
            return
        try:
            header = self._read_entries(
                path if stamp[0] else f"{self.where.state_dir}/{layout.PLAN}"
            )
        except FileNotFoundError:
            return
        except (ValueError, KeyError, TypeError, StateError) as error:
            self.plan_trouble = f"{path}: not a plan: {error}"
            self._plan_stamp = stamp
            return
        self.plan_trouble, self._plan_stamp = "", stamp
        self.name = str(header.get("node", ""))
        self.config = str(header.get("config", ""))
        self.has_drills = bool(header.get("drills"))
        self.groups = []
        for group in header.get("groups") or ():
            self.groups.append((str(group["name"]), str(group["strategy"])))
            for name in group["workers"]:
                for worker, entry in self.entries.items():
                    if name in (worker, entry.family):
                        entry.group = str(group["name"])
        self.splits = [
            {"worker": whole, "parts": split["parts"], "since_unix_s": split["since_unix_s"]}
            for whole, split in (header.get("split") or {}).items()
        ]
        self._asked_s = -_ANYWAY_S
        self.version += 1

    def _read_entries(self, path: str) -> "dict[str, Any]":
        """Read the plan a line at a time: a thousand workers are 4 MB as objects."""
        entries = {}
        with open(path, "rb") as file:
            head = file.readline()
            if head.endswith(b',"workers":[\n'):
                header, _ = plan.split(head)
                for line in file:
                    if line == b"]}\n":
                        break
                    worker = loads(line.rstrip(b",\n").decode())
                    entries[worker["name"]] = Entry(worker)
            else:
                header, workers = plan.split(head + file.read())
                entries = {worker["name"]: Entry(worker) for worker in workers}
        self.entries = entries
        return header

    # -- processes ---------------------------------------------------------------------------------

    def usage(self, worker: "Worker") -> "Usage | None":
        """Return what is known of a worker's memory and processor time; :meth:`measure` looks."""
        found = self._usages.get(worker["name"])
        return found if found is not None and found.pid == worker["pid"] else None

    def measure(self, workers: "list[Worker]", now_s: float) -> None:
        """Look at the processes of these workers."""
        for worker in workers:
            pid = worker["pid"]
            if not pid:
                continue
            name = worker["name"]
            usage = self._usages.get(name)
            if usage is None or usage.pid != pid:
                # Until there are two looks of our own, the watchdog's.
                usage = Usage(pid, snapshot.cpu_share(self.where.run_dir, name, pid))
                self._usages[name] = usage
            if not usage.look(now_s) and not self.answers(now_s):
                # Nobody else tells: the keeper does not answer.
                worker.update(state="down", ready=False, pid=None, why="its process is gone")

    def sweep(self, now_s: float) -> None:
        """Look at some of all workers, others each time."""
        if self.workers:
            at = self._swept % len(self.workers)
            self.measure(self.workers[at : at + _SWEEP], now_s)
            self._swept = at + _SWEEP

    def snapshot(self, now_s: float) -> "dict[str, Any]":
        """Return what :mod:`holdfast.cli.table` needs for its notes."""
        return {
            "workers": [{**worker, "flags": self.flags.get(worker["name"], ())} for worker in self.troubled()],
            "flags": [flag for name, flags in self.flags.items() if name not in self.by_name for flag in flags],
            "splits": self.splits,
            "keeper_answers": self.answers(now_s),
        }  # fmt: skip

    def troubled(self) -> "list[Worker]":
        """Return the workers that are flagged or not as they should be."""
        return [
            worker
            for worker in self.workers
            if worker["name"] in self.flags or (worker["state"] not in ("running", "done") and (worker["why"] or worker["state"] in ("failed", "backoff")))
        ]  # fmt: skip


def _stamp(path: str) -> "tuple[int, int]":
    """Return what changes with a file or a directory: it grows, or something in it is replaced."""
    try:
        found = os.stat(path)
    except OSError:
        return (0, 0)
    return (found.st_ino, found.st_size ^ found.st_mtime_ns)


def _age_ns(path: str) -> int:
    try:
        return time.time_ns() - os.stat(path).st_mtime_ns
    except OSError:
        return 0
