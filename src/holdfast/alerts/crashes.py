"""Which incidents have the trackers of errors not been told of yet?

Alerts are about what people have to do; a crash that a restart verifiably healed is none. Sentry and Honeybadger want each crash all the same, so each
incident becomes one message for those channels, and for no other. Which ones were told is part of the same transaction as the outbox. Pure but for the
clock that its caller brings.
"""

from holdfast.alerts import wording
from holdfast.core import alerting

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from typing import Any

#: Incidents that are remembered as told; older ones are not looked at any more.
_KEPT = 2000


class Crashes:
    """The incidents that were told of."""

    __slots__ = ("_since_unix_s", "_told")

    def __init__(self, now_unix_s: float) -> None:
        #: What is older was there before anybody wanted to hear of it.
        self._since_unix_s = now_unix_s
        self._told: dict[str, None] = {}

    def to_json(self) -> "dict[str, Any]":
        """Return it as JSON has it."""
        return {"since_unix_s": self._since_unix_s, "told": list(self._told)}

    def restore(self, value: "Mapping[str, Any]") -> None:
        """Take up what an earlier life knew."""
        self._since_unix_s = float(value["since_unix_s"])
        self._told = dict.fromkeys(map(str, value["told"]))

    def messages(self, rows: "Iterable[Mapping[str, Any]]", node: str, incidents_dir: str) -> "Iterator[dict[str, Any]]":  # fmt: skip
        """Give a message for each incident that is new.

        Args:
            rows: Of the index of incidents, those that were read just now.
            node: Name of the node.
            incidents_dir: Where the bundles are.
        """
        for row in rows:
            name, opened_unix_s = str(row["id"]), float(row.get("opened_unix_s") or 0.0)
            if name in self._told or opened_unix_s < self._since_unix_s:
                continue
            self._told[name] = None
            while len(self._told) > _KEPT:
                del self._told[next(iter(self._told))]
            says = str(row.get("title") or name)
            made = wording.plain(
                alerting.TOLD_INCIDENT, f"incident-{name}", node, says, opened_unix_s,
                f"look:  holdfast incident {name}\n", alerting.ERROR,
            )  # fmt: skip
            worker = str(row.get("worker") or alerting.NODE)
            yield {
                **made, "worker": worker, "cause": worker, "kind": str(row.get("kind") or ""), "incident": name, "incidents": [name],
                "bundle": f"{incidents_dir}/{name}",
            }  # fmt: skip
