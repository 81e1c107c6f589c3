"""script/up, script/test: from a fresh machine to a running node, or to a sentence that says what is missing."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SLOWNESS = float(os.environ.get("HOLDFAST_SLOWNESS", "1"))
TOOLS = (
    "sh",
    "cat",
    "cksum",
    "dirname",
    "flock",
    "grep",
    "ls",
    "mkdir",
    "mv",
    "rm",
    "sed",
    "tail",
    "chmod",
    "uname",
    "env",
)
#: Nothing answers there: pip gives up at once.
NO_INDEX = {
    "PIP_NO_INDEX": "1",
    "PIP_FIND_LINKS": "",
    "PIP_EXTRA_INDEX_URL": "",
    "PIP_CONFIG_FILE": "/dev/null",
}

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A checkout with the scripts and a command that says how it was called."""
    tree = tmp_path / "a tree"
    for name in ("venv", "up", "test"):
        target = tree / "script" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / "script" / name, target)
    (tree / "pyproject.toml").write_text('[project]\nname = "x"\n')
    command = tree / "src" / "holdfast" / "cli" / "main.py"
    command.parent.mkdir(parents=True)
    command.write_text("import sys\ndef entry():\n    print('called', sys.argv[1:])\n")
    (tmp_path / "bin").mkdir()
    for tool in TOOLS:
        found = shutil.which(tool)
        if found:
            (tmp_path / "bin" / tool).symlink_to(found)
    return tree


@pytest.fixture
def run(tree: Path) -> Run:
    """Run a script with nothing on the PATH but a few tools and what the test put there."""

    def call(script: str, *args: str, **environment: str) -> subprocess.CompletedProcess[str]:
        env = {
            "PATH": str(tree.parent / "bin"),
            "HOME": str(tree.parent),
            **NO_INDEX,
            **environment,
        }
        argv = [str(tree / "script" / script), *args]
        return subprocess.run(
            argv, env=env, capture_output=True, text=True, timeout=120 * SLOWNESS, check=False
        )

    return call


def put_python(tree: Path, name: str, script: str = "") -> None:
    """Put an interpreter on the PATH: this one, after a bit of shell that may play another."""
    path = tree.parent / "bin" / name
    path.write_text(f'#!/bin/sh\n{script}\nexec "{os.path.realpath(sys.executable)}" "$@"\n')
    path.chmod(0o755)


#: Without pip an environment takes 0.1 s to make, not 5.
QUICK = f'case $* in "-m venv"*) exec "{os.path.realpath(sys.executable)}" -m venv --without-pip "$3";; esac'


def test_no_python_at_all(run: Run) -> None:
    """A container image without Python."""
    done = run("up")

    assert done.returncode == 1
    assert "needs Python 3.11 or newer; there is no python3 on the PATH" in done.stderr


def test_a_python_that_is_too_old_is_named(tree: Path, run: Run) -> None:
    """Debian 11 has 3.9; a shim for a Python that is not installed does not count as one."""
    put_python(
        tree, "python3", 'case $* in *version_info*"<"*) exit 1;; *) echo 3.9.2; exit 0;; esac'
    )
    put_python(tree, "python3.13", "echo 'pyenv: python3.13: command not found' >&2; exit 127")
    done = run("test")

    assert done.returncode == 1
    assert "needs Python 3.11 or newer; found only: python3 is 3.9.2" in done.stderr
    assert not (tree / ".venv").exists()


def test_a_python_without_venv_says_which_package_has_it(tree: Path, run: Run) -> None:
    """Debian and Ubuntu split ensurepip off."""
    put_python(tree, "python3", "case $* in *ensurepip*) exit 1;; esac")
    done = run("up")

    assert done.returncode == 1
    assert "but it cannot make virtual environments" in done.stderr
    assert "apt install python3-venv" in done.stderr


def test_without_an_index_a_node_can_run_all_the_same(tree: Path, run: Run) -> None:
    """Holdfast itself needs nothing but Python; the second run costs next to nothing."""
    put_python(tree, "python3")
    first = run("up")

    assert first.stdout == f"called ['up', '{tree}/examples/clandeck/allinone.toml']\n", (
        first.stderr
    )
    assert "NOTICE: py-spy could not be installed" in first.stderr

    (tree.parent / "bin" / "python3").unlink()
    second = run("up", "my.toml", "--detach")
    assert second.stdout == "called ['up', 'my.toml', '--detach']\n"
    assert second.stderr == ""


def test_an_environment_made_by_somebody_else_is_left_alone(tree: Path, run: Run) -> None:
    """Many people have a .venv of their own there."""
    put_python(tree, "python3", QUICK)
    theirs = tree / ".venv" / "bin" / "theirs"
    theirs.parent.mkdir(parents=True)
    theirs.write_text("precious")
    done = run("up")

    assert done.returncode == 1
    assert "was not made by this script" in done.stderr
    assert theirs.read_text() == "precious"
    other = run("venv", HOLDFAST_VENV=str(tree.parent / "other"))
    assert other.stdout == f"{tree.parent}/other/bin\n"


def test_killed_in_the_middle_the_next_run_begins_anew(tree: Path, run: Run) -> None:
    """Ctrl-C, a closed terminal, a full disk: half an environment must never be taken for a whole one."""
    going = tree.parent / "going"
    hang = f'case $* in "-m venv"*) echo $$ > "{going}"; exec /bin/sleep 600;; esac'
    put_python(tree, "python3", hang)
    env = {"PATH": str(tree.parent / "bin"), "HOME": str(tree.parent), **NO_INDEX}
    child = subprocess.Popen(
        [str(tree / "script" / "venv")], env=env, stderr=subprocess.DEVNULL, start_new_session=True
    )
    deadline = time.monotonic() + 30 * SLOWNESS
    while not (going.exists() and going.read_text().strip()):
        assert time.monotonic() < deadline, "the set-up never began"
        time.sleep(0.01)
    os.killpg(child.pid, signal.SIGKILL)
    child.wait()
    assert not (tree / ".venv" / ".holdfast-ready").exists()

    put_python(tree, "python3", QUICK)
    done = run("up", "my.toml")
    assert done.stdout == "called ['up', 'my.toml']\n", done.stderr
    assert not list(tree.glob(".venv.old.*"))


def test_another_pyproject_makes_another_environment(tree: Path, run: Run) -> None:
    """After `git pull` the dependencies may be others; a copied tree must not use the old place."""
    put_python(tree, "python3", QUICK)
    assert run("venv").returncode == 0
    inode = (tree / ".venv").stat().st_ino
    assert run("venv").returncode == 0
    assert (tree / ".venv").stat().st_ino == inode

    (tree / "pyproject.toml").write_text('[project]\nname = "y"\n')
    assert "setting up" in run("venv").stderr


def test_tests_cannot_run_without_their_tools(tree: Path, run: Run) -> None:
    """Unlike a node: and it says so instead of failing later."""
    put_python(tree, "python3", QUICK)
    done = run("test")

    assert done.returncode == 1
    assert "could not be installed" in done.stderr
