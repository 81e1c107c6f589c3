"""How are several binary messages one? Each has its length before it (WAMP specification, "Message Batching")."""

from holdfast.wire.wamp.errors import ProtocolError


def joined(message: bytes) -> bytes:
    """A batch of one; batches are concatenated by joining their bytes."""
    return len(message).to_bytes(4, "big") + message


def split(data: bytes, exactly: int | None = None) -> list[bytes]:
    """The messages of a batch: one or more, or `exactly` so many; raises ProtocolError."""
    parts = []
    at = 0
    while at < len(data):
        end = at + 4 + int.from_bytes(data[at : at + 4], "big")
        if end > len(data) or at + 4 > len(data):
            message = "the last message of the batch is shorter than its length says"
            raise ProtocolError(message)
        parts.append(data[at + 4 : end])
        at = end
    if not parts:
        message = "a batch has one message or more, this one is empty"
        raise ProtocolError(message)
    if exactly is not None and len(parts) != exactly:
        message = f"{exactly} message was expected, the batch has {len(parts)}"
        raise ProtocolError(message)
    return parts
