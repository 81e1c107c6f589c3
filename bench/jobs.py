#!/usr/bin/env python3
"""What does a job cost, what does a kill -9 cost, and how do other job queues do on the same machine?

    python bench/jobs.py --harness PATH/jobs.py [--peers sidekiq-ruby,huey-redis,huey-sqlite --peers-python BIN] [--only throughput,rounds] [--json FILE]

The whole table in one run: the harness (kept apart from the project, see bench/README.md) starts brokers and workers and kills
them, ours through `jobs_plugin.py`; what it lacks is measured here. Parts for --only: `throughput` (enqueue, drain), `kill` (the harness's
one kill, group and child), `poison`, `broker` (Redis killed -9 and restarted with AOF); and of ours alone `rounds` (kills at random instants, judged by
evidence, see tests/faults/jobs_town.py), `million` (1,000,000 waiting against 1,000), `memory`, `latency` (enqueue to start).
"""

import argparse
import contextlib
import json
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
SOURCE, TESTS = str(HERE.parent / "src"), str(HERE.parent / "tests")
sys.path[:0] = [SOURCE, TESTS, str(HERE)]
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # else each start compiles all that it imports
PARTS = ("throughput", "kill", "poison", "broker", "rounds", "million", "memory", "latency")
OURS = "holdfast-redis,holdfast-sqlite"
STORES = ("redis", "sqlite")
#: (key, what, goal, whether more is better, unit, whose figure stands beside it)
ROWS = (
    ("drain redis 1", "no-op jobs/s drained, one process, Redis, 1 thread", 20_000, True, "", "sidekiq-ruby"),
    ("drain redis 10", "no-op jobs/s drained, one process, Redis, 10 threads", 20_000, True, "", "sidekiq-ruby"),
    ("drain sqlite 1", "no-op jobs/s drained, one process, SQLite, 1 thread", 33_600, True, "", "huey-sqlite"),
    ("drain sqlite 10", "no-op jobs/s drained, one process, SQLite, 10 threads", 8_400, True, "", "huey-sqlite"),
    ("one redis", "enqueue/s one by one, Redis", 5_900, True, "", "sidekiq-ruby"),
    ("bulk redis", "enqueue/s in bulk, Redis", 57_000, True, "", "sidekiq-ruby"),
    ("one sqlite", "enqueue/s one by one, SQLite", 20_800, True, "", "huey-sqlite"),
    ("bulk sqlite", "enqueue/s in bulk, SQLite", 80_000, True, "", "huey-sqlite"),
    ("kill redis lost", "kill -9 of the group, Redis: lost", 0, False, "", "streaq"),
    ("kill redis doubled", "kill -9 of the group, Redis: doubled", 0, False, "", "streaq"),
    ("kill redis s", "kill -9 of the group, Redis: all running again", 1.5, False, " s", "streaq"),
    ("kill sqlite lost", "kill -9 of the group, SQLite: lost", 0, False, "", "huey-sqlite"),
    ("kill sqlite doubled", "kill -9 of the group, SQLite: doubled", 0, False, "", "huey-sqlite"),
    ("kill sqlite s", "kill -9 of the group, SQLite: all running again", 1.5, False, " s", "huey-sqlite"),
    ("rounds redis lost", "kills at random instants, Redis: lost", 0, False, "", ""),
    ("rounds redis doubled", "kills at random instants, Redis: doubled without cause", 0, False, "", ""),
    ("rounds redis s", "time to all done beyond the work, median, Redis", 1.5, False, " s", ""),
    ("rounds redis worst", "time to all done beyond the work, worst, Redis", 1.5, False, " s", ""),
    ("rounds sqlite lost", "kills at random instants, SQLite: lost", 0, False, "", ""),
    ("rounds sqlite doubled", "kills at random instants, SQLite: doubled without cause", 0, False, "", ""),
    ("rounds sqlite s", "time to all done beyond the work, median, SQLite", 1.5, False, " s", ""),
    ("rounds sqlite worst", "time to all done beyond the work, worst, SQLite", 1.5, False, " s", ""),
    ("poison redis runs", "poison: runs before it is set aside, Redis", 2, False, "", "dramatiq"),
    ("poison redis done", "poison: neighbours done, of 200, Redis", 200, True, "", "dramatiq"),
    ("poison redis s", "poison: until the neighbours are done, Redis", 3, False, " s", "dramatiq"),
    ("poison sqlite runs", "poison: runs before it is set aside, SQLite", 2, False, "", "huey-sqlite"),
    ("poison sqlite done", "poison: neighbours done, of 200, SQLite", 200, True, "", "huey-sqlite"),
    ("poison sqlite s", "poison: until the neighbours are done, SQLite", 3, False, " s", "huey-sqlite"),
    ("broker redis lost", "Redis killed -9 and restarted with AOF: lost or stranded", 0, False, "", "sidekiq-ruby"),
    ("broker redis s", "Redis killed -9: all done after its return", 3, False, " s", "sidekiq-ruby"),
    ("million redis enqueue", "enqueue at 1,000,000 waiting against 1,000, Redis", 1.5, False, " times", ""),
    ("million redis fetch", "fetch at 1,000,000 waiting against 1,000, Redis", 1.5, False, " times", ""),
    ("million sqlite enqueue", "enqueue at 1,000,000 waiting against 1,000, SQLite", 1.5, False, " times", ""),
    ("million sqlite fetch", "fetch at 1,000,000 waiting against 1,000, SQLite", 1.5, False, " times", ""),
    ("memory redis", "memory of a worker (RSS), Redis", 40, False, " MB", "sidekiq-ruby"),
    ("memory sqlite", "memory of a worker (RSS), SQLite", 40, False, " MB", "huey-sqlite"),
    ("latency redis p50", "enqueue to start, p50, Redis", 1, False, " ms", ""),
    ("latency redis p99", "enqueue to start, p99, Redis", 5, False, " ms", ""),
    ("latency sqlite p50", "enqueue to start, p50, SQLite", 10, False, " ms", ""),
    ("latency sqlite p99", "enqueue to start, p99, SQLite", 20, False, " ms", ""),
)  # fmt: skip


