"""`holdfast drill`: does this node really recover, how fast, and what does it leave for the person who comes to look?

Injects real faults into the running node, one after another, and prints a scorecard. Each drill waits until the node is
steady, hurts one process, measures, and looks at all the others: an untested recovery is a hope. (The idea is
Netflix's Chaos Monkey's and the fire brigade's; the difference is that each drill ends with a verdict.)

It refuses a node that is not marked ``drills = true``. Ctrl-C lets run on whatever it has stopped.
"""

import os
import signal
import sys
import time

from holdfast.cli import output, place, terminal
from holdfast.cli.commands import say
from holdfast.cli.drills import catalogue, culprit, disk, house, scorecard, symptom, worker
from holdfast.cli.drills.row import Row
from holdfast.cli.drills.scene import CALM_S, Gone, Scene
from holdfast.cli.drills.witness import Witness, write_to_house
from holdfast.cli.words import nearest
from holdfast.linux import cgroup, locks
from holdfast.model.errors import NodeError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Callable
    from types import FrameType
    from typing import Any, NoReturn

    from holdfast.cli.drills.catalogue import Drill

#: How long the node may take to be as on a quiet day, before a drill and after the last one.
STEADY_S = 60.0
#: In the run directory: one drill at a time.
LOCK = "drill.lock"


def add_arguments(parser: "ArgumentParser") -> None:
    """Declare the arguments."""
    parser.add_argument(
        "--only", metavar="NAME", action="append", nargs="+", default=[],
        help="only these drills: kill-backend, stop-house, kill, backend, 'kill-*'",
    )  # fmt: skip
    parser.add_argument("--list", action="store_true", help="tell which drills there are, do none")


def run(args: "Namespace") -> int:
    """Carry out the drills; 0 only when every one of them passed."""
    where = place.find(args)
    place.need_running(where)
    plan = place.read_plan(where)
    slowness = _slowness()
    drills = _wanted(args, plan, slowness, disk.size_of(where.state_dir))
    if args.list:
        return _list(args, drills)
    if not plan.get("drills"):
        msg = (
            f"this node is not marked for drills, and they break things on purpose\n"
            f"  to allow them:  [node] drills = true   in {plan.get('config') or 'its configuration'}\n"
            f"  then:           holdfast apply"
        )
        raise UsageError(msg)
    held = locks.take(f"{where.run_dir}/{LOCK}")
    if held is None:
        pid = locks.holder(f"{where.run_dir}/{LOCK}")
        msg = f"another drill is under way on this node (process {pid}); two at once would measure each other"
        raise NodeError(msg)
    return Session(args, Scene(where, plan, slowness), drills).run()


def _slowness() -> float:
    try:
        return max(0.1, float(os.environ.get("HOLDFAST_SLOWNESS", "1")))
    except ValueError:
        return 1.0


def _wanted(
    args: "Namespace", plan: "dict[str, Any]", slowness: float, disk_bytes: int
) -> "list[Drill]":
    """Return the drills that were asked for.

    Raises:
        UsageError: A word of ``--only`` means none.
    """
    enforces_memory = cgroup.capabilities().get("memory", "") != ""
    drills = catalogue.drills_of(
        plan, enforces_memory=enforces_memory, slowness=slowness, disk_bytes=disk_bytes
    )
    unused = catalogue.unused_objectives(drills, plan["watch"]["objectives"])
    for name in unused:
        guess = nearest(name, [known for drill in drills for known in drill.names()])
        hint = f' Did you mean "{guess}"?' if guess else ""
        say(f'node.objectives: there is no drill "{name}", so this is not tested.{hint}')
    words = [word for group in args.only for word in group]
    for word in words:
        if not any(catalogue.fits(drill, word) for drill in drills):
            guess = nearest(word, [known for drill in drills for known in drill.names()])
            hint = f'Did you mean "{guess}"?' if guess else "holdfast drill --list tells them"
            msg = f'there is no drill "{word}"\n  {hint}'
            raise UsageError(msg)
    if not words:
        return drills
    return [drill for drill in drills if any(catalogue.fits(drill, word) for word in words)]


def _list(args: "Namespace", drills: "list[Drill]") -> int:
    if args.json:
        output.document({
            "drills": [
                {
                    "name": drill.name, "kind": drill.kind, "target": drill.target, "house": drill.is_house,
                    "does": catalogue.KINDS[drill.kind], "objective_s": drill.objective_s,
                    "skipped": drill.skip or None,
                }
                for drill in drills
            ]
        })  # fmt: skip
        return 0
    columns, _ = terminal.size_of()
    lines = scorecard.listing(drills, columns, terminal.paint_for(args))
    sys.stdout.write("\n".join(lines) + "\n")
    return 0


