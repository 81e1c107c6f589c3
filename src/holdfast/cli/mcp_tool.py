"""What is a tool: its name, what it takes, what it does? And are the arguments of a call what it takes?

The schema that a client reads and the check of a call are made from the same few words. Errors name the argument and what it has to be: they are
read by a model, which then calls again.
"""

import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from holdfast.cli.mcp_asking import Running
    from holdfast.cli.place import Place

    Schema = dict[str, Any]


def text(says: str, pattern: str) -> "Schema":
    """Return the schema of a text; it may not begin with a dash: it becomes an argument of a command."""
    return {"type": "string", "description": says, "pattern": f"^(?:{pattern})$"}


def integer(says: str, least: int, most: int, default: int) -> "Schema":
    """Return the schema of a whole number."""
    return {"type": "integer", "description": says, "minimum": least, "maximum": most, "default": default}  # fmt: skip


def boolean(says: str) -> "Schema":
    """Return the schema of true or false; false where it is left out."""
    return {"type": "boolean", "description": says, "default": False}


def choice(says: str, *values: str) -> "Schema":
    """Return the schema of one of a few words."""
    return {"type": "string", "description": says, "enum": list(values)}


class Call:
    """One call: the node, checked arguments, and what runs for it."""

    __slots__ = ("given", "running", "where")

    def __init__(self, where: "Place", given: "Mapping[str, Any]", running: "Running") -> None:
        self.where, self.given, self.running = where, given, running


class Tool:
    """One tool."""

    __slots__ = ("is_action", "is_harsh", "is_untrusted", "name", "properties", "required", "run", "says", "title")  # fmt: skip

    def __init__(
        self,
        name: str,
        title: str,
        says: str,
        properties: "dict[str, Schema]",
        run: "Callable[[Call], Any]",
        *,
        required: "tuple[str, ...]" = (),
        is_untrusted: bool = True,
        is_action: bool = False,
        is_harsh: bool = False,
    ) -> None:
        self.name, self.title, self.says = name, title, says
        self.properties = properties
        self.required = required
        self.run = run
        self.is_untrusted = (
            is_untrusted  #: there may be words of the application in what it returns
        )
        self.is_action = is_action  #: it changes something, or disturbs a process
        self.is_harsh = is_harsh  #: somebody may not be served for a moment

    def listed(self) -> "dict[str, Any]":
        """Return its definition."""
        schema: dict[str, Any] = {"type": "object", "properties": self.properties, "additionalProperties": False}  # fmt: skip
        if self.required:
            schema["required"] = list(self.required)
        return {
            "name": self.name,
            "title": self.title,
            "description": self.says,
            "inputSchema": schema,
            "annotations": {
                "title": self.title, "readOnlyHint": not self.is_action, "destructiveHint": self.is_harsh,
                "idempotentHint": not self.is_action, "openWorldHint": False,
            },
        }  # fmt: skip


class Arguments:
    """The arguments of a tool."""

    def __init__(self, tool: Tool) -> None:
        self._tool = tool

    def checked(self, given: "Mapping[str, Any]") -> "dict[str, Any]":
        """Return the arguments with defaults.

        Raises:
            ValueError: One of them is not what it has to be.
        """
        properties = self._tool.properties
        for name in given:
            if name not in properties:
                known = ", ".join(properties) or "it takes none"
                raise ValueError(f"{self._tool.name}: there is no argument {name[:80]!r}: {known}")
        for name in self._tool.required:
            if name not in given:
                raise ValueError(f"{self._tool.name}: the argument {name!r} is missing")
        made = {
            name: schema["default"] for name, schema in properties.items() if "default" in schema
        }
        for name, value in given.items():
            if value is not None:
                _check(f"{self._tool.name}: {name}", value, properties[name])
                made[name] = value
        return made


def _check(where: str, value: object, schema: "Schema") -> None:
    kind = schema["type"]
    if kind == "boolean" and not isinstance(value, bool):
        raise ValueError(f"{where}: true or false is wanted")
    if kind == "integer":
        if isinstance(value, bool) or not isinstance(value, int):
            raise ValueError(f"{where}: a whole number is wanted")
        if not schema["minimum"] <= value <= schema["maximum"]:
            raise ValueError(
                f"{where}: a number from {schema['minimum']} to {schema['maximum']} is wanted"
            )
    if kind == "string":
        if not isinstance(value, str) or "\0" in value:
            raise ValueError(f"{where}: a text is wanted")
        if "enum" in schema and value not in schema["enum"]:
            raise ValueError(f"{where}: one of {', '.join(schema['enum'])} is wanted")
        if "pattern" in schema and not re.fullmatch(schema["pattern"][1:-1], value):
            raise ValueError(f"{where}: {schema['description']}")
