"""What a collector is given, and where it puts what it found."""

import os

from holdfast.core import parts
from holdfast.diagnosis.findings import Facts
from holdfast.linux import files, procfs
from holdfast.wire import layout
from holdfast.wire.jsonlite import dumps, loads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _socket import socket
    from typing import Any

    from holdfast.evidence.collectors.profile import Running
    from holdfast.evidence.deadline import Deadline


class Case:
    """One order, while it is carried out."""

    __slots__ = (
        "asked", "collected", "deadline", "facts", "files", "fingerprint", "first_mappings", "key", "missed", "order", "pid", "plan",
        "profiler", "run_dir", "start", "state_dir", "unchanged", "worker",
    )  # fmt: skip

    def __init__(
        self,
        run_dir: str,
        key: str,
        order: "dict[str, Any]",
        plan: "dict[str, Any]",
        deadline: "Deadline",
    ) -> None:
        self.run_dir = run_dir
        self.key = key
        self.order = order
        self.plan = plan  #: of the whole node
        self.deadline = deadline
        self.state_dir = str(plan["state_dir"])
        self.worker = str(order["worker"])
        self.start: int | None = order.get("n")
        self.pid = int(order.get("pid") or 0)
        entry = parts.entry_at(plan, self.worker, order.get("components") or ())
        self.facts = Facts(order, entry)
        self.files: dict[str, bytes] = {}  #: of the bundle, by name
        self.fingerprint: dict[str, Any] = {}
        self.unchanged = False  #: nothing differs from the fingerprint taken before this life began
        self.profiler: Running | None = None  #: samples the process while other collectors work
        self.asked: socket | None = None  #: a census that was asked for
        self.first_mappings: tuple[float, dict[str, int], int] | None = None
        self.collected: list[str] = []
        self.missed: list[dict[str, str]] = []

    def miss(self, what: str, why: str) -> None:
        """Note that something could not be had: a gap that is named misleads nobody."""
        self.missed.append({"what": what, "why": why})

    def alive(self) -> bool:
        """Tell whether the process of the order is still there, and still the same one.

        A pid alone may by now belong to a stranger, and what follows may send it a signal.
        """
        if not self.pid or not procfs.start_ticks(self.pid):
            return False
        there = procfs.environ(self.pid)
        if "HOLDFAST_WORKER" not in there:
            # Not readable (another user's), or a program that writes its title over it: believe the order, which is seconds old.
            return True
        return there.get("HOLDFAST_WORKER") == self.worker and (
            self.start is None or there.get("HOLDFAST_START") == str(self.start)
        )

    def keep_json(self, name: str, value: object) -> None:
        """Put a value into the bundle, as JSON that is readable with ``cat``."""
        self.files[name] = readable(value)

    def good_path(self) -> str:
        """Return where the last good fingerprint is kept."""
        return f"{self.state_dir}/{layout.GOOD}/{self.worker}.json"

    def last_fingerprint_path(self) -> str:
        """Return where the newest fingerprint is kept: it makes the next one cheap."""
        return f"{self.state_dir}/{layout.GOOD}/{self.worker}.last.json"


def readable(value: object) -> bytes:
    """Return JSON with one line for each entry of the outermost object.

    The json package could indent; importing it costs 10 ms before a restart.
    """
    if type(value) is not dict:
        return dumps(value).encode() + b"\n"
    rows = [f"{dumps(str(key))}: {dumps(entry)}" for key, entry in value.items()]
    return ("{\n" + ",\n".join(rows) + "\n}\n").encode()


def read_json(path: str) -> "dict[str, Any]":
    """Return the object in a file; empty when it is missing or damaged."""
    try:
        value = loads(files.read(path).decode())
    except (ValueError, OSError):
        return {}
    return value if type(value) is dict else {}


def read_text(path: str, limit: int = 65536) -> str:
    """Return the beginning of a file of /proc or the like; "" when it cannot be read."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return ""
    parts: list[bytes] = []
    left = limit
    try:
        # The kernel gives some files of /proc a page at a time, however much is asked for.
        while left > 0 and (part := os.read(descriptor, left)):
            parts.append(part)
            left -= len(part)
    except OSError:
        pass  # what there was until then
    finally:
        os.close(descriptor)
    return b"".join(parts).decode("utf-8", "replace")
