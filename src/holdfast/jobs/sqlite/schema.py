"""Is this file a queue of ours, and of which version? Makes a new one, and brings an old one up to date.

The tables are in schema.sql. `application_id` says that a file is ours, `user_version` which version of the tables it has.
"""

import os
import sqlite3

from holdfast.model.jobs import StoreRefusedError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

#: "HFJB"
APPLICATION = 0x48464A42
VERSION = 1
#: By version, the statements that make the next one of it. Each is applied in one transaction with all that follow.
MIGRATIONS: "dict[int, str]" = {}


def prepare(connection: sqlite3.Connection, path: str, patiently: "Callable[[Callable[[], object]], object]") -> None:  # fmt: skip
    """Make sure that the file has the tables of this version.

    Args:
        connection: Just opened, without a transaction.
        path: For messages.
        patiently: Repeats what it is given while the file is busy: many processes may come at once.

    Raises:
        StoreRefusedError: It is another program's, or a newer Holdfast's.
    """
    if patiently(lambda: _look(connection, path)):
        return
    # Only of a new file; it waits until nobody else has it open, and stays for ever.
    patiently(lambda: connection.execute("PRAGMA journal_mode=WAL").fetchone())
    patiently(lambda: connection.execute("BEGIN IMMEDIATE"))
    try:
        if not _is_current(connection, path):  # somebody else was faster
            version = _number(connection, "user_version")
            for text in _missing(version):
                _run(connection, text)
            connection.execute(f"PRAGMA application_id={APPLICATION}")
            connection.execute(f"PRAGMA user_version={VERSION}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _look(connection: sqlite3.Connection, path: str) -> bool:
    """As :func:`_is_current`, on one state of the file: between two questions somebody else may just make its tables."""
    connection.execute("BEGIN")
    try:
        return _is_current(connection, path)
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def _is_current(connection: sqlite3.Connection, path: str) -> bool:
    version = _number(connection, "user_version")
    application = _number(connection, "application_id")
    if application == APPLICATION:
        if version > VERSION:
            raise StoreRefusedError(
                f"{path}: was written by a newer Holdfast (tables of version {version}, this one knows {VERSION})\n"
                "  Install that version, or name another file."
            )
        return version == VERSION
    if application or version or connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone():  # fmt: skip
        raise StoreRefusedError(
            f"{path}: is a database of another program\n  Name another file; it is made when it is not there."
        )
    return False


def _missing(version: int) -> "list[str]":
    """Return the scripts that lead from a version to this one."""
    if version == 0:
        with open(os.path.join(os.path.dirname(__file__), "schema.sql"), encoding="utf-8") as file:
            return [file.read()]
    return [MIGRATIONS[step] for step in range(version, VERSION)]


def _run(connection: sqlite3.Connection, text: str) -> None:
    """Run a script statement by statement: `executescript` would commit first."""
    statement = ""
    for line in text.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            connection.execute(statement)
            statement = ""


def _number(connection: sqlite3.Connection, name: str) -> int:
    number: int = connection.execute(f"PRAGMA {name}").fetchone()[0]
    return number
