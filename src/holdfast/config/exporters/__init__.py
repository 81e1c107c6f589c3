"""How does a node run under what a place has already: systemd, Kubernetes, Docker Compose, Ansible?

:func:`export` makes files of a plan: the node as one unit or container (Holdfast stays, the target starts it), or each
worker by itself. What each target means is in the module named after it; that nothing is dropped in silence is
:mod:`holdfast.config.exporters.sheet`'s doing. Leaves out writing the files.
"""

import re
from typing import NamedTuple

from holdfast.config.exporters import ansible, compose, kubernetes, systemd
from holdfast.config.exporters.sheet import Node

#: What can be exported to.
TARGETS = ("systemd", "kubernetes", "compose", "ansible")


#: The beginning of a note about one worker.
_OF_WORKER = re.compile(r"worker\.([A-Za-z0-9_-]+)[. ]")


class Exported(NamedTuple):
    """What came out of an export."""

    files: dict[str, str]  #: relative path -> text
    notes: list[
        str
    ]  #: one for each wish that the target cannot fulfil: ``key = value: what to do``


_NODE = {
    "systemd": systemd.node,
    "kubernetes": kubernetes.node,
    "compose": compose.node,
    "ansible": ansible.node,
}
_EACH = {
    "systemd": systemd.each,
    "kubernetes": kubernetes.each,
    "compose": compose.each,
    "ansible": ansible.each,
}


def export(target: str, given: Node, *, each: bool = False) -> Exported:
    """Return the files that run a node, or each of its workers, under a target (one of TARGETS)."""
    files, notes = (_EACH if each else _NODE)[target](given)
    return Exported(_noted(files, notes, given), notes)


def _noted(files: dict[str, str], notes: list[str], given: Node) -> dict[str, str]:
    """Return the files with the notes in them: who reads the file a year later has not seen what was printed."""
    lines: dict[str, list[str]] = {}
    readable = [name for name in files if name.endswith((".yaml", ".service", ".target"))]
    if not readable:
        return files
    main = next((name for name in readable if name.endswith((".target", "site.yaml"))), readable[0])
    for note in notes:
        worker = _OF_WORKER.match(note)
        name = _file_of(worker[1], files, given) if worker else None
        lines.setdefault(name or main, []).append(f"# note: {' '.join(note.split())}\n")
    return {name: _with(text, lines.get(name, [])) for name, text in files.items()}


def _file_of(worker: str, files: dict[str, str], given: Node) -> str | None:
    """Return the file that is about one worker; None where one file is about all of them."""
    for says in (f"# {worker} of {given.plan['node']}, ", f"\nDescription={worker} of "):
        for name, text in files.items():
            if says in text[:400]:
                return name
    return None


def _with(text: str, lines: list[str]) -> str:
    head, end, rest = text.partition("\n")
    return f"{head}{end}{''.join(lines)}{rest}"
