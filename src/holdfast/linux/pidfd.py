"""Process descriptors: a process named without the danger of a pid used twice.

``PIDFD_GET_INFO`` (Linux 6.13, exit statuses 6.15) tells even a stranger how a process ended, after somebody
else has reaped it. Structure and numbers: include/uapi/linux/pidfd.h.
"""

import fcntl
from struct import Struct

from holdfast.linux import signals as signal
from holdfast.linux import system as os

#: struct pidfd_info, first version (64 bytes): mask, cgroupid, 11 × u32 of ids, exit_code.
_INFO = Struct("<QQ11Ii")
_MASK_PID, _MASK_EXIT = 1, 1 << 3
_IOWR = 3
_REQUEST = (_IOWR << 30) | (_INFO.size << 16) | (0xFF << 8) | 11


def open_pid(pid: int) -> int:
    """Return a descriptor for a process, or -1 when it is gone."""
    try:
        return os.pidfd_open(pid)
    except OSError:
        return -1


def exit_status(descriptor: int) -> "int | None":
    """Return the wait status of a process that was reaped by somebody else; None when unknown.

    Only an answer on Linux 6.15 and later, and only after the process was reaped.
    """
    buffer = bytearray(_INFO.pack(_MASK_PID | _MASK_EXIT, 0, *[0] * 11, 0))
    try:
        fcntl.ioctl(descriptor, _REQUEST, buffer)
    except OSError:
        return None
    values = _INFO.unpack(buffer)
    return int(values[-1]) if values[0] & _MASK_EXIT else None


def wait_status(found: "os.waitid_result") -> int:
    """Return what ``waitid`` told in the form of ``waitpid``."""
    if found.si_code == os.CLD_EXITED:
        return found.si_status << 8
    return found.si_status | (0x80 if found.si_code == os.CLD_DUMPED else 0)


def send(descriptor: int, number: int) -> bool:
    """Send a signal; False when the process is gone."""
    try:
        signal.pidfd_send_signal(descriptor, number)
    except (ProcessLookupError, OSError):
        return False
    return True


def close(descriptor: int) -> None:
    """Give a descriptor back; -1 is none."""
    if descriptor >= 0:
        os.close(descriptor)


def copy_descriptor(descriptor: int, number: int) -> int:
    """Return a copy of an open file of another process (pidfd_getfd, Linux 5.6), or -1.

    Needs the right to trace that process. Used only where keeper and anchor died together and a listening
    socket lives on in nobody but the worker.
    """
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    return int(libc.syscall(438, descriptor, number, 0))


def kill_quietly(pid: int) -> None:
    """Kill a process that may be dead already."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
