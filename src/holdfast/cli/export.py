"""`holdfast export TARGET`: how does this node run under systemd, Kubernetes, Docker Compose or Ansible?

Prints the files, or writes them into a directory; a note on stderr for every wish that the target cannot fulfil.
"""

import os
import sys

from holdfast.cli import check, output
from holdfast.cli.commands import add_file, say
from holdfast.cli.words import count
from holdfast.config.exporters import TARGETS, export
from holdfast.config.exporters.sheet import Node
from holdfast.config.exporters.variables import needed
from holdfast.config.load import load
from holdfast.model.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace


def add_arguments(parser: "ArgumentParser") -> None:
    """Declare the arguments."""
    parser.add_argument("target", choices=TARGETS, help="what shall run it")
    add_file(parser)
    parser.add_argument(
        "--each", action="store_true",
        help="a unit or container for each worker, without Holdfast (default: one for the node)",
    )  # fmt: skip
    parser.add_argument(
        "--watched", action="store_true",
        help="systemd, ansible: let systemd watch the node and start it again (see docs: run-under-systemd)",
    )  # fmt: skip
    parser.add_argument(
        "-o", "--output", metavar="DIR", help="write into this directory (default: print)"
    )


def run(args: "Namespace") -> int:
    """Print or write the files."""
    if args.watched and (args.each or args.target not in ("systemd", "ansible")):
        msg = "export: --watched is for the node as one unit of systemd\n  leave out --each, or --watched"
        raise UsageError(msg)
    config = check.config_of(args)
    plan, said = load(config, os.environ, os.path.abspath(args.state) if args.state else None)
    given = Node(
        plan=plan,
        directory=os.path.dirname(config),
        config=config,
        program=_program(),
        user=_owner(config),
        variables=needed(config, os.environ),
        environ=os.environ,
        is_watched=args.watched,
    )
    result = export(args.target, given, each=args.each)
    notes = [*said, *result.notes]
    written = _write(args.output, result.files) if args.output else []
    if args.json:
        output.document({"files": result.files, "notes": notes, "written": written})
        return 0
    if not args.output:
        sys.stdout.write(_printed(result.files))
        sys.stdout.flush()
    for note in notes:
        say(f"note: {note}")
    for path in written:
        say(f"wrote {path}")
    if not result.files:
        say("nothing was written: there is no worker that could run without Holdfast")
        return 1
    if written and notes:
        say(f"{count(len(notes), 'note')}: read them before you use the files")
    return 0


def _printed(files: "dict[str, str]") -> str:
    if len(files) == 1:
        return next(iter(files.values()))
    return "\n".join(f"# ---- {name}\n{text}" for name, text in files.items())


def _write(directory: str, files: "dict[str, str]") -> "list[str]":
    """Write the files, all of them or none: nobody's own unit is replaced.

    Raises:
        UsageError: One of them is there already, or the directory cannot be written.
    """
    paths = {os.path.join(directory, name): text for name, text in files.items()}
    for path in paths:
        if os.path.lexists(path):
            msg = f"{path}: this is there already, nothing was written\n  name another directory, or remove it"
            raise UsageError(msg)
    written: list[str] = []
    try:
        for path, text in paths.items():
            os.makedirs(os.path.dirname(path), exist_ok=True)
            # Bytes of the configuration that were no UTF-8 leave as they were.
            with open(path, "x", encoding="utf-8", errors="surrogateescape") as file:
                written.append(path)
                file.write(text)
    except OSError as error:
        for path in written:
            os.unlink(path)
        msg = f"{error.filename or directory}: cannot be written: {(error.strerror or str(error)).lower()}"
        raise UsageError(msg) from None
    return list(paths)


def _program() -> str:
    """Return the holdfast command that belongs to this interpreter, or the one on the PATH."""
    import shutil

    beside = os.path.join(os.path.dirname(sys.executable), "holdfast")
    return (
        beside
        if os.access(beside, os.X_OK)
        else shutil.which("holdfast") or "/usr/local/bin/holdfast"
    )


def _owner(config: str) -> str:
    """Return whom the node runs as: whoever owns the configuration, "" for root."""
    import pwd

    uid = os.stat(config).st_uid
    if uid == 0:
        return ""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
