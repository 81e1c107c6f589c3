"""What kinds of values are there in a configuration, and how is each read?

A kind turns what the file says into what the plan needs ("512M" -> 536870912), or says what is wrong; and it
describes itself as JSON Schema and in words. :mod:`holdfast.config.definitions` builds the tables from these. Leaves
out everything that looks at the machine or at other keys: that is :mod:`holdfast.config.compile`.
"""

import re
from math import isfinite
from typing import Any, Final, NamedTuple

from holdfast.config.problems import Problems, Where, quoted, shown

#: Stands for a value that was refused; the problem has been noted.
BAD: Final = object()

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,47}")
NAME_WORDS = "letters, digits, - and _, beginning with a letter or digit, at most 48"
#: Any string may take its value from the environment; what comes out is checked when it is loaded.
EXPANDED_SCHEMA = {"$ref": "#/$defs/expanded"}
_DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h|d)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_LONGEST_S = 3660 * 86400.0
_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?)(?:([KMGT])(iB|B)?|B)", re.IGNORECASE)
_LARGEST = 1 << 62
_SIGNALS = (
    "HUP", "INT", "QUIT", "KILL", "USR1", "USR2", "TERM", "CONT", "WINCH", "ALRM", "ABRT", "PWR",
)  # fmt: skip
#: What a router can be told to speak at an address; those with an s at the end over TLS.
SCHEMES = ("ws", "wss", "rs", "rss", "http", "https")
URL_PATH = re.compile(r"[A-Za-z0-9._~!$&'()*+,;=:@%-]+(?:/[A-Za-z0-9._~!$&'()*+,;=:@%-]+)*")
URL_PATH_WORDS = 'letters, digits and the like, with slashes in between, as "api/call"'
_SHELL_WORDS = frozenset({"|", "||", "&&", ";", ">", ">>", "<", "2>", "2>&1", "&", "&>"})


class Expanded(str):
    """A text that took a value from the environment: it may stand for a number or for true and false."""

    __slots__ = ()


class Lost(Expanded):
    """A text whose variable is missing; that has been noted, and nothing more is said about it."""

    __slots__ = ()


class Wrong(ValueError):  # noqa: N818 -- reads as what it says
    """A value is refused; ``says`` what is wrong, ``hints`` what to do."""

    def __init__(self, says: str, *hints: str) -> None:
        super().__init__(says)
        self.says = says
        self.hints = hints


class Kind:
    """One kind of value."""

    #: What the value has to be, in the words of an error message and of the reference.
    words = ""
    #: The same in a word or two, for the table of the reference; empty where there are no shorter ones.
    brief = ""
    #: TOML types that it may have; how the notations of one key are told apart.
    takes: tuple[type, ...] = (str,)
    #: ``parse`` alone does it: a table then asks no place of a value that is right, which is most of the work.
    is_scalar = True

    def check(self, value: object, where: Where, problems: Problems) -> Any:
        """Return the value as the plan needs it, or BAD after noting what is wrong with it."""
        try:
            return self.parse(value)
        except Wrong as wrong:
            problems.add(where, wrong.says, *wrong.hints)
            return BAD

    def parse(self, value: object) -> Any:
        """Return the value as the plan needs it.

        Raises:
            Wrong: It is not of this kind.
        """
        raise NotImplementedError

    def schema(self) -> dict[str, Any]:
        """Return the JSON Schema; it accepts whatever ``parse`` accepts."""
        raise NotImplementedError

    def refuse(self, value: object, *hints: str) -> Wrong:
        """Return the usual complaint."""
        return Wrong(f"{shown(value)} is not {self.words}", *hints)

    def fits(self, value: object) -> bool:
        """Tell whether a value is at least of the right TOML type."""
        if isinstance(value, bool):
            return bool in self.takes
        return isinstance(value, self.takes)


