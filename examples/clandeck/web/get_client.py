#!/usr/bin/env python3
# ruff: noqa: T201 -- it talks to whoever runs it
"""Where does the browser's WAMP client come from? Exactly that package that package-lock.json names, or nothing.

    python3 get_client.py [DIRECTORY]        default: vendor/ beside this file

The tarball comes through npm where that is installed (so its settings and its cache hold), else from `npm_config_registry`
or https://registry.npmjs.org. It is unpacked only when its SHA-512 is the one in package-lock.json. The directory appears, or is
exchanged, by a rename: killed at any instant, there is the old client, the new one or none, never a part. A second run does
nothing. Exit status 0: the client is there; 1: it could not be had, and why. Needs nothing but Python.
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
from pathlib import Path

HERE = Path(__file__).resolve().parent
PACKAGE = "wampy"
#: File of the package -> its name in the directory.
WANTED = {"dist/browser/wampy.min.js": "wampy.min.js", "LICENSE": "LICENSE.txt"}
#: Says which package the directory was made from; it is in there before the directory has its name.
MARK = "integrity"
LONGEST_BYTES = 20_000_000
PATIENCE_S = 30


class Missing(Exception):  # noqa: N818 -- reads as what it says
    """The client cannot be had; the text is for whoever runs this."""


def locked() -> tuple[str, str]:
    """Return the version and the integrity that package-lock.json asks for."""
    entry = json.loads((HERE / "package-lock.json").read_text())["packages"][
        f"node_modules/{PACKAGE}"
    ]
    return entry["version"], entry["integrity"]


def is_there(directory: Path, integrity: str) -> bool:
    """Tell whether the directory has what it should."""
    try:
        return (directory / MARK).read_text() == integrity and all((directory / name).is_file() for name in WANTED.values())  # fmt: skip
    except OSError:
        return False


def by_npm(version: str) -> bytes:
    """Let npm bring the tarball."""
    with tempfile.TemporaryDirectory() as scratch:
        command = [
            "npm",
            "pack",
            f"{PACKAGE}@{version}",
            "--silent",
            "--ignore-scripts",
            "--fetch-retries=1",
            "--fetch-timeout=15000",
            "--pack-destination",
            scratch,
        ]
        try:
            # In a directory without a package, so that it does not take us for a project to be packed.
            done = subprocess.run(
                command,
                cwd=scratch,
                capture_output=True,
                text=True,
                timeout=PATIENCE_S,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise Missing(f"npm: {error}") from None
        found = list(Path(scratch).glob("*.tgz"))
        if done.returncode or len(found) != 1:
            said = (
                done.stderr.strip() or done.stdout.strip() or f"status {done.returncode}"
            ).splitlines()
            raise Missing(f"npm pack {PACKAGE}@{version}: {said[-1]}")
        return found[0].read_bytes()


def by_http(version: str) -> bytes:
    """Read the tarball from the registry."""
    registry = os.environ.get("npm_config_registry") or "https://registry.npmjs.org"  # noqa: SIM112 -- npm's own spelling
    url = f"{registry.rstrip('/')}/{PACKAGE}/-/{PACKAGE}-{version}.tgz"
    if not url.startswith(("https://", "http://")):
        raise Missing(f"npm_config_registry has to be an http or https address, not {registry}")
    try:
        with urllib.request.urlopen(url, timeout=PATIENCE_S) as answer:  # noqa: S310 -- checked above
            data: bytes = answer.read(LONGEST_BYTES)
    except OSError as error:
        raise Missing(f"{url}: {getattr(error, 'reason', error)}") from None
    return data


def checked(data: bytes, integrity: str) -> bytes:
    """Return the tarball if it is the right one."""
    method, _, expected = integrity.partition("-")
    if method != "sha512":
        raise Missing(f"package-lock.json: integrity has to be sha512, not {method}")
    made = base64.b64encode(hashlib.sha512(data).digest()).decode()
    if made != expected:
        raise Missing(
            f"this is not the {PACKAGE} of package-lock.json: its SHA-512 is {made}; expected {expected}"
        )
    return data


def unpack(data: bytes, directory: Path, integrity: str) -> None:
    """Put the wanted files into the directory, all at once."""
    directory.parent.mkdir(parents=True, exist_ok=True)
    for leftover in directory.parent.glob(f".{directory.name}.new-*"):
        shutil.rmtree(
            leftover, ignore_errors=True
        )  # of a run that was killed; one that still runs begins anew
    new = Path(tempfile.mkdtemp(prefix=f".{directory.name}.new-", dir=directory.parent))
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:gz") as tar:
        for inside, name in WANTED.items():
            # One file at a time, by name: no path of the archive is ever used for writing.
            file = tar.extractfile(f"package/{inside}")
            if file is None:
                raise Missing(f"{PACKAGE} has no file {inside}")
            (new / name).write_bytes(file.read())
    (new / MARK).write_text(integrity)
    new.chmod(0o755)
    if directory.exists():
        old = Path(tempfile.mkdtemp(prefix=f".{directory.name}.new-", dir=directory.parent))
        directory.rename(old / "old")
        new.rename(directory)
        shutil.rmtree(old)
    else:
        new.rename(directory)


def main() -> int:
    """Do it, and say what was done."""
    directory = Path(sys.argv[1]).absolute() if len(sys.argv) > 1 else HERE / "vendor"
    version, integrity = locked()
    if is_there(directory, integrity):
        return 0
    try:
        data = by_npm(version) if shutil.which("npm") else by_http(version)
        unpack(checked(data, integrity), directory, integrity)
    except (Missing, OSError, KeyError, tarfile.TarError) as error:
        print(
            f"{PACKAGE} {version}, the WAMP client of the page, could not be fetched:\n  {error}",
            file=sys.stderr,
        )
        return 1
    print(f"{PACKAGE} {version} is in {directory}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
