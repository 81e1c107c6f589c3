"""The browser's WAMP client, and a node with the site on it."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from clandeck.live_site import EXAMPLE, Site

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--clandeck-picture", action="store_true", help="write docs/images/clandeck.png, as the browser shows the site"
    )  # fmt: skip


@pytest.fixture(scope="session")
def vendor(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """wampy, as the site gets it; where there is no registry, the tests that need it are skipped."""
    if (EXAMPLE / "web" / "vendor" / "wampy.min.js").exists():
        return EXAMPLE / "web" / "vendor"
    directory = tmp_path_factory.mktemp("vendor") / "vendor"
    command = [sys.executable, str(EXAMPLE / "web" / "get_client.py"), str(directory)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"no WAMP client for the browser: {done.stderr.strip()}")
    return directory


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, vendor: Path) -> Iterator[Site]:
    """The site with a process for each component."""
    made = Site(tmp_path_factory.mktemp("clandeck"), "split.toml", vendor)
    try:
        made.up()
        yield made
    finally:
        made.end()
