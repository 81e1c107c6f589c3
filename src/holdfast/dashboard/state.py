"""How is the node: one look, as one dict that a page can show; and what is different from the look before?

Built on what `holdfast top` reads (:class:`holdfast.cli.tops.node.Node`): nothing is read that has not changed, and a worker that is as it was keeps its
object, so that comparing a thousand of them is cheap. Blocking, for a thread of its own; not for two at once. Leaves out who is told
(:mod:`holdfast.dashboard.live`).
"""

import os
import select
import time

from holdfast import __version__
from holdfast.cli.alerts import open_alerts, public
from holdfast.cli.tops.feed import Feed
from holdfast.cli.tops.node import Node
from holdfast.dashboard import now
from holdfast.dashboard.figures import SWEEP, Figures, rounded
from holdfast.dashboard.machine import Machine

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from holdfast.cli.place import Place
    from holdfast.cli.tops.node import Entry, Worker

    State = dict[str, Any]

#: The newest incidents that every page knows.
INCIDENTS = 50
#: Who fails every few seconds fills those soon; since when, and how often, is found among these.
HISTORY = 200
#: The keeper is waited for within one look; what it says later is in the next one.
_ANSWER_S = 0.3
_BOX = "@node"
#: Keys of ``node`` and of ``house`` that change by the clock: they are told with the others, but are no news.
_CLOCK = frozenset({"uptime_s"})
_STEP = 1 << 16


