"""What plan follows from a right configuration: defaults, absolute paths, order."""

import os
import re
import shutil
import sys
import time
from typing import Any

import pytest

import holdfast
from config.desk import Desk
from holdfast.config.load import load_plan
from holdfast.core.detect import thresholds
from holdfast.wire.jsonlite import dumps, loads


def test_three_lines_make_a_whole_plan(desk: Desk) -> None:
    """Every key has a default; the plan has them all, so that nobody downstream has to know any."""
    plan = desk.plan('[worker.cache]\ncommand = ["sleep", "9"]\n')

    assert plan["format"] == 1
    assert plan["config"] == f"{desk.directory}/holdfast.toml"
    assert plan["state_dir"] == f"{desk.directory}/.holdfast"
    assert plan["drills"] is False
    assert plan["groups"] == []
    assert plan["watch"] == {
        "evidence_budget_s": 2.0, "sample_s": 1.0, "disk_min_share": 0.05, "verify_s": 10.0, "house_timeout_s": 5.0,
        "objectives": {}, "detect": thresholds.BOX, "shed": [],
    }  # fmt: skip
    assert plan["house_log"]["directory"] == f"{desk.directory}/.holdfast/logs/holdfast"
    workers: list[Any] = list(plan["workers"])
    assert workers == [{
        "name": "cache",
        "kind": "guest",
        "argv": [shutil.which("sleep"), "9"],
        "env": {},
        "directory": str(desk.directory),
        "user": None,
        "umask": None,
        "limits": {"memory_bytes": None, "cpu_share": None, "processes": None, "files": None, "core_bytes": None},
        "restart": {
            "policy": "always", "limit": 5, "window_s": 60.0, "after_limit": "slow", "delay_s": 0.1, "delay_max_s": 30.0,
            "jitter": 0.2, "healthy_s": 1.0,
        },
        "after": [],
        "requires": [],
        "ready": {"kind": "none", "target": "", "argv": [], "timeout_s": 60.0},
        "heartbeat": {"kind": "none", "target": "", "argv": [], "period_s": 5.0, "timeout_s": 30.0},
        "stop": {"signal": 15, "grace_s": 10.0},
        "crash_only": False,
        "spare": 0,
        "autostart": True,
        "essential": False,
        "log": {
            "max_bytes": 10 * 1024**2, "max_age_s": 0.0, "keep": 10, "compress": True,
            "directory": f"{desk.directory}/.holdfast/logs/cache",
        },
        "listen": [],
        "components": [],
        "faulthandler": False,
        "detect": thresholds.WORKER,
    }]  # fmt: skip
    assert loads(dumps(plan)) == plan


def test_components_make_a_container_that_is_watched_by_its_pulse(desk: Desk) -> None:
    worker = desk.container("spare = 1")

    main = os.path.join(os.path.dirname(holdfast.__file__), "container", "__main__.py")
    assert worker["kind"] == "container"
    assert worker["argv"] == [sys.executable, "-P", "-X", "faulthandler", main]
    assert worker["components"] == [{"name": "c", "use": "m:c", "settings": {}}]
    assert (worker["ready"]["kind"], worker["ready"]["timeout_s"]) == ("pulse", 60.0)
    assert (worker["heartbeat"]["kind"], worker["heartbeat"]["timeout_s"]) == ("pulse", 5.0)
    assert (worker["faulthandler"], worker["spare"]) == (True, 1)


def test_a_component_in_no_worker_gets_one_of_its_own(desk: Desk) -> None:
    """Placement is configuration: leaving it out is a placement, too."""
    text = '[component.{}]\nuse = "m:x"\nsettings = {{ rooms = [1, {{ a = true }}], s = "x" }}\n'
    workers = desk.workers(
        text.format("alone") + text.format("b") + '[worker.w]\ncomponents = ["b"]\n'
    )

    assert set(workers) == {"w", "alone"}
    assert workers["alone"]["kind"] == "container"
    assert workers["alone"]["components"] == [
        {"name": "alone", "use": "m:x", "settings": {"rooms": [1, {"a": True}], "s": "x"}}
    ]