class Text(Kind):
    """A string, perhaps of a certain form."""

    def __init__(self, words: str = "a text", pattern: str = "", *, hint: str = "") -> None:
        self.words = words
        self._pattern = pattern
        self._compiled = re.compile(pattern) if pattern else None
        self._hint = hint

    def parse(self, value: object) -> str:
        """Return the text."""
        if not isinstance(value, str):
            raise self.refuse(
                value, *((f'put it in quotes: "{value}"',) if type(value) in (int, float) else ())
            )
        if not value:
            raise Wrong(f"is empty; it has to be {self.words}")
        if self._compiled and not self._compiled.fullmatch(value):
            raise self.refuse(value, *((self._hint,) if self._hint else ()))
        return str(value)

    def schema(self) -> dict[str, Any]:
        """Return a string schema."""
        if not self._pattern:
            return {"type": "string", "minLength": 1}
        return _or_expanded({"type": "string", "pattern": f"^(?:{self._pattern})$"})


class PathText(Text):
    """A path; it is made absolute when the plan is compiled."""

    brief = "path"

    def __init__(self, words: str = "a path") -> None:
        super().__init__(words)

    def parse(self, value: object) -> str:
        """Return the path as it was written."""
        text = super().parse(value)
        if not text.isprintable() and any(ord(c) < 32 or ord(c) == 127 for c in text):
            raise Wrong(f"{quoted(text)} has control characters in it")
        if len(text) > 4000:
            raise Wrong(f"{quoted(text)} is longer than a path may be")
        return text


class NameText(Text):
    """The name of a worker, component, group or node."""

    brief = "name"

    def __init__(self) -> None:
        super().__init__(f"a name ({NAME_WORDS})", NAME.pattern)


class Boolean(Kind):
    """True or false."""

    words = "true or false"
    takes: tuple[type, ...] = (bool, Expanded)

    def parse(self, value: object) -> bool:
        """Return the truth."""
        if isinstance(value, Expanded) and value in ("true", "false"):
            return value == "true"
        if not isinstance(value, bool):
            raise self.refuse(value)
        return value

    def schema(self) -> dict[str, Any]:
        """Return a boolean schema."""
        return _or_expanded({"type": "boolean"})


class Off(Kind):
    """``false`` where a table could stand: there is none of it."""

    words = "false"
    takes: tuple[type, ...] = (bool,)

    def __init__(self, key: str, otherwise: str) -> None:
        self._key = key
        self._otherwise = otherwise

    def parse(self, value: object) -> dict[str, bool]:
        """Return a table that says so."""
        if value is not False:
            raise Wrong(f"{shown(value)} does not say what to do", self._otherwise)
        return {self._key: True}

    def schema(self) -> dict[str, Any]:
        """Return a schema of false."""
        return {"const": False}


class OrOff(Kind):
    """A threshold, or ``false``: that detector is off. The plan has 0 for it."""

    def __init__(self, kind: Kind) -> None:
        self._kind = kind
        self.words = f"{kind.words}, or false"
        self.brief = f"{kind.brief or 'number'} or false"
        self.takes = (*kind.takes, bool)

    def parse(self, value: object) -> float:
        """Return the threshold."""
        if value is False or (isinstance(value, Expanded) and value == "false"):
            return 0.0
        if value is True:
            raise self.refuse(value, "leave it out for the default")
        return float(self._kind.parse(value))

    def schema(self) -> dict[str, Any]:
        """Return a schema of the threshold, or of false."""
        return {"anyOf": [{"const": False}, self._kind.schema()]}


class Number(Kind):
    """A number within bounds."""

    takes: tuple[type, ...] = (int, float, Expanded)

    def __init__(self, least: float, most: float) -> None:
        self._least = least
        self._most = most
        self.words = f"a number from {least:g} to {most:g}"

    def parse(self, value: object) -> float:
        """Return the number."""
        if isinstance(value, Expanded):
            value = _number(value, self.words)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self.refuse(value)
        if not self._least <= value <= self._most:  # also what NaN comes to
            raise self.refuse(value)
        return float(value)

    def schema(self) -> dict[str, Any]:
        """Return a number schema."""
        return _or_expanded({"type": "number", "minimum": self._least, "maximum": self._most})


