"""Arguments of jobs: what is accepted where a job is enqueued is what the function gets in the worker, or nobody gets it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.sdk.job_args import Arguments, JobArgumentsError, Unusable


class Colour(Enum):
    RED = "red"


@dataclass
class Card:
    number: int
    due: datetime | None = None


class Point(msgspec.Struct):
    x: float


def there_and_back(
    function: Any, *args: Any, **kwargs: Any
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Pack arguments as `enqueue` does and unpack them as a worker does."""
    arguments = Arguments("shop.send", function)
    packed, named = arguments.pack(args, kwargs)
    fitted, by_name = arguments.bind(json.loads(packed), json.loads(json.dumps(named)))
    return tuple(fitted), by_name


def refused(function: Any, *args: Any, **kwargs: Any) -> str:
    with pytest.raises(JobArgumentsError) as caught:
        Arguments("shop.send", function).pack(args, kwargs)
    return str(caught.value)


def untyped(a, b=2, *, c=3): ...  # type: ignore[no-untyped-def]
def typed(a: int, b: str = "x", *, c: float = 0.5) -> None: ...
def rich(card: Card, when: date, ident: UUID, price: Decimal, colour: Colour, point: Point, raw: bytes, tags: set[str]) -> None: ...  # fmt: skip
def takes_more(a: int, *more, **named): ...  # type: ignore[no-untyped-def]


@pytest.mark.parametrize(
    ("args", "kwargs", "arrives"),
    [
        ((1,), {}, ((1,), {})), ((1, 5), {}, ((1, 5), {})), ((), {"a": 1, "b": 4}, ((1, 4), {})), ((1,), {"c": 7}, ((1,), {"c": 7})),
        ((None, {"x": [1.5, True, "é"]}), {}, ((None, {"x": [1.5, True, "é"]}), {})), (((1, 2),), {}, (([1, 2],), {})),
        ((2**80,), {}, ((2**80,), {})),
    ],
)  # fmt: skip
def test_plain_arguments_arrive_as_they_went(args: Any, kwargs: Any, arrives: Any) -> None:
    assert there_and_back(untyped, *args, **kwargs) == arrives


def test_named_arguments_travel_by_position_where_they_can() -> None:
    """A worker in Ruby knows no names; and it is shorter."""
    arguments = Arguments("shop.send", untyped)

    assert arguments.pack((), {"b": 5, "a": 1}) == (b"[1,5]", {})
    assert arguments.pack((1,), {"c": 7}) == (b"[1]", {"c": 7})


def test_a_gap_before_a_named_argument_is_left_to_the_default_of_the_code_that_runs() -> None:
    def three(a, b=2, c=3): ...  # type: ignore[no-untyped-def]

    assert Arguments("n", three).pack((1,), {"c": 9}) == (b"[1]", {"c": 9})


def test_annotated_values_are_themselves_again_in_the_worker() -> None:
    values = (
        Card(7, datetime(2026, 11, 22, 10, tzinfo=UTC)), date(2026, 1, 2), UUID(int=5), Decimal("1.10"),
        Colour.RED, Point(1.5), b"\x00\xff", {"a"},
    )  # fmt: skip

    assert there_and_back(rich, *values) == (values, {})


def test_what_is_checked_is_not_bent() -> None:
    assert refused(typed, "5") == "shop.send: argument \"a\": expected int, got str (value: '5')"
    assert refused(typed, 5, 6) == 'shop.send: argument "b": expected str, got int (value: 6)'
    assert 'argument "c": expected float, got str' in refused(typed, 5, c="much")
    assert 'argument "a": expected int, got float' in refused(typed, 5.5)


def test_a_value_deep_inside_is_named_by_its_place() -> None:
    def hang(card: Card) -> None: ...

    says = refused(hang, {"number": "seven"})

    assert says.startswith('shop.send: argument "card.number": expected int, got str (value: {')


@pytest.mark.parametrize(
    ("args", "kwargs", "says"),
    [
        ((), {}, 'argument "a" is missing'), ((1, 2, 3), {}, "takes 1 to 2 arguments by position, got 3"),
        ((1,), {"d": 1}, 'there is no argument "d"; known: a, b, c'), ((1,), {"a": 2}, 'argument "a" came twice'),
    ],
)  # fmt: skip
@pytest.mark.parametrize("function", [untyped, typed])
def test_a_call_that_the_function_would_refuse_is_refused_here(function: Any, args: Any, kwargs: Any, says: str) -> None:  # fmt: skip
    """Else it is refused in a worker, three weeks long."""
    assert refused(function, *args, **kwargs).startswith("shop.send: ")
    assert says in refused(function, *args, **kwargs)


@pytest.mark.parametrize(
    ("value", "says", "way"),
    [
        (datetime(2026, 1, 1, tzinfo=UTC), "a value of the type datetime", "annotate the parameter"), ({1: 2}, "keys that are no text", "texts as keys"),
        (float("nan"), "it is nan", "pass a text"), ([{"a": {3}}], "a value of the type set", "annotate the parameter"),
        (b"x", "a value of the type bytes", "annotate the parameter"), (object(), "a value of the type object", "annotate the parameter"),
    ],
)  # fmt: skip
def test_what_nothing_would_turn_back_is_refused(value: object, says: str, way: str) -> None:
    """A datetime without an annotation would arrive as a text, and be one only in production."""
    whole = refused(untyped, value)

    assert 'argument "a": it is' in whole
    assert says in whole
    assert way in whole


