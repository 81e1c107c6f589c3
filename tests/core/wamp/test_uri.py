"""URIs and patterns."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.core.wamp.uri import UriMap, fixed_runs, is_valid, matches_wildcard


@pytest.mark.parametrize(
    ("uri", "match", "check", "is_good"),
    [
        ("com.myapp.topic1", "exact", "loose", True),
        ("com.myapp.Töpic-1", "exact", "loose", True),
        ("com.myapp.Topic", "exact", "strict", False),
        ("com..topic", "exact", "loose", False),
        ("com..topic", "wildcard", "loose", True),
        ("com..topic", "wildcard", "strict", True),
        ("com..topic", "prefix", "loose", False),
        ("com.myapp.", "exact", "loose", False),
        ("com.myapp.", "prefix", "loose", True),
        ("", "exact", "loose", False),
        ("", "prefix", "loose", True),
        ("", "wildcard", "loose", True),
        ("com.my app", "exact", "loose", False),
        ("com.my#app", "exact", "loose", False),
        ("com.myapp\n", "exact", "loose", False),
        ("com.myapp\n", "exact", "strict", False),
        (".", "wildcard", "strict", True),
    ],
)
def test_uris_are_checked_by_the_rules_of_the_specification(
    uri: str, match: str, check: str, is_good: bool
) -> None:
    """A URI that only some routers take makes an application that runs only there."""
    assert is_valid(uri, match, check) is is_good


def test_a_hostile_uri_takes_no_time() -> None:
    """A pattern that backtracks lets one client stop the router for all."""
    began = time.process_time()

    for hostile in ("a" * 200_000 + "#", "a." * 100_000, "a." * 100_000 + " ", "." * 200_000):
        for match in ("exact", "prefix", "wildcard"):
            for check in ("loose", "strict"):
                is_valid(hostile, match, check)

    assert time.process_time() - began < 1.0


def test_the_best_match_is_that_of_the_specification() -> None:
    """The example of the chapter on pattern-based registrations.

    But for the dots that end its prefixes: by the same chapter, `a1.b2.c3` is a prefix of `a1.b2.c33`, too.
    """
    patterns = UriMap[int]()
    for number, uri, match in (
        (1, "a1.b2.c3.d4.e55", "exact"),
        (2, "a1.b2.c3.", "prefix"),
        (3, "a1.b2.c3.d4.", "prefix"),
        (4, "a1.b2..d4.e5", "wildcard"),
        (5, "a1.b2.c33..e5", "wildcard"),
        (6, "a1.b2..d4.e5..g7", "wildcard"),
        (7, "a1.b2..d4..f6.g7", "wildcard"),
    ):
        patterns.add(uri, match, number)

    assert patterns.best("a1.b2.c3.d4.e55") == 1
    assert patterns.best("a1.b2.c3.d98.e74") == 2
    assert patterns.best("a1.b2.c3.d4.e325") == 3
    assert patterns.best("a1.b2.c55.d4.e5") == 4
    assert patterns.best("a1.b2.c33.d4.e5") == 5
    assert patterns.best("a1.b2.c88.d4.e5.f6.g7") == 6
    assert patterns.best("a2.b2.c2.d2.e2") is None


PARTS = st.sampled_from(["a", "b", "", "ab"])
PATTERNS = st.lists(PARTS, min_size=1, max_size=4).map(".".join)
URIS = st.lists(st.sampled_from(["a", "b", "ab"]), min_size=1, max_size=4).map(".".join)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(["exact", "prefix", "wildcard"]), PATTERNS, st.booleans())),
    URIS,
)
def test_matching_finds_what_comparing_each_pattern_finds(
    steps: list[tuple[str, str, bool]], uri: str
) -> None:
    """The trie and the table of lengths are only there to be faster."""
    patterns = UriMap[tuple[str, str]]()
    naive: set[tuple[str, str]] = set()
    for match, pattern, is_added in steps:
        key = (match, pattern)
        if is_added and key not in naive:
            naive.add(key)
            patterns.add(pattern, match, key)
        elif not is_added and key in naive:
            naive.remove(key)
            patterns.remove(pattern, match)

    def matches(key: tuple[str, str]) -> bool:
        match, pattern = key
        if match == "exact":
            return pattern == uri
        return uri.startswith(pattern) if match == "prefix" else matches_wildcard(pattern, uri)

    expected = {key for key in naive if matches(key)}
    found = patterns.matching(uri)
    assert len(found) == len(expected)
    assert set(found) == expected
    assert len(patterns) == len(naive)
    best = patterns.best(uri)
    if not expected:
        assert best is None
    else:
        order = {"exact": 2, "prefix": 1, "wildcard": 0}
        assert best is not None
        assert best in expected
        assert order[best[0]] == max(order[match] for match, _ in expected)
        rivals = [pattern for match, pattern in expected if match == best[0]]
        if best[0] == "prefix":
            assert len(best[1]) == max(map(len, rivals))
        if best[0] == "wildcard":
            assert fixed_runs(best[1]) == max(map(fixed_runs, rivals))


def test_what_was_removed_leaves_nothing_behind() -> None:
    """A trie that only grows is a leak that a client can feed."""
    patterns = UriMap[int]()
    for number in range(100):
        patterns.add(f"a..{number}.b", "wildcard", number)
        patterns.add(f"a.{'x' * number}", "prefix", number)
    for number in range(100):
        patterns.remove(f"a..{number}.b", "wildcard")
        patterns.remove(f"a.{'x' * number}", "prefix")

    assert patterns._wild == {}
    assert patterns._lengths == {}
    assert patterns.matching("a.x.1.b") == []
