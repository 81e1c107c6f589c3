"""Who of a worker's components is the culprit: follows the deaths, orders the splits, says what came out.

The rules are :mod:`holdfast.core.isolate`'s, and they decide from what is on record (the keeper's journal, the plan that runs): a watchdog
that was killed reads both again and decides the same. An order that the keeper has carried out already changes nothing when
it is given again. Direct evidence is what the evidence process found on the crashing stack, waited for at most
``_PATIENCE_S``, or else the note in the exit record (whose code ran last).
"""

import time

from holdfast.core import isolate, parts
from holdfast.linux import files
from holdfast.linux import system as os
from holdfast.wire import layout
from holdfast.wire.jsonlite import dumps, loads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from holdfast.watchdog.digest import Digest, Family
    from holdfast.watchdog.engine import Engine
    from holdfast.watchdog.keeper_line import KeeperLine
    from holdfast.watchdog.orders import Orders

#: So long we wait for what the crashing stack says: it knows better than a note whose code it was.
_PATIENCE_S = 1.0
#: What a split has shown is looked at so often where nothing happens.
_FIND_S = 5.0
#: The incident of a death is waited for this long before its timeline goes without our line.
_NOTE_S = 60.0


class Isolating:
    """The workers of several components."""

    __slots__ = (
        "_asked", "_deaths", "_due_s", "_engine", "_families", "_find_s", "_keeper", "_notes", "_orders", "_said", "_since_s",
        "_state_dir",
    )  # fmt: skip

    def __init__(self, engine: "Engine", keeper: "KeeperLine", orders: "Orders") -> None:
        self._engine = engine
        self._keeper = keeper
        self._orders = orders
        self._state_dir = ""
        self._families: dict[str, Family] = {}
        self._deaths: dict[str, list[isolate.Death]] = {}
        self._due_s: dict[str, float] = {}  #: since when a split is due
        self._since_s: dict[str, float] = {}  #: monotonic time of each last split
        self._asked: set[str] = set()  #: the keeper has our order and has not answered
        self._said: dict[str, str] = {}
        self._notes: list[tuple[float, int, str]] = []  #: until, number of the death, sentence
        self._find_s = 0.0

    # -- what is on record ---------------------------------------------------------------------------

    def adopt_plan(self, plan: "Digest") -> None:
        """Take up which workers may be split and how they are."""
        self._families = plan.families
        self._state_dir = plan.state_dir
        self._asked.clear()
        ago_s = time.monotonic() - time.time()
        self._since_s = {w: f["since_unix_s"] + ago_s for w, f in plan.families.items()}
        for gone in self._said.keys() - plan.families.keys():
            del self._said[gone]

    def record(self, record: "dict[str, Any]") -> None:
        """Follow one record of the keeper's journal."""
        death = isolate.follow(self._deaths, record, is_oom=record.get("kind") == "oom")
        if death is None:
            return
        if len(death.components) == 1:
            self._find_s = 0.0  # it died alone: what that shows is said at once
        elif not death.is_sure:
            # A watchdog before us may have had the evidence already.
            key = f"exit-{death.seq}"
            self.evidence(key, self._orders.outcome(key)[1])

    def evidence(self, key: str, incident: "str | None") -> None:
        """Evidence of a death is complete: see whom it accuses."""
        number = key.removeprefix("exit-")
        if incident is None or not number.isdigit():
            return
        death = next((d for ds in self._deaths.values() for d in ds if d.seq == int(number)), None)
        if death is None or death.is_sure:
            return
        path = f"{self._state_dir}/{layout.INCIDENTS}/{os.path.basename(incident)}/incident.json"

        def read(content: object) -> None:
            try:
                record = loads(content.decode()) if isinstance(content, bytes) else None
            except ValueError:
                record = None
            named = record.get("component") if type(record) is dict else None
            kind = record.get("kind") if type(record) is dict else None
            # What ran when memory ran out is chance.
            if named in death.components and kind in ("crash", "exit", "hang"):
                death.blamed = str(named)
            death.is_sure = True
            self.decide(parts.family(death.worker))

        self._engine.aside(lambda: files.read(path), read)

    # -- what follows --------------------------------------------------------------------------------

    def tick(self, now_s: float) -> None:
        """Once a second and after news: order what is due, say what came out, make whole what was mended."""
        for whole in list(self._deaths):
            self.decide(whole)
        self._write_notes(now_s)
        if now_s >= self._find_s:
            self._find_s = now_s + _FIND_S
            for whole, family in self._families.items():
                if len(family["parts"]) > 1:
                    self._find(whole, family, now_s)

    def decide(self, whole: str) -> None:
        """Order the split that the deaths of a worker ask for."""
        family, deaths = self._families.get(whole), self._deaths.get(whole)
        if family is None or not deaths or whole in self._asked:
            return
        due = isolate.decide(
            family["parts"], deaths, fan=family["fan"], window_s=family["window_s"]
        )
        if due is None:
            self._due_s.pop(whole, None)
            return
        # From the first time on: of deaths in quick succession only some are written up.
        until_s = self._due_s.setdefault(whole, time.monotonic()) + _PATIENCE_S
        own = [death for death in deaths if death.worker == due.worker]
        if not any(death.is_sure for death in own) and time.monotonic() < until_s:
            self._engine.at(until_s, lambda: self.decide(whole))
            return
        self._asked.add(whole)
        number = deaths[-1].seq

        def reply(answer: "dict[str, Any] | None") -> None:
            self._asked.discard(whole)
            if answer is None:
                return  # the keeper is being restarted; the next tick asks again
            if not answer.get("ok"):
                self._engine.say(f"the keeper does not split {due.worker}: {answer.get('error')}")
                # Another plan runs than the one we know: asked again when we know that one.
                self._asked.add(whole)
            elif not answer.get("note"):
                shown = "; ".join(
                    f"{name} ({', '.join(members)})" for name, members in answer["parts"].items()
                )
                self._note(number, f"worker {due.worker} was split: {due.why}. It runs as {shown}")

        self._engine.say(f"worker {due.worker}: {due.why}")
        self._keeper.ask(
            {
                "do": "isolate", "worker": due.worker, "parts": due.groups, "by": "watchdog", "why": due.why,
            },
            reply,
        )  # fmt: skip

    def _find(self, whole: str, family: "Family", now_s: float) -> None:
        deaths, since_s = self._deaths.get(whole, []), self._since_s[whole]
        found = isolate.find(family["parts"], deaths, since_s=since_s, now_s=now_s)
        who = " ".join([found.kind, *sorted(name for name, _ in found.culprits)])
        if found.kind != isolate.SEARCHING and self._said.get(whole) != who:
            self._said[whole] = who
            self._engine.say(f"worker {whole}: {found.says}")
            if deaths:
                self._note(deaths[-1].seq, f"worker {whole}: {found.says}")
        if isolate.is_mended(deaths, since_s=since_s, now_s=now_s) and whole not in self._asked:
            self._asked.add(whole)
            why = f"all parts have lived well for {isolate.REJOIN_S / 3600:.0f} h"
            self._keeper.ask(
                {"do": "rejoin", "worker": whole, "by": "watchdog", "why": why},
                lambda _: self._asked.discard(whole),
            )
            self._deaths.pop(whole, None)

    # -- the timeline --------------------------------------------------------------------------------

    def _note(self, number: int, says: str) -> None:
        self._notes.append((time.monotonic() + _NOTE_S, number, says))
        self._write_notes(time.monotonic())

    def _write_notes(self, now_s: float) -> None:
        for note in self._notes[:]:
            until_s, number, says = note
            _, incident = self._orders.outcome(f"exit-{number}")
            if incident is None and now_s < until_s:
                continue  # its evidence is still being taken
            self._notes.remove(note)
            if incident is not None:
                self._append(incident, says)

    def _append(self, incident: str, says: str) -> None:
        path = f"{self._state_dir}/{layout.INCIDENTS}/{os.path.basename(incident)}/timeline.jsonl"
        row = {"unix_s": time.time(), "what": "isolation", "says": says}

        def written(result: object) -> None:
            if isinstance(result, OSError):
                self._engine.say(f"cannot write into the timeline of {incident}: {result.strerror}")

        self._engine.aside(lambda: files.append(path, dumps(row).encode() + b"\n"), written)
