"""Which workers are of Holdfast's own: those that a table (``[alerts]``, ``[forward]``, ``[dashboard]``) asks for, and is their name free?

Each is a container like any other with one component of the table's name. What is in the table is the business of the module of that name.
"""

from typing import TYPE_CHECKING, Any

from holdfast.config.joined import Config
from holdfast.config.problems import Problems

if TYPE_CHECKING:
    from holdfast.model.plan import WorkerPlan


def check_name(name: str, config: Config, problems: Problems) -> None:
    """Note who has the name that the worker of the table ``[name]`` needs."""
    for table in (config.workers, config.components, config.groups):
        taken = table.get(name)
        if taken is not None:
            says = f'the name "{name}" is taken: it is the process that [{name}] asks for'
            problems.add(taken.where, says, "choose another name", of_key=True)


def made_of(plan: "WorkerPlan", name: str, use: str, settings: dict[str, Any]) -> "WorkerPlan":
    """Return the plan of such a worker, from that of one that has nothing of its own."""
    component: Any = {"name": name, "use": use, "settings": settings}
    return {**plan, "components": [component], "isolate": 0}
