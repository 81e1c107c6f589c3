"""`holdfast metrics`: the node in figures, printed once, or served to whoever scrapes and probes it.

``/metrics`` for Prometheus, ``/livez`` and ``/readyz`` for load balancers and orchestrators. The serving process is a guest like any other
(``command = ["holdfast", "metrics", "--listen", …]``): it holds nothing that is not read again after its death.
"""

import gc
import os
import sys
import threading
import time

from holdfast.cli import output, place
from holdfast.cli.metrics_taking import Reader
from holdfast.model.errors import HoldfastError, UsageError
from holdfast.records import metrics, openmetrics
from holdfast.wire import layout
from holdfast.wire.jsonlite import dumps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from typing import Any

    from holdfast.cli.metrics_serving import Answer
    from holdfast.records.metrics import State

#: How long a request waits for the look that another one is taking.
_PATIENCE_S = 5.0
_TEXT = "text/plain; charset=utf-8"
_INDEX = "/metrics   figures of the node\n/livez     200 while this process answers\n/readyz    200 while the node is ready, else 503 and why\n"


def add_arguments(parser: "ArgumentParser") -> None:
    """Declare the arguments."""
    how = parser.add_mutually_exclusive_group()
    how.add_argument(
        "--listen", metavar="ADDRESS", help="serve /metrics, /livez and /readyz at HOST:PORT, until killed"
    )  # fmt: skip
    how.add_argument("--once", action="store_true", help="print them once (the default)")
    parser.add_argument(
        "--host", metavar="NAME", action="append", default=[],
        help="a name that requests may use for this server, besides localhost and addresses; may be repeated",
    )  # fmt: skip


def run(args: "Namespace") -> int:
    """Print the figures, or serve them until somebody kills this process."""
    if args.host and not args.listen:
        msg = "--host: only with --listen\n  holdfast metrics --listen 127.0.0.1:9464 --host NAME"
        raise UsageError(msg)
    where = _place(args)
    if not args.listen:
        place.need_running(where)
        _print(Reader(where), is_json=args.json)
        return 0
    from holdfast.cli import metrics_serving  # h11 costs 60 ms, and printing needs none

    listener = metrics_serving.listen(*metrics_serving.parse_address(args.listen))
    host, port = listener.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    sys.stderr.write(f"metrics: http://{shown}:{port}/metrics\n")
    sys.stderr.flush()
    # A look at a thousand workers makes a hundred thousand objects, and none of them in a circle: searching for circles is half its time.
    gc.freeze()
    gc.set_threshold(500_000, 5, 5)
    metrics_serving.Server(listener, Face(Reader(where)).answer, args.host).serve()
    return 0


def _place(args: "Namespace") -> place.Place:
    """Return the node that is meant: a worker that names none means its own, wherever it runs."""
    run_dir = os.environ.get("HOLDFAST_RUN", "")
    if run_dir and not (args.state or args.config):
        try:
            found = place.Place(os.readlink(f"{run_dir}/{layout.STATE_LINK}"), "")
        except OSError:
            return place.find(args)  # left over from a node that is gone
        found.run_dir = run_dir
        return found
    return place.find(args)


def _print(reader: Reader, *, is_json: bool) -> None:
    state = reader.read()
    if not reader.deaths.is_whole:
        # The journal was shortened: what is left of it would be told as too few.
        state["deaths"] = None
    families = metrics.families(state)
    if is_json:
        output.document({**_readiness(state), "metrics": openmetrics.values(families)})
    else:
        sys.stdout.write(openmetrics.openmetrics(families).decode())


def _readiness(state: "State") -> "dict[str, Any]":
    reasons = metrics.not_ready(state)
    return {"node": state["node"], "ready": not reasons, "reasons": reasons}


class Face:
    """Answers requests about one node, from many threads."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._lock = threading.Lock()
        self._began_s = 0.0
        self._state: State | None = None

    def answer(self, path: str, accept: str) -> "Answer":
        """Return the answer to one request."""
        if path == "/livez":
            return 200, "ok\n", _TEXT
        if path == "/":
            return 200, _INDEX, _TEXT
        if path not in ("/metrics", "/readyz"):
            return 404, f"there is nothing of that name; there are:\n{_INDEX}", _TEXT
        try:
            state = self._look()
        except (HoldfastError, OSError) as error:
            return 500, f"{error}\n", _TEXT
        if state is None:
            return (
                503,
                "an earlier look at the node has not come to an end: a disk or a socket hangs\n",
                _TEXT,
            )
        if path == "/readyz":
            said = _readiness(state)
            return (200 if said["ready"] else 503), dumps(said) + "\n", openmetrics.JSON
        families = metrics.families(state)
        kind = openmetrics.negotiate(accept)
        if kind == openmetrics.JSON:
            found = {**_readiness(state), "metrics": openmetrics.values(families)}
            return 200, dumps(found) + "\n", kind
        write = openmetrics.openmetrics if kind == openmetrics.OPENMETRICS else openmetrics.prometheus  # fmt: skip
        return 200, write(families), kind

    def _look(self) -> "State | None":
        """Return the state of the node, as it is after this was called; None: it cannot be had in time.

        Sixteen requests at once are one look or two, not sixteen.
        """
        asked_s = time.monotonic()
        if not self._lock.acquire(timeout=_PATIENCE_S):
            return None
        try:
            if self._state is None or self._began_s < asked_s:
                self._began_s, self._state = time.monotonic(), None
                self._state = self._reader.read()
            return self._state
        finally:
            self._lock.release()
