"""Holdfast: a crash-only application host for Python.

Importing the package costs nothing: the house processes (anchor, keeper, watchdog, logger) pay
for every import at each restart. What authors of components need is in :mod:`holdfast.sdk`.
"""

__version__ = "0.1.0"
