"""The real watchdog process in a house that the test plays: what it flags, asks for, orders and remembers."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from holdfast.linux import launch
from holdfast.wire import layout, logindex, sample

pytestmark = pytest.mark.faults


# -- deaths ----------------------------------------------------------------------------------------


def test_a_death_is_written_up_once_and_the_restart_gets_its_verdict(
    house: Any, plan_of: Any, wait_for: Any
) -> None:
    house.plan(plan_of("api"))
    house.watchdog()
    child = house.start("api")
    seq = house.die("api", child, status=11, restarts=3)
    house.start("api")

    wait_for(house.orders)
    order = house.orders()[0]
    assert (order["key"], order["kind"], order["worker"]) == (f"exit-{seq}", "crash", "api")
    assert (order["status"], order["restarts"], order["live"]) == (11, 3, False)
    wait_for(lambda: house.verdicts(f"exit-{seq}") == ["cured"])
    assert len(house.orders()) == 1


@pytest.mark.parametrize(
    "fields",
    [
        {"cause": "stop", "status": 15},
        {"cause": "died", "status": 0},
        {"cause": "remedy", "status": 9, "flag": "missed_heartbeat", "incident": "x"},
    ],
)
def test_what_a_person_asked_for_a_clean_end_and_a_told_remedy_are_no_incidents(
    house: Any, plan_of: Any, wait_for: Any, fields: Any
) -> None:
    house.plan(plan_of("api"))
    house.watchdog()
    quiet = house.exit("api", **fields)
    house.exit("api", status=256)

    wait_for(house.orders)
    assert [o["key"] for o in house.orders()] == [f"exit-{quiet + 1}"]


def test_deaths_while_there_was_no_watchdog_are_written_up_by_the_next(
    house: Any, plan_of: Any, wait_for: Any
) -> None:
    house.plan(plan_of("a"), plan_of("b"))
    first = house.watchdog()
    one = house.exit("a")
    wait_for(lambda: len(house.orders()) == 1)
    first.kill()
    first.wait()
    two = house.exit("b")
    house.watchdog()

    wait_for(lambda: len(house.orders()) == 2)
    assert [o["key"] for o in house.orders()] == [f"exit-{one}", f"exit-{two}"]


def test_a_storm_of_deaths_is_folded_and_every_one_is_counted(
    house: Any, plan_of: Any, wait_for: Any
) -> None:
    house.plan(plan_of("api"))
    house.watchdog()
    for n in range(1, 21):
        house.exit("api", n=n, restarts=n)

    wait_for(lambda: sum(1 + o["coalesced"] for o in house.orders()) == 20)
    assert len(house.orders()) <= 3
    assert house.orders()[-1]["restarts"] == 20


def test_killed_again_and_again_it_writes_every_death_up_and_none_twice(
    house: Any, plan_of: Any, wait_for: Any
) -> None:
    """Law 1, for the part that is the watchdog's: no exit is lost or handled twice."""
    names = [f"w{i}" for i in range(12)]
    house.plan(*(plan_of(name) for name in names))
    expected = []
    for index, name in enumerate(names):
        dog = house.watchdog()
        expected.append(f"exit-{house.exit(name)}")
        time.sleep(0.004 * index)  # killed at another moment of its work each time
        dog.kill()
        dog.wait()
    house.watchdog()

    wait_for(lambda: {o["key"] for o in house.orders()} >= set(expected), 30)
    wait_for(lambda: not list((house.run_dir / layout.ORDERS).glob("*.json")))
    done = sorted(path.name for path in (house.run_dir / layout.ORDERS).glob("*.done"))
    assert done == sorted(f"{key}.done" for key in expected)


