"""A collector that speaks OTLP: how does it get portions of lines, and the figures?"""

import time

from holdfast.forward import otlp
from holdfast.forward.answers import NOTHING, Refused
from holdfast.forward.posting import BadError, TooLargeError
from holdfast.forward.reading import Portion

TYPE_CHECKING = False
if TYPE_CHECKING:
    from holdfast.cli.metrics_taking import Reader
    from holdfast.forward.otlp import Resources
    from holdfast.forward.posting import Poster


class Collector:
    """Sends to one collector."""

    def __init__(self, poster: "Poster", resources: "Resources") -> None:
        self._poster = poster
        self._resources = resources

    def deliver(self, portion: Portion, node: str) -> Refused:
        """Send a portion; returns what was refused of it.

        Raises:
            NotTakenError: It has to be sent again.
        """
        body = otlp.logs(portion, node, self._resources, time.time())
        number = len(portion.lines) + len(portion.news)
        try:
            return self._poster.post("logs", body)
        except BadError as error:
            return Refused(number, str(error), error.is_general)
        except TooLargeError as error:
            halves = halved(portion)
            if not halves:
                return Refused(number, str(error))
        found = NOTHING
        for half in halves:
            found = found.and_of(self.deliver(half, node))
        return found

    def measure(self, reader: "Reader") -> Refused:
        """Take the figures of the node and send them; returns what was refused of them.

        Raises:
            NotTakenError: They were not taken; the next ones will say the same.
        """
        # Imported here: who forwards lines alone need not pay for it.
        from holdfast.forward import otlp_metrics
        from holdfast.records import metrics

        state = reader.read()
        if not reader.deaths.is_whole:
            # The journal was shortened before this life: what is left of it would be told as too few.
            state["deaths"] = None
        found = NOTHING
        for body in otlp_metrics.requests(metrics.families(state), state, self._resources, time.time()):  # fmt: skip
            try:
                found = found.and_of(self._poster.post("metrics", body))
            except BadError as error:
                found = found.and_of(Refused(otlp_metrics.points_of(body), str(error), error.is_general))  # fmt: skip
                if error.is_general:
                    break  # the others would fare no better, and the next figures say the same
            except TooLargeError as error:
                found = found.and_of(Refused(otlp_metrics.points_of(body), str(error)))
        return found


def halved(portion: Portion) -> "list[Portion]":
    """Return a portion in two; nothing where it is one entry."""
    if len(portion.lines) + len(portion.news) < 2:
        return []
    first, second = Portion(), Portion()
    middle, news = len(portion.lines) // 2, len(portion.news) // 2
    if not middle and not news:
        middle, news = len(portion.lines), 0  # one of each
    first.lines, second.lines = portion.lines[:middle], portion.lines[middle:]
    first.news, second.news = portion.news[:news], portion.news[news:]
    return [first, second]
