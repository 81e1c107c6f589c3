"""Alerts: from what a node writes down about itself to one message for a person, and to the channels that carry it."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from holdfast.alerts.serving import app

__all__ = ["app"]


def __getattr__(name: str) -> object:
    if name == "app":
        from holdfast.alerts.serving import app

        return app
    says = f"module 'holdfast.alerts' has no attribute {name!r}"
    raise AttributeError(says)
