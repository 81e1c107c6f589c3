"""What a person reads whose configuration is wrong: where, what, what to do; everything at once."""

import os

import pytest

from config.desk import Desk
from holdfast.config.load import load_plan
from holdfast.config.problems import ConfigProblems

GUEST = '[worker.w]\ncommand = ["sleep", "9"]\n'


def test_a_wrong_name_is_shown_with_its_line_and_the_nearest_right_one(desk: Desk) -> None:
    """The example of the style guide, word for word."""
    text = '[worker.crawler]\ncommand = "sleep 9"\n\n[worker.web]\ncommand = "sleep 9"\nafter = ["crawer"]\n'

    assert desk.problem(text) == (
        'holdfast.toml:6 worker.web.after: there is no worker "crawer"\n  Did you mean "crawler"?'
    )


def test_all_problems_come_at_once_and_in_the_order_of_the_file(desk: Desk) -> None:
    text = (
        '[node]\nname = ""\nsample = -1\n'
        '[worker.a]\ncommand = "sleep 9"\nmemory_max = "much"\nafter = ["b", "nobody"]\n'
        '[worker.b]\ncomand = "sleep 9"\nrestart = { limit = 1.5 }\n'
        '[group.g]\nstrategy = "all"\nworkers = ["c"]\n'
    )

    heads = [problem.split(":", 2)[:2] for problem in desk.problems(text)]

    assert heads == [
        ["holdfast.toml", "2 node.name"],
        ["holdfast.toml", "3 node.sample"],
        ["holdfast.toml", "6 worker.a.memory_max"],
        ["holdfast.toml", "7 worker.a.after"],
        ["holdfast.toml", "8 worker.b"],
        ["holdfast.toml", "9 worker.b.comand"],
        ["holdfast.toml", "10 worker.b.restart.limit"],
        ["holdfast.toml", "12 group.g.strategy"],
        ["holdfast.toml", "13 group.g.workers"],
    ]


def test_problems_are_values_too_for_editors(desk: Desk) -> None:
    path = desk.write('[worker.w]\n  command = ["sleep",\n    9]\n')

    with pytest.raises(ConfigProblems) as caught:
        load_plan(path, desk.environ)

    (problem,) = caught.value.details
    assert (problem.line, problem.column, problem.key) == (2, 13, "worker.w.command")
    assert caught.value.exit_status == 2


def test_an_unknown_key_comes_with_what_is_valid(desk: Desk) -> None:
    found = desk.problem(GUEST + "memory-max = 5\n").splitlines()

    assert found[0] == "holdfast.toml:3 worker.w.memory-max: there is no such key"
    assert found[1] == '  Did you mean "memory_max"?'
    assert found[2].startswith("  valid here: after, agent, autostart, command,")
    assert all(len(line) <= 104 for line in found)


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        (GUEST + 'cwd = "x"\n', "directory"),
        (GUEST + "autorestart = true\n", "restart"),
        (GUEST + "healthcheck = {}\n", "heartbeat"),
        (GUEST + 'depends_on = ["x"]\n', "after"),
        ('[program.w]\ncommand = "sleep 9"\n' + GUEST, "worker"),
        ('[workers.x]\ncommand = "sleep 9"\n' + GUEST, "worker"),
    ],
)
def test_words_of_other_tools_lead_to_ours(desk: Desk, text: str, meant: str) -> None:
    """Who comes from supervisord, docker or systemd brings their words along."""
    assert f'Did you mean "{meant}"?' in desk.problem(text)


