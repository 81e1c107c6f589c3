"""From a configuration file to a checked plan, or to all that is wrong with it.

The way in to this room: reading (files, includes, variables), then checking against the definitions, then compiling. A
node configuration of Crossbar.io takes the same way, after it has been put into our words.
"""

import gc
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

from holdfast.config.compile import compile_plan
from holdfast.config.problems import Problems
from holdfast.config.reading import read_all

if TYPE_CHECKING:
    from holdfast.model.plan import Plan

_CROSSBAR = (".json", ".yaml", ".yml")


class Loaded(NamedTuple):
    """A plan, and what a person should know about it although it runs."""

    plan: "Plan"
    #: Settings without a counterpart, and what is probably not meant: ``file:line key: what to do``.
    notes: list[str]


def load(path: str, environ: Mapping[str, str], state_dir: str | None = None) -> Loaded:
    """Return the plan that a configuration file asks for, every default filled in, every path absolute.

    Args:
        path: The file: a holdfast.toml, or a node configuration of Crossbar.io (.json, .yaml).
        environ: The environment: for ``${NAME}``, for PATH, and to be passed on to the workers.
        state_dir: The state directory, where it is not to be the one that the file names.

    Raises:
        ConfigProblems: (a ConfigError) Everything that is wrong, in file order; ``details`` has it as values.
        ConfigError: A file of Crossbar.io has not the shape of one.
    """
    # A thousand workers are some hundred thousand objects, none of them garbage: looking for
    # garbage among them takes a third of the time.
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        problems = Problems()
        notes: list[str] = []
        if path.lower().endswith(_CROSSBAR):
            from holdfast.config import crossbar  # 10 ms that most files have no use for

            document, notes = crossbar.read(path, environ, problems)
            documents = [document]
        else:
            documents = read_all(path, environ, problems)
        plan = compile_plan(documents, environ, problems, state_dir)
        problems.finish()
    finally:
        if was_enabled:
            gc.enable()
    return Loaded(plan, [*notes, *map(str, problems.warnings())])


def load_plan(path: str, environ: Mapping[str, str]) -> "Plan":
    """Return the plan alone, for those who have nobody to tell notes to.

    Raises:
        ConfigProblems: (a ConfigError) Everything that is wrong.
    """
    return load(path, environ).plan
