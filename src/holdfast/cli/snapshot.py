"""How is the node right now: one dict, in exactly the shape that ``holdfast status --json`` prints.

The keeper says what it knows; memory comes from /proc, processor time from the watchdog's samples, flags from their
files, the house processes from their locks. When the keeper does not answer, its journal and /proc are read
instead, so that a person sees the truth in the worst moment too. Leaves out how it looks
(:mod:`holdfast.cli.table`).
"""

import os
import time
from struct import Struct

from holdfast.cli.place import Place, read_plan, running_roles
from holdfast.linux import files, procfs, talk
from holdfast.model.errors import NodeError
from holdfast.wire import layout, sample
from holdfast.wire import plan as plan_format
from holdfast.wire.jsonlite import loads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

#: Containers are asked for their components for at most this long together: `status` has to be quick.
COMPONENTS_BUDGET_S = 0.25
#: A sample older than this says nothing about now.
STALE_S = 30.0

#: How a worker that hosts nothing looks in the plan's text.
_HOSTS_NOTHING = b'"components":[]'
_NUMBER = Struct("<q")
_PAGE = os.sysconf("SC_PAGE_SIZE")
_TICKS = os.sysconf("SC_CLK_TCK")


def take(place: Place, *, timeout_s: float = 2.0, components: bool = True) -> "dict[str, Any]":
    """Return the state of the node; :func:`holdfast.cli.place.need_running` has been asked before.

    Args:
        place: The node.
        timeout_s: How long the keeper is given before its journal has to do.
        components: Ask containers for the state of their components.
    """
    try:
        reply = talk.request(place.run_dir, {"do": "status"}, timeout_s)
        told = reply.get("workers", [])
        answers, trouble = True, ""
        plan, planned = hosting(place)
    except NodeError as error:
        plan = read_plan(place)
        planned = {worker["name"]: worker for worker in plan.get("workers", [])}
        reply, told = {}, from_journal(place.run_dir, planned)
        answers, trouble = False, str(error).split("\n", 1)[0]
    flags = read_flags(place.run_dir)
    # The keeper tells of everybody, so the plan is asked only for what it alone knows.
    known = planned.keys() | {worker["name"] for worker in told}
    by_worker: dict[str, list[dict[str, Any]]] = {}
    for flag in flags:
        by_worker.setdefault(flag["worker"], []).append(flag)
    deadline_s = time.monotonic() + COMPONENTS_BUDGET_S
    workers = []
    for worker in told:
        name = worker["name"]
        entry = planned.get(name, {})
        ask = components and worker["pid"] and time.monotonic() < deadline_s
        workers.append(
            {
                "name": name,
                "kind": worker.get("kind") or entry.get("kind", ""),
                "state": worker["state"],
                "ready": bool(worker["ready"]),
                "pid": worker["pid"] or None,
                "started_at_unix_s": worker.get("started_at_unix_s") or None,
                "restarts": worker.get("restarts", 0),
                "rss_bytes": rss_bytes(worker["pid"]) if worker["pid"] else None,
                "cpu_share": cpu_share(place.run_dir, name, worker["pid"])
                if worker["pid"]
                else None,
                "components": component_states(place.run_dir, entry, ask=bool(ask)),
                "flags": by_worker.get(name, []),
                "n": worker.get("n", 0),
                "up": bool(worker.get("up", True)),
                "spare_pid": worker.get("spare_pid") or None,
                "delay_s": worker.get("delay_s") or None,
                "why": worker.get("why") or "",
                "jobs": (entry.get("jobs") or {}).get("role"),
            }
        )
    return {
        "node": plan.get("node", ""),
        "state_dir": place.state_dir,
        "run_dir": place.run_dir,
        "config": plan.get("config", place.config),
        "digest": reply.get("digest", plan.get("digest", "")),
        "uptime_s": reply.get("uptime_s", _node_uptime_s(place.run_dir)),
        "keeper_answers": answers,
        "trouble": trouble,
        "workers": workers,
        "splits": [
            {"worker": whole, "parts": split["parts"], "since_unix_s": split["since_unix_s"]}
            for whole, split in (plan.get("split") or {}).items()
        ],
        "flags": [flag for flag in flags if flag["worker"] not in known],
        "house": house(place),
    }


def hosting(place: Place) -> "tuple[dict[str, Any], dict[str, dict[str, Any]]]":
    """Return the node's part of the plan, and the entries of the workers that host something by name; a thousand guests are not decoded."""
    try:
        with open(f"{place.run_dir}/{layout.PLAN}", "rb") as file:
            plan, entries = plan_format.split(file.read(), _HOSTS_NOTHING)
        return plan, {entry["name"]: entry for entry in entries}
    except (OSError, ValueError, TypeError, KeyError):
        plan = read_plan(place)  # of the state directory, or it says what is wrong
        return plan, {entry["name"]: entry for entry in plan.get("workers", [])}


def _node_uptime_s(run_dir: str) -> "float | None":
    """Return the time since `up`, which writes the boot file last; house processes come and go meanwhile."""
    try:
        return round(max(0.0, time.time() - os.stat(f"{run_dir}/{layout.BOOT}").st_mtime), 1)
    except OSError:
        return None


def house(place: Place) -> "list[dict[str, Any]]":
    """Return the four house processes; one that is missing right now has no pid."""
    found = []
    for role, pid in running_roles(place).items():
        found.append(
            {
                "name": role,
                "pid": pid or None,
                "rss_bytes": rss_bytes(pid) if pid else None,
                "uptime_s": uptime_s(pid) if pid else None,
            }
        )
    return found


