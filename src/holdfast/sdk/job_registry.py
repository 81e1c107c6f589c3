"""Which jobs does the code of this process declare?"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from holdfast.sdk.jobs import Job

#: Every job whose module was imported, by its name.
REGISTRY: "dict[str, Job[Any, Any]]" = {}
