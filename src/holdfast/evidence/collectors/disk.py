"""A disk that is nearly full: how full, and which of our own directories holds the most?"""

import os

from holdfast.diagnosis.words import size
from holdfast.wire import layout

TYPE_CHECKING = False
if TYPE_CHECKING:
    from holdfast.evidence.case import Case

_LISTED = 20


def collect(case: "Case") -> None:
    """Measure the disk of the state directory and what we keep on it."""
    found = os.statvfs(case.state_dir)
    free, whole = found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize
    inodes = f"{found.f_favail} of {found.f_files} inodes free"
    lines = [f"{case.state_dir}: {size(free)} free of {size(whole)}, {inodes}"]
    held = []
    for parent in (layout.LOGS, layout.INCIDENTS):
        for name in (
            os.listdir(f"{case.state_dir}/{parent}")
            if os.path.isdir(f"{case.state_dir}/{parent}")
            else ()
        ):
            path = f"{case.state_dir}/{parent}/{name}"
            if os.path.isdir(path):
                held.append(
                    (sum(e.stat(follow_symlinks=False).st_size for e in os.scandir(path)), path)
                )
    held.sort(reverse=True)
    lines += [f"{size(count):>10}  {path}" for count, path in held[:_LISTED]]
    case.files["disk.txt"] = ("\n".join(lines) + "\n").encode("utf-8", "replace")
