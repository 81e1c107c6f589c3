"""Which worker follows from ``[forward]``, and with what settings?

A container like any other, called ``forward``, with a component of Holdfast's own. What one key may be is :mod:`holdfast.config.forward_definitions`' business,
what the process does that of :mod:`holdfast.forward`.
"""

from typing import TYPE_CHECKING, Any

from holdfast.config import own_workers
from holdfast.config.forward_definitions import TARGETS
from holdfast.config.joined import Config, Entry
from holdfast.config.machine import absolute
from holdfast.config.problems import Problems, Where

if TYPE_CHECKING:
    from holdfast.model.plan import WorkerPlan

#: The worker that forwards; no other one can be called so beside it.
WORKER = "forward"
USE = "holdfast.forward:app"


class Forward:
    """Forwarding while the plan is compiled."""

    def __init__(self, config: Config, problems: Problems) -> None:
        self._config = config
        self._problems = problems
        self._table = config.forward
        #: Somebody wants it.
        self.is_used = bool(config.forward.raw)
        if self.is_used:
            self._check()

    def entry(self) -> Entry:
        """Return its worker as if it stood in the file."""
        given = {"components": [WORKER], "restart": {"limit": 0, "delay_max": 5.0}}
        return Entry(given, given, self._table.where)

    def worker(self, plan: "WorkerPlan") -> "WorkerPlan":
        """Return the plan of the worker, from that of one that has nothing of its own."""
        made = own_workers.made_of(plan, WORKER, USE, {"target": self._settings()})
        if self._to_stdout():
            made["log"] = None  # what it writes is meant for whoever started the node
        return made

    def _targets(self) -> dict[str, Any]:
        found = self._table.given.get("target", {})
        return {name: given for name, given in found.items() if isinstance(given, dict)}

    def _settings(self) -> dict[str, Any]:
        base = self._table.where.document.directory
        made = {}
        for name, given in self._targets().items():
            full = TARGETS[given["type"]].filled(given)
            made[name] = {
                key: absolute(base, value) if key.endswith("_file") or key in ("path", "socket") else value
                for key, value in full.items()
            }  # fmt: skip
        return made

    def _to_stdout(self) -> list[str]:
        return [name for name, given in self._targets().items() if given.get("type") == "json" and "path" not in given]  # fmt: skip

    # -- what contradicts itself -----------------------------------------------------------------------

    def _check(self) -> None:
        problems, where = self._problems, self._table.where
        own_workers.check_name(WORKER, self._config, problems)
        found = self._table.given.get("target", {})
        if found == {} and "target" in self._table.given:
            says = "there is no target here: nothing would be forwarded"
            problems.add(
                where.at("target"), says, "write [forward.target.NAME] above the keys of one"
            )
        for name, given in self._targets().items():
            self._check_target(where.at("target").at(name), given)
        for name in self._to_stdout()[1:]:
            says = "two targets write to the same stdout: every line would be there twice"
            problems.add(where.at("target").at(name), says, 'give one of them a "path"', of_key=True)  # fmt: skip

    def _check_target(self, where: Where, given: dict[str, Any]) -> None:
        for name in ("url", "headers", "bearer"):
            if f"{name}_env" in given and f"{name}_file" in given:
                says = f'"{name}_env" and "{name}_file" cannot both be right'
                self._problems.add(
                    where.at(f"{name}_file"), says, "leave one of them out", of_key=True
                )
        if given.get("logs") is False:
            for name in ("workers", "house"):
                if name in given:
                    says = "has no meaning with logs = false"
                    self._problems.add(where.at(name), says, "leave one of them out", of_key=True)
        wanted = [given.get(key, True) for key in ("logs", "incidents")]
        if given.get("type") == "otlp":
            wanted.append(given.get("metrics", True))
        if not any(wanted):
            says = "nothing goes to this target: all that it could get is switched off"
            self._problems.add(where, says, "leave it out", of_key=True)
