"""The WAMP v2 rules: sessions, broker, dealer, sign-in, permissions. Messages in, messages out; no sockets, no clock."""