def test_a_compacted_journal_is_not_read_twice(house: Any, plan_of: Any, wait_for: Any) -> None:
    house.plan(plan_of("api"), plan_of("db"))
    house.watchdog()
    house.exit("api")
    wait_for(lambda: len(house.orders()) == 1)
    path = house.run_dir / layout.JOURNAL
    shorter = house.run_dir / "shorter"
    shorter.write_bytes(path.read_bytes() + b"torn and foreign line\n")
    shorter.rename(path)
    house.exit("db")

    wait_for(lambda: len(house.orders()) == 2)
    assert [o["worker"] for o in house.orders()] == ["api", "db"]


def test_evidence_that_never_ends_is_stopped_and_given_up_in_the_end(
    house: Any, plan_of: Any, wait_for: Any
) -> None:
    house.plan(plan_of("api"))
    house.evidence_does("import sys; sys.exit(1)\n")
    house.watchdog()
    seq = house.exit("api")

    done = house.run_dir / layout.ORDERS / f"exit-{seq}.done"
    wait_for(done.exists, 20)
    assert json.loads(done.read_text())["incident"] is None
    assert "given up" in house.said()


# -- readiness -------------------------------------------------------------------------------------


def ready_when(house: Any, wait_for: Any, n: int = 1) -> None:
    wait_for(lambda: house.asked("ready"))
    assert house.asked("ready")[0] == {"do": "ready", "worker": "api", "n": n}


def test_a_tcp_port_makes_it_ready_when_it_listens(house: Any, plan_of: Any, wait_for: Any) -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    listener.close()
    house.plan(plan_of("api", ready={"kind": "tcp", "target": f"127.0.0.1:{port}"}))
    house.watchdog()
    house.start("api")
    assert not house.asked("ready")
    listener = socket.create_server(("127.0.0.1", port))

    ready_when(house, wait_for)
    listener.close()


def test_a_unix_socket_makes_it_ready(
    house: Any, plan_of: Any, wait_for: Any, tmp_path: Any
) -> None:
    house.plan(plan_of("api", ready={"kind": "unix", "target": str(tmp_path / "s")}))
    house.watchdog()
    house.start("api")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "s"))
    listener.listen()

    ready_when(house, wait_for)
    listener.close()


class Web:
    """An HTTP server with a status that the test sets."""

    def __init__(self) -> None:
        web = self
        self.status = 503

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(web.status)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/health"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True)
        self.thread.start()

    def end(self) -> None:
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def web() -> Iterator[Web]:
    found = Web()
    yield found
    found.end()


def test_http_makes_it_ready_only_with_a_good_status(
    house: Any, plan_of: Any, wait_for: Any, web: Any
) -> None:
    house.plan(plan_of("api", ready={"kind": "http", "target": web.url}))
    house.watchdog()
    house.start("api")
    web.status = 200

    ready_when(house, wait_for)


def test_a_file_of_an_earlier_life_does_not_make_it_ready(
    house: Any, plan_of: Any, wait_for: Any, tmp_path: Any
) -> None:
    path = tmp_path / "up"
    path.touch()
    old = time.time() - 100
    os.utime(path, (old, old))
    time.sleep(0.15)  # the change time of the old file has to lie before the start
    house.plan(
        plan_of("api", ready={"kind": "file", "target": str(path)}),
        plan_of("b", ready={"kind": "exec", "argv": ["/bin/true"]}),
    )
    house.watchdog()
    house.start("api")
    house.start("b")
    wait_for(lambda: any(r["worker"] == "b" for r in house.asked("ready")))
    assert all(r["worker"] == "b" for r in house.asked("ready"))
    path.touch()

    wait_for(lambda: any(r["worker"] == "api" for r in house.asked("ready")))


def test_a_command_makes_it_ready(house: Any, plan_of: Any, wait_for: Any, tmp_path: Any) -> None:
    ready = {"kind": "exec", "argv": ["/bin/sh", "-c", f"test -e {tmp_path}/flag"]}
    house.plan(plan_of("api", directory=str(tmp_path), ready=ready))
    house.watchdog()
    house.start("api")
    (tmp_path / "flag").touch()

    ready_when(house, wait_for)


