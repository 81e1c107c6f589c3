"""All that the keeper knows while it lives; what has to outlive it is in the journal."""

import select
import time

from holdfast.keeper.adopt import ExitBook
from holdfast.keeper.journal import Journal, Past, replay
from holdfast.linux import cgroup, files, places
from holdfast.linux import system as os
from holdfast.linux.house import House
from holdfast.wire import layout
from holdfast.wire import plan as plan_format

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from holdfast.keeper.kept import Kept, Life
    from holdfast.model.plan import Plan


class Owed:
    """A dead life whose exit status is not known yet."""

    __slots__ = ("kept", "life", "record", "until_s")

    def __init__(
        self, kept: "Kept", life: "Life", record: "dict[str, Any]", until_s: float
    ) -> None:
        self.kept = kept
        self.life = life
        self.record = record
        self.until_s = until_s


def chance() -> float:
    """Return a number from 0 to 1 (1 left out) that nobody can foresee."""
    return int.from_bytes(os.urandom(6), "little") / (1 << 48)


class State:
    """The plan, the workers, and everything that is open."""

    def __init__(self, run_dir: str) -> None:
        self.house = House(run_dir, "keeper")
        self.run_dir = run_dir
        self.node = places.node_hash(os.readlink(f"{run_dir}/{layout.STATE_LINK}"))
        path = f"{run_dir}/{layout.PLAN}"
        self.plan: Plan = plan_format.decode(files.read(path), path)
        self.env_sum = plan_format.env_sum(self.plan)
        self.workers: dict[str, Kept] = {}
        self.waiting: dict[str, None] = {}  # names that may be due to start, in order
        self.lives: dict[int, tuple[Kept, Life]] = {}  # by pidfd
        self.owed: list[Owed] = []
        self.unsure: list[tuple[Kept, Life, float]] = []  # dead; what follows depends on the status
        self.sockets: dict[str, int] = {}  # listening sockets, by "listen.WORKER.NAME"
        self.pipes: dict[
            str, int
        ] = {}  # the workers' pipes, held so that what is in them is not lost
        self.exits = ExitBook(f"{run_dir}/{layout.EXITS}")
        self.groups = cgroup.Groups(self.node)
        self.chance = chance
        self.end_status = 0
        self.end_told = False
        self.resets_oom = files.read("/proc/self/oom_score_adj").strip() not in (b"0", b"")
        self.epoll = select.epoll()
        data = files.read(f"{run_dir}/{layout.JOURNAL}")
        self.past: dict[str, Past]
        self.past, seq, self.is_ending, began_s = replay(data)
        #: Monotonic time of the first word in the journal: the node is as old as that, however often we died.
        self.node_began_s = began_s or time.monotonic()
        self.is_second = bool(data)  #: there was a keeper before us
        self.journal = Journal(run_dir, seq)
