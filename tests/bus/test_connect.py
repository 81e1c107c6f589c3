"""Connections over real sockets: every address and serializer, and what happens when the router goes away."""

from __future__ import annotations

import asyncio
import datetime
import os
import socket
import ssl
from contextlib import AsyncExitStack
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from bus.fake_router import SLOWNESS, FakeRouter, Peer, soon
from holdfast.bus.connect import Connection, connect
from holdfast.bus.errors import (
    CallTimeout,
    CannotConnect,
    ConnectionLost,
    JoinRefused,
    PayloadTooLarge,
    QueueFull,
    WampError,
)
from holdfast.core.backoff import Backoff

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from pathlib import Path

#: Delays that a test can wait for.
QUICK = {"first_s": 0.002, "limit_s": 0.02}


def play(story: Callable[[FakeRouter], Coroutine[Any, Any, None]]) -> None:
    """Run a story with a router on a free port."""

    async def run() -> None:
        async with asyncio.timeout(30 * SLOWNESS), FakeRouter() as router:
            await story(router)

    asyncio.run(run())


def to(url: str, **options: Any) -> Connection:
    """A connection with short delays."""
    return connect(url, "realm1", backoff=Backoff(**QUICK), **options)


def _has_ponged(peer: Peer) -> bool:
    return peer.pongs == [b"you there?"]


def certificate(tmp: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Contexts of a client that trusts, and of a server that has, a new certificate for localhost."""
    x509 = pytest.importorskip("cryptography.x509")
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = tmp / "both.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    pem.write_bytes(made.public_bytes(serialization.Encoding.PEM) + private)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(pem)
    return ssl.create_default_context(cafile=str(pem)), server


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


# -- links -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("serializer", ["json", "msgpack", "cbor"])
@pytest.mark.parametrize("scheme", ["ws", "rs"])
def test_small_and_big_messages_cross_every_link(scheme: str, serializer: str) -> None:
    """From nothing to a megabyte: every length has its own frame header."""

    async def story(router: FakeRouter) -> None:
        url = router.ws if scheme == "ws" else router.rs
        async with to(url, serializers=serializer) as callee, to(url, serializers=serializer) as caller:  # fmt: skip
            assert router.last.codec.name == serializer

            async def echo(x: Any) -> Any:
                return x

            await callee.register(echo, "com.test.echo")
            for n in (0, 1, 60, 100, 125, 126, 65_000, 66_000, 1_000_000):
                assert await caller.call("com.test.echo", "x" * n) == "x" * n
            assert await caller.call("com.test.echo", b"\x00" * 300) == b"\x00" * 300
            many = await asyncio.gather(*(caller.call("com.test.echo", i) for i in range(500)))
            assert many == list(range(500))

    play(story)


@pytest.mark.parametrize("scheme", ["unix", "ws+unix"])
def test_unix_sockets(scheme: str, tmp_path: Any) -> None:
    """How a component reaches its node's router."""

    async def story(router: FakeRouter) -> None:
        path = str(tmp_path / "bus.sock")
        loop = asyncio.get_running_loop()
        server = await loop.create_unix_server(lambda: Peer(router), path)
        async with to(f"{scheme}:{path}", role="backend", authid="board") as bus:
            assert bus.authid == "me"
            details = router.last.got[0][2]
            assert (details["authid"], details["authrole"]) == ("board", "backend")
        server.close()

    play(story)


@pytest.mark.parametrize("scheme", ["wss", "rss"])
def test_tls_with_a_certificate_that_is_checked(scheme: str, tmp_path: Path) -> None:
    """The right authority is let through, an unknown one is not, and the reason is the first thing that one reads."""
    trusted, server_side = certificate(tmp_path)

    async def story(router: FakeRouter) -> None:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: Peer(router), "127.0.0.1", 0, ssl=server_side)
        url = f"{scheme}://localhost:{server.sockets[0].getsockname()[1]}/"
        before = len(os.listdir("/proc/self/fd"))
        async with to(url, ssl=trusted) as bus:
            await bus.register(lambda x: x, "com.test.echo", inline=True)
            assert await bus.call("com.test.echo", "x" * 100_000) == "x" * 100_000
        with pytest.raises(CannotConnect, match=r"(?i)certificate"):
            await to(url, open_s=0.5 * SLOWNESS).open()
        # Nothing is left behind at either end, and soon: asyncio alone would wait half a minute for a router's last word.
        await soon(lambda: len(os.listdir("/proc/self/fd")) <= before, "both ends to be closed")
        server.close()

    play(story)


