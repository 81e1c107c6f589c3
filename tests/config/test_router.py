"""Routers and realms in a holdfast.toml: what they become, and what is refused."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from config.desk import Desk
from holdfast.config.load import load
from holdfast.linux.places import run_dir_for

ROUTER = '[worker.bus]\nkind = "router"\n'
OPEN = '[realm.realm1.role.anonymous]\npermissions = [{ uri = "*", allow = ["call"] }]\n'


def transports(desk: Desk, text: str) -> dict[str, Any]:
    router = desk.workers(text)["bus"].get("router")
    assert router is not None
    return {transport["name"]: transport for transport in router["transports"]}


def notes(desk: Desk, text: str) -> list[str]:
    found = load(desk.write(text), desk.environ).notes
    return [note.replace(f"{desk.directory}/", "") for note in found]


# -- what a router becomes ---------------------------------------------------------------------------


def test_a_router_is_a_container_whose_first_component_is_the_router(desk: Desk) -> None:
    """Same process, same pulse, same spare: nothing that watches containers has to learn of routers."""
    plan = desk.workers(ROUTER + 'listen = ["ws://127.0.0.1:0/ws"]\nspare = 1\n' + OPEN)["bus"]

    assert plan["kind"] == "router"
    assert plan["argv"][-1].endswith("/container/__main__.py")
    assert (plan["ready"]["kind"], plan["heartbeat"]["kind"], plan["spare"]) == (
        "pulse",
        "pulse",
        1,
    )
    assert plan["components"] == [
        {"name": "router", "use": "holdfast.router:app", "settings": {}, "bus": None}
    ]


def test_the_keeper_holds_every_socket_of_a_router(desk: Desk) -> None:
    """A client that connects while the router is being restarted waits in the backlog."""
    text = ROUTER + 'listen = ["ws://127.0.0.1:8080/ws", "unix:bus.sock"]\n'
    plan = desk.workers(text)["bus"]
    router = plan.get("router")
    assert router is not None

    listeners = {entry["name"]: entry for entry in plan["listen"]}
    assert list(listeners) == ["t0", "t1", "internal"]
    assert [t["endpoint"]["listener"] for t in router["transports"]] == list(listeners)
    assert (listeners["t0"]["host"], listeners["t0"]["port"]) == ("127.0.0.1", 8080)
    assert listeners["t1"]["path"] == f"{desk.directory}/bus.sock"
    run_dir = run_dir_for(f"{desk.directory}/.holdfast")
    assert listeners["internal"]["path"] == f"{run_dir}/bus/bus.sock"
    assert [t["internal"] for t in router["transports"]] == [False, False, True]


def test_one_port_serves_several_protocols(desk: Desk) -> None:
    """RawSocket is told from HTTP by its first octet, and HTTP by its path."""
    text = ROUTER + (
        'listen = ["ws://127.0.0.1:8080/ws", "rs://127.0.0.1:8080", "http://127.0.0.1:8080", "ws://127.0.0.1:8081"]\n'
    )
    found = transports(desk, text)

    assert list(found) == ["t0", "t1", "internal"]
    one = found["t0"]
    assert {path: service["kind"] for path, service in one["paths"].items()} == {
        "ws": "websocket", "health": "health", "info": "nodeinfo",
    }  # fmt: skip
    assert one["rawsocket"] is not None
    assert one["websocket"] is None  # only at /ws
    assert found["t1"]["websocket"] is not None  # at any path
    assert found["t1"]["paths"] == {}


def test_every_key_of_the_contract_is_filled_in(desk: Desk) -> None:
    """The router knows no default: what is missing in the plan is missing for good."""
    from holdfast.model import bus  # the shapes exist for the type checker only

    source = Path(bus.__file__).read_text()
    plan = desk.workers(ROUTER + 'listen = ["tcp://127.0.0.1:0"]\n')["bus"].get("router")
    assert plan is not None
    (transport, _) = plan["transports"]
    assert set(plan) == {"realms", "transports", "limits", "links", "identity"}
    for found in (
        plan["limits"], transport, transport["endpoint"], transport["rawsocket"], transport["websocket"], plan["realms"][0],
        plan["realms"][0]["roles"][0]["permissions"][0],
    ):  # fmt: skip
        assert found is not None
        for key in found:
            assert f" {key}:" in source, key
    for key in ("sessions", "connections_unauthenticated", "handshake_s", "calls_per_session"):
        assert key in plan["limits"]
    assert transport["rawsocket"] is not None
    assert transport["rawsocket"]["auth"] == {"anonymous": {"type": "static", "role": "anonymous"}}


def test_the_long_form_says_everything(desk: Desk) -> None:
    """All that Crossbar.io can say of a transport, in TOML."""
    (desk.directory / "web").mkdir()
    text = (
        ROUTER
        + OPEN
        + """
