"""What grows, and who lets it: memory, open files, lines of log. Pure rules over a bundle, for :mod:`holdfast.diagnosis.culprit`."""

from holdfast.diagnosis import owners, profile
from holdfast.diagnosis.owners import Place
from holdfast.diagnosis.telling import (
    CERTAIN,
    LIKELY,
    MOST_SHARE,
    POSSIBLE,
    caller,
    finding,
    in_words,
)
from holdfast.diagnosis.words import duration, one_line, size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from holdfast.diagnosis.findings import Facts

#: Fewer objects more are noise.
_FEW_OBJECTS, _FEW_OF_A_KIND = 50, 20
_PLAIN = ("builtins.", "weakref.", "functools.", "collections.", "types.", "_thread.")
#: Less growth says nothing of who keeps it; kept by Python this share of it, it is not C; and so many packages are worth naming.
_LEAST_GROWN, _LITTLE, _MOST_SUSPECTS = 1 << 19, 0.2, 5
_NOTHING = 0.02
#: An object has so many descriptors open, at most: an event loop, a pair of pipes.
_FILES_EACH = 5


def memory(facts: "Facts") -> "list[dict[str, Any]]":
    """Return who makes what memory is full of: the lines that allocate, the types that become more."""
    # What explains next to nothing of the growth says nothing of who lets it grow.
    allocated = _allocations(facts) if _kept(facts) >= _NOTHING else []
    return [*allocated, *_types(facts), *_in_c(facts)]


def _allocations(facts: "Facts") -> "list[dict[str, Any]]":
    """Lines that allocated what is still there, as tracemalloc saw for a moment."""
    sites = [s for s in facts.census.get("allocated") or () if s.get("frames")]
    if not sites:
        return []
    top = sites[0]
    mine = owners.places(top["frames"], facts.owners)
    if not mine:
        return []
    total = sum(int(s["bytes"]) for s in sites) or 1
    share = int(top["bytes"]) / total
    window = duration(float(facts.census.get("window_s") or 0))
    place = mine[0]
    called = next((c for p in mine[:4] for c in facts.calls.get(p.frame) or () if c["is_c"] and c["package"]), None)  # fmt: skip
    says = (
        f"Of the memory that was allocated in {window} and kept, {share:.0%} ({size(int(top['bytes']))}) came from"
        f" {in_words(place, facts)}{caller(mine, 0, facts)}."
    )
    culprit = place
    if called is not None and not place.package:
        culprit = Place(place.frame, {})
        culprit.package, culprit.version = called["package"], called["version"]
        culprit.function = called["module"]
        says += f" It was allocated on behalf of {called['module']} ({culprit.owner()}, C code), which may not let go of it."
    confidence = LIKELY if share >= MOST_SHARE else POSSIBLE
    return [finding(confidence, says + _held(facts), culprit, ["census.json"])]


def _in_c(facts: "Facts") -> "list[dict[str, Any]]":
    """Memory that grows although Python allocates next to nothing that stays: C code keeps it, and few packages have any; or a buffer is filled."""
    seconds, grown, reserved = facts.growing
    # memray sees what C allocates, too: what it does not show has not been allocated.
    if facts.census.get("by") != "tracemalloc" or grown < _LEAST_GROWN or _kept(facts) > _LITTLE:
        return []
    kept = sum(int(site["bytes"]) for site in facts.census.get("allocated") or ())
    lines = _own_lines(facts)
    at = lines[0] if lines else Place("", {})
    busiest = f" Busiest meanwhile: {'; '.join(in_words(line, facts) for line in lines[:2])}." if lines else ""  # fmt: skip
    says = f"Memory grew by {size(grown)} in {duration(seconds)}, and of what Python allocated meanwhile {size(kept)} stayed"
    rests_on = ["memory.json", "census.json", "profile.txt"]
    if reserved < _LITTLE * grown:
        says += f"; nor was any taken in C: something fills a buffer that it has already (what was sent and is not read, an array).{busiest}"
        called = next((c for c in facts.calls.get(at.frame) or () if c["package"]), None)
        place = Place(at.frame, {})
        if called is not None:
            place.package, place.version = called["package"], called["version"]
            says += f" That calls {called['module']} ({place.owner()})."
        return [finding(POSSIBLE, says, place if lines else None, rests_on)]
    suspects = _suspects(facts)
    if not 0 < len(suspects) <= _MOST_SUSPECTS:
        return []
    place = Place(at.frame, {})
    place.package, place.version = suspects[0]
    names = ", ".join(f"{name} {number}".rstrip() for name, number in suspects)
    who = f"the only package with C code that is loaded is {names}" if len(suspects) == 1 else f"packages with C code that are loaded: {names}"  # fmt: skip
    says += f": C code keeps it; {who}.{busiest}"
    if lines:
        says += f" Look at what is called of {'it' if len(suspects) == 1 else 'them'} there, and try another version."
    confidence = LIKELY if len(suspects) == 1 else POSSIBLE
    return [finding(confidence, says, place, rests_on, function=at.function)]