class Integer(Kind):
    """A whole number within bounds."""

    takes: tuple[type, ...] = (int, Expanded)

    def __init__(self, least: int, most: int, words: str = "") -> None:
        self._least = least
        self._most = most
        self.words = words or f"a whole number from {least} to {most}"

    def parse(self, value: object) -> int:
        """Return the number."""
        if isinstance(value, Expanded):
            value = _number(value, self.words)
        if isinstance(value, bool) or not isinstance(value, int):
            raise self.refuse(value)
        if not self._least <= value <= self._most:
            raise self.refuse(value)
        return value

    def schema(self) -> dict[str, Any]:
        """Return an integer schema."""
        return _or_expanded({"type": "integer", "minimum": self._least, "maximum": self._most})


class Duration(Kind):
    """A length of time; the plan has seconds."""

    brief = "time"
    takes: tuple[type, ...] = (int, float, str)

    def __init__(self, *, zero: bool = False) -> None:
        self._zero = zero
        self.words = 'a time such as "250ms", "5s", "2m", "1h", "1d", or a number of seconds'

    def parse(self, value: object) -> float:
        """Return seconds."""
        seconds: float
        if (
            isinstance(value, Expanded)
            and value.replace(".", "", 1).isdecimal()
            and value.isascii()
        ):
            seconds = float(value)
        elif isinstance(value, str):
            found = _DURATION.fullmatch(value.strip())
            if found is None:
                hint = (f'say the unit: "{value}s"',) if value.isdecimal() else ()
                raise self.refuse(value, *hint)
            seconds = float(found[1]) * _SECONDS[found[2]]
        elif isinstance(value, int | float) and not isinstance(value, bool):
            # A number of a thousand digits does not fit into a float.
            seconds = min(value, 1e300) if isinstance(value, int) else value
        else:
            raise self.refuse(value)
        if not isfinite(seconds) or seconds < 0:
            raise self.refuse(
                value, "a time is never negative" if seconds < 0 else "a time has an end"
            )
        if seconds > _LONGEST_S:
            raise Wrong(f"{shown(value)} is longer than ten years")
        if not seconds and not self._zero:
            raise Wrong(f"{shown(value)} is no time at all; it has to be longer")
        # 0.1 * 1000 ways of writing 100 ms should be one number in the plan.
        return round(float(seconds), 6) or (1e-6 if seconds else 0.0)

    def schema(self) -> dict[str, Any]:
        """Return a schema of both notations."""
        bound = {"minimum": 0} if self._zero else {"exclusiveMinimum": 0}
        return {
            "anyOf": [
                {"type": "string", "pattern": rf"^\s*(?:{_DURATION.pattern})\s*$"},
                {"type": "number", **bound, "maximum": _LONGEST_S},
                EXPANDED_SCHEMA,
            ]
        }


class Size(Kind):
    """An amount of bytes."""

    brief = "size"
    takes: tuple[type, ...] = (int, str)

    def __init__(self, least: int = 1, least_words: str = "1 byte") -> None:
        self._least = least
        self._least_words = least_words
        self.words = 'a size such as "512M", "1GiB", "100KB", or a number of bytes'

    def parse(self, value: object) -> int:
        """Return bytes."""
        size: float
        if (
            isinstance(value, Expanded)
            and value.isdecimal()
            and value.isascii()
            and len(value) < 30
        ):
            size = int(value)
        elif isinstance(value, str):
            found = _SIZE.fullmatch(value.strip().replace(" ", ""))
            if found is None:
                hint = (
                    (f"without a unit it is a number, not a text: {value}",)
                    if value.isdecimal()
                    else ()
                )
                raise self.refuse(value, *hint)
            # As everywhere with memory: M is MiB. Who writes MB means the unit of disks.
            step = 1000 if (found[3] or "").upper() == "B" else 1024
            power = " KMGT".index((found[2] or " ").upper())
            size = float(found[1]) * step**power
        elif isinstance(value, int) and not isinstance(value, bool):
            size = value
        else:
            raise self.refuse(value)
        if size > _LARGEST:
            raise Wrong(f"{shown(value)} is more than any machine has")
        if size < self._least:
            raise Wrong(f"{shown(value)} is too little: at least {self._least_words}")
        return int(size)

    def schema(self) -> dict[str, Any]:
        """Return a schema of both notations."""
        pattern = r"^\s*[0-9]+(?:\.[0-9]+)?\s*(?:[KMGTkmgt](?:[iI]?[bB])?|[bB])\s*$"
        return {
            "anyOf": [
                {"type": "string", "pattern": pattern},
                {"type": "integer", "minimum": self._least, "maximum": _LARGEST},
                EXPANDED_SCHEMA,
            ]
        }


