"""What a container says of its own memory while it serves."""

import pytest

from container.hosting import Container

pytestmark = pytest.mark.faults

LEAKING = """
from holdfast.sdk import Component
app = Component()
kept = []
class Session:
    pass
@app.every(0.005)
async def handle():
    for _ in range(100):
        kept.append(Session())
"""


def test_a_container_tells_what_grows_and_goes_on_beating(container: Container) -> None:
    container.write("leaks.py", LEAKING)
    container.host("leaks", "leaks:app")
    container.start()
    container.wait_ready()

    found = container.ask(do="census", window_s=0.5, trace=False)

    assert found["ok"], found
    assert any(row["type"] == "leaks.Session" for row in found["census"]["grown"])
    assert container.ask(do="census", window_s="soon", trace=False)["ok"]
    assert "known: components" in container.ask(do="nothing")["error"]
