"""How does a router begin to serve, inside a container or alone, and how does it take another plan over?

The component `app` finds its plan in its worker's entry of `RUN/plan.json` and its listening sockets among the inherited ones;
tests and measurements call :func:`serve` with their own. Another plan is noticed by the file's inode, four times a second:
`holdfast apply` does not restart a router.
"""

import gc
import os
import resource
import sys

from holdfast.model.errors import ConfigError
from holdfast.router.port import Port
from holdfast.router.router import Router
from holdfast.router.slowflag import SlowFlag
from holdfast.sdk import Component
from holdfast.sdk.logline import Log
from holdfast.sdk.serving import listen_fds
from holdfast.wire import jsonlite, layout

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from collections.abc import Mapping

    from holdfast.model.bus import RouterPlan

#: Exit status of a wrong configuration, as a container's.
MISCONFIGURED = 78

#: A message of a megabyte of empty arrays makes a million objects; Python's own 700 between two passes of its collector doubles what that
#: costs. What a router makes by the message has no circles.
_COLLECT_AT = 20_000, 20, 20

#: Seconds between two looks at the plan.
LOOK_S = 0.25

app = Component("router")


class PlanFile:
    """The router's part of the plan that the node runs by."""

    __slots__ = ("_path", "_stamp", "_worker")

    def __init__(self, run_dir: str, worker: str) -> None:
        self._path = f"{run_dir}/{layout.PLAN}"
        self._worker = worker
        self._stamp: tuple[int, int] | None = None

    def changed(self) -> bool:
        """Whether there is another file than the one that was read last."""
        try:
            info = os.stat(self._path)
        except FileNotFoundError:
            return False  # the run directory is being torn down
        return (info.st_ino, info.st_mtime_ns) != self._stamp

    def read(self) -> "RouterPlan | None":
        """Return the plan of this router; None: the node has no such router any more."""
        with open(self._path, encoding="utf-8") as file:
            info = os.fstat(file.fileno())
            plan = jsonlite.loads(file.read())
        self._stamp = (info.st_ino, info.st_mtime_ns)
        entry = next((entry for entry in plan["workers"] if entry["name"] == self._worker), None)
        found: RouterPlan | None = entry.get("router") if entry is not None else None
        return found


async def serve(
    plan: "RouterPlan",
    sockets: "Mapping[str, socket.socket]",
    log: Log | None = None,
    name: str = "router",
    flag: SlowFlag | None = None,
) -> Router:
    """Serve a plan on listening sockets, which are given by the name that their endpoint has; returns at once.

    Raises:
        LookupError: There is no socket for a transport of the plan.
        ConfigError: The router's key cannot be used.
    """
    _raise_descriptor_limit()
    gc.set_threshold(*_COLLECT_AT)
    router = Router(plan, log or Log(name), name, flag)
    for transport in plan["transports"]:
        listener = transport["endpoint"]["listener"]
        listening = sockets.get(listener)
        if listening is None:
            has = ", ".join(sockets) or "none"
            raise LookupError(
                f'transport "{transport["name"]}" has no listening socket "{listener}" (there are: {has})'
            )
        Port(router, transport, listening).open()
    router.links.configure(plan)
    return router


def _raise_descriptor_limit() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


class _Hosted:
    """The router of this process."""

    router: Router | None = None
    file: PlanFile


@app.on_start
async def start() -> None:
    """Begin to serve."""
    name = os.environ["HOLDFAST_WORKER"]
    _Hosted.file = PlanFile(os.environ["HOLDFAST_RUN"], name)
    try:
        plan = _Hosted.file.read()
        if plan is None:
            raise LookupError(f'worker "{name}" is no router in the plan')
        flag = SlowFlag(os.environ["HOLDFAST_RUN"], name)
        _Hosted.router = await serve(plan, listen_fds(), app.log, name, flag)
        app.bound.answers["traffic"] = _Hosted.router.traffic
        app.bound.metrics.bus = _Hosted.router.totals
    except (LookupError, ConfigError) as error:
        app.log.error("this router cannot start", says=str(error))
        sys.exit(MISCONFIGURED)


@app.on_stop
async def stop() -> None:
    """End within a process that lives on; otherwise nobody waits for this."""
    router, _Hosted.router = _Hosted.router, None
    if router is not None:
        router.close()


@app.every(LOOK_S)
async def look_at_plan() -> None:
    """Take another plan over when there is one."""
    router = _Hosted.router
    if router is None or not _Hosted.file.changed():
        return
    try:
        plan = _Hosted.file.read()
    except ValueError as error:
        app.log.error("the new plan cannot be read; the one before goes on", says=str(error))
        return
    if plan is not None and plan != router.plan:
        for says in router.reconfigure(plan):
            app.log.info("plan taken over", what=says)


@app.health
async def nobody_was_cut_off() -> bool:
    """Say who was cut off lately."""
    return _Hosted.router is None or _Hosted.router.health()