class Session:
    """One call of the command: its drills and their rows."""

    def __init__(self, args: "Namespace", scene: Scene, drills: "list[Drill]") -> None:
        self.args = args
        self.scene = scene
        self.left = drills
        self.rows: dict[str, Row] = {drill.name: Row(drill) for drill in drills}
        self.bar = terminal.Progress(sys.stderr, is_quiet=args.json or not sys.stderr.isatty())
        self.paint = terminal.paint_for(args, sys.stderr)
        self.began_s = time.monotonic()
        self.began_unix_s = time.time()
        self.is_interrupted = False
        self.unsteady = ""

    def run(self) -> int:
        """Carry them out and print the scorecard.

        Raises:
            KeyboardInterrupt: After the node was mended and what is known was printed.
        """
        kept = {n: signal.signal(n, _interrupt) for n in (signal.SIGTERM, signal.SIGHUP)}
        try:
            self._all()
        except KeyboardInterrupt:
            self.is_interrupted = True
        finally:
            self.scene.on_turn = _nothing
            self.scene.mend()
            self.scene.show = self.bar.show
            self.unsteady = self._steady_at_end()
            self.bar.end()
            for number, handler in kept.items():
                signal.signal(number, handler)
        self._print()
        if self.is_interrupted:
            raise KeyboardInterrupt
        done = [row for row in self.rows.values() if not row.skipped]
        failed = any(row.failures() for row in done)
        return 1 if failed or self.unsteady or not done else 0

    # -- one after another -------------------------------------------------------------------------

    def _all(self) -> None:
        for drill in self.left[:]:
            row = self.rows[drill.name]
            row.skipped = drill.skip or self._not_running(drill)
            if row.skipped:
                self._over(row)
        while self.left:
            calm = self._next()
            if calm is not None:
                self._one(calm)
        self._settle_all()

    def _not_running(self, drill: "Drill") -> str:
        """Return why a worker that does not run now cannot be drilled; empty when it runs."""
        if drill.is_house:
            return ""
        if not self.scene.recent_status():
            self.scene.wait_steady(STEADY_S)
        found = self.scene.recent_status().get(drill.target)
        if found is None:
            return "the keeper does not know it"
        if not found["up"]:
            return f"it is {found['state']}: stopped by a person or by the plan"
        if found["state"] in ("failed", "done"):
            why = f" ({found['why']})" if found.get("why") else ""
            return f"it is {found['state']}{why}"
        return ""

    def _next(self) -> "Drill | None":
        """Wait for the first drill whose target is as on a quiet day; None: one was given up."""
        scene = self.scene
        scene.show = self._shower("")
        trouble = scene.wait_steady(STEADY_S)
        reasons: dict[str, str] = {}

        def look() -> "Drill | None":
            self._settle()
            for drill in self.left:
                reasons[drill.name] = trouble or self._restless(drill)
                if not reasons[drill.name]:
                    return drill
            first = self.left[0]
            self.bar.show(f"{first.name}: {reasons[first.name]}")
            return None

        allowed_s = max(self._allowed_s(drill) for drill in self.left)
        found = scene.until(look, 0.0 if trouble else allowed_s, "")
        if found is not None:
            return found
        drill = self.left[0]
        row = self.rows[drill.name]
        why = trouble or reasons.get(drill.name, "")
        state = scene.recent_status().get(drill.target, {}).get("state")
        if drill.is_house or state == "running":
            row.troubles.append(f"not begun: {why}")
        else:
            row.skipped = self._not_running(drill) or f"not begun: {why}"
        self._over(row)
        return None

    def _allowed_s(self, drill: "Drill") -> float:
        """How long a target may take to be ready for its next drill."""
        if drill.is_house:
            return STEADY_S * self.scene.slowness
        restart = self.scene.entries[drill.target]["restart"]
        quiet_s = restart["window_s"] + restart["healthy_s"] + self.scene.plan["watch"]["verify_s"]
        return float(quiet_s + STEADY_S * self.scene.slowness)

    def _restless(self, drill: "Drill") -> str:
        """Return what speaks against hurting this one now; empty when nothing does."""
        if drill.is_house:
            return ""
        scene, name = self.scene, drill.target
        found = scene.recent_status().get(name)
        if found is None or found["state"] != "running":
            return f"waiting for {name} to run (it is {found['state'] if found else 'unknown'})"
        if any(row.settle is not None for row in self.rows.values() if row.drill.target == name):
            return f"waiting for the verdict on the drill of {name} before"
        flags = [flag for of, flag in scene.flags() if of == name]
        if flags:
            return f"waiting for the flag {flags[0]} of {name} to be cleared"
        restart = scene.entries[name]["restart"]
        deaths = scene.recent_deaths(name)
        if drill.kind == catalogue.CRASH_LOOP:
            others = [d for d in self.left if d.target == name and d is not drill]
            # It uses the restart limit up, for which the others would have to wait.
            return f"waiting for the other drills of {name}" if others else ""
        if restart["limit"] and deaths >= restart["limit"]:
            return (
                f"waiting until {name} may die again without reaching its restart.limit"
                f" ({deaths} deaths within {restart['window_s']:g} s)"
            )
        return ""

    def _one(self, drill: "Drill") -> None:
        scene, row = self.scene, self.rows[drill.name]
        # Asked again: a person may have stopped it while we were at another.
        row.skipped = self._not_running(drill)
        if row.skipped:
            self._over(row)
            return
        scene.begin()
        scene.show = self._shower(drill.name)
        scene.show(catalogue.KINDS[drill.kind])
        witness = Witness(scene, row)
        scene.on_turn = witness.turn
        self._note(drill)
        try:
            if drill.kind == catalogue.DISK_FULL:
                disk.carry_out(scene, row, witness)
            elif drill.is_house:
                house.carry_out(scene, row, witness)
            elif drill.kind == catalogue.CULPRIT:
                culprit.carry_out(scene, row)
            elif drill.kind in catalogue.SYMPTOMS:
                symptom.carry_out(scene, row)
            else:
                worker.carry_out(scene, row)
        except Gone:
            raise
        except NodeError as error:
            row.troubles.append(str(error).split("\n", 1)[0])
        scene.on_turn = _nothing
        scene.mend()
        left = scene.wait_steady(STEADY_S)
        if left:
            row.troubles.append(f"the node is not steady again: {left}")
        witness.testify()
        self._over(row)

    def _note(self, drill: "Drill") -> None:
        """Say in the house log that this was a drill: who reads the incident at night has to know."""
        stamp = time.strftime("%H:%M:%S", time.localtime())
        text = f"{stamp} drill: {drill.name} begins: {catalogue.KINDS[drill.kind]}\n"
        write_to_house(self.scene.run_dir, "err", text.encode())

    def _over(self, row: Row) -> None:
        self.left.remove(row.drill)
        self.bar.end()
        if not self.args.json:
            say(scorecard.one_line(row, self.paint))

    # -- what takes a while ------------------------------------------------------------------------

    def _settle(self) -> bool:
        """Take in the verdicts that have come; whether there is none left to come."""
        is_all = True
        for row in self.rows.values():
            if row.settle is not None:
                if row.settle():
                    row.settle = None
                else:
                    is_all = False
        return is_all

    def _settle_all(self) -> None:
        self.scene.show = self._shower("")
        # Each has a deadline of its own.
        while not self._settle():
            self.scene.show("waiting for the last verdicts")
            time.sleep(CALM_S)

    def _steady_at_end(self) -> str:
        try:
            return self.scene.wait_steady(STEADY_S)
        except Gone as error:
            return str(error).split("\n", 1)[0]

    # -- telling -----------------------------------------------------------------------------------

    def _shower(self, name: str) -> "Callable[[str], None]":
        done, total = len(self.rows) - len(self.left), len(self.rows)

        def show(text: str) -> None:
            self.bar.show(f"{done + 1}/{total} {name}: {text}" if name else text)

        return show

    def _print(self) -> None:
        table = [row for row in self.rows.values() if row not in self._unbegun()]
        took_s = time.monotonic() - self.began_s
        if self.args.json:
            done = [row for row in table if not row.skipped]
            passed = bool(done) and not self.unsteady and not any(row.failures() for row in done)
            output.document({
                "node": self.scene.plan.get("node", ""), "passed": passed and not self.is_interrupted,
                "interrupted": self.is_interrupted, "unsteady": self.unsteady or None,
                "began_unix_s": self.began_unix_s, "took_s": round(took_s, 3),
                "drills": [row.as_dict() for row in table],
            })  # fmt: skip
        else:
            columns, _ = terminal.size_of()
            paint = terminal.paint_for(self.args)
            lines = scorecard.render(table, columns, paint, took_s)
            if self.unsteady:
                lines.append(paint(f"the node is not steady: {self.unsteady}", "red"))
            sys.stdout.write("\n".join(lines) + "\n")
        sys.stdout.flush()

    def _unbegun(self) -> "list[Row]":
        return [self.rows[drill.name] for drill in self.left]


def _interrupt(_number: int, _frame: "FrameType | None") -> "NoReturn":
    raise KeyboardInterrupt


def _nothing() -> None:
    pass
