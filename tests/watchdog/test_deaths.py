"""When is a restart after a death called a cure? The first time soon; what has come back once has to stay away for longer than it did before."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from holdfast.core.ladder import believed_after_s
from holdfast.linux import files
from holdfast.records import incidents
from holdfast.watchdog import deaths
from holdfast.watchdog.cases import Cases
from holdfast.watchdog.deaths import Deaths
from holdfast.watchdog.digest import Spec
from holdfast.watchdog.wards import Roll, Ward
from holdfast.wire import layout
from holdfast.wire.jsonlite import loads

SIGSEGV = 11


class Written:
    """The cases, the orders: what they are asked for is written down."""

    def __init__(self) -> None:
        self.verdicts: list[tuple[str, str, float | None]] = []
        self.orders: list[str] = []

    def verdict(self, key: str, verdict: str, after_s: float | None = None) -> None:
        self.verdicts.append((key, verdict, after_s))

    def place(self, order: dict[str, Any]) -> bool:
        self.orders.append(order["key"])
        return True


class Story:
    """A worker that dies when the test says so."""

    def __init__(self, run_dir: str) -> None:
        self.written, self.run_dir = Written(), run_dir
        spec: Any = Spec.__new__(Spec)
        spec.memory_bytes, spec.needs = 0, []
        self.ward, self.now_s, self.seq = Ward("thumbs", spec), 10_000.0, 0
        self.deaths = self.watchdog()

    def watchdog(self) -> Deaths:
        """Another watchdog begins: with what the one before has left."""
        roll = Roll(lambda _: None)
        roll.by_name = {"thumbs": self.ward}
        self.ward.open_key, self.ward.storm = "", None
        made = Deaths(self.run_dir, "node", roll, self.written, self.written)  # type: ignore[arg-type]
        made.load()
        made.resume()
        return made

    def lives(self, seconds: float) -> None:
        """It lives for so long, and is looked at every half second."""
        self.ward.pid, self.ward.started_s = 7, self.now_s
        for half in range(int(seconds * 2)):
            self.deaths.tick(self.now_s + half / 2)
        self.now_s += seconds

    def dies(self, lived_s: float) -> None:
        self.seq += 1
        self.ward.pid = 0
        record = {
            "k": "exit", "seq": self.seq, "worker": "thumbs", "role": "main", "cause": "died", "status": SIGSEGV, "lived_s": lived_s,
            "mono_s": self.now_s, "unix_s": self.now_s, "next": "restart",
        }  # fmt: skip
        self.deaths.note(self.ward, record)
        self.deaths.tick(self.now_s)


@pytest.fixture
def story(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Story:
    made = Story(str(tmp_path))
    monkeypatch.setattr(deaths, "time", SimpleNamespace(monotonic=lambda: made.now_s))
    return made


def test_a_crash_every_twenty_seconds_is_no_row_of_cures(story: Story) -> None:
    """Each of thirty incidents said "cured" after ten seconds."""
    story.lives(20)
    for _ in range(4):
        story.dies(20.0)
        story.lives(20)

    keys = story.written.orders
    assert len(keys) == 4
    # Nobody knew, the first time; that verdict is revised by the evidence of the second one.
    assert story.written.verdicts == [
        (keys[0], "cured", None), (keys[1], "came_back", 20.0), (keys[2], "came_back", 20.0),
    ]  # fmt: skip

    story.deaths.tick(story.now_s + 10.5)  # it has lived for half a minute
    assert story.written.verdicts[3:] == [(keys[3], "cured", None)]


def test_another_watchdog_waits_for_as_long(story: Story) -> None:
    story.lives(20)
    story.dies(20.0)
    story.lives(20)
    story.dies(20.0)
    assert loads(Path(story.run_dir, layout.SEEN).read_text())["believed"] == {"thumbs": 30.0}

    story.deaths = story.watchdog()
    story.lives(29)
    assert len(story.written.verdicts) == 1
    story.ward.started_s -= 29  # it is the same life
    story.deaths.tick(story.now_s + 2)

    assert story.written.verdicts[-1] == (story.written.orders[1], "cured", None)


@pytest.mark.parametrize(
    ("lived_s", "since_last_s", "wanted_s"),
    [(86400.0, None, 10.0), (86400.0, 86400.0, 10.0), (20.0, 20.5, 30.0), (2.0, 2.5, 10.0), (500.0, 500.5, 600.0)],
)  # fmt: skip
def test_a_first_death_is_believed_to_be_mended_soon(
    lived_s: float, since_last_s: float | None, wanted_s: float
) -> None:
    assert believed_after_s(10.0, lived_s, since_last_s) == wanted_s


def test_a_verdict_waits_for_room_on_a_full_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The incident would say for ever that nobody knows yet; and half a row must not spoil the whole one."""
    bundle = tmp_path / layout.INCIDENTS / "2026-11-22-web-1"
    bundle.mkdir(parents=True)
    later: list[Any] = []

    def aside(act: Any, done: Any) -> None:
        try:
            done(act())
        except OSError as error:
            done(error)

    def full(path: str, data: bytes) -> None:
        Path(path).write_bytes(data[:9])
        raise OSError(28, "No space left on device", path)

    engine: Any = SimpleNamespace(aside=aside, at=lambda _at_s, act: later.append(act), say=print)
    known = Cases(engine, str(tmp_path), None, Roll(lambda _: None))  # type: ignore[arg-type]
    known.go_by(SimpleNamespace(outcome=lambda _key: (True, bundle.name)), {}, str(tmp_path))  # type: ignore[arg-type,typeddict-item]
    with monkeypatch.context() as patched:
        patched.setattr(files, "append", full)
        known.verdict("exit-1", "cured")

    assert len(later) == 1
    later.pop()()

    (row,) = incidents.timeline_of(str(bundle))
    assert row["verdict"] == "cured"
    assert later == []
