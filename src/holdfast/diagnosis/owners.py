"""Whose code is this: the application's, a package's (which version), or the interpreter's?

Pure: who owns a file was looked up by somebody who may read the disk (the evidence process) and comes in as a dictionary. Also
reads, from a line of source, what it calls: a function in C leaves no frame of its own, so the line that called it is all
there is to tell ``ujson`` from the code around it.
"""

from holdfast.diagnosis.lastwords import split_frame

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    Owners = Mapping[str, Sequence[str]]

_PACKAGES = ("/site-packages/", "/dist-packages/")


class Place:
    """One frame, with its owner."""

    __slots__ = ("frame", "function", "line", "package", "path", "version")

    def __init__(self, frame: str, owners: "Owners") -> None:
        self.frame = frame
        self.path, self.line, self.function = split_frame(frame)
        self.package, self.version = owner_of(self.path, owners)

    def owner(self) -> str:
        """Return "aiohttp 3.9.3", or "" for the application's own code."""
        return f"{self.package} {self.version}".rstrip()

    def short(self, directory: str = "") -> str:
        """Return the place for a sentence: the path as one would import it, or relative to the application."""
        path = short_path(self.path, directory)
        return f"{self.function} ({path}:{self.line})" if self.line else f"{self.function} ({path})"


def owner_of(path: str, owners: "Owners") -> "tuple[str, str]":
    """Return (distribution, version) of a file; ("", "") for the application's own and the interpreter's."""
    known = owners.get(path)
    if known:
        return str(known[0]), str(known[1])
    for marker in _PACKAGES:
        if marker in path:
            # Nobody could look it up: the name under which it is imported is better than nothing.
            return path.rpartition(marker)[2].split("/")[0].partition(".")[0], ""
    return "", ""


def short_path(path: str, directory: str = "") -> str:
    """Return a path without what every path of this program begins with."""
    for marker in _PACKAGES:
        if marker in path:
            return path.rpartition(marker)[2]
    if directory and path.startswith(directory.rstrip("/") + "/"):
        return path[len(directory.rstrip("/")) + 1 :]
    head, found, tail = path.rpartition("/lib/python")
    if found:
        return tail.partition("/")[2] or head
    return "/".join(path.rsplit("/", 2)[-2:]) if path.endswith("__init__.py") else path.rpartition("/")[2]  # fmt: skip


def is_machinery(path: str) -> bool:
    """Tell whether a file is the interpreter's, the C library's or ours: code that runs on behalf of others."""
    # Ours first: it is installed among the packages, mostly.
    if any(f"/holdfast/{room}/" in path for room in _ROOMS) and not path.endswith(
        "/container/faults.py"
    ):
        return True
    if any(marker in path for marker in _PACKAGES):
        return False
    if path.startswith(("<frozen", "[")) or not path:
        return True
    name = path.rpartition("/")[2]
    if path.endswith(".so") or ".so." in name or ("/" not in path and not path.endswith(".py")):
        return "/lib-dynload/" in path or name.startswith(_SYSTEM) or path.startswith(_SYSTEM_DIRS)
    return "/lib/python3" in path or (name.startswith("python3") and not path.endswith(".py"))


#: Rooms of ours whose code runs around somebody else's, in their process.
_ROOMS = ("container", "sdk", "agent", "bus", "engine", "jobs")
_SYSTEM = ("libpython", "libc.", "libc-", "libpthread", "libm.", "ld-linux", "libgcc", "libstdc++", "linux-vdso", "_ctypes", "libffi")  # fmt: skip
_SYSTEM_DIRS = ("/usr/lib/", "/lib/")


def places(frames: "Iterable[str]", owners: "Owners") -> "list[Place]":
    """Return the frames that are somebody's: neither the interpreter's nor ours, in their order."""
    return [Place(f, owners) for f in frames if not is_machinery(split_frame(f)[0])]


def imports_of(source: str) -> "dict[str, str]":
    """Return name -> module (or module.attribute) of the import statements of a source text."""
    found: dict[str, str] = {}
    for raw in source.splitlines():
        line = raw.strip().partition("#")[0]
        if line.startswith("import "):
            for part in line[7:].split(";")[0].split(","):
                module, _, alias = part.strip().partition(" as ")
                module = module.strip()
                if module:
                    name = alias.strip() or module.partition(".")[0]
                    found[name] = module if alias else module.partition(".")[0]
        elif line.startswith("from ") and " import " in line:
            module, _, names = line[5:].partition(" import ")
            for part in names.strip().strip("()").split(";")[0].split(","):
                name, _, alias = part.strip().partition(" as ")
                if name.strip().isidentifier():
                    found[(alias or name).strip()] = f"{module.strip()}.{name.strip()}"
    return found


def calls_of(line: str, imports: "Mapping[str, str]") -> "list[str]":
    """Return what a line of source calls, as dotted names of imported modules, in the order in which they stand there."""
    found = []
    word = ""
    for at, char in enumerate(line):
        if char.isidentifier() or char == "." or (word and char.isdigit()):
            word += char
            continue
        if char == "(" and word and not line[:at].endswith((" ", "def", "class")):
            head, dot, rest = word.partition(".")
            if head in imports:
                found.append(imports[head] + dot + rest)
        word = ""
    return found
