"""Who is to blame, and what can a person do about it?

Pure rules over a bundle. Each returns findings: a paragraph with the package, the version and the function by name, how
sure that is, and the evidence it rests on. Which rules are asked follows from the kind of the incident; the surest answer
comes first. No rule knows a particular package: what is true of one library's bug has to be true of the next one's.
"""

from holdfast.diagnosis import owners, profile, regexes
from holdfast.diagnosis.lastwords import split_frame
from holdfast.diagnosis.owners import Place
from holdfast.diagnosis.words import (  # fmt: skip
    FAULTS,
    duration,
    exit_code_of,
    one_line,
    signal_name,
    signal_of,
    size,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from holdfast.diagnosis.findings import Facts

CERTAIN, LIKELY, POSSIBLE = "certain", "likely", "possible"
_ORDER = (CERTAIN, LIKELY, POSSIBLE)
_LONGEST = 700
#: A profile of fewer samples proves nothing.
_FEW_SAMPLES = 5
#: A loop whose beat is so much older than that of the plain thread is blocked.
_LATE_NS = 700_000_000
#: Fewer objects more are noise.
_FEW_OBJECTS, _FEW_OF_A_KIND = 50, 20
_PLAIN = ("builtins.", "weakref.", "functools.", "collections.", "types.", "_thread.")
#: A creating line that made at least this share of all is the one.
_MOST_SHARE = 0.5
_BOMBS = {"task_bomb": "tasks", "thread_bomb": "threads"}
#: Where a thread is that holds the program up; its own kinds are told by the rules for stacks and profiles.
_STUCK = ("hang", "probe", "start", "deadlock", "pegged", "slow", "loop_lag", "odd_one_out")
_MEMORY = ("memory", "memory_leak", "oom", "memory_pressure")


def findings(
    facts: "Facts", kind: str, stacks: "list[dict[str, Any]]", blamed: "dict[str, Any] | None"
) -> "list[dict[str, Any]]":
    """Return what can be said about the culprit, the surest first; empty when nothing can.

    Args:
        facts: The bundle.
        kind: Of the incident.
        stacks: Of all threads.
        blamed: The stack that the symptom points to, where one does.
    """
    found: list[dict[str, Any]] = []
    fatal = str(facts.report.fatal or "") if facts.report else ""
    if signal_of(facts.order.get("status")) in FAULTS or fatal.startswith("Fatal "):
        found += _fault(facts, stacks)
    found += _deadlock(facts, stacks)
    if kind in _BOMBS or kind == "child_bomb":
        found += _bomb(facts, kind)
    if kind in _MEMORY:
        found += _memory(facts)
    if kind == "fd_leak":
        found += _descriptors(facts)
    if kind == "log_storm":
        found += _log_storm(facts)
    if kind in _STUCK or kind in _MEMORY:
        found += _busy(facts, memory=kind in _MEMORY)
    if kind in _STUCK and not found:
        found += _waiting(facts, blamed)
    if kind in ("exit", "crash") and not found:
        found += _blocked_at_the_end(facts)
    if not found and facts.uncaught is not None and exit_code_of(facts.order.get("status")):
        found += _exception(facts)
    found.sort(key=lambda one: _ORDER.index(one["confidence"]))
    for one in found:
        _since(facts, one)
        one["says"] = one_line(one["says"], _LONGEST)
    return found


def _finding(
    confidence: str, says: str, place: "Place | None", rests_on: "Sequence[str]", **more: "Any"
) -> "dict[str, Any]":
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


def _since(facts: "Facts", one: "dict[str, Any]") -> None:
    """Say whether the culprit is new here: most failures follow a change."""
    package = str(one["package"]).lower().replace("_", "-")
    path = split_frame(str(one["where"]))[0]
    for said in facts.changed:
        words = said.split()
        same_package = package and words[:2] == ["package", package]
        same_file = len(words) > 1 and words[0] == "file" and path.endswith("/" + words[1])
        if same_package or same_file:
            one["says"] += f" Since the last good start: {said}." if same_package else f" Lately: {said}."  # fmt: skip
            one["rests_on"].append("environment.json")
            return


def _in_words(place: Place, facts: "Facts") -> str:
    """Return "aiohttp 3.9.3 in MultipartReader.next (aiohttp/multipart.py:301)", with the line of code where it is known."""
    directory = str(facts.plan.get("directory") or "")
    source = facts.source.get(place.frame)
    quoted = f": `{one_line(source, 90)}`" if source else ""
    owner = f"{place.owner()}, " if place.package else ""
    return f"{owner}{place.short(directory)}{quoted}"


def _caller(mine: "Sequence[Place]", after: int, facts: "Facts") -> str:
    """Return the application's own line from which a package was called, as a clause; "" when it is the place itself."""
    if not mine[after].package:
        return ""
    own = next((p for p in mine[after + 1 :] if not p.package), None)
    if own is None:
        return ""
    return f", called from {own.short(str(facts.plan.get('directory') or ''))}"


def _way(mine: "Sequence[Place]") -> str:
    """Return the functions of the same package that led to the place, nearest first, as a clause."""
    first = mine[0]
    if not first.package:
        return ""
    names = dict.fromkeys(
        p.short() for p in mine[1:] if p.package == first.package and p.function != first.function
    )
    return f", by way of {' <- '.join(list(names)[:4])}" if names else ""


# -- crashes in C ----------------------------------------------------------------------------------


def _fault(facts: "Facts", stacks: "list[dict[str, Any]]") -> "list[dict[str, Any]]":
    number = signal_of(facts.order.get("status"))
    fatal = facts.report.fatal if facts.report else None
    what = signal_name(number) if number else str(fatal)
    detail = f" ({facts.report.detail})" if facts.report and facts.report.detail else ""
    stack = next((s for s in stacks if s["current"]), stacks[0] if stacks else None)
    frames = stack["frames"] if stack else []
    mine = owners.places(frames, facts.owners)
    found = []
    library = str(facts.oom.get("fault_library") or "")
    owner = facts.libraries.get(library)
    if library and owner:
        place = Place(f"{library} in {mine[0].function if mine else '?'}", {library: owner})
        found.append(_finding(
            CERTAIN,
            f"{what}{detail} inside {place.owner()}: the kernel says that the fault is in its library {library.rpartition('/')[2]}"
            + (f", reached from {mine[0].short()}." if mine else "."),
            place, ["kernel.txt"],
        ))  # fmt: skip
    called = [c for c in facts.calls.get(mine[0].frame, ()) if c["package"] or c["is_c"]] if mine else []  # fmt: skip
    if called:
        one = called[-1] if len(called) == 1 else next((c for c in called if c["is_c"]), called[0])
        place = Place(mine[0].frame, {})
        place.package, place.version = one["package"] or one["module"].partition(".")[0], one["version"]  # fmt: skip
        name = f"{place.owner()}, a C extension" if one["is_c"] and one["package"] else place.owner()  # fmt: skip
        found.append(_finding(
            LIKELY,
            f"{what}{detail} in {one['module']} ({name}), called by {_in_words(Place(mine[0].frame, facts.owners), facts)}."
            " It broke memory, or was given something it cannot take: try another version of it, and report it with this bundle.",
            place, ["stacks.txt", "log.txt"], function=one["module"],
        ))  # fmt: skip
    elif mine and not found:
        library = next((f for f in frames if owners.is_machinery(split_frame(f)[0])), "")
        via = f" through {split_frame(library)[2]}" if library and frames[0] == library else ""
        found.append(_finding(
            LIKELY, f"{what}{detail} in C code called{via} by {_in_words(mine[0], facts)}{_caller(mine, 0, facts)}.",
            mine[0], ["stacks.txt", "log.txt"],
        ))  # fmt: skip
    elif not found:
        found += _extensions(facts, f"{what}{detail}")
    return found


def _extensions(facts: "Facts", what: str) -> "list[dict[str, Any]]":
    """No frame of the crash is known: the C extensions that were there are the suspects."""
    suspects = sorted({(str(e["package"]), str(e["version"])) for e in facts.extensions})
    if not suspects or len(suspects) > 5:
        return []
    names = ", ".join(f"{name} {version}".rstrip() for name, version in suspects)
    place = Place(f"{suspects[0][0]} in ?", {})
    place.function = ""
    place.package, place.version = suspects[0]
    place.frame = ""
    if len(suspects) == 1:
        says = (
            f"{what}, and the interpreter left no stack: memory was broken earlier than it was noticed. The only package with C code"
            f" that this program loads is {names}: try another version of it, or run with PYTHONMALLOC=debug to be told sooner."
        )
        return [_finding(LIKELY, says, place, ["log.txt", "environment.json"])]
    says = f"{what}, and the interpreter left no stack. Packages with C code that this program loads: {names}."
    return [_finding(POSSIBLE, says, place, ["log.txt", "environment.json"])]


def _exception(facts: "Facts") -> "list[dict[str, Any]]":
    error = facts.uncaught
    if error is None:
        return []
    mine = owners.places(error.frames, facts.owners)
    if not mine:
        return []
    says = (
        f"{error.kind.rpartition('.')[2]}: {error.message} was raised in {_in_words(mine[0], facts)}"
        f"{_caller(mine, 0, facts)}, and nobody caught it."
    )
    return [_finding(CERTAIN, says, mine[0], ["log.txt"])]


# -- waiting ---------------------------------------------------------------------------------------


def _deadlock(facts: "Facts", stacks: "list[dict[str, Any]]") -> "list[dict[str, Any]]":
    """A lock that its own holder waits for; two threads in each other's locks."""
    for stack in stacks:
        mine = owners.places(stack["frames"], facts.owners)
        if not mine or not _takes_lock(facts, stack, mine[0]):
            continue
        first = mine[0]
        again = next(
            (at for at in range(1, len(mine)) if (mine[at].path, mine[at].function) == (first.path, first.function)),
            0,
        )  # fmt: skip
        if not again:
            continue
        between = mine[1:again]
        through = next((p for p in between if p.function.rpartition(".")[2] in ("__del__", "handler", "_handle_signal")), None)  # fmt: skip
        how = f" through {through.short()}, which ran in between" if through else ""
        says = (
            f"Deadlock of a thread with itself: {stack['thread']} waits for a lock in {_in_words(first, facts)} while it holds that lock"
            f" already: it came there a second time{how} (first at line {mine[again].line}). A lock that is not re-entrant never opens"
            " to its own holder: keep whatever runs inside it from coming back here, or use an RLock."
        )
        return [_finding(LIKELY, says, first, ["stacks.txt"])]
    waiting = [s for s in stacks if s.get("doing") == "waits for a lock"]
    held = []
    for stack in waiting:
        mine = owners.places(stack["frames"], facts.owners)
        if mine and _takes_lock(facts, stack, mine[0]):
            held.append((stack, mine))
    if len(held) < 2:
        return []
    places = "; ".join(f"{s['thread']} in {_in_words(m[0], facts)}" for s, m in held[:3])
    says = (
        f"Deadlock: {len(held)} threads wait for locks and none of them runs: {places}. Take these locks in one order"
        " everywhere, or with a timeout."
    )
    return [_finding(LIKELY, says, held[0][1][0], ["stacks.txt", "process.json"])]


def _takes_lock(facts: "Facts", stack: "dict[str, Any]", place: Place) -> bool:
    if stack.get("doing") not in (None, "waits for a lock", "waits"):
        return False
    innermost = split_frame(stack["frames"][0])
    known = [f for f in facts.sites.get("stuck") or () if type(f) is list and f]
    if any(innermost[:2] == split_frame(str(frames[0]))[:2] for frames in known):
        return True  # the agent knows the instruction
    if innermost[0].endswith("/threading.py") and innermost[2].rpartition(".")[2] in ("acquire", "__enter__", "join"):  # fmt: skip
        return innermost[2].rpartition(".")[2] != "join"
    source = facts.source.get(place.frame, "")
    return ".acquire(" in source or (source.startswith("with ") and "lock" in source.lower())


def _waiting(facts: "Facts", blamed: "dict[str, Any] | None") -> "list[dict[str, Any]]":
    """It stands still: the line where, and what it waits for."""
    mine = owners.places(blamed["frames"], facts.owners) if blamed else []
    if not mine or blamed is None:
        return []
    doing = str(blamed.get("doing") or "")
    if doing == "runs on the CPU" or (not doing and blamed.get("active")):
        regex = regexes.call_of(blamed["frames"], facts.source.get(mine[0].frame, ""))
        says = f"{blamed['thread']} computes in {_in_words(mine[0], facts)}{_caller(mine, 0, facts)} and lets nothing else run."
        if regex:
            says += regexes.ADVICE.format(function=regex)
        return [_finding(LIKELY, says, mine[0], ["stacks.txt", "process.json"])]
    at = f"{blamed['thread']} {doing or 'stands'} in {_in_words(mine[0], facts)}{_caller(mine, 0, facts)}"
    lock = doing == "waits for a lock"
    advice = " Whoever holds that lock does not give it back." if lock else " Nothing else of that thread runs meanwhile: give the call a timeout, or move it to a thread of its own."  # fmt: skip
    if not facts.pulse.get("loop_beat_ns") and doing.startswith("waits for events"):
        return []  # that is how a program with nothing to do looks
    return [_finding(LIKELY, at + "." + advice, mine[0], ["stacks.txt", "process.json"])]


# -- computing -------------------------------------------------------------------------------------


def _busy(facts: "Facts", *, memory: bool) -> "list[dict[str, Any]]":
    taken = facts.profile
    if taken is None or taken.samples() < _FEW_SAMPLES:
        return []
    hot = profile.hottest(taken, owners.is_machinery)
    if hot is None:
        return []
    mine = owners.places(reversed(hot.path), facts.owners)
    if not mine:
        return []
    place = mine[0]
    calls = facts.calls.get(place.frame) or []
    native = [Place(f, facts.owners) for f in hot.inner if split_frame(f)[0].endswith(".so")]
    extension = next((p for p in native if p.package), None)
    inside = ""
    if extension is not None:
        inside = f", inside {extension.owner()}, {extension.function} (C)"
    elif hot.inner:
        inside = f", in {Place(hot.inner[-1], facts.owners).short()}"
    called = next((c for c in calls if c["package"] and c["is_c"]), None)
    share = f"{hot.share:.0%} of {taken.samples()} samples in {duration(taken.seconds)}"
    regex = regexes.call_of(list(reversed(hot.inner)), facts.source.get(place.frame, ""))
    own = _way(mine) + _caller(mine, 0, facts)
    culprit = place
    if extension is not None:
        culprit = extension
    elif called is not None and not place.package:
        culprit = Place(place.frame, {})
        culprit.package, culprit.version = called["package"], called["version"]
        culprit.function = called["module"]
        inside = inside or f", which calls {called['module']} ({culprit.owner()}, C code)"
    if memory:
        says = f"While memory grew, the busiest code was {_in_words(place, facts)}{inside}{own} ({share})."
        says += _route(facts)
        return [_finding(POSSIBLE, says, culprit, ["profile.txt"], function=culprit.function)]
    says = f"The time goes into {_in_words(place, facts)}{inside}{own}: {share}."
    if regex:
        says += regexes.ADVICE.format(function=regex)
    says += _route(facts)
    confidence = LIKELY if hot.share >= _MOST_SHARE else POSSIBLE
    return [_finding(confidence, says, culprit, ["profile.txt", "samples.json"])]


def _blocked_at_the_end(facts: "Facts") -> "list[dict[str, Any]]":
    """A process that ended while its event loop was blocked: the agent had looked where."""
    pulse = facts.pulse
    late_ns = int(pulse.get("thread_beat_ns") or 0) - int(pulse.get("loop_beat_ns") or 0)
    if late_ns < _LATE_NS or not pulse.get("loop_beat_ns"):
        return []
    found = _busy(facts, memory=False)
    for one in found:
        one["says"] = (
            f"When it ended, its event loop had been blocked for {duration(late_ns / 1e9)}. {one['says']}"
        )
        one["rests_on"] = ["sites.json", "pulse.json"]
    return found


def _route(facts: "Facts") -> str:
    """Name the route that costs most, where the agent counts routes."""
    routes = [r for r in facts.pulse.get("routes") or () if r.get("cpu_ns") or r.get("latency_sum_ns")]  # fmt: skip
    if not routes:
        return ""
    top = max(routes, key=lambda r: (r.get("cpu_ns") or 0, r.get("latency_sum_ns") or 0))
    count = max(1, int(top.get("count") or 0))
    each = (top.get("cpu_ns") or top.get("latency_sum_ns") or 0) / count / 1e6
    return f" The route that costs most is {top['name']} ({count} times, {each:.1f} ms each)."


# -- bombs -----------------------------------------------------------------------------------------


def _bomb(facts: "Facts", kind: str) -> "list[dict[str, Any]]":
    if kind == "child_bomb":
        return _children(facts)
    what = _BOMBS[kind]
    rows = [r for r in facts.sites.get(what) or () if type(r) is list and len(r) >= 3]
    if rows:
        return [_creator(facts, what, rows)]
    if what == "threads":
        return _alike(facts)
    return []


def _creator(facts: "Facts", what: str, rows: "list[list[Any]]") -> "dict[str, Any]":
    rows.sort(key=lambda row: (-int(row[1] or 0), -int(row[0])))
    count, live, site = int(rows[0][0]), int(rows[0][1] or 0), str(rows[0][2])
    chain = [site, *(str(f) for f in (rows[0][3] if len(rows[0]) > 3 else ()))]
    mine = owners.places(chain, facts.owners)
    total = sum(int(row[0]) for row in rows) or 1
    directory = str(facts.plan.get("directory") or "")
    place = mine[0] if mine else Place(site, facts.owners)
    by = ""
    if mine and mine[0].frame != site:
        by = f" (by way of {Place(site, facts.owners).short()})"
    creators = [p.short(directory) for p in mine[1:4]]
    causes = f" Before that: {' <- '.join(creators)}." if creators else ""
    alive = f", {live} of them are still there" if live else ""
    says = (
        f"{count} {what} were created by {_in_words(place, facts)}{by}{alive}; that is {count / total:.0%} of all."
        f"{causes} Nothing there waits for the earlier ones: bound it (a semaphore, a pool, a queue of fixed length)."
    )
    confidence = CERTAIN if count / total >= _MOST_SHARE else LIKELY
    return _finding(confidence, says, place, ["sites.json", "pulse.json"], count=count, live=live)


def _alike(facts: "Facts") -> "list[dict[str, Any]]":
    """Nobody counted: the stack that most threads have tells what they do, the main thread who starts them."""
    groups: dict[tuple[str, ...], int] = {}
    for stack in facts.live_stacks:
        key = tuple(stack["frames"])
        groups[key] = groups.get(key, 0) + int(stack.get("alike") or 1)
    if not groups:
        return []
    most = max(groups, key=lambda k: (groups[k], k))
    mine = owners.places(most, facts.owners)
    doing = Place(most[0], facts.owners).short() if most else "?"
    main = next((s for s in facts.live_stacks if s["thread"].startswith("MainThread")), None)
    starter = owners.places(main["frames"], facts.owners) if main else []
    # Threads of a pool have no frame of whoever made the pool; the main thread often still stands there.
    place = mine[0] if mine else starter[0] if starter else None
    if place is None:
        return []
    says = f"{groups[most]} threads stand in the same place, {doing}"
    if not mine:
        says += f"; the main thread is in {_in_words(place, facts)}{_caller(starter, 0, facts)}, which may be what starts them"
    else:
        says += f", started to run {_in_words(place, facts)}"
    return [_finding(LIKELY if mine else POSSIBLE, says + ".", place, ["stacks.txt"])]


def _children(facts: "Facts") -> "list[dict[str, Any]]":
    children = facts.process.get("children") or []
    counts: dict[str, int] = {}
    for child in children:
        counts[str(child.get("command") or "?")] = counts.get(str(child.get("command") or "?"), 0) + 1  # fmt: skip
    if not counts:
        return []
    command = max(counts, key=lambda k: (counts[k], k))
    main = next((s for s in facts.live_stacks if s["frames"]), None)
    mine = owners.places(main["frames"], facts.owners) if main else []
    where = f"; the program is in {_in_words(mine[0], facts)}{_caller(mine, 0, facts)}" if mine else ""  # fmt: skip
    says = f"{len(children)} child processes, {counts[command]} of them `{one_line(command, 80)}`{where}."
    return [_finding(POSSIBLE, says, mine[0] if mine else None, ["process.json", "stacks.txt"])]


# -- memory and descriptors ------------------------------------------------------------------------


def _memory(facts: "Facts") -> "list[dict[str, Any]]":
    return [*_allocations(facts), *_types(facts), *_mappings(facts)]


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
        f" {_in_words(place, facts)}{_caller(mine, 0, facts)}."
    )
    culprit = place
    if called is not None and not place.package:
        culprit = Place(place.frame, {})
        culprit.package, culprit.version = called["package"], called["version"]
        culprit.function = called["module"]
        says += f" It was allocated on behalf of {called['module']} ({culprit.owner()}, C code), which may not let go of it."
    confidence = LIKELY if share >= _MOST_SHARE else POSSIBLE
    return [_finding(confidence, says + _held(facts), culprit, ["census.json"])]


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
    return [_finding(LIKELY if place else POSSIBLE, says, place, ["census.json"])]


