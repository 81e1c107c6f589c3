"""`holdfast jobs push`, `retry`, `kill`, `delete`, `edit`, `cancel`, `pause`, `resume`, `drain`, `wipe`, `quiet`, `stop`: was it done?

Every change is one the store makes atomically and only if the job is still just as it was seen; what is printed is what the store says
was done. Whatever touches more jobs than were named says how many, and asks.
"""

import sys
import time

from holdfast.cli import jobs_look, jobs_store, jobs_table, output, waiting
from holdfast.cli.commands import say
from holdfast.cli.words import count, parse_moment, parse_span, unknown
from holdfast.core.lease import QUARANTINE
from holdfast.model.errors import NodeError, UsageError
from holdfast.wire import sidekiq

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Callable, Iterable
    from typing import Any

    from holdfast.jobs.store import Store
    from holdfast.model.jobs import Entry

    Job = dict[str, Any]

#: Where jobs are that wait for their time, and can be run or given up before it.
_LATER = ("retry", "schedule")
_PAST = {"retry": "retried", "kill": "moved to the dead", "delete": "deleted"}
#: Running jobs that are looked through for those of a queue.
_MOST_RUNNING = 10_000


def run(args: "Namespace") -> int:
    """Make the change; 1 when something that was named could not be changed."""
    verbs: dict[str, Callable[[Namespace, Store], int]] = {
        "push": _push, "retry": _choose, "kill": _choose, "delete": _choose, "edit": _edit, "cancel": _cancel,
        "pause": _pause, "resume": _pause, "drain": _drain, "wipe": _wipe, "quiet": _signal, "stop": _signal,
    }  # fmt: skip
    with jobs_store.opened(args) as store:
        return verbs[args.verb](args, store)


def _tell(args: "Namespace", text: str, **facts: "Any") -> None:
    if args.json:
        output.document({"did": args.verb, **facts})
    else:
        print(text)


def _confirm(args: "Namespace", question: str) -> None:
    """Ask the person where there is one; a program has to say --yes.

    Raises:
        UsageError: Nobody said yes.
    """
    if args.yes:
        return
    if args.json or not sys.stdin.isatty():
        msg = f"nothing was changed: nobody is here to be asked ({question})\n  add --yes"
        raise UsageError(msg)
    sys.stderr.write(f"{question} [y/N] ")
    sys.stderr.flush()
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise UsageError("nothing was changed")


# -- jobs ------------------------------------------------------------------------------------------------


def _push(args: "Namespace", store: "Store") -> int:
    from secrets import token_hex

    now_s = time.time()
    if args.in_ and args.at:
        raise UsageError("--in and --at say two different times\n  leave one of them out")
    at_s = 0.0
    if args.in_:
        at_s = now_s + parse_span(args.in_)
    elif args.at:
        # A span counts back from now everywhere else: here only a clock time or a date makes sense.
        at_s = parse_moment(args.at, now_s) if "-" in args.at or ":" in args.at else 0.0
        if at_s <= now_s:
            msg = f'--at {args.at}: this is no moment to come\n  as 23:30 (today) or "2030-11-03 14:30"; for a span:  --in 10m'
            raise UsageError(msg)
    if args.retries is not None and args.retries < 0:
        raise UsageError(f"--retries {args.retries}: it is a number of times\n  0: once and never again")  # fmt: skip
    _check_named(args)
    # 0 and not false: Sidekiq forgets a job that says `false` when it fails, and keeps the others among the dead.
    retry: bool | int = True if args.retries is None else args.retries
    job = sidekiq.new(
        args.klass, [_value(word) for word in args.args], jid=token_hex(12), queue=args.queue, now_s=now_s, retry=retry
    )  # fmt: skip
    jid = str(job["jid"])
    store.push([sidekiq.dumps(job)], [at_s])
    place = f"in queue {args.queue}" if not at_s else f"scheduled: {_clock(at_s)}"
    _tell(args, f"{jid}  {place}", jid=jid, queue=args.queue, due_at_unix_s=at_s or None)
    return 0


def _check_named(args: "Namespace") -> None:
    """Refuse what the SDK would refuse: it would wait in a queue that nobody can serve, or under a name that nobody has."""
    from holdfast.sdk.job_options import JobSettingError, check_queue

    try:
        check_queue(args.queue)
    except JobSettingError as error:
        raise UsageError(f"-q {args.queue!r} {error}") from None
    if not args.klass.isprintable() or not args.klass:
        raise UsageError(f'{args.klass!r} is no name of a job\n  as "shop.tasks.send"')
    for word in args.args:
        if not word.isascii() and any("\ud800" <= sign <= "\udfff" for sign in word):
            raise UsageError(f"{word!r} is not UTF-8, which is all that JSON can carry")


