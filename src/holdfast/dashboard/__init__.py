"""The dashboard: what a tired person looks at at 3 am, in a process of its own that nobody misses when it dies."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from holdfast.dashboard.serving import app

__all__ = ["app"]


def __getattr__(name: str) -> object:
    if name == "app":
        from holdfast.dashboard.serving import app

        return app
    says = f"module 'holdfast.dashboard' has no attribute {name!r}"
    raise AttributeError(says)
