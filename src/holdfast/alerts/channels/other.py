"""Everything else, through Apprise (an extra: ``pip install holdfast[apprise]``).

Apprise is large (some 40 MB), so it runs in a child process for one message at a time and never in this one. The URLs, which hold the secrets,
and the text go in by stdin.
"""

import json
import subprocess
import sys

from holdfast.alerts.channels.channel import NotDelivered
from holdfast.core import alerting

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_MUTE = (alerting.TOLD_ACK, alerting.TOLD_SNOOZE)
_MISSING = 3
_CHILD = """
import json, sys
asked = json.load(sys.stdin)
try:
    import apprise
except ImportError:
    sys.exit(3)
out = apprise.Apprise()
for url in asked["urls"]:
    if not out.add(url):
        sys.exit(4)
sys.exit(0 if out.notify(body=asked["body"], title=asked["title"], notify_type=asked["type"]) else 5)
"""
_TYPES = {"critical": "failure", "error": "failure", "warning": "warning"}


class Apprise:
    """Some Apprise URLs."""

    def __init__(self, urls: "list[str]", timeout_s: float) -> None:
        self._urls = urls
        self._timeout_s = timeout_s

    def wants(self, message: "dict[str, Any]") -> bool:
        """Whether somebody wants to read it."""
        return message["change"] not in _MUTE

    def deliver(self, message: "dict[str, Any]") -> None:
        """Notify."""
        kind = _TYPES.get(message["severity"], "info")
        if message["change"] == alerting.TOLD_RESOLVED:
            kind = "success"
        asked = {
            "urls": self._urls,
            "title": message["title"],
            "body": message["text"],
            "type": kind,
        }
        try:
            done = subprocess.run(
                [sys.executable, "-P", "-c", _CHILD], input=json.dumps(asked).encode(), stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL, timeout=self._timeout_s, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise NotDelivered(f"apprise took longer than {self._timeout_s:g} s") from None
        if done.returncode == _MISSING:
            says = "apprise is not installed here: pip install holdfast[apprise]"
            raise NotDelivered(says, is_refused=True)
        if done.returncode:
            what = "does not understand one of its URLs" if done.returncode == 4 else "could not notify everybody"  # fmt: skip
            raise NotDelivered(f"apprise {what}", is_refused=done.returncode == 4)
