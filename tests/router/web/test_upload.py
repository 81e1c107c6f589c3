"""Files come in whole or not at all, in any pieces, and a crash leaves nothing that looks like one."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.router.web.multipart import MultipartError, Parser, Part, boundary_of
from holdfast.router.web.upload import clean
from router.web.desk import SLOWNESS, Answer, Desk, Realm

if TYPE_CHECKING:
    from collections.abc import Iterator

FIELDS = {
    "file_name": "resumableFilename", "mime_type": "resumableType", "total_size": "resumableTotalSize",
    "chunk_number": "resumableChunkNumber", "chunk_size": "resumableChunkSize", "total_chunks": "resumableTotalChunks", "content": "file",
    "on_progress": "on_progress", "session": "session", "chunk_extra": "chunk_extra", "finish_extra": "finish_extra",
}  # fmt: skip
BOUNDARY = "----x7"


def form(fields: dict[str, Any], content: bytes | None, filename: str = "blob") -> bytes:
    lines = b"".join(
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{k}"\r\n\r\n{v}\r\n'.encode()
        for k, v in fields.items()
    )
    if content is not None:
        head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="{filename}"\r\nContent-Type: a/b\r\n\r\n'
        lines += head.encode() + content + b"\r\n"
    return lines + f"--{BOUNDARY}--\r\n".encode()


def send(
    desk: Desk, fields: dict[str, Any], content: bytes | None, filename: str = "blob"
) -> Answer:
    kind = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
    return desk.ask("POST", "/up", form(fields, content, filename), kind)


def chunk(desk: Desk, name: str, whole: bytes, number: int, size: int, **more: Any) -> Answer:
    chunks = -(-len(whole) // size)
    fields = {"resumableFilename": name, "resumableTotalSize": len(whole), "resumableChunkNumber": number, "resumableChunkSize": size,
              "resumableTotalChunks": chunks, **more}  # fmt: skip
    return send(desk, fields, whole[(number - 1) * size : number * size])


@pytest.fixture
def into(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    return tmp_path / "in"


def options(into: Path, **more: Any) -> dict[str, Any]:
    return {"kind": "upload", "realm": "r", "role": "web", "directory": str(into), "temp_directory": str(into.parent / "temp"),
            "form_fields": FIELDS, "max_file_size": 5 << 20, "file_types": None, "file_permissions": "0640", **more}  # fmt: skip


@pytest.fixture
def realm() -> Realm:
    return Realm()


@pytest.fixture
def desk(into: Path, realm: Realm) -> Iterator[Desk]:
    with Desk({"up": options(into)}, bridge=realm) as made:
        yield made


def left_in(into: Path) -> list[Path]:
    return [p for p in (into.parent / "temp").rglob("*") if p.is_file()]


def test_a_form_with_a_file_is_enough(desk: Desk, into: Path) -> None:
    """A plain HTML form knows nothing of chunks."""
    assert send(desk, {}, b"\r\n--hello\x00", "note.txt").status == 200
    assert (into / "note.txt").read_bytes() == b"\r\n--hello\x00"
    assert stat.S_IMODE((into / "note.txt").stat().st_mode) == 0o640
    assert left_in(into) == []


def test_chunks_in_any_order_become_the_file(desk: Desk, into: Path, realm: Realm) -> None:
    whole = os.urandom(2_500_000)
    more = {
        "on_progress": "com.progress",
        "session": 77,
        "chunk_extra": '{"a": 1}',
        "finish_extra": '{"b": 2}',
    }
    for number in (3, 1, 1):
        assert chunk(desk, "a.bin", whole, number, 1_000_000, **more).status == 200
        assert list(into.iterdir()) == []
    asked = "/up?resumableFilename=a.bin&resumableChunkNumber="
    assert [desk.get(asked + n).status for n in ("1", "2", "3")] == [200, 404, 200]
    assert chunk(desk, "a.bin", whole, 2, 1_000_000, **more).status == 200

    assert (into / "a.bin").read_bytes() == whole
    assert left_in(into) == []
    told = [args[0] for _, _, _, args, _, _ in realm.published]
    assert [e["status"] for e in told] == [
        "started",
        "progress",
        "progress",
        "progress",
        "finished",
    ]
    assert [e["remaining"] for e in told] == [2_500_000, 2_000_000, 1_000_000, 1_000_000, 0]
    assert (told[-1]["finish_extra"], told[-1]["chunk_extra"], told[-1]["progress"]) == (
        {"b": 2},
        {"a": 1},
        1.0,
    )
    assert realm.published[0][:3] == ("r", "web", "com.progress")
    assert realm.published[0][5]["eligible"] == [77]


def test_two_last_chunks_at_once_make_one_file(desk: Desk, into: Path) -> None:
    import threading

    whole = os.urandom(400_000)
    threads = [
        threading.Thread(target=chunk, args=(desk, "b.bin", whole, n, 50_000)) for n in range(1, 9)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert (into / "b.bin").read_bytes() == whole
    assert left_in(into) == []


@pytest.mark.parametrize("name", ["../x", "a/b", ".htaccess", "", "a\\b", "x" * 201, "a\nb"])
def test_a_name_is_a_name_and_no_path(desk: Desk, into: Path, name: str) -> None:
    assert send(desk, {"resumableFilename": name}, b"x").status == 400
    assert list(into.parent.rglob("x")) == []


@pytest.mark.parametrize(
    ("fields", "status"),
    [({"resumableTotalSize": 99}, 400), ({"resumableTotalSize": "-1"}, 400), ({"resumableChunkNumber": 0}, 400),
     ({"resumableChunkNumber": 3, "resumableTotalChunks": 2, "resumableTotalSize": 9}, 400), ({"resumableTotalSize": 6 << 20}, 413),
     ({"resumableTotalChunks": 10**9, "resumableTotalSize": 9}, 400), ({"chunk_extra": "{"}, 400), ({"session": "x"}, 400),
     ({"x": "y" * 70_000}, 413), ({f"f{n}": 1 for n in range(60)}, 413)],
)  # fmt: skip
def test_what_does_not_fit_is_refused_and_leaves_nothing(
    desk: Desk, into: Path, fields: dict[str, Any], status: int
) -> None:
    assert send(desk, {"resumableFilename": "f", **fields}, b"xyz").status == status
    assert (list(into.iterdir()), left_in(into)) == ([], [])


def test_limits_are_for_what_comes_not_for_what_is_said(desk: Desk, into: Path) -> None:
    """A lie about the size does not get more onto our disk."""
    assert send(desk, {"resumableTotalSize": 1}, b"x" * (6 << 20)).status == 413
    head = b"POST /up HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Type: multipart/form-data; boundary=----x7\r\n\r\n"
    body = form({}, b"x" * (6 << 20), "f")
    got = desk.raw(head + b"%x\r\n" % len(body) + body + b"\r\n")
    assert got.startswith(b"HTTP/1.1 413 ")
    whole = b"y" * 100
    assert chunk(desk, "g", whole, 1, 50).status == 200
    assert (
        send(
            desk,
            {
                "resumableFilename": "g",
                "resumableTotalSize": 100,
                "resumableTotalChunks": 2,
                "resumableChunkNumber": 2,
            },
            b"z" * 60,
        ).status
        == 400
    )
    assert (list(into.iterdir()), left_in(into)) == ([], [])


def test_only_these_types_and_one_upload_of_a_name(into: Path) -> None:
    with Desk({"up": options(into, file_types=[".TXT"])}) as desk:
        assert send(desk, {}, b"x", "a.exe").status == 415
        assert send(desk, {}, b"x", "a.Txt").status == 200
        assert chunk(desk, "b.txt", b"x" * 100, 1, 50).status == 200
        assert chunk(desk, "b.txt", b"y" * 150, 1, 50).status == 409
        assert desk.ask("POST", "/up", b"x", {"Content-Type": "text/plain"}).status == 415
        assert desk.ask("DELETE", "/up").status == 405
        assert send(desk, {}, None).status == 400


def test_a_form_that_breaks_off_leaves_nothing(desk: Desk, into: Path) -> None:
    whole = form({}, b"x" * 100_000, "f")
    head = f"POST /up HTTP/1.1\r\nHost: a\r\nContent-Type: multipart/form-data; boundary={BOUNDARY}\r\nContent-Length: {len(whole)}\r\n\r\n"
    sock = desk.dial()
    sock.sendall(head.encode() + whole[:50_000])
    desk.until(lambda: len(left_in(into)) == 1)
    sock.close()

    desk.until(lambda: left_in(into) == [])
    assert list(into.iterdir()) == []


def test_without_its_directory_an_upload_is_refused(into: Path) -> None:
    into.rmdir()
    with Desk({"up": options(into, temp_directory=None)}) as desk:
        assert send(desk, {}, b"x", "a").status == 503
        into.mkdir()
        assert send(desk, {}, b"x", "a").status == 200


SERVER = """
import asyncio, sys
from holdfast.router.web.connection import serve_http
from holdfast.router.web.site import Site

