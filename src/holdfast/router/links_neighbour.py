"""Who is at the other end of a link? What both ends of :mod:`holdfast.router.links` have in common."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from holdfast.core.wamp.link import Link
    from holdfast.core.wamp.realm import Realm

#: In HELLO's roles and WELCOME's details.
MARK = "x_link"
#: Why a link is closed that has a twin.
TWICE = "holdfast.close.linked_already"
#: A router that says nothing for this long is asked, and given up after as long again; at both ends of a link.
PING_S = 3.0


class Neighbour:
    """Another router that is linked with us just now."""

    __slots__ = ("dialler", "link", "name", "peer", "realm")

    def __init__(self, realm: Realm, peer: str, dialler: str, link: Link, name: str) -> None:
        self.realm = realm
        self.peer = peer  #: what its process calls itself
        self.dialler = dialler  #: who opened the connection: `peer`, or we
        self.link = link
        self.name = name  #: for people
