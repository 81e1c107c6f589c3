"""Which deaths become incidents, and none of them twice or never.

The order of writing is what makes that so: the order for the evidence first (its key is the number of the journal's
record, so writing it again changes nothing), then how far the journal has been dealt with (``watchdog.seen``), then the
process. A watchdog killed between any two of these does the rest again when it comes back.
"""

import time

from holdfast.core.detect import cause
from holdfast.core.detect.storm import Storm
from holdfast.core.ladder import CLOSED, believed_after_s
from holdfast.linux import cgroup, files
from holdfast.linux import system as os
from holdfast.watchdog.cases import KINDS
from holdfast.wire import layout
from holdfast.wire.jsonlite import dumps, loads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from holdfast.watchdog.cases import Cases
    from holdfast.watchdog.orders import Orders
    from holdfast.watchdog.wards import Roll, Ward

    Record = dict[str, Any]


class Deaths:
    """The register of deaths."""

    __slots__ = (
        "_believed_s", "_cases", "_died_s", "_node", "_orders", "_path", "_roll", "_stormy", "_unplaced", "_unwritten", "lately", "looping", "seen",
        "verify_s",
    )  # fmt: skip

    def __init__(
        self, run_dir: str, node: str, roll: "Roll", orders: "Orders", cases: "Cases"
    ) -> None:
        self._path = f"{run_dir}/{layout.SEEN}"
        self._node = node
        self._roll = roll
        self._orders = orders
        self._cases = cases
        self._stormy: dict[str, Ward] = {}
        self._died_s: dict[str, float] = {}  #: when each worker died last
        self._believed_s: dict[
            str, float
        ] = {}  #: how long those with an open incident have to live until it is over; the others: verify_s
        self._unplaced: list[Record] = []
        self._unwritten = False
        self.seen = 0
        self.lately = 0  #: deaths since the last tick
        self.looping: dict[
            str, Ward
        ] = {}  #: those in a crash loop; whoever finds that it is over takes it out
        self.verify_s = 10.0

    def load(self) -> None:
        """Take up what an earlier watchdog knew; a missing or damaged file means: nothing."""
        try:
            known = loads(files.read(self._path).decode())
            self.seen = int(known["seq"])
            for name, (record, folded) in known["storms"].items():
                ward = self._roll.by_name.get(name)
                if ward is not None:
                    ward.storm = Storm(0.0, record, int(folded))
                    self._stormy[name] = ward
            for name, key in known["open"].items():
                ward = self._roll.by_name.get(name)
                if ward is not None:
                    ward.open_key = str(key)
                    self._believed_s[name] = float(known.get("believed", {}).get(name, 0.0))
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return

    def note(self, ward: "Ward | None", record: "Record") -> None:
        """Take note of one record; those that were dealt with before are told by their number."""
        seq = record["seq"]
        if seq <= self.seen:
            if record["k"] in ("exit", "failed_spawn") and ward is not None:
                self._note_loop(ward, record)
            return
        self.seen = seq
        if ward is None or record["k"] not in ("exit", "failed_spawn"):
            return
        self._unwritten = True
        before_s, died_s = (
            self._died_s.get(ward.name),
            float(record.get("mono_s") or time.monotonic()),
        )
        if record.get("cause") in ("died", "remedy") and record.get("role", "main") == "main":
            self._died_s[ward.name] = died_s
        if record.get("cause") in ("stop", "restart", "apply") and record.get("role") == "main":
            self.close(ward)
        if is_incident(record):
            self.lately += 1
            lived_s = record.get("lived_s", 0.0)
            record["kind"] = self._kind(ward, record)
            if ward.open_key:
                if lived_s >= self._believed(ward):
                    self._cases.verdict(ward.open_key, "cured")
                else:
                    self._cases.verdict(ward.open_key, "came_back", lived_s)
                ward.open_key = ""
            since_s = died_s - before_s if before_s is not None else None
            self._believed_s[ward.name] = believed_after_s(self.verify_s, lived_s, since_s)
            if ward.storm is None:
                ward.storm = Storm()
            self._stormy[ward.name] = ward
            due = ward.storm.death(record, time.monotonic())
            if due is not None:
                self._write_up(ward, *due)
        self._note_loop(ward, record)

    def _note_loop(self, ward: "Ward", record: "Record") -> None:
        following = record.get("next")
        ward.looping = following if following in ("slow", "down") else ""
        if ward.looping:
            self.looping[ward.name] = ward
        if ward.looping and ward.open_key:
            self._cases.expect_evidence(ward.name, "crash_loop", ward.open_key)
        if ward.looping == "down" and ward.open_key:
            self._cases.verdict(ward.open_key, "gave_up")
            ward.open_key = ""

    def settle(self) -> None:
        """After a batch of records: write how far we are. Nothing is written when nothing happened."""
        if not self._unwritten:
            return
        storms = {
            n: [w.storm.pending, w.storm.folded]
            for n, w in self._stormy.items()
            if w.storm and w.storm.pending
        }
        opened = {w.name: w.open_key for w in self._roll.by_name.values() if w.open_key}
        believed = {name: self._believed_s[name] for name in opened if name in self._believed_s}
        seq = min([self.seen, *(order["seq"] - 1 for order in self._unplaced)])
        try:
            files.write_atomic(
                self._path,
                dumps(
                    {"seq": seq, "storms": storms, "open": opened, "believed": believed}
                ).encode(),
            )
        except OSError:
            return  # the memory disk is full; tried again at the next tick
        self._unwritten = False

    def tick(self, now_s: float) -> None:
        """Write up deaths that were folded, and give verdicts on restarts that have lasted."""
        self.lately = 0
        for order in self._unplaced[:]:
            if self._orders.place(order):
                self._unplaced.remove(order)
                self._unwritten = True
        for name, ward in list(self._stormy.items()):
            due = ward.storm.due(now_s) if ward.storm is not None else None
            if due is not None:
                self._write_up(ward, *due)
                self._unwritten = True
            elif ward.open_key and ward.pid and now_s - ward.started_s >= self._believed(ward):
                self._cases.verdict(ward.open_key, "cured")
                ward.open_key = ""
                self._unwritten = True
            if not ward.open_key and (ward.storm is None or ward.storm.pending is None):
                ward.storm = None
                del self._stormy[name]
        self.settle()

    def _believed(self, ward: "Ward") -> float:
        return max(self.verify_s, self._believed_s.get(ward.name, 0.0))

    def close(self, ward: "Ward") -> None:
        """A person took over, or the worker leaves the plan: nobody can tell any more whether the restart helped."""
        if ward.open_key:
            self._cases.verdict(ward.open_key, CLOSED)
            ward.open_key = ""
            self._unwritten = True

    def resume(self) -> None:
        """After the journal was read for the first time: what waits for a verdict goes on waiting."""
        for ward in self._roll.by_name.values():
            if ward.open_key:
                self._stormy[ward.name] = ward

    def _write_up(self, ward: "Ward", record: "Record", folded: int) -> None:
        key = f"exit-{record['seq']}"
        order = {
            "key": key, "kind": record["kind"], "worker": record["worker"], "n": record.get("n", 0),
            "pid": record.get("pid") or 0, "status": record.get("status"), "lived_s": record.get("lived_s", 0.0),
            "seq": record["seq"], "flag": None, "unix_s": record["unix_s"], "deadline_s": 20.0, "live": False,
            "coalesced": folded, "restarts": record.get("restarts", 0), "deaths": record.get("deaths", 0),
            "error": record.get("error"), "components": record.get("components"),
        }  # fmt: skip
        died_s = self._died_s.get(ward.name, time.monotonic())
        because = cause.root(ward.name, self._needs, self._died_s, died_s)
        if because:
            # One cause, one alarm: whoever needs the worker that died first is a consequence.
            order["because"] = {"worker": because, "key": self._roll.by_name[because].open_key}
        if not self._orders.place(order):
            self._unplaced.append(order)
        ward.open_key = key

    def _needs(self, name: str) -> "list[str]":
        ward = self._roll.by_name.get(name)
        return ward.spec.needs if ward is not None else []

    def _kind(self, ward: "Ward", record: "Record") -> str:
        if record["k"] == "failed_spawn":
            return "start"
        if record.get("cause") == "remedy":
            return KINDS.get(record.get("flag", ""), record.get("flag") or "hang")
        status = record.get("status")
        if status == 9 and ward.spec.memory_bytes:
            before, ward.oom_kills = ward.oom_kills, cgroup.oom_kills(self._node, ward.name)
            if before is not None and (ward.oom_kills or 0) > before:
                return "oom"
        return "exit" if status is not None and os.WIFEXITED(status) else "crash"


def is_incident(record: "Record") -> bool:
    """Whether a death is to be written up.

    A person's stop is none, nor is a clean end. A remedy whose incident is on record already (evidence was taken
    before it) would only be told twice.
    """
    if record["k"] == "failed_spawn":
        return True
    if record.get("cause") == "remedy":
        return not record.get("incident")
    return record.get("cause") == "died" and record.get("status") != 0
