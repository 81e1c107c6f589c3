"""How is the machine at this moment: disk, memory, pressure, load? A few small files of /proc for each look.

Leaves out judging (the flags of ``@node``) and what takes longer to find out: top processes, what changed (:mod:`holdfast.dashboard.api.machine`).
"""

import os

from holdfast.cli.tops.box import Box

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_NAMES = {
    "MemTotal": "total_bytes", "MemAvailable": "available_bytes", "SwapTotal": "swap_total_bytes", "SwapFree": "swap_free_bytes",
}  # fmt: skip
#: Figures are rounded to so many bytes: what flickers by less is no news.
_STEP = 1 << 20


#: Figures of the machine flicker: looked at no more often than this.
_EVERY_S = 2.0


class Machine:
    """The machine as it was at the last look."""

    def __init__(self, state_dir: str) -> None:
        self._state_dir = state_dir
        self._box = Box(state_dir)
        self._mount = mount_of(state_dir)
        self._found: dict[str, Any] = {}
        self._at_s = 0.0

    def look(self, now_s: float, flags: "list[dict[str, Any]]") -> "dict[str, Any]":
        """Return it as `/api/state` has it.

        Args:
            now_s: Monotonic.
            flags: Those of ``@node``: the watchdog has seen how fast the disk fills.
        """
        if self._found and now_s - self._at_s < _EVERY_S:
            return self._found
        box, self._at_s = self._box, now_s
        box.look(now_s)
        full_in_s = next(
            (flag.get("value") for flag in flags if flag.get("flag") == "disk_filling"), None
        )
        disk = {
            "mount": self._mount,
            "free_bytes": box.disk_free_bytes - box.disk_free_bytes % _STEP,
            "total_bytes": _total(self._state_dir),
            "used_share": _rounded(box.disk, 3),
            "full_in_s": full_in_s,
        }
        try:
            load = [round(value, 2) for value in os.getloadavg()]
        except OSError:
            load = []
        self._found = {
            "disk": [disk] if box.disk is not None else [],
            "memory": memory(),
            "pressure": dict(box.pressure),
            "load": load,
            "cpu_share": _rounded(box.cpu, 2),
            "processors": box.processors,
        }
        return self._found


def memory() -> "dict[str, int | None]":
    """Return the memory and swap of the machine, in whole mebibytes."""
    found: dict[str, int | None] = dict.fromkeys(_NAMES.values())
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            for line in file:
                name, _, value = line.partition(":")
                if name in _NAMES:
                    count = int(value.split()[0]) * 1024
                    found[_NAMES[name]] = count - count % _STEP
    except (OSError, ValueError, IndexError):
        pass  # another kernel: not known
    return found


def mount_of(path: str) -> str:
    """Return the mount point that holds a path."""
    path = os.path.realpath(path)
    while path != "/" and not os.path.ismount(path):
        path = os.path.dirname(path)
    return path


def _total(path: str) -> "int | None":
    try:
        found = os.statvfs(path)
    except OSError:
        return None
    return found.f_blocks * found.f_frsize


def _rounded(value: "float | None", digits: int) -> "float | None":
    return None if value is None else round(value, digits)
