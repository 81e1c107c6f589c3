"""Any program: it gets the message as JSON on stdin, and has delivered it when it ends with status 0.

Its group is killed when it takes too long. What it writes to stderr is quoted where it failed; nothing of a message stands in its arguments, which
everybody on the machine can read.
"""

import json
import os
import signal
import subprocess

from holdfast.alerts.channels.channel import NotDelivered

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_QUOTED = 200


class Command:
    """One program."""

    def __init__(self, argv: "list[str]", timeout_s: float) -> None:
        self._argv = argv
        self._timeout_s = timeout_s

    def wants(self, message: "dict[str, Any]") -> bool:
        """It can leave out by itself what it does not want."""
        return bool(message)

    def deliver(self, message: "dict[str, Any]") -> None:
        """Run it."""
        name = os.path.basename(self._argv[0])
        try:
            process = subprocess.Popen(
                self._argv, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True
            )  # fmt: skip
        except OSError as error:
            raise NotDelivered(f"{name} cannot be started: {error.strerror}", is_refused=True) from None  # fmt: skip
        try:
            _, said = process.communicate(json.dumps(message).encode() + b"\n", self._timeout_s)
        except subprocess.TimeoutExpired:
            raise NotDelivered(f"{name} took longer than {self._timeout_s:g} s") from None
        finally:
            # Its children, too, and without waiting for whoever has kept its stderr.
            if process.returncode is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
            if process.stderr is not None:
                process.stderr.close()
        if process.returncode:
            last = said.decode("utf-8", "replace").strip().rpartition("\n")[2][:_QUOTED]
            raise NotDelivered(f"{name} ended with status {process.returncode}{': ' * bool(last)}{last}")  # fmt: skip
