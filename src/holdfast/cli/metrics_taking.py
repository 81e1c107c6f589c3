"""How is a node's state read for `holdfast metrics`, a thousand workers in some tens of milliseconds?

From outside and without asking a worker's loop: the keeper for what it holds (its journal while it is away), /proc, pulses, samples, flags,
incident records; containers are asked for the figures of their components, all at once and for a short while. Nothing is written, but the
index of incidents where it is behind. What is kept between two looks only saves time: whoever begins anew finds it again. What it means is in :mod:`holdfast.records.metrics`.
"""

import os
import resource
import selectors
import time

from holdfast import __version__
from holdfast.cli import metrics_jobs, place, snapshot
from holdfast.evidence.collectors.pulse import with_forks
from holdfast.linux import procfs, talk
from holdfast.linux.house import raise_open_files
from holdfast.model.errors import NodeError
from holdfast.model.plan import HOSTED
from holdfast.records import incidents as records
from holdfast.sdk.metrics import BOUNDS_S
from holdfast.wire import beats, journal, layout, message, pulse, sample

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from typing import Any

    from holdfast.records.metrics import Disk, Process, State, Worker

#: How long the keeper is given before its journal has to do, and how long containers are, all together.
KEEPER_S, COMPONENTS_S = 1.0, 0.25
#: An answer of a container may be so long.
_LONGEST_ANSWER = 4 << 20
#: A sample older than this says nothing about now: of a thousand workers each is looked at twice a minute.
_STALE_NS = 90 * 1_000_000_000
#: Verdicts of incidents younger than this may still change.
_SETTLED_S = 3600.0
_RECENT_S = 86400.0
_NUMBER, _UNIX, _MONO, _PID, _FDS, _CHILDREN = map(
    sample.FIELDS.index, ("number", "unix_ns", "mono_ns", "pid", "fds", "children")
)
_TICKS = os.sysconf("SC_CLK_TCK")