class View:
    """The node, as the last look found it."""

    def __init__(self, where: "Place") -> None:
        self.where = where
        self.node = Node(where)
        self.state: State = {}
        self._feed = Feed(where.state_dir)
        self._history: list[dict[str, Any]] = []
        self._alerts = Alerts(where.state_dir)
        self._machine = Machine(where.state_dir)
        self._figures: dict[str, Figures] = {}
        self._workers: dict[str, dict[str, Any]] = {}
        self._version = -1
        self._swept = 0
        self._host = os.uname().nodename

    def look(self, *, is_urgent: bool = False) -> "State":
        """Return the state as it is now.

        Args:
            is_urgent: An order is under way: ask the keeper in any case.
        """
        now_s, now_unix_s = time.monotonic(), time.time()
        self._ask(now_s, is_urgent=is_urgent)
        node = self.node
        flags = [flag for name, found in node.flags.items() if name not in node.by_name for flag in found]  # fmt: skip
        box = [flag for flag in flags if flag["worker"] == _BOX]
        state = {
            "at_unix_s": round(now_unix_s, 2),
            "node": self._node(now_s, now_unix_s),
            "workers": self._look_at_workers(now_s),
            "house": self._house(),
            "flags": [_flag(flag) for flag in flags],
            "splits": node.splits,
            "incidents": self._incidents(),
            "alerts": self._alerts.look(),
            "machine": self._machine.look(now_s, box),
        }
        state["now"] = now.now(state, now_unix_s, self._history)
        self.state = state
        return state

    def _ask(self, now_s: float, *, is_urgent: bool) -> None:
        node = self.node
        node.look(now_s, is_urgent=is_urgent)
        deadline_s = now_s + _ANSWER_S
        while node.asking is not None and not node.take(time.monotonic()):
            left_s = deadline_s - time.monotonic()
            if left_s <= 0 or node.asking is None:
                break
            ask = node.asking
            wants = [ask.fileno()] if ask.wants_to_write() else []
            select.select([ask.fileno()], wants, [], left_s)

    def _node(self, now_s: float, now_unix_s: float) -> "dict[str, Any]":
        node = self.node
        uptime_s = node.uptime_s(now_s)
        answers = node.answers(now_s)
        trouble = node.plan_trouble
        if not trouble and node.is_up and not answers:
            trouble = "the keeper does not answer: nothing is restarted until it is replaced"
        return {
            "name": node.name or os.path.basename(os.path.dirname(self.where.state_dir)),
            "state_dir": self.where.state_dir,
            "config": node.config or self.where.config,
            "is_up": node.is_up,
            "uptime_s": None if uptime_s is None else round(uptime_s),
            # To a second: the two clocks are not read in the same instant.
            "began_unix_s": None
            if uptime_s is None
            else _steady(self.state, now_unix_s - uptime_s),
            "keeper_answers": answers,
            "trouble": trouble,
            "host": self._host,
            "version": __version__,
            "drills": node.has_drills,
        }

    def _look_at_workers(self, now_s: float) -> "dict[str, dict[str, Any]]":
        node = self.node
        workers = node.workers
        swept = workers
        if len(workers) > SWEEP:
            at = self._swept % len(workers)
            swept = workers[at : at + SWEEP]
            self._swept = at + SWEEP
        for worker in swept:
            name = worker["name"]
            figures = self._figures.get(name)
            if figures is None:
                figures = self._figures[name] = Figures(self.where.run_dir, name)
            figures.look(node, worker, now_s)
        changed = workers if node.version != self._version else swept
        self._version = node.version
        known = self._workers
        if changed is workers:
            known = {worker["name"]: known.get(worker["name"], {}) for worker in workers}
            self._figures = {name: found for name, found in self._figures.items() if name in known}
        else:
            known = dict(known)
        for worker in changed:
            name = worker["name"]
            row = self._row(worker, node.entries.get(name))
            if row != known[name]:
                known[name] = row
        self._workers = known
        return known

    def _row(self, worker: "Worker", entry: "Entry | None") -> "dict[str, Any]":
        name = worker["name"]
        figures = self._figures.get(name)
        started = worker.get("started_at_unix_s")
        row = {
            "kind": worker.get("kind") or (entry.kind if entry else ""),
            "state": worker["state"],
            "ready": bool(worker["ready"]),
            "up": bool(worker.get("up", True)),
            "pid": worker["pid"] or None,
            "n": worker.get("n", 0),
            "spare_pid": worker.get("spare_pid") or None,
            "restarts": worker.get("restarts", 0),
            "started_at_unix_s": round(started, 1) if started else None,
            "delay_s": worker.get("delay_s") or None,
            "why": worker.get("why") or "",
            "jobs": (entry.lane or None) if entry else None,
            "family": entry.family if entry else name.partition("+")[0],
            "group": (entry.group or None) if entry else None,
            "components": [{"name": one, "state": None} for one in entry.components] if entry else [],
            "flags": [_flag(flag) for flag in self.node.flags.get(name, ())],
        }  # fmt: skip
        if figures is None:
            return {**row, **_NO_FIGURES}
        row |= compact(figures.now)
        row["cpu_line"] = figures.line
        return row

    def _house(self) -> "list[dict[str, Any]]":
        from holdfast.cli import snapshot

        found = []
        for role, pid in self.node.house.items():
            rss = snapshot.rss_bytes(pid) if pid else None
            found.append({
                "name": role, "pid": pid or None, "rss_bytes": None if rss is None else rss - rss % (1 << 20),
                "uptime_s": snapshot.uptime_s(pid) if pid else None,
            })  # fmt: skip
        return found

    def _incidents(self) -> "list[dict[str, Any]]":
        self._feed.look(HISTORY)
        self._history = [row_of(row, self._feed.verdict(row)) for row in self._feed.rows[:HISTORY]]
        return self._history[:INCIDENTS]


class Alerts:
    """The open alerts, read when their file has changed."""

    def __init__(self, state_dir: str) -> None:
        self._state_dir = state_dir
        self._stamp: tuple[object, ...] = ()
        self._found: list[dict[str, Any]] = []

    def look(self) -> "list[dict[str, Any]]":
        """Return them, as `holdfast alerts --json` does; none where there never was one."""
        from holdfast.alerts.store import Store

        store = Store(self._state_dir)
        stamp = tuple(_stamp(store.path + ending) for ending in ("", "-wal"))
        if stamp == self._stamp:
            return self._found
        if stamp[0] is None:
            found: list[dict[str, Any]] = []
        else:
            import sqlite3

            try:
                found = [public(alert) for alert in open_alerts(store)]
            except (sqlite3.Error, OSError, ValueError, KeyError):
                return self._found  # locked, or damaged: `holdfast alerts` says what to do
            finally:
                store.close()
        self._stamp, self._found = stamp, found
        return found