def _clock(at_s: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at_s))


def _value(word: str) -> "Any":
    from json import loads

    from holdfast.sdk.job_args import not_finite

    try:
        value = loads(word)
    except ValueError:
        return word
    # Python's reader knows NaN and makes infinity of 1e999; JSON has neither, so they are texts.
    return value if not_finite(value) is None else word


def _choose(args: "Namespace", store: "Store") -> int:
    """Retry, kill or delete the jobs that were named, or all of a place."""
    if bool(args.jid) == bool(args.all):
        msg = f"holdfast jobs {args.verb}: which jobs?\n  holdfast jobs {args.verb} JID …   or   --all --where PLACE [--class NAME]"
        raise UsageError(msg)
    if args.klass and not args.all:
        raise UsageError("--class chooses among all jobs of a place\n  add --all, or leave it out")
    if args.all:
        return _all(args, store)
    # All are looked for before the first is touched: a mistyped one changes nothing.
    entries = [jobs_store.find(store, jid) for jid in args.jid]
    for entry in entries:
        _check_place(args.verb, entry.where)
    done = sum(do(args.verb, store, [entry]) for entry in entries)
    left = len(entries) - done
    jids = [jobs_table.row(entry)["jid"] for entry in entries]
    if left and not args.json:
        say(f"{count(left, 'job')} changed meanwhile and {'was' if left == 1 else 'were'} left alone:  holdfast jobs show {' '.join(jids)}")  # fmt: skip
    _tell(args, f"{count(done, 'job')} {_PAST[args.verb]}", jobs=done, left=left, jids=jids)
    return 1 if left else 0


def _check_place(verb: str, where: str) -> None:
    """Refuse what makes no sense.

    Raises:
        UsageError: A job in this place cannot be changed so.
    """
    if where == "busy":
        msg = "it is running: what runs is not taken away from its worker\n  tell it that nobody waits for it:  holdfast jobs cancel JID"
        raise UsageError(msg)
    if verb == "retry" and where not in ("dead", *_LATER):
        msg = f"it is {jobs_store.words_of(where)} already: it is run when its turn comes"
        raise UsageError(msg)
    if verb == "kill" and where == "dead":
        raise UsageError("it is dead already\n  for good:  holdfast jobs delete JID")


def _all(args: "Namespace", store: "Store") -> int:
    if not args.where:
        msg = f"holdfast jobs {args.verb} --all: of which place?\n  --where dead, retry, schedule, waiting, or the name of a queue"
        raise UsageError(msg)
    where = jobs_store.where_of(args.where, store)
    _check_place(args.verb, where)
    total = _count(args, store, where)
    of_class = f" of class {args.klass}" if args.klass else ""
    what = f"{count(total, 'job')}{of_class} {'that is' if total == 1 else 'that are'} {jobs_store.words_of(where)}"
    if not total:
        _tell(
            args,
            f"nothing to {args.verb}: no jobs{of_class} are {jobs_store.words_of(where)}",
            jobs=0,
            left=0,
        )
        return 0
    _confirm(args, f"{args.verb} {what}?")
    bar = waiting.progress(args)
    offset = done = seen = 0
    # A job that dies again while we are at it comes first among the dead: no job is looked at more often than there were jobs.
    while seen < total:
        page = store.page(where, offset, jobs_store.PAGE)
        if not page:
            break
        wanted = [entry for entry in page if _is_of_class(entry, args.klass)][: total - seen]
        moved = do(args.verb, store, wanted) if wanted else 0
        offset += len(page) - moved
        done += moved
        seen += len(wanted)
        bar.show(f"{done:,} of {total:,}")
    bar.end()
    _tell(args, f"{count(done, 'job')} {_PAST[args.verb]}", jobs=done, left=total - done)
    return 0


def _count(args: "Namespace", store: "Store", where: str) -> int:
    if not args.klass:
        return jobs_look.size_of(store.counts(), where)
    return sum(
        _is_of_class(entry, args.klass)
        for page in jobs_store.pages(store, where, sys.maxsize)
        for entry in page
    )


def _is_of_class(entry: "Entry", klass: "str | None") -> bool:
    return klass is None or jobs_table.row(entry)["class"] == klass