def test_a_key_in_the_wrong_table_is_told_where_it_belongs(desk: Desk) -> None:
    assert "[worker.NAME]" in desk.problem('[component.c]\nuse = "m:c"\nmemory_max = "5M"\n')
    assert "[component.NAME]" in desk.problem(GUEST + "use = 'm:c'\n")
    assert "[node]" in desk.problem("drills = true\n" + GUEST)
    assert "write [worker.NAME]" in desk.problems('[worker]\ncommand = "sleep 9"\n')[0]


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        ('restart = "alway"', 'restart: "alway" is not "always", "on-failure" or "never"'),
        ("restart = 3", "restart: 3 is not"),
        ("restart = { limit = -1 }", "restart.limit: -1 is not a whole number from 0"),
        ("restart = { limit = true }", "restart.limit: true is not a whole number"),
        ("restart = { jitter = 1.5 }", "restart.jitter: 1.5 is not a number from 0 to 1"),
        ("restart = { jitter = nan }", "restart.jitter: nan is not a number"),
        ('restart = { delay = "1m" }', "restart: the first delay (60 s) is longer than"),
        ('restart = { window = "5" }', 'restart.window: "5" is not a time'),
        ('restart = { window = "5 minutes" }', 'restart.window: "5 minutes" is not a time'),
        ("restart = { window = 0 }", "restart.window: 0 is no time at all"),
        ("restart = { window = inf }", "restart.window: inf is not a time"),
        ("restart = { window = 1e30 }", "restart.window: 1e+30 is longer than ten years"),
        ("memory_max = -5", "memory_max: -5 is too little: at least 1 MiB"),
        ("memory_max = 512", "memory_max: 512 is too little: at least 1 MiB"),
        ('memory_max = "512X"', 'memory_max: "512X" is not a size'),
        ('memory_max = "99999999T"', 'memory_max: "99999999T" is more than any machine has'),
        ('cpu_max = "half"', 'cpu_max: "half" is not a number of cores'),
        ("cpu_max = 0", "cpu_max: 0 is not from 0.01 to 10000 cores"),
        ("files_max = 1e3", "files_max: 1000.0 is not a whole number"),
        ('umask = "9"', 'umask: "9" is not a file mode mask'),
        ('stop = { signal = "TREM" }', 'stop.signal: "TREM" is not a signal'),
        ("stop = { signal = 99 }", "stop.signal: 99 is not a signal"),
        ('stop = "TERM"', 'stop: "TERM" is not a table'),
        ("crash_only = true\nstop = { grace = 3 }", 'stop: contradicts "crash_only = true"'),
        ("log = true", "log: true does not say what to do"),
        ("log = { max_size = 1 }", "log.max_size: 1 is too little: at least 4 KiB"),
        ("ready = true", "ready: true does not say what to do"),
        ("ready = {}", "ready: does not say what to look at"),
        ("ready = { timeout = 5 }", "ready: does not say what to look at"),
        (
            'ready = { tcp = 1, file = "x" }',
            'ready.file: there can be only one of "tcp" and "file"',
        ),
        ("ready = { tcp = 0 }", 'ready.tcp: "0" is not a port'),
        ("ready = { tcp = 99999 }", 'ready.tcp: "99999" is not a port'),
        ('ready = { tcp = "db.example:5432" }', 'ready.tcp: "db.example" is not a numeric address'),
        ('ready = { tcp = "::1:80" }', 'ready.tcp: "::1:80" is not an address'),
        (
            'ready = { http = "https://127.0.0.1/" }',
            'ready.http: "https://127.0.0.1/" is not an address such as',
        ),
        ('ready = { http = "http://127.0.0.1/ x" }', 'ready.http: "http://127.0.0.1/ x" is not'),
        ('ready = { log = "(" }', 'ready.log: "(" is not a regular expression'),
        ('ready = { log = "x" }\nlog = false', "ready: cannot look at the output"),
        ('ready = "pulse"', "ready: a guest has no pulse"),
        ('heartbeat = "pulse"', "heartbeat: a guest has no pulse"),
        ("ready = { notify = false }", "ready.notify: there is no use in notify = false"),
        (
            'heartbeat = { notify = true, period = "5s" }',
            'heartbeat.period: has no meaning for "notify"',
        ),
        (
            'heartbeat = { tcp = 5, timeout = "1s" }',
            "heartbeat.timeout: a probe every 5 s cannot notice",
        ),
        (
            'heartbeat = { exec = ["nosuchprogram"] }',
            'heartbeat.exec: there is no program "nosuchprogram" on',
        ),
        ("spare = 1", 'spare: a guest has no "spare"'),
        ("spare = 2", "spare: 2 is not a whole number from 0 to 1"),
        ('python = "python3"', 'python: a guest has no "python"'),
        ('kind = "routre"', 'kind: "routre" is not "container", "guest", "router" or "jobs"'),
        ('components = ["c"]', 'there is no component "c"'),
        ('env = ["A=1"]', "env: a list is not a table of variables"),
        ("env = { A = true }", "env.A: true is not a text or a number"),
        ('env = { "A=B" = "1" }', 'env."A=B": "A=B" cannot be the name of a variable'),
        (
            'env = { HOLDFAST_RUN = "1" }',
            "env.HOLDFAST_RUN: HOLDFAST_RUN is set by Holdfast itself",
        ),
        ('env = { A = "${NOPE}" }', "env.A: the environment variable NOPE is not set"),
        ('env = { A = "${NOPE" }', 'env.A: "${NOPE": the closing brace is missing'),
        ('env = { A = "${X%y}" }', 'env.A: "${X%y}" is not a variable'),
        ('env = { A = "\\u0000" }', "env.A: has a NUL character in it"),
        ('directory = "nowhere"', "there is no such directory"),
        ('directory = "holdfast.toml"', "is a file, not a directory"),
        ('env_file = "nowhere"', "there is no such file"),
        ('user = "nosuchuser"', 'user: there is no user "nosuchuser" on this machine'),
        ("user = -1", "user: -1 is not a whole number"),
        ('group = "nosuchgroup"', 'group: there is no group "nosuchgroup" on this machine'),
        ('after = "db"', 'after: "db" is not a list of worker names'),
        ('after = ["w"]', "after: a worker cannot wait for itself"),
        ('after = ["x y"]', 'after: "x y" is not a name'),
        ('listen = ["127.0.0.1:80"]', 'listen: "127.0.0.1:80" is not an address such as'),
        (
            'listen = ["ws://127.0.0.1:80/ws"]',
            'listen: "ws://127.0.0.1:80/ws" is not an address such as',
        ),
        ('listen = ["tcp://localhst:80"]', 'listen: "localhst" is not a numeric address'),
        (
            'listen = ["tcp://*:80", "tcp://127.0.0.1:80"]',
            "listen: port 80 is claimed by this worker already",
        ),
        ('listen = ["unix:a", "unix:./a"]', "is claimed by this worker already"),
        ('listen = [{ name = "x" }]', 'listen: there is no "address" here'),
        ('listen = [{ address = "unix:a", name = "x:y" }]', 'listen[0].name: "x:y" is not a name'),
    ],
)
def test_one_mistake_one_sentence(desk: Desk, lines: str, says: str) -> None:
    """Each of these is alone wrong: exactly one problem is told, and it is the right one."""
    if lines == 'components = ["c"]':
        assert says in "\n".join(desk.problems(GUEST + lines))
    else:
        assert says in desk.refusal(lines)


