"""Whether a worker may be split, as a person writes it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from holdfast.core.isolate import AT_ONCE, HALVES

if TYPE_CHECKING:
    from config.desk import Desk


@pytest.mark.parametrize(
    ("line", "fan"),
    [("", AT_ONCE), ("isolate = true", AT_ONCE), ('isolate = "halves"', HALVES), ("isolate = false", 0)],
)  # fmt: skip
def test_a_container_may_be_split_unless_it_says_no(desk: Desk, line: str, fan: int) -> None:
    assert desk.container(line)["isolate"] == fan
