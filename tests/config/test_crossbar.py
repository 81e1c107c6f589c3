"""Node configurations of Crossbar.io run as they are; what they say wrong is told with their own lines and keys."""

import json
import os
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from config.desk import Desk
from holdfast.config.importers import import_file
from holdfast.config.load import Loaded, load, load_plan
from holdfast.linux.places import run_dir_for
from holdfast.model.errors import ConfigError

if TYPE_CHECKING:
    from holdfast.model.plan import Plan

HERE = Path(__file__).parent
FOLDER = Path(
    os.environ.get("HOLDFAST_CROSSBAR_CONFIGS", HERE.parents[2] / "shared" / "crossbar-configs")
)
FOUND = [p for p in sorted(FOLDER.glob("*")) if p.suffix != ".md"] if FOLDER.is_dir() else []
REAL: list[Any] = [*FOUND] or [
    pytest.param(None, marks=pytest.mark.skip(reason=f"no configurations at {FOLDER} (HOLDFAST_CROSSBAR_CONFIGS)"))
]  # fmt: skip
#: Why a configuration of somebody else cannot run on this machine although every word of it is understood.
OF_THE_MACHINE = (
    "there is no such file",
    "there is no such program",
    "there is no program",
    "there is no such directory",
)

OPEN = {
    "uri": "",
    "match": "prefix",
    "allow": dict.fromkeys(("call", "register", "publish", "subscribe"), True),
}
REALM = {"name": "realm1", "roles": [{"name": "anonymous", "permissions": [OPEN]}]}
SOCKET = {"type": "websocket", "endpoint": {"type": "tcp", "interface": "127.0.0.1", "port": 8080}}
CLIENT = {"type": "websocket", "endpoint": {"type": "tcp", "host": "127.0.0.1", "port": 8080}, "url": "ws://127.0.0.1:8080/ws"}  # fmt: skip


def router(**keys: Any) -> dict[str, Any]:
    return {"type": "router", "realms": [REALM], "transports": [SOCKET], **keys}


def container(*components: dict[str, Any], **options: Any) -> dict[str, Any]:
    given = components or (
        {"type": "class", "classname": "a.b.C", "realm": "realm1", "transport": CLIENT},
    )
    return {"type": "container", "options": options, "components": list(given)}


def loaded(desk: Desk, *workers: dict[str, Any], **controller: Any) -> Loaded:
    config = {"version": 2, "controller": {"options": controller}, "workers": list(workers)}
    path = desk.write(json.dumps(config, indent=1), ".crossbar/config.json")
    return load(path, desk.environ)


def plans(desk: Desk, *workers: dict[str, Any], **controller: Any) -> list[dict[str, Any]]:
    return [dict(worker) for worker in loaded(desk, *workers, **controller).plan["workers"]]


def attempt(path: Path, environ: dict[str, str]) -> "tuple[Plan | None, list[str]]":
    """Load it; None with the problems when it is refused."""
    try:
        return load_plan(str(path), environ), []
    except ConfigError as error:
        return None, error.problems


# -- real ones ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", REAL, ids=lambda p: p.name if p else "none")
def test_a_real_configuration_runs_or_says_exactly_why(path: Path, tmp_path: Path) -> None:
    """Published ones, of ten years: their components are not here, but every word is understood."""
    target = tmp_path / ".crossbar" / f"config{path.suffix}"
    target.parent.mkdir()
    target.write_bytes(path.read_bytes())
    environ = {**os.environ, "DESKCONN_PORT": "5020", "DESKCONN_SOCK_DIR": str(tmp_path)}
    plan, problems = attempt(target, environ)
    if plan is None:
        for problem in problems:
            assert any(words in problem for words in OF_THE_MACHINE), problem
            place, key = problem.split(" ")[:2]
            assert int(place.rpartition(":")[2]) > 1
            assert key.startswith(("workers[", "controller"))
        return
    routers = [worker for worker in plan["workers"] if worker["kind"] == "router"]
    assert routers
    for worker in routers:
        found = worker.get("router")
        assert found is not None
        assert found["realms"]
        assert len(found["transports"]) > 1  # the internal one and at least one more


