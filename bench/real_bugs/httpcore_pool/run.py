"""httpcore issue 1093: requests that are cancelled while the pool is full leave connections behind that nobody gets any more.

A gateway asks twice, takes the first answer and cancels the other.
"""

import asyncio
import subprocess
import sys

import httpcore
from aiohttp import web

UPSTREAM = """
import asyncio, random
async def serve(reader, writer):
    try:
        while True:
            await reader.readuntil(b"\\r\\n\\r\\n")
            await asyncio.sleep(random.uniform(0.001, 0.01))
            writer.write(b"HTTP/1.1 200 OK\\r\\nContent-Length: 2\\r\\n\\r\\nok")
    except (OSError, asyncio.IncompleteReadError):
        writer.close()
async def main():
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()
asyncio.run(main())
"""
CLIENTS = """
import sys, threading, time, urllib.request
url, crowded = sys.argv[1], False
def ask():
    while True:
        urllib.request.urlopen(url, timeout=300).read()
        time.sleep(0.02 if crowded else 0.2)
for _ in range(4):
    threading.Thread(target=ask).start()
time.sleep(8)
crowded = True
for _ in range(30):
    threading.Thread(target=ask).start()
"""


async def main(target):
    pool = httpcore.AsyncConnectionPool(max_connections=10)

    async def ask():
        return await pool.request("GET", target)

    async def quote(request):
        both = [asyncio.create_task(ask()) for _ in range(2)]
        done, late = await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        for one in late:
            one.cancel()
        return web.Response(body=next(iter(done)).result().content)

    app = web.Application()
    app.router.add_get("/quote", quote)
    run = web.AppRunner(app)
    await run.setup()
    site = web.TCPSite(run, "127.0.0.1", 0)
    await site.start()
    port = site._server.sockets[0].getsockname()[1]
    subprocess.Popen([sys.executable, "-c", CLIENTS, f"http://127.0.0.1:{port}/quote"])
    await asyncio.Event().wait()


if __name__ == "__main__":
    upstream = subprocess.Popen([sys.executable, "-c", UPSTREAM], stdout=subprocess.PIPE, text=True)
    asyncio.run(main(f"http://127.0.0.1:{int(upstream.stdout.readline())}/"))
