#!/usr/bin/env python3
# ruff: noqa: T201 -- it talks to whoever runs it
"""Where do files of npm packages that a page needs come from? Exactly those packages that a lock file names, or nothing.

    python3 script/npm_files.py PLACE DIRECTORY

PLACE holds package.json, whose `bundle` says which file of which package gets which name (and `rewrite`, which words of one are
exchanged), and package-lock.json. A tarball comes through npm where that is installed (so its settings and its cache hold), else
from `npm_config_registry` or https://registry.npmjs.org; it is unpacked only when its SHA-512 is the one in package-lock.json.
DIRECTORY appears, or is exchanged, by a rename: killed at any instant, there are the old files, the new ones or none, never a part.
A second run does nothing. Exit status 0: they are there; 1: they could not be had, and why. Needs nothing but Python.
"""

import base64
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

#: Says what the directory was made from; it is in there before the directory has its name.
MARK = "integrity"
LONGEST_BYTES = 20_000_000
PATIENCE_S = 30


class Missing(Exception):  # noqa: N818 -- reads as what it says
    """A package cannot be had; the text is for whoever runs this."""


class Package(NamedTuple):
    """One package, and what of it is wanted."""

    name: str
    version: str
    integrity: str
    #: File of the package -> its name in the directory.
    wanted: dict[str, str]


class Wanted(NamedTuple):
    """What a place asks for."""

    packages: list[Package]
    #: Name in the directory -> what is exchanged in it.
    rewrite: dict[str, dict[str, str]]

    @property
    def mark(self) -> str:
        """What the directory says that has all this."""
        asked = json.dumps([self.packages, self.rewrite], sort_keys=True).encode()
        return hashlib.sha512(asked).hexdigest() + "\n"

    @property
    def says(self) -> str:
        """The packages in words."""
        return ", ".join(f"{package.name} {package.version}" for package in self.packages)


def wanted_by(place: Path) -> Wanted:
    """Return what package.json and package-lock.json ask for.

    Raises:
        OSError: One of the files is not there.
        ValueError: It is no JSON.
        KeyError: It does not name a package that is wanted.
    """
    asked: dict[str, Any] = json.loads((place / "package.json").read_text())
    locked = json.loads((place / "package-lock.json").read_text())["packages"]
    packages = []
    for name, wanted in asked["bundle"].items():
        entry = locked[f"node_modules/{name}"]
        packages.append(Package(name, entry["version"], entry["integrity"], wanted))
    return Wanted(packages, asked.get("rewrite", {}))


def is_there(directory: Path, wanted: Wanted) -> bool:
    """Tell whether the directory has what it should."""
    try:
        return (directory / MARK).read_text() == wanted.mark and all(
            (directory / name).is_file() for package in wanted.packages for name in package.wanted.values()
        )  # fmt: skip
    except OSError:
        return False


def by_npm(package: Package) -> bytes:
    """Let npm bring the tarball."""
    with tempfile.TemporaryDirectory() as scratch:
        command = [
            "npm", "pack", f"{package.name}@{package.version}", "--silent", "--ignore-scripts", "--fetch-retries=1",
            "--fetch-retry-mintimeout=1000", "--fetch-timeout=15000", "--pack-destination", scratch,
        ]  # fmt: skip
        try:
            # In a directory without a package, so that it does not take us for a project to be packed.
            done = subprocess.run(
                command, cwd=scratch, capture_output=True, text=True, timeout=PATIENCE_S, check=False
            )  # fmt: skip
        except (OSError, subprocess.TimeoutExpired) as error:
            raise Missing(f"npm: {error}") from None
        found = list(Path(scratch).glob("*.tgz"))
        if done.returncode or len(found) != 1:
            said = done.stderr.strip() or done.stdout.strip() or f"status {done.returncode}"
            raise Missing(f"npm pack {package.name}@{package.version}: {said.splitlines()[-1]}")
        return found[0].read_bytes()


