"""A worker as the keeper holds it: its plan, its state, its processes."""

from holdfast.core import lifecycle
from holdfast.core.restart import History
from holdfast.linux import system as os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from holdfast.model.plan import WorkerPlan


_CLEAN = History()  # never changed, only replaced


class Life:
    """One process of a worker."""

    __slots__ = (
        "descriptor", "entry", "go", "is_ours", "is_ready", "n", "pid", "role", "started_mono_s",
        "started_unix_s", "ticks",
    )  # fmt: skip

    def __init__(self, n: int, role: str) -> None:
        self.n = n
        self.role = role
        self.pid = 0
        self.ticks = 0
        self.descriptor = -1  #: pidfd
        self.entry = 0  #: fingerprint of the plan entry it was started with
        self.go = -1  #: writing end on which a spare waits
        self.is_ours = True  #: our child; False: adopted, somebody else reaps it
        self.is_ready = False
        self.started_mono_s = 0.0
        self.started_unix_s = 0.0

    def close(self) -> None:
        """Give its descriptors back."""
        for descriptor in (self.descriptor, self.go):
            if descriptor >= 0:
                os.close(descriptor)
        self.descriptor = self.go = -1


class Kept:
    """One worker."""

    __slots__ = (
        "after_stop", "by", "cause", "due_s", "entry", "flag", "history", "incident", "kill_due_s", "life",
        "n", "plan", "restarts", "spare", "spare_deaths", "spare_due_s", "state", "up", "why",
    )  # fmt: skip

    def __init__(self, plan: "WorkerPlan") -> None:
        self.plan = plan
        self.entry = 0
        self.state = lifecycle.DOWN
        self.up = False
        self.by = "plan"
        self.why = ""  #: a few words for `status`
        self.n = 0  #: start number given last
        self.restarts = 0
        self.history = _CLEAN
        self.life: Life | None = None
        self.spare: Life | None = None
        self.spare_due_s = 0.0  # 0: none due
        self.spare_deaths = 0
        self.due_s = 0.0  # 0: no timer; else when a backoff is over
        self.kill_due_s = 0.0  # 0: no timer; else when the grace of a stop is over
        self.cause = "died"  #: why the next death will have happened
        self.after_stop = "down"
        self.flag = ""
        self.incident = ""

    @property
    def name(self) -> str:
        """Its name."""
        return self.plan["name"]

    def is_ready(self) -> bool:
        """Whether it can serve."""
        return self.state == lifecycle.RUNNING

    def is_down_for_good(self) -> bool:
        """Whether it is down and will not come back by itself."""
        return self.state in (lifecycle.DOWN, lifecycle.FAILED, lifecycle.DONE)

    def status(self, now_s: float) -> "dict[str, Any]":
        """What `status` shows."""
        life = self.life
        return {
            "name": self.name,
            "kind": self.plan["kind"],
            "state": self.state,
            "ready": self.is_ready(),
            "pid": life.pid if life else None,
            "n": life.n if life else self.n,
            "started_at_unix_s": life.started_unix_s if life else None,
            "restarts": self.restarts,
            "up": self.up,
            "spare_pid": self.spare.pid if self.spare else None,
            "delay_s": round(max(0.0, self.due_s - now_s), 3) if self.due_s else None,
            "why": self.why,
        }
