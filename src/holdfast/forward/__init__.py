"""Forwarding: what a node says in its logs, incidents and figures, carried to the tools that other people look at."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from holdfast.forward.serving import app

__all__ = ["app"]


def __getattr__(name: str) -> object:
    if name == "app":
        from holdfast.forward.serving import app

        return app
    says = f"module 'holdfast.forward' has no attribute {name!r}"
    raise AttributeError(says)