@pytest.mark.parametrize("path", REAL, ids=lambda p: p.name if p else "none")
def test_what_runs_is_what_an_import_shows(path: Path, tmp_path: Path) -> None:
    """One way from their words to ours, not two that drift apart."""
    target = tmp_path / f"config{path.suffix}"
    target.write_bytes(path.read_bytes())
    toml = tmp_path / "holdfast.toml"
    toml.write_text(import_file(str(target)).toml)
    environ = {**os.environ, "DESKCONN_PORT": "5020", "DESKCONN_SOCK_DIR": str(tmp_path)}
    direct, problems = attempt(target, environ)
    written, the_same = attempt(toml, environ)

    assert len(problems) == len(the_same)
    assert (direct and direct["workers"]) == (written and written["workers"])


# -- places ------------------------------------------------------------------------------------------


def test_a_mistake_is_told_with_the_line_and_key_of_crossbars_file(desk: Desk) -> None:
    """Crossbar.io itself names the rule that was broken, and leaves the searching to you."""
    config = {
        "workers": [router(transports=[{**SOCKET, "endpoint": {"type": "tcp", "port": 99999}}])]
    }
    text = json.dumps(config, indent=1)
    path = desk.write(text, ".crossbar/config.json")
    line = next(n for n, words in enumerate(text.splitlines(), 1) if "99999" in words)
    with pytest.raises(ConfigError) as caught:
        load_plan(path, desk.environ)

    (problem,) = caught.value.problems
    assert problem.startswith(f"{path}:{line} workers[0].transports[0].endpoint.port: ")
    assert "99999" in problem


def test_yaml_has_places_too(desk: Desk) -> None:
    """The same in the other format."""
    pytest.importorskip("yaml")
    path = desk.write(
        "version: 2\nworkers:\n- type: router\n  realms:\n  - name: r\n    roles: [{name: x}]\n  transports:\n"
        "  - type: rawsocket\n    serializers: [cbor]\n    endpoint:\n      type: unix\n      path: $NOWHERE/x.sock\n",
        ".crossbar/config.yaml",
    )
    with pytest.raises(ConfigError) as caught:
        load_plan(path, desk.environ)

    (problem,) = caught.value.problems
    assert problem.startswith(f"{path}:12 workers[0].transports[0].endpoint.path: ")
    assert "NOWHERE is not set" in problem


@pytest.mark.parametrize(
    ("worker", "says"),
    [
        ({"type": "router", "transports": [SOCKET]}, "workers[0] is a router without realms"),
        (router(transports=[{"type": "websocket"}]), "workers[0].transports[0] has no endpoint"),
        (router(transports=[{**SOCKET, "type": "web"}]), "workers[0].transports[0] has no paths"),
        (
            router(components=[{"type": "class", "classname": "a.B", "realm": "r2"}]),
            "workers[0].components[0].realm = 'r2': this router has realm1",
        ),
        (
            router(transports=[{**SOCKET, "auth": {"ticket": {"type": "magic"}}}]),
            "workers[0].transports[0].auth.ticket.type = 'magic': known are static, dynamic and function",
        ),
        (
            router(transports=[{**SOCKET, "auth": {"ticket": {"type": "static", "principals": {"joe": {"ticket": "x"}}}}}]),
            'auth.ticket.principals.joe: there is no "role" here',
        ),
        (router(realms=[REALM, REALM]), "this router has a realm 'realm1' already"),
        (container(restart="sometimes"), "workers[0].options.restart = 'sometimes': known are restart-always"),
    ],
)  # fmt: skip
def test_what_cannot_run_says_why(desk: Desk, worker: dict[str, Any], says: str) -> None:
    """By key, not only by rule."""
    with pytest.raises(ConfigError) as caught:
        plans(desk, worker)

    assert says in "\n".join(caught.value.problems)


