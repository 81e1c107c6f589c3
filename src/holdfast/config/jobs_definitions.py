"""Which tables and keys does the job queue have in a ``holdfast.toml``? Part of the one definition (:mod:`holdfast.config.definitions`).

The kinds of values that only the queue has stand here as well: the address of a store, and queues with or without weights.
What follows from them is :mod:`holdfast.config.jobs`'s business.
"""

import re
from typing import Any

from holdfast.config.kinds import (
    BAD,
    EXPANDED_SCHEMA,
    Duration,
    Integer,
    Kind,
    Size,
    Text,
    Wrong,
)
from holdfast.config.problems import Problems, Where, nearest, quoted, shown
from holdfast.config.tables import Either, Key, ListOf, Table
from holdfast.core.lease import QUARANTINE
from holdfast.model.jobs import StoreRefusedError
from holdfast.wire.redisurl import Address

#: How a store is named; the part before the first colon.
STORES = (
    "sqlite", "redis", "rediss", "redis+unix", "redis+sentinel", "rediss+sentinel", "redis+cluster", "rediss+cluster",
)  # fmt: skip
_FILE_OPTIONS = ("durable=process", "durable=power")
_QUEUE = r"[A-Za-z0-9_.:-]{1,100}"
_QUEUE_WORDS = "the name of a queue (letters, digits, and _ . : -)"
_HEAVIEST = 1000


class StoreUrl(Kind):
    """Where jobs are kept."""

    brief = "URL of a store"
    words = 'the URL of a store, as "sqlite:jobs.db" or "redis://127.0.0.1:6379/0"'

    def parse(self, value: object) -> str:
        """Return the URL. Complaints never repeat it: there may be a password in it."""
        if not isinstance(value, str):
            raise self.refuse(value)
        scheme, colon, rest = value.partition(":")
        if not colon or "/" in scheme:
            is_file = value.endswith((".db", ".sqlite", ".sqlite3"))
            hint = f'a file:  "sqlite:{value}"' if is_file else 'as "sqlite:jobs.db"'
            raise Wrong(f"this is not {self.words}", hint)
        if scheme not in STORES:
            guess = {"unix": "redis+unix", "valkey": "redis", "valkeys": "rediss"}.get(scheme)
            guess = guess or nearest(scheme, list(STORES))
            hints = [f'Did you mean "{guess}:"?'] if guess else []
            says = f"there is no store {quoted(scheme)}"
            raise Wrong(says, *hints, "there are: " + ", ".join(STORES))
        if any(ord(c) <= 32 or ord(c) == 127 for c in rest):
            raise Wrong("has a blank or a control character in it", "write a blank as %20")
        if scheme == "sqlite":
            self._check_file(rest)
        elif not rest.startswith("//"):
            raise Wrong(f"{scheme}: wants two slashes", f'as "{scheme}://127.0.0.1:6379/0"')
        elif scheme == "redis+unix" and not rest.removeprefix("//").startswith("/"):
            raise Wrong("names no socket", 'as "redis+unix:///run/redis/redis.sock?db=0"')
        elif scheme != "redis+unix" and not rest[2:].partition("?")[0].strip("/"):
            raise Wrong("names no host", f'as "{scheme}://127.0.0.1:6379"')
        if scheme != "sqlite":
            self._check_address(value)
        return str(value)

    def _check_address(self, value: str) -> None:
        try:
            Address(value)
        except StoreRefusedError as error:
            # What is said of one with a password may hold a piece of it.
            says = str(error).rpartition("cannot be used: ")[2]
            raise Wrong(
                "its host, port, service, database or options cannot be read"
                if "@" in value
                else says,
                'as "redis://:password@127.0.0.1:6379/0", "redis+sentinel://127.0.0.1:26379/mymaster/0" or "redis+cluster://127.0.0.1:6379"',
            ) from None

    def _check_file(self, rest: str) -> None:
        path = rest.partition("?")[0]
        if path.startswith("//") and not path.startswith("///"):
            name = path[2:]
            raise Wrong(
                "a path stands after one colon or three slashes",
                f'of the state directory:  "sqlite:{name or "jobs.db"}"',
                f'an absolute one:         "sqlite:///var/lib/{name or "jobs.db"}"',
            )
        if not path.strip("/") or path.endswith("/"):
            raise Wrong("names no file", 'as "sqlite:jobs.db"')
        for option in filter(None, rest.partition("?")[2].split("&")):
            if option not in _FILE_OPTIONS:
                says = f"a file has no option {quoted(option)}"
                hint = "?durable=power: what was put in survives a power cut, too; each time costs an fsync"
                raise Wrong(says, hint)

    def schema(self) -> dict[str, Any]:
        """Return a pattern of the schemes."""
        schemes = "|".join(re.escape(scheme) for scheme in STORES)
        return {"anyOf": [{"type": "string", "pattern": f"^(?:{schemes}):.+$"}, EXPANDED_SCHEMA]}


class QueueName(Text):
    """The name of a queue."""

    brief = "queue"

    def __init__(self) -> None:
        super().__init__(_QUEUE_WORDS, _QUEUE)

    def parse(self, value: object) -> str:
        """Return the name."""
        if isinstance(value, str) and "," in value:
            name, _, weight = value.partition(",")
            weighted = f"{quoted(name.strip())[1:-1]} = {weight.strip() or 1}"
            raise Wrong(f"{quoted(value)} is not {self.words}", f"weights:  {{ {weighted}, … }}")
        name = super().parse(value)
        if name == QUARANTINE:
            raise Wrong(
                f'"{QUARANTINE}" is the lane in which suspects run alone',
                "Holdfast looks after it by itself; choose another name",
            )
        return name


