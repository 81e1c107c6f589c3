"""Signals without the enumerations.

``import signal`` imports ``enum``, which imports ``collections``, ``types``, ``operator``…: 5 ms at each start of each house
process. The C module below it has all that we use.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from signal import (
        ITIMER_REAL,
        SIG_DFL,
        SIG_IGN,
        SIGALRM,
        SIGCHLD,
        SIGCONT,
        SIGHUP,
        SIGINT,
        SIGKILL,
        SIGPIPE,
        SIGTERM,
        SIGUSR1,
        SIGXFSZ,
        pidfd_send_signal,
        set_wakeup_fd,
        setitimer,
        signal,
    )
else:
    from _signal import (
        ITIMER_REAL,
        SIG_DFL,
        SIG_IGN,
        SIGALRM,
        SIGCHLD,
        SIGCONT,
        SIGHUP,
        SIGINT,
        SIGKILL,
        SIGPIPE,
        SIGTERM,
        SIGUSR1,
        SIGXFSZ,
        pidfd_send_signal,
        set_wakeup_fd,
        setitimer,
        signal,
    )

__all__ = [
    "ITIMER_REAL", "SIGALRM", "SIGCHLD", "SIGCONT", "SIGHUP", "SIGINT", "SIGKILL", "SIGPIPE", "SIGTERM", "SIGUSR1", "SIGXFSZ", "SIG_DFL", "SIG_IGN",
    "name", "pidfd_send_signal", "set_wakeup_fd", "setitimer", "signal",
]  # fmt: skip


def name(number: int) -> str:
    """Return SIGKILL for 9; "signal 60" where there is no name."""
    import _signal  # type: ignore[import-not-found]

    for candidate, value in vars(_signal).items():
        # SIGIOT is what nobody calls SIGABRT any more.
        if value == number and candidate.startswith("SIG") and not candidate.startswith(("SIG_", "SIGIOT")):  # fmt: skip
            return str(candidate)
    return f"signal {number}"
