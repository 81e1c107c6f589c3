"""Where a guest with the agent is asked about its memory and its stacks: the socket ``RUN/ctl/WORKER.sock``, as containers have.

One bare thread that waits in accept(), one request at a time, one JSON line each way. Costs nothing until somebody asks.
"""

import _socket
import os
import sys
from _thread import start_new_thread

from holdfast.agent.imports import tell
from holdfast.wire import layout, message

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType
    from typing import Any

_LONGEST = 65536
#: The listening socket of this process; a copy closes its parent's.
_listening: "list[Any]" = []
_hooked: "list[bool]" = []
#: Somebody who connects and says nothing holds up the next one no longer than this.
_PATIENCE_S = 5.0


def listen() -> None:
    """Begin to answer; a program is never kept from running."""
    run_dir, worker = os.environ.get("HOLDFAST_RUN", ""), os.environ.get("HOLDFAST_WORKER", "")
    if not run_dir or not worker:
        return
    listen_at(f"{run_dir}/{layout.CONTROL}/{worker}.sock")


def listen_at(path: str) -> None:
    """Begin to answer at one place."""
    directory = os.path.dirname(path)
    try:
        os.makedirs(directory, mode=0o700, exist_ok=True)
        new = f"{directory}/.{os.getpid() % 1_000_000}"
        try:
            os.unlink(new)
        except FileNotFoundError:
            pass
        listener = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
        listener.bind(new)
        os.chmod(new, 0o600)
        listener.listen(4)
        os.rename(new, path)
    except OSError as error:
        tell(f"no control socket at {path}: {error.strerror}")
        return
    _listening[:] = [listener]
    if not _hooked:
        _hooked.append(True)
        os.register_at_fork(after_in_child=_close)
    start_new_thread(_serve, (listener, os.getpid()))


def _close() -> None:
    """In a copy of the program: it is not the one that was meant."""
    for listener in _listening:
        listener.close()
    _listening.clear()


def _serve(listener: "Any", pid: int) -> None:
    while os.getpid() == pid:
        try:
            descriptor, _ = listener._accept()  # noqa: SLF001 -- the plain socket has no other way
        except OSError:
            return  # closed: the program took all its descriptors away
        connected = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM, 0, descriptor)
        try:
            connected.settimeout(_PATIENCE_S)
            _answer(connected)
        except Exception as error:  # noqa: BLE001 -- a bad request must not end the thread
            tell(f"a request failed ({type(error).__name__}: {error})")
        finally:
            connected.close()


def _answer(connected: "Any") -> None:
    line = b""
    while not line.endswith(b"\n"):
        part = connected.recv(_LONGEST)
        if not part or len(line) > _LONGEST:
            return
        line += part
    request = message.decode(line)
    reply = _reply(request) if request is not None else {"ok": False, "error": "a request is one JSON object on one line"}  # fmt: skip
    connected.sendall(message.encode(reply))


def _reply(request: "dict[str, Any]") -> "dict[str, Any]":
    do = request.get("do")
    if do == "census":
        from holdfast.agent.growth import answer

        return answer(request)
    if do == "stacks":
        return {"ok": True, "stacks": _stacks()}
    if do == "tasks":
        from holdfast.agent.tasktree import tree

        return {"ok": True, "tree": tree()}
    return {"ok": False, "error": f"unknown request {do!r}; known: census, stacks, tasks"}


def _stacks() -> "list[dict[str, Any]]":
    """Return the stacks of all threads; equal ones once, with their number."""
    threading = sys.modules.get("threading")
    names = {t.ident: t.name for t in threading.enumerate()} if threading is not None else {}
    groups: dict[tuple[str, ...], list[str]] = {}
    for ident, top in sys._current_frames().items():  # noqa: SLF001 -- the documented way
        frames: list[str] = []
        frame: FrameType | None = top
        while frame is not None and len(frames) < 100:
            code = frame.f_code
            frames.append(f"{code.co_filename}:{frame.f_lineno or 0} in {code.co_qualname}")
            frame = frame.f_back
        groups.setdefault(tuple(frames), []).append(str(names.get(ident, f"{ident:#x}")))
    return [
        {"thread": who[0] if len(who) == 1 else f"{len(who)} threads alike", "frames": list(frames), "current": False,
         "alike": len(who)}
        for frames, who in groups.items()
    ]  # fmt: skip
