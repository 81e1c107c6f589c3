"""The node goes down: wave after wave, then nothing that carries its mark is left."""

from holdfast.core import lifecycle, tree
from holdfast.keeper import orders
from holdfast.linux import pidfd, procfs, talk
from holdfast.linux import system as os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

    from holdfast.keeper.state import State


def go_down(state: "State") -> None:
    """Stop the next wave; when nobody is left, tell the anchor."""
    if not state.is_ending or state.end_told:
        return
    alive = [kept for kept in state.workers.values() if kept.life or kept.spare]
    for wave in tree.stop_order([kept.plan for kept in state.workers.values()]):
        members = [state.workers[name] for name in wave]
        for kept in members:
            kept.up = False
            kept.due_s = 0.0
            orders.end_spare(kept)
            if kept.life is None and kept.state in (lifecycle.WAITING, lifecycle.BACKOFF):
                orders.step(state, kept, lifecycle.WANT_DOWN)
            elif kept.state in (lifecycle.STARTING, lifecycle.RUNNING):
                orders.stop(state, kept, "down", "down")
            elif kept.life is not None:
                kept.after_stop = "down"
        if any(kept.life or kept.spare for kept in members):
            return
    if not alive and not state.owed:
        _sweep_node(state)
        state.end_told = talk.tell(
            state.run_dir, "anchor", {"do": "end", "status": state.end_status}
        )


def vanish(state: "State") -> "NoReturn":
    """End at once with all that is left of a node whose run directory was removed."""
    for kept in state.workers.values():
        orders.end_spare(kept)
        if kept.life is not None:
            orders.kill_life(kept, kept.life)
    _sweep_node(state)
    os.exit_now(0)


def _sweep_node(state: "State") -> None:
    """Nothing that carries the node's mark may outlive it."""
    for pid, _ in procfs.marked("HOLDFAST_NODE", state.node):
        pidfd.kill_quietly(pid)
    for kept in state.workers.values():
        state.groups.remove(kept.name)
