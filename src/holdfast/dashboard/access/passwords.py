"""Is this the password? Argon2id, one at a time, in a thread.

argon2-cffi is asked for when the first password comes in: who signs in by links does not need it. The parameters are those of the hash; what
:func:`make` chooses (19 MiB, two passes, one lane) is the least that OWASP's cheat sheet on password storage advises, because the memory is the dashboard's.
"""

import asyncio
import secrets

from holdfast.model.errors import NodeError

_MEMORY_KIB, _PASSES, _LANES = 19 * 1024, 2, 1
#: Longer ones are not looked at: hashing is not for free.
LONGEST = 1024
_MISSING = 'passwords need argon2-cffi\n  install it:  pip install "holdfast[dashboard]"'


class Passwords:
    """Checks passwords; the same time for a name that is known and one that is not."""

    def __init__(self) -> None:
        self._one = asyncio.Semaphore(1)
        self._dummy = ""

    async def is_right(self, password_hash: "str | None", password: str) -> bool:
        """Tell whether a password fits a hash; None for somebody who does not exist takes as long.

        Raises:
            NodeError: argon2-cffi is not installed.
        """
        if len(password) > LONGEST:
            return False
        async with self._one:
            if password_hash is None and not self._dummy:
                self._dummy = await asyncio.to_thread(make, secrets.token_urlsafe(16))
            right = await asyncio.to_thread(_verify, password_hash or self._dummy, password)
        return right and password_hash is not None


def make(password: str) -> str:
    """Return the hash for the configuration.

    Raises:
        NodeError: argon2-cffi is not installed.
    """
    try:
        from argon2 import PasswordHasher
    except ImportError:
        raise NodeError(_MISSING) from None
    return PasswordHasher(time_cost=_PASSES, memory_cost=_MEMORY_KIB, parallelism=_LANES).hash(
        password
    )


def is_hash(text: str) -> bool:
    """Whether this looks like a hash that :func:`make` could have made, with any parameters."""
    parts = text.split("$")
    return len(parts) == 6 and parts[1] == "argon2id" and all(parts[2:])


def _verify(password_hash: str, password: str) -> bool:
    try:
        from argon2 import PasswordHasher
        from argon2.exceptions import InvalidHashError, VerificationError
    except ImportError:
        raise NodeError(_MISSING) from None
    try:
        return PasswordHasher().verify(password_hash, password)
    except (VerificationError, InvalidHashError):
        return False
