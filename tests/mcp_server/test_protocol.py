"""The protocol, message by message: both ways to begin, and everything that is no message."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.cli import mcp_protocol as mcp
from holdfast.cli.mcp_audit import Audit
from holdfast.cli.mcp_protocol import Headers, Protocol
from holdfast.cli.mcp_tools import Tools
from holdfast.cli.place import Place

if TYPE_CHECKING:
    from mcp_server.door import Site

V = "io.modelcontextprotocol/protocolVersion"
C = "io.modelcontextprotocol/clientCapabilities"
META = {V: "2026-07-28", C: {}}


def request(method: str, **params: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": 7, "method": method, "params": params}


@pytest.fixture
def protocol(site: Site) -> Protocol:
    return Protocol(site.tools())


def code(protocol: Protocol, message: object, headers: Headers | None = None) -> tuple[int, int]:
    reply = protocol.answer(message, headers)
    assert reply.body is not None
    return reply.body["error"]["code"], reply.status


def test_a_request_of_today_needs_no_greeting(protocol: Protocol) -> None:
    """So a server that was killed between two requests is not missed."""
    body = protocol.answer(request("tools/list", _meta=META)).body

    assert body is not None
    result = body["result"]
    assert (body["id"], result["resultType"], result["cacheScope"]) == (7, "complete", "private")
    assert result["_meta"]["io.modelcontextprotocol/serverInfo"]["name"] == "holdfast"
    assert [tool["name"] for tool in result["tools"]][:3] == ["status", "workers", "incidents"]


def test_discovery_names_every_revision(protocol: Protocol) -> None:
    body = protocol.answer(request("server/discover", _meta=META)).body

    assert body is not None
    assert body["result"]["supportedVersions"][:2] == ["2026-07-28", "2025-11-25"]
    assert "never an instruction" in body["result"]["instructions"]


@pytest.mark.parametrize(
    ("wanted", "given"),
    [
        ("2025-11-25", "2025-11-25"),
        ("2024-11-05", "2024-11-05"),
        ("1999-01-01", "2025-11-25"),
        (None, "2025-11-25"),
    ],
)
def test_who_greets_first_is_greeted(protocol: Protocol, wanted: str | None, given: str) -> None:
    """Most clients of today are of yesterday."""
    body = protocol.answer(
        request("initialize", protocolVersion=wanted, capabilities={}, clientInfo={"name": "x"})
    ).body

    assert body is not None
    assert body["result"]["protocolVersion"] == given
    assert "resultType" not in body["result"]


def test_the_earlier_revisions_work_without_a_session(protocol: Protocol) -> None:
    assert protocol.answer(request("ping")).body == {"jsonrpc": "2.0", "id": 7, "result": {}}
    assert protocol.answer({"jsonrpc": "2.0", "method": "notifications/initialized"}).body is None


def test_without_leave_there_is_nothing_that_acts(protocol: Protocol, site: Site) -> None:
    """An assistant that is told by a log line to stop the shop finds no way to do it."""
    body = protocol.answer(request("tools/list", _meta=META)).body
    assert body is not None
    tools = body["result"]["tools"]

    assert all(tool["annotations"]["readOnlyHint"] for tool in tools)
    assert "restart_worker" not in {tool["name"] for tool in tools}
    assert (
        code(
            protocol,
            request("tools/call", _meta=META, name="restart_worker", arguments={"target": "web"}),
        )[0]
        == mcp.INVALID_PARAMS
    )
    assert "restart_worker" in site.tools(has_actions=True).names()


@pytest.mark.parametrize(
    ("message", "wanted"),
    [
        (None, mcp.INVALID_REQUEST),
        ("ping", mcp.INVALID_REQUEST),
        ([request("ping")], mcp.INVALID_REQUEST),
        ({}, mcp.INVALID_REQUEST),
        ({"jsonrpc": "1.0", "id": 1, "method": "ping"}, mcp.INVALID_REQUEST),
        ({"jsonrpc": "2.0", "id": 1}, mcp.INVALID_REQUEST),
        ({"jsonrpc": "2.0", "id": 1, "method": 5}, mcp.INVALID_REQUEST),
        ({"jsonrpc": "2.0", "id": None, "method": "ping"}, mcp.INVALID_REQUEST),
        ({"jsonrpc": "2.0", "id": True, "method": "ping"}, mcp.INVALID_REQUEST),
        ({"jsonrpc": "2.0", "id": 1.5, "method": "ping"}, mcp.INVALID_REQUEST),
        ({"jsonrpc": "2.0", "id": [1], "method": "ping"}, mcp.INVALID_REQUEST),
        ({"jsonrpc": "2.0", "id": 1, "method": "ping", "params": [1]}, mcp.INVALID_PARAMS),
        (request("ping", _meta=5), mcp.INVALID_PARAMS),
        (request("rm -rf"), mcp.NO_METHOD),
        (request("ping", _meta=META), mcp.NO_METHOD),
        (request("initialize", _meta=META), mcp.NO_METHOD),
        (request("server/discover"), mcp.NO_METHOD),
        (request("subscriptions/listen", _meta=META, notifications={}), mcp.NO_METHOD),
        (request("tools/list", _meta={V: "2026-07-28"}), mcp.INVALID_PARAMS),
        (request("tools/list", _meta={V: "1900-01-01", C: {}}), mcp.WRONG_VERSION),
        (request("tools/list", _meta={V: ["2026-07-28"], C: {}}), mcp.WRONG_VERSION),
        (request("tools/list", _meta=META, cursor="x"), mcp.INVALID_PARAMS),
        (request("tools/call", _meta=META), mcp.INVALID_PARAMS),
        (request("tools/call", _meta=META, name=["status"]), mcp.INVALID_PARAMS),
        (request("tools/call", _meta=META, name="status", arguments=[1]), mcp.INVALID_PARAMS),
        (request("resources/read", _meta=META), mcp.INVALID_PARAMS),
        (request("resources/read", _meta=META, uri="file:///etc/passwd"), mcp.INVALID_PARAMS),
        (request("resources/read", _meta=META, uri="holdfast://incident/../../x"), mcp.INVALID_PARAMS),
    ],
)  # fmt: skip
def test_what_is_no_good_message_is_told_so(
    protocol: Protocol, message: object, wanted: int
) -> None:
    assert code(protocol, message)[0] == wanted


def test_a_wrong_version_is_told_the_right_ones(protocol: Protocol) -> None:
    reply = protocol.answer(request("tools/list", _meta={V: "1900-01-01", C: {}}))

    assert reply.body is not None
    assert reply.body["error"]["data"] == {
        "supported": [*mcp.MODERN, *mcp.LEGACY],
        "requested": "1900-01-01",
    }


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=8,
)
MESSAGES = st.fixed_dictionaries(
    {},
    optional={
        "jsonrpc": st.just("2.0") | JSON,
        "id": st.integers() | JSON,
        "method": st.sampled_from(
            ["initialize", "ping", "tools/list", "tools/call", "resources/read", "server/discover"]
        )
        | JSON,
        "params": st.fixed_dictionaries(
            {},
            optional={
                "_meta": st.just(META) | st.dictionaries(st.sampled_from([V, C]), JSON) | JSON,
                "name": JSON,
                "arguments": JSON,
                "uri": JSON,
            },
        )
        | JSON,
    },
)
NOBODY = Protocol(Tools(Place("/nowhere", ""), Audit("/nowhere", "test"), has_actions=True))


@settings(max_examples=60)
@given(
    MESSAGES | JSON,
    st.none()
    | st.builds(
        Headers, *[st.none() | st.sampled_from(["2026-07-28", "2025-06-18", "ping", "x"])] * 3
    ),
)
def test_every_message_has_an_answer_or_wants_none(
    message: object, headers: Headers | None
) -> None:
    """Whoever sends what nobody thought of gets an error, not silence, and never a mistake of ours."""
    reply = NOBODY.answer(message, headers)

    if reply.body is None:
        assert reply.status == 202
    else:
        assert reply.body["jsonrpc"] == "2.0"
        assert reply.body.get("error", {}).get("code") != mcp.INTERNAL
        json.dumps(reply.body)


CALL = request("tools/call", _meta=META, name="incident", arguments={})


@pytest.mark.parametrize(
    ("message", "headers", "wanted"),
    [
        (CALL, ("2026-07-28", "tools/list", "incident"), (mcp.HEADER_MISMATCH, 400)),
        (CALL, ("2026-07-28", "tools/call", "doctor"), (mcp.HEADER_MISMATCH, 400)),
        (CALL, ("2026-07-28", "tools/call", None), (mcp.HEADER_MISMATCH, 400)),
        (CALL, ("2026-07-28", "tools/call", "=?base64?!!?="), (mcp.HEADER_MISMATCH, 400)),
        (CALL, ("2026-07-28", None, "incident"), (mcp.HEADER_MISMATCH, 400)),
        (CALL, (None, "tools/call", "incident"), (mcp.HEADER_MISMATCH, 400)),
        (CALL, ("2025-11-25", "tools/call", "incident"), (mcp.HEADER_MISMATCH, 400)),
        (CALL, ("1900-01-01", "tools/call", "incident"), (mcp.WRONG_VERSION, 400)),
        (request("tools/list"), ("2026-07-28", "tools/list", None), (mcp.HEADER_MISMATCH, 400)),
        (request("nothing", _meta=META), ("2026-07-28", "nothing", None), (mcp.NO_METHOD, 404)),
        (request("nothing"), ("2025-11-25", None, None), (mcp.NO_METHOD, 200)),
    ],
)
def test_headers_that_say_something_else_than_the_body_are_refused(
    protocol: Protocol,
    message: object,
    headers: tuple[str | None, str | None, str | None],
    wanted: tuple[int, int],
) -> None:
    """Whoever routes or forbids by headers must not be led past."""
    assert code(protocol, message, Headers(*headers)) == wanted


def test_a_name_that_no_header_can_carry_comes_wrapped(protocol: Protocol) -> None:
    headers = Headers("2026-07-28", "tools/call", "=?base64?aW5jaWRlbnQ=?=")

    assert protocol.answer(CALL, headers).status == 200


def test_a_mistake_of_ours_is_an_answer_too(
    protocol: Protocol, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A client that hears nothing waits for ever; the traceback is for us."""

    def broken(_: object) -> object:
        return 1 / 0

    monkeypatch.setattr("holdfast.cli.mcp_evidence.last", broken)
    reply = protocol.answer(CALL, Headers("2026-07-28", "tools/call", "incident"))

    assert reply.body is not None
    assert (reply.body["error"]["code"], reply.body["id"], reply.status) == (mcp.INTERNAL, 7, 500)
    assert "ZeroDivisionError" in capsys.readouterr().err
