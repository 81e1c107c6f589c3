"""Who is to blame, and what can a person do about it?

Pure rules over a bundle. Each returns findings: a paragraph with the package, the version and the function by name, how
sure that is, and the evidence it rests on. Which rules are asked follows from the kind of the incident; the surest answer
comes first. No rule knows a particular package: what is true of one library's bug has to be true of the next one's.
"""

from holdfast.diagnosis import deadlocks, growing, owners, profile, regexes, waiting
from holdfast.diagnosis.lastwords import split_frame
from holdfast.diagnosis.owners import Place
from holdfast.diagnosis.telling import (
    CERTAIN,
    LIKELY,
    MOST_SHARE,
    POSSIBLE,
    caller,
    finding,
    in_words,
    way,
)
from holdfast.diagnosis.words import (  # fmt: skip
    FAULTS,
    duration,
    exit_code_of,
    one_line,
    signal_name,
    signal_of,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from holdfast.diagnosis.findings import Facts

_ORDER = (CERTAIN, LIKELY, POSSIBLE)
_LONGEST = 700
#: A profile of fewer samples proves nothing; from the lesser number on it is worth a guess where nothing else is known.
_FEW_SAMPLES, _FEWEST_SAMPLES = 5, 2
#: So many samples a second (of 50) are taken of a process that is at work, not of one that waits.
_AT_WORK = 25
#: A loop whose beat is so much older than that of the plain thread is blocked.
_LATE_NS = 700_000_000
_BOMBS = {"task_bomb": "tasks", "thread_bomb": "threads"}
#: Where a thread is that holds the program up; its own kinds are told by the rules for stacks and profiles.
_STUCK = (
    "hang",
    "probe",
    "start",
    "deadlock",
    "pegged",
    "slow",
    "stalled",
    "loop_lag",
    "odd_one_out",
)
#: Work that costs more than it did, though the program does not stand still.
_COSTS = ("slow", "loop_lag", "odd_one_out", "pegged")
#: Where requests that do not end may be the answer.
_WAITS = ("stalled", "slow", "probe")
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
    found += deadlocks.deadlock(facts, stacks)
    if kind in _BOMBS or kind == "child_bomb":
        found += _bomb(facts, kind)
    if kind in (*_STUCK, *_MEMORY, "log_storm", "fd_leak"):
        found += growing.handlers(facts)
    of_kind = _of_kind(facts, kind)
    busy = _busy(facts, memory=kind in _MEMORY) if kind in _STUCK or kind in _MEMORY else []
    # Whoever waits for a thread that computes waits for no server: then the line that computes is the answer.
    found += busy + of_kind if _computes(facts, kind) else of_kind + busy
    if kind in _MEMORY:
        found += growing.mappings(facts)
    if kind in _STUCK and not found:
        found += _waiting(facts, blamed)
    if kind in _COSTS and not found:
        found += _busy(facts, memory=False, least=_FEWEST_SAMPLES) or _costly(facts)
    if kind in ("exit", "crash") and not found:
        found += _blocked_at_the_end(facts)
    if not found and facts.uncaught is not None and exit_code_of(facts.order.get("status")):
        found += _exception(facts)
    found.sort(key=lambda one: _ORDER.index(one["confidence"]))
    for one in found:
        _since(facts, one)
        one["says"] = one_line(one["says"], _LONGEST)
    return found


def _of_kind(facts: "Facts", kind: str) -> "list[dict[str, Any]]":
    if kind in _MEMORY:
        return growing.memory(facts)
    if kind == "fd_leak":
        return growing.descriptors(facts)
    if kind == "log_storm":
        return growing.log_storm(facts)
    return waiting.stalled(facts) if kind in _WAITS else []


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
    by_core, within = _core(facts, f"{what}{detail}", mine)
    if by_core:
        return by_core
    library = str(facts.oom.get("fault_library") or "")
    owner = facts.libraries.get(library)
    if library and owner:
        place = Place(f"{library} in {mine[0].function if mine else '?'}", {library: owner})
        found.append(finding(
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
        found.append(finding(
            LIKELY,
            f"{what}{detail} in {one['module']} ({name}), called by {in_words(Place(mine[0].frame, facts.owners), facts)}.{within}"
            " It broke memory, or was given something it cannot take: try another version of it, and report it with this bundle.",
            place, ["stacks.txt", "log.txt", *(["core.txt"] if within else [])], function=one["module"],
        ))  # fmt: skip
    elif mine and not found:
        library = next((f for f in frames if owners.is_machinery(split_frame(f)[0])), "")
        via = f" through {split_frame(library)[2]}" if library and frames[0] == library else ""
        found.append(finding(
            LIKELY, f"{what}{detail} in C code called{via} by {in_words(mine[0], facts)}{caller(mine, 0, facts)}.{within}",
            mine[0], ["stacks.txt", "log.txt", *(["core.txt"] if within else [])],
        ))  # fmt: skip
    elif not found:
        found += _extensions(facts, f"{what}{detail}")
    return found


def _core(
    facts: "Facts", what: str, mine: "list[Place]"
) -> "tuple[list[dict[str, Any]], str]":  # fmt: skip
    """Return (the finding, if the core dump shows whose library it was; else a sentence for the others' findings)."""
    if not facts.core:
        return [], ""
    from holdfast.diagnosis import corestacks  # most crashes leave no core

    inner = corestacks.failed_in(facts.core)
    if not inner:
        return [], ""
    library = corestacks.culprit_library(facts.core)
    # The first function of each library: how they call each other is within reach of whoever has the symbols.
    way = " <- ".join(f"{function} ({name})" for name, function in {n: f for f, n in reversed(inner)}.items())  # fmt: skip
    if not library:
        return [], f" The core dump shows where in C: {way}."
    owner = facts.libraries.get(library)
    function = next(f for f, name in inner if name == library)
    place = Place(f"{library} in {function}", {library: owner} if owner else {})
    whose = f"{place.owner()} ({library})" if owner else library
    # In the library itself: the instruction that failed is its own. Reached through another one, it may only have met the damage.
    is_it = inner[0][1] == library
    through = "" if is_it else f" by way of {inner[0][0]} ({inner[0][1]})"
    called = f", called by {in_words(mine[0], facts)}{caller(mine, 0, facts)}" if mine else ""
    return [finding(
        CERTAIN if is_it else LIKELY,
        f"{what} in {function} of {whose}{through}{called}: the core dump shows it.", place, ["core.txt", "stacks.txt"],
    )], ""  # fmt: skip


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
        calls = facts.used.get(place.package) or []
        functions = {call.partition(" (")[0] for call in calls}
        used = f" The program's main file calls {', '.join(calls[:3])}." if calls else ""
        says = (
            f"{what}, and the interpreter left no stack: memory was broken earlier than it was noticed. The only package with C code"
            f" that this program loads is {names}.{used} Try another version of it, or run with PYTHONMALLOC=debug to be told sooner."
        )
        place.function = functions.pop() if len(functions) == 1 else ""
        return [finding(LIKELY, says, place, ["log.txt", "environment.json"])]
    says = f"{what}, and the interpreter left no stack. Packages with C code that this program loads: {names}."
    return [finding(POSSIBLE, says, place, ["log.txt", "environment.json"])]


def _exception(facts: "Facts") -> "list[dict[str, Any]]":
    error = facts.uncaught
    if error is None:
        return []
    mine = owners.places(error.frames, facts.owners)
    if not mine:
        return []
    says = (
        f"{error.kind.rpartition('.')[2]}: {error.message} was raised in {in_words(mine[0], facts)}"
        f"{caller(mine, 0, facts)}, and nobody caught it."
    )
    return [finding(CERTAIN, says, mine[0], ["log.txt"])]


# -- waiting ---------------------------------------------------------------------------------------


def _waiting(facts: "Facts", blamed: "dict[str, Any] | None") -> "list[dict[str, Any]]":
    """It stands still: the line where, and what it waits for."""
    mine = owners.places(blamed["frames"], facts.owners) if blamed else []
    if not mine or blamed is None:
        return []
    doing = str(blamed.get("doing") or "")
    if doing == "runs on the CPU" or (not doing and blamed.get("active")):
        regex = regexes.call_of(blamed["frames"], facts.source.get(mine[0].frame, ""))
        says = f"{blamed['thread']} computes in {in_words(mine[0], facts)}{caller(mine, 0, facts)} and lets nothing else run."
        if regex:
            says += regexes.ADVICE.format(function=regex)
        return [finding(LIKELY, says, mine[0], ["stacks.txt", "process.json"])]
    at = f"{blamed['thread']} {doing or 'stands'} in {in_words(mine[0], facts)}{caller(mine, 0, facts)}"
    lock = doing == "waits for a lock"
    lost = _lost_children(facts) if lock else ""
    advice = lost or " Whoever holds that lock does not give it back." if lock else " Nothing else of that thread runs meanwhile: give the call a timeout, or move it to a thread of its own."  # fmt: skip
    if doing.startswith("waits for events") and not _is_blocked(facts):
        return []  # that is how a program with nothing to do looks
    return [finding(LIKELY, at + "." + advice, mine[0], ["stacks.txt", "process.json"])]


def _is_blocked(facts: "Facts") -> bool:
    """Whether there is a loop that serves, and it was late when the evidence was taken."""
    beat_ns, age_s = facts.pulse.get("loop_beat_ns"), facts.pulse.get("loop_beat_age_s")
    return bool(beat_ns) and (age_s is None or float(age_s) * 1e9 >= _LATE_NS)


def _lost_children(facts: "Facts") -> str:
    died = [number for number in facts.sites.get("died") or () if type(number) is int]
    if not died:
        return ""
    who = "A child process has" if len(died) == 1 else f"{len(died)} child processes have"
    return (
        f" {who} died of {signal_name(died[0])}: what it was doing is lost, and whoever waits for its result waits for ever."
        " Give the wait a timeout, or use concurrent.futures, which tells."
    )


# -- computing -------------------------------------------------------------------------------------


def _costly(facts: "Facts") -> "list[dict[str, Any]]":
    """Nobody saw it at work: the route that costs most is what there is to say."""
    route = _route(facts)
    return [finding(POSSIBLE, route.strip(), None, ["pulse.json"])] if route else []


def _busy(facts: "Facts", *, memory: bool, least: int = _FEW_SAMPLES) -> "list[dict[str, Any]]":
    taken = facts.profile
    if taken is None or taken.samples() < least:
        return []
    hot = profile.hottest(taken, owners.is_machinery)
    if hot is None:
        return []
    mine = owners.places(reversed(hot.path), facts.owners)
    if not mine:
        return []
    place = mine[0]
    native = [Place(f, facts.owners) for f in hot.inner if split_frame(f)[0].endswith(".so")]
    extension = next((p for p in native if p.package), None)
    inside = ""
    if extension is not None:
        inside = f", inside {extension.owner()}, {extension.function} (C)"
    elif hot.inner:
        inside = f", in {Place(hot.inner[-1], facts.owners).short()}"
    share = f"{hot.share:.0%} of {taken.samples()} samples in {duration(taken.seconds)}"
    regex = regexes.call_of(list(reversed(hot.inner)), facts.source.get(place.frame, ""))
    own = way(mine) + caller(mine, 0, facts)
    culprit, calls_c = _culprit_of(facts, mine, extension)
    inside = inside or calls_c
    if memory:
        says = f"While memory grew, the busiest code was {in_words(place, facts)}{inside}{own} ({share})."
        says += _route(facts)
        return [finding(POSSIBLE, says, culprit, ["profile.txt"], function=culprit.function)]
    if hot.is_spin:
        says = f"The event loop turns without a pause; what it runs is {in_words(place, facts)}{inside}{own}: {share}."
    else:
        says = f"The time goes into {in_words(place, facts)}{inside}{own}: {share}."
    says += _before(facts, place)
    if regex:
        says += regexes.ADVICE.format(function=regex)
    says += _route(facts)
    is_sure = hot.share >= MOST_SHARE and taken.samples() >= _FEW_SAMPLES
    return [
        finding(LIKELY if is_sure else POSSIBLE, says, culprit, ["profile.txt", "samples.json"])
    ]


def _computes(facts: "Facts", kind: str) -> bool:
    """Whether the process is at work, while its requests wait for nothing that has a name."""
    taken = facts.profile
    if kind not in _COSTS or taken is None or waiting.is_known(facts):
        return False
    return taken.samples() >= _AT_WORK * max(0.2, taken.seconds)


def _before(facts: "Facts", place: "Place") -> str:
    """Say how much of the time the same function had on a good day."""
    healthy = facts.healthy
    if healthy is None or healthy.samples() < _FEW_SAMPLES:
        return ""
    return f" On a good day it had {profile.share_of(healthy, place.path, place.function):.0%}."


def _culprit_of(
    facts: "Facts", mine: "list[Place]", extension: "Place | None"
) -> "tuple[Place, str]":
    """Return whom the hot place accuses, and as a clause which C code it calls; names the function as a person knows it."""
    place = mine[0]
    if place.path.endswith(".so"):
        # Names in C say little, and stripped ones nothing: what the line of Python calls is what a person knows.
        line = next((p for p in mine if not p.path.endswith(".so")), None)
        known = facts.calls.get(line.frame) or [] if line else []
        asked = next((c for c in known if c["package"] == place.package), None)
        if asked is not None:
            place.function = f"{asked['module']} (C)"
    if extension is not None:
        return extension, ""
    calls = facts.calls.get(place.frame) or []
    called = next((c for c in calls if c["package"] and c["is_c"]), None)
    if called is None or place.package:
        return place, ""
    culprit = Place(place.frame, {})
    culprit.package, culprit.version = called["package"], called["version"]
    culprit.function = called["module"]
    return culprit, f", which calls {called['module']} ({culprit.owner()}, C code)"


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
        f"{count} {what} were created by {in_words(place, facts)}{by}{alive}; that is {count / total:.0%} of all."
        f"{causes} Nothing there waits for the earlier ones: bound it (a semaphore, a pool, a queue of fixed length)."
    )
    confidence = CERTAIN if count / total >= MOST_SHARE else LIKELY
    return finding(confidence, says, place, ["sites.json", "pulse.json"], count=count, live=live)


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
        says += f"; the main thread is in {in_words(place, facts)}{caller(starter, 0, facts)}, which may be what starts them"
    else:
        says += f", started to run {in_words(place, facts)}"
    return [finding(LIKELY if mine else POSSIBLE, says + ".", place, ["stacks.txt"])]


def _children(facts: "Facts") -> "list[dict[str, Any]]":
    children = facts.process.get("children") or []
    counts: dict[str, int] = {}
    for child in children:
        counts[str(child.get("command") or "?")] = counts.get(str(child.get("command") or "?"), 0) + 1  # fmt: skip
    if not counts:
        return []
    command = max(counts, key=lambda k: (counts[k], k))
    ended = sum(1 for child in children if child.get("has_ended"))
    unmissed = (
        f" {ended} of them have ended, and nobody has asked how: whoever starts a process has to wait for it (wait(), communicate())."
        if ended
        else ""
    )
    rows = [r for r in facts.sites.get("children") or () if type(r) is list and len(r) >= 3]
    if rows:
        by, total = rows[0], sum(int(row[0]) for row in rows)
        place = Place(str(by[2]), facts.owners)
        says = (
            f"{len(children)} child processes, {counts[command]} of them `{one_line(command, 80)}`: {by[0]} were started by"
            f" {in_words(place, facts)}, {int(by[0]) / max(1, total):.0%} of all.{unmissed}"
        )
        return [finding(LIKELY, says, place, ["process.json", "sites.json"])]
    main = next((s for s in facts.live_stacks if s["frames"]), None)
    mine = owners.places(main["frames"], facts.owners) if main else []
    where = f"; the program is in {in_words(mine[0], facts)}{caller(mine, 0, facts)}" if mine else ""  # fmt: skip
    says = f"{len(children)} child processes, {counts[command]} of them `{one_line(command, 80)}`{where}.{unmissed}"
    return [finding(POSSIBLE, says, mine[0] if mine else None, ["process.json", "stacks.txt"])]
