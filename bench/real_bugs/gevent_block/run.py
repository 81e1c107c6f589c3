from gevent import monkey

monkey.patch_all()

import gevent
from gevent.pywsgi import WSGIServer


def crunch():
    n = 0
    while True:
        n += 1


def app(env, start):
    start("200 OK", [])
    return [b"ok"]


s = WSGIServer(("127.0.0.1", 0), app, log=None)
s.start()
gevent.spawn_later(2, crunch)
gevent.sleep(1000)
