"""Private Redis servers for tests: one, one with Sentinels, a cluster of three masters. And a cable to one that can be cut."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import threading
from typing import TYPE_CHECKING

import pytest

from holdfast.jobs.redis.resp import Connection, ReplyError
from holdfast.jobs.redis.store import RedisStore
from holdfast.wire.redisurl import Address
from node import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import Any

needs_redis = pytest.mark.skipif(shutil.which("redis-server") is None, reason="needs redis-server")


#: A server does not outlive the test run that started it, however that ended.
LEASHED = ["setpriv", "--pdeathsig", "KILL"] if shutil.which("setpriv") else []


def free_port() -> int:
    """Return a port that nobody listens on just now."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


class Server:
    """One redis-server on a port of its own; `kill` and `start` as often as wanted."""

    def __init__(
        self, tmp: Path, *options: str, is_durable: bool = False, name: str = "redis"
    ) -> None:
        self.dir = tmp / name
        self.dir.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None
        self.options = [
            "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--dir", str(self.dir),
            "--appendonly", "yes" if is_durable else "no", *options,
        ]  # fmt: skip
        self.start()

    def start(self) -> None:
        """Start it (again) and wait until it answers."""
        log = (self.dir / "log").open("ab")
        self.process = subprocess.Popen(
            [*LEASHED, "redis-server", *self.options],
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        log.close()
        wait_for(self.answers, f"an answer of redis-server on port {self.port}")

    def answers(self) -> bool:
        """Say whether it is there and has read its data."""
        assert self.process is not None
        assert self.process.poll() is None, (self.dir / "log").read_text()[-2000:]
        try:
            self.do("ECHO", "hello")
        except ReplyError as error:
            # A password: it is there.
            return error.code == "NOAUTH"
        except OSError:
            return False
        return True

    def do(self, *command: str | float | bytes) -> Any:
        """Run one command by hand."""
        with contextlib.closing(
            Connection(Address(f"redis://127.0.0.1:{self.port}"), ("127.0.0.1", self.port))
        ) as by_hand:
            return by_hand.call(*command)

    def kill(self) -> None:
        """Kill it with SIGKILL and wait until it is gone."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    @property
    def url(self) -> str:
        """Where it is."""
        return f"redis://127.0.0.1:{self.port}/0"


class Cable:
    """What lies between a store and its server: it can be cut, or go silent."""

    def __init__(self, port: int) -> None:
        self._to = port
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self.is_silent = False
        #: Bytes of the next answers that still come through; then the cable is cut. -1: all.
        self.lets_pass = -1
        self._ends: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listening.accept()
            except OSError:
                return
            far = socket.create_connection(("127.0.0.1", self._to))
            self._ends += [near, far]
            for source, sink, is_answer in ((near, far, False), (far, near, True)):
                thread = threading.Thread(target=self._carry, args=(source, sink, is_answer), daemon=True)  # fmt: skip
                self._threads.append(thread)
                thread.start()

    def _carry(self, source: socket.socket, sink: socket.socket, is_answer: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if is_answer and self.is_silent:
                    continue
                if is_answer and 0 <= self.lets_pass < len(data):
                    sink.sendall(data[: self.lets_pass])
                    break
                sink.sendall(data)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def cut(self) -> None:
        """End all connections; new ones are possible."""
        for end in self._ends:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def end(self) -> None:
        """Take it away."""
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self.cut()
        for thread in self._threads:
            thread.join(5)
        for end in self._ends:
            end.close()


class Sentinels:
    """A master, a replica, and one Sentinel that watches them (a quorum of one)."""

    def __init__(self, tmp: Path) -> None:
        self.master = Server(tmp, name="first")
        self.replica = Server(
            tmp, "--replicaof", "127.0.0.1", str(self.master.port), "--repl-diskless-sync-delay", "0", name="second",
        )  # fmt: skip
        self.master.do("CONFIG", "SET", "repl-diskless-sync-delay", "0")
        wait_for(lambda: b"master_link_status:up" in self.replica.do("INFO", "replication"), "the replica follows")  # fmt: skip
        self.port = free_port()
        conf = tmp / "sentinel.conf"
        conf.write_text(
            f"port {self.port}\nbind 127.0.0.1\ndir {tmp}\n"
            f"sentinel monitor holdfast 127.0.0.1 {self.master.port} 1\n"
            "sentinel down-after-milliseconds holdfast 300\nsentinel failover-timeout holdfast 3000\n"
            "requirepass guarded\n"
        )
        log = (tmp / "sentinel.log").open("ab")
        self.process = subprocess.Popen(
            [*LEASHED, "redis-server", str(conf), "--sentinel"],
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        log.close()
        address = Address(f"redis://:guarded@127.0.0.1:{self.port}")

        def knows_both() -> bool:
            try:
                with contextlib.closing(Connection(address, ("127.0.0.1", self.port))) as asked:
                    return len(asked.call("SENTINEL", "REPLICAS", "holdfast")) == 1
            except (OSError, ReplyError):
                return False

        wait_for(knows_both, "the Sentinel knows both")

    @property
    def url(self) -> str:
        """Where they are; the first Sentinel of the list is not there."""
        return f"redis+sentinel://127.0.0.1:{free_port()},127.0.0.1:{self.port}/holdfast/0?sentinel_password=guarded"

    def end(self) -> None:
        """End all three."""
        self.process.kill()
        self.process.wait()
        self.master.kill()
        self.replica.kill()


class Cluster:
    """Three masters that share the slots."""

    def __init__(self, tmp: Path) -> None:
        buses = [free_port() for _ in range(3)]
        self.nodes = [
            Server(
                tmp, "--cluster-enabled", "yes", "--cluster-port", str(bus), "--cluster-node-timeout", "2000",
                name=f"node{i}",
            )
            for i, bus in enumerate(buses)
        ]  # fmt: skip
        for i, node in enumerate(self.nodes):
            node.do("CLUSTER", "ADDSLOTSRANGE", 16384 * i // 3, 16384 * (i + 1) // 3 - 1)
            node.do("CLUSTER", "SET-CONFIG-EPOCH", i + 1)
        for node in self.nodes[1:]:
            node.do("CLUSTER", "MEET", "127.0.0.1", self.nodes[0].port, buses[0])
        wait_for(
            lambda: all(b"cluster_state:ok" in node.do("CLUSTER", "INFO") for node in self.nodes),
            "the cluster is complete",
        )

    @property
    def url(self) -> str:
        """Where they are."""
        return "redis+cluster://" + ",".join(f"127.0.0.1:{node.port}" for node in self.nodes)

    def end(self) -> None:
        """End all three."""
        for node in self.nodes:
            node.kill()


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server for all tests that do not hurt it."""
    if shutil.which("redis-server") is None:
        pytest.skip("needs redis-server")
    server = Server(tmp_path_factory.mktemp("redis"))
    yield server
    server.kill()


@pytest.fixture
def redis_store(redis_server: Server) -> Iterator[RedisStore]:
    """An empty store."""
    redis_server.do("FLUSHALL")
    store = RedisStore(redis_server.url)
    yield store
    store.close()
