"""Many probes at once, the people who are told, and the process that is killed in between."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import holdfast
from alerts.sinks import Sink
from holdfast.alerts import settings
from holdfast.cli import main
from holdfast.cli.probes import running, telling
from holdfast.cli.probes.load import Probe, Probes, load
from holdfast.cli.probes.looks import Result
from holdfast.cli.probes.running import Watch
from holdfast.core import outside
from holdfast.model.errors import AlreadyRunning
from node import SLOWNESS, wait_for
from probe.other_side import Silent, Site

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = str(Path(holdfast.__file__).parent.parent)


def row(name: str, port: int, more: str = "") -> str:
    return f'[[probe]]\nkind = "tcp"\nname = "{name}"\naddress = "127.0.0.1:{port}"\n{more}\n'


def written(tmp: Path, text: str) -> Probes:
    (tmp / "probe.toml").write_text(text)
    return load(str(tmp / "probe.toml"), {})


# -- pace ------------------------------------------------------------------------------------------


def test_probes_that_hang_do_not_delay_the_others(tmp_path: Path) -> None:
    """Twenty dead servers must not hide that the twenty-first has just died."""
    with Silent() as silent, Silent(b"220 hello\r\n") as well:
        hanging = "".join(
            row(f"hang{n}", silent.port, 'expect = "x"\nevery = "60s"\ntimeout = "60s"')
            for n in range(20)
        )
        found = written(
            tmp_path,
            hanging
            + row(
                "well",
                well.port,
                'expect = "220"\nevery = "50ms"\ntimeout = "50ms"',
            ),
        )
        looks: list[Result] = []

        async def run() -> None:
            done = asyncio.Event()

            def tell(probe: Any, belief: Any, result: Result, has_changed: bool) -> None:
                del belief, has_changed
                if probe.name == "well":
                    looks.append(result)
                    if len(looks) == 10:
                        done.set()

            watch = Watch(found, tell)
            going = asyncio.create_task(watch.run())
            await asyncio.wait_for(done.wait(), 30 * SLOWNESS)
            going.cancel()
            assert all(
                name not in watch.results for name in watch.probes if name.startswith("hang")
            )
            assert watch.is_timely(time.monotonic())
            assert not watch.is_timely(time.monotonic() + 1000.0), (
                "nobody looks: nobody may be told that all is well"
            )

        asyncio.run(run())

    assert len(looks) >= 10


def test_what_answers_nothing_is_looked_at_again_before_it_has_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three timeouts one after another would be told too late: nobody waits for the first before the second begins."""
    found = written(tmp_path, row("shop", 1, 'every = "200ms"\nagain = "50ms"'))
    under_way: list[asyncio.Event] = []

    async def run() -> Any:
        ended, down = asyncio.Event(), asyncio.Event()

        async def hanging(_: Probe) -> Result:
            under_way.append(ended)
            if len(under_way) == 3:
                ended.set()
            await ended.wait()
            return Result(False, "not done within 4 s", 4.0)

        def tell(probe: Any, belief: Any, result: Result, has_changed: bool) -> None:
            del probe, result
            if has_changed and belief.state == outside.DOWN:
                down.set()

        monkeypatch.setattr(running, "look", hanging)
        watch = Watch(found, tell)
        going = asyncio.create_task(watch.run())
        await asyncio.wait_for(down.wait(), 30 * SLOWNESS)
        going.cancel()
        return watch.beliefs["shop"].looks[:3]

    assert asyncio.run(run()) == [False] * 3


def test_a_machine_that_is_too_busy_itself_does_not_call_others_dead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All sites of the world fail at the same time: it is the prober. Three times in a row it may be the site all the same."""
    found = written(tmp_path, row("shop", 1, 'every = "400ms"'))
    looks: list[float] = []

    async def blocked(_: Probe) -> Result:
        looks.append(time.monotonic())
        time.sleep(0.3)  # noqa: ASYNC251 -- a loop that does not come round
        await asyncio.sleep(0.1)
        return Result(False, "not done within 0.4 s", 0.4)

    async def run() -> int:
        seen = asyncio.Event()
        watch = Watch(found, lambda *_: seen.set())
        going = asyncio.create_task(watch.run())
        await asyncio.wait_for(seen.wait(), 30 * SLOWNESS)
        going.cancel()
        return len(looks)

    monkeypatch.setattr(running, "look", blocked)
    assert asyncio.run(run()) == 3


def test_who_fails_has_its_cause_looked_at_at_once(tmp_path: Path) -> None:
    """Otherwise the alert would wait for the cause's own pace, or go out without it."""
    with Silent(b"x") as well:
        found = written(
            tmp_path,
            row("gateway", well.port, 'every = "1h"')
            + row("shop", 1, 'every = "1s"\ntimeout = "1s"\nagain = "50ms"\nafter = ["gateway"]'),
        )

        async def run() -> None:
            times: list[str] = []
            done = asyncio.Event()

            def tell(probe: Any, belief: Any, result: Result, has_changed: bool) -> None:
                del belief, result, has_changed
                times.append(probe.name)
                if times.count("gateway") == 2 or (
                    "gateway" in times and "shop" in times[: times.index("gateway")]
                ):
                    done.set()

            going = asyncio.create_task(Watch(found, tell).run())
            await asyncio.wait_for(done.wait(), 30 * SLOWNESS)
            going.cancel()

        asyncio.run(run())


