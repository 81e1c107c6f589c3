"""The table of workers on narrow and wide screens."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cli.fake_node import shown, snapshot
from holdfast.cli import table
from holdfast.cli.terminal import UNLIMITED, Paint, visible

PLAIN = Paint(False)
NOW = 1_000_000.0

FLAG = {
    "worker": "crawler", "flag": "memory_over_limit", "since_unix_s": NOW - 192, "value": 600, "limit": 512,
    "says": "600 MB of 512 MB", "incident": "2024-11-03-crawler-2", "rung": 1, "phase": "remedy",
}  # fmt: skip

STORY = snapshot(
    shown("board", kind="container"),
    shown("crawler", restarts=3, rss_bytes=600 << 20, cpu_share=0.98, flags=[FLAG], ready=False),
    shown("fetch", state="failed", ready=False, pid=None, started_at_unix_s=None, restarts=6, rss_bytes=None,
          cpu_share=None, why="6 deaths in 60 s (restart.limit = 5)"),
    shown("mail", state="backoff", ready=False, pid=None, started_at_unix_s=None, restarts=2, rss_bytes=None,
          cpu_share=None, delay_s=3.2),
)  # fmt: skip


def story(width: int, paint: Paint = PLAIN) -> list[str]:
    return table.status(STORY, width, paint, NOW)


def test_the_table_at_200_columns_has_everything() -> None:
    assert (
        "\n".join(story(200))
        == """\
clandeck-1  4 workers: 2 running, 1 failed, 1 backoff; 1 ready; up 2h00m

WORKER   STATE    READY   PID  UPTIME  RESTARTS  MEMORY   CPU  FLAGS
board    running  yes    4711   1h02m         0     20M  2.0%
crawler  running  no     4711   1h02m         3    600M   98%  memory_over_limit
fetch    failed   -         -       -         6       -     -
mail     backoff  -         -       -         2       -     -

house: anchor 100 9.1M · keeper 101 9.1M · watchdog 102 9.1M · logger 103 9.1M

! crawler: memory_over_limit for 3m12s: 600 MB of 512 MB
    being remedied (rung 1)
    look: holdfast incident 2024-11-03-crawler-2
! fetch: failed: 6 deaths in 60 s (restart.limit = 5)
    look: holdfast incidents --worker fetch      try again: holdfast start fetch
! mail: starts again in 3.2s"""
    )


def test_the_table_at_80_columns_shortens_headings_first() -> None:
    lines = story(80)

    assert (
        "\n".join(lines[2:5])
        == """\
WORKER   STATE    READY   PID  UPTIME  RESTARTS  MEMORY   CPU  FLAGS
board    running  yes    4711   1h02m         0     20M  2.0%
crawler  running  no     4711   1h02m         3    600M   98%  memory_over_limit"""
    )
    assert story(78)[2] == "WORKER   STATE    READY   PID     UP  RST   MEM   CPU  FLAGS"
    assert max(map(len, lines)) <= 80


def test_the_table_at_60_columns_drops_what_can_be_read_below() -> None:
    lines = story(60)

    assert lines[2] == "WORKER   STATE    READY     UP  RST   MEM   CPU  FLAGS"
    assert lines[4] == "crawler  running  no     1h02m    3  600M   98%  memor…limit"
    assert "! crawler: memory_over_limit for 3m12s: 600 MB of 512 MB" in lines
    assert max(map(len, lines)) <= 60


def test_a_long_name_loses_its_middle_because_names_differ_at_the_end() -> None:
    names = [f"clandeck-production-crawler-of-forum-pages-{n:04d}" for n in range(3)]
    lines = table.table([shown(name) for name in names], 60, PLAIN, NOW)

    assert [line.split()[0][-4:] for line in lines[1:]] == ["0000", "0001", "0002"]
    assert max(map(len, lines)) <= 60


@settings(deadline=None)
@given(
    st.integers(60, 240),
    st.lists(st.from_regex(r"[a-z][a-z0-9-]{0,62}", fullmatch=True), min_size=1, max_size=8),
    st.sampled_from(
        ["running", "backoff", "failed", "waiting", "starting", "stopping", "down", "done"]
    ),
    st.booleans(),
)
def test_no_line_is_ever_wider_than_the_screen(
    width: int, names: list[str], state: str, coloured: bool
) -> None:
    workers = [
        shown(name, state=state, why="because of " + name, flags=[{**FLAG, "worker": name}])
        for name in names
    ]
    lines = table.status(snapshot(*workers), width, Paint(coloured), NOW)

    assert max(map(visible, lines)) <= width


def test_colour_changes_nothing_but_the_colour() -> None:
    painted = story(100, Paint(True))
    bare = [line.replace("\x1b[0m", "") for line in painted]
    for code in ("1", "2", "31", "32", "33"):
        bare = [line.replace(f"\x1b[{code}m", "") for line in bare]

    assert bare == story(100)
    assert "\x1b[31mfailed\x1b[0m" in "\n".join(painted)


def test_a_pipe_gets_whole_lines() -> None:
    name = "w" * 63
    lines = table.status(snapshot(shown(name)), UNLIMITED, PLAIN, NOW)

    assert any(line.startswith(name) for line in lines)


def test_thousands_of_workers_in_trouble_do_not_bury_the_table() -> None:
    workers = [shown(f"w{n}", state="failed", pid=None) for n in range(3000)]
    lines = table.status(snapshot(*workers), 80, PLAIN, NOW)

    assert len(lines) < 3000 + 60
    assert lines[-1] == "… and 2980 more of this kind (holdfast status --json has them all)"


def test_a_missing_keeper_and_a_silent_one_are_told() -> None:
    """The keeper is being replaced: a person must not take the table for the keeper's word."""
    found = snapshot(
        shown("web"), keeper_answers=False, trouble="the keeper does not answer (waited 2 s)"
    )
    found["house"][1] = {"name": "keeper", "pid": None, "rss_bytes": None, "uptime_s": None}
    text = "\n".join(table.status(found, 100, PLAIN, NOW))

    assert "shown is what its journal and /proc tell" in text
    assert "keeper missing" in text


@pytest.mark.parametrize("phase", ["raised", "evidence", "remedy", "verify", "gave_up"])
def test_every_phase_of_a_flag_says_what_is_being_done(phase: str) -> None:
    lines = table.flag_lines({**FLAG, "phase": phase, "worker": "@node"}, PLAIN, NOW)

    assert lines[0].startswith("! this machine: memory_over_limit for 3m12s")
    assert len(lines[1].strip()) > 15
    assert lines[1].strip() != phase


def test_urgent_workers_come_first_where_not_all_fit() -> None:
    workers = [
        shown("a"),
        shown("b", state="failed"),
        shown("c", flags=[FLAG]),
        shown("d", state="starting"),
    ]

    assert [w["name"] for w in table.by_urgency(workers)] == ["c", "b", "d", "a"]