class Reader:
    """Reads one node, again and again; from one thread at a time."""

    def __init__(self, where: place.Place, components_s: float = COMPONENTS_S) -> None:
        self._place = where
        self._components_s = components_s
        self._plan: dict[str, Any] = {}
        self._entries: dict[str, dict[str, Any]] = {}
        self._plan_is: object = None
        self._slots: dict[str, int] = {}
        self._processes: dict[str, procfs.Proc] = {}
        raise_open_files()
        # Not so many that there is none left for everything else.
        self._most_kept = resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2
        self.deaths = Deaths(f"{where.run_dir}/{layout.JOURNAL}")
        self._incidents = Incidents(where.state_dir)
        self._jobs = metrics_jobs.Jobs()

    def read(self) -> "State":
        """Return the state of the node now; also when it does not run."""
        began_s = time.monotonic()
        where = self._place
        is_running = place.node_pid(where) != 0
        self._read_plan()
        told: list[dict[str, Any]] = []
        answers = False
        if is_running:
            self._jobs.begin(self._plan.get("workers", ()))
            try:
                told = talk.request(where.run_dir, {"do": "status"}, KEEPER_S).get("workers", [])
                answers = True
            except NodeError:
                told = snapshot.from_journal(where.run_dir, self._entries)
        for name in self._processes.keys() - {worker["name"] for worker in told}:
            self._processes.pop(name).close()
        unix_s, boot_s = time.time(), time.clock_gettime(time.CLOCK_BOOTTIME)
        workers = [self._worker(worker) for worker in told]
        asked = [worker["name"] for worker in workers if worker["pid"] and worker["kind"] in HOSTED]
        components, unanswered = ask_all(where.run_dir, asked, self._components_s)
        counts, last_unix_s = self._incidents.read(unix_s)
        return {
            "node": str(self._plan.get("node", "")),
            "version": __version__,
            "digest": str(self._plan.get("digest", "")),
            "running": is_running,
            "keeper_answers": answers,
            "began_unix_s": _modified(f"{where.run_dir}/{layout.BOOT}"),
            "house": house(where, unix_s - boot_s) if is_running else [],
            "workers": workers,
            "flags": snapshot.read_flags(where.run_dir) if is_running else [],
            "deaths": self.deaths.read() if is_running else None,
            "incidents": counts,
            "last_incident_unix_s": last_unix_s,
            "disks": [
                disk for of, path in (("state", where.state_dir), ("run", where.run_dir))
                if (disk := free_of(of, path)) is not None
            ],
            "components": components,
            "unanswered": unanswered,
            "jobs": self._jobs.end() if is_running else [],
            "bounds_s": BOUNDS_S,
            "took_s": time.monotonic() - began_s,
        }  # fmt: skip

    def _read_plan(self) -> None:
        # A plan is replaced by rename, so its inode tells a new one; decoding it anew costs a thousand workers 30 ms.
        try:
            found = os.stat(f"{self._place.run_dir}/{layout.PLAN}")
            is_now: object = (found.st_ino, found.st_mtime_ns, found.st_size)
        except OSError:
            is_now = None
        if is_now is None or is_now != self._plan_is:
            self._plan = place.read_plan(self._place)
            self._entries = {entry["name"]: entry for entry in self._plan.get("workers", ())}
            self._plan_is = is_now

    def _worker(self, told: "dict[str, Any]") -> "Worker":
        name, pid, n = told["name"], told["pid"] or 0, told.get("n", 0)
        entry = self._entries.get(name, {})
        kind = told.get("kind") or entry.get("kind", "")
        state = told["state"]
        if (entry.get("jobs") or {}).get("role") == "quarantine" and state in ("down", "done"):
            state = "idle"  # it is started when there is a suspect
        reading = self._process(name, pid)
        # Who was not started with a pulse has none: a thousand guests are a thousand files that are not there.
        has_pulse = reading is not None and (
            kind in HOSTED or bool(entry.get("agent")) or not entry
        )
        beat = self._pulse(name, pid, n) if has_pulse else None
        last = self._sample(name, pid) if reading is not None else None
        beat_ns = (beat.loop_beat_ns or beat.thread_beat_ns) if beat is not None else 0
        return {
            "name": name,
            "kind": kind,
            "state": state,
            "ready": bool(told["ready"]),
            "up": bool(told.get("up", True)),
            "pid": pid if reading is not None else 0,
            "restarts": told.get("restarts", 0),
            "why": told.get("why") or "",
            "started_unix_s": told.get("started_at_unix_s") or None,
            "rss_bytes": reading.rss_bytes if reading is not None else None,
            "cpu_ns": reading.cpu_ns if reading is not None else None,
            "threads": reading.threads if reading is not None else None,
            "major_faults": reading.major_faults if reading is not None else None,
            "memory_limit_bytes": (entry.get("limits") or {}).get("memory_bytes"),
            "fds": last[_FDS] if last is not None and last[_FDS] >= 0 else None,
            "children": last[_CHILDREN] if last is not None else None,
            "pulse": beat,
            "pulse_age_s": max(0, time.monotonic_ns() - beat_ns) / 1e9 if beat_ns else None,
        }

    def _process(self, name: str, pid: int) -> "procfs.Reading | None":
        """Return one look at a worker's process; its descriptor is kept, that makes the next look eight times as fast."""
        kept = self._processes.get(name)
        if kept is not None and kept.pid != pid:
            del self._processes[name]
            kept.close()
            kept = None
        if not pid:
            return None
        if kept is None and len(self._processes) < self._most_kept:
            kept = self._processes[name] = procfs.Proc(pid)
        found = (kept.read() if kept is not None else None) or procfs.reading(pid)
        return found if found is not None and found.state not in "ZX" else None

    def _pulse(self, name: str, pid: int, n: int) -> "pulse.Pulse | None":
        """Return the pulse of this life; a program that has none has no file, or that of an earlier life."""
        data = _head(f"{self._place.run_dir}/{layout.pulse(name)}", pulse.HEAD_AND_ROUTES)
        # Decoded whole it would be searched for creation sites, too: what is read here ends before them.
        found = pulse.decode(data) if data else None
        if found is None or (found.pid, found.start) != (pid, n):
            return None
        return with_forks(self._place.run_dir, name, found)

    def _sample(self, name: str, pid: int) -> "tuple[int, ...] | None":
        try:
            descriptor = os.open(
                f"{self._place.run_dir}/{layout.SAMPLES}/{name}", os.O_RDONLY | os.O_CLOEXEC
            )
        except OSError:
            self._slots.pop(name, None)
            return None
        try:
            last, self._slots[name] = newest(descriptor, self._slots.get(name, 0))
        finally:
            os.close(descriptor)
        if last is None or last[_PID] != pid:
            return None
        return last if time.monotonic_ns() - last[_MONO] < _STALE_NS else None


