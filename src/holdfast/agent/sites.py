"""Which line creates tasks, threads and greenlets, and who created the code that did?

A *node* is one creating instruction, reached by one chain of creators: a calling context tree (Ammons, Ball and Larus, 1997)
whose edges are creations instead of calls. The node of whoever runs is in a context variable, which asyncio hands on to every task and
callback, so the chain crosses the queue. Counting costs a dictionary lookup; whole stacks are looked at rarely (the first, the tenth, the hundredth
and then every 1,000th creation of a node, every 100th while very many are made).

Left out: when to write it and where (:mod:`holdfast.agent.report`), who calls us (the hooks beside this file).
"""

import os
from _contextvars import ContextVar
from _weakref import ref

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import CodeType, FrameType
    from typing import Any

TASKS, THREADS, GREENLETS, ASKING = range(4)

#: Nodes kept at most; what comes later is counted at its line, without the chain, and at last without a line.
_MOST_NODES = 1500
_MOST_WITHOUT_CHAIN = 2000
_DEEPEST_CHAIN = 6
_DEEPEST_STACK = 24
_STACKS_A_NODE = 3
_MOST_CODES = 20_000

_OURS = os.path.dirname(__file__) + "/"
_LIBRARY = os.path.dirname(os.__file__)
#: Code that only passes a creation on: the line that caused it is further out.
_PLUMBING = (
    f"{_LIBRARY}/asyncio/", f"{_LIBRARY}/concurrent/futures/", f"{_LIBRARY}/multiprocessing/",
    f"{_LIBRARY}/threading.py", f"{_LIBRARY}/contextlib.py", "<frozen importlib", _OURS,
)  # fmt: skip
_PLUMBING_PACKAGES = ("/anyio/", "/gevent/", "/greenlet/", "/eventlet/", "/uvloop/", "/trio/")
#: The SDK keeps the context of each task by a task factory of its own.
_OUR_FACTORY = "remember_tasks.<locals>.factory"


class Node:
    """One creating instruction with its chain of creators."""

    __slots__ = (
        "at", "children", "code", "count", "depth", "key", "kind", "label", "look_at", "newer", "older", "parent",
        "refs", "stacks",
    )  # fmt: skip

    def __init__(
        self, kind: int, key: int, code: "CodeType | None", at: int, parent: "Node | None"
    ) -> None:
        self.kind = kind
        self.key = key
        self.code = code
        self.at = at  #: offset of the instruction; -1: the code as a whole
        self.parent = parent
        self.depth: int = parent.depth + 1 if parent is not None else 0
        self.children: dict[int, Node] = {}
        self.count = 0
        self.look_at = 1  #: the count at which the whole stack is looked at
        self.older = self.newer = 0  #: counts at the beginnings of two windows
        self.refs: set[ref[Any]] = set()  #: what lives; each takes itself out when it dies
        self.stacks: list[tuple[tuple[CodeType, int], ...]] = []
        self.label = ""


