"""What the pages ask for, one idea a file: functions of the site and an :class:`~holdfast.dashboard.asking.Ask`.

Plain ones run in a thread and may block; coroutines run on the loop. What they return is JSON, or says itself what it is.
"""

from holdfast.dashboard.api import alerts, bus, incidents, jobs, logs, machine, orders, workers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

#: Method, path, function.
ROUTES: "list[tuple[str, str, Callable[..., Any]]]" = [
    ("GET", "/api/workers/{name}", workers.worker),
    ("GET", "/api/workers/{name}/chart", workers.chart),
    ("GET", "/api/workers/{name}/log", logs.page),
    ("GET", "/api/workers/{name}/log/live", logs.live),
    ("GET", "/api/incidents", incidents.feed),
    ("GET", "/api/incidents/{id}", incidents.incident),
    ("GET", "/api/incidents/{id}/text", incidents.text),
    ("GET", "/api/incidents/{id}/bundle", incidents.bundle),
    ("GET", "/api/incidents/{id}/files/{file}", incidents.file),
    ("GET", "/api/bus", bus.bus),
    ("GET", "/api/jobs", jobs.stores),
    ("GET", "/api/jobs/list", jobs.listed),
    ("GET", "/api/jobs/job/{id}", jobs.job),
    ("POST", "/api/jobs", jobs.change),
    ("GET", "/api/machine", machine.machine),
    ("POST", "/api/orders", orders.give),
    ("GET", "/api/orders/{id}", orders.look),
    ("GET", "/api/orders/{id}/profile.speedscope.json", orders.result),
    ("POST", "/api/alerts/{id}", alerts.change),
]
