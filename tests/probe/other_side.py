"""The other sides of probes, on loopback: a web site that signs people in, a name server, a silent port, certificates."""

from __future__ import annotations

import contextlib
import http.server
import json
import socket
import socketserver
import ssl
import struct
import threading
import time
from typing import TYPE_CHECKING, Any, Self

from holdfast.cli.probes import dns
from holdfast.cli.probes.load import load
from holdfast.cli.probes.looks import Result, look

if TYPE_CHECKING:
    from pathlib import Path

    from holdfast.cli.probes.load import Probe


def probes(tmp: Path, text: str, **environ: str) -> dict[str, Probe]:
    """Return the probes of a file with this text."""
    path = tmp / "probe.toml"
    path.write_text(text)
    return {probe.name: probe for probe in load(str(path), environ).probes}


async def seen(tmp: Path, kind: str, lines: str) -> Result:
    """Return what one look sees, of a probe with these lines."""
    return await look(probes(tmp, f'[[probe]]\nkind = "{kind}"\nname = "it"\n{lines}\n')["it"])


class _Quiet:
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        del request, client_address


class _Http(_Quiet, http.server.ThreadingHTTPServer):
    pass


class Site:
    """A web site: /ok, /slow, /old (leads on), /json, a page to sign in, and a desk for who has."""

    def __init__(self, tls: tuple[str, str] | None = None) -> None:
        self.is_well = True
        self.asked: list[tuple[str, str, dict[str, str], bytes]] = []
        site = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                heads = {name.lower(): value for name, value in self.headers.items()}
                site.asked.append((self.command, self.path, heads, body))
                status, more, said = site.answer(self.command, self.path, heads, body)
                with contextlib.suppress(OSError):
                    self.send_response(status)
                    for name, value in {"Content-Length": str(len(said)), **more}.items():
                        self.send_header(name, value)
                    self.end_headers()
                    self.wfile.write(said)

            do_POST = do_GET  # noqa: N815 -- http.server's name

            def log_message(self, *_args: object) -> None:
                pass

        self._server = _Http(("127.0.0.1", 0), Handler)
        if tls is not None:
            context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            context.load_cert_chain(*tls)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.port = int(self._server.server_address[1])
        self.url = f"https://localhost:{self.port}" if tls else f"http://127.0.0.1:{self.port}"
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.02,), daemon=True
        )
        self._thread.start()

    def answer(
        self, method: str, path: str, heads: dict[str, str], body: bytes
    ) -> tuple[int, dict[str, str], bytes]:
        cookies = heads.get("cookie", "")
        if not self.is_well:
            return 503, {}, b"down for a moment"
        if path == "/slow":
            time.sleep(0.3)
        if path == "/old":
            return 302, {"Location": "/ok"}, b""
        if path == "/round":
            return 302, {"Location": "/round"}, b""
        if path == "/json":
            return (
                200,
                {},
                json.dumps({"status": "ok", "workers": [{"ready": True, "n": 3}]}).encode(),
            )
        if path == "/sign-in" and method == "GET":
            return 200, {"Set-Cookie": "visit=7; Path=/"}, b'<input name="csrf" value="abc123">'
        if path == "/sign-in" and method == "POST":
            is_right = b"csrf=abc123" in body and b"user=probe" in body and "visit=7" in cookies
            if not is_right:
                return 403, {}, b"who are you"
            return 303, {"Location": "/desk", "Set-Cookie": "session=s3cret; HttpOnly; Path=/"}, b""
        if path.startswith("/desk"):
            return (
                (200, {}, b"welcome, probe")
                if "session=s3cret" in cookies
                else (401, {}, b"sign in")
            )
        return 200, {"Content-Type": "text/html; charset=utf-8"}, b"All is well, gr\xc3\xbcezi"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class Silent:
    """A port that takes connections and says nothing, or one line."""

    def __init__(self, says: bytes = b"") -> None:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=100)
        self.port = int(self._listener.getsockname()[1])
        self._says = says
        self._open: list[socket.socket] = []
        threading.Thread(target=self._take, daemon=True).start()

    def _take(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connected, _ = self._listener.accept()
                self._open.append(connected)
                if self._says:
                    connected.sendall(self._says)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for one in self._open:
            one.close()


class NameServer:
    """Answers by UDP, or says that the answer is too long and answers by TCP."""

    def __init__(self, records: dict[tuple[str, str], list[bytes]], *, cut: bool = False) -> None:
        server = self
        self.silent = 0  #: so many questions are lost
        self.wrong_first = False
        self.asked = 0

        class Udp(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                data, sock = self.request
                server.asked += 1
                if server.silent:
                    server.silent -= 1
                    return
                said = answered(data, records, cut=cut)
                if server.wrong_first:
                    sock.sendto(b"xx" + said[2:], self.client_address)
                sock.sendto(said, self.client_address)

        class Tcp(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                size = int.from_bytes(self.request.recv(2))
                said = answered(self.request.recv(size), records, cut=False)
                self.request.sendall(len(said).to_bytes(2) + said)

        class _Tcp(_Quiet, socketserver.ThreadingTCPServer):
            pass

        class _Udp(_Quiet, socketserver.ThreadingUDPServer):
            pass

        self._tcp = _Tcp(("127.0.0.1", 0), Tcp)
        self.port = int(self._tcp.server_address[1])
        self._udp = _Udp(("127.0.0.1", self.port), Udp)
        self._threads = [
            threading.Thread(target=s.serve_forever, args=(0.02,), daemon=True)
            for s in (self._tcp, self._udp)
        ]
        for thread in self._threads:
            thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for server in (self._tcp, self._udp):
            server.shutdown()
            server.server_close()


def answered(question: bytes, records: dict[tuple[str, str], list[bytes]], *, cut: bool) -> bytes:
    """Return the answer to a question, with names pressed together as real servers do."""
    labels, at = [], 12
    while question[at]:
        labels.append(question[at + 1 : at + 1 + question[at]].decode())
        at += 1 + question[at]
    name, end = ".".join(labels), at + 5
    (sort,) = struct.unpack_from("!H", question, at + 1)
    found = records.get((name, {number: word for word, number in dns.TYPES.items()}[sort]))
    if found is None:
        return question[:2] + struct.pack("!5H", 0x8183, 1, 0, 0, 0) + question[12:end]
    if cut:
        return question[:2] + struct.pack("!5H", 0x8380, 1, 0, 0, 0) + question[12:end]
    rows = b"".join(
        b"\xc0\x0c" + struct.pack("!HHIH", sort, 1, 60, len(data)) + data for data in found
    )
    return question[:2] + struct.pack("!5H", 0x8180, 1, len(found), 0, 0) + question[12:end] + rows