@pytest.mark.parametrize("pattern", ["Server ready", r"ready on port \d+$"])
def test_a_line_of_this_life_in_the_log_makes_it_ready(
    house: Any, plan_of: Any, wait_for: Any, tmp_path: Any, pattern: Any
) -> None:
    log = {"max_bytes": 1, "max_age_s": 0, "keep": 1, "compress": False, "directory": str(tmp_path)}
    old = b"Server ready on port 1\n"
    (tmp_path / "out.log").write_bytes(old)
    (tmp_path / ".out.log.idx").write_bytes(logindex.encode(0, 1, 1))
    worker = plan_of("api", ready={"kind": "log", "target": pattern})
    worker["log"] = log
    house.plan(worker)
    house.n["api"] = 1
    house.watchdog()
    house.start("api")  # the second life: what the first wrote does not count
    with open(tmp_path / "out.log", "ab") as file, open(tmp_path / ".out.log.idx", "ab") as index:
        index.write(logindex.encode(len(old), 2, 2))
        file.write(b"starting\n")
        file.flush()
        assert not house.asked("ready")
        file.write(b"Server ready on port 2\n")

    ready_when(house, wait_for, 2)


NOTIFIER = """
import os, socket, sys, time
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.connect(os.environ["NOTIFY_SOCKET"])
for word in sys.argv[1:]:
    if word[0] == "+":
        time.sleep(float(word[1:]))
    else:
        s.send(word.encode())
time.sleep(1000)
"""


def test_sd_notify_makes_it_ready_also_from_a_child(
    house: Any, plan_of: Any, wait_for: Any
) -> None:
    house.plan(plan_of("api", ready={"kind": "notify"}))
    house.watchdog()
    house.start(
        "api", ["/bin/sh", "-c", '"$@" & wait', "sh", sys.executable, "-c", NOTIFIER, "READY=1"]
    )

    ready_when(house, wait_for)


def test_a_ready_that_was_said_while_there_was_no_watchdog_is_heard(
    house: Any, plan_of: Any, wait_for: Any
) -> None:
    """It is said only once: lost, the worker would be killed for a start that had succeeded."""
    house.plan(plan_of("api", ready={"kind": "notify"}))
    dog = house.watchdog()
    wait_for(lambda: layout.NOTIFY in house.held)
    dog.kill()
    dog.wait()
    child = house.start("api", [sys.executable, "-c", NOTIFIER + "", "READY=1"])
    wait_for(lambda: _sleeps(child.pid))
    assert not house.asked("ready")
    house.watchdog()

    ready_when(house, wait_for)


def _sleeps(pid: int) -> bool:
    """Whether the notifier has said all it has to say."""
    with open(f"/proc/{pid}/syscall") as file:
        return file.read().split()[0] in ("35", "230", "115", "101")  # nanosleep, clock_nanosleep


def test_a_ready_that_was_taken_but_not_passed_on_is_not_lost(
    house: Any, plan_of: Any, wait_for: Any
) -> None:
    house.plan(plan_of("api", ready={"kind": "notify"}))
    house.answers = lambda _: None  # the keeper is being restarted: it answers nothing
    dog = house.watchdog()
    house.start("api", [sys.executable, "-c", NOTIFIER, "READY=1"])
    wait_for(lambda: house.asked("ready"))
    dog.kill()
    dog.wait()
    house.requests.clear()
    house.answers = lambda _: {"ok": True}
    house.watchdog()

    ready_when(house, wait_for)


