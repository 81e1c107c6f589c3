"""One look at one thing, of whatever kind: does it do what it should, and how long does it take?

Each look has a deadline that nothing in it can move. What is wrong is a sentence for a person, never a traceback.
"""

import asyncio
import os
import re
import socket
import ssl
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from holdfast.cli.probes import dns, pages
from holdfast.cli.probes.kinds import split_host
from holdfast.cli.probes.reaching import Connected, Failed, Look, addresses, close, connect, context

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from holdfast.cli.probes.load import Probe

_BANNER = 1 << 16
#: A question that is lost is asked again after this time.
_ASK_AGAIN_S = 0.5
_DAY_S = 86400.0


class Result(NamedTuple):
    """What a look saw."""

    is_good: bool
    says: str  #: why it is not good; otherwise what was seen
    took_s: float


async def look(probe: "Probe") -> Result:
    """Look once; this never raises, and returns within the probe's time."""
    began_s = time.monotonic()
    one = Look(probe.timeout_s)
    try:
        async with asyncio.timeout(probe.timeout_s):
            await _KINDS[probe.kind](probe.given, one)
    except Failed as error:
        return Result(False, str(error), time.monotonic() - began_s)
    except TimeoutError:
        says = f"not done within {probe.timeout_s:g} s: {one.doing}"
        return Result(False, says, time.monotonic() - began_s)
    except Exception as error:  # noqa: BLE001 -- the outermost loop of a look: the others go on
        says = f"holdfast made a mistake: {type(error).__name__}: {error}"
        return Result(False, says, time.monotonic() - began_s)
    took_s = time.monotonic() - began_s
    if took_s > probe.slow_s:
        return Result(
            False, f"it took {took_s:.2f} s; {probe.slow_s:g} s are allowed ({one.detail})", took_s
        )
    return Result(True, one.detail, took_s)


async def _tcp(given: "Mapping[str, Any]", one: Look) -> None:
    host, port = split_host(given["address"])
    connected = await connect(host, port, one)
    try:
        if "send" in given:
            connected.writer.write(given["send"].encode())
        if "expect" in given:
            one.doing = f"waiting for {given['expect']!r}"
            one.detail = await _expected(connected, given["expect"])
        else:
            one.detail = "connected"
    except OSError as error:
        raise Failed(f"the connection was cut: {error.strerror or error}") from None
    finally:
        await close(connected)


async def _expected(connected: Connected, pattern: str) -> str:
    data = b""
    while len(data) < _BANNER:
        more = await connected.reader.read(4096)
        data += more
        text = data.decode("utf-8", "replace")
        found = re.search(pattern, text, re.MULTILINE)
        if found:
            return found[0][:80].strip()
        if not more:
            break
    said = data.decode("utf-8", "replace")[:80].strip()
    raise Failed(
        f"nothing matches {pattern!r}; it says {said!r}" if data else "it hung up without a word"
    )


async def _tls(given: "Mapping[str, Any]", one: Look) -> None:
    host, port = split_host(given["address"])
    secure = context(given.get("ca_file", ""), True)
    connected = await connect(host, port, one, secure, given.get("server_name", ""))
    try:
        tls = connected.writer.get_extra_info("ssl_object")
        found: dict[str, Any] = tls.getpeercert() or {}
        left_days = (ssl.cert_time_to_seconds(found["notAfter"]) - time.time()) / _DAY_S
    finally:
        await close(connected)
    if left_days < given["days"]:
        raise Failed(
            f"its certificate ends in {left_days:.1f} days, on {found['notAfter']}; {given['days']:g} are wanted"
        )
    one.detail = f"{left_days:.0f} days left, {tls.version()}"


async def _wamp(given: "Mapping[str, Any]", one: Look) -> None:
    # Imported here: who asks no router need not pay for its client.
    from holdfast.bus import urls
    from holdfast.bus.dialling import dial
    from holdfast.bus.errors import BusError
    from holdfast.bus.session import ClientSession

    url = urls.parse(given["url"])
    if url.host:
        await addresses(
            url.host, one
        )  # a name server that hangs is found out here, where it holds up nobody else
    one.doing = f"joining {given['realm']} at {url.text}"
    secure = context(given.get("ca_file", ""), given["verify"]) if url.is_tls else None
    try:
        joined = await dial(url, given["realm"], auth=given.get("auth"), ping_s=0.0, ssl=secure)
    except BusError as error:
        raise Failed(f"{url.text}: {_first_line(error)}") from None
    session = ClientSession(joined.link, joined.session_id, joined.realm, joined.details)
    try:
        for message in joined.rest:
            session.receive(message)
        one.doing = f"waiting for the answer of {given['procedure']}"
        found = await session.call_with(
            given["procedure"], given.get("args", []), given.get("kwargs", {})
        )
    except BusError as error:
        raise Failed(f"{given['procedure']}: {_first_line(error)}") from None
    finally:
        session.lost("looked")
        joined.link.abort("looked")
    if "result" in given and found != given["result"]:
        raise Failed(f"{given['procedure']} returns {found!r:.80}, not {given['result']!r:.80}")
    one.detail = f"{given['procedure']} answers"


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]


