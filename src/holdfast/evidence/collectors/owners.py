"""Which package, in which version, does each file on a stack belong to?

Looked up in the ``RECORD`` of the distributions of the *worker's* environment, without starting its interpreter. Cost: a
directory listing and, for files whose directory is not named like their package, reading the records: 1 to 20 ms. Also
reads the lines of code that the findings quote, and what they call.
"""

import os

from holdfast.diagnosis import owners as form
from holdfast.diagnosis import profile, stacks
from holdfast.diagnosis.lastwords import split_frame
from holdfast.evidence.case import read_text
from holdfast.evidence.collectors.environment import app_imports, directories_of, main_files
from holdfast.linux import files

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

    from holdfast.evidence.case import Case

#: A line of code is looked for in files up to this size.
_LONGEST_SOURCE = 2 << 20
#: Places of each stack that are quoted.
_QUOTED = 4
#: Of a profile the stacks that were seen most.
_MOST_ROWS = 6
_MOST_STACKS = 20
_C_ENDING = ".so"


class Library:
    """The distributions of one environment."""

    def __init__(self, directories: "list[str]") -> None:
        self._directories = [d for d in dict.fromkeys(directories) if os.path.isdir(d)]
        self._infos: list[
            tuple[str, str, str, str]
        ] = []  # site directory, info directory, name, version
        for directory in self._directories:
            for entry in _names(directory):
                stem, dot, kind = entry.rpartition(".")
                if dot and kind in ("dist-info", "egg-info"):
                    name, _, version = stem.partition("-")
                    self._infos.append((directory, entry, name.replace("_", "-").lower(), version))
        self._records: dict[str, str] = {}

    def owner(self, path: str) -> "tuple[str, str] | None":
        """Return (name, version) of the distribution that a file came with; None when it is nobody's."""
        directory = next((d for d in self._directories if path.startswith(d + "/")), "")
        if not directory:
            return None
        relative = path[len(directory) + 1 :]
        top = relative.split("/")[0].partition(".")[0].replace("_", "-").lower()
        ours = [info for info in self._infos if info[0] == directory]
        # Most packages are imported under the name they are installed by.
        ours.sort(key=lambda info: info[2] != top)
        for _, entry, name, version in ours:
            if f"\n{relative}," in self._record(directory, entry):
                return name, version
        return next(((name, version) for _, _, name, version in ours if name == top), None)

    def module(self, name: str) -> "tuple[str, str, bool] | None":
        """Return (distribution, version, is C code) of a module that can be imported; None when it is not installed."""
        top, *rest = name.split(".")
        for directory in self._directories:
            base = f"{directory}/{top}"
            single = next((n for n in _names(directory) if n.startswith(f"{top}.") and n.endswith(_C_ENDING)), "")  # fmt: skip
            if single:
                owner = self.owner(f"{directory}/{single}") or (top, "")
                return owner[0], owner[1], True
            if os.path.isdir(base):
                inside = _names(base)
                owner = next((o for n in inside if (o := self.owner(f"{base}/{n}"))), (top, ""))
                wanted = rest[0] if rest and any(n.startswith(f"{rest[0]}.") for n in inside) else ""  # fmt: skip
                is_c = any(n.endswith(_C_ENDING) and (not wanted or n.startswith(f"{wanted}.")) for n in inside)  # fmt: skip
                return owner[0], owner[1], is_c
            if os.path.isfile(f"{base}.py"):
                owner = self.owner(f"{base}.py") or (top, "")
                return owner[0], owner[1], False
        return None

    def of_library(self, name: str) -> "tuple[str, str] | None":
        """Return the distribution that a library in C came with, known by its file name alone."""
        for directory, entry, package, version in self._infos:
            record = self._record(directory, entry)
            if f"/{name}," in record or f"\n{name}," in record:
                return package, version
        return None

    def _record(self, directory: str, entry: str) -> str:
        key = f"{directory}/{entry}"
        if key not in self._records:
            text = ""
            for name in ("RECORD", "installed-files.txt"):
                try:
                    text = files.read(f"{key}/{name}").decode("utf-8", "replace")
                except OSError:
                    continue
                if text:
                    break
            self._records[key] = "\n" + text
        return self._records[key]


def collect(case: "Case") -> None:
    """Look up everything that the findings may want to name."""
    library = Library(directories_of(case))
    facts = case.facts
    for path in _paths(case):
        owner = library.owner(path)
        if owner is not None:
            facts.owners[path] = owner
    _extensions(case, library)
    _libraries(case, library)
    sources = _Sources()
    if facts.extensions:
        facts.used = used(main_files(case), library, sources)
    for frame in _quoted(case):
        line = sources.line(frame)
        if line and frame not in facts.source:
            facts.source[frame] = line
        if not line:
            continue
        called = []
        for name in form.calls_of(line, sources.imports(split_frame(frame)[0])):
            found = library.module(name)
            is_c = found[2] if found else name.partition(".")[0] in ("ctypes", "_ctypes")
            called.append({
                "module": name, "package": found[0] if found else "", "version": found[1] if found else "", "is_c": is_c,
            })  # fmt: skip
        if called:
            facts.calls[frame] = called
    error = facts.uncaught
    if error and error.frames and error.source:
        facts.source[error.frames[0]] = error.source
    for row in [*(facts.census.get("grown") or ()), *(facts.census.get("own") or ())]:
        top = str(row.get("type", "")).partition(".")[0]
        found = library.module(top) if top and top != "builtins" else None
        if found:
            facts.modules[top] = found[:2]