def test_the_inherited_socket_is_not_used_when_the_path_leads_elsewhere(
    house: Any, plan_of: Any, wait_for: Any
) -> None:
    house.plan(plan_of("api", ready={"kind": "notify"}))
    first = house.watchdog(held=False)
    wait_for(lambda: layout.NOTIFY in house.held)
    stale = os.dup(house.held[layout.NOTIFY])
    first.kill()
    first.wait()
    # A predecessor binds a new one and dies before the anchor has it.
    other = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    (house.run_dir / layout.NOTIFY).unlink()
    other.bind(str(house.run_dir / layout.NOTIFY))
    other.close()
    house.held[layout.NOTIFY] = stale
    house.watchdog()
    house.start("api", [sys.executable, "-c", NOTIFIER, "READY=1"])

    ready_when(house, wait_for)


def test_one_that_does_not_get_ready_is_restarted_with_evidence(
    house: Any, plan_of: Any, wait_for: Any
) -> None:
    house.plan(plan_of("api", ready={"kind": "notify", "timeout_s": 0.5}))
    house.watchdog()
    child = house.start("api")

    order = wait_for(lambda: house.asked("restart"))[0]
    assert (order["worker"], order["flag"], order["by"], order["how"]) == (
        "api",
        "start_failed",
        "watchdog",
        "kill",
    )
    evidence = house.orders()[0]
    assert (evidence["kind"], evidence["live"], evidence["pid"]) == ("start", True, child.pid)
    assert order["incident"] == "incident-" + evidence["key"]


# -- heartbeats ------------------------------------------------------------------------------------

BEATING = {"kind": "pulse", "timeout_s": 1.0}


def obey(house: Any, heart: Any, name: str = "api", sick_again: bool = False) -> dict[str, Any]:
    """Play the keeper: restart on order. Returns the lives as they are lived."""
    lives: dict[str, Any] = {}

    def begin() -> None:
        lives["child"] = house.start(name)
        lives["heart"] = heart(house, name, lives["child"].pid, house.n[name])

    def answer(request: dict[str, Any]) -> dict[str, Any]:
        if request["do"] == "restart":
            house.record(
                k="order",
                do="restart",
                worker=name,
                by="watchdog",
                how="kill",
                flag=request["flag"],
                incident=request["incident"],
            )
            lives["heart"].end()
            house.die(
                name,
                lives["child"],
                cause="remedy",
                flag=request["flag"],
                incident=request["incident"],
            )
            begin()
            lives["heart"].loop = not sick_again
        return {"ok": True}

    house.answers = answer
    begin()
    return lives


def test_a_blocked_loop_is_flagged_written_up_restarted_and_verified(
    house: Any, plan_of: Any, wait_for: Any, heart: Any
) -> None:
    """The whole way: symptom, flag, evidence, remedy, verify, cleared."""
    house.plan(plan_of("api", heartbeat=BEATING))
    house.watchdog()
    lives = obey(house, heart)
    began_s = time.monotonic()
    lives["heart"].loop = False

    wait_for(lambda: house.asked("restart"))
    took_s = time.monotonic() - began_s
    order = house.orders()[0]
    assert (order["kind"], order["worker"], order["live"], order["n"]) == ("hang", "api", True, 1)
    assert order["flag"]["says"].startswith("loop blocked")
    wait_for(lambda: house.flag("api", "missed_heartbeat") is None, words="the flag to go")
    wait_for(lambda: house.verdicts(order["key"]) == ["cured"])
    assert len(house.asked("restart")) == 1
    assert len(house.orders()) == 1  # the kill itself is not a second incident
    # Twice its timeout is a figure of bench/hangs.py; here it is only that it does not wait for ever.
    assert took_s < 10.0 * float(os.environ.get("HOLDFAST_SLOWNESS", "1"))


def test_both_beats_gone_is_a_held_gil_and_state_t_is_stopped(
    house: Any, plan_of: Any, wait_for: Any, heart: Any
) -> None:
    house.plan(plan_of("gil", heartbeat=BEATING), plan_of("stop", heartbeat=BEATING))
    house.watchdog()
    house.answers = lambda _: {"ok": True}
    for name in ("gil", "stop"):
        child = house.start(name)
        beating = heart(house, name, child.pid)
        wait_for(lambda name=name: house.run_dir.joinpath(layout.pulse(name)).exists())
        beating.loop = beating.thread = False
        if name == "stop":
            os.kill(child.pid, signal.SIGSTOP)

    wait_for(lambda: len(house.orders()) == 2)
    says = {o["worker"]: o["flag"]["says"] for o in house.orders()}
    assert says["gil"].startswith("GIL held")
    assert says["stop"].startswith("stopped")


