"""Where does code run that may block?

Files and spooled bodies in threads of their own, so that what users write (WSGI, plain functions) cannot starve them.
Left out: what a thread does with a client; see wsgi.py.
"""

import asyncio
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, BinaryIO, TypeVar, cast

from holdfast.router.web.head import Refused

if TYPE_CHECKING:
    from holdfast.router.web.request import Request

Result = TypeVar("Result")

_SPOOL_BYTES = 1 << 20
_pool: ThreadPoolExecutor | None = None


def files_pool() -> ThreadPoolExecutor:
    """The threads that touch the disk; not asyncio's own, which components use."""
    global _pool
    if _pool is None:
        _pool = ThreadPoolExecutor(8, "web-files")
    return _pool


async def on_disk(
    work: Callable[[], Result], undo: Callable[[Result], None] | None = None
) -> Result:
    """Do something with files in a thread.

    When the waiting task is cancelled, the thread still ends its work first (a descriptor must not be closed under its hands), and
    `undo` gets the result that nobody wants any more.
    """
    future = asyncio.get_running_loop().run_in_executor(files_pool(), work)
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        await asyncio.wait([future])
        if undo is not None and future.exception() is None:
            undo(future.result())
        raise


async def spool(request: "Request", limit: int) -> tuple[BinaryIO, int]:
    """The body of a request as a file (in memory while it is small), and its length.

    Raises:
        Refused: 413.
    """
    length = request.length
    if length is not None and length > limit:
        raise Refused(413, f"The body is too large: at most {limit} bytes are taken.")
    spooled = tempfile.SpooledTemporaryFile(_SPOOL_BYTES)
    size = 0
    try:
        while data := await request.chunk():
            size += len(data)
            if size > limit:
                raise Refused(413, f"The body is too large: at most {limit} bytes are taken.")
            if size > _SPOOL_BYTES:
                await on_disk(lambda data=data: spooled.write(data))  # type: ignore[misc]
            else:
                spooled.write(data)
        spooled.seek(0)
    except BaseException:
        spooled.close()
        raise
    return cast(BinaryIO, spooled), size
