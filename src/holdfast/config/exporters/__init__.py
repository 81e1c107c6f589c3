"""How does a node run under what a place has already: systemd, Kubernetes, Docker Compose, Ansible?

:func:`export` makes files of a plan: the node as one unit or container (Holdfast stays, the target starts it), or each
worker by itself. What each target means is in the module named after it; that nothing is dropped in silence is
:mod:`holdfast.config.exporters.sheet`'s doing. Leaves out writing the files.
"""

from typing import NamedTuple

from holdfast.config.exporters import ansible, compose, kubernetes, systemd
from holdfast.config.exporters.sheet import Node

#: What can be exported to.
TARGETS = ("systemd", "kubernetes", "compose", "ansible")


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
    return Exported(files, notes)
