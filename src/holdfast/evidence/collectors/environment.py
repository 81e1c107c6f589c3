"""The fingerprint of the world that a worker runs in: interpreter, packages, configuration, files, machine.

Taken when a worker is well (``good/WORKER.json``) and at each incident; ``diagnosis.changes`` tells the two
apart. No code of the worker is run: packages are the names of ``*.dist-info`` directories of *its* interpreter. Values of
environment variables and of component settings go in as keyed hashes only; the key never leaves the state
directory, so a bundle that is passed on gives no secret away, not even a short one to be guessed.
"""

import os
import stat
import sys
import time

from holdfast.evidence.case import read_json, read_text
from holdfast.linux import files, procfs
from holdfast.model.plan import HOSTED
from holdfast.wire import layout
from holdfast.wire.jsonlite import dumps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from holdfast.diagnosis.findings import Facts
    from holdfast.evidence.case import Case

MOST_FILES = 2000
MOST_BYTES = 50 << 20
#: Directories that hold no application code.
_SKIPPED = frozenset(
    {"node_modules", "__pycache__", "site-packages", "venv", "env", "build", "dist"}
)
#: Parts of option names after which a value is nobody's business.
_SECRET = ("pass", "secret", "token", "key", "credential", "auth")
#: Plan entries that are no part of the environment, or are dealt with on their own.
_NOT_KEYS = frozenset({"env", "components", "argv", "name"})
FORMAT = 1


def collect(case: "Case") -> None:
    """Take the fingerprint and compare it with the last good one."""
    from holdfast.diagnosis import changes

    now = fingerprint(case)
    case.fingerprint = now
    good = read_json(case.good_path())
    last = read_json(case.last_fingerprint_path())
    case.unchanged = bool(last) and not changes.compare(last, now, 0.0)
    failed_unix_s = float(case.order.get("unix_s") or time.time())
    case.facts.changed = changes.compare(good, now, failed_unix_s, _on_stacks(case.facts))
    case.keep_json(
        "environment.json", {**_short(now, good), "compared_with": good.get("taken_unix_s")}
    )


def _on_stacks(facts: "Facts") -> set[str]:
    """Return the files that the worker was in, as far as that is known by now."""
    from holdfast.diagnosis.lastwords import split_frame

    stacks = [*facts.live_stacks, *(facts.report.stacks if facts.report else ())]
    frames = [frame for stack in stacks for frame in stack["frames"]]
    frames += facts.uncaught.frames if facts.uncaught else ()
    return {split_frame(frame)[0] for frame in frames}


def _short(now: "dict[str, Any]", good: "dict[str, Any]") -> "dict[str, Any]":
    """Return a fingerprint for the bundle: of a thousand files only those that differ from the good start."""
    listed = now.get("files") or {}
    same = good.get("files") or {}
    return {
        **now,
        "files": {
            path: entry
            for path, entry in listed.items()
            if same.get(path, [0, 0, 0])[2] != entry[2]
        },
        "files_total": len(listed),
    }


def keep(case: "Case", *, good: bool) -> None:
    """Write the fingerprint down: as the newest one, and as the last good one when it is.

    Raises:
        OSError: The disk is full, or somebody else's.
    """
    os.makedirs(f"{case.state_dir}/{layout.GOOD}", exist_ok=True)
    newest = {**case.fingerprint, "oom_kills": case.facts.oom.get("kills")}
    files.write_atomic(case.last_fingerprint_path(), dumps(newest).encode(), mode=0o600)
    if good:
        files.write_atomic(case.good_path(), dumps(case.fingerprint).encode(), mode=0o600)


def fingerprint(case: "Case") -> "dict[str, Any]":
    """Return the environment of the worker as it is now."""
    plan, last = case.facts.plan, read_json(case.last_fingerprint_path())
    salt = _salt(case)
    meminfo = read_text("/proc/meminfo", 256).split()
    machine = os.uname()
    found: dict[str, Any] = {
        "format": FORMAT,
        "taken_unix_s": round(time.time(), 3),
        "worker": case.worker,
        "kernel": machine.release,
        "hostname": machine.nodename,
        "boot_id": procfs.boot_id(),
        "cpus": os.cpu_count(),
        "memory_bytes": int(meminfo[1]) * 1024
        if len(meminfo) > 1 and meminfo[1].isdigit()
        else None,
    }
    if not plan:
        return found
    found["plan"] = {"digest": case.plan.get("digest"), "keys": _keys(plan, salt)}
    env = {**(case.plan.get("env") or {}), **(plan.get("env") or {})}
    found["env"] = {name: _hash(value, salt) for name, value in env.items()}
    program = interpreter_of(case)
    if program:
        found["interpreter"] = _describe(program, last.get("interpreter") or {})
        found["packages"] = packages(program, env.get("PYTHONPATH", ""))
    if case.alive() and case.order.get("kind") == "good":
        from holdfast.evidence.collectors.memory import by_name

        # What a life held when it was well: the growth since then is told by mapping.
        found["memory"] = {
            "start": case.start, "pid": case.pid, "unix_s": round(time.time(), 3), "mappings": by_name(case.pid),
        }  # fmt: skip
    found["limits"] = _limits(case)
    found["neighbours"] = sorted(w["name"] for w in case.plan.get("workers") or () if w["name"] != case.worker)[:200]  # fmt: skip
    found["files"], found["files_complete"] = _files(
        str(plan.get("directory") or ""), last.get("files") or {}
    )
    return found


