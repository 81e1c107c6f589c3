"""Which ingredient was there when it crashed, and was not there when it did not?

Spectrum-based fault localisation, one floor up: where a debugger compares which lines were executed in failing and in passing
tests, we compare what was loaded in lives that crashed and in lives that went well: components, C extensions with their versions.
The score is Ochiai's, which ranks the guilty one higher than the other coefficients that were compared:
R. Abreu, P. Zoeteweij, A. J. C. van Gemund, "An Evaluation of Similarity Coefficients for Software Fault
Localization", PRDC 2006, pages 39-46 (after A. Ochiai, 1957).

Pure. Where everything was always loaded together every score is the same: then only a split can tell
(:mod:`holdfast.core.isolate`).
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable


class Lived:
    """One life: what was loaded in it, and whether it crashed."""

    __slots__ = ("crashed", "loaded")

    def __init__(self, loaded: "Iterable[str]", *, crashed: bool) -> None:
        self.loaded = frozenset(loaded)
        self.crashed = crashed


class Suspect:
    """One ingredient and how suspicious it is, 0 to 1."""

    __slots__ = ("crashed", "name", "score", "well")

    def __init__(self, name: str, score: float, crashed: int, well: int) -> None:
        self.name = name
        self.score = score
        self.crashed = crashed  #: crashed lives that it was in
        self.well = well  #: lives that went well and that it was in


def suspects(lives: "Iterable[Lived]") -> "list[Suspect]":
    """Return everything that was in a crashed life, the most suspicious first."""
    bad: dict[str, int] = {}
    good: dict[str, int] = {}
    crashes = 0
    for life in lives:
        crashes += life.crashed
        tally = bad if life.crashed else good
        for name in life.loaded:
            tally[name] = tally.get(name, 0) + 1
    found = [
        Suspect(name, ochiai(count, crashes, good.get(name, 0)), count, good.get(name, 0))
        for name, count in bad.items()
    ]
    found.sort(key=lambda one: (-one.score, one.name))
    return found


def ochiai(crashed_with: int, crashed: int, well_with: int) -> float:
    """Return Ochiai's coefficient: crashed_with / sqrt(crashed * (crashed_with + well_with)); 0 without crashes."""
    below = crashed * (crashed_with + well_with)
    return float(crashed_with / below**0.5) if below else 0.0
