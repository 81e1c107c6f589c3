"""WAMP-SCRAM: client and router prove to each other that they know the same password; the router keeps only hashes.

RFC 5802 and RFC 7677 in the messages of the WAMP specification ("Salted Challenge Response Authentication"), method
`wamp-scram`, and in those of Autobahn and Crossbar.io, method `scram`, which differ: their channel binding field is
empty, the name is not escaped, and their key derivation `argon2id-13` takes the Base64 text of the hash for the
salted password (the specification's is `argon2id13`). The router understands both, the client answers in that of the
challenge. Deriving from a password happens on the client's side; Argon2 comes from the package argon2-cffi.
"""

import hmac
from base64 import b64encode
from hashlib import pbkdf2_hmac, sha256
from typing import Any, NamedTuple

from holdfast.core.wamp.auth.secrets import from_base64, from_hex, is_same, xor

ITERATIONS = 600_000
#: More is refused by the client: a rogue router must not keep it busy for minutes.
MOST_ITERATIONS, MOST_MEMORY_KIB = 10_000_000, 1 << 20
#: Fewer are refused by the client: a rogue router must not get a hash that is easy to crack (RFC 7677: 4096).
FEWEST_ITERATIONS = 4096
ARGON2, ARGON2_AUTOBAHN, PBKDF2 = "argon2id13", "argon2id-13", "pbkdf2"


class ScramError(ValueError):
    """A challenge, a password or a stored credential that cannot be used; the message says why."""


class Keys(NamedTuple):
    """What a salted password gives."""

    client: bytes
    stored: bytes
    server: bytes


def scram_credentials(
    password: str,
    salt: bytes,
    iterations: int = ITERATIONS,
    kdf: str = PBKDF2,
    memory: int | None = None,
) -> dict[str, Any]:
    """Return what a router keeps of a user: the entry of `users` of the table `scram`, but for `role`.

    Args:
        password: Any text; it is normalised by SASLprep.
        salt: Random, another for each user; 16 bytes.
        iterations: Cost in time. With Argon2 a few are enough.
        kdf: `pbkdf2`, `argon2id13`, or `argon2id-13` for clients made with Autobahn.
        memory: Cost in memory in KiB; Argon2 only.

    Raises:
        ScramError: The password has forbidden characters, or the package argon2-cffi is missing.
    """
    keys = keys_of(salted_password(password, salt, kdf, iterations, memory))
    credentials: dict[str, Any] = {
        "kdf": kdf,
        "iterations": iterations,
        "salt": salt.hex(),
        "stored-key": keys.stored.hex(),
        "server-key": keys.server.hex(),
    }
    if memory is not None:
        credentials["memory"] = memory
    return credentials


def salted_password(
    password: str, salt: bytes, kdf: str, iterations: int, memory: int | None
) -> bytes:
    """Derive, slowly, the secret that everything else follows from.

    Raises:
        ScramError: The derivation is unknown or impossible here.
    """
    if not 0 < iterations <= MOST_ITERATIONS:
        raise ScramError(f"scram: {iterations} iterations are out of bounds")
    text = saslprep(password).encode()
    if kdf == PBKDF2:
        return pbkdf2_hmac("sha256", text, salt, iterations, 32)
    if kdf not in (ARGON2, ARGON2_AUTOBAHN):
        raise ScramError(f"scram: the router asks for the unknown key derivation {kdf!r}")
    if not memory or not 8 <= memory <= MOST_MEMORY_KIB:
        raise ScramError(f"scram: {kdf} with {memory} KiB of memory is out of bounds")
    if len(salt) < 8:
        raise ScramError("scram: the router's salt is too short for Argon2")
    try:
        from argon2.low_level import Type, hash_secret_raw
    except ImportError:
        raise ScramError(
            "scram: this password is hashed with Argon2, and the package argon2-cffi is not installed\n"
            "  pip install argon2-cffi"
        ) from None
    raw = hash_secret_raw(text, salt, iterations, memory, 1, 32, Type.ID, 19)
    return b64encode(raw).rstrip(b"=") if kdf == ARGON2_AUTOBAHN else raw


def keys_of(salted: bytes) -> Keys:
    """Return ClientKey, StoredKey and ServerKey (RFC 5802, section 3)."""
    client = hmac.digest(salted, b"Client Key", "sha256")
    return Keys(client, sha256(client).digest(), hmac.digest(salted, b"Server Key", "sha256"))


def auth_message(
    authid: str,
    client_nonce: str,
    nonce: str,
    salt: str,
    iterations: int,
    binding: str | None = None,
    binding_data: bytes = b"",
) -> bytes:
    """Return what both sides sign, as the WAMP specification has it."""
    name = saslprep(authid).replace("=", "=3D").replace(",", "=2C")
    flag = f"p={binding}" if binding else "n"
    header = b64encode(f"{flag},,".encode() + binding_data).decode()
    return (
        f"n={name},r={client_nonce},r={nonce},s={salt},i={iterations},c={header},r={nonce}".encode()
    )


