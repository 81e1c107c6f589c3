"""Two programs whose memory grows, and that are well.

python memory.py sawtooth       a buffer of rows that fills to 300 MB and is written away, again and again
python memory.py nightly SECONDS   a batch that loads its tables once, after so long: 50 to 400 MB, and stays
"""

import itertools
import random
import sys
import time

MB = 1 << 20


def sawtooth():
    """The longer the day, the slower: what took ten seconds at first takes up to a hundred later."""
    for turn in itertools.count(1):
        rows, filling_s = [], 10 * turn if turn < 5 else random.uniform(8, 100)
        for _ in range(300):
            rows.append(bytearray(b"r" * MB))
            time.sleep(filling_s / 300)
        print(f"flushed {len(rows)} MB that came within {filling_s:.0f} s", flush=True)
        del rows
        time.sleep(random.uniform(5, 30))


def nightly(after_s):
    kept = [bytearray(b"k" * MB) for _ in range(40)]
    time.sleep(after_s)
    for _ in range(350):
        kept.append(bytearray(b"k" * MB))
        time.sleep(0.03)
    print(f"{len(kept)} MB are loaded", flush=True)
    while True:
        time.sleep(1)
        sum(kept[-1])


if sys.argv[1] == "sawtooth":
    sawtooth()
else:
    nightly(float(sys.argv[2]))