class Cpu(Kind):
    """A share of processor time; 1.0 is one core."""

    brief = "cores or share"
    words = 'a number of cores such as 1.5, or a share of one such as "150%"'
    takes: tuple[type, ...] = (int, float, str)

    def parse(self, value: object) -> float:
        """Return cores."""
        share: float
        if isinstance(value, str):
            text = value.strip()
            if not (isinstance(value, Expanded) or text.endswith("%")):
                raise self.refuse(value)
            share = _number(text.removesuffix("%"), self.words) / (100 if text.endswith("%") else 1)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            share = min(value, 1e9)
        else:
            raise self.refuse(value)
        if not 0.01 <= share <= 10_000:
            raise Wrong(f"{shown(value)} is not from 0.01 to 10000 cores")
        return round(share, 4)

    def schema(self) -> dict[str, Any]:
        """Return a schema of both notations."""
        return {
            "anyOf": [
                {"type": "number", "minimum": 0.01, "maximum": 10_000},
                {"type": "string", "pattern": r"^\s*[0-9]+(?:\.[0-9]+)?%\s*$"},
                EXPANDED_SCHEMA,
            ]
        }


class Choice(Kind):
    """One of a few words."""

    def __init__(self, *values: str) -> None:
        self.values = values
        self.words = alternatives([f'"{value}"' for value in values])

    def check(self, value: object, where: Where, problems: Problems) -> Any:
        """Return the word; a wrong one is answered with the nearest right one."""
        if isinstance(value, str) and value not in self.values:
            guess = problems.similar(value, list(self.values))
            problems.add(where, f"{quoted(value)} is not {self.words}", *([guess] if guess else []))
            return BAD
        return super().check(value, where, problems)

    def parse(self, value: object) -> str:
        """Return the word."""
        if not isinstance(value, str) or value not in self.values:
            raise self.refuse(value)
        return str(value)

    def schema(self) -> dict[str, Any]:
        """Return an enumeration."""
        return _or_expanded({"enum": list(self.values)})


class Signal(Kind):
    """A signal, by name or number."""

    brief = "signal"
    words = "a signal such as " + _SIGNALS[6]
    takes: tuple[type, ...] = (int, str)

    def parse(self, value: object) -> int:
        """Return its number."""
        import signal  # an enumeration of 70 members that few files need

        if isinstance(value, str):
            name = value.upper().removeprefix("SIG")
            found = getattr(signal, "SIG" + name, None) if name.isalnum() else None
            if isinstance(found, signal.Signals):
                return int(found)
            raise Wrong(f"{quoted(value)} is not a signal", "valid here: " + ", ".join(_SIGNALS))
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 64:
            raise self.refuse(
                value, "valid here: " + ", ".join(_SIGNALS) + ", or a number from 1 to 64"
            )
        return value

    def schema(self) -> dict[str, Any]:
        """Return a schema of name or number."""
        return {
            "anyOf": [
                {"type": "string", "pattern": r"^(?:[Ss][Ii][Gg])?[A-Za-z0-9]+$"},
                {"type": "integer", "minimum": 1, "maximum": 64},
                EXPANDED_SCHEMA,
            ]
        }


class Umask(Kind):
    """Permissions that new files do not get."""

    brief = "mask"
    words = 'a file mode mask in quotes, as "027", or 0o027'
    takes: tuple[type, ...] = (int, str)

    def parse(self, value: object) -> int:
        """Return the mask."""
        if isinstance(value, str) and re.fullmatch("[0-7]{1,4}", value):
            value = int(value, 8)
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= 0o777:
            raise self.refuse(value)
        return value

    def schema(self) -> dict[str, Any]:
        """Return a schema of both notations."""
        return {
            "anyOf": [
                {"type": "string", "pattern": "^[0-7]{1,4}$"},
                {"type": "integer", "minimum": 0, "maximum": 0o777},
                EXPANDED_SCHEMA,
            ]
        }


