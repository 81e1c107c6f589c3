"""Which queue does this command mean, and what does its trouble mean to a person?

`--store` names it; otherwise it is the queue of the node here, else what HOLDFAST_JOBS says. Also finding jobs by what a person typed: the
name of a place, the first letters of an id. Left out: showing (`jobs_look`) and changing (`jobs_change`) them.
"""

import os
import re
from contextlib import contextmanager

from holdfast.cli import place
from holdfast.cli.words import unknown
from holdfast.config.jobs import ENV_PREFIX, ENV_STORE, settings_of
from holdfast.config.jobs_definitions import without_password
from holdfast.core.lease import QUARANTINE
from holdfast.jobs.opening import open_store
from holdfast.model.errors import NodeError, UsageError
from holdfast.model.jobs import StoreDownError, StoreRefusedError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Iterator

    from holdfast.jobs.store import Store
    from holdfast.model.jobs import Entry

#: Places that are no queues.
PLACES = ("dead", "retry", "schedule", "busy", "waiting")
#: Jobs that are asked for at a time.
PAGE = 500
#: So many of a place are looked through for an id of which only the beginning was typed.
_MOST_LOOKED_AT = 20_000
_QUEUE = "queue:"
_WHOLE_JID = re.compile("[0-9a-f]{24}")


@contextmanager
def opened(args: "Namespace") -> "Iterator[Store]":
    """Give the store that is meant, and turn its trouble into words.

    Raises:
        UsageError: Nothing says which one.
        NodeError: It cannot be reached, or does not do what was asked for.
    """
    url, prefix, said_by = address(args)
    shown = without_password(url)
    try:
        store = open_store(url, prefix)
        try:
            yield store
        finally:
            store.close()
    except StoreDownError as error:
        msg = (
            f"{shown}: the store cannot be reached: {error}\n"
            f"  this was not done; what is in it stays there. When it is back, try again\n"
            f"  the address is from {said_by}"
        )
        raise NodeError(msg) from None
    except StoreRefusedError as error:
        raise NodeError(f"{shown}: {error}\n  the address is from {said_by}") from None


def address(args: "Namespace") -> "tuple[str, str, str]":
    """Return URL and prefix of the queue that is meant, and what says so.

    Raises:
        UsageError: Nothing does.
    """
    prefix = args.prefix or ""
    if args.store:
        return args.store, prefix, "--store"
    named = bool(args.state or args.config)
    why = "there is no node here"
    try:
        where = place.find(args)
    except UsageError:
        if named:
            raise
    else:
        said_by = where.config or where.state_dir
        found = _of_node(where)
        if found is not None:
            return found[0], prefix or found[1], said_by
        if named:
            msg = f'the node of {said_by} has no queue\n  give it one:  [worker.NAME]  kind = "jobs", use = ["…"]'
            raise UsageError(msg)
        why = "the node here has none"
    url = os.environ.get(ENV_STORE, "")
    if url:
        return url, prefix or os.environ.get(ENV_PREFIX, ""), ENV_STORE
    msg = (
        f"which queue? {why}, and {ENV_STORE} is not set\n"
        "  name it:  holdfast jobs --store sqlite:///path/to/jobs.db …   (or redis://host:6379/0)"
    )
    raise UsageError(msg)


def _of_node(where: place.Place) -> "tuple[str, str] | None":
    """Return URL and prefix of a node's queue: as it runs, or as it is configured."""
    plan = place.read_plan(where)
    if not plan and where.config:
        from holdfast.config.load import load_plan

        plan = dict(load_plan(where.config, os.environ))
    for entry in plan.get("workers", ()):
        settings = settings_of(entry)
        if settings:
            return settings["store"], settings["prefix"]
        env = entry.get("env") or {}
        if ENV_STORE in env:
            return env[ENV_STORE], env.get(ENV_PREFIX, "")
    return None


def state_dir_here(args: "Namespace") -> str:
    """Return the state directory of the node that commands without options mean; "" where there is none."""
    if args.state or args.config:
        return ""
    try:
        return place.find(args).state_dir
    except UsageError:
        return ""


# -- places and jobs -----------------------------------------------------------------------------------


def where_of(word: str, store: "Store") -> str:
    """Return the place that a word means, as the store knows it.

    Raises:
        UsageError: There is no such place.
    """
    plain = {"scheduled": "schedule", "retries": "retry", "running": "busy", "morgue": "dead"}
    word = plain.get(word, word)
    if word in PLACES:
        return word
    name = word.removeprefix(_QUEUE)
    queues = sorted(store.counts().queues)
    if name not in queues and name != QUARANTINE:
        raise unknown("queue or place", name, [*queues, *PLACES])
    return _QUEUE + name


def words_of(where: str) -> str:
    """Return a place as a person calls it."""
    if where.startswith(_QUEUE):
        name = where.removeprefix(_QUEUE)
        return "in quarantine" if name == QUARANTINE else f"in queue {name}"
    return {
        "schedule": "scheduled", "retry": "waiting for a retry", "dead": "dead", "busy": "running",
        "waiting": "waiting for a limit",
    }[where]  # fmt: skip


def every_place(store: "Store") -> "list[str]":
    """Return all places that may hold jobs, the most pressing first."""
    queues = [_QUEUE + name for name in sorted(store.counts().queues)]
    return ["busy", *queues, "waiting", "retry", "schedule", "dead"]


def pages(store: "Store", where: str, most: int) -> "Iterator[list[Entry]]":
    """Give the jobs of a place, page by page, at most so many."""
    offset = 0
    while offset < most:
        found = store.page(where, offset, min(PAGE, most - offset))
        if found:
            yield found
        offset += len(found)
        if len(found) < PAGE:
            return


def find(store: "Store", jid: str) -> "Entry":
    """Return the job that is meant by an id, or by the first letters of one.

    Raises:
        UsageError: There is none, or more than one.
    """
    found = store.find(jid)
    if found is not None:
        return found
    if not _WHOLE_JID.fullmatch(jid) and len(jid) >= 3:
        start = b'"jid":"' + jid.encode()
        fits = [
            entry
            for where in every_place(store)
            for page in pages(store, where, _MOST_LOOKED_AT)
            for entry in page
            if start in entry.raw.replace(b'": "', b'":"')
        ]
        if len(fits) == 1:
            return fits[0]
        if fits:
            msg = f'"{jid}" is the beginning of {len(fits)} jobs\n  more letters, or:  holdfast jobs list'
            raise UsageError(msg)
    state = store.notes(jid).get("state")
    if state:
        msg = f"the job {jid} is {state}: it is in the queue no more"
    else:
        msg = f"there is no job {jid} in the queue\n  one that is done is not kept; those that are there:  holdfast jobs list"
    raise UsageError(msg)
