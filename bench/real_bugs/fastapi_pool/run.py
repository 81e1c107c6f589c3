"""FastAPI issue 3205: a session as a dependency with `yield`, sixty people at once.

The exit of the dependency needs a thread; all forty wait for a connection of a session that waits for a thread.
"""

import pathlib
import socket
import subprocess
import sys
import tempfile
import threading

import uvicorn
from fastapi import Depends, FastAPI
from sqlalchemy import create_engine, text
from sqlalchemy.orm import Session, sessionmaker
from sqlalchemy.pool import QueuePool

database = pathlib.Path(tempfile.mkdtemp(), "case.db")
engine = create_engine(
    f"sqlite:///{database}", poolclass=QueuePool, connect_args={"check_same_thread": False}
)
new_session = sessionmaker(bind=engine)
app = FastAPI()

CLIENTS = """
import sys, threading, time, urllib.request
url = sys.argv[1]
def ask(until_s):
    while time.monotonic() < until_s:
        try:
            urllib.request.urlopen(url, timeout=60).read()
        except OSError as error:
            print(error, flush=True)
        time.sleep(0.05)
def crowd(many, for_s):
    threads = [threading.Thread(target=ask, args=(time.monotonic() + for_s,)) for _ in range(many)]
    [t.start() for t in threads]
    [t.join() for t in threads]
crowd(4, 8)
print("many", flush=True)
crowd(80, 60)
"""


def get_db():
    db = new_session()
    try:
        yield db
    finally:
        db.close()


@app.get("/users/{number}")
def read_user(number: int, db: Session = Depends(get_db)):
    return {"found": db.execute(text("select :n"), {"n": number}).scalar()}


def main():
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(200)
    url = f"http://127.0.0.1:{listener.getsockname()[1]}/users/7"
    threading.Timer(1.5, lambda: subprocess.Popen([sys.executable, "-c", CLIENTS, url])).start()
    uvicorn.Server(uvicorn.Config(app, log_level="error")).run(sockets=[listener])


if __name__ == "__main__":
    main()