def test_a_remedy_that_does_not_help_leads_up_the_ladder_until_it_gives_up(
    house: Any, plan_of: Any, wait_for: Any, heart: Any
) -> None:
    house.watch["verify_s"] = 0.6
    house.plan(plan_of("api", heartbeat=BEATING))
    house.watchdog()
    lives = obey(house, heart, sick_again=True)
    lives["heart"].loop = False

    wait_for(lambda: (house.flag("api", "missed_heartbeat") or {}).get("phase") == "gave_up", 90)
    assert len(house.asked("restart")) == 2
    verdicts = [house.verdicts(o["key"]) for o in house.orders()]
    assert [v[0] for v in verdicts] in (
        ["did_not_help", "did_not_help"], ["came_back", "came_back"],
        ["came_back", "did_not_help"], ["did_not_help", "came_back"],
    )  # fmt: skip
    assert verdicts[-1][-1] == "gave_up"


def test_killed_at_any_phase_the_next_watchdog_goes_on_from_the_flag(
    house: Any, plan_of: Any, heart: Any
) -> None:
    house.plan(plan_of("api", heartbeat=BEATING))
    dog = house.watchdog()
    lives = obey(house, heart)
    lives["heart"].loop = False
    seen = []
    until = time.monotonic() + 40
    while time.monotonic() < until:
        flag = house.flag("api", "missed_heartbeat")
        phase = flag["phase"] if flag else ""
        if phase and phase not in seen:
            seen.append(phase)
            dog.kill()
            dog.wait()
            dog = house.watchdog()
        if "verify" in seen and flag is None:
            break

    assert house.flag("api", "missed_heartbeat") is None
    assert seen[-1] == "verify"
    assert len(house.asked("restart")) == 1
    assert len({o["key"] for o in house.orders()}) == 1


def test_an_order_that_the_keeper_does_not_take_is_given_again(
    house: Any, plan_of: Any, wait_for: Any, heart: Any
) -> None:
    house.plan(plan_of("api", heartbeat=BEATING))
    house.watchdog()
    child = house.start("api")
    house.answers = lambda r: (
        {"ok": False, "error": "the keeper is busy"} if r["do"] == "restart" else {"ok": True}
    )
    heart(house, "api", child.pid).loop = False

    wait_for(lambda: len(house.asked("restart")) >= 2)
    assert house.flag("api", "missed_heartbeat")["phase"] == "remedy"
    assert len(house.orders()) == 1


def test_a_person_who_stops_the_worker_ends_the_matter(
    house: Any, plan_of: Any, wait_for: Any, heart: Any
) -> None:
    house.plan(plan_of("api", heartbeat=BEATING))
    house.watchdog()
    child = house.start("api")
    house.answers = lambda _: {"ok": False, "error": "no"}
    heart(house, "api", child.pid).loop = False
    wait_for(lambda: house.flag("api", "missed_heartbeat"))
    house.record(k="want", worker="api", up=False, by="user")
    house.die("api", child, cause="stop", next="none")

    wait_for(lambda: house.flag("api", "missed_heartbeat") is None)


