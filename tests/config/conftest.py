"""A desk for each test."""

from pathlib import Path

import pytest

from config.desk import Desk


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


@pytest.fixture(scope="session")
def shared_desk(tmp_path_factory: pytest.TempPathFactory) -> Desk:
    """For generated tests, which make hundreds of configurations."""
    return Desk(tmp_path_factory.mktemp("desk"))
