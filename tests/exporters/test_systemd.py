"""What we write for systemd is what systemd takes, and what the worker had under Holdfast."""

import shutil
import subprocess
from pathlib import Path

import pytest

from exporters.conftest import Exporting
from exporters.shop import SHOP

ANALYZE = shutil.which("systemd-analyze")


def settings(text: str) -> dict[str, list[str]]:
    """Return the settings of a unit: key -> values in order."""
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        key, equals, value = line.partition("=")
        if equals and not line.startswith("#"):
            found.setdefault(key, []).append(value)
    return found


@pytest.mark.skipif(ANALYZE is None, reason="systemd-analyze is not installed")
@pytest.mark.parametrize(("each", "is_watched"), [(False, False), (False, True), (True, False)])
def test_systemd_finds_nothing_wrong(
    exporting: Exporting, tmp_path: Path, each: bool, is_watched: bool
) -> None:
    """A unit with a key that systemd does not know is loaded all the same, and does something else."""
    files, _ = exporting(SHOP, "systemd", each=each, is_watched=is_watched)
    units = tmp_path / "units"
    units.mkdir()
    for name, text in files.items():
        (units / name).write_text(text)
    ran = subprocess.run(
        [str(ANALYZE), "verify", "--man=no", "--recursive-errors=no", *(str(units / name) for name in files)],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip

    # Without a running systemd it may complain about the machine, but not about our files.
    about_ours = [line for line in ran.stderr.splitlines() if any(name in line for name in files)]
    assert about_ours == []
    assert ran.returncode == 0, ran.stderr


def test_a_worker_keeps_its_limits_its_end_and_its_order(exporting: Exporting) -> None:
    """Whoever leaves Holdfast should not leave the memory limit behind."""
    files, _ = exporting(SHOP, "systemd", each=True)
    cache, web = settings(files["shop-cache.service"]), settings(files["shop-web.service"])

    assert cache["MemoryMax"] == ["536870912"]
    assert (cache["CPUQuota"], cache["TasksMax"]) == (["150%"], ["64"])
    assert (cache["LimitNOFILE"], cache["LimitCORE"]) == (["4096"], ["0"])
    assert web["Requires"] == ["shop-cache.service"]
    assert set(web["After"]) == {"shop-cache.service"}
    assert (web["KillSignal"], web["TimeoutStopSec"], web["KillMode"]) == (["SIGINT"], ["3s"], ["mixed"])  # fmt: skip
    assert web["UMask"] == ["0027"]


def test_the_restart_limit_means_the_same(exporting: Exporting) -> None:
    """systemd counts starts, Holdfast deaths; and where Holdfast goes on slowly, systemd must not give up."""
    files, _ = exporting(SHOP, "systemd", each=True)
    web, cache = settings(files["shop-web.service"]), settings(files["shop-cache.service"])
    report = settings(files["shop-report.service"])

    assert (web["StartLimitBurst"], web["StartLimitIntervalSec"]) == (["4"], ["60s"])
    assert (web["Restart"], cache["Restart"], report["Restart"]) == (["on-failure"], ["always"], ["no"])  # fmt: skip
    assert (cache["StartLimitIntervalSec"], cache["RestartSec"]) == (["0"], ["1s"])
    # Killed by SIGTERM is a failure for Holdfast and a clean end for systemd.
    assert "SIGTERM" in web["RestartForceExitStatus"][0]
    assert "WantedBy" not in report  # it waits for somebody to start it


def test_readiness_and_the_watchdog_are_carried_over_where_systemd_has_them(
    exporting: Exporting,
) -> None:
    """What it has not is said, not forgotten."""
    files, notes = exporting(SHOP, "systemd", each=True)
    notifier, cache = settings(files["shop-notifier.service"]), settings(files["shop-cache.service"])  # fmt: skip

    assert (notifier["Type"], notifier["WatchdogSec"]) == (["notify"], ["15s"])
    assert (notifier["TimeoutStartSec"], notifier["KillSignal"]) == (["20s"], ["SIGKILL"])
    assert "sleep 0.2" in cache["ExecStartPost"][0]
    assert any(note.startswith("worker.web.heartbeat = http ") for note in notes)
    assert any(note.startswith("worker.web.ready = tcp ") for note in notes)


def test_sockets_outlive_the_worker_as_they_do_here(exporting: Exporting) -> None:
    """One socket unit each, with the name that the program looks for in LISTEN_FDNAMES."""
    files, _ = exporting(SHOP, "systemd", each=True)
    first, second = settings(files["shop-cache.socket"]), settings(files["shop-cache-1.socket"])

    assert first["ListenStream"] == ["127.0.0.1:8080"]
    assert second["ListenStream"][0].endswith("/app.sock")
    assert (second["FileDescriptorName"], second["Backlog"]) == (["inner"], ["64"])
    assert settings(files["shop-cache.service"])["Sockets"] == ["shop-cache.socket", "shop-cache-1.socket"]  # fmt: skip


def test_a_percent_and_a_dollar_stay_what_they_are(exporting: Exporting) -> None:
    """systemd would make the machine's name of %H and nothing of $HOME."""
    files, _ = exporting(SHOP, "systemd", each=True)
    cache = settings(files["shop-cache.service"])

    assert '"100%% of $$HOME"' in cache["ExecStart"][0]
    assert '"RATE=5%% $5"' in cache["Environment"]  # no variables are filled in there


def test_the_node_is_one_unit_that_outlives_its_anchor(exporting: Exporting) -> None:
    """As the page run-under-systemd tells; --watched is its other form."""
    files, _ = exporting(SHOP, "systemd")
    unit = settings(files["shop.service"])
    watched = settings(exporting(SHOP, "systemd", is_watched=True).files["shop.service"])

    assert list(files) == ["shop.service"]
    assert (unit["Type"], unit["RemainAfterExit"], unit["Delegate"]) == (["oneshot"], ["yes"], ["yes"])  # fmt: skip
    assert unit["TimeoutStopSec"] == ["43s"]  # ten seconds, then three, and some to spare
    assert (watched["Type"], watched["WatchdogSec"]) == (["notify"], ["30s"])
    assert watched["ExecStart"][0].endswith("up --quiet")
