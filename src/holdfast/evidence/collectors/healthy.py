"""What does the profile of a worker look like when all is well? Taken once a day, with the other things that are good then.

One second of samples, twenty a second and without a pause, of a life that has been ready for a minute. What a profile in trouble is
compared with: not what takes the time, but what takes more of it than before.
"""

import time

from holdfast.diagnosis import profile as form
from holdfast.evidence.case import read_json
from holdfast.evidence.collectors.environment import interpreter_of
from holdfast.linux import files
from holdfast.wire import layout
from holdfast.wire.jsonlite import dumps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from holdfast.evidence.case import Case
    from holdfast.evidence.collectors.profile import Running

_SECONDS, _RATE = 1.0, 20
#: A profile of today is new enough; of an edited program it is not even then, but it is what there was before.
_DAY_S = 86400.0
_TEXT_BYTES = 32768


def path_of(state_dir: str, worker: str) -> str:
    """Return where the healthy profile of a worker is kept."""
    return f"{state_dir}/{layout.GOOD}/{worker}.profile.json"


def read(state_dir: str, worker: str) -> "form.Profile | None":
    """Return the healthy profile; None when none was taken."""
    kept = read_json(path_of(state_dir, worker))
    text = kept.get("collapsed")
    if type(text) is not str:
        return None
    found = form.parse(text, float(kept.get("seconds") or _SECONDS))
    return found if found.rows else None


def take(case: "Case", start: "Callable[..., Running | str]") -> None:
    """Take it, unless there is a new one; ``start`` begins a profile.

    Raises:
        OSError: It cannot be written.
    """
    path = path_of(case.state_dir, case.worker)
    age_s = time.time() - float(read_json(path).get("unix_s") or 0.0)
    if 0 <= age_s < _DAY_S or not case.alive():
        return
    program = interpreter_of(case)
    if not program:
        return
    running = start(case.pid, _SECONDS, case.run_dir, interpreter=program, rate=_RATE)
    if isinstance(running, str):
        return  # no py-spy here: said wherever a profile is asked for
    found, _ = running.finish()
    if found is not None and found.rows:
        kept = {"unix_s": round(time.time(), 3), "seconds": found.seconds, "collapsed": found.collapsed()[:_TEXT_BYTES]}  # fmt: skip
        files.write_atomic(path, dumps(kept).encode(), mode=0o600)
