"""What do the small services answer: redirect, json, nodeinfo, health, path?

Options and meaning are those of Crossbar.io's services of the same names; `health` is Holdfast's own.
"""

import html
import os
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import msgspec

if TYPE_CHECKING:
    from holdfast.router.web.request import Request
    from holdfast.router.web.site import Site

JSON = ("Content-Type", "application/json; charset=utf-8")
NO_STORE = ("Cache-Control", "no-store")
NOSNIFF = ("X-Content-Type-Options", "nosniff")


class Redirect:
    """Somewhere else: the same address for every path below."""

    def __init__(self, options: dict[str, Any]) -> None:
        # What is no letter of a URL is quoted; what is quoted already stays.
        self._url = quote(str(options["url"]), safe="!#$%&'()*+,/:;=?@[]~")

    async def serve(self, request: "Request") -> None:
        """Answer it."""
        # 307 keeps the method of a POST, which 302 turns into a GET.
        status = 302 if request.method in ("GET", "HEAD") else 307
        request.say(status, f"It is at {self._url}", [("Location", self._url)])


class Value:
    """A value of the configuration, as JSON."""

    def __init__(self, options: dict[str, Any]) -> None:
        told = {**options.get("options", {}), **options}
        body = msgspec.json.encode(options["value"])
        self._body = msgspec.json.format(body, indent=3) if told.get("prettify", True) else body
        self._headers = [JSON, NOSNIFF]
        if told.get("allow_cross_origin", False):
            self._headers.append(("Access-Control-Allow-Origin", "*"))
        if told.get("discourage_caching", False):
            self._headers.append(
                ("Cache-Control", "no-store, no-cache, must-revalidate, max-age=0")
            )

    async def serve(self, request: "Request") -> None:
        """Answer it."""
        request.allow("GET", "HEAD")
        request.respond(200, self._headers, self._body)


class NodeInfo:
    """Which node this is: a page for people, JSON for programs (`?format=json`, or Accept: application/json)."""

    def __init__(self, site: "Site") -> None:
        self._site = site

    async def serve(self, request: "Request") -> None:
        """Answer it."""
        request.allow("GET", "HEAD")
        facts: dict[str, Any] = {"pid": os.getpid(), **self._site.facts()}
        accept = b",".join(request.head.values(b"accept"))
        if request.head.query == "format=json" or (
            b"application/json" in accept and b"text/html" not in accept
        ):
            request.respond(200, [JSON, NO_STORE, NOSNIFF], msgspec.json.encode(facts))
            return
        address, port = request.peer
        facts["served for"] = f"{address}:{port}" if address else "a Unix socket"
        rows = "".join(
            f"<tr><th>{html.escape(str(name))}</th><td>{html.escape(_shown(value))}</td></tr>\n"
            for name, value in facts.items()
        )
        policy = (
            "Content-Security-Policy",
            "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
        )
        request.respond(
            200,
            [("Content-Type", "text/html; charset=utf-8"), NO_STORE, NOSNIFF, policy],
            _PAGE.replace("ROWS", rows).encode(),
        )


class Health:
    """Is the router alive (it answers), and is it ready? `…/livez` and `…/readyz`; the path itself is `readyz`."""

    def __init__(self, site: "Site") -> None:
        self._site = site

    async def serve(self, request: "Request") -> None:
        """Answer it."""
        request.allow("GET", "HEAD")
        probe = request.rest.strip("/") or request.mount.rpartition("/")[2]
        why = None if probe in ("livez", "live") else self._site.unready()
        if why is not None:
            request.say(503, why, [NO_STORE])
        elif request.rest.strip("/") in ("", "livez", "readyz", "live", "ready"):
            request.respond(200, [("Content-Type", "text/plain; charset=utf-8"), NO_STORE], b"ok\n")
        else:
            request.say(404, "Ask for livez or readyz.")


class Nothing:
    """A path that only has others below it."""

    async def serve(self, request: "Request") -> None:
        """Answer it."""
        request.say(404, "There is nothing at this address.")


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


_PAGE = """<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><title>Holdfast node</title>
<style>body{font:16px/1.5 system-ui,sans-serif;max-width:44rem;margin:3rem auto;padding:0 1rem;color:#222}
th{text-align:left;padding-right:2rem;font-weight:600;vertical-align:top}td{font-family:ui-monospace,monospace}</style></head>
<body><h1>Holdfast node</h1>
<table>
ROWS</table>
</body></html>
"""
