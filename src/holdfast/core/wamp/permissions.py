"""May a session of this role do that, and is it told who asks?

The rules are those of `PermissionPlan`: the most specific rule that matches decides (exact, the longest prefix, the
wildcard with most fixed parts), any `deny` that matches wins, and what no rule allows is refused. A verdict is a handful of
bits, kept by action and URI in the role, so that a call costs one dict look-up; the same look-up says that the URI is well-formed.
A new plan makes new roles: no verdict outlives the permission that it came from (Crossbar.io keeps allowing from its cache).

Subscribing or registering with a *pattern* needs a rule that covers all of the pattern: an exact rule never does, a prefix rule
covers what begins with it, a wildcard rule covers patterns with the same or more fixed parts.
"""

from typing import TYPE_CHECKING, Any, cast

from holdfast.core.wamp.uri import is_reserved, is_valid, matches_wildcard

if TYPE_CHECKING:
    from holdfast.model.bus import PermissionPlan, RolePlan

#: Bits of a verdict. No bit: refused. ASK: the authorizer of the role decides.
ALLOW, DISCLOSE, TRUST, ASK = 1, 2, 4, 8
INVALID = 16
#: The authorizer gave no usable answer; too many actions of the session wait for one.
FAILED, TOO_MANY = 32, 64

#: Verdicts kept for each action of a role. Beyond it all are forgotten: a client that makes up URIs must not fill our memory.
KEPT = 10_000

TRUSTED = "trusted"


class Role:
    """What the sessions of one authrole may do."""

    __slots__ = ("_exact", "_prefixes", "_wildcards", "authorizer", "call", "check", "is_trusted", "name", "narrowing", "plan",
                 "publish", "register", "subscribe", "trustlevel")  # fmt: skip

    def __init__(
        self, name: str, plan: "RolePlan | None", check: str, *, is_trusted: bool = False
    ) -> None:
        self.name = name
        self.plan = plan
        self.check = check
        self.is_trusted = is_trusted
        self.authorizer: str | None = plan["authorizer"] if plan else None
        self.trustlevel: int | None = cast("Any", plan).get("trustlevel") if plan else None
        #: Verdicts by URI, kept. `call` and `publish` are read by dealer and broker before they ask :meth:`verdict`.
        self.call: dict[str, int] = {}
        self.publish: dict[str, int] = {}
        self.register: dict[str, int] = {}
        self.subscribe: dict[str, int] = {}
        rules = self._rules()
        self._exact: dict[str, list[PermissionPlan]] = {}
        for rule in rules:
            if rule["match"] == "exact":
                self._exact.setdefault(rule["uri"], []).append(rule)
        # The sort is stable and looked through from the end, so of two rules for one pattern the later one decides.
        self._prefixes = sorted(
            (rule for rule in rules if rule["match"] == "prefix"), key=lambda r: len(r["uri"])
        )
        self._wildcards = sorted(
            (rule for rule in rules if rule["match"] == "wildcard"),
            key=lambda r: sum(map(bool, r["uri"].split("."))),
        )
        #: Could an event reach a pattern's subscriber on a topic that the role may not subscribe to?
        self.narrowing = not is_trusted and any(
            "subscribe" in rule["deny"] or "subscribe" not in rule["allow"] for rule in rules
        )

    def verdict(self, action: str, uri: str) -> int:
        """Decide about an action on a URI without wildcards; INVALID when it is no URI."""
        kept: dict[str, int] = getattr(self, action)
        verdict = kept.get(uri)
        if verdict is None:
            verdict = self._decide(action, uri) if self._may_name(action, uri, "exact") else INVALID
            if len(kept) >= KEPT:
                kept.clear()
            kept[uri] = verdict
        return verdict

    def pattern_verdict(self, action: str, uri: str, match: str) -> int:
        """Decide about subscribing or registering with a match policy."""
        if match == "exact":
            return self.verdict(action, uri)
        if not self._may_name(action, uri, match):
            return INVALID
        if self.is_trusted:
            return self._granted(None)
        covering = [
            rule
            for rule in (*self._wildcards, *self._prefixes)
            if (rule["match"] == "prefix" and uri.startswith(rule["uri"]))
            or (
                match == rule["match"] == "wildcard"
                and matches_wildcard(rule["uri"], uri)
            )
        ]  # fmt: skip
        if action == "register" and any(
            "register" in rule["deny"] and _reaches(uri, match, rule["uri"])
            for rule in self._rules()
        ):
            return 0  # calls of a procedure that it may not offer would come to it
        return self._judge(action, covering)

    def hides(self, topic: str) -> bool:
        """Tell whether a rule keeps events on this topic from a session that subscribed to a broad pattern."""
        if not self.narrowing:
            return False
        rules = self._matching(topic)
        return bool(rules) and (
            any("subscribe" in rule["deny"] for rule in rules)
            or (self.authorizer is None and "subscribe" not in rules[-1]["allow"])
        )

    def same_as(self, other: "Role") -> bool:
        """Tell whether every verdict of the other is the same as ours."""
        return self.plan == other.plan and self.check == other.check

    def _may_name(self, action: str, uri: str, match: str) -> bool:
        """Tell whether a URI is well-formed, and not one of the router's own that others only use."""
        return is_valid(uri, match, self.check) and (
            self.is_trusted or action in ("call", "subscribe") or not is_reserved(uri)
        )

    def _decide(self, action: str, uri: str) -> int:
        if self.is_trusted:
            return self._granted(None)
        return self._judge(action, self._matching(uri))

    def _rules(self) -> "list[PermissionPlan]":
        return self.plan["permissions"] if self.plan else []

    def _matching(self, uri: str) -> "list[PermissionPlan]":
        """List the rules that match, the most specific one last."""
        return [
            *(rule for rule in self._wildcards if matches_wildcard(rule["uri"], uri)),
            *(rule for rule in self._prefixes if uri.startswith(rule["uri"])),
            *self._exact.get(uri, ()),
        ]

    def _judge(self, action: str, rules: "list[PermissionPlan]") -> int:
        if any(action in rule["deny"] for rule in rules):
            return 0
        decisive = rules[-1] if rules else None
        if self.authorizer is not None:
            # What the authorizer leaves open (its answer is a bare True) is as the rules say.
            return ASK | (self._granted(decisive, action) & ~ALLOW)
        if decisive is None or action not in decisive["allow"]:
            return 0
        return self._granted(decisive, action)

    def _granted(self, rule: "PermissionPlan | None", action: str = "") -> int:
        verdict = ALLOW
        if self.trustlevel is not None:
            verdict |= TRUST
        if rule is not None:
            is_told = (action == "call" and rule["disclose_caller"]) or (
                action == "publish" and rule["disclose_publisher"]
            )
            if is_told:
                verdict |= DISCLOSE
        return verdict


def _reaches(pattern: str, match: str, uri: str) -> bool:
    return uri.startswith(pattern) if match == "prefix" else matches_wildcard(pattern, uri)


def roles_of(plans: "list[RolePlan]", check: str) -> dict[str, Role]:
    """Make the roles of a realm, `trusted` among them."""
    roles = {plan["name"]: Role(plan["name"], plan, check) for plan in plans}
    roles[TRUSTED] = Role(TRUSTED, None, check, is_trusted=True)
    return roles
