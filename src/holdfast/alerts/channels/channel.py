"""What does every channel offer, and how does it say that it did not work?"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Protocol

    class Channel(Protocol):
        """One way out. Called in a thread of its own, one message at a time."""

        def wants(self, message: dict[str, Any]) -> bool:
            """Whether this kind of news is of any use here; the routes were asked before."""

        def deliver(self, message: dict[str, Any]) -> None:
            """Deliver, or raise NotDelivered."""


class NotDelivered(Exception):  # noqa: N818 -- reads as what it says
    """The other side did not take it; the text never repeats a secret.

    Args:
        says: Why.
        after_s: The other side wants to be left alone for so long.
        is_refused: The same message will be refused again: asking often is of no use.
    """

    def __init__(self, says: str, *, after_s: float = 0.0, is_refused: bool = False) -> None:
        super().__init__(says)
        self.after_s = after_s
        self.is_refused = is_refused
