"""A queue in a directory of its own, and somebody who types `holdfast jobs …`."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from cli.queue_hands import OWNER, Told, Types
from holdfast.cli.main import main
from holdfast.jobs.opening import open_store

if TYPE_CHECKING:
    from holdfast.jobs.store import Store


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory without a node in it or above it, and the name of a store in the environment."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOLDFAST_JOBS", f"sqlite://{tmp_path}/jobs.db")
    monkeypatch.delenv("HOLDFAST_JOBS_PREFIX", raising=False)
    monkeypatch.setenv("COLUMNS", "100")
    return tmp_path


@pytest.fixture
def store(place: Path) -> "Iterator[Store]":
    made = open_store(f"sqlite://{place}/jobs.db")
    made.register(OWNER, 60.0)
    yield made
    made.close()


@pytest.fixture
def types(place: Path, capsys: pytest.CaptureFixture[str]) -> Types:
    """What somebody types after `holdfast jobs`: status, stdout, stderr."""
    del place

    def typed(*argv: str) -> tuple[int, str, str]:
        status = main(["jobs", *argv])
        seen = capsys.readouterr()
        return status, seen.out, seen.err

    return typed


@pytest.fixture
def told(types: Types) -> Told:
    return Told(types)
