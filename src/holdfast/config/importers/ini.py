"""What does a supervisord.conf say, and where does it say it?

Reads the dialect of Python's RawConfigParser that supervisor uses (continuation lines, ``;`` and ``#`` comments,
a section given twice is one section, the last of two keys wins), follows ``[include]``, and keeps file and line of
each key, which the library does not. Expansion of ``%(...)s`` is here too; what the keys mean is not.
"""

import glob
import os
import platform
import re
from dataclasses import dataclass, field

from holdfast.config.importers.draft import from_environment
from holdfast.config.importers.ledger import Ledger, Setting
from holdfast.model.errors import ConfigError

_SECTION = re.compile(r"\[(?P<name>.+)\]\s*(?:[;#].*)?")
_OPTION = re.compile(r"(?P<key>[^=:\s][^=:]*?)\s*[=:]\s*(?P<value>.*)")
_INLINE = re.compile(r"(?:^|\s)[;#]")
_LARGEST = 4_000_000


@dataclass(slots=True)
class Option:
    """One ``key = value`` as it was written."""

    key: str
    raw: str
    setting: Setting
    here: str  #: directory of the file that it stands in


@dataclass(slots=True)
class Section:
    """One ``[name]`` with everything given under it, in whichever file."""

    name: str
    header: Setting
    options: dict[str, Option] = field(default_factory=dict)

    @property
    def kind(self) -> str:
        """``program`` of ``program:web``."""
        return self.name.partition(":")[0].strip()

    @property
    def label(self) -> str:
        """``web`` of ``program:web``."""
        return self.name.partition(":")[2].strip()


def read_text(path: str, file: str) -> str:
    """Return the text of a file.

    Raises:
        ConfigError: It cannot be read, or is not text.
    """
    try:
        if os.path.exists(path) and not os.path.isfile(path):
            what = "a directory" if os.path.isdir(path) else "a pipe, socket or device"
            raise ConfigError([f"{file}: is {what}, not a file"])
        with open(path, "rb") as handle:
            data = handle.read(_LARGEST + 1)
    except OSError as error:
        says = f"{file}: cannot be read: {(error.strerror or str(error)).lower()}"
        raise ConfigError([says]) from None
    except ValueError:  # a zero byte in the name
        raise ConfigError([f"{file!r}: this is not the name of a file"]) from None
    if len(data) > _LARGEST:
        raise ConfigError(
            [f"{file}: larger than {_LARGEST // 1_000_000} MB: this is not a configuration file"]
        )
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise ConfigError(
            [f"{file}:{line} this is not UTF-8 text (byte {error.start})\n  save it as UTF-8"]
        ) from None
    if "\0" in text:
        line = text[: text.index("\0")].count("\n") + 1
        raise ConfigError([f"{file}:{line} a zero byte: this is not a text file"])
    return text


def read(
    text: str, file: str, path: str, ledger: Ledger, *, keep_case: bool = False
) -> dict[str, Section]:
    """Return the sections of the file and of all that it includes, in order.

    Keys are in small letters, as supervisor has them, unless ``keep_case``.

    Raises:
        ConfigError: Lines that are no option, no section and no comment; files that cannot be included.
    """
    sections: dict[str, Section] = {}
    problems: list[str] = []
    here = os.path.dirname(os.path.abspath(path))
    _parse(text, file, here, ledger, sections, problems, keep_case=keep_case)
    include = sections.get("include")
    if include and "files" in include.options:
        option = include.options.pop("files")
        ledger.use(include.header, option.setting)
        for pattern in expand(option, {}, live=False).split():
            _include(pattern, here, option, ledger, sections, problems)
    if problems:
        raise ConfigError(problems)
    return sections


