#!/usr/bin/env python3
"""How long does a browser take with the dashboard's pages, with 1,000 workers?

    python bench/dashboard_pages.py [--workers 1000] [--loads 7] [--updates 40] [--json FILE]

Chromium (on the PATH) by Playwright, on the synthetic node of dashboard.py. Page ready: from the beginning of the navigation until the screen is drawn with the
node's state ("holdfast ready", wall clock; the first load has an empty cache). Update: script time of laying a delta over the state and drawing it ("holdfast
update"), where every worker has changed memory, processor time and its line, with the table on the screen. Layout and painting are the browser's.
"""

import argparse
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROWS = (
    ("first_ready_ms", "Workers ready, a browser that has never been here", 500.0),
    ("workers_ready_ms", "Workers ready, median", 500.0),
    ("now_ready_ms", "Now ready, median", 500.0),
    ("update_ms", "update of all rows, median", 20.0),
    ("update_worst_ms", "update of all rows, worst", 20.0),
)
READY = "() => performance.getEntriesByName('holdfast ready')[0]?.startTime"
#: In the page: the modules are those that it runs, so the delta goes the way of every other.
UPDATE = """async (updates) => {
  const store = await import("/js/store.js");
  const found = [];
  const frame = () => new Promise((resolve) => requestAnimationFrame(() => setTimeout(resolve)));
  for (let at = 1; at <= updates; at += 1) {
    const workers = {};
    for (const [name, worker] of Object.entries(store.get().workers)) {
      const share = (at % 10) / 10 + 0.01;
      workers[name] = { rss_bytes: (worker.rss_bytes ?? 0) + 4096, cpu_share: share, cpu_line: [...(worker.cpu_line ?? []), share].slice(-30) };
    }
    store.apply({ seq: 1e9 + at, at_unix_s: Date.now() / 1000, workers });
    await frame();
    found.push(performance.getEntriesByName("holdfast update")[0].duration);
  }
  return found;
}"""


def measure(link: str, loads: int, updates: int) -> dict[str, float]:
    """Return the figures by their keys, in milliseconds."""
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        raise SystemExit("there is no chromium on the PATH (apt install chromium)")
    base = link.partition("/#")[0]
    with sync_playwright() as playwright:
        arguments = ["--headless", "--no-sandbox", "--disable-gpu"]
        browser = playwright.chromium.launch(executable_path=chromium, args=arguments)
        page = browser.new_page(viewport={"width": 1280, "height": 850})

        def ready_ms(path: str) -> float:
            page.goto(base + path)
            return float(page.wait_for_function(READY).json_value())

        page.goto(link)
        page.wait_for_selector(".verdict")
        page.context.new_cdp_session(page).send("Network.clearBrowserCache")
        first = ready_ms("/workers")
        workers = [ready_ms("/workers") for _ in range(loads)]
        now = [ready_ms("/") for _ in range(loads)]
        ready_ms("/workers")
        took = page.evaluate(UPDATE, updates)
        browser.close()
    return {
        "first_ready_ms": first,
        "workers_ready_ms": statistics.median(workers),
        "now_ready_ms": statistics.median(now),
        "update_ms": statistics.median(took),
        "update_worst_ms": max(took),
    }


def main() -> int:
    """Print the figures beside their goals."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workers", type=int, default=1000)
    parser.add_argument("--loads", type=int, default=7)
    parser.add_argument("--updates", type=int, default=40)
    parser.add_argument("--json", metavar="FILE")
    args = parser.parse_args()
    command = [sys.executable, str(HERE / "dashboard.py"), "--serve", "--workers", str(args.workers), "--incidents", "1000"]  # fmt: skip
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as node:
        assert node.stdout is not None
        try:
            link = node.stdout.readline().strip()
            if not link:
                raise SystemExit("the node of bench/dashboard.py did not come up")
            found = measure(link, args.loads, args.updates)
        finally:
            os.kill(node.pid, signal.SIGINT)
            try:
                node.wait(10)
            except subprocess.TimeoutExpired:  # started where SIGINT is ignored
                os.killpg(node.pid, signal.SIGKILL)
    for key, what, goal in ROWS:
        print(f"{'ok ' if found[key] <= goal else 'NOT'}  {what:<52} {found[key]:>8.1f} ms   (goal {goal:g} ms)")  # fmt: skip
    if args.json:
        Path(args.json).write_text(json.dumps(found, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
