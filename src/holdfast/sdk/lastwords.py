"""What does a person read when a component has crashed?

One header line with the component and the exception, then the traceback from the first frame of the user's
code on: the frames of the host above it are the same for everybody and say nothing.
"""

from traceback import format_exception

_HOUSE = __file__.rsplit("/", 2)[0] + "/"
_STDLIB = format_exception.__code__.co_filename.rsplit("/", 1)[0] + "/"

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType


def one_line(error: BaseException) -> str:
    """Return ``ValueError: no such card`` without line breaks."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def report(component: str, error: BaseException, what: str = "crashed") -> str:
    """Return the header line and the trimmed traceback."""
    seen: BaseException | None = error
    for _ in range(20):  # a chain can be a circle
        if seen is None:
            break
        seen.__traceback__ = _trimmed(seen.__traceback__)
        seen = seen.__cause__ or seen.__context__
    head = f'holdfast: component "{component}" {what}: {one_line(error)}\n'
    return head + "".join(format_exception(error))


def _trimmed(trace: "TracebackType | None") -> "TracebackType | None":
    at = trace
    while at is not None:
        file = at.tb_frame.f_code.co_filename
        ours = file.startswith((_HOUSE, "<frozen importlib"))
        library = file.startswith(_STDLIB) and "site-packages" not in file
        if not ours and not library:
            return at
        at = at.tb_next
    return trace
