"""[dashboard]: a worker of its own that nobody needs, its settings, and every mistake with its place."""

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("starlette", reason="needs holdfast[dashboard]")

from config.desk import Desk
from holdfast.dashboard import settings
from holdfast.dashboard.access import passwords

WEB = '[worker.web]\ncommand = ["sleep", "9"]\n'
HASH = "$argon2id$v=19$m=19456,t=2,p=1$F9uC1uiVPVo6kHGyqTisAA$BpWiAg5gyDdspbIAapuDSwA47OECBVM1eKM4bSg9izg"


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def made(desk: Desk, text: str) -> dict[str, Any]:
    (component,) = desk.workers(WEB + text)["dashboard"]["components"]
    assert component["use"] == "holdfast.dashboard:app"
    return component["settings"]


def test_an_empty_table_is_enough(desk: Desk) -> None:
    worker = desk.workers(WEB + "[dashboard]\n")["dashboard"]

    (listener,) = worker["listen"]
    assert (listener["name"], listener["host"], listener["port"]) == (
        "dashboard",
        "127.0.0.1",
        8750,
    )
    assert (worker["kind"], worker["isolate"], worker["essential"], worker["crash_only"]) == (
        "container",
        0,
        False,
        True,
    )
    assert (worker["restart"]["limit"], worker["requires"]) == (0, [])


def test_without_the_table_there_is_no_such_worker(desk: Desk) -> None:
    assert list(desk.workers(WEB)) == ["web"]


def test_what_the_configuration_lets_through_the_process_understands(desk: Desk) -> None:
    """Two places know the keys: one that passes here and ends the process there would be found at 3 am."""
    for name, text in (
        ("ann.hash", HASH),
        ("proxy", "shared"),
        ("box.pem", "pem"),
        ("box.key", "key"),
    ):
        desk.write(text, name)
    found = made(
        desk,
        '[dashboard]\nlisten = "[::1]:8751"\nhosts = ["Box.example.com"]\ncertificate_file = "box.pem"\nkey_file = "box.key"\n'
        'session_for = "1h"\nlinks = false\n'
        f'[dashboard.user.ann]\npassword_hash_file = "ann.hash"\nrole = "operator"\n[dashboard.user.bob]\npassword_hash = "{HASH}"\n'
        '[dashboard.proxy]\nfrom = ["10.0.0.1"]\nuser_header = "Remote-User"\noperators = ["ann"]\nsecret_file = "proxy"\n',
    )

    read = settings.read(found, {})

    assert {name: user.role for name, user in read.rules.users.items()} == {
        "ann": "operator",
        "bob": "reader",
    }
    assert {user.password_hash for user in read.rules.users.values()} == {HASH}
    assert read.rules.hosts == {"box.example.com"}
    assert (read.rules.session_for_s, read.rules.links, read.rules.is_tls) == (3600.0, False, True)
    assert read.rules.proxy is not None
    assert (read.rules.proxy.addresses, read.rules.proxy.user_header, read.rules.proxy.secret) == (
        frozenset({"10.0.0.1"}),
        b"remote-user",
        "shared",
    )
    assert (read.certificate_file, read.url()) == (
        f"{desk.directory}/box.pem",
        "https://[::1]:8751",
    )


def test_the_defaults_of_both_places_are_the_same(desk: Desk) -> None:
    found = settings.read(made(desk, "[dashboard]\n[dashboard.proxy]\n"), {})
    bare = settings.read({"proxy": {}}, {})

    assert found == bare


def test_a_hash_that_the_command_makes_is_taken(desk: Desk) -> None:
    pytest.importorskip("argon2")
    assert made(
        desk, f'[dashboard.user.ann]\npassword_hash = "{passwords.make("correct horse")}"\n'
    )


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('[dashboard]\nlisten = "0.0.0.0:8750"\n', "without TLS they read along"),
        ('[dashboard]\nlisten = "192.0.2.1:8750"\n', "without TLS they read along"),
        ('[dashboard]\nlisten = "8750.5"\n', "listen"),
        ('[dashboard]\nkey_file = "box.key"\n', "a key without a certificate"),
        ("[dashboard]\nlinks = false\n", "nobody could sign in"),
        ('[dashboard.user.ann]\npassword_hash = "topsecret"\n', "this is not an argon2 hash"),
        ("[dashboard.user.ann]\n", "does not say what the password is"),
        ('[dashboard.user.ann]\npassword = "topsecret"\n', 'Did you mean "password_hash"'),
        ('[dashboard.proxy]\nfrom = ["proxy.local"]\n', "numeric address"),
        ('[dashboard.proxy]\nsecret_file = "x"\nsecret_env = "Y"\n', "cannot both be right"),
        ("[dashboard]\nport = 8750\n", 'Did you mean "listen"'),
        ('[dashboard]\n[worker.dashboard]\ncommand = ["true"]\n', 'the name "dashboard" is taken'),
        (
            '[dashboard]\n[worker.x]\ncommand = ["true"]\nlisten = [{ address = "tcp://127.0.0.1:8750" }]\n',
            "is claimed by the worker",
        ),
    ],
)
def test_a_mistake_is_told_with_what_to_do_and_never_with_a_password(
    desk: Desk, text: str, says: str
) -> None:
    problems = desk.problems(WEB + text)

    assert any(says in problem for problem in problems), problems
    assert all(problem.startswith("holdfast.toml:") for problem in problems)
    assert "topsecret" not in "".join(problems)


@pytest.mark.parametrize(
    "more", ['certificate_file = "box.pem"\n', "insecure = true\n", "[dashboard.proxy]\n"]
)
def test_others_may_be_let_near_by_tls_a_proxy_or_on_ones_own_word(desk: Desk, more: str) -> None:
    assert made(desk, f'[dashboard]\nlisten = "0.0.0.0:8750"\n{more}')["listen"] == "0.0.0.0:8750"


def test_what_is_missing_when_the_process_starts_is_all_said_at_once(tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("\n")
    (tmp_path / "odd").write_text("topsecret")
    raw = {
        "certificate_file": f"{tmp_path}/nothing.pem", "proxy": {"secret_env": "NOT_SET"},
        "user": {"ann": {"password_hash_file": f"{tmp_path}/empty"}, "bob": {"password_hash_file": f"{tmp_path}/odd"}},
    }  # fmt: skip

    with pytest.raises(settings.SettingsError) as caught:
        settings.read(raw, {})

    said = str(caught.value)
    for part in (
        "nothing.pem: No such file",
        "empty: is empty",
        "this is not an argon2 hash",
        "NOT_SET is not set",
    ):
        assert part in said
    assert "topsecret" not in said
