"""Which workers are shown, in which order, and under which headings: filter, sort, tree.

Pure, but for what it is handed of processes' memory and processor time. Leaves out drawing (:mod:`holdfast.cli.tops.overview`).
"""

from holdfast.cli.table import URGENCY, state_of
from holdfast.core.parts import family

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from holdfast.cli.tops.node import Node, Worker

#: What can be sorted by, in the order of the columns; "urgency" is none: those first that need a look.
SORTS = ("urgency", "worker", "state", "pid", "uptime", "restarts", "memory", "cpu")
#: These begin with the largest.
_LARGEST_FIRST = ("memory", "cpu", "restarts")
#: And these depend on a look at every process.
MEASURED = ("memory", "cpu")


class Row:
    """A line of the table: a worker, or the heading of several."""

    __slots__ = ("depth", "key", "members", "says", "worker")

    def __init__(self, key: str, worker: "Worker | None", depth: int) -> None:
        self.key = key  #: stays the same for the same thing
        self.worker = worker
        self.depth = depth
        self.members: list[str] = [] if worker is None else [worker["name"]]
        self.says = ""


class Choice:
    """What a person has chosen to see."""

    __slots__ = ("is_tree", "is_turned", "pattern", "sort")

    def __init__(self) -> None:
        self.pattern = ""
        self.sort = "urgency"
        self.is_turned = False
        self.is_tree = False


def rows_of(node: "Node", choice: Choice) -> "list[Row]":
    """Return the rows of the table."""
    wanted = [worker for worker in node.workers if matches(worker, node, choice.pattern)]
    key = _key_of(node, choice.sort)
    is_down = (choice.sort in _LARGEST_FIRST) != choice.is_turned
    wanted.sort(key=key, reverse=is_down)  # stable: the order of the plan within equals
    if not choice.is_tree:
        return [Row(worker["name"], worker, 0) for worker in wanted]
    return _tree(node, wanted)


def matches(worker: "Worker", node: "Node", pattern: str) -> bool:
    """Whether a worker is meant by a filter: words that are all in its name, state, kind, group or flags; ``!`` in front: not."""
    if not pattern:
        return True
    entry = node.entries.get(worker["name"])
    flags = " ".join(flag["flag"] for flag in node.flags.get(worker["name"], ()))
    text = f"{worker['name']} {state_of(worker)} {worker['kind']} {entry.group if entry else ''} {flags}".lower()
    return all(
        word[1:] not in text if word[:1] == "!" and word[1:] else word in text
        for word in pattern.lower().split()
    )


def _key_of(node: "Node", sort: str) -> "Callable[[Worker], Any]":
    if sort == "worker":
        return lambda worker: worker["name"]
    if sort == "state":
        return lambda worker: state_of(worker)
    if sort == "pid":
        return lambda worker: worker["pid"] or 0
    if sort == "uptime":
        return lambda worker: -(worker["started_at_unix_s"] or 0) if worker["pid"] else 0
    if sort == "restarts":
        return lambda worker: worker["restarts"]
    if sort == "memory":
        return lambda worker: (found.rss_bytes or 0) if (found := node.usage(worker)) else -1
    if sort == "cpu":
        return lambda worker: (found.cpu_share or 0.0) if (found := node.usage(worker)) else -1.0
    return lambda worker: (
        worker["name"] not in node.flags,
        URGENCY.get(state_of(worker), 0) if state_of(worker) != "idle" else URGENCY["done"],
        worker["ready"],
    )


def _tree(node: "Node", workers: "list[Worker]") -> "list[Row]":
    """Return the rows under the headings of their group and of the worker that they are parts of."""
    strategies = dict(node.groups)
    groups: dict[str, dict[str, list[Worker]]] = {}
    for worker in workers:
        entry = node.entries.get(worker["name"])
        group = entry.group if entry else ""
        whole = entry.family if entry else family(worker["name"])
        groups.setdefault(group, {}).setdefault(whole, []).append(worker)
    found: list[Row] = []
    for group, families in groups.items():
        depth = 0
        if group:
            head = Row(f"@group {group}", None, 0)
            head.members = [worker["name"] for members in families.values() for worker in members]
            head.says = f"{group}/ ({strategies.get(group, '')})"
            found.append(head)
            depth = 1
        for whole, members in families.items():
            if len(members) > 1 or members[0]["name"] != whole:
                head = Row(f"@whole {whole}", None, depth)
                head.members = [worker["name"] for worker in members]
                split = any(one["worker"] == whole for one in node.splits)
                head.says = f"{whole}/ ({'split' if split else 'processes'})"
                found.append(head)
                found += [Row(worker["name"], worker, depth + 1) for worker in members]
            else:
                found.append(Row(members[0]["name"], members[0], depth))
    return found
