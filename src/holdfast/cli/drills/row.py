"""What is known of one drill: a row of the scorecard, while it is being filled and afterwards.

Leaves out how it looks (:mod:`holdfast.cli.drills.scorecard`). Its JSON shape is in docs/how-to/drills.md.
"""

from dataclasses import dataclass, field

from holdfast.cli.drills.catalogue import Drill

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

PASSED, FAILED, SKIPPED = "passed", "failed", "skipped"
COMPLETE, PARTIAL, LACKING, WRONG, NONE = "complete", "partial", "lacking", "wrong", "none"
#: Evidence that does not do.
_POOR = (LACKING, WRONG, NONE)
#: Verdicts on a remedy that did not hold.
_SICK = ("came_back", "did_not_help", "gave_up")


@dataclass(slots=True)
class Evidence:
    """What was left for the person who comes to look."""

    state: str = NONE  #: complete; partial: with a gap that the bundle explains; lacking; wrong: another kind; none
    incident: "str | None" = None
    kind: "str | None" = None
    expected: "tuple[str, ...]" = ()
    component: "str | None" = None
    stacks: int = 0  #: threads whose stacks were saved
    log: bool = False  #: log lines are in the bundle; of a house process: the house log tells it
    missed: "list[dict[str, str]]" = field(default_factory=list)

    def as_dict(self) -> "dict[str, Any]":
        """Return its JSON shape."""
        return {
            "state": self.state, "incident": self.incident, "kind": self.kind, "expected": list(self.expected),
            "component": self.component, "stacks": self.stacks, "log": self.log, "missed": self.missed,
        }  # fmt: skip


@dataclass(slots=True)
class Row:
    """One drill and what came of it; seconds, None: it did not happen."""

    drill: Drill
    skipped: str = ""
    pid: int = 0
    detection_s: "float | None" = None
    recovery_s: "float | None" = None
    evidence: Evidence = field(default_factory=Evidence)
    verdict: "str | None" = None
    collateral: "list[str]" = field(default_factory=list)
    lines_written: int = 0
    lines_lost: int = 0
    troubles: "list[str]" = field(
        default_factory=list
    )  #: anything else that was not as it has to be
    began_unix_s: float = 0.0
    #: Called until it returns True: what can only be told a while later (the verdict). None: nothing is open.
    settle: "Callable[[], bool] | None" = None

    @property
    def met(self) -> "bool | None":
        """Whether the recovery was quick enough; None when the drill was skipped."""
        if self.skipped:
            return None
        return self.recovery_s is not None and self.recovery_s <= self.drill.objective_s

    def failures(self) -> "list[str]":
        """Return every reason for which this drill did not pass."""
        if self.skipped:
            return []
        found = list(self.troubles)
        if self.recovery_s is None:
            found.append("did not recover")
        elif not self.met:
            found.append(
                f"recovery took {self.recovery_s:.3f} s, the objective is {self.drill.objective_s:g} s"
            )
        if self.evidence.state in _POOR:
            found.append(self._evidence_words())
        if self.verdict in _SICK:
            found.append(f"the incident's verdict is {self.verdict.replace('_', ' ')}")
        found += self.collateral
        if self.lines_lost:
            found.append(f"{self.lines_lost} of {self.lines_written} log lines are missing or torn")
        return found

    def _evidence_words(self) -> str:
        evidence = self.evidence
        expected = " or ".join(evidence.expected)
        if evidence.state == NONE:
            return f"no evidence was found (expected: {expected})"
        if evidence.state == WRONG:
            return f"incident {evidence.incident} is of kind {evidence.kind}, expected {expected}"
        return f"incident {evidence.incident} lacks stacks and does not say why"

    @property
    def result(self) -> str:
        """``passed``, ``failed`` or ``skipped``."""
        if self.skipped:
            return SKIPPED
        return FAILED if self.failures() else PASSED

    def as_dict(self) -> "dict[str, Any]":
        """Return its JSON shape."""
        return {
            "name": self.drill.name, "kind": self.drill.kind, "target": self.drill.target,
            "house": self.drill.is_house, "result": self.result, "skipped": self.skipped or None,
            "failures": self.failures(), "began_unix_s": self.began_unix_s or None, "pid": self.pid or None,
            "detection_s": _rounded(self.detection_s), "recovery_s": _rounded(self.recovery_s),
            "objective_s": self.drill.objective_s, "met": self.met, "evidence": self.evidence.as_dict(),
            "verdict": self.verdict, "collateral": self.collateral,
            "lines": {"written": self.lines_written, "lost": self.lines_lost},
        }  # fmt: skip


def _rounded(value: "float | None") -> "float | None":
    return None if value is None else round(value, 4)
