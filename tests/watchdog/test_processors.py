"""A processor of a virtual machine stands still for seconds: who lives there is silent, and must not be shot for it."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any, ClassVar

from holdfast.watchdog import senses
from holdfast.watchdog.processors import PATIENCE_S, Processors

if TYPE_CHECKING:
    from collections.abc import Callable


class Host:
    """Processors of which some stand still until the test says otherwise."""

    def __init__(self, *still: int) -> None:
        self.still = set(still)
        self.sent: list[int] = []
        self.under_way: list[tuple[int, Callable[[int], None]]] = []

    def send(self, number: int, arrived: Callable[[int], None]) -> None:
        self.sent.append(number)
        if number in self.still:
            self.under_way.append((number, arrived))
        else:
            arrived(number)

    def goes_on(self) -> None:
        for number, arrived in self.under_way:
            arrived(number)


def test_one_that_stands_still_is_known_and_one_that_answers_is_not() -> None:
    host = Host(1)
    known = Processors(host.send)
    known.ask({0, 1}, 100.0)
    assert known.mute(100.0 + PATIENCE_S / 2) == set()
    assert known.mute(100.0 + PATIENCE_S * 2) == {1}
    host.goes_on()
    assert known.mute(200.0) == set()


def test_nobody_is_sent_after_one_who_has_not_come_back() -> None:
    """A minute of it must not be six hundred threads."""
    host = Host(1)
    known = Processors(host.send)
    for tick in range(600):
        known.ask({1}, tick / 10)
    assert host.sent == [1]


def test_where_a_thread_lives_is_not_always_known() -> None:
    host = Host()
    Processors(host.send).ask({-1}, 0.0)
    assert host.sent == []


def test_where_no_thread_can_be_started_nobody_is_excused() -> None:
    def full(_number: int, _arrived: Any) -> None:
        raise RuntimeError("can't start new thread")

    known = Processors(full)
    known.ask({0}, 0.0)
    assert known.mute(10.0) == set()


def test_the_real_ones_answer() -> None:
    known = Processors()
    allowed = os.sched_getaffinity(0)
    known.ask(allowed, time.monotonic())
    until_s = time.monotonic() + 30.0
    while known.mute(time.monotonic() + 1.0):
        assert time.monotonic() < until_s
        time.sleep(0.01)
    assert os.sched_getaffinity(0) == allowed  # only the one who was sent is bound


def test_each_thread_says_where_it_lives() -> None:
    turns = senses.turns(os.getpid())
    assert turns[os.getpid()].processor in os.sched_getaffinity(0)


def test_the_silence_of_who_lives_on_a_still_processor_is_excused(monkeypatch: Any) -> None:
    """And only theirs: a hang on a processor that runs is still one."""
    from holdfast.core.detect.silence import Silence
    from holdfast.core.detect.starvation import Turn

    class Care:
        def __init__(self) -> None:
            self.silence, self.thread, self.call = Silence(0.0), Silence(0.0), Silence(0.0)
            self.turns: dict[int, Turn] = {}
            self.turns_at_s = 0.0

    class Ward:
        def __init__(self, home: int) -> None:
            self.pid = home
            self.care = Care()

    looked = senses.Senses(None, "", "")  # type: ignore[arg-type]
    looked.processors = Processors(Host(1).send)
    looked._suspects = looked._watched = 1
    monkeypatch.setattr(senses, "turns", lambda pid: {pid: Turn(0, 0, is_runnable=False, processor=pid)})  # fmt: skip
    there, here = Ward(1), Ward(0)
    for tick in range(1, 100):
        for ward in (there, here):
            looked._excuse(ward, ward.care, tick / 10)  # type: ignore[arg-type]
    assert there.care.silence.lasting_s(9.9) < 0.5
    assert here.care.silence.lasting_s(9.9) > 9.0


def test_a_silence_that_is_excused_is_no_sign_of_life() -> None:
    """A frozen worker on a starved machine: its waiting for a processor is booked in bursts, and each of them took the flag off
    again. One hang had thirteen incidents."""
    from holdfast.core.ladder import SUSPECT, UNKNOWN, WELL
    from holdfast.watchdog.wards import Care

    class Spec:
        beat: ClassVar[dict[str, Any]] = {"kind": "pulse", "timeout_s": 5.0, "target": ""}
        ready: ClassVar[dict[str, Any]] = {"kind": "none", "timeout_s": 60.0}
        detect: ClassVar[dict[str, float]] = {"freeze": 1.0}

    class Process:
        def read(self) -> Any:
            return type("Reading", (), {"state": "R"})()

    class Ward:
        spec, pid, is_ready, started_s = Spec(), 1, True, 0.0

        def __init__(self) -> None:
            self.care = Care(0.0)
            self.care.pulse = 0

        def process(self) -> Process:
            return Process()

    looked, ward = senses.Senses(None, "", ""), Ward()  # type: ignore[arg-type]

    def verdict(now_s: float) -> str:
        return looked.heartbeat(ward, now_s).verdict  # type: ignore[arg-type]

    def beat(now_s: float) -> None:
        for silence in (ward.care.silence, ward.care.thread):
            silence.sign(now_s)

    beat(10.0)
    assert verdict(10.1) == WELL
    assert verdict(13.0) == SUSPECT
    ward.care.silence.excuse(2.5)
    ward.care.thread.excuse(2.5)
    assert verdict(13.1) == UNKNOWN
    assert verdict(15.7) == SUSPECT
    beat(15.8)
    assert verdict(15.9) == WELL
    ward.care.pulse = -1
