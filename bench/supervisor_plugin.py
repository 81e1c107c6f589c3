"""Runs Holdfast in the supervisor harness: a JSON list of programs in, `holdfast up --quiet` out.

    python bench/supervisor_plugin.py SPEC.json

SPEC is ``{"dir", "children": [{"name", "argv", "log": {"dir", "max_bytes", "backups"} or null}]}``. A holdfast.toml is
written into ``dir`` and run by the command line, so that what is measured is what a user gets: reading the file,
checking it, starting the house. The one setting that is not a default is ``restart.limit = 0``: the harness kills
more often than any sane limit allows. Started again while the node still runs (the harness has killed this process),
it does what an init system's wrapper would do: wait for the node, and take it down at SIGTERM.
"""

import os
import signal
import sys

SOURCE = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "src")
sys.path.insert(0, SOURCE)

from holdfast.linux import places  # noqa: E402
from holdfast.linux.locks import holder  # noqa: E402
from holdfast.wire import layout  # noqa: E402
from holdfast.wire.jsonlite import dumps, loads  # noqa: E402

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

#: A node whose anchor has just been killed has a new one long before that.
COMES_BACK_S = 5.0


def configuration(spec: "dict[str, Any]") -> str:
    """Return the holdfast.toml for a spec. JSON's texts and lists of texts are TOML's, too."""
    lines = [
        "[node]",
        'name = "bench"',
        'state_dir = "state"',
        "[defaults.worker]",
        "restart = { limit = 0 }",
        "log = false",
    ]
    for child in spec["children"]:
        lines += [f"[worker.{child['name']}]", f"command = {dumps(child['argv'])}"]
        log = child["log"]
        if log:
            lines.append(
                f"log = {{ directory = {dumps(log['dir'])}, max_size = {log['max_bytes']}, "
                f"keep = {log['backups']}, compress = false }}"
            )
    return "\n".join(lines) + "\n"


def command(*args: str) -> "list[str]":
    """Return the argv of the holdfast command of this interpreter."""
    script = os.path.join(os.path.dirname(sys.executable), "holdfast")
    if os.path.exists(script):
        return [script, *args]
    return [sys.executable, "-m", "holdfast", *args]


def is_running(state: str) -> bool:
    """Tell whether there is a node, even one whose anchor is being replaced just now."""
    if holder(f"{state}/{layout.NODE_LOCK}"):
        return True
    run_dir = places.run_dir_for(state)
    return any(holder(f"{run_dir}/{layout.lock(role)}") for role in layout.ROLES)


def wait_for(state: str, config: str) -> "NoReturn":
    """Stay in the foreground as long as the node runs; at SIGTERM take it down."""
    import select
    import time

    def down(*_: object) -> "NoReturn":
        argv = command("down", "--config", config)
        os.execv(argv[0], argv)

    signal.signal(signal.SIGTERM, down)
    signal.signal(signal.SIGINT, down)
    until = time.monotonic() + COMES_BACK_S
    while time.monotonic() < until:
        pid = holder(f"{state}/{layout.NODE_LOCK}")
        try:
            anchor = os.pidfd_open(pid) if pid else -1
        except ProcessLookupError:
            anchor = -1
        if anchor < 0:
            time.sleep(0.02)
            continue
        select.select([anchor], [], [])  # readable when it has ended
        os.close(anchor)
        until = time.monotonic() + COMES_BACK_S
    print("the node has ended", file=sys.stderr)
    sys.exit(1)


def main() -> "NoReturn":
    """Run the node of a spec in the foreground."""
    if len(sys.argv) != 2:
        print("usage: python bench/supervisor_plugin.py SPEC.json", file=sys.stderr)
        sys.exit(2)
    with open(sys.argv[1], encoding="utf-8") as file:
        spec = loads(file.read())
    config = os.path.join(spec["dir"], "holdfast.toml")
    state = os.path.join(spec["dir"], "state")
    os.environ["PYTHONPATH"] = SOURCE
    if is_running(state):
        wait_for(state, config)
    with open(config + ".new", "w", encoding="utf-8") as file:
        file.write(configuration(spec))
    os.replace(config + ".new", config)
    argv = command("up", config, "--quiet")
    os.execv(argv[0], argv)


if __name__ == "__main__":
    main()
