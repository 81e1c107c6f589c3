"""A core dump: found wherever the kernel put it, read while it lasts, deleted unless somebody wants it."""

import os
import resource
import subprocess
import sys
import sysconfig
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from holdfast.diagnosis import corestacks, findings
from holdfast.diagnosis.findings import Facts
from holdfast.evidence import capture
from holdfast.evidence.collectors import corefile, cores
from holdfast.evidence.collectors.stacks import find_pyspy, find_tool
from holdfast.linux import procfs

SLOWNESS = float(os.environ.get("HOLDFAST_SLOWNESS", "1"))
PATTERN = Path("/proc/sys/kernel/core_pattern").read_text().strip()
needs_plain_cores = pytest.mark.skipif(
    PATTERN.startswith(("|", "@", "/")) or resource.getrlimit(resource.RLIMIT_CORE)[1] == 0,
    reason=f"the kernel writes no core into the directory of the program here (core_pattern {PATTERN}, or a hard limit of 0)",
)
needs_pystack = pytest.mark.skipif(find_tool("pystack") is None, reason="pystack is not installed")
needs_pyspy = pytest.mark.skipif(find_pyspy() is None, reason="py-spy is not installed")

BY_CTYPES = """
import ctypes
def parse(text, depth=1):
    address = 0
    password = "hush"
    return parse(text, depth - 1) if depth else ctypes.string_at(address)
parse("seven oranges")
"""
BY_EXTENSION = """
import fastmod, threading
def handle(order):
    total = 41
    fastmod.boom()
hand = threading.Thread(target=handle, args=({"id": 7},), name="hand")
hand.start()
hand.join()
"""
EXTENSION = """
#include <Python.h>
static int __attribute__((noinline)) deep_read(int *where) { return *where + 1; }
static PyObject *boom(PyObject *self, PyObject *none) { return PyLong_FromLong(deep_read((int *)8) + 1); }
static PyMethodDef methods[] = {{"boom", boom, METH_NOARGS, ""}, {0}};
static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "fastmod", 0, -1, methods};
PyMODINIT_FUNC PyInit_fastmod(void) { return PyModule_Create(&module); }
"""
#: What pystack 1.7 prints, shortened; a thread of C code too, which shares its number with none of Python's.
SAID = """
Using executable found in the core file: /venv/bin/python

The process died due receiving signal SIGSEGV
Traceback for thread 702 [] (most recent call last):
    (C) File "../sysdeps/clone3.S", line 81, in __clone3 (libc.so.6)
    (Python) File "/srv/app/run.py", line 12, in idle
        else: time.sleep(600)
    (C) File "./Modules/timemodule.c", line 383, in time_sleep (libpython3.11.so.1.0)

Traceback for thread 701 (web) [Has the GIL] (most recent call last):
    (C) File "???", line 0, in _start (python)
    (Python) File "/srv/app/run.py", line 20, in <module>
        handle(order)
    (Python) File "/srv/app/run.py", line 7, in handle
        if fast: return fastmod.boom()
      Arguments:
        order: {"id": 7}
      Locals:
        api_token: "hush"
    (C) File "/build/fast, new/fast.c", line 9, in boom (fast.cpython-311-x86_64-linux-gnu.so)
    (C) File "/build/fast, new/fast.c", line 4, in read (inlined) (fast.cpython-311-x86_64-linux-gnu.so)
    (C) File "???", line 0, in __restore_rt (libc.so.6)
    (C) File "../sysdeps/posix/raise.c", line 26, in raise (libc.so.6)
"""


# -- what the tool says ----------------------------------------------------------------------------


def test_the_stack_ends_where_it_failed_not_in_what_the_handler_did_afterwards() -> None:
    """With faulthandler, every core's innermost frames are those of its own last words: raise() would be blamed for all crashes."""
    crashed, other = corestacks.parse(SAID, pid=701, crashed_tid=701)

    assert crashed["current"]
    assert crashed["thread"] == "web"
    assert crashed["native"] == [
        "fast.cpython-311-x86_64-linux-gnu.so in read",
        "fast.cpython-311-x86_64-linux-gnu.so in boom",
        "/srv/app/run.py:7 in handle",
        "/srv/app/run.py:20 in <module>",
    ]
    assert crashed["frames"] == crashed["native"][2:]
    assert corestacks.culprit_library(crashed["native"]).startswith("fast.cpython")
    assert other["native"] == ["libpython3.11.so.1.0 in time_sleep", "/srv/app/run.py:12 in idle"]


