"""How do people hear of what was seen from outside? By the rules and the channels of a node's alerts.

A thread of its own, four times a second and when another thing is believed: beliefs in, notices into the outbox, outbox to the channels. What is believed, what was told and
what waits to be delivered is one transaction in ``STATE/alerts/alerts.db``, so a kill at any instant tells nobody twice and forgets
nothing, and `holdfast alerts --state STATE` lists, acknowledges and snoozes here as in a node. A disk that hangs holds up this thread, not the
looks; should the thread fail, the process ends, because a prober that tells nobody is worse than one that is seen to be gone.
"""

import os
import random
import sqlite3
import sys
import threading
import time
import traceback
from typing import TYPE_CHECKING, Any

from holdfast.alerts import settings, wording
from holdfast.alerts.channels.alertmanager import REFRESH_S, Alertmanager
from holdfast.alerts.deadman import Pinger
from holdfast.alerts.sending import Sending
from holdfast.alerts.serving import clock
from holdfast.alerts.store import DIRECTORY, Outbox, Row, Store
from holdfast.core import alerting, outside
from holdfast.linux import locks
from holdfast.model.errors import AlreadyRunning, NodeError

if TYPE_CHECKING:
    from collections.abc import Callable

    from holdfast.cli.probes.load import Probes
    from holdfast.cli.probes.running import Watch

TURN_S = 0.25
_TIDY_S = 3600.0
_STATUS_OF_A_MISTAKE = 70


class _Voice:
    """The causes of these alerts are probes."""

    def __init__(self, probes: "Probes") -> None:
        self._path, self._state_dir = probes.path, probes.state_dir

    def subject(self, alert: alerting.Alert) -> str:
        """Return whom an alert is about."""
        if alert.cause == alerting.STORM:
            return f"{len(alert.members)} more {'probe' if len(alert.members) == 1 else 'probes'} at once"
        return f"probe {alert.cause}"

    def look(self, alert: alerting.Alert) -> list[str]:
        """Return what to type."""
        names = "" if alert.cause.startswith("@") else f" {alert.cause}"
        return [
            f"look:  holdfast probe --once {self._path}{names}",
            f"quiet: holdfast alerts ack {alert.id} --state {self._state_dir}",
        ]


def take_lock(probes: "Probes", say: "Callable[..., None]") -> None:
    """Be the only one who looks for this state directory.

    Raises:
        AlreadyRunning: Somebody else does.
    """
    directory = f"{probes.state_dir}/{DIRECTORY}"
    path = f"{directory}/alerts.lock"
    try:
        os.makedirs(directory, mode=0o700, exist_ok=True)
        taken = locks.take(path)
    except OSError as error:
        # Without it two could tell of the same, but nobody telling is worse.
        says = "no lock could be taken, and nothing will survive a kill"
        say("error", says, path=directory, why=error.strerror)
        return
    if taken is None:
        msg = (
            f"{probes.state_dir}: process {locks.holder(path)} looks for this state directory already\n"
            "  a second one needs another state_dir; for a look in between:  holdfast probe --once"
        )
        raise AlreadyRunning(msg)


def read_settings(probes: "Probes", say: "Callable[..., None]") -> settings.Alerting | None:
    """Return the channels and routes; None when nobody is to be told.

    Raises:
        NodeError: The settings contradict themselves.
    """
    if probes.alerts is None:
        return None
    try:
        made = settings.read(probes.alerts, os.environ, os.path.dirname(probes.path))
    except settings.SettingsError as error:
        raise NodeError(f"{probes.path}: {error}") from None
    for where, why in made.broken.items():
        say("error", "a channel is broken", where=where, why=why)
    return made


