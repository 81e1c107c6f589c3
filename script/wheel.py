# ruff: noqa: INP001 -- a script, not a package
"""What has to be in a wheel besides the package's own files? What the dashboard's pages use of others, and the page put together.

A hook of hatchling (pyproject.toml). The packages come from the npm registry by lock file, like everywhere (npm_files.py), and so does
what puts the page together (page_bundle.py). Where they cannot be had, the wheel is made without them, and says so: a node does not need
its dashboard, and the dashboard works with plain modules. A release must not lack either: `HOLDFAST_WITH_PAGES=1` makes that an error.
An editable installation uses the checkout's (script/frontend).
"""

import os
import runpy
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class Pages(BuildHookInterface):  # type: ignore[type-arg]
    """Fetches before the files of the wheel are collected."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002 -- hatchling's signature
        """Fetch what is not there yet."""
        if version == "editable":
            return
        root = Path(self.root)
        dashboard = root / "src" / "holdfast" / "dashboard"
        fetch = runpy.run_path(str(root / "script" / "npm_files.py"))["fetch"]
        if fetch(dashboard / "front", dashboard / "pages" / "vendor", "for the dashboard's pages"):
            self._lacks("this wheel has a dashboard without pages")
            return
        bundle = runpy.run_path(str(root / "script" / "page_bundle.py"))["bundle"]
        if bundle(dashboard):
            self._lacks("the dashboard of this wheel has its pages in pieces, which load slower")

    def _lacks(self, what: str) -> None:
        if os.environ.get("HOLDFAST_WITH_PAGES"):
            raise RuntimeError(f"{what}, see above")
        self.app.display_warning(f"NOTICE: {what}, see above")
