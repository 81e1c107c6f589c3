"""What happened, to which component, and why, as far as the evidence tells?

Pure: :class:`Facts` in, the telling half of ``incident.json`` out. Every reason carries how sure we are: ``certain``
(the kernel or the interpreter says so), ``likely`` (fits, and nothing contradicts), ``possible`` (worth a look).
A wrong "certain" sends a tired person the wrong way, so when in doubt it is the lesser word.
Left out: collecting (evidence process), wording of the whole (``story``).
"""

from holdfast.diagnosis import owners
from holdfast.diagnosis import stacks as places
from holdfast.diagnosis.lastwords import split_frame
from holdfast.diagnosis.words import (
    FAULTS,
    duration,
    exit_code_of,
    one_line,
    signal_name,
    signal_of,
    size,
    status_words,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from holdfast.diagnosis import profile as profiles
    from holdfast.diagnosis.lastwords import Report, Uncaught

#: Flags of a worker that is alive, and of the box; the kind of their incident has their name.
SYMPTOMS = (
    "loop_lag", "slow", "stalled", "pegged", "deadlock", "task_bomb", "thread_bomb", "child_bomb", "fd_leak", "memory_leak", "odd_one_out",
    "log_storm", "log_silence", "starved",
)  # fmt: skip
BOX_SYMPTOMS = ("disk_filling", "inodes_low", "memory_pressure", "clock_jump")
#: Which incident a flag leads to.
KIND_OF_FLAG = {
    "crash_loop": "crash_loop",
    "missed_heartbeat": "hang",
    "failed_probe": "probe",
    "start_failed": "start",
    "memory_over_limit": "memory",
    "disk_low": "disk",
    "stopped": "hang",
    **{flag: flag for flag in (*SYMPTOMS, *BOX_SYMPTOMS)},
}
KINDS = (
    "crash", "exit", "hang", "oom", "memory", "probe", "start", "crash_loop", "disk", *SYMPTOMS, *BOX_SYMPTOMS,
)  # fmt: skip

#: Kinds about which the counts of the kernel and the agent alone blame nobody.
_ONLY_BY_PLACES = ("memory", "memory_leak")
#: A beat comes ten times a second; one this old is missing. 1 s: a busy box alone makes 134 ms.
STALE_BEAT_S = 1.0
#: An exception with more output than this after it was probably caught and logged.
_TRAILING_LINES = 5
#: Share of a core from which a hang is a loop rather than a wait.
_BUSY_SHARE = 0.6

#: Who ended a worker, by the cause that the keeper journals.
_ENDED_BY = {
    "stop": "Holdfast ended it: a stop was asked for",
    "restart": "Holdfast ended it: a restart was asked for",
    "apply": "Holdfast ended it to apply a changed configuration",
    "group": "Holdfast ended it together with its group",
    "down": "Holdfast ended it: the node is going down",
    "remedy": "the watchdog had it ended as a remedy",
}


class Facts:
    """Everything the collectors found; what they did not find keeps its default."""

    __slots__ = (
        "blamed", "box", "calls", "census", "changed", "core", "earlier", "exit", "extensions", "growing", "healthy", "last_line", "libraries", "live_stacks",
        "log_patterns", "mappings", "mappings_s", "modules", "next_start", "oom", "order", "owners", "plan", "process",
        "profile", "pulse", "report", "samples", "sites", "source", "uncaught", "used", "writers",
    )  # fmt: skip

    def __init__(self, order: "dict[str, Any]", plan: "dict[str, Any] | None" = None) -> None:
        self.order = order
        self.plan: dict[str, Any] = plan or {}  #: the worker's entry
        self.exit: dict[str, Any] = {}  #: the keeper's journal record of the death
        self.next_start: dict[str, Any] = {}  #: … and of the life after it
        self.blamed: tuple[str, str] | None = None  #: (component, error) as the container said it
        self.report: Report | None = None
        self.uncaught: Uncaught | None = None
        self.last_line = ""
        self.live_stacks: list[dict[str, Any]] = []
        self.pulse: dict[str, Any] = {}
        self.process: dict[str, Any] = {}
        self.samples: list[dict[str, int]] = []
        self.oom: dict[str, Any] = {}
        self.core: list[str] = []  #: C and Python frames where the signal came, out of a core dump
        self.changed: list[str] = []
        self.source: dict[str, str] = {}  #: frame -> its line of code
        self.calls: dict[str, list[dict[str, Any]]] = {}  #: frame -> what its line calls
        self.owners: dict[str, tuple[str, str]] = {}  #: file -> (distribution, version)
        self.modules: dict[str, tuple[str, str]] = {}  #: module that is imported -> the same
        self.libraries: dict[str, tuple[str, str]] = {}  #: file name of a library in C -> the same
        self.extensions: list[dict[str, Any]] = []  #: packages with C code that were loaded
        self.used: dict[
            str, list[str]
        ] = {}  #: such a package -> what the program's main files call
        self.profile: profiles.Profile | None = None
        self.healthy: profiles.Profile | None = None  #: one of a good day
        self.sites: dict[str, Any] = {}  #: who created tasks and threads (the agent)
        self.census: dict[str, Any] = {}  #: types and allocations (the agent)
        self.mappings: list[
            dict[str, Any]
        ] = []  #: the address space by name, and how much of it is new
        self.mappings_s = 0.0  #: … within so many seconds
        #: While evidence was taken: seconds, resident bytes more, writable address space more.
        self.growing = (0.0, 0, 0)
        self.log_patterns: list[tuple[int, str]] = []  #: lines that are alike, and how many
        self.box: dict[str, Any] = {}  #: the machine: pressure, memory, who uses most
        self.writers: list[dict[str, Any]] = []  #: who makes which file of a disk longer
        self.earlier: dict[str, Any] | None = (
            None  #: what was found when the same happened before; asked for where this is not enough
        )


class _Found:
    """What is being put together; private to this module."""

    __slots__ = ("component", "kind", "says", "where", "why")

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.says = ""
        self.component: str | None = None
        self.where: str | None = None
        self.why: list[dict[str, str]] = []

    def because(self, confidence: str, says: str) -> None:
        self.why.append({"confidence": confidence, "says": says})


def assess(facts: Facts) -> "dict[str, Any]":
    """Return title, kind, component, cause, status words, last words and stacks of an incident."""
    order = facts.order
    kind = kind_of(facts)
    found = _Found(kind)
    stacks = facts.live_stacks or (facts.report.stacks if facts.report else [])
    stacks = [stack for stack in stacks if not places.is_ours(stack)]
    if facts.exit.get("cause") in _ENDED_BY:
        found.because("certain", _ENDED_BY[facts.exit["cause"]])
    if kind == "hang":
        _hang(facts, found, stacks)
    elif kind == "disk":
        found.says = _flag_says(facts) or "the disk is nearly full"
    elif kind in SYMPTOMS or kind in BOX_SYMPTOMS:
        found.says = _flag_says(facts) or f"has the flag {kind}"
        blamed = _blamed_stack(stacks, frozen=False)
        found.component = _component(facts, blamed["frames"] if blamed else [])
    else:
        _death(facts, found, stacks)
    if kind in ("memory", "oom", "memory_leak"):
        _memory(facts, found)
    if kind in ("disk", "disk_filling"):
        _writers(facts, found)
    blamed = _held_stack(facts, stacks)
    blamed = blamed or _blamed_stack(stacks, frozen=found.says.startswith("frozen"))
    if kind == "deadlock":
        # A main thread that waits for the others' end is not where they stand.
        blamed = next(
            (s for s in stacks if s.get("doing") == "waits for a lock" and not _is_spare_hand(s)),
            blamed,
        )
    told: list[dict[str, Any]] = []
    if not blames_nobody(facts):
        from holdfast.diagnosis import culprit

        told = culprit.findings(facts, kind, stacks, blamed)
    if facts.earlier is not None and is_weak(told):
        told = [facts.earlier, *told]
    if told and (kind in SYMPTOMS or (kind in ("crash", "oom", "memory") and not found.where)):
        found.where = told[0]["where"] or found.where
    _company(facts, found)
    if kind in ("probe", "start", "memory", "crash_loop"):
        found.says = _with_flag(facts, found)
    is_alive = order.get("live") or order.get("worker") == "@node"  # a machine has no exit status
    return {
        "component": found.component,
        "kind": kind,
        "title": one_line(_title(facts, found), 200),
        "findings": told,
        "cause": _cause(facts, found, stacks),
        "status_words": None if is_alive else status_words(order.get("status")),
        "fatal": _fatal(facts),
        "stacks": places.grouped(stacks),
        "extensions": facts.report.extensions if facts.report else [],
    }


def is_weak(told: "Sequence[Mapping[str, Any]]") -> bool:
    """Whether nothing was found, or guesses only."""
    return not told or told[0].get("confidence") == "possible"


def blames_nobody(facts: Facts) -> bool:
    """Whether only numbers were found of a process whose memory grows: no rule has anything to rest on.

    Before a memory kill there are 50 ms for all of the evidence; importing the rules and looking up packages is a fifth of that.
    """
    return (
        bool(facts.order.get("live"))
        and kind_of(facts) in _ONLY_BY_PLACES
        and not any((
            facts.live_stacks, facts.report, facts.uncaught, facts.profile, facts.census, facts.mappings,
        ))
    )  # fmt: skip


def _writers(facts: Facts, found: _Found) -> None:
    """Tell who makes the disk fuller."""
    growing = [row for row in facts.writers if row["per_s"] > 0]
    for row in growing[:2]:
        who = f'worker "{row["worker"]}"' if row["worker"] else f"{row['command']} (pid {row['pid']})"  # fmt: skip
        found.because("likely", f"{who} writes {size(row['per_s'])} a second into {row['path']}, which has {size(row['bytes'])} now")  # fmt: skip
    if facts.writers and not growing:
        row = max(facts.writers, key=lambda one: int(one["bytes"]))
        found.because("possible", f"no file that is open for writing grows at this moment; the largest is {row['path']}, {size(row['bytes'])}")  # fmt: skip


def _company(facts: Facts, found: _Found) -> None:
    """What came with it: the death of somebody it needs, other deaths of its own, changes before it."""
    cause = facts.order.get("because")
    if type(cause) is dict:
        found.because("likely", f'it needs worker "{cause.get("worker")}", which had just died')
    folded = facts.order.get("coalesced")
    if folded:
        found.because(
            "certain", f"{folded} more deaths in quick succession are told in this one incident"
        )
    if facts.changed:
        count = len(facts.changed)
        found.because(
            "possible",
            f"{count} change{'s' if count > 1 else ''} before this failure, listed under Changed",
        )


def kind_of(facts: Facts) -> str:
    """Return the kind of incident: what was ordered where that is plain, else what the death looks like."""
    order = facts.order
    flag = order.get("flag") or {}
    if flag.get("flag") in KIND_OF_FLAG:
        return KIND_OF_FLAG[flag["flag"]]
    if order.get("kind") in KINDS and order["kind"] not in ("crash", "exit", "oom"):
        return str(order["kind"])
    if order.get("live"):
        return "hang"
    # The watchdog, too, looks at the OOM counter of the cgroup, and knows what it was before.
    by_kernel = facts.oom.get("line") or facts.oom.get("counter") or order.get("kind") == "oom"
    if by_kernel and signal_of(order.get("status")) == 9:
        return "oom"
    if (
        signal_of(order.get("status"))
        or (facts.report and facts.report.fatal)
        or is_uncaught(facts)
    ):
        return "crash"
    return "exit"


def is_uncaught(facts: Facts) -> bool:
    """Tell whether the traceback in the output is what ended the program, not one that it logged and survived."""
    error = facts.uncaught
    if error is None or error.in_thread or exit_code_of(facts.order.get("status")) in (0, None):
        return False
    return (
        facts.blamed is not None
        or error.trailing <= _TRAILING_LINES
        or exit_code_of(facts.order.get("status")) == 1
    )


def _death(facts: Facts, found: _Found, stacks: "list[dict[str, Any]]") -> None:
    status = facts.order.get("status")
    frames = next(
        (s["frames"] for s in stacks if s["current"]), stacks[0]["frames"] if stacks else []
    )
    if is_uncaught(facts) and facts.uncaught:
        error = facts.uncaught
        frames = error.frames
        # In a title the name of the exception is enough; where it was defined is in `fatal`.
        name = error.kind.rpartition(".")[2]
        says = f"{name}: {error.message}" if error.message else name
        found.says = f"crashed: {says}"
        found.because(
            "certain" if facts.blamed or error.trailing <= _TRAILING_LINES else "likely",
            f"the exception {says} was not caught"
            + (f", at: {error.source}" if error.source else ""),
        )
    elif facts.order.get("error"):
        found.says = f"could not be started: {facts.order['error']}"
    elif found.kind == "oom":
        found.says = "killed by the kernel: out of memory"
    elif facts.order.get("live"):
        found.says = ""
    else:
        found.says = _signal_says(facts, found, frames) or status_words(status)
    found.where = places.guilty_frame(frames)
    found.component = _component(facts, frames)
    number = signal_of(status)
    if number == 9 and not found.why and found.kind != "oom":
        found.because(
            "certain", "somebody outside sent SIGKILL: neither Holdfast nor the kernel's OOM killer did"
            if facts.oom.get("looked") else "somebody outside sent SIGKILL; the kernel's log could not be read"
        )  # fmt: skip
    if not is_uncaught(facts) and exit_code_of(status) not in (0, None) and facts.last_line:
        found.because("possible", f"the last thing it wrote to stderr: {one_line(facts.last_line)}")


def _signal_says(facts: Facts, found: _Found, frames: list[str]) -> str:
    """Describe a death by signal or by fatal error; "" when it is neither."""
    number, report = signal_of(facts.order.get("status")), facts.report
    fatal = report.fatal if report else None
    if not number and not fatal:
        return ""
    says = status_words(facts.order.get("status"))
    library = places.library_of(frames)
    if report and fatal and report.detail:
        found.because("certain", f"{fatal}: {report.detail}")
        says = (
            f"killed by {signal_name(number)}: {report.detail}"
            if number
            else f"{fatal}: {report.detail}"
        )
    elif fatal:
        found.because("certain", f"the interpreter's last words: {fatal}")
    if library:
        says += f" in {library}"
    if number in FAULTS and frames:
        inner = places.shown(frames[0])
        found.because(
            "likely", f"code in C called from {inner} broke memory, or was given a bad pointer"
        )
    if number in FAULTS and not frames and facts.plan.get("faulthandler"):
        found.because(
            "possible", "the interpreter wrote no stacks: it died before or after Python ran"
        )
    return says


def _hang(facts: Facts, found: _Found, stacks: "list[dict[str, Any]]") -> None:
    silent_s, what = _silence(facts, found)
    found.says = f"{what} for {duration(silent_s)}" if silent_s else what
    stack = _held_stack(facts, stacks) or _blamed_stack(stacks, frozen=what.startswith("frozen"))
    if stack is None:
        return
    found.where = places.guilty_frame(stack["frames"])
    found.component = _component(facts, stack["frames"])
    if stack.get("doing") and stack["doing"] != "is stopped":
        found.because("certain", f"thread {stack['thread']} {stack['doing']}")
    waiting = [s for s in stacks if s.get("doing") == "waits for a lock" and not _is_spare_hand(s)]
    if stack in waiting and len(waiting) > 1:
        found.because(
            "likely", f"a deadlock: {len(waiting)} of {len(stacks)} threads wait for a lock"
        )


def _is_spare_hand(stack: "dict[str, Any]") -> bool:
    """Whether this is a thread of ours that has nothing to do: waiting for work is no deadlock."""
    paths = [split_frame(frame)[0] for frame in stack.get("frames") or ()]
    return any("/holdfast/" in path for path in paths) and all(map(owners.is_machinery, paths))


def _silence(facts: Facts, found: _Found) -> tuple[float, str]:
    """Return how long nothing was heard, and what kind of silence it is."""
    pulse, flag = facts.pulse, facts.order.get("flag") or {}
    loop_s = float(pulse.get("loop_beat_age_s") or 0.0)
    thread_s = float(pulse.get("thread_beat_age_s") or 0.0)
    since = flag.get("since_unix_s")
    flagged_s = float(facts.order.get("unix_s", 0.0)) - float(since) if since else 0.0
    if flag.get("flag") == "missed_heartbeat":
        flagged_s = max(flagged_s, float(flag.get("value") or 0.0))
    silent_s = loop_s or flagged_s
    if str(facts.process.get("state")) in ("T", "t"):
        found.because(
            "certain", "the process is stopped: somebody sent SIGSTOP, or a debugger holds it"
        )
        return silent_s, "stopped (SIGSTOP)"
    # The samples are the worker's own process, not one that it forked.
    share = cpu_share(facts.samples) if not flag.get("pid") else None
    if share is not None:
        busy = (
            "busy: a loop or a long computation"
            if share > _BUSY_SHARE
            else "idle: it waits for something"
        )
        found.because(
            "likely", f"it used {share:.0%} of a core in its last samples, so it is {busy}"
        )
    if loop_s <= STALE_BEAT_S:
        held_s = float(pulse.get("held_s") or 0.0)
        return (held_s, "one request has held it") if held_s else (silent_s, "no sign of life")
    if thread_s > STALE_BEAT_S:
        found.because(
            "likely",
            "not even its plain threads run: code in C holds the GIL, or the process is frozen",
        )
        return silent_s, "frozen"
    return silent_s, "event loop blocked"


def _held_stack(facts: Facts, stacks: "list[dict[str, Any]]") -> "dict[str, Any] | None":
    """Return the stack of the thread that is in one request for too long, where the agent has looked at it."""
    looked = facts.sites.get("blocked") or ()
    if not facts.pulse.get("held_s") or not looked:
        return None
    # By file and line: how a function is called depends on who tells.
    at = split_frame(looked[0][1][0])[:2]
    return next((s for s in stacks if any(split_frame(f)[:2] == at for f in s["frames"])), None)


def _blamed_stack(stacks: "list[dict[str, Any]]", *, frozen: bool) -> "dict[str, Any] | None":
    if frozen:
        for stack in stacks:
            if stack["current"] or stack.get("doing") == "runs on the CPU":
                return stack
    for stack in stacks:
        if stack["thread"].startswith("MainThread"):
            return stack
    # faulthandler lists the main thread last, and the one that took the signal is the main one.
    return next((s for s in stacks if s["current"]), stacks[-1] if stacks else None)


def _memory(facts: Facts, found: _Found) -> None:
    oom = facts.oom
    if oom.get("line"):
        confidence = "certain" if oom.get("sure") else "likely"
        found.because(confidence, f"the kernel's own record: {one_line(oom['line'], 200)}")
    elif oom.get("counter") or facts.order.get("kind") == "oom":
        found.because("likely", "the OOM counter of its cgroup grew and SIGKILL was not ours")
    limit = (facts.plan.get("limits") or {}).get("memory_bytes")
    rss = oom.get("rss_bytes") or (facts.samples[-1]["rss_bytes"] if facts.samples else 0)
    if found.kind == "oom" and rss:
        found.says += f" (it held {size(rss)}{f' of {size(limit)} allowed' if limit else ''})"
    growth = memory_growth(facts.samples)
    if growth:
        found.because("likely", growth)


def memory_growth(samples: "list[dict[str, int]]") -> str:
    """Return a sentence on how memory grew over the last life; "" when it did not."""
    if len(samples) < 3:
        return ""
    first, last = samples[0], samples[-1]
    span_s = (last["mono_ns"] - first["mono_ns"]) / 1e9
    grown = last["rss_bytes"] - first["rss_bytes"]
    if span_s <= 0 or grown < max(8 << 20, first["rss_bytes"] // 4):
        return ""
    return (
        f"memory grew from {size(first['rss_bytes'])} to {size(last['rss_bytes'])} in {duration(span_s)}"
        f" ({size(grown / span_s)} a second)"
    )


def cpu_share(samples: "list[dict[str, int]]", window: int = 5) -> "float | None":
    """Return the share of one core used over the last samples; None when there are too few."""
    if len(samples) < 2:
        return None
    last = samples[-1]
    first = next((s for s in samples[-window:] if s["start"] == last["start"]), last)
    span_ns = last["mono_ns"] - first["mono_ns"]
    return (last["cpu_ns"] - first["cpu_ns"]) / span_ns if span_ns > 0 else None


def _component(facts: Facts, frames: list[str]) -> str | None:
    if facts.blamed:
        return facts.blamed[0]
    components = facts.plan.get("components") or []
    note = str(facts.pulse.get("note") or "")
    if signal_of(facts.order.get("status")) and facts.report and facts.report.fatal:
        # Threads share one note, written by whoever ran last: what was on the crashing stack knows better.
        crashed = places.component_of(frames, components)
        if crashed is not None:
            return crashed
    for component in components:
        # The component whose code ran at the last moment, or the last words: "crash component=board ValueError: …".
        if f"component={component['name']}" in note.split():
            return str(component["name"])
    named = places.component_of(frames, components)
    if named is None and len(components) == 1:
        return str(components[0]["name"])
    return named


def _flag_says(facts: Facts) -> str:
    return str((facts.order.get("flag") or {}).get("says") or "")


def _with_flag(facts: Facts, found: _Found) -> str:
    flag = _flag_says(facts)
    if found.kind == "crash_loop":
        deaths = facts.exit.get("deaths")
        flag = flag or (
            f"died {deaths} times in a short while" if deaths else "dies again and again"
        )
        return f"{flag}; last: {found.says}" if found.says else flag
    return "; ".join(part for part in (flag, found.says) if part) or f"has the flag {found.kind}"


def _title(facts: Facts, found: _Found) -> str:
    worker = facts.order.get("worker", "?")
    says = found.says
    prefix = f'worker "{worker}"'
    pid = (facts.order.get("flag") or {}).get("pid")
    if pid:
        prefix += f", process {pid}"
    # A flag's sentence may already name the worker.
    if says.startswith(prefix):
        title = says
    elif found.component and says.startswith("crashed"):
        title = f'{prefix}: component "{found.component}" {says}'
    elif worker == "@node":
        title = f"this machine: {says}"
    elif says.startswith("crashed"):
        title = f"{prefix} {says}"
    else:
        component = f' (component "{found.component}")' if found.component else ""
        title = f"{prefix}{component}: {says}"
    shows = found.kind in ("crash", "hang", *SYMPTOMS) or (
        facts.order.get("live") and found.kind in ("probe", "start")
    )
    if found.where and shows and not says.startswith("crashed"):
        title = title.partition("; usual: ")[0]  # "usual: 4 ms at app.py:47" reads as one
        title += f" at {places.shown(found.where, str(facts.plan.get('directory') or ''))}"
        source = facts.source.get(found.where)
        if source and found.kind != "crash":
            title += f": {source}"
    return title


def _fatal(facts: Facts) -> str | None:
    if facts.report and facts.report.fatal:
        return facts.report.fatal
    if is_uncaught(facts) and facts.uncaught:
        return f"{facts.uncaught.kind}: {facts.uncaught.message}".rstrip(": ")
    return None


def signature(facts: Facts, kind: str, frames: list[str]) -> str:
    """Return what two incidents of the same fault have in common: kind, error, the three innermost functions.

    Without line numbers, so that an edit elsewhere in the file does not make it a new fault.
    """
    error = facts.uncaught.kind if is_uncaught(facts) and facts.uncaught else ""
    number = signal_of(facts.order.get("status"))
    code = exit_code_of(facts.order.get("status"))
    parts = [kind, error or (signal_name(number) if number else f"status {code}" if code else "")]
    for frame in frames[:3]:
        path, _, function = split_frame(frame)
        parts.append(f"{path.rpartition('/')[2]}:{function}")
    return "|".join(part for part in parts if part)


def _cause(facts: Facts, found: _Found, stacks: "list[dict[str, Any]]") -> "dict[str, Any]":
    frames: list[str] = []
    if is_uncaught(facts) and facts.uncaught:
        frames = facts.uncaught.frames
    elif stacks:
        blamed = _blamed_stack(stacks, frozen=False)
        frames = blamed["frames"] if blamed else []
    cause: dict[str, Any] = {
        "says": found.says,
        "where": found.where,
        "source": facts.source.get(found.where or "", ""),
        "frames": frames[:12],
        "why": found.why,
        "signature": signature(facts, found.kind, frames),
    }
    for key in ("cause", "deaths", "next", "delay_s"):
        if key in facts.exit:
            cause["ended_by" if key == "cause" else key] = facts.exit[key]
    if facts.next_start:
        cause["next_start"] = {k: facts.next_start.get(k) for k in ("n", "pid", "unix_s")}
    if facts.order.get("flag"):
        cause["flag"] = facts.order["flag"]
    if facts.process:
        cause["process_state"] = facts.process.get("state")
    return cause
