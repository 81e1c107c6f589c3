"""A client of the protocol's own Python SDK; run by test_client in an interpreter that has it. Prints what it got as JSON."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from typing import Any


async def looked(client: Any) -> dict[str, Any]:
    tools = await client.list_tools()
    story = await client.call_tool("incident", {})
    wrong = await client.call_tool("evidence", {"id": "..", "file": "x"})
    resources = await client.list_resources()
    read = await client.read_resource(resources.resources[0].uri)
    templates = await client.list_resource_templates()
    return {
        "tools": [tool.name for tool in tools.tools],
        "story": story.structured_content["id"],
        "marked": story.meta["holdfast/untrusted"],
        "wrong": wrong.is_error,
        "resource": read.contents[0].text,
        "templates": len(templates.resource_templates),
    }


async def main(transport: str, mode: str, *words: str) -> None:
    from mcp.client.client import Client  # type: ignore[import-not-found,unused-ignore]

    if transport == "http":
        import httpx2  # type: ignore[import-not-found,unused-ignore]
        from mcp.client.streamable_http import streamable_http_client  # type: ignore[import-not-found,unused-ignore]

        headers = {"Authorization": f"Bearer {words[1]}"}
        async with (
            httpx2.AsyncClient(headers=headers) as http,
            Client(streamable_http_client(words[0], http_client=http), mode=mode) as client,
        ):
            print(json.dumps(await looked(client)))
        return
    from mcp.client.stdio import StdioServerParameters, stdio_client  # type: ignore[import-not-found,unused-ignore]

    started = StdioServerParameters(command=words[0], args=list(words[1:]), env=dict(os.environ))
    async with Client(stdio_client(started), mode=mode) as client:
        print(json.dumps(await looked(client)))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
