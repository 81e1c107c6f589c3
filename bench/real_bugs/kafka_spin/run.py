"""kafka-python 2.2.4 (issue 2615): once a message has expired because its broker does not answer, the sender's thread never pauses again."""

import subprocess
import sys
import time

from kafka import KafkaProducer

BROKER = """
import socket, struct, threading
def text(word):
    return struct.pack(">h", len(word)) + word
def serve(one, port):
    with one, one.makefile("rb") as file:
        while head := file.read(4):
            asked = file.read(struct.unpack(">i", head)[0])
            kind, _, number = struct.unpack(">hhi", asked[:8])
            if kind != 3:  # what is produced is taken and never answered
                continue
            brokers = struct.pack(">ii", 1, 0) + text(b"127.0.0.1") + struct.pack(">ih", port, -1)
            part = struct.pack(">ihii", 1, 0, 0, 0) + struct.pack(">iiii", 1, 0, 1, 0)
            answer = struct.pack(">i", number) + brokers + struct.pack(">iih", 0, 1, 0) + text(b"orders") + b"\\0" + part
            one.sendall(struct.pack(">i", len(answer)) + answer)
server = socket.create_server(("127.0.0.1", 0))
port = server.getsockname()[1]
print(port, flush=True)
while True:
    threading.Thread(target=serve, args=(server.accept()[0], port)).start()
"""


def main(port):
    producer = KafkaProducer(
        bootstrap_servers=f"127.0.0.1:{port}",
        api_version=(0, 10),
        request_timeout_ms=2500,
        delivery_timeout_ms=5000,
    )
    while True:
        producer.send("orders", b"one more")
        time.sleep(3600)


if __name__ == "__main__":
    broker = subprocess.Popen([sys.executable, "-c", BROKER], stdout=subprocess.PIPE, text=True)
    main(int(broker.stdout.readline()))
