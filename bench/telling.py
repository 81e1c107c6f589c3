"""What does it cost to tell other tools about a large node: a scrape of /metrics, and the worker that forwards?

    python bench/telling.py [--workers 1000] [--scrapes 20] [--lines 200000] [--only-scrapes] [--json]

A real node with that many guests that do nothing, `holdfast metrics --listen` and a `[forward]` with an OTLP collector on loopback that takes everything. Then:
wall clock and processor time of a scrape (of the serving process; both formats), processor time of the forwarding worker while nothing is said, its memory,
and how many lines a second it carries when a guest writes many at once. The goal: a scrape of 1,000 workers within 100 ms.
"""

import argparse
import gzip
import http.client
import http.server
import json
import os
import signal
import statistics
import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from own_node import OwnNode, percentile, wait_for

from holdfast.linux import procfs, talk

OPENMETRICS = "application/openmetrics-text; version=1.0.0"


class Collector(http.server.ThreadingHTTPServer):
    """Takes everything and counts the lines."""

    daemon_threads = True

    def __init__(self) -> None:
        self.lines = self.requests = self.bytes = 0
        collector = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                data = self.rfile.read(int(self.headers["Content-Length"]))
                collector.requests += 1
                collector.bytes += len(data)
                if self.path == "/v1/logs":
                    if self.headers.get("Content-Encoding") == "gzip":
                        data = gzip.decompress(data)
                    collector.lines += data.count(b'"body"')
                self.send_response(200)
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"{}")

            def log_message(self, *_args: object) -> None:
                pass

        super().__init__(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()


def cpu_s(pid: int) -> float:
    """Return the processor time of a process."""
    found = procfs.reading(pid)
    return found.cpu_ns / 1e9 if found is not None else 0.0


def scrape(port: int, accept: str) -> tuple[float, int]:
    """Return how long a scrape took, in milliseconds, and its size."""
    began_s = time.perf_counter()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("GET", "/metrics", headers={"Accept": accept})
    body = connection.getresponse().read()
    connection.close()
    return (time.perf_counter() - began_s) * 1e3, len(body)


def configuration(workers: int, lines: int, port: int) -> str:
    """Return the configuration of the node."""
    guests = "".join(
        f'[worker.w{at:04d}]\ncommand = ["sleep", "100000"]\n' for at in range(workers)
    )
    program = [sys.executable, "-m", "holdfast", "metrics", "--listen", "127.0.0.1:0"]
    talker = f"i=0; while [ $$i -lt {lines} ]; do i=$$((i+1)); echo line $$i of many that say about as much as lines do; done; exec sleep 100000"
    return (
        f'[node]\nstate_dir = "state"\n{guests}'
        f"[worker.metrics]\ncommand = {json.dumps(program)}\n"
        f'[worker.talker]\nautostart = false\ncommand = ["sh", "-c", {json.dumps(talker)}]\n'
        f'[forward.target.collector]\ntype = "otlp"\nurl = "http://127.0.0.1:{port}"\nevery = "10s"\n'
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, default=1000)
    parser.add_argument("--scrapes", type=int, default=20)
    parser.add_argument("--lines", type=int, default=200_000)
    parser.add_argument("--only-scrapes", action="store_true")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    # Who ends us in the middle must not leave a thousand processes behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    found: dict[str, object] = {"workers": args.workers}
    collector = Collector()
    with OwnNode(configuration(args.workers, args.lines, collector.server_address[1])) as node:
        run_dir = os.readlink(f"{node.state}/run")

        def pid(name: str) -> int:
            told = talk.request(run_dir, {"do": "status"}, 10.0)["workers"]
            return next(one["pid"] or 0 for one in told if one["name"] == name)

        said = Path(node.state, "logs/metrics/err.log")
        port = int(
            wait_for(
                lambda: (
                    said.exists() and said.read_text().rpartition("127.0.0.1:")[2].partition("/")[0]
                ),
                "the server",
            )
        )
        server, forwarder = pid("metrics"), pid("forward")
        formats = {"openmetrics": OPENMETRICS, "prometheus": "text/plain"}
        took: dict[str, list[tuple[float, int]]] = {name: [] for name in formats}
        spent_s = dict.fromkeys(formats, 0.0)
        for turn in range(args.scrapes + 1):
            # In turns, so that what else this machine does meets both.
            for name, accept in formats.items():
                before_s = cpu_s(server)
                one = scrape(port, accept)
                if turn:  # the first of each fills the caches
                    took[name].append(one)
                    spent_s[name] += cpu_s(server) - before_s
        for name, several in took.items():
            ms = [one for one, _ in several]
            found[name] = {
                "median_ms": round(statistics.median(ms), 1), "p95_ms": round(percentile(ms, 0.95), 1), "least_ms": round(min(ms), 1),
                "cpu_ms": round(spent_s[name] * 1e3 / args.scrapes, 1), "bytes": several[0][1],
            }  # fmt: skip
        found["load"] = round(os.getloadavg()[0], 1)
        if not args.only_scrapes:
            wait_for(lambda: collector.requests > 2, "the first figures")
            before_s, began_s = cpu_s(forwarder), time.monotonic()
            time.sleep(20.0)  # two rounds of figures
            share = (cpu_s(forwarder) - before_s) / (time.monotonic() - began_s)
            reading = procfs.reading(forwarder)
            found["forward"] = {
                "idle_cpu_share": round(share, 4), "every_s": 10, "rss_mb": round(reading.rss_bytes / 2**20, 1) if reading else None,
            }  # fmt: skip
            before_s, before = cpu_s(forwarder), collector.lines
            began_s = time.monotonic()
            node.command("start", "talker")
            wait_for(lambda: collector.lines - before >= args.lines, "all lines", 120.0)
            took_s, spent_s = time.monotonic() - began_s, cpu_s(forwarder) - before_s
            reading = procfs.reading(forwarder)
            found["lines"] = {
                "number": args.lines, "took_s": round(took_s, 2), "lines_a_cpu_second": round(args.lines / spent_s) if spent_s else None,
                "rss_mb": round(reading.rss_bytes / 2**20, 1) if reading else None,
            }  # fmt: skip
    print(json.dumps(found) if args.json else json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
