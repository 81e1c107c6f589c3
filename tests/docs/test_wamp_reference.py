"""The page about WAMP says what the router says of itself."""

from __future__ import annotations

import re
from pathlib import Path

from holdfast.config import bus_definitions
from holdfast.core.wamp import errors
from holdfast.core.wamp.realm import ROLES
from holdfast.router.connection import NEWCOMER_BYTES
from holdfast.wire.wamp import BY_RAWSOCKET_ID, BY_SUBPROTOCOL

PAGE = (Path(__file__).parents[2] / "docs/reference/wamp.md").read_text()


def rows(heading: str) -> list[list[str]]:
    """The cells of the first table below a heading."""
    part = PAGE.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    table = part[part.index("\n|") + 1 :].split("\n\n")[0]
    lines = table.splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def test_the_table_of_features_is_what_welcome_announces() -> None:
    """A client library that switches something off because of WELCOME has to find the reason here."""
    told = {(role, name.strip("`")): not says.startswith("no") for role, name, says in rows("Features")}  # fmt: skip
    announced = {
        (role, name): is_there
        for role, details in ROLES.items()
        for name, is_there in details["features"].items()
    }

    assert told == announced


def test_the_table_of_serializers_is_what_is_spoken() -> None:
    told = set(re.findall(r"`(wamp\.2\.[a-z.]+)`", PAGE.split("## Serializers")[1]))
    assert told == set(BY_SUBPROTOCOL)
    numbers = {int(row[3]): row[1].strip("`") for row in rows("Serializers")}
    assert numbers == {number: codec.subprotocol for number, codec in BY_RAWSOCKET_ID.items()}


def test_every_sign_in_of_the_configuration_is_told() -> None:
    told = {row[0].strip("`") for row in rows("Signing in")}
    assert told == set(bus_definitions.AUTH.keys)


def test_limits_are_told_with_their_defaults() -> None:
    told = {row[0]: row[1] for row in rows("Limits")}
    limits = bus_definitions.LIMITS
    for name in limits.keys:
        cell = next(value for key, value in told.items() if key.startswith(f"`{name}`"))
        default = limits.defaults[name]
        if name == "handshake":
            assert cell == f"{default:g} s"
        elif name == "queue_total":
            assert cell == f"{default >> 20} MiB"
        else:
            assert cell == str(default), name
    service = bus_definitions.RAWSOCKET.defaults
    assert told["`queue_max`, unsent output of a session"] == f"{service['queue_max'] >> 20} MiB"
    assert told["`message_max`"].startswith(f"{service['message_max'] >> 20} MiB")
    assert told["`ping` and `ping_timeout`"] == f"{service['ping']:g} s, {service['ping_timeout']:g} s"  # fmt: skip
    assert told["a message before the sign-in"] == f"{NEWCOMER_BYTES >> 10} KiB"


def test_every_error_that_the_page_names_is_one_of_ours() -> None:
    """And those that callers meet are named."""
    known = {value for name, value in vars(errors).items() if name.isupper()}
    for uri in (
        errors.CANCELED, errors.TIMEOUT, errors.NO_SUCH_PROCEDURE, errors.NO_AVAILABLE_CALLEE, errors.LIMIT_EXCEEDED,
        errors.MAX_CONCURRENCY, errors.NOT_AUTHORIZED, errors.FEATURE_NOT_SUPPORTED, errors.POLICY_CONFLICT,
    ):  # fmt: skip
        assert f"`{uri}`" in PAGE, uri
    source = "".join(
        path.read_text()
        for path in (Path(errors.__file__).parents[2]).rglob("*.py")
        if "wamp" in path.parts or "router" in path.parts
    )
    named = set(re.findall(r"`((?:wamp|holdfast|crossbar)\.error\.[a-z_]+)`", PAGE))
    assert named >= {"wamp.error.authentication_failed"}
    for uri in named - known:
        assert f'"{uri}"' in source, uri