@pytest.mark.parametrize(
    ("command", "says"),
    [
        ('["nosuchprogram"]', 'there is no program "nosuchprogram" on the PATH'),
        ('"./here.sh"', "here.sh cannot be executed"),
        ('"here.sh"', 'it is in the directory: write "./here.sh"'),
        ('"./gone.sh"', "gone.sh: there is no such program"),
        ('"/"', "is a directory, not a program"),
        ("[]", "is empty"),
        ('""', "is empty"),
        ('[""]', "is empty"),
        ("5", "5 is not a command"),
        ('["sleep", 5]', "5 is not a text; every part of a command is one"),
        ('"echo a | cat"', "has | in it, but no shell reads it"),
        ('"echo \'a"', "cannot be split: no closing quotation"),
    ],
)
def test_a_command_that_cannot_run_is_refused_before_it_does_not(
    desk: Desk, command: str, says: str
) -> None:
    desk.write("#!/bin/sh\n", "here.sh")

    assert says in desk.problem(f"[worker.w]\ncommand = {command}\n")


def test_placement_mistakes(desk: Desk) -> None:
    component = '[component.c]\nuse = "m:c"\n'
    two = component + '[worker.a]\ncomponents = ["c"]\n[worker.b]\ncomponents = ["c"]\n'
    taken = component + '[worker.c]\ncommand = "sleep 9"\n'

    assert 'worker.b.components: the component "c" is in the worker "a" already' in desk.problem(
        two
    )
    assert "component.c: no worker has this component" in desk.problem(taken)
    assert 'worker.w: says neither "command" nor "components"' in desk.problem("[worker.w]\n")
    assert 'either "command" or "components", not both' in desk.problem(
        component + '[worker.w]\ncommand = "sleep 9"\ncomponents = ["c"]\n'
    )
    assert (
        'there is no component "d"\n  Did you mean'
        not in desk.problems('[worker.w]\ncomponents = ["d"]\n')[0]
    )
    assert '"c" is a component; it is in the worker "a"' in desk.problem(
        component
        + '[worker.a]\ncomponents = ["c"]\n[worker.b]\ncommand = "sleep 9"\nafter = ["c"]\n'
    )
    assert 'component.c.use: "m.c" is not "module:attribute"' in desk.problem(
        '[component.c]\nuse = "m.c"\n'
    )
    assert 'component.c: there is no "use" here' in desk.problem("[component.c]\n")
    assert "16 MiB" in desk.problem(
        component + '[worker.w]\ncomponents = ["c"]\nmemory_max = "2M"\n'
    )


