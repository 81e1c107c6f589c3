"""What is read first, at 3 am, on a telephone: the title of a message."""

from holdfast.alerts import wording
from holdfast.core import alerting
from holdfast.core.alerting import BAD, HOPELESS, Alert, Notice, Sign

TITLE = 'worker "trio": component "middle" crashed: ValueError: no account for 4711'


def told(change: str, *signs: Sign, came_back: bool = False) -> "dict[str, object]":
    alert = Alert("trio", 1.0, 1.0)
    alert.signs = [sign.to_json() for sign in signs]
    alert.incidents = [sign.incident for sign in signs if sign.incident]
    alert.came_back = came_back
    notice = Notice("trio-1", change, "error", 2.0, alert)
    return wording.message(notice, "shop", {"2026-11-22-trio-1": TITLE}, str)


def test_a_death_is_told_by_its_exception_once_the_evidence_knows_it() -> None:
    """ "ended with status 70" sends everybody to a terminal; the exception tells many what to do."""
    death = Sign("trio", "death", BAD, "ended with status 70 after 0.5 s", "2026-11-22-trio-1")

    assert told("firing", death, came_back=True)["title"] == (
        'shop: worker trio: component "middle" crashed: ValueError: no account for 4711; it came back after a restart'
    )


def test_a_death_without_evidence_is_told_by_what_the_keeper_knows() -> None:
    death = Sign("trio", "death", BAD, "ended with status 70 after 0.5 s", "2026-11-22-trio-9")

    assert told("firing", death)["title"] == "shop: worker trio: ended with status 70 after 0.5 s"


def test_what_is_over_needs_nobody_any_more() -> None:
    """ "Resolved: a person is needed" is read as the second half of it."""
    flag = Sign("trio", "crash_loop", HOPELESS, "it dies again and again", "2026-11-22-trio-1")

    assert str(told("firing", flag)["title"]).endswith("a person is needed")
    over = told(alerting.TOLD_RESOLVED, flag, came_back=True)
    assert over["title"] == "resolved: shop: worker trio: it dies again and again"
