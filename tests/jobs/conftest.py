"""Stores to test: each test that asks for `store` runs on every kind there is."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from holdfast.jobs.opening import open_store
from jobs.redis_server import redis_server, redis_store

if TYPE_CHECKING:
    from collections.abc import Iterator

    from holdfast.jobs.store import Store

__all__ = ["redis_server", "redis_store"]


@pytest.fixture
def quick_dir(tmp_path: Path) -> Iterator[Path]:
    """A directory in memory: a disk that others keep busy takes a second for what a test does a hundred times."""
    if not os.access("/dev/shm", os.W_OK):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir="/dev/shm", prefix="holdfast-test-") as made:
        yield Path(made)


@pytest.fixture
def sqlite_store(quick_dir: Path) -> Iterator[Store]:
    """An empty file."""
    made = open_store(f"sqlite://{quick_dir}/jobs.db")
    yield made
    made.close()


@pytest.fixture(params=["sqlite", "redis"])
def store(request: pytest.FixtureRequest) -> Any:
    """An empty store, of every kind."""
    return request.getfixturevalue(f"{request.param}_store")