def test_start_order_is_the_order_of_the_file_as_far_as_it_can_be(desk: Desk) -> None:
    text = "".join(
        f'[worker.{name}]\ncommand = "sleep 9"\n{more}\n'
        for name, more in (
            ("web", 'after = ["cache", "db"]'),
            ("db", ""),
            ("cache", 'requires = ["db"]'),
            ("mail", ""),
        )
    )

    assert list(desk.workers(text)) == ["db", "cache", "web", "mail"]


def test_short_forms_and_tables_mean_the_same(desk: Desk) -> None:
    short = desk.worker(
        'restart = "never"\nready = "notify"\nheartbeat = { tcp = 80 }\nlisten = ["tcp://[::1]:81"]'
    )
    long = desk.worker(
        'restart = { policy = "never" }\nready = { notify = true }\nheartbeat = { tcp = "localhost:80" }\n'
        '[[worker.w.listen]]\naddress = "tcp://[::1]:81"\nname = "w"'
    )

    assert short == long
    assert short["heartbeat"]["target"] == "127.0.0.1:80"
    assert short["listen"] == [
        {"name": "w", "kind": "tcp", "host": "::1", "port": 81, "path": "", "backlog": 512}
    ]


def test_false_means_none_of_it(desk: Desk) -> None:
    worker = desk.container("ready = false\nheartbeat = false\nlog = false")

    assert (worker["ready"]["kind"], worker["heartbeat"]["kind"], worker["log"]) == (
        "none",
        "none",
        None,
    )


def test_times_and_sizes_are_seconds_and_bytes(desk: Desk) -> None:
    worker = desk.worker(
        'memory_max = "512M"\ncpu_max = "150%"\ncore_max = "1.5KB"\nfiles_max = 64\nprocesses_max = 9\numask = "027"\n'
        'restart = { window = "2m", delay = "250ms", delay_max = 3, healthy = "1h" }\n'
        'stop = { signal = "INT", grace = 0.5 }\n'
        'log = { max_size = "1GiB", max_age = "1d", keep = 3, compress = false }'
    )

    assert worker["limits"] == {
        "memory_bytes": 512 << 20, "cpu_share": 1.5, "processes": 9, "files": 64, "core_bytes": 1500,
    }  # fmt: skip
    assert worker["umask"] == 0o027
    restart = worker["restart"]
    assert [restart[k] for k in ("window_s", "delay_s", "delay_max_s", "healthy_s")] == [
        120.0,
        0.25,
        3.0,
        3600.0,
    ]
    assert worker["stop"] == {"signal": 2, "grace_s": 0.5}
    log = worker["log"]
    assert log
    assert (log["max_bytes"], log["max_age_s"], log["keep"], log["compress"]) == (
        1 << 30,
        86400.0,
        3,
        False,
    )


def test_what_the_worker_uses_is_relative_to_its_directory(desk: Desk) -> None:
    desk.program("app/run.sh")
    desk.write("A=1\n# no\nexport B = 'two words'\n\n", "vars")

    worker = desk.workers(
        '[worker.w]\ncommand = "./run.sh now"\ndirectory = "app"\nenv_file = "vars"\nenv = { B = "mine", N = 4 }\n'
        'ready = { unix = "s.sock" }\nheartbeat = { file = "beat" }\nlisten = ["unix:l.sock"]\n'
    )["w"]

    app = f"{desk.directory}/app"
    assert worker["directory"] == app
    assert worker["argv"] == [f"{app}/run.sh", "now"]
    assert worker["env"] == {"A": "1", "B": "mine", "N": "4"}
    assert (worker["ready"]["target"], worker["heartbeat"]["target"]) == (
        f"{app}/s.sock",
        f"{app}/beat",
    )
    assert worker["listen"][0]["path"] == f"{app}/l.sock"


