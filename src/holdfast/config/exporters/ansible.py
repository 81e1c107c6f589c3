"""What does a node look like to Ansible: a playbook that puts the directory, the program and the units in place?

The units are those of :mod:`holdfast.config.exporters.systemd`. A changed configuration becomes `holdfast apply`, which touches
changed workers only; a changed unit alone is no reason to restart the node. Only modules of ansible.builtin.
"""

import os
from typing import TYPE_CHECKING, Any

from holdfast.config.exporters import emit, systemd
from holdfast.config.exporters.sheet import Node

if TYPE_CHECKING:
    from holdfast.config.exporters.systemd import Files

PLAYBOOK = "site.yaml"


def node(given: Node) -> tuple["Files", list[str]]:
    """Return a playbook that installs Holdfast in a virtual environment and runs the node."""
    home = f"{given.directory}/.venv"
    units, notes = systemd.node(given._replace(program=f"{home}/bin/holdfast"))
    unit = f"{given.name}.service"
    program = f"{home}/bin/holdfast"
    owner = {"owner": given.user} if given.user else {}
    before: list[dict[str, Any]] = []
    if given.user:
        before.append(
            {
                "name": "The user of the node",
                "ansible.builtin.user": {"name": given.user, "system": True},
            }
        )
    before += [
        {
            "name": "Its directory",
            "ansible.builtin.file": {"path": _plain(given.directory), "state": "directory", "mode": "0755", **owner},
        },
        {
            "name": "Holdfast",
            "ansible.builtin.pip": {"name": "{{ holdfast_package }}", "virtualenv": _plain(home),
                                    "virtualenv_command": "python3 -m venv"},
        },
        {
            "name": "The configuration and what belongs to it",
            "ansible.builtin.copy": {"src": "{{ node_source }}", "dest": _plain(given.directory) + "/", "mode": "preserve", **owner},
            "notify": "Apply the configuration",
        },
    ]  # fmt: skip
    secrets = _secrets(f"{systemd.SECRETS}/{given.name}.env") if given.variables else []
    handlers = [
        {"name": "Reload systemd", "ansible.builtin.systemd_service": {"daemon_reload": True}},
        {
            "name": "Apply the configuration",
            "ansible.builtin.command": {
                # Nobody is there to be asked.
                "argv": [_plain(program), "--config", _plain(given.config), "apply", "--yes"],
                "chdir": _plain(given.directory),
            },
            "changed_when": True,
            **({"become_user": given.user} if given.user else {}),
        },
    ]
    variables: dict[str, Any] = {
        "holdfast_package": "holdfast",  # a version, a path or a URL of a wheel does as well
        "node_source": _plain(given.directory) + "/",
    }
    play = _play(
        given,
        variables,
        [*before, *secrets, *_copies(units), _started(unit)],
        handlers,
        bool(secrets),
    )
    says = (
        "node_source: the playbook copies the directory from the machine that runs Ansible; keep its state directory"
        f" ({os.path.relpath(given.plan['state_dir'], given.directory)}) out of it, or name a clean checkout"
    )
    return {PLAYBOOK: emit.document([play], [_head(given, "")]), **_below(units)}, [*notes, says]


def each(given: Node) -> tuple["Files", list[str]]:
    """Return a playbook that puts a unit for each guest in place."""
    units, notes = systemd.each(given)
    if not units:
        return {}, notes
    files = sorted({line.partition("=")[2] for text in units.values() for line in text.splitlines()
                    if line.startswith("EnvironmentFile=")})  # fmt: skip
    secrets = [task for file in files for task in _secrets(file.replace("%%", "%"))]
    sockets = [_started(name) for name in units if name.endswith(".socket")]
    services = [
        {
            "name": f"{name} starts with the machine",
            "ansible.builtin.systemd_service": {
                "name": name,
                "enabled": True,
                "daemon_reload": True,
            },
        }
        for name, text in units.items()
        if name.endswith(".service") and "[Install]" in text
    ]
    tasks = [*secrets, *_copies(units), *services, *sockets, _started(f"{given.name}.target")]
    handlers = [
        {"name": "Reload systemd", "ansible.builtin.systemd_service": {"daemon_reload": True}}
    ]
    play = _play(given, {}, tasks, handlers, bool(secrets))
    return {PLAYBOOK: emit.document([play], [_head(given, " --each")]), **_below(units)}, [
        *notes,
        "programs: the playbook installs the units alone; the programs of the workers have to be on the machine",
    ]


def _play(
    given: Node, variables: dict[str, Any], tasks: list[Any], handlers: list[Any], has_secrets: bool
) -> dict[str, Any]:
    if has_secrets:
        variables = {**variables, "holdfast_secrets": {}}
    return {
        "name": f"The node {_plain(given.name)}",
        "hosts": "all",
        "become": True,
        **({"vars": variables} if variables else {}),
        "tasks": tasks,
        "handlers": handlers,
    }


def _secrets(file: str) -> list[dict[str, Any]]:
    """Return the tasks that write a file of variables; the values come from the vault."""
    return [
        {"name": "The directory of secrets",
         "ansible.builtin.file": {"path": systemd.SECRETS, "state": "directory", "mode": "0700"}},
        {
            "name": f"The secrets in {_plain(file)} (ansible-vault: holdfast_secrets)",
            "ansible.builtin.copy": {
                "content": f"{{{{ holdfast_secrets['{os.path.basename(file)}'] }}}}",
                "dest": _plain(file), "mode": "0600",
            },
            "no_log": True,
        },
    ]  # fmt: skip


def _copies(units: "Files") -> list[dict[str, Any]]:
    return [
        {
            "name": f"The unit {name}",
            "ansible.builtin.copy": {
                "src": f"files/{name}",
                "dest": f"/etc/systemd/system/{name}",
                "mode": "0644",
            },
            "notify": "Reload systemd",
        }
        for name in units
    ]


def _started(unit: str) -> dict[str, Any]:
    return {
        "name": f"{unit} runs, now and after a boot",
        "ansible.builtin.systemd_service": {
            "name": unit,
            "enabled": True,
            "state": "started",
            "daemon_reload": True,
        },
    }


def _below(units: "Files") -> "Files":
    return {f"files/{name}": text for name, text in units.items()}


def _head(given: Node, option: str) -> str:
    return f"The node {given.plan['node']}, made by `holdfast export ansible{option}`: ansible-playbook -i HOSTS {PLAYBOOK}"


def _plain(text: str) -> str:
    """Return a text in which Jinja fills in nothing."""
    return (
        text.replace("{{", "{{ '{{' }}").replace("{%", "{{ '{%' }}")
        if "{{" in text or "{%" in text
        else text
    )
