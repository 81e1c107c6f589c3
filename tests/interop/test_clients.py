"""Other people's clients against a router process: every serializer, transport and sign-in that each has.

A component or a browser that worked with another router has to work here. What a client sees is one table, the same for all
of them; what a client has not got is left out of its row, by name.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from holdfast.core.wamp.auth.scram import scram_credentials
from holdfast.core.wamp.auth.wampcra import derive_wampcra
from holdfast.router import alone
from interop import stage
from router.peers import HELLO, ROLES, SLOWNESS, WELCOME, WebSocketPeer, tls_files

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

SERIALIZERS = ("json", "msgpack", "cbor")
SEED = "4d57d97a68f555696620a6d849c0ce582568518d729eb753dc7c732de2804510"
PUBLIC = "1adfc8bfe1d35616e64dffbd900096f23b066f914c8c2ffbb66f6075b96e116d"
ROLE = {"role": "user"}

AUTH: dict[str, Any] = {
    "anonymous": {"type": "static", "role": "anonymous"},
    "cookie": {"name": "cbtid", "path": None},
    "ticket": {"type": "static", "principals": {"joe": {"ticket": "secret!", **ROLE}}},
    "wampcra": {"type": "static", "users": {
        "joe": {"secret": "secret!", **ROLE},
        "salted": {"secret": derive_wampcra("secret!", "salt123", 100, 32), "salt": "salt123", "iterations": 100, "keylen": 32, **ROLE},
    }},
    **({"scram": {"type": "static", "users": {
        "argon": {**scram_credentials("secret!", b"0123456789abcdef", 2, "argon2id-13", 512), **ROLE},
    }}} if find_spec("argon2") else {}),
    "cryptosign": {"type": "static", "principals": {"joe": {"authorized_keys": [PUBLIC], **ROLE}}},
}  # fmt: skip

#: Ways to sign in: (authmethod, what the library is told).
_WAYS: dict[str, tuple[str, dict[str, str]]] = {
    "ticket": ("ticket", {"authid": "joe", "ticket": "secret!"}),
    "wampcra": ("wampcra", {"authid": "joe", "secret": "secret!"}),
    "wampcra with salt": ("wampcra", {"authid": "salted", "secret": "secret!"}),
    # Not with PBKDF2: Autobahn|Python hands the salt to its own function as text, which refuses that.
    "scram with argon2": ("scram", {"authid": "argon", "password": "secret!"}),
    "cryptosign": ("cryptosign", {"authid": "joe", "privkey": SEED}),
}
_WRONG: dict[str, tuple[str, dict[str, str]]] = {
    "wrong ticket": ("ticket", {"authid": "joe", "ticket": "guess"}),
    "wrong wampcra": ("wampcra", {"authid": "joe", "secret": "guess"}),
    "wrong scram": ("scram", {"authid": "argon", "password": "guess"}),
    "wrong cryptosign": ("cryptosign", {"authid": "joe", "privkey": SEED[::-1]}),
}

ARGS = ["grüße 😀", 1, -7, 2.5, True, None, [1, [2]], {"x": {}}]
KWARGS = {"k": [1, 2], "ü": "ß"}
SENT = [stage.TEXT, stage.BIG, stage.BINARY]
#: A summary does not depend on the serializer.
SEEN = [stage.summary(value, "msgpack") for value in SENT]

EXPECTED: dict[str, Any] = {
    "call": [ARGS, KWARGS],
    "progress": [[0, 1, 2], "done"],
    "cancel": ["wamp.error.canceled", "still here"],
    "error": ["com.app.broken", ["why", 7], {"at": 3}],
    "missing": "wamp.error.no_such_procedure",
    "twice": "wamp.error.procedure_already_exists",
    # 1 and 3 with exclude_me off, 4 excludes the other session, 5 is for it alone.
    "publish": [[1, 3], [1, 2, 3, 5], [True, True, True]],
    "patterns": [["prefix", ".p.one"], ["wildcard", ".w.q.x"], ["exact", ".end"]],
    "meta": [True, True, True],
    "gone": "wamp.error.no_such_procedure",
    **{f"payload {name}": [[True, True, True], SEEN, SEEN] for name in SERIALIZERS},
}


class Library(NamedTuple):
    """A client library, what it can, and how its program is started."""

    name: str
    command: tuple[str, ...]  #: `{js}` is where the JavaScript packages are
    transports: Mapping[str, tuple[str, ...]]  #: the serializers of each
    ways: tuple[str, ...]
    lacks: tuple[str, ...] = ()
    differs: dict[str, Any] = {}  # noqa: RUF012 -- nobody writes to it
    cookie: bool = False

    @property
    def package(self) -> str:
        return self.name.split(" ")[0]


_EVERYWHERE = dict.fromkeys(("ws", "wss", "rs", "rss", "unix"), SERIALIZERS)
LIBRARIES = (
    Library(
        "autobahn for Python", (sys.executable, "python/with_autobahn.py"), _EVERYWHERE,
        ("ticket", "wampcra", "wampcra with salt", "scram with argon2", "cryptosign"),
    ),
    Library(
        "xconn for Python", (sys.executable, "python/with_xconn.py"),
        # It opens rss:// without TLS.
        dict.fromkeys(("ws", "wss", "rs", "unix"), SERIALIZERS),
        ("ticket", "wampcra", "wampcra with salt", "cryptosign"),
        ("progress", "cancel"),
    ),
    Library(
        "wampy for Node", ("node", "js/with_wampy.mjs", "{js}"), dict.fromkeys(("ws", "wss"), SERIALIZERS),
        ("ticket", "wampcra", "wampcra with salt", "cryptosign"), cookie=True,
        # It never sends exclude_me where that is false.
        differs={"publish": [[], [1, 2, 3, 5], [True, True, True]]},
    ),
    Library(
        "autobahn for Node", ("node", "js/with_autobahn.mjs", "{js}"),
        {"ws": SERIALIZERS, "wss": SERIALIZERS, "rs": ("json",), "unix": ("json",)},
        ("ticket", "wampcra", "wampcra with salt", "cryptosign"), cookie=True,
    ),
)  # fmt: skip


def cases_of(library: Library) -> list[dict[str, Any]]:
    """All that a library is told to do; the addresses come in later."""
    made: list[dict[str, Any]] = [
        {"name": f"{transport} {serializer}", "to": transport, "serializer": serializer, "do": "everything"}
        for transport, serializers in library.transports.items()
        for serializer in serializers
    ]  # fmt: skip
    for at, way in enumerate(library.ways):
        method, how = _WAYS[way]
        for transport in ("ws", "rs"):
            if transport in library.transports:
                serializers = library.transports[transport]
                serializer = serializers[at % len(serializers)]
                made.append({"name": f"{way} over {transport}", "to": f"{transport} auth", "serializer": serializer, "auth": {method: how}, "do": "sign in"})  # fmt: skip
    for name, (method, how) in _WRONG.items():
        if any(_WAYS[way][0] == method for way in library.ways):
            made.append({"name": name, "to": "ws auth", "serializer": "json", "auth": {method: how}, "do": "refused"})  # fmt: skip
    if library.name == "autobahn for Python":
        bound = {"channel_binding": "tls-unique"}
        made.append({"name": "cryptosign bound to its channel", "to": "rss auth", "serializer": "cbor", "auth": {"cryptosign": {**_WAYS["cryptosign"][1], "authextra": bound}}, "do": "sign in"})  # fmt: skip
    if library.cookie:
        made.append({"name": "cookie", "to": "ws auth", "serializer": "json", "auth": {"cookie": {}}, "do": "sign in"})  # fmt: skip
    for n, case in enumerate(made):
        case.update(tag=f"c{n}", within_s=10 * SLOWNESS, args=ARGS, kwargs=KWARGS)
    return made


class Stage:
    """The router process with all its transports, its companions, and what the libraries reported."""

    def __init__(self, directory: Path) -> None:
        self.certificate, key = tls_files(directory)
        transports = []
        for name, auth in (("open", {}), ("auth", AUTH)):
            for kind in ("tcp", "tls"):
                made = alone.transport(f"{kind} {name}", auth=auth)
                if kind == "tls":
                    made["endpoint"]["tls"] = {
                        "certificate": self.certificate, "key": key, "chain": [], "ca": [], "require_client": False, "ciphers": None,
                    }  # fmt: skip
                transports.append(made)
        local = alone.transport("unix open", "unix")
        local["endpoint"]["path"] = str(directory / "bus.sock")
        transports.append(local)
        self.router = stage.RouterProcess(stage.plan_of(transports, "user"), directory)
        self.companions: list[stage.Companion] = []
        self._reports: dict[str, stage.Report] = {}

    def url(self, to: str) -> str:
        """The address of a transport as a library is told it: `ws`, `rss auth`."""
        scheme, _, name = to.partition(" ")
        if scheme == "unix":
            return f"unix://{self.router.addresses['unix open']}"
        kind = "tls" if scheme.endswith("ss") and scheme != "rs" else "tcp"
        host = "localhost" if kind == "tls" else "127.0.0.1"
        slash = "/" if scheme.startswith("w") else ""
        port = self.router.port(f"{kind} {name or 'open'}")
        return f"{scheme}://{host}:{port}{slash}"

    def cookie(self) -> str:
        """A cookie that stands for joe."""
        peer = WebSocketPeer(self.router.connect("tcp auth"), "json")
        peer.send(HELLO, "realm1", {"roles": ROLES, "authid": "joe", "authmethods": ["ticket"]})
        peer.receive()
        peer.send(5, "secret!", {})
        peer.expect(WELCOME)
        line = next(
            line for line in peer.head.splitlines() if line.lower().startswith("set-cookie:")
        )
        peer.close()
        return line.partition(":")[2].partition(";")[0].strip()

    def report(self, library: Library) -> stage.Report:
        """What a library has seen; its program is run at the first question."""
        if library.name not in self._reports:
            cases = cases_of(library)
            for case in cases:
                case.update(url=self.url(case["to"]), ca=self.certificate)
                if case["name"] == "cookie":
                    case["auth"] = {"cookie": {"authid": "joe", "cookie": self.cookie()}}
            command = [
                part.format(js=packages() if "js" in library.command[1] else "")
                for part in library.command
            ]
            command[1] = str(stage.HERE / command[1])
            trust = {"SSL_CERT_FILE": self.certificate, "NODE_EXTRA_CA_CERTS": self.certificate}
            self._reports[library.name] = stage.run(command, cases, 60 * SLOWNESS, trust)
        return self._reports[library.name]

    def end(self) -> None:
        for companion in self.companions:
            companion.end()
        self.router.kill()


def packages() -> str:
    """The directory with the JavaScript packages; skips where they cannot be had."""
    found, missing = _installed()
    if missing:
        pytest.skip(missing)
    return found


@cache
def _installed() -> tuple[str, str]:
    """Install once into the user's cache, exactly as the lock says: (directory, or why there is none)."""
    for program in ("node", "npm"):
        if shutil.which(program) is None:
            return "", f"{program} is not installed: wampy and autobahn for Node are not tested"
    wanted = stage.HERE / "js"
    lock = (wanted / "package-lock.json").read_bytes()
    cache_dir = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "holdfast-tests"
    ready = cache_dir / f"js-{hashlib.sha256(lock).hexdigest()[:16]}"
    if ready.is_dir():
        return str(ready), ""
    making = cache_dir / f"making-{os.getpid()}"
    shutil.rmtree(making, ignore_errors=True)
    making.mkdir(parents=True)
    try:
        for name in ("package.json", "package-lock.json"):
            shutil.copy(wanted / name, making)
        done = subprocess.run(
            ["npm", "ci", "--ignore-scripts", "--omit=optional", "--no-audit", "--no-fund"],
            cwd=making, capture_output=True, text=True, timeout=120 * SLOWNESS, check=False,
        )  # fmt: skip
        if done.returncode:
            return "", f"npm ci failed (no registry?): {done.stderr[:500]}"
        if not ready.is_dir():  # else another test process was faster
            making.rename(ready)
    except subprocess.TimeoutExpired:
        return "", "npm ci took too long (no registry?)"
    finally:
        shutil.rmtree(making, ignore_errors=True)
    return str(ready), ""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    made = Stage(tmp_path_factory.mktemp("interop"))
    try:
        for serializer in SERIALIZERS:
            made.companions.append(stage.Companion(made.router.connect("tcp open"), serializer))
        yield made
    finally:
        made.end()