def do(verb: str, store: "Store", entries: "list[Entry]") -> int:
    """Retry, kill or delete jobs, each if it is still there just as it was; return how many."""
    if verb == "delete":
        return store.remove(entries)
    if verb == "kill":
        return store.move(entries, "dead")
    return _retry(store, entries)


def _retry(store: "Store", entries: "Iterable[Entry]") -> int:
    """Put jobs into their queues, with a clean slate: somebody has looked at them."""
    by_queue: dict[str, list[Entry]] = {}
    raws: dict[bytes, bytes] = {}
    for entry in entries:
        try:
            job: Job = sidekiq.loads(entry.raw)
        except ValueError:
            continue  # nobody can run it; it stays where it is
        raws |= _forgiven(entry.raw, job)
        by_queue.setdefault(_queue_of(job), []).append(entry)
    return sum(store.move(found, f"queue:{queue}", raws) for queue, found in by_queue.items())


def _forgiven(raw: bytes, job: "Job") -> "dict[bytes, bytes]":
    """Return what a job is from now on, where that is something else: deaths of its process count anew, one failure is forgiven."""
    ours: Job = sidekiq.hf(job)
    failures = job.get("retry_count")
    new = dict(job)
    if isinstance(failures, int) and failures > 0:
        new["retry_count"] = (
            failures - 1
        )  # as Sidekiq does: else the next failure of a dead job is its last
    if ours.get("strikes"):
        new["hf"] = {key: value for key, value in ours.items() if key != "strikes"}
    return {} if new == job else {raw: sidekiq.dumps(new)}


def _queue_of(job: "Job") -> str:
    queue = str(job.get("queue") or "default")
    return "default" if queue == QUARANTINE else queue


def _edit(args: "Namespace", store: "Store") -> int:
    from json import dumps

    entry = jobs_store.find(store, args.jid)
    if args.source is None:
        try:
            job: Job = sidekiq.loads(entry.raw)
        except ValueError:
            sys.stdout.buffer.write(entry.raw + b"\n")
            return 0
        sys.stdout.write(dumps(job, indent=2, ensure_ascii=False) + "\n")
        return 0
    _check_place("edit", entry.where)
    job = _read(args.source, entry)
    to = entry.where
    if (
        args.retry
        or to in (*_LATER, "waiting")
        or (to.startswith("queue:") and to != f"queue:{QUARANTINE}")
    ):
        to = f"queue:{_queue_of(job)}"
    if not store.move([entry], to, {entry.raw: sidekiq.dumps(job)}):
        raise NodeError(f"{job['jid']} changed meanwhile: nothing was done\n  holdfast jobs show {job['jid']}")  # fmt: skip
    _tell(args, f"{job['jid']}  {jobs_store.words_of(to)}", jid=job["jid"], where=to)
    return 0


def _read(source: str, entry: "Entry") -> "Job":
    """Return the job as somebody edited it.

    Raises:
        UsageError: It is none, or another one.
    """
    data = sys.stdin.buffer.read() if source == "-" else _file(source)
    name = "standard input" if source == "-" else source
    try:
        job: Job = sidekiq.loads(data)
    except ValueError as error:
        raise UsageError(f"{name}: {error}\n  nothing was changed") from None
    old = jobs_table.row(entry)["jid"]
    if old and job["jid"] != old:
        raise UsageError(f'{name}: this is job {job["jid"]}, not {old}: a job keeps its "jid"')
    return job


