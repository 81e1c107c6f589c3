"""The crawler's site on a free port of the loopback."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from crawler_example import Served


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Served]:
    """Thirty made-up pages and the odd corner."""
    from crawler_example import Served

    served = Served(tmp_path / "site")
    yield served
    served.end()
