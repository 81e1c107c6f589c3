"""The process that hosts components; started by the keeper (ARCHITECTURE, "The environment of a worker")."""

import sys

try:
    import holdfast
except ModuleNotFoundError:
    # The worker's interpreter may be another one than ours (an application's own virtual environment):
    # the package that this very file belongs to is then put last, where it shadows nothing.
    sys.path.append(__file__.rsplit("/", 3)[0])
    import holdfast  # noqa: F401

from holdfast.container.host import main

main()
