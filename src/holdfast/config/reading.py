"""What do the files of a configuration say, with includes read and variables filled in?

Leaves out what it means: that is :mod:`holdfast.config.definitions` and :mod:`holdfast.config.compile`. A file is a
stranger: it may be missing, a directory, a pipe, in another encoding, or made to keep us busy for an hour.
"""

import os
import re
import shlex
import stat
import tomllib
from collections.abc import Mapping
from typing import Any

from holdfast.config.definitions import ROOT
from holdfast.config.kinds import BAD, Expanded, Lost
from holdfast.config.problems import Document, Problems, Where, nearest, quoted

#: More than any person writes; tomllib takes about a second for a megabyte of the worst.
LARGEST_BYTES = 5_000_000
_MOST_FILES = 1000
_DEEPEST = 60
_NESTED = f"is nested more than {_DEEPEST} levels deep"
# tomllib takes a time that grows with the square of the parts of a dotted key: 5 MB of dots would be hours.
_LONG_KEY = re.compile(
    r"""(?:^|[{,\[])[ \t]*(?:(?:[A-Za-z0-9_-]+|"[^"\n]*"|'[^'\n]*')[ \t]*\.[ \t]*){60}""",
    re.MULTILINE,
)
_VARIABLE = re.compile(r"\$\$|\$\{([^}]*)(\}?)")
_VARIABLE_NAME = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)(?::-(.*))?", re.DOTALL)
_TOML_PLACE = re.compile(r" \(at (?:line (\d+), column (\d+)|end of document)\)$")


def read_all(path: str, environ: Mapping[str, str], problems: Problems) -> list[Document]:
    """Return the file and everything that it includes, in the order in which they are named.

    Raises:
        ConfigProblems: One of them cannot be read at all.
    """
    reader = _Reader(environ, problems)
    reader.read(path, (), None)
    problems_of_files = reader.is_broken
    if problems_of_files:
        problems.finish()
    return reader.documents


def fill_in(
    data: dict[str, Any], where: Where, environ: Mapping[str, str], problems: Problems
) -> None:
    """Fill in the variables of a document that was not read from a file of its own, in place."""
    _Reader(environ, problems).expand(data, where, 0)


