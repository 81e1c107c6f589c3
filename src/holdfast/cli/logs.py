"""`holdfast logs`: what did the workers write, when, and in which order among each other?

Reads the files that the logger left (:mod:`holdfast.records.logs`); the node need not run. Lines of several workers
come in the order of their time stamps. The house's own output is the worker ``holdfast``.
"""

import heapq
import os
import re
import sys
import time
from collections import deque
from operator import attrgetter

from holdfast.cli import output, place, terminal
from holdfast.cli.words import parse_moment, unknown
from holdfast.model.errors import UsageError
from holdfast.records import logs as records
from holdfast.wire import layout

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Callable, Iterable, Iterator

    from holdfast.records.logs import Line

#: Lines shown when nothing else was asked for.
LINES = 200
_SHORTEST_LOOK_S = 0.1
_BY_TIME = attrgetter("unix_s")
#: Names longer than this do not push the text of all the others to the right.
_NAME_ROOM = 24


def add_arguments(parser: "ArgumentParser") -> None:
    """Declare the arguments."""
    parser.add_argument(
        "names", nargs="*", metavar="WORKER", help="only of these workers (default: all)"
    )
    parser.add_argument(
        "-w",
        "--worker",
        action="append",
        default=[],
        metavar="WORKER",
        help="the same; may be repeated",
    )
    parser.add_argument(
        "-f", "--follow", action="store_true", help="go on with what is being written"
    )
    parser.add_argument("--since", metavar="WHEN", help="from then on: 10m, 2h, 14:30, 2024-11-03")
    parser.add_argument("--until", metavar="WHEN", help="up to then")
    parser.add_argument(
        "-n",
        "--lines",
        metavar="N",
        type=int,
        help=f"only the last N lines (default: {LINES}; with --since: all)",
    )
    parser.add_argument(
        "--grep", metavar="PATTERN", help="only lines in which this regular expression is found"
    )
    parser.add_argument("--house", action="store_true", help="also what Holdfast itself wrote")


def run(args: "Namespace") -> int:
    """Print lines; with ``--follow`` until somebody presses Ctrl-C."""
    where = place.find(args)
    directories = _chosen(args, where)
    matches = _matcher(args.grep)
    write = _writer(args, list(directories))
    for line in _past(args, directories, matches):
        write(line)
    sys.stdout.flush()
    if args.follow:
        for line in _coming(directories):
            if matches(line):
                write(line)
                sys.stdout.flush()
    return 0


def _chosen(args: "Namespace", where: place.Place) -> "dict[str, str]":
    """Return worker -> directory of its logs, for the workers that are meant.

    Raises:
        UsageError: A name that does not exist and never did, or a worker whose output is not kept.
    """
    plan = place.read_plan(where)
    known = {
        worker["name"]: (worker["log"] or {}).get("directory", "")
        for worker in plan.get("workers", [])
    }
    house = (
        plan.get("house_log", {}).get("directory")
        or f"{where.state_dir}/{layout.LOGS}/{layout.HOUSE_LOG}"
    )
    wanted = [*args.names, *args.worker]
    if not wanted:
        chosen = {name: directory for name, directory in known.items() if directory}
        return {**chosen, layout.HOUSE_LOG: house} if args.house or not chosen else chosen
    chosen = {layout.HOUSE_LOG: house} if args.house or layout.HOUSE_LOG in wanted else {}
    for name in wanted:
        if name == layout.HOUSE_LOG:
            continue
        if name in known and not known[name]:
            raise UsageError(
                f'worker "{name}" has log = false: its output goes where that of `holdfast up` goes'
            )
        # A worker that was taken out of the configuration has left its logs.
        directory = known.get(name) or f"{where.state_dir}/{layout.LOGS}/{name}"
        if "/" in name or (name not in known and not os.path.isdir(directory)):
            raise unknown("worker", name, [*known, layout.HOUSE_LOG])
        chosen[name] = directory
    return chosen


def _matcher(pattern: "str | None") -> "Callable[[Line], bool]":
    if pattern is None:
        return lambda _: True
    try:
        search = re.compile(pattern).search
    except re.error as error:
        raise UsageError(f'--grep: "{pattern}" is not a regular expression: {error}') from None
    return lambda line: search(line.text) is not None


def _past(
    args: "Namespace", directories: "dict[str, str]", matches: "Callable[[Line], bool]"
) -> "Iterable[Line]":
    now_s = time.time()
    since = parse_moment(args.since, now_s) if args.since else None
    until = parse_moment(args.until, now_s) if args.until else None
    count = args.lines
    if count is None and since is None:
        count = 0 if args.follow and args.grep else LINES
    if count is not None and since is None and args.grep is None:
        tails = [
            records.tail(directory, name, count, until) for name, directory in directories.items()
        ]
        return deque(heapq.merge(*tails, key=_BY_TIME), count)
    streams = [
        records.read(directory, name, since, until) for name, directory in directories.items()
    ]
    found = filter(matches, heapq.merge(*streams, key=_BY_TIME))
    return found if count is None else deque(found, count)


def _coming(directories: "dict[str, str]") -> "Iterator[Line]":
    """Yield the lines of all workers as they are written, for ever."""
    if len(directories) == 1:
        ((name, directory),) = directories.items()
        yield from records.follow(directory, name)
        return
    from queue import SimpleQueue
    from threading import Thread

    # A thread for each worker: `follow` looks and sleeps by itself. The looks of all together stay bounded.
    look_s = max(_SHORTEST_LOOK_S, 0.005 * len(directories))
    queue: SimpleQueue[Line] = SimpleQueue()

    def pour(name: str, directory: str) -> None:
        for line in records.follow(directory, name, poll_s=look_s):
            queue.put(line)

    for name, directory in directories.items():
        Thread(target=pour, args=(name, directory), daemon=True).start()
    while True:
        batch = [queue.get()]
        while not queue.empty():
            batch.append(queue.get())
        yield from sorted(batch, key=_BY_TIME)


def _writer(args: "Namespace", names: "list[str]") -> "Callable[[Line], None]":
    if args.json:
        return _write_json
    paint = terminal.paint_for(args)
    room = min(_NAME_ROOM, max(map(len, names), default=0))
    today = time.strftime("%Y-%m-%d")
    return lambda line: _write(render(line, room, today, paint))


def _write(text: str) -> None:
    sys.stdout.write(text + "\n")


def _write_json(line: "Line") -> None:
    output.line(
        {
            "unix_s": line.unix_s,
            "worker": line.worker,
            "stream": line.stream,
            "start": line.start,
            "text": _readable(line.text),
        }
    )


def render(line: "Line", room: int, today: str, paint: terminal.Paint) -> str:
    """Return one line for a person: time, worker, ``|`` or for stderr ``!``, text."""
    moment = time.localtime(line.unix_s)
    day = time.strftime("%Y-%m-%d", moment)
    clock = time.strftime("%H:%M:%S", moment) + f".{int(line.unix_s * 1000) % 1000:03d}"
    stamp = clock if day == today else f"{day} {clock}"
    name = paint.worker(line.worker.ljust(room), line.worker)
    mark = paint("!", "red") if line.stream == "err" else "|"
    end = "\x1b[0m" if paint.is_on and "\x1b" in line.text else ""
    return f"{paint(stamp, 'dim')} {name} {mark} {_readable(line.text)}{end}"


def _readable(text: str) -> str:
    """Return a text without the stand-ins for bytes that are not UTF-8: JSON and terminals know none."""
    if text.isascii():
        return text
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
