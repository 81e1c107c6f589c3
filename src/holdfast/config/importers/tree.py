"""What does a JSON or YAML document say, and where does it say it?

Gives a tree of nodes that know their path (``workers[0].options.env``), file and line, and that enters each
leaf into a :class:`~holdfast.config.importers.ledger.Ledger`. JSON is scanned here, because :mod:`json` keeps
no places; YAML is left to PyYAML, which does. A key that is given twice is noted: the last one wins, as in
both formats' usual readers.
"""

import json
import re
from bisect import bisect_left
from json.decoder import scanstring  # type: ignore[attr-defined]
from typing import TYPE_CHECKING, Any

from holdfast.config.importers.ledger import Ledger, Setting
from holdfast.model.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Scalar = str | int | float | bool | None

#: Aliases of YAML can make a kilobyte into gigabytes; no real configuration comes near this.
_MOST_NODES = 100_000
_DEEPEST = 60

_SPACE = re.compile(r"[ \t\r\n]*")
_ATOM = re.compile(r"[^\s,\]}]+")


class Node:
    """A value of the document: a mapping, a list or a scalar, and the place where it stands."""

    __slots__ = ("_ledger", "items", "line", "pairs", "path", "scalar", "setting")

    def __init__(self, ledger: Ledger, path: str, line: int) -> None:
        self._ledger = ledger
        self.path = path
        self.line = line
        self.pairs: dict[str, Node] | None = None
        self.items: list[Node] | None = None
        self.scalar: Scalar = None
        self.setting: Setting | None = None

    def get(self, key: str) -> "Node | None":
        """Return the node under a key, or None."""
        return (self.pairs or {}).get(key)

    def leaves(self) -> list[Setting]:
        """All settings at and below this node, in file order."""
        if self.setting is not None:
            return [self.setting]
        below = list((self.pairs or {}).values()) + (self.items or [])
        return [leaf for node in below for leaf in node.leaves()]

    def value(self) -> Any:
        """Return the plain value and mark everything in it as used."""
        self._ledger.use(*self.leaves())
        return self.plain()

    def note(self, advice: str, title: str = "") -> None:
        """Note everything at and below this node that nobody has used."""
        leaves = self.leaves()
        many = len(leaves) > 1 or (leaves and leaves[0].path != self.path)
        self._ledger.note(leaves, advice, title or (self.path if many else ""))

    def kind(self) -> str:
        """What a person calls this value, for messages."""
        if self.pairs is not None:
            return "a mapping"
        if self.items is not None:
            return "a list"
        return {str: "a text", bool: "true or false", type(None): "null"}.get(
            type(self.scalar), "a number"
        )

    def plain(self) -> Any:
        """Return the plain value without a word about its use."""
        if self.pairs is not None:
            return {key: node.plain() for key, node in self.pairs.items()}
        if self.items is not None:
            return [node.plain() for node in self.items]
        return self.scalar


def read_json(text: str, file: str, ledger: Ledger) -> Node:
    """Parse JSON.

    Raises:
        ConfigError: Not JSON, with line and column.
    """
    try:
        json.loads(text)
    except json.JSONDecodeError as error:
        where = f"{file}:{error.lineno}:{error.colno}"
        raise ConfigError(
            [f"{where} this is not JSON: {error.msg}\n  {_hint(text, error)}"]
        ) from None
    except RecursionError:
        raise ConfigError([f"{file}:1 nested deeper than any node configuration is"]) from None
    except ValueError as error:  # a number of thousands of digits
        raise ConfigError([f"{file}:1 a value that cannot be: {error}"]) from None
    return _Json(text, file, ledger).document()


def read_yaml(text: str, file: str, ledger: Ledger) -> Node:
    """Parse YAML.

    Raises:
        ConfigError: Not YAML, with line and column; or PyYAML is not installed.
    """
    try:
        import yaml  # an extra, and 30 ms that only this format has to pay
    except ImportError:
        says = f'{file}:1 reading YAML needs PyYAML, which is not installed\n  pip install "holdfast[yaml]"'
        raise ConfigError([says]) from None
    loader = yaml.SafeLoader(text)
    try:
        root = loader.get_single_node()
        if root is None:
            raise ConfigError([f"{file}:1 the file is empty"])
        return _Yaml(yaml, loader, file, ledger).node(root, "", 0)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{file}:{mark.line + 1}:{mark.column + 1}" if mark else f"{file}:1"
        raise ConfigError([f"{where} this is not YAML: {error.problem or error.context}"]) from None
    except (yaml.YAMLError, ValueError) as error:
        raise ConfigError([f"{file}:1 this is not YAML: {error}"]) from None
    except RecursionError:
        raise ConfigError([f"{file}:1 nested deeper than any node configuration is"]) from None
    finally:
        loader.dispose()