def test_what_has_no_counterpart_is_noted_by_line_and_key(desk: Desk) -> None:
    """It runs without, but nobody has to find out by accident."""
    mqtt = {"type": "mqtt", "endpoint": {"type": "tcp", "port": 1883}}
    web = {
        **SOCKET,
        "type": "web",
        "paths": {"lp": {"type": "longpoll"}, "ws": {"type": "websocket", "debug": True}},
    }
    given = loaded(
        desk, router(transports=[mqtt, web], manhole={"port": 22}), {"type": "proxy", "id": "p"}
    )
    notes = "\n".join(given.notes)

    for key in ("workers[0].transports[0]", "workers[0].transports[1].paths.lp", "workers[0].transports[1].paths.ws.debug",
                "workers[0].manhole", "workers[1]"):  # fmt: skip
        assert any(note.split(" ", 1)[1].startswith(key) for note in given.notes), (key, notes)
    assert all(int(note.split(" ")[0].rpartition(":")[2]) > 0 for note in given.notes)


def test_a_configuration_of_which_nothing_is_left_is_refused(desk: Desk) -> None:
    """Starting an empty node would look like success."""
    with pytest.raises(ConfigError) as caught:
        plans(desk, {"type": "proxy", "id": "p"})

    assert "there is nothing to run" in "\n".join(caught.value.problems)


# -- what it means -----------------------------------------------------------------------------------


def test_relative_paths_mean_the_directory_of_the_node(desk: Desk) -> None:
    """.crossbar, in which the file is."""
    (desk.directory / "web").mkdir()
    web = {
        **SOCKET,
        "type": "web",
        "paths": {"/": {"type": "static", "directory": "../web", "options": {"cache_timeout": 60}}},
    }
    (bus,) = plans(desk, router(transports=[web], options={"pythonpath": [".."]}))

    options = bus["router"]["transports"][0]["paths"]["/"]["options"]
    assert options["directory"] == f"{desk.directory}/web"
    assert options["cache_timeout_s"] == 60
    assert bus["env"]["PYTHONPATH"] == str(desk.directory)


def test_permissions_of_every_age_mean_the_same(desk: Desk) -> None:
    """Version 1 had the actions beside the URI, and stars; version 2 has `allow` and `match`."""
    old = {"uri": "com.x.*", "call": True, "publish": True, "register": False}
    new = {
        "uri": "com.x.",
        "match": "prefix",
        "allow": {"call": True, "publish": True, "subscribe": False},
        "cache": True,
    }
    realm = {
        "name": "r",
        "roles": [{"name": "old", "permissions": [old]}, {"name": "new", "permissions": [new]}],
    }
    given = loaded(desk, router(realms=[realm], transports=[]))
    roles = given.plan["workers"][0].get("router", {})["realms"][0]["roles"]  # type: ignore[index]

    assert roles[0]["permissions"] == roles[1]["permissions"]
    assert (roles[0]["permissions"][0]["uri"], roles[0]["permissions"][0]["allow"]) == (
        "com.x.",
        ["call", "publish"],
    )
    assert any("takes effect at once" in note for note in given.notes)


def test_two_routers_with_a_realm_of_one_name_have_two_realms(desk: Desk) -> None:
    """In Crossbar.io realms live inside of routers: what happens in the one is not seen in the other."""
    second = {**SOCKET, "endpoint": {"type": "tcp", "interface": "127.0.0.1", "port": 8081}}
    inside = {"type": "class", "classname": "a.B", "realm": "realm1"}
    one, two = plans(desk, router(), router(transports=[second], components=[inside]))

    assert one["router"]["realms"][0]["name"] == two["router"]["realms"][0]["name"] == "realm1"
    assert two["router"]["links"] == []
    run_dir = run_dir_for(f"{desk.directory}/.crossbar/.holdfast")
    assert two["components"][1]["bus"] == {
        "realm": "realm1", "urls": [f"unix:{run_dir}/bus/router-2.sock"], "role": "anonymous", "auth": {},
    }  # fmt: skip


