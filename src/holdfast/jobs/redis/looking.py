"""What a person sees of a queue in Redis, and what a person does to it.

Looking goes in bounded steps: a server has one thread, and a look at a million jobs must not stop the others' work. Only taking one job
out of the middle of a queue goes through all that lie before it (LREM: 20 ms at a million).
"""

from time import time

from holdfast.jobs.redis.bell import Bell
from holdfast.jobs.redis.heads import jid_of
from holdfast.jobs.redis.keys import Keys
from holdfast.jobs.redis.link import Link
from holdfast.jobs.redis.resp import ReplyError
from holdfast.model.jobs import Counts, Entry, StoreRefusedError
from holdfast.wire.redisurl import CLUSTER, Address
from holdfast.wire.sidekiq import loads, seconds, stamp

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from typing import Any

    from holdfast.jobs.redis.resp import Word

#: So many jobs are looked at in one step.
STEP = 500
#: A signal that nobody has fetched is forgotten, as Sidekiq's are.
_SIGNAL_S = 60
_OLDEST = (6, 2)


class Looking:
    """The half of the store that people use."""

    def __init__(self, url: str, prefix: str = "") -> None:
        address = Address(url)
        if address.kind == CLUSTER:
            prefix = prefix or "{holdfast}:"
            if "{" not in prefix or prefix.find("}") < prefix.find("{") + 2:
                raise StoreRefusedError(
                    f'the prefix "{prefix}" cannot be used in a cluster: all keys have to lie in one slot\n'
                    "  put a part of it into braces, as in {holdfast}:"
                )
        self.url = address.url
        self._agreed = 0  #: the link's breaks when an owner last compared what it holds
        self._keys = Keys(prefix)
        self._link = Link(address)
        self._bell = Bell(self._link, self._keys)
        self._day = (0, "")

    def close(self) -> None:
        """Close connections; the next call opens them again."""
        self._bell.close()
        self._link.close()

    def notes(self, jid: str) -> "dict[str, str]":
        """Return the notes of a job, its result and its state."""
        flat, result = self._read(
            [("HGETALL", self._keys.note(jid)), ("GET", self._keys.result(jid))]
        )
        found = {name.decode(): text.decode() for name, text in _pairs(flat).items()}
        if result is not None:
            found["result"] = result.decode()
        return found

    def batch(self, batch: str) -> "dict[str, int] | None":
        """Return `total`, `done`, `failed`, `open` (0/1) of a batch; None: unknown."""
        names = ("total", "done", "failed", "open")
        values = self._link.call("HMGET", self._keys.batch(batch), *names, again=True)
        if values[0] is None:
            return None
        return {name: int(value) for name, value in zip(names, values, strict=True)}

    # -- figures -----------------------------------------------------------------------------------------

    def counts(self) -> "Counts":
        """Return the figures of the whole queue."""
        keys = self._keys
        first: list[Sequence[Word]] = [
            ("SMEMBERS", keys.queues), ("SMEMBERS", keys.paused), ("ZCARD", keys.schedule), ("ZCARD", keys.retry),
            ("ZCARD", keys.dead), ("GET", keys.stat("processed")), ("GET", keys.stat("failed")),
            ("ZRANGE", keys.owners, 0, -1), ("HKEYS", keys.waiting),
        ]  # fmt: skip
        names, paused, scheduled, retry, dead, processed, failed, owners, limits = self._read(first)
        queues = sorted(name.decode() for name in {*names, *paused})
        second: list[Sequence[Word]] = []
        for name in queues:
            second += (("LLEN", keys.queue(name)), ("LINDEX", keys.queue(name), -1))
        second += [("HLEN", keys.lease(owner.decode())) for owner in owners]
        second += [("LLEN", keys.waiting_for(limit.decode())) for limit in limits]
        replies = self._read(second)
        found, now_s = Counts(), time()
        for i, name in enumerate(queues):
            size, oldest = replies[2 * i : 2 * i + 2]
            found.queues[name] = (size, _latency_s(oldest, now_s), name.encode() in paused)
        rest = replies[2 * len(queues) :]
        found.busy = sum(rest[: len(owners)])
        found.waiting = sum(rest[len(owners) :])
        found.scheduled, found.retry, found.dead = scheduled, retry, dead
        found.processed, found.failed = int(processed or 0), int(failed or 0)
        return found

    def owners(self) -> "list[dict[str, object]]":
        """Return the living owners."""
        keys = self._keys
        names = [owner.decode() for owner in self._read([("ZRANGE", keys.owners, 0, -1)])[0]]
        asked: list[Sequence[Word]] = []
        for name in names:
            asked += (("HGETALL", keys.identity(name)), ("HGETALL", keys.work(name)))
        replies = self._read(asked)
        found: list[dict[str, object]] = []
        for i, name in enumerate(names):
            shown, work = _pairs(replies[2 * i]), _pairs(replies[2 * i + 1])
            found.append(
                {
                    "owner": name,
                    "info": _json(shown.get(b"info", b"")),
                    "busy": int(shown.get(b"busy", 0)),
                    "beat": float(shown.get(b"beat", 0)),
                    "quiet": shown.get(b"quiet") == b"true",
                    "rss_kb": int(shown.get(b"rss", 0)),
                    "running": [_running(field, text) for field, text in work.items()],
                }
            )
        return found

    # -- looking at jobs ---------------------------------------------------------------------------------

    def page(self, where: str, offset: int = 0, limit: int = 50) -> "list[Entry]":
        """Return jobs of one place, in the order in which they are next; the dead: the last death first."""
        keys = self._keys
        if limit <= 0:
            return []
        if where.startswith("queue:"):
            # The right end is the front.
            raws = self._read([("LRANGE", keys.prefix + where, -offset - limit, -offset - 1)])[0]
            return [Entry(where, raw) for raw in reversed(raws)]
        if where in ("schedule", "retry", "dead"):
            command = "ZREVRANGE" if where == "dead" else "ZRANGE"
            flat = self._read(
                [(command, keys.prefix + where, offset, offset + limit - 1, "WITHSCORES")]
            )[0]
            return [Entry(where, flat[i], float(flat[i + 1])) for i in range(0, len(flat), 2)]
        if where == "busy":
            return self._busy()[offset : offset + limit]
        if where == "waiting":
            return self._waiting(offset, limit)
        raise ValueError(
            f'there is no place "{where}": queue:NAME, schedule, retry, dead, busy or waiting'
        )

    def find(self, jid: str) -> "Entry | None":
        """Look for a job everywhere."""
        wanted = jid.encode()
        for entry in self._busy():
            if _is(entry.raw, wanted, jid):
                return entry
        return self._find(jid, ("retry", "schedule", "dead"), self._keys.queues)

    def _find(self, jid: str, zsets: "Sequence[str]", names: str) -> "Entry | None":
        """Look for a job in these sets, among those that wait for a limit, and in the queues whose names lie under this key."""
        keys, wanted = self._keys, jid.encode()
        for where in zsets:
            for raw, score in self._scan_zset(keys.prefix + where, jid):
                if _is(raw, wanted, jid):
                    return Entry(where, raw, score)
        limits = self._read([("HKEYS", keys.waiting)])[0]
        for limit in limits:
            for line in self._scan_list(keys.waiting_for(limit.decode())):
                raw = line.partition(b"\n")[2]
                if _is(raw, wanted, jid):
                    return Entry("waiting", raw)
        for name in sorted(self._read([("SMEMBERS", names)])[0]):
            queue = name.decode()
            for raw in self._scan_list(keys.queue(queue)):
                if _is(raw, wanted, jid):
                    return Entry(f"queue:{queue}", raw)
        return None

    # -- doing something to them -------------------------------------------------------------------------

    def remove(self, entries: "Iterable[Entry]") -> int:
        """Delete jobs that wait somewhere, each if it is still there just as it was; return how many."""
        return self._move(entries, "", {})

    def move(
        self, entries: "Iterable[Entry]", to: str, raws: "Mapping[bytes, bytes] | None" = None
    ) -> int:
        """Move jobs to "queue:NAME" or "dead", each atomically and if it is still there."""
        if to != "dead" and (not to.startswith("queue:") or to == "queue:"):
            raise ValueError(f'jobs are moved to "queue:NAME" or "dead", not to "{to}"')
        return self._move(entries, to, raws or {})

    def _move(self, entries: "Iterable[Entry]", to: str, raws: "Mapping[bytes, bytes]") -> int:
        now_s = time()
        moved: int = 0
        words: list[Word] = []
        for entry in entries:
            if entry.where in ("schedule", "retry", "dead"):
                place: tuple[Word, ...] = ("zset", entry.where, entry.raw)
            elif entry.where.startswith("queue:"):
                place = ("queue", entry.where, entry.raw)
            elif entry.where == "waiting":
                place = self._place_of_waiting(entry.raw)
            else:
                continue
            becomes = raws.get(entry.raw, entry.raw)
            if to.startswith("queue:") and not entry.where.startswith("queue:"):
                becomes = stamp(becomes, now_s)
            words += (*place, entry.raw, becomes)
            if len(words) >= 5 * 100:
                moved += self._link.script("move", self._keys.queues, to, now_s, *words)
                words = []
        if words:
            moved += self._link.script("move", self._keys.queues, to, now_s, *words)
        return moved

    def pause(self, queue: str, is_paused: bool = True) -> None:
        """Stop (or go on) taking jobs from a queue."""
        self._link.call("SADD" if is_paused else "SREM", self._keys.paused, queue)

    def signal(self, owner: str, name: str) -> None:
        """Leave a signal for an owner; its steward passes it on."""
        key = self._keys.signals(owner)
        self._checked(self._link.many([("LPUSH", key, name), ("EXPIRE", key, _SIGNAL_S)]))

    def wipe(self, queue: str) -> int:
        """Delete all jobs of one queue; return how many."""
        # Not more than there are now: somebody may be pushing faster than we delete.
        left: int = self._link.call("LLEN", self._keys.queue(queue), again=True)
        gone = 0
        while True:
            step: int = self._link.script("wipe", self._keys.queues, queue, max(1, min(STEP * 2, left - gone)))  # fmt: skip
            gone += step
            if not step or gone >= left:
                return gone

    def check(self) -> "list[str]":
        """Return what is wrong with this server's settings for a queue that loses nothing, in words for a person."""
        text = self._link.call("INFO", again=True).decode("utf-8", "replace")
        info = dict(line.partition(":")[::2] for line in text.splitlines() if ":" in line)
        wrong = []
        version = info.get("valkey_version") or info.get("redis_version", "0")
        digits = [int(part) for part in version.split(".")[:2] if part.isdigit()]
        if tuple(digits) < _OLDEST:
            wrong.append(f"its version is {version}; the queue needs 6.2 or later")
        policy = info.get("maxmemory_policy", "")
        if policy not in ("noeviction", ""):
            wrong.append(
                f"maxmemory-policy is {policy}: when its memory is full it throws jobs away\n"
                "  CONFIG SET maxmemory-policy noeviction, and the same in redis.conf"
            )
        if info.get("aof_enabled") == "0":
            wrong.append(
                "appendonly is no: when it is killed, all since its last snapshot is lost\n"
                "  CONFIG SET appendonly yes, and the same in redis.conf"
            )
        if info.get("aof_last_write_status") == "err" or info.get("rdb_last_bgsave_status") == "err":  # fmt: skip
            wrong.append("it cannot write to its disk; its log says more")
        if info.get("cluster_enabled") == "1" and self._link.address.kind != CLUSTER:
            wrong.append("it is a node of a cluster\n  write redis+cluster:// in the store's URL")
        if info.get("role") == "slave":
            wrong.append("it is a replica, which takes no writes\n  name its master in the URL, or its Sentinels")  # fmt: skip
        return wrong

    # -- in steps ----------------------------------------------------------------------------------------

    def _read(self, commands: "Sequence[Sequence[Word]]") -> "list[Any]":
        """Return the replies to commands that only read."""
        if not commands:
            return []
        return self._checked(self._link.many(commands, again=True))

    def _checked(self, replies: "list[Any]") -> "list[Any]":
        for reply in replies:
            if reply.__class__ is ReplyError:
                self._link.explain(reply)
            if reply.__class__ is list:
                for part in reply:
                    if part.__class__ is ReplyError:
                        self._link.explain(part)
        return replies

    def _busy(self) -> "list[Entry]":
        """Return all that is leased, the longest running first, what was not started yet at the end."""
        keys = self._keys
        owners = [owner.decode() for owner in self._read([("ZRANGE", keys.owners, 0, -1)])[0]]
        asked: list[Sequence[Word]] = []
        for owner in owners:
            asked += (("HGETALL", keys.lease(owner)), ("HGETALL", keys.work(owner)))
        replies = self._read(asked)
        found = []
        for i, owner in enumerate(owners):
            since = {}
            for field, text in _pairs(replies[2 * i + 1]).items():
                running = _running(field, text)
                since[running["token"]] = float(running["run_at"])
            for token, lease in _pairs(replies[2 * i]).items():
                number = int(token)
                raw = lease.partition(b"\n")[2]
                found.append(Entry("busy", raw, 0.0, owner, number, since.get(number, 0.0)))
        found.sort(key=lambda entry: (entry.since_s or float("inf"), entry.owner, entry.token))
        return found

    def _waiting(self, offset: int, limit: int) -> "list[Entry]":
        keys = self._keys
        limits = sorted(self._read([("HKEYS", keys.waiting)])[0])
        found: list[Entry] = []
        for name in limits:
            key = keys.waiting_for(name.decode())
            size, lines = self._read([("LLEN", key), ("LRANGE", key, offset, offset + limit - 1)])
            found += [Entry("waiting", line.partition(b"\n")[2]) for line in lines]
            offset, limit = max(0, offset - size), limit - len(lines)
            if limit <= 0:
                break
        return found

    def _place_of_waiting(self, raw: bytes) -> "tuple[Word, ...]":
        """Return where a job lies that waits for its limit."""
        try:
            job = loads(raw)
        except ValueError:
            return ("waiting", "hf:waiting:", b"")
        hf = job.get("hf")
        limit = str(hf.get("limit", "")) if isinstance(hf, dict) else ""
        # It goes back to the queue from which it was taken; that is not the one it names if it is a suspect.
        for queue in (str(job.get("queue", "default")), "quarantine"):
            line = queue.encode() + b"\n" + raw
            if self._link.call("LPOS", self._keys.waiting_for(limit), line, again=True) is not None:
                return ("waiting", f"hf:waiting:{limit}", line)
        return ("waiting", f"hf:waiting:{limit}", b"")

    def _scan_list(self, key: str) -> "Iterator[bytes]":
        """Yield what is in a list, from the left: what is pushed meanwhile moves the rest to the right, so that nothing is passed over."""
        at = 0
        while True:
            raws = self._link.call("LRANGE", key, at, at + STEP - 1, again=True)
            yield from raws
            if len(raws) < STEP:
                return
            at += STEP

    def _scan_zset(self, key: str, jid: str) -> "Iterator[tuple[bytes, float]]":
        cursor = b"0"
        pattern = "*" + "".join("?" if sign in "*?[]\\^" else sign for sign in jid) + "*"
        while True:
            cursor, flat = self._link.call("ZSCAN", key, cursor, "MATCH", pattern, "COUNT", STEP, again=True)  # fmt: skip
            for i in range(0, len(flat), 2):
                yield flat[i], float(flat[i + 1])
            if cursor == b"0":
                return