class _Reader:
    def __init__(self, environ: Mapping[str, str], problems: Problems) -> None:
        self.environ = environ
        self.problems = problems
        self.documents: list[Document] = []
        self.is_broken = False
        self._seen: set[str] = set()

    def read(self, path: str, chain: tuple[str, ...], asked: Where | None) -> None:
        """Read one file and what it includes; ``chain`` are the files that led here."""
        file = shown_path(path)
        text = self._text(path, file, asked)
        if text is None:
            self.is_broken = True
            return
        data = self._parse(text, file)
        if data is None:
            self.is_broken = True
            return
        document = Document(len(self.documents), os.path.abspath(path), file, text, data)
        self.documents.append(document)
        self._seen.add(os.path.realpath(path))
        if asked is None and not data:
            self.problems.add_whole(file, "is empty", "make one to begin with:  holdfast init")
            self.is_broken = True
            return
        where = Where(document, ())
        self.expand(data, where, 0)
        if self.is_broken:
            return
        include = data.get("include")
        if include is not None:
            patterns = ROOT.keys["include"].kind.check(include, where.at("include"), Problems())
            if patterns is not BAD:  # what is wrong with it is said when all keys are checked
                for number, pattern in enumerate(patterns):
                    self._include(
                        pattern, where.at("include").at(number), (*chain, os.path.realpath(path))
                    )

    def _include(self, pattern: str, where: Where, chain: tuple[str, ...]) -> None:
        path = os.path.join(where.document.directory, pattern)
        if any(c in pattern for c in "*?["):
            import glob

            # A pattern may well match the file that it stands in, or one that led here.
            found = sorted(p for p in glob.glob(path, recursive=True) if os.path.isfile(p))
            found = [p for p in found if os.path.realpath(p) not in self._seen]
        elif os.path.realpath(path) in chain:
            self.problems.add(
                where,
                f"{quoted(pattern)} includes itself in a circle",
                "remove one of the includes",
            )
            return
        else:
            found = [] if os.path.realpath(path) in self._seen else [path]
        for one in found:
            if len(self.documents) >= _MOST_FILES:
                self.problems.add(where, f"there are more than {_MOST_FILES} files to include")
                self.is_broken = True
                return
            if os.path.realpath(one) not in self._seen:
                self.read(one, chain, where)

    # -- one file ----------------------------------------------------------------------------------

    def _text(self, path: str, file: str, asked: Where | None) -> str | None:
        try:
            data = _bytes(path)
        except FileNotFoundError:
            hints = [] if asked else ["make one:  holdfast init", "or name it:  holdfast -c PATH …"]
            self._cannot(file, asked, "there is no such file", *hints)
        except IsADirectoryError:
            self._cannot(
                file, asked, "is a directory, not a file", "name the file in it, as holdfast.toml"
            )
        except PermissionError:
            self._cannot(
                file, asked, "you may not read it", f"look at its permissions:  ls -l {file}"
            )
        except (OSError, ValueError) as error:
            self._cannot(
                file, asked, f"cannot be read: {getattr(error, 'strerror', None) or error}"
            )
        else:
            return self._decoded(data, file)
        return None

    def _cannot(self, file: str, asked: Where | None, says: str, *hints: str) -> None:
        if asked is None:
            self.problems.add_whole(file, says, *hints)
        else:
            self.problems.add(asked, f"{file}: {says}", *hints)

    def _decoded(self, data: bytes, file: str) -> str | None:
        problems = self.problems
        if len(data) > LARGEST_BYTES:
            problems.add_whole(
                file,
                f"is larger than {LARGEST_BYTES // 1_000_000} MB; that is no configuration",
                "split it by `include`",
            )
        elif data.startswith((b"\xff\xfe", b"\xfe\xff")):
            problems.add_whole(
                file, "is in UTF-16; TOML is UTF-8", f"iconv -f UTF-16 -t UTF-8 {file}"
            )
        elif data.startswith(b"\xef\xbb\xbf"):
            problems.add_whole(
                file,
                "begins with a byte order mark",
                "save it as UTF-8 without BOM",
                line=1,
                column=1,
            )
        else:
            try:
                return data.decode()
            except UnicodeDecodeError as error:
                line = data.count(b"\n", 0, error.start) + 1
                column = error.start - data.rfind(b"\n", 0, error.start)
                says = f"byte 0x{data[error.start]:02x} in column {column} is not UTF-8"
                problems.add_whole(
                    file,
                    says,
                    f"if it is Latin-1:  iconv -f LATIN1 -t UTF-8 {file}",
                    line=line,
                    column=column,
                )
        return None

    def _parse(self, text: str, file: str) -> dict[str, Any] | None:
        long_key = _LONG_KEY.search(text)
        if long_key:
            line = text.count("\n", 0, long_key.end()) + 1
            self.problems.add_whole(file, _NESTED, line=line, column=1)
            return None
        try:
            return tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            self._syntax(str(error), text, file)
        except RecursionError:
            self.problems.add_whole(file, _NESTED)
        except ValueError as error:
            # A number of thousands of digits, a month 13: tomllib lets Python's own complaint through.
            self.problems.add_whole(
                file, f"has a value that cannot be: {str(error).partition(';')[0]}"
            )
        return None

    def _syntax(self, says: str, text: str, file: str) -> None:
        found = _TOML_PLACE.search(says)
        says = says[: found.start()] if found else says
        lines = text.splitlines() or [""]
        line, column = len(lines), len(lines[-1]) + 1
        if found and found[1]:
            line, column = int(found[1]), int(found[2])
        source = text.split("\n")[line - 1] if line <= text.count("\n") + 1 else ""
        hint = _syntax_hint(says, source, column)
        # The line itself and a mark under the place: as a compiler does it. Long lines show the part that matters.
        start = max(0, column - 61)
        shown = "".join(c if c.isprintable() else " " for c in source[start : start + 90])
        hints = [shown, " " * (column - 1 - start) + "^"] if shown.strip() else []
        self.problems.add_whole(
            file,
            f"not TOML: {says[:200]} (column {column})",
            *hints,
            *([hint] if hint else []),
            line=line,
            column=column,
        )

    # -- variables ---------------------------------------------------------------------------------

    def expand(self, inside: Any, where: Where, depth: int) -> None:
        """Fill in the variables of a table or list, in place."""
        if depth > _DEEPEST:
            if not self.is_broken:
                self.problems.add(where, _NESTED)
            self.is_broken = True
            return
        for key, value in inside.items() if isinstance(inside, dict) else enumerate(inside):
            if isinstance(value, str):
                if "$" in value or "\0" in value:
                    inside[key] = self._text_of(value, where.at(key))
            elif isinstance(value, dict | list):
                self.expand(value, where.at(key), depth + 1)
            if isinstance(key, str) and "\0" in key:
                self.problems.add(where.at(key), "has a NUL character in its name", of_key=True)

    def _text_of(self, text: str, where: Where) -> str:
        if "\0" in text:
            self.problems.add(where, "has a NUL character in it; no name, path or variable can")
            return Lost(text)
        return self._filled_in(text, where)

    def _filled_in(self, text: str, where: Where) -> str:
        parts = []
        end = 0
        is_lost = is_expanded = False
        for found in _VARIABLE.finditer(text):
            parts.append(text[end : found.start()])
            end = found.end()
            if found[0] == "$$":
                parts.append("$")
                continue
            is_expanded = True
            value = self._variable(found, where)
            if value is None:
                is_lost = True
            else:
                parts.append(value)
        parts.append(text[end:])
        filled = "".join(parts)
        if is_lost:
            return Lost(filled)
        return Expanded(filled) if is_expanded else filled

    def _variable(self, found: re.Match[str], where: Where) -> str | None:
        add = self.problems.add
        if not found[2]:
            add(
                where,
                f"{quoted(found[0])}: the closing brace is missing",
                'write "$$" where a "$" is meant',
            )
            return None
        parts = _VARIABLE_NAME.fullmatch(found[1])
        if parts is None:
            add(
                where,
                f"{quoted(found[0])} is not a variable",
                '"${NAME}" and "${NAME:-default}" are; if a shell is to read it, write "$$" for "$"',
            )
            return None
        value = self.environ.get(parts[1])
        if value is not None and (value or parts[2] is None):
            if "\0" in value:
                add(where, f"the variable {parts[1]} has a NUL character in it")
                return None
            return value
        if parts[2] is not None:
            return parts[2]
        guess = nearest(parts[1], [name for name in self.environ if len(name) < 60])
        hints = [f'Did you mean "{guess}"?'] if guess else []
        add(
            where,
            f"the environment variable {parts[1]} is not set",
            *hints,
            f'set it, or give a default: "${{{parts[1]}:-…}}"',
        )
        return None


