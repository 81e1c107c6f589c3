"""A node to export, and what comes out."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from holdfast.config.exporters import Exported, export
from holdfast.config.exporters.sheet import Node
from holdfast.config.exporters.variables import needed
from holdfast.config.load import load_plan

Exporting = Callable[..., Exported]


@pytest.fixture
def exporting(tmp_path: Path) -> Exporting:
    """Write a configuration and export it: ``exporting(text, "systemd", each=True, PASSWORD="…")``."""

    def run(
        text: str, target: str, *, each: bool = False, is_watched: bool = False, **environ: str
    ) -> Exported:
        path = tmp_path / "holdfast.toml"
        path.write_text(text, encoding="utf-8")
        env = {"PATH": os.environ.get("PATH", os.defpath), "HOME": "/home/somebody", **environ}
        given = Node(
            plan=load_plan(str(path), env),
            directory=str(tmp_path),
            config=str(path),
            program="/bin/true",
            user="",
            variables=needed(str(path), env),
            environ=env,
            is_watched=is_watched,
        )
        return export(target, given, each=each)

    return run
