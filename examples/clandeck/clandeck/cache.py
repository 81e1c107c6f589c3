"""The way to the cache guest. It may be away at any moment: that is None, never an exception."""

import asyncio


async def ask(port: int, *words: str) -> str | None:
    """Send one command and return the first line of the answer, or None while there is no cache."""
    try:
        async with asyncio.timeout(1):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                writer.write(" ".join(words).encode() + b"\r\n")
                return (await reader.readline()).decode().strip()
            finally:
                writer.close()
    except (OSError, TimeoutError):
        return None
