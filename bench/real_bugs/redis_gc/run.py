"""redis-py 4.5.5 (issue 2883): the collector deletes an old subscription while the pool's lock is held, and that takes the same lock."""

import subprocess
import sys
import threading
import time

import redis

STORE = """
import asyncio
async def serve(reader, writer):
    try:
        while True:
            head = await reader.readline()
            words = []
            for _ in range(int(head[1:])):
                size = int((await reader.readline())[1:])
                words.append((await reader.readexactly(size + 2))[:-2])
            if words[0].upper() == b"SUBSCRIBE":
                writer.write(b"*3\\r\\n$9\\r\\nsubscribe\\r\\n$%d\\r\\n%s\\r\\n:1\\r\\n" % (len(words[1]), words[1]))
            else:
                writer.write(b"+OK\\r\\n")
    except (OSError, ValueError, asyncio.IncompleteReadError):
        writer.close()
async def main():
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()
asyncio.run(main())
"""


class Feed:
    def __init__(self, client, name):
        self.news = client.pubsub()
        self.news.subscribe(**{name: self.note})
        self.lines = []

    def note(self, message):
        self.lines.append(message)


def follow(client, name):
    while True:
        Feed(client, name).news.get_message(timeout=0.01)


def count(client, name):
    while True:
        client.set(name, 1)
        time.sleep(0.002)


if __name__ == "__main__":
    store = subprocess.Popen([sys.executable, "-c", STORE], stdout=subprocess.PIPE, text=True)
    client = redis.Redis(port=int(store.stdout.readline()))
    for n in range(4):
        threading.Thread(target=follow, args=(client, f"news{n}")).start()
        threading.Thread(target=count, args=(client, f"key{n}")).start()
