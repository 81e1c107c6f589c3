"""[forward]: a worker of its own, its settings, and every mistake with its place."""

from typing import Any

import pytest

from config.desk import Desk
from holdfast.config.forward_definitions import TARGETS
from holdfast.forward import settings

WEB = '[worker.web]\ncommand = ["sleep", "9"]\n'
OTLP = '[forward.target.c]\ntype = "otlp"\nurl = "http://127.0.0.1:4318"\n'


def made(desk: Desk, text: str) -> dict[str, Any]:
    (component,) = desk.workers(WEB + text)["forward"]["components"]
    assert component["use"] == "holdfast.forward:app"
    settings_of: Any = component["settings"]
    found: dict[str, Any] = settings_of["target"]
    return found


def test_forwarding_is_a_worker_that_is_never_left_down(desk: Desk) -> None:
    worker = desk.workers(WEB + OTLP)["forward"]

    assert worker["kind"] == "container"
    assert (worker["restart"]["limit"], worker["isolate"], worker["requires"]) == (0, 0, [])
    assert worker["log"] is not None


def test_without_the_table_there_is_no_such_worker(desk: Desk) -> None:
    assert list(desk.workers(WEB)) == ["web"]


def test_what_goes_to_stdout_goes_to_that_of_the_node(desk: Desk) -> None:
    """In a container somebody collects it there; kept in a log of ours it would be forwarded again."""
    worker = desk.workers(WEB + '[forward.target.out]\ntype = "json"\n')["forward"]

    assert worker["log"] is None


EVERY = {
    "otlp": 'url_env = "URL"\nheaders = { X = "y" }\nheaders_file = "secret"\nbearer_env = "T"\nevery = "5s"\nmetrics = false\n'
    'attributes = { a = "b" }\ncompress = false\ntimeout = "3s"',
    "journald": 'socket = "run/socket"',
    "json": 'path = "out.jsonl"',
}


@pytest.mark.parametrize("sort", TARGETS)
def test_what_the_configuration_lets_through_the_process_understands(desk: Desk, sort: str) -> None:
    desk.write("x-key=k", "secret")
    text = f'[forward.target.t]\ntype = "{sort}"\nworkers = ["w*"]\nhouse = false\nincidents = false\n{EVERY[sort]}\n'
    given = made(desk, text)["t"]
    (wanted,) = settings.read({"target": {"t": given}})

    assert (wanted.sort, wanted.workers, wanted.has_house, wanted.has_incidents) == (
        sort,
        ["w*"],
        False,
        False,
    )
    if sort == "otlp":
        environ = {"URL": "https://otlp.example.com", "T": "t"}
        assert settings.endpoint(given, environ) == "https://otlp.example.com"
        assert settings.headers(given, environ) == {
            "X": "y",
            "x-key": "k",
            "Authorization": "Bearer t",
        }
        assert (given["every"], given["timeout"]) == (5.0, 3.0)
    else:
        place = given["socket" if sort == "journald" else "path"]
        assert place.startswith(f"{desk.directory}/")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[forward]\n", 'holdfast.toml:3 forward: there is no "target" here'),
        ("[forward]\ntarget = {}\n", "holdfast.toml:4 forward.target: there is no target here"),
        ('[forward.target.a]\ntype = "otpl"\n', 'holdfast.toml:4 forward.target.a.type: there is no type "otpl"\n  Did you mean "otlp"?'),
        ('[forward.target.a]\ntype = "otlp"\n', "holdfast.toml:3 forward.target.a: does not say where to"),
        ('[forward.target.a]\ntype = "otlp"\nurl = "collector:4318"\n', "holdfast.toml:5 forward.target.a.url: this is not an address"),
        ('[forward.target.a]\ntype = "journald"\npath = "x"\n', "holdfast.toml:5 forward.target.a.path"),
        (OTLP + 'bearer_env = "A"\nbearer_file = "b"\n', "cannot both be right"),
        (OTLP + "logs = false\nincidents = false\nmetrics = false\n", "nothing goes to this target"),
        (OTLP + 'logs = false\nworkers = ["web"]\n', "has no meaning with logs = false"),
        (OTLP + '[component.forward]\nuse = "m:x"\n', 'component.forward: the name "forward" is taken'),
        ('[forward.target.a]\ntype = "json"\n[forward.target.b]\ntype = "json"\n', "two targets write to the same stdout"),
        ('[otlp]\nendpoint = "x"\n', "forward"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_with_its_place(desk: Desk, text: str, problem: str) -> None:
    assert problem in desk.problem(WEB + text)


def test_a_secret_that_stands_in_the_file_is_refused_and_not_repeated(desk: Desk) -> None:
    found = desk.problem(WEB + OTLP + 'bearer = "t0psecret"\n')

    assert "bearer_env" in found
    assert "t0psecret" not in found