def child(path: str, key: str | int) -> str:
    """Return the path of what is under ``key``: ``workers[0]``, ``options.env``, ``paths["/ws"]``."""
    if isinstance(key, int):
        return f"{path}[{key}]"
    if not re.fullmatch(r"[\w$-]+", key):
        return f"{path}[{json.dumps(key, ensure_ascii=False)}]"
    return f"{path}.{key}" if path else key


def _hint(text: str, error: json.JSONDecodeError) -> str:
    line = text.split("\n")[error.lineno - 1].strip()
    if line.startswith(("//", "#", "/*")):
        return "JSON has no comments: take this line out"
    if line.startswith(("}", "]")) and text[: error.pos].rstrip().endswith(","):
        return "take out the comma before it"
    return f"here: {line[:80]}" if line else "the file ends too early"


class _Builder:
    """What both formats share: entering leaves and keys that stand twice."""

    def __init__(self, file: str, ledger: Ledger) -> None:
        self.file = file
        self.ledger = ledger
        self.count = 0

    def new(self, path: str, line: int, depth: int) -> Node:
        self.count += 1
        if self.count > _MOST_NODES:
            raise ConfigError(
                [f"{self.file}:{line} more than {_MOST_NODES} values: not a configuration"]
            )
        if depth > _DEEPEST:
            raise ConfigError([f"{self.file}:{line} nested deeper than {_DEEPEST} levels"])
        return Node(self.ledger, path, line)

    def leaf(self, node: Node) -> Node:
        """Enter a scalar, or a mapping or list that is empty."""
        if not node.pairs and not node.items:
            text = json.dumps(node.plain(), ensure_ascii=False)
            node.setting = self.ledger.enter(
                self.file, node.line, node.path or "(whole file)", text
            )
        return node

    def twice(self, old: Node) -> None:
        self.ledger.note(
            old.leaves(), "the key is given again further down, and the last one wins", old.path
        )


class _Json(_Builder):
    """Walks over text that :func:`json.loads` has accepted."""

    def __init__(self, text: str, file: str, ledger: Ledger) -> None:
        super().__init__(file, ledger)
        self.text = text
        self.at = 0
        self.breaks = [match.start() for match in re.finditer("\n", text)]

    def document(self) -> Node:
        return self.node("", 0)

    def node(self, path: str, depth: int) -> Node:
        self.skip()
        node = self.new(path, self.line(), depth)
        first = self.text[self.at]
        if first == "{":
            node.pairs = {}
            for _ in self.members("}"):
                key = self.string()
                self.skip()
                self.at += 1  # the colon
                below = self.node(child(path, key), depth + 1)
                if key in node.pairs:
                    self.twice(node.pairs[key])
                node.pairs[key] = below
        elif first == "[":
            node.items = []
            for index in self.members("]"):
                node.items.append(self.node(child(path, index), depth + 1))
        elif first == '"':
            node.scalar = self.string()
        else:
            match = _ATOM.match(self.text, self.at)
            atom = match[0] if match else ""
            self.at += len(atom)
            node.scalar = json.loads(atom)
        return self.leaf(node)

    def members(self, end: str) -> "Iterator[int]":
        """Yield once before each member, and step over brackets and commas."""
        self.at += 1
        index = 0
        while True:
            self.skip()
            if self.text[self.at] == end:
                self.at += 1
                return
            if self.text[self.at] == ",":
                self.at += 1
                self.skip()
            yield index
            index += 1

    def string(self) -> str:
        text, self.at = scanstring(self.text, self.at + 1, True)
        return str(text)

    def skip(self) -> None:
        match = _SPACE.match(self.text, self.at)
        self.at = match.end() if match else self.at

    def line(self) -> int:
        return bisect_left(self.breaks, self.at) + 1


class _Yaml(_Builder):
    """Turns PyYAML's nodes, which carry their marks, into ours."""

    def __init__(self, yaml: Any, loader: Any, file: str, ledger: Ledger) -> None:
        super().__init__(file, ledger)
        self.yaml = yaml
        self.loader = loader
        self.construct: Callable[..., Any] = loader.construct_object

    def node(self, given: Any, path: str, depth: int) -> Node:
        node = self.new(path, given.start_mark.line + 1, depth)
        if isinstance(given, self.yaml.MappingNode):
            self.loader.flatten_mapping(given)
            node.pairs = {}
            for key_node, value_node in given.value:
                key = str(self.construct(key_node, deep=True))
                below = self.node(value_node, child(path, key), depth + 1)
                if key in node.pairs:
                    self.twice(node.pairs[key])
                node.pairs[key] = below
        elif isinstance(given, self.yaml.SequenceNode):
            node.items = [
                self.node(item, child(path, i), depth + 1) for i, item in enumerate(given.value)
            ]
        else:
            value = self.construct(given, deep=True)
            node.scalar = value if isinstance(value, Scalar) else str(value)
        return self.leaf(node)