def _kept(facts: "Facts") -> float:
    """Return which share of the growth of right now Python allocated; 1 where that is not known."""
    seconds, grown, _ = facts.growing
    window_s = float(facts.census.get("window_s") or 0)
    if grown < _LEAST_GROWN or seconds <= 0 or window_s <= 0:
        return 1.0
    kept = sum(int(site["bytes"]) for site in facts.census.get("allocated") or ())
    return (kept / window_s) / (grown / seconds)


def _own_lines(facts: "Facts") -> "list[Place]":
    """Return the program's own lines that were found at work, the busiest first; a pause is none."""
    counts: dict[str, int] = {}
    for _, frames, count in facts.profile.rows if facts.profile else ():
        own = next(
            (p for p in owners.places(reversed(frames), facts.owners) if not p.package), None
        )
        if own is not None and "sleep(" not in facts.source.get(own.frame, ""):
            counts[own.frame] = counts.get(own.frame, 0) + count
    return [Place(frame, facts.owners) for frame in sorted(counts, key=lambda f: (-counts[f], f))]


def _suspects(facts: "Facts") -> "list[tuple[str, str]]":
    """Return the packages with C code, those first that are at work or whose objects are there in numbers."""
    known = {str(e["package"]): str(e.get("version") or "") for e in facts.extensions}
    seen: dict[str, int] = dict.fromkeys(known, 0)
    for _, frames, count in facts.profile.rows if facts.profile else ():
        for package in {
            place.package for place in owners.places(frames, facts.owners)
        } & seen.keys():
            seen[package] += 1000 * count
    for row in facts.census.get("own") or ():
        module = facts.modules.get(str(row["type"]).partition(".")[0])
        if module is not None and str(module[0]) in seen:
            seen[str(module[0])] += int(row.get("count") or 0)
    return sorted(known.items(), key=lambda one: (-seen[one[0]], one[0]))


def _types(facts: "Facts") -> "list[dict[str, Any]]":
    """Types of objects of which there are more and more."""
    grown = [
        t
        for t in facts.census.get("grown") or ()
        # Some become more because the program works; what leaks is a share of all there is of it.
        if int(t.get("more") or 0)
        >= max(
            _FEW_OBJECTS if str(t["type"]).startswith(_PLAIN) else _FEW_OF_A_KIND,
            int(t.get("count") or 0) // 100,
        )
    ]
    if not grown:
        return []
    # Dictionaries grow with everything: a type of somebody's says more.
    grown.sort(key=lambda t: (str(t["type"]).startswith(_PLAIN), -int(t["more"])))
    named = ", ".join(f"{t['type']} (+{t['more']}, {t['count']} in all)" for t in grown[:3])
    holder = facts.census.get("held_by") or []
    frames = [str(h["where"]) for h in holder if h.get("where")]
    mine = owners.places(frames, facts.owners)
    place = mine[0] if mine else None
    if place is None:
        package = next((facts.modules[m] for t in grown for m in [str(t["type"]).partition(".")[0]] if m in facts.modules), None)  # fmt: skip
        if package is not None:
            place = Place("", {})
            place.package, place.version = str(package[0]), str(package[1])
    window = duration(float(facts.census.get("window_s") or 0))
    says = f"The objects that became more within {window}: {named}.{_held(facts)}"
    return [finding(LIKELY if place else POSSIBLE, says, place, ["census.json"])]


def _held(facts: "Facts") -> str:
    holder = [str(h.get("says")) for h in facts.census.get("held_by") or () if h.get("says")]
    return f" They are held by {' in '.join(holder[:4])}." if holder else ""


def mappings(facts: "Facts") -> "list[dict[str, Any]]":
    """Which part of the address space grew."""
    grown = sorted(((int(m["grown"]), str(m["name"])) for m in facts.mappings if int(m["grown"]) > 0), reverse=True)  # fmt: skip
    total = sum(count for count, _ in grown)
    if not grown or total < 1 << 16:
        return []
    count, name = grown[0]
    meaning = {
        "[heap]": "memory that C code takes with malloc, and large Python objects",
        "anonymous": "Python objects, and large blocks of C code",
        "[stack]": "stacks of threads",
    }.get(name, "")
    span = duration(float(facts.mappings_s))
    says = f"{count / total:.0%} of the growth ({size(count)} in {span}) is in {name}" + (f": {meaning}." if meaning else ".")  # fmt: skip
    return [finding(POSSIBLE, says, None, ["memory.json"])]


