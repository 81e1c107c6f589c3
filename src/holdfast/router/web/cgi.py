"""How does a CGI script run beside a router?

RFC 3875, with Crossbar.io's options: `processor` is started with the script of `directory` that the path names; what is left of the path is
PATH_INFO. One process a request, in a process group of its own that is killed whole at the deadline, when the client
leaves, and when the answer is out; a router that is killed leaves scripts that the keeper ends with the worker.
Not done: non-parsed headers, internal redirects (a Location without a host is sent to the client).
"""

import asyncio
import functools
import os
import resource
import signal
import subprocess
from typing import TYPE_CHECKING, Any, BinaryIO

from holdfast.router.web.gateway import HOP_BY_HOP, variables
from holdfast.router.web.head import Refused
from holdfast.router.web.paths import not_there, open_below, parts_of
from holdfast.router.web.threads import on_disk, spool

if TYPE_CHECKING:
    from holdfast.router.web.request import Request
    from holdfast.router.web.site import Site

_HEAD_BYTES = 32768
_STDERR_BYTES = 8192
#: What a script inherits: where programs are, and the language. Nothing of what the router was given.
_INHERITED = ("PATH", "LANG", "LC_ALL", "TZ")


class Cgi:
    """The scripts of a directory."""

    def __init__(self, options: dict[str, Any], site: "Site") -> None:
        self._processor = str(options["processor"])
        self._root = os.path.realpath(str(options["directory"]))
        if not os.path.isdir(self._root):
            site.log.warning("no such directory", directory=self._root, answers="404")
        self._timeout_s = float(options.get("timeout_s") or 30.0)
        self._memory_bytes = int(options.get("memory_bytes") or 0)
        self._running = asyncio.Semaphore(int(options.get("max_processes") or 16))
        self._site = site

    async def serve(self, request: "Request") -> None:
        """Answer it."""
        parts = parts_of(request.rest)
        script, used = await on_disk(functools.partial(_find, self._root, parts))
        body, size = await spool(request, self._site.spool_limit)
        with body:
            stdin = await on_disk(functools.partial(_as_file, body, size))
            try:
                async with self._running:
                    await self._run(request, script, used, stdin, size)
            finally:
                os.close(stdin)

    async def _run(self, request: "Request", script: str, used: int, stdin: int, size: int) -> None:
        env = {name: os.environ[name] for name in _INHERITED if name in os.environ}
        env |= variables(request, size)
        parts = [part for part in request.rest.split("/") if part]
        slash = "/" if request.rest.endswith("/") and len(parts) > used else ""
        info = "".join("/" + part for part in parts[used:]) + slash
        env |= {
            "SCRIPT_NAME": request.mount + "".join("/" + part for part in parts[:used]),
            "PATH_INFO": info, "SCRIPT_FILENAME": script, "REDIRECT_STATUS": "200",
        }  # fmt: skip
        if info:
            env["PATH_TRANSLATED"] = os.path.join(self._root, info[1:])
        start = functools.partial(
            _spawn, [self._processor, script], env, stdin, self._memory_bytes, self._timeout_s
        )
        try:
            process = await on_disk(start, _kill)
        except OSError as error:
            says = f"The script cannot be run: {self._processor}: {error.strerror}."
            raise Refused(503, says) from None
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._talk(request, process, script)
        except TimeoutError:
            raise Refused(504, f"The script was stopped after {self._timeout_s:g} s.") from None
        finally:
            _kill(process)

    async def _talk(
        self, request: "Request", process: "subprocess.Popen[bytes]", script: str
    ) -> None:
        loop = asyncio.get_running_loop()
        out, errors = asyncio.StreamReader(), asyncio.StreamReader()
        assert process.stdout is not None  # noqa: S101 -- both are pipes
        assert process.stderr is not None  # noqa: S101
        pipes = [
            (
                await loop.connect_read_pipe(
                    functools.partial(asyncio.StreamReaderProtocol, to), pipe
                )
            )[0]
            for to, pipe in ((out, process.stdout), (errors, process.stderr))
        ]
        complaints = loop.create_task(_first(errors))
        try:
            status, headers = await _head(out)
            request.start(status, headers)
            while data := await out.read(65536):
                if request.method != "HEAD":
                    await request.write(data)
            request.end()
        finally:
            for pipe in pipes:
                pipe.close()
            # The pipe is closed: the reader of it is at its end in the next turn of the loop.
            said = await complaints
            if said:
                self._site.log.warning("script wrote to stderr", script=script, said=said)


