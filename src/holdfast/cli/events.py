"""What has just happened: the keeper's journal as sentences, and the reading of what is new in it.

Journal records in, lines for a person out. Leaves out the story of an incident (diagnosis).
"""

import os
import signal
import time

from holdfast.cli import words
from holdfast.wire import journal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

#: Why a worker ended, where it did not do so by itself.
CAUSES = {
    "stop": "stopped", "restart": "ended for a restart", "apply": "ended for a new configuration",
    "group": "ended together with its group", "down": "stopped: the node goes down", "remedy": "ended as a remedy",
}  # fmt: skip


class Tail:
    """Reads what is new in a journal; a compacted one (another file under the name) is read from its start."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._inode = 0
        self._offset = 0
        self._seq = -1

    def read(self) -> "list[dict[str, Any]]":
        """Return the records that were not returned before."""
        is_compacted = False
        try:
            with open(self._path, "rb") as file:
                inode = os.fstat(file.fileno()).st_ino
                if inode != self._inode:
                    is_compacted = self._inode != 0
                    self._inode, self._offset = inode, 0
                file.seek(self._offset)
                records, used = journal.decode(file.read())
        except OSError:
            return []
        self._offset += used
        fresh = [record for record in records if record.get("seq", 0) > self._seq]
        if fresh:
            self._seq = max(record.get("seq", 0) for record in fresh)
        # A compacted journal begins with the state of every worker in new records: nothing has happened there.
        return [record for record in fresh if record.get("k") == "exit"] if is_compacted else fresh


def lines(records: "list[dict[str, Any]]") -> "list[str]":
    """Return a line with a time stamp for each record that a person wants to know of."""
    found = []
    for record in records:
        text = sentence(record)
        if text:
            stamp = time.strftime("%H:%M:%S", time.localtime(record.get("unix_s", 0)))
            found.append(f"{stamp}  {text}")
    return found


def sentence(record: "dict[str, Any]") -> str:
    """Return what a journal record says, or nothing when it is only of use to the keeper."""
    kind, worker = record.get("k"), record.get("worker", "")
    if kind == "start" and record.get("role") != "spare":
        return f"{worker} started (pid {record.get('pid')}, start {record.get('n')})"
    if kind == "ready":
        return f"{worker} is ready"
    if kind == "go":
        return f"{worker}: the warm spare took over (start {record.get('n')})"
    if kind == "exit" and record.get("role") != "spare":
        return _exit(record, worker)
    if kind == "failed_spawn":
        return f"{worker} could not be started: {record.get('error', '')}"
    if kind == "keeper" and record.get("adopted"):
        return f"a new keeper took over {words.count(record['adopted'], 'running worker')}"
    if kind == "want" and record.get("by") in ("limit", "watchdog"):
        return f"{worker} is {'wanted again' if record.get('up') else 'left down'} ({record['by']})"
    return ""


def _exit(record: "dict[str, Any]", worker: str) -> str:
    cause = record.get("cause", "died")
    lived = words.span(record.get("lived_s"))
    how = status_words(record.get("status"))
    text = f"{worker} {CAUSES.get(cause, 'died')}: {how} after {lived}"
    if record.get("next") == "down" and cause == "died":
        text += "; left down"
    elif record.get("delay_s"):
        text += f"; starts again in {words.span(record['delay_s'])}"
    return text


def status_words(status: "int | None") -> str:
    """Return a wait status in words."""
    if status is None:
        return "nobody saw how"
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        try:
            name = signal.Signals(number).name
        except ValueError:
            name = f"signal {number}"
        return f"killed by {name}" + (" (core dumped)" if os.WCOREDUMP(status) else "")
    return f"exit status {os.waitstatus_to_exitcode(status)}"
