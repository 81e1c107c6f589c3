import functools
import time


class Page:
    def __init__(self, n):
        self.n, self.body = n, "x" * 20000 + str(n)

    @functools.lru_cache(maxsize=None)
    def render(self):
        return self.body.upper()


n = 0
while True:
    for _ in range(10):
        n += 1
        Page(n).render()
    time.sleep(0.02)
