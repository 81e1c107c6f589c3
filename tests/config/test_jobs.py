"""The job queue in a holdfast.toml: which processes follow from it, and what is refused."""

from typing import Any

import pytest

from config.desk import Desk
from holdfast.config.diff import Change, diff_plans, explain
from holdfast.wire.plan import decode, encode, env_sum, fingerprint

JOBS = '[worker.crawl]\nkind = "jobs"\nuse = ["crawler.tasks"]\n'


def jobs_of(entry: Any) -> dict[str, Any]:
    found = entry.get("jobs")
    assert found is not None
    return dict(found)


# -- what a jobs worker becomes ----------------------------------------------------------------------


def test_a_jobs_worker_becomes_workers_a_quarantine_lane_and_one_steward(desk: Desk) -> None:
    """Each is a container like any other: nothing that keeps and watches containers has to learn of jobs."""
    found = desk.workers(JOBS + 'processes = 3\n[worker.mail]\nkind = "jobs"\nuse = ["m"]\n')

    assert list(found) == [
        "steward", "crawl", "crawl.2", "crawl.3", "crawl.quarantine", "mail", "mail.quarantine",
    ]  # fmt: skip
    assert {entry["kind"] for entry in found.values()} == {"jobs"}
    assert all(entry["argv"][-1].endswith("/container/__main__.py") for entry in found.values())
    assert [jobs_of(entry)["role"] for entry in found.values()] == [
        "steward", "worker", "worker", "worker", "quarantine", "worker", "quarantine",
    ]  # fmt: skip
    assert [entry["components"][0]["use"] for entry in found.values()][:2] == [
        "holdfast.engine:steward",
        "holdfast.engine:app",
    ]
    assert jobs_of(found["steward"])["stewarded"] == ["crawl", "mail"]
    assert jobs_of(found["crawl.3"])["family"] == "crawl"


def test_every_key_of_the_contract_is_filled_in(desk: Desk) -> None:
    """The engine knows no default: what is missing in the plan is missing for good."""
    found = desk.workers(
        JOBS + 'queues = { critical = 6, default = 2 }\nconcurrency = 7\nasync_concurrency = 70\n'
        'timeout = "5m"\nrecycle_memory = "300M"\nrecycle_jobs = 1000\n[jobs]\nlease = "20s"\n'
    )  # fmt: skip

    assert jobs_of(found["crawl"]) == {
        "role": "worker", "family": "crawl", "store": f"sqlite://{desk.directory}/.holdfast/jobs.db", "prefix": "",
        "use": ["crawler.tasks"], "queues": [["critical", 6], ["default", 2]], "concurrency": 7, "async_concurrency": 70,
        "lease_s": 20.0, "timeout_s": 300.0, "recycle_bytes": 300 << 20, "recycle_jobs": 1000,
    }  # fmt: skip
    usual = jobs_of(desk.workers(JOBS)["crawl"])
    assert (usual["queues"], usual["concurrency"], usual["async_concurrency"], usual["timeout_s"]) == (
        [["default", 0]], 10, 100, 0.0,
    )  # fmt: skip


def test_queues_in_a_list_are_strictly_in_order(desk: Desk) -> None:
    found = desk.workers(JOBS + 'queues = ["critical", "default"]\n')

    assert jobs_of(found["crawl"])["queues"] == [["critical", 0], ["default", 0]]


def test_the_steward_is_there_before_the_workers_and_stops_after_them(desk: Desk) -> None:
    """What a worker gives back while it stops, somebody has to settle."""
    found = desk.workers(JOBS + '[worker.web]\ncommand = ["sleep", "9"]\nafter = ["crawl"]\n')

    assert next(iter(found)) == "steward"
    assert found["steward"]["after"] == []
    assert "steward" in found["crawl"]["after"]
    assert "steward" in found["crawl.quarantine"]["after"]
    assert found["web"]["after"] == ["crawl"]


def test_the_lane_waits_until_it_is_needed_and_never_gives_up(desk: Desk) -> None:
    """Suspects die in it, that is what it is for; idle it ends by itself, and that is no death."""
    found = desk.workers(JOBS + 'spare = 1\nessential = true\nrestart = { limit = 3, delay_max = "20s" }\n')  # fmt: skip
    lane = found["crawl.quarantine"]

    assert not lane["autostart"]
    assert not lane["essential"]
    assert (lane["spare"], found["crawl"]["spare"]) == (0, 1)
    assert (lane["restart"]["policy"], lane["restart"]["limit"]) == ("on-failure", 0)
    assert lane["restart"]["delay_max_s"] <= 1.0
    assert jobs_of(lane)["queues"] == [["quarantine", 0]]
    assert (jobs_of(lane)["concurrency"], jobs_of(lane)["async_concurrency"]) == (1, 1)
    assert found["crawl"]["restart"]["limit"] == 3


