"""Who did what to a node? One line in ``STATE/dashboard/audit.jsonl`` before an action, one after it, whoever it was: the dashboard, an assistant (`holdfast mcp`).

An action without a second line is under way, or was when its process was killed: the next one that starts finishes such entries, by what it can know
(:meth:`Audit.close_left`). Lines are whole or missing: each is one write. While the disk takes nothing, lines are in the run directory, in memory, and move over with
the next one that fits: who comes because of a full disk must be able to act. Leaves out looking: who reads leaves no line, who signs in does.
"""

import contextlib
import errno
import fcntl
import os
import secrets
import time

from holdfast.linux import files
from holdfast.wire import layout
from holdfast.wire.jsonlite import dumps, loads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any, Protocol

    class Who(Protocol):
        """Somebody who does something."""

        @property
        def name(self) -> str:
            """What to call them."""

        @property
        def role(self) -> str:
            """What they may do."""

        @property
        def way(self) -> str:
            """How they came in."""

        @property
        def address(self) -> str:
            """Where from."""

        @property
        def session(self) -> str:
            """Of which only the beginning is written down."""


DIRECTORY, FILE = "dashboard", "audit.jsonl"
#: Then it becomes ``audit.jsonl.1``, and that one goes.
LARGEST_BYTES = 8 << 20
#: What somebody sends is written down no longer than this.
_LONGEST = 200
#: What a start looks through for entries that were left; one who does more than this at a time is no person.
_LEFT_BYTES = 64 << 10
#: The disk takes nothing.
_FULL = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EROFS))

#: How an entry ends whose process did not live to tell.
OWN_END = "done: the dashboard was ended, and runs again"
UNSEEN_END = "unknown: who did it was ended meanwhile, and nobody saw what came of it"


class Audit:
    """Writes the lines of one node."""

    def __init__(self, state_dir: str) -> None:
        self.path = f"{state_dir}/{DIRECTORY}/{FILE}"
        self._run_dir = f"{state_dir}/{layout.RUN_LINK}"

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
                "pid": os.getpid(),
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

    def close_left(self, own: str) -> None:
        """Finish the entries of processes that are gone.

        Args:
            own: The worker that this process is: that it was started again is seen by this being called.

        Raises:
            OSError: They cannot be read, or nothing can be written down.
        """
        for entry in self._newest():
            pid = entry.get("pid")
            if entry["result"] is not None or type(pid) is not int or os.path.exists(f"/proc/{pid}"):  # fmt: skip
                continue
            is_own = entry.get("target") == own and entry["what"] in ("restart", "stop")
            self.done(entry["entry"], OWN_END if is_own else UNSEEN_END)

    def find(self, entry: str) -> "dict[str, Any] | None":
        """Return one of the newest entries.

        Raises:
            OSError: They cannot be read.
        """
        return next((one for one in self._newest() if one["entry"] == entry), None)

    def _newest(self) -> "list[dict[str, Any]]":
        spare = files.read(_spare(self._run_dir))
        try:
            with open(self.path, "rb") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - _LEFT_BYTES))
                return _entries(file.read() + b"\n" + spare)
        except FileNotFoundError:
            return _entries(spare)

    def _write(self, line: "dict[str, Any]") -> None:
        data = dumps(line).encode() + b"\n"
        try:
            self._append(data)
        except OSError as error:
            # Without a node there is no run directory, and no link to one.
            if error.errno not in _FULL or not os.path.isdir(self._run_dir):
                raise
            path = _spare(self._run_dir)
            with _locked(os.path.dirname(path)):
                files.append(path, data)

    def _append(self, data: bytes) -> None:
        # Several processes write here: two that make room at once would throw away what the first has put aside.
        with _locked(os.path.dirname(self.path)):
            try:
                if os.stat(self.path).st_size > LARGEST_BYTES:
                    os.rename(self.path, f"{self.path}.1")
            except FileNotFoundError:
                pass  # the first line of all
            # A line that a full disk cut off ends here, and not in the middle of the next one.
            ending = self._ending()
            path = _spare(self._run_dir)
            if not os.path.exists(path):
                files.append(self.path, ending + data)
                return
            with _locked(os.path.dirname(path)):
                # Killed between the two, the next one moves them again: an entry that stands there twice is one.
                files.append(self.path, ending + files.read(path) + data)
                os.unlink(path)

    def _ending(self) -> bytes:
        try:
            with open(self.path, "rb") as file:
                if file.seek(0, os.SEEK_END) == 0:
                    return b""
                file.seek(-1, os.SEEK_END)
                return b"" if file.read(1) == b"\n" else b"\n"
        except FileNotFoundError:
            return b""


def _spare(run_dir: str) -> str:
    return f"{run_dir}/{DIRECTORY}/{FILE}"


@contextlib.contextmanager
def _locked(where: str) -> "Iterator[None]":
    """Have a directory, which is made where it is missing, for oneself."""
    try:
        os.mkdir(where, mode=0o700)
    except FileExistsError:
        pass
    lock = os.open(where, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def read(state_dir: str, most: int = 1000) -> "list[dict[str, Any]]":
    """Return the newest entries, oldest first, each with its ``result`` (None: under way, or nobody knows)."""
    path = f"{state_dir}/{DIRECTORY}/{FILE}"
    spare = files.read(_spare(f"{state_dir}/{layout.RUN_LINK}"))
    return _entries(files.read(f"{path}.1") + files.read(path) + b"\n" + spare)[-most:]


def _entries(data: bytes) -> "list[dict[str, Any]]":
    found: dict[str, dict[str, Any]] = {}
    for line in data.splitlines():
        try:
            entry = loads(line.decode())
        except ValueError:
            continue  # torn by a full disk, or where reading began
        if type(entry) is not dict or type(entry.get("entry")) is not str:
            continue
        if "what" in entry:
            found[entry["entry"]] = {**entry, "result": None}
        elif entry["entry"] in found:
            found[entry["entry"]]["result"] = entry.get("result")
    return list(found.values())
