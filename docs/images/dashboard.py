# ruff: noqa: INP001
"""What does the dashboard look like? Makes docs/images/dashboard-*.png from a real node in a real browser.

Runs a node with a container, a guest that breaks its own memory and one that just sleeps, waits for the incident and its verdict, and takes pictures of the
screens Now and Incident, on a desk in daylight and on a phone at night. Needs Playwright and a Chromium (extra ``dev``).

    python docs/images/dashboard.py
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from playwright.sync_api import sync_playwright

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
HOLDFAST = [sys.executable, "-m", "holdfast"]
PORT = 28750
SHOP = """
from holdfast.sdk import Component
app = Component()

@app.every(0.1)
async def serve():
    app.work()
"""
THUMBNAILS = """
import ctypes, time
time.sleep(6)
ctypes.string_at(0)
"""
CONFIG = f"""
[node]
name = "shop-1"
state_dir = "state"
verify = "3s"

[dashboard]
listen = "127.0.0.1:{PORT}"

[worker.shop]
components = ["orders", "stock"]
[component.orders]
use = "shop:app"
[component.stock]
use = "shop:app"

[worker.thumbnails]
command = ["{sys.executable}", "-X", "faulthandler", "thumbnails.py"]
[worker.cache]
command = ["sleep", "1000"]
"""


def main() -> None:
    """Run the node, hurt it, take the pictures."""
    directory = Path(tempfile.mkdtemp())
    env = os.environ | {"PYTHONPATH": f"{ROOT / 'src'}:{directory}"}
    for name, text in (("shop.py", SHOP), ("thumbnails.py", THUMBNAILS), ("holdfast.toml", CONFIG)):
        (directory / name).write_text(text)

    def run(*words: str) -> str:
        done = subprocess.run([*HOLDFAST, *words], cwd=directory, env=env, capture_output=True, text=True, check=True)  # fmt: skip
        return done.stdout

    run("up", "--detach")
    try:
        until = time.monotonic() + 60
        while not (found := json.loads(run("incidents", "--json"))["incidents"]):
            if time.monotonic() > until:
                raise SystemExit("no incident within a minute")
            time.sleep(0.2)
        incident = found[-1]["id"]
        # From the next life on it is well: a cure to be seen.
        (directory / "thumbnails.py").write_text("import time; time.sleep(1000)\n")
        run("restart", "thumbnails")
        time.sleep(5)
        take(run("dashboard").strip().splitlines()[0], incident)
    finally:
        run("down")
        shutil.rmtree(directory)


def take(link: str, incident: str) -> None:
    """Take the pictures of a node whose dashboard this link opens."""
    with sync_playwright() as playwright:
        chromium = shutil.which("chromium") or shutil.which("google-chrome")
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        desk = browser.new_context(viewport={"width": 1200, "height": 760}, color_scheme="light")
        page = desk.new_page()
        page.goto(link)
        page.get_by_text("What Holdfast did").wait_for()
        page.screenshot(path=HERE / "dashboard-now.png")
        page.goto(f"http://127.0.0.1:{PORT}/incidents/{incident}")
        page.locator(".answers").wait_for()
        page.wait_for_timeout(700)  # charts draw in the next frames
        page.screenshot(path=HERE / "dashboard-incident.png")
        state = desk.storage_state()
        phone = browser.new_context(
            viewport={"width": 390, "height": 760}, color_scheme="dark", is_mobile=True, storage_state=state
        )  # fmt: skip
        page = phone.new_page()
        page.goto(f"http://127.0.0.1:{PORT}/incidents/{incident}")
        page.locator(".answers").wait_for()
        page.screenshot(path=HERE / "dashboard-phone.png")
        browser.close()


if __name__ == "__main__":
    main()
