"""The server that most tests of this folder talk to."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from mcp_server.door import Door, Site

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


@pytest.fixture
def door(site: Site) -> Iterator[Door]:
    made = Door(site)
    yield made
    made.listener.close()
