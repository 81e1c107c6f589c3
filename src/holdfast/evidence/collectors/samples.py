"""The last minutes of samples: did memory grow, was it busy, before it failed?"""

from holdfast.records import samples

TYPE_CHECKING = False
if TYPE_CHECKING:
    from holdfast.evidence.case import Case


def collect(case: "Case") -> None:
    """Copy the ring; those of this life go into the findings."""
    found = samples.recent(case.run_dir, case.worker)
    if not found:
        case.miss("samples", "there are none: it did not live long enough to be looked at")
        return
    case.facts.samples = [one for one in found if case.start is None or one["start"] == case.start]
    case.keep_json("samples.json", samples.columns(found))
