"""The job engine: what runs the jobs of a queue, and the steward that settles what the dead leave."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from holdfast.engine.serving import app
    from holdfast.engine.stewarding import steward

__all__ = ["app", "steward"]


def __getattr__(name: str) -> object:
    if name == "app":
        from holdfast.engine import serving

        # Here and not at the start: a spare is to have everything imported.
        serving.import_jobs()
        return serving.app
    if name == "steward":
        from holdfast.engine.stewarding import steward

        return steward
    says = f"module 'holdfast.engine' has no attribute {name!r}"
    raise AttributeError(says)
