"""How does a Crossbar.io node configuration become a plan without being written down as TOML first?

It goes the same way as an import: the importer drafts a ``holdfast.toml``, and the draft is read as any other. What runs is
therefore what `holdfast import` shows. Only the places differ: each key of the draft knows where in the Crossbar.io file it
comes from, and every message names that.
"""

import os
import tomllib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from holdfast.config.importers import read_crossbar
from holdfast.config.problems import Document, Path, Problems, Where, dotted
from holdfast.config.reading import fill_in, shown_path
from holdfast.model.errors import ConfigError

if TYPE_CHECKING:
    from holdfast.config.importers.tree import Node


class CrossbarDocument(Document):
    """A draft whose keys are called, and stand, as in the Crossbar.io file."""

    __slots__ = ("_origins",)

    def __init__(
        self, path: str, text: str, data: dict[str, object], origins: "dict[Path, Node]"
    ) -> None:
        super().__init__(0, os.path.abspath(path), shown_path(path), text, data)
        self._origins = origins

    def place(self, path: Path, *, of_key: bool) -> tuple[int, int]:
        """Return the line of what a key comes from, or of what is around it."""
        del of_key  # only lines are known
        node = self._origin(path)
        return (node.line, 1) if node else (1, 1)

    def name(self, path: Path) -> str:
        """Return the path in the Crossbar.io file."""
        node = self._origin(path)
        return node.path if node else dotted(path)

    def _origin(self, path: Path) -> "Node | None":
        while path and path not in self._origins:
            path = path[:-1]
        return self._origins.get(path)


def read(path: str, environ: Mapping[str, str], problems: Problems) -> tuple[Document, list[str]]:
    """Return a node configuration as the draft that it makes, and a note for each setting without a counterpart.

    Raises:
        ConfigError: It cannot be read, or has not the shape of a node configuration.
    """
    text, draft, notes = read_crossbar(path, shown_path(path))
    data: dict[str, Any] = tomllib.loads(draft.write([]))
    if not data.get("worker"):
        # The reasons are the answer here, not something beside it.
        reasons = [note.partition("\n")[0] for note in notes if " workers[" in note]
        raise ConfigError([f"{shown_path(path)}:1 there is nothing to run in it", *reasons])
    document = CrossbarDocument(path, text, data, draft.origins)
    fill_in(data, Where(document, ()), environ, problems)
    for place, value in draft.exact.items():
        inside: Any = data
        for part in place[:-1]:
            inside = inside[part]
        inside[place[-1]] = value
    return document, notes
