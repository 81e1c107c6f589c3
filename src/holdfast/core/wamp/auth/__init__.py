"""How does a client prove who it is? One module a WAMP authentication method; the order of messages is in `handshake`."""
