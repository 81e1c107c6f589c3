#!/usr/bin/env python3
# ruff: noqa: T201 -- it talks to whoever runs it
"""How do forty files become three, so that a first visit asks three times? The page's modules and looks, put together.

    python3 script/page_bundle.py DASHBOARD          src/holdfast/dashboard of the checkout

esbuild does it, in exactly the version of front/package-lock.json: a program for this machine, out of its npm package, that is checked like all
others (npm_files.py), run once and thrown away; Node.js is not needed. `pages/built` then has the page, one script, what runs before it, and the looks,
each with a hash in its name (so a browser never asks for one again) and compressed beside it. It appears, or is exchanged, by a rename. It says what it was
made of (`made-from.json`), and the dashboard gives it only while that is so: whoever edits a module sees it at once, whoever never ran this
has the plain modules. A second run does nothing. Exit status 0: it is there; 1: it could not be made, and why.
"""

import gzip
import hashlib
import json
import platform
import re
import runpy
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any

TOOLS = runpy.run_path(str(Path(__file__).with_name("npm_files.py")))
Missing = TOOLS["Missing"]

BUILT = "built"
MARK = "made-from.json"
TOOL = "node_modules/esbuild"
#: Of `platform.machine()`, in npm's words. On others the page stays plain.
MACHINES = {"x86_64": "linux-x64", "aarch64": "linux-arm64"}
#: What runs before anything is drawn, the whole page, its looks: name of the result, and what it is made of.
EARLY = ("early.js", ["js/theme.js", "js/early.js"])
LOOKS = ("looks.css", ["app.css", "screens.css"])
MAIN = ("main.js", ["js/main.js"])
#: As old as the oldest browser that has all that the pages use (dialog, :has, static blocks).
TARGET = "chrome111,firefox121,safari16.4"
PATIENCE_S = 60


def sources(pages: Path) -> "list[Path]":
    """Return the files that decide what the result is."""
    ours = [pages / "index.html", *(pages / name for name in LOOKS[1]), *sorted((pages / "js").rglob("*.js"))]  # fmt: skip
    return [*ours, *sorted((pages / "vendor").glob("*.js"))]


def digests(pages: Path) -> "dict[str, str]":
    """Return what each of them is at the moment, by its path; the dashboard compares (holdfast/dashboard/page.py)."""
    return {
        str(path.relative_to(pages)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sources(pages)
    }


def tool_of(place: Path, machine: str) -> Any:
    """Return the package that has esbuild for this machine.

    Raises:
        Missing: There is none.
    """
    kind = MACHINES.get(machine)
    if kind is None or not sys.platform.startswith("linux"):
        raise Missing(f"there is no esbuild for {machine} in package-lock.json")
    locked = json.loads((place / "package-lock.json").read_text())["packages"]
    name = f"@esbuild/{kind}"
    entry = locked[f"node_modules/{name}"]
    return TOOLS["Package"](name, entry["version"], entry["integrity"], {"bin/esbuild": "esbuild"})


def fetched(package: Any, scratch: Path) -> Path:
    """Bring the program, and return its path."""
    bring = TOOLS["by_npm"] if TOOLS["shutil"].which("npm") else TOOLS["by_http"]
    data = TOOLS["checked"](bring(package), package)
    program = scratch / "esbuild"
    program.write_bytes(TOOLS["files_of"](data, package, {})["esbuild"])
    program.chmod(0o755)
    return program


def together(program: Path, pages: Path, what: "tuple[str, list[str]]") -> bytes:
    """Return the files as one."""
    name, parts = what
    kind = name.rpartition(".")[2]
    word = "@import" if kind == "css" else "import"
    text = "".join(f'{word} "./{part}";\n' for part in parts)
    # What runs before the page is no module, so that nothing waits for it; the page is one, and waits for the rest.
    shape = [] if kind == "css" else ["--format=esm" if what is MAIN else "--format=iife"]
    done = subprocess.run(
        [str(program), f"--loader={kind}", "--bundle", "--minify", "--charset=utf8", "--log-level=warning", f"--target={TARGET}", *shape],
        cwd=pages, input=text.encode(), capture_output=True, timeout=PATIENCE_S, check=False,
    )  # fmt: skip
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip()
        raise Missing(f"esbuild could not put {name} together:\n{said}")
    return done.stdout


def page(plain: str, names: "dict[str, str]") -> str:
    """Return the page with these files instead of its own.

    Raises:
        Missing: It is not written as expected.
    """
    made = re.sub(r'<link rel="modulepreload"[^>]*>\n', "", plain)
    exchange = [
        ([f'<script src="/{part}"></script>\n' for part in EARLY[1]], f'<script src="/{BUILT}/{names["early.js"]}"></script>\n'),
        ([f'<link rel="stylesheet" href="/{part}">\n' for part in LOOKS[1]],
         f'<link rel="stylesheet" href="/{BUILT}/{names["looks.css"]}">\n<script type="module" src="/{BUILT}/{names["main.js"]}"></script>\n'),
        (['<script type="module" src="/js/main.js"></script>\n'], ""),
    ]  # fmt: skip
    for before, after in exchange:
        whole = "".join(before)
        if made.count(whole) != 1:
            raise Missing(f"index.html does not have these lines as they are expected:\n{whole}")
        made = made.replace(whole, after)
    return made


def built(program: Path, pages: Path) -> "dict[str, bytes]":
    """Return the files of the directory by name."""
    found: dict[str, bytes] = {}
    names: dict[str, str] = {}
    for what in (EARLY, LOOKS, MAIN):
        data = together(program, pages, what)
        stem, _, kind = what[0].rpartition(".")
        names[what[0]] = f"{stem}-{hashlib.sha256(data).hexdigest()[:12]}.{kind}"
        found[names[what[0]]] = data
        # Without a time in it: the same files make the same directory.
        found[f"{names[what[0]]}.gz"] = gzip.compress(data, 9, mtime=0)
    found["index.html"] = page((pages / "index.html").read_text(), names).encode()
    return found


def is_there(pages: Path, mark: bytes) -> bool:
    """Tell whether the directory was made of what is there, by what would make it now."""
    try:
        return (pages / BUILT / MARK).read_bytes() == mark
    except OSError:
        return False


def bundle(dashboard: Path) -> int:
    """Do it, say what was done, and return the exit status."""
    pages, place = dashboard / "pages", dashboard / "front"
    try:
        version = json.loads((place / "package-lock.json").read_text())["packages"][TOOL]["version"]
        script = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()
        made_from = {"esbuild": version, "script": script, "sources": digests(pages)}
        mark = (json.dumps(made_from, indent=1) + "\n").encode()
        if is_there(pages, mark):
            return 0
        package = tool_of(place, platform.machine())
        with tempfile.TemporaryDirectory() as scratch:
            files = built(fetched(package, Path(scratch)), pages)
        TOOLS["put"](files, pages / BUILT, mark.decode(), MARK)
    except (Missing, OSError, KeyError, tarfile.TarError, subprocess.TimeoutExpired) as error:
        print(f"the dashboard's page could not be put together; it works without, and loads slower:\n  {error}", file=sys.stderr)  # fmt: skip
        return 1
    print(f"the page, by esbuild {version}: in {pages / BUILT}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(f"usage: {sys.argv[0]} DASHBOARD")
    sys.exit(bundle(Path(sys.argv[1]).absolute()))
