"""Who did what? One line in ``STATE/dashboard/audit.jsonl`` before an action, one after it.

An action without a second line was under way when the dashboard was killed: whether it happened, the incident or the worker tells. Lines are whole or
missing: each is one write. Leaves out looking: who reads leaves no line, who signs in does.
"""

import os
import secrets
import time

from holdfast.dashboard.access.keeping import DIRECTORY, directory
from holdfast.linux import files
from holdfast.wire.jsonlite import dumps, loads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from holdfast.dashboard.access.rules import Who

FILE = "audit.jsonl"
#: Then it becomes ``audit.jsonl.1``, and that one goes.
LARGEST_BYTES = 8 << 20
#: What somebody sends is written down no longer than this.
_LONGEST = 200


class Audit:
    """Writes the lines of one node."""

    def __init__(self, state_dir: str) -> None:
        self._state_dir = state_dir
        self.path = f"{state_dir}/{DIRECTORY}/{FILE}"

    def note(self, who: "Who | None", what: str, target: str = "", **more: "Any") -> str:
        """Write down what is about to happen; return the name of the entry, for :meth:`done`.

        Raises:
            OSError: It cannot be written down. Then the action must not happen.
        """
        entry = secrets.token_hex(6)
        self._write(
            {
                "entry": entry,
                "at_unix_s": round(time.time(), 3),
                "who": who.name if who else None,
                "role": who.role if who else None,
                "way": who.way if who else None,
                "address": who.address if who else more.pop("address", ""),
                "session": who.session[:8] if who else "",
                "what": what,
                "target": target[:_LONGEST],
                **{
                    key: value[:_LONGEST] if isinstance(value, str) else value
                    for key, value in more.items()
                },
            }
        )
        return entry

    def done(self, entry: str, result: str) -> None:
        """Write down what became of it.

        Raises:
            OSError: It cannot be written down.
        """
        self._write(
            {"entry": entry, "at_unix_s": round(time.time(), 3), "result": result[:_LONGEST]}
        )

    def _write(self, line: "dict[str, Any]") -> None:
        directory(self._state_dir)
        try:
            if os.stat(self.path).st_size > LARGEST_BYTES:
                os.rename(self.path, f"{self.path}.1")
        except FileNotFoundError:
            pass  # the first line of all
        # A line that a full disk cut off ends here, and not in the middle of the next one.
        files.append(self.path, self._ending() + dumps(line).encode() + b"\n")

    def _ending(self) -> bytes:
        try:
            with open(self.path, "rb") as file:
                if file.seek(0, os.SEEK_END) == 0:
                    return b""
                file.seek(-1, os.SEEK_END)
                return b"" if file.read(1) == b"\n" else b"\n"
        except FileNotFoundError:
            return b""


def read(state_dir: str, most: int = 1000) -> "list[dict[str, Any]]":
    """Return the newest entries, oldest first, each with its ``result`` (None: under way, or nobody knows)."""
    path = f"{state_dir}/{DIRECTORY}/{FILE}"
    found: dict[str, dict[str, Any]] = {}
    for line in (files.read(f"{path}.1") + files.read(path)).splitlines():
        try:
            entry = loads(line.decode())
        except ValueError:
            continue  # torn by a full disk
        if type(entry) is not dict or type(entry.get("entry")) is not str:
            continue
        if "what" in entry:
            found[entry["entry"]] = {**entry, "result": None}
        elif entry["entry"] in found:
            found[entry["entry"]]["result"] = entry.get("result")
    return list(found.values())[-most:]
