"""What the settings of other people's files become."""

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest

from holdfast.config.importers import Imported, import_file

SAMPLES = Path(__file__).parent / "samples"


def written(tmp_path: Path, name: str, text: str) -> Imported:
    path = tmp_path / name
    path.write_text(text)
    return import_file(str(path))


def workers(imported: Imported) -> dict[str, Any]:
    found = tomllib.loads(imported.toml)["worker"]
    assert isinstance(found, dict)
    return found


def test_procfile_commands_that_need_a_shell_get_one() -> None:
    """foreman runs everything through a shell; without one `$PORT` would reach the program as it is."""
    found = workers(import_file(str(SAMPLES / "Procfile")))

    assert found["web"]["command"] == [
        "/bin/sh",
        "-c",
        "exec gunicorn shop.wsgi --bind 0.0.0.0:$PORT",
    ]
    assert found["worker"]["command"] == ["python", "-m", "shop.worker", "--queue", "high prio"]
    assert found["clock"]["command"][2].startswith("LOG=debug ")  # `exec LOG=debug` would not run
    assert [found[name]["env"]["PORT"] for name in ("web", "worker", "clock")] == [
        "5000",
        "5100",
        "5200",
    ]
    assert found["release"]["autostart"] is False


def test_a_dotenv_file_beside_a_procfile_is_not_forgotten(tmp_path: Path) -> None:
    """foreman reads it; its values may be secrets, so only the names are told."""
    (tmp_path / ".env").write_text("API_KEY=hush\nexport MODE=prod\n# no\n")
    imported = written(tmp_path, "Procfile", "web: ./serve\n")

    assert "API_KEY, MODE" in imported.notes[0]
    assert "hush" not in imported.toml


def test_numprocs_makes_several_workers_with_their_own_numbers(tmp_path: Path) -> None:
    """One [program:x] with numprocs = 3 is three processes on three ports."""
    text = """
[program:web]
command = serve --port=80%(process_num)02d --of=%(numprocs)s --in=%(here)s --as=%(group_name)s
process_name = %(program_name)s-%(process_num)02d
numprocs = 3
numprocs_start = 7
"""
    found = workers(written(tmp_path, "supervisord.conf", text))

    assert list(found) == ["web-07", "web-08", "web-09"]
    assert found["web-08"]["command"] == [
        "serve",
        "--port=8008",
        "--of=3",
        f"--in={tmp_path}",
        "--as=web",
    ]


def test_the_environment_of_supervisor_is_quoted_its_own_way(tmp_path: Path) -> None:
    """Commas separate, quotes protect, and ENV_NAME may come from the same file or from outside."""
    text = """
[supervisord]
environment = REGION="eu-west"
[program:a]
command = a %(ENV_REGION)s %(ENV_TOKEN)s %(ENV_OWN)s 100%%
environment = OWN="x,y z",PATH=/usr/bin:/bin,EMPTY=""
"""
    found = workers(written(tmp_path, "supervisord.conf", text))["a"]

    assert found["command"] == [
        "a",
        "eu-west",
        "${TOKEN}",
        "x,y",
        "z",
        "100%",
    ]  # split after filling in
    assert found["env"] == {"OWN": "x,y z", "PATH": "/usr/bin:/bin", "EMPTY": ""}


def test_priorities_become_an_order_that_stopped_programs_do_not_hold_up(tmp_path: Path) -> None:
    """`after` waits for readiness: waiting for a program that never starts would be for ever."""
    text = """
[program:late]
command = late
priority = 30
[program:early]
command = early
priority = 10
[program:by_hand]
command = by-hand
priority = 20
autostart = false
[program:usual]
command = usual
"""
    found = workers(written(tmp_path, "supervisord.conf", text))

    assert "after" not in found["early"]
    assert found["by_hand"]["after"] == ["early"]
    assert found["late"]["after"] == ["early"]
    assert found["usual"]["after"] == ["late"]


def test_restart_rules_of_supervisor_keep_their_meaning(tmp_path: Path) -> None:
    """Its default is `unexpected`, ours is `always`: what was not written has to be written now."""
    text = """
[program:usual]
command = a
[program:strict]
command = b
autorestart = true
startretries = 2
startsecs = 4
stopsignal = 15
stopwaitsecs = 60
[program:once]
command = c
autorestart = no
"""
    found = workers(written(tmp_path, "supervisord.conf", text))

    assert found["usual"]["restart"] == {"policy": "on-failure"}
    assert found["strict"]["restart"] == {
        "policy": "always", "healthy": "4s", "limit": 2, "window": "15s", "after_limit": "down",
    }  # fmt: skip
    assert found["strict"]["stop"] == {"signal": "TERM", "grace": "60s"}
    assert found["once"]["restart"] == {"policy": "never"}


