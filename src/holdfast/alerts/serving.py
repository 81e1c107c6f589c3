"""The alerts process: look at the node, apply the rules, write down, send. Four times a second, on the loop that beats.

A component of the house in an ordinary container, under an ordinary worker: it reads files and writes only its own (``STATE/alerts``), so that no
worker notices when it dies. The next life takes up where this one was killed: the memory of the rules, the place in the keeper's journal and the
outbox are one transaction.
"""

import asyncio
import os
import random
import sqlite3
import sys
import time

from holdfast.alerts import reading, settings, signs, wording
from holdfast.alerts.channels.alertmanager import REFRESH_S, Alertmanager
from holdfast.alerts.crashes import Crashes
from holdfast.alerts.deadman import Pinger
from holdfast.alerts.sending import PATIENCE_S, Sending
from holdfast.alerts.store import DIRECTORY, Outbox, Row, Store
from holdfast.core import alerting
from holdfast.linux import locks
from holdfast.sdk import Component
from holdfast.wire import journal, layout

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

#: Exit status of a wrong configuration, as a container's.
MISCONFIGURED = 78
TURN_S = 0.25
_TIDY_S = 3600.0
#: Where nothing was remembered, a death is news if it is not older than this.
_NEWS_S = 30.0

app = Component("alerts")