def _pairs(flat: "Sequence[bytes]") -> "dict[bytes, bytes]":
    return {flat[i]: flat[i + 1] for i in range(0, len(flat), 2)}


def _json(text: bytes) -> "Any":
    """Return what somebody else wrote as JSON, {} if it is none."""
    from msgspec import json

    try:
        return json.decode(text) if text else {}
    except ValueError:
        return {}


def _running(field: bytes, text: bytes) -> "dict[str, Any]":
    """Return one row of a process's work; the token is in its name where we wrote it."""
    work = _json(text)
    token = field.rpartition(b"-")[2]
    return {
        "token": int(token) if token.isdigit() else 0,
        "raw": str(work.get("payload", "")).encode(),
        "run_at": work.get("run_at", 0),
    }


def _is(raw: bytes, wanted: bytes, jid: str) -> bool:
    """Say whether this is the job with that jid (and does not just mention it)."""
    return wanted in raw and jid_of(raw) == jid


def _latency_s(oldest: "bytes | None", now_s: float) -> float:
    """Return for how long the next job of a queue has been there."""
    if oldest is None:
        return 0.0
    try:
        since = seconds(loads(oldest).get("enqueued_at"))
    except ValueError:
        return 0.0
    return max(0.0, now_s - since) if since else 0.0