def test_silence_of_sd_notify_and_the_trigger_are_missed_heartbeats(
    house: Any, plan_of: Any, wait_for: Any
) -> None:
    beat = {"kind": "notify", "timeout_s": 0.7}
    house.plan(
        plan_of("quiet", heartbeat=beat), plan_of("asks", heartbeat={**beat, "timeout_s": 60.0})
    )
    house.watchdog()
    house.start(
        "quiet", [sys.executable, "-c", NOTIFIER, "READY=1", "WATCHDOG=1", "+0.2", "WATCHDOG=1"]
    )
    house.start(
        "asks", [sys.executable, "-c", NOTIFIER, "READY=1", "WATCHDOG=1", "WATCHDOG=trigger"]
    )

    wait_for(lambda: {r["worker"] for r in house.asked("restart")} == {"quiet", "asks"})
    assert {r["flag"] for r in house.asked("restart")} == {"missed_heartbeat"}


def test_a_file_that_is_not_touched_any_more_is_a_missed_heartbeat(
    house: Any, plan_of: Any, wait_for: Any, tmp_path: Any
) -> None:
    path = tmp_path / "beat"
    path.touch()
    house.plan(plan_of("api", heartbeat={"kind": "file", "target": str(path), "timeout_s": 1.0}))
    house.watchdog()
    house.start("api")
    for _ in range(20):
        path.touch()
        time.sleep(0.1)
    assert not house.asked("restart")

    wait_for(lambda: house.asked("restart"))


def test_two_failed_probes_in_a_row_are_flagged_one_is_not(
    house: Any, plan_of: Any, wait_for: Any, web: Any
) -> None:
    web.status = 200
    beat = {"kind": "http", "target": web.url, "period_s": 0.2, "timeout_s": 1.0}
    house.plan(plan_of("api", heartbeat=beat))
    house.watchdog()
    house.start("api")
    time.sleep(0.5)
    assert house.flag("api", "failed_probe") is None
    web.status = 500

    wait_for(lambda: house.asked("restart"))
    order = house.orders()[0]
    assert order["kind"] == "probe"
    assert "HTTP status 500" in order["flag"]["says"]


# -- the rest --------------------------------------------------------------------------------------


def test_memory_over_the_limit_is_a_remedy_where_no_cgroup_does_it(
    house: Any, plan_of: Any, wait_for: Any
) -> None:
    house.plan(plan_of("fat", limits={"memory_bytes": 60 << 20}))
    house.watchdog()
    house.start(
        "fat", [sys.executable, "-c", "import time; x = bytearray(100 << 20); time.sleep(1000)"]
    )

    order = wait_for(lambda: house.asked("restart"))[0]
    assert order["flag"] == "memory_over_limit"
    # Its growth may have been flagged a moment before, with all the time in the world.
    evidence = [one for one in house.orders() if one["kind"] == "memory"]
    assert not evidence or evidence[0]["deadline_s"] <= 0.051


def test_a_crash_loop_is_shown_and_not_acted_upon(house: Any, plan_of: Any, wait_for: Any) -> None:
    house.plan(plan_of("api", restart={"healthy_s": 1.0}))
    house.watchdog()
    seq = house.exit("api", next="slow", delay_s=30.0, deaths=6)

    wait_for(lambda: (house.flag("api", "crash_loop") or {}).get("incident"))
    flag = house.flag("api", "crash_loop")
    assert flag["incident"] == f"incident-exit-{seq}"
    assert not house.asked("restart")
    assert len(house.orders()) == 1
    house.start("api")
    wait_for(
        lambda: house.flag("api", "crash_loop") is None, words="the flag to go after a healthy life"
    )


def test_a_full_disk_is_flagged_and_written_up(house: Any, plan_of: Any, wait_for: Any) -> None:
    house.watch["disk_min_share"] = 1.5  # no disk is emptier than this
    house.plan(plan_of("api"))
    house.watchdog()

    wait_for(lambda: house.flag("@node", "disk_low"))
    wait_for(lambda: [o["kind"] for o in house.orders()] == ["disk"])
    assert not house.asked("restart")


