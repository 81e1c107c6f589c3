"""WAMP-cryptosign: does the client hold the private key of a public key that is known? And the router its own?

WAMP specification, "Cryptosign-based Authentication": Ed25519 over a challenge, which is combined with the TLS channel's
identifier where the client asks for channel binding. Left out: certificates and trustroots on a blockchain, remote
attestation. Ed25519 comes from the package cryptography, loaded when the first key is used.
"""

from typing import TYPE_CHECKING, Any

from holdfast.core.wamp.auth.secrets import from_hex, xor

if TYPE_CHECKING:
    from collections.abc import Mapping

CHALLENGE_BYTES = 32


class NoCryptography(RuntimeError):  # noqa: N818 -- reads as what it says
    """The package is not installed."""

    def __init__(self) -> None:
        super().__init__(
            "cryptosign needs the package cryptography, which is not installed\n"
            "  pip install 'holdfast[cryptosign]'"
        )


class CryptosignError(ValueError):
    """A HELLO or CHALLENGE that cannot be answered; the message says why."""


class SigningKey:
    """A private Ed25519 key."""

    __slots__ = ("_key", "public")

    def __init__(self, seed: bytes) -> None:
        """Take the 32 bytes of a private key.

        Raises:
            NoCryptography: See there.
            ValueError: Not 32 bytes.
        """
        try:
            from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
        except ImportError:
            raise NoCryptography from None
        self._key = Ed25519PrivateKey.from_private_bytes(seed)
        #: In hexadecimal digits.
        self.public = self._key.public_key().public_bytes_raw().hex()

    def sign(self, message: bytes) -> str:
        """Return signature and message in hexadecimal digits, one after the other."""
        return self._key.sign(message).hex() + message.hex()


def verify(public: bytes, signed: str, message: bytes) -> bool:
    """Tell whether `signed` (signature and message, in hexadecimal digits) is that key's signature of this message.

    Raises:
        NoCryptography: See there.
    """
    try:
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    except ImportError:
        raise NoCryptography from None
    raw = from_hex(signed, 64 + len(message))
    if raw is None or raw[64:] != message:
        return False
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(raw[:64], message)
    except (InvalidSignature, ValueError):
        return False
    return True


def message_of(challenge: bytes, binding: object, channel_id: bytes | None) -> bytes:
    """Return what has to be signed.

    Raises:
        CryptosignError: The channel binding that is asked for is not there.
    """
    if binding is None:
        return challenge
    if binding != "tls-unique":
        raise CryptosignError(
            f"cryptosign: there is no channel binding {str(binding)[:40]!r}, only tls-unique"
        )
    if channel_id is None or len(channel_id) != CHALLENGE_BYTES:
        raise CryptosignError(
            "cryptosign: this connection has no channel identifier tls-unique (it is not TLS, or TLS does not tell)"
        )
    return xor(challenge, channel_id)


def authid_of(users: "Mapping[str, Any]", pubkey: str) -> str | None:
    """Find whose key it is; None when nobody's, or that of more than one."""
    found = [authid for authid, record in users.items() if pubkey in keys_of(record)]
    return found[0] if len(found) == 1 else None


def keys_of(record: object) -> list[str]:
    """Return the public keys of a user: `authorized_keys` of a static one, `pubkey` of a dynamic authenticator."""
    if not isinstance(record, dict):
        return []
    keys = record.get("authorized_keys") or [record.get("pubkey")]
    return (
        [key.lower() for key in keys if isinstance(key, str)]
        if isinstance(keys, list | tuple)
        else []
    )


class Cryptosign:
    """One sign-in, on the router's side."""

    __slots__ = ("_keys", "_message", "challenge")

    def __init__(
        self,
        record: dict[str, Any] | None,
        authextra: dict[str, Any],
        chance: bytes,
        channel_id: bytes | None,
        identity: SigningKey | None,
    ) -> None:
        """Begin; a `record` of None, or without the client's key, is checked as any other, and never right."""
        given = authextra.get("pubkey")
        pubkey = given.lower() if isinstance(given, str) else None
        known = keys_of(record)
        if pubkey is None:
            candidates = known[:16]
        elif pubkey in known:
            candidates = [pubkey]
        else:
            candidates = []
        self._keys = [raw for key in candidates if (raw := from_hex(key, 32)) is not None]
        binding = authextra.get("channel_binding")
        self._message = message_of(chance, binding, channel_id)
        #: `extra` of CHALLENGE.
        self.challenge: dict[str, Any] = {"challenge": chance.hex(), "channel_binding": binding}
        wanted = authextra.get("challenge")
        if wanted:
            raw = from_hex(wanted, CHALLENGE_BYTES)
            if raw is None:
                raise CryptosignError(
                    "cryptosign: HELLO.details.authextra.challenge has to be 64 hexadecimal digits"
                )
            if identity is not None:
                self.challenge["pubkey"] = identity.public
                self.challenge["signature"] = identity.sign(message_of(raw, binding, channel_id))

    def proves(self, signature: object, extra: dict[str, Any]) -> bool:  # noqa: ARG002 -- the shape of every method
        """Check the signature; somebody without a known key costs as much as one with a key."""
        if not isinstance(signature, str):
            return False
        keys = self._keys or [_NOBODY]
        is_right = any([verify(key, signature, self._message) for key in keys])  # noqa: C419 -- all, always
        return is_right and bool(self._keys)

    def welcome(self) -> dict[str, Any]:
        """Return what WELCOME.details.authextra tells the client: nothing."""
        return {}


# The base point of the curve, a valid public key; whose it is does not matter (see `proves`).
_NOBODY = bytes.fromhex("58" + "66" * 31)
