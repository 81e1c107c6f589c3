"""How far has a target got? One small file each, ``STATE/forward/TARGET.json``.

Replaced by rename after what it stands for was taken, so whoever is killed in between sends a little again and leaves nothing out. It is written at most
once a second, and to the disk itself: after a power cut an older one is there, never half of one. Where it cannot be read, forwarding begins
with what the running node wrote, and says so.
"""

import os
import time

from holdfast.linux import files
from holdfast.records.taps import Mark
from holdfast.wire.jsonlite import dumps, loads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

DIRECTORY = "forward"
FORMAT = 1
_EVERY_S = 1.0
#: When so many incidents are remembered as told, those are forgotten that nobody looks at any more: their names begin with their day.
_MANY_TOLD = 4000
_FORGOTTEN_S = 33 * 86400.0


class Cursor:
    """The place of one target.

    Args:
        path: The file.
        since_unix_s: Where nothing is noted: only what came then or later.
    """

    def __init__(self, path: str, since_unix_s: float) -> None:
        self._path = path
        self.since_unix_s = since_unix_s
        self.marks: dict[str, Mark] = {}  #: "WORKER/STREAM" -> how far it was read
        self.told: dict[
            str, str
        ] = {}  #: incident -> the last verdict that was told; "" for its opening
        self.refused: dict[str, int] = {"records": 0, "figures": 0}  #: for good, ever
        self.trouble = ""  #: why the file cannot be read, or written at this moment
        self._is_changed = False
        self._saved_s = 0.0
        self._load()

    def _load(self) -> None:
        try:
            data = files.read(self._path)
            if data:
                self._take(loads(data.decode()))
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            self.marks, self.told = {}, {}
            self.trouble = f"{self._path} cannot be read ({error}); beginning with what this node wrote since its start"  # fmt: skip

    def _take(self, found: "Any") -> None:
        if found["format"] != FORMAT:
            says = f"format {found['format']}"
            raise ValueError(says)
        self.marks = {str(key): Mark(*map(int, mark)) for key, mark in found["marks"].items()}
        self.told = {str(key): str(verdict) for key, verdict in found["told"].items()}
        self.since_unix_s = float(found["since_unix_s"])
        for key, number in (found.get("refused") or {}).items():
            self.refused[str(key)] = int(number)

    def refuse(self, what: str, number: int) -> None:
        """Count what was refused: noted with the place behind it, so a kill counts nothing twice and nothing never."""
        self.refused[what] += number
        self._is_changed = True

    def advance(self, marks: "Mapping[str, Mark]", told: "Mapping[str, str]") -> None:
        """Note what was taken."""
        self.marks.update(marks)
        self.told.update(told)
        self._is_changed = self._is_changed or bool(marks or told)

    def forget(self, keys: "set[str]") -> None:
        """Drop streams whose directory is gone."""
        for key in keys & self.marks.keys():
            del self.marks[key]
            self._is_changed = True

    def save(self, *, at_once: bool = False) -> None:
        """Write it down, if anything changed and the last time is a moment ago."""
        if not self._is_changed or not (at_once or time.monotonic() - self._saved_s >= _EVERY_S):
            return
        if len(self.told) > _MANY_TOLD:
            oldest = time.strftime("%Y-%m-%d", time.gmtime(time.time() - _FORGOTTEN_S))
            self.told = {
                name: verdict for name, verdict in self.told.items() if name[:10] >= oldest
            }
        value = {
            "format": FORMAT, "since_unix_s": self.since_unix_s, "marks": {key: list(mark) for key, mark in self.marks.items()},
            "told": self.told, "refused": self.refused,
        }  # fmt: skip
        self._saved_s = time.monotonic()
        try:
            files.write_atomic(self._path, dumps(value).encode(), sync=True)
        except OSError as error:
            # What is sent is sent; after a kill some of it would be sent again.
            self.trouble = f"{self._path} cannot be written: {error.strerror}"
            return
        self.trouble = ""
        self._is_changed = False


def began_unix_s(run_dir: str) -> float:
    """Return when the running node was started."""
    from holdfast.wire import layout

    try:
        return os.stat(f"{run_dir}/{layout.BOOT}").st_mtime
    except OSError:
        return time.time()
