"""The other ends of the channels, on loopback: an HTTP server that answers as told, and a small mail server."""

from __future__ import annotations

import contextlib
import http.server
import json
import socketserver
import ssl
import threading
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Received:
    """One request."""

    def __init__(self, path: str, headers: dict[str, str], body: bytes) -> None:
        self.path = path
        self.headers = headers
        self.body = body

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class _Quiet:
    """Clients that are killed in the middle are what the tests are about."""

    def handle_error(self, request: Any, client_address: Any) -> None:
        del request, client_address


class _Server(_Quiet, http.server.ThreadingHTTPServer):
    daemon_threads = True


class _MailServer(_Quiet, socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True


class Sink:
    """An HTTP server; ``answer`` says what each request gets: a status, or a status and headers."""

    def __init__(self, port: int = 0) -> None:
        self.received: list[Received] = []
        self.answer: Callable[[Received], int | tuple[int, dict[str, str]]] = lambda _: 200
        sink = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                headers = {name.lower(): value for name, value in self.headers.items()}
                got = Received(self.path, headers, body)
                sink.received.append(got)
                answer = sink.answer(got)
                status, more = answer if isinstance(answer, tuple) else (answer, {})
                with contextlib.suppress(OSError):
                    self.send_response(status)
                    for name, value in {"Content-Length": "0", **more}.items():
                        self.send_header(name, value)
                    self.end_headers()

            def log_message(self, *_args: object) -> None:
                pass

        self._server = _Server(("127.0.0.1", port), Handler)
        self.port = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)  # fmt: skip
        self._thread.start()

    def at(self, path: str) -> list[Received]:
        return [one for one in list(self.received) if one.path == path]

    def messages(self) -> list[dict[str, Any]]:
        """Return what came to /hook, each id once, as a receiver of Standard Webhooks would."""
        found = {one.headers["webhook-id"]: one.json["data"] for one in self.at("/hook")}
        return list(found.values())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class MailSink:
    """A mail server that takes everything, or says ``refusal`` to a recipient."""

    def __init__(
        self, extensions: tuple[str, ...] = (), tls: tuple[str, str] | None = None
    ) -> None:
        self.refused = ""  #: only recipients with this in them
        self.mails: list[str] = []
        self.lines: list[str] = []
        self.refusal = ""
        sink = self

        class Handler(socketserver.StreamRequestHandler):
            def say(self, text: str) -> None:
                self.wfile.write(text.encode() + b"\r\n")

            def finish(self) -> None:
                super().finish()
                self.request.close()  # after STARTTLS it is not the one that the server knows

            def commands(self) -> Iterator[str]:
                self.say("220 sink")
                # Looked up anew each time: it is another one after STARTTLS.
                while line := self.rfile.readline():
                    text = line.decode().strip()
                    sink.lines.append(text)
                    yield text

            def handle(self) -> None:
                for text in self.commands():
                    verb = text[:4].upper()
                    if verb == "EHLO":
                        self.say("250-sink")
                        for name in extensions:
                            self.say(f"250-{name}")
                        self.say("250 SIZE 1000000")
                    elif verb == "STAR" and tls is not None:
                        self.say("220 go on")
                        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
                        context.load_cert_chain(*tls)
                        self.request = context.wrap_socket(self.request, server_side=True)
                        self.rfile = self.request.makefile("rb")
                        self.wfile = self.request.makefile("wb", 0)
                    elif verb == "AUTH":
                        self.say("235 welcome")
                    elif verb == "RCPT" and sink.refusal and sink.refused in text:
                        self.say(sink.refusal)
                    elif verb == "DATA":
                        self.say("354 go on")
                        lines = []
                        while (line := self.rfile.readline()) not in (b".\r\n", b""):
                            lines.append(line.decode())
                        sink.mails.append("".join(lines))
                        self.say("250 taken")
                    elif verb == "QUIT":
                        self.say("221 bye")
                        return
                    else:
                        self.say("250 fine")

        self._server = _MailServer(("127.0.0.1", 0), Handler)
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)  # fmt: skip
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
