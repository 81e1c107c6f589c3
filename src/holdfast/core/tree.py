"""Who starts after whom, and who restarts with whom.

Pure. The strategies are OTP's: ``one_for_one`` (only the dead one), ``one_for_all`` (the whole group),
``rest_for_one`` (the dead one and those that were started after it).
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from holdfast.model.plan import GroupPlan, WorkerPlan


def may_start(
    worker: "WorkerPlan", ready: "Mapping[str, bool]", down_for_good: "Mapping[str, bool]"
) -> "tuple[bool, str]":
    """Tell whether a worker may start now, and if not, which worker it waits for.

    Args:
        worker: The one to start.
        ready: Whether each worker can serve.
        down_for_good: Whether each worker is down and not about to come back (stopped, failed, done).
    """
    for name in worker["requires"]:
        if not ready.get(name, False):
            return False, name
    for name in worker["after"]:
        # Order only: what is down for good does not hold up others.
        if not ready.get(name, False) and not down_for_good.get(name, True):
            return False, name
    return True, ""


def restart_with(groups: "Sequence[GroupPlan]", dead: str) -> "list[str]":
    """Return the workers that are to be restarted because ``dead`` died, in start order, without it."""
    for group in groups:
        if dead in group["workers"]:
            if group["strategy"] == "one_for_all":
                return [name for name in group["workers"] if name != dead]
            if group["strategy"] == "rest_for_one":
                return group["workers"][group["workers"].index(dead) + 1 :]
    return []


def stop_order(workers: "Sequence[WorkerPlan]") -> "list[list[str]]":
    """Return the names in waves: a wave may be stopped when all before it are gone.

    Nobody is stopped before those that rely on it (Kahn's algorithm on the reversed order).
    """
    needs = {w["name"]: set(w["after"]) | set(w["requires"]) for w in workers}
    users = dict.fromkeys(needs, 0)
    for wanted in needs.values():
        for name in wanted & users.keys():
            users[name] += 1
    waves = []
    left = list(users)
    while left:
        # A circle was refused by the check of the configuration; never hang on one all the same.
        wave = [name for name in left if not users[name]] or left
        waves.append(wave)
        gone = set(wave)
        left = [name for name in left if name not in gone]
        for name in wave:
            for relied_on in needs[name] & users.keys():
                users[relied_on] -= 1
    return waves
