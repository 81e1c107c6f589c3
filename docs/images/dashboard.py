# ruff: noqa: INP001
"""What does the dashboard look like? Makes docs/images/dashboard-*.png from a real node in a real browser.

Runs a node with a container, a guest that fails since a package of it changed and one that just sleeps, waits for the incident and its verdict, and takes pictures of the
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
from typing import TYPE_CHECKING, Any

from playwright.sync_api import sync_playwright

if TYPE_CHECKING:
    from collections.abc import Callable

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
#: Two versions of a package, and what uses it.
PACKAGE = {
    "2.1.0": "def shrink(picture):\n    return picture['wide'] // 4\n",
    "2.2.0": "def shrink(picture):\n    return picture['width'] // 4\n",
}
THUMBNAILS = """
import time
time.sleep(4)  # it is mended meanwhile, in the life after the failure
import picturekit
while True:
    picturekit.shrink({"wide": 1200})
    time.sleep(0.5)
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
command = ["{sys.executable}", "thumbnails.py"]
env = {{ PYTHONPATH = "@lib@" }}
[worker.cache]
command = ["sleep", "1000"]
"""
#: The watchdog puts on record how a worker is that was ready for so long; what changes afterwards is told.
GOOD_S = 60.0


def main() -> None:
    """Run the node, hurt it, take the pictures."""
    directory = Path(tempfile.mkdtemp())
    env = os.environ | {"PYTHONPATH": f"{ROOT / 'src'}:{directory}"}
    for name, text in (
        ("shop.py", SHOP),
        ("thumbnails.py", THUMBNAILS),
        ("holdfast.toml", CONFIG.replace("@lib@", f"{directory}/lib")),
    ):
        (directory / name).write_text(text)

    def run(*words: str) -> str:
        done = subprocess.run([*HOLDFAST, *words], cwd=directory, env=env, capture_output=True, text=True, check=True)  # fmt: skip
        return done.stdout

    install(directory, "2.1.0")
    run("up", "--detach")
    try:
        good = directory / "state" / "good" / "thumbnails.json"
        wait_for(good.exists, "what is well to be on record", GOOD_S + 60)
        install(directory, "2.2.0")
        run("restart", "thumbnails")
        found = wait_for(lambda: json.loads(run("incidents", "--json"))["incidents"], "an incident", 60)  # fmt: skip
        incident = found[-1]["id"]
        install(directory, "2.1.0")  # from the next life on it is well: a cure to be seen
        wait_for(lambda: "cured" in run("incident", incident), "the verdict", 60)
        take(run("dashboard").strip().splitlines()[0], incident)
    finally:
        run("down")
        shutil.rmtree(directory)


def install(directory: Path, version: str) -> None:
    """Put one version of the package there, instead of the other."""
    library = directory / "lib"
    shutil.rmtree(library, ignore_errors=True)
    (library / "picturekit").mkdir(parents=True)
    (library / "picturekit" / "__init__.py").write_text(PACKAGE[version])
    (library / f"picturekit-{version}.dist-info").mkdir()


def wait_for(condition: Callable[[], Any], what: str, within_s: float) -> Any:
    """Return the first true value."""
    until = time.monotonic() + within_s
    while not (found := condition()):
        if time.monotonic() > until:
            raise SystemExit(f"waited {within_s:g} s in vain for {what}")
        time.sleep(0.2)
    return found


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
        page.locator(".chart canvas").first.wait_for()
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