def test_jobs_that_kill_their_process_do_not_use_up_the_restart_limit(desk: Desk) -> None:
    """A hundred pages with one poison page in ten would stop everything for half a minute otherwise."""
    found = desk.workers(JOBS + '[worker.c]\ncommand = ["sleep", "9"]\n')

    assert found["crawl"]["restart"]["limit"] > found["c"]["restart"]["limit"]
    assert found["steward"]["restart"]["limit"] == 0


def test_a_job_that_computes_for_long_is_nothing_to_flag(desk: Desk) -> None:
    """Jobs of one queue cost what they like; a timeout is the tool for those that cost too much."""
    detect = desk.workers(JOBS + "concurrency = 300\nasync_concurrency = 5000\n")["crawl"]["detect"]

    assert (detect["slow"], detect["pegged"]) == (0.0, 0.0)
    assert detect["thread_bomb"] > 300
    assert detect["task_bomb"] > 5000
    detect = desk.workers(JOBS + 'detect = { pegged = "30s" }\n')["crawl"]["detect"]
    assert (detect["slow"], detect["pegged"]) == (0.0, 30.0)


def test_what_all_workers_have_by_default_is_not_meant_for_the_steward(desk: Desk) -> None:
    """A limit or a shutdown rule that fits the application must not hit the process that looks after its jobs."""
    found = desk.workers(
        '[defaults.worker]\nmemory_max = "64M"\ncrash_only = true\nenv = { A = "1" }\nlog = { keep = 3 }\n'
        + JOBS
    )
    steward, crawl = found["steward"], found["crawl"]

    assert crawl["limits"]["memory_bytes"] == 64 << 20
    assert steward["limits"]["memory_bytes"] == 256 << 20
    assert (crawl["crash_only"], steward["crash_only"]) == (True, False)
    assert "A" not in steward["env"]
    assert steward["log"] is not None
    assert steward["log"]["keep"] == 3


def test_each_process_has_a_log_of_its_own(desk: Desk) -> None:
    """Segments of two processes in one directory would replace each other."""
    for extra in ("", f'log = {{ directory = "{desk.directory}/out" }}\n'):
        found = desk.workers(JOBS + "processes = 2\n" + extra)
        directories = [entry["log"]["directory"] for entry in found.values() if entry["log"]]
        assert len(set(directories)) == 4


# -- the store -----------------------------------------------------------------------------------------


def test_every_worker_of_the_node_finds_the_queue(desk: Desk) -> None:
    """The web server puts jobs into it, and it is no jobs worker."""
    text = '[worker.web]\ncommand = ["sleep", "9"]\n'

    assert "HOLDFAST_JOBS" not in desk.workers(text)["web"]["env"]
    env = desk.workers(text + JOBS)["web"]["env"]
    assert env["HOLDFAST_JOBS"] == f"sqlite://{desk.directory}/.holdfast/jobs.db"
    env = desk.workers(text + '[jobs]\nstore = "redis://h:1/0"\nprefix = "shop:"\n')["web"]["env"]
    assert (env["HOLDFAST_JOBS"], env["HOLDFAST_JOBS_PREFIX"]) == ("redis://h:1/0", "shop:")


def test_a_file_is_below_the_state_directory_unless_it_is_absolute(desk: Desk) -> None:
    def store(url: str) -> str:
        return str(jobs_of(desk.workers(f'[jobs]\nstore = "{url}"\n{JOBS}')["crawl"])["store"])

    assert store("sqlite:q/jobs.db?durable=power") == (
        f"sqlite://{desk.directory}/.holdfast/q/jobs.db?durable=power"
    )
    assert store(f"sqlite://{desk.directory}/x.db") == f"sqlite://{desk.directory}/x.db"
    for url in (
        "redis://:pw@h:1/0",
        "redis+unix:///run/r.sock?db=1",
        "redis+sentinel://a:1,b:2/m/0",
    ):
        assert store(url) == url


def test_no_password_is_shown_when_the_store_changes(desk: Desk) -> None:
    """`holdfast diff` is what people paste into a chat."""
    old = desk.plan('[jobs]\nstore = "redis://joe:hush1@h/0"\n' + JOBS)
    new = desk.plan('[jobs]\nstore = "redis://:hush2@h/0"\n' + JOBS)

    says = "\n".join(explain(diff_plans(old, new)))
    assert "redis://joe:…@h/0 -> redis://:…@h/0" in says
    assert "hush" not in says


def test_a_password_is_in_no_command_line(desk: Desk) -> None:
    found = desk.workers('[jobs]\nstore = "redis://:hush@h/0"\n' + JOBS)

    assert not any("hush" in word for entry in found.values() for word in entry["argv"])


# -- a change --------------------------------------------------------------------------------------------


