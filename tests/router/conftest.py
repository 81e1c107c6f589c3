"""A running router for the tests of this folder."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from router.peers import Running

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def running() -> Iterator[Running]:
    """A router that is ended after the test, and that had no fault of its own."""
    made = Running()
    yield made
    made.end()
    assert made.unhandled == []
    assert [line for line in made.log.lines if "the fault is the router's" in line] == []
