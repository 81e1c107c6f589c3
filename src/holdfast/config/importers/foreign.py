"""What does every part of the Crossbar.io importer need: the document, the draft, and where problems go?"""

import re
from collections.abc import Collection

from holdfast.config.importers.draft import Draft, from_environment
from holdfast.config.importers.ledger import Ledger
from holdfast.config.importers.tree import Node

_WHOLE_VARIABLE = re.compile(r"\$([A-Za-z_][A-Za-z0-9_]*)|\$\{([A-Za-z_][A-Za-z0-9_]*)\}")


class Foreign:
    """One import: the draft in the making and the problems found so far."""

    def __init__(self, root: Node, file: str, ledger: Ledger) -> None:
        self.root = root
        self.file = file
        self.ledger = ledger
        self.problems: list[str] = []
        self.draft = Draft([])

    def kind(self, node: Node, known: Collection[str], key: str = "type") -> str | None:
        """Return the type of something; it is used only if it is known, otherwise it is there to be noted."""
        kind = node.get(key) if node.pairs is not None else None
        is_text = kind is not None and isinstance(kind.scalar, str) and bool(kind.scalar)
        if kind is not None and is_text and kind.scalar not in known:
            return str(kind.scalar)
        return self.text(node, key, needed=True)

    def text(self, node: Node, key: str, *, needed: bool = False) -> str | None:
        """Return the text under a key and mark it used; a missing or wrong one is a problem."""
        if node.pairs is None:
            says = f"{node.path} has to be a mapping, and is {node.kind()}"
            self.problem(node, says)
            return None
        found = node.get(key)
        if found is None:
            if needed:
                self.problem(node, f"{node.path} has no {key}")
            return None
        if not isinstance(found.scalar, str) or (needed and not found.scalar):
            self.problem(
                found,
                f"{found.path} has to be a text, and is {found.kind() if found.scalar != '' else 'empty'}",
            )
            return None
        found.value()
        return found.scalar

    def mapping(self, node: Node | None) -> Node | None:
        """Return a node that is a mapping; anything else is a problem."""
        if node is not None and node.pairs is None:
            self.problem(node, f"{node.path} has to be a mapping, and is {node.kind()}")
            return None
        return node

    def entries(self, node: Node | None) -> list[Node]:
        """Return the entries of a list; anything else is a problem."""
        if node is None:
            return []
        if node.items is None:
            self.problem(node, f"{node.path} has to be a list, and is {node.kind()}")
            return []
        return node.items

    def advise(self, node: Node | None, advice: dict[str, str]) -> None:
        """Note the keys that have advice."""
        for key, below in ((node.pairs if node else None) or {}).items():
            if key in advice:
                below.note(advice[key])

    def problem(self, node: Node, says: str) -> None:
        """Note what makes the configuration unusable; each once."""
        line = f"{self.file}:{node.line} {says}"
        if line not in self.problems:
            self.problems.append(line)

    def remarks(self, node: Node, words: str) -> list[str]:
        """Return the comment that says where a section comes from."""
        return [f"{self.file}:{node.line} {node.path} ({words})"]


def whole_variable(text: str) -> str:
    """Return a text that is ``$NAME`` or ``${NAME}`` as a variable of ours; any other as it is."""
    found = _WHOLE_VARIABLE.fullmatch(text)
    return from_environment(found[1] or found[2]) if found else text


def with_variables(text: str) -> str:
    """Return a text with every ``$NAME`` and ``${NAME}`` in it as a variable of ours."""
    return _WHOLE_VARIABLE.sub(lambda found: from_environment(found[1] or found[2]), text)
