"""JSON without the price of ``import json``.

The json package pulls in ``re`` and ``enum``: 1.2 MiB and 15 to 20 ms at each start of a house process.
CPython's own accelerator does the work and needs neither; where it is missing or has another
shape (another implementation, a later version) the package is used after all.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


def _accelerated() -> "tuple[Callable[[str], Any], Callable[[Any], str]]":
    import _json

    accelerator: "Any" = _json  # its stubs describe one version; we ask what is there

    class Context:
        strict = True
        object_hook = None
        object_pairs_hook = None
        parse_float = float
        parse_int = int
        parse_constant = float
        memo: "dict[str, str]" = {}  # noqa: RUF012 -- what the C scanner expects

    scan = accelerator.make_scanner(Context())

    def refuse(value: object) -> object:
        raise TypeError(f"not a JSON value: {value!r}")

    encode = accelerator.make_encoder(
        None, refuse, accelerator.encode_basestring_ascii, None, ":", ",", False, False, True
    )

    def loads(text: str) -> "Any":
        text = text.strip(" \t\n\r")  # what JSON takes for blanks; str.strip takes more
        try:
            value, end = scan(text, 0)
        except StopIteration as stop:
            raise ValueError(f"not JSON at character {stop.value}") from None
        except SystemError:
            # What the C scanner does instead of raising an error class of a package that is not loaded.
            raise ValueError("not JSON") from None
        if end != len(text):
            raise ValueError(f"not JSON: something follows the value at character {end}")
        return value

    def dumps(value: "Any") -> str:
        return "".join(encode(value, 0))

    if loads(dumps({"a": [1, 2.5, "é", None, True]})) != {"a": [1, 2.5, "é", None, True]}:
        raise ImportError("the json accelerator behaves in an unknown way")
    return loads, dumps


def _plain() -> "tuple[Callable[[str], Any], Callable[[Any], str]]":
    import json

    return json.loads, json.JSONEncoder(separators=(",", ":")).encode


try:
    loads, dumps = _accelerated()
except (ImportError, TypeError, AttributeError):
    loads, dumps = _plain()
