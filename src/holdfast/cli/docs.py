"""`holdfast docs TOPIC`: what do the pages say that came with the program?

At 3 am on a box without a browser, a page has to be readable here. Shows Markdown on a terminal, as much of it as our pages use; into
a pipe it goes as it is. Leaves out finding a word in all of them: grep does that, `holdfast docs --where` says where.
"""

import os
import re
import sys

from holdfast.cli import output
from holdfast.cli.terminal import paint_for, size_of
from holdfast.cli.words import nearest
from holdfast.model.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from holdfast.cli.terminal import Paint

_SECTIONS = ("tutorial", "how-to", "reference", "explanation")
_COMMENT = re.compile(r"<!--.*?-->\n?", re.DOTALL)
_LINK = re.compile(r"!?\[([^\]]*)\]\(([^)]*)\)")
_INLINE = re.compile(r"\*\*(.+?)\*\*|`([^`]+)`")


def add_arguments(parser: "ArgumentParser") -> None:
    """Declare the arguments."""
    parser.add_argument(
        "topic", nargs="?", metavar="TOPIC", help="the page, as `limits-and-memory` (default: list)"
    )
    parser.add_argument("--where", action="store_true", help="print the path of the page instead")


def run(args: "Namespace") -> int:
    """List the pages, or show one.

    Raises:
        UsageError: There is no such page, or no pages came with this installation.
    """
    pages = found()
    if not pages:
        msg = "docs: no pages came with this installation"
        raise UsageError(msg)
    if args.topic is None:
        return _list(args, pages)
    name = args.topic.lower().removesuffix(".md").rpartition("/")[2].replace(" ", "-")
    fits = [topic for topic in pages if topic == name] or [
        topic for topic in pages if name in topic
    ]
    if len(fits) != 1:
        meant = nearest(name, list(pages))
        hint = (
            "these fit: " + ", ".join(fits)
            if fits
            else f'Did you mean "{meant}"?' if meant else "holdfast docs   lists what there is"
        )  # fmt: skip
        msg = f'docs: there is no page "{args.topic}"\n  {hint}'
        raise UsageError(msg)
    path = pages[fits[0]]
    with open(path, encoding="utf-8") as file:
        text = file.read()
    if args.json:
        output.document({"topic": fits[0], "path": path, "text": text})
    elif args.where:
        print(path)
    elif sys.stdout.isatty():
        columns, _ = size_of()
        print("\n".join(shown(text, min(columns, 100), paint_for(args))))
    else:
        sys.stdout.write(text)
    return 0


def found() -> "dict[str, str]":
    """Return the pages: topic -> path; those of the wheel, or of the checkout that this is."""
    package = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    for root in (f"{package}/pages", os.path.normpath(f"{package}/../../docs")):
        pages: dict[str, str] = {}
        for section in _SECTIONS:
            try:
                names = sorted(os.listdir(f"{root}/{section}"))
            except OSError:
                continue
            pages |= {
                name[:-3]: f"{root}/{section}/{name}" for name in names if name.endswith(".md")
            }
        if pages:
            return pages
    return {}


def _list(args: "Namespace", pages: "dict[str, str]") -> int:
    titles = {topic: _title(path) for topic, path in pages.items()}
    if args.json:
        output.document(
            {
                "pages": [
                    {"topic": topic, "path": path, "title": titles[topic]}
                    for topic, path in pages.items()
                ]
            }
        )
        return 0
    paint, section = paint_for(args), ""
    width = max(map(len, pages))
    for topic, path in pages.items():
        if (of := path.split("/")[-2]) != section:
            print(("\n" if section else "") + paint(of, "bold"))
            section = of
        print(f"  {topic:<{width}}  {titles[topic]}")
    return 0


def _title(path: str) -> str:
    with open(path, encoding="utf-8") as file:
        return next((line.removeprefix("# ").strip() for line in file if line.startswith("# ")), "")


def shown(text: str, columns: int, paint: "Paint") -> "list[str]":
    """Return a page for a terminal: headings, code and lists stand out, sentences are wrapped, tables stay as they are."""
    lines: list[str] = []
    in_code = False
    for line in _COMMENT.sub("", text).splitlines():
        if line.lstrip().startswith("```"):
            in_code = not in_code
        elif in_code:
            lines.append("    " + paint(line, "cyan"))
        elif line.startswith("#"):
            lines.append(paint(line.lstrip("# "), "bold"))
        elif line.startswith(("|", "    ")):
            lines.append(_inline(_LINK.sub(_linked, line), paint))
        else:
            lines += _wrapped(_LINK.sub(_linked, line), columns, paint)
    return lines


def _wrapped(line: str, columns: int, paint: "Paint") -> "list[str]":
    from textwrap import wrap

    bullet = re.match(r"\s*(?:[-*]|[0-9]+\.)\s+|>\s*|\s*", line)
    below = " " * (bullet.end() if bullet else 0)
    # Wrapped first, painted then: an escape has no width. A span that was cut in two stays plain.
    cut = wrap(
        line,
        max(columns, 30),
        subsequent_indent=below,
        break_long_words=False,
        break_on_hyphens=False,
    )
    return [_inline(part, paint) for part in cut] or [""]


def _linked(match: "re.Match[str]") -> str:
    # Links between our pages are topics; others are worth their address.
    return f"{match[1]} ({match[2]})" if "://" in match[2] else match[1]


def _inline(line: str, paint: "Paint") -> str:
    return _INLINE.sub(
        lambda match: paint(match[1], "bold") if match[1] else paint(match[2], "cyan"), line
    )