def test_includes_are_followed_and_their_places_told(tmp_path: Path) -> None:
    """Debian's package keeps every program in a file of its own."""
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "conf.d" / "b.conf").write_text("[program:b]\ncommand=%(here)s/b\nodd=1\n")
    (tmp_path / "conf.d" / "a.conf").write_text("[program:a]\ncommand=a\n[include]\nfiles=x\n")
    imported = written(
        tmp_path, "supervisord.conf", "[include]\nfiles = conf.d/*.conf none/*.conf\n"
    )

    assert workers(imported)["b"]["command"] == [f"{tmp_path}/conf.d/b"]
    assert list(workers(imported)) == ["a", "b"]
    notes = "\n".join(imported.notes)
    assert "conf.d/b.conf:3 program:b.odd = 1" in notes
    assert "no file matches none/*.conf" in notes
    assert "conf.d/a.conf:3 [include]" in notes


def test_a_fastcgi_program_gets_its_socket_as_descriptor_0(tmp_path: Path) -> None:
    """FastCGI listens on standard input; socket activation hands over descriptor 3."""
    text = (
        "[fcgi-program:php]\ncommand=php-cgi -b\nsocket=tcp://localhost:9001\nsocket_backlog=64\n"
    )
    found = workers(written(tmp_path, "supervisord.conf", text))["php"]

    assert found["command"] == ["/bin/sh", "-c", 'exec "$0" "$@" <&3', "php-cgi", "-b"]
    assert found["listen"] == [{"address": "tcp://localhost:9001", "backlog": 64}]


def test_components_inside_a_router_stay_there() -> None:
    """Whoever put them into one process had a reason; `components` of another worker moves them out."""
    plan = tomllib.loads(import_file(str(SAMPLES / "config.json")).toml)

    assert plan["worker"]["bus"]["kind"] == "router"
    assert plan["worker"]["bus"]["components"] == ["auth_session"]
    assert plan["component"]["auth_session"]["use"] == "site.auth:AuthSession"
    assert plan["component"]["auth_session"]["role"] == "authenticator"
    assert plan["worker"]["bus"]["env"] == {"LEVEL": "debug"}


def test_a_container_keeps_its_components_and_how_they_restart() -> None:
    """`restart-on-failed` is what nearly everybody writes, and what Crossbar.io itself never acts on."""
    plan = tomllib.loads(import_file(str(SAMPLES / "config.json")).toml)

    worker = plan["worker"]["back-end"]
    assert worker["components"] == ["notice-board", "board", "on_join", "no-such-wamplet"]
    assert worker["restart"] == {"policy": "on-failure"}
    assert plan["component"]["notice-board"]["settings"]["deep"] == {
        "list": [1, 2.5, True], "huge": "123456789012345678901234567890",
    }  # fmt: skip


def test_yaml_and_json_of_one_configuration_mean_the_same(tmp_path: Path) -> None:
    """Crossbar.io reads both."""
    yaml = pytest.importorskip("yaml")
    given = json.loads((SAMPLES / "config.json").read_text())
    del given["workers"][1]["components"][0]["extra"]["deep"]["huge"]
    as_json = written(tmp_path, "config.json", json.dumps(given))
    as_yaml = written(tmp_path, "config.yaml", yaml.safe_dump(given, sort_keys=False))

    assert tomllib.loads(as_json.toml) == tomllib.loads(as_yaml.toml)


@pytest.mark.parametrize(
    ("name", "text", "kind"),
    [
        ("Procfile.dev", "web: x\n", "procfile"),
        ("anything", "web: x\nworker: y\n", "procfile"),
        ("shop.ini", "; hello\n[program:x]\ncommand=x\n", "supervisord"),
        ("node", '{"workers": []}', "crossbar"),
        ("node.yml", "workers: []\n", "crossbar"),
    ],
)
def test_the_kind_of_a_file_is_told_by_name_and_content(
    tmp_path: Path, name: str, text: str, kind: str
) -> None:
    """`holdfast import FILE` should need no option."""
    assert written(tmp_path, name, text).kind == kind
