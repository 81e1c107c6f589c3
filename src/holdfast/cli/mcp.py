"""`holdfast mcp`: an assistant reads incidents and evidence, and acts where a person allowed it.

A server of the Model Context Protocol: on stdin and stdout for the program that started it, or with ``--http`` for whoever has the token. It reads what
the node leaves in its files and asks `holdfast`'s own commands; no worker notices whether it is there.
"""

import json
import os
import sys
import threading

from holdfast.cli import place
from holdfast.cli.commands import say
from holdfast.model.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from typing import Any, BinaryIO

    from holdfast.cli.mcp_protocol import Protocol
    from holdfast.cli.mcp_tools import Tools

#: The longest line that is read on stdin, and so many calls at a time.
_LARGEST = 1 << 20
_MOST_CALLS = 8


def add_arguments(parser: "ArgumentParser") -> None:
    """Declare the arguments."""
    parser.add_argument("--http", metavar="ADDRESS", help="serve Streamable HTTP at HOST:PORT, path /mcp (default: stdin and stdout)")  # fmt: skip
    parser.add_argument(
        "--allow-actions", action="store_true", help="also restart, stop, start, profile, stacks, isolate and acknowledge"
    )  # fmt: skip
    parser.add_argument("--token-file", metavar="FILE", help="with --http: the token that clients have to bring (default: STATE/mcp.token, made once)")  # fmt: skip
    parser.add_argument("--host", metavar="NAME", action="append", default=[], help="with --http: a name that requests may use for this server; may be repeated")  # fmt: skip
    parser.add_argument("--origin", metavar="ORIGIN", action="append", default=[], help="with --http: a web page that may ask, as https://example.com; may be repeated")  # fmt: skip


def run(args: "Namespace") -> int:
    """Serve until the client hangs up, or somebody kills this process."""
    if not args.http and (args.host or args.origin or args.token_file):
        raise UsageError(
            "--host, --origin and --token-file: only with --http\n  holdfast mcp --http 127.0.0.1:PORT"
        )
    where = place.find(args)
    from holdfast.cli.mcp_audit import Audit
    from holdfast.cli.mcp_protocol import Protocol
    from holdfast.cli.mcp_tools import Tools

    audit = Audit(where.state_dir, "mcp http" if args.http else "mcp stdio")
    tools = Tools(where, audit, has_actions=args.allow_actions)
    protocol = Protocol(tools)
    if not args.http:
        return _Stdio(protocol, tools).serve()
    from holdfast.cli import mcp_http
    from holdfast.cli.metrics_serving import parse_address

    token, token_path = mcp_http.token_for(where.state_dir, args.token_file)
    listener = mcp_http.listen(*parse_address(args.http))
    host, port = listener.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    say(f"mcp: http://{shown}:{port}{mcp_http.PATH}   token: {token_path}")
    if not _is_loopback(host):
        say(
            "note: there is no TLS here: whoever listens on the way reads the token; put a proxy with TLS in front"
        )
    mcp_http.HttpServer(listener, protocol, token, args.host, args.origin).serve()
    return 0


def _is_loopback(host: str) -> bool:
    import ipaddress

    return ipaddress.ip_address(host).is_loopback


class _Stdio:
    """One JSON message a line; calls of tools beside each other, so that one that takes long can be cancelled."""

    def __init__(self, protocol: "Protocol", tools: "Tools") -> None:
        self._protocol, self._tools = protocol, tools
        self._room = threading.BoundedSemaphore(_MOST_CALLS)
        self._lock = threading.Lock()
        # Whatever else writes to stdout would break the line of messages: from now on that is stderr.
        self._out = os.dup(1)
        os.dup2(2, 1)

    def serve(self) -> int:
        """Answer until stdin ends."""
        stream: BinaryIO = sys.stdin.buffer
        while line := stream.readline(_LARGEST + 1):
            if len(line) > _LARGEST and not line.endswith(b"\n"):
                while line and not line.endswith(b"\n"):
                    line = stream.readline(_LARGEST)
                self._refuse(-32600, f"a message has at most {_LARGEST} bytes")
                continue
            if line.strip():
                self._take(line)
        # Nobody is there to hear an answer: what only looks may stop, what was ordered goes on by itself.
        for running in list(self._tools.running.values()):
            running.give_up()
        return 0

    def _take(self, line: bytes) -> None:
        try:
            message = json.loads(line)
        except (ValueError, RecursionError):
            self._refuse(-32700, "this is not JSON")
            return
        method = message.get("method") if isinstance(message, dict) else None
        if method == "notifications/cancelled":
            self._cancel(message)
        elif method == "tools/call" and isinstance(message.get("id"), str | int):
            self._begin(message)
        else:
            self._write(self._protocol.answer(message).body)

    def _begin(self, message: "dict[str, Any]") -> None:
        from holdfast.cli.mcp_asking import Running

        name = message["id"]
        if name in self._tools.running:
            self._refuse(-32600, "there is a request with this id already", name)
            return
        if not self._room.acquire(blocking=False):
            self._refuse(-32603, f"more than {_MOST_CALLS} calls at a time", name)
            return
        self._tools.running[name] = Running()
        threading.Thread(target=self._call, args=(name, message), daemon=True).start()

    def _call(self, name: "str | int", message: "dict[str, Any]") -> None:
        running = self._tools.running[name]
        try:
            body = self._protocol.answer(message).body
        finally:
            del self._tools.running[name]
            self._room.release()
        if not running.is_given_up:
            self._write(body)

    def _cancel(self, message: "dict[str, Any]") -> None:
        params = message.get("params")
        name = params.get("requestId") if isinstance(params, dict) else None
        running = self._tools.running.get(name) if isinstance(name, str | int) else None
        if running is not None:
            running.give_up()

    def _refuse(self, code: int, says: str, name: "str | int | None" = None) -> None:
        body: dict[str, Any] = {"jsonrpc": "2.0", "error": {"code": code, "message": says}}
        self._write(body if name is None else {**body, "id": name})

    def _write(self, body: "dict[str, Any] | None") -> None:
        if body is None:
            return
        data = json.dumps(body).encode() + b"\n"
        with self._lock:
            try:
                while data:
                    data = data[os.write(self._out, data) :]
            except BrokenPipeError:
                os._exit(0)  # the client has gone, and there is nothing to tidy up