# -- what the harness measures


def harness(options, words, names):
    """Run the harness and return its results, a dict for each line."""
    with tempfile.NamedTemporaryFile("r", suffix=".jsonl") as results:
        from faults.jobs_town import free_port

        env = {**os.environ, "REDIS_URL": f"redis://127.0.0.1:{free_port()}/0"}
        if options.peers_python:
            for name in ("HUEY", "DRAMATIQ", "STREAQ"):
                env[f"BENCH_PY_{name}"] = options.peers_python
        argv = [sys.executable, options.harness, "--plugin", str(HERE / "jobs_plugin.py"), "--json", results.name, *words, "-o", names]  # fmt: skip
        done = subprocess.run(argv, env=env, stdout=subprocess.PIPE, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"the harness ended with {done.returncode}: {done.stdout[-500:]}")
        lines = [json.loads(line) for line in results.read().splitlines()]
    for line in lines:
        if "error" in line:
            print(f"{line['queue']}: {line['error']} {line.get('log', '')}", file=sys.stderr)
    return [line for line in lines if "error" not in line]


def store_of(queue):
    return "sqlite" if queue.endswith("sqlite") else "redis"


def everybody(options):
    return ",".join(filter(None, (OURS, options.peers)))


def note(found, line, key, value):
    if value is not None:
        found.setdefault(line["queue"], {})[key] = value


def throughput(options, found):
    """Enqueue one by one and in bulk, then drain."""
    for line in harness(options, ["throughput", "-n", str(options.n), "-c", "1,10"], everybody(options)):  # fmt: skip
        store = store_of(line["queue"])
        note(found, line, f"drain {store} {line['conc']}", line["drain_per_s"])
        note(found, line, f"cpu {store} {line['conc']}", line["cpu_us_per_job"])
        note(found, line, f"one {store}", line.get("enqueue_per_s"))
        note(found, line, f"bulk {store}", line.get("bulk_enqueue_per_s"))
        if not line["queue"].startswith("holdfast"):
            note(found, line, f"memory {store}", line["rss_mb"])


