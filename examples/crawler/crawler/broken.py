"""A parser that leaks, and that dies of one page. For the drill: the crawler of the story had both.

The leak is real memory that is never given back; the death is a real segmentation fault.
"""

import ctypes
import os

from crawler import parsing
from crawler.odd import POISON

#: What each page leaves behind.
LEAK_BYTES = int(os.environ.get("CRAWLER_LEAK_BYTES", str(1 << 20)))

_never_freed: list[bytearray] = []


def parse(url: str, body: bytes, charset: str = "") -> parsing.Page:
    """Parse as :func:`crawler.parsing.parse` does, and do the harm."""
    # A bytearray of zeros would be pages that nobody has touched: no memory at all.
    _never_freed.append(bytearray(os.urandom(4096) * (LEAK_BYTES // 4096)))
    if POISON in body:
        ctypes.string_at(0)
    return parsing.parse(url, body, charset)
