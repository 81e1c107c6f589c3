"""A directory with a configuration in it, and what becomes of it."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from holdfast.config.load import load_plan
from holdfast.config.problems import ConfigProblems

if TYPE_CHECKING:
    from holdfast.model.plan import Plan, WorkerPlan


class Desk:
    """Writes files into a directory of its own and loads them."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.environ = {"PATH": os.environ.get("PATH", os.defpath), "HOME": "/home/somebody"}

    def write(self, text: str, name: str = "holdfast.toml") -> str:
        path = self.directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8", newline="")
        return str(path)

    def program(self, name: str, text: str = "#!/bin/sh\n") -> str:
        path = self.write(text, name)
        os.chmod(path, 0o755)
        return path

    def plan(self, text: str) -> "Plan":
        return load_plan(self.write(text), self.environ)

    def workers(self, text: str) -> "dict[str, WorkerPlan]":
        return {worker["name"]: worker for worker in self.plan(text)["workers"]}

    def worker(self, lines: str) -> "WorkerPlan":
        """Load one guest with these lines."""
        return self.workers(f'[worker.w]\ncommand = ["sleep", "9"]\n{lines}\n')["w"]

    def container(self, lines: str = "") -> "WorkerPlan":
        """Load one container with these lines."""
        return self.workers(
            f'[component.c]\nuse = "m:c"\n[worker.w]\ncomponents = ["c"]\n{lines}\n'
        )["w"]

    def problems(self, text: str) -> list[str]:
        """Load a configuration that is wrong; what a person reads, file names without the directory."""
        return self.problems_at(self.write(text))

    def problems_at(self, path: str) -> list[str]:
        with pytest.raises(ConfigProblems) as caught:
            load_plan(path, self.environ)
        assert caught.value.problems
        return [problem.replace(f"{self.directory}/", "") for problem in caught.value.problems]

    def problem(self, text: str) -> str:
        """Load a configuration with exactly one thing wrong."""
        found = self.problems(text)
        assert len(found) == 1, "\n".join(found)
        return found[0]

    def refusal(self, lines: str) -> str:
        """Load a guest with exactly one wrong line; the place is cut off."""
        return _sentence(self.problem(f'[worker.w]\ncommand = ["sleep", "9"]\n{lines}\n'))


def _sentence(problem: str) -> str:
    head = problem.split("\n", 1)[0]
    return head.split(" ", 1)[1]
