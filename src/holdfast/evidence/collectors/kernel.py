"""Did the kernel kill it for lack of memory?

Two sources: the kernel's log (``/dev/kmsg``, written 0.1 s before the parent is told) and the OOM counter
of the worker's cgroup. Segmentation faults are noted there, too. Where both are closed to us, say so: "we do not
know who sent SIGKILL" is an answer, a guess is not.
"""

import os
import time

from holdfast.diagnosis.words import FAULTS, signal_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from holdfast.evidence.case import Case

_KMSG = "/dev/kmsg"
_RECORD_BYTES = 8192
#: Records around the one that names the worker, for a person: the kernel's table of who used how much.
_BEFORE, _AFTER = 40, 3
#: The kernel's clock and ours may differ by this much in a record about a life, besides its length.
_CLOCKS_S = 60.0


def collect(case: "Case") -> None:
    """Look for a record about this pid or this cgroup."""
    number = signal_of(case.order.get("status"))
    if case.order.get("live") or not (number == 9 or number in FAULTS):
        return
    records: list[tuple[float, str]] = []
    try:
        records = read_kmsg()
    except OSError as error:
        case.miss("kernel log", f"{_KMSG}: {error.strerror}")
    else:
        case.facts.oom["looked"] = True
    at = find(records, case)
    if at is not None:
        case.files["kernel.txt"] = "".join(
            f"[{when_s:.6f}] {text}\n"
            for when_s, text in records[max(0, at - _BEFORE) : at + _AFTER]
        ).encode("utf-8", "replace")
    if number == 9:
        _counter(case)


def read_kmsg() -> "list[tuple[float, str]]":
    """Return the kernel's log as (seconds since boot, text), without waiting for more.

    Raises:
        OSError: It may not be read (dmesg_restrict) or is not there (containers).
    """
    descriptor = os.open(_KMSG, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    records: list[tuple[float, str]] = []
    try:
        while True:
            try:
                record = os.read(descriptor, _RECORD_BYTES)
            except BlockingIOError:
                return records
            except BrokenPipeError:
                continue  # the record was overwritten while we read; the next one is there
            if not record:
                return records
            head, _, text = record.decode("utf-8", "replace").partition(";")
            fields = head.split(",")
            if len(fields) >= 3 and fields[2].isdigit():
                records.append((int(fields[2]) / 1e6, text.split("\n", 1)[0]))
    finally:
        os.close(descriptor)


def find(records: "list[tuple[float, str]]", case: "Case") -> int | None:
    """Return the index of the last record about the worker, and note an OOM kill in the facts."""
    pid = case.pid
    if not pid:
        return None
    killed = f"Killed process {pid} ("
    # The three ways in which arch/x86 words it: a bad address, a bad pointer, an illegal instruction.
    faults = (f"[{pid}]: segfault at", f"[{pid}] general protection", f"[{pid}] trap ")
    for at in range(len(records) - 1, -1, -1):
        when_s, text = records[at]
        if killed in text:
            case.facts.oom.update(line=text, rss_bytes=_rss(text), sure=_of_this_life(when_s, case))
            case.facts.oom.update(_constraint(records, at, pid))
            return at
        if any(fault in text for fault in faults):
            if _of_this_life(when_s, case):
                case.facts.oom["fault_library"] = fault_library(text)
            return at
    return None


def fault_library(text: str) -> str:
    """Return the file name of the library that the faulting instruction is in: "… error 4 in NAME[7f00+1000]"."""
    _, found, rest = text.rpartition(" in ")
    name, bracket, _ = rest.partition("[")
    return name.strip() if found and bracket else ""


def _of_this_life(when_s: float, case: "Case") -> bool:
    """Tell whether a record can be of this life and not of an earlier process with the same pid."""
    age_s = time.clock_gettime(time.CLOCK_BOOTTIME) - when_s
    return -_CLOCKS_S < age_s < float(case.order.get("lived_s") or 0) + _CLOCKS_S


def _constraint(records: "list[tuple[float, str]]", at: int, pid: int) -> "dict[str, Any]":
    for _, text in reversed(records[max(0, at - 5) : at + 1]):
        if text.startswith("oom-kill:") and f"pid={pid}" in text:
            pairs = dict(
                pair.partition("=")[::2] for pair in text.removeprefix("oom-kill:").split(",")
            )
            return {"memcg": pairs.get("oom_memcg"), "constraint": pairs.get("constraint")}
    return {}


def _rss(text: str) -> int:
    total = 0
    for part in text.replace(",", " ").split():
        name, found, value = part.partition("-rss:")
        if (
            found
            and name in ("anon", "file", "shmem")
            and value.endswith("kB")
            and value[:-2].isdigit()
        ):
            total += int(value[:-2]) * 1024
    return total


def _counter(case: "Case") -> None:
    """Compare the OOM counter of the worker's cgroup with what it was at the last look."""
    from holdfast.evidence.case import read_json
    from holdfast.linux import cgroup

    count = cgroup.oom_kills(os.path.basename(case.run_dir.rstrip("/")), case.worker)
    if count is None:
        return
    case.facts.oom["looked"] = True
    before = read_json(case.last_fingerprint_path()).get("oom_kills")
    case.facts.oom["kills"] = count
    if count > (before if type(before) is int and before <= count else 0):
        case.facts.oom["counter"] = True
