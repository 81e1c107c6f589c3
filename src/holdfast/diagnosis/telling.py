"""In which words is a culprit told? What all rules about culprits (:mod:`holdfast.diagnosis.culprit`) say alike. Pure."""

from holdfast.diagnosis.words import one_line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from holdfast.diagnosis.findings import Facts
    from holdfast.diagnosis.owners import Place

#: How sure it is: the kernel, the interpreter or a complete count says so; it fits all that was seen; it is worth a look.
CERTAIN, LIKELY, POSSIBLE = "certain", "likely", "possible"
#: A place that has at least this share of all is the one.
MOST_SHARE = 0.5


def finding(
    confidence: str, says: str, place: "Place | None", rests_on: "Sequence[str]", **more: "Any"
) -> "dict[str, Any]":
    """Return a finding in its form; without a place it accuses nobody."""
    return {
        "confidence": confidence,
        "says": says,
        "package": place.package if place else "",
        "version": place.version if place else "",
        "function": place.function if place else "",
        "where": place.frame if place else "",
        "rests_on": list(rests_on),
        **more,
    }


def in_words(place: "Place", facts: "Facts") -> str:
    """Return "aiohttp 3.9.3 in MultipartReader.next (aiohttp/multipart.py:301)", with the line of code where it is known."""
    directory = str(facts.plan.get("directory") or "")
    source = facts.source.get(place.frame)
    quoted = f": `{one_line(source, 90)}`" if source else ""
    owner = f"{place.owner()}, " if place.package else ""
    return f"{owner}{place.short(directory)}{quoted}"


def caller(mine: "Sequence[Place]", after: int, facts: "Facts") -> str:
    """Return the application's own line from which a package was called, as a clause; "" when it is the place itself."""
    if not mine[after].package:
        return ""
    at = next((at for at in range(after + 1, len(mine)) if not mine[at].package), 0)
    if not at:
        return ""
    entry = mine[at - 1]
    through = ""
    if entry.package != mine[after].package:
        # Whoever reads this knows the package that is called, seldom the one that does its work.
        through = f" through {entry.owner()}, {entry.short()}"
    return f", called from {mine[at].short(str(facts.plan.get('directory') or ''))}{through}"


def way(mine: "Sequence[Place]") -> str:
    """Return the functions of the same package that led to the place, nearest first, as a clause."""
    first = mine[0]
    if not first.package:
        return ""
    names = dict.fromkeys(
        p.short() for p in mine[1:] if p.package == first.package and p.function != first.function
    )
    return f", by way of {' <- '.join(list(names)[:4])}" if names else ""
