"""Who did what by way of the MCP server? A line before each action and one after it, in ``STATE/mcp-audit.jsonl``.

The line before is on disk before anything happens: killed in between, the file says that something was begun and not what became of it. An
action that cannot be written down is not carried out.
"""

import os
import secrets
import time

from holdfast.cli.commands import say
from holdfast.linux import files
from holdfast.model.errors import StateError
from holdfast.wire.jsonlite import dumps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

FILE = "mcp-audit.jsonl"
#: Then it becomes ``mcp-audit.jsonl.1``, and that one goes.
LARGEST = 8 << 20


class Audit:
    """The file, and who writes to it."""

    def __init__(self, state_dir: str, by: str) -> None:
        self.path = f"{state_dir}/{FILE}"
        self._by = by

    def around(
        self, what: str, given: "Mapping[str, Any]", client: str, act: "Callable[[], Any]"
    ) -> "Any":
        """Carry something out between its two lines.

        Args:
            what: The tool.
            given: Its arguments.
            client: What the client calls itself; anybody can say that.
            act: Does it.

        Raises:
            StateError: It cannot be written down, and was not done.
        """
        name = secrets.token_hex(6)
        head: dict[str, Any] = {"action": name, "do": what, "with": dict(given), "by": self._by, "client": client, "uid": os.getuid()}  # fmt: skip
        try:
            self._write({**head, "phase": "begin"})
        except OSError as error:
            msg = f"{self.path}: {error.strerror}: what cannot be written down is not done\n  by hand:  holdfast {what.partition('_')[0]} …"
            raise StateError(msg) from None
        says, is_done = "", False
        try:
            found = act()
            is_done = True
            return found
        except Exception as error:
            says = str(error).partition("\n")[0]
            raise
        finally:
            try:
                self._write(
                    {"action": name, "do": what, "phase": "end", "done": is_done, "says": says}
                )
            except OSError as error:
                # The beginning is on record; how it ended the journal of the node knows.
                say(f"{self.path}: {error.strerror}: the end of {what} could not be written down")

    def _write(self, row: "dict[str, Any]") -> None:
        line = (dumps({"unix_s": round(time.time(), 3), **row}) + "\n").encode()
        files.append(self.path, self._beginning() + line)

    def _beginning(self) -> bytes:
        """Return what ends a line that a full disk has cut off; a file that is long enough makes room for a new one."""
        try:
            with open(self.path, "rb") as file:
                size = file.seek(0, os.SEEK_END)
                file.seek(max(0, size - 1))
                is_whole = file.read(1) in (b"\n", b"")
        except FileNotFoundError:
            return b""
        if size > LARGEST:
            os.rename(self.path, f"{self.path}.1")
            return b""
        return b"" if is_whole else b"\n"
