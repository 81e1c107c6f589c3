"""Our frames and handshakes against those of the `websockets` package, both ways."""

import random
from typing import Any

import pytest

from holdfast.wire.websocket import (
    CLOSE,
    PING,
    PONG,
    TEXT,
    Accepted,
    ClientHandshake,
    Compressor,
    Deflate,
    Reader,
    accept,
    close_frame,
    frame,
    ping_frame,
    pong_frame,
    read_close,
)

pytest.importorskip("websockets", reason="the websockets package is not installed")

from websockets.client import ClientProtocol
from websockets.extensions.permessage_deflate import (
    ClientPerMessageDeflateFactory,
    ServerPerMessageDeflateFactory,
)
from websockets.frames import Opcode
from websockets.http11 import Request
from websockets.server import ServerProtocol
from websockets.typing import Subprotocol
from websockets.uri import parse_uri

NAMES = ["wamp.2.json"]
OFFERS = [None, Deflate(), Deflate(11, 12), Deflate(15, 15, True, True)]


def texts() -> list[bytes]:
    """Messages of all lengths, with words that come again."""
    chance = random.Random(5)
    sizes = (0, 1, 125, 126, 1000, 65535, 65536, 200000)
    return [" ".join(chance.choices(("ping", "änder", "x"), k=n)).encode()[:n].decode("utf-8", "ignore").encode() for n in sizes]  # fmt: skip


@pytest.mark.parametrize("deflate", OFFERS, ids=str)
def test_their_client_and_our_server_understand_each_other(deflate: Deflate | None) -> None:
    """Handshake, messages both ways, ping, pong, close."""
    extensions = [ClientPerMessageDeflateFactory()] if deflate else None
    theirs: Any = ClientProtocol(
        parse_uri("ws://localhost/ws"),
        subprotocols=[Subprotocol(n) for n in NAMES],
        extensions=extensions,
        max_size=1 << 20,
    )
    theirs.send_request(theirs.connect())
    request = b"".join(theirs.data_to_send())
    lines = [line.partition(b": ") for line in request.split(b"\r\n")[1:-2]]
    answer = accept(b"GET", [(name.lower(), value) for name, _, value in lines], NAMES, deflate)
    assert isinstance(answer, Accepted)
    theirs.receive_data(answer.response)
    assert theirs.handshake_exc is None
    assert (answer.deflate is None) == (deflate is None)
    theirs.events_received()

    _exchange(theirs, True, answer.deflate)


@pytest.mark.parametrize("deflate", OFFERS, ids=str)
def test_our_client_and_their_server_understand_each_other(deflate: Deflate | None) -> None:
    """The same with the roles exchanged."""
    extensions = [ServerPerMessageDeflateFactory()] if deflate else None
    theirs: Any = ServerProtocol(
        subprotocols=[Subprotocol(n) for n in NAMES], extensions=extensions, max_size=1 << 20
    )
    ours = ClientHandshake("localhost", "/ws", b"0123456789abcdef", NAMES, deflate)
    theirs.receive_data(ours.request)
    (request,) = theirs.events_received()
    assert isinstance(request, Request)
    theirs.send_response(theirs.accept(request))
    rest = ours.feed(b"".join(theirs.data_to_send()))
    assert rest == b""
    assert ours.subprotocol == "wamp.2.json"
    assert (ours.deflate is None) == (deflate is None)

    _exchange(theirs, False, ours.deflate)


def _exchange(theirs: Any, is_server: bool, deflate: Deflate | None) -> None:
    mask = None if is_server else b"\x01\x80\xff\x42"
    reader = Reader(is_server, 1 << 20, deflate, TEXT)
    compressor = Compressor(is_server, deflate) if deflate else None
    sent = texts()
    for text in sent:
        theirs.send_text(text)
        theirs.receive_data(
            compressor.frame(text, False, mask) if compressor else frame(text, False, mask)
        )
    theirs.send_text(sent[4][:500], fin=False)
    theirs.send_ping(b"there?")
    theirs.send_continuation(sent[4][500:], fin=True)
    theirs.receive_data(ping_frame(b"and you?", mask) + pong_frame(b"yes", mask))

    data = b"".join(theirs.data_to_send())
    messages = [
        message for at in range(0, len(data), 999) for message in reader.feed(data[at : at + 999])
    ]
    heard = theirs.events_received()

    assert messages == [*sent, sent[4]]
    assert reader.events == [(PING, b"there?"), (PONG, b"and you?")]
    assert [f.data for f in heard if f.opcode is Opcode.TEXT] == sent
    assert [f.data for f in heard if f.opcode in (Opcode.PING, Opcode.PONG)] == [b"and you?", b"yes"]  # fmt: skip

    theirs.receive_data(close_frame(3000, "enough", mask))
    assert (theirs.close_rcvd.code, theirs.close_rcvd.reason) == (3000, "enough")
    reader.events.clear()
    reader.feed(b"".join(theirs.data_to_send()))
    ((kind, payload),) = reader.events
    assert (kind, read_close(payload)) == (CLOSE, (3000, "enough"))
