"""`holdfast diff`: what would `apply` change in the running node?"""

from holdfast.cli import check, output, place
from holdfast.cli.commands import add_file
from holdfast.config.diff import diff_plans, explain, keep_environment
from holdfast.core import parts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from typing import Any

    from holdfast.model.plan import Plan


def add_arguments(parser: "ArgumentParser") -> None:
    """Declare the arguments."""
    add_file(parser)


def run(args: "Namespace") -> int:
    """Print the difference; 0 whether there is one or not."""
    _, _, change = compare(args)
    if args.json:
        output.document(change)
    else:
        print("\n".join(change["says"]) if change["says"] else "no difference")
    return 0


def compare(args: "Namespace") -> "tuple[place.Place, Plan, dict[str, Any]]":
    """Return the running node, the plan that its configuration asks for now, and what is different.

    Raises:
        ConfigError: The configuration is wrong.
        NotRunning: There is nothing to compare with.
    """
    config = check.config_of(args)
    new = check.plan_of(args, config)
    where = place.Place(new["state_dir"], config)
    place.need_running(where)
    running: Any = place.read_plan(where)
    new = keep_environment(new, running)
    # A split is the node's own doing, not a difference that somebody wrote.
    changes = diff_plans(parts.written(running), new)
    listed = [
        {"worker": c.worker, "action": c.action, "keys": list(c.keys), "details": list(c.details)}
        for c in changes
    ]
    return (
        where,
        new,
        {"node": new["node"], "config": config, "changes": listed, "says": explain(changes)},
    )
