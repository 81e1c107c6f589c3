"""Which settings of a foreign file have we dealt with, and what became of each?

A reader enters every setting that it finds into the ledger, with the place where it stands. An importer
then either *uses* a setting (it shaped the TOML) or *notes* it (a sentence says what to do instead).
What it did not touch at all is noted by :meth:`Ledger.close`. So nothing can be dropped in silence: not
because every importer is careful, but because forgetting a setting is what makes it appear.
The idea is double-entry bookkeeping's: the sum has to come out at nought.
"""

from typing import Literal

Fate = Literal["open", "used", "noted"]

#: Values of keys with one of these words in their names are not repeated in a note, which may end up in a mail.
_SECRET_WORDS = (
    "password",
    "passwd",
    "secret",
    "ticket",
    "privkey",
    "private-key",
    "token",
    "salt",
)
_LONGEST_VALUE = 120


class Setting:
    """One setting of the foreign file: where it stands, what it says, what became of it."""

    __slots__ = ("fate", "file", "line", "number", "path", "text")

    def __init__(self, number: int, file: str, line: int, path: str, text: str) -> None:
        self.number = number
        self.file = file
        self.line = line
        self.path = path
        self.text = text
        self.fate: Fate = "open"

    @property
    def place(self) -> str:
        """``file:line``, as in an error message."""
        return f"{self.file}:{self.line}"

    def words(self) -> str:
        """``path = value`` for a note; long values are cut, secrets are not shown."""
        last = self.path.lower().rpartition(".")[2]
        if any(word in last for word in _SECRET_WORDS):
            return f"{self.path} = (not shown here)"
        text = " ".join(self.text.split())
        if len(text) > _LONGEST_VALUE:
            text = text[: _LONGEST_VALUE - 1] + "…"
        return f"{self.path} = {text}"


class Ledger:
    """Every setting of one import, and the notes written about them."""

    def __init__(self) -> None:
        self.settings: list[Setting] = []
        self._notes: list[tuple[int, str]] = []

    def enter(self, file: str, line: int, path: str, text: str) -> Setting:
        """Add a setting as it was read; it counts as forgotten until it is used or noted."""
        setting = Setting(len(self.settings), file, line, path, text)
        self.settings.append(setting)
        return setting

    def use(self, *settings: Setting) -> None:
        """Mark settings that shape the TOML."""
        for setting in settings:
            if setting.fate == "open":
                setting.fate = "used"

    def note(self, settings: list[Setting], advice: str, title: str = "") -> None:
        """Say what to do about settings without a counterpart.

        One setting gives one line. Several that belong together (the realms of a router) give one
        note with a line for each, under ``title``.
        """
        rest = [setting for setting in settings if setting.fate == "open"]
        if not rest:
            return
        for setting in rest:
            setting.fate = "noted"
        first = rest[0]
        if len(rest) == 1 and not title:
            self.remark(first, f"{first.words()}: {advice}")
            return
        lines = [
            f"    {f'line {s.line}' if s.file == first.file else s.place}: {s.words()}"
            for s in rest
        ]
        self.remark(first, "\n".join([f"{title or first.path}: {advice}", *lines]))

    def remark(self, where: Setting, says: str) -> None:
        """Add a note at the place of a setting without settling what became of the setting."""
        entry = (where.number, f"{where.place} {says}")
        if entry not in self._notes:
            self._notes.append(entry)

    def close(self) -> list[str]:
        """Note everything that nobody has dealt with; return all notes in file order."""
        for setting in [s for s in self.settings if s.fate == "open"]:
            if setting.text in ("{}", "[]", "null"):
                self.note([setting], "empty there: nothing to carry over")
            else:
                self.note([setting], "has no counterpart in Holdfast and was left out")
        return [says for _, says in sorted(self._notes, key=lambda entry: entry[0])]
