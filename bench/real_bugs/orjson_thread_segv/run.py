import threading
import time

import orjson


class Service:
    def handle(self, body):
        data = orjson.loads(body)
        return data


def serve():
    time.sleep(0.3)
    Service().handle(b"[" * 10000000 + b"]" * 10000000)


threading.Thread(target=serve).start()
time.sleep(10)
