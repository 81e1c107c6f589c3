"""Where is the object that a configuration names by module and attribute?"""

from importlib import import_module
from typing import Any

from holdfast.router.web.failures import SiteError


def find(module: str, name: str) -> Any:
    """An object of a module.

    Raises:
        SiteError: It is not there, or the module does not import.
    """
    try:
        found: Any = import_module(module)
    except Exception as error:
        raise SiteError(
            f"module {module} cannot be imported ({type(error).__name__}: {error}); is its directory in pythonpath?"
        ) from error
    for part in name.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            raise SiteError(f"module {module} has no {name}") from None
    return found
