"""A URL says which server is meant, and a wrong one says what is wrong with it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import holdfast
from holdfast.jobs.redis.store import RedisStore
from holdfast.model.jobs import StoreRefusedError
from holdfast.wire.redisurl import CLUSTER, ONE, SENTINEL, Address


def test_a_url_names_host_port_database_and_who_logs_in() -> None:
    address = Address("redis://ann:p%40ss%25@db.example:6400/3")

    assert (address.kind, address.hosts, address.db) == (ONE, [("db.example", 6400)], 3)
    assert (address.user, address.password) == ("ann", "p@ss%")
    assert not address.is_tls


def test_what_a_url_leaves_out_is_what_redis_uses() -> None:
    assert Address("redis://").hosts == [("127.0.0.1", 6379)]
    assert Address("redis://[::1]").hosts == [("::1", 6379)]
    assert Address("redis://[::1]:7000/1").hosts == [("::1", 7000)]
    assert Address("rediss://h").is_tls


def test_a_socket_sentinels_and_a_cluster_have_urls_too() -> None:
    socket = Address("redis+unix:///run/redis/redis.sock?db=2")
    sentinel = Address("redis+sentinel://:secret@a:1,b/mymaster/4")
    cluster = Address("redis+cluster://a:1,b:2,c")

    assert (socket.path, socket.db) == ("/run/redis/redis.sock", 2)
    assert (sentinel.kind, sentinel.service, sentinel.db) == (SENTINEL, "mymaster", 4)
    assert (sentinel.hosts, sentinel.password) == ([("a", 1), ("b", 26379)], "secret")
    assert (cluster.kind, cluster.hosts) == (CLUSTER, [("a", 1), ("b", 2), ("c", 6379)])


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("postgres://h/1", "begin with"),
        ("localhost:6379", "begin with"),
        ("redis://h:port", "no port"),
        ("redis://h:70000", "no port"),
        ("redis://h/queue", "database"),
        ("redis://h?bd=1", '"bd"'),
        ("redis://h?timeout=soon", "timeout"),
        ("redis+unix://run/redis.sock", "///"),
        ("redis+sentinel://a:1", "service"),
        ("redis+cluster://a:1/3", "database 0"),
        ("redis://[::1", "bracket"),
    ],
)
def test_a_wrong_url_says_what_is_wrong_with_it(url: str, says: str) -> None:
    with pytest.raises(StoreRefusedError, match=says.replace("?", r"\?")):
        Address(url)


@pytest.mark.parametrize(
    "url", ["redis://ann:hunter2@h/0", "redis://:hunter2@h/0", "redis://h/0?password=hunter2"]
)
def test_a_password_is_never_printed(url: str) -> None:
    """Messages and the flight recorder carry the URL."""
    assert "hunter2" not in RedisStore(url).url
    with pytest.raises(StoreRefusedError) as refused:
        RedisStore(url.replace("/0", "/zero"))
    assert "hunter2" not in str(refused.value)


def test_a_cluster_has_all_keys_in_one_slot() -> None:
    """A claim touches queues and leases in one script, which a cluster lets pass within a slot only."""
    with pytest.raises(StoreRefusedError, match="braces"):
        RedisStore("redis+cluster://h", "mine:")


def test_the_store_costs_a_worker_no_dear_imports() -> None:
    """A worker has 40 MB; asyncio is 6 of them, ssl 3, urllib 2."""
    code = (
        "import sys; before = set(sys.modules); import msgspec, re, socket; given = set(sys.modules)\n"
        "import holdfast.jobs.redis.store; print(*(set(sys.modules) - given))"
    )
    env = {"PYTHONPATH": str(Path(holdfast.__file__).parent.parent)}

    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=env
    )

    assert {"asyncio", "ssl", "urllib", "zlib", "hashlib", "logging", "json", "sqlite3", "email"} & {
        name.partition(".")[0] for name in run.stdout.split()
    } == set()  # fmt: skip