def shown_path(path: str) -> str:
    """Return a path as short as a person would write it: relative where it is below the current directory."""
    try:
        here = os.getcwd()
        full = os.path.abspath(path)
    except OSError:  # the current directory has been removed
        full, here = path, ""
    short = full[len(here) + 1 :] if here and full.startswith(here + "/") else full
    return "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in short) or "(no name)"


def typed_path(path: str) -> str:
    """Return a path as it is typed into a shell, also where it has letters that nobody can see."""
    if path.isprintable():
        return shlex.quote(path)
    letters = (c if c.isprintable() and c not in "'\\" else f"\\U{ord(c):08x}" for c in path)
    return f"$'{''.join(letters)}'"


def _bytes(path: str) -> bytes:
    mode = os.stat(path).st_mode
    if stat.S_ISDIR(mode):
        raise IsADirectoryError
    if not stat.S_ISREG(mode):
        raise ValueError("it is a pipe, socket or device, not a file")
    with open(path, "rb") as file:
        return file.read(LARGEST_BYTES + 1)


def _syntax_hint(says: str, source: str, column: int) -> str:
    rest = source[column - 1 :]
    value = rest.partition("#")[0].strip().rstrip(",")
    if says.startswith("Invalid value"):
        if value.lower() in ("true", "false", "yes", "no", "on", "off"):
            return "write true or false"
        if re.match(r"[A-Za-z_./~$-]", value):
            return f"a text stands in quotes: {quoted(value)}"
        if not value:
            return "there is a key without a value"
    if says.startswith("Expected newline") and re.match(r"[A-Za-z]+\b", value):
        return f'with a unit it stands in quotes, as "10{value}"'
    if says.startswith("Expected '='") and ":" in source[: column + 1]:
        return "between key and value stands an equals sign"
    if "Cannot declare" in says or "overwrite" in says:
        return "it stands here for the second time: join the two, or rename one"
    return ""