class Weights(Kind):
    """Queues and how often each is looked at first."""

    is_scalar = False

    words = "a table of queues and weights, as { critical = 6, default = 2 }"
    takes: tuple[type, ...] = (dict,)
    _name = QueueName()
    _weight = Integer(1, _HEAVIEST, f"a weight from 1 to {_HEAVIEST}")

    def check(self, value: object, where: Where, problems: Problems) -> Any:
        """Return name -> weight."""
        if not isinstance(value, dict):
            return super().check(value, where, problems)
        if not value:
            problems.add(where, f"is empty; it has to be {self.words}")
            return BAD
        found = {}
        for name, inner in value.items():
            at = where.at(name)
            try:
                found[self._name.parse(name)] = self._weight.parse(inner)
            except Wrong as wrong:
                if isinstance(inner, dict):
                    inner_name = next(iter(inner), "name")
                    hint = (
                        f"a name with a dot stands in quotes:  {shown(f'{name}.{inner_name}')} = 2"
                    )
                    problems.add(at, f"{shown(inner)} is not a weight", hint)
                else:
                    problems.add(at, wrong.says, *wrong.hints)
        return found if len(found) == len(value) else BAD

    def parse(self, value: object) -> Any:
        """Refuse what is not a table."""
        raise self.refuse(value)

    def schema(self) -> dict[str, Any]:
        """Return a schema of weights by name."""
        return {
            "type": "object",
            "minProperties": 1,
            "propertyNames": {"pattern": f"^{_QUEUE}$"},
            "additionalProperties": self._weight.schema(),
        }


class Modules(ListOf):
    """The modules of a jobs worker."""

    brief = "list of modules"

    def __init__(self) -> None:
        module = Text(
            'a module, as "shop.tasks"', r"[^\W\d]\w*(?:\.[^\W\d]\w*)*",
            hint='the dotted name that `import` takes, as "shop.tasks"; not a file, and nothing after a colon',
        )  # fmt: skip
        super().__init__(module, 'a list of modules, as ["shop.tasks"]', least=1)

    def check(self, value: object, where: Where, problems: Problems) -> Any:
        """Return the names; what is meant for a component is told where it belongs."""
        if isinstance(value, str) and ":" in value:
            says = f"{shown(value)} is not {self.words}"
            hint = "of a component it belongs into [component.NAME]; a worker lists its components by name"
            problems.add(where, says, hint)
            return BAD
        return super().check(value, where, problems)


JOBS = Table(
    "job queue",
    "Where the jobs of this node are kept. Needed only where the defaults do not fit: a worker of kind `jobs` is enough. "
    "Every worker of the node finds the queue by itself (HOLDFAST_JOBS).",
    Key("store", StoreUrl(), "Where jobs are kept: a file (relative to the state directory), or Redis or Valkey.",
        default="sqlite:jobs.db", also=("url", "broker", "backend", "broker_url", "redis", "database"), example='"redis://127.0.0.1:6379/0"'),
    Key("prefix", Text("a text of letters, digits and _ . : - { }", r"[A-Za-z0-9_.:{}-]{1,64}"),
        "Stands before each key of Redis; without it the keys are Sidekiq's own. Of a file it has no meaning.",
        default_words='"", and "{holdfast}:" in a cluster', also=("namespace", "key_prefix"), example='"shop:"'),
    Key("lease", Duration(), "A worker of which nothing was heard for so long is taken for dead, and its jobs run elsewhere. "
        "Deaths on this machine are known at once; this is for a machine that is gone.", default="15s", also=("visibility_timeout", "lock_timeout"), example='"15s"'),
)  # fmt: skip

JOBS_KEYS = (
    Key("use", Modules(), "The modules that declare its jobs (`@job`); they are imported at the start.",
        only="jobs", also=("modules", "imports", "tasks"), example='["shop.tasks"]'),
    Key("queues", Either(ListOf(QueueName(), 'a list of queues, as ["critical", "default"]', least=1), Weights()),
        "The queues that it takes jobs from. A list: the first that has a job. A table of weights: by chance, the heavier the more often.",
        only="jobs", default_words='["default"]', also=("queue",), example="{ critical = 6, default = 2 }"),
    Key("concurrency", Integer(1, 1000), "How many plain functions run at a time in one process, each in a thread.", default=10, only="jobs",
        also=("threads",), example="10"),
    Key("async_concurrency", Integer(1, 100_000), "How many `async` functions run at a time in one process.", default=100, only="jobs",
        also=("coroutines",), example="100"),
    Key("processes", Integer(1, 64), "How many processes of it there are; each has its own threads, memory and limits. "
        "The second is the worker NAME.2.", default=1, only="jobs", also=("numprocs", "replicas", "instances"), example="2"),
    Key("timeout", Duration(zero=True), "For jobs that name none: a job that takes longer is interrupted and counts as failed; 0 means never.",
        default=0, only="jobs", also=("job_timeout", "time_limit"), example='"5m"'),
    Key("recycle_memory", Size(48 << 20, "48 MiB; an empty worker has about 30"), "A process with more memory than this ends between two jobs, and a fresh one goes on.",
        only="jobs", default_words="never", also=("max_memory_per_child", "recycle_rss"), example='"300M"'),
    Key("recycle_jobs", Integer(1, 1_000_000_000), "A process ends after so many jobs, and a fresh one goes on.",
        only="jobs", default_words="never", also=("max_tasks_per_child", "max_jobs", "maxtasksperchild"), example="10000"),
)  # fmt: skip


def without_password(url: str) -> str:
    """Return the URL of a store as it may be shown to people."""
    head, at, rest = url.rpartition("@")
    user, colon, _ = head.partition("://")[2].partition(":")
    return f"{head.partition('://')[0]}://{user}:…@{rest}" if at and colon else url
