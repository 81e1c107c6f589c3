# ruff: noqa: INP001
"""What does `holdfast status` look like? Makes docs/images/status.svg from what the program really printed.

Starts the example site (examples/clandeck/split.toml) in a temporary directory, stops one worker with SIGSTOP, waits until the
watchdog has restarted it, records `holdfast status` on a pseudo terminal and turns its colours into SVG.

    python docs/images/status.py        writes the picture, and the text into README.md
"""

from __future__ import annotations

import html
import json
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HOLDFAST = [sys.executable, "-m", "holdfast"]
COLOURS = {"31": "#ff7b72", "32": "#7ee787", "2": "#8b949e"}
WIDTH, LINE = 8.4, 19
COLUMNS = 100


def recorded(directory: Path) -> str:
    """Run the site, hurt it, and return what `holdfast status` wrote to a terminal."""
    env = os.environ | {
        "PYTHONPATH": str(ROOT / "src"), "COLUMNS": str(COLUMNS), "TERM": "xterm", "CLANDECK_CACHE_PORT": "26391",
        "CLANDECK_PORT": "28391",
    }  # fmt: skip
    env.pop("NO_COLOR", None)

    def run(*words: str) -> str:
        return subprocess.check_output(
            [*HOLDFAST, "-c", "split.toml", *words], cwd=directory, env=env, text=True,
            stderr=subprocess.DEVNULL,
        )  # fmt: skip

    def worker(name: str) -> dict[str, object]:
        found = json.loads(run("status", "--json"))["workers"]
        return next(entry for entry in found if entry["name"] == name)

    run("up", "--detach")
    try:
        time.sleep(15)  # so that the table shows a node that has run for a while
        os.kill(int(str(worker("audit")["pid"])), signal.SIGSTOP)
        until = time.monotonic() + 30
        while not (worker("audit")["restarts"] and worker("audit")["ready"]):
            if time.monotonic() > until:
                raise SystemExit("the watchdog did not restart the worker")
            time.sleep(0.2)
        pieces: list[bytes] = []

        def read(descriptor: int) -> bytes:
            pieces.append(os.read(descriptor, 65536))
            return pieces[-1]

        os.environ.update(env)
        os.chdir(directory)
        pty.spawn([*HOLDFAST, "-c", "split.toml", "status"], read)
        return b"".join(pieces).decode().replace("\r\n", "\n").rstrip() + "\n"
    finally:
        run("down")


def svg(text: str) -> str:
    """Turn text with ANSI colours into a picture."""
    lines = text.splitlines()
    width, height = int(COLUMNS * WIDTH) + 32, len(lines) * LINE + 32
    rows = []
    for at, line in enumerate(lines):
        spans, style = [], ""
        for piece in re.split(r"(\x1b\[\d+m)", line):
            if found := re.fullmatch(r"\x1b\[(\d+)m", piece):
                code = found[1]
                style = ' font-weight="bold"' if code == "1" else ""
                style = f' fill="{COLOURS[code]}"' if code in COLOURS else style
            elif piece:
                spans.append(f"<tspan{style}>{html.escape(piece)}</tspan>")
        rows.append(
            f'<text x="16" y="{at * LINE + 30}" xml:space="preserve">{"".join(spans)}</text>'
        )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}">\n'
        f'<rect width="100%" height="100%" rx="8" fill="#0d1117"/>\n'
        '<g fill="#e6edf3" font-family="ui-monospace, SFMono-Regular, Menlo, Consolas, monospace" font-size="14">\n'
        + "\n".join(rows)
        + "\n</g>\n</svg>\n"
    )


def main() -> None:
    """Write the picture and the text."""
    with tempfile.TemporaryDirectory() as scratch:
        site = Path(scratch) / "clandeck"
        shutil.copytree(
            ROOT / "examples" / "clandeck", site, ignore=shutil.ignore_patterns(".holdfast", "data")
        )
        text = recorded(site)
    os.chdir(ROOT)
    (ROOT / "docs" / "images" / "status.svg").write_text(svg(text))
    readme = ROOT / "README.md"
    plain = re.sub(r"\x1b\[\d+m", "", text)
    whole = readme.read_text()
    whole = re.sub(
        r"(<!-- picture -->.*?```text\n).*?(```\n<!-- /picture -->)",
        lambda m: m[1] + plain + m[2],
        whole,
        flags=re.DOTALL,
    )
    readme.write_text(whole)


if __name__ == "__main__":
    main()
