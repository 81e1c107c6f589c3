"""What does `holdfast dashboard WORD` do? Started by the command line in its place; takes the word and JSON."""

import asyncio
import os
import socket
import sys
import time

from holdfast.cli.metrics_serving import parse_address
from holdfast.cli.place import Place
from holdfast.config.dashboard import USE, WORKER
from holdfast.dashboard import planned, settings
from holdfast.dashboard.access import audit, keeping, passwords
from holdfast.dashboard.access.rules import Rules
from holdfast.dashboard.asking import Refused
from holdfast.linux import talk
from holdfast.model.errors import HoldfastError, NodeError, UsageError
from holdfast.wire import layout
from holdfast.wire.jsonlite import dumps, loads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from holdfast.dashboard.access.rules import Role

    Wanted = dict[str, Any]

_INTERRUPTED = 130
_BACKLOG = 128


def main(argv: "list[str]") -> int:
    """Do it, and return the exit status."""
    verbs = {"link": link, "password": password, "serve": serve, "audit": told_audit}
    verb, wanted = argv[0], loads(argv[1])
    try:
        return verbs[verb](wanted)
    except HoldfastError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_status
    except KeyboardInterrupt:
        return _INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 141


# -- a link ----------------------------------------------------------------------------------------


def link(wanted: "Wanted") -> int:
    """Print a link to the dashboard of this node.

    Raises:
        NodeError: It has none, or takes no links.
    """
    where = Place(wanted["state_dir"], wanted["config"] or "")
    raw = _settings_of(where)
    if raw is None:
        msg = (
            f"the node of {where.config or where.state_dir} has no dashboard\n"
            "  give it one:          [dashboard]   in the configuration, then  holdfast apply\n"
            "  or look at it now:    holdfast dashboard serve"
        )
        raise NodeError(msg)
    if not raw.get("links", True):
        msg = "links are switched off here (links = false below [dashboard])\n  sign in with your name and password, or by your proxy"
        raise NodeError(msg)
    made = _shown(raw)
    url = _link(where, made.url(), "reader" if wanted["reader"] else "operator")
    state = _state(where)
    if state not in ("running", "starting"):
        hint = (
            "holdfast start dashboard   holdfast logs dashboard"
            if state
            else "holdfast dashboard serve"
        )
        sys.stderr.write(
            f"note: the dashboard does not run at the moment ({state or 'the node is down'})\n  {hint}\n"
        )
    _tell(wanted, url)
    return 0


def _settings_of(where: Place) -> "Wanted | None":
    """Return the settings of this node's dashboard, as they stand in its plan; None where it has none."""
    try:
        entry = planned.entry(where, WORKER)
    except Refused:
        return None
    return next(
        (dict(one["settings"]) for one in entry.get("components") or () if one["use"] == USE), None
    )


def _shown(raw: "Wanted") -> settings.Settings:
    """Return settings as far as a link needs them; files of the other settings may be for other eyes."""
    rules = Rules(hosts=frozenset(raw.get("hosts") or ()))
    return settings.Settings(
        rules, str(raw.get("listen") or settings.LISTEN), str(raw.get("certificate_file") or "")
    )


def _link(where: Place, url: str, role: "Role") -> str:
    try:
        secret = keeping.make_link(where.state_dir, role, time.time())
    except OSError as error:
        place = error.filename or f"{where.state_dir}/{keeping.DIRECTORY}"
        raise NodeError(f"{place}: {error.strerror}\n  the link is written down there") from None
    # Behind the #, where it is in no log and no header.
    return f"{url}/#token={secret}"


def _state(where: Place) -> str:
    """Return the state of the worker; "" when nobody can tell."""
    reply = talk.ask(f"{where.run_dir}/{layout.socket('keeper')}", {"do": "status"}, 2.0) or {}
    found = (one["state"] for one in reply.get("workers") or () if one["name"] == WORKER)
    return str(next(found, ""))


