"""`holdfast incident ID`: the story of one failure, for a person at 3 am; or a file of its evidence."""

import os
import sys
import time

from holdfast.cli import output, place, terminal
from holdfast.cli.words import nearest, size
from holdfast.diagnosis.story import story
from holdfast.model.errors import StateError, UsageError
from holdfast.records import incidents as records

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from typing import Any


def add_arguments(parser: "ArgumentParser") -> None:
    """Declare the arguments."""
    parser.add_argument(
        "id", nargs="?", metavar="ID", help="its id, or the beginning of it (default: the last one)"
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--log", action="store_true", help="the last lines the worker wrote")
    what.add_argument("--stacks", action="store_true", help="the stacks of its threads")
    what.add_argument("--files", action="store_true", help="the files of its evidence bundle")


def run(args: "Namespace") -> int:
    """Tell the story, or print a file of the bundle."""
    where = place.find(args)
    name = args.id or _last(where)
    incident = _load(where, name)
    path = incident["path"]
    if args.files:
        return _files(args, path)
    if args.log or args.stacks:
        file = os.path.join(path, "log.txt" if args.log else "stacks.txt")
        return _text(args, incident, file)
    timeline = records.timeline(where.state_dir, os.path.basename(path))
    incident["consequences"] = records.consequences(where.state_dir, str(incident["id"]))
    if args.json:
        output.document({**incident, "timeline": timeline})
        return 0
    offset_s = time.localtime(incident.get("opened_unix_s") or time.time()).tm_gmtoff
    columns, _ = terminal.size_of()
    width = 0 if columns == terminal.UNLIMITED else columns
    sys.stdout.write(story(incident, timeline, offset_s, width))
    return 0


def _last(where: place.Place) -> str:
    rows = records.list_incidents(where.state_dir, limit=1)
    if not rows:
        msg = f"there is no incident in {where.state_dir}"
        raise UsageError(msg)
    return str(rows[0]["id"])


def _load(where: place.Place, name: str) -> "dict[str, Any]":
    try:
        return records.load(where.state_dir, name)
    except StateError as error:
        # A name that does not exist is a mistake of the person, not damage on the disk.
        meant = nearest(name, [row["id"] for row in records.list_incidents(where.state_dir)])
        hint = f'\n  Did you mean "{meant}"?' if meant and meant != name else ""
        msg = f"{error}{hint}"
        raise UsageError(msg) from None


def _files(args: "Namespace", path: str) -> int:
    found: list[dict[str, Any]] = [
        {"path": os.path.join(path, name), "bytes": os.path.getsize(os.path.join(path, name))}
        for name in sorted(os.listdir(path))
    ]
    if args.json:
        output.document({"files": found})
    else:
        for entry in found:
            print(f"{size(entry['bytes']):>6}  {entry['path']}")
    return 0


def _text(args: "Namespace", incident: "dict[str, Any]", file: str) -> int:
    try:
        with open(file, encoding="utf-8", errors="replace") as opened:
            text = opened.read()
    except FileNotFoundError:
        what = "log lines" if args.log else "stacks"
        msg = (
            f"{file}: no {what} were kept with this incident\n  holdfast incident {incident['id']}"
        )
        raise UsageError(msg) from None
    if args.json:
        output.document({"id": incident["id"], "path": file, "lines": text.splitlines()})
    else:
        sys.stdout.write(text if text.endswith("\n") or not text else text + "\n")
    return 0
