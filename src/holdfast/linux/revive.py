"""Watch the anchor, and bring it back: what keeper, watchdog and logger each do for it."""

from holdfast.linux import locks, pidfd
from holdfast.linux.launch import is_removed, is_revived, reap_revived, revive_anchor
from holdfast.wire import layout

__all__ = ["AnchorWatch", "reap_revived", "revive_anchor"]


#: How long a new anchor may take to hold its lock before it is killed and another one is started; doubled each time, so
#: that a slow machine gets its anchor, up to the second figure.
_PATIENCE_S, _LONGEST_PATIENCE_S = 0.3, 5.0
#: How often we look while there is none.
_LOOK_S = 0.01


class AnchorWatch:
    """Knows the anchor that lives now, by its lock and a pidfd, and starts another when there is none.

    The owner registers ``descriptor`` for reading whenever :meth:`tend` says that it is a new one, calls
    :meth:`died` when it becomes readable, and :meth:`tend` in every turn of its loop.
    """

    __slots__ = ("_child", "_lock", "_patience_s", "_revived_s", "_run_dir", "descriptor", "is_homeless", "pid")  # fmt: skip

    def __init__(self, run_dir: str) -> None:
        self._run_dir = run_dir
        self._lock = f"{run_dir}/{layout.lock('anchor')}"
        self._revived_s = 0.0
        self._patience_s = _PATIENCE_S
        self._child = 0
        #: The run directory was removed, or half of it: nobody can reach this node any more, and the next `up` would start each worker a
        #: second time. The owner has to end, the keeper with everything that is left of the node.
        self.is_homeless = False
        self.pid = 0
        self.descriptor = -1  #: pidfd, readable when the anchor is dead; -1: none known

    def tend(self, now_s: float) -> bool:
        """Look for an anchor if none is known; True when a new one was found just now."""
        if self.descriptor >= 0:
            return False
        pid = locks.holder(self._lock)
        if not pid:
            if now_s - self._revived_s > self._patience_s:
                self._revive(now_s)
            return False
        descriptor = pidfd.open_pid(pid)
        if descriptor < 0 or locks.holder(self._lock) != pid:
            pidfd.close(descriptor)
            return False
        self.pid, self.descriptor = pid, descriptor
        self._child, self._patience_s = 0, _PATIENCE_S
        return True

    def wait_s(self) -> float:
        """How long the owner's loop may sleep as far as the anchor is concerned."""
        return 3600.0 if self.descriptor >= 0 else _LOOK_S

    def died(self, now_s: float) -> None:
        """Call when ``descriptor`` became readable (and is not registered any more): start another."""
        pidfd.close(self.descriptor)
        self.pid, self.descriptor = 0, -1
        if not locks.holder(self._lock):
            self._revive(now_s)

    def _revive(self, now_s: float) -> None:
        if is_removed(self._run_dir):
            self.is_homeless = True
            return
        if self._child:
            # One that hangs in its start must not become a thousand of them.
            reap_revived()
            if is_revived(self._child):
                pidfd.kill_quietly(self._child)
            self._patience_s = min(_LONGEST_PATIENCE_S, self._patience_s * 2)
        self._revived_s = now_s
        self._child = revive_anchor(self._run_dir)