# -- pure ------------------------------------------------------------------------------------------


def row_of(row: "Mapping[str, Any]", verdict: str) -> "dict[str, Any]":
    """Return the row of an incident as the feed shows it."""
    return {
        "id": row["id"], "worker": row.get("worker"), "component": row.get("component"), "kind": row.get("kind"),
        "title": str(row.get("title") or row["id"]), "opened_unix_s": row["opened_unix_s"],
        "status": "open" if verdict == "open" else "over", "verdict": verdict or None,
        "says": now.VERDICTS.get(verdict, verdict or "nobody looked whether it came back"),
    }  # fmt: skip


def compact(figures: "Mapping[str, Any]") -> "dict[str, Any]":
    """Return figures rounded to what a person reads: what flickers in the last digit is no news."""
    rss, share = figures["rss_bytes"], figures["cpu_share"]
    lag, rate = figures["lag_ms"], figures["work_rate"]
    return {
        "rss_bytes": None if rss is None else rss - rss % _STEP,
        "cpu_share": None if share is None else rounded(share),
        "lag_ms": None if lag is None else round(lag, 1 if lag < 100 else None),
        "tasks": figures["tasks"],
        "work_rate": None if rate is None else round(rate, 1) if rate < 100 else round(rate),
        "in_flight": figures["in_flight"],
    }


_NO_FIGURES: "dict[str, Any]" = {
    "rss_bytes": None, "cpu_share": None, "lag_ms": None, "tasks": None, "work_rate": None, "in_flight": None, "cpu_line": [],
}  # fmt: skip


def delta(before: "Mapping[str, Any]", after: "Mapping[str, Any]") -> "dict[str, Any]":
    """Return what is new in a state: of workers only the changed keys (None: it is gone), all else whole where it changed.

    Empty when nothing is new.
    """
    found: dict[str, Any] = {}
    for key, value in after.items():
        if key in ("at_unix_s", "seq", "workers"):
            continue
        was = before.get(key)
        if value is not was and _without_clock(value) != _without_clock(was):
            found[key] = value
    workers = _worker_delta(before.get("workers") or {}, after["workers"])
    if workers:
        found["workers"] = workers
    return found


def _worker_delta(
    before: "Mapping[str, Any]", after: "Mapping[str, Any]"
) -> "dict[str, dict[str, Any] | None]":
    found: dict[str, dict[str, Any] | None] = {}
    for name, worker in after.items():
        was = before.get(name)
        if was is worker:
            continue
        if was is None:
            found[name] = worker
            continue
        changed = {key: value for key, value in worker.items() if was.get(key) != value}
        if changed:
            found[name] = changed
    for name in before:
        if name not in after:
            found[name] = None
    return found


def _without_clock(value: "Any") -> "Any":
    if isinstance(value, dict) and not _CLOCK.isdisjoint(value):
        return {key: inner for key, inner in value.items() if key not in _CLOCK}
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return [_without_clock(one) for one in value]
    return value


def _flag(flag: "Mapping[str, Any]") -> "dict[str, Any]":
    keys = ("worker", "flag", "since_unix_s", "says", "phase", "incident", "rung")
    return {key: flag.get(key) for key in keys}


def _steady(state: "Mapping[str, Any]", began_unix_s: float) -> int:
    """Return the second of the beginning; the one that was told already when it is the same but for rounding."""
    told = (state.get("node") or {}).get("began_unix_s")
    return int(told) if told is not None and abs(told - began_unix_s) < 3 else round(began_unix_s)


def _stamp(path: str) -> "tuple[int, int, int] | None":
    try:
        found = os.stat(path)
    except OSError:
        return None
    return (found.st_ino, found.st_size, found.st_mtime_ns)
