"""Which jobs run by the clock, and how does the steward learn of them?

Said with `@job(cron="30 4 * * mon", tz="Europe/Berlin")`: as cron(5) has it (also "@daily" and the like, and six fields with seconds
first), over a change of summer time as Debian's cron does (cronsim). A worker that has imported the code writes
:func:`entries` into the run directory (`engine/schedule.py: publish`); the steward fires, once for the whole fleet.
"""

from holdfast.sdk.job_options import JobSettingError
from holdfast.sdk.job_registry import REGISTRY

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from holdfast.sdk.jobs import Job

_WORDS = {
    "@yearly": "0 0 1 1 *", "@annually": "0 0 1 1 *", "@monthly": "0 0 1 * *", "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *", "@midnight": "0 0 * * *", "@hourly": "0 * * * *",
}  # fmt: skip


def check_cron(name: str, cron: str, tz: "str | None") -> "tuple[str, str]":
    """Return pattern and time zone ("": UTC) as the steward reads them.

    Raises:
        JobSettingError: One of them is none.
    """
    from datetime import UTC, datetime

    from cronsim import CronSim, CronSimError

    pattern = _WORDS.get(cron, cron)
    try:
        slot = next(CronSim(pattern, datetime(2024, 1, 1, tzinfo=UTC)), None)
    except (CronSimError, AttributeError, TypeError) as error:
        says = f'job {name}: cron={cron!r} is none: {error}; write minute hour day month weekday, as "30 4 * * mon", or "@daily"'
        raise JobSettingError(says) from None
    if slot is None:
        says = f"job {name}: cron={cron!r} never comes"
        raise JobSettingError(says)
    if tz:
        from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

        try:
            ZoneInfo(tz)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            says = f'job {name}: tz={tz!r}: this machine knows no such time zone; write one as "Europe/Berlin", or none for UTC'
            raise JobSettingError(says) from None
    return pattern, tz or ""


def entries(jobs: "Iterable[Job[Any, Any]] | None" = None) -> "list[dict[str, Any]]":
    """Return the periodic ones of these jobs (default: all that were imported), for `engine/schedule.py: publish`."""
    return [
        {"name": job.name, "cron": job.cron, "tz": job.tz, "queue": job.queue, "payload": job.template()}
        for job in (REGISTRY.values() if jobs is None else jobs)
        if job.cron
    ]  # fmt: skip
