"""What runs beside a service on any machine.

python chores.py cron         a core for ten seconds, then exit 0
python chores.py recycle      works for three minutes and ends by itself with 0: its restart policy is "always"
python chores.py talk         silent for minutes, then 50,000 lines in two seconds
python chores.py scratch      500 MB of temporary files, written and removed
python chores.py files        up to 500 open files, and down again
"""

import itertools
import os
import random
import sys
import tempfile
import time


def burn(seconds):
    until = time.thread_time() + seconds
    while time.thread_time() < until:
        sum(range(10_000))


def cron():
    burn(10)


def recycle():
    for _ in range(180):
        burn(0.02)
        time.sleep(1)


def talk():
    while True:
        for _ in range(random.randint(100, 240)):
            print("nothing to do")
            time.sleep(1)
        began = time.monotonic()
        for n in range(50_000):
            sys.stdout.write(f"row {n} of the import was skipped: it is there already, key {n * 7919 % 104729}\n")  # fmt: skip
            if n % 1_000 == 0:
                sys.stdout.flush()
                time.sleep(max(0.0, began + n / 25_000 - time.monotonic()))


def scratch():
    while True:
        time.sleep(random.uniform(60, 150))
        with tempfile.TemporaryDirectory(dir=".") as directory:
            for n in range(50):
                with open(f"{directory}/part{n}", "wb") as file:
                    file.write(bytes(10 << 20))
                time.sleep(0.2)
            time.sleep(5)


def files():
    for turn in itertools.count(1):
        kept, opening_s = [], 5 * turn if turn < 6 else random.uniform(0.5, 60)
        for _ in range(500):
            kept.append(os.open("/dev/null", os.O_RDONLY))
            time.sleep(opening_s / 500)
        time.sleep(random.uniform(5, 60))
        while kept:
            os.close(kept.pop())
        time.sleep(random.uniform(5, 60))


{"cron": cron, "recycle": recycle, "talk": talk, "scratch": scratch, "files": files}[sys.argv[1]]()