def test_a_rawsocket_router_without_messagepack_gets_what_it_takes() -> None:
    """The client offers in turn what the handshake can only offer one by one."""

    async def story(router: FakeRouter) -> None:
        router.serializers = ["json"]
        async with to(router.rs):
            assert router.last.codec.name == "json"
        with pytest.raises(CannotConnect, match="serializer"):
            await to(router.rs, serializers="cbor", open_s=0.5 * SLOWNESS).open()
        router.serializers = ["cbor"]
        async with to(router.rs):
            assert router.last.codec.name == "cbor"

    play(story)


def test_what_the_client_does_not_speak_is_refused_at_once() -> None:
    """A typing error in the configuration must not look like a network problem."""
    with pytest.raises(ValueError, match='no "msgpak" here'):
        connect("rs://127.0.0.1:1", "realm1", serializers="msgpak")
    with pytest.raises(ValueError, match="needs the URL"):
        connect([], "realm1")
    with pytest.raises(JoinRefused, match='no method "tikket"'):
        connect("rs://127.0.0.1:1", "realm1", auth={"method": "tikket"})


def test_a_message_that_the_router_would_not_take_is_refused_here() -> None:
    """The router would end the connection for it, and with it all other calls."""

    async def story(router: FakeRouter) -> None:
        router.message_bytes = 1024
        async with to(router.rs) as bus:
            with pytest.raises(PayloadTooLarge, match="the other side takes 1024"):
                await bus.call("com.test.f", "x" * 1024)
            with pytest.raises(WampError, match="no_such_procedure"):
                await bus.call("com.test.f", "x" * 900)

    play(story)


def test_all_that_is_sent_in_one_turn_is_one_write() -> None:
    """A system call costs more than a message."""

    async def story(router: FakeRouter) -> None:
        async with to(router.rs) as bus:
            chunks: list[bytes] = []
            peer = router.last
            received = peer.data_received
            peer.data_received = lambda data: (chunks.append(data), received(data))[1]  # type: ignore[method-assign,func-returns-value]
            peer.transport.set_protocol(peer)
            for i in range(20):
                bus.publish("com.test.topic", i)
            await bus.publish("com.test.topic", acknowledge=True)
            assert len(chunks) == 1

    play(story)


def test_pings_are_answered_and_asked() -> None:
    """A router that is frozen keeps the connection open: only a question shows it."""

    async def story(router: FakeRouter) -> None:
        for url in (router.rs, router.ws):
            reasons: list[str] = []
            router.answers_pings = True
            async with to(url, ping_s=0.02 * SLOWNESS) as bus:
                bus.on_leave(reasons.append)
                peer = router.last
                frame = {router.rs: "rawsocket", router.ws: "websocket"}[url]
                module = __import__(f"holdfast.wire.{frame}", fromlist=["ping_frame"])
                peer.transport.write(module.ping_frame(b"you there?"))
                await soon(partial(_has_ponged, peer), "our answer")
                assert reasons == []
                router.answers_pings = False
                await soon(partial(list, reasons), "giving up")
                assert "did not answer" in reasons[0]

    play(story)


# -- opening ---------------------------------------------------------------------------------------


