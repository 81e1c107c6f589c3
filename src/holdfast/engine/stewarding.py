"""The steward as a component: what does it look after in a node?

Its plan names the store; whom it looks after are the recorders in the run directory, why they died is in the keeper's journal, and
the keeper starts the lanes. The work itself is :mod:`holdfast.engine.tending`.
"""

import os
import sys

from holdfast.engine.causes import JournalCauses
from holdfast.engine.families import Families
from holdfast.engine.storm import Storm
from holdfast.engine.tending import Steward
from holdfast.linux import talk
from holdfast.model.jobs import StoreRefusedError
from holdfast.sdk import Component
from holdfast.wire import layout

#: Exit status of a wrong configuration, as a container's.
MISCONFIGURED = 78
#: For so long what died until now is settled when the node goes down.
_LAST_WORDS_S = 1.5

steward = Component("steward")


class _Keeper:
    """The keeper, who starts lanes."""

    def __init__(self, run_dir: str) -> None:
        self._path = f"{run_dir}/{layout.socket('keeper')}"
        self._said = ""

    def start(self, worker: str) -> None:
        """Have it start a worker; asked again while there are suspects, so an answer that is lost harms nobody."""
        reply = talk.ask(self._path, {"do": "start", "worker": worker, "by": "steward"}, 0.3)
        says = "" if reply is None or reply.get("ok") else str(reply.get("error"))
        if says and says != self._said:
            steward.log.warning("the lane for suspects cannot be started", worker=worker, says=says)
        self._said = says


def _say(event: str, **fields: object) -> None:
    if "worker" in fields:
        event = f"{fields.pop('worker')} (process {fields.pop('pid', '?')}) {event}"
    steward.log.info(event, **fields)


def _watch(run_dir: str, worker: str) -> Steward:
    families = Families(run_dir)
    plan = families.workers.get(worker)
    if plan is None:
        says = f'worker "{worker}" is no steward in the plan'
        raise LookupError(says)
    from holdfast.jobs.opening import open_store

    store = open_store(plan["store"], plan["prefix"])
    storm = Storm(run_dir)

    def killed(mono_s: float, name: str) -> None:
        # Those that run jobs are looked at one by one: it may have been the job.
        jobs = families.workers.get(name)
        if jobs is None or jobs["role"] == "steward":
            storm.note(mono_s, name)

    return Steward(
        run_dir, families, store, plan["lease_s"], JournalCauses(run_dir, killed), storm, _Keeper(run_dir).start,
        _say, os.path.realpath(f"{run_dir}/{layout.STATE_LINK}"),
    )  # fmt: skip


@steward.task
def serve() -> None:
    """Look after the owners of this node until the end."""
    try:
        watch = _watch(os.environ["HOLDFAST_RUN"], os.environ["HOLDFAST_WORKER"])
    except (LookupError, StoreRefusedError) as error:
        steward.log.error("this steward cannot start", says=str(error))
        sys.exit(MISCONFIGURED)
    while not steward.stopping.is_set():
        watch.turn(0.25)
    watch.finish(_LAST_WORDS_S)
