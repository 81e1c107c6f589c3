"""What the kernel says about a process that is still there: state, threads, descriptors, limits."""

import os

from holdfast.diagnosis.stacks import doing
from holdfast.evidence.case import read_text
from holdfast.linux import procfs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from holdfast.evidence.case import Case

#: A bomb of threads must not hold up the evidence about it.
_THREADS = 200
_DESCRIPTORS = 5000
_TARGETS = 12
_LISTED = 30
_STATUS = ("VmPeak", "VmSize", "VmHWM", "VmRSS", "VmSwap", "Threads", "SigBlk", "SigIgn", "SigCgt", "voluntary_ctxt_switches",
           "nonvoluntary_ctxt_switches", "Seccomp", "TracerPid")  # fmt: skip


def collect(case: "Case") -> None:
    """Read /proc/PID, and put into words what each thread waits for."""
    if not case.alive():
        case.miss("process", f"pid {case.pid} is gone")
        return
    base = f"/proc/{case.pid}"
    found = procfs.reading(case.pid)
    facts: dict[str, Any] = {"state": found.state if found else "?"}
    threads = _threads(base)
    facts["wchan"] = next((t["wchan"] for t in threads if t["tid"] == case.pid), "")
    if found:
        facts.update(threads=found.threads, rss_bytes=found.rss_bytes, cpu_ns=found.cpu_ns)
    status = dict(line.partition(":\t")[::2] for line in read_text(f"{base}/status").splitlines())
    facts["status"] = {name: status[name].strip() for name in _STATUS if name in status}
    facts["limits"] = read_text(f"{base}/limits").splitlines()
    facts["fds"] = _descriptors(base, facts["limits"])
    facts["children"] = _children(base)
    facts["cgroup"] = read_text(f"{base}/cgroup").splitlines()
    facts["command"] = procfs.command_line(case.pid)[:1]
    facts["thread_list"] = threads
    case.facts.process = facts
    # Of a thousand threads the first ones and the numbers are enough.
    states: dict[str, int] = {}
    for one in threads:
        key = f"{one['state']} {one['wchan']}".strip()
        states[key] = states.get(key, 0) + 1
    facts["thread_states"] = states
    case.keep_json("process.json", {**facts, "thread_list": threads[:_LISTED]})
    by_tid = {thread["tid"]: thread for thread in threads}
    for stack in case.facts.live_stacks:
        thread = by_tid.get(stack.get("tid"))
        if thread:
            stack["doing"] = thread["doing"]


def threads_of(pid: int) -> "list[dict[str, Any]]":
    """Return what the kernel says of each thread of a process."""
    return _threads(f"/proc/{pid}")


def _threads(base: str) -> "list[dict[str, Any]]":
    try:
        tids = sorted(int(name) for name in os.listdir(f"{base}/task"))
    except OSError:
        return []
    threads = []
    for tid in tids[:_THREADS]:
        task = f"{base}/task/{tid}"
        stat = read_text(f"{task}/stat", 1024)
        state = stat[stat.rfind(")") + 2 :][:1] or "?"
        wchan = read_text(f"{task}/wchan", 128).strip()
        threads.append({
            "tid": tid, "name": read_text(f"{task}/comm", 64).strip(), "state": state, "wchan": wchan,
            "syscall": read_text(f"{task}/syscall", 256).strip(),
            "schedstat": read_text(f"{task}/schedstat", 128).strip(),
            "doing": doing(state, wchan),
        })  # fmt: skip
    return threads


def _children(base: str) -> "list[dict[str, Any]]":
    """Return the child processes with their programs."""
    pids: list[str] = []
    try:
        for tid in os.listdir(f"{base}/task")[:_THREADS]:
            pids += read_text(f"{base}/task/{tid}/children").split()
    except OSError:
        return []
    return [_child(int(pid)) for pid in pids[:_THREADS]]


def _child(pid: int) -> "dict[str, Any]":
    command = " ".join(procfs.command_line(pid)[:4])
    if command:
        return {"pid": pid, "command": command}
    # Without arguments: it has ended, and all that is left is its name.
    found = procfs.reading(pid)
    has_ended = found is not None and found.state == "Z"
    return {"pid": pid, "command": read_text(f"/proc/{pid}/comm", 64).strip(), "has_ended": has_ended}  # fmt: skip


def _descriptors(base: str, limits: "list[str]") -> "dict[str, Any]":
    """Count open descriptors by kind and by target; the one that dominates is what leaks."""
    try:
        names = os.listdir(f"{base}/fd")
    except OSError as error:
        return {"error": error.strerror}
    kinds: dict[str, int] = {}
    targets: dict[str, int] = {}
    for name in names[:_DESCRIPTORS]:
        try:
            target = os.readlink(f"{base}/fd/{name}")
        except OSError:
            continue  # closed while we looked
        kind = target.partition(":")[0] if not target.startswith("/") else "file"
        kinds[kind] = kinds.get(kind, 0) + 1
        # Numbers differ for each socket and temporary file: what they have in common is what tells.
        shape = _shape(target) if kind == "file" else kind
        targets[shape] = targets.get(shape, 0) + 1
    most = sorted(targets, key=lambda target: -targets[target])[:_TARGETS]
    limit = next((line[25:].split()[0] for line in limits if line.startswith("Max open files")), "")
    return {
        "count": len(names), "kinds": kinds, "targets": {target: targets[target] for target in most},
        "limit": int(limit) if limit.isdigit() else None,
    }  # fmt: skip


def _shape(target: str) -> str:
    """Return a path with each number replaced by one sign."""
    shape = "".join("#" if c.isdigit() else c for c in target)
    while "##" in shape:
        shape = shape.replace("##", "#")
    return shape
