"""Where the run directory of a node is, and whether it may be trusted.

In memory (``/dev/shm``), one for each state directory, private to the user. ``HOLDFAST_RUNTIME_DIR`` names
another parent, for machines whose /dev/shm is too small.
"""

from binascii import crc32

from holdfast.linux import system as os
from holdfast.model.errors import StateError

#: Longest name of a worker. A Unix socket's path has at most 107 bytes, and ctl/WORKER.sock below the
#: run directory is the longest there is.
LONGEST_NAME = 48
LONGEST_RUN_DIR = 107 - len("/ctl/.sock") - LONGEST_NAME


def node_hash(state_dir: str) -> str:
    """Return the short name of a node: derived from where its state is."""
    path = os.path.realpath(state_dir).encode()
    # Two checksums of 32 bits: no need for hashlib (3 MB of OpenSSL) to tell directories apart.
    return f"{crc32(path):08x}{crc32(path[::-1], 0x5EED):08x}"


def run_dir_for(state_dir: str) -> str:
    """Return the run directory of the node with this state directory.

    Raises:
        StateError: ``HOLDFAST_RUNTIME_DIR`` is too long for a Unix socket's path.
    """
    parent = os.environ.get("HOLDFAST_RUNTIME_DIR") or f"/dev/shm/holdfast-{os.getuid()}"  # noqa: S108
    path = f"{parent}/{node_hash(state_dir)}"
    if len(path) > LONGEST_RUN_DIR:
        raise StateError(
            f"HOLDFAST_RUNTIME_DIR: {parent} is too long for Unix sockets\n"
            f"  at most {LONGEST_RUN_DIR - 17} characters; set it to something shorter"
        )
    return path


def make_private(path: str) -> None:
    """Make a directory that only this user can enter; refuse one that somebody else has prepared.

    Raises:
        StateError: It belongs to somebody else, or others may write to it.
        OSError: It cannot be made.
    """
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        found = os.lstat(path)
        if (
            found.st_uid != os.getuid()
            or found.st_mode & 0o170000 != 0o040000
            or found.st_mode & 0o022
        ):
            raise StateError(
                f"{path}: this directory was not made by you, or others may write to it\n"
                f"  Holdfast keeps its sockets there. Remove it, or set HOLDFAST_RUNTIME_DIR to another place."
            ) from None
