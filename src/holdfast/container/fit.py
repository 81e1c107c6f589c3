"""Does the configuration fit the component that it names?

Settings of the type that the component asks for, a bus for one that offers something on it. What does not fit is refused
before anything of it runs, in one line that names the key.
"""

from holdfast.container.load import Refused

TYPE_CHECKING = False
if TYPE_CHECKING:
    from holdfast.sdk.component import Component
    from holdfast.sdk.instance import Instance


def import_bus(app: "Component", instance: "Instance") -> None:
    """Import now what the component will need on the bus: a spare has time for it, a start has not."""
    if instance.bus is not None and (app.procedures or app.topics):
        import holdfast.bus.connect
        import holdfast.sdk.joined  # noqa: F401 -- wanted in sys.modules


def check(app: "Component", instance: "Instance") -> None:
    """Give the instance its settings in the type that the component wants.

    Raises:
        Refused: Something does not fit; the message is for the author of the configuration.
    """
    if app.settings_type is not None and isinstance(instance.settings, dict):
        from holdfast.sdk.payload import Mismatch, Unusable, settings_of

        try:
            instance.settings = settings_of(
                instance.settings, app.settings_type, f"component.{instance.name}.settings"
            )
        except (Mismatch, Unusable) as error:
            raise Refused(f'component "{instance.name}": {error}') from None
    if instance.bus is None and (app.procedures or app.topics or app.needs_bus):
        offered = _offered(app, instance.name)
        says = (
            f'component "{instance.name}": it is on the bus ({offered}), but the node has no router that it could join. '
            f'Add a worker of kind "router" to the configuration, or name its realm in component.{instance.name}.realm'
        )
        raise Refused(says)


def _offered(app: "Component", name: str) -> str:
    if app.procedures:
        first = app.procedures[0]
        uri = first.uri or f"{name}.{first.function.__name__}"
        more = len(app.procedures) + len(app.topics) - 1
        return f'procedure "{uri}"' + (f" and {more} more" if more else "")
    if not app.topics:
        return app.needs_bus
    more = len(app.topics) - 1
    return f'topic "{app.topics[0].uri}"' + (f" and {more} more" if more else "")
