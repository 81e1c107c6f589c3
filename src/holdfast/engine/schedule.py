"""When does a periodic job fire, and who says which ones there are?

Only a worker has imported the code that declares them, so each writes its table into the run directory when it starts
(:func:`publish`), and the steward fires by the tables: it never imports a line of an application. That a slot is fired once
over the whole fleet is the store's doing (`Store.fire`). A slot that was missed while nobody was there fires once, if it is
younger than an hour; those before the first time that somebody declared this job do not. Left out: jobs with a time of their
own, which lie in the store's schedule (`Store.move_due`).
"""

import os
import time

from holdfast.linux import files
from holdfast.wire import jsonlite, layout

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import tzinfo
    from typing import Any

    from holdfast.jobs.store import Store

    Say = Callable[..., None]

#: Where the tables are, below the run directory: one file a worker.
TABLES = f"{layout.JOBS}/cron"
#: A slot older than this is not made up for.
MISSED_S = 3600.0
#: For so long after the last steward looked it is remembered since when a job is declared.
_KEPT_S = 40 * 86400.0
_REMIND_S = 86400.0
#: A clock that went back by more than this was set; less is its ordinary regulation.
_SET_BACK_S = 60.0


def publish(run_dir: str, worker: str, entries: "Sequence[dict[str, Any]]") -> None:
    """Tell the steward which periodic jobs this worker's code declares; to be called once, when the code is imported.

    Args:
        run_dir: Of the node.
        worker: Name of this worker.
        entries: Of each: `name` (one for the whole fleet), `cron`, `tz` (a name as "Europe/Berlin"; "": UTC), `queue`, and
            `payload`: the job's JSON as an object, without `jid` and times.
    """
    directory = f"{run_dir}/{TABLES}"
    os.makedirs(directory, mode=0o700, exist_ok=True)
    files.write_atomic(f"{directory}/{worker}.json", jsonlite.dumps(list(entries)).encode())


class Periodic:
    """One periodic job."""

    __slots__ = ("cron", "name", "next_s", "payload", "reminded_s", "since_s", "tz", "zone")

    def __init__(self, entry: "dict[str, Any]") -> None:
        self.name = str(entry["name"])
        self.cron = str(entry["cron"])
        self.tz = str(entry.get("tz") or "")
        self.payload = {"queue": entry.get("queue") or "default", **entry["payload"]}
        self.zone = _zone(self.tz)
        self.since_s = 0.0  #: 0: not known yet
        self.reminded_s = 0.0
        self.next_s = self.slot_after(0.0)  # and a pattern that is wrong is found here

    def is_as(self, other: "Periodic") -> bool:
        """Whether it fires at the same times."""
        return (self.cron, self.tz) == (other.cron, other.tz)

    def slot_after(self, unix_s: float) -> float:
        """Return the first slot after a moment."""
        return self._slot(unix_s, is_before=False)

    def slot_until(self, unix_s: float) -> float:
        """Return the last slot that is not after a moment."""
        # The search backwards leaves its own start out.
        return self._slot(unix_s + 1e-3, is_before=True)

    def _slot(self, unix_s: float, *, is_before: bool) -> float:
        from datetime import datetime

        from cronsim import CronSim

        moment = datetime.fromtimestamp(unix_s, self.zone)
        found = next(CronSim(self.cron, moment, reverse=is_before), None)
        if found is None:  # the 30th of February
            return float("-inf" if is_before else "inf")
        return found.timestamp()

    def job(self, slot_s: float, now_s: float) -> bytes:
        """Return the JSON of the job for one slot."""
        hf = {**self.payload.get("hf", {}), "cron": slot_s}
        made = {**self.payload, "jid": os.urandom(12).hex(), "created_at": now_s, "hf": hf}
        return jsonlite.dumps(made).encode()


def _zone(name: str) -> "tzinfo":
    if name in ("", "UTC"):
        from datetime import timezone

        return timezone.utc  # noqa: UP017 -- datetime.UTC is the same
    from zoneinfo import ZoneInfo

    return ZoneInfo(name)


