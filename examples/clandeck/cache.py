"""A stand-in for Redis: PING, SET, GET, DEL and INCR in its inline protocol, in memory only."""

import socketserver
import sys


class Session(socketserver.StreamRequestHandler):
    """One connection: a command a line, a reply each."""

    store: "dict[bytes, bytes]" = {}  # noqa: RUF012 -- shared by all sessions, on purpose

    def handle(self) -> None:
        """Answer until the client hangs up."""
        for line in self.rfile:
            self.wfile.write(self.answer(line.split()))

    def answer(self, words: "list[bytes]") -> bytes:
        """Return the reply to one command."""
        match [words[0].upper(), *words[1:]] if words else [b""]:
            case [b""]:
                return b""
            case [b"PING"]:
                return b"+PONG\r\n"
            case [b"SET", key, value]:
                self.store[key] = value
                return b"+OK\r\n"
            case [b"GET", key]:
                found = self.store.get(key)
                return b"$-1\r\n" if found is None else b"$%d\r\n%s\r\n" % (len(found), found)
            case [b"DEL", key]:
                return b":%d\r\n" % (self.store.pop(key, None) is not None)
            case [b"INCR", key]:
                count = int(self.store.get(key, b"0")) + 1
                self.store[key] = b"%d" % count
                return b":%d\r\n" % count
            case _:
                return b"-ERR unknown command\r\n"


class Server(socketserver.ThreadingTCPServer):
    """A server that can be killed and started again at once."""

    allow_reuse_address = True
    daemon_threads = True


if __name__ == "__main__":
    port = int(sys.argv[1])
    with Server(("127.0.0.1", port), Session) as server:
        sys.stdout.write(f"stand-in cache listens on 127.0.0.1:{port}\n")
        sys.stdout.flush()
        server.serve_forever()
