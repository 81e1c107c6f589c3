"""For what do requests, tasks and threads wait, and who has it?

Pure rules over what the agent saw (``waiting`` and ``holding`` of ``sites.json``): a pool whose connections are all out, with the line that took
them; or the line at which requests stand and wait for something else. One of several places is the answer only when most stand there.
"""

from holdfast.diagnosis import owners
from holdfast.diagnosis.owners import Place
from holdfast.diagnosis.telling import LIKELY, MOST_SHARE, POSSIBLE, finding, in_words
from holdfast.diagnosis.words import duration

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from holdfast.diagnosis.findings import Facts

_RESTS_ON = ["sites.json", "pulse.json", "tasks.txt"]
_TAKEN = "taken there, and not given back"
_EXECUTOR = "concurrent.futures.ThreadPoolExecutor"


def stalled(facts: "Facts") -> "list[dict[str, Any]]":
    """Return what those that do not end wait for; empty where the agent saw nobody wait."""
    rows = [row for row in facts.sites.get("waiting") or () if type(row) is list and len(row) >= 5]
    if not rows:
        return []
    rows.sort(key=lambda row: (not row[3], -int(row[0])))
    count, for_s, site, what, frames = rows[0]
    total = sum(int(row[0]) for row in rows)
    place = Place(str(site), facts.owners)
    share = int(count) / max(1, total)
    # What the line itself asks; whoever called it (the server, its middleware) has nothing to do with the wait.
    inner = owners.places(_within([str(frame) for frame in frames], str(site)), facts.owners)
    at = next((one for one in inner if one.package), place)
    under_way = int(facts.pulse.get("in_flight") or 0)
    who = f"{count} of {under_way} requests" if under_way >= int(count) else f"{count} tasks or threads"  # fmt: skip
    if not what:
        through = f", in {at.owner()}, {at.short()}" if at is not place else ""
        says = (
            f"{who} wait in {in_words(place, facts)}{through}, the first of them for {duration(float(for_s))}, and do not end."
            " Whatever is asked there does not answer: give the call a time limit."
        )
        culprit = at if at is not place else place
        return [finding(LIKELY if share >= MOST_SHARE else POSSIBLE, says, culprit, _RESTS_ON)]
    if str(what) == _EXECUTOR:
        through = f", in {at.owner()}, {at.short()}" if at is not place and at.package else ""
        says = (
            f"Jobs of an executor have waited for {duration(float(for_s))} for a thread, and none comes back: its threads stand in"
            f" {in_words(place, facts)}{through}, and wait without a time limit. What they wait for is most likely a job of the same executor,"
            " which has no thread to run in: give jobs that wait for others an executor of their own, or do not wait for them inside a job."
        )
        culprit = at if at.package else place
        return [finding(LIKELY, says, culprit, _RESTS_ON, function=place.function)]
    says = f"{who} wait in {in_words(place, facts)} for {_thing(str(what))}, the first of them for {duration(float(for_s))}"
    holders = _holders(facts)
    if not holders:
        says += ", and nobody gives one back. Who has them is not known: look for what takes one and does not return it when it fails or is cancelled."
        return [finding(LIKELY, says, at if at.package else place, _RESTS_ON, function=place.function)]  # fmt: skip
    many, holder, how = holders[0]
    others = f" ({len(holders) - 1} other places have some, too)" if len(holders) > 1 else ""
    if how == _TAKEN and holder.frame == place.frame:
        says += (
            f". {many} were taken at the same line{others} and not given back: they are not closed, or what gives them back does not get its turn"
            " while others wait (a thread of the same pool of threads, another connection)."
        )
    elif holder.frame == place.frame:
        # Whoever has one waits for another at the same line: nobody can go on.
        says += f". {many} of those that have one stand at the same line{others}: what they need to go on is taken by those that wait."
    elif how == _TAKEN:
        says += f". {many} were taken in {in_words(holder, facts)}{others} and not given back: close them there, whatever happens (with, try/finally)."
    else:
        says += f". {many} of those that have one are in {in_words(holder, facts)}{others} ({how}) and do not give it back."
    return [finding(LIKELY, says, holder, _RESTS_ON)]


def is_known(facts: "Facts") -> bool:
    """Whether something that others hold (a pool, a semaphore, a thread of an executor) is what those wait for."""
    return any(
        type(row) is list and len(row) >= 5 and row[3] for row in facts.sites.get("waiting") or ()
    )


def _within(frames: list[str], site: str) -> list[str]:
    return frames[: frames.index(site)] if site in frames else frames


def _thing(what: str) -> str:
    kind = what.partition(",")[0].rpartition(".")[2]
    if "Queue" in kind and "Pool" not in kind:
        return f"room in a queue ({what})"
    if "Semaphore" in kind or "Limiter" in kind:
        return f"its turn at a semaphore ({what})"
    return f"a lock ({what})" if "Lock" in kind else f"a connection of a pool ({what})"


def _holders(facts: "Facts") -> "list[tuple[int, Place, str]]":
    rows = [row for row in facts.sites.get("holding") or () if type(row) is list and len(row) >= 3]
    return [(int(count), Place(str(site), facts.owners), str(how)) for count, site, how in rows]