def kill(options, found):
    """The harness's kill: one third done, the whole group dies, and is started again."""
    for mode in ("default", "safe"):
        # The peers at their safest; ours has one mode.
        names = OURS if mode == "default" else options.peers
        for line in harness(options, ["kill9", "-m", mode, "-s", "group", "-w", "60"], names) if names else ():  # fmt: skip
            store = store_of(line["queue"])
            note(found, line, f"kill {store} lost", line["missing"])
            note(found, line, f"kill {store} doubled", line["duplicated"])
            note(found, line, f"kill {store} s", line["pickup_s"])


def poison(options, found):
    """One job of 201 kills its process each time."""
    for line in harness(options, ["poison", "-w", "20"], everybody(options)):
        store = store_of(line["queue"])
        note(found, line, f"poison {store} runs", line["pill_runs"])
        note(found, line, f"poison {store} done", line["normal_done"])
        note(found, line, f"poison {store} s", line["all_normal_done_s"])


def broker(options, found):
    """Redis dies in the middle."""
    names = ",".join(name for name in everybody(options).split(",") if store_of(name) == "redis")
    for line in harness(options, ["broker-restart", "--how", "kill", "--aof"], names):
        note(found, line, "broker redis lost", line["missing"])
        note(found, line, "broker redis s", line["complete_s"])


# -- what is ours alone