class Teller(threading.Thread):
    """Tells people, until the process ends."""

    def __init__(self, probes: "Probes", watch: "Watch", made: settings.Alerting, say: "Callable[..., None]") -> None:  # fmt: skip
        super().__init__(name="holdfast.probe.alerts", daemon=True)
        self._probes, self._watch, self._made, self._say = probes, watch, made, say
        self._voice = _Voice(probes)
        self._needs = {probe.name: probe.after for probe in probes.probes}
        #: So long it takes to believe that a probe is down.
        self._waits_s = {
            p.name: outside.longest_s(p.rule, p.again_s, p.again_s, p.timeout_s, hangs=True)
            for p in probes.probes
        }
        self._news = threading.Event()
        self._rules_of = alerting.Settings(needs=self._needs, **made.measures)
        self._store = Store(probes.state_dir)
        self._outbox = Outbox(self._store)
        self._complaint = ""
        self._tidied_s = self._refreshed_s = time.monotonic()
        self._rules = self._restored()
        self._store.close()  # SQLite wants to be opened by the thread that goes on with it
        self._sending = Sending(made.channels, self._outbox, random.random, say)
        self._pinger = Pinger(made.dead_man, say) if made.dead_man is not None else None

    def _restored(self) -> alerting.Desk:
        now_s = time.monotonic()
        try:
            memory = self._outbox.load()
        except (sqlite3.Error, OSError, ValueError) as error:
            self._store.close()
            says = "what was remembered cannot be read; beginning anew"
            self._say("error", says, path=self._store.path, why=str(error))
            self._store.set_aside(error)
            return alerting.Desk()
        try:
            rules = alerting.restore(memory.get("rules", {}), now_s)
            self._watch.restore(memory.get("probes", {}), now_s)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            # Of another version. Messages on their way go on; what is down now is seen again.
            self._say(
                "error", "what was remembered is not understood; beginning anew", why=repr(error)
            )
            return alerting.Desk()
        return rules

    def run(self) -> None:
        """Tell."""
        if self._pinger is not None:
            self._pinger.start()
        try:
            while True:
                self.turn()
                self._news.wait(TURN_S)
                self._news.clear()
        except BaseException:  # noqa: BLE001 -- the outermost loop: to be seen dead is better than to be silent
            sys.stderr.write(traceback.format_exc())
            sys.stderr.flush()
            os._exit(_STATUS_OF_A_MISTAKE)

    def hurry(self) -> None:
        """Turn at once: something else is believed; a quarter of a second matters to who waits for a page."""
        self._news.set()

    def turn(self) -> None:
        """Look at what is believed, decide, write, send."""
        now_s, now_unix_s = time.monotonic(), time.time()
        self._sending.take_results(now_s, now_unix_s)
        self._tell(alerting.step(self._rules, self.signs(now_s), self._rules_of, now_s, now_unix_s))
        self._take_requests(now_unix_s)
        beliefs = self._watch.to_json()
        is_saved = self._outbox.save({"rules": self._rules.to_json(), "probes": beliefs})
        self._complain(
            ""
            if is_saved
            else f"nothing can be written, so a kill might repeat a message: {self._outbox.trouble}"
        )
        # After the write, so that a message that went out is always on record.
        self._sending.hand_out(now_s, now_unix_s)
        self._look_after(now_s, now_unix_s)

    def signs(self, now_s: float) -> list[alerting.Sign]:
        """Return what is wrong now, without what may turn out to follow from something else."""
        told = {
            alert.cause for alert in self._rules.alerts.values() if alert.state != alerting.PENDING
        }
        found = []
        for name, probe in self._watch.probes.items():
            belief = self._watch.beliefs[name]
            if belief.state not in (outside.DOUBT, outside.DOWN):
                continue
            causes = self._causes(name)
            is_open = any(
                outside.is_riddle(belief, self._watch.beliefs[c], self._waits_s[c], now_s)
                for c in causes
            )
            if is_open and name not in told:
                continue
            result = self._watch.results.get(name)
            says = (
                result.says
                if result is not None and not result.is_good
                else "it failed, and has not been good often enough since"
            )
            state = alerting.BAD if belief.state == outside.DOWN else alerting.DOUBTFUL
            found.append(alerting.Sign(name, probe.kind, state, says))
        return found

    def _causes(self, name: str) -> list[str]:
        found: list[str] = []
        waiting = list(self._needs[name])
        while waiting:
            one = waiting.pop()
            if one not in found and one != name:
                found.append(one)
                waiting += self._needs[one]
        return found

    # -- messages ----------------------------------------------------------------------------------

    def _tell(self, notices: list[alerting.Notice]) -> None:
        for notice in notices:
            made = self._message(notice)
            self._say("info", made["title"], change=notice.change, alert=made["alert"])
            self._post(made)

    def _message(self, notice: alerting.Notice) -> dict[str, Any]:
        if notice.change != alerting.TOLD_DIGEST:
            return wording.message(notice, self._probes.name, {}, clock, self._voice)
        many = len(notice.entries)
        says = f"nothing to do: {many} {'failure' if many == 1 else 'failures'} went away before anybody had to hear of it"
        lines = [
            f"{clock(one['since_unix_s'])}  {one['cause']}: {one['says']}\n"
            for one in notice.entries
        ]
        return wording.plain(
            notice.change,
            notice.id,
            self._probes.name,
            says,
            notice.at_unix_s,
            "\n" + "".join(lines),
        )

    def _post(self, message: dict[str, Any], only: str = "") -> None:
        for name in [only] if only else self._made.ways(message):
            self._outbox.add(
                Row(
                    message["id"],
                    name,
                    message["alert"],
                    message["change"],
                    message,
                    message["at_unix_s"],
                )
            )

    def _complain(self, says: str) -> None:
        if says and says != self._complaint:
            self._say("warning", says, path=self._store.path)
        self._complaint = says

    def _look_after(self, now_s: float, now_unix_s: float) -> None:
        if self._pinger is not None and self._watch.is_timely(now_s):
            down = [
                name for name, belief in self._watch.beliefs.items() if belief.state == outside.DOWN
            ]
            text = (
                f"{self._probes.name}: {len(self._watch.probes)} probes, {len(down)} down\n"
                + "".join(f"{name}\n" for name in down)
            )
            # What is down was told by the channels; this says only that somebody looks.
            self._pinger.tell(now_s, False, text)
        if now_s - self._refreshed_s >= REFRESH_S:
            self._refreshed_s = now_s
            self._refresh(now_unix_s)
        if now_s - self._tidied_s >= _TIDY_S:
            self._tidied_s = now_s
            try:
                self._store.tidy(now_unix_s)
            except (sqlite3.Error, OSError) as error:
                self._complain(str(error))

    def _refresh(self, now_unix_s: float) -> None:
        """Send to Alertmanagers again what has not ended: there an alert ends when nobody speaks of it."""
        names = [
            name
            for name, channel in self._made.channels.items()
            if isinstance(channel, Alertmanager)
        ]
        told = [alert for alert in self._rules.alerts.values() if alert.state != alerting.PENDING]
        messages = [
            self._message(alerting.Notice(a.id, alerting.TOLD_FIRING, a.severity, now_unix_s, a))
            for a in told
        ]
        for name in names:
            self._sending.refresh(name, [one for one in messages if name in self._made.ways(one)])

    # -- what people want --------------------------------------------------------------------------

    def _take_requests(self, now_unix_s: float) -> None:
        try:
            wanted = self._store.requests()
        except (sqlite3.Error, OSError) as error:
            self._store.close()
            self._complain(str(error))
            return
        for number, what, body in wanted:
            if not self._outbox.is_answered(number):
                self._outbox.answer(number, self._answer(number, what, body, now_unix_s))

    def _answer(
        self, number: int, what: str, body: dict[str, Any], now_unix_s: float
    ) -> dict[str, Any]:
        if what == "test":
            name = str(body.get("channel"))
            if name not in self._made.channels:
                return {
                    "ok": False,
                    "error": f'there is no channel "{name}"',
                    "known": list(self._made.channels),
                }
            identity = f"test-{number}-{int(now_unix_s * 1000):x}"
            says = f'this is a test of the channel "{name}"; nothing is wrong'
            self._post(
                wording.plain(alerting.TOLD_TEST, identity, self._probes.name, says, now_unix_s),
                only=name,
            )
            return {"ok": True, "message": identity}
        alert = alerting.find(self._rules, str(body.get("alert")))
        if alert is None:
            return {"ok": False, "error": f'there is no open alert "{body.get("alert")}"'}
        event = alerting.ACK if what == "ack" else alerting.SNOOZE
        until_unix_s = float(body.get("until_unix_s") or 0.0)
        self._tell(alerting.order(self._rules, alert, event, now_unix_s, until_unix_s))
        return {"ok": True, "alert": alert.to_json()}