def test_programs_are_found_on_the_path_of_the_worker(desk: Desk) -> None:
    """The node's PATH may differ from what the worker is given: what is checked is what will be run."""
    mine = desk.program("bin/sleep")

    worker = desk.worker(
        f'env = {{ PATH = "{desk.directory}/bin" }}\nready = {{ exec = "sleep 1" }}'
    )

    assert worker["argv"][0] == mine
    assert (worker["ready"]["kind"], worker["ready"]["argv"]) == ("exec", [mine, "1"])


def test_python_programs_are_known_by_name_and_by_first_line(desk: Desk) -> None:
    """PYTHONFAULTHANDLER leaves the stacks of a crash; a guest in Python should have them without asking."""
    desk.program("serve", "#!/usr/bin/env python3\n")
    desk.program("serve.sh", "#!/bin/sh\n# python\n")
    text = "".join(
        f'[worker.w{number}]\ncommand = ["{command}"]\n'
        for number, command in enumerate((sys.executable, "./serve", "./serve.sh"))
    )

    workers = desk.workers(
        text + f'[worker.w3]\ncommand = ["{sys.executable}"]\nfaulthandler = false\n'
    )

    assert [workers[f"w{number}"]["faulthandler"] for number in range(4)] == [
        True,
        True,
        False,
        False,
    ]


def test_a_virtual_environment_can_be_named_as_the_interpreter(desk: Desk) -> None:
    python = desk.program(".venv/bin/python")
    desk.write("", "src/m.py")

    worker = desk.container(
        'python = ".venv"\npythonpath = ["src"]\nfaulthandler = false\nenv = { PYTHONPATH = "/x" }'
    )

    assert worker["argv"][:2] == [python, "-P"]
    assert "faulthandler" not in worker["argv"]
    assert worker["env"] == {"PYTHONPATH": f"{desk.directory}/src:/x"}


def test_workers_inherit_the_environment_but_not_the_login_session(desk: Desk) -> None:
    """A node that is started from ssh must not differ from the one that is started by systemd."""
    desk.environ |= {
        "DATABASE_URL": "x", "SSH_CLIENT": "y", "TERM": "z", "HOLDFAST_RUN": "q", "NOTIFY_SOCKET": "n", "LC_ALL": "C",
    }  # fmt: skip
    worker = '[worker.w]\ncommand = "sleep 9"\n'

    everything = desk.plan(worker)["env"]
    some = desk.plan('[node]\nenv_pass = ["PATH", "LC_*", "TERM", "HOLDFAST_RUN"]\n' + worker)[
        "env"
    ]

    assert set(everything) == {"PATH", "HOME", "DATABASE_URL", "LC_ALL"}
    assert set(some) == {"PATH", "LC_ALL", "TERM"}


def test_env_of_the_node_reaches_every_worker_and_the_workers_own_wins(desk: Desk) -> None:
    plan = desk.plan(
        '[node]\nenv = { TZ = "UTC", A = "node" }\n[worker.w]\ncommand = "sleep 9"\nenv = { A = "own" }\n'
    )

    assert plan["workers"][0]["env"] == {"TZ": "UTC", "A": "own"}


def test_defaults_apply_where_a_worker_says_nothing_itself(desk: Desk) -> None:
    """Tables are merged key by key, and what has no meaning for a guest is not forced upon it."""
    workers = desk.workers(
        '[defaults.worker]\nspare = 1\nmemory_max = "64M"\nrestart = { limit = 9, window = "9s" }\nready = { tcp = 1 }\n'
        "log = { keep = 2 }\n"
        '[component.c]\nuse = "m:c"\n[worker.plain]\ncommand = "sleep 9"\n'
        '[worker.own]\ncommand = "sleep 9"\nmemory_max = "32M"\nrestart = "never"\nready = "notify"\nlog = false\n'
    )

    plain, own, container = workers["plain"], workers["own"], workers["c"]
    assert (plain["spare"], container["spare"]) == (0, 1)
    assert (plain["limits"]["memory_bytes"], own["limits"]["memory_bytes"]) == (64 << 20, 32 << 20)
    assert (own["restart"]["policy"], own["restart"]["limit"], own["restart"]["window_s"]) == (
        "never",
        9,
        9.0,
    )
    assert (plain["ready"]["kind"], own["ready"]["kind"]) == ("tcp", "notify")
    assert plain["log"]
    assert plain["log"]["keep"] == 2
    assert own["log"] is None


