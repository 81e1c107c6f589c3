"""What is different from the last time this worker started well?

Compares two fingerprints (``environment.json``) and returns sentences, the most telling first: most failures
follow a change. Values of environment variables and of component settings are only known as keyed
hashes, so that a sentence can say *that* a secret changed, never what it is.
"""

from holdfast.diagnosis.words import duration, size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection
    from typing import Any

#: More changed files than this are summed up: a deployment touches hundreds.
_FILES_NAMED = 8
#: Without a good start to compare with, a file this new is still worth naming.
_RECENT_S = 86400.0


def compare(
    good: "dict[str, Any]",
    now: "dict[str, Any]",
    failed_unix_s: float,
    on_stacks: "Collection[str]" = (),
) -> list[str]:
    """Return what changed between two fingerprints.

    Args:
        good: Taken when the worker was well; empty when there is none.
        now: Taken after the failure.
        failed_unix_s: When it failed; files are dated relative to it.
        on_stacks: Paths of the files that it was in when it failed: of all that changed, these come first.
    """
    if not good:
        return _without_good(now, failed_unix_s, on_stacks)
    return [
        *_packages(good.get("packages") or {}, now.get("packages") or {}),
        *_files(good.get("files") or {}, now.get("files") or {}, failed_unix_s, on_stacks),
        *_plan(str(now.get("worker", "")), good.get("plan") or {}, now.get("plan") or {}),
        *_env(good.get("env") or {}, now.get("env") or {}),
        *_limits(good.get("limits") or {}, now.get("limits") or {}),
        *_box(good, now),
        *_neighbours(good.get("neighbours"), now.get("neighbours")),
    ]


def _without_good(
    now: "dict[str, Any]", failed_unix_s: float, on_stacks: "Collection[str]"
) -> list[str]:
    files = now.get("files") or {}
    recent = [
        path for path, entry in files.items() if abs(failed_unix_s - entry[0] / 1e9) < _RECENT_S
    ]
    recent.sort(key=lambda path: (not _is_on(path, on_stacks), -files[path][0], path))
    return [f"file {path} {_when(files[path][0] / 1e9, failed_unix_s)}" for path in recent[:3]]


def _is_on(path: str, on_stacks: "Collection[str]") -> bool:
    return any(other.endswith(f"/{path}") for other in on_stacks)


def _packages(good: "dict[str, str]", now: "dict[str, str]") -> list[str]:
    if not good or not now:
        return []  # one of the two could not be read: that is no change
    said = [
        f"package {name} {good[name]} -> {now[name]}"
        for name in sorted(good.keys() & now.keys())
        if good[name] != now[name]
    ]
    said += [f"package {name} {now[name]} was added" for name in sorted(now.keys() - good.keys())]
    said += [f"package {name} {good[name]} is gone" for name in sorted(good.keys() - now.keys())]
    return said if len(said) <= 20 else [*said[:20], f"and {len(said) - 20} more packages"]


def _files(
    good: "dict[str, Any]",
    now: "dict[str, Any]",
    failed_unix_s: float,
    on_stacks: "Collection[str]",
) -> list[str]:
    changed = [path for path in good.keys() & now.keys() if good[path][2] != now[path][2]]
    changed.sort(key=lambda path: (not _is_on(path, on_stacks), -now[path][0]))
    said = [f"file {path} {_when(now[path][0] / 1e9, failed_unix_s)}" for path in changed]
    new = sorted(now.keys() - good.keys(), key=lambda path: -now[path][0])
    said += [f"file {path} is new" for path in new]
    said += [f"file {path} is gone" for path in sorted(good.keys() - now.keys())]
    more = len(said) - _FILES_NAMED
    return said if more <= 0 else [*said[:_FILES_NAMED], f"and {more} more files"]


def _when(at_s: float, failed_unix_s: float) -> str:
    if at_s > failed_unix_s:
        return f"changed {duration(at_s - failed_unix_s)} after this failure"
    return f"changed {duration(failed_unix_s - at_s)} before this failure"


def _plan(worker: str, good: "dict[str, Any]", now: "dict[str, Any]") -> list[str]:
    if good.get("digest") == now.get("digest"):
        return []
    before, after = good.get("keys") or {}, now.get("keys") or {}
    said = []
    for key in sorted(before.keys() | after.keys()):
        old, new = before.get(key), after.get(key)
        if old == new:
            continue
        name = f"configuration: worker.{worker}.{key}"
        if _is_hash(old) or _is_hash(new):
            what = (
                "was set" if key not in before else "was removed" if key not in after else "changed"
            )
            said.append(f"{name} {what} (value not shown)")
        else:
            said.append(f"{name} {_value(key, old)} -> {_value(key, new)}")
    return said


def _limits(good: "dict[str, str]", now: "dict[str, str]") -> list[str]:
    # Of a process that is dead there are none: that is no change.
    return [
        f"limit {name.lower()} {good[name]} -> {now[name]}"
        for name in sorted(good.keys() & now.keys())
        if good[name] != now[name]
    ]


def _neighbours(good: "list[str] | None", now: "list[str] | None") -> list[str]:
    if good is None or now is None:
        return []
    said = [f"worker {name} was added to the node" for name in sorted(set(now) - set(good))]
    said += [f"worker {name} is gone from the node" for name in sorted(set(good) - set(now))]
    return said if len(said) <= 5 else [*said[:5], f"and {len(said) - 5} more workers"]


def _is_hash(value: object) -> bool:
    return type(value) is str and value.startswith("hash:")


def _value(key: str, value: object) -> str:
    if value is None:
        return "not set"
    if key.endswith("_bytes") and type(value) is int:
        return size(value)
    return str(value)


def _env(good: "dict[str, str]", now: "dict[str, str]") -> list[str]:
    said = [
        f"environment variable {name} changed (value not shown)"
        for name in sorted(good.keys() & now.keys())
        if good[name] != now[name]
    ]
    said += [f"environment variable {name} was added" for name in sorted(now.keys() - good.keys())]
    said += [f"environment variable {name} is gone" for name in sorted(good.keys() - now.keys())]
    return said


def _box(good: "dict[str, Any]", now: "dict[str, Any]") -> list[str]:
    said = []
    old, new = good.get("interpreter") or {}, now.get("interpreter") or {}
    for key, name in (("version", "Python"), ("path", "interpreter"), ("build", "build of Python")):
        if old.get(key) and new.get(key) and old[key] != new[key]:
            said.append(f"{name} {old[key]} -> {new[key]}")
    for key, name in (
        ("kernel", "kernel"),
        ("hostname", "host name"),
        ("cpus", "CPUs of the machine"),
    ):
        if good.get(key) and now.get(key) and good[key] != now[key]:
            said.append(f"{name} {good[key]} -> {now[key]}")
    before, after = good.get("memory_bytes") or 0, now.get("memory_bytes") or 0
    if before and after and abs(before - after) > 0.02 * before:
        said.append(f"memory of the machine {size(before)} -> {size(after)}")
    if good.get("boot_id") and now.get("boot_id") and good["boot_id"] != now["boot_id"]:
        said.append("the machine was started anew since")
    return said