# -- telling ---------------------------------------------------------------------------------------


class Desk:
    """A teller whose turns a test counts, over beliefs that a test sets."""

    def __init__(self, tmp: Path, text: str) -> None:
        hook = '[alerts.channel.file]\ntype = "command"\ncommand = ["true"]\n'
        self.probes = written(tmp, text + hook)
        self.watch = Watch(self.probes, lambda *_: None)
        self.said: list[tuple[str, str]] = []
        self.errors: list[str] = []
        made = telling.read_settings(self.probes, self.say)
        assert isinstance(made, settings.Alerting)
        self.teller = telling.Teller(self.probes, self.watch, made, self.say)

    def say(self, level: str, event: str, **fields: object) -> None:
        if "change" in fields:
            self.said.append((str(fields["change"]), event))
        if level == "error":
            self.errors.append(event)

    def see(self, name: str, looks: str) -> Desk:
        """Look at one probe: "+" is a good look, "-" a failure."""
        probe, belief = self.watch.probes[name], self.watch.beliefs[name]
        for one in looks:
            now_s = time.monotonic()
            result = Result(one == "+", "" if one == "+" else f"{name} is broken", 0.01)
            outside.note(belief, probe.rule, result.is_good, now_s, now_s, time.time())
            self.watch.results[name] = result
            self.teller.turn()
        return self

    def heard(self) -> list[str]:
        return [change for change, _ in self.said]


ONE = row("shop", 1)
TWO = row("gateway", 1) + row("shop", 1, 'after = ["gateway"]')


def test_an_outage_is_one_alert_and_one_end(tmp_path: Path) -> None:
    desk = Desk(tmp_path, ONE).see("shop", "+--")
    assert desk.said == []

    desk.see("shop", "-----")
    assert [title for _, title in desk.said] == [f"{desk.probes.name}: probe shop: shop is broken"]
    desk.see("shop", "++++")
    assert desk.heard() == ["firing", "resolved"]


def test_what_went_away_by_itself_is_nobodys_night(tmp_path: Path) -> None:
    """It is in the digest; who wants to know reads it by day."""
    desk = Desk(tmp_path, ONE).see("shop", "+-+++--+++")

    assert desk.said == []
    memory, _ = desk.teller._store.load()
    assert [entry["cause"] for entry in memory["rules"]["digest"]] == ["shop", "shop"]


def test_what_hangs_behind_a_dead_gateway_is_part_of_its_alert(tmp_path: Path) -> None:
    """The shop is seen to fail before the gateway is, and is back a look after it: still one outage."""
    desk = Desk(tmp_path, TWO).see("gateway", "+").see("shop", "+")
    desk.see("shop", "---").see("gateway", "---").see("shop", "--").see("gateway", "--")
    assert [title.partition(": ")[2] for _, title in desk.said] == [
        "probe gateway: gateway is broken"
    ]

    desk.see("gateway", "++").see("shop", "+++")
    assert desk.heard() == ["firing", "resolved"]


def test_who_stays_down_when_its_cause_is_well_is_told_for_itself(tmp_path: Path) -> None:
    desk = Desk(tmp_path, TWO).see("gateway", "+---").see("shop", "---")
    desk.see("gateway", "++").see("shop", "--")

    assert [
        title.partition(": ")[2].partition(":")[0]
        for change, title in desk.said
        if change == "firing"
    ] == ["probe gateway", "probe shop"]


def test_a_new_life_tells_nobody_twice(tmp_path: Path) -> None:
    """Killed in the middle of an outage: it knows what was told, and what was believed."""
    Desk(tmp_path, ONE).see("shop", "+---")

    again = Desk(tmp_path, ONE)
    assert again.watch.beliefs["shop"].state == outside.DOWN
    again.teller.turn()
    again.see("shop", "--").see("shop", "++")
    assert again.heard() == ["resolved"]