def descriptors(facts: "Facts") -> "list[dict[str, Any]]":
    """Return what most open files have in common, and whose objects they are."""
    fds = facts.process.get("fds") or {}
    targets = sorted(((int(n), str(t)) for t, n in (fds.get("targets") or {}).items()), reverse=True)  # fmt: skip
    if not targets:
        return []
    count, target = targets[0]
    limit = fds.get("limit")
    allowed = f" of {limit} allowed" if limit else ""
    says = f"{fds.get('count')} descriptors{allowed} are open; {count} of them are {target}."
    place, held, rests_on = _holder(facts, int(fds.get("count") or count))
    says += held
    if place is None:
        hot = profile.hottest(facts.profile, owners.is_machinery) if facts.profile else None
        mine = owners.places(reversed(hot.path), facts.owners) if hot else []
        if mine:
            place = mine[0]
            says += f" The busiest code meanwhile was {in_words(place, facts)}{caller(mine, 0, facts)}."  # fmt: skip
    says += " Something opens them and never closes them: look for an open without `with`, or a client made anew for each request."
    return [finding(LIKELY, says, place, ["process.json", *rests_on])]


def _holder(facts: "Facts", descriptors: int) -> "tuple[Place | None, str, list[str]]":
    """Return who has so many open, told by objects of which there are about as many, or a half, or a third."""
    rows = [
        t for t in facts.census.get("own") or ()
        if descriptors / _FILES_EACH <= int(t.get("count") or 0) <= 1.2 * descriptors and not str(t["type"]).startswith("__main__.")
    ]  # fmt: skip
    rows.sort(key=lambda t: (-int(t.get("more") or 0), -int(t["count"])))
    sites = [owners.places(s.get("frames") or (), facts.owners) for s in facts.census.get("allocated") or ()]  # fmt: skip
    for row in rows:
        package = facts.modules.get(str(row["type"]).partition(".")[0])
        if package is None:
            continue
        place = Place("", {})
        place.package, place.version = str(package[0]), str(package[1])
        place.function = str(row["type"])
        says = f" There are {row['count']} objects of {row['type']} ({place.owner()})"
        made = next((m for m in sites for p in m if p.package == place.package), [])
        if made:
            own = next((p for p in made if not p.package), None)
            at = own or made[0]
            says += f", made by {in_words(at, facts)}"
            place.frame = at.frame
        return place, says + ".", ["census.json"]
    # What allocates and keeps is the next best: whoever opens makes an object for it.
    mine = next((m for m in sites if m), [])
    if mine:
        return mine[0], f" Objects that stay are made by {in_words(mine[0], facts)}{caller(mine, 0, facts)}.", ["census.json"]  # fmt: skip
    return None, "", []


def handlers(facts: "Facts") -> "list[dict[str, Any]]":
    """Return who adds handler after handler to a logger, each of which writes every line once more."""
    rows = [r for r in facts.sites.get("handlers") or () if type(r) is list and len(r) >= 4]
    if not rows:
        return []
    number, count, logger, site = rows[0]
    place = Place(str(site), facts.owners)
    says = (
        f'The logger "{one_line(str(logger), 60)}" has {number} handlers, so each line is written {number} times: {count} of them were added by'
        f" {in_words(place, facts)}. Add a handler once, when the program starts."
    )
    return [finding(CERTAIN, says, place, ["sites.json"])]


def log_storm(facts: "Facts") -> "list[dict[str, Any]]":
    """Return the line that most of the log consists of."""
    if not facts.log_patterns:
        return []
    count, pattern = facts.log_patterns[0]
    total = sum(n for n, _ in facts.log_patterns) or 1
    says = f"{count / total:.0%} of its last lines are alike: `{one_line(pattern, 160)}`."
    mine = _writer(facts)
    if not mine:
        return [finding(LIKELY, says, None, ["log.txt"])]
    says += f" Most of them are written by {in_words(mine[0], facts)}{caller(mine, 0, facts)}."
    return [finding(LIKELY, says, mine[0], ["log.txt", "profile.txt"])]


def _writer(facts: "Facts") -> "list[Place]":
    """Return the places on the stack that was most often found below a call of ``logging``, innermost first; else of the hottest."""
    if facts.profile is None:
        return []
    counts: dict[tuple[str, ...], int] = {}
    for _, frames, count in facts.profile.rows:
        at = next((at for at, frame in enumerate(frames) if "/logging/__init__.py:" in frame), 0)
        if at:
            counts[frames[:at]] = counts.get(frames[:at], 0) + count
    if counts:
        most = max(counts, key=lambda key: (counts[key], key))
        return owners.places(reversed(most), facts.owners)
    hot = profile.hottest(facts.profile, owners.is_machinery)
    return owners.places(reversed(hot.path), facts.owners) if hot else []
