"""From waiting to running: whose turn it is, spawning, readiness, spares."""

import select
import time

from holdfast.core import lifecycle, parts, tree
from holdfast.core.restart import after_death
from holdfast.keeper import orders
from holdfast.keeper.kept import Kept, Life
from holdfast.linux import procfs, talk
from holdfast.linux import system as os
from holdfast.linux.listen import listen
from holdfast.linux.spawn import Request, spawn
from holdfast.model.plan import HOSTED
from holdfast.wire import layout

#: Spawns in one turn of the loop: deaths and requests are looked at in between.
_SPAWNS_A_TURN = 32
_SPARE_DELAY_MAX_S = 30.0

TYPE_CHECKING = False
if TYPE_CHECKING:
    from holdfast.keeper.state import State


def startable(state: "State") -> "list[Kept]":
    """The workers that may start now, in order, at most one turn's worth."""
    found = []
    ready: dict[str, bool] = {}
    gone: dict[str, bool] = {}
    outdated = _outdated_parts(state)
    for name in state.waiting:
        kept = state.workers[name]
        plan = kept.plan
        if state.is_ending or not kept.up:
            continue
        if plan["after"] or plan["requires"]:
            if not ready:
                ready = {n: k.is_ready() for n, k in state.workers.items()}
                gone = {n: k.is_down_for_good() for n, k in state.workers.items()}
            may, blocker = tree.may_start(plan, ready, gone)
            if not may:
                kept.why = f"waits for {blocker}"
                continue
        other = outdated.get(parts.family(name), "") if outdated else ""
        if other:
            kept.why = f"waits for {other} to end: a component runs once"
            continue
        mates = tree.restart_with(state.plan["groups"], name) if state.plan["groups"] else []
        if any(m in state.workers and state.workers[m].state == lifecycle.STOPPING for m in mates):
            kept.why = "waits for its group to stop"
            continue
        found.append(kept)
        if len(found) >= _SPAWNS_A_TURN:
            break
    return found


def _outdated_parts(state: "State") -> "dict[str, str]":
    """Return, by configured worker, a process that still runs components which the plan has given to other parts.

    A worker is split, or made whole again: whoever has the component now waits until it is gone.
    """
    if not any(parts.JOINT in name for name in state.workers):
        return {}
    return {
        parts.family(kept.name): kept.name
        for kept in state.workers.values()
        if kept.life is not None
        and (kept.life.entry != kept.entry or not orders.is_planned(state, kept.name))
        and sum(parts.family(name) == parts.family(kept.name) for name in state.workers) > 1
    }


def start_waiting(state: "State") -> None:
    """Start those whose turn it is, a batch at a time."""
    if not state.waiting:
        return
    batch = startable(state)
    if not batch:
        return
    begun = []
    for kept in batch:
        if kept.spare is not None and kept.spare.go >= 0:
            promote(state, kept)
            continue
        kept.n += 1
        begun.append((kept, Life(kept.n, "main")))
    state.journal.add(
        *({"k": "intent", "worker": k.name, "n": life.n, "role": "main"} for k, life in begun)
    )
    started = []
    for kept, life in begun:
        if _spawn_life(state, kept, life):
            kept.life = life
            orders.step(state, kept, lifecycle.SPAWNED)
            started.append((kept, life))
    state.journal.add(*(orders.start_record(kept.name, life) for kept, life in started))
    for kept, life in started:
        _begin_readiness(state, kept, life)


def _begin_readiness(state: "State", kept: Kept, life: Life) -> None:
    kept.why = ""
    if counts_as_ready(kept, life):
        ready(state, kept, life.n, is_plain=True)


def counts_as_ready(kept: Kept, life: Life) -> bool:
    """Whether having this process is enough to be ready."""
    return life.is_ready or kept.plan["ready"]["kind"] == "none"


def ready(state: "State", kept: Kept, n: int, *, is_plain: bool = False) -> None:
    """A worker can serve (``is_plain``: nobody checks, having a process is enough)."""
    life = kept.life
    if life is None or life.n != n or kept.state not in (lifecycle.STARTING, lifecycle.RUNNING):
        return
    orders.step(state, kept, lifecycle.READY)
    if not is_plain and not life.is_ready:
        state.journal.add({"k": "ready", "worker": kept.name, "n": n})
    life.is_ready = True
    if kept.plan["spare"] and kept.spare is None and not kept.spare_due_s:
        kept.spare_due_s = time.monotonic() + 0.05


def is_grouped(kept: Kept) -> bool:
    """Whether the worker has control groups of its own."""
    limits = kept.plan["limits"]
    return bool(limits["memory_bytes"] or limits["cpu_share"] or limits["processes"])


