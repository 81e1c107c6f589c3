"""The forwarding process: a thread for each target, and nothing that anybody waits for.

A component of the house in an ordinary container, under an ordinary worker, like the alerts. It reads what the node left in its files and writes only how far
it got (``STATE/forward``), so that no worker notices when it dies; the next life goes on where that file says. A mistake in one thread
ends the process: a new one is there at once, half a one is not seen for days.
"""

import asyncio
import os
import socket
import sys
import time

from holdfast.cli import place
from holdfast.forward import jsonlines, settings
from holdfast.forward.courier import Courier
from holdfast.forward.cursor import DIRECTORY, Cursor, began_unix_s
from holdfast.forward.flag import RefusalFlag
from holdfast.forward.reading import Feed
from holdfast.linux import locks
from holdfast.records.logs import Line
from holdfast.sdk import Component
from holdfast.sdk.logline import quoted, write_text
from holdfast.wire import layout
from holdfast.wire.jsonlite import dumps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from holdfast.forward.answers import Refused
    from holdfast.forward.courier import Target

_LOOK_S = 0.5
_STDOUT = 1
_NICE = 10
#: The lock that says that stdout is taken, while it is: the house writes nothing else there then.
_stdout: list[int] = []

app = Component("forward")


def say(level: str, event: str, **fields: object) -> None:
    """Write a line into the log of this worker; as JSON where JSON is all that stdout is for."""
    words = [f"level={level} component=forward {event}"]
    words += [f"{key}={quoted(value)}" for key, value in fields.items()]
    text = " ".join(words)
    if _stdout:
        line = Line(time.time(), "out", app.name, 0, text)
        text = dumps(jsonlines.line_value(line, ""))
    write_text(_STDOUT, text + "\n")


def courier(wanted: settings.Wanted, run_dir: str, state_dir: str, flag: RefusalFlag) -> Courier:
    """Return the courier of one target.

    Raises:
        settings.BrokenError: The target cannot be used.
    """
    cursor = Cursor(f"{state_dir}/{DIRECTORY}/{wanted.name}.json", began_unix_s(run_dir))
    if cursor.trouble:
        say("warning", cursor.trouble, target=wanted.name)
    given = wanted.given
    feed = Feed(run_dir, state_dir, cursor, wanted.workers, wanted.has_house, wanted.has_incidents, say)  # fmt: skip
    target: Target
    measure: Callable[[], Refused] | None = None
    if wanted.sort == "otlp":
        # Imported here and below: urllib and ssl cost 5 MB that who has a journal need not pay.
        from holdfast.forward.collector import Collector
        from holdfast.forward.otlp import Resources
        from holdfast.forward.posting import Poster

        poster = Poster(
            settings.endpoint(given, os.environ), settings.headers(given, os.environ),
            float(given.get("timeout", 10.0)), given.get("compress", True),
        )  # fmt: skip
        host = socket.gethostname()
        target = collector = Collector(poster, Resources(host, given.get("attributes", {})))
        if given.get("metrics", True):
            from holdfast.cli.metrics_taking import Reader

            where = place.Place(state_dir, "")
            where.run_dir = run_dir
            reader = Reader(where)

            def measure() -> "Refused":
                return collector.measure(reader)

    elif wanted.sort == "journald":
        from holdfast.forward.journald import SOCKET, Journald

        target = Journald(given.get("socket", SOCKET))
    else:
        path = str(given.get("path", ""))
        if not path:
            _take_stdout(run_dir)
        target = jsonlines.JsonLines(path)
    return Courier(wanted.name, target, feed, cursor, say, measure, float(given.get("every", 60.0)), flag=flag)  # fmt: skip


def _take_stdout(run_dir: str) -> None:
    if jsonlines.is_own_log(run_dir):
        raise settings.BrokenError("stdout is Holdfast's own log here; name a path")
    lock = locks.take(f"{run_dir}/{layout.lock('stdout')}")
    if lock is None:
        raise settings.BrokenError("another process writes JSON to this stdout")
    _stdout.append(lock)


def _places() -> "tuple[str, str]":
    run_dir = os.environ["HOLDFAST_RUN"]
    return run_dir, os.path.realpath(f"{run_dir}/{layout.STATE_LINK}")


async def _alone(state_dir: str) -> None:
    """Wait until nobody else forwards for this node."""
    os.makedirs(f"{state_dir}/{DIRECTORY}", mode=0o700, exist_ok=True)
    path = f"{state_dir}/{DIRECTORY}/forward.lock"
    is_said = False
    while locks.take(path) is None:
        if not is_said:
            is_said = True
            say("warning", "another process forwards for this node; waiting for its end", pid=locks.holder(path))  # fmt: skip
        await asyncio.sleep(_LOOK_S)


@app.task
async def serve() -> None:
    """Forward until the end."""
    run_dir, state_dir = _places()
    await _alone(state_dir)
    flag = RefusalFlag(run_dir, os.environ["HOLDFAST_WORKER"])
    couriers = []
    for wanted in settings.read(app.settings):
        try:
            couriers.append(courier(wanted, run_dir, state_dir, flag))
        except settings.BrokenError as error:
            say("error", "a target is broken", target=wanted.name, why=str(error))
    # A target that was away for a day is caught up with when nobody else needs the processor.
    os.nice(_NICE)
    for one in couriers:
        one.start()
    while not app.stopping.is_set():
        if any(one.error is not None for one in couriers):
            sys.exit(70)  # its traceback is in the log
        await asyncio.sleep(_LOOK_S)
