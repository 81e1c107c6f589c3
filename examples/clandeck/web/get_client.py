#!/usr/bin/env python3
"""Where does the browser's WAMP client come from? Exactly that package that package-lock.json names, or nothing.

    python3 get_client.py [DIRECTORY]        default: vendor/ beside this file

How it is fetched, checked and put in place all at once is script/npm_files.py of the checkout, which the dashboard's pages use, too.
Exit status 0: the client is there; 1: it could not be had, and why. Needs nothing but Python.
"""

import runpy
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
TOOL = HERE.parents[2] / "script" / "npm_files.py"


def main() -> int:
    """Do it, and return the exit status."""
    directory = Path(sys.argv[1]).absolute() if len(sys.argv) > 1 else HERE / "vendor"
    if not TOOL.exists():
        sys.stderr.write(
            f"the WAMP client of the page could not be fetched:\n  {TOOL} is missing: this example is part of a checkout\n"
        )
        return 1
    status: int = runpy.run_path(str(TOOL))["fetch"](HERE, directory, "the WAMP client of the page")
    return status


if __name__ == "__main__":
    sys.exit(main())