# -- names -----------------------------------------------------------------------------------------


async def _dns(given: "Mapping[str, Any]", one: Look) -> None:
    if "server" in given:
        found = await _asked(given, one)
    else:
        family = socket.AF_INET if given["type"] == "A" else socket.AF_INET6
        found = await addresses(given["record"], one, family)
    wanted = [_canonical(text) for text in given.get("equals", given.get("has", ()))]
    there = {_canonical(text) for text in found}
    missing = [text for text in wanted if text not in there]
    told = ", ".join(sorted(found)[:4]) + (" …" if len(found) > 4 else "")
    if missing:
        raise Failed(
            f"{given['type']} of {given['record']} is {told}, without {', '.join(missing)}"
        )
    if "equals" in given and there - set(wanted):
        raise Failed(
            f"{given['type']} of {given['record']} is {told}; {', '.join(sorted(there - set(wanted)))} is too much"
        )
    one.detail = told


def _canonical(text: str) -> str:
    return text.rstrip(".").lower() if " " not in text or text.partition(" ")[0].isdigit() else text


async def _asked(given: "Mapping[str, Any]", one: Look) -> list[str]:
    host, port = split_host(given["server"])
    server = (await addresses(host, one))[0]
    record, sort = given["record"], given["type"]
    one.doing = f"asking {given['server']}"
    try:
        asked = dns.question(int.from_bytes(os.urandom(2)), record, sort)
        said = await _by_udp(asked, server, port)
        if said.is_cut:
            said = await _by_tcp(asked, server, port, one)
    except dns.BadAnswer as error:
        raise Failed(f"{given['server']}: {error}") from None
    except OSError as error:
        raise Failed(f"{given['server']}: {error.strerror or error}") from None
    if said.code:
        raise Failed(
            f"{record}: {said.says}"
            if said.code == dns.NO_SUCH_NAME
            else f"{given['server']}: {said.says}"
        )
    found = [value for kind, value in said.records if kind == sort]
    if not found:
        raise Failed(f"{record} has no {sort} record")
    return found


class _Datagrams(asyncio.DatagramProtocol):
    """The socket is connected: only the server that was asked is heard."""

    def __init__(self, asked: bytes) -> None:
        self._asked = asked
        self.answered: asyncio.Future[dns.Reply] = asyncio.get_running_loop().create_future()

    def datagram_received(self, data: bytes, addr: object) -> None:
        del addr
        try:
            said = dns.reply(self._asked, data)
        except dns.BadAnswer:
            return  # perhaps the answer to an earlier question; the right one may still come
        if not self.answered.done():
            self.answered.set_result(said)

    def error_received(self, exc: Exception) -> None:
        if not self.answered.done():
            self.answered.set_exception(exc)


async def _by_udp(asked: bytes, server: str, port: int) -> dns.Reply:
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.create_datagram_endpoint(
        lambda: _Datagrams(asked), remote_addr=(server, port)
    )
    try:
        while True:
            transport.sendto(asked)
            done, _ = await asyncio.wait([protocol.answered], timeout=_ASK_AGAIN_S)
            if done:
                return protocol.answered.result()
    finally:
        transport.abort()
        protocol.answered.cancel()


async def _by_tcp(asked: bytes, server: str, port: int, one: Look) -> dns.Reply:
    connected = await connect(server, port, one)
    try:
        connected.writer.write(len(asked).to_bytes(2) + asked)
        size = int.from_bytes(await connected.reader.readexactly(2))
        return dns.reply(asked, await connected.reader.readexactly(size))
    except asyncio.IncompleteReadError:
        raise dns.BadAnswer("it hung up in the middle of its answer") from None
    finally:
        await close(connected)


_KINDS: "dict[str, Callable[[Mapping[str, Any], Look], Awaitable[None]]]" = {
    "http": pages.page,
    "steps": pages.steps,
    "tcp": _tcp,
    "tls": _tls,
    "dns": _dns,
    "wamp": _wamp,
}
