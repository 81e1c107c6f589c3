"""The WAMP client: sessions over sockets, and over nothing at all in tests."""
