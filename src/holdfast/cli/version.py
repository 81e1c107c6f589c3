"""`holdfast version`: which version is this, and on what does it run?"""

import os
import platform
import sys

import holdfast
from holdfast.cli import output

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace


def add_arguments(parser: "ArgumentParser") -> None:
    """Declare no arguments: the global options are all there is."""
    del parser


def run(args: "Namespace") -> int:
    """Print the version."""
    if args.json:
        output.document(
            {
                "version": holdfast.__version__,
                "python": platform.python_version(),
                "executable": sys.executable,
                "kernel": os.uname().release,
            }
        )
    else:
        print(
            f"holdfast {holdfast.__version__} (Python {platform.python_version()}, Linux {os.uname().release})"
        )
    return 0