def rss_bytes(pid: int) -> "int | None":
    """Return the resident memory of a process."""
    # Without a file object: a third of the time, a thousand times.
    try:
        descriptor = os.open(f"/proc/{pid}/statm", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        return int(os.read(descriptor, 128).split()[1]) * _PAGE
    except (OSError, IndexError):
        return None
    finally:
        os.close(descriptor)


def uptime_s(pid: int) -> "float | None":
    """Return how long a process has been there."""
    ticks = procfs.start_ticks(pid)
    if not ticks:
        return None
    return round(max(0.0, time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / _TICKS), 1)


def cpu_share(run_dir: str, worker: str, pid: int) -> "float | None":
    """Return the share of one core between the last two samples of a worker; None when they are not of this life."""
    try:
        descriptor = os.open(f"{run_dir}/{layout.SAMPLES}/{worker}", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        pair = last_two(descriptor)
    finally:
        os.close(descriptor)
    if pair is None:
        return None
    before, after = pair
    elapsed_ns = after["mono_ns"] - before["mono_ns"]
    is_current = time.monotonic_ns() - after["mono_ns"] < STALE_S * 1e9
    if not before["pid"] == after["pid"] == pid or elapsed_ns <= 0 or not is_current:
        return None
    return round(max(0.0, (after["cpu_ns"] - before["cpu_ns"]) / elapsed_ns), 4)


def last_two(descriptor: int) -> "tuple[dict[str, int], dict[str, int]] | None":
    """Return the last two samples of a ring file.

    Finds them by halving: in a ring, slot j belongs to the newest round as long as its number is that of slot 0
    plus j. Ten small reads instead of 600 records for each of a thousand workers (1 ms each).
    """
    first = _number(descriptor, 0)
    low, high = 0, sample.SLOTS - 1
    while low < high:
        middle = (low + high + 1) // 2
        if _number(descriptor, middle) == first + middle:
            low = middle
        else:
            high = middle - 1
    size = sample.RECORD.size
    pair = []
    for slot in ((low - 1) % sample.SLOTS, low):
        data = os.pread(descriptor, size, slot * size)
        if len(data) < size:
            return None
        pair.append(dict(zip(sample.FIELDS, sample.RECORD.unpack(data), strict=True)))
    before, after = pair
    if not before["unix_ns"] or not after["unix_ns"] or after["number"] != before["number"] + 1:
        return None
    return before, after


def _number(descriptor: int, slot: int) -> int:
    data = os.pread(descriptor, _NUMBER.size, slot * sample.RECORD.size)
    return int(_NUMBER.unpack(data)[0]) if len(data) == _NUMBER.size else -1


def read_flags(run_dir: str) -> "list[dict[str, Any]]":
    """Return the open flags, oldest first."""
    found = []
    try:
        names = os.listdir(f"{run_dir}/{layout.FLAGS}")
    except FileNotFoundError:
        return []
    for name in names:
        if name.endswith(".tmp"):
            continue
        try:
            with open(f"{run_dir}/{layout.FLAGS}/{name}", encoding="utf-8") as file:
                flag = loads(file.read())
        except (OSError, ValueError):
            continue  # cleared between listing and reading, or somebody else's file
        if type(flag) is dict and flag.get("worker") and flag.get("flag"):
            found.append(flag)
    return sorted(
        found, key=lambda flag: (flag.get("since_unix_s", 0), flag["worker"], flag["flag"])
    )


def component_states(run_dir: str, entry: "dict[str, Any]", *, ask: bool) -> "list[dict[str, Any]]":
    """Return the components of a worker: those of the plan, with their state where the container tells it in time."""
    planned = [component["name"] for component in entry.get("components", [])]
    if not planned:
        return []
    told: dict[str, Any] = {}
    if ask:
        path = f"{run_dir}/{layout.CONTROL}/{entry['name']}.sock"
        reply = talk.ask(path, {"do": "components"}, COMPONENTS_BUDGET_S / 2)
        for component in (reply or {}).get("components", []):
            told[component.get("name", "")] = component
    return [{"name": name, "state": told.get(name, {}).get("state")} for name in planned]


def from_journal(run_dir: str, planned: "dict[str, Any]") -> "list[dict[str, Any]]":
    """Return what the keeper's journal and /proc tell about the workers while the keeper does not."""
    from holdfast.keeper.journal import replay

    past, *_ = replay(files.read(f"{run_dir}/{layout.JOURNAL}"))
    found = []
    for name, entry in planned.items():
        known = past.get(name)
        lives = [life for life in known.lives.values() if life.role == "main"] if known else []
        life = max(lives, key=lambda one: one.n, default=None)
        is_there = life is not None and life.pid > 0 and procfs.start_ticks(life.pid) == life.ticks
        found.append(
            {
                "name": name,
                "kind": entry["kind"],
                "state": ("running" if life.ready else "starting") if life and is_there else "down",
                "ready": bool(life and is_there and life.ready),
                "pid": life.pid if life and is_there else 0,
                "n": known.last_n if known else 0,
                "started_at_unix_s": life.started_unix_s if life and is_there else None,
                "restarts": known.restarts if known else 0,
                "up": known.up is not False if known else True,
                "why": "",
            }
        )
    return found
