"""Which state directory a file names is read without a parser where that is safe, and exactly as the parser reads it."""

import tomllib
from pathlib import Path

import pytest

from holdfast.cli import place

PLAIN = (
    '[node]\nstate_dir = "state"\n',
    '[worker.a]\ncommand = ["x"]\n[node]\nname = "n"\n  state_dir="s/t"  # here\n[worker.b]\ncommand = ["y"]\n',
    '[node] # ours\r\nstate_dir = "über"\r\n',
)
#: The plain way must not be taken: it would be wrong, or might be.
NOT_PLAIN = (
    "[node]\nstate_dir = 'state'\n",
    'node.state_dir = "state"\n',
    'node = { state_dir = "state" }\n',
    '[worker.a]\nstate_dir = "mine"\n',
    '[node]\n# state_dir = "old"\n',
    '[node]\n# state_dir = "old"\nstate_dir = "new"\n',
    '[node]\nname = """\nstate_dir = "no"\n"""\n',
    '[node]\nstate_dir = "a\\tb"\n',
    '[node]\nstate_dir = """deep"""\n',
    '[node]\nold_state_dir = "no"\n',
    '[node]\nname = "x"\n[node.more]\nstate_dir = "no"\n',
    '[node]\nstate_dir = ""\n',
    '[worker.a]\nargs = [\n["x"],\n]\n[node]\nname = "state_dir = 1"\n',
    '[node]\nstate_dirs = "no"\n',
)


@pytest.mark.parametrize("text", [*PLAIN, *NOT_PLAIN])
def test_what_is_read_is_what_the_parser_reads(tmp_path: Path, text: str) -> None:
    config = tmp_path / "holdfast.toml"
    config.write_bytes(text.encode())
    node = tomllib.loads(text).get("node", {})
    named = node.get("state_dir", "") if isinstance(node, dict) else ""
    assert place.state_dir_of(str(config)) == str(tmp_path / (named or place.STATE_NAME))


@pytest.mark.parametrize("text", PLAIN)
def test_the_usual_form_needs_no_parser(text: str) -> None:
    """Parsing a thousand workers costs 40 ms, and `status` is asked for by people who are in a hurry."""
    assert place._plain_state_dir(text.encode())


def test_a_mistake_further_down_does_not_hide_the_node(tmp_path: Path) -> None:
    config = tmp_path / "holdfast.toml"
    config.write_text('[node]\nstate_dir = "state"\n[worker.a\ncommand = x\n')
    assert place.state_dir_of(str(config)) == str(tmp_path / "state")
