"""The site that is crawled: documentation from disk, and a corner with everything that makes crawling hard.

It stands for somebody else's machine. It notes every request in a file *before* it answers, so whoever doubts that the crawler is
polite can count. `CRAWLER_SITE` names a directory with HTML (a documentation package); without one it makes up three hundred pages.
"""

import os
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from mimetypes import guess_type
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from crawler import odd
from holdfast.sdk import Component

app = Component()
#: Requests that have come, one a line: unix time, path, agent.
ACCESS_LOG = "access.log"


class Said(NamedTuple):
    """One line of the access log."""

    at_s: float
    path: str
    agent: str


def requests(data: Path) -> list[Said]:
    """Return all requests that were ever made."""
    log = data / ACCESS_LOG
    lines = log.read_text().splitlines() if log.exists() else []
    return [Said(float(at), path, agent) for at, path, agent in (line.split(" ", 2) for line in lines)]  # fmt: skip


class Server(ThreadingHTTPServer):
    """A web server on a socket that somebody else has opened: what comes while it is dead waits there."""

    daemon_threads = True

    def __init__(self, listening: socket.socket, data: Path, documents: Path | None, pages: int, poison: bool) -> None:  # fmt: skip
        super().__init__(listening.getsockname()[:2], Handler, bind_and_activate=False)
        self.socket.close()
        self.socket = listening
        data.mkdir(parents=True, exist_ok=True)
        self.log = os.open(data / ACCESS_LOG, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        self.data = data
        self.documents = documents if documents is not None and documents.is_dir() else None
        self.pages = pages
        self.poison = poison

    def server_close(self) -> None:
        """Close the log, too."""
        super().server_close()
        os.close(self.log)

    def asked_before(self, path: str) -> int:
        """Return how often a page was asked for, in this life and all before."""
        return sum(said.path == path for said in requests(self.data))


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    server: Server  # type: ignore[mutable-override]
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "somebody-elses", ""
    timeout = 30.0  # type: ignore[mutable-override]
    #: Head and body are two writes, and the second must not wait for an acknowledgement of the first.
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        """Answer."""
        agent = self.headers.get("User-Agent", "-").replace("\n", " ")
        os.write(self.server.log, f"{time.time():.6f} {self.path} {agent}\n".encode())
        parts = urlsplit(self.path)
        path = unquote(parts.path)
        try:
            if path == "/":
                self.page(odd.front(self.server.documents is not None, self.server.poison))
            elif path == "/robots.txt":
                self.page(odd.ROBOTS, "text/plain")
            elif path.startswith("/made/"):
                self.made(path)
            elif path.startswith("/doc/"):
                self.file(path.removeprefix("/doc/"))
            elif (answer := odd.PAGES.get(path)) is not None:
                answer(self, parts.query)
            else:
                self.missing()
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True  # whoever asked has heard enough

    def page(self, body: bytes, kind: str = "text/html; charset=utf-8", status: int = 200, **headers: str) -> None:  # fmt: skip
        """Send one answer."""
        self.send_response(status)
        for name, value in {"Content-Type": kind, "Content-Length": str(len(body)), **headers}.items():  # fmt: skip
            if value:
                self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def missing(self) -> None:
        """Say that there is no such page."""
        self.page(b"<title>404</title>There is no such page.", status=404)

    def made(self, path: str) -> None:
        """Send one of the pages that are made up."""
        number = path.removeprefix("/made/page-").removesuffix(".html")
        if number.isdigit() and int(number) < self.server.pages:
            self.page(odd.made(int(number), self.server.pages))
        else:
            self.missing()

    def file(self, name: str) -> None:
        """Send a file of the documentation, and nothing beside it."""
        if self.server.documents is None:
            return self.missing()
        found = (self.server.documents / name).resolve()
        # A documentation package has links within itself; the root is what they are measured by.
        if not found.is_relative_to(self.server.documents.resolve()) or not found.is_file():
            return self.missing()
        return self.page(found.read_bytes(), guess_type(found.name)[0] or "application/octet-stream")  # fmt: skip

    def log_message(self, *_: object) -> None:
        """Say nothing: the requests are in the access log."""


@app.on_start
def begin() -> None:
    """Serve on the socket that Holdfast holds."""
    settings = app.settings
    server = Server(
        app.listen_fds()["site"], Path(settings["data"]), Path(settings["documents"]), int(settings["pages"]), settings["poison"] == "yes"
    )  # fmt: skip
    threading.Thread(target=server.serve_forever, name="site", daemon=True).start()
    app.log.info("the site is there", documents=str(server.documents or f"{server.pages} made-up pages"))  # fmt: skip