def test_no_router_is_an_error_with_address_and_reason() -> None:
    """A plain script with a wrong port must not hang."""

    async def story() -> None:
        url = f"ws://127.0.0.1:{free_port()}/"
        with pytest.raises(CannotConnect) as e:
            await to(url, open_s=0.1).open()
        assert url in str(e.value)
        assert "refused" in str(e.value).lower()

    asyncio.run(story())


def test_a_patient_connection_waits_for_its_router() -> None:
    """A component may be started before the router: that is no error."""

    async def story(router: FakeRouter) -> None:
        port = free_port()
        opening = asyncio.create_task(to(f"rs://127.0.0.1:{port}", patient=True, open_s=None).open())  # fmt: skip
        await asyncio.sleep(0)
        assert not opening.done()
        late = FakeRouter()
        late.port = port
        await late.start()
        bus = await opening
        assert bus.is_open
        await bus.close()
        late.die()
        assert router.peers == []

    play(story)


def test_a_refusal_is_told_in_the_routers_words() -> None:
    """Wrong realm, wrong password: trying again would not help."""

    async def story(router: FakeRouter) -> None:
        router.answers[1] = lambda peer, _: peer.answer(3, {"message": "no realm realm1"}, "wamp.error.no_such_realm")  # fmt: skip
        with pytest.raises(JoinRefused, match="no realm realm1") as e:
            await to(router.rs).open()
        assert e.value.uri == "wamp.error.no_such_realm"
        assert len(router.peers) == 1

        joined = asyncio.create_task(to(router.rs, patient=True).open())
        await soon(lambda: len(router.peers) > 3, "more attempts of a patient one")
        del router.answers[1]
        await (await joined).close()

    play(story)


def test_a_sign_in_is_answered_and_one_without_credentials_refused() -> None:
    """Ticket, as the simplest: the rest is the business of `bus/signing.py`."""

    async def story(router: FakeRouter) -> None:
        def challenge(peer: Peer, _: list[Any]) -> bool:
            peer.say(4, "ticket", {})
            return True

        def check(peer: Peer, message: list[Any]) -> bool:
            if message[1] == "right":
                peer.say(2, 1, {"roles": {}, "authid": "ann"})
            else:
                peer.say(3, {"message": "wrong"}, "wamp.error.authentication_failed")
            return True

        router.answers = {1: challenge, 5: check}
        auth = {"method": "ticket", "authid": "ann", "ticket": "right"}
        async with to(router.rs, auth=auth) as bus:
            assert bus.authid == "ann"
            assert router.last.got[0][2]["authmethods"] == ["ticket"]
        with pytest.raises(JoinRefused, match="wrong"):
            await to(router.rs, auth={**auth, "ticket": "x"}).open()
        with pytest.raises(JoinRefused, match="no credentials are configured"):
            await to(router.rs).open()
        await soon(lambda: router.last.codes() == [1, 3], "our ABORT")

    play(story)


def test_what_is_no_router_at_all_is_named() -> None:
    """Somebody else's port: a web server, an echo, a black hole."""

    async def story() -> None:
        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read(10)
            writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
            writer.close()

        async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read()
            writer.close()

        for handler, expected in ((answer, "404"), (silent, "no answer")):
            server = await asyncio.start_server(handler, "127.0.0.1", 0)
            port = server.sockets[0].getsockname()[1]
            with pytest.raises(CannotConnect, match=expected):
                await to(f"ws://127.0.0.1:{port}/", open_s=3 * SLOWNESS, attempt_s=0.5 * SLOWNESS).open()  # fmt: skip
            server.close()
            await server.wait_closed()

    asyncio.run(story())


def test_a_connection_has_to_be_opened() -> None:
    """Forgetting `async with` is an easy mistake; hanging for ever would be the worst answer."""

    async def story() -> None:
        bus = connect("rs://127.0.0.1:1", "realm1")
        with pytest.raises(RuntimeError, match="async with"):
            await bus.call("com.test.f")

    asyncio.run(story())


# -- losing and coming back ------------------------------------------------------------------------


