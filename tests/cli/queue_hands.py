"""What happens to jobs without an engine: pushed, taken, failed, dead."""

import json
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from holdfast.model.jobs import DEAD, RETRY, Settle
from holdfast.wire import sidekiq

if TYPE_CHECKING:
    from holdfast.jobs.store import Store
    from holdfast.model.jobs import Entry

OWNER = "vm:4711:0123456789ab"
FAILED = {"error_class": "builtins.ValueError", "error_message": "no such page\nat all"}


Types = Callable[..., tuple[int, str, str]]


class Told:
    """What programs read."""

    def __init__(self, types: Types) -> None:
        self.types = types

    def __call__(self, *argv: str) -> dict[str, Any]:
        status, out, err = self.types(*argv, "--json")
        assert status == 0, err
        found: dict[str, Any] = json.loads(out)
        return found


_numbers = iter(range(10**6))


def push(store: "Store", klass: str = "shop.send", *args: Any, at_s: float = 0.0, **more: Any) -> str:  # fmt: skip
    jid = f"{next(_numbers):024x}"
    made = sidekiq.new(klass, list(args), jid=jid, queue=more.pop("queue", "default"), now_s=time.time() - 60)  # fmt: skip
    assert store.push([sidekiq.dumps({**made, **more})], [at_s]) == [""]
    return jid


tokens = iter(range(1, 10**6))


def take(store: "Store", queue: str = "default", owner: str = OWNER) -> tuple[int, dict[str, Any]]:
    token = next(tokens)
    (lease,), _ = store.claim(owner, [queue], 1, token)
    return lease.token, sidekiq.loads(lease.raw)


def die(store: "Store", klass: str = "shop.send", *args: Any, **more: Any) -> str:
    """Push a job and let it fail for the last time."""
    jid = push(store, klass, *args, **more)
    token, job = take(store, more.get("queue", "default"))
    failed = {**job, **FAILED, "retry_count": 3, "failed_at": time.time()}
    _, gone = store.claim(OWNER, [], 0, 0, settled=[Settle(token, DEAD, sidekiq.dumps(failed), time.time() - 90)])  # fmt: skip
    assert gone == []
    return jid


def fail(store: "Store", klass: str = "shop.send", in_s: float = 600.0) -> str:
    jid = push(store, klass)
    token, job = take(store)
    failed = {**job, **FAILED, "retry_count": 0}
    store.claim(
        OWNER, [], 0, 0, settled=[Settle(token, RETRY, sidekiq.dumps(failed), time.time() + in_s)]
    )
    return jid


def at(store: "Store", jid: str) -> "Entry":
    found = store.find(jid)
    assert found is not None, jid
    return found