def test_variables_are_shown_but_no_secret_and_no_line_of_code() -> None:
    text = corestacks.as_text(corestacks.parse(SAID, pid=701, crashed_tid=701))

    assert '      order = {"id": 7}\n' in text
    assert "api_token = (not shown)" in text
    assert "hush" not in text
    assert "else" not in text
    assert "if fast" not in text
    assert text.startswith("web (thread 701, the signal came here), innermost first:\n  fast.cpyt")


def test_the_thread_that_took_the_signal_is_the_one_the_core_names_not_the_holder_of_the_lock() -> None:  # fmt: skip
    first = corestacks.parse(SAID, pid=701, crashed_tid=702)[0]

    assert (first["tid"], first["current"]) == (702, True)


def test_damage_that_the_c_library_met_is_only_likely_the_callers() -> None:
    """free() in libc is where a broken heap shows; who broke it may have returned long ago."""
    facts = Facts({"worker": "web", "status": 6 | 0x80, "n": 1}, {"directory": "/srv/app"})
    facts.core = [
        "libc.so.6 in raise", "libc.so.6 in abort", "fast.cpython-311-x86_64-linux-gnu.so in shrink", "/srv/app/run.py:7 in handle",
    ]  # fmt: skip
    facts.live_stacks = [{"thread": "MainThread", "frames": facts.core[3:], "current": True}]
    facts.libraries = {"fast.cpython-311-x86_64-linux-gnu.so": ("fastlib", "2.0")}

    (found,) = findings.assess(facts)["findings"]

    assert (found["confidence"], found["package"], found["version"]) == ("likely", "fastlib", "2.0")
    assert found["function"] == "shrink"
    assert "by way of raise (libc.so.6), called by handle (run.py:7)" in found["says"]
    assert found["rests_on"] == ["core.txt", "stacks.txt"]


# -- finding it ------------------------------------------------------------------------------------


@pytest.fixture
def died(node: Any, monkeypatch: Any) -> Any:
    """The case of a process that dumped core, and what the kernel says about its habits, to be changed at will."""
    done = subprocess.Popen([sys.executable, "-c", ""])
    done.wait()
    case = capture._open_case(str(node.run_dir), node.order(done))
    case.order["status"] = 11 | 0x80
    texts = {"/proc/sys/kernel/core_pattern": "core\n", "/proc/sys/kernel/core_uses_pid": "0\n"}
    monkeypatch.setattr(cores, "read_text", lambda name, _=0: texts[name])
    return SimpleNamespace(case=case, texts=texts, app=Path(node.app), pid=done.pid)


@pytest.mark.parametrize(
    ("pattern", "uses_pid", "name"),
    [
        ("core", "1", "core.{pid}"),
        ("core.%p", "1", "core.{pid}"),
        ("%e-%p-%t.core", "0", "python3-{pid}-1700000000.core"),
        ("core.%e", "1", "core.python3.{pid}"),
        ("100%%.%P", "0", "100%.{pid}"),
    ],
)
def test_a_core_is_found_by_every_kind_of_pattern(
    died: Any, pattern: str, uses_pid: str, name: str
) -> None:
    died.texts["/proc/sys/kernel/core_pattern"] = pattern
    died.texts["/proc/sys/kernel/core_uses_pid"] = uses_pid
    path = died.app / name.format(pid=died.pid)
    (died.app / "core.of-another").write_bytes(b"not ours")
    path.write_bytes(b"not a core")

    found = cores.find(died.case)

    assert isinstance(found, cores.Found), found
    assert found.path == str(path)
    assert not found.is_kept_by_others


def test_a_core_without_a_pid_in_its_name_is_set_aside_before_the_next_life_writes_over_it(
    died: Any,
) -> None:
    """A worker that crashes on start dies again in 200 ms, and the kernel writes into the file that is just being read."""
    (died.app / "core").write_bytes(b"the first one")
    found = cores.find(died.case)
    assert isinstance(found, cores.Found)
    (died.app / "core").write_bytes(b"the second one")

    assert Path(found.path).read_bytes() == b"the first one"
    assert found.shown == str(died.app / "core")
    again = cores.find(died.case)
    assert isinstance(again, cores.Found)
    assert again.path == found.path

    cores.put_away(died.case, "/nowhere")
    assert [p.name for p in died.app.iterdir()] == ["core"]
    assert (died.app / "core").read_bytes() == b"the second one"