def test_everything_is_back_after_a_loss_in_one_write() -> None:
    """A hundred registrations and subscriptions: one turn of the loop, not a hundred round trips."""

    async def story(router: FakeRouter) -> None:
        async with to(router.rs) as bus, to(router.rs) as caller:
            joins: list[int] = []
            bus.on_join(lambda session: joins.append(session.id))
            seen: list[int] = []
            for i in range(100):

                async def give(i: int = i) -> int:
                    return i

                await bus.register(give, f"com.test.p{i}")
            await bus.subscribe(seen.append, "com.test.topic", inline=True)
            gone = await bus.register(lambda: 1, "com.test.gone", inline=True)
            await gone.unregister()
            first = next(p for p in router.peers if len(p.got) > 50)
            first.cut()
            await soon(lambda: joins, "the next session")
            await bus.wait_declared()
            assert len(router.procedures) == 100
            assert await caller.call("com.test.p77") == 77
            await caller.publish("com.test.topic", 5, acknowledge=True)
            await soon(lambda: seen == [5], "the event")

    play(story)


def test_a_call_in_flight_fails_by_name_or_is_made_again_where_that_is_allowed() -> None:
    """Nobody knows whether it was carried out: only the author knows whether twice does harm."""

    async def story(router: FakeRouter) -> None:
        calls: list[list[Any]] = []

        def swallow(_: Peer, message: list[Any]) -> bool:
            calls.append(message)
            return True

        router.answers[48] = swallow
        async with to(router.rs) as bus:
            fragile = asyncio.create_task(bus.call("com.test.pay", 1))
            sturdy = asyncio.create_task(bus.call("com.test.read", 2, idempotent=True))
            await soon(lambda: len(calls) == 2, "both calls")
            router.answers[48] = lambda peer, message: peer.answer(50, message[1], {}, args=["read"])  # fmt: skip
            router.last.cut()
            with pytest.raises(ConnectionLost, match=r"^calling com\.test\.pay: "):
                await fragile
            assert await sturdy == "read"

    play(story)


def test_calls_wait_for_a_connection_as_long_as_they_may() -> None:
    """Down for a moment is no error; down for longer than the caller's patience is a timeout that says so."""

    async def story(router: FakeRouter) -> None:
        async with to(router.rs) as bus:
            lost = asyncio.Event()
            bus.on_leave(lambda _: lost.set())
            router.die()
            await lost.wait()
            with pytest.raises(CallTimeout, match="there was no connection in that time"):
                await bus.call("com.test.f", timeout_s=0.03)
            router.answers[48] = lambda peer, message: peer.answer(50, message[1], {}, args=[1])  # fmt: skip
            waiting = asyncio.create_task(bus.call("com.test.f", timeout_s=20 * SLOWNESS))
            registering = asyncio.create_task(bus.register(lambda: 1, "com.test.g", inline=True))
            await asyncio.sleep(0)
            await router.start()
            assert await waiting == 1
            assert (await registering).id is not None

    play(story)


def test_publishes_wait_in_a_queue_with_an_end() -> None:
    """In order; memory is bounded, and what does not fit is an error and not a silence."""

    async def story(router: FakeRouter) -> None:
        async with to(router.rs, queued_publishes=3) as bus:
            lost = asyncio.Event()
            bus.on_leave(lambda _: lost.set())
            router.die()
            await lost.wait()
            for i in range(3):
                bus.publish("com.test.topic", i)
            with pytest.raises(QueueFull, match="3 publishes wait"):
                bus.publish("com.test.topic", 3)
            acknowledged = asyncio.ensure_future(bus.publish("com.test.topic", 4, acknowledge=True))
            await asyncio.sleep(0)
            await router.start()
            assert await acknowledged > 0
            sent = [m[4][0] for m in router.last.got if m[0] == 16]
            assert sent == [0, 1, 2, 4]

    play(story)


