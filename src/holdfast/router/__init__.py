"""The WAMP router: sockets, flow control and sign-in around the rules of core/wamp."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from holdfast.router.serving import app

__all__ = ["app"]


def __getattr__(name: str) -> object:
    if name != "app":
        says = f"module 'holdfast.router' has no attribute {name!r}"
        raise AttributeError(says)
    from holdfast.router.serving import app

    return app