def test_a_damaged_memory_silences_nobody(tmp_path: Path) -> None:
    """A power cut tore the file: the outage is still told, and the file kept for who wants to look."""
    store = tmp_path / ".holdfast-probe/alerts/alerts.db"
    store.parent.mkdir(parents=True)
    store.write_bytes(b"torn" * 1000)

    desk = Desk(tmp_path, ONE).see("shop", "+---")

    assert desk.heard() == ["firing"]
    assert desk.errors == ["what was remembered cannot be read; beginning anew"]
    assert store.with_name("alerts.db.damaged").read_bytes().startswith(b"torn")
    assert Desk(tmp_path, ONE).errors == []


def test_without_a_place_to_write_people_are_told_all_the_same(tmp_path: Path) -> None:
    (tmp_path / ".holdfast-probe").write_text("in the way")
    desk = Desk(tmp_path, ONE)
    telling.take_lock(desk.probes, desk.say)

    desk.see("shop", "+---")

    assert desk.heard() == ["firing"]
    assert "no lock could be taken, and nothing will survive a kill" in desk.errors


# -- the command -----------------------------------------------------------------------------------


@pytest.fixture
def site() -> Iterator[Site]:
    with Site() as made:
        yield made


def test_once_says_by_its_exit_status_whether_all_is_well(
    site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A line in a deploy script."""
    path = tmp_path / "probe.toml"
    path.write_text(
        f'[[probe]]\nkind = "http"\nname = "shop"\nurl = "{site.url}/ok"\n' + row("mail", 1)
    )

    assert main.main(["probe", str(path), "shop", "--once"]) == 0
    assert capsys.readouterr().out.startswith("ok      shop  http")
    assert main.main(["probe", str(path), "--once", "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert (found["ok"], [one["ok"] for one in found["probes"]]) == (False, [True, False])
    assert main.main(["probe", str(path), "shp", "--once"]) == 2
    assert 'Did you mean "shop"?' in capsys.readouterr().err
    assert main.main(["probe", str(tmp_path / "no.toml")]) == 2
    assert main.main(["probe", str(path), "--check"]) == 0
    path.write_text("[[probe]]\nkind = 5\n")
    assert main.main(["probe", str(path), "--check"]) == 2
    assert "probe[0]" in capsys.readouterr().err


def test_two_do_not_tell_of_the_same_things(tmp_path: Path) -> None:
    found = written(tmp_path, ONE)
    code = f"import sys, time; from holdfast.linux import locks; import os; os.makedirs({found.state_dir + '/alerts'!r}); locks.take({found.state_dir + '/alerts/alerts.lock'!r}); print('held', flush=True); time.sleep(60)"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": ROOT}
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        try:
            with pytest.raises(AlreadyRunning, match=f"process {other.pid} looks for this"):
                telling.take_lock(found, print)
        finally:
            other.kill()


def has_pinged(sink: Sink, before: int) -> bool:
    return len(sink.at("/ping")) > before


class Life:
    """A `holdfast probe` that runs."""

    def __init__(self, path: Path) -> None:
        argv = [sys.executable, "-P", "-m", "holdfast", "probe", str(path)]
        self.log = open(path.with_suffix(".log"), "ab")
        self.process = subprocess.Popen(
            argv, stdout=self.log, stderr=self.log, env={**os.environ, "PYTHONPATH": ROOT}
        )

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self.log.close()


def test_an_outage_is_told_once_although_the_prober_is_killed_again_and_again(
    site: Site, tmp_path: Path
) -> None:
    """Law 1, outside: from fault to message and back, with a kill in every state; and a ping says that somebody looks."""
    path = tmp_path / "probe.toml"
    pace = f"{int(400 * SLOWNESS)}ms"
    with Sink() as sink:
        path.write_text(
            f'name = "outside"\n[defaults]\nevery = "{pace}"\ntimeout = "{pace}"\nagain = "100ms"\n'
            f'[[probe]]\nkind = "http"\nname = "shop"\nurl = "{site.url}/ok"\n'
            f'[alerts.channel.hook]\ntype = "webhook"\nurl = "{sink.url}/hook"\n[alerts.dead_man]\nurl = "{sink.url}/ping"\nevery = "1s"\n'
        )  # fmt: skip
        life = Life(path)
        try:
            wait_for(lambda: sink.at("/ping"), "the first ping", 30)
            site.is_well = False
            wait_for(sink.messages, "the alert", 30)
            for _ in range(2):
                life.kill()
                before = len(sink.at("/ping"))
                life = Life(path)
                wait_for(partial(has_pinged, sink, before), "the next life to look", 30)
            site.is_well = True
            wait_for(lambda: len(sink.messages()) == 2, "the end of the alert", 30)
        finally:
            life.kill()

        told = [(one["change"], one["cause"], one["title"]) for one in sink.messages()]
        assert told[0] == ("firing", "shop", "outside: probe shop: it answers 503, not 2xx")
        assert [change for change, _, _ in told] == ["firing", "resolved"]
        assert sink.at("/ping")[0].body.startswith(b"outside: 1 probes, 0 down")
