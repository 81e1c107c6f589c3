import time

from twisted.internet import reactor, task


def tick():
    pass


def lookup():
    time.sleep(600)


task.LoopingCall(tick).start(0.1)
reactor.callLater(2, lookup)
reactor.run()
