"""What programs write is bytes, not always text: how is it sent where only text is taken, and where bytes are?

A reader of logs keeps bytes that are not UTF-8 as half characters; JSON from elsewhere may hold other halves, which stand for nothing. Pure.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any


def raw(text: str) -> bytes:
    """Return the bytes that were written; halves that stand for none become question marks."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return text.encode("utf-8", "replace")


def readable(text: str) -> str:
    """Return a text that any reader of JSON takes."""
    return text if text.isascii() else raw(text).decode("utf-8", "replace")


def findings(record: "Mapping[str, Any]") -> "list[str]":
    """Return what an incident's findings say; a bundle of another version may have them in another shape."""
    found = record.get("findings")
    if not isinstance(found, list):
        return []
    return [str(one["says"]) for one in found if isinstance(one, dict) and one.get("says")]