[worker.bus.limits]
sessions = 7
handshake = "2s"
[[worker.bus.transport]]
name = "public"
listen = "tcp://127.0.0.1:8080"
auth.ticket.principals.joe = { ticket = "open sesame", role = "anonymous" }
rawsocket = { serializers = ["cbor"], message_max = "1M" }
[worker.bus.transport.paths]
"/" = { kind = "static", directory = "web", fallback = "index.html", cache_timeout = "1h" }
"api/call" = { kind = "caller", realm = "realm1", role = "anonymous", key = "k", secret = "s" }
[worker.bus.transport.paths.ws]
kind = "websocket"
ping = "5s"
origins = ["https://example.com"]
[worker.bus.transport.paths.ws.auth]
cookie = { max_age = "1d" }
wampcra.users.ann = { secret = "x", salt = "y", role = "anonymous" }
scram.users.bob = { iterations = 4096, salt = "c2FsdA==", stored_key = "aa", server_key = "bb", role = "anonymous" }
cryptosign = { authenticator = "com.example.auth", authenticator_realm = "realm1" }
"""
    )
    public = transports(desk, text)["public"]
    limits = desk.workers(text)["bus"].get("router", {})["limits"]  # type: ignore[index]

    assert (limits["sessions"], limits["handshake_s"]) == (7, 2.0)
    assert public["rawsocket"]["message_bytes"] == 1 << 20
    assert public["rawsocket"]["serializers"] == ["cbor"]
    assert public["rawsocket"]["auth"]["ticket"]["principals"]["joe"]["ticket"] == "open sesame"
    static = public["paths"]["/"]["options"]
    assert static["directory"] == f"{desk.directory}/web"
    assert (static["fallback"], static["cache_timeout_s"]) == ("index.html", 3600.0)
    call = public["paths"]["api/call"]["options"]
    assert (call["realm"], call["key"], call["timestamp_delta_limit_s"]) == ("realm1", "k", 300)
    ws = public["paths"]["ws"]["websocket"]
    assert (ws["ping_s"], ws["origins"], ws["compression"]) == (5.0, ["https://example.com"], False)
    assert ws["auth"]["cookie"] == {
        "name": "holdfast", "length": 24, "max_age_s": 86400.0, "path": f"{desk.directory}/.holdfast/cookies/bus.public",
    }  # fmt: skip
    assert ws["auth"]["wampcra"]["users"]["ann"]["keylen"] == 32
    assert ws["auth"]["scram"]["users"]["bob"]["stored-key"] == "aa"
    assert ws["auth"]["cryptosign"] == {
        "type": "dynamic", "authenticator": "com.example.auth", "authenticator_realm": "realm1",
    }  # fmt: skip


def test_a_star_says_how_a_uri_is_meant(desk: Desk) -> None:
    """As in Crossbar.io; who writes `match` means every letter."""
    text = ROUTER + (
        "[realm.realm1.role.anonymous]\npermissions = ["
        '{ uri = "*" }, { uri = "a.*" }, { uri = "a.*.b" }, { uri = "a" }, { uri = "a.*", match = "exact", deny = ["call"] }]\n'
    )
    router = desk.workers(text)["bus"].get("router")
    assert router is not None
    rules = router["realms"][0]["roles"][0]["permissions"]

    assert [(rule["uri"], rule["match"]) for rule in rules] == [
        ("", "prefix"), ("a.", "prefix"), ("a..b", "wildcard"), ("a", "exact"), ("a.*", "exact"),
    ]  # fmt: skip
    assert rules[4]["deny"] == ["call"]


def test_tls_is_for_the_addresses_that_ask_for_it(desk: Desk) -> None:
    """A certificate that is not there is told before the node starts, with its key."""
    text = ROUTER + 'listen = ["wss://127.0.0.1:8443/ws"]\n'
    assert "this worker has no `tls`" in desk.problem(text)

    text += 'tls = { certificate = "cert.pem", key = "key.pem" }\n'
    missing = desk.problems(text)
    assert [problem.split(" ")[1] for problem in missing] == [
        "worker.bus.tls.certificate:",
        "worker.bus.tls.key:",
    ]

    for name in ("cert.pem", "key.pem"):
        desk.write("x", name)
    tls = transports(desk, text)["t0"]["endpoint"]["tls"]
    assert (tls["certificate"], tls["ca"]) == (f"{desk.directory}/cert.pem", [])


# -- realms ------------------------------------------------------------------------------------------


def test_without_a_realm_there_is_an_open_one_for_this_machine_only(desk: Desk) -> None:
    """Trying it out needs no permissions; the internet does not get them by accident."""
    router = desk.workers(ROUTER + 'listen = ["ws://127.0.0.1:0/ws", "unix:x"]\n')["bus"].get(
        "router"
    )
    assert router is not None
    (realm,) = router["realms"]
    assert (realm["name"], realm["roles"][0]["name"]) == ("realm1", "anonymous")
    assert len(realm["roles"][0]["permissions"][0]["allow"]) == 4

    refused = desk.problem(ROUTER + 'listen = ["ws://0.0.0.0:8080/ws"]\n')
    assert "everybody could do everything" in refused
    assert "[realm.realm1.role.anonymous]" in refused


def test_routers_of_one_realm_are_linked(desk: Desk) -> None:
    """The death of one loses no service: what is registered at the one can be called at the other."""
    text = (
        OPEN
        + '[realm.other]\n[worker.a]\nkind = "router"\n[worker.b]\nkind = "router"\nrealms = ["realm1"]\n'
    )
    workers = desk.workers(text)
    run_dir = run_dir_for(f"{desk.directory}/.holdfast")

    a, b = workers["a"].get("router"), workers["b"].get("router")
    assert a is not None
    assert b is not None
    assert [realm["name"] for realm in a["realms"]] == ["realm1", "other"]
    assert a["links"] == []
    assert b["links"] == [{"realm": "realm1", "url": f"unix:{run_dir}/bus/a.sock", "auth": {}}]


# -- components --------------------------------------------------------------------------------------


def test_a_component_finds_the_routers_of_its_realm(desk: Desk) -> None:
    """Where they are is placement, and placement is configuration: the component does not know."""
    text = (
        OPEN
        + '[realm.x]\nname = "com.example.x"\n[realm.x.role.mail]\n'
        + '[worker.a]\nkind = "router"\n[worker.b]\nkind = "router"\nrealms = ["x"]\n'
        + '[component.post]\nuse = "m:post"\nrealm = "com.example.x"\nrole = "mail"\n'
        + '[component.far]\nuse = "m:far"\nrealm = "r"\nbus = "wss://example.com/ws"\n'
        + 'auth = { method = "ticket", authid = "far", ticket = "t" }\n'
        + '[component.alone]\nuse = "m:alone"\nbus = false\n'
    )
    workers = desk.workers(text)
    run_dir = run_dir_for(f"{desk.directory}/.holdfast")

    assert workers["post"]["components"][0].get("bus") == {
        "realm": "com.example.x", "role": "mail", "auth": {}, "urls": [f"unix:{run_dir}/bus/a.sock", f"unix:{run_dir}/bus/b.sock"],
    }  # fmt: skip
    assert workers["far"]["components"][0].get("bus") == {
        "realm": "r", "role": None, "urls": ["wss://example.com/ws"], "auth": {"method": "ticket", "authid": "far", "ticket": "t"},
    }  # fmt: skip
    assert workers["alone"]["components"][0].get("bus") is None
    assert workers["post"]["after"] == []  # it comes back by itself; nobody has to wait


def test_a_component_inside_a_router_asks_that_one_first(desk: Desk) -> None:
    """It is surely there when the component is."""
    text = (
        OPEN
        + '[component.c]\nuse = "m:c"\n[worker.a]\nkind = "router"\n[worker.b]\nkind = "router"\ncomponents = ["c"]\n'
    )
    router, component = desk.workers(text)["b"]["components"]

    assert router["name"] == "router"
    bus = component.get("bus")
    assert bus is not None
    assert [url.rpartition("/")[2] for url in bus["urls"]] == ["b.sock", "a.sock"]


def test_a_node_without_a_router_is_as_it_was(desk: Desk) -> None:
    """Nothing about the bus gets into its plan."""
    assert desk.container()["components"] == [{"name": "c", "use": "m:c", "settings": {}}]
    assert "router" not in desk.container()


# -- what is refused ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        ('command = ["x"]', 'command: a router has no "command"'),
        ('realms = ["realm2"]', 'realms: there is no realm "realm2"\n  Did you mean "realm1"?'),
        ('components = ["router"]', 'the name "router" is taken'),
        ('listen = ["rs://127.0.0.1:1/x"]', "RawSocket has no paths"),
        ('listen = ["ws://127.0.0.1:1/a b"]', '"a b" is not a path'),
        ('[[worker.bus.transport]]\nlisten = "tcp://127.0.0.1:1"\nport = 8080', "transport[0].port: there is no such key"),
        ('[[worker.bus.transport]]\nname = "x"', 'there is no "listen" here'),
        (
            '[[worker.bus.transport]]\nlisten = "tcp://127.0.0.1:1"\npaths.x = { kind = "statik" }',
            'paths.x.kind: there is no kind "statik"\n  Did you mean "static"?',
        ),
        (
            '[[worker.bus.transport]]\nlisten = "tcp://127.0.0.1:1"\npaths.x = { kind = "redirect" }',
            'paths.x: there is no "url" here',
        ),
        (
            '[[worker.bus.transport]]\nlisten = "tcp://127.0.0.1:1"\nauth = { cookie = true }',
            "nobody can sign in here for the first time",
        ),
        (
            '[[worker.bus.transport]]\nlisten = "tcp://127.0.0.1:1"\nauth.ticket = {}',
            "auth.ticket: does not say who may sign in",
        ),
        (
            '[[worker.bus.transport]]\nlisten = "tcp://127.0.0.1:1"\nauth.tls = { authenticator = "a.b" }',
            "auth.tls: needs TLS on this transport",
        ),
        (
            '[[worker.bus.transport]]\nlisten = "tcp://127.0.0.1:1"\nwebsocket = { message_max = "1G" }',
            "is less than one message",
        ),
        ('link = [{ realm = "x", url = "ws://h/ws" }]', 'does not serve a realm "x"'),
        ('identity = "nokey"', "identity: nokey: there is no such file"),
        ("limits = { sessions = 0 }", "limits.sessions: 0 is not a whole number"),
    ],
)  # fmt: skip
def test_one_mistake_in_a_router_one_sentence(desk: Desk, lines: str, says: str) -> None:
    """With the place, what is wrong, and the nearest right thing."""
    extra = (
        '[component.router]\nuse = "m:r"\n' if "router" in lines and "components" in lines else ""
    )

    assert says in desk.problem(OPEN + extra + ROUTER + lines + "\n")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('[realm.r]\n[worker.w]\ncommand = ["true"]', "realm.r: no worker of this node is a router"),
        ('[worker.w]\ncommand = ["true"]\nlimits = { calls = 1 }', 'limits: a guest has no "limits"'),
        ('[component.c]\nuse = "m:c"\nrealm = "realm1"', "component.c.realm: there is no router on this node"),
        (ROUTER + OPEN + '[component.c]\nuse = "m:c"\nrole = "anonymus"', 'has no role "anonymus"\n  Did you mean "anonymous"?'),
        (ROUTER + OPEN + '[component.c]\nuse = "m:c"\nauth = { method = "ticket" }', "is for a router elsewhere"),
        (ROUTER + OPEN + '[component.c]\nuse = "m:c"\nbus = false\nrole = "anonymous"', "has no meaning with bus = false"),
        (ROUTER + '[realm.a]\n[realm.b]\nname = "a"', "two realms that clients call"),
    ],
)  # fmt: skip
def test_the_bus_as_a_whole_has_to_fit_together(desk: Desk, text: str, says: str) -> None:
    """What lies across tables is seen, too."""
    assert says in desk.problem(text + "\n")


def test_a_role_that_no_realm_has_is_told_but_does_not_stop_the_node(desk: Desk) -> None:
    """The roles of a dynamic authenticator are unknown here; a static one that fits nowhere is probably a slip."""
    text = ROUTER + 'listen = ["ws://127.0.0.1:0/ws"]\n[realm.realm1.role.anonimous]\n'

    (note,) = notes(desk, text)
    assert note.startswith(
        'holdfast.toml:3 worker.bus.listen: no realm of this router has a role "anonymous"'
    )
    assert 'Did you mean "anonimous"?' in note


def test_two_realms_and_a_component_that_names_none(desk: Desk) -> None:
    """It joins none rather than one that somebody guessed."""
    text = ROUTER + OPEN + '[realm.b]\n[component.c]\nuse = "m:c"\n'

    assert any("does not say which one it joins" in note for note in notes(desk, text))
    assert desk.workers(text)["c"]["components"][0].get("bus") is None


def test_a_directory_that_is_missing_is_a_warning(desk: Desk) -> None:
    """The site is built later; the router serves everything else meanwhile."""
    text = (
        ROUTER
        + OPEN
        + (
            '[[worker.bus.transport]]\nlisten = "tcp://127.0.0.1:0"\npaths."/" = { kind = "static", directory = "web" }\n'
        )
    )
    (note,) = notes(desk, text)

    assert note.startswith("holdfast.toml:7 ")
    assert "there is no such directory" in note


def test_a_real_certificate_passes(desk: Desk) -> None:
    """The paths that the plan has are those of files that are there."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("there is no openssl here")
    subprocess.run(
        [openssl, "req", "-x509", "-newkey", "ed25519", "-nodes", "-subj", "/CN=x", "-keyout", "key.pem", "-out", "cert.pem"],
        cwd=desk.directory, check=True, capture_output=True,
    )  # fmt: skip
    text = (
        ROUTER
        + OPEN
        + (
            '[[worker.bus.transport]]\nlisten = "tcp://127.0.0.1:0"\nauth.tls.principals.x = { subject = "x", role = "anonymous" }\n'
            'tls = { certificate = "cert.pem", key = "key.pem", ca = ["cert.pem"], require_client = true }\n'
        )
    )
    tls = transports(desk, text)["t0"]["endpoint"]["tls"]

    assert tls["require_client"] is True
    assert Path(tls["ca"][0]).read_text().startswith("-----BEGIN CERTIFICATE")
