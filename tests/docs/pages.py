"""What do our pages show, and does it happen? Finds the marked blocks of a page and runs them.

A mark is an HTML comment on the line above a fenced block:

* ``<!-- test: NAME -->``: the console block belongs to session NAME of its page. A session has a directory of its own; its
  lines that begin with ``$ `` are run in turn, the lines below each are what it has to print. ``exit=2`` in the mark
  is the status that the last command of the block ends with (0 otherwise).
* ``<!-- file: NAME PATH -->``: the block is written to PATH in the directory of session NAME.
* ``<!-- not run: REASON -->``: the block cannot be run on a build machine.

Printed and shown lines are compared without their numbers; a line ``…`` stands for any lines, a line that ends with ``…``
for any that begins so. The process ids of a shown ``holdfast status`` stand for the real ones: ``kill -9 4711`` kills the
process that the page called 4711. Ports from 18080 to 18089 stand for free ones. ``python tests/docs/pages.py PAGE`` writes into a page what its commands print today.
"""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SLOWNESS = float(os.environ.get("HOLDFAST_SLOWNESS", "1"))
#: What a page calls the directory of a session.
HOME = "/home/you"
ANY = "…"

_FENCE = re.compile(
    r"^(?:<!-- (?P<mark>.+?) -->\n)?```(?P<lang>\w*)\n(?P<body>.*?)^```$", re.MULTILINE | re.DOTALL
)
_NUMBER = re.compile(r"[<~]?\b\d[\d.:]*(?:m\d\ds)?\s?(?:ms|s|m|h|d|K|M|G|B|MiB|KiB|%)?(?![\w])")
_WORKER_PID = re.compile(r"^(\S+) +\w+ +(?:yes|no|-) +(\d+)")
_HOUSE_PID = re.compile(r"\b(anchor|keeper|watchdog|logger) (\d+)")
_PORT = re.compile(r"\b1808\d\b")
_INCIDENT = re.compile(r"\b\d{4}-\d\d-\d\d-([\w-]+-\d+)\b")
#: Commands that only look are asked again until they show what the page shows.
_LOOKS = re.compile(
    r"^(holdfast (-c \S+ )?(status|incidents?|logs|jobs (list|show|stats|workers))|cat|ls|curl|test)\b"
)
_JID = re.compile(r"\b[0-9a-f]{24}\b")


@dataclass
class Command:
    """One line of a console block, and what the page shows below it."""

    line: str
    shown: list[str]
    status: int = 0


@dataclass
class Block:
    """One fenced block."""

    lang: str
    body: str
    mark: str
    at: int  #: line number of the fence
    span: tuple[int, int]  #: of the body, in the text of the page

    def commands(self) -> list[Command]:
        found: list[Command] = []
        for line in self.body.splitlines():
            if line.startswith("$ "):
                found.append(Command(line[2:], []))
            elif found:
                found[-1].shown.append(line)
        if found and (status := re.search(r"\bexit=(\d+)", self.mark)):
            found[-1].status = int(status[1])
        return found


def pages() -> list[Path]:
    """Every page of ours that people read."""
    return [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]


def blocks(path: Path) -> list[Block]:
    text = path.read_text()
    return [
        Block(
            found["lang"], found["body"], found["mark"] or "",
            text.count("\n", 0, found.start("lang")) + 1, found.span("body"),
        )
        for found in _FENCE.finditer(text)
    ]  # fmt: skip


def sessions(path: Path) -> dict[str, list[Block]]:
    """The blocks of each session of a page, in the order of the page."""
    found: dict[str, list[Block]] = {}
    for block in blocks(path):
        words = block.mark.split()
        if words and words[0] in ("test:", "file:"):
            found.setdefault(words[1], []).append(block)
    return found


def skeleton(line: str) -> str:
    """A line without what is different each time."""
    # Which incident of a worker is meant is no number that may differ.
    line = _INCIDENT.sub(lambda m: re.sub(r"\d", lambda n: "abcdefghij"[int(n[0])], m[1]), line)
    line = _JID.sub("JID", line)
    line = re.sub(r"/dev/shm/\S+", "RUN", line)
    line = re.sub(r"/\S*?/(?:src|site-packages)/holdfast/", "HOLDFAST/", line)
    line = re.sub(r"\d{4}-\d\d-\d\d|\b\d\d-\d\d\b", "#", line)
    line = re.sub(r"(?<= )-(?= |$)", "#", line)  # a number that is not known yet
    line = _NUMBER.sub("#", line)
    return re.sub(r"(# ?)+", "# ", re.sub(r"\s+", " ", line)).strip()


def missing(shown: list[str], printed: list[str]) -> str:
    """The first shown line that was not printed in its turn; empty when all were."""
    at, loose = 0, False
    real = [skeleton(line) for line in printed if line.strip()]
    for line in shown:
        if not line.strip():
            continue
        if line.strip() == ANY:
            loose = True
            continue
        want = skeleton(line)
        fits = [
            i for i, has in enumerate(real[at:], at)
            if (has.startswith(skeleton(line.rstrip(ANY))) if line.endswith(ANY) else has == want)
        ]  # fmt: skip
        if not fits or (fits[0] != at and not loose):
            got = real[at] if at < len(real) else "the end"
            return f"{line!r}\n  as {want!r}\n  but there is {got!r}"
        at, loose = fits[0] + 1, False
    if at < len(real) and not loose and shown:
        return f"the end, but there is {real[at]!r}"
    return ""


