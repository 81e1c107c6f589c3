"""Which workers do the same, and in what respect is one of them unlike the others?

Gathers the numbers that :mod:`holdfast.core.detect.peers` compares, of workers that the plan calls alike.
"""

from holdfast.core.detect import peers
from holdfast.core.detect.slope import median
from holdfast.watchdog.vitals import SETTLE_S

TYPE_CHECKING = False
if TYPE_CHECKING:
    from holdfast.core.detect.sign import Sign
    from holdfast.watchdog.wards import Ward

_PEERS_S = 1.0


class Peers:
    """Compares workers that do the same; see :mod:`holdfast.core.detect.peers`."""

    __slots__ = ("_next_s",)

    def __init__(self) -> None:
        self._next_s = 0.0

    def tick(self, wards: "list[Ward]", now_s: float) -> None:
        """Compare all of them, once in a while."""
        if now_s < self._next_s:
            return
        self._next_s = now_s + _PEERS_S
        groups: dict[int, list[Ward]] = {}
        for ward in wards:
            if ward.spec.peers and ward.spec.detect["odd_one_out"] and _is_settled(ward, now_s):
                groups.setdefault(ward.spec.peers, []).append(ward)
        for group in groups.values():
            if len(group) >= peers.LEAST:
                self._compare(group)

    def _compare(self, group: "list[Ward]") -> None:
        says: dict[str, Sign] = {}
        for what, floor, is_exact, value in _RESPECTS:
            values = [value(ward) for ward in group]
            known = [number for number in values if number >= 0]
            if len(known) < peers.LEAST:
                continue
            usual = median(known)
            found = iter(peers.scores(known, floor))
            for ward, number in zip(group, values, strict=True):
                inner = ward.vitals.inner if ward.vitals is not None else None
                if number < 0 or inner is None:
                    continue
                score, limit = next(found), ward.spec.detect["odd_one_out"]
                likeness = inner.likeness.get(what)
                if likeness is None:
                    likeness = inner.likeness[what] = peers.Likeness(is_exact=is_exact)
                if likeness.add(score, limit):
                    says[ward.name] = peers.sign(
                        what, f"{number:.3g}", f"{usual:.3g}", score, limit
                    )
        for ward in group:
            if ward.vitals is not None:
                ward.vitals.say("odd_one_out", says.get(ward.name))


def _is_settled(ward: "Ward", now_s: float) -> bool:
    vitals = ward.vitals
    if vitals is None or vitals.start != ward.n or vitals.inner is None or not ward.is_ready:
        return False
    return now_s - ward.ready_s > SETTLE_S


def _unit_ms(ward: "Ward") -> float:
    inner = ward.vitals.inner if ward.vitals is not None else None
    return inner.effort.unit_s * 1000 if inner is not None else -1.0


def _share(ward: "Ward") -> float:
    return ward.vitals.share if ward.vitals is not None else -1.0


def _tasks(ward: "Ward") -> float:
    beat = ward.care.beat if ward.care is not None else None
    return float(beat.tasks) if beat is not None else -1.0


#: In what respect they are compared: its name, a difference that means nothing, and whether it has to be the same
#: everywhere; below 0: not known. The lag of the loop is a bad one: it differs tenfold between healthy peers.
_RESPECTS = (
    ("milliseconds of processor time for a unit of work", 0.5, True, _unit_ms),
    ("share of a processor", 0.1, False, _share),
    ("number of tasks", 100.0, False, _tasks),
)
