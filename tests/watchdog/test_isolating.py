"""The watchdog and a worker whose components die: what it asks of the keeper, once, and again where nobody answered."""

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from holdfast.core import parts
from holdfast.linux import talk
from holdfast.wire import layout

if TYPE_CHECKING:
    from watchdog.conftest import FakeHouse

pytestmark = pytest.mark.faults

THREE = ["board", "fetch", "mail"]


def container(plan_of: Callable[..., dict[str, Any]], **more: Any) -> dict[str, Any]:
    components = [{"name": name, "use": f"{name}:app", "settings": {}} for name in THREE]
    entry = plan_of("all", **more)
    entry.update(kind="container", components=components, isolate=8)
    return entry


def crash(house: "FakeHouse", note: str = "", **more: Any) -> int:
    child = house.start("all")
    return house.die("all", child, **{"status": 11, "components": THREE, "note": note, **more})


def carries_out(house: "FakeHouse") -> Callable[[dict[str, Any]], dict[str, Any] | None]:
    """What a keeper does: the plan that runs is replaced, and everybody is told."""

    def answer(request: dict[str, Any]) -> dict[str, Any]:
        if request["do"] != "isolate":
            return {"ok": True}
        path = house.run_dir / layout.PLAN
        plan = json.loads(path.read_text())
        if plan.get("split"):
            return {"ok": True, "note": "it is so already", "parts": parts.partition(plan, "all")}
        plan = parts.divide(plan, request["worker"], request["parts"], why="", unix_s=1.0)
        path.with_suffix(".new").write_text(json.dumps(plan))
        path.with_suffix(".new").rename(path)
        talk.tell(str(house.run_dir), "watchdog", {"do": "plan"})
        return {"ok": True, "parts": parts.partition(plan, "all")}

    return answer


def said_of(house: "FakeHouse", seq: int) -> str:
    path = house.state_dir / layout.INCIDENTS / f"incident-exit-{seq}" / "timeline.jsonl"
    return path.read_text() if path.exists() else ""


def test_the_second_crash_is_one_too_many(
    house: "FakeHouse", plan_of: Any, wait_for: Callable[..., Any]
) -> None:
    house.plan(container(plan_of))
    house.answers = carries_out(house)
    house.watchdog()

    crash(house, "crash component=fetch ValueError: x", status=70 << 8)
    wait_for(lambda: len(house.orders()) == 1, 10, "the first one to be written up")
    assert not house.asked("isolate")
    seq = crash(house, "crash component=fetch ValueError: x", status=70 << 8)

    (request,) = wait_for(lambda: house.asked("isolate"), 10, "an order")
    assert (request["worker"], request["by"]) == ("all", "watchdog")
    assert request["parts"] == [["board", "mail"], ["fetch"]]
    assert 'the evidence points to component "fetch"' in request["why"]
    wait_for(lambda: "was split" in said_of(house, seq), 10, "a line in the timeline")
    order = next(one for one in house.orders() if one["seq"] == seq)
    assert order["components"] == THREE


def test_what_the_evidence_found_outweighs_the_note(
    house: "FakeHouse", plan_of: Any, wait_for: Callable[..., Any]
) -> None:
    """Threads share one note: a timer in another thread is not the crash."""
    script = house.evidence.read_text()
    house.evidence_does(
        script.replace(
            "open(path + '.tmp'",
            "open(f'{run}/state/incidents/{incident}/incident.json', 'w').write("
            "json.dumps({'component': 'mail', 'kind': 'crash'}))\nopen(path + '.tmp'",
        )
    )
    house.plan(container(plan_of))
    house.watchdog()

    crash(house, "component=board")
    crash(house, "component=board")

    (request, *_) = wait_for(lambda: house.asked("isolate"), 10, "an order")
    assert request["parts"] == [["board", "fetch"], ["mail"]]


def test_an_order_that_nobody_took_is_given_again_also_by_the_next_watchdog(
    house: "FakeHouse", plan_of: Any, wait_for: Callable[..., Any]
) -> None:
    house.plan(container(plan_of))
    house.answers = lambda request: None if request["do"] == "isolate" else {"ok": True}
    first = house.watchdog()
    crash(house, "exit component=fetch sys.exit(3)", status=3 << 8)
    crash(house, "exit component=fetch sys.exit(3)", status=3 << 8)
    wait_for(lambda: len(house.asked("isolate")) == 1, 10, "the order")
    wait_for(lambda: len(house.asked("isolate")) == 2, 15, "the order again")

    first.kill()
    first.wait()
    house.answers = carries_out(house)
    before = len(house.asked("isolate"))
    house.watchdog()

    wait_for(lambda: len(house.asked("isolate")) > before, 10, "the next watchdog's order")
    assert len({json.dumps(one["parts"]) for one in house.asked("isolate")}) == 1


def test_who_was_restarted_by_a_person_begins_anew(
    house: "FakeHouse", plan_of: Any, wait_for: Callable[..., Any]
) -> None:
    """And who was killed by one says nothing about components."""
    house.plan(container(plan_of))
    house.watchdog()
    crash(house, "crash component=fetch x", status=70 << 8)
    house.record(k="order", do="restart", worker="all", by="user", how="term", flag="", incident="")
    crash(house, "crash component=fetch x", status=70 << 8)
    for _ in range(3):
        crash(house, "component=fetch", status=9)
    seq = house.exit("all", 9, status=15, components=THREE)

    seen = house.run_dir / layout.SEEN
    wait_for(
        lambda: seen.exists() and json.loads(seen.read_text())["seq"] >= seq, 10, "all to be read"
    )
    assert not house.asked("isolate")


def test_the_words_of_what_came_out(
    house: "FakeHouse", plan_of: Any, wait_for: Callable[..., Any]
) -> None:
    house.plan(container(plan_of))
    house.answers = carries_out(house)
    house.watchdog()
    crash(house, "crash component=fetch x", status=70 << 8)
    crash(house, "crash component=fetch x", status=70 << 8)
    wait_for(lambda: house.asked("isolate"), 10, "the split")
    seq = house.exit("all+fetch", 1, status=11, components=["fetch"], pid=99)

    wait_for(lambda: 'culprit: component "fetch" died once' in house.said(), 10, "the culprit")
    wait_for(lambda: "culprit" in said_of(house, seq), 10, "a line in the timeline")
