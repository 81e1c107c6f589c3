"""What of an incident do trackers of errors want to know? The error, its frames, what two crashes of one cause have in common.

Made from the message and the bundle that it names, read when it is delivered: a bundle that somebody has removed meanwhile leaves what the message says. Sentry and
Honeybadger make their own of the same :class:`Crash`. No line of the log and no variable of the environment goes out.
"""

import os
from fnmatch import fnmatchcase
from hashlib import sha256

from holdfast.core import alerting
from holdfast.diagnosis.lastwords import split_frame
from holdfast.diagnosis.words import signal_name, signal_of
from holdfast.linux import files
from holdfast.records import incidents
from holdfast.wire.jsonlite import loads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

_FATAL = "Fatal Python error: "
#: Paths with this in them are not the application's own.
_NOT_OWN = ("/site-packages/", "/dist-packages/", "/lib/python", "<frozen ", "/holdfast/container/", "/holdfast/sdk/")  # fmt: skip


class Frame:
    """One line of a stack."""

    __slots__ = ("function", "is_own", "line", "path", "source")

    def __init__(self, path: str, line: int, function: str, source: str = "") -> None:
        self.path, self.line, self.function = path, line, function
        self.source = source  #: the text of the line, where it is known
        self.is_own = not any(part in path for part in _NOT_OWN)


class Crash:
    """What happened."""

    __slots__ = (
        "component", "error", "facts", "findings", "frames", "id", "is_fatal", "kind", "name", "node", "pid", "python", "signal", "signature",
        "unix_s", "value", "worker",
    )  # fmt: skip

    def __init__(self, message: "dict[str, Any]") -> None:
        record, environment = _bundle(str(message.get("bundle") or ""))
        cause = record.get("cause")
        cause = cause if isinstance(cause, dict) else {}
        self.name = str(message.get("incident") or message["id"])
        self.node = str(message["node"])
        #: The same for each attempt to deliver it, and another one for each incident of each node.
        self.id = sha256(f"{self.node}\n{self.name}\n{message['at_unix_s']}".encode()).hexdigest()[:32]  # fmt: skip
        self.unix_s = float(message["at_unix_s"])
        self.worker = str(message["worker"])
        self.component = str(record.get("component") or "")
        self.kind = str(record.get("kind") or message["kind"])
        self.pid = record.get("pid")
        self.signal = signal_of(record.get("status")) or 0
        self.error, self.value = _error(record, str(message["says"]), self.kind, self.signal)
        self.is_fatal = self.kind in ("crash", "oom", "exit", "start", "crash_loop")
        self.frames = _frames(cause)
        self.signature = str(cause.get("signature") or f"{self.kind}|{self.worker}")
        self.findings = [str(one.get("says")) for one in record.get("findings") or [] if isinstance(one, dict)]  # fmt: skip
        interpreter = environment.get("interpreter")
        self.python = str(interpreter.get("version") or "") if isinstance(interpreter, dict) else ""
        self.facts = {
            "incident": self.name, "says": message["title"], "life": record.get("start"), "lived_s": record.get("lived_s"),
            "status": record.get("status_words"), "changed": record.get("changed") or [], "look": f"holdfast incident {self.name}",
        }  # fmt: skip


def wants(message: "dict[str, Any]", kinds: "Sequence[str]") -> bool:
    """Whether a message is an incident of one of these kinds."""
    return message["change"] == alerting.TOLD_INCIDENT and any(fnmatchcase(message["kind"], pattern) for pattern in kinds)  # fmt: skip


def _bundle(path: str) -> "tuple[dict[str, Any], dict[str, Any]]":
    if not path:
        return {}, {}
    try:
        environment = loads(files.read(f"{path}/environment.json").decode() or "{}")
    except (OSError, ValueError):
        environment = {}
    return incidents.read_record(path) or {}, environment if isinstance(environment, dict) else {}


def _error(record: "dict[str, Any]", says: str, kind: str, number: int) -> "tuple[str, str]":
    """Return the type of the error, and what it says."""
    cause = record.get("cause")
    said = str(cause.get("says") or says) if isinstance(cause, dict) else says
    fatal = str(record.get("fatal") or "")
    if fatal and not fatal.startswith((_FATAL, "Timeout (")):
        name, _, value = fatal.partition(": ")
        return name, value
    if number:
        return signal_name(number), fatal or said
    return kind or "incident", fatal or said


def _frames(cause: "dict[str, Any]") -> "list[Frame]":
    """Return the frames of the blamed stack, innermost first."""
    where, source = cause.get("where"), str(cause.get("source") or "")
    return [Frame(*split_frame(str(one)), source if one == where else "") for one in cause.get("frames") or []]  # fmt: skip


def short(path: str) -> str:
    """Return a path as a tracker shows it: behind the directory of the packages, or its last two parts."""
    for mark in ("/site-packages/", "/dist-packages/"):
        if mark in path:
            return path.rpartition(mark)[2]
    head, name = os.path.split(path)
    return f"{os.path.basename(head)}/{name}" if head not in ("", "/") else name


def module(path: str) -> str:
    """Return a path as a module's name, as well as one can tell without running anything."""
    return short(path).removesuffix(".py").removesuffix("/__init__").replace("/", ".")
