"""How is a page got, without waiting for ever and without eating the memory? Asked of a real server."""

from __future__ import annotations

import socket
import threading
from typing import TYPE_CHECKING

import pytest

from crawler_example import fetching, odd, results, robots, rules

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from crawler_example import Served

Results = results.Results


def test_a_page_comes_with_its_kind_and_encoding(site: Served) -> None:
    """What the rules and the parser need, and no more."""
    answer = fetching.get(f"{site.url}/odd/latin")

    assert (answer.status, answer.kind, answer.charset) == (200, "text/html", "iso-8859-1")
    assert "Überseebrücke" in rules.decoded(answer.body, answer.charset)
    assert not answer.is_cut


def test_a_redirect_is_an_answer_and_not_followed(site: Served) -> None:
    """Its target is a page like any other: under the limits, asked of robots.txt, fetched once. A circle ends by itself."""
    answer = fetching.get(f"{site.url}/odd/moved")

    assert (answer.status, answer.location) == (302, "target.html?from=moved")
    assert site.asked() == ["/odd/moved"]


def test_what_is_no_page_is_not_taken(site: Served) -> None:
    """A picture, an error page: their bodies are nobody's business."""
    assert fetching.get(f"{site.url}/odd/picture.png") == rules.Answer(200, "image/png", size=len(odd.LOGO))  # fmt: skip
    assert fetching.get(f"{site.url}/nowhere").body == b""
    assert fetching.get(f"{site.url}/odd/failing").status == 500


def test_a_huge_page_is_cut_off(site: Served) -> None:
    """Sixteen megabytes are offered, a tenth of one is taken, and what was taken can be parsed."""
    answer = fetching.get(f"{site.url}/odd/huge", 100_000)

    assert len(answer.body) == 100_000
    assert answer.is_cut
    assert answer.size > odd.HUGE_BYTES


def test_a_page_that_never_ends_is_given_up(site: Served) -> None:
    """A byte every fifth of a second: no silence is long enough, so only a limit of the whole helps."""
    with pytest.raises(fetching.UnreachableError, match="not done in time"):
        fetching.get(f"{site.url}/odd/slow", whole_s=1.0)


def test_connections_are_used_again(site: Served) -> None:
    """A crawler that opens a connection for each page costs its host more than the pages do."""
    for path in ("/", "/nowhere", "/odd/moved", "/odd/picture.png", "/odd/failing", "/"):
        fetching.get(site.url + path)

    pool = fetching._pool.connection_from_url(site.url)
    assert pool.num_connections == 1
    assert pool.num_requests == 6


@pytest.fixture
def rude() -> Iterator[tuple[str, list[bytes]]]:
    """A server that sends, word for word, what it is told to, and hangs up."""
    says: list[bytes] = []
    listening = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            with connection:
                connection.recv(65536)
                connection.sendall(says[0] if says else b"")

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{listening.getsockname()[1]}/", says
    listening.shutdown(socket.SHUT_RDWR)
    listening.close()
    thread.join()


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"SMTP ready\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 100\r\n\r\nhalf",
        b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nno number\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\nnope",
    ],
    ids=["nothing", "no HTTP", "half of it", "bad chunks", "bad gzip"],
)
def test_an_answer_that_is_none_means_try_again(rude: tuple[str, list[bytes]], said: bytes) -> None:
    """Half a page that counts as a whole one is worse than none: its links would be missing, and nobody would know."""
    url, says = rude
    says.append(said)

    with pytest.raises(fetching.UnreachableError):
        fetching.get(url)


def test_nobody_at_home_means_try_again() -> None:
    """A refused connection is no traceback for anybody to read."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

    with pytest.raises(fetching.UnreachableError, match="refused"):
        fetching.get(f"http://127.0.0.1:{port}/")


def test_robots_are_asked_once_and_obeyed(site: Served, tmp_path: Path) -> None:
    """The group for everybody holds, with its wildcard; a second process asks the results, not the site."""
    kept = Results(tmp_path / "crawl.db")

    assert robots.allows(kept, f"{site.url}/odd/")
    assert not robots.allows(kept, f"{site.url}/private/secret.html")
    assert not robots.allows(kept, f"{site.url}/odd/target.html?print=1")
    assert robots.allows(Results(tmp_path / "crawl.db"), f"{site.url}/made/page-1.html")
    assert site.asked() == ["/robots.txt"]


def test_a_site_asks_for_patience(tmp_path: Path) -> None:
    """A group of our own name is ours alone."""
    kept = Results(tmp_path / "crawl.db")
    kept.keep_robots("http://slow.example", "User-agent: *\nCrawl-delay: 9\n\nUser-agent: holdfast-crawler\nCrawl-delay: 2.5\n")  # fmt: skip

    assert robots.delay_s(kept, "http://slow.example") == 2.5
    assert robots.delay_s(kept, "http://unknown.example") == 0


@pytest.mark.parametrize(("status", "allowed"), [(404, True), (403, True), (500, None), (429, None)])  # fmt: skip
def test_a_site_without_robots_allows_all_and_one_that_cannot_say_nothing(
    rude: tuple[str, list[bytes]], tmp_path: Path, status: int, allowed: bool | None
) -> None:
    """RFC 9309: "unavailable" is a yes, "unreachable" is a no."""
    url, says = rude
    says.append(f"HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n".encode())
    kept = Results(tmp_path / "crawl.db")

    if allowed is None:
        with pytest.raises(fetching.UnreachableError, match="cannot say"):
            robots.allows(kept, url)
        assert kept.robots(rules.origin(url)) is None
    else:
        assert robots.allows(kept, url) is allowed