class Cron:
    """All periodic jobs of one store."""

    __slots__ = (
        "_complained",
        "_jobs",
        "_run_dir",
        "_say",
        "_seen_s",
        "_stamps",
        "_store",
        "_workers",
    )

    def __init__(self, run_dir: str, store: "Store", say: "Say") -> None:
        self._run_dir = run_dir
        self._store = store
        self._say = say
        self._workers: list[str] = []
        self._stamps: dict[str, tuple[int, int]] = {}
        self._jobs: dict[str, Periodic] = {}
        self._complained: set[str] = set()
        self._seen_s = 0.0

    def look(self, workers: "list[str]") -> None:
        """Read the tables of these workers, if one has changed; tables of others are not looked at."""
        stamps = {}
        for worker in workers:
            try:
                info = os.stat(f"{self._run_dir}/{TABLES}/{worker}.json")
            except FileNotFoundError:
                continue
            stamps[worker] = (info.st_ino, info.st_mtime_ns)
        if stamps == self._stamps:
            return
        self._stamps = stamps
        found: dict[str, Periodic] = {}
        for worker in stamps:
            for entry in self._table(worker):
                self._take(entry, worker, found)
        self._jobs = found

    def _table(self, worker: str) -> "list[dict[str, Any]]":
        data = files.read(f"{self._run_dir}/{TABLES}/{worker}.json")
        try:
            table = jsonlite.loads(data.decode())
        except ValueError:
            table = None
        return [entry for entry in table or () if type(entry) is dict]

    def _take(self, entry: "dict[str, Any]", worker: str, found: "dict[str, Periodic]") -> None:
        from cronsim import CronSimError

        try:
            job = Periodic(entry)
        except (CronSimError, KeyError, TypeError, ValueError, OSError) as error:
            says = f"{entry.get('name')!r} of {worker}: {type(error).__name__}: {error}"
            if says not in self._complained:
                self._complained.add(says)
                self._say("a periodic job cannot be fired", why=says)
            return
        known = self._jobs.get(job.name)
        if known is not None and known.is_as(job):
            job.since_s, job.next_s, job.reminded_s = known.since_s, known.next_s, known.reminded_s
        found[job.name] = job

    def fire_due(self, now_s: float) -> float:
        """Fire what is due; return the unix time of the next slot (infinity: there is none).

        Raises:
            StoreDownError: The store is not there; nothing is forgotten.
        """
        if now_s < self._seen_s - _SET_BACK_S:
            # All that was planned is for a future that has gone.
            for job in self._jobs.values():
                job.next_s, job.reminded_s = job.slot_after(now_s), 0.0
        self._seen_s = now_s
        for job in self._jobs.values():
            if now_s - job.reminded_s > _REMIND_S:
                self._remember(job, now_s)
            if now_s < job.next_s:
                continue
            slot_s = job.slot_until(now_s)
            if slot_s > max(job.since_s, now_s - MISSED_S) and self._store.fire(
                job.name, slot_s, job.job(slot_s, now_s)
            ):
                stamp = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(slot_s))
                self._say("a periodic job fired", name=job.name, slot=f"{stamp} UTC")
            job.next_s = job.slot_after(now_s)
        return min((job.next_s for job in self._jobs.values()), default=float("inf"))

    def _remember(self, job: Periodic, now_s: float) -> None:
        """Find out since when a job is declared to fire at these times; from now on, if nobody knows it."""
        key, times = f"cron:{job.name}", f"{job.cron} {job.tz}".rstrip()
        notes = self._store.notes(key)
        since = notes.get("since", "") if notes.get("cron") == times else ""
        try:
            since_s = min(float(since), now_s)
        except ValueError:
            since_s = now_s
        self._store.note(key, {"cron": times, "since": repr(since_s)}, _KEPT_S)
        job.since_s, job.reminded_s = since_s, now_s
