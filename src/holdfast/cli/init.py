"""`holdfast init`: what does a first configuration look like? Written, and never over something that is there."""

import os
from shlex import quote

from holdfast.cli import output
from holdfast.config.find import starter_toml
from holdfast.model.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace


def add_arguments(parser: "ArgumentParser") -> None:
    """Declare the arguments."""
    parser.add_argument(
        "directory", nargs="?", default=".", metavar="DIR", help="where to (default: here)"
    )


def run(args: "Namespace") -> int:
    """Write the files of the starter, all or none."""
    directory = os.path.abspath(args.directory)
    files = starter_toml(os.path.basename(directory) or "node")
    taken = [name for name in files if os.path.lexists(os.path.join(directory, name))]
    if taken:
        msg = (
            f"{os.path.join(directory, taken[0])}: this is there already, nothing was written\n"
            "  move it away, or:  holdfast init ANOTHER_DIRECTORY"
        )
        raise UsageError(msg)
    written = []
    for name, text in files.items():
        path = os.path.join(directory, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        # "x": somebody who was quicker keeps what is theirs.
        with open(path, "x", encoding="utf-8") as file:
            file.write(text)
        written.append(path)
    if args.json:
        output.document({"written": written})
    else:
        for path in written:
            print(f"wrote {path}")
        into = "" if directory == os.getcwd() else f"cd {quote(args.directory)} && "
        print(f"now:  {into}holdfast up")
    return 0