def _find(root: str, parts: list[str]) -> tuple[str, int]:
    """The script and how many parts name it."""
    for used in range(1, len(parts) + 1):
        opened = open_below(root, parts[:used])
        try:
            if not opened.is_directory:
                return os.readlink(f"/proc/self/fd/{opened.fd}"), used
        finally:
            os.close(opened.fd)
    raise not_there()


def _as_file(body: BinaryIO, size: int) -> int:
    """A descriptor from which a process can read the body."""
    if not size:
        return os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    body.rollover()  # type: ignore[attr-defined] # a SpooledTemporaryFile
    body.flush()
    body.seek(0)
    fd = os.dup(body.fileno())
    os.lseek(fd, 0, os.SEEK_SET)
    return fd


def _spawn(
    argv: list[str], env: dict[str, str], stdin: int, memory_bytes: int, timeout_s: float
) -> "subprocess.Popen[bytes]":
    octets = {
        k.encode(): v.encode("latin-1", "ignore") if k.startswith("HTTP_") else os.fsencode(v)
        for k, v in env.items()
    }
    process = subprocess.Popen(
        argv, stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=octets,
        cwd=os.path.dirname(argv[1]), process_group=0,
    )  # fmt: skip
    try:
        # Set from outside: code between fork and exec is not safe where there are threads.
        seconds = int(timeout_s) + 1
        resource.prlimit(process.pid, resource.RLIMIT_CPU, (seconds, seconds))
        resource.prlimit(process.pid, resource.RLIMIT_CORE, (0, 0))
        if memory_bytes:
            resource.prlimit(process.pid, resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    except ProcessLookupError:
        pass  # it has ended already
    return process


def _kill(process: "subprocess.Popen[bytes]") -> None:
    """End the script and what it started."""
    try:
        # Before it is reaped its number cannot be anybody else's.
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.wait()


async def _head(out: asyncio.StreamReader) -> tuple[int, list[tuple[str, str]]]:
    """Status and headers, as the script wrote them."""
    status, size = 200, 0
    headers: list[tuple[str, str]] = []
    while True:
        try:
            line = await out.readline()
        except ValueError:
            raise Refused(502, "The script's headers are too long.") from None
        size += len(line)
        if size > _HEAD_BYTES:
            raise Refused(502, "The script's headers are too long.")
        if line in (b"\n", b"\r\n"):
            break
        name, colon, value = line.decode("latin-1").partition(":")
        if not line.endswith(b"\n") or not colon or not name.strip():
            raise Refused(502, "The script ended before it had written its headers; see the log.")
        key = name.strip().lower()
        if key == "status":
            digits = value.strip()[:3]
            if not digits.isdigit() or not 200 <= int(digits) <= 599:
                raise Refused(502, "The script's Status is not a status of HTTP.")
            status = int(digits)
        elif key not in HOP_BY_HOP:
            headers.append((name.strip(), value.strip()))
            if key == "location" and status == 200:
                status = 302
    if not headers:
        raise Refused(502, "The script wrote no headers; Content-Type is the least.")
    return status, headers


async def _first(errors: asyncio.StreamReader) -> str:
    """The beginning of what came; the rest is read and dropped, so that the script is not held up."""
    kept = b""
    while data := await errors.read(4096):
        kept += data[: _STDERR_BYTES - len(kept)]
    return kept.decode("utf-8", "replace").strip()
