"""Where does the time go, by many samples of all stacks?

Pure. A profile is *collapsed stacks*: text with one line for each distinct stack, ``root;…;leaf COUNT``, the form that
every tool reads and that takes 5 KB for two seconds. Everything else (speedscope, flame graph, the hot function) is made
from it. Frames are written as everywhere here: ``file:line in function``. Left out: taking samples (evidence).
"""

from holdfast.diagnosis.lastwords import split_frame

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any

#: A child with this share of its parent's samples is where the parent spends its time; with less, the parent
#: itself (a loop over several callees) is the place.
_FOLLOWS = 0.6
#: Below this share of all samples nothing is called hot.
_HOT = 0.25
#: So many samples of what a spinning loop runs.
_FEW_TURNS = 3
#: Less work than this share of the samples is no profile of anything.
_WORKS = 0.05
#: Functions below which application code begins: what is above them is how the program was started.
_ENTRIES = (
    ("asyncio/events.py", "_run"),
    ("asyncio/base_events.py", "_run_once"),
    ("threading.py", "run"),
    ("concurrent/futures/thread.py", "run"),
)


#: Innermost functions that wait: a sampler that does not stop the program takes some of them for running.
_WAITS = (
    ("selectors.py", "select"),
    ("threading.py", "wait"),
    ("multiprocessing/connection.py", "wait"),
)


class Profile:
    """Samples of one process: (thread, frames outermost first, how many samples)."""

    __slots__ = ("rows", "seconds")

    def __init__(
        self, rows: "Sequence[tuple[str, tuple[str, ...], int]]", seconds: float = 0.0
    ) -> None:
        self.rows = list(rows)
        self.seconds = seconds

    def samples(self) -> int:
        """Return the number of samples in all."""
        return sum(count for _, _, count in self.rows)

    def collapsed(self) -> str:
        """Return the profile as text, the most frequent stack first."""
        rows = sorted(self.rows, key=lambda row: (-row[2], row[0], row[1]))
        return "".join(
            f"{';'.join(_safe(part) for part in (thread, *frames))} {count}\n"
            for thread, frames, count in rows
        )


class Hot:
    """The place where most of the time goes."""

    __slots__ = ("count", "inner", "is_spin", "path", "share", "thread")

    def __init__(
        self, path: "list[str]", inner: "list[str]", thread: str, count: int, share: float, *, is_spin: bool = False
    ) -> None:  # fmt: skip
        self.path = path  #: frames from the outermost to the hot function, which is the last one
        self.inner = inner  #: what it calls, as far as one callee dominates
        self.thread = thread
        self.count = count
        self.share = share  #: of all samples in which anything ran
        self.is_spin = (
            is_spin  #: the loop around it takes most of the time: it turns without a pause
        )


def parse(text: str, seconds: float = 0.0) -> Profile:
    """Read collapsed stacks, ours or py-spy's (``py-spy record -f raw --threads``); damaged lines are left out."""
    rows = []
    for line in text.splitlines():
        stack, _, samples = line.rpartition(" ")
        if not samples.isdigit() or not stack:
            continue
        parts = stack.split(";")
        while len(parts) > 1 and parts[0].startswith("process "):
            del parts[0]  # py-spy --subprocesses: all processes of a server do the same
        thread = ""
        if parts[0].startswith("thread ("):
            # A program that never imported threading has no names for its threads.
            number, _, name = parts.pop(0)[8:].partition(")")
            thread = name.removeprefix(": ") or f"thread {number}"
        elif " in " not in parts[0] and not parts[0].endswith(")"):
            thread = parts.pop(0)
        frames = tuple(_frame(part) for part in parts)
        # The agent's own thread answers us just now: it is no part of the program.
        if not any("/holdfast/agent/" in frame for frame in frames[:2]):
            rows.append((thread, frames, int(samples)))
    return Profile(rows, seconds)


def _frame(part: str) -> str:
    """Read ``function (file:line)`` of py-spy; anything else is taken as it is."""
    name, found, place = part.rpartition(" (")
    if not found or not place.endswith(")"):
        return part
    return f"{place[:-1]} in {name}"


def _safe(part: str) -> str:
    return part.replace(";", ":").replace("\n", " ")