def test_an_old_core_and_that_of_a_neighbour_are_left_alone(died: Any) -> None:
    path = died.app / "core"
    path.write_bytes(b"of last week")
    os.utime(path, (1.7e9, 1.7e9))

    said = cores.find(died.case)

    assert isinstance(said, str)
    assert str(died.app) in said
    cores.put_away(died.case, "/nowhere")
    assert path.exists()


def test_a_core_that_another_program_keeps_is_read_there_and_never_deleted(
    died: Any, tmp_path: Path, monkeypatch: Any
) -> None:
    boot = procfs.boot_id().replace("-", "")
    monkeypatch.setattr(
        cores, "_KEEPERS", (("systemd-coredump", str(tmp_path), "coredumpctl info {pid}"),)
    )
    monkeypatch.setattr(cores, "_PACKING_S", 0.05)
    died.texts["/proc/sys/kernel/core_pattern"] = "|/usr/lib/systemd/systemd-coredump %P %u %g"
    said = cores.find(died.case)
    assert isinstance(said, str)
    assert f"coredumpctl info {died.pid}" in said

    old = tmp_path / f"core.python3.0.0123456789abcdef0123456789abcdef.{died.pid}.1600000000000000"
    mine = tmp_path / f"core.python3.0.{boot}.{died.pid}.1700000000000000"
    for path in (old, mine):
        path.write_bytes(b"a core")
    found = cores.find(died.case)
    assert isinstance(found, cores.Found)
    assert found.path == str(mine)

    bundle = tmp_path / "bundle"
    bundle.mkdir()
    (bundle / cores.NAME).touch()
    cores.put_away(died.case, str(bundle))
    assert mine.exists()


@pytest.mark.parametrize("pattern", ["|/opt/crashes/take %p", "@/run/cores.sock"])
def test_where_nobody_knows_where_cores_go_the_taker_is_named(died: Any, pattern: str) -> None:
    died.texts["/proc/sys/kernel/core_pattern"] = pattern

    said = cores.find(died.case)

    assert isinstance(said, str)
    assert pattern[1:].split()[0] in said


def test_a_packed_core_is_unpacked_up_to_the_size_that_the_worker_may_have(
    died: Any, tmp_path: Path
) -> None:
    if find_tool("xz") is None:
        pytest.skip("xz is not installed")
    import lzma

    packed = tmp_path / "core.xz"
    packed.write_bytes(lzma.compress(b"core" * 1000))
    made = cores._unpack(died.case, str(packed))
    assert Path(made).read_bytes() == b"core" * 1000
    cores._drop(made)

    died.case.facts.plan["limits"] = {"core_bytes": 3999}
    assert cores._unpack(died.case, str(packed)) == ""
    assert "core_max" in died.case.missed[-1]["why"]
    packed.write_bytes(b"\xfd7zXZ damaged")
    assert cores._unpack(died.case, str(packed)) == ""
    assert "cannot unpack" in died.case.missed[-1]["why"]
    home = Path(died.case.state_dir) / "incidents"
    assert list(home.iterdir()) == []


# -- real ones -------------------------------------------------------------------------------------


def crash(node: Any, text: str, core_bytes: int = resource.RLIM_INFINITY) -> Any:
    """Run a program until it dies with a core dump; return the process and what it said."""
    node.program(text)
    hard = resource.getrlimit(resource.RLIMIT_CORE)[1]
    process = node.start(
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_CORE, (core_bytes, hard))
    )
    _, said = process.communicate(timeout=60 * SLOWNESS)
    node.log("err", said, 3)
    return process


def incident(node: Any, process: Any, **more: Any) -> Any:
    return node.incident(node.order(process, status=-process.returncode | 0x80, **more))


@pytest.mark.faults
@needs_plain_cores
@needs_pystack
def test_a_core_gives_the_c_frames_and_the_variables_and_is_gone_afterwards(node: Any) -> None:
    process = crash(node, BY_CTYPES)
    (core,) = node.app.glob("core*")
    inside = corefile.read(str(core))
    assert inside is not None
    assert (inside.pid, inside.tid, inside.is_cut()) == (process.pid, process.pid, False)

    found = incident(node, process)

    text = node.file(found, "core.txt")
    first = text.split("\n\n")[0]
    assert "the signal came here" in first
    assert "_ctypes" in first
    assert first.index("_ctypes") < first.index(" in parse")
    assert "address = 0" in first
    assert 'text = "seven oranges"' in first
    assert "hush" not in text
    assert list(node.app.glob("core*")) == []
    said = found["findings"][0]
    assert "_ctypes" in said["says"]
    assert "parse (app.py:6)" in said["says"]
    assert "core.txt" in said["rests_on"]


