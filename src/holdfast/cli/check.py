"""`holdfast check`: what is wrong with the configuration? Everything at once, with places."""

import os

from holdfast.cli import output, place
from holdfast.cli.commands import add_file, say
from holdfast.cli.words import count
from holdfast.config.load import load
from holdfast.model.errors import ConfigError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from typing import Any

    from holdfast.config.problems import Problem
    from holdfast.model.plan import Plan


def add_arguments(parser: "ArgumentParser") -> None:
    """Declare the arguments."""
    add_file(parser)


def run(args: "Namespace") -> int:
    """Check the configuration; 2 when something is wrong."""
    config = config_of(args)
    try:
        plan, notes = load(config, os.environ, _state_dir(args))
    except ConfigError as error:
        if args.json:
            problems = [_problem(detail) for detail in getattr(error, "details", [])]
            output.document(
                {
                    "config": config,
                    "ok": False,
                    "problems": problems or [{"says": p} for p in error.problems],
                }
            )
        else:
            say("\n".join(error.problems))
            say(count(len(error.problems), "problem"))
        return error.exit_status
    workers = plan["workers"]
    components = sum(len(worker["components"]) for worker in workers)
    if args.json:
        output.document(
            {
                "config": config,
                "ok": True,
                "problems": [],
                "node": plan["node"],
                "workers": len(workers),
                "components": components,
                "digest": plan["digest"],
                "notes": notes,
            }
        )
    else:
        tell(notes)
        print(f"ok: {count(len(workers), 'worker')}, {count(components, 'component')}")
    return 0


def _problem(detail: "Problem") -> "dict[str, Any]":
    return {
        "file": detail.file,
        "line": detail.line,
        "column": detail.column,
        "key": detail.key,
        "says": detail.says,
        "hints": list(detail.hints),
    }


def config_of(args: "Namespace") -> str:
    """Return the configuration file that is meant: the argument, ``--config``, or the nearest.

    Raises:
        UsageError: There is none.
    """
    config = place.find_config(getattr(args, "file", None) or args.config)
    if not config:
        msg = (
            f"there is no {place.CONFIG_NAME} in {os.getcwd()} or above it\n"
            "  make one:  holdfast init        or name it:  -c PATH"
        )
        raise UsageError(msg)
    return config


def plan_of(args: "Namespace", config: str) -> "Plan":
    """Return the plan that a configuration asks for, with its state where ``--state`` wants it; notes are said.

    Raises:
        ConfigError: The configuration is wrong.
    """
    plan, notes = load(config, os.environ, _state_dir(args))
    tell(notes)
    return plan


def tell(notes: "list[str]") -> None:
    """Say what has no counterpart, or is probably not meant: it runs, but nothing is ignored in silence."""
    for note in notes:
        say(f"note: {note}")


def _state_dir(args: "Namespace") -> "str | None":
    return os.path.abspath(args.state) if args.state else None
