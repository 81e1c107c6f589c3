"""Which configuration file is meant, and what does a first one look like?

As with git: the nearest ``holdfast.toml``, from the current directory upwards, unless one is named.
"""

import os
import re

from holdfast.model.errors import ConfigError, UsageError

CONFIG_NAME = "holdfast.toml"

_STARTER = """\
# A Holdfast node: what runs here, and how it is kept running.
#   holdfast check    is this file right?
#   holdfast up       run it, with a live table
#   holdfast status   how is it?
# Every key: docs/reference/configuration.md, or `holdfast schema` for your editor.

[node]
name = "{name}"
drills = true                       # `holdfast drill` may break things here, to see how they recover

# A component: a piece of Python that lives in a worker (a process). "hello:app" is app in hello.py.
[component.hello]
use = "hello:app"
settings = {{ greeting = "hello" }}

[worker.greeter]
components = ["hello"]              # more than one may share a process; a component in no worker gets its own
memory_max = "256M"

# A guest: any program in any language.
[worker.ticker]
command = ["sh", "-c", "while echo tick; do sleep 5; done"]
after = ["greeter"]                 # start it when the greeter is ready
ready = {{ log = "tick" }}            # it is ready once it has written this
restart = {{ limit = 5, window = "1m" }}
stop = {{ grace = "3s" }}

# What else a guest may have:
# [worker.cache]
# command = ["redis-server", "--port", "6390"]
# ready = {{ tcp = 6390 }}
# heartbeat = {{ exec = ["redis-cli", "-p", "6390", "ping"], period = "2s", timeout = "10s" }}
# env = {{ TZ = "UTC" }}

# Jobs: functions that are called later, and are not lost whatever dies (docs/how-to/jobs.md):
# [worker.mailer]
# kind = "jobs"
# use = ["shop.tasks"]              # modules with @job in them
# queues = {{ critical = 6, default = 2 }}
"""

_HELLO = '''\
"""A component: a piece of Python that Holdfast runs, and starts again when it dies."""

from holdfast.sdk import Component

app = Component("hello")


@app.on_start
async def begin():
    app.log.info("here I am")


@app.every(2.0)
async def greet():
    app.log.info(app.settings["greeting"])
'''


def find_config(given: str | None, cwd: str) -> str:
    """Return the absolute path of the configuration file.

    Args:
        given: What the user named: a file, or a directory that has a ``holdfast.toml``; None when nothing.
        cwd: Where to begin looking.

    Raises:
        UsageError: The named one does not exist.
        ConfigError: There is none in ``cwd`` or above it.
    """
    if given is not None:
        path = os.path.join(cwd, given)
        if os.path.isdir(path):
            path = os.path.join(path, CONFIG_NAME)
        if "\0" in path or not os.path.lexists(path):
            raise UsageError(
                f"{given or '(no name)'}: there is no such configuration file\n  make one:  holdfast init"
            )
        return os.path.abspath(path)
    directory = cwd
    while True:
        path = os.path.join(directory, CONFIG_NAME)
        if os.path.lexists(path):
            return path
        parent = os.path.dirname(directory)
        if parent == directory:
            says = (
                f"there is no {CONFIG_NAME} in {cwd} or above it\n"
                "  make one:    holdfast init\n"
                "  or name it:  holdfast -c PATH …"
            )
            raise ConfigError([says])
        directory = parent


def starter_toml(name: str = "my-node") -> dict[str, str]:
    """Return the files that `holdfast init` writes: file name -> text. The node runs as it is.

    ``name`` may be any text, as the name of a directory: it is made into one that a node can have.
    """
    plain = re.sub("[^A-Za-z0-9_-]+", "-", name).strip("-_")[:48] or "node"
    return {CONFIG_NAME: _STARTER.format(name=plain), "hello.py": _HELLO}
