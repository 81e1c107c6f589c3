"""Errors that cross the wire."""

from __future__ import annotations

import pytest

from holdfast.bus.errors import (
    BY_URI,
    CallTimeout,
    NoSuchProcedure,
    WampError,
    error,
    from_wire,
    to_wire,
)


@error("com.test.full")
class Full(Exception):  # noqa: N818
    """An application's own."""

    def __init__(self, room: str, *, limit: int = 0) -> None:
        super().__init__(room)
        self.kwargs = {"limit": limit}


@error("com.test.picky")
class Picky(Exception):  # noqa: N818
    def __init__(self, a: int, b: int) -> None:
        super().__init__(a // b)


def test_an_exception_with_a_uri_comes_back_as_itself() -> None:
    """Caller and callee share the class: `except Full` works across processes."""
    uri, args, kwargs = to_wire(Full("kitchen", limit=3))
    made = from_wire(uri, args, kwargs)

    assert (uri, args, kwargs) == ("com.test.full", ["kitchen"], {"limit": 3})
    assert isinstance(made, Full)
    assert made.kwargs == {"limit": 3}


@pytest.mark.parametrize("args", [[], [1], [1, 0], ["x", "y"]])
def test_arguments_that_a_class_cannot_take_do_no_harm(args: list[object]) -> None:
    """The other side may be another version; the URI is what counts."""
    made = from_wire("com.test.picky", args, {})

    assert isinstance(made, WampError)
    assert made.uri == "com.test.picky"
    assert list(made.args) == args


def test_any_other_exception_is_a_runtime_error_without_traceback() -> None:
    """Type and text help the caller; file names and lines are nobody's business outside."""
    try:
        raise KeyError("secret_table")
    except KeyError as raised:
        said = to_wire(raised)

    assert said == ("wamp.error.runtime_error", ["KeyError: 'secret_table'"], {"type": "KeyError"})


@pytest.mark.parametrize("uri", [uri for uri in BY_URI if uri.startswith("wamp.")])
def test_every_standard_error_says_what_it_means_and_what_was_being_done(uri: str) -> None:
    """A URI alone does not help at 3 am."""
    bare = from_wire(uri, [], {}, "calling com.app.add")
    told = from_wire(uri, ["the words of the router", 2, 3], {"k": 1})

    assert isinstance(told, WampError)
    assert str(bare).startswith("calling com.app.add: ")
    assert str(bare).endswith(f" ({uri})")
    assert len(str(bare)) > len(f"calling com.app.add:  ({uri})")
    assert str(told) == f"the words of the router ({uri})"
    assert (told.args, told.kwargs) == (("the words of the router", 2, 3), {"k": 1})


def test_a_timeout_is_what_python_calls_a_timeout() -> None:
    """`except TimeoutError` catches it, as it does everywhere in asyncio."""
    assert isinstance(from_wire("wamp.error.timeout", [], {}), TimeoutError)
    assert isinstance(from_wire("wamp.error.no_such_procedure", [], {}), NoSuchProcedure)
    assert not isinstance(NoSuchProcedure(), CallTimeout)


def test_an_error_needs_a_uri() -> None:
    """`@error` without brackets is an easy mistake."""
    with pytest.raises(ValueError, match="has to be a text"):
        error(Full)  # type: ignore[arg-type]
