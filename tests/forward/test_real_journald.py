"""systemd's own journald, in name spaces of its own with a /run of its own: what does its reader find of what we wrote?"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from holdfast.forward.journald import OPENED_ID, Journald
from holdfast.forward.reading import OPENED, News, Portion
from holdfast.records.logs import Line
from node import SLOWNESS, wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

JOURNALD = "/lib/systemd/systemd-journald"
BEGIN = """
set -e
mount --make-rprivate /
mount -t proc proc /proc
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /dev/shm
mount --bind {home}/machine-id /etc/machine-id
mkdir -p /run/log/journal /run/systemd/journal
mount --bind {home}/journald.conf /etc/systemd/journald.conf
exec {journald}
"""
SPACES = ["--pid", "--mount", "--uts", "--ipc", "--fork", "--kill-child"]


def can_run() -> bool:
    if os.getuid() or not os.path.exists(JOURNALD) or not shutil.which("journalctl"):
        return False
    tried = subprocess.run(
        ["unshare", *SPACES, "mount", "--make-rprivate", "/"], capture_output=True
    )
    return tried.returncode == 0


pytestmark = [
    pytest.mark.faults,
    pytest.mark.skipif(not can_run(), reason="needs root, journald and name spaces"),
]


class Journal:
    """A journald that nobody else writes to."""

    def __init__(self, home: Path) -> None:
        (home / "machine-id").write_text("0123456789abcdef0123456789abcdef\n")
        (home / "journald.conf").write_text(
            "[Journal]\nStorage=volatile\nReadKMsg=no\nAudit=no\nRateLimitIntervalSec=0\n"
        )
        (home / "begin.sh").write_text(BEGIN.format(home=home, journald=JOURNALD))
        self.log = open(home / "journald.log", "wb")
        self.process = subprocess.Popen(
            ["unshare", *SPACES, "sh", str(home / "begin.sh")], stdout=self.log, stderr=self.log, stdin=subprocess.DEVNULL
        )  # fmt: skip
        self.pid = wait_for(self._pid, "journald")
        self.socket = f"/proc/{self.pid}/root/run/systemd/journal/socket"
        wait_for(lambda: os.path.exists(self.socket), "its socket")

    def _pid(self) -> int:
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        for child in children.split():
            if Path(f"/proc/{child}/comm").read_text() == "systemd-journal\n":
                return int(child)
        return 0

    def find(self, *wanted: str) -> list[dict[str, object]]:
        """Return the entries that fit, as journalctl shows them."""
        done = subprocess.run(
            ["nsenter", "-t", str(self.pid), "-m", "-p", "journalctl", "-o", "json", "--all", "--no-pager", "--quiet", *wanted],
            capture_output=True, text=True, timeout=60 * SLOWNESS, check=False,
        )  # fmt: skip
        return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    made = Journal(tmp_path)
    yield made
    made.process.kill()
    made.process.wait()
    made.log.close()


def test_journalctl_finds_lines_by_worker_and_incidents_by_their_message_id(
    journal: Journal,
) -> None:
    """Short and long, with line ends, too large for a datagram, and after a journald that was not there for a while."""
    some = Portion()
    some.lines = [
        Line(1_700_000_000.5, "err", "web", 3, "level=error component=board no room"),
        Line(1_700_000_000.6, "out", "db", 1, "z" * 500_000),
    ]
    record = {
        "id": "2024-11-03-web-1",
        "worker": "web",
        "kind": "crash",
        "title": "it crashed",
        "findings": [{"says": "a"}, {"says": "b"}],
    }
    some.news = [News(OPENED, record, "", 1_700_000_001.0)]
    with contextlib.closing(Journald(journal.socket)) as target:
        target.deliver(some, "clandeck-1")

    (line,) = wait_for(
        lambda: journal.find("HOLDFAST_WORKER=web", "HOLDFAST_STREAM=err"), "the line"
    )
    (incident,) = wait_for(lambda: journal.find(f"MESSAGE_ID={OPENED_ID}"), "the incident")
    (long,) = wait_for(lambda: journal.find("SYSLOG_IDENTIFIER=db"), "the long line")
    assert (line["MESSAGE"], line["PRIORITY"], line["HOLDFAST_START"]) == (
        "level=error component=board no room",
        "3",
        "3",
    )
    assert line["HOLDFAST_UNIX_USEC"] == "1700000000500000"
    assert incident["HOLDFAST_FINDINGS"] == "a\nb"
    assert long["MESSAGE"] == "z" * 500_000
    assert [one["MESSAGE"] for one in journal.find("-p", "err", "HOLDFAST_WORKER=web")] == [
        line["MESSAGE"],
        "it crashed",
    ]