def packages(program: str, python_path: str = "") -> "dict[str, str]":
    """Return name -> version of what is installed for an interpreter, without starting it."""
    found: dict[str, str] = {}
    for directory in [*(p for p in python_path.split(":") if p), *_site_directories(program)]:
        try:
            names = os.listdir(directory)
        except OSError:
            continue
        for entry in names:
            stem, dot, kind = entry.rpartition(".")
            if dot and kind in ("dist-info", "egg-info"):
                name, _, version = stem.partition("-")
                # As on sys.path: the first one found is the one that is imported.
                found.setdefault(name.replace("_", "-").lower(), version.partition("-py")[0])
    return found


def directories_of(case: "Case") -> "list[str]":
    """Return where packages of the worker can be: its PYTHONPATH, then its interpreter's own directories."""
    env = {**(case.plan.get("env") or {}), **(case.facts.plan.get("env") or {})}
    program = interpreter_of(case)
    named = [path for path in str(env.get("PYTHONPATH", "")).split(":") if path]
    return [*named, *(_site_directories(program) if program else ())]


def app_imports(case: "Case") -> "list[str]":
    """Return the modules that the program's own main files import, in the order of their statements."""
    from holdfast.diagnosis.owners import imports_of

    found: dict[str, None] = {}
    for path in main_files(case):
        for module in imports_of(read_text(path, 1 << 20)).values():
            found[module] = None
    return list(found)


def main_files(case: "Case") -> "list[str]":
    """Return where the program begins: the script of its command line, the modules of its components."""
    plan = case.facts.plan
    directory = str(plan.get("directory") or "")
    argv = [str(word) for word in plan.get("argv") or ()]
    mains = [word for word in argv[1:] if word.endswith(".py")][:1]
    mains += [str(c.get("use", "")).partition(":")[0].replace(".", "/") + ".py" for c in plan.get("components") or ()]  # fmt: skip
    return [main if os.path.isabs(main) else f"{directory}/{main}" for main in mains]


def _site_directories(program: str) -> "Iterator[str]":
    prefixes = [os.path.dirname(os.path.dirname(program))]
    config = read_text(f"{prefixes[0]}/pyvenv.cfg").replace(" ", "").lower()
    if not config or "include-system-site-packages=true" in config:
        prefixes.append(os.path.dirname(os.path.dirname(os.path.realpath(program))))
        prefixes.append("/usr/local")
    for prefix in dict.fromkeys(prefixes):
        try:
            versions = sorted(
                name for name in os.listdir(f"{prefix}/lib") if name.startswith("python3")
            )
        except OSError:
            continue
        wanted = _minor(program)
        for version in versions:
            if not wanted or version in (wanted, "python3"):
                yield f"{prefix}/lib/{version}/site-packages"
                yield f"{prefix}/lib/{version}/dist-packages"


def _minor(program: str) -> str:
    """Return "python3.11" when the name of the real program says so."""
    name = os.path.basename(os.path.realpath(program))
    return name if name.startswith("python3.") else ""


def interpreter_of(case: "Case") -> str:
    """Return the Python that runs this worker; "" when it is no Python program."""
    argv = case.facts.plan.get("argv") or [""]
    program = str(argv[0])
    if "python" in os.path.basename(program) or case.facts.plan.get("kind") in HOSTED:
        return program
    try:
        with open(program, "rb") as file:
            first = file.readline(256)
    except OSError:
        return ""
    words = first[2:].decode("utf-8", "replace").split() if first.startswith(b"#!") else []
    return words[0] if words and "python" in os.path.basename(words[0]) else ""


def _describe(program: str, last: "dict[str, Any]") -> "dict[str, Any]":
    """Return version and build of an interpreter; it is started only if it is another file than last time."""
    real = os.path.realpath(program)
    try:
        found = os.stat(real)
    except OSError as error:
        return {"path": program, "error": error.strerror}
    mark = [found.st_mtime_ns, found.st_size]
    if last.get("path") == program and last.get("mark") == mark:
        return last
    if real == os.path.realpath(sys.executable):
        text = f"Python {sys.version}"
    else:
        import subprocess

        try:
            done = subprocess.run(
                [program, "-I", "-S", "-VV"], capture_output=True, timeout=0.5, check=False
            )
            text = (done.stdout or done.stderr).decode("utf-8", "replace")
        except (OSError, subprocess.TimeoutExpired) as error:
            return {"path": program, "error": str(error)}
    words = text.split()
    return {
        "path": program,
        "real": real,
        "mark": mark,
        "version": words[1] if len(words) > 1 else text.strip(),
        "build": " ".join(words[2:]),
    }


