"""The process that `holdfast top` is: small, because it runs on boxes that are short of memory.

The command line has cost 3 MB for reading its arguments by the time that it knows what is wanted. It replaces itself by an interpreter without
``site`` and ``argparse``, started by file as a house process is, that gives memory back early. Leaves out what is shown.
"""

import os
import sys

from holdfast.cli import place
from holdfast.cli.terminal import Paint
from holdfast.cli.tops import screen
from holdfast.cli.tops.app import App
from holdfast.cli.tops.charts import glyphs_for
from holdfast.linux import procfs
from holdfast.linux import signals as signal
from holdfast.model.errors import HoldfastError
from holdfast.wire.jsonlite import dumps, loads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

_FILE = __file__.rpartition("/")[0] + "/__main__.py"
#: As the house processes have it: the answer for 1,000 workers comes and goes each second.
_MALLOC = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536", "MALLOC_ARENA_MAX": "1"}  # fmt: skip
_INTERNAL = 70


def become(choices: "dict[str, Any]") -> "NoReturn":
    """Replace this process by the one that draws."""
    sys.stdout.flush()
    os.execve(
        sys.executable, [sys.executable, "-I", "-S", _FILE, dumps(choices)], {**os.environ, **_MALLOC}
    )  # fmt: skip


def main(argv: "list[str]") -> int:
    """Show the node until the person has seen enough; return the exit status."""
    for name in _MALLOC:
        os.environ.pop(name, None)  # for us, not for what we start
    choices = loads(argv[1])
    procfs.name_self("holdfast-top")
    where = place.Place(choices["state_dir"], choices["config"])
    glyphs = glyphs_for(choices["encoding"], os.environ.get("TERM", ""))
    app = App(
        where, Paint(choices["colour"]), glyphs,
        every_s=choices["every_s"], is_read_only=choices["read_only"],
    )  # fmt: skip
    app.choice.pattern = choices["filter"]
    try:
        with screen.Screen(choices["encoding"]) as taken:
            app.run(taken)
    except screen.Ended as ended:
        # The terminal is given back; what is left is to end as somebody who was told to.
        signal.signal(ended.number, signal.SIG_DFL)
        os.kill(os.getpid(), ended.number)
    except KeyboardInterrupt:
        return 130
    except HoldfastError as error:
        os.write(2, f"{error}\n".encode("utf-8", "replace"))
        return error.exit_status
    except Exception as error:
        if os.environ.get("HOLDFAST_DEBUG", "") not in ("", "0"):
            raise
        text = (
            f"holdfast made a mistake: {type(error).__name__}: {error}\n"
            "  run it again with HOLDFAST_DEBUG=1 for the traceback, and please report it\n"
        )
        os.write(2, text.encode("utf-8", "replace"))
        return _INTERNAL
    return 0
