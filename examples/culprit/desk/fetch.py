"""A component whose C extension is broken: it writes where it must not, after a second."""

from desk import broken
from holdfast.sdk import Component

app = Component("fetch")


@app.every(1.0)
def fetch() -> None:
    """Call into C."""
    broken.parse(b"<html>")
