"""What is a page, and what does an answer mean? Addresses, verdicts, encodings."""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote_to_bytes, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crawler_example import rules

Answer = rules.Answer

BASE = "http://site.example/docs/guide/index.html"


@pytest.mark.parametrize(
    ("link", "normal"),
    [
        ("page.html", "http://site.example/docs/guide/page.html"),
        ("../page.html", "http://site.example/docs/page.html"),
        ("../../../../page.html", "http://site.example/page.html"),
        ("./a/./b/../c/", "http://site.example/docs/guide/a/c/"),
        ("..", "http://site.example/docs/"),
        ("page.html#there", "http://site.example/docs/guide/page.html"),
        ("#there", BASE),
        ("", BASE),
        ("  page.html\n", "http://site.example/docs/guide/page.html"),
        ("pa\nge.html", "http://site.example/docs/guide/page.html"),
        ("?b=2&a=1", "http://site.example/docs/guide/index.html?b=2&a=1"),
        ("page.html?", "http://site.example/docs/guide/page.html"),
        ("HTTP://Site.Example:80", "http://site.example/"),
        ("https://site.example:443/x", "https://site.example/x"),
        ("http://site.example:8080/x", "http://site.example:8080/x"),
        ("//other.example/x", "http://other.example/x"),
        ("/%7euser/%41%2f%3f", "http://site.example/~user/A%2F%3F"),
        ("/a b/ü", "http://site.example/a%20b/%C3%BC"),
        ("/100%", "http://site.example/100%25"),
        ("http://bücher.example/", "http://xn--bcher-kva.example/"),
        ("http://[2001:DB8::1]:80/x", "http://[2001:db8::1]/x"),
        ("/?q=ü&x=%e4", "http://site.example/?q=%C3%BC&x=%E4"),
    ],
)
def test_two_spellings_of_a_page_are_one_page(link: str, normal: str) -> None:
    """Otherwise a site is crawled as often as there are ways to write it."""
    assert rules.normal(link, BASE) == normal


@pytest.mark.parametrize(
    "link",
    ["mailto:a@b.example", "javascript:void(0)", "data:text/html,x", "ftp://site.example/", "http://[::1", "http://a:99999/",
     "http://a:b/", "http://user:secret@site.example/", "http://site.example\\@evil/x", "/" + "long/" * 500, "http://\udcff.example/"],
)  # fmt: skip
def test_what_leads_to_no_page_is_no_link(link: str) -> None:
    """A crawler that chokes on one bad link of a page loses all the good ones."""
    assert rules.normal(link, BASE) is None


@given(st.text(max_size=60))
def test_any_text_is_a_link_or_none_and_a_normal_form_stays_as_it_is(text: str) -> None:
    """Strangers write the links, so there is nothing that does not occur."""
    normal = rules.normal(text, BASE)

    if normal is not None:
        assert rules.normal(normal) == normal
        assert normal.isascii()
        assert "#" not in normal
        assert " " not in normal


@given(st.text(alphabet=st.characters(codec="utf-8", exclude_characters="#?\t\r\n\\"), min_size=1, max_size=30))  # fmt: skip
def test_a_normal_path_names_the_same_bytes(text: str) -> None:
    """To write a page's name in another way is right, to ask for another page is not."""
    normal = rules.normal(f"/x{text}y", BASE)

    if normal is not None and "/." not in text and not text.startswith("/"):
        assert unquote_to_bytes(urlsplit(normal).path) == unquote_to_bytes(f"/x{text}y")


def test_a_site_is_an_origin() -> None:
    """Another port is another server, and so is https."""
    assert rules.origin("http://site.example:8080/a/b?c=//d") == "http://site.example:8080"
    assert rules.path("http://site.example:8080/a/b?c=//d") == "/a/b?c=//d"


@pytest.mark.parametrize(
    ("answer", "end"),
    [
        (Answer(200, "text/html"), rules.FETCHED),
        (Answer(200, "application/xhtml+xml"), rules.FETCHED),
        (Answer(200, "image/png"), rules.OTHER),
        (Answer(200, "", body=b" \n<!DOCTYPE html><p>"), rules.FETCHED),
        (Answer(200, "", body=b"%PDF-1.7"), rules.OTHER),
        (Answer(301, location="/x"), rules.MOVED),
        (Answer(304), rules.MISSING),
        (Answer(404, "text/html"), rules.MISSING),
        (Answer(410), rules.MISSING),
        (Answer(403), rules.MISSING),
        (Answer(429), rules.FAILED),
        (Answer(500), rules.FAILED),
        (Answer(503, "text/html"), rules.FAILED),
        (Answer(204), rules.MISSING),
    ],
)
def test_an_answer_is_the_end_of_a_page_or_something_to_parse(answer: Any, end: str) -> None:
    """One table says what becomes of a page; there is no answer without a verdict."""
    assert rules.end_of(answer) == end


@pytest.mark.parametrize(
    ("body", "charset", "text"),
    [
        ("Käse".encode(), "utf-8", "Käse"),
        ("Käse".encode("latin-1"), "ISO-8859-1", "Käse"),
        ("Käse — “gut”".encode("cp1252"), "iso-8859-1", "Käse — “gut”"),
        ("\ufeffKäse".encode(), "latin-1", "Käse"),
        ("\ufeffKäse".encode("utf-16-le"), "", "Käse"),
        ('<meta charset="koi8-r">Якорь'.encode("koi8-r"), "", '<meta charset="koi8-r">Якорь'),
        ("Käse".encode("cp1252"), "", "Käse"),
        ("Käse".encode(), "", "Käse"),
        ("Käse".encode(), "no-such-code", "Käse"),
        ("Käse".encode(), "hex", "Käse"),
        ("Käse".encode()[:2], "", "K"),
        (b"caf\xe9", "utf-8", "caf\ufffd"),
        (b"", "", ""),
    ],
)
def test_a_page_is_read_in_the_encoding_that_it_is_in(body: bytes, charset: str, text: str) -> None:
    """Whatever it says about itself, half a title is better than no page."""
    assert rules.decoded(body, charset) == text


@given(st.binary(max_size=300), st.text(max_size=12))
def test_any_bytes_have_a_text(body: bytes, charset: str) -> None:
    """A page that raises is a job that is tried again, and never better."""
    assert isinstance(rules.decoded(body, charset), str)
