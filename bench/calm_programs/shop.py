"""A threaded WSGI service of the standard library, with a pool that grows to 64 threads for a while."""

import socket
import time
from concurrent.futures import ThreadPoolExecutor
from socketserver import ThreadingMixIn
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer


def fetch(n):
    time.sleep(0.3)
    return sum(i * i for i in range(2_000 + n))


def app(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/export":
        with ThreadPoolExecutor(64) as pool:
            body = str(sum(pool.map(fetch, range(640)))).encode()
    elif path == "/health":
        body = b"well"
    else:
        time.sleep(0.01)
        body = b"".join(b"<li>%d</li>" % n for n in range(500))
    start_response("200 OK", [("Content-Type", "text/html"), ("Content-Length", str(len(body)))])
    return [body]


class Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class Handler(WSGIRequestHandler):
    def log_message(self, *args):
        pass


server = Server(("127.0.0.1", 0), Handler, bind_and_activate=False)
server.socket.close()
server.socket = socket.socket(fileno=3)
server.server_name, server.server_port = "shop", server.socket.getsockname()[1]
server.setup_environ()
server.set_app(app)
server.serve_forever()