class Command(Kind):
    """A program and its arguments."""

    brief = "command"
    words = 'a command: a list ["program", "argument"], or a text that is split at blanks as a shell does'
    takes: tuple[type, ...] = (str, list)

    def parse(self, value: object) -> list[str]:
        """Return the arguments, the program first."""
        if isinstance(value, str):
            words = _split(value)
        elif isinstance(value, list):
            for word in value:
                if not isinstance(word, str):
                    raise Wrong(
                        f"{shown(word)} is not a text; every part of a command is one",
                        "put it in quotes",
                    )
            words = [str(word) for word in value]
        else:
            raise self.refuse(value)
        if not words or not words[0]:
            raise Wrong("is empty; it has to be " + self.words)
        return words

    def schema(self) -> dict[str, Any]:
        """Return a schema of both notations."""
        return {
            "anyOf": [
                {"type": "string", "minLength": 1},
                {"type": "array", "items": {"type": "string"}, "minItems": 1},
            ]
        }


class Address(Kind):
    """Where a listening socket is bound."""

    brief = "address"
    words = 'an address such as "tcp://127.0.0.1:8080" or "unix:app.sock"'

    def parse(self, value: object) -> tuple[str, str, int, str]:
        """Return (kind, host, port, path)."""
        if not isinstance(value, str):
            raise self.refuse(value)
        if value.startswith("unix:"):
            path = value.removeprefix("unix:")
            path = path.removeprefix("//")
            if not path:
                raise self.refuse(value)
            return "unix", "", 0, PathText().parse(path)
        if value.startswith("tcp://"):
            host, port = host_and_port(value.removeprefix("tcp://"), least=0)
            return "tcp", host, port, ""
        if value.startswith(("ws:", "wss:", "http:", "https:", "rs:")):
            rest = value.partition("://")[2].partition("/")[0]
            raise self.refuse(value, f'the worker speaks the protocol; here stands "tcp://{rest}"')
        raise self.refuse(value)

    def schema(self) -> dict[str, Any]:
        """Return a schema of both families."""
        return _or_expanded({"type": "string", "pattern": "^(?:unix:.+|tcp://.+:[0-9]+)$"})


class Service(NamedTuple):
    """An address with the protocol that is spoken there: ``ws://127.0.0.1:8080/ws``."""

    scheme: str
    host: str
    port: int
    path: str  #: without slashes at the ends; "" for none


class ServiceAddress(Address):
    """Where a listening socket is bound; for a router also what it speaks there."""

    words = Address.words

    def parse(self, value: object) -> Any:
        """Return (kind, host, port, path) as an Address does, or a Service."""
        scheme, _, rest = value.partition("://") if isinstance(value, str) else ("", "", "")
        if scheme not in SCHEMES:
            return super().parse(value)
        place, _, path = rest.partition("/")
        if path and scheme in ("rs", "rss"):
            raise self.refuse(value, f'RawSocket has no paths: "{scheme}://{place}"')
        path = path.strip("/")
        if path and not URL_PATH.fullmatch(path):
            raise self.refuse(value, f"{quoted(path)} is not a path: {URL_PATH_WORDS}")
        host, port = host_and_port(place, least=0)
        return Service(scheme, host, port, path)

    def schema(self) -> dict[str, Any]:
        """Return a schema of all of them."""
        schemes = "|".join(("tcp", *SCHEMES))
        pattern = f"^(?:unix:.+|(?:{schemes})://.+:[0-9]+(?:/.*)?)$"
        return _or_expanded({"type": "string", "pattern": pattern})


