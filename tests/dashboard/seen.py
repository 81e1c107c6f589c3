"""A node that is not there, and what the dashboard says of it: without HTTP, without a door."""

import asyncio
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cli.fake_node import FakeNode
from holdfast.cli.place import Place
from holdfast.dashboard.access.rules import Who
from holdfast.dashboard.asking import Ask
from holdfast.dashboard.site import Site
from holdfast.records import incidents
from holdfast.wire import layout

ANN = Who("ann", "operator", "password", "0123456789", "127.0.0.1")


def place(node: FakeNode) -> Place:
    return Place(node.state_dir, node.config)


def asked(
    node: FakeNode, function: Callable[[Site, Ask], Any], *, query: "dict[str, str] | None" = None,
    body: "dict[str, Any] | None" = None, then: "Callable[[Site, Any], Any] | None" = None, **parts: str,
) -> Any:  # fmt: skip
    """Ask as a page does, after one look.

    Args:
        node: Of which.
        function: One of the API's.
        query: Behind the question mark.
        body: Of a POST.
        then: What to do with the answer while the site is still there; what that returns is returned.
        parts: Of the path.
    """

    async def ask() -> Any:
        site = Site(place(node))
        try:
            await site.hub.whole()
            found = await site.run(function, site, Ask(parts, query or {}, body or {}, ANN))
            return found if then is None else await site.run(then, site, found)
        finally:
            for threads in (site._looker, site._threads, site._hands):
                threads.shutdown(wait=True)

    return asyncio.run(ask())


def break_something(
    node: FakeNode, name: str, *, at_s: float = 0.0, verdict: str = "", **more: Any
) -> str:
    """Leave the bundle of an incident; return its id."""
    day, _, number = name.partition("/")
    worker = more.pop("worker", "web")
    identity = f"{day}-{worker}-{number or 1}"
    path = Path(node.state_dir, layout.INCIDENTS, identity)
    path.mkdir(parents=True)
    record: dict[str, Any] = {
        "format": 1, "id": identity, "key": f"exit-{identity}", "worker": worker, "component": None, "kind": "crash",
        "title": f'worker "{worker}" crashed: ValueError: no such page', "opened_unix_s": at_s or time.time() - 60, "start": 1, "pid": 4711,
        "lived_s": 12.5, "status": 256, "status_words": "exited with status 1", "verdict": "open", "restarts": 0, "remedy": None,
        "cause": {"says": "crashed: ValueError: no such page", "next": "restart", "why": [{"confidence": "certain", "says": "nobody caught it"}]},
        "findings": [], "stacks": [], "changed": [], "evidence": {"missed": [], "took_s": 0.2},
    } | more  # fmt: skip
    (path / incidents.RECORD).write_text(json.dumps(record))
    if verdict:
        row = {"unix_s": record["opened_unix_s"] + 10, "what": "verdict", "verdict": verdict}
        (path / incidents.TIMELINE).write_text(json.dumps(row) + "\n")
    index = Path(node.state_dir, layout.INCIDENT_INDEX)
    with index.open("ab") as file:
        file.write(incidents.encode_row(record))
    return identity


def leave_log(node: FakeNode, worker: str, lines: "list[str]") -> str:
    """Write a log without an index: all lines have the time of the file. Return its directory."""
    directory = f"{node.state_dir}/logs/{worker}"
    os.makedirs(directory, exist_ok=True)
    Path(directory, "out.log").write_text("".join(f"{line}\n" for line in lines))
    return directory
