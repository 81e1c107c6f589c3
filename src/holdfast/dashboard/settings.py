"""What do the settings of the dashboard mean: which files are read, which secrets come from where?

They come from the plan (``[dashboard]``, checked by :mod:`holdfast.config.dashboard`, paths absolute) or, for `holdfast dashboard serve`, are the
defaults. Everything that is wrong is said at once. Left out: what follows from them (:mod:`holdfast.dashboard.access`).
"""

from typing import Any, NamedTuple

from holdfast.dashboard.access.rules import SESSION_S, Proxy, Rules, User
from holdfast.model.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

#: Where it listens when nobody says anything else.
LISTEN = "127.0.0.1:8750"


class Settings(NamedTuple):
    """What one process of the dashboard works by."""

    rules: Rules = Rules()
    listen: str = LISTEN
    certificate_file: str = ""
    key_file: str = ""  #: empty: the key is in the file of the certificate

    def url(self) -> str:
        """Return where a person finds it."""
        scheme = "https" if self.certificate_file else "http"
        host, _, port = self.listen.rpartition(":")
        if host in ("0.0.0.0", "[::]"):
            host = min(self.rules.hosts, default="localhost")
        return f"{scheme}://{host}:{port}"


class SettingsError(UsageError):
    """Everything that is wrong with them, a line each."""


def read(raw: "Mapping[str, Any]", environ: "Mapping[str, str]") -> Settings:
    """Return what the settings say.

    Args:
        raw: As they came from the plan; missing keys have their defaults.
        environ: Where variables are looked up.

    Raises:
        SettingsError: Everything that is wrong.
    """
    wrong: list[str] = []
    certificate = str(raw.get("certificate_file") or "")
    rules = Rules(
        hosts=frozenset(str(name).lower() for name in raw.get("hosts") or ()),
        users=_users(raw.get("user") or {}, wrong),
        proxy=_proxy(raw.get("proxy"), environ, wrong),
        session_for_s=float(raw.get("session_for") or SESSION_S),
        links=bool(raw.get("links", True)),
        is_tls=bool(certificate),
    )
    for path in filter(None, (certificate, str(raw.get("key_file") or ""))):
        _text_of(path, "dashboard", wrong)
    if wrong:
        raise SettingsError("\n".join(wrong))
    return Settings(rules, str(raw.get("listen") or LISTEN), certificate, str(raw.get("key_file") or ""))  # fmt: skip


def _users(given: "Mapping[str, Any]", wrong: "list[str]") -> "dict[str, User]":
    users = {}
    for name, user in given.items():
        where = f"dashboard.user.{name}"
        hashed = str(user.get("password_hash") or "")
        if not hashed and user.get("password_hash_file"):
            hashed = _text_of(str(user["password_hash_file"]), f"{where}.password_hash_file", wrong)
            if hashed and not hashed.startswith("$argon2"):
                wrong.append(f"{where}.password_hash_file: {user['password_hash_file']}: this is not an argon2 hash\n  make one:  holdfast dashboard password")  # fmt: skip
        users[str(name)] = User(hashed, "operator" if user.get("role") == "operator" else "reader")
    return users


def _proxy(
    given: "Mapping[str, Any] | None", environ: "Mapping[str, str]", wrong: "list[str]"
) -> "Proxy | None":
    if given is None:
        return None
    secret = ""
    if given.get("secret_env"):
        secret = environ.get(str(given["secret_env"]), "").strip()
        if not secret:
            wrong.append(f"dashboard.proxy.secret_env: the environment variable {given['secret_env']} is not set")  # fmt: skip
    elif given.get("secret_file"):
        secret = _text_of(str(given["secret_file"]), "dashboard.proxy.secret_file", wrong)
    header = str(given.get("user_header") or "X-Forwarded-User").lower()
    return Proxy(
        frozenset(given.get("from") or ("127.0.0.1",)), header.encode("ascii", "replace"),
        frozenset(given.get("operators") or ()), secret,
    )  # fmt: skip


def _text_of(path: str, where: str, wrong: "list[str]") -> str:
    """Return what is in a file; what is wrong with it is noted."""
    try:
        with open(path, encoding="utf-8") as file:
            found = file.read().strip()
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not a text"
        wrong.append(f"{where}: {path}: {why}")
        return ""
    if not found:
        wrong.append(f"{where}: {path}: is empty")
    return found
