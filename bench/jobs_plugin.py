"""Runs Holdfast's jobs in the harness for job queues (`jobs.py`, see bench/README.md), through its plug-in point.

    python jobs.py --plugin bench/jobs_plugin.py throughput -o holdfast-redis,holdfast-sqlite,huey-redis

The worker is `holdfast jobs work`, as a user would start it, in the session that the harness kills; programs enqueue by `.enqueue()`
and `.enqueue_many()`. SQLite with its defaults ("safe": `?durable=power`). `-aio`: the same jobs as coroutines.
"""

import os
import sys

import jobs
from jobs import Adapter

HERE = os.path.dirname(os.path.abspath(__file__))
SOURCE = os.path.join(os.path.dirname(HERE), "src")

# Before the harness makes the environment of what it starts: programs find us without an installation.
for path in (HERE, SOURCE):
    if path not in os.environ.get("PYTHONPATH", "").split(os.pathsep):
        os.environ["PYTHONPATH"] = os.pathsep.join(
            filter(None, (path, os.environ.get("PYTHONPATH", "")))
        )
    if path not in sys.path:
        sys.path.append(path)


class Holdfast(Adapter):
    """What both stores have in common."""

    needs = ("holdfast", "msgspec")
    a = ""

    def url(self):
        raise NotImplementedError

    def setup(self):
        os.environ["HOLDFAST_JOBS"] = self.url()
        import jobs_tasks

        return {"tasks": jobs_tasks.JOBS}

    def enqueue(self, kind, n):
        enqueue = jobs.G["tasks"][self.a + kind].enqueue
        for i in range(n):
            enqueue(i)

    def enqueue_bulk(self, kind, n):
        many = jobs.G["tasks"][self.a + kind].enqueue_many
        for start in range(0, n, 1000):
            many([(i,) for i in range(start, min(n, start + 1000))])

    def worker_cmd(self, conc):
        how = ["--async", str(conc)] if self.a else ["-c", str(conc)]
        # The harness forbids compiled files to its children; those of an installed package exist, ours have to be written once.
        return ["env", "-u", "BENCH_Q", "-u", "PYTHONDONTWRITEBYTECODE", self.py, "-m", "holdfast", "jobs", "work", "jobs_tasks", *how, "--store", self.url()]  # fmt: skip


class HoldfastRedis(Holdfast):
    name = "holdfast-redis"

    def url(self):
        return jobs.REDIS_URL

    def where(self):
        return jobs.rkeys()


class HoldfastRedisAio(HoldfastRedis):
    name = "holdfast-redis-aio"
    concs = (10, 100)
    a = "a"


class HoldfastSqlite(Holdfast):
    name = "holdfast-sqlite"
    broker = "sqlite"
    note = (
        "WAL, synchronous=NORMAL: kill -9 of anything loses nothing, a power cut the last commits"
    )
    safe_note = "?durable=power (FULL)"

    def url(self):
        return f"sqlite:///{jobs.DIR}/jobs.db" + ("?durable=power" if jobs.SAFE else "")

    def where(self):
        from holdfast.jobs.opening import open_store

        counts = open_store(self.url()).counts()
        return f"{counts.queues} busy={counts.busy} retry={counts.retry} dead={counts.dead} waiting={counts.waiting}"


class HoldfastSqliteAio(HoldfastSqlite):
    name = "holdfast-sqlite-aio"
    concs = (10, 100)
    a = "a"