def _limits(case: "Case") -> "dict[str, str]":
    """Return the soft limits of the process while it lives (they come from the plan, the shell or the service manager)."""
    found = {}
    for line in read_text(f"/proc/{case.pid}/limits", 8192).splitlines()[1:] if case.alive() else ():  # fmt: skip
        name, soft = line[:25].strip(), line[25:].split()
        if soft:
            found[name] = soft[0]
    return found


def _keys(plan: "dict[str, Any]", salt: bytes) -> "dict[str, Any]":
    """Return the worker's plan as dotted key -> value; what may be secret as a hash."""
    found: dict[str, Any] = {}
    for key, value in plan.items():
        if key not in _NOT_KEYS:
            _flatten(key, value, found)
    found["argv"] = " ".join(_masked(plan.get("argv") or []))
    for component in plan.get("components") or ():
        base = f"component.{component['name']}"
        found[f"{base}.use"] = component.get("use")
        for name, value in (component.get("settings") or {}).items():
            found[f"{base}.settings.{name}"] = _hash(dumps(value), salt)
    return found


def _flatten(key: str, value: object, into: "dict[str, Any]") -> None:
    if type(value) is dict:
        for name, inner in value.items():
            _flatten(f"{key}.{name}", inner, into)
    elif type(value) is list:
        into[key] = " ".join(_masked([str(item) for item in value]))
    else:
        into[key] = _masked([value])[0] if type(value) is str else value


def _masked(arguments: "list[str]") -> list[str]:
    """Return arguments without the values that look secret."""
    shown = []
    hide = False
    for argument in arguments:
        text = str(argument)
        name, sign, _ = text.partition("=")
        if hide and not text.startswith("-"):
            shown.append("***")
            hide = False
            continue
        secret = any(part in name.lower() for part in _SECRET) and (
            bool(sign) or text.startswith("-")
        )
        hide = secret and not sign
        head, found, tail = text.partition("://")
        if secret and sign:
            text = f"{name}=***"
        elif found and "@" in tail.split("/")[0]:
            text = f"{head}://***@{tail.partition('@')[2]}"
        shown.append(text)
    return shown


def _salt(case: "Case") -> bytes:
    """Return the key of this node's hashes; made at the first need."""
    path = f"{case.state_dir}/{layout.GOOD}/.salt"
    salt = files.read(path)
    if len(salt) == 16:
        return salt
    salt = os.urandom(16)
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        # Exclusive: of two processes at the first incident, one makes it and the other reads it.
        temporary = f"{path}.{os.getpid()}"
        files.write_atomic(temporary, salt, mode=0o600)
        try:
            os.link(temporary, path)
        finally:
            os.unlink(temporary)
    except FileExistsError:
        return files.read(path)
    except OSError:
        return salt  # a full disk: these hashes compare with nothing, and nothing is kept of them either
    return salt


def _hash(value: object, salt: bytes) -> str:
    from _blake2 import blake2b

    return (
        "hash:"
        + blake2b(str(value).encode("utf-8", "replace"), key=salt, digest_size=6).hexdigest()
    )


def _files(directory: str, last: "dict[str, Any]") -> "tuple[dict[str, Any], bool]":
    """Return relative path -> [mtime_ns, bytes, hash] of the Python files, and whether these are all.

    Only files whose time or size changed since the last fingerprint are read again.
    """
    from _blake2 import blake2b

    found: dict[str, Any] = {}
    budget = MOST_BYTES
    # A worker in "/" or in a home directory has no application there: a walk would find the whole machine.
    if not directory or directory in ("/", os.path.expanduser("~")):
        return found, False
    for path, entry in _python_files(directory):
        if len(found) >= MOST_FILES:
            return found, False
        mark = [entry.st_mtime_ns, entry.st_size]
        name = os.path.relpath(path, directory)
        known = last.get(name)
        if type(known) is list and known[:2] == mark:
            found[name] = known
            continue
        if entry.st_size > budget:
            return found, False
        budget -= entry.st_size
        try:
            found[name] = [*mark, blake2b(files.read(path), digest_size=8).hexdigest()]
        except OSError:
            continue  # not readable for us: no part of the comparison
    return found, True


def _python_files(directory: str) -> "Iterator[tuple[str, os.stat_result]]":
    stack = [directory]
    while stack:
        try:
            entries = sorted(os.scandir(stack.pop()), key=lambda e: e.name)
        except OSError:
            continue  # a directory that is closed to us
        for entry in entries:
            if entry.name.startswith(".") or entry.name in _SKIPPED:
                continue
            try:
                if entry.is_dir(follow_symlinks=False):
                    stack.append(entry.path)
                elif entry.name.endswith(".py"):
                    status = entry.stat()
                    if stat.S_ISREG(status.st_mode):
                        yield entry.path, status
            except OSError:
                continue  # gone since the listing
