"""What a person is told whose file cannot be understood: where, what, what to do."""

import json
import os
import re
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.config.importers import KINDS, draft, import_file
from holdfast.config.importers.ledger import Ledger
from holdfast.config.importers.tree import read_json
from holdfast.model.errors import ConfigError, HoldfastError, UsageError


def refused(tmp_path: Path, name: str, text: str | bytes, kind: str | None = None) -> list[str]:
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ConfigError) as caught:
        import_file(str(path), kind)
    return caught.value.problems


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        (
            "Procfile",
            "web: x\nno command here\n",
            "Procfile:2 this is not `name: command`: no command here",
        ),
        ("Procfile", "# nothing\n", "Procfile:1 there is no process in it"),
        ("Procfile", "  \n", "Procfile:1 the file is empty"),
        ("Procfile", b"web: caf\xe9\n", "Procfile:1 this is not UTF-8"),
        ("Procfile", b"web: x\n\0", "Procfile:2 a zero byte"),
        (
            "s.conf",
            "[program:a]\ncommand=a\nnonsense\n",
            "s.conf:3 this is neither a [section] nor `key=value`",
        ),
        ("s.conf", "x=1\n[program:a]\ncommand=a\n", "s.conf:1 x stands before the first [section]"),
        ("s.conf", "[program:a]\n", "s.conf:1 [program:a] has no command"),
        ("s.conf", "[supervisord]\n", "there is no [program:NAME] in it"),
        ("s.conf", "[program:a]\ncommand=a %(nope)s\n", "there is no %(nope)s to fill in"),
        (
            "s.conf",
            "[program:a]\ncommand=a\nnumprocs=%(ENV_HF_NOT_SET)s\n",
            "set HF_NOT_SET in the environment",
        ),
        ("s.conf", "[program:a]\ncommand=a %d\n", "a plain % is written %%"),
        ("s.conf", "[program:a]\ncommand=a 'b\n", "quotes have to be closed"),
        (
            "s.conf",
            "[program:a]\ncommand=a\nnumprocs=2\n",
            "process_name has to contain %(process_num)s",
        ),
        (
            "s.conf",
            "[program:a]\ncommand=a\nstopsignal=NOPE\n",
            "s.conf:3 program:a.stopsignal = NOPE: there is no such",
        ),
        ("s.conf", "[program:a]\ncommand=a\nautorestart=often\n", "not true, false or unexpected"),
        ("s.conf", "[program:a]\ncommand=a\nenvironment=A\n", 'write KEY="value",KEY2="value"'),
        ("s.conf", "[group:g]\nprograms=b\n[program:a]\ncommand=a\n", "there is no [program:b]"),
        ("c.json", '{\n  "workers": [\n  ],\n}', "c.json:4:1 this is not JSON"),
        ("c.json", '{"workers": [ // no\n]}', "c.json:1:15 this is not JSON"),
        ("c.json", "[]", "c.json:1 a node configuration is a mapping; this is a list"),
        ("c.json", "{}", "there is no `workers`"),
        ("c.json", '{"workers": {}}', "workers has to be a list, and is a mapping"),
        (
            "c.json",
            '{"version": 3, "workers": []}',
            "c.json:1 version = 3: the versions 1 and 2 are known",
        ),
        ("c.json", '{"workers": [\n{"type": "guest"}]}', "c.json:2 workers[0] has no executable"),
        ("c.json", '{"workers": [1]}', "workers[0] has to be a mapping, and is a number"),
        ("c.json", "[" * 100_000, "nested deeper"),
        ("c.json", '{"a": ' + "9" * 5000 + "}", "a value that cannot be"),
        (
            "what.txt",
            "once upon a time",
            "holdfast import --kind procfile|supervisord|crossbar|systemd|compose|pm2|circus what.txt",
        ),
    ],
)
def test_a_file_that_cannot_be_understood_is_refused_with_its_place(
    tmp_path: Path, name: str, text: str | bytes, says: str
) -> None:
    """A person should never have to open the file twice."""
    problems = refused(tmp_path, name, text)

    assert any(says in problem for problem in problems), problems
    assert all(problem.startswith(name) for problem in problems)


def test_all_problems_are_told_at_once(tmp_path: Path) -> None:
    """One run of the import, not five."""
    text = "[program:a]\nnumprocs=two\n[program:b]\ncommand=b\nstopsignal=X\nstartsecs=-1\n"

    assert len(refused(tmp_path, "s.conf", text)) == 4
    text = '{"version": 9, "workers": [{"type": "guest"}, {"type": 1}, {}]}'
    assert len(refused(tmp_path, "c.json", text)) == 4


