"""How does somebody who runs supervisord, systemd units, Compose, pm2, circus or Crossbar.io today get a holdfast.toml?

:func:`import_file` reads a file of theirs and writes ours, with a note for each setting that has no
counterpart. What each format means is in the module named after it; the promise that nothing is dropped in
silence is kept by :mod:`holdfast.config.importers.ledger`.
"""

import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field

from holdfast.config.importers import circus, compose, crossbar, pm2, procfile, supervisord, systemd
from holdfast.config.importers.draft import Draft
from holdfast.config.importers.ini import read_text
from holdfast.config.importers.ledger import Ledger, Setting
from holdfast.config.importers.tree import Node, read_json, read_yaml
from holdfast.model.errors import ConfigError, UsageError

#: What can be imported; also the values of ``kind``.
KINDS = ("procfile", "supervisord", "crossbar", "systemd", "compose", "pm2", "circus")

_ALIASES = {
    "foreman": "procfile",
    "honcho": "procfile",
    "supervisor": "supervisord",
    "supervisord.conf": "supervisord",
    "docker-compose": "compose",
    "circusd": "circus",
}
_YAML = (".yaml", ".yml")

#: Readers of formats that are lines, and of those that are a tree.
_LINES = {
    "procfile": procfile.read,
    "supervisord": supervisord.read,
    "systemd": systemd.read,
    "circus": circus.read,
}
_TREES: dict[str, Callable[[Node, str, Ledger], Draft]] = {
    "crossbar": crossbar.read,
    "compose": compose.read,
    "pm2": pm2.read,
}


@dataclass(frozen=True, slots=True)
class Imported:
    """What came out of an import."""

    toml: str  #: the text of a holdfast.toml
    notes: list[
        str
    ]  #: one for each thing without a counterpart: ``file:line key = value: what to do``
    kind: str  #: what the file was taken for, one of KINDS
    settings: list[Setting] = field(default_factory=list)  #: everything that was read, and its fate


def import_file(path: str, kind: str | None = None) -> Imported:
    """Turn a file of another supervisor into a holdfast.toml.

    Args:
        path: The file.
        kind: One of KINDS; None to tell by name and content.

    Raises:
        ConfigError: The file cannot be read or understood; every problem with its place.
        UsageError: There is no such kind.
    """
    if kind is not None:
        kind = _ALIASES.get(kind.lower(), kind.lower())
        if kind not in KINDS:
            known = ", ".join(KINDS)
            message = f"import: there is no kind {kind!r}; known are {known}"
            raise UsageError(message)
    file = os.path.basename(path.rstrip("/")) or path
    text = read_text(path, file)
    if not text.strip():
        raise ConfigError([f"{file}:1 the file is empty"])
    kind = kind or guess(file, text)
    ledger = Ledger()
    if kind in _LINES:
        draft = _LINES[kind](text, file, path, ledger)
    else:
        if kind == "pm2" and not file.lower().endswith((".json", *_YAML)):
            text = pm2.as_json(text, file)
        draft = _TREES[kind](_tree(text, file, ledger), file, ledger)
    notes = ledger.close()
    return Imported(draft.write(notes), notes, kind, ledger.settings)


def read_crossbar(path: str, file: str) -> tuple[str, Draft, list[str]]:
    """Return text, draft and notes of a Crossbar.io node configuration that is to be run as it is.

    Args:
        path: The file.
        file: What messages call it.

    Raises:
        ConfigError: It cannot be read or understood.
    """
    text = read_text(path, file)
    if not text.strip():
        raise ConfigError([f"{file}:1 the file is empty"])
    ledger = Ledger()
    draft = crossbar.read(_tree(text, file, ledger), file, ledger, is_direct=True)
    return text, draft, ledger.close()


def _tree(text: str, file: str, ledger: Ledger) -> Node:
    is_json = text.lstrip().startswith(("{", "[")) and not file.lower().endswith(_YAML)
    reader = read_json if is_json or file.lower().endswith(".json") else read_yaml
    return reader(text, file, ledger)


def guess(file: str, text: str) -> str:
    """Return the kind of a file by its name, then by what is in it.

    Raises:
        ConfigError: It looks like nothing that can be imported.
    """
    name = file.lower()
    if name.startswith("procfile") or name.endswith(".procfile"):
        return "procfile"
    if name.endswith(".service"):
        return "systemd"
    if name.endswith((".js", ".cjs", ".mjs")):
        return "pm2"
    if name.endswith((".json", *_YAML)):
        return _guess_tree(text)
    if re.search(r"^\[(program:|supervisord\]|fcgi-program:|include\]|group:)", text, re.MULTILINE):
        return "supervisord"
    if re.search(r"^\[(watcher:|circus\]|socket:)", text, re.MULTILINE):
        return "circus"
    if re.search(r"^\[(Unit|Service)\]", text, re.MULTILINE):
        return "systemd"
    if text.lstrip().startswith("{"):
        return _guess_tree(text)
    if re.search(r"^services:\s*(#.*)?$", text, re.MULTILINE):
        return "compose"
    lines = [
        line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")
    ]
    if re.search(r"^workers:\s*(#.*)?$", text, re.MULTILINE):
        return "crossbar"
    if lines and all(re.match(r"[A-Za-z0-9_-]+\s*:\s*\S", line) for line in lines):
        return "procfile"
    says = (
        f"{file}:1 this looks like nothing that can be imported\n"
        f"  say which it is: holdfast import --kind {'|'.join(KINDS)} {file}"
    )
    raise ConfigError([says])


def _guess_tree(text: str) -> str:
    """Tell the kinds that are JSON or YAML by their outermost keys."""
    if re.search(
        r"""^(["']?services["']?\s*:|\s*[{,]?\s*["']services["']\s*:)""", text, re.MULTILINE
    ):
        return "compose"
    if re.search(r"""["']?\bapps["']?\s*:""", text) and not re.search(
        r"""["']?\bworkers["']?\s*:""", text
    ):
        return "pm2"
    return "crossbar"
