"""What goes wrong behind a port that is no fault of a request: a service that cannot be made, an ERROR of a realm."""

from typing import Any


class SiteError(Exception):
    """A service cannot be made as it is configured. The text says what to do."""


class WampFailure(Exception):  # noqa: N818 -- the ERROR of somebody else
    """What a `Bridge` raises for an ERROR: its URI and payload."""

    def __init__(
        self, uri: str, args: list[Any] | None = None, kwargs: dict[str, Any] | None = None
    ) -> None:
        super().__init__(uri, args, kwargs)
        self.uri = uri
        self.payload = args or []
        self.named = kwargs or {}