def by_http(package: Package) -> bytes:
    """Read the tarball from the registry."""
    registry = os.environ.get("npm_config_registry") or "https://registry.npmjs.org"  # noqa: SIM112 -- npm's own spelling
    file = f"{package.name.rpartition('/')[2]}-{package.version}.tgz"
    url = f"{registry.rstrip('/')}/{package.name}/-/{file}"
    if not url.startswith(("https://", "http://")):
        raise Missing(f"npm_config_registry has to be an http or https address, not {registry}")
    try:
        with urllib.request.urlopen(url, timeout=PATIENCE_S) as answer:  # noqa: S310 -- checked above
            data: bytes = answer.read(LONGEST_BYTES)
    except OSError as error:
        raise Missing(f"{url}: {getattr(error, 'reason', error)}") from None
    return data


def checked(data: bytes, package: Package) -> bytes:
    """Return the tarball if it is the right one."""
    method, _, expected = package.integrity.partition("-")
    if method != "sha512":
        raise Missing(f"package-lock.json: integrity has to be sha512, not {method}")
    made = base64.b64encode(hashlib.sha512(data).digest()).decode()
    if made != expected:
        raise Missing(
            f"this is not the {package.name} of package-lock.json: its SHA-512 is {made}; expected {expected}"
        )
    return data


def files_of(data: bytes, package: Package, rewrite: dict[str, dict[str, str]]) -> dict[str, bytes]:
    """Return the wanted files by their names in the directory."""
    found = {}
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:gz") as tar:
        for inside, name in package.wanted.items():
            # One file at a time, by name: no path of the archive is ever used for writing.
            file = tar.extractfile(f"package/{inside}")
            if file is None:
                raise Missing(f"{package.name} has no file {inside}")
            content = file.read()
            for before, after in rewrite.get(name, {}).items():
                if before.encode() not in content:
                    raise Missing(
                        f"{package.name}: {inside} has no {before} that could be exchanged"
                    )
                content = content.replace(before.encode(), after.encode())
            found[name] = content
    return found


def put(files: dict[str, bytes], directory: Path, mark: str, mark_name: str = MARK) -> None:
    """Put the files into the directory, all at once."""
    directory.parent.mkdir(parents=True, exist_ok=True)
    for leftover in directory.parent.glob(f".{directory.name}.new-*"):
        # Of a run that was killed; one that still runs begins anew.
        shutil.rmtree(leftover, ignore_errors=True)
    new = Path(tempfile.mkdtemp(prefix=f".{directory.name}.new-", dir=directory.parent))
    for name, content in files.items():
        (new / name).parent.mkdir(parents=True, exist_ok=True)
        (new / name).write_bytes(content)
    (new / mark_name).write_text(mark)
    new.chmod(0o755)
    if directory.exists():
        old = Path(tempfile.mkdtemp(prefix=f".{directory.name}.new-", dir=directory.parent))
        directory.rename(old / "old")
        new.rename(directory)
        shutil.rmtree(old)
    else:
        new.rename(directory)


def fetch(place: Path, directory: Path, what: str) -> int:
    """Do it, say what was done, and return the exit status.

    Args:
        place: Where package.json and package-lock.json are.
        directory: Where the files are to be.
        what: What they are, for people: ``the WAMP client of the page``.
    """
    wanted = wanted_by(place)
    if is_there(directory, wanted):
        return 0
    bring = by_npm if shutil.which("npm") else by_http
    try:
        files: dict[str, bytes] = {}
        with ThreadPoolExecutor(max_workers=4) as pool:
            for package, data in zip(
                wanted.packages, pool.map(bring, wanted.packages), strict=True
            ):
                files |= files_of(checked(data, package), package, wanted.rewrite)
        put(files, directory, wanted.mark)
    except (Missing, OSError, KeyError, tarfile.TarError) as error:
        print(f"{wanted.says}, {what}, could not be fetched:\n  {error}", file=sys.stderr)
        return 1
    print(f"{wanted.says}: in {directory}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(f"usage: {sys.argv[0]} PLACE DIRECTORY")
    sys.exit(fetch(Path(sys.argv[1]).absolute(), Path(sys.argv[2]).absolute(), "for a page"))