def _tell(wanted: "Wanted", url: str) -> None:
    if wanted["json"]:
        sys.stdout.write(dumps({"url": url, "valid_s": keeping.LINK_S}) + "\n")
    else:
        sys.stdout.write(f"{url}\n")
        sys.stderr.write(f"it signs in once, within {keeping.LINK_S / 60:.0f} minutes\n")
    sys.stdout.flush()
    if wanted["open"]:
        import webbrowser

        if not webbrowser.open(url):
            sys.stderr.write("not opened: there is no browser here\n")


# -- a password ------------------------------------------------------------------------------------


def password(wanted: "Wanted") -> int:
    """Ask for a password and print its hash.

    Raises:
        UsageError: It is empty, or was not typed the same twice.
    """
    if sys.stdin.isatty():
        from getpass import getpass

        typed = getpass("password: ")
        if getpass("again:    ") != typed:
            raise UsageError("these are two different passwords\n  holdfast dashboard password")
    else:
        typed = sys.stdin.readline().rstrip("\n")
    if len(typed) < 8 or len(typed) > passwords.LONGEST:
        raise UsageError(
            f"a password has 8 to {passwords.LONGEST} letters\n  holdfast dashboard password"
        )
    made = passwords.make(typed)
    if wanted["json"]:
        sys.stdout.write(dumps({"password_hash": made}) + "\n")
    else:
        sys.stdout.write(f"{made}\n")
        sys.stderr.write(
            'put it into a file, and below [dashboard.user.NAME]:  password_hash_file = "PATH"\n'
        )
    return 0


# -- in the foreground -----------------------------------------------------------------------------


def serve(wanted: "Wanted") -> int:
    """Serve until Ctrl-C.

    Raises:
        HoldfastError: That cannot be.
    """
    from holdfast.dashboard import serving

    where = Place(wanted["state_dir"], wanted["config"] or "")
    raw = _settings_of(where) or {}
    host, port = parse_address(str(wanted["listen"] or raw.get("listen") or settings.LISTEN))
    listener = _listen(host, port)
    shown_host = f"[{host}]" if ":" in host else host
    made = settings.read({**raw, "listen": f"{shown_host}:{listener.getsockname()[1]}"}, os.environ)
    if made.rules.links:
        _tell(wanted, _link(where, made.url(), "operator"))
    else:
        _tell({**wanted, "json": False}, made.url())
    try:
        asyncio.run(serving.serve_on(listener, where, made))
    except serving.Missing as error:
        raise NodeError(str(error)) from None
    except OSError as error:
        raise NodeError(f"the dashboard cannot serve: {error}") from None
    return 0


def _listen(host: str, port: int) -> socket.socket:
    shown = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    if host not in ("127.0.0.1", "::1", "localhost"):
        msg = f"--listen {shown}: others reach it there\n  for that write [dashboard] into the configuration, with a certificate or a proxy (holdfast docs dashboard)"
        raise UsageError(msg)
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, port))
        sock.listen(_BACKLOG)
    except OSError as error:
        sock.close()
        msg = (
            f"cannot listen at {shown}: {error.strerror}\n"
            "  if the node's own dashboard runs there:  holdfast dashboard\n"
            "  elsewhere:                               holdfast dashboard serve --listen 8751"
        )
        raise NodeError(msg) from None
    return sock


# -- who did what ----------------------------------------------------------------------------------


def told_audit(wanted: "Wanted") -> int:
    """Print the newest entries, oldest first."""
    rows = audit.read(wanted["state_dir"], max(1, int(wanted["lines"] or 50)))
    if wanted["json"]:
        sys.stdout.write(dumps({"entries": rows}) + "\n")
        return 0
    for row in rows:
        stamp = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(float(row.get("at_unix_s") or 0)))
        result = row["result"] if row["result"] is not None else "under way, or nobody knows"
        who = f"{row.get('who') or '-'} ({row.get('address') or 'here'})"
        line = f"{stamp}  {who:<28}  {row.get('what')} {row.get('target') or ''}: {result}"
        # A name or a target is what somebody sent.
        sys.stdout.write("".join(c if c.isprintable() else " " for c in line) + "\n")
    if not rows:
        sys.stdout.write("nobody has signed in yet\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
