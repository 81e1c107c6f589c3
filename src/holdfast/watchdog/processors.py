"""Does each processor of the machine run anything at all?

A virtual machine's processor can stand still for seconds while the others go on: its host has given it to somebody else. Whoever sleeps there is not
woken, and whoever runs there gets nowhere, and nothing in /proc tells before it is over: the one who sleeps waits on no run queue. So
somebody goes there and looks: a thread is sent to the processor, and while it has not arrived, silence of those who live there proves nothing. Seen on a
machine that lost 30 to 80 % of its time to its neighbours: healthy workers were silent for up to twelve seconds.
"""

import _thread

from holdfast.linux import system as os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

#: Who has not arrived after this found a processor that stands still, or one so crowded that nobody there can be blamed.
PATIENCE_S = 0.08


class Processors:
    """Knows which processors have not answered."""

    __slots__ = ("_asked", "_send")

    def __init__(self, send: "Callable[[int, Callable[[int], None]], None] | None" = None) -> None:
        """Begin without knowing anything.

        Args:
            send: Has its second argument called with the first one on that processor; a test's own.
        """
        self._send = send or _send
        self._asked: dict[int, float] = {}  #: since when an answer is owed

    def ask(self, numbers: "Iterable[int]", now_s: float) -> None:
        """Send somebody to each of these who is not on the way already."""
        for number in numbers:
            if number >= 0 and number not in self._asked:
                self._asked[number] = now_s
                try:
                    self._send(number, self._arrived)
                except RuntimeError:  # no thread can be started: then nobody is excused by this
                    self._arrived(number)

    def mute(self, now_s: float) -> "set[int]":
        """Return those that have not answered for longer than a healthy one takes."""
        return {number for number, at_s in list(self._asked.items()) if now_s - at_s > PATIENCE_S}

    def _arrived(self, number: int) -> None:
        self._asked.pop(number, None)


def _send(number: int, arrived: "Callable[[int], None]") -> None:
    _thread.start_new_thread(_go, (number, arrived))


def _go(number: int, arrived: "Callable[[int], None]") -> None:
    try:
        # Of this thread alone; it returns where it was sent to.
        os.sched_setaffinity(0, {number})
    except OSError:
        pass  # not one of ours: whoever lives there is not ours either
    finally:
        arrived(number)
