"""What does a page say, and where does it lead?"""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from crawler_example import parsing

URL = "http://site.example/docs/index.html"


def links(text: str) -> dict[str, bool]:
    found: dict[str, bool] = parsing.parse(URL, text.encode()).links
    return found


def test_a_page_has_a_title_words_and_links() -> None:
    """What is kept of it: scripts and styles are no words, and a fragment is no page."""
    page = parsing.parse(
        URL,
        b"""<!doctype html><title> A   page
        </title><style>p { color: red }</style><body><p>three short words<script>var many, more, words</script>
        <a href="other.html#here">four</a><a href="other.html">five</a><map><area href="/map.html"></map>""",
    )

    assert page.title == "A page"
    assert page.words == 5
    assert page.links == {
        "http://site.example/docs/other.html": True,
        "http://site.example/map.html": True,
    }


def test_a_base_element_moves_all_links() -> None:
    """Documentation generators use it, and without it every link of theirs is a 404."""
    assert links('<base href="/manual/"><a href="a.html">') == {"http://site.example/manual/a.html": True}  # fmt: skip
    assert links('<base href="mailto:x"><a href="a.html">') == {"http://site.example/docs/a.html": True}  # fmt: skip


def test_nofollow_is_kept_and_not_followed() -> None:
    """On the link, or for the whole page; one free link to the same page frees it."""
    assert links('<a rel="nofollow noopener" href="a">') == {"http://site.example/docs/a": False}
    assert links('<meta name="ROBOTS" content="noindex, NoFollow"><a href="a">') == {
        "http://site.example/docs/a": False
    }
    assert links('<meta name=robots content=none><a href="a">') == {"http://site.example/docs/a": False}  # fmt: skip
    assert links('<a rel=nofollow href="a"><a href="a">') == {"http://site.example/docs/a": True}


def test_a_dump_of_links_is_cut_off() -> None:
    """A page of a million links is no reason to die of it."""
    many = "".join(f'<a href="{n}">' for n in range(parsing.MOST_LINKS + 100))

    assert len(links(many)) == parsing.MOST_LINKS


@given(st.text(alphabet="<>/=\"'ahrefbsmtc \x00é!-&;", max_size=200))
def test_no_page_is_too_broken(text: str) -> None:
    """It was written by strangers, by hand, in 1997."""
    page = parsing.parse(URL, text.encode())

    assert page.words >= 0
