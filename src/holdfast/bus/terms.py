"""How is a call to be made? What is asked of it beside procedure and arguments: said by :class:`holdfast.bus.api.Bus`, carried as one."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from holdfast.bus.running import CURRENT

if TYPE_CHECKING:
    from collections.abc import Callable


class Terms:
    """The keyword arguments of :meth:`holdfast.bus.api.Bus.call`."""

    __slots__ = ("disclose_me", "idempotent", "on_progress", "options", "timeout_s")

    def __init__(
        self,
        timeout_s: float | None = None,
        on_progress: Callable[..., Any] | None = None,
        disclose_me: bool | None = None,
        options: dict[str, Any] | None = None,
        *,
        idempotent: bool = False,
    ) -> None:
        self.timeout_s = timeout_s
        self.on_progress = on_progress
        self.disclose_me = disclose_me
        self.options = options
        self.idempotent = idempotent

    def within(self, left_s: float | None, **options: Any) -> Terms:
        """Return the same with another limit of time and further options, where they were not given."""
        made = {**options, **(self.options or {})} if options else self.options
        return Terms(left_s, self.on_progress, self.disclose_me, made, idempotent=self.idempotent)

    def wire(self) -> tuple[dict[str, Any], float | None]:
        """Return CALL.Options, and how long to wait: what is left of the time of the call that this one is made in, at most."""
        timeout_s = self.timeout_s
        running = CURRENT.get()
        if running is not None and running.deadline_s is not None:
            left_s = running.deadline_s - time.monotonic()
            timeout_s = left_s if timeout_s is None else min(timeout_s, left_s)
        made: dict[str, Any] = dict(self.options) if self.options else {}
        if timeout_s is not None:
            made["timeout"] = max(1, int(timeout_s * 1000))  # 0 would mean "no limit"
        if self.on_progress is not None:
            made["receive_progress"] = True
        if self.disclose_me is not None:
            made["disclose_me"] = self.disclose_me
        return made, timeout_s


#: Nothing in particular.
PLAIN = Terms()
