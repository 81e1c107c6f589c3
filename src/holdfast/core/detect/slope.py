"""How fast does something grow, whatever single samples say?

Theil-Sen: the median of the slopes between all pairs of points, so that neither a garbage collection nor one late
sample bends the line. Costs n²: meant for a dozen points (20 µs), and only of suspects.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


def median(values: "Sequence[float]") -> float:
    """Return the middle value; of an even number the mean of the two in the middle."""
    ordered = sorted(values)
    middle = len(ordered) // 2
    if len(ordered) % 2:
        return ordered[middle]
    return (ordered[middle - 1] + ordered[middle]) / 2


def theil_sen(points: "Sequence[tuple[float, float]]") -> float:
    """Return the growth a second of points ``(second, value)``; 0 when there are fewer than two moments."""
    slopes = [
        (late[1] - early[1]) / (late[0] - early[0])
        for at, early in enumerate(points)
        for late in points[at + 1 :]
        if late[0] > early[0]
    ]
    return median(slopes) if slopes else 0.0
