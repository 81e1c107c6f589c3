"""protobuf 4.22.1 (upb issue 1243): each ByteSize of a message that nobody has set leaves something behind, in C."""

import threading
import time

from google.protobuf.type_pb2 import Type


def weigh(batch):
    return sum(message.source_context.ByteSize() for message in batch)


def work():
    batch = [Type(name=f"t{i}") for i in range(500)]
    while True:
        weigh(batch)
        time.sleep(0.01)


if __name__ == "__main__":
    for _ in range(2):
        threading.Thread(target=work).start()
