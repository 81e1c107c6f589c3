import time

import orjson


def handle(body):
    return orjson.loads(body)


handle(b"[1]")
time.sleep(0.5)
print("start", flush=True)
handle(b"[" * 10000000 + b"]" * 10000000)
