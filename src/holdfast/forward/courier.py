"""The thread of one target: look, take a portion, deliver it, note how far that was. One portion is on its way at any time, and none other in memory.

A target that takes nothing holds up nobody but itself: it is asked again after a pause that grows to :data:`LONGEST_S`, or after what it asked for. What
it did not take is on disk; how long, ``log.keep`` says.
"""

import random
import threading
import time

from holdfast.forward.posting import NotTakenError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Protocol

    from holdfast.forward.cursor import Cursor
    from holdfast.forward.reading import Feed, Portion

    class Target(Protocol):
        """Where portions go."""

        def deliver(self, portion: Portion, node: str) -> str:
            """Take a portion, and return what of it was refused for good; or raise NotTakenError."""


#: A look for news, and the longest pause after a failure.
LOOK_S = 1.0
LONGEST_S = 60.0
_FIRST_S = 1.0
_STREAM_S = 0.001


class Courier(threading.Thread):
    """Carries the news to one target until the process ends.

    Args:
        name: Of the target.
        target: Where to.
        feed: Where from.
        cursor: How far.
        say: Writes a line about what is wrong.
        measure: Sends figures, and returns what was refused; None: no figures.
        every_s: How often figures are sent.
        look_s: How long nothing is looked at where nothing was found.
    """

    def __init__(
        self, name: str, target: "Target", feed: "Feed", cursor: "Cursor", say: "Callable[..., None]",
        measure: "Callable[[], str] | None" = None, every_s: float = 60.0, look_s: float = LOOK_S,
    ) -> None:  # fmt: skip
        super().__init__(name=f"forward.{name}", daemon=True)
        self._name, self._target, self._feed, self._cursor = name, target, feed, cursor
        self._say = say
        self._measure, self._every_s, self._look_s = measure, every_s, look_s
        # Spread, so that a hundred nodes that were started together do not knock together.
        self._due_s = time.monotonic() + random.uniform(0.0, min(every_s, 5.0))  # noqa: S311 -- no secret
        self._failures = 0
        self._said: dict[str, str] = {}
        self.stopping = threading.Event()
        self.error: BaseException | None = None  #: a mistake of ours has ended it

    def run(self) -> None:
        """Carry."""
        try:
            while not self.stopping.is_set():
                self.turn()
        except BaseException as error:
            self.error = error
            raise

    def turn(self) -> None:
        """Send what there is, or wait a moment."""
        self._send_figures()
        self._feed.look()
        portion = self._feed.next()
        while portion and not self.stopping.is_set():
            self._deliver(portion)
            self._send_figures()
            portion = self._feed.next()
        if not portion:
            self._cursor.advance(portion.marks, portion.told)
            self._save()
        # A thousand workers are looked at every other second: that is what half a percent of a processor buys.
        self.stopping.wait(max(self._look_s, self._feed.streams() * _STREAM_S))

    def _deliver(self, portion: "Portion") -> None:
        """Deliver one portion, however long that takes."""
        while not self.stopping.is_set():
            try:
                refused = self._target.deliver(portion, self._feed.node)
            except NotTakenError as error:
                self._tell("not taken, trying again", str(error))
                self._wait(error.after_s or self._pause_s())
                self._failures += 1
                continue
            self._tell("a part was refused", refused)
            if self._failures:
                self._failures = 0
                self._said.pop("not taken, trying again", None)
                self._say("info", "taken again", target=self._name)
            self._cursor.advance(portion.marks, portion.told)
            self._save()
            return

    def _pause_s(self) -> float:
        return min(LONGEST_S, _FIRST_S * 2.0 ** min(self._failures, 30)) * random.uniform(0.5, 1.0)  # noqa: S311 -- no secret

    def _wait(self, pause_s: float) -> None:
        """Wait, and go on with the figures meanwhile: another request may be taken."""
        until_s = time.monotonic() + pause_s
        while (left_s := until_s - time.monotonic()) > 0 and not self.stopping.is_set():
            self.stopping.wait(min(left_s, max(0.01, self._due_s - time.monotonic())) if self._measure else left_s)  # fmt: skip
            self._send_figures()

    def _send_figures(self) -> None:
        now_s = time.monotonic()
        if self._measure is None or now_s < self._due_s:
            return
        self._due_s = now_s + self._every_s
        try:
            self._tell("figures were refused", self._measure())
        except NotTakenError as error:
            # Not kept: the next ones say the same, and sums lose nothing.
            self._tell("figures were not taken", str(error))
            self._due_s = max(self._due_s, now_s + error.after_s)
        else:
            self._said.pop("figures were not taken", None)

    def _save(self) -> None:
        self._cursor.save()
        self._tell("how far it got is not on disk", self._cursor.trouble)

    def _tell(self, what: str, why: str) -> None:
        """Write a line when something begins to be wrong, or is wrong in another way."""
        if why and why != self._said.get(what):
            self._say("warning", what, target=self._name, why=why)
        self._said[what] = why
