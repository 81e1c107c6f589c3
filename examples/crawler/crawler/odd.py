"""What is on the site: a front page, pages that are made up, and the odd corner, one trap for each thing that goes wrong out there."""

import time
from collections.abc import Callable
from html import escape
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

if TYPE_CHECKING:
    from crawler.site import Handler

ROBOTS = b"""# Two groups, so that it matters which one is read.
User-agent: *
Disallow: /private/
Disallow: /*?print=

User-agent: rude-crawler
Disallow: /
"""
WORDS = ["anchor", "buoy", "capstan", "deck", "ebb", "fathom", "galley", "helm", "island", "jib", "keel", "ledger", "mast", "north", "oar", "pilot", "quay", "rope", "sail", "tide"]  # fmt: skip
#: A page of this many bytes never ends, as far as the crawler is concerned.
HUGE_BYTES = 16 << 20
#: Requests for the flaky page that fail before one does not.
FLAKY = 2
#: A page with this in it kills whoever parses it with `crawler.broken`.
POISON = b"<!-- an element that the parser cannot bear -->"
LOGO = b"\x89PNG\r\n\x1a\n" + bytes(200)


def html(title: str, *links: str, text: str = "", head: str = "") -> bytes:
    """Make a page."""
    items = "".join(f'<li><a href="{escape(link)}">{escape(link)}</a>' for link in links)
    return f"<!doctype html><html><head><title>{escape(title)}</title>{head}</head><body><h1>{escape(title)}</h1>{text}<ul>{items}</ul></body></html>".encode()  # fmt: skip


def front(has_documents: bool, has_poison: bool) -> bytes:
    """Make the front page."""
    links = ["/doc/index.html" if has_documents else "/made/page-0.html", "/odd/"]
    links += ["/odd/poison.html"] if has_poison else []
    return html("A site", *links)


def made(number: int, count: int) -> bytes:
    """Make page ``number`` of ``count``: a tree with five branches each, and a few ways across."""
    down = [5 * number + branch for branch in range(1, 6)]
    across = [(7 * number + 3) % count, (number * number + 1) % count]
    links = [f"page-{to}.html" for to in [*down, *across] if to < count]
    text = " ".join(WORDS[(number * word + word) % len(WORDS)] for word in range(1, 200))
    return html(f"Page {number}", *links, f"../made/./page-{number}.html#top", text=f"<p>{text}</p>")  # fmt: skip


def corner(to: "Handler", _query: str) -> None:
    """Answer with the index of the odd corner."""
    to.page(
        html(
            "The odd corner",
            *(path for path in PAGES if path not in ("/odd/", "/odd/loop-2", "/odd/target.html", "/odd/poison.html")),
            "/private/secret.html", "/odd/target.html?print=1", "gone.html", "../odd/../odd/./target.html#there",
            "target.html", "/odd/t%61rget.html", "//elsewhere.invalid/page.html", "mailto:somebody@elsewhere.invalid", "javascript:void(0)",
            "http://[::1", "#top", "", "/odd/query?b=2&a=1", "/odd/query?a=1&b=2", "/" + "long/" * 500,
            text='<a rel="nofollow" href="/odd/not-followed.html">no</a> <a href=" target.html\n">blanks</a> <a>nowhere</a>',
        )
    )  # fmt: skip


def target(to: "Handler", _query: str) -> None:
    """Answer as a plain page, to which many spellings lead."""
    to.page(html("The target"))


def moved(to: "Handler", _query: str) -> None:
    """Send the crawler on to another page."""
    to.page(b"", status=302, Location="target.html?from=moved")


def loop(to: "Handler", _query: str) -> None:
    """Send the crawler round in a circle of two."""
    to.page(b"", status=301, Location="/odd/loop-2")


def loop_2(to: "Handler", _query: str) -> None:
    """Send the crawler back."""
    to.page(b"", status=301, Location="/odd/loop")


def away(to: "Handler", _query: str) -> None:
    """Send the crawler to a site that it was not sent to crawl."""
    to.page(b"", status=302, Location="http://elsewhere.invalid/")


def flaky(to: "Handler", _query: str) -> None:
    """Fail the first times."""
    if to.server.asked_before(to.path) <= FLAKY:
        to.page(b"try again", status=503)
    else:
        to.page(html("It works, if you ask often enough"))


def failing(to: "Handler", _query: str) -> None:
    """Fail always."""
    to.page(b"never", status=500)


def latin(to: "Handler", _query: str) -> None:
    """Be in another encoding, and say so in the header."""
    to.page("<title>Überseebrücke</title>".encode("latin-1"), "text/html; charset=ISO-8859-1")


def meta(to: "Handler", _query: str) -> None:
    """Be in another encoding, and say so only inside."""
    to.page('<meta charset="windows-1251"><title>Якорь</title>'.encode("cp1251"), "text/html")


def liar(to: "Handler", _query: str) -> None:
    """Be in no encoding that there is, and call it UTF-8."""
    to.page(b"<title>caf\xe9 \xff\xfe</title>\x00\x00", "text/html; charset=utf-8")


def picture(to: "Handler", _query: str) -> None:
    """Be no page at all."""
    to.page(LOGO, "image/png")


def huge(to: "Handler", _query: str) -> None:
    """Go on and on."""
    to.send_response(200)
    to.send_header("Content-Type", "text/html")
    begin = html("Huge", "target.html")
    to.send_header("Content-Length", str(len(begin) + HUGE_BYTES))
    to.end_headers()
    to.wfile.write(begin)
    for _ in range(HUGE_BYTES // 65536):
        to.wfile.write(b"<p>more " * 8192)


def slow(to: "Handler", _query: str) -> None:
    """Send a byte now and then, for ever: no silence is long enough to be noticed."""
    to.send_response(200)
    to.send_header("Content-Type", "text/html")
    to.send_header("Content-Length", "1000000")
    to.end_headers()
    for _ in range(100_000):
        to.wfile.write(b" ")
        time.sleep(0.2)


def calendar(to: "Handler", query: str) -> None:
    """Lead to the next month, always."""
    month = parse_qs(query).get("month", ["1"])[0]
    number = int(month) if month.isdigit() else 1
    to.page(html(f"Month {number}", f"/odd/calendar?month={number + 1}"))


def query(to: "Handler", asked: str) -> None:
    """Differ by the query."""
    to.page(html(f"Asked for {asked or 'nothing'}"))


def poison(to: "Handler", _query: str) -> None:
    """Kill whoever parses this with `crawler.broken`."""
    to.page(html("A page like any other", text=POISON.decode()))


#: By path.
PAGES: dict[str, Callable[["Handler", str], None]] = {
    "/odd/": corner,
    "/odd/target.html": target,
    "/odd/moved": moved,
    "/odd/loop": loop,
    "/odd/loop-2": loop_2,
    "/odd/away": away,
    "/odd/flaky": flaky,
    "/odd/failing": failing,
    "/odd/latin": latin,
    "/odd/meta": meta,
    "/odd/liar": liar,
    "/odd/picture.png": picture,
    "/odd/huge": huge,
    "/odd/slow": slow,
    "/odd/calendar": calendar,
    "/odd/query": query,
    "/odd/poison.html": poison,
}