def test_garbled_files_of_all_kinds_do_not_stop_it(house: Any, plan_of: Any, wait_for: Any) -> None:
    house.plan(plan_of("api", heartbeat=BEATING))
    (house.run_dir / layout.JOURNAL).write_bytes(b"\xff\x00garbage\n12345678 {}\n")
    (house.run_dir / layout.SEEN).write_bytes(b'{"seq": "x"')
    (house.run_dir / layout.flag("api", "missed_heartbeat")).write_bytes(b"{half")
    (house.run_dir / layout.flag("gone", "failed_probe")).write_bytes(b"[]")
    (house.run_dir / layout.ORDERS / "exit-7.json").write_bytes(b"\xffhalf")
    (house.run_dir / layout.pulse("api")).write_bytes(b"HFPULSE1")
    (house.run_dir / layout.SAMPLES / "api").write_bytes(b"\x01" * 77)
    dog = house.watchdog()
    # It beats before it has read anything: a plan that is garbled at once would be all it ever saw.
    wait_for((house.run_dir / layout.ORDERS / "exit-7.done").exists)
    house.start("api")
    seq = house.exit("api")
    house.plan(plan_of("api"))
    (house.run_dir / layout.PLAN).write_bytes(b"not a plan")
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    for data in (b'{"do":"plan"}\n', b"", b"\xff\xfe", b"[1]", b'{"do":7}'):
        sock.sendto(data, str(house.run_dir / layout.socket("watchdog")))
    for data in (b"", b"\xff=\xff", b"=", b"READY=1\nREADY", b"X" * 5000):
        sock.sendto(data, str(house.run_dir / layout.NOTIFY))
    sock.close()

    wait_for(lambda: any(o["key"] == f"exit-{seq}" for o in house.orders()))
    assert dog.poll() is None
    assert not (house.run_dir / layout.flag("gone", "failed_probe")).exists()
    assert (house.run_dir / layout.ORDERS / "exit-7.done").exists()


def test_samples_are_taken_and_go_on_numbering_after_a_restart(
    house: Any, plan_of: Any, wait_for: Any
) -> None:
    house.watch["sample_s"] = 0.1
    house.plan(plan_of("api"))
    dog = house.watchdog()
    child = house.start("api")
    path = house.run_dir / layout.SAMPLES / "api"
    wait_for(lambda: path.exists() and len(sample.decode(path.read_bytes())) >= 2)
    dog.kill()
    dog.wait()
    before = len(sample.decode(path.read_bytes()))
    house.watchdog()

    wait_for(lambda: len(sample.decode(path.read_bytes())) > before)
    found = sample.decode(path.read_bytes())
    assert [s["number"] for s in found] == list(range(len(found)))
    assert {s["pid"] for s in found} == {child.pid}
    assert all(s["rss_bytes"] > 0 for s in found)


def test_a_second_watchdog_ends_with_status_75(house: Any, plan_of: Any) -> None:
    house.plan(plan_of("api"))
    house.watchdog()
    second = subprocess.run(launch.command("watchdog", str(house.run_dir)), timeout=60, check=False)
    assert second.returncode == 75


def test_a_house_process_that_does_not_beat_is_killed_and_written_up(
    house: Any, plan_of: Any, wait_for: Any
) -> None:
    house.watch["house_timeout_s"] = 1.0
    house.plan(plan_of("api"))
    house.watchdog()
    stuck = house_process(house, "logger")
    wait_for(lambda: stuck.poll() is not None, 20)

    assert stuck.returncode == -signal.SIGKILL
    wait_for(lambda: [o["worker"] for o in house.orders()] == ["@logger"])


def house_process(house: Any, role: str) -> "subprocess.Popen[bytes]":
    """A process that has the lock of a role, beat once, and hangs."""
    script = (
        "import sys, time\n"
        "from holdfast.linux.house import House\n"
        f"House({str(house.run_dir)!r}, {role!r})\n"
        "time.sleep(1000)\n"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", script], env={**os.environ, "PYTHONPATH": str(house.source)}
    )
    house.children.append(child)
    return child
