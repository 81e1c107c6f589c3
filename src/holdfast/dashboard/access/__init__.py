"""Who may see the dashboard, and who may do something there? One door (:mod:`.guard`), before anything else sees a request."""

from holdfast.dashboard.access.guard import guard
from holdfast.dashboard.access.rules import Proxy, Rules, User, Who

__all__ = ["Proxy", "Rules", "User", "Who", "guard"]
