import time

from tornado.ioloop import IOLoop

keep = []


def fetch():
    loop = IOLoop(make_current=False)  # one for each call, never closed
    keep.append(loop)


while True:
    fetch()
    time.sleep(0.1)