class Entrance(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport
    def data_received(self, data):
        serve_http(self.transport, data, site)

async def main():
    global site
    options = {"directory": sys.argv[1], "temp_directory": sys.argv[2], "form_fields": FIELDS, "max_file_size": 1 << 30}
    site = Site({"up": {"kind": "upload", "options": options, "websocket": None}})
    server = await asyncio.get_running_loop().create_server(Entrance, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()

asyncio.run(main())
"""


class Killed:
    """A server in a process of its own that is killed with SIGKILL."""

    def __init__(self, into: Path) -> None:
        program = f"FIELDS = {FIELDS!r}\n{SERVER}"
        source = Path(__file__).parents[3] / "src"
        self.process = subprocess.Popen(
            [sys.executable, "-c", program, str(into), str(into.parent / "temp")], stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(source)},
        )  # fmt: skip
        assert self.process.stdout is not None
        self.port = int(self.process.stdout.readline())

    dial = Desk.dial
    ask = Desk.ask

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()


def test_a_killed_router_leaves_no_half_file_and_the_upload_goes_on(into: Path) -> None:
    """SIGKILL in the middle of the second chunk: the first is there, the half of the second is gone, the third finishes the file."""
    whole = os.urandom(3_000_000)
    server: Any = Killed(into)
    try:
        assert chunk(server, "a.bin", whole, 1, 1_000_000).status == 200
        body = form({}, whole, "a.bin")
        head = f"POST /up HTTP/1.1\r\nHost: a\r\nContent-Type: multipart/form-data; boundary={BOUNDARY}\r\nContent-Length: {len(body)}\r\n\r\n"
        with server.dial() as sock:
            sock.sendall(head.encode() + body[:700_000])
            until = time.monotonic() + 20 * SLOWNESS
            while not [
                p for p in left_in(into) if p.name.startswith(".part-") and p.stat().st_size
            ]:
                assert time.monotonic() < until
                time.sleep(0.005)
            server.kill()
        assert list(into.iterdir()) == []
        assert [p for p in left_in(into) if p.name.startswith(".part-")] != []
        server = Killed(into)
        assert [p for p in left_in(into) if p.name.startswith(".part-")] == []
        asked = "/up?resumableFilename=a.bin&resumableChunkNumber="
        assert [server.ask("GET", asked + n).status for n in ("1", "2")] == [200, 404]
        for number in (2, 3):
            assert chunk(server, "a.bin", whole, number, 1_000_000).status == 200
    finally:
        server.kill()

    assert (into / "a.bin").read_bytes() == whole
    assert left_in(into) == []


def test_cleaning_leaves_alone_what_somebody_writes(into: Path) -> None:
    """A warm spare starts, and cleans, while the router before it is still at work."""
    server: Any = Killed(into)
    try:
        body = form({}, b"x" * 2_000_000, "f")
        head = f"POST /up HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Type: multipart/form-data; boundary={BOUNDARY}\r\nContent-Length: {len(body)}\r\n\r\n"
        with server.dial() as sock:
            sock.sendall(head.encode() + body[:500_000])
            until = time.monotonic() + 20 * SLOWNESS
            while not [p for p in left_in(into) if p.stat().st_size]:
                assert time.monotonic() < until
                time.sleep(0.005)
            clean(str(into.parent / "temp"), str(into.parent / "temp"), time.time())
            sock.sendall(body[500_000:])
            assert sock.recv(1000).startswith(b"HTTP/1.1 200 ")
        assert (into / "f").stat().st_size == 2_000_000
    finally:
        server.kill()


def test_uploads_that_nobody_goes_on_with_are_forgotten_after_a_week(
    desk: Desk, into: Path
) -> None:
    temp = str(into.parent / "temp")
    assert chunk(desk, "old", b"x" * 100, 1, 50).status == 200
    clean(temp, temp, time.time() + 6 * 86400)
    assert left_in(into) != []
    clean(temp, temp, time.time() + 8 * 86400)
    assert left_in(into) == []


def taken_apart(data: bytes, cuts: list[int]) -> list[tuple[Part, bytes]]:
    parser = Parser(BOUNDARY)
    found: list[tuple[Part, bytes]] = []
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    for start, end in pairwise(edges):
        for event in parser.feed(data[start:end]):
            if isinstance(event, Part):
                found.append((event, b""))
            else:
                found[-1] = (found[-1][0], found[-1][1] + event)
    assert parser.is_done
    return found


CONTENT = st.lists(
    st.sampled_from([b"\r\n", b"--", b"\r\n--", b"-", b"----x", b"7", b"\r", b"\n", b"a", b"\x00"]),
    max_size=12,
).map(b"".join)


@given(CONTENT, CONTENT, st.lists(st.integers(0, 10_000), max_size=8))
def test_any_content_in_any_pieces_comes_out_as_it_went_in(
    first: bytes, second: bytes, cuts: list[int]
) -> None:
    """Content that looks nearly like a boundary is where such parsers break."""
    line = f"--{BOUNDARY}".encode()
    if b"\r\n" + line in b"\r\n" + first or b"\r\n" + line in b"\r\n" + second:
        return
    field = line + b'\r\nContent-Disposition: form-data; name="a"\r\n\r\n' + first + b"\r\n"
    file = (
        line
        + b'\r\nContent-Disposition: form-data; name="file"; filename="x \\"y"\r\n\r\n'
        + second
        + b"\r\n"
    )

    found = taken_apart(field + file + line + b"--", cuts)

    assert found == [(Part("a", None), first), (Part("file", 'x "y'), second)]


@given(st.binary(max_size=300))
def test_junk_is_refused_or_waited_for_and_never_more(junk: bytes) -> None:
    parser = Parser(BOUNDARY)
    events: list[Part | bytes] = []
    try:
        events = parser.feed(f"--{BOUNDARY}".encode() + junk)
    except MultipartError as error:
        says = str(error)
    else:
        says = "it may go on"

    assert says
    assert sum(len(event) for event in events if isinstance(event, bytes)) <= len(junk)


@pytest.mark.parametrize(
    "kind",
    [
        "",
        "text/plain",
        "multipart/form-data",
        "multipart/form-data; boundary=",
        "multipart/form-data; boundary=" + "x" * 71,
    ],
)
def test_a_form_has_a_boundary(kind: str) -> None:
    with pytest.raises(MultipartError):
        boundary_of(kind)
    assert boundary_of('multipart/form-data; charset=utf-8; boundary="a b"') == "a b"
    assert json.dumps(boundary_of("Multipart/Form-Data;boundary=abc")) == '"abc"'
