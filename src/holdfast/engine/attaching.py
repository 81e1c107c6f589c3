"""How does a job that killed its process come to its incident?

The evidence of a death is collected after it, by others, and takes seconds; the job is recovered in milliseconds. So what is to be
attached is written down beside the recorders before the recovery, and done when the order for the evidence is done
(`RUN/orders/exit-SEQ.done`), by this steward or the next.
"""

import os

from holdfast.linux import files
from holdfast.wire import jsonlite, layout

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from holdfast.jobs.store import Store

#: Below the run directory: one file a death.
ROOM = f"{layout.JOBS}/evidence"
#: As long as Sidekiq keeps its dead.
KEEP_DEAD_S = 180 * 86400.0
#: A suspect that turns out to be innocent needs no note for long.
KEEP_SUSPECT_S = 86400.0
#: An incident that was not written up within this time never will be.
_PATIENCE_S = 120.0


class Attaching:
    """Notes that are still to be made."""

    __slots__ = ("_directory", "_orders", "_pending", "_state_dir", "_store")

    def __init__(self, run_dir: str, state_dir: str, store: "Store") -> None:
        self._directory = f"{run_dir}/{ROOM}"
        self._orders = f"{run_dir}/{layout.ORDERS}"
        self._state_dir = state_dir
        self._store = store
        os.makedirs(self._directory, mode=0o700, exist_ok=True)
        #: What an earlier steward left, too.
        self._pending: dict[str, dict[str, Any]] = {}
        for name in os.listdir(self._directory):
            if name.endswith(".json"):
                self._load(name.removesuffix(".json"))

    def _load(self, key: str) -> None:
        try:
            self._pending[key] = jsonlite.loads(
                files.read(f"{self._directory}/{key}.json").decode()
            )
        except ValueError:
            os.unlink(f"{self._directory}/{key}.json")

    @property
    def is_needed(self) -> bool:
        """Whether there is anything to attach."""
        return bool(self._pending)

    def add(
        self, key: str, worker: str, seq: int, incident: str, said: "dict[str, str]", keep_s: float
    ) -> None:
        """Write down what is to be attached.

        Args:
            key: Names the death.
            worker: Who died.
            seq: Of its exit in the keeper's journal; 0: nobody collects evidence.
            incident: If it is known already.
            said: Of each job (jid) what is to be said.
            keep_s: For how long.
        """
        entry = {
            "worker": worker, "seq": seq, "incident": incident, "said": said, "keep_s": keep_s, "until_unix_s": 0.0,
        }  # fmt: skip
        files.write_atomic(f"{self._directory}/{key}.json", jsonlite.dumps(entry).encode())
        self._pending[key] = entry

    def turn(self, unix_s: float) -> None:
        """Attach what has become known.

        Raises:
            StoreDownError: Not now; nothing is forgotten.
        """
        for key, entry in list(self._pending.items()):
            entry["until_unix_s"] = entry["until_unix_s"] or unix_s + _PATIENCE_S
            is_done, incident = self._outcome(entry)
            if not is_done and unix_s < entry["until_unix_s"]:
                continue
            for jid, says in entry["said"].items():
                note = {"worker": str(entry["worker"]), "says": str(says)}
                if incident:
                    note.update(incident=incident, state_dir=self._state_dir)
                self._store.note(jid, note, float(entry["keep_s"]))
            del self._pending[key]
            os.unlink(f"{self._directory}/{key}.json")

    def _outcome(self, entry: "dict[str, Any]") -> "tuple[bool, str]":
        if entry["incident"] or not entry["seq"]:
            return True, str(entry["incident"])
        data = files.read(f"{self._orders}/exit-{entry['seq']}.done")
        if not data:
            return False, ""
        try:
            found = jsonlite.loads(data.decode()).get("incident")
        except (ValueError, AttributeError):
            found = None
        return True, found if type(found) is str else ""
