"""The job queues: figures, lists, one job, and what may be done with jobs. Reads and changes as `holdfast jobs` does."""

import time
from contextlib import contextmanager

from holdfast.cli import jobs_change, jobs_look, jobs_table
from holdfast.config.jobs import settings_of
from holdfast.config.jobs_definitions import without_password
from holdfast.dashboard import planned
from holdfast.dashboard.asking import Refused
from holdfast.jobs.opening import open_store
from holdfast.model.jobs import StoreDownError, StoreRefusedError
from holdfast.wire import sidekiq

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from holdfast.dashboard.asking import Ask
    from holdfast.dashboard.site import Site
    from holdfast.jobs.store import Store
    from holdfast.model.jobs import Entry

_STATES = {
    "dead": "dead",
    "retry": "retry",
    "scheduled": "schedule",
    "busy": "busy",
    "waiting": "waiting",
}
_MOST = 200


@contextmanager
def _store(site: "Site") -> "Iterator[tuple[Store, str] | None]":
    """Give the store of this node and its name for people; None: the node has no queue.

    Raises:
        Refused: It cannot be reached, or does not do what was asked for.
    """
    found = next(
        (made for entry in planned.entries(site.where, '"store":') if (made := settings_of(entry))),
        None,
    )
    if found is None:
        yield None
        return
    shown = without_password(found["store"])
    try:
        store = open_store(found["store"], found["prefix"])
        try:
            yield store, shown
        finally:
            store.close()
    except StoreDownError as error:
        raise Refused(
            503, f"{shown} cannot be reached: {error}", "what is in it stays there"
        ) from None
    except StoreRefusedError as error:
        raise Refused(409, f"{shown}: {error}") from None


def stores(site: "Site", ask: "Ask") -> "dict[str, Any]":
    """Return the figures of the queue; no store: this node has none."""
    del ask
    with _store(site) as opened:
        if opened is None:
            return {"stores": []}
        store, name = opened
        counts = store.counts()
        row = jobs_table.counts_row(counts)
        busy: dict[str, int] = {}
        owners = jobs_look.owners(store, time.time())
        for entry in store.page("busy", 0, _MOST):
            queue = str(jobs_table.row(entry)["queue"])
            busy[queue] = busy.get(queue, 0) + 1
        queues = [
            {"name": one["queue"], "waiting": one["size"], "busy": busy.get(one["queue"], 0), "latency_s": one["latency_s"], "paused": one["paused"]}
            for one in row["queues"]
        ]  # fmt: skip
        figures = {
            "busy": row["busy"], "waiting": row["waiting"], "retries": row["retry"], "scheduled": row["scheduled"], "dead": row["dead"],
            "processed": row["processed"], "failed": row["failed"],
        }  # fmt: skip
        return {
            "stores": [
                {
                    "name": name,
                    "queues": queues,
                    "counts": figures,
                    "processes": owners,
                    "warnings": store.check(),
                }
            ]
        }


def listed(site: "Site", ask: "Ask") -> "dict[str, Any]":
    """Return jobs of one state, or of one queue, the next or the last ones first."""
    state, queue = ask.query.get("state") or "", ask.query.get("queue") or ""
    limit, offset = ask.how_many("limit", 50, _MOST), int(ask.number("offset", 0, 0, 1e9))
    if state and state not in _STATES:
        raise Refused(400, f'there is no state "{state[:40]}"', f"one of: {', '.join(_STATES)}")
    if not state and not queue:
        raise Refused(400, "which jobs?", "state=dead, or queue=NAME")
    with _store(site) as opened:
        if opened is None:
            return {"rows": [], "total": 0}
        store, _ = opened
        counts = store.counts()
        place = _STATES[state] if state else f"queue:{queue}"
        rows = [shown(entry) for entry in store.page(place, offset, limit)]
        if state and queue:
            rows = [row for row in rows if row["queue"] == queue]
        return {"rows": rows, "total": jobs_look.size_of(counts, place)}


def shown(entry: "Entry") -> "dict[str, Any]":
    """Return a job of a list."""
    row = jobs_table.row(entry)
    return {
        **row,
        "about": jobs_table.about(row),
        "trouble": jobs_table.trouble(row),
        "when": jobs_table.when(row, time.time()),
    }


def job(site: "Site", ask: "Ask") -> "dict[str, Any]":
    """Return one job with its evidence."""
    jid = ask.part("id")
    with _store(site) as opened:
        if opened is None:
            raise Refused(404, "this node has no job queue")
        store, name = opened
        notes = store.notes(jid)
        entry = store.find(jid)
        if entry is None:
            if not notes.get("state"):
                raise Refused(
                    404,
                    f'there is no job "{jid[:40]}" in the queue',
                    "one that is done is not kept",
                )
            return {
                "jid": jid,
                "where": notes["state"],
                "store": name,
                "notes": notes,
                "job": None,
                "backtrace": [],
            }
        try:
            raw: dict[str, Any] = sidekiq.loads(entry.raw)
        except ValueError:
            raw = {}
        return {
            **shown(entry),
            "store": name,
            "notes": notes,
            "job": raw,
            "backtrace": sidekiq.backtrace(raw),
            "may": may(entry),
        }


def may(entry: "Entry") -> "list[str]":
    """Return what may be done with a job where it is."""
    if entry.where in ("dead", "retry", "schedule"):
        return ["retry", "delete"]
    return [] if entry.where == "busy" else ["delete"]


def change(site: "Site", ask: "Ask") -> "dict[str, Any]":
    """Retry or delete jobs, pause or resume a queue."""
    verb = ask.text("do")
    if verb not in ("retry", "delete", "pause", "resume"):
        raise Refused(
            400, f'there is no order "{verb}" for jobs', "one of: retry, delete, pause, resume"
        )
    with _store(site) as opened:
        if opened is None:
            raise Refused(404, "this node has no job queue")
        store, _ = opened
        if verb in ("pause", "resume"):
            return _pause(site, ask, store, is_paused=verb == "pause")
        return _move(site, ask, store, verb)


def _pause(site: "Site", ask: "Ask", store: "Store", *, is_paused: bool) -> "dict[str, Any]":
    queue = ask.text("queue")
    if queue not in store.counts().queues:
        raise Refused(404, f'there is no queue "{queue[:80]}"')
    entry = site.audit.note(ask.who, "pause" if is_paused else "resume", f"queue {queue}")
    store.pause(queue, is_paused)
    site.audit.done(entry, "done")
    return {
        "done": 1,
        "says": f"{queue} {'is paused: no more jobs are taken, what runs goes on' if is_paused else 'goes on'}",
    }


def _move(site: "Site", ask: "Ask", store: "Store", verb: str) -> "dict[str, Any]":
    jids = ask.body.get("ids")
    if (
        not isinstance(jids, list)
        or not jids
        or len(jids) > _MOST
        or not all(isinstance(one, str) for one in jids)
    ):
        raise Refused(400, f"ids has to be a list of at most {_MOST} job ids")
    found = [entry for jid in jids if (entry := store.find(jid)) is not None]
    fit = [entry for entry in found if verb in may(entry)]
    noted = site.audit.note(ask.who, f"{verb} jobs", " ".join(jids), count=len(jids))
    done = jobs_change.do(verb, store, fit) if fit else 0
    site.audit.done(noted, f"{done} of {len(jids)}")
    left = len(jids) - done
    rest = f"; {left} not: they are not there any more, or run" if left else ""
    word = "retried" if verb == "retry" else "deleted"
    return {"done": done, "says": f"{done} {'job' if done == 1 else 'jobs'} {word}{rest}"}