def test_circles_are_shown_as_circles(desk: Desk) -> None:
    """The way round is the message: one arrow of it is the mistake, and only the author knows which."""
    text = "".join(
        f'[worker.{name}]\ncommand = "sleep 9"\n{key} = ["{other}"]\n'
        for name, key, other in (
            ("x", "after", "a"),
            ("a", "after", "b"),
            ("b", "requires", "c"),
            ("c", "after", "a"),
        )
    )

    assert desk.problem(text).splitlines()[0] == (
        "holdfast.toml:6 worker.a.after: these wait for each other in a circle: a -> b -> c -> a"
    )


def test_names_that_cannot_be(desk: Desk) -> None:
    assert '"holdfast" is taken' in desk.problem('[worker.holdfast]\ncommand = "sleep 9"\n')
    assert '"a b" is not a name' in desk.problem('[worker."a b"]\ncommand = "sleep 9"\n' + GUEST)
    assert '"_a" is not a name' in desk.problem('[worker._a]\ncommand = "sleep 9"\n' + GUEST)
    assert "is not a name" in desk.problem(f'[worker.{"a" * 64}]\ncommand = "sleep 9"\n' + GUEST)
    assert '"w" is the name of a worker, too' in desk.problem(
        GUEST + '[group.w]\nworkers = ["w"]\n'
    )


def test_groups_that_contradict(desk: Desk) -> None:
    workers = GUEST + '[worker.v]\ncommand = "sleep 9"\nafter = ["w"]\n'
    ordered = workers + '[group.g]\nstrategy = "rest_for_one"\nworkers = ["v", "w"]\n'
    twice = workers + '[group.g]\nworkers = ["v"]\n[group.h]\nworkers = ["v", "w"]\n'

    assert '"v" stands before "w", but starts after it' in desk.problem(ordered)
    assert 'the worker "v" is in the group "g" already' in desk.problem(twice)
    assert (
        '"w" stands here twice' in desk.problems(workers + '[group.g]\nworkers = ["w", "w"]\n')[0]
    )
    assert '"g" is a group; name its workers' in desk.problem(
        GUEST + '[worker.u]\ncommand = "sleep 9"\nafter = ["g"]\n[group.g]\nworkers = ["w"]\n'
    )


def test_two_workers_cannot_have_one_port(desk: Desk) -> None:
    text = (
        GUEST
        + 'listen = ["tcp://0.0.0.0:8080"]\n[worker.v]\ncommand = "sleep 9"\nlisten = ["tcp://127.0.0.1:8080"]\n'
    )

    assert desk.problem(text).splitlines()[0] == (
        'holdfast.toml:6 worker.v.listen: port 8080 is claimed by the worker "w" already'
    )


def test_a_mistake_among_the_defaults_is_told_once_and_there(desk: Desk) -> None:
    """Not a thousand times, once for each worker that inherits it."""
    text = "[defaults.worker]\ndirectory = 'nowhere'\n" + "".join(
        f'[worker.w{number}]\ncommand = "sleep 9"\n' for number in range(5)
    )

    assert desk.problem(text).startswith("holdfast.toml:2 defaults.worker.directory: ")


def test_settings_that_json_cannot_carry_are_refused_with_their_place(desk: Desk) -> None:
    text = '[component.c]\nuse = "m:c"\n[component.c.settings]\na = 1979-05-27\nb = [1, nan]\nc = 99999999999999999999\n'

    heads = [problem.split(": ")[0] for problem in desk.problems(text)]

    assert heads == [
        f"holdfast.toml:{line} component.c.settings.{key}"
        for line, key in ((4, "a"), (5, "b"), (6, "c"))
    ]


def test_a_state_directory_that_is_a_file(desk: Desk) -> None:
    desk.write("", "state")

    assert "is not a directory" in desk.problem('[node]\nstate_dir = "state/x"\n' + GUEST)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may do this")
def test_only_root_runs_workers_as_others(desk: Desk) -> None:
    assert "only root can run a worker as somebody else" in desk.refusal('user = "root"')
