"""Values for the tests of the codecs."""

from typing import Any

from hypothesis import strategies as st

#: What every serializer has, and gives back as it came.
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    # A string that begins with U+0000 stands for binary data in JSON.
    | st.text().filter(lambda text: not text.startswith("\0"))
)
values: st.SearchStrategy[Any] = st.recursive(
    scalars | st.binary(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
arguments = st.lists(values, max_size=4)
keywords = st.dictionaries(st.text(), values, max_size=4)


def nested(levels: int) -> list[Any]:
    """Lists in lists."""
    value: list[Any] = []
    for _ in range(levels - 1):
        value = [value]
    return value
