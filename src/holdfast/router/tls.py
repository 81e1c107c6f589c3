"""What does TLS add to a connection, and where do its certificates come from?

A context is made from the plan's files and made anew when one of them changes (a renewed certificate needs no restart); the old
one stays where the new files are unusable. Also the facts that the sign-in wants: the client's certificate, and the id of the
channel (as Autobahn computes it, so that its cryptosign clients agree with us).
"""

import hashlib
import os
import ssl

from holdfast.core.wamp.auth.certificate import Certificate

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from holdfast.model.bus import TlsPlan


class TlsError(Exception):
    """The files of a TLS endpoint cannot be used; says which one and what to do."""


class Certificates:
    """The TLS context of one endpoint, as new as its files."""

    __slots__ = ("_plan", "_stamps", "context")

    def __init__(self, plan: "TlsPlan") -> None:
        self._plan = plan
        self._stamps: list[tuple[int, int]] = []
        self.context: ssl.SSLContext | None = None  #: None: the files were never usable

    def renew(self) -> bool:
        """Take the files over if they have changed since the last look; whether they had.

        Raises:
            TlsError: They cannot be used; the ones before go on, and the next change is looked at again.
        """
        stamps = self._look()
        if stamps == self._stamps:
            return False
        self._stamps = stamps
        self.context = make_context(self._plan)
        return True

    def _look(self) -> "list[tuple[int, int]]":
        found = []
        plan = self._plan
        for path in (plan["certificate"], plan["key"], *plan["chain"], *plan["ca"]):
            try:
                info = os.stat(path)
            except OSError:
                found.append((0, 0))
                continue
            found.append((info.st_ino, info.st_mtime_ns))
        return found


def make_context(plan: "TlsPlan") -> ssl.SSLContext:
    """Make a server's context.

    Raises:
        TlsError: A file is missing, unreadable, or not what it should be.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        _load_chain(context, plan)
    except (OSError, ssl.SSLError) as error:
        raise TlsError(
            f"the certificate {plan['certificate']} with the key {plan['key']} cannot be used: {_words(error)}"
        ) from None
    for path in plan["ca"]:
        try:
            context.load_verify_locations(path)
        except (OSError, ssl.SSLError) as error:
            raise TlsError(f"the CA certificates {path} cannot be used: {_words(error)}") from None
    if plan["ca"]:
        context.verify_mode = ssl.CERT_REQUIRED if plan["require_client"] else ssl.CERT_OPTIONAL
    if plan["ciphers"]:
        try:
            context.set_ciphers(plan["ciphers"])
        except ssl.SSLError as error:
            raise TlsError(f'ciphers "{plan["ciphers"]}": {_words(error)}') from None
    return context


def _load_chain(context: ssl.SSLContext, plan: "TlsPlan") -> None:
    if not plan["chain"]:
        context.load_cert_chain(plan["certificate"], plan["key"])
        return
    # OpenSSL wants certificate and chain in one file: in memory, where it leaves no trace.
    descriptor = os.memfd_create("chain", os.MFD_CLOEXEC)
    try:
        for path in (plan["certificate"], *plan["chain"]):
            with open(path, "rb") as file:
                os.write(descriptor, file.read() + b"\n")
        context.load_cert_chain(f"/proc/self/fd/{descriptor}", plan["key"])
    finally:
        os.close(descriptor)


def _words(error: Exception) -> str:
    if isinstance(error, ssl.SSLError):
        return str(error.reason or error).replace("_", " ").lower()
    return getattr(error, "strerror", None) or str(error)


def client_certificate(transport: "Any") -> Certificate | None:
    """Return what the TLS handshake has verified of the client, or None."""
    tls = transport.get_extra_info("ssl_object")
    der = tls.getpeercert(True) if tls is not None else None
    if not der:
        return None
    known = tls.getpeercert() or {}
    return Certificate(
        hashlib.sha1(der, usedforsecurity=False).hexdigest(),
        hashlib.sha256(der).hexdigest(),
        _names(known.get("subject", ())),
        _names(known.get("issuer", ())),
    )


def _names(parts: "Any") -> dict[str, str]:
    return {key: value for part in parts for key, value in part}


def channel_id(transport: "Any") -> bytes | None:
    """Return the hash of the first Finished message of the TLS handshake (tls-unique, RFC 5929), or None."""
    tls = transport.get_extra_info("ssl_object")
    if tls is None:
        return None
    finished = tls.get_channel_binding("tls-unique")
    return hashlib.sha256(finished).digest() if finished else None
