"""From ``holdfast.toml`` to a checked plan, or to all that is wrong with it.

The way in to this room: reading (files, includes, variables), then checking against the definitions, then compiling.
"""

import gc
from collections.abc import Mapping
from typing import TYPE_CHECKING

from holdfast.config.compile import compile_plan
from holdfast.config.problems import Problems
from holdfast.config.reading import read_all

if TYPE_CHECKING:
    from holdfast.model.plan import Plan


def load_plan(path: str, environ: Mapping[str, str]) -> "Plan":
    """Return the plan that a configuration file asks for, every default filled in, every path absolute.

    Args:
        path: The file.
        environ: The environment: for ``${NAME}``, for PATH, and to be passed on to the workers.

    Raises:
        ConfigProblems: (a ConfigError) Everything that is wrong, in file order; ``details`` has it as values.
    """
    # A thousand workers are some hundred thousand objects, none of them garbage: looking for
    # garbage among them takes a third of the time.
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        problems = Problems()
        plan = compile_plan(read_all(path, environ, problems), environ, problems)
        problems.finish()
    finally:
        if was_enabled:
            gc.enable()
    return plan