def test_another_concurrency_restarts_only_the_workers_it_is_for(desk: Desk) -> None:
    """Somebody who turns one queue up must not stop the other, nor the steward."""
    both = (
        JOBS + '[worker.mail]\nkind = "jobs"\nuse = ["m"]\n[worker.c]\ncommand = ["sleep", "9"]\n'
    )
    old = desk.plan(both)
    new = desk.plan(both.replace('tasks"]\n', 'tasks"]\nconcurrency = 3\n'))

    changes = diff_plans(old, new)
    assert [(change.worker, change.action) for change in changes] == [("crawl", "restart")]
    assert changes[0].details == ("jobs.concurrency: 10 -> 3",)
    before = {w["name"]: fingerprint(w, env_sum(old)) for w in old["workers"]}
    after = {w["name"]: fingerprint(w, env_sum(new)) for w in new["workers"]}
    assert [name for name in after if after[name] != before[name]] == ["crawl"]


def test_a_plan_that_was_read_equals_one_that_was_made(desk: Desk) -> None:
    """Else `diff` would tell of changes that nobody made."""
    plan = desk.plan(JOBS + "queues = { a = 3, b = 1 }\n")
    read = decode(encode(plan), "plan.json")

    assert diff_plans(read, plan) == []
    assert read["workers"] == plan["workers"]


def test_one_process_more_is_one_start(desk: Desk) -> None:
    changes = diff_plans(desk.plan(JOBS), desk.plan(JOBS + "processes = 2\n"))

    assert changes == [Change("crawl.2", "start")]


def test_groups_and_others_mean_all_processes(desk: Desk) -> None:
    plan = desk.plan(
        JOBS + 'processes = 2\n[worker.c]\ncommand = ["sleep", "9"]\nrequires = ["crawl"]\n'
        '[group.g]\nworkers = ["crawl", "c"]\n[node]\nshed = ["crawl"]\n'
    )
    found = {worker["name"]: worker for worker in plan["workers"]}

    assert found["c"]["requires"] == ["crawl", "crawl.2"]
    assert plan["groups"][0]["workers"] == ["crawl", "crawl.2", "c"]
    assert plan["watch"].get("shed") == ["crawl", "crawl.2"]


# -- what is refused ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("lines", "says", "does"), [
    ('queues = ["critical,6"]', 'worker.crawl.queues: "critical,6" is not the name of a queue', "{ critical = 6, … }"),
    ('queues = ["a b"]', '"a b" is not the name of a queue', ""),
    ('queues = ["quarantine"]', "is the lane in which suspects run alone", "choose another name"),
    ('queues = ["a", "a"]', '"a" stands here twice', ""),
    ("queues = []", "is empty", ""),
    ("queues = {}", "is empty", ""),
    ("queues = { a = 0 }", "worker.crawl.queues.a: 0 is not a weight", ""),
    ("queues = { a.b = 2 }", "worker.crawl.queues.a: a table is not a weight", '"a.b" = 2'),
    ('queues = "default"', '"default" is not a list of queues', '["critical", "default"]'),
    ("concurency = 5", "worker.crawl.concurency: there is no such key", 'Did you mean "concurrency"?'),
    ("threads = 5", "there is no such key", 'Did you mean "concurrency"?'),
    ("max_tasks_per_child = 5", "there is no such key", 'Did you mean "recycle_jobs"?'),
    ("concurrency = 0", "0 is not a whole number from 1 to 1000", ""),
    ("processes = 65", "65 is not a whole number from 1 to 64", ""),
    ('timeout = "300"', "is not a time", 'say the unit: "300s"'),
    ('recycle_memory = "20M"', "is too little: at least 48 MiB", ""),
    ('recycle_memory = "600M"\nmemory_max = "512M"', "is not below memory_max (512 MiB)", 'recycle_memory = "384M"'),
    ('command = ["x"]', 'a jobs worker has no "command": it runs jobs', "use ="),
    ('listen = ["tcp://127.0.0.1:1"]', 'a jobs worker has no "listen"', ""),
    ('realms = ["x"]', 'a jobs worker has no "realms": only a router has', ""),
])  # fmt: skip
def test_one_mistake_one_sentence(desk: Desk, lines: str, says: str, does: str) -> None:
    """Where, what, what to do."""
    problem = desk.problem(JOBS + lines + "\n")

    assert problem.startswith("holdfast.toml:4 ")
    assert says in problem
    assert does in problem