def _skip_unless_there(library: Library, case: dict[str, Any]) -> None:
    if "scram" in case["name"]:
        pytest.importorskip("argon2")
        pytest.importorskip("passlib")
    if library.command[0] == "node":
        packages()
    else:
        for module in (library.package, "nacl"):
            pytest.importorskip(module)


def _rows(do: str) -> list[Any]:
    return [
        pytest.param(library, case, id=f"{library.name}: {case['name']}")
        for library in LIBRARIES
        for case in cases_of(library)
        if case["do"] == do
    ]


@pytest.mark.parametrize(("library", "case"), _rows("everything"))
def test_a_client_gets_everything_it_asks_for(run: Stage, library: Library, case: dict[str, Any]) -> None:  # fmt: skip
    """Calls, progress, cancelling, errors, events, patterns, the meta API, and payloads to a peer of another serializer."""
    _skip_unless_there(library, case)
    report = run.report(library)

    saw = {check: report.saw(case["name"], check) for check in EXPECTED if check not in library.lacks}  # fmt: skip
    assert saw == {check: library.differs.get(check, EXPECTED[check]) for check in saw}


@pytest.mark.parametrize(("library", "case"), _rows("sign in"))
def test_a_client_signs_in(run: Stage, library: Library, case: dict[str, Any]) -> None:
    _skip_unless_there(library, case)
    ((method, how),) = case["auth"].items()

    authid, role, authmethod = run.report(library).saw(case["name"], "join")

    assert (authid, role) == (how.get("authid", "joe"), "user")
    if authmethod is not None:  # not every library tells
        # By cookie: how the sign-in that the cookie stands for was made.
        assert authmethod in {"cookie": ("ticket", "cookie")}.get(
            method, (method, f"wamp-{method}")
        )


@pytest.mark.parametrize(("library", "case"), _rows("refused"))
def test_a_client_is_told_that_its_proof_was_wrong(run: Stage, library: Library, case: dict[str, Any]) -> None:  # fmt: skip
    _skip_unless_there(library, case)

    said = run.report(library).saw(case["name"], "refused")

    # xconn tells of an ABORT in words of its own.
    assert "wamp.error.authentication_failed" in json.dumps(said) or library.package == "xconn"
