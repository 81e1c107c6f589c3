"""Files as strangers: missing, foreign, hostile; includes; variables."""

import os
import subprocess
import time

import pytest

from config.desk import Desk
from holdfast.config.load import load_plan
from holdfast.config.reading import typed_path

GUEST = '[worker.w]\ncommand = ["sleep", "9"]\n'


# -- files that cannot be read ---------------------------------------------------------------------


def test_a_missing_file_leads_to_init(desk: Desk) -> None:
    (problem,) = desk.problems_at(f"{desk.directory}/holdfast.toml")

    assert problem.splitlines()[0] == "holdfast.toml: there is no such file"
    assert "holdfast init" in problem


def test_a_directory_a_pipe_and_a_device_are_no_files(desk: Desk) -> None:
    os.mkfifo(desk.directory / "pipe")

    assert "is a directory" in desk.problems_at(str(desk.directory))[0]
    assert "a pipe, socket or device" in desk.problems_at(f"{desk.directory}/pipe")[0]
    assert "a pipe, socket or device" in desk.problems_at("/dev/zero")[0]
    assert "null" in desk.problems_at("a\0b")[0]


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_file_without_permission(desk: Desk) -> None:
    path = desk.write(GUEST)
    os.chmod(path, 0)

    assert "you may not read it" in desk.problems_at(path)[0]


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "holdfast.toml: is empty"),
        (b"# nothing\n\n", "holdfast.toml: is empty"),
        (b"[node]\n", "holdfast.toml: there is nothing to run"),
        (b"\xef\xbb\xbf[node]\n", "holdfast.toml:1: begins with a byte order mark"),
        ("[node]\n".encode("utf-16"), "holdfast.toml: is in UTF-16"),
        (b"[node]\nname = '\xe9'\n", "holdfast.toml:2: byte 0xe9 in column 9 is not UTF-8"),
        (b"a = '\0'\n", "holdfast.toml:1: not TOML"),
        (b"[node]\nname = x\n", "holdfast.toml:2: not TOML: Invalid value (column 8)"),
        (b"[node]\nname = 'x\n", "holdfast.toml:2: not TOML"),
        (b"a = [", "holdfast.toml:1: not TOML"),
        (b"[a]\n[a]\n", "holdfast.toml:2: not TOML"),
        (b"a = 1\na = 2\n", "holdfast.toml:2: not TOML"),
        (b"a = " + b"9" * 5000, "holdfast.toml: has a value that cannot be"),
        (b"a = 1979-13-40", "holdfast.toml:1: not TOML"),
        (b"a = " + b"[" * 5000, "holdfast.toml: is nested more than 60 levels deep"),
        (b"a = " + b"[" * 100 + b"]" * 100, "is nested more than 60 levels deep"),
        (b"a" + b".a" * 100_000 + b" = 1\n", "holdfast.toml:1: is nested more than 60 levels deep"),
        (b"[" + b"a." * 100_000 + b"a]\n", "holdfast.toml:1: is nested more than 60 levels deep"),
        (
            b"b = {" + b"a." * 100_000 + b"a = 1}\n",
            "holdfast.toml:1: is nested more than 60 levels deep",
        ),
        (b"#" * 5_000_001, "holdfast.toml: is larger than 5 MB"),
    ],
)
def test_a_file_that_is_no_configuration(desk: Desk, data: bytes, says: str) -> None:
    path = desk.directory / "holdfast.toml"
    path.write_bytes(data)
    began_s = time.process_time()

    problem = desk.problems_at(str(path))[0]

    assert says in problem.splitlines()[0]
    assert all(len(line) < 250 for line in problem.splitlines())
    assert time.process_time() - began_s < 5 * float(os.environ.get("HOLDFAST_SLOWNESS", "1"))


def test_a_syntax_error_shows_the_line_and_the_place(desk: Desk) -> None:
    problem = desk.problem("[worker.w]\ncommand = sleep 9 # why\n")

    assert problem == (
        "holdfast.toml:2: not TOML: Invalid value (column 11)\n"
        "  command = sleep 9 # why\n"
        "            ^\n"
        '  a text stands in quotes: "sleep 9"'
    )


# -- includes --------------------------------------------------------------------------------------


def test_included_files_are_one_configuration_and_paths_belong_to_their_file(desk: Desk) -> None:
    desk.program("sites/run.sh")
    desk.write('[worker.b]\ncommand = "./run.sh"\nafter = ["a"]\n', "sites/b.toml")
    desk.write('[worker.c]\ncommand = "sleep 9"\n', "sites/c.toml")

    workers = desk.workers('include = ["sites/*.toml"]\n[worker.a]\ncommand = "sleep 9"\n')

    assert list(workers) == ["a", "b", "c"]
    assert workers["b"]["directory"] == f"{desk.directory}/sites"
    assert workers["a"]["directory"] == str(desk.directory)


def test_a_pattern_may_match_the_file_that_it_stands_in(desk: Desk) -> None:
    desk.write('[worker.b]\ncommand = "sleep 9"\n', "b.toml")

    assert list(desk.workers('include = ["*.toml"]\n' + GUEST)) == ["w", "b"]


def test_problems_name_the_included_file(desk: Desk) -> None:
    desk.write(
        '\n[worker.w]\ncommand = "sleep 9"\n[worker.v]\ncommand = "sleep 9"\nafter = ["q"]\n',
        "b.toml",
    )
    desk.write("[node]\nname = 'two'\n", "c.toml")

    found = desk.problems('include = ["b.toml", "c.toml"]\n[node]\nname = "one"\n' + GUEST)

    assert [problem.splitlines()[0] for problem in found] == [
        "b.toml:2 worker.w: there is a worker of this name already, at holdfast.toml:4",
        'b.toml:6 worker.v.after: there is no worker "q"',
        "c.toml:2 node.name: is set already, at holdfast.toml:3",
    ]


