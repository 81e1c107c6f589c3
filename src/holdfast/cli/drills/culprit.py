"""One component of several crashes the process they share, in C: does it end up alone, and do the others go on?

The same component is hurt in each life until it has died alone, which is the proof. Then the worker is put together again: the split
was the drill's doing.
"""

import time

from holdfast.cli.drills import catalogue, evidence
from holdfast.core import parts
from holdfast.linux import files, talk
from holdfast.model.errors import NodeError
from holdfast.wire import layout
from holdfast.wire import plan as plan_format

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from holdfast.cli.drills.row import Row
    from holdfast.cli.drills.scene import Scene

#: The issue is found out after four crashes; one more is a failure that is told as one.
_MOST = 5


def carry_out(scene: "Scene", row: "Row") -> None:
    """Crash it until its culprit stands alone, and fill in the row.

    Raises:
        NodeError: The fault could not be injected.
    """
    name = row.drill.target
    component = str(scene.entries[name]["components"][0]["name"])
    row.evidence.expected = catalogue.incident_kinds(row.drill.kind, scene.entries[name])
    row.began_unix_s = time.time()
    began_s, crashes = time.monotonic(), 0
    longest_s = 2.0 * row.drill.objective_s + 20.0 * scene.slowness
    try:
        while crashes < _MOST:
            part = _serving_home(scene, name, component, longest_s)
            if part is None:
                row.troubles.append(f"{component} was not started again after crash {crashes}")
                return
            alone = _partition(scene, name).get(part) == [component]
            try:
                n, row.pid, at_s = scene.inject(part, catalogue.FAULTS[catalogue.CULPRIT])
            except NodeError:
                if part in _partition(scene, name):
                    raise
                continue  # it was split at this moment
            death = _death(scene, part, n, longest_s)
            crashes += 1
            if death is None:
                row.troubles.append(f"{part} did not die of the fault")
                return
            scene.is_healed(part)
            if alone:
                row.detection_s = at_s - began_s
                _judge(scene, row, component, evidence.of_death(scene, death))
                break
            # Evidence accuses one of them, and the split follows from the second death on.
            _settled(scene, name, part, n, longest_s)
        else:
            row.troubles.append(f"{component} does not stand alone after {crashes} crashes")
            return
        if _serving_home(scene, name, component, longest_s):
            row.recovery_s = time.monotonic() - began_s
    finally:
        _join(scene, name, longest_s)


def _death(scene: "Scene", part: str, n: int, longest_s: float) -> "dict[str, Any] | None":
    return scene.until(lambda: scene.exit_of(part, n), longest_s, "waiting for its death")


def _judge(scene: "Scene", row: "Row", component: str, incident: "str | None") -> None:
    evidence.judge(scene, row.evidence, incident, stacks=True)
    if row.evidence.component != component:
        row.troubles.append(
            f"the incident blames {row.evidence.component or 'nobody'}, not {component}"
        )


def _partition(scene: "Scene", whole: str) -> "dict[str, list[str]]":
    path = f"{scene.run_dir}/{layout.PLAN}"
    return parts.partition(plan_format.decode(files.read(path), path), whole)


def _serving_home(scene: "Scene", whole: str, component: str, longest_s: float) -> "str | None":
    """Return the worker that a component serves in, as soon as it does; a split meanwhile makes it another one."""

    def look() -> "str | None":
        parts_now = _partition(scene, whole)
        home = next(part for part, members in parts_now.items() if component in members)
        return home if _serves(scene, home) else None

    return scene.until(look, longest_s, f"waiting for {component} to serve")


def _serves(scene: "Scene", part: str) -> bool:
    found = scene.status().get(part) or {}
    return found.get("state") == "running" and bool(found.get("pid")) and bool(found.get("ready"))


def _settled(scene: "Scene", whole: str, part: str, n: int, longest_s: float) -> None:
    """Wait until there is a next life or another division: what is hurt next has to be there."""

    def look() -> bool:
        found = scene.status().get(part) or {}
        return part not in _partition(scene, whole) or (found.get("n") or 0) > n

    scene.until(look, longest_s, "waiting for its next life")


def _join(scene: "Scene", whole: str, longest_s: float) -> None:
    """Put the worker together again, as the configuration has it."""
    if len(_partition(scene, whole)) > 1:
        reply = talk.request(
            scene.run_dir, {"do": "rejoin", "worker": whole, "by": "drill"}, 10.0 * scene.slowness
        )
        if not reply.get("ok"):
            raise NodeError(
                f"{whole} stays split: {reply.get('error')}\n  holdfast isolate {whole} --undo"
            )
    scene.until(lambda: _serves(scene, whole), longest_s, f"waiting for {whole} to serve")