def used(paths: "list[str]", library: Library, sources: "_Sources") -> "dict[str, list[str]]":
    """Return by package with C code what the program's own main files call of it, with the lines: "ujson.dumps (run.py:7)".

    A crash that leaves no stack is told apart by nothing else.
    """
    found: dict[str, dict[str, None]] = {}
    for path in paths:
        imports = sources.imports(path)
        for number, line in enumerate(sources.lines(path), 1):
            for name in form.calls_of(line, imports) if "(" in line else ():
                module = library.module(name)
                if module is not None and module[2]:
                    where = f"{name} ({os.path.basename(path)}:{number})"
                    found.setdefault(module[0], {})[where] = None
    return {package: list(names) for package, names in found.items()}


def _stacks(case: "Case") -> "Iterator[list[str]]":
    facts = case.facts
    for stack in facts.live_stacks[:_MOST_STACKS]:
        yield stack["frames"]
    for stack in (facts.report.stacks if facts.report else [])[:_MOST_STACKS]:
        yield stack["frames"]
    if facts.uncaught:
        yield facts.uncaught.frames
    if facts.profile is not None:
        hot = profile.hottest(facts.profile, form.is_machinery)
        if hot is not None:
            yield [*reversed(hot.inner), *reversed(hot.path)]
        for _, frames, _ in facts.profile.rows[:_MOST_ROWS]:
            yield list(reversed(frames))
    for what in ("tasks", "threads"):
        for row in (facts.sites.get(what) or ())[:5]:
            yield [str(row[2]), *(str(f) for f in (row[3] if len(row) > 3 else ()))]
    for row in (facts.sites.get("waiting") or ())[:5]:
        yield [str(row[2]), *(str(f) for f in row[4])]
    yield [str(row[1]) for row in (facts.sites.get("holding") or ())[:5]]
    yield [str(row[2]) for row in (facts.sites.get("children") or ())[:2]]
    yield [str(row[3]) for row in (facts.sites.get("handlers") or ())[:2]]
    for site in (facts.census.get("allocated") or ())[:5]:
        yield [str(f) for f in site.get("frames") or ()]
    yield [str(h["where"]) for h in facts.census.get("held_by") or () if h.get("where")]


def _paths(case: "Case") -> "list[str]":
    found = {split_frame(frame)[0] for frames in _stacks(case) for frame in frames}
    return sorted(path for path in found if path.startswith("/"))


def _quoted(case: "Case") -> "Iterable[str]":
    wanted: dict[str, None] = {}
    for frames in _stacks(case):
        guilty = stacks.guilty_frame(frames)
        for frame in [*([guilty] if guilty else []), *(p.frame for p in form.places(frames, {})[:_QUOTED])]:  # fmt: skip
            wanted[frame] = None
    return wanted


def _extensions(case: "Case", library: Library) -> None:
    """Note the packages with C code: those the interpreter listed, those that are mapped, or those the program imports."""
    facts = case.facts
    found: dict[str, dict[str, Any]] = {}

    def add(name: str, owner: "tuple[str, str]") -> None:
        found.setdefault(owner[0], {"package": owner[0], "version": owner[1], "module": name})

    for name in facts.report.extensions if facts.report else ():
        module = library.module(name)
        if module:
            add(name, module[:2])
    if not found and case.order.get("live"):
        for path in mapped(case.pid):
            owner = library.owner(path)
            if owner:
                add(path.rpartition("/")[2], owner)
    if not found:
        for name in app_imports(case):
            module = library.module(name)
            if module and module[2]:
                add(name, module[:2])
    facts.extensions = list(found.values())


def _libraries(case: "Case", library: Library) -> None:
    """Look up whose the library is in which it failed, as the kernel's log or the core dump has its file name."""
    facts = case.facts
    failed = [str(facts.oom.get("fault_library") or "")]
    if facts.core:
        from holdfast.diagnosis import corestacks  # most crashes leave no core

        failed.append(corestacks.culprit_library(facts.core))
    for wanted in failed:
        owner = library.of_library(wanted) if wanted else None
        if owner:
            facts.libraries[wanted] = owner


def mapped(pid: int) -> "list[str]":
    """Return the shared libraries that a process has mapped, without the system's."""
    found = {
        line.split(None, 5)[5]
        for line in read_text(f"/proc/{pid}/maps", 4 << 20).splitlines()
        if line.endswith(_C_ENDING) and "/" in line
    }
    return sorted(path for path in found if not path.startswith(("/usr/lib/", "/lib/")))


class _Sources:
    """Files of source code, each read once."""

    def __init__(self) -> None:
        self._texts: dict[str, list[str]] = {}

    def line(self, frame: str) -> str:
        """Return the line of code of a frame; "" when it cannot be had."""
        path, number, _ = split_frame(frame)
        lines = self._lines(path) if number else []
        return lines[number - 1].strip() if 0 < number <= len(lines) else ""

    def imports(self, path: str) -> "dict[str, str]":
        """Return what a file imports."""
        return form.imports_of("\n".join(self._lines(path)))

    def lines(self, path: str) -> "list[str]":
        """Return the lines of a file; none when it cannot be had."""
        return self._lines(path)

    def _lines(self, path: str) -> "list[str]":
        if path not in self._texts:
            text = ""
            try:
                if os.path.isabs(path) and os.path.isfile(path) and os.path.getsize(path) <= _LONGEST_SOURCE:  # fmt: skip
                    text = files.read(path).decode("utf-8", "replace")
            except OSError:
                text = ""  # somebody else's, or gone: quoted without its line
            self._texts[path] = text.split("\n") if text else []
        return self._texts[path]


def _names(directory: str) -> "list[str]":
    try:
        return os.listdir(directory)
    except OSError:
        return []
