"""Which struct does a message of a serializer become, and what is wrong with one that becomes none?

Each format has subclasses of the structs that carry a payload, with the format on the class and the arguments
left as they came. Elements beyond the last are refused: with them, nobody could say where a payload ends.
"""

import re
from typing import TYPE_CHECKING, Any, ClassVar, Union

from msgspec import StructMeta

from holdfast.core.wamp.messages import CARRYING, PLAIN
from holdfast.wire.wamp.errors import ProtocolError

if TYPE_CHECKING:
    from msgspec import Struct

#: Containers within containers, the message's own array counted. Far more than people write, and less than the
#: strictest decoders of other languages bear (128 in Rust's serde_json).
MAX_DEPTH = 128
TOO_DEEP = f"the message is nested deeper than {MAX_DEPTH} levels"

#: Message code -> name as in the specification, and its elements after the code.
NAMES: dict[int, str] = {}
ELEMENTS: dict[int, tuple[str, ...]] = {}
#: Message code -> index of `args` in the array.
ARGS_AT: dict[int, int] = {}

for _class in (*CARRYING, *PLAIN):
    _code = _class.__struct_config__.tag
    assert isinstance(_code, int)  # noqa: S101  (for the type checker: the tags are numbers)
    NAMES[_code] = _class.__name__.upper()
    ELEMENTS[_code] = _class.__struct_fields__
for _class in CARRYING:
    _code = _class.__struct_config__.tag
    assert isinstance(_code, int)  # noqa: S101
    ARGS_AT[_code] = _class.__struct_fields__.index("args") + 1

#: Arrays and maps in a message: as many as half of its bytes, in JSON a quarter (`[1],` and `[0]` are as many). A million empty ones fit into a megabyte, and keep whoever
#: encodes them again for another serializer busy for a second, during which nobody else is served.
CROWDED = "the message has too many arrays and maps for its length: most of them are empty"
FEW_ENOUGH = 16_384

#: A core class without payload -> how many elements its array has at most.
LONGEST: dict[type, int] = {_class: len(_class.__struct_fields__) + 1 for _class in PLAIN}


def carrying(format_: int, kept: Any) -> "tuple[type[Struct], ...]":
    """Subclasses of the structs with a payload, for a format that keeps arguments as the type `kept`."""
    return tuple(
        StructMeta(
            class_.__name__,
            (class_,),
            {
                "__module__": __name__,
                "__doc__": class_.__doc__,
                "__annotations__": {"format": ClassVar[int], "args": kept, "kwargs": kept},
                "format": format_,
                "args": None,
                "kwargs": None,
            },
            array_like=True,
            tag=class_.__struct_config__.tag,
            gc=False,
            forbid_unknown_fields=True,
        )  # type: ignore[misc]
        for class_ in CARRYING
    )


def any_of(carriers: "tuple[type[Struct], ...]") -> Any:
    """The type to decode: any message."""
    return Union[(*carriers, *PLAIN)]


def explain(error: Exception, message: Any) -> str:
    """Say what is wrong with a message that no struct fits; `message` is what it decodes to without types."""
    if not isinstance(message, list):
        return f"a WAMP message is an array, this is {_kind(message)}"
    if not message:
        return "a WAMP message begins with its type, this array is empty"
    code = message[0]
    if type(code) is not int:
        return f"a WAMP message begins with its type, a number, this one with {_kind(code)}"
    name = NAMES.get(code)
    if name is None:
        return f"there is no WAMP message type {code}"
    says = str(error).replace("`", "")
    says = re.sub(r"[$]\[([0-9]+)\]", lambda found: _element(code, int(found[1])), says)
    return f"{name}: {says}"


def bad_payload(message: Any, args: Any, kwargs: Any) -> str:
    """Say why this is no payload."""
    name = NAMES[message.__struct_config__.tag]
    if not isinstance(args, list):
        return f"{name}: the arguments are {_kind(args)}, expected an array"
    if not isinstance(kwargs, dict):
        return f"{name}: the keyword arguments are {_kind(kwargs)}, expected a map"
    return f"{name}: the names of keyword arguments have to be strings"


def is_opaque(message: Any, args: Any) -> bool:
    """Is this the single binary that takes the place of the arguments where the payload is transparent to the router?"""
    options = message.details if hasattr(message, "details") else message.options
    return isinstance(args, str | bytes) and "enc_algo" in options


def mend(message: Any, args: Any, nothing: Any) -> None:
    """Arguments that are no array: null is taken for none, and a single binary is a transparent payload.

    Args:
        message: Carries them; changed where they are null.
        args: The arguments, decoded.
        nothing: An empty array, encoded as the message is.

    Raises:
        ProtocolError: They are neither.
    """
    if args is None:
        message.args = None if message.kwargs is None else nothing
    elif not is_opaque(message, args) or message.kwargs is not None:
        raise ProtocolError(bad_payload(message, args, {}))


def is_too_deep(value: Any, depth: int = MAX_DEPTH) -> bool:
    """Are there more containers within containers than `depth`? Costs O(n), no recursion."""
    level = [value]
    while level:
        if depth == 0:
            return True
        depth -= 1
        below: list[Any] = []
        for container in level:
            inner = container.values() if type(container) is dict else container
            below += [item for item in inner if type(item) is list or type(item) is dict]
        level = below
    return False


def is_crowded(value: Any, most: int) -> bool:
    """Are there more containers than `most` (and too many at all)? Looks no further than that."""
    left = max(FEW_ENOUGH, most)
    level = [value]
    while level:
        left -= len(level)
        if left < 0:
            return True
        below: list[Any] = []
        for container in level:
            inner = container.values() if type(container) is dict else container
            below += [item for item in inner if type(item) is list or type(item) is dict]
        level = below
    return False


def parts(message: Any, args: Any, kwargs: Any) -> list[Any]:
    """The elements of a message that carries this payload."""
    fields = message.__struct_fields__[: ARGS_AT[message.__struct_config__.tag] - 1]
    return [*(getattr(message, field) for field in fields), args, kwargs]


def _element(code: int, index: int) -> str:
    elements = ELEMENTS[code]
    return elements[index - 1] if 0 < index <= len(elements) else f"element {index}"


def _kind(value: Any) -> str:
    kinds = {dict: "a map", list: "an array", str: "a string", bytes: "binary data", bool: "a boolean", type(None): "null"}  # fmt: skip
    return kinds.get(
        type(value), "a number" if isinstance(value, int | float) else "something else"
    )
