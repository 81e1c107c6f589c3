"""Whose code does the serving loop run at this moment?

Written into the pulse before each callback, so that whoever finds the process hung or dead by a signal can name the component.
asyncio gives each callback the context of the code that asked for it; the component sits in that context. One
lookup for each callback and two stores for each of a component (about 0.5 µs).

Wrapping coroutines instead would have put frames of ours into every stack and missed plain callbacks;
a task factory misses callbacks, too.
"""

from asyncio import Handle

from holdfast.sdk.recorder import CURRENT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from holdfast.agent.pulse import PulseWriter
    from holdfast.sdk.instance import Instance


class Noting:
    """Keeps the pulse's note up to date; ``running`` is whose callback runs now."""

    __slots__ = ("_names_thread", "_pulse", "running")

    def __init__(self, pulse: "PulseWriter") -> None:
        self._pulse = pulse
        self.running: Instance | None = None
        self._names_thread = False

    def install(self) -> None:
        """Have every callback of asyncio's own loops noted (uvloop's are out of reach)."""
        plain_run = Handle._run  # noqa: SLF001 -- the one place that every callback passes; there is no public one

        def run(handle: "Handle") -> None:
            instance = handle._context.get(CURRENT)  # type: ignore[attr-defined]  # noqa: SLF001
            if instance is None:
                plain_run(handle)
                return
            self.running = instance
            self._pulse.note(instance.note)
            plain_run(handle)
            # Wiped at once: a component that ran last is not to blame for what kills an idle process.
            self.running = None
            self._pulse.note(b"")

        Handle._run = run  # type: ignore[method-assign, assignment]  # noqa: SLF001

    def thread_runs(self, instance: "Instance | None") -> None:
        """While the loop runs nobody's code: name the component that is busy in a thread."""
        # Nothing is wiped that was not written here: what a spare says of itself stays.
        if self.running is None and (instance is not None or self._names_thread):
            self._names_thread = instance is not None
            self._pulse.note(instance.note if instance is not None else b"")
