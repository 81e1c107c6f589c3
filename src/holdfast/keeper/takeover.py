"""A new keeper finds what a dead one left: running processes, ended ones, half-begun ones."""

import select
import time

from holdfast.core import lifecycle
from holdfast.keeper import deaths, orders, planning, starting
from holdfast.keeper.adopt import find_unrecorded
from holdfast.keeper.kept import Kept, Life
from holdfast.linux import locks, pidfd, procfs, talk
from holdfast.linux import signals as signal
from holdfast.linux import system as os
from holdfast.linux.house import inherited
from holdfast.linux.spawn import FIRST_LISTEN_FD
from holdfast.wire import layout
from holdfast.wire import plan as plan_format

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from holdfast.keeper.journal import Open, Past
    from holdfast.keeper.state import State


def adopt(state: "State", past: "dict[str, Past]") -> int:
    """Build the workers from plan and journal; return how many living processes were found."""
    for entry in state.plan["workers"]:
        kept = state.workers[entry["name"]] = Kept(entry)
        planning.fit(state, kept)
    found: list[tuple[Kept, Past]] = []
    for name, known in past.items():
        known_here = state.workers.get(name)
        if known_here is None:
            if not known.lives:
                continue
            # Not in the plan any more: it is stopped as soon as it is adopted.
            known_here = _orphan(state, name)
        kept = known_here
        kept.n, kept.restarts, kept.history = known.last_n, known.restarts, known.history
        if known.up is not None:
            kept.up, kept.by = known.up, known.by
        found.append((kept, known))
    _resolve_intents(state, found)
    adopted = 0
    for kept, known in found:
        adopted += _adopt_lives(state, kept, known)
    for kept in state.workers.values():
        known_up = past.get(kept.name)
        if known_up is None or known_up.up is None:
            kept.up, kept.by = kept.plan["autostart"], "plan"
        _rescue_sockets(state, kept)
        _settle(state, kept)
    return adopted


def _rescue_sockets(state: "State", kept: Kept) -> None:
    """Keeper and anchor died together: the worker itself is the last that holds its listening sockets."""
    life = kept.life
    for index, wanted in enumerate(kept.plan["listen"]):
        key = orders.socket_key(kept.name, wanted["name"])
        if life is not None and life.descriptor >= 0 and key not in state.sockets:
            descriptor = pidfd.copy_descriptor(life.descriptor, FIRST_LISTEN_FD + index)
            if descriptor >= 0:
                state.sockets[key] = descriptor
                talk.tell(state.run_dir, "anchor", {"do": "hold", "name": key}, (descriptor,))


def _settle(state: "State", kept: Kept) -> None:
    """After adoption: start what is wanted and not there, stop what is there and not wanted, or outdated."""
    if state.is_ending:
        kept.up = False
    if kept.life is None:
        if kept.up:
            orders.step(state, kept, lifecycle.WANT_UP)
    elif not kept.up:
        orders.stop(state, kept, "down" if state.is_ending else "stop", "down")
    elif kept.life.entry != kept.entry:
        orders.stop(state, kept, "apply", "restart")


def _orphan(state: "State", name: str) -> Kept:
    plan = plan_format.stub(name, "/")
    kept = state.workers[name] = Kept(plan)
    kept.up = False
    return kept


def _adopt_lives(state: "State", kept: Kept, known: "Past") -> int:
    """Take over the lives of one worker; return how many of them are alive.

    More than one that served can be open: the end of the earlier ones was seen, and a later one begun, but the
    keeper was killed while it still waited for somebody to tell their exit status. Only the last is the worker.
    """
    lives = sorted(known.lives.values(), key=lambda life: life.n)
    mains = [life for life in lives if life.role == "main"]
    for life in mains[:-1]:
        _close_earlier(state, kept, life)
    adopted = sum(_adopt_spare(state, kept, life) for life in lives if life.role != "main")
    return adopted + (_adopt_main(state, kept, mains[-1]) if mains else 0)


