"""What does a page say, and where does it lead?

It knows no store and no network: bytes in, a value out. That is why it can be a job of its own, in a process of its own: C code
that reads what strangers wrote is the part that dies.
"""

import importlib
import os
from collections.abc import Callable
from typing import NamedTuple

from selectolax.lexbor import LexborHTMLParser

from crawler import rules

#: A page with more links than this is a dump, not a page.
MOST_LINKS = 10_000


class Page(NamedTuple):
    """What is in a page."""

    title: str
    words: int
    links: dict[str, bool]  #: normal URL, and whether the page lets us follow it


Parser = Callable[[str, bytes, str], Page]


def parse(url: str, body: bytes, charset: str = "") -> Page:
    """Read a page: its title, how many words it has, and its links in their normal form."""
    tree = LexborHTMLParser(rules.decoded(body, charset))
    base = url
    if (said := tree.css_first("base[href]")) is not None:
        base = rules.normal(said.attributes.get("href") or "", url) or url
    may_follow = "nofollow" not in _robots(tree)
    links: dict[str, bool] = {}
    for node in tree.css("a[href], area[href], frame[src], iframe[src]"):
        about = node.attributes
        link = rules.normal(about.get("href") or about.get("src") or "", base)
        if link is None or (link not in links and len(links) >= MOST_LINKS):
            continue
        follow = may_follow and "nofollow" not in (about.get("rel") or "").lower().split()
        links[link] = links.get(link, False) or follow
    title = tree.css_first("title")
    heading = " ".join(title.text().split())[:300] if title is not None else ""
    tree.strip_tags(["script", "style", "noscript", "template"])
    text = tree.body.text(separator=" ") if tree.body is not None else ""
    return Page(heading, len(text.split()), links)


def chosen() -> Parser:
    """Return the parser that the configuration names (`CRAWLER_PARSER`): this one, or the drill's."""
    module, _, name = os.environ.get("CRAWLER_PARSER", "crawler.parsing:parse").partition(":")
    parser: Parser = getattr(importlib.import_module(module), name)
    return parser


def _robots(tree: LexborHTMLParser) -> list[str]:
    """Return what the page itself says to robots, in single words."""
    said = [
        node.attributes.get("content") or ""
        for node in tree.css("meta[name][content]")
        if (node.attributes.get("name") or "").lower() == "robots"
    ]
    words = ",".join(said).lower().replace(" ", "").split(",")
    return ["nofollow" if word == "none" else word for word in words]
