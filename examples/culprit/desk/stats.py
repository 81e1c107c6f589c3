"""A component that does its work and harms nobody."""

from holdfast.sdk import Component

app = Component("stats")
done = 0


@app.every(0.1)
def work() -> None:
    """Count."""
    global done
    done += 1
