"""Which variables does a configuration need from the environment of whoever starts the node?

Those that stand in it as ``${NAME}`` without a default. Their values are never looked at.
"""

import re
import tomllib
from collections.abc import Iterator, Mapping

from holdfast.config.problems import Problems
from holdfast.config.reading import read_all

#: As the reader of the configuration has it: `$$` is a dollar, `${NAME:-default}` needs nothing.
_VARIABLE = re.compile(r"\$\$|\$\{([A-Za-z_][A-Za-z0-9_]*)\}")


def needed(path: str, environ: Mapping[str, str]) -> tuple[str, ...]:
    """Return the names, in the order in which they stand in the file and in what it includes."""
    if not path.endswith(".toml"):
        return ()  # a node configuration of Crossbar.io: its variables are notes already
    found: dict[str, None] = {}
    # Only to learn which files there are: that variables are missing is said elsewhere.
    for document in read_all(path, environ, Problems()):
        for text in _texts(tomllib.loads(document.text)):
            found |= dict.fromkeys(name for name in _VARIABLE.findall(text) if name)
    return tuple(found)


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for below in value.values():
            yield from _texts(below)
    elif isinstance(value, list):
        for below in value:
            yield from _texts(below)
