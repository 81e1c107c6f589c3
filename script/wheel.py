# ruff: noqa: INP001 -- a script, not a package
"""What has to be in a wheel besides the package's own files? What the dashboard's pages use of others.

A hook of hatchling (pyproject.toml). The packages come from the npm registry by lock file, like everywhere (npm_files.py). Where
they cannot be had, the wheel is made without them, and says so: a node does not need its dashboard. A release must not lack them:
`HOLDFAST_WITH_PAGES=1` makes that an error. An editable installation uses the checkout's (script/frontend).
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
        status = fetch(dashboard / "front", dashboard / "pages" / "vendor", "for the dashboard's pages")  # fmt: skip
        if not status:
            return
        if os.environ.get("HOLDFAST_WITH_PAGES"):
            raise RuntimeError("the dashboard's pages are not complete, see above")
        self.app.display_warning("NOTICE: this wheel has a dashboard without pages, see above")
