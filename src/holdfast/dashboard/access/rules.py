"""What does the configuration say about who may come in? Leaves out how somebody proves it."""

from typing import Any, Literal, NamedTuple

Role = Literal["reader", "operator"]
Way = Literal["link", "password", "proxy"]

#: So long somebody stays signed in.
SESSION_S = 12 * 3600.0


class User(NamedTuple):
    """Somebody who signs in with a password."""

    password_hash: str  #: argon2, in the usual text form
    role: Role


class Proxy(NamedTuple):
    """A reverse proxy that has asked for the name already."""

    addresses: frozenset[str]  #: it connects from one of these
    user_header: bytes  #: in lower case
    operators: frozenset[str]  #: who of them may do something; all others may look
    secret: str = ""  #: what it has to send in ``X-Holdfast-Proxy``, so that no other process of the machine can say who it is


class Rules(NamedTuple):
    """All of it."""

    hosts: frozenset[str] = (
        frozenset()
    )  #: names that may stand in ``Host``, besides localhost and addresses
    users: dict[str, User] = {}  # noqa: RUF012 -- read only
    proxy: Proxy | None = None
    session_for_s: float = SESSION_S
    links: bool = True  #: one-time links from `holdfast dashboard` are taken
    is_tls: bool = False

    def ways(self) -> list[Way]:
        """Return how somebody can come in, for the page that asks."""
        found: list[Way] = []
        if self.links:
            found.append("link")
        if self.users:
            found.append("password")
        if self.proxy is not None:
            found.append("proxy")
        return found


class Who(NamedTuple):
    """Somebody who was let in."""

    name: str
    role: Role
    way: Way
    session: str = ""  #: name of the session's file; empty behind a proxy
    address: str = ""
    expires_unix_s: float | None = None

    def may_act(self) -> bool:
        """Whether more than looking is allowed."""
        return self.role == "operator"

    def to_json(self) -> dict[str, Any]:
        """Return what the page may know."""
        return {
            "user": self.name,
            "role": self.role,
            "way": self.way,
            "expires_unix_s": self.expires_unix_s,
        }
