"""How did a process end, and was that its own doing?

What the keeper's journal (:mod:`holdfast.engine.causes`) or a foreman knows of an end, in a form that the steward can judge by.
"""

import os

from holdfast.linux import signals

#: Ends that somebody asked for. Of the others (`died`, `remedy`) it is asked what ran.
ASKED = frozenset({"stop", "restart", "apply", "group", "down"})


class Death:
    """How a process ended, as far as somebody knows."""

    __slots__ = ("cause", "incident", "seq", "status", "unix_s")

    def __init__(
        self,
        cause: str = "died",
        status: "int | None" = None,
        unix_s: float = 0.0,
        seq: int = 0,
        incident: str = "",
    ) -> None:
        self.cause = cause  #: "died", "remedy", one of ASKED; "boot": the whole machine
        self.status = status  #: as from waitpid
        self.unix_s = unix_s
        self.seq = seq  #: of its record in the keeper's journal; 0: there is none
        self.incident = incident  #: one that was on record before it died

    @property
    def is_ours(self) -> bool:
        """Whether nothing that it ran can be to blame."""
        return self.cause in ASKED or self.cause == "boot"

    @property
    def is_kill(self) -> bool:
        """Whether it was killed with SIGKILL, by somebody out there as far as is known."""
        return self.cause == "died" and self.status == 9

    def words(self) -> str:
        """Return how it ended, for the middle of a sentence."""
        if self.cause == "boot":
            return "was gone with the boot of its machine"
        if self.cause in ASKED:
            return f"was ended ({self.cause})"
        by = " by the watchdog" if self.cause == "remedy" else ""
        if self.status is None:
            return f"died{by}, nobody saw how"
        if os.WIFSIGNALED(self.status):
            return f"was killed{by} by {signals.name(os.WTERMSIG(self.status))}"
        return f"ended{by} with status {os.WEXITSTATUS(self.status)}"