@dataclass
class Session:
    """Runs the blocks of one session."""

    home: Path
    pids: dict[str, str] = field(default_factory=dict)
    ports: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.cwd = self.home / "you"
        self.cwd.mkdir(parents=True)
        tools = self.home / "tools"
        tools.mkdir()
        for name, start in (("holdfast", "-m holdfast"), ("python3", "")):
            (tools / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" {start} "$@"\n')
            (tools / name).chmod(0o755)
        kept = {k: v for k, v in os.environ.items() if not k.startswith("HOLDFAST_")}
        self.env = kept | {
            "PATH": f"{tools}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT / "src"), "COLUMNS": "120",
            "NO_COLOR": "1", "PYTHONDONTWRITEBYTECODE": "1",
            # What a page shows is what happens, not how fast it happens on a busy machine.
            "HOLDFAST_SLOWNESS": str(10 * SLOWNESS),
        }  # fmt: skip

    def play(self, found: list[Block], *, records: bool = False) -> list[str]:
        """Run them; with ``records`` return the new text of each block instead of comparing."""
        texts = []
        for block in found:
            if block.mark.startswith("file:"):
                target = self.cwd / block.mark.split()[2]
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_text(self.with_ports(block.body))
                texts.append(block.body)
                continue
            lines: list[str] = []
            for command in block.commands():
                line = self.real(command.line)
                output = self.run(line, command, records=records)
                self.learn(command, output)
                shown = self.real(command.line) if "kill" in line else command.line
                lines += [f"$ {shown}", *output]
            texts.append("\n".join(lines) + "\n")
        return texts

    def real(self, line: str) -> str:
        """A command line with the process ids and incidents of this run."""
        if "kill" in line and "@" in line:  # a page that is being written for the first time
            line = re.sub(r"@(\w+)", lambda m: self.pid(m[1]), line)
        line = self.with_ports(line)
        line = re.sub(r"\b\d{3,}\b", lambda m: self.pids.get(m[0], m[0]), line)
        ids = {p.name for p in self.cwd.glob(".holdfast/incidents/*-*-*-*")}
        return _INCIDENT.sub(lambda m: next((i for i in ids if i.endswith(f"-{m[1]}")), m[0]), line)

    def with_ports(self, text: str) -> str:
        """Replace the ports of a page by free ones."""
        for port in _PORT.findall(text):
            if port not in self.ports:
                with socket.socket() as sock:
                    sock.bind(("127.0.0.1", 0))
                    self.ports[port] = str(sock.getsockname()[1])
        return _PORT.sub(lambda m: self.ports[m[0]], text)

    def run(self, line: str, command: Command, *, records: bool) -> list[str]:
        until = time.monotonic() + (6 if records else 30) * SLOWNESS
        while True:
            note = self.home / "cwd"
            done = subprocess.run(
                ["bash", "-c", f"{line}\nstatus=$?; pwd >{note}; exit $status"], cwd=self.cwd, env=self.env,
                capture_output=True, stdin=subprocess.DEVNULL, text=True,
                timeout=120 * SLOWNESS, check=False,
            )  # fmt: skip
            # What goes well tells its progress on stderr, and that is not shown.
            told = done.stdout + (done.stderr if done.returncode else "")
            output = told.replace(str(self.home / "you"), HOME).splitlines()
            wrong = "" if done.returncode == command.status else f"status {done.returncode}"
            wrong = wrong or missing(command.shown, output)
            if not wrong:
                break
            if not _LOOKS.match(line) or time.monotonic() > until:
                if records:
                    break
                raise AssertionError(
                    f"$ {line}\n  is to show {wrong}\n  It printed:\n" + "\n".join(output)
                )
            time.sleep(0.1)
        self.cwd = Path(note.read_text().strip())
        return output

    def learn(self, command: Command, output: list[str]) -> None:
        """Which real process is meant by a process id of the page."""
        if not re.match(r"holdfast (-c \S+ )?status", command.line):
            return
        for pattern in (_WORKER_PID, _HOUSE_PID):
            told = {m[1]: m[2] for line in command.shown for m in pattern.finditer(line)}
            real = {m[1]: m[2] for line in output for m in pattern.finditer(line)}
            self.pids |= {told[name]: real[name] for name in told.keys() & real.keys()}

    def pid(self, name: str) -> str:
        """The process id of a worker or a house process."""
        asked = [sys.executable, "-m", "holdfast", "status", "--json"]
        found = json.loads(subprocess.check_output(asked, cwd=self.cwd, env=self.env))
        return next(str(e["pid"]) for e in found["workers"] + found["house"] if e["name"] == name)

    def end(self) -> None:
        """End every node that the session has left."""
        for state in self.home.rglob(".holdfast"):
            subprocess.run(
                [sys.executable, "-m", "holdfast", "--state", str(state), "--json", "down", "--kill"],
                env=self.env, capture_output=True, timeout=60 * SLOWNESS, check=False,
            )  # fmt: skip


def rewrite(path: Path, home: Path) -> None:
    """Write into a page what its commands print today."""
    text = path.read_text()
    changes: list[tuple[tuple[int, int], str]] = []
    for name, found in sessions(path).items():
        session = Session(home / name)
        try:
            new = session.play(found, records=True)
        finally:
            session.end()
        changes += [(block.span, body) for block, body in zip(found, new, strict=True)]
    for (start, end), body in sorted(changes, reverse=True):
        text = text[:start] + body + text[end:]
    path.write_text(text)


if __name__ == "__main__":
    import tempfile

    for page in sys.argv[1:]:
        with tempfile.TemporaryDirectory() as scratch:
            rewrite(Path(page).resolve(), Path(scratch))
    sys.stdout.write(json.dumps({"written": sys.argv[1:]}) + "\n")
