"""What does the watchdog remember of one worker: the state of its detectors, and a few numbers of the last look?

Only what cannot be read again. Whoever rests costs nothing (:attr:`holdfast.watchdog.wards.Ward.vitals` is None), and of a guest of which nothing is
known there are two detectors and a few numbers as long as nothing grows. Feeding all this is the business of :mod:`holdfast.watchdog.vitals`.
"""

from holdfast.core.detect.chatter import Chatter
from holdfast.core.detect.effort import Effort
from holdfast.core.detect.growth import Growth
from holdfast.core.detect.lag import Lag
from holdfast.core.detect.pegged import Pegged
from holdfast.core.detect.pile import Pile
from holdfast.core.detect.stalled import Stalled
from holdfast.core.detect.swarm import Swarm

TYPE_CHECKING = False
if TYPE_CHECKING:
    from holdfast.core.detect import peers
    from holdfast.core.detect.descriptors import Descriptors
    from holdfast.core.detect.sign import Sign
    from holdfast.core.detect.standstill import Standstill
    from holdfast.core.detect.starvation import Turn
    from holdfast.watchdog.hunger import Hunger


class Inner:
    """What is remembered of a worker with a pulse."""

    __slots__ = (
        "children",
        "effort",
        "lag",
        "likeness",
        "log",
        "pegged",
        "pile",
        "stalled",
        "tasks",
        "turns",
    )

    def __init__(self) -> None:
        self.lag = Lag()
        self.effort = Effort()
        self.pegged = Pegged()
        self.pile = Pile()
        self.stalled = Stalled()
        self.tasks = Swarm()
        self.log: Chatter | None = None
        self.children: Swarm | None = None
        self.turns: dict[int, Turn] = {}  #: of its threads, where that was asked
        self.likeness: dict[str, peers.Likeness] = {}


class Vitals:
    """What is remembered of one worker."""

    __slots__ = (
        "began_rss",
        "children",
        "cpu_ns",
        "cpu_s",
        "descriptors",
        "disturbed_s",
        "felt_s",
        "files",
        "growth",
        "hunger",
        "inner",
        "most_files",
        "moved_s",
        "next_files_s",
        "paced",
        "rss",
        "sampled_s",
        "serving_ns",
        "share",
        "signs",
        "standstill",
        "start",
        "threads",
        "waited_ns",
        "wanted",
        "work",
    )  # fmt: skip

    def __init__(self, start: int) -> None:
        self.start = start  #: the life that was felt
        self.growth = Growth()
        self.threads = Swarm()
        self.inner: Inner | None = None
        self.descriptors: Descriptors | None = None  #: None: it has too few to leak any
        self.standstill: Standstill | None = (
            None  #: None: it runs, or has a heartbeat that says more
        )
        self.hunger: Hunger | None = None  #: None: it rests
        self.signs: dict[str, Sign] | None = None  #: what is believed now; None: nothing
        self.felt_s = self.sampled_s = 0.0
        self.moved_s = 0.0  #: when it was seen to have run, or to be otherwise than before
        self.cpu_s = 0.0  #: when processor time was last compared
        self.cpu_ns = self.serving_ns = 0
        self.share = 0.0  #: of a processor, over the last second
        self.wanted = 0.0  #: the same, of the time in which it could have had one
        self.waited_ns = 0  #: on a run queue, so far
        self.work = 0
        self.rss = 0
        self.began_rss = 0  #: when this began to be remembered
        self.files = -1
        self.most_files = -1
        self.paced = 0  #: work done at the last comparison
        self.next_files_s = 0.0
        self.disturbed_s = 0.0  #: evidence is being taken, until then
        self.children = 0  #: processes below it, when they were last counted

    def begin(self, start: int) -> None:
        """Another life: nothing of the old one counts but what work costs, and how long it takes."""
        inner = self.inner
        Vitals.__init__(self, start)
        if inner is not None:
            self.inner = Inner()
            self.inner.effort = inner.effort
            self.inner.effort.restart()
            self.inner.stalled = inner.stalled
            self.inner.stalled.restart()

    def is_calm(self) -> bool:
        """Whether nothing is remembered that cannot be made again from the last sample."""
        return (
            not (
                self.signs
                or self.inner
                or self.descriptors
                or self.standstill
                or self.children
                or self.hunger
            )
            and not self.growth.pace_s()
        )

    def remembered(self) -> "Inner":
        """Return what is remembered beyond a few numbers; from now on there is such a thing."""
        if self.inner is None:
            self.inner = Inner()
        return self.inner

    def say(self, flag: str, sign: "Sign | None") -> None:
        """Set what is believed about one flag."""
        if sign is not None:
            if self.signs is None:
                self.signs = {}
            self.signs[flag] = sign
        elif self.signs is not None and self.signs.pop(flag, None) is not None and not self.signs:
            self.signs = None
