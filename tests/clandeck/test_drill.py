"""Does the site stay up, with fifty people on it, when any part of it is killed?"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from clandeck.live_site import SLOWNESS, Site

if TYPE_CHECKING:
    from collections.abc import Iterator

PARTS = ["presence", "board", "users", "mailout", "audit", "search", "router"]


@pytest.fixture
def split(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """It needs no browser, so no package of npm either."""
    made = Site(tmp_path_factory.mktemp("clandeck"), "split.toml")
    try:
        made.up()
        yield made
    finally:
        made.end()


def test_fifty_users_go_on_while_each_part_is_killed_in_turn(split: Site) -> None:
    """The story of 2014, with the other end: nobody is signed out, no card is lost, nobody else even notices."""
    done = subprocess.run(
        [sys.executable, str(split.directory / "drill.py"), "--json", "--within", "10"], env=split.env, capture_output=True, text=True,
        timeout=120 * SLOWNESS, check=False,
    )  # fmt: skip
    assert done.stdout, done.stderr
    told = json.loads(done.stdout)

    assert [one["crashed"] for one in told["crashes"]] == PARTS
    assert [one for one in told["crashes"] if one["failed"]] == []
    assert [one["users"] for one in told["crashes"]] == [50] * len(PARTS)
    assert told["lost"] == []
    assert done.returncode == 0, told


def test_the_two_placements_differ_in_nothing_else(split: Site) -> None:
    """All in one process or a process each: the same components, the same router, one file apart."""
    before = split.workers()
    split.config = "allinone.toml"
    split.holdfast("apply", "--yes")
    after = split.workers()

    assert set(before) == {*PARTS, "cache"}
    assert set(after) == {"backend", "router", "cache"}
    assert after["router"]["pid"] == before["router"]["pid"]
    assert after["cache"]["pid"] == before["cache"]["pid"]
