"""How is the machine: processors, memory, the disk of the state directory, and what waits for them (pressure)?

A few small files of /proc, read for each frame; the disk every few seconds. Leaves out judging (the watchdog's flags of ``@node``).
"""

import os

from holdfast.cli import words
from holdfast.cli.terminal import Paint

TYPE_CHECKING = False
if TYPE_CHECKING:
    from holdfast.cli.tops.charts import Glyphs

_DISK_S = 5.0
#: From here on a figure is coloured; the number itself says it as well.
_HIGH, _PRESSING = 0.9, 10.0
_ONE_LINE = 140


class Box:
    """The machine as it was at the last look; None: not known here."""

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._ticks = (0, 0)
        self._disk_s = -_DISK_S
        self.cpu: float | None = None
        self.memory: float | None = None
        self.memory_bytes = 0
        self.disk: float | None = None
        self.disk_free_bytes = 0
        #: Share of the last ten seconds in which somebody waited, in percent.
        self.pressure: dict[str, float] = {}
        self.processors = os.cpu_count() or 1

    def look(self, now_s: float) -> None:
        """Read it anew."""
        self._read_cpu()
        self._read_memory()
        for kind in ("cpu", "memory", "io"):
            # some avg10=0.00 avg60=0.00 avg300=0.00 total=0
            text = _head(f"/proc/pressure/{kind}")
            try:
                self.pressure[kind] = float(text.split()[1].removeprefix(b"avg10="))
            except (IndexError, ValueError):
                self.pressure.pop(kind, None)  # a kernel without PSI
        if now_s - self._disk_s >= _DISK_S:
            self._disk_s = now_s
            try:
                found = os.statvfs(self._directory)
            except OSError:
                self.disk = None
            else:
                usable = found.f_blocks - found.f_bfree + found.f_bavail
                self.disk = 1 - found.f_bavail / usable if usable else None
                self.disk_free_bytes = found.f_bavail * found.f_frsize

    def _read_cpu(self) -> None:
        numbers = [int(word) for word in _head("/proc/stat").split(b"\n", 1)[0].split()[1:9]]
        if len(numbers) < 8:
            return
        total, idle = sum(numbers), numbers[3] + numbers[4]
        was_total, was_idle = self._ticks
        if was_total and total > was_total:
            self.cpu = max(0.0, 1 - (idle - was_idle) / (total - was_total))
        self._ticks = (total, idle)

    def _read_memory(self) -> None:
        found = {}
        for line in _head("/proc/meminfo").split(b"\n")[:4]:
            name, _, value = line.partition(b":")
            if value:
                found[name] = int(value.split()[0]) * 1024
        total, available = found.get(b"MemTotal", 0), found.get(b"MemAvailable")
        if total and available is not None:
            self.memory, self.memory_bytes = 1 - available / total, total

    def lines(self, width: int, paint: Paint, glyphs: "Glyphs") -> "list[str]":
        """Return the line of the machine."""
        room = 10 if width >= 100 else 0
        parts = [
            _gauge("cpu", self.cpu, f" of {self.processors}", room, paint, glyphs),
            _gauge("memory", self.memory, f" of {words.size(self.memory_bytes)}", room, paint, glyphs),
            _gauge("disk", self.disk, f", {words.size(self.disk_free_bytes)} free", room, paint, glyphs),
        ]  # fmt: skip
        line = "   ".join(parts)
        if not self.pressure:
            return [line]
        waits = "waiting for " + ", ".join(
            paint(f"{kind} {share:.0f}%", "yellow" if share >= _PRESSING else "")
            for kind, share in self.pressure.items()
        )
        # By the width alone: what is below must not jump when a figure gets a digit more.
        return [f"{line}   {waits}"] if width >= _ONE_LINE else [line, waits]


def _gauge(
    name: str, share: "float | None", behind: str, room: int, paint: Paint, glyphs: "Glyphs"
) -> str:
    if share is None:
        return f"{name} -"
    style = "yellow" if share >= _HIGH else ""
    bar = ""
    if room:
        filled = round(min(1.0, share) * room)
        bar = f"[{glyphs.full * filled}{' ' * (room - filled)}] "
    return f"{name} {paint(f'{bar}{share:.0%}', style)}{behind if room else ''}"


def _head(path: str) -> bytes:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        return os.read(descriptor, 512)
    except OSError:
        return b""  # pressure files of a kernel that was told not to measure
    finally:
        os.close(descriptor)
