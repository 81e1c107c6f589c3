"""What goes into the node's audit (:mod:`holdfast.records.audit`) for an action of an assistant?

The line before is on disk before anything happens: killed in between, the audit says that something was begun and not what became of it. An
action that cannot be written down is not carried out.
"""

import getpass

from holdfast.cli.commands import say
from holdfast.model.errors import StateError
from holdfast.records import audit
from holdfast.wire.jsonlite import dumps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any


class Assistant:
    """Who acts by way of `holdfast mcp`: the account that started it, with the rights of that account."""

    role = "operator"
    address = ""
    session = ""

    def __init__(self, way: str) -> None:
        self.way = way
        self.name = _account()


class Audit:
    """The audit of a node, for one server."""

    def __init__(self, state_dir: str, way: str) -> None:
        self._audit = audit.Audit(state_dir)
        self.path = self._audit.path
        self._who = Assistant(way)

    def around(
        self, what: str, given: "Mapping[str, Any]", client: str, act: "Callable[[], Any]"
    ) -> "Any":
        """Carry something out between its two lines.

        Args:
            what: The tool.
            given: Its arguments.
            client: What the client calls itself; anybody can say that.
            act: Does it.

        Raises:
            StateError: It cannot be written down, and was not done.
        """
        target = str(given.get("target") or given.get("worker") or given.get("alert") or "")
        try:
            entry = self._audit.note(
                self._who, what, target, given=dumps(dict(given)), client=client
            )
        except OSError as error:
            msg = f"{self.path}: {error.strerror}: what cannot be written down is not done\n  by hand:  holdfast {what.partition('_')[0]} …"
            raise StateError(msg) from None
        result = "failed"
        try:
            found = act()
            result = "done"
            return found
        except Exception as error:
            result = f"failed: {str(error).partition(chr(10))[0]}"
            raise
        finally:
            try:
                self._audit.done(entry, result)
            except OSError as error:
                # The beginning is on record; how it ended the journal of the node knows.
                say(f"{self.path}: {error.strerror}: the end of {what} could not be written down")


def _account() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return "?"  # an account without a name