@pytest.mark.faults
@needs_plain_cores
@needs_pystack
def test_the_finding_names_the_library_and_the_function_in_c_that_failed(node: Any) -> None:
    """faulthandler stops at the last Python line; of two extensions called there nobody knows which it was."""
    source = node.app / "fastmod.c"
    source.write_text(EXTENSION)
    ending = sysconfig.get_config_var("EXT_SUFFIX")
    header = Path(sysconfig.get_path("include")) / "Python.h"
    compiler = find_tool("cc")
    if compiler is None or not header.exists():
        pytest.skip("there is no C compiler, or Python.h is missing")
    command = [compiler, "-shared", "-fPIC", "-O1", f"-I{header.parent}", str(source), "-o", str(node.app / f"fastmod{ending}")]  # fmt: skip
    subprocess.run(command, check=True, timeout=60 * SLOWNESS)

    found = incident(node, crash(node, BY_EXTENSION))

    says = found["findings"][0]["says"]
    assert found["findings"][0]["confidence"] == "certain"
    assert says.startswith(f"SIGSEGV in deep_read of fastmod{ending}, called by handle (app.py:5)")
    assert 'order = {"id": 7}' in node.file(found, "core.txt").split("\n\n")[0]


@pytest.mark.faults
@needs_plain_cores
@needs_pyspy
def test_without_pystack_the_python_frames_are_read_and_what_is_missing_is_said(
    node: Any, monkeypatch: Any
) -> None:
    """The worker wants its cores here, so this one stays where the kernel put it."""
    node.worker["limits"] = {"core_bytes": 1 << 30}
    node.write_plan()
    process = crash(node, BY_CTYPES)
    before = sorted(p.name for p in node.app.glob("core*"))
    case = capture._open_case(str(node.run_dir), node.order(process, status=11 | 0x80))
    only = find_tool("py-spy")
    monkeypatch.setattr(cores, "find_tool", lambda name, _="": only if name == "py-spy" else None)

    cores.collect(case)

    text = case.files["core.txt"].decode()
    assert text.startswith(f"MainThread (thread {process.pid}, the signal came here)")
    assert 'text = "seven oranges"' in text  # py-spy 0.4 reads no numbers of Python 3.13
    assert "hush" not in text
    (gap,) = case.missed
    assert "pip install pystack" in gap["why"]
    assert "only the Python frames" in gap["why"]
    bundle = node.app / "bundle"
    bundle.mkdir()
    (bundle / cores.NAME).touch()
    cores.put_away(case, str(bundle))
    assert sorted(p.name for p in node.app.glob("core*")) == before


@pytest.mark.faults
@needs_plain_cores
def test_a_core_that_a_limit_cut_off_is_left_and_called_that(node: Any) -> None:
    process = crash(node, BY_CTYPES, core_bytes=1 << 20)

    found = incident(node, process)

    why = [gap["why"] for gap in found["evidence"]["missed"] if gap["what"] == "core"]
    assert "was cut off at" in why[0]
    assert "core_max" in why[0]
    assert len(list(node.app.glob("core*"))) == 1


def test_killed_between_the_bundle_and_the_core_the_next_attempt_deletes_it(
    node: Any, monkeypatch: Any
) -> None:
    """Deleted before the bundle is in its place, a kill would cost the evidence; after the order is done, the disk."""
    texts = {"/proc/sys/kernel/core_pattern": "core\n", "/proc/sys/kernel/core_uses_pid": "0\n"}
    monkeypatch.setattr(cores, "read_text", lambda name, _=0: texts[name])
    monkeypatch.setattr(cores, "_read", lambda case, *_: case.files.update({cores.NAME: b"stacks"}))
    done = subprocess.Popen([sys.executable, "-c", ""])
    done.wait()
    (node.app / "core").write_bytes(b"a core")
    key = node.order(done, status=11 | 0x80)

    class Killed(BaseException):
        """No `except Exception` sees it, as none sees SIGKILL."""

    def killed(*_: Any) -> None:
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(cores, "put_away", killed)
        with pytest.raises(Killed):
            capture.carry_out(str(node.run_dir), key)
    assert [path.name for path in node.app.glob("core*")] == [f"core.{done.pid}"]
    assert node.done(key) is None

    capture.carry_out(str(node.run_dir), key)

    assert len(node.bundles()) == 1
    assert list(node.app.glob("core*")) == []
