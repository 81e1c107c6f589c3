"""What do the importers of other supervisors share: a guest in the making?

Keys of ``restart``, ``stop``, ``ready`` and ``heartbeat`` come from several settings of theirs and are written once, at the end. What
each format means is in the module named after it.
"""

import re
import shlex

from holdfast.config.importers.draft import Draft, Table, is_ours

#: Ten years: the longest time that a holdfast.toml takes.
LONGEST_S = 3650 * 86400.0
#: How foreign names of signals are written: INT, SIGINT or 2.
_SIGNALS = {1: "HUP", 2: "INT", 3: "QUIT", 6: "ABRT", 9: "KILL", 10: "USR1", 12: "USR2", 15: "TERM"}
_SIZE = re.compile(r"([0-9]{1,18}(?:\.[0-9]{1,18})?)\s*([kmgt]?)i?b?", re.IGNORECASE)


class Guest:
    """A worker that is written once everything about it is known."""

    def __init__(self, draft: Draft, wanted: str, remarks: list[str]) -> None:
        self.name = draft.free_name("worker", wanted, "program")
        self.table: Table = draft.table("worker", self.name, remarks=remarks)
        if self.name != wanted:
            self.table.say(f"called {wanted} there")
        self.table.put("kind", "guest")
        self.env: dict[str, str] = {}
        self.parts: dict[str, dict[str, object]] = {"ready": {}, "heartbeat": {}, "restart": {}, "stop": {}, "log": {}}  # fmt: skip

    def set(self, part: str, key: str, value: object) -> None:
        """Set a key of one of the tables inside."""
        self.parts[part][key] = value

    def finish(self) -> list[str]:
        """Write what was collected; return the variables that were left out because Holdfast sets them."""
        ours = [name for name in self.env if is_ours(name)]
        env = {name: value for name, value in self.env.items() if name not in ours}
        if env:
            self.table.put("env", env)
        for part, keys in self.parts.items():
            if keys:
                self.table.put(part, keys)
        return ours


def split(command: str) -> list[str]:
    """Return the words of a command that no shell reads.

    Raises:
        ValueError: A quote is not closed, or there are no words.
    """
    try:
        found = shlex.split(command)
    except ValueError as error:
        says = f"{str(error).lower()}; quotes have to be closed"
        raise ValueError(says) from None
    if not found:
        raise ValueError("the command is empty")
    return found


def time(seconds: float) -> str:
    """Return a time as a holdfast.toml has it.

    Raises:
        ValueError: Not a number.
    """
    if seconds != seconds:
        raise ValueError("not a number of seconds")
    seconds = min(max(seconds, 0.0), LONGEST_S)
    if seconds == int(seconds):
        return f"{int(seconds)}s"
    return f"{max(1, round(seconds * 1000))}ms"


def size(text: object) -> int:
    """Return bytes of ``512m``, ``1.5GB`` or a number; units are powers of 1024, as these tools have them.

    Raises:
        ValueError: No size.
    """
    found = _SIZE.fullmatch(str(text).strip())
    if found is None:
        raise ValueError("not a size such as 512M")
    return int(float(found[1]) * 1024 ** ("kmgt".index(found[2].lower()) + 1 if found[2] else 0))


def signal_of(text: object) -> str:
    """Return a signal as a holdfast.toml has it: ``INT``.

    Raises:
        ValueError: There is no such signal.
    """
    import signal

    word = str(text).strip().upper().removeprefix("SIG")
    if word.isdecimal():
        word = _SIGNALS.get(int(word), "")
    if f"SIG{word}" not in signal.Signals.__members__:
        raise ValueError("there is no such signal")
    return word