def hottest(profile: Profile, is_machinery: "Any") -> "Hot | None":
    """Return the function that is to blame for the time, or None when the time is spread.

    Goes down from the outermost frame as long as one callee has most of its caller's samples. The standard
    library is gone through, never blamed: a loop over ``json.dumps`` is the fault of whoever loops.

    Args:
        profile: The samples.
        is_machinery: Tells of a file whether it is the standard library or ours.
    """
    rows = [
        (thread, _below_entry(frames), count)
        for thread, frames, count in profile.rows
        if frames and not _is_one_of(frames[-1], _WAITS)
    ]
    total = sum(count for _, _, count in rows)
    # A hundredth of a second of work among waiting is not where the time goes.
    if not total or total < _WORKS * profile.samples():
        return None
    best = _best(rows, total, is_machinery)
    if best is not None:
        return best
    # An event loop that spins: its own turns take the time, and what it runs in them is the reason.
    turns = [row for row in rows if any(not is_machinery(split_frame(f)[0]) for f in row[1])]
    run = sum(count for _, _, count in turns)
    best = _best(turns, run, is_machinery) if run >= _FEW_TURNS else None
    if best is not None:
        best.share, best.is_spin = best.count / total, True
    return best


def _best(
    rows: "list[tuple[str, tuple[str, ...], int]]", total: int, is_machinery: "Any"
) -> "Hot | None":
    best: Hot | None = None
    for thread in sorted({row[0] for row in rows}):
        found = _descend([(f, n) for t, f, n in rows if t == thread], total, is_machinery)
        if found is not None and (best is None or found[2] > best.count):
            path, inner, count = found
            best = Hot(path, inner, thread, count, count / total)
    return best


def _below_entry(frames: "tuple[str, ...]") -> "tuple[str, ...]":
    # Whatever the loop does between two calls is nobody's: nothing is left of it.
    for at in range(len(frames) - 1, -1, -1):
        if _is_one_of(frames[at], _ENTRIES):
            return frames[at + 1 :]
    return frames


def _is_one_of(frame: str, places: "Sequence[tuple[str, str]]") -> bool:
    path, _, function = split_frame(frame)
    return any(path.endswith(f"/{p}") and function.rpartition(".")[2] == f for p, f in places)


def _descend(
    rows: "list[tuple[tuple[str, ...], int]]", total: int, is_machinery: "Any"
) -> "tuple[list[str], list[str], int] | None":
    path: list[str] = []
    blamed, blamed_count, depth = 0, 0, 0
    here, here_count, machinery = rows, sum(count for _, count in rows), True
    while True:
        groups: dict[tuple[str, str], list[tuple[tuple[str, ...], int]]] = {}
        for frames, count in here:
            if len(frames) > depth:
                file, _, function = split_frame(frames[depth])
                groups.setdefault((file, function), []).append((frames, count))
        if not groups:
            break
        key = max(groups, key=lambda k: (sum(n for _, n in groups[k]), k))
        count = sum(n for _, n in groups[key])
        # Below the standard library a smaller share is enough: the event loop and the pool call everybody.
        if count < (_HOT * total if machinery else _FOLLOWS * here_count):
            break
        here, here_count, depth = groups[key], count, depth + 1
        path.append(_busiest_line(here, depth - 1))
        machinery = is_machinery(key[0])
        if not machinery:
            blamed, blamed_count = depth, count
    if not blamed or blamed_count < _HOT * total:
        return None
    return path[:blamed], path[blamed:], blamed_count


def _busiest_line(rows: "list[tuple[tuple[str, ...], int]]", depth: int) -> str:
    counts: dict[str, int] = {}
    for frames, count in rows:
        counts[frames[depth]] = counts.get(frames[depth], 0) + count
    return max(counts, key=lambda frame: (counts[frame], frame))


def table(profile: Profile, is_machinery: "Any", most: int = 15) -> "list[dict[str, Any]]":
    """Return the functions with the most samples: their own (the innermost frame) and with all they call.

    What only passes on (the event loop, the runner) has all samples and no own: it comes last.
    """
    own: dict[str, int] = {}
    whole: dict[str, int] = {}
    passes_on: dict[str, bool] = {}
    for _, frames, count in profile.rows:
        names = []
        for frame in frames:
            path, _, function = split_frame(frame)
            names.append(f"{path} in {function}" if function else frame)
            passes_on[names[-1]] = is_machinery(path)
        for name in set(names):
            whole[name] = whole.get(name, 0) + count
        if names:
            own[names[-1]] = own.get(names[-1], 0) + count
    total = max(1, profile.samples())

    def rank(name: str) -> "tuple[Any, ...]":
        mine = own.get(name, 0)
        return (passes_on[name] and not mine, -mine, -whole[name], name)

    return [
        {"function": name, "own": own.get(name, 0) / total, "total": whole[name] / total}
        for name in sorted(whole, key=rank)[:most]
    ]


