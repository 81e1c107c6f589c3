"""What can be wrong with a message on the wire, in either direction?"""


class ProtocolError(Exception):
    """What came is no WAMP message: the sender is told so by an ABORT, and nobody else notices."""


class EncodeError(Exception):
    """What is to be sent cannot be said in this serializer: the sender of the payload gets an ERROR."""
