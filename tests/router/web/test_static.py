"""Files: what is found, what is never found, and what browsers and proxies are told about it."""

from __future__ import annotations

import gzip
import os
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from holdfast.router.web.head import Refused
from holdfast.router.web.paths import open_below, parts_of
from router.web.desk import Desk

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def web(tmp_path: Path) -> Path:
    root = tmp_path / "web"
    (root / "sub" / ".git").mkdir(parents=True)
    (root / ".well-known").mkdir()
    (root / "index.html").write_text("<h1>home</h1>")
    (root / "sub" / "page.html").write_text("page")
    (root / "sub" / ".git" / "config").write_text("secret")
    (root / ".env").write_text("secret")
    (root / ".well-known" / "token").write_text("public")
    (root / "ä b.txt").write_text("umlaut")
    (root / "big.bin").write_bytes(bytes(range(256)) * 4096)
    (tmp_path / "outside.txt").write_text("secret")
    (root / "out.txt").symlink_to(tmp_path / "outside.txt")
    (root / "outdir").symlink_to(tmp_path)
    (root / "in.txt").symlink_to(root / "sub" / "page.html")
    os.mkfifo(root / "pipe")
    return root


@pytest.fixture
def desk(web: Path) -> Iterator[Desk]:
    listed = {
        "kind": "static",
        "directory": str(web),
        "enable_directory_listing": True,
        "cache_timeout_s": 60,
    }
    plain = {
        "kind": "static",
        "directory": str(web),
        "mime_types": {".bin": "x/y"},
        "cache_timeout_s": None,
    }
    single = {**plain, "fallback": "index.html"}
    with Desk({"/": listed, "plain": plain, "app": single}) as made:
        yield made


def test_a_file_comes_with_what_caches_need(desk: Desk) -> None:
    got = desk.get("/sub/page.html")

    assert (got.status, got.body) == (200, b"page")
    assert got.headers["content-type"] == "text/html; charset=utf-8"
    assert got.headers["cache-control"] == "public, max-age=60"
    assert got.headers["x-content-type-options"] == "nosniff"
    again = desk.get("/sub/page.html", if_none_match=got.headers["etag"])
    assert (again.status, again.body, again.headers["etag"]) == (304, b"", got.headers["etag"])
    assert desk.get("/sub/page.html", if_modified_since=got.headers["last-modified"]).status == 304
    assert (
        desk.get(
            "/sub/page.html",
            if_none_match='"other"',
            if_modified_since=got.headers["last-modified"],
        ).status
        == 200
    )
    assert desk.get("/sub/page.html", if_match='"other"').status == 412


def test_a_changed_file_is_another_one(desk: Desk, web: Path) -> None:
    """Two versions within a second: Last-Modified cannot tell them apart, the ETag has to."""
    before = desk.get("/sub/page.html").headers["etag"]
    (web / "sub" / "page.html").write_text("PAGE")
    os.utime(
        web / "sub" / "page.html", ns=(1, (web / "sub" / "page.html").stat().st_mtime_ns + 1000)
    )

    assert desk.get("/sub/page.html", if_none_match=before).body == b"PAGE"


def test_directories_have_an_index_a_listing_or_nothing(desk: Desk) -> None:
    assert desk.get("/").body == b"<h1>home</h1>"
    listing = desk.get("/sub/").text
    assert 'href="./page.html"' in listing
    assert ".git" not in listing
    assert desk.get("/plain/sub/").status == 404
    moved = desk.get("/sub?a=b")
    assert (moved.status, moved.headers["location"]) == (301, "/sub/?a=b")
    assert desk.get("/sub/page.html/").status == 404


def test_a_redirect_never_leads_to_another_host(desk: Desk) -> None:
    """`//evil.example/sub` is a path to us, and a host to a browser."""
    got = desk.raw(b"GET //sub HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")

    assert b"Location: /sub/\r\n" in got


