"""How far are we? A component that says so every few seconds, in the log and as figures of the node.

It knows what anybody could know: the results, and the queue as the store counts it. Killing it costs a line of the log.
"""

from crawler import results, rules
from holdfast.jobs import queue
from holdfast.model.jobs import StoreDownError
from holdfast.sdk import Component

app = Component()
_results = results.opened()
_said: dict[str, int] = {}


@app.every(3)
def tell() -> None:
    """Say how many pages are done, and what waits."""
    states = _results.states()
    ended = sum(count for state, count in states.items() if state in rules.ENDS)
    app.gauge("pages_known", sum(states.values()))
    app.gauge("pages_ended", ended)
    try:
        counts = queue.default().store.counts()
    except StoreDownError as error:
        app.log.warning("the queue does not answer", says=str(error))
        return
    waiting = counts.waiting + sum(size for size, _, _ in counts.queues.values())
    said = {"known": sum(states.values()), "ended": ended, "waiting": waiting, "retry": counts.retry, "dead": counts.dead}  # fmt: skip
    if said != _said:  # a crawl that is over says nothing for days
        _said.update(said)
        app.log.info("crawl", **said, done=states.get(rules.DONE, 0))
