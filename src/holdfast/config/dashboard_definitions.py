"""Which tables and keys does the dashboard have in a ``holdfast.toml``? Part of the one definition (:mod:`holdfast.config.definitions`).

A password never stands here, only its argon2 hash, or better the file that holds it. What follows across keys is
:mod:`holdfast.config.dashboard`'s business.
"""

import re
from typing import Any

from holdfast.config.alerts_definitions import Variable
from holdfast.config.kinds import Boolean, Choice, Duration, Endpoint, Kind, PathText, Text, Wrong
from holdfast.config.tables import Key, ListOf, Named, Table

ROLES = ("reader", "operator")
_HOST = r"[A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?"


class PasswordHash(Kind):
    """What `holdfast dashboard password` prints."""

    brief = "argon2 hash"
    words = "an argon2 hash"
    _pattern = (
        r"\$argon2(?:id|i|d)\$v=[0-9]+\$m=[0-9]+,t=[0-9]+,p=[0-9]+\$[A-Za-z0-9+/]+\$[A-Za-z0-9+/]+"
    )

    def parse(self, value: object) -> str:
        """Return the hash. Complaints never repeat it: it may be the password itself."""
        if not isinstance(value, str) or not re.fullmatch(self._pattern, value):
            raise Wrong(f"this is not {self.words}", "make one:  holdfast dashboard password")
        return str(value)

    def schema(self) -> dict[str, Any]:
        """Return a pattern."""
        return {"type": "string", "pattern": f"^{self._pattern}$|\\$\\{{"}


USER = Table(
    "user of the dashboard",
    "Somebody who signs in with a name and a password.",
    Key("password_hash", PasswordHash(), "The hash of the password; `holdfast dashboard password` makes one.", also=("password", "hash"),
        example='"$argon2id$v=19$m=65536,t=3,p=4$…$…"'),
    Key("password_hash_file", PathText("the path of a file"), "The file that holds it.", also=("password_file",),
        example='"/run/secrets/ann"'),
    Key("role", Choice(*ROLES), "What they may do: look, or also restart, profile, acknowledge.", default="reader", also=("roles",),
        example='"operator"'),
    choose=("password_hash", "password_hash_file"),
    choose_words="does not say what the password is",
)  # fmt: skip

PROXY = Table(
    "proxy before the dashboard",
    "A reverse proxy that has asked people who they are already, and says it in a header. Every program that can connect to the dashboard from one of "
    "these addresses can say it as well: give it a secret where other programs run.",
    Key("from", ListOf(Text("a numeric address", r"[0-9A-Fa-f.:]+"), 'a list of addresses, as ["127.0.0.1"]', least=1),
        "Only what connects from here is believed.", default_words='["127.0.0.1"]', also=("trusted", "addresses", "trusted_proxies"),
        example='["127.0.0.1"]'),
    Key("user_header", Text("the name of a header", r"[A-Za-z0-9-]+"), "The header with the name.", default="X-Forwarded-User",
        also=("header", "auth_header"), example='"X-Forwarded-User"'),
    Key("operators", ListOf(Text("a name"), 'a list of names, as ["ann"]'), "Who of them may do something; all others may look.",
        default_words="nobody", also=("operator", "admins"), example='["ann"]'),
    Key("secret_env", Variable(), "What the proxy has to send in `X-Holdfast-Proxy`: the environment variable that holds it.",
        also=("secret",), example='"PROXY_SECRET"'),
    Key("secret_file", PathText("the path of a file"), "What the proxy has to send in `X-Holdfast-Proxy`: the file that holds it.",
        example='"/run/secrets/proxy"'),
)  # fmt: skip

DASHBOARD = Table(
    "dashboard",
    "The dashboard in the browser. With this table, also an empty one, a worker `dashboard` runs, which does nothing else.",
    Key("listen", Endpoint(), "Where it listens; a bare port is one of 127.0.0.1.", default="127.0.0.1:8750", also=("address", "bind", "port"),
        example='"127.0.0.1:8750"'),
    Key("hosts", ListOf(Text("the name of a host", _HOST), 'a list of names, as ["box.example.com"]'),
        "Names under which it may be called, besides localhost and addresses.", default_words="none", also=("host", "allowed_hosts", "names"),
        example='["box.example.com"]'),
    Key("certificate_file", PathText("the path of a file"), "The TLS certificate, with its chain (PEM); it is read anew when it changes.",
        default_words="no TLS", also=("certificate", "cert", "tls_cert", "ssl_certfile"), example='"tls/box.pem"'),
    Key("key_file", PathText("the path of a file"), "The key of the certificate.", default_words="it is in the file of the certificate",
        also=("key", "tls_key", "ssl_keyfile"), example='"tls/box.key"'),
    Key("user", Named(USER, ref=False), "People with a password, by name.", also=("users",),
        example='{ ann = { password_hash_file = "ann.hash", role = "operator" } }'),
    Key("proxy", PROXY, "A reverse proxy that signs people in.", also=("forward_auth", "reverse_proxy"), example='{ operators = ["ann"] }'),
    Key("session_for", Duration(), "So long somebody stays signed in.", default="12h", also=("session", "session_timeout", "expires"),
        example='"12h"'),
    Key("links", Boolean(), "Whether the one-time links of `holdfast dashboard` sign in.", default=True, also=("link",), example="false"),
    Key("insecure", Boolean(), "Listen on an address that others reach, without TLS and without a proxy.", default=False,
        also=("allow_insecure",), example="true"),
)  # fmt: skip
