"""Acknowledge an alert, or hear of it later. What is open is part of the state."""

import os
import sqlite3
import time

from holdfast.alerts.store import Store
from holdfast.cli.alerts import answered, public
from holdfast.dashboard.asking import Refused

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from holdfast.dashboard.asking import Ask
    from holdfast.dashboard.site import Site

_LONGEST_S = 30 * 86400.0


def change(site: "Site", ask: "Ask") -> "dict[str, Any]":
    """Acknowledge or snooze one; the process that sends alerts does it, and says how the alert is now."""
    verb, alert = ask.text("do"), ask.part("id")
    body: dict[str, Any] = {"alert": alert}
    if verb == "snooze":
        for_s = ask.body.get("for_s")
        if (
            isinstance(for_s, bool)
            or not isinstance(for_s, int | float)
            or not 1 <= for_s <= _LONGEST_S
        ):
            raise Refused(400, f"for_s has to be a number of seconds, from 1 to {_LONGEST_S:.0f}")
        body["until_unix_s"] = time.time() + for_s
    elif verb != "ack":
        raise Refused(400, f'there is no order "{verb}" for an alert', "one of: ack, snooze")
    store = Store(site.where.state_dir)
    if not os.path.exists(store.path):
        raise Refused(404, "no alert was ever sent from this node")
    entry = site.audit.note(ask.who, verb, alert)
    try:
        found = answered(store, store.ask(verb, body), site.where)
    except sqlite3.Error as error:
        site.audit.done(entry, f"failed: {error}")
        raise Refused(
            503, f"the alerts cannot be changed: {error}", "holdfast status   holdfast logs alerts"
        ) from None
    except Exception as error:
        site.audit.done(entry, f"refused: {str(error).partition(chr(10))[0]}")
        raise
    finally:
        store.close()
    site.audit.done(entry, str(found["alert"]["state"]))
    site.hurry()
    return {"alert": public(found["alert"])}