class Endpoint(Kind):
    """A TCP address to connect to; a bare port is one of this machine."""

    brief = 'port or "host:port"'
    words = 'a port such as 6390, or "host:port"'
    takes: tuple[type, ...] = (int, str)

    def parse(self, value: object) -> str:
        """Return "host:port"."""
        if isinstance(value, bool) or not isinstance(value, int | str):
            raise self.refuse(value)
        text = str(value) if isinstance(value, str) or abs(value) < 10**9 else "0"
        host, port = host_and_port(text if ":" in text else f"127.0.0.1:{text}", least=1)
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    def schema(self) -> dict[str, Any]:
        """Return a schema of both notations."""
        return {
            "anyOf": [
                {"type": "integer", "minimum": 1, "maximum": 65535},
                {"type": "string", "pattern": "^(?:.+:)?[0-9]+$"},
                EXPANDED_SCHEMA,
            ]
        }


class Url(Kind):
    """What an HTTP probe asks for."""

    brief = "URL"
    words = 'an address such as "http://127.0.0.1:8080/health"'

    def parse(self, value: object) -> str:
        """Return the URL."""
        if not isinstance(value, str):
            raise self.refuse(value)
        if value.startswith("https://"):
            raise self.refuse(
                value, "probes speak plain http: ask the worker itself, not the proxy before it"
            )
        if (
            not value.startswith("http://")
            or not value.isascii()
            or not value.isprintable()
            or " " in value
        ):
            raise self.refuse(value)
        host = value.removeprefix("http://").partition("/")[0]
        if "@" in host:
            raise self.refuse(value, "a probe does not log in")
        if not re.fullmatch(r".+:[0-9]*", host) or host.endswith("]"):
            host += ":80"
        host_and_port(host, least=1)
        return str(value)

    def schema(self) -> dict[str, Any]:
        """Return a pattern."""
        return _or_expanded({"type": "string", "pattern": "^http://[^ ]+$"})


def host_and_port(text: str, *, least: int) -> tuple[str, int]:
    """Return the parts of "host:port" or "[::1]:port".

    Numbers only: neither the keeper nor the watchdog can wait for a name server. ``least`` is 0 for a socket
    to listen on and 1 for one to connect to.

    Raises:
        Wrong: It is neither.
    """
    host, _, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise Wrong(
            f"{quoted(text)} is not an address",
            f'an IPv6 address stands in brackets: "[{host}]:{port}"',
        )
    if not re.fullmatch("[0-9]{1,5}", port) or not least <= int(port) <= 65535:
        raise Wrong(f"{quoted(port)} is not a port", f"a port is a number from {least} to 65535")
    if host == "localhost":
        host = "127.0.0.1"
    elif host == "*":
        host = "127.0.0.1" if least else "0.0.0.0"
    if not _is_numeric(host):
        says = (
            f"{quoted(host)} is not a numeric address"
            if host
            else f"{quoted(text)} does not name a host"
        )
        raise Wrong(says, f'names are not looked up; for this machine: "127.0.0.1:{port}"')
    return host, int(port)


def _is_numeric(host: str) -> bool:
    from _socket import AF_INET, AF_INET6, inet_pton  # few files have an address

    try:
        inet_pton(AF_INET6 if ":" in host else AF_INET, host)
    except (OSError, ValueError):
        return False
    return True


def _split(text: str) -> list[str]:
    # shlex takes 30 µs for what str.split does in one; most commands have nothing to quote.
    if not any(c in text for c in "\"'\\#"):
        words = text.split()
    else:
        import shlex

        try:
            words = shlex.split(text)
        except ValueError as error:
            raise Wrong(f"{quoted(text)} cannot be split: {str(error).lower()}") from None
    for word in words:
        if word in _SHELL_WORDS:
            raise Wrong(
                f"{quoted(text)} has {word} in it, but no shell reads it", 'write ["sh", "-c", "…"]'
            )
    return words


def _number(text: str, words: str) -> int | float:
    if not re.fullmatch(r"[0-9]{1,18}(?:\.[0-9]{1,18})?", text):
        raise Wrong(f"{quoted(text)} is not {words}")
    return float(text) if "." in text else int(text)


def _or_expanded(schema: dict[str, Any]) -> dict[str, Any]:
    return {"anyOf": [schema, EXPANDED_SCHEMA]}


def alternatives(words: list[str]) -> str:
    """Return "a, b or c"."""
    return words[0] if len(words) == 1 else ", ".join(words[:-1]) + " or " + words[-1]
