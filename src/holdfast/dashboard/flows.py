"""How much goes over a bus per second, and who calls whom? Of two looks at a router's counters, as `{"do": "traffic"}` tells them: the newest, and one some seconds ago.

Counters begin at nothing with each life of a router, and a topic or procedure that comes anew begins at nothing, too. What was not told twice has no rate,
and none is guessed. Leaves out asking (:mod:`holdfast.dashboard.api.bus`) and counting (:mod:`holdfast.core.wamp.traffic`).
"""

import re
from typing import Any, NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Mapping

#: Two looks nearer than this make no rate that means anything; several pages may look at the same time.
_NEAREST_S = 0.9
#: A rate is over so long where looks are frequent: over two seconds, one event more would be half a one per second more.
_WINDOW_S = 10.0
#: A rate over more than this is no rate of now.
_LONGEST_S = 60.0
#: How a router names a process on the other side of its internal socket.
PEER = re.compile(r"unix:pid=(\d+)")

OTHERS = "others"


class Flow(NamedTuple):
    """What goes over one realm; rates are by second, None where they are unknown."""

    rates: "dict[str, float | None]"  #: of the whole realm
    registrations: "dict[Hashable, float | None]"  #: by URI and match
    subscriptions: "dict[Hashable, float | None]"
    sessions: "dict[Hashable, tuple[float | None, float | None]]"  #: calls and publications, by id
    pairs: "list[dict[str, Any]] | None"  #: who calls whom; None: nobody could tell
    unsaid: "float | None"  #: the rate of what is not in these tables

    def registration(self, uri: object, match: object) -> "float | None":
        """Return calls a second of a procedure."""
        return self.registrations.get((uri, match), self.unsaid)

    def subscription(self, uri: object, match: object) -> "float | None":
        """Return events a second that a topic's subscribers get."""
        return self.subscriptions.get((uri, match), self.unsaid)

    def session(self, id_: object) -> "dict[str, float | None]":
        """Return how much a session does."""
        calls, publications = self.sessions.get(id_, (self.unsaid, self.unsaid))
        return {"calls_per_s": calls, "publications_per_s": publications}


NOTHING_KNOWN = Flow({}, {}, {}, {}, None, None)


class Flows:
    """The looks at the routers of a node; from one thread."""

    def __init__(self) -> None:
        self._looks: dict[str, list[dict[str, Any]]] = {}  # oldest first

    def look(self, router: str, told: "dict[str, Any] | None") -> "dict[str, Flow]":
        """Take what a router has told, and return what goes over each of its realms."""
        if not told:
            self._looks.pop(router, None)
            return {}
        looks = self._looks.setdefault(router, [])
        if looks and looks[-1]["began_s"] != told["began_s"]:
            looks.clear()  # another life, which counts from nothing
        if not looks or told["at_s"] - looks[-1]["at_s"] >= _NEAREST_S:
            looks.append(told)
        older = [one for one in looks if told["at_s"] - one["at_s"] >= _NEAREST_S]
        within = [one for one in older if told["at_s"] - one["at_s"] <= _WINDOW_S]
        if not older or told["at_s"] - older[-1]["at_s"] > _LONGEST_S:
            return {name: _flow(realm, None, 0.0) for name, realm in told["realms"].items()}
        base = within[0] if within else older[-1]
        del looks[: looks.index(base)]
        elapsed_s = told["at_s"] - base["at_s"]
        return {
            name: _flow(realm, base["realms"].get(name), elapsed_s)
            for name, realm in told["realms"].items()
        }


def named(id_: int, who: "Mapping[str, Any]", workers: "Mapping[int, str]") -> str:
    """Return what a person calls a session: a component of this node by its name, others by authid and number."""
    known = who.get(str(id_)) or {}
    authid = str(known.get("authid") or "")
    if id_ == 0:
        return authid  # the router itself
    peer = PEER.match(str(known.get("peer") or ""))
    if peer is not None and int(peer[1]) in workers:
        return authid or workers[int(peer[1])]
    return f"{authid} ({id_})" if authid else str(id_)


