"""Which message is sent when, again and again, until somebody has it?

One thread for each channel, so a mail server that hangs does not hold up the pager. The messages of one alert reach a channel in their order; those
of different alerts do not wait for each other. A page is never given up: after a day without success the other channels are told. What only
informs is given up then. The threads touch no file: rows are changed, and written, by the one who asks (:meth:`Sending.turn`).
"""

import queue
import threading

from holdfast.alerts.channels.channel import NotDelivered
from holdfast.alerts.store import DELIVERED, DROPPED, Row
from holdfast.core import alerting

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any

    from holdfast.alerts.channels.channel import Channel
    from holdfast.alerts.store import Outbox

#: First and longest pause between two attempts.
FIRST_S, LONGEST_S = 1.0, 300.0
#: After this long without success somebody else is told.
PATIENCE_S = 86400.0
#: What nobody has to be woken by is not sent for ever.
_INFORMS = frozenset(
    {alerting.TOLD_DIGEST, alerting.TOLD_ACK, alerting.TOLD_SNOOZE, alerting.TOLD_INCIDENT}
)


def pause_s(attempts: int, chance: float, after_s: float = 0.0, *, is_refused: bool = False) -> float:  # fmt: skip
    """Return how long to wait after so many failed attempts; ``chance`` (0 to 1) keeps many senders from marching in step."""
    longest_s = LONGEST_S if is_refused else min(LONGEST_S, FIRST_S * 2.0 ** min(attempts - 1, 30))
    return max(after_s, longest_s * (0.5 + chance / 2))


class _Lane(threading.Thread):
    """The thread of one channel."""

    def __init__(self, name: str, channel: "Channel", results: "queue.SimpleQueue[Result]") -> None:
        super().__init__(name=f"holdfast.alerts.{name}", daemon=True)
        self.channel = channel
        self._results = results
        self.asked: queue.SimpleQueue[tuple[Row | None, dict[str, Any]]] = queue.SimpleQueue()

    def run(self) -> None:
        while True:
            row, message = self.asked.get()
            try:
                self.channel.deliver(message)
                failure = None
            except NotDelivered as error:
                failure = error
            except Exception as error:  # noqa: BLE001 -- the outermost loop of this thread: a page is worth more than our pride
                failure = NotDelivered(f"holdfast made a mistake: {type(error).__name__}: {error}")
            if row is not None:
                self._results.put((row, failure))


if TYPE_CHECKING:
    Result = tuple[Row, NotDelivered | None]


class Sending:
    """The outbox on its way out.

    Args:
        channels: By name.
        outbox: Whose rows are sent.
        chance: From 0 to 1.
        say: A line for the log: (level, event, fields).
    """

    def __init__(
        self,
        channels: "Mapping[str, Channel]",
        outbox: "Outbox",
        chance: "Callable[[], float]",
        say: "Callable[..., None]",
    ) -> None:
        self._results: queue.SimpleQueue[Result] = queue.SimpleQueue()
        self._lanes = {name: _Lane(name, channel, self._results) for name, channel in channels.items()}  # fmt: skip
        self._outbox = outbox
        self._chance = chance
        self._say = say
        self._said: dict[str, str] = {}  #: channel -> the last failure that was told
        self.failing_since_unix_s: dict[
            str, float
        ] = {}  #: channel -> its oldest page that nobody took
        for lane in self._lanes.values():
            lane.start()

    def take_results(self, now_s: float, now_unix_s: float) -> None:
        """Note what became of the attempts."""
        while True:
            try:
                row, failure = self._results.get_nowait()
            except queue.Empty:
                return
            row.is_flying = False
            row.attempts += 1
            if failure is None:
                row.state, row.error, row.ended_unix_s = DELIVERED, "", now_unix_s
                self._said.pop(row.channel, None)
                self._say("info", "delivered", channel=row.channel, message=row.message, title=row.body.get("title", ""))  # fmt: skip
            else:
                self._failed(row, failure, now_s, now_unix_s)
            self._outbox.changed(row)

    def _failed(self, row: Row, failure: NotDelivered, now_s: float, now_unix_s: float) -> None:
        row.error = str(failure)
        if self._said.get(row.channel) != row.error:
            self._said[row.channel] = row.error
            self._say("warning", "not delivered", channel=row.channel, message=row.message, why=row.error)  # fmt: skip
        is_old = now_unix_s - row.made_unix_s > PATIENCE_S
        if row.change == alerting.TOLD_TEST or (row.change in _INFORMS and is_old):
            row.state, row.ended_unix_s = DROPPED, now_unix_s
            return
        row.next_s = now_s + pause_s(row.attempts, self._chance(), failure.after_s, is_refused=failure.is_refused)  # fmt: skip

    def hand_out(self, now_s: float, now_unix_s: float) -> None:
        """Give every row that is due to its channel."""
        held: set[tuple[str, str]] = set()
        self.failing_since_unix_s = {}
        for row in list(self._outbox.waiting.values()):
            lane = self._lanes.get(row.channel)
            if lane is None:
                row.state, row.ended_unix_s = DROPPED, now_unix_s
                row.error = "this channel is not configured any more"
                self._outbox.changed(row)
                self._say("warning", "not delivered", channel=row.channel, message=row.message, why=row.error)  # fmt: skip
                continue
            if row.attempts and row.change not in _INFORMS and row.change != alerting.TOLD_TROUBLE:
                since = self.failing_since_unix_s.get(row.channel, row.made_unix_s)
                self.failing_since_unix_s[row.channel] = min(since, row.made_unix_s)
            key = (row.channel, row.alert)
            is_first = key not in held
            held.add(key)
            if is_first and not row.is_flying and row.next_s <= now_s:
                row.is_flying = True
                lane.asked.put((row, row.body))

    def refresh(self, channel: str, messages: "Iterable[dict[str, Any]]") -> None:
        """Send what a channel has to hear again and again; nobody waits for the outcome."""
        lane = self._lanes[channel]
        if lane.asked.empty():
            for message in messages:
                lane.asked.put((None, message))