def newest(descriptor: int, hint: int) -> "tuple[tuple[int, ...] | None, int]":
    """Return the newest sample of a ring, and its slot: a hint where to look the next time.

    Between two looks few samples are added, so from the hint it is a step or two; far off it is found by halving.
    """
    at, found = hint, _slot(descriptor, hint)
    for _ in range(4):
        if found is None or not found[_UNIX]:
            break
        after = (at + 1) % sample.SLOTS
        one = _slot(descriptor, after)
        if one is None or one[_NUMBER] != found[_NUMBER] + 1:
            return found, at
        at, found = after, one
    pair = snapshot.last_two(descriptor)
    if pair is None:
        return None, 0
    return tuple(pair[1].values()), pair[1]["number"] % sample.SLOTS


def _slot(descriptor: int, at: int) -> "tuple[int, ...] | None":
    size = sample.RECORD.size
    data = os.pread(descriptor, size, at * size)
    return sample.RECORD.unpack(data) if len(data) == size else None


def _head(path: str, size: int) -> bytes:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        return os.read(descriptor, size)
    finally:
        os.close(descriptor)


def _modified(path: str) -> "float | None":
    try:
        return os.stat(path).st_mtime
    except OSError:
        return None


def house(where: place.Place, boot_unix_s: float) -> "list[Process]":
    """Return the house processes and how old their last beats are."""
    data = _head(f"{where.run_dir}/{layout.BEATS}", beats.SIZE)
    found: list[Process] = []
    for role, pid in place.running_roles(where).items():
        beat_ns = beats.read(data, role)[0] if len(data) >= beats.SIZE else 0
        reading = procfs.reading(pid) if pid else None
        found.append(
            {
                "name": role,
                "pid": pid,
                "beat_age_s": max(0, time.monotonic_ns() - beat_ns) / 1e9 if beat_ns else None,
                "started_unix_s": round(boot_unix_s + reading.start_ticks / _TICKS, 1)
                if reading is not None
                else None,
                "rss_bytes": reading.rss_bytes if reading is not None else None,
                "cpu_ns": reading.cpu_ns if reading is not None else None,
            }
        )
    return found


def free_of(of: str, path: str) -> "Disk | None":
    """Return size and room of the file system that a path is on."""
    try:
        found = os.statvfs(path)
    except OSError:
        return None
    return {
        "of": of,
        "size_bytes": found.f_blocks * found.f_frsize,
        "free_bytes": found.f_bavail * found.f_frsize,
        "inodes": found.f_files,
        "free_inodes": found.f_favail,
    }


# -- what containers say ------------------------------------------------------------------------------


def ask_all(
    run_dir: str, workers: "list[str]", within_s: float
) -> "tuple[list[tuple[str, str, dict[str, Any]]], int]":
    """Ask containers for the figures of their components, all at the same time.

    Returns:
        Worker, component and figures; and the number of containers that did not say in time.
    """
    if not workers:
        return [], 0
    until_s = time.monotonic() + within_s
    answers: dict[str, dict[str, Any]] = {}
    with selectors.DefaultSelector() as selector:
        open_ones: set[socket.socket] = set()
        try:
            for name in workers:
                try:
                    sock = talk.begin(f"{run_dir}/{layout.CONTROL}/{name}.sock", {"do": "metrics"})
                except OSError:
                    break  # no descriptor left: those that were asked still answer
                if sock is not None:
                    open_ones.add(sock)  # type: ignore[arg-type]
                    sock.setblocking(False)
                    selector.register(sock, selectors.EVENT_READ, (name, bytearray()))
                if time.monotonic() >= until_s:
                    break
            while open_ones and (left_s := until_s - time.monotonic()) > 0:
                for key, _ in selector.select(left_s):
                    name, data = key.data
                    if _is_read(key.fileobj, data):
                        answers[name] = message.decode(bytes(data)) or {}
                        selector.unregister(key.fileobj)
                        open_ones.discard(key.fileobj)
                        key.fileobj.close()  # type: ignore[union-attr]
        finally:
            for sock in open_ones:
                sock.close()
    found = []
    unanswered = 0
    for name in workers:
        told = answers.get(name, {}).get("metrics")
        if type(told) is not dict:
            unanswered += 1
            continue
        found += [(name, part, figures) for part, figures in told.items() if type(figures) is dict]
    return found, unanswered