def _file(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def _cancel(args: "Namespace", store: "Store") -> int:
    entries = [jobs_store.find(store, jid) for jid in args.jid]
    cancelled = []
    for entry in entries:
        jid = str(jobs_table.row(entry)["jid"])
        if entry.where == "dead":
            raise UsageError(f"{jid} is dead: it does not run any more\n  holdfast jobs delete {jid}")  # fmt: skip
        cancelled.append({"jid": jid, "was": entry.where})
    for one in cancelled:
        store.cancel(one["jid"])
    running = sum(one["was"] == "busy" for one in cancelled)
    told = (
        f"; {running} of them {'is' if running == 1 else 'are'} running and told so"
        if running
        else ""
    )
    _tell(args, f"{count(len(cancelled), 'job')} cancelled{told}", jobs=cancelled)
    return 0


# -- queues ------------------------------------------------------------------------------------------------


def _pause(args: "Namespace", store: "Store") -> int:
    is_paused = args.verb == "pause"
    known = store.counts().queues
    for queue in args.queue:
        if queue not in known and not is_paused:
            raise unknown("queue", queue, sorted(known))
    for queue in args.queue:
        store.pause(queue, is_paused)
        if queue not in known:
            say(f"note: there is no queue {queue} yet; it is paused from its first job on")
    words = "paused: no more jobs are taken; what runs goes on" if is_paused else "goes on"
    _tell(args, f"{', '.join(args.queue)} {words}", queues=args.queue)
    return 0


def _drain(args: "Namespace", store: "Store") -> int:
    known = store.counts().queues
    for queue in args.queue:
        if queue not in known:
            raise unknown("queue", queue, sorted(known))
        if known[queue][2]:
            raise UsageError(f"queue {queue} is paused: it would never be empty\n  holdfast jobs resume {queue}")  # fmt: skip
    served = {queue for owner in jobs_look.owners(store, time.time()) for queue in owner["queues"]}
    # The lane is started when there are suspects.
    idle = [queue for queue in args.queue if known[queue][0] and queue not in {*served, QUARANTINE}]
    if idle:
        raise NodeError(f"nobody works on queue {', '.join(idle)}\n  holdfast jobs workers")
    left: dict[str, int] = {}

    def look() -> "tuple[bool, str]":
        left.update(_left(store, args.queue))
        return not any(left.values()), ", ".join(f"{queue}: {n:,} left" for queue, n in left.items())  # fmt: skip

    is_empty = waiting.until(look, parse_span(args.timeout), waiting.progress(args))
    said = ", ".join(args.queue)
    if is_empty:
        _tell(args, f"{said}: worked off", queues=left, empty=True)
        return 0
    if args.json:
        output.document({"did": "drain", "queues": left, "empty": False})
    else:
        say(f"{said}: not worked off after {args.timeout}: {count(sum(left.values()), 'job')} left")
    return 1


def _left(store: "Store", queues: "list[str]") -> "dict[str, int]":
    """Return how many jobs of each queue wait in it, run, or are suspects."""
    sizes = store.counts().queues
    left = {queue: sizes[queue][0] if queue in sizes else 0 for queue in queues}
    if any(left.values()):
        return left
    # In the order in which a job goes: one that moves on between two looks is seen twice rather than not at all.
    seen: dict[str, str] = {}
    for where in ("busy", f"queue:{QUARANTINE}", "busy"):
        for page in jobs_store.pages(store, where, _MOST_RUNNING):
            rows = map(jobs_table.row, page)
            seen |= {row["jid"]: row["queue"] for row in rows if row["queue"] in left}
    for queue in seen.values():
        left[queue] += 1
    return left


def _wipe(args: "Namespace", store: "Store") -> int:
    known = store.counts().queues
    for queue in args.queue:
        if queue not in known:
            raise unknown("queue", queue, sorted(known))
    total = sum(known[queue][0] for queue in args.queue)
    _confirm(args, f"delete {count(total, 'job')} of {', '.join(args.queue)} for good?")
    done = sum(store.wipe(queue) for queue in args.queue)
    _tell(args, f"{count(done, 'job')} deleted", jobs=done, queues=args.queue)
    return 0


# -- workers -------------------------------------------------------------------------------------------------


def _signal(args: "Namespace", store: "Store") -> int:
    if bool(args.owner) == bool(args.all):
        msg = f"holdfast jobs {args.verb}: which process?\n  holdfast jobs workers   lists them; --all means every one"
        raise UsageError(msg)
    living = jobs_look.owners(store, time.time())
    if args.all:
        chosen = living
        _confirm(args, f"{args.verb} {count(len(living), 'process')[:-1] if len(living) == 1 else f'{len(living)} processes'}?")  # fmt: skip
    else:
        chosen = [one for word in args.owner for one in _meant(word, living)]
    for one in chosen:
        store.signal(one["owner"], "TSTP" if args.verb == "quiet" else "TERM")
    names = [one["owner"] for one in chosen]
    what = "takes nothing new" if args.verb == "quiet" else "ends when its jobs have ended"
    _tell(args, "\n".join(f"{name}: told; it {what}" for name in names) or "nobody works on the queue", owners=names)  # fmt: skip
    return 0


def _meant(word: str, living: "list[dict[str, Any]]") -> "list[dict[str, Any]]":
    """Return the processes that a word means: an owner, a pid, or the name of a worker."""
    found = [one for one in living if word in (one["owner"], str(one["pid"]), one["worker"])]
    if not found:
        found = [one for one in living if one["owner"].startswith(word)]
    if not found:
        raise unknown("process", word, [one["owner"] for one in living])
    return found
