"""What does a WAMP message cost in each serializer, and a frame on each transport?

    python bench/wamp_codecs.py [--seconds 0.3] [--json]

Processor time of this process, best of many rounds, for a CALL with one string of 100 bytes: decoded (with the check of what is passed on),
forwarded as an INVOCATION in the same serializer, transcoded from MessagePack, made from Python objects, opened. Then what a
frame costs when 60 of them come in one chunk. Goals: decode 1 µs and encode 0.4 µs (JSON, MessagePack), 4 µs (CBOR); a frame below 1 µs.
"""

import argparse
import json
import time

from holdfast.core.wamp.messages import Objects
from holdfast.wire import rawsocket, websocket
from holdfast.wire.wamp import CODECS, open_payload

CALL = [48, 123456789, {}, "com.example.echo"]
INVOCATION = [68, 12345678, 87654321, {}]
PAYLOAD = Objects(["x" * 100])


def cost_us(action, seconds, size=1):
    """The least processor time of a call, in µs."""
    best, count, end = 1e9, 200, time.perf_counter() + seconds
    while time.perf_counter() < end:
        begin = time.process_time_ns()
        for _ in range(count):
            action()
        best = min(best, (time.process_time_ns() - begin) / count / size / 1000)
    return round(best, 3)


def codecs(seconds):
    """One row a serializer."""
    foreign = {name: codec.decode(codec.encode(CALL, PAYLOAD)) for name, codec in CODECS.items()}
    for name in ("json", "msgpack", "cbor"):
        codec = CODECS[name]
        wire, message = codec.encode(CALL, PAYLOAD), foreign[name]
        other = foreign["json" if name == "msgpack" else "msgpack"]
        yield {
            "what": name,
            "bytes": len(wire),
            "decode_us": cost_us(lambda c=codec, w=wire: c.decode(w), seconds),
            "pass_on_us": cost_us(lambda c=codec, m=message: c.encode(INVOCATION, m), seconds),
            "transcode_us": cost_us(lambda c=codec, m=other: c.encode(INVOCATION, m), seconds),
            "objects_us": cost_us(lambda c=codec: c.encode(INVOCATION, PAYLOAD), seconds),
            "open_us": cost_us(lambda m=message: open_payload(m), seconds),
        }


def frames(seconds):
    """One row a kind of frame, 60 in one chunk."""
    wire = CODECS["json"].encode(CALL, PAYLOAD)
    for what, reader, chunk in (
        ("websocket, masked", websocket.Reader(True, 1 << 20, None, websocket.TEXT), websocket.frame(wire, False, b"abcd")),
        ("websocket, mask 0", websocket.Reader(True, 1 << 20, None, websocket.TEXT), websocket.frame(wire, False, bytes(4))),
        ("websocket, client", websocket.Reader(False, 1 << 20, None, websocket.TEXT), websocket.frame(wire, False)),
        ("rawsocket", rawsocket.Reader(1 << 20), rawsocket.frame(wire)),
    ):  # fmt: skip
        chunks = chunk * 60
        yield {"what": what, "read_us": cost_us(lambda r=reader, c=chunks: r.feed(c), seconds, 60)}
    yield {"what": "websocket", "write_us": cost_us(lambda: websocket.frame(wire, False), seconds)}
    yield {"what": "rawsocket", "write_us": cost_us(lambda: rawsocket.frame(wire), seconds)}


def main():
    """Measure and print."""
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--seconds", type=float, default=0.3, help="for each figure")
    options.add_argument("--json", action="store_true", help="one JSON object a row")
    chosen = options.parse_args()
    for row in (*codecs(chosen.seconds), *frames(chosen.seconds)):
        if chosen.json:
            print(json.dumps(row))
        else:
            figures = (f"{key} {value}" for key, value in row.items() if key != "what")
            print(f"{row['what']:18}", "  ".join(figures))


if __name__ == "__main__":
    main()
