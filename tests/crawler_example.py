"""The modules of the example crawler, for tests; they are skipped where what it needs is not installed.

Its package is called as the directory of its tests, so the tests take it from here.
"""

from __future__ import annotations

import socket
import sys
import threading
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

EXAMPLE = Path(__file__).resolve().parents[1] / "examples" / "crawler"

for needed in ("urllib3", "selectolax", "protego"):
    # pip install -r examples/crawler/requirements.txt
    pytest.importorskip(needed)
if str(EXAMPLE) not in sys.path:
    sys.path.insert(0, str(EXAMPLE))

rules: Any = import_module("crawler.rules")
parsing: Any = import_module("crawler.parsing")
results: Any = import_module("crawler.results")
fetching: Any = import_module("crawler.fetching")
robots: Any = import_module("crawler.robots")
odd: Any = import_module("crawler.odd")
site: Any = import_module("crawler.site")
tasks: Any = import_module("crawler.tasks")


class Served:
    """The example's site, for as long as a test needs it."""

    def __init__(self, data: Path, **options: Any) -> None:
        self.data = data
        listening = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        given = {"documents": None, "pages": 30, "poison": False} | options
        self.server = site.Server(listening, data, **given)
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True)
        self.thread.start()

    def asked(self) -> list[str]:
        """Return the paths that were asked for."""
        return [said.path for said in site.requests(self.data)]

    def end(self) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()
