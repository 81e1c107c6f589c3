"""What our YAML says is what was meant, whatever the text."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.config.exporters import emit

yaml = pytest.importorskip("yaml")

TEXTS = st.one_of(
    st.text(),
    st.text(alphabet="\0\t\n\r\x85\u2028\ufeff'\"\\:-#{}[]%@&*!|>~,? é😀0123ex_.=<"),
    st.sampled_from(["no", "NO", "y", "1", "1.0", "1e3", "0x10", "0o7", "12:30:45", "1_000", "", "~", "=", "<<", "- a",
                     "2024-11-03", "null", ".inf", "true ", " a", "a: b", "a #b", "_1", "/", "---", "..."]),
)  # fmt: skip
VALUES = st.recursive(
    st.one_of(TEXTS, st.integers(), st.booleans(), st.none()),
    lambda below: st.one_of(st.lists(below, max_size=4), st.dictionaries(TEXTS, below, max_size=4)),
    max_leaves=12,
)


@given(VALUES)
@settings(deadline=None, max_examples=300)
def test_every_value_is_read_back_as_it_was_meant(value: object) -> None:
    """`NO` is a country, `12:30` is no number of seconds, and a password may have any sign in it."""
    assert yaml.safe_load(emit.document(value)) == value


@given(TEXTS)
@settings(deadline=None, max_examples=300)
def test_lines_for_a_person_are_read_back_letter_by_letter(text: str) -> None:
    """A configuration in a ConfigMap: one blank more, and it is another one."""
    assert yaml.safe_load(emit.document({"data": {"a.toml": emit.Lines(text), "b": 1}})) == {"data": {"a.toml": text, "b": 1}}  # fmt: skip


@given(st.floats(min_value=0, max_value=1e6))
@settings(deadline=None)
def test_a_number_of_cores_stays_a_number(value: float) -> None:
    """`1e-05` would be a text for a reader of YAML 1.1."""
    assert yaml.safe_load(emit.scalar(value)) == pytest.approx(value, abs=1e-6)


@given(st.text())
@settings(deadline=None)
def test_a_remark_stays_a_comment(remark: str) -> None:
    """A note repeats what stood in a configuration: no part of it may become a key."""
    assert yaml.safe_load(emit.document({"a": 1}, [remark])) == {"a": 1}