class Desk:
    """The work of one life of the process; :meth:`turn` again and again."""

    def __init__(
        self,
        run_dir: str,
        state_dir: str,
        made: settings.Alerting,
        say: "Callable[..., None]",
    ) -> None:
        self._run_dir = run_dir
        self._made = made
        self._say = say
        self._plan = reading.Plan(run_dir)
        self._journal = reading.Grown(f"{run_dir}/{layout.JOURNAL}")
        self._incidents = reading.Incidents(state_dir)
        self._deaths = signs.Deaths(end_words)
        self._crashes = Crashes(time.time())
        self._bundles = f"{state_dir}/{layout.INCIDENTS}"
        self._store = Store(state_dir)
        self._outbox = Outbox(self._store)
        self._troubled: dict[str, str] = {}  #: channel -> the message about it
        self._is_new = True
        self._complaints: dict[str, str] = {}
        self._refreshed_s = self._tidied_s = time.monotonic()
        self._rules = self._restored()
        self._sending = Sending(made.channels, self._outbox, random.random, say)
        self._pinger = Pinger(made.dead_man, say) if made.dead_man is not None else None
        if self._pinger is not None:
            self._pinger.start()

    def _restored(self) -> alerting.Desk:
        now_s = time.monotonic()
        try:
            memory = self._outbox.load()
        except (sqlite3.Error, OSError, ValueError) as error:
            self._store.close()
            self._say("error", "what was remembered cannot be read; beginning anew", path=self._store.path, why=str(error))  # fmt: skip
            self._store.set_aside(error)
            return alerting.Desk()
        try:
            rules = alerting.restore(memory.get("rules", {}), now_s)
            if "deaths" in memory:
                self._deaths.restore(memory["deaths"], now_s)
                self._is_new = False
            if "crashes" in memory:
                self._crashes.restore(memory["crashes"])
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            # Of another version. Messages on their way go on; what is wrong now is seen again.
            self._say("error", "what was remembered is not understood; beginning anew", why=repr(error))  # fmt: skip
            return alerting.Desk()
        self._troubled = dict(memory.get("troubled", {}))
        return rules

    # -- a turn ------------------------------------------------------------------------------------

    def turn(self) -> None:
        """Look, decide, write, send."""
        now_s, now_unix_s = time.monotonic(), time.time()
        self._sending.take_results(now_s, now_unix_s)
        found = self._look(now_s, now_unix_s)
        rules = alerting.Settings(needs=self._plan.needs, **self._made.measures)
        if not self._deaths.is_ending:
            # When a person takes the node down, what dies with it is nobody's trouble.
            self._tell(alerting.step(self._rules, found, rules, now_s, now_unix_s))
        self._tell_of_crashes()
        self._take_requests(now_unix_s)
        self._tell_of_channels(now_unix_s)
        self._save()
        # After the write, so that a message that went out is always on record.
        self._sending.hand_out(now_s, now_unix_s)
        self._look_after(now_s, now_unix_s)

    def _look(self, now_s: float, now_unix_s: float) -> "list[alerting.Sign]":
        try:
            self._plan.look(alerting.family)
        except (OSError, ValueError) as error:
            self._complain("plan", f"the plan cannot be read: {error}")
        else:
            self._complain("plan", "")
        self._incidents.look()
        entries = self._plan.entries
        for record in journal.each(self._journal.read()):
            age_s = now_unix_s - float(record.get("unix_s") or 0.0)
            is_history = self._is_new and age_s > _NEWS_S
            self._deaths.note(record, now_s, entries, is_history)
        self._is_new = False
        found = self._deaths.signs(now_s, self._plan.verify_s, entries, self._incidents.of)
        found += filter(None, map(signs.of_flag, reading.flags(self._run_dir)))
        return found + signs.of_house(reading.beat_ages_s(self._run_dir))

    def _tell(self, notices: "list[alerting.Notice]") -> None:
        for notice in notices:
            message = wording.message(notice, self._plan.node, self._incidents.titles, clock)
            self._say("info", message["title"], change=notice.change, alert=message["alert"])
            self._post(message)

    def _post(self, message: "dict[str, Any]", only: str = "", but: str = "") -> None:
        ways = [only] if only else self._made.ways(message)
        for name in ways:
            if name != but:
                at = message["at_unix_s"]
                self._outbox.add(Row(message["id"], name, message["alert"], message["change"], message, at))  # fmt: skip

    def _tell_of_crashes(self) -> None:
        if not self._plan.node:
            return  # a part of what makes a message the same one again
        rows = self._incidents.take()
        if self._made.reporters:
            for message in self._crashes.messages(rows, self._plan.node, self._bundles):
                self._post(message)

    def _tell_of_channels(self, now_unix_s: float) -> None:
        failing = self._sending.failing_since_unix_s
        self._troubled = {name: said for name, said in self._troubled.items() if name in failing}
        for name, since in failing.items():
            if now_unix_s - since < PATIENCE_S or name in self._troubled:
                continue
            says = f"alerts: the channel {name} has taken nothing since {clock(since)}"
            identity = f"undelivered-{name}-{int(since * 1000):x}"
            self._troubled[name] = identity
            message = wording.plain(
                alerting.TOLD_TROUBLE, identity, self._plan.node, says, now_unix_s,
                "look:  holdfast alerts outbox\n", alerting.ERROR,
            )  # fmt: skip
            self._say("error", says)
            self._post(message, but=name)

    def _save(self) -> None:
        memory = {"rules": self._rules.to_json(), "deaths": self._deaths.to_json(), "troubled": self._troubled}  # fmt: skip
        if self._made.reporters:
            memory["crashes"] = self._crashes.to_json()
        is_saved = self._outbox.save(memory)
        says = f"nothing can be written, so a kill might repeat a message: {self._store.path}: {self._outbox.trouble}"
        self._complain("store", "" if is_saved else says)

    def _complain(self, what: str, says: str) -> None:
        """Write a line when something begins to be wrong, or is wrong in another way; nothing: it is well."""
        if says and says != self._complaints.get(what):
            self._say("warning", says)
        self._complaints[what] = says

    def _look_after(self, now_s: float, now_unix_s: float) -> None:
        if self._pinger is not None:
            self._pinger.tell(now_s, *self.how_it_is())
        if now_s - self._refreshed_s >= REFRESH_S:
            self._refreshed_s = now_s
            self._refresh(now_unix_s)
        if now_s - self._tidied_s >= _TIDY_S:
            self._tidied_s = now_s
            try:
                self._store.tidy(now_unix_s)
            except (sqlite3.Error, OSError) as error:
                self._complain("tidy", f"{self._store.path}: {error}")

    def _refresh(self, now_unix_s: float) -> None:
        """Send to Alertmanagers again what has not ended: there an alert ends when nobody speaks of it."""
        names = [name for name, channel in self._made.channels.items() if isinstance(channel, Alertmanager)]  # fmt: skip
        if not names:
            return
        told = [alert for alert in self._rules.alerts.values() if alert.state != alerting.PENDING]
        messages = []
        for alert in told:
            notice = alerting.Notice(alert.id, alerting.TOLD_FIRING, alert.severity, now_unix_s, alert)  # fmt: skip
            messages.append(wording.message(notice, self._plan.node, self._incidents.titles, clock))
        for name in names:
            self._sending.refresh(name, [m for m in messages if name in self._made.ways(m)])

    def how_it_is(self) -> "tuple[bool, str]":
        """Return whether something is grave, and how the node is, for the outside."""
        told = [alert for alert in self._rules.alerts.values() if alert.state != alerting.PENDING]
        lines = [
            f"{alert.severity}  {alert.cause}: {alert.signs[0]['says'] if alert.signs else ''}"
            for alert in told
        ]
        is_grave = any(alert.severity == alerting.CRITICAL for alert in told)
        count = "1 alert" if len(told) == 1 else f"{len(told)} alerts"
        head = f"{self._plan.node}: {count if told else 'all is well'}"
        return is_grave, "\n".join([head, *lines]) + "\n"

    # -- what people want --------------------------------------------------------------------------

    def _take_requests(self, now_unix_s: float) -> None:
        try:
            wanted = self._store.requests()
        except (sqlite3.Error, OSError) as error:
            self._store.close()
            self._complain("requests", f"{self._store.path}: {error}")
            return
        for number, what, body in wanted:
            if self._outbox.is_answered(number):
                continue
            self._outbox.answer(number, self._answer(number, what, body, now_unix_s))

    def _answer(
        self, number: int, what: str, body: "dict[str, Any]", now_unix_s: float
    ) -> "dict[str, Any]":
        if what == "test":
            name = str(body.get("channel"))
            if name not in self._made.channels:
                return {"ok": False, "error": f'there is no channel "{name}"', "known": list(self._made.channels)}  # fmt: skip
            identity = f"test-{number}-{int(now_unix_s * 1000):x}"
            says = f'this is a test of the channel "{name}"; nothing is wrong'
            message = wording.plain(alerting.TOLD_TEST, identity, self._plan.node, says, now_unix_s)
            self._post(message, only=name)
            return {"ok": True, "message": identity}
        alert = alerting.find(self._rules, str(body.get("alert")))
        if alert is None:
            return {"ok": False, "error": f'there is no open alert "{body.get("alert")}"'}
        event = alerting.ACK if what == "ack" else alerting.SNOOZE
        until_unix_s = float(body.get("until_unix_s") or 0.0)
        self._tell(alerting.order(self._rules, alert, event, now_unix_s, until_unix_s))
        return {"ok": True, "alert": alert.to_json()}


