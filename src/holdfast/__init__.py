"""Holdfast: a crash-only application host for Python.

Importing the package costs nothing: the house processes (anchor, keeper, watchdog, logger) pay
for every import at each restart. What authors of components need is in :mod:`holdfast.sdk`;
``holdfast.connect(url, realm)`` joins a bus from any program.
"""

__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    if name == "connect":
        from holdfast.bus.connect import connect

        return connect
    if name == "connect_blocking":
        from holdfast.bus.blocking import connect_blocking

        return connect_blocking
    says = f"module 'holdfast' has no attribute {name!r}"
    raise AttributeError(says)
