"""`holdfast doctor`: every line is tried, and every limit says what it means."""

import json

import pytest

from holdfast.cli import doctor
from holdfast.cli.doctor import LIMITED, NO, OK, Finding
from holdfast.cli.main import main
from holdfast.cli.terminal import Paint, visible


def test_this_machine_is_told_line_by_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--json"]) in (0, 1)

    found = json.loads(capsys.readouterr().out)
    assert list(found) == ["ok", "findings"]
    whats = [finding["what"] for finding in found["findings"]]
    assert whats[:3] == ["Python", "kernel", "pidfd"]
    assert len(whats) == len(doctor.LOOKS) + 1
    for finding in found["findings"]:
        assert list(finding) == ["what", "verdict", "seen", "means"]
        assert finding["verdict"] in (OK, LIMITED, NO)
        assert (
            finding["verdict"] == OK
            or finding["means"]
            or finding["seen"].startswith("cannot tell")
        )


@pytest.mark.parametrize("width", [60, 80, 200])
def test_the_lines_fit(width: int) -> None:
    findings = [
        Finding(
            "exit statuses after the anchor's death",
            LIMITED,
            "no PIDFD_GET_INFO (Linux 6.15)",
            "word " * 60,
        ),
        Finding(
            "Python", OK, "3.11.7 at /a/very/long/path/to/an/interpreter/somewhere/bin/python3.11"
        ),
    ]
    lines = doctor.render(findings, width, Paint(False))

    assert max(map(visible, lines)) <= width


def test_a_look_that_fails_spoils_no_other() -> None:
    def look() -> Finding:
        raise PermissionError(13, "Permission denied", "/proc/1/comm")

    finding = doctor._guarded("PID 1", look)

    assert (finding.what, finding.verdict) == ("PID 1", LIMITED)
    assert "Permission denied" in finding.seen


def test_a_machine_without_process_descriptors_is_hopeless(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("holdfast.linux.pidfd.open_pid", lambda _: -1)
    finding = doctor.process_descriptors()

    assert finding.verdict == NO
    assert doctor._is_hopeless([finding])
    assert not doctor._is_hopeless([Finding("cgroups", LIMITED, "", "")])


def test_what_is_missing_of_cgroups_is_said_controller_by_controller(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(
        "holdfast.linux.cgroup.capabilities", lambda: {"memory": "", "pids": "v2", "cpu": "v2"}
    )
    finding = doctor.cgroups()

    assert finding.verdict == LIMITED
    assert finding.seen == "usable: pids (v2), cpu (v2); not: memory"
    assert "memory limit is held by looking" in finding.means
    assert "cpu limit" not in finding.means
