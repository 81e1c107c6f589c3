"""What does the plan say: of one worker, of some, of the node as a whole?

Reads the lines that are needed only: a thousand workers are 4 MB as objects. The plan that runs, else the last one that ran.
"""

from holdfast.dashboard.asking import Refused
from holdfast.linux import files
from holdfast.wire import layout, plan
from holdfast.wire.jsonlite import dumps, loads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from holdfast.cli.place import Place

_HEAD_END = b',"workers":['


def entry(where: "Place", worker: str) -> "dict[str, Any]":
    """Return what the plan says of a worker.

    Raises:
        Refused: There is none of that name.
    """
    for found in entries(where, f'"name":{dumps(worker)}'):
        if found.get("name") == worker:
            return found
    raise Refused(404, f'there is no worker "{worker[:80]}"')


def entries(where: "Place", having: str = "") -> "Iterator[dict[str, Any]]":
    """Give the entries of the workers in whose line a text stands."""
    data = _read(where)
    if not data:
        return
    needle = having.encode()
    head, _, body = data.partition(b"\n")
    if head.endswith(_HEAD_END):
        for line in body.split(b"\n"):
            if line.startswith(b"{") and needle in line:
                yield loads(line.rstrip(b",").decode())
    else:
        yield from plan.split(data)[1]  # written by somebody else, in one piece


def header(where: "Place") -> "dict[str, Any]":
    """Return what the plan says of the node, without its workers; empty where there never was a plan."""
    data = _read(where)
    head = data.partition(b"\n")[0]
    if not data:
        return {}
    return dict(plan.split(head + b"\n]}\n" if head.endswith(_HEAD_END) else data)[0])


def _read(where: "Place") -> bytes:
    for directory in (where.run_dir, where.state_dir):
        data = files.read(f"{directory}/{layout.PLAN}")
        if data:
            return data
    return b""
