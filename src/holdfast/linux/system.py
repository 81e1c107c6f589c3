# ruff: noqa: F403, F405 -- the names are in __all__, and typed by the stubs of os
"""What we ask of the operating system, without ``import os``.

``os`` brings ``posixpath``, ``stat``, ``_collections_abc`` and a wrapper of the environment: 180 KB in each of four house
processes, for names that a C module has. Where ``os`` is loaded anyway (the command line, a test) these are the names of ``os``;
in a house process they are those of the C module and the few functions below, which behave alike for what we do with them.
Imported as ``from holdfast.linux import system as os``.
"""

import sys

__all__ = [
    "CLD_DUMPED", "CLD_EXITED", "EFD_CLOEXEC", "EFD_NONBLOCK", "O_APPEND", "O_CLOEXEC", "O_CREAT", "O_NOFOLLOW",
    "O_NONBLOCK", "O_RDONLY", "O_RDWR", "O_TRUNC", "O_WRONLY", "POSIX_SPAWN_DUP2", "POSIX_SPAWN_OPEN",
    "PRIO_PROCESS", "P_ALL", "P_PIDFD", "SEEK_SET", "SPLICE_F_NONBLOCK", "WEXITED", "WEXITSTATUS", "WIFEXITED",
    "WIFSIGNALED", "WNOHANG", "WNOWAIT", "WTERMSIG", "W_OK", "access", "chdir", "chmod", "close", "closerange",
    "cpu_count", "defpath", "dup2", "environ", "eventfd", "eventfd_read", "eventfd_write", "execv", "execve",
    "exit_now", "fchmod", "fork", "fstat", "fsync", "ftruncate", "getpid", "getppid", "getuid", "kill",
    "killpg", "listdir", "lstat", "makedirs", "mkdir", "mkfifo", "open", "path", "pidfd_open", "pipe2",
    "posix_spawn", "pread", "pwrite", "read", "readlink", "rename", "rmdir", "sched_setaffinity", "sendfile", "set_inheritable", "setgid",
    "setgroups", "setpriority", "setsid", "setuid", "splice", "stat", "statvfs", "statvfs_result", "strerror",
    "symlink", "sysconf", "truncate", "umask", "unlink", "urandom", "utime", "waitid", "waitid_result", "waitpid", "write",
]  # fmt: skip

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from os import *
    from os import _exit as exit_now
elif "os" in sys.modules:
    import os
    from os import _exit as exit_now

    globals().update({name: getattr(os, name) for name in __all__ if name != "exit_now"})
else:
    import posix
    from posix import _exit as exit_now

    #: Numbers of the kernel's, and what POSIX says; not every build of the C module has the first one.
    P_PIDFD, SEEK_SET, defpath = 3, 0, "/bin:/usr/bin"
    #: A copy: what is changed in it reaches those who are given it, and we give it to all whom we start.
    environ = {
        name.decode("utf-8", "surrogateescape"): value.decode("utf-8", "surrogateescape")
        for name, value in posix.environ.items()
    }
    globals().update(
        {
            name: getattr(posix, name)
            for name in __all__
            if hasattr(posix, name) and name != "environ"
        }
    )

    def makedirs(name: str, mode: int = 0o777, exist_ok: bool = False) -> None:
        """Make a directory and those above it."""
        above = _dirname(name)
        if above and not _exists(above):
            makedirs(above, exist_ok=True)
        try:
            posix.mkdir(name, mode)
        except OSError:
            if not exist_ok or not _isdir(name):
                raise

    def _kind(look: "Callable[[str], posix.stat_result]", name: str) -> int:
        try:
            return look(name).st_mode & 0o170000
        except (OSError, ValueError):
            return 0

    def _exists(name: str) -> bool:
        return _kind(posix.stat, name) != 0

    def _lexists(name: str) -> bool:
        return _kind(posix.lstat, name) != 0

    def _isdir(name: str) -> bool:
        return _kind(posix.stat, name) == 0o040000

    def _islink(name: str) -> bool:
        return _kind(posix.lstat, name) == 0o120000

    def _dirname(name: str) -> str:
        head = name[: name.rfind("/") + 1]
        return head.rstrip("/") or head

    def _basename(name: str) -> str:
        return name[name.rfind("/") + 1 :]

    def _abspath(name: str) -> str:
        whole = name if name.startswith("/") else f"{posix.getcwd()}/{name}"
        parts: list[str] = []
        for part in whole.split("/"):
            if part == "..":
                del parts[-1:]
            elif part not in ("", "."):
                parts.append(part)
        return "/" + "/".join(parts)

    def _realpath(name: str) -> str:
        try:
            descriptor = posix.open(name, posix.O_PATH | posix.O_CLOEXEC)
        except OSError:
            # Of what is not there, or may not be entered, the other one knows at least a part.
            from os.path import realpath

            return realpath(name)
        try:
            return posix.readlink(f"/proc/self/fd/{descriptor}")
        finally:
            posix.close(descriptor)

    class path:  # noqa: N801 -- it stands for os.path
        """Paths."""

        abspath = staticmethod(_abspath)
        basename = staticmethod(_basename)
        dirname = staticmethod(_dirname)
        exists = staticmethod(_exists)
        isdir = staticmethod(_isdir)
        islink = staticmethod(_islink)
        lexists = staticmethod(_lexists)
        realpath = staticmethod(_realpath)
