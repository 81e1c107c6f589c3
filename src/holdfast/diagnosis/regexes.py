"""Is a thread inside a regular expression, and what is to be said about that?

One bad pattern and one bad input keep the interpreter's lock for hours; from outside it looks like any frozen process. Pure.
"""

from holdfast.diagnosis.lastwords import split_frame

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

_CALLS = frozenset({"match", "fullmatch", "search", "sub", "subn", "split", "findall", "finditer"})
_COMPILED = (".match", ".fullmatch", ".search", ".findall", ".finditer", ".sub")
ADVICE = (
    " It is inside a regular expression ({function}): a pattern that backtracks on this input holds the interpreter's lock all"
    " the while. Bound the length of the input, or rewrite the pattern without nested repetition."
)


def call_of(frames: "Sequence[str]", source: str = "") -> str:
    """Return the function of ``re`` that a thread is in; "" when it is in none.

    Args:
        frames: Its stack, innermost first.
        source: The line of code it is at: a compiled pattern has no frame of its own.
    """
    for frame in frames[:8]:
        path, _, function = split_frame(frame)
        if function.startswith("sre_") or "SRE_Pattern" in function:
            return "re"
        if path.endswith(("/re/__init__.py", "/re.py")) and function in _CALLS:
            return f"re.{function}"
    for name in _COMPILED:
        if f"{name}(" in source:
            return f"it seems, in {name} of a compiled pattern"
    return ""