def test_a_component_of_a_container_keeps_its_way_to_the_router(desk: Desk) -> None:
    """By its URL, also when that is a transport of this very node: the role follows from the sign-in there."""
    ticket = {"ticket": {"authid": "joe", "ticket": "secret!"}}
    unix = {
        "type": "rawsocket",
        "serializer": "cbor",
        "endpoint": {"type": "unix", "path": "x.sock"},
    }
    secure = {
        **CLIENT,
        "endpoint": {"type": "tcp", "host": "h", "port": 443, "tls": {"hostname": "h"}},
        "url": "wss://h/ws",
    }
    parts = [
        {"type": "class", "classname": f"a.b.C{n}", "realm": "realm1", "transport": transport, **more}
        for n, (transport, more) in enumerate([(CLIENT, {"auth": ticket}), (unix, {}), (secure, {})])
    ]  # fmt: skip
    _, box = plans(desk, router(), container(*parts))
    joins = [component["bus"] for component in box["components"]]

    assert joins[0] == {
        "realm": "realm1", "urls": ["ws://127.0.0.1:8080/ws"], "role": None,
        "auth": {"method": "ticket", "authid": "joe", "ticket": "secret!"},
    }  # fmt: skip
    assert joins[1]["urls"] == [f"unix:{desk.directory}/.crossbar/x.sock"]
    assert joins[2]["urls"] == ["wss://h:443/ws"]


def test_extra_arrives_as_it_is(desk: Desk) -> None:
    """Also what TOML does not have: null."""
    extra = {"none": None, "text": "$HOME ${X}", "list": [1, None]}
    part = {
        "type": "class",
        "classname": "a.b.C",
        "realm": "realm1",
        "transport": CLIENT,
        "extra": extra,
    }
    _, box = plans(desk, router(), container(part))

    assert box["components"][0]["settings"] == extra


def test_a_universal_transport_is_one_port(desk: Desk) -> None:
    """RawSocket, WebSocket at its paths, and the web beside them."""
    endpoint = SOCKET["endpoint"]
    universal = {
        "type": "universal", "endpoint": endpoint, "rawsocket": {"serializers": ["cbor", "ubjson"]},
        "websocket": {"ws": {"type": "websocket", "options": {"auto_ping_interval": 5000, "max_message_size": 4096}}},
        "web": {"paths": {"/": {"type": "json", "value": None}, "a": {"type": "path", "paths": {"/": {"type": "nodeinfo"}, "b": {"type": "redirect", "url": "/"}}}}},
    }  # fmt: skip
    (bus,) = plans(desk, router(transports=[universal]))
    port = bus["router"]["transports"][0]

    assert port["rawsocket"]["serializers"] == ["cbor"]
    assert {path: entry["kind"] for path, entry in port["paths"].items()} == {
        "ws": "websocket", "/": "json", "a": "nodeinfo", "a/b": "redirect",
    }  # fmt: skip
    assert port["paths"]["/"]["options"]["value"] is None
    socket = port["paths"]["ws"]["websocket"]
    assert (socket["ping_s"], socket["message_bytes"]) == (5.0, 4096)


