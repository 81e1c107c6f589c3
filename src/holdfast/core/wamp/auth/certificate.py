"""TLS client certificate: whose is it? That it is genuine was proved by the TLS handshake.

Crossbar.io's `certificate-sha1`, and with it `certificate-sha256` (or only `sha1`, `sha256`) and `subject`: the common
name as text, or a table of attributes that all have to be there.
"""

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping


class Certificate(NamedTuple):
    """A client certificate that the transport has verified."""

    sha1: str  #: lower-case hexadecimal digits
    sha256: str
    subject: dict[str, str]  #: {"commonName": …, "organizationName": …}
    issuer: dict[str, str]

    def details(self) -> dict[str, Any]:
        """Return it as dynamic authenticators are told."""
        return {
            "sha1": ":".join(self.sha1[at : at + 2] for at in range(0, len(self.sha1), 2)).upper(),
            "sha256": ":".join(
                self.sha256[at : at + 2] for at in range(0, len(self.sha256), 2)
            ).upper(),
            "subject": {**self.subject, "cn": self.subject.get("commonName", "")},
            "issuer": {**self.issuer, "cn": self.issuer.get("commonName", "")},
        }


def principal_of(
    users: "Mapping[str, Any]", certificate: Certificate
) -> tuple[str, dict[str, Any]] | None:
    """Find whose certificate it is: (authid, entry) of the first that fits."""
    for authid, record in users.items():
        if isinstance(record, dict) and _fits(record, certificate):
            return authid, record
    return None


def _fits(record: dict[str, Any], certificate: Certificate) -> bool:
    """Tell whether everything that the entry names is right, and it names something."""
    named = 0
    for prefix in ("certificate-", ""):
        for kind, right in (("sha1", certificate.sha1), ("sha256", certificate.sha256)):
            wanted = record.get(prefix + kind)
            if wanted is None:
                continue
            named += 1
            if not right or str(wanted).replace(":", "").replace(" ", "").lower() != right:
                return False
    subject = record.get("subject")
    if subject is not None:
        named += 1
        if isinstance(subject, dict):
            if not subject or any(
                certificate.subject.get(key) != value for key, value in subject.items()
            ):
                return False
        elif not subject or certificate.subject.get("commonName") != subject:
            return False
    return named > 0