def test_includes_in_a_circle_or_of_nothing(desk: Desk) -> None:
    desk.write('include = ["holdfast.toml"]\n', "b.toml")
    desk.write("a = ", "c.toml")

    assert (
        'b.toml:1 include: "holdfast.toml" includes itself in a circle'
        in desk.problems('include = ["b.toml"]\n' + GUEST)[0]
    )
    assert "holdfast.toml:1 include: gone.toml: there is no such file" in desk.problem(
        'include = ["gone.toml"]\n' + GUEST
    )
    assert "c.toml:1: not TOML" in desk.problem('include = ["c.toml"]\n' + GUEST)
    assert (
        'include: "b.toml" is not a list of files'
        in desk.problems('include = "b.toml"\n' + GUEST)[0]
    )
    assert list(desk.workers('include = ["none/*.toml"]\n' + GUEST)) == ["w"]


def test_a_file_that_is_reached_twice_is_read_once(desk: Desk) -> None:
    desk.write('[worker.b]\ncommand = "sleep 9"\n', "b.toml")
    desk.write('include = ["b.toml"]\n', "c.toml")

    assert list(desk.workers('include = ["b.toml", "c.toml", "./b.toml"]\n' + GUEST)) == ["w", "b"]


# -- variables -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("${NAME}", "you"),
        ("a ${NAME} b ${NAME}", "a you b you"),
        ("${NONE:-else}", "else"),
        ("${EMPTY:-else}", "else"),
        ("${EMPTY}", ""),
        ("${NONE:-}", ""),
        ("$NAME $5 a$", "$NAME $5 a$"),
        ("$${NAME} $$", "${NAME} $"),
        ("${TRICK}", "${NAME} $$"),
    ],
)
def test_variables_are_filled_in_once(desk: Desk, written: str, value: str) -> None:
    """What a variable contains is a value, not a program: it is not read a second time."""
    desk.environ |= {"NAME": "you", "EMPTY": "", "TRICK": "${NAME} $$"}

    assert desk.worker(f'env = {{ A = "{written}" }}')["env"] == {"A": value}


def test_variables_can_stand_for_numbers_and_truths(desk: Desk) -> None:
    desk.environ |= {
        "PORT": "6390",
        "KEEP": "3",
        "YES": "true",
        "SIZE": "64M",
        "WAIT": "2.5",
        "CPU": "1.5",
    }

    plan = desk.plan(
        '[node]\ndrills = "${YES}"\ndisk_min_share = "0.${KEEP}"\n'
        + GUEST
        + 'ready = { tcp = "${PORT}" }\n'
        'log = { keep = "${KEEP}" }\nmemory_max = "${SIZE}"\nstop = { grace = "${WAIT}" }\ncpu_max = "${CPU}"\n'
        'essential = "${YES}"\nlisten = ["tcp://127.0.0.1:${PORT}"]\n'
    )

    worker = plan["workers"][0]
    assert (plan["drills"], plan["watch"]["disk_min_share"], worker["ready"]["target"]) == (
        True,
        0.3,
        "127.0.0.1:6390",
    )
    assert worker["log"]
    assert (worker["log"]["keep"], worker["limits"]["memory_bytes"], worker["stop"]["grace_s"]) == (
        3,
        64 << 20,
        2.5,
    )
    assert (worker["limits"]["cpu_share"], worker["essential"], worker["listen"][0]["port"]) == (
        1.5,
        True,
        6390,
    )


def test_a_text_is_a_number_only_if_a_variable_made_it(desk: Desk) -> None:
    assert 'keep: "3" is not a whole number' in desk.refusal('log = { keep = "3" }')


def test_a_missing_variable_is_told_with_its_place_and_the_nearest_name(desk: Desk) -> None:
    desk.environ["DATABASE_URL"] = "x"

    problem = desk.problem(GUEST + '[worker.v]\ncommand = ["sleep",\n  "${DATABSE_URL}"]\n')

    assert problem == (
        "holdfast.toml:5 worker.v.command: the environment variable DATABSE_URL is not set\n"
        '  Did you mean "DATABASE_URL"?\n'
        '  set it, or give a default: "${DATABSE_URL:-…}"'
    )


def test_an_env_file_is_checked_line_by_line(desk: Desk) -> None:
    desk.write("A=1\nnonsense\n=2\n", "vars")

    found = desk.problems(GUEST + 'env_file = "vars"\n')

    assert [problem.split(": ", 1)[1] for problem in found] == [
        "vars:2 is not a line NAME=VALUE",
        "vars:3 is not a line NAME=VALUE",
    ]


def test_a_node_whose_directory_was_removed_still_gets_an_answer(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = desk.write(GUEST)
    gone = desk.directory / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()

    assert load_plan(path, desk.environ)["workers"][0]["name"] == "w"
    assert "there is no such file" in desk.problems_at("holdfast.toml")[0]


@pytest.mark.parametrize("path", ["/srv/shop", "/srv/two words", "/srv/it's", "/srv/\U0002fa1e", "/srv/\u202ex\\y'z"])  # fmt: skip
def test_a_path_in_a_hint_can_be_typed_and_has_nothing_hidden_in_it(path: str) -> None:
    """Found by the fuzzer: a letter that no terminal shows stood in the command that was to be typed."""
    typed = typed_path(path)

    assert typed.isprintable()
    done = subprocess.run(["bash", "-c", f"printf %s {typed}"], capture_output=True, env={"LC_ALL": "C.UTF-8"}, check=True)  # fmt: skip
    assert done.stdout.decode() == path