def _open_life(found: "Open") -> Life:
    """Return the life that the journal tells of, with a descriptor if its process is still there."""
    life = Life(found.n, found.role)
    life.pid, life.ticks, life.entry, life.is_ready = (
        found.pid,
        found.ticks,
        found.entry,
        found.ready,
    )
    life.started_mono_s, life.started_unix_s = found.started_mono_s, found.started_unix_s
    life.is_ours = False
    descriptor = pidfd.open_pid(found.pid)
    reading = procfs.reading(found.pid) if descriptor >= 0 else None
    if reading is None or reading.start_ticks != found.ticks:
        pidfd.close(descriptor)
        descriptor = -1
    life.descriptor = descriptor
    return life


def _close_earlier(state: "State", kept: Kept, found: "Open") -> None:
    life = _open_life(found)
    # It cannot be alive, since a later one was begun; if ever it were, two would serve at once.
    pidfd.send(life.descriptor, signal.SIGKILL)
    deaths.earlier_died(state, kept, life)


def _adopt_main(state: "State", kept: Kept, found: "Open") -> int:
    life = _open_life(found)
    kept.life = life
    kept.state = lifecycle.RUNNING if starting.counts_as_ready(kept, life) else lifecycle.STARTING
    if life.descriptor < 0:
        deaths.main_died(state, kept, life)
        return 0
    state.lives[life.descriptor] = (kept, life)
    state.epoll.register(life.descriptor, select.EPOLLIN)
    return 1


def _adopt_spare(state: "State", kept: Kept, found: "Open") -> int:
    life = _open_life(found)
    if life.descriptor < 0:
        deaths.record_spare_death(state, kept, life, state.exits.status_of(life.pid, life.ticks))
        return 0
    # It reads end-of-file where its go would have come from (the dead keeper held the other end)
    # and ends; a fresh one is started then.
    kept.spare = life
    state.lives[life.descriptor] = (kept, life)
    state.epoll.register(life.descriptor, select.EPOLLIN)
    return 1


def _resolve_intents(state: "State", found: "list[tuple[Kept, Past]]") -> None:
    """Starts that were intended: did the dead keeper get as far as spawning them?"""
    unresolved = [
        (kept, known, life)
        for kept, known in found
        for life in list(known.lives.values())
        if not life.pid
    ]
    if not unresolved:
        return
    me = locks.holder(f"{state.run_dir}/{layout.lock('keeper')}")
    there = find_unrecorded(state.node, {(kept.name, life.n) for kept, _, life in unresolved}, me)
    recorded = {(life.pid, life.ticks) for _, known in found for life in known.lives.values()}
    for kept, known, life in unresolved:
        pid, ticks = there.get((kept.name, life.n), (0, 0))
        if not pid:
            strangers = state.exits.strangers(recorded, life.intent_mono_s)
            if len(unresolved) == 1 and len(strangers) == 1:
                pid, ticks = strangers[0]  # it was spawned, and is dead already
            else:
                state.journal.add({"k": "void", "worker": kept.name, "n": life.n})
                del known.lives[life.n]
                continue
        life.pid, life.ticks = pid, ticks
        life.started_unix_s = time.time()
        life.entry = kept.entry
        state.journal.add(orders.start_record(kept.name, life))


def take_sockets(state: "State") -> None:
    """Take over the listening sockets that the anchor kept for us."""
    for name, descriptor in inherited().items():
        if name.startswith("listen."):
            state.sockets[name] = descriptor
        else:
            os.close(descriptor)


def states(state: "State") -> "list[dict[str, Any]]":
    """What a fresh journal has to say."""
    records: list[dict[str, Any]] = [
        {"k": "keeper", "pid": os.getpid(), "adopted": 0, "began_s": state.node_began_s}
    ]
    for kept in state.workers.values():
        records.append({
            "k": "state", "worker": kept.name, "n": kept.n, "up": kept.up, "by": kept.by,
            "restarts": kept.restarts, "history": kept.history.deaths, "short": kept.history.short_lives,
        })  # fmt: skip
        for life in (kept.life, kept.spare):
            if life is not None:
                start = orders.start_record(kept.name, life)
                start["unix_s"] = life.started_unix_s
                records.append(start)
                if life.is_ready:
                    records.append({"k": "ready", "worker": kept.name, "n": life.n})
    for owed in state.owed:
        start = orders.start_record(owed.kept.name, owed.life)
        start["unix_s"] = owed.life.started_unix_s
        records.append(start)
    if state.is_ending:
        records.append({"k": "down"})
    return records
