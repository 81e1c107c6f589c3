"""When a message is tried again, in which order, and who hears of a channel that takes nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hypothesis import given
from hypothesis import strategies as st

from holdfast.alerts import sending
from holdfast.alerts.channels.channel import NotDelivered
from holdfast.alerts.sending import Sending
from holdfast.alerts.store import Outbox, Row, Store
from holdfast.core import alerting
from node import wait_for

if TYPE_CHECKING:
    from pathlib import Path


class Channel:
    """Takes messages, or refuses them while ``failure`` is set."""

    def __init__(self) -> None:
        self.taken: list[str] = []
        self.tried = 0
        self.failure: NotDelivered | None = None

    def wants(self, message: dict[str, Any]) -> bool:
        return bool(message)

    def deliver(self, message: dict[str, Any]) -> None:
        self.tried += 1
        if self.failure is not None:
            raise self.failure
        self.taken.append(message["id"])


class Desk:
    """An outbox, a channel and a clock."""

    def __init__(self, tmp: Path) -> None:
        self.channel = Channel()
        self.outbox = Outbox(Store(str(tmp)))
        self.said: list[str] = []
        self.sending = Sending({"c": self.channel}, self.outbox, lambda: 1.0, lambda *a, **_: self.said.append(a[1]))  # fmt: skip
        self.now_s = 1000.0

    def post(self, name: str, alert: str = "a", change: str = alerting.TOLD_FIRING) -> Row:
        row = Row(name, "c", alert, change, {"id": name}, self.now_s)
        self.outbox.add(row)
        return row

    def turn(self, attempts: int = 0) -> None:
        """Hand out what is due, and wait until so many more attempts have their result."""
        rows = list(self.outbox.waiting.values())
        wanted = sum(row.attempts for row in rows) + attempts
        self.sending.hand_out(self.now_s, self.now_s)

        def look() -> bool:
            self.sending.take_results(self.now_s, self.now_s)
            return sum(row.attempts for row in rows) >= wanted

        wait_for(look, f"{attempts} attempts")


@given(st.integers(1, 200), st.floats(0, 1), st.floats(0, 5000), st.booleans())
def test_a_pause_grows_stays_in_bounds_and_respects_who_asks_for_one(attempts: int, chance: float, after_s: float, is_refused: bool) -> None:  # fmt: skip
    pause = sending.pause_s(attempts, chance, after_s, is_refused=is_refused)

    assert pause >= max(after_s, sending.FIRST_S / 2)
    assert pause <= max(after_s, sending.LONGEST_S)


def test_the_messages_of_one_alert_keep_their_order_and_others_pass(tmp_path: Path) -> None:
    """Resolved before firing would leave a pager ringing for ever; one poisoned alert must not block the rest."""
    desk = Desk(tmp_path)
    desk.channel.failure = NotDelivered("busy")
    desk.post("a-1", "a")
    desk.post("a-2", "a", alerting.TOLD_RESOLVED)
    desk.turn(1)
    desk.channel.failure = None
    desk.post("b-1", "b")

    desk.turn(1)
    assert desk.channel.taken == ["b-1"]
    desk.now_s += 10
    desk.turn(1)
    desk.turn(1)

    assert desk.channel.taken == ["b-1", "a-1", "a-2"]


def test_a_page_is_never_given_up_and_a_digest_is_after_a_day(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.channel.failure = NotDelivered("down")
    page, digest = desk.post("a-1"), desk.post("d-1", "d", alerting.TOLD_DIGEST)
    desk.turn(2)
    desk.now_s += sending.PATIENCE_S + 1

    desk.turn(2)

    assert (page.state, digest.state) == ("waiting", "dropped")
    desk.now_s += sending.LONGEST_S
    desk.turn(1)
    assert desk.sending.failing_since_unix_s == {
        "c": 1000.0
    }  # by which the other channels are told


def test_a_refusal_is_not_repeated_every_second(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.channel.failure = NotDelivered("answered 400", is_refused=True)
    desk.post("a-1")
    desk.turn(1)
    desk.now_s += 100

    desk.turn(0)

    assert desk.channel.tried == 1


def test_what_is_for_a_channel_that_is_gone_is_told_and_dropped(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    row = Row("x-1", "gone", "x", alerting.TOLD_FIRING, {"id": "x-1"}, desk.now_s)
    desk.outbox.add(row)

    desk.turn(0)

    assert row.state == "dropped"
    assert desk.said == ["not delivered"]


def test_a_disk_that_takes_nothing_keeps_rows_in_memory_and_gets_them_later(tmp_path: Path) -> None:
    (tmp_path / "alerts").write_text("in the way")
    desk = Desk(tmp_path)
    desk.post("a-1")

    assert not desk.outbox.save({"rules": {}})
    desk.turn(1)
    assert desk.channel.taken == ["a-1"]
    (tmp_path / "alerts").unlink()
    assert desk.outbox.save({"rules": {}})

    (row,) = Store(str(tmp_path)).rows(10)
    assert (row.message, row.state) == ("a-1", "delivered")
