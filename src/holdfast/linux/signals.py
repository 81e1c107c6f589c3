"""Signals without the enumerations.

``import signal`` imports ``enum``, which imports ``collections``, ``types``, ``operator``…: 5 ms at each start of each house
process. The C module below it has all that we use.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from signal import (
        SIG_DFL,
        SIG_IGN,
        SIGCHLD,
        SIGCONT,
        SIGHUP,
        SIGINT,
        SIGKILL,
        SIGPIPE,
        SIGTERM,
        SIGXFSZ,
        pidfd_send_signal,
        set_wakeup_fd,
        signal,
    )
else:
    from _signal import (
        SIG_DFL,
        SIG_IGN,
        SIGCHLD,
        SIGCONT,
        SIGHUP,
        SIGINT,
        SIGKILL,
        SIGPIPE,
        SIGTERM,
        SIGXFSZ,
        pidfd_send_signal,
        set_wakeup_fd,
        signal,
    )

__all__ = [
    "SIGCHLD", "SIGCONT", "SIGHUP", "SIGINT", "SIGKILL", "SIGPIPE", "SIGTERM", "SIGXFSZ", "SIG_DFL", "SIG_IGN",
    "name", "pidfd_send_signal", "set_wakeup_fd", "signal",
]  # fmt: skip


def name(number: int) -> str:
    """Return SIGKILL for 9; "signal 60" where there is no name."""
    import _signal  # type: ignore[import-not-found]

    for candidate, value in vars(_signal).items():
        if value == number and candidate.startswith("SIG") and not candidate.startswith("SIG_"):
            return str(candidate)
    return f"signal {number}"
