"""An order that a person gives by a key: what is asked first, and what is said of it afterwards?

The order goes to the keeper; then its answers are looked at until it is done, has failed, or has taken too long. So what is said was seen.
"""

import time

from holdfast.cli import waiting, words
from holdfast.cli.tops.asking import Ask
from holdfast.wire import layout

TYPE_CHECKING = False
if TYPE_CHECKING:
    from holdfast.cli.tops.node import Node, Worker

_PAST = {"start": "started", "stop": "stopped", "restart": "restarted"}
_ANSWER_S = 5.0
#: Then it is said that it takes long; the table goes on showing how it is.
_LONG_S = 60.0


class Order:
    """An order to some workers."""

    def __init__(self, node: "Node", verb: str, names: "list[str]") -> None:
        self._node = node
        self.verb = verb
        self.names = [name for name in names if name in node.by_name]
        self._left: list[str] = []
        self._asks: dict[str, Ask] = {}
        self._before: dict[str, Worker] = {}
        self._began_s = 0.0
        self._done: list[str] = []
        self._failed: list[str] = []

    def question(self) -> str:
        """Return what the person is asked."""
        if len(self.names) == 1:
            worker = self._node.by_name[self.names[0]]
            pid = f" (pid {worker['pid']})" if worker["pid"] else f" ({worker['state']})"
            return f"{self.verb} {self.names[0]}{pid}?"
        some = ", ".join(self.names[:3]) + (" …" if len(self.names) > 3 else "")
        return f"{self.verb} {len(self.names)} workers ({some})?"

    def give(self) -> None:
        """Send it."""
        self._began_s = time.monotonic()
        path = f"{self._node.where.run_dir}/{layout.socket('keeper')}"
        for name in self.names:
            self._before[name] = dict(self._node.by_name[name])
            what = {"do": self.verb, "worker": name, "by": "user"}
            self._asks[name] = Ask(path, what, _ANSWER_S)

    def asking(self) -> "list[Ask]":
        """Return the questions that are open."""
        return [ask for ask in self._asks.values() if not ask.is_over]

    def look(self) -> "tuple[str, str] | None":
        """Return what has come of it and a style, or None while that is not known."""
        for name, ask in list(self._asks.items()):
            if not ask.is_over:
                ask.step()
            if not ask.is_over:
                continue
            del self._asks[name]
            if ask.reply is None:
                self._failed.append(f"{name}: the keeper did not take the order")
            elif not ask.reply.get("ok"):
                self._failed.append(f"{name}: {ask.reply.get('error') or 'the keeper refused'}")
            else:
                self._left.append(name)
        took_s = time.monotonic() - self._began_s
        for name in list(self._left):
            now = self._node.by_name.get(name)
            if now is None:
                self._left.remove(name)
                self._failed.append(f"{name}: it is not in the plan any more")
            elif self._is_over(self._before[name], now):
                self._left.remove(name)
                self._note(name, now, took_s)
        if self._asks or (self._left and took_s < _LONG_S):
            return None
        for name in self._left:
            state = self._node.by_name[name]["state"]
            self._failed.append(f"{name}: not {_PAST[self.verb]} after {words.span(took_s)}: it is {state}")  # fmt: skip
        self._left.clear()
        return self._result()

    def _is_over(self, before: "Worker", now: "Worker") -> bool:
        if self.verb == "stop":
            return not now["pid"] and now["state"] in ("down", "failed", "done")
        old_n = before.get("n", 0)
        if self.verb == "start" and not before["pid"]:
            is_new = now.get("n", 0) > old_n
        else:
            is_new = self.verb == "start" or now.get("n", 0) > old_n
        if is_new and (waiting.is_serving(now) or now["state"] == "failed"):
            return True
        return now.get("n", 0) > old_n and waiting.has_failed(now, old_n + 1)

    def _note(self, name: str, now: "Worker", took_s: float) -> None:
        is_done = now["state"] in (("down",) if self.verb == "stop" else ("running", "done"))
        if is_done:
            pid = f", pid {now['pid']}" if now["pid"] else ""
            self._done.append(f"{name}: {_PAST[self.verb]} ({now['state']}{pid}, {took_s:.1f} s)")
        else:
            self._failed.append(f"{name}: not {_PAST[self.verb]}: it is {now['state']}{waiting.because(now)}")  # fmt: skip

    def _result(self) -> "tuple[str, str]":
        if self._failed:
            more = f" (and {len(self._failed) - 1} more; {len(self._done)} done)" if len(self._failed) > 1 else ""  # fmt: skip
            return self._failed[0].split("\n", 1)[0] + more, "red"
        if len(self._done) == 1:
            return self._done[0], "green"
        return f"{words.count(len(self._done), 'worker')} {_PAST[self.verb]}", "green"
