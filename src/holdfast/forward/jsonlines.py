"""Lines and incidents as JSON, one object a line: to the node's own stdout, where the platform of a container collects it, or to a file.

The keys are those of ``holdfast logs --json``, and ``time``, ``node`` and ``level``. A file is opened for each portion, so whoever rotates it may rename it at any time. Left
out: rotating it.
"""

import os
import stat

from holdfast.alerts.channels.moments import rfc3339
from holdfast.forward import levels
from holdfast.forward.answers import NOTHING, NotTakenError, Refused
from holdfast.forward.reading import OPENED
from holdfast.forward.texts import readable
from holdfast.wire import layout
from holdfast.wire.jsonlite import dumps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from holdfast.forward.reading import News, Portion
    from holdfast.records.logs import Line

_STDOUT = 1


class JsonLines:
    """Writes to one file; without a path to stdout."""

    def __init__(self, path: str) -> None:
        self._path = path

    def deliver(self, portion: "Portion", node: str) -> Refused:
        """Write a portion.

        Raises:
            NotTakenError: The disk is full, or the directory is gone; a part of it may be written.
        """
        made = [line_value(line, node) for line in portion.lines]
        made += [news_value(one, node) for one in portion.news]
        data = "".join([dumps(value) + "\n" for value in made]).encode()
        try:
            self._write(data)
        except OSError as error:
            raise NotTakenError(f"{self._path or 'stdout'}: {error.strerror}") from None
        return NOTHING

    def _write(self, data: bytes) -> None:
        to = _STDOUT
        if self._path:
            to = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)
        try:
            if self._path:
                self._heal(to)
            view = memoryview(data)
            while view:
                view = view[os.write(to, view) :]
        finally:
            if self._path:
                os.close(to)

    def _heal(self, to: int) -> None:
        """End a line that a life before this one was killed in, so that the next one is whole."""
        info = os.fstat(to)
        if stat.S_ISREG(info.st_mode) and info.st_size:
            with open(self._path, "rb") as file:
                file.seek(-1, os.SEEK_END)
                if file.read(1) != b"\n":
                    os.write(to, b"\n")


def is_own_log(run_dir: str) -> bool:
    """Whether stdout ends in Holdfast's own log: what is written there would be forwarded again, for ever."""
    mine = os.fstat(_STDOUT)
    for stream in ("out", "err"):
        try:
            pipe = os.stat(f"{run_dir}/{layout.fifo(layout.HOUSE_LOG, stream)}")
        except OSError:
            continue
        if (pipe.st_dev, pipe.st_ino) == (mine.st_dev, mine.st_ino):
            return True
    return False


def line_value(line: "Line", node: str) -> "dict[str, Any]":
    """Return a line as JSON has it."""
    return {
        "time": rfc3339(line.unix_s), "unix_s": line.unix_s, "node": node, "worker": line.worker, "stream": line.stream,
        "start": line.start, "level": levels.level_of(line.text), "text": readable(line.text),
    }  # fmt: skip


def news_value(one: "News", node: str) -> "dict[str, Any]":
    """Return an incident as JSON has it."""
    record = one.record
    return {
        "time": rfc3339(one.unix_s), "unix_s": one.unix_s, "node": node, "worker": record.get("worker"), "start": record.get("start"),
        "level": levels.ERROR if one.kind == OPENED else levels.INFO if one.verdict in ("cured", "closed") else levels.WARNING,
        "event": f"incident_{one.kind}", "incident": record.get("id"), "kind": record.get("kind"), "verdict": one.verdict or None,
        "text": readable(str(record.get("title") or "")),
    }  # fmt: skip