class Sites:
    """All creations of this process; there is one, :data:`SITES`."""

    __slots__ = ("_codes", "_nodes", "created", "nodes", "plumbing", "root", "stack_every")

    def __init__(self) -> None:
        self.root = Node(TASKS, 0, None, -1, None)
        self.created = [0, 0, 0, 0]  #: by kind
        self.nodes: tuple[list[Node], ...] = ([], [], [], [])  #: by kind, oldest first
        self.stack_every = 1000
        self._nodes = 0
        self.plumbing: dict[
            int, bool
        ] = {}  #: by the id of a code object: whether it only passes creations on
        self._codes: list[CodeType] = []  # kept, so that their ids stay theirs

    def forget(self) -> object:
        """Forget all nodes and counts; return what was known: to take it apart is dear, and may be left undone."""
        known = (self.nodes, self.root.children)
        self.created[:] = (0, 0, 0, 0)
        self.nodes = ([], [], [], [])
        self.root.children = {}
        self._nodes = 0
        return known

    def outer(self, frame: "FrameType | None") -> "FrameType | None":
        """Return the first frame from here outwards that is no plumbing."""
        plumbing = self.plumbing
        while frame is not None:
            code = frame.f_code
            skips = plumbing.get(id(code))
            if skips is None:
                skips = self._classify(code)
            if not skips:
                return frame
            frame = frame.f_back
        return None

    def _classify(self, code: "CodeType") -> bool:
        if len(self._codes) > _MOST_CODES:
            # A program that makes code as it goes. The dictionary goes first: an id may be another's from here on.
            self.plumbing.clear()
            self._codes.clear()
        name = code.co_filename
        skips = name.startswith(_PLUMBING) or any(part in name for part in _PLUMBING_PACKAGES)
        skips = skips or (code.co_qualname == _OUR_FACTORY and name.endswith("sdk/life.py"))
        self._codes.append(code)
        self.plumbing[id(code)] = skips
        return skips

    def node(self, kind: int, frame: "FrameType | None", runs: "CodeType | None" = None) -> Node:
        """Return the node of a creation and count it.

        Args:
            kind: What is created.
            frame: Whoever called the hook.
            runs: What will run; named where no frame is the program's own.
        """
        found = self.outer(frame)
        code: CodeType | None
        if found is not None:
            code, at = found.f_code, found.f_lasti
        elif runs is not None or frame is None:
            code, at = runs, -1
        else:
            code, at = frame.f_code, frame.f_lasti
        parent = CAUSE.get()
        key = ((id(code) << 20) + at + 1) * 4 + kind
        node = parent.children.get(key)
        if node is None:
            node = self._enter(kind, key, code, at, parent)
        self.created[kind] += 1
        node.count = count = node.count + 1
        if count >= node.look_at:
            self._look(node, frame, count)
        return node

    def _enter(self, kind: int, key: int, code: "CodeType | None", at: int, parent: Node) -> Node:
        above: Node | None = parent
        while above is not None:
            if above.key == key:
                # It creates itself again, directly or in a circle: one node, not an endless chain.
                parent.children[key] = above
                return above
            above = above.parent
        if parent.depth >= _DEEPEST_CHAIN or self._nodes >= _MOST_NODES:
            if parent is not self.root and self._nodes < _MOST_WITHOUT_CHAIN:
                node = self.root.children.get(key)
                if node is None:
                    node = self._enter(kind, key, code, at, self.root)
                if self._nodes < _MOST_NODES:
                    parent.children[key] = node
                return node
            if self._nodes >= _MOST_WITHOUT_CHAIN:
                code, at, key, parent = None, -1, kind, self.root
                if (other := parent.children.get(key)) is not None:
                    return other
        node = Node(kind, key, code, at, parent)
        parent.children[key] = node
        self.nodes[kind].append(node)
        self._nodes += 1
        return node

    def _look(self, node: Node, frame: "FrameType | None", count: int) -> None:
        node.look_at = count * 10 if count < 100 else count + self.stack_every
        found: list[tuple[CodeType, int]] = []
        while frame is not None and len(found) < _DEEPEST_STACK:
            found.append((frame.f_code, frame.f_lasti))
            frame = frame.f_back
        stack = tuple(found)
        stacks = node.stacks
        if stack not in stacks:
            if len(stacks) >= _STACKS_A_NODE:
                del stacks[1]  # the first and the latest ones
            stacks.append(stack)


SITES = Sites()

#: The node that created whatever runs in this context.
CAUSE: "ContextVar[Node]" = ContextVar("holdfast_cause", default=SITES.root)


def line(code: "CodeType", at: int) -> int:
    """Return the line of an instruction."""
    if at >= 0:
        for start, end, number in code.co_lines():
            if start <= at < end and number is not None:
                return number
    return code.co_firstlineno


def place(code: "CodeType", at: int) -> str:
    """Return "file:line in function"."""
    return f"{code.co_filename}:{line(code, at)} in {code.co_qualname}"


def label(node: Node) -> str:
    """Return the place of a node; "?" where it is not known."""
    if not node.label:
        node.label = place(node.code, node.at) if node.code is not None else "?"
    return node.label


def named(stack: "tuple[tuple[CodeType, int], ...]") -> "list[str]":
    """Return a stack for people, without the frames of the agent."""
    return [place(code, at) for code, at in stack if not code.co_filename.startswith(_OURS)]


def creators(node: Node) -> "list[str]":
    """Return who created the code that created, nearest first."""
    found = []
    above = node.parent
    while above is not None and above.parent is not None:
        found.append(label(above))
        above = above.parent
    return found


def frames(frame: "FrameType | None", deepest: int = _DEEPEST_STACK) -> "tuple[tuple[CodeType, int], ...]":  # fmt: skip
    """Return a stack as it is now, innermost first; cheap to compare, named later."""
    found: list[tuple[CodeType, int]] = []
    while frame is not None and len(found) < deepest:
        found.append((frame.f_code, frame.f_lasti))
        frame = frame.f_back
    return tuple(found)