def auth_message_autobahn(
    authid: str, client_nonce: str, nonce: str, salt: str, iterations: int
) -> bytes:
    """Return what both sides sign, as Autobahn and Crossbar.io have it."""
    name = saslprep(authid)
    return f"n={name},r={client_nonce},r={nonce},s={salt},i={iterations},c=,r={nonce}".encode()


def proof(keys: Keys, message: bytes) -> str:
    """Return ClientProof, in Base64."""
    return b64encode(xor(keys.client, hmac.digest(keys.stored, message, "sha256"))).decode()


def server_signature(server_key: bytes, message: bytes) -> str:
    """Return ServerSignature, in Base64."""
    return b64encode(hmac.digest(server_key, message, "sha256")).decode()


def saslprep(text: str) -> str:
    """Normalise a name or password (RFC 4013, for stored strings).

    Raises:
        ScramError: It has a character that such a string may not have.
    """
    if text.isascii() and text.isprintable():
        return text
    import stringprep
    import unicodedata

    mapped = "".join(
        " " if stringprep.in_table_c12(c) else c for c in text if not stringprep.in_table_b1(c)
    )
    out = unicodedata.ucd_3_2_0.normalize("NFKC", mapped)
    forbidden = (
        stringprep.in_table_a1, stringprep.in_table_c12, stringprep.in_table_c21_c22, stringprep.in_table_c3,
        stringprep.in_table_c4, stringprep.in_table_c5, stringprep.in_table_c6, stringprep.in_table_c7,
        stringprep.in_table_c8, stringprep.in_table_c9,
    )  # fmt: skip
    if any(table(c) for c in out for table in forbidden):
        raise ScramError("scram: the name or password has a character that RFC 4013 forbids")
    if any(stringprep.in_table_d1(c) for c in out) and (
        any(stringprep.in_table_d2(c) for c in out)
        or not stringprep.in_table_d1(out[0])
        or not stringprep.in_table_d1(out[-1])
    ):
        raise ScramError("scram: the name or password mixes writing directions (RFC 4013)")
    return out


class Scram:
    """One sign-in, on the router's side."""

    __slots__ = (
        "_authid",
        "_binding",
        "_channel_id",
        "_client_nonce",
        "_server_key",
        "_signature",
        "_stored",
        "challenge",
    )

    def __init__(
        self,
        record: dict[str, Any],
        authid: str,
        authextra: dict[str, Any],
        chance: bytes,
        channel_id: bytes | None,
    ) -> None:
        nonce = authextra.get("nonce")
        if not from_base64(nonce):
            raise ScramError("scram: HELLO.details.authextra.nonce has to be a nonce in Base64")
        self._binding = authextra.get("channel_binding")
        if self._binding is not None and (self._binding != "tls-unique" or channel_id is None):
            raise ScramError("scram: this connection has no channel binding of the type asked for")
        saslprep(authid)
        # Crossbar.io writes the salt in hexadecimal digits, the specification's messages have Base64.
        salt = from_hex(record["salt"]) or from_base64(record["salt"])
        stored, server = from_hex(record["stored-key"], 32), from_hex(record["server-key"], 32)
        if salt is None or stored is None or server is None:
            raise KeyError(
                "salt is hexadecimal digits or Base64, stored-key and server-key 64 hexadecimal digits"
            )
        self._authid = authid
        self._client_nonce = str(nonce)
        self._channel_id = channel_id or b""
        self._stored, self._server_key = stored, server
        self._signature = ""
        #: `extra` of CHALLENGE. Autobahn refuses names that it does not know, so nothing else goes in here.
        self.challenge: dict[str, Any] = {
            "nonce": self._client_nonce + b64encode(chance).decode(),
            "kdf": str(record.get("kdf", PBKDF2)),
            "salt": b64encode(salt).decode(),
            "iterations": int(record["iterations"]),
        }
        if record.get("memory"):
            self.challenge["memory"] = int(record["memory"])

    def proves(self, signature: object, extra: dict[str, Any]) -> bool:
        """Check ClientProof and remember what answers it."""
        given = from_base64(signature)
        nonce, salt, iterations = (self.challenge[key] for key in ("nonce", "salt", "iterations"))
        if given is None or len(given) != 32 or not is_same(extra.get("nonce", nonce), nonce):
            return False
        binding_data = b""
        if extra.get("channel_binding") != self._binding:
            return False
        if self._binding is not None:
            # RFC 5929: the data is the Finished message itself; we have its hash (what cryptosign signs).
            binding_data = from_base64(extra.get("cbind_data")) or b""
            if not hmac.compare_digest(sha256(binding_data).digest(), self._channel_id):
                return False
        parts = (self._authid, self._client_nonce, nonce, salt, iterations)
        messages = [auth_message(*parts, self._binding, binding_data)]
        if self._binding is None:
            messages.append(auth_message_autobahn(*parts))
        is_right = False
        for message in messages:
            client_key = xor(given, hmac.digest(self._stored, message, "sha256"))
            if hmac.compare_digest(sha256(client_key).digest(), self._stored):
                is_right = True
                self._signature = server_signature(self._server_key, message)
        return is_right

    def welcome(self) -> dict[str, Any]:
        """Return the router's own proof, in both dialects."""
        return {"verifier": f"v={self._signature}", "scram_server_signature": self._signature}
