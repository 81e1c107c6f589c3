"""Whom do we ask, and what does it mean when it goes wrong?

A link is a server (found again by Sentinel or by a cluster's directions when it has moved), a few open connections to it, and the
scripts that it knows. Any thread may use it; a child after a fork opens its own connections.

A command that may have been carried out is never sent a second time by itself: the caller gets `StoreDownError` and decides. Sent
again are only commands that just read, and those that the server has refused without doing anything.
"""

import os
from collections import deque
from time import monotonic

from holdfast.jobs.redis.resp import Connection, CutError, Push, ReplyError, pack
from holdfast.model.jobs import StoreDownError, StoreRefusedError
from holdfast.wire.redisurl import CLUSTER, SENTINEL, Address

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, Never

    from holdfast.jobs.redis.resp import Word

    Where = tuple[str, int] | str

#: These pass: the server starts, fails over, is full, cannot write to its disk, …
_PASSING = (
    "LOADING", "READONLY", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "BUSY", "OOM", "MISCONF", "NOREPLICAS",
    "UNBLOCKED", "MOVED", "ASK",
)  # fmt: skip
_WHAT_TO_DO = {
    "OOM": "\n  its memory is full: raise maxmemory, or let workers drain the queues",
    "MISCONF": "\n  it cannot save to its disk: free some space there, its log says more",
    "LOADING": "\n  it has just started and reads its data",
    "READONLY": "\n  it is a replica: the master is another one",
}
#: A server may send us on so often.
_TURNS = 5
#: A connection that was idle for longer may have been closed meanwhile.
_IDLE_S = 0.2
#: More idle connections than this are closed.
_IDLE_MOST = 8
_LUA = os.path.join(os.path.dirname(__file__), "lua")
#: Sources by name, read once; and the names by which the servers know them (the same everywhere: their SHA-1).
_sources: "dict[str, bytes]" = {}
_digests: "dict[str, bytes]" = {}


