"""What `holdfast diff` announces is what the keeper does."""

from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from config.desk import Desk
from holdfast.config.diff import Change, diff_plans, explain, keep_environment
from holdfast.wire.plan import env_sum, fingerprint

if TYPE_CHECKING:
    from holdfast.model.plan import Plan

GUEST = '[worker.w]\ncommand = ["sleep", "9"]\n'


def _changed(desk: Desk, lines: str, before: str = "") -> list[Change]:
    return diff_plans(desk.plan(GUEST + before), desk.plan(GUEST + lines))


def test_nothing_changes_when_nothing_changed(desk: Desk) -> None:
    assert _changed(desk, "# a remark\nautostart = true\n") == []
    assert explain([]) == []


def test_workers_come_and_go(desk: Desk) -> None:
    old = desk.plan(GUEST + '[worker.old]\ncommand = "sleep 1"\n')
    new = desk.plan(
        GUEST
        + '[worker.new]\ncommand = "sleep 1"\n[worker.later]\ncommand = "sleep 1"\nautostart = false\n'
    )

    changes = diff_plans(old, new)

    assert [(change.worker, change.action) for change in changes] == [
        ("old", "stop"),
        ("new", "start"),
        ("later", "start"),
    ]
    assert explain(changes) == [
        'worker "old" is gone and is stopped',
        'worker "new" is new and is started',
        'worker "later" is new and is not started (autostart = false)',
    ]


@pytest.mark.parametrize(
    ("lines", "key"),
    [
        ('restart = "never"', "restart.policy"),
        ("ready = { tcp = 80 }", "ready.kind"),
        ('heartbeat = "notify"', "heartbeat.kind"),
        ("stop = { grace = 3 }", "stop.grace_s"),
        ("log = { keep = 3 }", "log.keep"),
        ("essential = true", "essential"),
        ("autostart = false", "autostart"),
        ("crash_only = true", "crash_only"),
        ('after = ["v"]\n[worker.v]\ncommand = "sleep 9"', "after"),
    ],
)
def test_what_is_about_the_worker_takes_effect_without_a_restart(
    desk: Desk, lines: str, key: str
) -> None:
    """A worker that is fine is not to be stopped for a new grace period."""
    change = next(change for change in _changed(desk, lines) if change.worker == "w")

    assert change.action == "adjust"
    assert key in change.keys


@pytest.mark.parametrize(
    ("lines", "key"),
    [
        ('memory_max = "9M"', "limits.memory_bytes"),
        ('env = { SECRET = "hunter2" }', "env.SECRET"),
        ("umask = 0", "umask"),
        ('listen = ["tcp://127.0.0.1:80"]', "listen"),
        ("log = false", "log"),
        ("faulthandler = true", "faulthandler"),
    ],
)
def test_what_is_in_the_process_needs_a_new_one(desk: Desk, lines: str, key: str) -> None:
    (change,) = _changed(desk, lines)

    assert (change.worker, change.action, change.keys) == ("w", "restart", (key,))
    assert "hunter2" not in "".join(explain([change]))


def test_an_explanation_says_what_was_and_what_is(desk: Desk) -> None:
    changes = _changed(desk, "memory_max = 9000000\nstop = { grace = 3 }\n")

    assert explain(changes) == [
        'worker "w" is restarted',
        "  limits.memory_bytes: not set -> 9000000",
        "  stop.grace_s: 10.0 -> 3.0",
    ]


def test_a_group_concerns_its_members_and_restarts_nobody(desk: Desk) -> None:
    (change,) = _changed(desk, '[group.g]\nworkers = ["w"]\n')

    assert (change.worker, change.action, change.keys) == ("w", "adjust", ("groups",))


def test_changes_of_the_node(desk: Desk) -> None:
    old = desk.plan(GUEST)

    (drills,) = diff_plans(old, desk.plan("[node]\ndrills = true\nverify = 3\n" + GUEST))
    moved = diff_plans(old, desk.plan('[node]\nstate_dir = "other"\n' + GUEST))

    assert (drills.worker, drills.action, drills.keys) == (
        "@node",
        "adjust",
        ("drills", "watch.verify_s"),
    )
    assert (moved[0].worker, moved[0].action) == ("@node", "restart")
    assert "holdfast down" in explain(moved)[0]


def test_applying_from_another_shell_restarts_nobody(desk: Desk) -> None:
    """A plan inherits the environment of whoever made it: from another terminal, or cron, that is another one."""
    old = desk.plan(GUEST)
    desk.environ["EDITOR"] = "vi"
    new = desk.plan(GUEST)

    assert [(c.action, c.keys) for c in diff_plans(old, new)] == [("restart", ("env.EDITOR",))]
    kept = keep_environment(new, old)
    assert diff_plans(old, kept) == []
    assert kept["digest"] == old["digest"]


def test_settings_in_another_order_are_another_thing_to_the_component(desk: Desk) -> None:
    """The keeper compares bytes; the announcement must not be wiser than it."""
    text = '[component.c]\nuse = "m:c"\nsettings = {{ {} }}\n'

    (change,) = diff_plans(
        desk.plan(text.format("a = 1, b = 2")), desk.plan(text.format("b = 2, a = 1"))
    )

    assert (change.action, change.details) == (
        "restart",
        ("components: differs inside",),
    )


_LINES = st.sampled_from([
    "", 'restart = "never"', "ready = { tcp = 80 }", 'heartbeat = "notify"', "stop = { grace = 3 }", "log = { keep = 3 }",
    "log = false", "umask = 0", 'env = { A = "1" }', "crash_only = true", 'listen = ["unix:x"]', "files_max = 99",
    "essential = true",
])  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(_LINES, _LINES)
def test_announced_restarts_are_the_keepers_restarts(
    shared_desk: Desk, before: str, after: str
) -> None:
    """The keeper goes by the fingerprint; the announcement must come to the same."""
    old, new = shared_desk.plan(GUEST + before + "\n"), shared_desk.plan(GUEST + after + "\n")

    announced = any(change.action == "restart" for change in diff_plans(old, new))

    assert announced == (_print(old) != _print(new))


def _print(plan: "Plan") -> int:
    return fingerprint(plan["workers"][0], env_sum(plan))
