"""Files that are whole at every instant.

A reader sees the old content or the new one, never half of either: new content goes to a temporary
name in the same directory and is renamed into place. Appends are single writes.
"""

from holdfast.linux import system as os

_COUNTER = [0]


def write_atomic(path: str, data: bytes, *, sync: bool = False, mode: int = 0o644) -> None:
    """Replace ``path`` by ``data``.

    Args:
        path: The file; its directory has to exist.
        data: All of the new content.
        sync: Also survive a power cut. Not needed in the run directory, which a reboot empties anyway.
        mode: Permissions of the new file.

    Raises:
        OSError: The disk is full, the directory is gone, …; the old content is still there.
    """
    _COUNTER[0] += 1
    temporary = f"{path}.{os.getpid()}.{_COUNTER[0]}.tmp"
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(descriptor, view) :]
        if sync:
            os.fsync(descriptor)
    except OSError:
        os.close(descriptor)
        os.unlink(temporary)
        raise
    os.close(descriptor)
    os.rename(temporary, path)


def read(path: str) -> bytes:
    """Return the content of a file, or nothing when there is no such file."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return b""
    try:
        parts = []
        while part := os.read(descriptor, 1 << 20):
            parts.append(part)
        return b"".join(parts)
    finally:
        os.close(descriptor)


def append(path: str, data: bytes) -> None:
    """Add ``data`` to the end of a file, creating it when needed.

    Raises:
        OSError: Not everything could be written (disk full).
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
    try:
        written = os.write(descriptor, data)
        if written != len(data):
            raise OSError(28, f"only {written} of {len(data)} bytes fitted", path)
    finally:
        os.close(descriptor)
