"""`holdfast dashboard …`: a link that signs in, the hash of a password, the dashboard in the foreground, who did what.

The dashboard is above the command line and is never imported by it: each word becomes a process of it (``python -m holdfast.dashboard``), which takes this
one's place. Leaves out what that does.
"""

import os
import sys

from holdfast.cli import commands, place

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from typing import Any


def add_arguments(parser: "ArgumentParser") -> None:
    """Declare the words that may follow, and what each takes."""
    verbs = parser.add_subparsers(dest="verb", metavar="VERB")
    link = commands.add_verb(
        verbs, "link", "print a link that signs in once, within ten minutes (also without a word)"
    )
    link.add_argument("--open", action="store_true", help="open it in the browser of this machine")
    link.add_argument("--reader", action="store_true", help="a link that may look, but do nothing")
    commands.add_verb(verbs, "password", "ask for a password and print its hash, for password_hash")
    serve = commands.add_verb(
        verbs, "serve", "serve it in the foreground: for a node without one, or one that is down"
    )
    serve.add_argument(
        "--listen",
        metavar="ADDRESS",
        help="HOST:PORT or PORT of this machine (default: 127.0.0.1:8750)",
    )
    serve.add_argument("--open", action="store_true", help="open it in the browser of this machine")
    audit = commands.add_verb(verbs, "audit", "list who signed in and who did what")
    audit.add_argument(
        "-n", "--lines", metavar="N", type=int, default=50, help="at most so many (default: 50)"
    )


def run(args: "Namespace") -> int:
    """Become a process of the dashboard."""
    verb = args.verb or "link"
    what: dict[str, Any] = {"json": args.json}
    if verb != "password":
        where = place.find(args)
        what |= {"state_dir": where.state_dir, "config": where.config}
    for name in ("open", "reader", "listen", "lines"):
        what[name] = getattr(args, name, None)
    return become(verb, what)


def become(verb: str, what: "dict[str, Any]") -> int:
    """Replace this process."""
    from json import dumps

    import holdfast

    home = os.path.dirname(os.path.dirname(os.path.abspath(holdfast.__file__)))
    path = os.pathsep.join(filter(None, (home, os.environ.get("PYTHONPATH"))))
    sys.stdout.flush()
    sys.stderr.flush()
    # -P: what lies in the directory that a person is in is no part of us.
    command = [sys.executable, "-P", "-m", "holdfast.dashboard", verb, dumps(what)]
    os.execve(sys.executable, command, {**os.environ, "PYTHONPATH": path})
