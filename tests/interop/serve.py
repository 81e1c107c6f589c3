"""A router process for a plan: `python serve.py PLAN ADDRESSES` writes the address of each listener into a file when it serves.

Unlike `holdfast.router.alone` it takes any plan: sign-in, TLS, limits.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

from holdfast.router import alone
from holdfast.router.serving import serve


async def main(plan: Any, addresses: Path) -> None:
    sockets = {}
    for transport in plan["transports"]:
        endpoint = transport["endpoint"]
        is_unix = endpoint["kind"] == "unix"
        url = f"unix:{endpoint['path']}" if is_unix else "ws://127.0.0.1:0"
        sockets[endpoint["listener"]] = alone.listen(url)
    await serve(plan, sockets)
    making = addresses.with_suffix(".new")
    making.write_text(json.dumps({name: sock.getsockname() for name, sock in sockets.items()}))
    making.rename(addresses)
    await asyncio.Event().wait()


asyncio.run(main(json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2])))