def test_signing_in_is_carried_over_whole(desk: Desk) -> None:
    """All methods, static and dynamic, secrets from the environment, and the cookie with its store."""
    desk.environ["TICKET"] = "from outside"
    key = "ab" * 32
    auth = {
        "ticket": {"type": "static", "principals": {"joe": {"ticket": "${TICKET}", "role": "anonymous"}}},
        "wampcra": {"type": "dynamic", "authenticator": "com.auth", "authenticator-realm": "realm1"},
        "scram": {"type": "static", "principals": {"ann": {
            "kdf": "argon2id-13", "iterations": 4, "memory": 512, "salt": "aa", "stored-key": "bb", "server-key": "cc", "role": "anonymous"}}},
        "cryptosign": {"type": "static", "principals": {"bob": {"authorized_keys": [key], "role": "anonymous"}}},
        "anonymous": {"type": "function", "create": "shop.auth.create", "config": {"a": 1}},
        "cookie": {"type": "static"},
    }  # fmt: skip
    cookie = {
        "name": "shop",
        "length": 30,
        "max_age": 3600,
        "store": {"type": "file", "filename": "cookies.dat"},
    }
    (bus,) = plans(desk, router(transports=[{**SOCKET, "auth": auth, "cookie": cookie}]))
    found = bus["router"]["transports"][0]["websocket"]["auth"]

    assert found["ticket"]["principals"]["joe"] == {"ticket": "from outside", "role": "anonymous"}
    assert found["wampcra"] == {
        "type": "dynamic",
        "authenticator": "com.auth",
        "authenticator_realm": "realm1",
    }
    assert found["scram"]["users"]["ann"]["stored-key"] == "bb"
    assert found["scram"]["users"]["ann"]["kdf"] == "argon2id-13"
    assert found["cryptosign"]["principals"]["bob"]["authorized_keys"] == [key]
    assert found["anonymous"] == {
        "type": "function",
        "create": "shop.auth:create",
        "config": {"a": 1},
    }
    assert found["cookie"] == {
        "name": "shop", "length": 30, "max_age_s": 3600.0, "path": f"{desk.directory}/.crossbar/cookies.dat",
    }  # fmt: skip


def test_event_history_and_realm_options(desk: Desk) -> None:
    """What the store of a realm keeps."""
    realm = {
        **REALM, "options": {"enable_meta_api": False, "uri_check": "strict"},
        "store": {"type": "memory", "event-history": [{"uri": "a.", "match": "prefix", "limit": 7}, {"uri": "", "match": "prefix"}]},
    }  # fmt: skip
    (bus,) = plans(desk, router(realms=[realm]))
    found = bus["router"]["realms"][0]

    assert [(kept["uri"], kept["match"]) for kept in found["history"]] == [
        ("a.", "prefix"),
        ("", "prefix"),
    ]
    assert found["history"][0]["limit"] == 7
    assert (found["meta_api"], found["uri_check"]) == (False, "strict")


# -- faults of Crossbar.io that this one has not --------------------------------------------------------


def test_restart_on_failed_restarts(desk: Desk) -> None:
    """Crossbar.io accepts the word and compares with another one: it never restarts."""
    (box,) = plans(desk, container(restart="restart-on-failed"))

    assert box["restart"]["policy"] == "on-failure"


@pytest.mark.parametrize("mode", ["shutdown_on_worker_exit_with_error", "shutdown_on_last_worker_exit", "shutdown_on_shutdown_requested"])  # fmt: skip
@pytest.mark.parametrize("as_list", [False, True])
def test_a_shutdown_mode_means_itself_as_a_text_and_as_a_list(
    desk: Desk, mode: str, as_list: bool
) -> None:
    """In Crossbar.io the text "…_exit_with_error" acts as "…_exit", being a part of it."""
    given = loaded(desk, container(), shutdown=[mode] if as_list else mode)

    assert given.plan["workers"][0]["essential"] is False


@pytest.mark.parametrize("mode", ["shutdown_on_worker_exit", ["shutdown_on_worker_exit"]])
def test_shutdown_on_worker_exit_ends_the_node(desk: Desk, mode: object) -> None:
    """In both spellings: the node ends when a worker is down for good."""
    given = loaded(desk, container(), shutdown=mode)

    assert given.plan["workers"][0]["essential"] is True


def test_parallel_start_races_nobody(desk: Desk) -> None:
    """In Crossbar.io a component that finds no router yet takes the node down; here each comes back by itself."""
    found = loaded(desk, router(), container(), container(), enable_parallel_worker_start=True)

    assert [worker["after"] for worker in found.plan["workers"]] == [[], [], []]
    assert not any("enable_parallel_worker_start" in note for note in found.notes)