def test_files_that_are_none(tmp_path: Path) -> None:
    """Missing, a directory, a pipe (which would hang), not readable."""
    os.mkfifo(tmp_path / "Procfile")
    assert refused_path(tmp_path / "Procfile") == [
        "Procfile: is a pipe, socket or device, not a file"
    ]
    assert refused_path(tmp_path) == [f"{tmp_path.name}: is a directory, not a file"]
    assert refused_path(tmp_path / "none") == ["none: cannot be read: no such file or directory"]


def refused_path(path: Path) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        import_file(str(path))
    return caught.value.problems


def test_an_unknown_kind_is_a_mistake_on_the_command_line(tmp_path: Path) -> None:
    """Exit status 2, and the kinds that there are."""
    with pytest.raises(UsageError, match="known are procfile, supervisord, crossbar"):
        import_file(str(tmp_path / "x"), "nomad")


def test_without_pyyaml_the_message_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PyYAML is an extra."""
    monkeypatch.setitem(sys.modules, "yaml", None)

    (problem,) = refused(tmp_path, "c.yaml", "workers: []\n")
    assert 'pip install "holdfast[yaml]"' in problem


def test_yaml_errors_have_line_and_column(tmp_path: Path) -> None:
    """And a bomb of aliases costs no gigabytes."""
    pytest.importorskip("yaml")
    assert refused(tmp_path, "c.yaml", "workers:\n - a: [1,\nb: 2\n")[0].startswith(
        "c.yaml:4:1 this is not YAML"
    )
    levels = "\n".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 10))
    assert "not a configuration" in refused(tmp_path, "c.yaml", f"a0: &a0 [1, 2]\n{levels}\n")[0]
    (problem,) = refused(tmp_path, "c.yaml", "a: !!python/name:os.system x\n")
    assert problem.startswith("c.yaml:1:4 this is not YAML")


def test_a_key_that_stands_twice_is_noted(tmp_path: Path) -> None:
    """Readers of JSON take the last one without a word; the first was dropped in silence."""
    path = tmp_path / "c.json"
    path.write_text('{"workers": [{"type": "guest", "executable": "a",\n "executable": "b"}]}')
    imported = import_file(str(path))

    assert tomllib.loads(imported.toml)["worker"]["b"]["command"] == ["b"]
    assert any(
        'workers[0].executable = "a"' in note and "last one wins" in note for note in imported.notes
    )


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(VALUES, st.sampled_from([None, 0, 3]))
def test_our_json_reader_agrees_with_the_library(value: Any, indent: int | None) -> None:
    """It exists for the line numbers, not to have opinions."""
    text = json.dumps(value, indent=indent)

    assert read_json(text, "f", Ledger()).value() == json.loads(text)


@given(VALUES)
def test_whatever_goes_into_the_toml_comes_out_of_it(value: Any) -> None:
    """Quotes, control characters, dollars, lone surrogates: a foreign text cannot break out of its place."""
    value = draft.portable({"v": value})
    made = draft.Draft(["x\ny = 1"])
    made.table("worker", "a").put("settings", value, "why\nz = 2")
    read = tomllib.loads(made.write(["a note\nof two lines\rx = 3"]))

    assert read == {"worker": {"a": {"settings": draft_expected(value)}}}


def draft_expected(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            key.encode("utf-8", "replace").decode(): draft_expected(item)
            for key, item in value.items()
        }
    if isinstance(value, list):
        return [draft_expected(item) for item in value]
    return (
        draft.literal(value).encode("utf-8", "replace").decode()
        if isinstance(value, str)
        else value
    )


@given(st.text(alphabet="${}aA\\\n"))
def test_dollars_survive_the_expansion_of_holdfast(text: str) -> None:
    """`$$` is one dollar and `${NAME}` a variable in a holdfast.toml; foreign texts know nothing of that."""
    escaped = draft.literal(text)

    assert (
        re.sub(r"\$\$|\$\{", lambda found: "$" if found[0] == "$$" else "EXPANDED", escaped) == text
    )


@settings(max_examples=150, deadline=None)
@given(st.text(alphabet="[]{}:=%()s,\"'\n \tprogamcdENV_;#$-0189"), st.sampled_from(KINDS))
def test_no_text_whatever_ends_in_a_traceback(
    tmp_path_factory: pytest.TempPathFactory, text: str, kind: str
) -> None:
    """Hostile input is refused like any other mistake."""
    path = tmp_path_factory.getbasetemp() / "hostile"
    path.write_text(text)
    try:
        tomllib.loads(import_file(str(path), kind).toml)
    except HoldfastError as error:
        assert str(error).startswith("hostile:")  # noqa: PT017