def _spawn_life(state: "State", kept: Kept, life: Life) -> bool:
    """Start one process; False when that is impossible (it then counts as a death)."""
    plan = kept.plan
    env = {
        **state.plan["env"],
        **plan["env"],
        "HOLDFAST_NODE": state.node,
        "HOLDFAST_RUN": state.run_dir,
        "HOLDFAST_WORKER": plan["name"],
        "HOLDFAST_START": str(life.n),
        "HOLDFAST_ROLE": life.role,
        "NOTIFY_SOCKET": f"{state.run_dir}/{layout.NOTIFY}",
    }
    if plan["faulthandler"]:
        env["PYTHONFAULTHANDLER"] = "1"
        # What a program has printed is in the log even if it is killed in the next instant.
        env.setdefault("PYTHONUNBUFFERED", "1")
    if plan["kind"] in HOSTED or plan.get("agent"):
        env["HOLDFAST_PULSE"] = f"{state.run_dir}/{layout.pulse(plan['name'], life.role)}"
        if plan["kind"] == "container":
            # Of a plan that changes between this and its reading it takes no more than what it was started for.
            env["HOLDFAST_COMPONENTS"] = " ".join(parts.components(plan))
    request = Request(plan["argv"], env, plan["directory"])
    go_read = -1
    try:
        if plan["log"]:
            request.stdout = f"{state.run_dir}/{layout.fifo(plan['name'], 'out')}"
            request.stderr = f"{state.run_dir}/{layout.fifo(plan['name'], 'err')}"
            if life.role == "main":
                talk.tell(
                    state.run_dir, "logger", {"do": "start", "worker": plan["name"], "n": life.n}
                )
        request.user, request.umask, request.limits = (
            plan["user"],
            plan["umask"],
            plan["limits"],
        )
        if is_grouped(kept):
            request.cgroups = state.groups.prepare(plan["name"], plan["limits"])
        request.listeners = _listeners(state, kept)
        if life.role == "spare":
            go_read, life.go = os.pipe2(os.O_CLOEXEC)
            request.go = go_read
        life.pid = spawn(request)
    except OSError as error:
        _spawn_failed(state, kept, life, _spawn_words(plan["argv"], error))
        return False
    finally:
        if go_read >= 0:
            os.close(go_read)
    life.descriptor = os.pidfd_open(
        life.pid
    )  # our own child: it cannot be gone before we wait for it
    life.started_mono_s, life.started_unix_s = time.monotonic(), time.time()
    life.entry = kept.entry
    reading = procfs.reading(life.pid)
    life.ticks = reading.start_ticks if reading else 0
    if state.resets_oom:
        _write_quietly(f"/proc/{life.pid}/oom_score_adj", b"0")
    state.lives[life.descriptor] = (kept, life)
    state.epoll.register(life.descriptor, select.EPOLLIN)
    return True


def _spawn_failed(state: "State", kept: Kept, life: Life, words: str) -> None:
    life.close()
    state.house.say(f"worker {kept.name} cannot be started: {words}")
    if life.role == "spare":
        state.journal.add({"k": "void", "worker": kept.name, "n": life.n})
        kept.spare_due_s = time.monotonic() + _SPARE_DELAY_MAX_S
        return
    now_s = time.monotonic()
    decision = after_death(
        kept.plan["restart"], kept.history, now_s=now_s, lived_s=0.0, clean=False,
        chance=state.chance(),
    )  # fmt: skip
    kept.history = decision.history
    # At once makes no sense for what the kernel has just refused.
    action = "delay" if decision.action == "restart" else decision.action
    delay_s = max(decision.delay_s, kept.plan["restart"]["delay_s"])
    orders.after_unasked(state, kept, action, delay_s, now_s)
    kept.why = words
    state.journal.add({
        "k": "failed_spawn", "worker": kept.name, "n": life.n, "error": words, "next": action,
        "delay_s": round(delay_s, 3), "deaths": len(kept.history.deaths), "history": kept.history.deaths,
        "short": kept.history.short_lives, "restarts": kept.restarts,
    })  # fmt: skip


def _listeners(state: "State", kept: Kept) -> "list[tuple[str, int]]":
    found = []
    for wanted in kept.plan["listen"]:
        key = orders.socket_key(kept.name, wanted["name"])
        if key not in state.sockets:
            state.sockets[key] = listen(wanted)
            talk.tell(state.run_dir, "anchor", {"do": "hold", "name": key}, (state.sockets[key],))
        found.append((wanted["name"], state.sockets[key]))
    return found


def promote(state: "State", kept: Kept, *, is_recorded: bool = False) -> None:
    """Let the spare serve."""
    spare = kept.spare
    if spare is None or spare.go < 0 or kept.state != lifecycle.WAITING:
        return
    if not is_recorded:
        state.journal.add({"k": "go", "worker": kept.name, "n": spare.n})
    try:
        os.write(spare.go, b"g")
    except OSError:
        return  # it is dead; its own death event starts a cold one
    os.close(spare.go)
    spare.go = -1
    spare.role = "main"
    spare.is_ready = False
    kept.life, kept.spare = spare, None
    orders.step(state, kept, lifecycle.SPAWNED)
    kept.spare_due_s = 0.0
    _begin_readiness(state, kept, spare)


def start_spare(state: "State", kept: Kept) -> None:
    """Start a second life that waits for its go."""
    kept.spare_due_s = 0.0
    if kept.spare is not None or not kept.up or state.is_ending or not kept.is_ready():
        return
    kept.n += 1
    life = Life(kept.n, "spare")
    state.journal.add({"k": "intent", "worker": kept.name, "n": life.n, "role": "spare"})
    if _spawn_life(state, kept, life):
        kept.spare = life
        state.journal.add(orders.start_record(kept.name, life))


def _spawn_words(argv: "list[str]", error: OSError) -> str:
    return f"{error.filename or argv[0]}: {error.strerror}"


def _write_quietly(path: str, data: bytes) -> None:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        os.write(descriptor, data)
        os.close(descriptor)
    except OSError:
        pass  # it is dead already, or belongs to another user
