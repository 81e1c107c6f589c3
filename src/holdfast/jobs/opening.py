"""From the URL of a job store to the store. Opens no connection: that happens at the first use.

``sqlite:///var/lib/app/jobs.db`` (absolute) or ``sqlite:jobs.db`` (from where the program was started), both with ``?durable=power`` if
an enqueue has to survive a power cut; without it, it survives the end of every process. Redis and Valkey: see `jobs/redis/`.
"""

import os

from holdfast.model.jobs import StoreRefusedError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from holdfast.jobs.store import Store

EXAMPLES = (
    "  There are: sqlite:///var/lib/app/jobs.db, sqlite:jobs.db, redis://[user:password@]host:6379/0, rediss://…,\n"
    "             redis+unix:///run/redis.sock?db=0, redis+sentinel://host1:26379,host2:26379/service/0, redis+cluster://host1:6379,host2:6379"
)
_REDIS = ("redis", "rediss", "redis+unix", "redis+sentinel", "rediss+sentinel", "redis+cluster", "rediss+cluster", "valkey", "valkeys", "unix")  # fmt: skip


def open_store(url: str, prefix: str = "") -> "Store":
    """Return the store that a URL names.

    Args:
        url: See the module, and `jobs/redis/`.
        prefix: Before each key of Redis. A file needs none.

    Raises:
        StoreRefusedError: This is no URL of a store; the text says what one looks like.
    """
    scheme, colon, rest = url.partition(":")
    if not colon:
        hint = f"  A file is written as: sqlite://{os.path.abspath(url)}\n" if url else ""
        raise StoreRefusedError(f'job store: "{url}" is no URL\n{hint}{EXAMPLES}')
    scheme = scheme.lower()
    if scheme == "sqlite":
        return _open_sqlite(url, rest, prefix)
    if scheme in _REDIS:
        from holdfast.jobs.redis.store import RedisStore

        return RedisStore(url, prefix)
    near = "redis" if scheme.startswith(("redi", "vlak", "valk")) else ""
    near = "sqlite" if scheme.startswith(("sql", "file")) else near
    ask = f' Did you mean "{near}:"?' if near else ""
    raise StoreRefusedError(f'job store: "{scheme}:" is no store of ours.{ask}\n{EXAMPLES}')


def _open_sqlite(url: str, rest: str, prefix: str) -> "Store":
    from holdfast.jobs.sqlite.store import SqliteStore

    if prefix:
        raise StoreRefusedError(f'job store: {url}: a file needs no prefix ("{prefix}")\n  Give each application a file of its own.')  # fmt: skip
    path, _, query = rest.partition("?")
    if path.startswith("//"):
        if not path.startswith("///"):
            name = path[2:]
            raise StoreRefusedError(
                f"job store: {url}: two slashes begin the name of a host, and a file has none\n"
                f"  absolute:                   sqlite:///{name}\n  from the current directory: sqlite:{name}"
            )
        path = "/" + path.lstrip("/")
    if not path or path.endswith("/") or path == ":memory:":
        raise StoreRefusedError(f"job store: {url}: names no file\n  One that several processes can share: sqlite:///var/lib/app/jobs.db")  # fmt: skip
    if "%" in path:
        from urllib.parse import unquote

        path = unquote(path)
    return SqliteStore(path, is_power_safe=_is_power_safe(url, query))


def _is_power_safe(url: str, query: str) -> bool:
    is_safe = False
    for option in query.split("&") if query else ():
        name, _, value = option.partition("=")
        if name != "durable":
            raise StoreRefusedError(f'job store: {url}: there is no option "{name}"\n  There is: durable=process (the default) or durable=power')  # fmt: skip
        if value not in ("process", "power"):
            raise StoreRefusedError(
                f'job store: {url}: durable="{value}" means nothing\n'
                "  durable=process  an enqueue survives the end of every process (the default)\n"
                "  durable=power    it survives a power cut, too, and costs an fsync"
            )
        is_safe = value == "power"
    return is_safe