def test_the_documented_option_reactor_is_taken(desk: Desk) -> None:
    """Crossbar.io's own check refuses it."""
    given = loaded(desk, container(reactor={"linux": "epoll"}))

    assert any("workers[0].options.reactor" in note for note in given.notes)


def test_an_id_of_one_letter_is_a_name(desk: Desk) -> None:
    """Crossbar.io demands three letters, and says so by a regular expression without a place."""
    (bus,) = plans(desk, router(id="b", transports=[{**SOCKET, "id": "ws"}]))

    assert bus["name"] == "b"
    assert bus["router"]["transports"][0]["name"] == "ws"


def web(port: int, **keys: Any) -> dict[str, Any]:
    endpoint = {"type": "tcp", "interface": "127.0.0.1", "port": port, **keys}
    return {"type": "web", "endpoint": endpoint, "paths": {"/": {"type": "json", "value": 1}}}


def test_a_router_without_realms_serves_its_pages(desk: Desk) -> None:
    """A web server as several of Crossbar.io's own examples have it; nobody gets a realm that nobody wrote."""
    (plan,) = plans(desk, {"type": "router", "transports": [web(8080)]})

    assert plan["router"]["realms"] == []
    assert [t["name"] for t in plan["router"]["transports"]] == ["t0", "internal"]
    socket = {**web(8080), "paths": {"ws": {"type": "websocket"}}}
    notes = loaded(desk, {"type": "router", "transports": [socket]}).notes
    assert any('serves no realm: who joins over "t0" is refused' in note for note in notes)


def test_routers_share_a_port_where_both_say_so(desk: Desk) -> None:
    """The kernel spreads connections over them; a port that one of them has for itself stays claimed."""
    one = {"type": "router", "transports": [web(8080, shared=True)]}
    found = plans(desk, one, one)

    assert [plan["listen"][0].get("shared") for plan in found] == [True, True]
    with pytest.raises(ConfigError, match=r"port 8080 is claimed by the worker \"router-1\""):
        plans(desk, one, {"type": "router", "transports": [web(8080)]})


def test_modules_with_hyphens_are_modules(desk: Desk) -> None:
    """No `import` statement takes them, but Crossbar.io does, and so do its examples."""
    component = {"type": "class", "classname": "my-app.back-end.My", "realm": "realm1", "transport": CLIENT}  # fmt: skip
    (plan,) = plans(desk, container(component))

    assert plan["components"][0]["use"] == "my-app.back-end:My"


def test_nothing_left_to_run_says_why_for_each_worker(desk: Desk) -> None:
    """The reasons are the answer; "nothing to run" alone sends people searching."""
    with pytest.raises(ConfigError) as caught:
        plans(desk, {"type": "websocket-testee"}, {"type": "hostmonitor"})

    head, *reasons = caught.value.problems
    assert head.endswith(":1 there is nothing to run in it")
    assert ["workers[0]" in reasons[0], "workers[1]" in reasons[1]] == [True, True]


def test_a_trust_root_without_keys_is_refused_by_its_key(desk: Desk) -> None:
    auth = {"cryptosign": {"type": "static", "trustroots": {"0x66": {}}}}
    with pytest.raises(ConfigError, match=r"auth\.cryptosign\.trustroots: certificates of a trust"):  # fmt: skip
        plans(desk, router(transports=[{**SOCKET, "auth": auth}]))


def test_the_import_writes_realms_and_transports(tmp_path: Path) -> None:
    """`holdfast import` gives the TOML that is run."""
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"workers": [router()]}))
    toml = import_file(str(path)).toml
    plan = tomllib.loads(toml)

    assert plan["worker"]["router-1"]["kind"] == "router"
    assert plan["worker"]["router-1"]["transport"][0]["listen"] == "tcp://127.0.0.1:8080"
    assert list(plan["realm"]["realm1"]["role"]) == ["anonymous"]
