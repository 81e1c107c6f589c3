"""What can a target say of a portion: taken, not now, or parts of it never?

A module of its own, so that who writes to a journal or a file need not load what speaks HTTP (5 MB).
"""


class NotTakenError(Exception):
    """The other side has not taken it; it may be tried again.

    Args:
        says: Why; no secret is in it.
        after_s: The other side wants to be left alone for so long.
    """

    def __init__(self, says: str, after_s: float = 0.0) -> None:
        super().__init__(says)
        self.after_s = after_s


class Refused:
    """What the other side did not take of a request, for good."""

    __slots__ = ("is_general", "number", "says")

    def __init__(self, number: int = 0, says: str = "", is_general: bool = False) -> None:
        self.number = (
            number  #: of records; 0 with words: all was taken, and there is something to say
        )
        self.says = says
        self.is_general = is_general  #: the next request would be refused as well

    def and_of(self, other: "Refused") -> "Refused":
        """Return both in one."""
        said = dict.fromkeys(filter(None, (self.says, other.says)))
        return Refused(self.number + other.number, "; ".join(said), self.is_general or other.is_general)  # fmt: skip


NOTHING = Refused()
