"""Is the browser's client what the lock file says, whoever serves it, and whenever the fetching is killed?"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import pytest

from clandeck.live_site import EXAMPLE, SLOWNESS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def tarball(client: bytes = b"a client") -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:gz") as tar:
        files = {
            "package/dist/browser/wampy.min.js": client,
            "package/LICENSE": b"MIT",
            "package/../evil.js": b"!",
        }
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    return made.getvalue()


class Registry:
    """A registry with one package, on this machine, and a `web` directory that asks it."""

    def __init__(self, tmp: Path) -> None:
        self.data = tarball()
        self.asked: list[str] = []
        registry = self

        class Answer(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                registry.asked.append(self.path)
                self.send_response(200)
                self.send_header("Content-Length", str(len(registry.data)))
                self.end_headers()
                self.wfile.write(registry.data)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
        threading.Thread(
            target=self.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True
        ).start()
        self.web = tmp / "examples" / "clandeck" / "web"
        self.web.mkdir(parents=True)
        for name in ("get_client.py", "package.json"):
            shutil.copy(EXAMPLE / "web" / name, self.web)
        (tmp / "script").mkdir()
        shutil.copy(EXAMPLE.parents[1] / "script" / "npm_files.py", tmp / "script")
        self.lock(self.data)

    def lock(self, data: bytes, version: str = "8.0.2") -> None:
        integrity = "sha512-" + base64.b64encode(hashlib.sha512(data).digest()).decode()
        packages = {"node_modules/wampy": {"version": version, "integrity": integrity}}
        (self.web / "package-lock.json").write_text(json.dumps({"packages": packages}))

    def run(self) -> subprocess.CompletedProcess[str]:
        """Without npm on the PATH: that one asks its own registry."""
        port = self.server.server_address[1]
        env = {
            "PATH": str(self.web),
            "npm_config_registry": f"http://127.0.0.1:{port}/",
            "NO_PROXY": "*",
        }
        return subprocess.run(
            [sys.executable, str(self.web / "get_client.py")], env=env, capture_output=True, text=True,
            timeout=60 * SLOWNESS, check=False,
        )  # fmt: skip

    def client(self) -> bytes:
        return (self.web / "vendor" / "wampy.min.js").read_bytes()


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    made = Registry(tmp_path)
    yield made
    made.server.shutdown()
    made.server.server_close()


def test_it_is_fetched_once_and_only_the_files_of_the_browser_are_taken(registry: Registry) -> None:
    first, second = registry.run(), registry.run()

    assert (first.returncode, second.returncode) == (0, 0), first.stderr
    assert registry.asked == ["/wampy/-/wampy-8.0.2.tgz"]
    assert registry.client() == b"a client"
    assert sorted(os.listdir(registry.web / "vendor")) == [
        "LICENSE.txt",
        "integrity",
        "wampy.min.js",
    ]
    assert sorted(os.listdir(registry.web)) == [
        "get_client.py",
        "package-lock.json",
        "package.json",
        "vendor",
    ]


def test_a_tarball_that_is_not_the_locked_one_is_refused(registry: Registry) -> None:
    """A registry, or whoever sits in between, does not decide what runs in our users' browsers."""
    registry.data = tarball(b"something else")
    done = registry.run()

    assert done.returncode == 1
    assert "this is not the wampy of package-lock.json" in done.stderr
    assert not (registry.web / "vendor").exists()


def test_another_version_in_the_lock_file_takes_the_place_of_the_old_one(
    registry: Registry,
) -> None:
    registry.run()
    registry.data = tarball(b"a newer client")
    registry.lock(registry.data, "8.0.3")
    done = registry.run()

    assert done.returncode == 0, done.stderr
    assert registry.client() == b"a newer client"
    assert registry.asked[-1] == "/wampy/-/wampy-8.0.3.tgz"


def test_what_a_killed_run_has_left_is_no_client_and_is_cleared_away(registry: Registry) -> None:
    """SIGKILL between unpacking and renaming, or in the middle of a file."""
    left = registry.web / ".vendor.new-x1"
    left.mkdir()
    (left / "wampy.min.js").write_bytes(b"a cl")
    half = registry.web / "vendor"
    half.mkdir()
    (half / "wampy.min.js").write_bytes(b"a cl")
    done = registry.run()

    assert done.returncode == 0, done.stderr
    assert registry.client() == b"a client"
    assert not left.exists()


def test_without_a_registry_it_says_why_in_two_lines(registry: Registry) -> None:
    registry.server.shutdown()
    registry.server.server_close()
    done = registry.run()

    assert done.returncode == 1
    assert done.stderr.count("\n") == 2
    assert "could not be fetched" in done.stderr
    assert "refused" in done.stderr


def test_the_lock_file_names_no_registry_and_has_a_checksum_for_everything() -> None:
    """Whoever clones this has a registry of their own."""
    lock = json.loads((EXAMPLE / "web" / "package-lock.json").read_text())
    wanted = json.loads((EXAMPLE / "web" / "package.json").read_text())["dependencies"]

    assert lock["packages"]["node_modules/wampy"]["version"] == wanted["wampy"]
    for name, entry in lock["packages"].items():
        if name:
            assert entry["integrity"].startswith("sha512-"), name
        assert "resolved" not in entry, name
