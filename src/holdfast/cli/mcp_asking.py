"""How does the MCP server have a command of `holdfast` run: with an end, within bounds, and stopped when nobody wants it any more?

Every tool that looks at the living node is a command with ``--json``, in a process of its own: what hangs or fails there is killed, and the
server holds nothing of it. A look costs a tenth of a second that way, which an assistant does not notice.
"""

import json
import os
import select
import signal
import subprocess
import sys
import threading
import time

import holdfast

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from holdfast.cli.place import Place

#: So long a command may take that says nothing else.
USUAL_S = 20.0
_LARGEST = 8 << 20
_WORDS = 4096
#: So many run at a time, whoever asks.
_ROOM = threading.BoundedSemaphore(4)


class NotDone(Exception):  # noqa: N818 -- reads as what it says
    """A command failed; the text is what a person would have read."""


class Running:
    """The processes of one request, so that it can be given up."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self.is_given_up = False

    def give_up(self) -> None:
        """Kill what runs, and let nothing more begin."""
        with self._lock:
            self.is_given_up = True
            if self._process is not None:
                _kill(self._process)

    def begin(self, argv: "list[str]", environ: "dict[str, str]") -> "subprocess.Popen[bytes]":
        """Start a process."""
        with self._lock:
            if self.is_given_up:
                raise NotDone("given up")
            self._process = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environ, start_new_session=True
            )  # fmt: skip
            return self._process

    def end(self) -> None:
        """Forget the process: it has ended."""
        with self._lock:
            self._process = None


def ask(
    where: "Place", words: "list[str]", running: Running, *, within_s: float = USUAL_S, is_json: bool = True
) -> "Any":  # fmt: skip
    """Return what a command prints: JSON, or a text.

    Args:
        where: The node.
        words: The command and its arguments. Those that come from outside stand behind "--".
        running: Whose request it is.
        within_s: So long it may take.
        is_json: Ask for JSON.

    Raises:
        NotDone: It ends with another status than 0, too late, or with too much to say.
    """
    argv = [sys.executable, "-P", "-m", "holdfast", words[0], "--state", where.state_dir]
    argv += [*(["--json"] if is_json else []), *words[1:]]
    if not _ROOM.acquire(timeout=within_s):
        raise NotDone("too many other requests are under way; try again later")
    try:
        status, out, err = _run(argv, running, within_s)
    finally:
        _ROOM.release()
    if status is None:
        raise NotDone(f"`holdfast {words[0]}` took longer than {within_s:g} s")
    if len(out) > _LARGEST:
        raise NotDone(f"`holdfast {words[0]}` says more than {_LARGEST >> 20} MiB; ask for less")
    said = err.decode("utf-8", "replace").strip()
    if not is_json:
        if status:
            raise NotDone(said or f"`holdfast {words[0]}` ended with status {status}")
        return out.decode("utf-8", "replace")
    try:
        found = json.loads(out)
    except ValueError:
        raise NotDone(said or f"`holdfast {words[0]}` ended with status {status}") from None
    if status and isinstance(found, dict) and isinstance(found.get("error"), dict):
        raise NotDone(str(found["error"].get("message") or said))
    return found


def _run(argv: "list[str]", running: Running, within_s: float) -> "tuple[int | None, bytes, bytes]":
    root = os.path.dirname(os.path.dirname(os.path.abspath(holdfast.__file__)))
    path = [root, *filter(None, [os.environ.get("PYTHONPATH", "")])]
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(path), "NO_COLOR": "1", "COLUMNS": "160"}
    # A person who debugs this server does not want tracebacks in its answers; a worker's own run directory is not the node that is meant.
    for name in ("HOLDFAST_DEBUG", "HOLDFAST_RUN"):
        environ.pop(name, None)
    until_s = time.monotonic() + within_s
    process = running.begin(argv, environ)
    try:
        out, err = _read(process, until_s)
        left_s = until_s - time.monotonic()
        try:
            return process.wait(max(0.0, left_s)), out, err
        except subprocess.TimeoutExpired:
            return None, out, err
    finally:
        _kill(process)
        process.wait()
        running.end()
        for stream in (process.stdout, process.stderr):
            if stream is not None:
                stream.close()


def _read(process: "subprocess.Popen[bytes]", until_s: float) -> "tuple[bytes, bytes]":
    """Read both streams until they end, the time is over, or it is too much."""
    assert process.stdout is not None  # noqa: S101 -- both are pipes
    assert process.stderr is not None  # noqa: S101 -- both are pipes
    out, err = process.stdout.fileno(), process.stderr.fileno()
    found: dict[int, bytearray] = {out: bytearray(), err: bytearray()}
    poll = select.poll()
    for descriptor in found:
        poll.register(descriptor, select.POLLIN)
    is_open = set(found)
    while is_open and (left_s := until_s - time.monotonic()) > 0:
        for descriptor, _ in poll.poll(left_s * 1000):
            data = os.read(descriptor, 1 << 16)
            if not data:
                poll.unregister(descriptor)
                is_open.discard(descriptor)
            elif descriptor == err:
                found[err] = (found[err] + data)[-_WORDS:]
            else:
                found[out] += data
        if len(found[out]) > _LARGEST:
            break
    return bytes(found[out]), bytes(found[err])


def _kill(process: "subprocess.Popen[bytes]") -> None:
    if process.poll() is None:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            return  # it ended in this instant
