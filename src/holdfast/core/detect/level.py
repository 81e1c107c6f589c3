"""Is a level over (or under) its limit, without a flag that flaps at the edge?

Pure. Raised at the limit, cleared only at a distance from it (Schmitt trigger).
"""

#: Memory counts as well again below this share of its limit.
MEMORY_WELL = 0.95
#: Free disk counts as well again above this multiple of the least share.
DISK_WELL = 1.2


def memory_is_over(rss_bytes: int, limit_bytes: int, *, was_over: bool) -> bool:
    """Whether memory is to be flagged."""
    return rss_bytes > limit_bytes * (MEMORY_WELL if was_over else 1.0)


def disk_is_low(free_share: float, least_share: float, *, was_low: bool) -> bool:
    """Whether free space is to be flagged."""
    return free_share < least_share * (DISK_WELL if was_low else 1.0)
