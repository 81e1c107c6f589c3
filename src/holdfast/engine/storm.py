"""Is somebody out there killing processes, whatever they run?

A job is proved guilty by being alone in a process that dies. While other processes are killed with SIGKILL, too (a person at work, an
OOM killer on a full box, a drill), such a death proves little: then it takes more of them (`core/lease.py`). Weather for a job
is every such kill of a process that did not run it: of the house, of a worker that ran nothing or others, unless one of those others was found
guilty since. A process that ends by another signal, or by its own status, was killed by nobody.
"""

from holdfast.linux import files
from holdfast.wire import beats, layout

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection

#: A kill is weather for so long.
WINDOW_S = 10.0


class Storm:
    """What was killed lately."""

    __slots__ = ("_beats", "_guilty", "_house", "_kills")

    def __init__(self, run_dir: str) -> None:
        self._beats = f"{run_dir}/{layout.BEATS}"
        self._house: dict[str, int] = {}
        self._kills: list[tuple[float, str, frozenset[str]]] = []
        self._guilty: dict[str, float] = {}

    def note(self, mono_s: float, what: str, jobs: "Collection[str]" = ()) -> None:
        """A process was killed then, while it ran these jobs."""
        self._kills = [kill for kill in self._kills if kill[0] >= mono_s - WINDOW_S]
        self._kills.append((mono_s, what, frozenset(jobs)))

    def convict(self, mono_s: float, job: str) -> None:
        """This job kills: deaths of who ran it are explained."""
        self._guilty = {jid: at for jid, at in self._guilty.items() if at >= mono_s - WINDOW_S}
        self._guilty[job] = mono_s

    def look_at_house(self, now_s: float) -> None:
        """See by the beats whether another process is keeper, watchdog, … now; they end in no other way than by being killed."""
        data = files.read(self._beats)
        if len(data) < beats.SIZE:
            return  # nothing to see: a foreman has no house
        for role in beats.SLOTS:
            _, pid = beats.read(data, role)
            before = self._house.get(role, 0)
            if before and pid and pid != before:
                self.note(now_s, role)
            if pid:
                self._house[role] = pid

    def over(self, now_s: float, jobs: "Collection[str]" = ()) -> str:
        """Return who was killed lately for whose death these jobs cannot be to blame; "" for nobody: a death proves what it seems to."""
        for at_s, what, ran in self._kills:
            is_explained = not ran.isdisjoint(jobs) or not ran.isdisjoint(self._guilty)
            if now_s - at_s <= WINDOW_S and not is_explained:
                return what
        return ""
