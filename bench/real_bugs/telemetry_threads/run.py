import time

from apscheduler.schedulers.background import BackgroundScheduler

keep = []


def handle():
    s = BackgroundScheduler()
    s.start()
    keep.append(s)  # one for each request


while True:
    handle()
    time.sleep(0.1)