@pytest.mark.parametrize(("store", "says", "does"), [
    ("jobs.db", "this is not the URL of a store", "sqlite:jobs.db"),
    ("sqlite://jobs.db", "a path stands after one colon or three slashes", "sqlite:jobs.db"),
    ("sqlite:", "names no file", "sqlite:jobs.db"),
    ("sqlite:///nowhere/at/all/x.db", "there is no such directory", "mkdir -p /nowhere/at/all"),
    ("rediss:host", "wants two slashes", "rediss://127.0.0.1"),
    ("redis://", "names no host", "redis://127.0.0.1:6379"),
    ("redis+unix://x.sock", "names no socket", "redis+unix:///run"),
    ("reddis://h", 'there is no store "reddis"', 'Did you mean "redis:"?'),
    ("valkey://h", 'there is no store "valkey"', 'Did you mean "redis:"?'),
    ("amqp://h", 'there is no store "amqp"', "there are: sqlite, redis"),
    ("redis://h /0", "has a blank", "%20"),
    ("redis://h:99999/0", '"99999" is no port', "redis://:password@"),
    ("redis://h/shop", 'the database has to be a number, not "shop"', "redis://:password@"),
    ("redis+sentinel://h:1", "the name of the service is missing", "redis+sentinel://127.0.0.1:26379/mymaster"),
    ("redis://h?tmieout=1", 'there is no option "tmieout"', "redis://:password@"),
    ("redis://:hush@h/shop", "its host, port, service, database or options cannot be read", "redis://:password@"),
])  # fmt: skip
def test_a_wrong_store_is_told_from_a_right_one(
    desk: Desk, store: str, says: str, does: str
) -> None:
    problem = desk.problem(f'[jobs]\nstore = "{store}"\n{JOBS}')

    assert problem.startswith("holdfast.toml:2 jobs.store: ")
    assert says in problem
    assert does in problem


def test_no_complaint_repeats_a_password(desk: Desk) -> None:
    for store in ("reds://:hush@h/0", "redis://:hu sh@h", ":hush@h/0", "redis://:hu/sh@h"):
        assert "sh@" not in desk.problem(f'[jobs]\nstore = "{store}"\n{JOBS}')


@pytest.mark.parametrize(("text", "says"), [
    ('[worker.w]\nkind = "jobs"\n', 'holdfast.toml:1 worker.w: does not say where its jobs are: there is no "use"'),
    ('[worker.w]\nkind = "job"\nuse = ["m"]\n', 'Did you mean "jobs"?'),
    ('[worker.w]\nkind = "jobs"\nuse = "m"\n', 'write a list: ["m"]'),
    ('[worker.w]\nkind = "jobs"\nuse = ["tasks.py:f"]\n', "not a file, and nothing after a colon"),
    ('[component.c]\nuse = "m:c"\n[worker.w]\nkind = "jobs"\nuse = ["m"]\ncomponents = ["c"]\n', 'a jobs worker has no "components"'),
    ('[worker.steward]\ncommand = ["sleep", "9"]\n' + JOBS, 'the name "steward" is taken'),
    (JOBS.replace("crawl]", "c" * 38 + "]"), "has 38 letters; the name of a jobs worker has at most 37"),
    ('[worker.w]\ncommand = ["sleep", "9"]\nconcurrency = 5\n', 'a guest has no "concurrency": only a jobs worker has'),
    ('[worker.w]\ncommand = ["sleep", "9"]\nuse = ["m"]\n', "it belongs into [component.NAME]"),
    (JOBS + '[jobs]\nprefix = "x:"\n', "jobs.prefix: has no meaning for a file"),
    (JOBS + '[jobs]\nlease = "500ms"\n', "0.5 s is too short"),
    (JOBS + '[jobs]\nqueues = ["a"]\n', "it belongs into [worker.NAME]"),
    (JOBS + '[jobs]\nbroker = "redis://h"\n', 'Did you mean "store"?'),
    ('store = "sqlite:x"\n' + JOBS, "it belongs into [jobs]"),
    (JOBS + '[worker.c]\ncommand = ["sleep", "9"]\nafter = ["crawl.quarantine"]\n', "is not a name"),
])  # fmt: skip
def test_a_wrong_file_is_told_from_a_right_one(desk: Desk, text: str, says: str) -> None:
    assert says in desk.problem(text)


def test_a_steward_is_an_ordinary_name_where_there_are_no_jobs(desk: Desk) -> None:
    """Who has a worker of this name today must not be told about a feature that is not used."""
    assert list(desk.workers('[worker.steward]\ncommand = ["sleep", "9"]\n')) == ["steward"]


def test_the_table_of_the_queue_may_be_spread_over_files(desk: Desk) -> None:
    """The password's line is often in a file of its own."""
    desk.write('[jobs]\nstore = "redis://h/0"\n', "secret.toml")
    found = desk.workers('include = ["secret.toml"]\n[jobs]\nlease = "9s"\n' + JOBS)

    jobs = jobs_of(found["crawl"])
    assert (jobs["store"], jobs["lease_s"]) == ("redis://h/0", 9.0)
