"""Which hooks does a process get, and when? Nothing is imported that the program does not import itself."""

from holdfast.agent import children, greenlets, handlers, holding, pools, tasks, threads, web
from holdfast.agent.imports import after_import

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from holdfast.agent.report import Reporter


def install(reporter: "Reporter") -> None:
    """Count tasks, threads, greenlets and requests of this process from now on."""

    def gevent(module: "Any") -> None:
        greenlets.install_gevent(module)
        reporter.uses_greenlets = True

    def eventlet(module: "Any") -> None:
        greenlets.install_eventlet(module)
        reporter.uses_greenlets = True

    after_import("threading", threads.install)
    after_import("concurrent.futures.thread", threads.install_executor)
    tasks.install()
    after_import("gevent.greenlet", gevent)
    after_import("eventlet.greenthread", eventlet)
    after_import("multiprocessing.popen_fork", children.install)
    children.count_starts(after_import)
    after_import("logging", handlers.install)
    web.install()
    pools.install()
    holding.install()