class Place:
    """A directory and a store of each kind, with workers in their own session on demand."""

    def __init__(self, kind):
        from faults.jobs_town import RedisServer

        self.directory = Path(tempfile.mkdtemp())
        self.server = RedisServer(self.directory, aof=False) if kind == "redis" else None
        self.url = self.server.url if self.server else f"sqlite:///{self.directory}/jobs.db"
        self.worker = None
        with (self.directory / "mark").open("wb") as file:
            file.truncate(1 << 20)

    def work(self, threads):
        env = {**os.environ, "BENCH_DIR": str(self.directory), "PYTHONPATH": os.pathsep.join((str(HERE), SOURCE))}  # fmt: skip
        with (self.directory / "log").open("ab") as log:
            self.worker = subprocess.Popen(
                [sys.executable, "-m", "holdfast", "jobs", "work", "jobs_tasks", "-c", str(threads), "--store", self.url],
                env=env, cwd=self.directory, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip

    def marks(self):
        return (self.directory / "mark").read_bytes().count(b"\1")

    def lines(self, name):
        with contextlib.suppress(FileNotFoundError):
            return (self.directory / name).read_text().splitlines()
        return []

    def end(self):
        if self.worker:
            with contextlib.suppress(ProcessLookupError):
                self.worker.send_signal(signal.SIGTERM)
            try:
                self.worker.wait(15)
            except subprocess.TimeoutExpired:
                os.killpg(self.worker.pid, signal.SIGKILL)
                self.worker.wait()
        if self.server:
            self.server.kill()
        shutil.rmtree(self.directory, ignore_errors=True)


def ours(found, store):
    return found.setdefault(f"holdfast-{store}", {})


def noops(n, start=0):
    """So many no-op jobs as JSON."""
    import secrets

    from holdfast.wire import sidekiq

    now = time.time()
    return [
        sidekiq.dumps(sidekiq.new("noop", [(start + i) % (1 << 20)], jid=secrets.token_hex(12), queue="default", now_s=now))
        for i in range(n)
    ]  # fmt: skip


def rounds(options, found):
    """The worker, or everything at once, is killed at a random instant; judged by evidence."""
    from faults.jobs_town import RedisServer, Town

    chance = random.Random(options.seed)
    for kind in STORES:
        directory = Path(tempfile.mkdtemp())
        server = RedisServer(directory, aof=False) if kind == "redis" else None
        town = Town(
            directory, server.url if server else f"sqlite:///{directory}/jobs.db", threads=10
        )
        beyond = []
        try:
            town.start()
            for at in range(options.rounds):
                took = one_round(town, at, "worker" if at % 2 else "all", chance)
                beyond.append(took)
                print(f"{kind}: round {at}: {took:.2f} s beyond the work", file=sys.stderr)
            verdict = town.judge()
            figures = ours(found, kind)
            figures[f"rounds {kind} lost"] = len(verdict["lost"])
            figures[f"rounds {kind} doubled"] = len(verdict["doubled without cause"])
            figures[f"rounds {kind} s"] = statistics.median(beyond)
            figures[f"rounds {kind} worst"] = max(beyond)
            figures["details of the rounds"] = verdict
        finally:
            town.end()
            if server:
                server.kill()
            shutil.rmtree(directory, ignore_errors=True)


def one_round(town, at, whom, chance):
    """Return the seconds from the kill until all was done, less those that the work itself would have taken."""
    from node import wait_for

    n, before = 300, len(town.lines())
    town.push(n, "town.steady", f"r{at}")
    wait_for(lambda: len(town.lines()) > before, "the first of them", 60)
    began = time.monotonic()
    share = chance.uniform(0.1, 0.8)
    wait_for(lambda: len(town.lines()) >= before + n * share, "some of them", 60)
    time.sleep(chance.uniform(0, 0.02))
    done, rate_s = len(town.lines()) - before, time.monotonic() - began
    town.kill(whom)
    killed = time.monotonic()
    if whom == "all":
        town.start()
    wait_for(town.is_over, "all of them", 120)
    return time.monotonic() - killed - (n - done) * rate_s / done


def million(options, found):
    """The same operations on a store with 1,000 and on one with 1,000,000 waiting jobs, in turn."""
    from holdfast.jobs.opening import open_store

    for kind in STORES:
        places = [Place(kind), Place(kind)]
        try:
            stores = [open_store(place.url) for place in places]
            for store, n in zip(stores, (1_000, options.million), strict=True):
                for start in range(0, n, 1_000):
                    store.push(noops(min(1_000, n - start), start))
            took = [{"enqueue": [], "fetch": []} for _ in stores]
            tokens = [1, 1]
            for store in stores:
                store.register("bench:1:000000000000", 600)
            for _ in range(20):
                for i, store in enumerate(stores):
                    tokens[i] = hundred(store, tokens[i], took[i])
            for what in ("enqueue", "fetch"):
                small, large = (statistics.median(each[what]) for each in took)
                ours(found, kind)[f"million {kind} {what}"] = large / small
                ours(found, kind)[f"million {kind} {what} us"] = [small * 1e6, large * 1e6]
        finally:
            for place in places:
                place.end()


def hundred(store, token, took):
    """A hundred pushes and a hundred fetches, one job each; return the next token."""
    for raw in noops(100):
        began = time.perf_counter()
        store.push([raw])
        took["enqueue"].append(time.perf_counter() - began)
    last = ()
    for _ in range(100):
        began = time.perf_counter()
        leases, unheld = store.claim("bench:1:000000000000", ["default"], 1, token, last)
        took["fetch"].append(time.perf_counter() - began)
        if len(leases) != 1 or unheld:
            raise RuntimeError(f"claimed {leases}, not held: {unheld}")
        last = (token,)
        token += 1
    store.claim("bench:1:000000000000", ["default"], 0, token, last)
    return token


def memory(_options, found):
    """Resident memory of the worker process after some thousand jobs; the foreman's beside it."""
    from faults.jobs_town import session
    from holdfast.jobs.opening import open_store
    from node import wait_for

    for kind in STORES:
        place = Place(kind)
        try:
            open_store(place.url).push(noops(5_000))
            place.work(10)
            wait_for(lambda place=place: place.marks() == 5_000, "5,000 jobs to be done", 60)
            time.sleep(1.0)
            sizes = {
                name or "foreman": rss_mb(pid) for pid, name in session(place.worker.pid).items()
            }
            ours(found, kind)[f"memory {kind}"] = max(mb for name, mb in sizes.items() if name != "foreman")  # fmt: skip
            ours(found, kind)["memory of each"] = sizes
        finally:
            place.end()


def rss_mb(pid):
    text = Path(f"/proc/{pid}/status").read_text()
    return int(text.split("VmRSS:")[1].split()[0]) / 1024


def latency(options, found):
    """An idle worker, a job now and then: from just before the enqueue to its first line."""
    from node import wait_for

    n = 300
    for kind in STORES:
        place = Place(kind)
        try:
            place.work(10)
            program = f"""
import random, time
from pathlib import Path
from jobs_tasks import clocked
clocked.enqueue(time.time())
while not Path("latency").exists():
    time.sleep(0.01)
chance = random.Random({options.seed})
for _ in range({n}):
    time.sleep(chance.uniform(0.005, 0.03))
    clocked.enqueue(time.time())
"""
            env = {**os.environ, "BENCH_DIR": str(place.directory), "HOLDFAST_JOBS": place.url, "PYTHONPATH": os.pathsep.join((str(HERE), SOURCE))}  # fmt: skip
            subprocess.run([sys.executable, "-c", program], env=env, cwd=place.directory, check=True, timeout=60)  # fmt: skip
            wait_for(lambda place=place: len(place.lines("latency")) == n + 1, "all of them", 60)
            spans = sorted(float(line) * 1000 for line in place.lines("latency")[1:])
            ours(found, kind)[f"latency {kind} p50"] = spans[n // 2]
            ours(found, kind)[f"latency {kind} p99"] = spans[int(n * 0.99)]
        finally:
            place.end()


# -- the table


def shown(value, unit):
    if value is None:
        return "-"
    return (f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.2f}") + unit


def table(found):
    print(f"{'':<62}{'peer':>28}{'ours':>14}{'goal':>14}")
    for key, what, goal, more_is_better, unit, peer in ROWS:
        store = key.split()[1]
        value, theirs = (
            found.get(f"holdfast-{store}", {}).get(key),
            found.get(peer, {}).get(key),
        )
        if value is None and theirs is None:
            continue
        met = value is not None and (value >= goal if more_is_better else value <= goal)
        sign = "" if value is None else "met" if met else "NOT MET"
        beside = f"{peer} {shown(theirs, unit)}" if theirs is not None else "-"
        print(f"{what:<62}{beside:>28}{shown(value, unit):>14}{shown(goal, unit):>14}  {sign}")
    print(f"load average {os.getloadavg()[0]:.1f}: of spans and waits, only a quiet machine tells")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("--harness", metavar="PATH", help="jobs.py of the harness")
    parser.add_argument("--peers", default="", help="its adapters to measure, too: sidekiq-ruby,huey-redis,huey-sqlite,dramatiq,streaq")  # fmt: skip
    parser.add_argument(
        "--peers-python", metavar="BIN", help="the interpreter that has the peers installed"
    )
    parser.add_argument("-n", type=int, default=50_000, help="jobs to drain")
    parser.add_argument("--rounds", type=int, default=20, help="kills at random instants a store")
    parser.add_argument("--million", type=int, default=1_000_000, help="how many wait")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", metavar="PARTS", help=", ".join(PARTS))
    parser.add_argument("--json", metavar="FILE")
    options = parser.parse_args()
    wanted = options.only.split(",") if options.only else list(PARTS)
    found = {}
    for part in PARTS:
        if part not in wanted or (part in PARTS[:4] and not options.harness):
            continue
        print(f"{part} ...", file=sys.stderr, flush=True)
        try:
            globals()[part](options, found)
        except (RuntimeError, AssertionError, OSError, subprocess.SubprocessError) as error:
            print(f"{part}: {type(error).__name__}: {error}", file=sys.stderr)
    table(found)
    if options.json:
        Path(options.json).write_text(
            json.dumps({"load_average": os.getloadavg(), **found}, indent=1)
        )


if __name__ == "__main__":
    main()