class Link:
    """A way to a server."""

    __slots__ = ("_free", "_home", "_pid", "_seeds", "address", "breaks", "rtt_s")

    def __init__(self, address: Address) -> None:
        self.address = address
        #: Idle connections, the one used last at the end: `pop` and `append` are atomic.
        self._free: deque[Connection] = deque()
        self._home: Where | None = None
        self._seeds = list(address.hosts)
        self._pid = os.getpid()
        self.rtt_s = 0.0  #: how long the last script took, all in all
        self.breaks = 0  #: how often a connection was found to be cut

    # -- asking ------------------------------------------------------------------------------------------

    def call(self, *command: "Word", again: bool = False) -> "Any":
        """Return the reply to one command; ``again``: it only reads, a second try does no harm."""
        reply = self.many((command,), again=again)[0]
        if reply.__class__ is ReplyError:
            self.explain(reply)
        return reply

    def many(self, commands: "Sequence[Sequence[Word]]", again: bool = False) -> "list[Any]":
        """Return the replies to commands that are sent in one go; errors are among them, as `ReplyError`."""
        data = b"".join(map(pack, commands))
        expected = len(commands)
        for turn in range(_TURNS):
            try:
                replies = self._exchange(data, expected)
            except (OSError, ReplyError) as error:
                if again and isinstance(error, CutError | ConnectionError) and turn == 0:
                    self.breaks += 1
                    self.close()  # the other idle ones are probably cut, too
                    continue
                self.explain(error)
            for reply in replies:
                if reply.__class__ is ReplyError and reply.code in ("MOVED", "ASK", "READONLY"):
                    break
            else:
                return replies
            if not self._follow(reply, turn) or (not again and not _nothing_done(replies)):
                return replies
            if reply.code == "ASK":
                return self._asking(reply, commands)
        raise StoreDownError(f"{self.address.url}: its servers send us from one to the other")

    def script(self, name: str, *words: "Word", agreed: "int | None" = None) -> "Any":
        """Run one of the scripts in `lua/`; the first of ``words`` is KEYS[1].

        Args:
            name: Of the script.
            words: Its arguments.
            agreed: Run it only if no connection was cut since ``breaks`` was this.

        Raises:
            StoreDownError: One was cut; nothing was sent.
        """
        if agreed is not None:
            self.give(self.take_or_explain())
            if self.breaks != agreed:
                raise StoreDownError(
                    f"{self.address.url}: a connection was cut since we agreed with it"
                )
        digest = _digests.get(name)
        if digest is None:
            digest = self._load(name)
        started = monotonic()
        reply = self.many((("EVALSHA", digest, 1, *words),))[0]
        if reply.__class__ is ReplyError and reply.code == "NOSCRIPT":
            # A server that was started again, or another one. It has done nothing.
            self._load(name)
            reply = self.many((("EVALSHA", digest, 1, *words),))[0]
        if reply.__class__ is ReplyError:
            self.explain(reply)
        self.rtt_s = monotonic() - started
        return reply

    def _load(self, name: str) -> bytes:
        source = _sources.get(name)
        if source is None:
            source = _sources[name] = _read(name)
        # The server says the digest: computing it would need `hashlib`, and that all of OpenSSL.
        digest: bytes = self.call("SCRIPT", "LOAD", source, again=True)
        _digests[name] = digest
        return digest

    # -- connections -------------------------------------------------------------------------------------

    def take(self) -> Connection:
        """Return a connection nobody else uses; give it back with :meth:`give`, or close it.

        Raises:
            OSError: None of the servers can be reached.
            ReplyError: It does not let us in.
        """
        if os.getpid() != self._pid:
            self._forked()
        try:
            while True:
                connection = self._free.pop()
                if monotonic() - connection.used_s < _IDLE_S or not connection.is_over():
                    return connection
                self.breaks += 1
                connection.close()
        except IndexError:
            return self.open()

    def take_or_explain(self) -> Connection:
        """Return a connection as :meth:`take` does, with the errors of a store."""
        try:
            return self.take()
        except (OSError, ReplyError) as error:
            self.explain(error)

    def give(self, connection: Connection) -> None:
        """Take a connection back whose replies have all been read."""
        connection.used_s = monotonic()
        if len(self._free) < _IDLE_MOST:
            self._free.append(connection)
        else:
            connection.close()

    def open(self) -> Connection:
        """Open a connection to whoever is in charge."""
        if self.address.path:
            return Connection(self.address, self.address.path)
        if self._home is not None:
            try:
                return Connection(self.address, self._home)
            except OSError:
                if self.address.kind not in (SENTINEL, CLUSTER):
                    raise
                self._home = None
        if self.address.kind == SENTINEL:
            return self._ask_sentinels()
        last: OSError | None = None
        # In a cluster any node does: it sends us on.
        for host in list(self._seeds):
            try:
                connection = Connection(self.address, host)
            except OSError as error:
                last = error
            else:
                self._home = host
                return connection
        raise last or OSError("no server is named")

    def close(self) -> None:
        """Close all idle connections."""
        while self._free:
            try:
                self._free.pop().close()
            except IndexError:  # another thread was quicker
                break

    def _forked(self) -> None:
        # Closing them here says nothing to the server: no byte is sent, and the parent's descriptors stay open.
        self._pid = os.getpid()
        self.close()

    def _exchange(self, data: bytes, expected: int) -> "list[Any]":
        connection = self.take()
        try:
            connection.send(data)
            read = connection.read
            if expected == 1:
                reply = read()
                while reply.__class__ is Push:
                    reply = read()
                replies = [reply]
            else:
                replies = [read() for _ in range(expected)]
        except BaseException:
            # Also for an exception that somebody throws into this thread: half a reply would be taken for the next one.
            connection.close()
            raise
        self.give(connection)
        return replies

    # -- finding the master ------------------------------------------------------------------------------

    def _ask_sentinels(self) -> Connection:
        """Return a connection to whom a Sentinel calls the master, and who says so, too."""
        says: list[str] = []
        for host in list(self._seeds):
            try:
                sentinel = Connection(self.address, host, is_sentinel=True)
            except (OSError, ReplyError) as error:
                says.append(f"Sentinel {host[0]}:{host[1]}: {error}")
                continue
            try:
                found = sentinel.call("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self.address.service)
            except (OSError, ReplyError) as error:
                says.append(f"Sentinel {sentinel.name}: {error}")
                continue
            finally:
                sentinel.close()
            if not found:
                says.append(
                    f'Sentinel {host[0]}:{host[1]} knows no service "{self.address.service}"'
                )
                continue
            where = (found[0].decode(), int(found[1]))
            try:
                connection = Connection(self.address, where)
            except OSError as error:
                says.append(f"the master {where[0]}:{where[1]}: {error}")
                continue
            try:
                role = connection.call("ROLE")[0]
            except BaseException:
                connection.close()
                raise
            if role == b"master":
                # The one that knew comes first from now on.
                self._seeds.remove(host)
                self._seeds.insert(0, host)
                self._home = where
                return connection
            connection.close()
            says.append(f"{where[0]}:{where[1]} is not yet the master")
        raise OSError("; ".join(says))

    def _follow(self, reply: ReplyError, turn: int) -> bool:
        """Go where a server sends us; False: there is nowhere to go."""
        if reply.code == "MOVED":
            self._home = _place(reply, self._home)
        elif reply.code == "READONLY":
            if self.address.kind == CLUSTER:
                self._home = None
            elif self.address.kind != SENTINEL or turn:
                return False
            else:
                self._home = None
        else:
            return True
        self.close()
        return True

    def _asking(self, reply: ReplyError, commands: "Sequence[Sequence[Word]]") -> "list[Any]":
        """Ask the node to which a slot is moving just now, this once."""
        replies = []
        try:
            connection = Connection(self.address, _place(reply, self._home))
            try:
                for command in commands:
                    connection.send(pack(("ASKING",)) + pack(command))
                    connection.read()
                    replies.append(connection.read())
            finally:
                connection.close()
        except (OSError, ReplyError) as error:
            self.explain(error)
        return replies

    # -- what went wrong ---------------------------------------------------------------------------------

    def explain(self, error: "Exception") -> "Never":
        """Raise what the caller of a store has to know.

        Raises:
            StoreDownError: It passes.
            StoreRefusedError: It does not.
        """
        url = self.address.url
        if not isinstance(error, ReplyError):
            # The others are probably cut, too; and the master may be another one by now.
            self.breaks += 1
            self.close()
            if self.address.kind != "one":
                self._home = None
            if _is_about_certificates(error):
                raise StoreRefusedError(f"{url}: {error}") from error
            raise StoreDownError(f"{url}: {error}") from error
        text = str(error)
        for code in _PASSING:
            # Redis 6 wraps what went wrong inside a script: "ERR Error running script (…): -OOM command not allowed …".
            if error.code == code or f"-{code} " in text:
                raise StoreDownError(f"{url}: {text}{_WHAT_TO_DO.get(code, '')}") from error
        if "max number of clients" in text:
            raise StoreDownError(f"{url}: {text}") from error
        if error.code == "EXECABORT":
            raise StoreDownError(f"{url}: it did not take it: {text}") from error
        if error.code in ("NOAUTH", "WRONGPASS", "NOPERM") or "AUTH" in text or "password" in text:
            text += "\n  the user or the password in the store's URL is wrong, or may not do this"
        raise StoreRefusedError(f"{url}: {text}") from error


def _nothing_done(replies: "list[Any]") -> bool:
    """Say whether all commands were refused (in a MULTI: were not carried out)."""
    return all(reply.__class__ is ReplyError or reply in ("OK", "QUEUED") for reply in replies)


def _place(reply: ReplyError, home: "Where | None") -> "tuple[str, int]":
    """Return the place of `MOVED 3999 127.0.0.1:6381`; an empty host is the one that said so."""
    host, _, port = str(reply).split(" ")[2].rpartition(":")
    if not host and isinstance(home, tuple):
        host = home[0]
    return host.strip("[]"), int(port)


def _is_about_certificates(error: BaseException) -> bool:
    return type(error).__name__ == "SSLCertVerificationError"


def _read(name: str) -> bytes:
    """Return a script as it is sent: with what all share in front, where it uses that."""
    with open(os.path.join(_LUA, f"{name}.lua"), "rb") as file:
        text = file.read()
    if text.startswith(b"-- uses shared.lua"):
        with open(os.path.join(_LUA, "shared.lua"), "rb") as file:
            text = file.read() + text
    return text