def expand(option: Option, names: dict[str, str | int], live: bool = True) -> str:
    """Return the value with its ``%(...)s`` filled in.

    Args:
        option: What stands in the file.
        names: What can be filled in beside ``here`` and ``host_node_name``.
        live: Leave the environment to Holdfast, which fills in ``${NAME}`` at each start as
            supervisor does; else (numbers, file names) it is looked up now.

    Raises:
        ConfigError: A name that supervisor does not know, or an environment variable that is not set.
    """
    if "%" not in option.raw:
        return option.raw
    known: dict[str, str | int] = {"here": option.here, "host_node_name": platform.node(), **names}
    for name in re.findall(r"%\(ENV_([A-Za-z_][A-Za-z0-9_]*)\)", option.raw):
        if f"ENV_{name}" in known:
            continue
        if live:
            known[f"ENV_{name}"] = from_environment(name)
        elif name in os.environ:
            known[f"ENV_{name}"] = os.environ[name]
    place, key = option.setting.place, option.setting.path
    try:
        return option.raw % known
    except KeyError as error:
        name = str(error.args[0])
        if name.startswith("ENV_"):
            does = f"set {name[4:]} in the environment of the import, or write the value"
        else:
            does = f"known are {', '.join(sorted(known))} and ENV_NAME"
        raise ConfigError([f"{place} {key}: there is no %({name})s to fill in\n  {does}"]) from None
    except (ValueError, TypeError, OverflowError, MemoryError) as error:
        says = f"{place} {key}: the % expansion cannot be carried out: {error}\n  a plain % is written %%"
        raise ConfigError([says]) from None


def _include(
    pattern: str,
    here: str,
    option: Option,
    ledger: Ledger,
    sections: dict[str, Section],
    problems: list[str],
) -> None:
    found = sorted(glob.glob(os.path.join(here, pattern)))
    if not found:
        ledger.remark(
            option.setting, f"include.files: no file matches {pattern}, as things stand now"
        )
    for path in found:
        name = os.path.relpath(path, here) if path.startswith(here + os.sep) else path
        inner = os.path.dirname(path)
        try:
            text = read_text(path, name)
        except ConfigError as error:
            problems += error.problems
            continue
        before = sections.pop("include", None)
        _parse(text, name, inner, ledger, sections, problems)
        nested = sections.pop("include", None)
        if nested:
            rest = [nested.header, *(o.setting for o in nested.options.values())]
            ledger.note(
                rest,
                "supervisor does not follow an [include] inside an included file; neither did the import",
            )
        if before:
            sections["include"] = before


def _parse(
    text: str,
    file: str,
    here: str,
    ledger: Ledger,
    sections: dict[str, Section],
    problems: list[str],
    *,
    keep_case: bool = False,
) -> None:
    section: Section | None = None
    option: Option | None = None
    for number, line in enumerate(text.splitlines(), 1):
        stripped = line.strip()
        if not stripped or stripped[0] in ";#":
            continue
        if line[0].isspace() and option is not None:  # a continuation
            option.raw = f"{option.raw}\n{_uncomment(stripped)}".strip()
            option.setting.text = option.raw
            continue
        header = _SECTION.fullmatch(stripped)
        if header:
            name = header["name"].strip()
            section, option = sections.get(name), None
            if section is None:
                section = Section(name, ledger.enter(file, number, f"[{name}]", "(section)"))
                sections[name] = section
            continue
        match = _OPTION.fullmatch(stripped)
        if match is None:
            problems.append(
                f"{file}:{number} this is neither a [section] nor `key=value`: {stripped[:60]}"
            )
        elif section is None:
            problems.append(f"{file}:{number} {match['key']} stands before the first [section]")
        else:
            key = match["key"].strip()
            option = _enter(
                section, key if keep_case else key.lower(), match, file, number, here, ledger
            )


def _enter(
    section: Section,
    key: str,
    match: re.Match[str],
    file: str,
    number: int,
    here: str,
    ledger: Ledger,
) -> Option:
    raw = _uncomment(match["value"])
    setting = ledger.enter(file, number, f"{section.name}.{key}", raw)
    old = section.options.get(key)
    if old:
        ledger.note(
            [old.setting],
            f"{setting.place} gives it again, and the last one wins, as in supervisor",
        )
    section.options[key] = Option(key, raw, setting, here)
    return section.options[key]


def _uncomment(value: str) -> str:
    match = _INLINE.search(value)
    return (value[: match.start()] if match else value).strip()