def test_numbers_that_json_has_not_are_refused_where_they_are_annotated_too() -> None:
    def wait(seconds: float) -> None: ...

    def mean(values: list[float | None], *, most: float | None = None) -> None: ...

    assert refused(wait, float("inf")) == 'shop.send: argument "seconds": JSON has no inf; pass None, or a text (value: inf)'  # fmt: skip
    # These fitted: None is welcome there, and was what arrived.
    assert 'argument "values": JSON has no nan' in refused(mean, [1.0, float("nan")])
    assert 'argument "most": JSON has no nan' in refused(mean, [], most=float("nan"))


def test_half_a_surrogate_pair_is_refused() -> None:
    assert "half a surrogate pair" in refused(untyped, "\udcff")
    assert "half a surrogate pair" in refused(untyped, 1, c="\udcff")


def test_what_contains_itself_is_refused() -> None:
    """A RecursionError out of the middle of the library names neither job nor reason."""
    ring: list[object] = []
    ring.append(ring)

    assert refused(untyped, ring) == "shop.send: an argument is nested too deeply, or contains itself"  # fmt: skip


def test_a_value_whose_repr_fails_does_not_hide_the_mistake() -> None:
    class Rude:
        def __repr__(self) -> str:
            raise RuntimeError

    assert "whose repr raises RuntimeError" in refused(untyped, Rude())


def test_variable_arguments_travel_as_well() -> None:
    assert there_and_back(takes_more, 1, 2, 3) == ((1, 2, 3), {})
    assert there_and_back(takes_more, 1, x=2) == ((1,), {"x": 2})
    assert "shop.send: argument 2: it is" in refused(takes_more, 1, {2})


def test_positional_only_and_required_keyword_only_parameters_are_kept() -> None:
    def strict(a: int, /, *, key: str) -> None: ...

    assert there_and_back(strict, 1, key="k") == ((1,), {"key": "k"})
    assert 'argument "key" is missing' in refused(strict, 1)
    assert 'there is no argument "a"' in refused(strict, a=1, key="k")


def test_what_comes_from_a_stranger_is_checked_in_the_worker() -> None:
    arguments = Arguments("shop.send", typed)

    with pytest.raises(JobArgumentsError, match='argument "a": expected int, got str'):
        arguments.bind(["5"], {})
    with pytest.raises(JobArgumentsError, match="is missing"):
        arguments.bind([], {})
    with pytest.raises(JobArgumentsError, match='there is no argument "z"'):
        arguments.bind([1], {"z": 1})
    with pytest.raises(JobArgumentsError, match="takes 1 to 2 arguments"):
        Arguments("shop.send", untyped).bind([1, 2, 3], {})
    with pytest.raises(JobArgumentsError, match='argument "key" is missing'):
        Arguments("n", lambda a, *, key: None).bind([1], {})  # noqa: ARG005


def test_defaults_are_those_of_the_code_that_runs() -> None:
    assert Arguments("n", typed).bind([1], {})[0] == (1, "x")
    assert Arguments("n", untyped).bind([1], {})[0] == [1]


def test_an_annotation_may_name_what_is_defined_further_down() -> None:
    arguments = Arguments("n", _uses_later)

    assert arguments.bind([{"x": 1}], {}) == ((Later(1),), {})


def _uses_later(value: Later) -> None: ...


class Later(msgspec.Struct):
    x: int


def test_an_annotation_that_is_not_there_at_run_time_is_said() -> None:
    def lost(value: Missing) -> None: ...  # type: ignore[name-defined]  # noqa: F821

    with pytest.raises(Unusable, match="names 'Missing'"):
        Arguments("n", lost).pack((1,), {})


def test_results_come_back_as_what_the_function_says_it_returns() -> None:
    def make() -> Card: ...  # type: ignore[empty-body]
    def say(): ...  # type: ignore[no-untyped-def]

    made = Arguments("n", make)
    assert made.result(json.loads(made.pack_result(Card(1)))) == Card(1)
    assert made.result("no card at all") == "no card at all"
    assert Arguments("n", say).result({"a": 1}) == {"a": 1}
    with pytest.raises(JobArgumentsError, match=r"n: its result \(<object.*\) cannot be kept"):
        made.pack_result(object())


def test_a_result_that_json_would_alter_is_not_kept() -> None:
    """A mean of nothing, nan, came back as None, which says something else."""
    made = Arguments("n", untyped)

    with pytest.raises(JobArgumentsError, match=r"its result .* cannot be kept: JSON has no nan"):
        made.pack_result([{"mean": float("nan")}])
    assert made.pack_result([None, 1.5]) == b"[null,1.5]"


@settings(max_examples=50)
@given(st.lists(st.recursive(st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(st.characters(exclude_categories=["Cs"])),
       lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner), max_leaves=8)))  # fmt: skip
def test_all_of_json_arrives_as_it_went(values: list[Any]) -> None:
    assert there_and_back(lambda *values: None, *values) == (tuple(values), {})  # noqa: ARG005