def clock(unix_s: float) -> str:
    """Return a moment as a person reads it."""
    return time.strftime("%Y-%m-%d %H:%M:%S %Z", time.localtime(unix_s))


def end_words(record: "Any") -> str:
    """Return how a life ended, in words."""
    if record.get("k") == "failed_spawn":
        return f"could not be started: {record.get('error', '')}"
    status = record.get("status")
    lived = f"after {float(record.get('lived_s') or 0.0):.1f} s"
    if status is None:
        how = "ended, nobody saw how"
    elif os.WIFSIGNALED(status):
        how = f"was killed by signal {os.WTERMSIG(status)}"
    else:
        how = f"ended with status {os.waitstatus_to_exitcode(status)}"
    return f"{how} {lived}"


def say(level: str, event: str, **fields: object) -> None:
    """Write a line into the log of this worker."""
    write = {"info": app.log.info, "warning": app.log.warning}.get(level, app.log.error)
    write(event, **fields)


def _places() -> "tuple[str, str]":
    run_dir = os.environ["HOLDFAST_RUN"]
    return run_dir, os.path.realpath(f"{run_dir}/{layout.STATE_LINK}")


async def _alone(state_dir: str) -> None:
    """Wait until nobody else sends the alerts of this node."""
    os.makedirs(f"{state_dir}/{DIRECTORY}", mode=0o700, exist_ok=True)
    path = f"{state_dir}/{DIRECTORY}/alerts.lock"
    is_said = False
    while locks.take(path) is None:
        if not is_said:
            is_said = True
            app.log.warning("another process sends the alerts of this node; waiting for its end", pid=locks.holder(path))  # fmt: skip
        await asyncio.sleep(TURN_S)


@app.task
async def serve() -> None:
    """Look after the alerts until the end."""
    run_dir, state_dir = _places()
    try:
        made = settings.read(app.settings, os.environ)
    except settings.SettingsError as error:
        for line in str(error).splitlines():
            app.log.error(line)
        sys.exit(MISCONFIGURED)
    for where, why in made.broken.items():
        app.log.error("a channel is broken", where=where, why=why)
    try:
        await _alone(state_dir)
    except OSError as error:
        # Without its directory two could send, but nobody sending is worse.
        app.log.error("no lock could be taken", path=error.filename, why=error.strerror)
    desk = Desk(run_dir, state_dir, made, say)
    while not app.stopping.is_set():
        desk.turn()
        await asyncio.sleep(TURN_S)