def test_the_next_router_of_the_list_takes_over() -> None:
    """Two routers of a realm: the death of one is a blink."""

    async def story(router: FakeRouter) -> None:
        async with FakeRouter() as other, AsyncExitStack() as stack:
            both = connect([router.rs, other.ws], "realm1", backoff=Backoff(**QUICK))
            bus = await stack.enter_async_context(both)
            await bus.register(lambda: 7, "com.test.f", inline=True)
            assert len(router.peers) == 1
            router.die()
            await soon(lambda: "com.test.f" in other.procedures, "the second router has it")
            assert await bus.call("com.test.f") == 7

    play(story)


def test_a_name_that_is_still_taken_by_our_dead_self_is_asked_for_again() -> None:
    """A router that has not noticed yet says procedure_already_exists; that passes."""

    async def story(router: FakeRouter) -> None:
        async with to(router.rs) as bus:
            await bus.register(lambda: 1, "com.test.f", inline=True)
            refusals = iter(range(3))

            def refuse(peer: Peer, message: list[Any]) -> bool:
                if next(refusals, None) is None:
                    return False
                peer.say(8, 64, message[1], {}, "wamp.error.procedure_already_exists")
                return True

            router.answers[64] = refuse
            router.last.cut()
            await soon(lambda: len(router.peers) == 2 and "com.test.f" in router.procedures, "registered")  # fmt: skip
            await bus.wait_declared()
            assert await bus.call("com.test.f") == 1

    play(story)


def test_a_registration_that_is_refused_later_is_reported_once() -> None:
    """Permissions may have changed meanwhile: somebody has to hear of it, but not five times a second."""

    async def story(router: FakeRouter) -> None:
        told: list[str] = []
        async with to(router.rs, on_problem=lambda doing, error: told.append(f"{doing}: {error}")) as bus:  # fmt: skip
            await bus.register(lambda: 1, "com.test.f", inline=True)
            tried: list[int] = []

            def refuse(peer: Peer, message: list[Any]) -> bool:
                tried.append(1)
                peer.say(8, 64, message[1], {}, "wamp.error.not_authorized", args=["not any more"])
                return True

            router.answers[64] = refuse
            router.last.cut()
            await soon(lambda: len(tried) >= 3, "tries")
            assert len(told) == 1
            assert "com.test.f" in told[0]
            assert "not any more" in told[0]

    play(story)


def test_a_router_that_says_goodbye_is_taken_at_its_word_and_asked_again() -> None:
    """A router that is being restarted in order closes its sessions first."""

    async def story(router: FakeRouter) -> None:
        reasons: list[str] = []
        async with to(router.ws) as bus:
            bus.on_leave(reasons.append)
            peer = router.last
            peer.say(6, {"message": "back soon"}, "wamp.close.system_shutdown")
            await soon(lambda: len(router.peers) == 2 and bus.is_open, "the next session")
            assert peer.codes()[-1] == 6
        assert reasons[0] == "the router said goodbye: back soon (wamp.close.system_shutdown)"

    play(story)


def test_closing_ends_everything() -> None:
    """GOODBYE is said, the socket is closed, later calls fail at once, nothing comes back."""

    async def story(router: FakeRouter) -> None:
        bus = await to(router.rs).open()
        peer = router.last
        await bus.close()
        assert peer.codes() == [1, 6]
        await soon(lambda: peer.is_gone, "closed")
        with pytest.raises(ConnectionLost, match="closed here"):
            await bus.call("com.test.f")
        with pytest.raises(ConnectionLost, match="closed here"):
            bus.publish("com.test.topic")
        assert len(router.peers) == 1
        assert len(asyncio.all_tasks()) == 1

    play(story)


def test_a_router_that_never_answers_goodbye_does_not_hold_us(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Crash-only: leaving politely is a courtesy with a deadline."""
    monkeypatch.setattr("holdfast.bus.session.GOODBYE_S", 0.02)

    async def story(router: FakeRouter) -> None:
        router.answers[6] = lambda *_: True
        bus = await to(router.rs).open()
        await bus.close()
        assert not bus.is_open

    play(story)
