"""What does a Procfile (Heroku, foreman, honcho) mean to Holdfast?

Each line ``name: command`` becomes a guest. foreman runs commands through a shell and gives each process
a PORT of its own; so does the result. A ``release`` process runs once before a deployment and is not kept.
What it leaves out: ``.env`` files, which hold secrets more often than not; a note says what to do.
"""

import os
import re
import shlex

from holdfast.config.importers.draft import Draft
from holdfast.config.importers.ledger import Ledger
from holdfast.model.errors import ConfigError

_LINE = re.compile(r"([A-Za-z0-9_-]+)\s*:\s*(.*\S)\s*")
#: Anything here needs a shell to mean what it says.
_SHELL = re.compile(r"[$`|&;<>()*?\[\]{}~#!\n]|^\s*\w+=")
_FIRST_PORT, _PORT_STEP = 5000, 100  # foreman's


def read(text: str, file: str, path: str, ledger: Ledger) -> Draft:
    """Turn the text of a Procfile into a draft.

    Raises:
        ConfigError: Lines that are not ``name: command``, all of them at once.
    """
    draft = Draft(
        [
            f"Imported from {file} (Procfile).",
            "Commands run in the directory of this file, as foreman does it: save it beside the Procfile.",
            "foreman ends everything when one process dies; Holdfast restarts the one that died.",
        ]
    )
    _env_file(path, file, ledger)
    port = _FIRST_PORT
    for name, line, command in _entries(text, file, ledger):
        setting = ledger.enter(file, line, name, command)
        ledger.use(setting)
        worker_name = draft.free_name("worker", name, "process")
        worker = draft.table("worker", worker_name, remarks=[f"{file}:{line}"])
        if worker_name != name:
            worker.say(f"called {name} there")
        worker.put("kind", "guest")
        worker.put("command", argv_of(command))
        if name == "release":
            worker.put(
                "autostart", False, f"start it before each deployment: holdfast start {worker_name}"
            )
            worker.put("restart", {"policy": "never"})
            says = "runs once before each deployment on Heroku; here it waits for `holdfast start release`"
            ledger.remark(setting, f"{setting.words()}: {says}")
        else:
            worker.put("env", {"PORT": str(port)}, "as foreman numbers them")
            port += _PORT_STEP
    return draft


def _entries(text: str, file: str, ledger: Ledger) -> list[tuple[str, int, str]]:
    found: dict[str, tuple[int, str]] = {}
    problems = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        match = _LINE.fullmatch(line.strip())
        if not match:
            problems.append(
                f"{file}:{number} this is not `name: command`: {line.strip()[:60]}\n"
                "  names are letters, digits, - and _; comments start with #"
            )
            continue
        name, command = match[1], match[2]
        if name in found:
            old_line, old_command = found.pop(name)
            old = ledger.enter(file, old_line, name, old_command)
            ledger.note(
                [old], f"line {number} gives {name} again, and the last one wins, as with foreman"
            )
        found[name] = (number, command)
    if not problems and not found:
        problems.append(
            f"{file}:1 there is no process in it\n  a line looks like `web: python -m http.server`"
        )
    if problems:
        raise ConfigError(problems)
    return [(name, line, command) for name, (line, command) in found.items()]


def argv_of(command: str) -> list[str]:
    """A list where the words are plain; else a shell, which `exec` takes out of the way where it can."""
    if not _SHELL.search(command):
        try:
            return shlex.split(command)
        except ValueError:  # an unbalanced quote: the shell shall say so in its own words
            pass
    # `exec` in front of a list of commands would run the first only.
    alone = not re.search(r"[|&;()\n`!]|^\s*\w+=|^\s*(exec|cd|if|for|while|case)\b", command)
    return ["/bin/sh", "-c", f"exec {command}" if alone else command]


def _env_file(path: str, file: str, ledger: Ledger) -> None:
    """Note a .env file beside the Procfile: foreman would read it."""
    try:
        with open(
            os.path.join(os.path.dirname(path), ".env"), encoding="utf-8", errors="replace"
        ) as lines:
            keys = [
                match[1]
                for line in lines
                if (match := re.match(r"\s*(?:export\s+)?(\w+)\s*=", line))
            ]
    except OSError:
        return
    setting = ledger.enter(
        os.path.join(os.path.dirname(file), ".env"), 1, "(whole file)", ", ".join(keys)
    )
    advice = (
        "foreman reads this file, Holdfast does not: put what is no secret into [node] env, and start with"
        " `set -a; . ./.env; holdfast up` for what is"
    )
    ledger.note([setting], advice)
