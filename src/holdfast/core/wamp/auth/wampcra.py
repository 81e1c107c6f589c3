"""WAMP-CRA: does the client know the shared secret, without saying it?

WAMP specification, "Challenge Response Authentication". Left out: where the secret is kept.
"""

import hmac
from base64 import b64encode
from functools import lru_cache
from hashlib import pbkdf2_hmac
from json import dumps
from typing import Any

from holdfast.core.wamp.auth.secrets import is_same

ITERATIONS, KEYLEN = 1000, 32
#: More is refused, by client and router: it would stop everything else for seconds.
MOST_ITERATIONS, LONGEST_KEY = 2_000_000, 1024


def derive_wampcra(
    secret: str, salt: str, iterations: int = ITERATIONS, keylen: int = KEYLEN
) -> str:
    """Return the key that a router keeps for a password: PBKDF2 with SHA-256, in Base64."""
    if not (0 < iterations <= MOST_ITERATIONS and 0 < keylen <= LONGEST_KEY):
        raise ValueError(f"wampcra: iterations {iterations}, keylen {keylen} are out of bounds")
    raw = pbkdf2_hmac("sha256", secret.encode(), salt.encode(), iterations, keylen)
    return b64encode(raw).decode()


def sign(key: str, challenge: str) -> str:
    """Answer a challenge: HMAC-SHA256, in Base64."""
    # A key or a challenge from a stranger may hold surrogates, which cannot be encoded strictly.
    code = ("utf-8", "surrogatepass")
    return b64encode(hmac.digest(key.encode(*code), challenge.encode(*code), "sha256")).decode()


def utc(unix_s: float) -> str:
    """Write a moment as ISO 8601 with milliseconds: 2014-06-22T16:36:25.448Z."""
    # Days to date after H. Hinnant, "chrono-compatible low-level date algorithms": rules have no clock and no datetime.
    ms = int(unix_s * 1000)
    days, ms = divmod(ms, 86_400_000)
    era, day_of_era = divmod(days + 719_468, 146_097)
    year_of_era = (
        day_of_era - day_of_era // 1460 + day_of_era // 36_524 - day_of_era // 146_096
    ) // 365
    day_of_year = day_of_era - (365 * year_of_era + year_of_era // 4 - year_of_era // 100)
    month = (5 * day_of_year + 2) // 153
    day = day_of_year - (153 * month + 2) // 5 + 1
    month = month + 3 if month < 10 else month - 9
    year = year_of_era + era * 400 + (month <= 2)
    hour, ms = divmod(ms, 3_600_000)
    minute, ms = divmod(ms, 60_000)
    return f"{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{ms // 1000:02}.{ms % 1000:03}Z"


class Wampcra:
    """One sign-in, on the router's side."""

    __slots__ = ("_answers", "challenge")

    def __init__(self, record: dict[str, Any], about: dict[str, Any]) -> None:
        text = dumps(about, ensure_ascii=False)
        #: `extra` of CHALLENGE.
        self.challenge: dict[str, Any] = {"challenge": text}
        secret = str(record["secret"])
        self._answers = [sign(secret, text)]
        if record.get("salt"):
            salt = str(record["salt"])
            iterations = int(record.get("iterations") or ITERATIONS)
            keylen = int(record.get("keylen") or KEYLEN)
            self.challenge |= {"salt": salt, "iterations": iterations, "keylen": keylen}
            # Crossbar.io's documentation has the derived key as `secret`; its release 26 derives it once more,
            # from the password. Either answer proves the knowledge of what the password gives.
            from_secret, from_salt = record.get("derive") or (secret, salt)
            self._answers.append(sign(_derived(from_secret, from_salt, iterations, keylen), text))

    def proves(self, signature: object, extra: dict[str, Any]) -> bool:  # noqa: ARG002 -- the shape of every method
        """Tell whether the answer is right."""
        return any([is_same(signature, right) for right in self._answers])  # noqa: C419 -- all are compared, always

    def welcome(self) -> dict[str, Any]:
        """Return what WELCOME.details.authextra tells the client: nothing."""
        return {}


# 100,000 iterations cost 30 ms: once for each user, not for each sign-in. Made-up users cost the same.
_derived = lru_cache(maxsize=256)(derive_wampcra)
