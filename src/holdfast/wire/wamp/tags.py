"""Which CBOR do we take, and what do its tags mean here?

Well-formed CBOR can still hurt whoever decodes it: a fraction of two numbers of a megabyte keeps a processor busy for
minutes, and values that are shared within a message grow without bound where the other side has no sharing. Harmless tags become
what they mean (dates, UUIDs …), sharing and regular expressions are refused, the dear ones stay tags.
"""

from decimal import Decimal
from typing import Any

import cbor2

from holdfast.wire.wamp.errors import ProtocolError
from holdfast.wire.wamp.structs import MAX_DEPTH

_LARGEST_NUMBER = 1 << 4096
_LARGEST_EXPONENT = 6000


def load(data: bytes) -> Any:
    """The first data item of `data` (what comes behind it is not looked at); raises ProtocolError."""
    try:
        return _loads(data, semantic_decoders=_MEANINGS, max_depth=MAX_DEPTH)
    except (cbor2.CBORError, ValueError, TypeError, OverflowError, RecursionError) as error:
        says = f"this is no CBOR that can be passed on: {error.__cause__ or error}"
        raise ProtocolError(says) from None


def _no_sharing(_value: Any, _immutable: bool) -> Any:
    message = "values shared by reference (tags 25, 28, 29, 256)"
    raise ValueError(message)


def _fraction(tag: int) -> Any:
    """Two numbers that make one: a decimal is cheap within bounds, the others stay tags."""

    def keep(value: Any, _immutable: bool) -> Any:
        is_fine = (
            isinstance(value, list | tuple)
            and len(value) == 2
            and all(type(n) is int and abs(n) < _LARGEST_NUMBER for n in value)
            and (tag != _RATIONAL or value[1] > 0)
        )
        if not is_fine:
            message = f"tag {tag} needs two numbers that are not too large"
            raise ValueError(message)
        exponent, mantissa = value
        if tag == _DECIMAL and abs(exponent) < _LARGEST_EXPONENT:
            digits = tuple(map(int, str(abs(mantissa))))
            return Decimal((int(mantissa < 0), digits, exponent))
        return cbor2.CBORTag(tag, value)

    return keep


def _no_pattern(_value: Any, _immutable: bool) -> Any:
    # Whoever decodes one compiles it, and fails on a bad one; to compile a megabyte of them here costs 20 s.
    message = "regular expressions (tag 35)"
    raise ValueError(message)


def _mime(value: Any, _immutable: bool) -> Any:
    if not isinstance(value, str):
        message = "tag 36 needs a string"
        raise ValueError(message)
    return cbor2.CBORTag(36, value)


_DECIMAL, _BIGFLOAT, _RATIONAL = 4, 5, 30
_MEANINGS: Any = {
    _DECIMAL: _fraction(_DECIMAL),
    _BIGFLOAT: _fraction(_BIGFLOAT),
    _RATIONAL: _fraction(_RATIONAL),
    35: _no_pattern,
    36: _mime,
    25: _no_sharing,
    28: _no_sharing,
    29: _no_sharing,
    256: _no_sharing,
}
_loads = cbor2.loads
