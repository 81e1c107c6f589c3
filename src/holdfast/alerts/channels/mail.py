"""E-mail by SMTP, with STARTTLS.

The Message-ID is made of the message's id, so a mail that was sent twice is one for every system that looks; the mails of one alert are one
thread (References). Encryption is the default, and a server that does not offer it is refused rather than trusted with a password.
"""

import smtplib
import ssl
from email.message import EmailMessage
from email.utils import format_datetime, localtime

from holdfast.alerts.channels.channel import NotDelivered
from holdfast.core import alerting

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

#: A person's own orders are no news to be mailed.
_MUTE = (alerting.TOLD_ACK, alerting.TOLD_SNOOZE)


class Mail:
    """One way to some mailboxes.

    Args:
        host: The server.
        port: Its port.
        tls: "starttls", "tls" (from the first byte) or "none".
        user: Empty: nobody signs in.
        password: Of the user.
        sender: From.
        to: The mailboxes.
        timeout_s: For each step.
    """

    def __init__(self, host: str, port: int, tls: str, user: str, password: str, sender: str, to: "list[str]",
                 timeout_s: float) -> None:  # fmt: skip
        self._host, self._port, self._tls = host, port, tls
        self._user, self._password = user, password
        self._sender, self._to = sender, to
        self._timeout_s = timeout_s
        self._left: dict[str, list[str]] = {}  #: message -> mailboxes that still have to get it

    def wants(self, message: "dict[str, Any]") -> bool:
        """Whether somebody wants to read it."""
        return message["change"] not in _MUTE

    def deliver(self, message: "dict[str, Any]") -> None:
        """Send a mail."""
        to = self._left.get(message["id"], self._to)
        try:
            with self._connected() as server:
                if self._tls == "starttls":
                    server.starttls(context=ssl.create_default_context())
                if self._user:
                    server.login(self._user, self._password)
                refused = server.send_message(self.made_of(message), to_addrs=to)
        except smtplib.SMTPRecipientsRefused as error:
            raise self._refused(error.recipients) from None
        except smtplib.SMTPAuthenticationError:
            says = f"{self._host} does not let {self._user} in"
            raise NotDelivered(says, is_refused=True) from None
        except smtplib.SMTPResponseException as error:
            says = f"{self._host} answered {error.smtp_code}"
            raise NotDelivered(says, is_refused=500 <= error.smtp_code < 600) from None
        except (OSError, smtplib.SMTPException) as error:
            raise NotDelivered(f"{self._host}: {type(error).__name__}: {error}") from None
        self._left.pop(message["id"], None)
        if refused:
            # The others have it: the next attempt is for these alone.
            self._left[message["id"]] = list(refused)
            raise self._refused(refused)

    def _refused(self, refused: "dict[str, tuple[int, bytes]]") -> NotDelivered:
        is_final = all(code >= 500 for code, _ in refused.values())
        return NotDelivered(f"{self._host} refuses {', '.join(refused)}", is_refused=is_final)

    def made_of(self, message: "dict[str, Any]") -> EmailMessage:
        """Return the mail."""
        mail = EmailMessage()
        mark = f"[{message['severity']}] " if message["severity"] else ""
        mail["Subject"] = _one_line(f"{mark}{message['title']}")
        mail["From"], mail["To"] = self._sender, ", ".join(self._to)
        mail["Date"] = format_datetime(localtime())
        home = _one_line(message["node"]).replace(" ", "-") or "node"
        mail["Message-ID"] = f"<{message['id']}@{home}.holdfast>"
        if message["alert"] != message["id"]:
            mail["References"] = f"<{message['alert']}@{home}.holdfast>"
        mail["Auto-Submitted"] = "auto-generated"
        mail.set_content(message["text"])
        return mail

    def _connected(self) -> smtplib.SMTP:
        if self._tls == "tls":
            context = ssl.create_default_context()
            return smtplib.SMTP_SSL(self._host, self._port, timeout=self._timeout_s, context=context)  # fmt: skip
        return smtplib.SMTP(self._host, self._port, timeout=self._timeout_s)


def _one_line(text: str) -> str:
    """Return a text that can stand in a header: titles come from programs that went wrong."""
    return "".join(c if c.isprintable() else " " for c in text)[:200]
