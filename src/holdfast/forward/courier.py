"""The thread of one target: look, take a portion, deliver it, note how far that was. One portion is on its way at any time, and none other in memory.

A target that takes nothing holds up nobody but itself: it is asked again after a pause that grows to :data:`LONGEST_S`, or after what it asked for. What
it did not take is on disk; how long, ``log.keep`` says. What it refuses for good is not sent again: it is counted, told once, and where the next portion would
be refused as well (a wrong token) that one waits, too, so that an hour of a wrong token costs a portion a minute and not all that there is.
"""

import random
import threading
import time

from holdfast.forward.answers import NotTakenError
from holdfast.forward.flag import CALM_S

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Protocol

    from holdfast.forward.answers import Refused
    from holdfast.forward.cursor import Cursor
    from holdfast.forward.flag import RefusalFlag
    from holdfast.forward.reading import Feed, Portion

    class Target(Protocol):
        """Where portions go."""

        def deliver(self, portion: Portion, node: str) -> Refused:
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
        flag: Shows that something was refused.
    """

    def __init__(
        self, name: str, target: "Target", feed: "Feed", cursor: "Cursor", say: "Callable[..., None]",
        measure: "Callable[[], Refused] | None" = None, every_s: float = 60.0, look_s: float = LOOK_S,
        flag: "RefusalFlag | None" = None,
    ) -> None:  # fmt: skip
        super().__init__(name=f"forward.{name}", daemon=True)
        self._name, self._target, self._feed, self._cursor = name, target, feed, cursor
        self._say = say
        self._measure, self._every_s, self._look_s = measure, every_s, look_s
        # Spread, so that a hundred nodes that were started together do not knock together.
        self._due_s = time.monotonic() + random.uniform(0.0, min(every_s, 5.0))  # noqa: S311 -- no secret
        self._failures = 0
        self._said: dict[str, str] = {}
        self._flag = flag
        self._refused: dict[
            str, float
        ] = {}  #: "records", "figures" -> when some were refused the last time; nothing when that is over
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
        refused_s = self._refused.get("records")
        if refused_s is not None and not self._failures and time.monotonic() - refused_s >= CALM_S:
            self._calm("records")
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
            self._note_refused("records", refused)
            self._cursor.advance(portion.marks, portion.told)
            self._save()
            if refused.is_general:
                self._wait(self._pause_s())
                self._failures += 1
                return
            if self._failures:
                self._failures = 0
                self._said.pop("not taken, trying again", None)
                self._say("info", "taken again", target=self._name)
            return

    def _note_refused(self, what: str, refused: "Refused") -> None:
        """Count what is gone, and say so once for each reason."""
        if not refused.number:
            self._tell(f"the target says of its {what}", refused.says)
            return
        self._cursor.refuse(what, refused.number)
        self._refused[what] = time.monotonic()
        self._tell(f"{what} refused for good, not sent again", refused.says, number=refused.number)
        if self._flag is not None:
            try:
                self._flag.tell(self._name, refused.number, refused.says)
            except OSError as error:
                self._tell("the flag cannot be raised", str(error.strerror))

    def _calm(self, what: str) -> None:
        """Take the flag back: nothing is refused any more."""
        if self._refused.pop(what, None) is None:
            return
        self._said = {key: why for key, why in self._said.items() if not key.startswith(what)}
        self._say("info", f"no {what} are refused any more", target=self._name, refused_ever=self._cursor.refused[what])  # fmt: skip
        if self._flag is not None and not self._refused:
            try:
                self._flag.clear(self._name)
            except OSError as error:
                self._tell("the flag cannot be taken back", str(error.strerror))

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
            refused = self._measure()
        except NotTakenError as error:
            # Not kept: the next ones say the same, and sums lose nothing.
            self._tell("figures were not taken", str(error))
            self._due_s = max(self._due_s, now_s + error.after_s)
        else:
            self._said.pop("figures were not taken", None)
            self._note_refused("figures", refused)
            if not refused.number:
                self._calm("figures")

    def _save(self) -> None:
        self._cursor.save()
        self._tell("how far it got is not on disk", self._cursor.trouble)

    def _tell(self, what: str, why: str, **more: object) -> None:
        """Write a line when something begins to be wrong, or is wrong in another way."""
        if why and why != self._said.get(what):
            self._say("warning", what, target=self._name, why=why, **more)
        self._said[what] = why
