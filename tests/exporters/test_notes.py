"""Nothing is dropped in silence, and no secret is written: for every target."""

import re

import pytest

from exporters.conftest import Exporting
from exporters.shop import SHOP
from holdfast.config.exporters import TARGETS
from holdfast.config.exporters.sheet import is_secret

#: A wish of the shop and what stands in the files where it was fulfilled, by target.
WISHES = {
    "web.umask": r"UMask=0027",
    "web.essential": None,
    "web.restart.jitter": None,
    "web.restart.delay_max": None,
    "web.restart.healthy": None,
    "web.heartbeat": r"livenessProbe",
    "web.stop.signal": r"SIGINT",
    "cache.log": None,
    "cache.group": None,
    "cache.processes_max": r"TasksMax=64|pids_limit: 64",
    "cache.files_max": r"LimitNOFILE=4096|nofile: 4096",
    "cache.listen[1]": r"ListenStream=.*app\.sock",
    "report.shed": None,
    "report.log": None,
    "report.heartbeat": r"livenessProbe.*alive",
    "notifier.restart.delay": r"RestartSec=2s",
    "notifier.heartbeat": r"WatchdogSec=15s",
}


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("wish", WISHES)
def test_every_wish_is_in_a_file_or_in_a_note(exporting: Exporting, target: str, wish: str) -> None:
    """A memory limit that is lost on the way is found out about at night."""
    files, notes = exporting(SHOP, target, each=True)
    shape = WISHES[wish]
    text = "\n".join(files.values())

    is_noted = any(note.startswith(f"worker.{wish} = ") for note in notes)
    assert is_noted or (shape and re.search(shape, text, re.DOTALL)), "\n".join(notes)


@pytest.mark.parametrize("target", TARGETS)
def test_every_note_tells_where_what_and_what_to_do(exporting: Exporting, target: str) -> None:
    for each in (False, True):
        for note in exporting(SHOP, target, each=each).notes:
            assert re.match(r"[\w.\[\]-]+( = .+?)?: \S", note), note


SECRETS = """
[worker.w]
command = ["sleep", "1", "--password", "hush-one", "--api-key=hush-two", "redis://me:hush-three@host/0", "x-${HF_SECRET}-x"]
env = { DB_PASSWORD = "hush-five", URL = "amqp://u:hush-six@h/", COPY = "${HF_SECRET}", PLAIN = "seen" }
ready = { exec = ["true", "--token", "hush-seven"] }
heartbeat = { exec = ["true", "--secret=hush-eight"] }
"""


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("each", [True, False])
def test_no_secret_is_written(exporting: Exporting, target: str, each: bool) -> None:
    """Units are readable by everybody, and manifests end up in a repository."""
    files, notes = exporting(SECRETS, target, each=each, HF_SECRET="hush-four")
    told = "\n".join([*files.values(), *notes])

    assert re.findall(r"hush-\w+", told) == []
    if each:
        assert "seen" in told
        assert any("COPY, DB_PASSWORD, URL: the values were not written" in note for note in notes)
        assert any(note.startswith("worker.w.ready: a secret stood in it") for note in notes)
    else:
        assert "HF_SECRET" in told  # the configuration needs it from outside


@pytest.mark.parametrize("target", TARGETS)
def test_a_container_of_components_is_left_out_by_name(exporting: Exporting, target: str) -> None:
    """It is Holdfast's own code: without a node there is nothing to run it."""
    files, notes = exporting('[component.board]\nuse = "m:c"\n', target, each=True)

    assert files == {}
    assert any(note.startswith("worker.board: a container worker") for note in notes)


@pytest.mark.parametrize(
    ("name", "expected"),
    [("API_KEY", True), ("GITHUB_TOKEN", True), ("DB_PASS", True), ("PGPASSWORD", True), ("SENTRY_DSN", True),
     ("password", True), ("AWS_SECRET_ACCESS_KEY", True),
     ("PATH", False), ("COMPASS", False), ("PASSENGERS", False), ("KEYBOARD", False), ("TZ", False), ("AUTHOR", False)],
)  # fmt: skip
def test_names_tell_a_secret(name: str, expected: bool) -> None:
    assert is_secret(name) is expected


@pytest.mark.parametrize("each", [True, False])
@pytest.mark.parametrize("target", TARGETS)
def test_the_notes_stand_in_the_files(exporting: Exporting, target: str, each: bool) -> None:
    """Who reads a unit a year later has not seen what was printed when it was made."""
    files, notes = exporting(SHOP, target, each=each)
    written = [line for text in files.values() for line in text.splitlines() if line.startswith("# note: ")]  # fmt: skip

    assert sorted(written) == sorted(f"# note: {' '.join(note.split())}" for note in notes)


def test_the_notes_about_a_worker_stand_in_its_file(exporting: Exporting) -> None:
    files, _ = exporting(SHOP, "kubernetes", each=True)
    web = files["shop-web.yaml"]

    assert "# note: worker.web.umask" in web
    assert "# note: worker.cache." not in web
    assert web.startswith("# web of shop, ")
