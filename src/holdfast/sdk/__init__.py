"""What authors of components (and of guests written in Python) import.

    from holdfast.sdk import Component

    app = Component()

    @app.every(5)
    def look():
        app.log.info("looked", files=3)

Names are loaded when they are first used: a guest that only calls :func:`heartbeat` does not pay for the
rest. Nothing in here starts or supervises anything; that is the container's work.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from holdfast.sdk.component import Component
    from holdfast.sdk.notifying import heartbeat, notify, notify_ready
    from holdfast.sdk.recorder import progress
    from holdfast.sdk.serving import listen_fds, serve

__all__ = [
    "Component",
    "heartbeat",
    "listen_fds",
    "notify",
    "notify_ready",
    "progress",
    "serve",
]

_HOMES = {
    "Component": "component",
    "heartbeat": "notifying",
    "listen_fds": "serving",
    "notify": "notifying",
    "notify_ready": "notifying",
    "progress": "recorder",
    "serve": "serving",
}


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        says = f"module 'holdfast.sdk' has no attribute {name!r}"
        raise AttributeError(says)
    module = __import__(f"holdfast.sdk.{home}", fromlist=[name])
    value: object = getattr(module, name)
    globals()[name] = value
    return value