def share_of(profile: Profile, path: str, function: str) -> float:
    """Return the share of all samples in which a function, or what it calls, ran."""
    total = profile.samples()
    found = sum(
        count
        for _, frames, count in profile.rows
        if any(split_frame(f)[0] == path and split_frame(f)[2] == function for f in frames)
    )
    return found / total if total else 0.0


def grown(now: Profile, then: Profile, most: int = 15) -> "list[dict[str, Any]]":
    """Return the functions that have more of the samples than they had before, the greatest gain first."""
    before, after = _shares(then), _shares(now)
    rows = [
        {"function": name, "now": share, "then": before.get(name, 0.0)}
        for name, share in after.items()
        if share - before.get(name, 0.0) >= _GAIN
    ]
    rows.sort(key=lambda row: (-(row["now"] - row["then"]), row["function"]))  # type: ignore[operator]
    return rows[:most]


def _shares(profile: Profile) -> "dict[str, float]":
    counts: dict[str, int] = {}
    for _, frames, count in profile.rows:
        for name in {_without_line(frame) for frame in frames}:
            counts[name] = counts.get(name, 0) + count
    total = max(1, profile.samples())
    return {name: count / total for name, count in counts.items()}


def _without_line(frame: str) -> str:
    path, _, function = split_frame(frame)
    return f"{path} in {function}" if function else frame


#: So much more of all samples is worth telling.
_GAIN = 0.05


def speedscope(profile: Profile, name: str, unit: str = "none") -> "dict[str, Any]":
    """Return the profile in the file format of speedscope (https://www.speedscope.app/file-format-schema.json).

    Args:
        profile: The stacks.
        name: What the page shows as its title.
        unit: What is counted, in speedscope's words: "none" (samples) or "bytes".
    """
    frames: dict[str, int] = {}
    listed: list[dict[str, Any]] = []
    threads: dict[str, tuple[list[list[int]], list[int]]] = {}
    for thread, stack, count in profile.rows:
        numbers = []
        for frame in stack:
            if frame not in frames:
                frames[frame] = len(listed)
                listed.append(_speedscope_frame(frame))
            numbers.append(frames[frame])
        samples, weights = threads.setdefault(thread or "all threads", ([], []))
        samples.append(numbers)
        weights.append(count)
    return {
        "$schema": "https://www.speedscope.app/file-format-schema.json",
        "name": name,
        "exporter": "holdfast",
        "shared": {"frames": listed},
        "profiles": [
            {"type": "sampled", "name": thread, "unit": unit, "startValue": 0, "endValue": sum(weights),
             "samples": samples, "weights": weights}
            for thread, (samples, weights) in threads.items()
        ],
    }  # fmt: skip


def _speedscope_frame(frame: str) -> "dict[str, Any]":
    path, line, function = split_frame(frame)
    if not function:
        return {"name": frame}
    return {"name": function, "file": path, **({"line": line} if line else {})}


def from_perf(text: str) -> Profile:
    """Read the output of ``perf script``: a head line for each sample, then its frames, innermost first."""
    counts: dict[tuple[str, tuple[str, ...]], int] = {}
    thread, frames = "", list[str]()
    for line in [*text.splitlines(), ""]:
        if not line.strip():
            if frames:
                key = (thread, tuple(reversed(frames)))
                counts[key] = counts.get(key, 0) + 1
            frames = []
        elif not line[0].isspace():
            thread = line.split()[0]
        else:
            _, _, rest = line.strip().partition(" ")
            symbol, _, place = rest.rpartition(" (")
            frames.append(_perf_frame(symbol.rpartition("+0x")[0] or symbol, place.rstrip(")")))
    return Profile([(name, stack, count) for (name, stack), count in counts.items()])


def _perf_frame(symbol: str, place: str) -> str:
    # The trampolines of -X perf are called py::function:file.
    if symbol.startswith("py::"):
        function, _, path = symbol[4:].partition(":")
        return f"{path}:0 in {function}"
    return f"{place}:0 in {symbol}"


def merge(profiles: "Iterable[Profile]") -> Profile:
    """Return one profile of several."""
    rows: dict[tuple[str, tuple[str, ...]], int] = {}
    seconds = 0.0
    for profile in profiles:
        seconds += profile.seconds
        for thread, frames, count in profile.rows:
            rows[thread, frames] = rows.get((thread, frames), 0) + count
    return Profile([(t, f, n) for (t, f), n in rows.items()], seconds)
