"""Holdfast: a crash-only application host for Python.

Importing the package costs nothing: the house processes (anchor, keeper, watchdog, logger) pay
for every import at each restart. What authors of components need is in :mod:`holdfast.sdk`;
``holdfast.connect(url, realm)`` joins a bus from any program.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from holdfast.bus.blocking import connect_blocking
    from holdfast.bus.connect import connect

__all__ = ["__version__", "connect", "connect_blocking"]
__version__ = "0.1.0"

_HOMES = {"connect": "connect", "connect_blocking": "blocking"}


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        says = f"module 'holdfast' has no attribute {name!r}"
        raise AttributeError(says)
    module = __import__(f"holdfast.bus.{home}", fromlist=[name])
    value: object = getattr(module, name)
    globals()[name] = value
    return value