@pytest.mark.parametrize(
    "path",
    ["/.env", "/sub/.git/config", "/../outside.txt", "/%2e%2e/outside.txt", "/sub/..%2f..%2foutside.txt", "/out.txt", "/outdir/outside.txt",
     "/plain/../../outside.txt", "/sub/%2e/page.html", "/pipe", "/no", "/" + "a" * 300, "/index.html/x", "/%5c..%5coutside.txt", "/sub//../.env"],
)  # fmt: skip
def test_what_is_hidden_outside_or_no_file_is_not_there(desk: Desk, path: str) -> None:
    got = desk.raw(f"GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode())

    assert got.startswith(b"HTTP/1.1 404 ")
    assert b"secret" not in got


def test_links_within_and_well_known_names_are_fine(desk: Desk) -> None:
    assert desk.get("/in.txt").body == b"page"
    assert desk.get("/.well-known/token").body == b"public"
    assert desk.get("/" + quote("ä b.txt")).body == b"umlaut"


def test_a_big_file_arrives_whole_and_in_parts(desk: Desk, web: Path) -> None:
    whole = (web / "big.bin").read_bytes()
    got = desk.get("/big.bin")
    assert (got.body, got.headers["accept-ranges"], got.headers["content-type"]) == (
        whole,
        "bytes",
        "application/octet-stream",
    )
    for asked, start, end in (("bytes=10-19", 10, 20), ("bytes=1048000-", 1048000, 1048576), ("bytes=-7", 1048569, 1048576),
                              ("bytes=0-99999999", 0, 1048576), ("bytes=100-700000", 100, 700001)):  # fmt: skip
        part = desk.get("/big.bin", range=asked)
        assert (part.status, part.body) == (206, whole[start:end])
        assert part.headers["content-range"] == f"bytes {start}-{end - 1}/1048576"
    beyond = desk.get("/big.bin", range="bytes=1048576-")
    assert (beyond.status, beyond.headers["content-range"]) == (416, "bytes */1048576")
    assert desk.get("/big.bin", range="bytes=5-2").status == 200
    assert desk.get("/big.bin", range="bytes=0-1,3-4").status == 200
    assert desk.get("/big.bin", range="bytes=0-4", if_range='"old"').status == 200
    assert desk.get("/big.bin", range="bytes=0-4", if_range=got.headers["etag"]).body == whole[:5]
    head = desk.ask("HEAD", "/big.bin")
    assert (head.headers["content-length"], head.body) == ("1048576", b"")
    assert desk.get("/plain/big.bin").headers["content-type"] == "x/y"
    assert desk.get("/plain/big.bin").headers["cache-control"] == "no-cache"


def test_a_packed_file_is_sent_to_who_can_unpack_it(desk: Desk, web: Path) -> None:
    packed = web / "sub" / "page.html.gz"
    packed.write_bytes(gzip.compress(b"page, packed"))
    os.utime(packed, ns=(1, (web / "sub" / "page.html").stat().st_mtime_ns))
    got = desk.get("/sub/page.html", accept_encoding="br, gzip")

    assert (gzip.decompress(got.body), got.headers["content-encoding"]) == (b"page, packed", "gzip")
    assert got.headers["content-type"].startswith("text/html")
    plain = desk.get("/sub/page.html", accept_encoding="gzip;q=0")
    assert (plain.body, plain.headers["vary"]) == (b"page", "Accept-Encoding")
    assert plain.headers["etag"] != got.headers["etag"]
    assert desk.get("/sub/page.html.gz").headers["content-type"] == "application/gzip"
    os.utime(packed, ns=(1, 1))
    assert desk.get("/sub/page.html", accept_encoding="gzip").body == b"page"


def test_a_single_page_application_gets_its_page_for_every_path(desk: Desk) -> None:
    assert desk.get("/app/board/7").body == b"<h1>home</h1>"
    assert desk.get("/app/sub/page.html").body == b"page"
    assert desk.get("/app/.env").body == b"<h1>home</h1>"


def test_other_methods_are_refused(desk: Desk) -> None:
    got = desk.ask("DELETE", "/index.html")

    assert (got.status, got.headers["allow"]) == (405, "GET, HEAD")


def test_a_page_brings_the_cookie_of_the_sign_in(web: Path) -> None:
    """And nobody between us and the browser may keep it."""
    static: dict[str, Any] = {"kind": "static", "directory": str(web), "cache_timeout_s": 60}
    with Desk(
        {"/": static}, set_cookie=lambda head: None if head.get(b"cookie") else "id=1; HttpOnly"
    ) as desk:
        got = desk.get("/")
        assert (got.headers["set-cookie"], got.headers["cache-control"]) == (
            "id=1; HttpOnly",
            "private, no-cache",
        )
        assert "set-cookie" not in desk.get("/", cookie="id=1").headers
        assert "set-cookie" not in desk.get("/big.bin").headers


def test_a_missing_directory_is_a_warning_and_404(tmp_path: Path) -> None:
    """It may come with the next deployment; the router routes meanwhile."""
    with Desk({"/": {"kind": "static", "directory": str(tmp_path / "later")}}) as desk:
        assert desk.get("/").status == 404
        assert desk.log.lines[0][:2] == ("warning", "no such directory")
        (tmp_path / "later").mkdir()
        (tmp_path / "later" / "index.html").write_text("now")
        assert desk.get("/").body == b"now"


def test_files_of_a_package_are_served() -> None:
    with Desk(
        {
            "/": {"kind": "static", "package": "email", "resource": "mime"},
            "x": {"kind": "static", "package": "no_such", "resource": "y"},
        }
    ) as desk:
        assert desk.get("/text.py").status == 200
        assert desk.get("/x/").status == 503
        assert "no_such cannot be imported" in desk.site.problems[0]


def test_no_descriptor_is_left_open(desk: Desk) -> None:
    desk.get("/")
    before = len(os.listdir("/proc/self/fd"))
    for path in (
        "/",
        "/sub/",
        "/sub",
        "/no",
        "/pipe",
        "/out.txt",
        "/big.bin",
        "/sub/page.html",
        "/app/x",
    ):
        desk.get(path)

    desk.until(lambda: len(os.listdir("/proc/self/fd")) <= before)


NAMES = st.sampled_from(["..", ".", "", "a", "sub", "page.html", "out.txt", "outdir", "outside.txt", "in.txt", ".git", "config", "\\", "~",
                         "a\x00", "pipe", "web", "\u202e", "x" * 256, "\ud800"])  # fmt: skip


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(NAMES, max_size=6).map("/".join))
def test_nothing_outside_is_ever_opened(web: Path, path: str) -> None:
    """Whatever the path: what is opened lies below the root, and is a file or directory."""
    statuses, opened = [404], None
    try:
        opened = open_below(str(web), parts_of(path))
    except Refused as refused:
        statuses = [refused.status]
    if opened is None:
        assert statuses in ([403], [404])
        return
    try:
        real = os.readlink(f"/proc/self/fd/{opened.fd}")
        assert os.path.commonpath([real, str(web)]) == str(web)
        assert ".git" not in real
    finally:
        os.close(opened.fd)