def _is_read(sock: "Any", data: bytearray) -> bool:
    """Take what is there; whether that was all."""
    try:
        part = sock.recv(1 << 18)
    except BlockingIOError:
        return False
    except OSError:
        return True
    data += part
    return not part or data.endswith(b"\n") or len(data) > _LONGEST_ANSWER


# -- what is counted from records ------------------------------------------------------------------------


class Deaths:
    """How many lives ended, by worker and cause: from the keeper's journal, each record once.

    The keeper shortens its journal now and then. Who begins to read one that was shortened cannot know what was in it, and
    counts from there: a counter that begins at zero again is understood, one that is a little smaller than it was reads as so many deaths.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._begin()

    def _begin(self) -> None:
        self._inode = self._offset = self._seq = 0
        self._began_s: float | None = None
        self.numbers: dict[tuple[str, str], int] = {}
        self.is_whole = True  #: it has been read from the node's start on

    def read(self) -> "dict[tuple[str, str], int]":
        """Return the numbers of now."""
        try:
            with open(self._path, "rb") as file:
                inode = os.fstat(file.fileno()).st_ino
                is_first = self._inode == 0
                if inode != self._inode:
                    self._inode, self._offset = inode, 0
                file.seek(self._offset)
                data = file.read()
        except OSError:
            return self.numbers
        at = self._offset
        self._offset += journal.whole(data)
        found = list(journal.each(data))
        began_s = next((r["began_s"] for r in found if r["k"] == "keeper" and "began_s" in r), None)
        if began_s is not None and self._began_s not in (None, began_s):
            # Another run of the node: everything counts from its start.
            self._begin()
            return self.read()
        self._began_s = began_s if began_s is not None else self._began_s
        if is_first and at == 0 and any(record["k"] == "state" for record in found):
            self.is_whole = False
            self._seq = max(record["seq"] for record in found)
        for record in found:
            if record["seq"] > self._seq:
                self._seq = record["seq"]
                if record["k"] == "exit" and record.get("role") != "spare":
                    key = (str(record["worker"]), str(record.get("cause", "died")))
                    self.numbers[key] = self.numbers.get(key, 0) + 1
        return self.numbers


class Incidents:
    """How many incidents are on record, by kind and verdict; ten thousand of them are read once."""

    def __init__(self, state_dir: str) -> None:
        self._state_dir = state_dir
        self._rows: dict[str, tuple[str, str, float]] = {}
        self._stamp: object = None

    def read(self, now_unix_s: float) -> "tuple[dict[tuple[str, str], int], float | None]":
        """Return the numbers, and when the last one was opened."""
        parents = records.parents(self._state_dir)
        stamp = tuple(map(_changed_ns, parents))
        if stamp != self._stamp:
            since = None if self._stamp is None else now_unix_s - _RECENT_S
            for row in records.list_incidents(self._state_dir, since):
                self._rows[row["id"]] = _row(row, row.get("verdict"))
            there = {name for parent in parents for name in records.names(parent)}
            self._rows = {name: row for name, row in self._rows.items() if name in there}
            self._stamp = stamp
        else:
            self._look_again(now_unix_s)
        counts: dict[tuple[str, str], int] = {}
        for kind, verdict, _ in self._rows.values():
            counts[kind, verdict] = counts.get((kind, verdict), 0) + 1
        return counts, max((row[2] for row in self._rows.values()), default=None)

    def _look_again(self, now_unix_s: float) -> None:
        """Read what was said since about those that are not settled."""
        for name, (kind, verdict, opened_unix_s) in list(self._rows.items()):
            age_s = now_unix_s - opened_unix_s
            if age_s < _SETTLED_S or (verdict in ("open", "none") and age_s < _RECENT_S):
                for parent in records.parents(self._state_dir):
                    said = [row["verdict"] for row in records.timeline_of(f"{parent}/{name}") if row.get("verdict")]  # fmt: skip
                    if said:
                        self._rows[name] = (kind, str(said[-1]), opened_unix_s)


def _row(row: "dict[str, Any]", verdict: object) -> "tuple[str, str, float]":
    return str(row.get("kind") or "unknown"), str(verdict or "none"), float(row["opened_unix_s"])


def _changed_ns(path: str) -> int:
    try:
        return os.stat(path).st_mtime_ns
    except OSError:
        return 0
