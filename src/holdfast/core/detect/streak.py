"""How often in a row has a probe failed?

Pure. One failed probe is an accident (a listen queue was full, a packet was lost), two in a row are not.
"""

NEEDED = 2


class Streak:
    """Consecutive failures; ``why`` is what the last one said."""

    __slots__ = ("failures", "why")

    def __init__(self) -> None:
        self.failures = 0
        self.why = ""

    def add(self, ok: bool, why: str = "") -> None:
        """Take note of one probe."""
        self.failures = 0 if ok else self.failures + 1
        self.why = "" if ok else why

    def is_broken(self) -> bool:
        """Whether enough probes in a row have failed."""
        return self.failures >= NEEDED
