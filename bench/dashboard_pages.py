#!/usr/bin/env python3
"""How long does a browser take with the dashboard's pages, with 1,000 workers?

    python bench/dashboard_pages.py [--workers 1000] [--loads 7] [--updates 40] [--plain] [--json FILE]

Chromium (on the PATH) by Playwright, on the synthetic node of dashboard.py. Page ready: from the beginning of the navigation until the screen is drawn with the
node's state ("holdfast ready", wall clock; first: with an empty cache, the median of the loads). Update: processor time of the page's own script for a delta, from reading
it to the table drawn anew, where every worker has changed memory, processor time and its line (Chromium's trace of the thread: a browser that has to wait for a processor is
not slower for that). Layout and painting are the browser's.
`--plain` asks for the plain modules beside the page that was put together (script/frontend), load by load in turns: two dashboards of one node.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "src")]

from holdfast.dashboard.page import PageFiles  # noqa: E402

TYPE_CHECKING = False
if TYPE_CHECKING:
    from playwright.sync_api import Browser

ROWS = (
    ("first_ready_ms", "Workers ready, a browser that has never been here", 500.0),
    ("workers_ready_ms", "Workers ready, median", 500.0),
    ("now_ready_ms", "Now ready, median", 500.0),
    ("update_ms", "update of all rows, median", 20.0),
    ("update_worst_ms", "update of all rows, worst", 20.0),
)
READY = "performance.getEntriesByName('holdfast ready')[0]?.startTime"
#: Before the page: its connection is kept, so that a delta of ours comes to it the way of every other.
KEEP = """
const Known = window.EventSource;
window.EventSource = class extends Known {
  constructor(...how) {
    super(...how);
    window.benchSource = this;
    this.addEventListener("state", (event) => { window.benchState = event.data; });
  }
};
"""
UPDATE = """async (updates) => {
  const known = JSON.parse(window.benchState).workers;
  const frame = () => new Promise((resolve) => requestAnimationFrame(() => setTimeout(resolve)));
  for (let at = 1; at <= updates; at += 1) {
    const workers = {};
    for (const [name, worker] of Object.entries(known)) {
      const share = (at % 10) / 10 + 0.01;
      worker.rss_bytes = (worker.rss_bytes ?? 0) + 4096;
      worker.cpu_line = [...(worker.cpu_line ?? []), share].slice(-30);
      workers[name] = { rss_bytes: worker.rss_bytes, cpu_share: share, cpu_line: worker.cpu_line };
    }
    const data = JSON.stringify({ seq: 1e9 + at, at_unix_s: Date.now() / 1000, workers });
    performance.mark("bench update");
    window.benchSource.dispatchEvent(new MessageEvent("delta", { data }));
    await frame();
  }
}"""
PATIENCE_S = 60.0


def script_ms(trace: bytes, base: str) -> list[float]:
    """Return what each update took of a processor, in the page's own functions.

    Args:
        trace: As Chromium writes it.
        base: Where these come from.
    """
    events = json.loads(trace)["traceEvents"]
    begun = [one for one in events if one["name"] == "bench update" and one["ph"] in "RI"]
    thread = {(one["pid"], one["tid"]) for one in begun}
    calls = [
        one for one in events
        if one["name"] == "FunctionCall" and one["ph"] == "X" and (one["pid"], one["tid"]) in thread
        and str(one["args"].get("data", {}).get("url", "")).startswith(base)
    ]  # fmt: skip
    calls.sort(key=lambda one: (one["ts"], -one["dur"]))
    found = [0.0] * len(begun)
    marks = sorted(one["ts"] for one in begun)
    end = 0.0
    for one in calls:
        at = sum(mark <= one["ts"] for mark in marks) - 1
        if at >= 0 and one["ts"] >= end:  # what a function of ours calls is in its time
            found[at] += one["tdur"] / 1000
            end = one["ts"] + one["dur"]
    return found


class Visitor:
    """A browser at one dashboard."""

    def __init__(self, browser: Browser, link: str) -> None:
        self.base = link.partition("/#")[0]
        self.page = browser.new_context(viewport={"width": 1280, "height": 850}).new_page()
        self.page.add_init_script(KEEP)
        self.page.goto(link)
        self.page.wait_for_selector(".verdict")
        self.cache = self.page.context.new_cdp_session(self.page)
        self.page.goto("about:blank")
        self.first: list[float] = []
        self.workers: list[float] = []
        self.now: list[float] = []

    def ready_ms(self, path: str) -> float:
        """Load a page. It is asked from outside: what Playwright itself puts into a page to wait there costs a tenth of the time."""
        self.page.goto(self.base + path)
        until_s = time.monotonic() + PATIENCE_S
        while time.monotonic() < until_s:
            told = self.cache.send("Runtime.evaluate", {"expression": READY, "returnByValue": True})
            if (value := told["result"].get("value")) is not None:
                return float(value)
            time.sleep(0.02)
        raise SystemExit(f"{path} was not ready within {PATIENCE_S:.0f} s")

    def turn(self) -> None:
        """Load each page once."""
        self.cache.send("Network.clearBrowserCache")
        self.first.append(self.ready_ms("/workers"))
        self.workers.append(self.ready_ms("/workers"))
        self.now.append(self.ready_ms("/"))
        self.page.goto(
            "about:blank"
        )  # nobody is looking: the other dashboard has the machine for itself

    def figures(self, updates: int) -> dict[str, float]:
        """Return the figures by their keys, in milliseconds."""
        self.ready_ms("/workers")
        browser = self.page.context.browser
        assert browser is not None
        browser.start_tracing(page=self.page, categories=["devtools.timeline", "blink.user_timing"])
        self.page.evaluate(UPDATE, updates)
        took = script_ms(browser.stop_tracing(), self.base)
        assert len(took) == updates, f"{len(took)} updates in the trace"
        self.page.goto("about:blank")
        return {
            "first_ready_ms": statistics.median(self.first),
            "workers_ready_ms": statistics.median(self.workers),
            "now_ready_ms": statistics.median(self.now),
            "update_ms": statistics.median(took),
            "update_worst_ms": max(took),
        }


def measure(links: list[str], loads: int, updates: int) -> list[dict[str, float]]:
    """Return the figures of the dashboards that these links open."""
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        raise SystemExit("there is no chromium on the PATH (apt install chromium)")
    with sync_playwright() as playwright:
        arguments = ["--headless", "--no-sandbox", "--disable-gpu"]
        browser = playwright.chromium.launch(executable_path=chromium, args=arguments)
        visitors = [Visitor(browser, link) for link in links]
        for _ in range(loads):
            for visitor in visitors:
                visitor.turn()
        found = [visitor.figures(updates) for visitor in visitors]
        browser.close()
    return found


def main() -> int:
    """Print the figures beside their goals."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workers", type=int, default=1000)
    parser.add_argument("--loads", type=int, default=7)
    parser.add_argument("--updates", type=int, default=40)
    parser.add_argument("--plain", action="store_true")
    parser.add_argument("--json", metavar="FILE")
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # the node is ended in any case
    if not PageFiles().is_built():
        print("note: the page was not put together of these files (script/frontend): its plain modules are measured")  # fmt: skip
    command = [sys.executable, str(HERE / "dashboard.py"), "--serve", "--workers", str(args.workers), "--incidents", "1000"]  # fmt: skip
    if args.plain:
        command.append("--plain")
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as node:
        assert node.stdout is not None
        try:
            links = [node.stdout.readline().strip() for _ in range(1 + args.plain)]
            if not all(links):
                raise SystemExit("the node of bench/dashboard.py did not come up")
            found = measure(links, args.loads, args.updates)
        finally:
            os.kill(node.pid, signal.SIGINT)
            try:
                node.wait(10)
            except subprocess.TimeoutExpired:  # started where SIGINT is ignored
                os.killpg(node.pid, signal.SIGKILL)
    for key, what, goal in ROWS:
        beside = f"   plain modules: {found[1][key]:.1f} ms" if args.plain else ""
        print(f"{'ok ' if found[0][key] <= goal else 'NOT'}  {what:<52} {found[0][key]:>8.1f} ms   (goal {goal:g} ms){beside}")  # fmt: skip
    if args.json:
        Path(args.json).write_text(json.dumps(found[0], indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
