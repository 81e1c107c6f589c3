"""An alerts process over a node that is not there: its files are, and a test writes them."""

from __future__ import annotations

import json
import os
import sqlite3
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from alerts.sinks import Sink
from container.hosting import Container
from holdfast.linux import files
from holdfast.wire import journal, layout

if TYPE_CHECKING:
    from collections.abc import Iterator


class Town:
    """Files of a node, and lives of its alerts process."""

    def __init__(self, root: Path) -> None:
        self.container = Container(root)
        self.run_dir = self.container.run_dir
        self.state = root / "state"
        self.state.mkdir()
        (self.run_dir / layout.FLAGS).mkdir()
        (self.run_dir / layout.STATE_LINK).symlink_to(self.state)
        self.n = 0
        self.seq = 0

    def configure(self, **settings: Any) -> None:
        self.container.components.clear()
        self.container.host("alerts", "holdfast.alerts:app", **settings)

    def start(self) -> None:
        self.n += 1
        self.container.start_ready(self.n)

    def kill(self) -> None:
        self.container.process.kill()
        self.container.process.wait()

    def flag(self, worker: str, name: str, phase: str, says: str = "it is sick") -> None:
        """Raise a flag as the watchdog does."""
        flag = {"worker": worker, "flag": name, "since_unix_s": 1.0, "value": 1, "limit": 1, "says": says,
                "incident": None, "rung": 0, "phase": phase}  # fmt: skip
        files.write_atomic(str(self.run_dir / layout.flag(worker, name)), json.dumps(flag).encode())

    def clear(self, worker: str, name: str) -> None:
        (self.run_dir / layout.flag(worker, name)).unlink()

    def record(self, **record: Any) -> None:
        """Write into the keeper's journal."""
        self.seq += 1
        line = journal.encode({"seq": self.seq, "mono_s": 1.0, **record})
        files.append(str(self.run_dir / layout.JOURNAL), line)

    def rows(self, state: str = "") -> list[tuple[str, str, str]]:
        """Return (message, change, state) of the outbox."""
        path = self.state / "alerts/alerts.db"
        if not path.exists():
            return []
        connection = sqlite3.connect(path, timeout=20)
        try:
            found = connection.execute("SELECT message, change, state FROM outbox ORDER BY rowid").fetchall()  # fmt: skip
        except sqlite3.OperationalError:
            return []  # its tables are being made
        finally:
            connection.close()
        return [row for row in found if not state or row[2] == state]


@pytest.fixture
def town() -> Iterator[Town]:
    # Short: the control socket's path has to fit into a socket address.
    with tempfile.TemporaryDirectory(prefix="hf-") as root:
        made = Town(Path(os.path.realpath(root)))
        try:
            yield made
        finally:
            made.container.kill_all()


@pytest.fixture
def sink() -> Iterator[Sink]:
    with Sink() as made:
        yield made
