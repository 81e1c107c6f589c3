"""Mails to those who are mentioned on a card (@name). Each is a file that appears whole, and appears once.

Events may be missed, by a component that is being restarted or by a router that is; the board's numbered changes cannot. So
an event is only a hint to look: what is mailed follows from the changes after the last one that was dealt with, and the name of a mail
from the number of its change. Killed between the mail and the note that it was written, it is written again, as the same file.
"""

import re
from email.message import EmailMessage
from pathlib import Path
from typing import Any

from clandeck.files import replace
from holdfast.bus.errors import WampError
from holdfast.sdk import Component

app = Component()
MENTION = re.compile(r"(?<!\w)@([^\W_][\w.-]{0,23})")


def outbox() -> Path:
    """Return the directory of the mails."""
    return Path(app.settings["data"]) / "outbox"


def note() -> Path:
    """Return the file with the number of the last change that was dealt with."""
    return outbox() / ".seen"


@app.on_start
def begin() -> None:
    """Catch up with what happened while we were away."""
    outbox().mkdir(parents=True, exist_ok=True)
    if not note().exists():
        replace(note(), b"0")
    app.log.info("outbox", mails=len(list(outbox().glob("*.eml"))), seen=int(note().read_text()))


@app.topic("clandeck.board.on_add")
@app.topic("clandeck.board.on_edit")
def hint(_: dict[str, Any]) -> None:
    """Look what has changed."""
    look()


@app.every(1)
def look() -> None:
    """Write the mails for all changes that were not dealt with yet."""
    seen = int(note().read_text())
    try:
        news = app.call_sync("clandeck.board.changes", seen, timeout_s=3)
    except WampError as error:
        app.log.info("the board is away", says=str(error))
        return
    for change in news["changes"]:
        # What the board itself wrote, on an empty board, is for nobody.
        if change["what"] in ("add", "edit") and change["by"] != "clandeck":
            mail(change)
    if news["number"] != seen:
        replace(note(), str(news["number"]).encode())
        app.work(len(news["changes"]))


def mail(change: dict[str, Any]) -> None:
    """Write to everybody whom a card mentions."""
    for name in sorted(set(MENTION.findall(change["text"])) - {change["by"]}):
        message = EmailMessage()
        message["To"] = f"{name.rstrip('.-')}@clandeck.example"
        message["From"] = "clandeck@clandeck.example"
        message["Subject"] = f"{change['by']} mentioned you on a card"
        message.set_content(change["text"])
        replace(outbox() / f"{change['number']:08}-{name}.eml", message.as_bytes())
        app.log.info("mailed", to=name, change=change["number"])


@app.every(60)
def tidy() -> None:
    """Put an end to the oldest mails."""
    for old in sorted(outbox().glob("*.eml"))[: -app.settings["keep"]]:
        old.unlink()