def calls(flow: Flow, workers: "Mapping[int, str]") -> "list[dict[str, Any]]":
    """Return who calls whom by name, the busiest first; several sessions of one name are one."""
    merged: dict[tuple[str, str, str], dict[str, Any]] = {}
    for pair in flow.pairs or ():
        caller, callee = (named(pair[end], pair["who"], workers) for end in ("from", "to"))
        if pair["from"] == OTHERS:
            caller, callee = OTHERS, ""
        found = merged.setdefault(
            (caller, callee, pair["uri"]),
            {"caller": caller, "callee": callee or None, "uri": pair["uri"] or None, "rate": None, "count": 0},
        )  # fmt: skip
        found["count"] += pair["count"]
        if pair["rate"] is not None:
            found["rate"] = round((found["rate"] or 0.0) + pair["rate"], 2)
    return sorted(merged.values(), key=_busy, reverse=True)


def summed(flows: "Iterable[Flow]") -> "dict[str, float]":
    """Return the rates of a router: those of its realms together."""
    total: dict[str, float] = {}
    for flow in flows:
        for name, rate in flow.rates.items():
            if rate is not None:
                total[name] = round(total.get(name, 0.0) + rate, 2)
    return total


def _flow(told: "dict[str, Any]", before: "dict[str, Any] | None", elapsed_s: float) -> Flow:
    def rate(now: int, then: "int | None") -> "float | None":
        if before is None or elapsed_s <= 0:
            return None
        # Smaller than before: it went away and came again, and has counted from nothing since.
        grown = now - then if then is not None and then <= now else now
        return round(grown / elapsed_s, 2)

    was = before or {}

    def by_uri(what: str) -> "dict[Hashable, float | None]":
        then = {(uri, match): count for uri, match, count in was.get(what, ())}
        return {(uri, match): rate(count, then.get((uri, match))) for uri, match, count in told[what]}  # fmt: skip

    sessions_then = {one: (made, published) for one, made, _, published in was.get("by_session", ())}  # fmt: skip
    sessions: dict[Hashable, tuple[float | None, float | None]] = {}
    for one, made, _, published in told["by_session"]:
        then = sessions_then.get(one, (0, 0))
        sessions[one] = (rate(made, then[0]), rate(published, then[1]))
    all_calls = rate(told["calls"], was.get("calls"))
    return Flow(
        {
            "sessions": told["sessions"],
            "calls_per_s": all_calls,
            "publications_per_s": rate(told["published"], was.get("published")),
            "events_per_s": rate(told["events"], was.get("events")),
        },
        by_uri("registrations"),
        by_uri("subscriptions"),
        sessions,
        _pairs(told, was, all_calls, rate),
        0.0 if told["is_whole"] and all_calls is not None else None,
    )


def _pairs(told: "dict[str, Any]", was: "dict[str, Any]", all_calls: "float | None", rate: "Any") -> "list[dict[str, Any]]":  # fmt: skip
    then = {tuple(pair[:4]): pair[4] for pair in was.get("pairs", ())}
    found = [
        {"from": pair[0], "to": pair[1], "uri": pair[2], "count": pair[4], "rate": rate(pair[4], then.get(tuple(pair[:4]))),
         "who": told["who"]}
        for pair in told["pairs"]
    ]  # fmt: skip
    if told["other_calls"]:
        # Its counter jumps when somebody leaves, whose calls were counted long ago: what the pairs leave is the rate.
        rest = None
        if all_calls is not None:
            rest = max(0.0, all_calls - sum(pair["rate"] or 0.0 for pair in found))
        found.append({"from": OTHERS, "to": OTHERS, "uri": "", "count": told["other_calls"], "rate": rest, "who": {}})  # fmt: skip
    return found


def _busy(row: "dict[str, Any]") -> "tuple[float, int]":
    return (-1.0 if row["rate"] is None else row["rate"], row["count"])
