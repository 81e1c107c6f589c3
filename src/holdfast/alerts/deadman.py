"""How does somebody outside learn that this machine has died? By not hearing from it.

Each ``every`` seconds a POST to a URL (healthchecks.io, or any other that raises an alarm when it stops); ``/fail`` is appended when something grave is
known, so nobody waits for the silence. A thread of its own, but it pings on facts only: when the loop that looks at the node has not looked for a
while, the pings stop. A beat of a thread beside the thing it vouches for would be worth nothing.
"""

import threading
import time
from urllib.parse import urlsplit, urlunsplit

from holdfast.alerts.channels import http
from holdfast.alerts.channels.channel import NotDelivered

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from holdfast.alerts.settings import DeadMan

#: Facts older than this are none.
_STALE_S = 20.0
#: healthchecks.io keeps 100 kB of a body.
_BODY = 10_000


class Pinger(threading.Thread):
    """Pings until the process ends."""

    def __init__(self, settings: "DeadMan", say: "Callable[..., None]") -> None:
        super().__init__(name="holdfast.deadman", daemon=True)
        self._settings = settings
        self._say = say
        self._facts: tuple[float, bool, str] | None = None
        self._news = threading.Event()
        self._said = ""

    def tell(self, now_s: float, is_grave: bool, text: str) -> None:
        """Say how the node is; from bad to worse or back is passed on at once."""
        before = self._facts
        self._facts = (now_s, is_grave, text)
        if before is None or before[1] != is_grave:
            self._news.set()

    def run(self) -> None:
        """Ping."""
        while True:
            self._news.wait(self._settings.every_s)
            self._news.clear()
            facts = self._facts
            if facts is None or time.monotonic() - facts[0] > _STALE_S:
                continue
            self._ping(*facts[1:])

    def _ping(self, is_grave: bool, text: str) -> None:
        url = failing(self._settings.url) if is_grave else self._settings.url
        data = text.encode("utf-8", "replace")[:_BODY]
        headers = {"Content-Type": "text/plain; charset=utf-8", "User-Agent": "Holdfast"}
        try:
            http.send(url, data, headers, timeout_s=self._settings.timeout_s)
        except NotDelivered as error:
            if str(error) != self._said:
                self._said = str(error)
                self._say("warning", "the dead-man ping is not taken", why=self._said)
        else:
            if self._said:
                self._said = ""
                self._say("info", "the dead-man ping is taken again")


def failing(url: str) -> str:
    """Return the address that says that something is grave: ``/fail`` after the path."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(path=f"{parts.path.rstrip('/')}/fail"))