def _held(facts: "Facts") -> str:
    holder = [str(h.get("says")) for h in facts.census.get("held_by") or () if h.get("says")]
    return f" They are held by {' in '.join(holder[:4])}." if holder else ""


def _mappings(facts: "Facts") -> "list[dict[str, Any]]":
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
    return [_finding(POSSIBLE, says, None, ["memory.json"])]


def _descriptors(facts: "Facts") -> "list[dict[str, Any]]":
    fds = facts.process.get("fds") or {}
    targets = sorted(((int(n), str(t)) for t, n in (fds.get("targets") or {}).items()), reverse=True)  # fmt: skip
    if not targets:
        return []
    count, target = targets[0]
    limit = fds.get("limit")
    allowed = f" of {limit} allowed" if limit else ""
    says = f"{fds.get('count')} descriptors{allowed} are open; {count} of them are {target}."
    hot = profile.hottest(facts.profile, owners.is_machinery) if facts.profile else None
    mine = owners.places(reversed(hot.path), facts.owners) if hot else []
    if mine:
        says += (
            f" The busiest code meanwhile was {_in_words(mine[0], facts)}{_caller(mine, 0, facts)}."
        )
    says += " Something opens them and never closes them: look for an open without `with`, or a client made anew for each request."
    return [_finding(LIKELY, says, mine[0] if mine else None, ["process.json"])]


def _log_storm(facts: "Facts") -> "list[dict[str, Any]]":
    if not facts.log_patterns:
        return []
    count, pattern = facts.log_patterns[0]
    total = sum(n for n, _ in facts.log_patterns) or 1
    says = f"{count / total:.0%} of its last lines are alike: `{one_line(pattern, 160)}`."
    return [_finding(LIKELY, says, None, ["log.txt"])]