def test_groups_stand_in_start_order_unless_the_order_is_the_point(desk: Desk) -> None:
    workers = '[worker.b]\ncommand = "sleep 9"\nafter = ["a"]\n[worker.a]\ncommand = "sleep 9"\n'

    plan = desk.plan(workers + '[group.g]\nworkers = ["b", "a"]\n')

    assert plan["groups"] == [{"name": "g", "strategy": "one_for_all", "workers": ["a", "b"]}]


def test_a_user_is_numbers_in_the_plan(desk: Desk) -> None:
    """The keeper looks nobody up: it has no nsswitch and no time."""
    if os.geteuid() != 0:
        assert "only root" in desk.refusal('user = "root"')
        return
    worker = desk.worker('user = "nobody"')

    user = worker["user"]
    assert user
    assert (user["name"], user["uid"] > 0, user["gid"] in user["groups"]) == ("nobody", True, True)
    assert worker["env"]["USER"] == "nobody"


def test_the_digest_names_the_content(desk: Desk) -> None:
    text = '[worker.w]\ncommand = "sleep 9"\n'

    first, again, other = (
        desk.plan(text),
        desk.plan(text + "# a remark\n"),
        desk.plan(text + "spare = 0\numask = 0\n"),
    )

    assert first == again
    assert re.fullmatch("[0-9a-f]{16}", first["digest"])
    assert other["digest"] != first["digest"]


def test_a_thousand_workers_take_no_time(desk: Desk) -> None:
    """`holdfast up` with a thousand workers has 1.5 s in all; this part measured 0.2 s on a busy machine."""
    text = "".join(
        f'[worker.w{n}]\ncommand = ["sleep", "{n}"]\nmemory_max = "512M"\nready = {{ tcp = {n + 1} }}\n'
        + (f'after = ["w{n - 1}"]\n' if n else "")
        for n in range(1000)
    )
    path = desk.write(text)

    times = []
    count = 0
    for _ in range(3):
        began_s = time.process_time()
        count = len(load_plan(path, desk.environ)["workers"])
        times.append(time.process_time() - began_s)

    assert count == 1000
    assert min(times) < 0.4 * float(os.environ.get("HOLDFAST_SLOWNESS", "1"))


def test_detectors_are_adjusted_one_by_one_and_switched_off(desk: Desk) -> None:
    """A worker that fans out to thousands of tasks is no bomb; what else there is stays as it was."""
    text = (
        '[node]\ndetect = { clock_jump = false }\nshed = ["w"]\n'
        "[defaults.worker]\ndetect = { slow = 3 }\n"
        '[worker.w]\ncommand = ["sleep", "9"]\ndetect = { task_bomb = 20_000, loop_lag = false, warm_up = "5m" }\n'
    )
    plan = desk.plan(text)

    changed = {"slow": 3.0, "task_bomb": 20000.0, "loop_lag": 0.0, "warm_up": 300.0}
    assert plan["workers"][0]["detect"] == {**thresholds.WORKER, **changed}
    assert plan["watch"]["detect"] == {**thresholds.BOX, "clock_jump": 0.0}
    assert plan["watch"]["shed"] == ["w"]


@pytest.mark.parametrize("value", ["true", '"soon"', "-1"])
def test_a_threshold_is_a_number_or_false(desk: Desk, value: str) -> None:
    found = desk.problem(
        f'[worker.w]\ncommand = ["sleep", "9"]\ndetect = {{ loop_lag = {value} }}\n'
    )

    assert "worker.w.detect.loop_lag" in found
