import time
import uuid

from prometheus_client import Histogram

LAT = Histogram("latency", "by path", ["path"])


def handle(path):
    LAT.labels(path).observe(0.1)


while True:
    for _ in range(200):
        handle("/user/" + uuid.uuid4().hex)
    time.sleep(0.02)
