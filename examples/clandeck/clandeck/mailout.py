"""What goes out by mail. Each mail is a file that appears whole; a number is never given twice."""

from pathlib import Path

from clandeck.files import replace
from holdfast.sdk import Component

app = Component()


def outbox() -> Path:
    """Return the directory of the mails."""
    return Path(app.settings["data"]) / "outbox"


def numbers() -> list[int]:
    """Return the numbers of the mails that are there; the directory is the only memory."""
    return sorted(int(mail.stem) for mail in outbox().glob("[0-9]*.eml"))


@app.on_start
def begin() -> None:
    """See where we were."""
    outbox().mkdir(parents=True, exist_ok=True)
    app.log.info("outbox", mails=len(numbers()))


@app.every(3)
def write() -> None:
    """The digest for somebody, and an end to the oldest ones."""
    there = numbers()
    number = there[-1] + 1 if there else 1
    mail = (
        f"To: user-{number % 50}@example.org\nSubject: What moved today ({number})\n\nMany cards.\n"
    )
    replace(outbox() / f"{number:08}.eml", mail)
    for old in there[: -app.settings["keep"]]:
        (outbox() / f"{old:08}.eml").unlink()
    app.work()
    app.log.info("mailed", number=number)
